//! REST: jobs. A job's work takes effect at once or not at all; how it ended stands in its resource.

use std::sync::Arc;

use chrono::Utc;
use longshore_core::schema::Field;
use serde_json::{Value, json};

use super::cell::Row;
use super::fault::Fault;
use super::http::{ApiError, Call, Shared};
use super::state::{State, legacy_names};
use super::to_arrow::wire_row;
use super::{copy, load, sql};

/// A job.
pub(crate) struct Job {
    pub(crate) resource: Value,
    pub(crate) project: String,
    pub(crate) result: Option<QueryResult>,
    /// Whether the work waits to be released.
    pub(crate) waits: bool,
}

/// What a statement gave.
#[derive(Debug, Clone, Default)]
pub(crate) struct QueryResult {
    pub(crate) fields: Vec<Field>,
    pub(crate) rows: Vec<Row>,
    /// How many rows a DML statement changed.
    pub(crate) affected: Option<Affected>,
    pub(crate) statement: &'static str,
}

/// How many rows a DML statement changed:
/// <https://cloud.google.com/bigquery/docs/reference/rest/v2/DmlStats>.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Affected {
    pub(crate) inserted: usize,
    pub(crate) updated: usize,
    pub(crate) deleted: usize,
}

impl Affected {
    fn total(self) -> usize {
        self.inserted + self.updated + self.deleted
    }
}

/// How the work of a job ended.
#[derive(Default)]
pub(crate) struct Ended {
    pub(crate) statistics: Value,
    pub(crate) result: Option<QueryResult>,
    pub(crate) errors: Vec<ApiError>,
    /// What was wrong without the job's failing for it.
    pub(crate) warnings: Vec<ApiError>,
}

impl Ended {
    pub(crate) fn failed(error: ApiError) -> Self {
        Self { errors: vec![error], ..Self::default() }
    }
}

fn now() -> Value {
    json!(Utc::now().timestamp_millis().to_string())
}

/// What a job is about: its id and the table it writes, for rules.
pub(crate) fn subject(body: &Value) -> String {
    let configuration = &body["configuration"];
    let id = body["jobReference"]["jobId"].as_str().unwrap_or_default();
    for kind in ["load", "copy", "query"] {
        let part = &configuration[kind];
        if part.is_object() {
            let table = &part["destinationTable"];
            let text = |key: &str| table[key].as_str().unwrap_or_default();
            let query = part["query"].as_str().unwrap_or_default();
            return format!("{kind} {id} {}.{} {query}", text("datasetId"), text("tableId"));
        }
    }
    id.to_owned()
}

/// `jobs.insert`.
pub(crate) async fn insert(shared: &Arc<Shared>, project: &str, body: &Value, fault: Option<Fault>) -> Result<Value, ApiError> {
    let configuration = body["configuration"].clone();
    if configuration["dryRun"].as_bool() == Some(true) {
        return dry_run(shared, project, configuration, &body["jobReference"]).await;
    }
    let id = register(&mut shared.lock(), project, &body["jobReference"], configuration)?;
    if matches!(fault, Some(Fault::JobStaysRunning)) {
        set_waiting(&mut shared.lock(), &id);
    } else if let Err(error) = run(shared, &id, fault).await {
        fail(&mut shared.lock(), &id, error);
    }
    Ok(shared.lock().jobs.get(&id).map(|job| job.resource.clone()).unwrap_or_default())
}

/// A query that is only looked at: the job is answered and not kept.
/// <https://cloud.google.com/bigquery/docs/running-queries#dry-run>
async fn dry_run(shared: &Arc<Shared>, project: &str, configuration: Value, reference: &Value) -> Result<Value, ApiError> {
    if !configuration["query"].is_object() {
        return Err(ApiError::invalid("the fake makes dry runs of queries only: those of other jobs are not defined"));
    }
    let ran = sql::run(shared, project, &configuration["query"], true).await?;
    let bytes = ran.bytes.to_string();
    let location = location(&shared.lock(), reference, None);
    let mut configuration = configuration;
    configuration["jobType"] = json!("QUERY");
    let mut query = json!({
        "totalBytesProcessed": bytes, "totalBytesProcessedAccuracy": "UPPER_BOUND", "totalBytesBilled": "0", "cacheHit": false,
        "statementType": ran.result.statement,
    });
    if ran.result.statement == "SELECT" {
        query["schema"] = shown_schema(&ran.result.fields);
    }
    Ok(json!({
        "kind": "bigquery#job", "configuration": configuration,
        "jobReference": {"projectId": project, "location": location},
        "statistics": {"creationTime": now(), "totalBytesProcessed": bytes, "query": query},
        "status": {"state": "DONE"},
    }))
}

/// Where a job runs: where it was asked to, where its table is, or where the first dataset is.
fn location(state: &State, reference: &Value, home: Option<String>) -> String {
    let only = state.datasets.values().next().map(|dataset| dataset.location.clone());
    let asked = reference["location"].as_str().map(str::to_owned);
    asked.or(home).or(only).unwrap_or_else(|| "US".into())
}

fn shown_schema(fields: &[Field]) -> Value {
    json!({"fields": legacy_names(longshore_core::schema::TableSchema::new(fields.to_vec()).to_json())})
}

fn set_waiting(state: &mut State, id: &str) {
    if let Some(job) = state.jobs.get_mut(id) {
        job.waits = true;
    }
}

/// Takes a job in, RUNNING.
fn register(state: &mut State, project: &str, reference: &Value, configuration: Value) -> Result<String, ApiError> {
    let kind = ["load", "copy", "query"].into_iter().find(|kind| configuration[*kind].is_object());
    let kind = kind.ok_or_else(|| ApiError::invalid("Required parameter is missing: one of load, copy, query"))?;
    if kind != "query" {
        state.permit_destination(project, &configuration[kind])?;
    }
    let number = state.number();
    let given = reference["jobId"].as_str().filter(|id| !id.is_empty());
    let id = given.map_or_else(|| format!("job_{number:08x}"), str::to_owned);
    let dataset = configuration[kind]["destinationTable"]["datasetId"].as_str();
    let home = match dataset {
        Some(dataset) if kind != "query" => Some(state.dataset(project, dataset)?.location.clone()),
        _ => None,
    };
    let asked = reference["location"].as_str();
    if let (Some(home), Some(asked), Some(dataset)) = (&home, asked, dataset)
        && !home.eq_ignore_ascii_case(asked)
    {
        return Err(ApiError::not_found(format!("Not found: Dataset {project}:{dataset} was not found in location {asked}")));
    }
    let location = location(state, reference, home);
    if state.jobs.contains_key(&id) {
        return Err(ApiError::new(409, "duplicate", format!("Already Exists: Job {project}:{location}.{id}")));
    }
    let mut configuration = configuration;
    configuration["jobType"] = json!(kind.to_uppercase());
    let resource = json!({
        "kind": "bigquery#job", "id": format!("{project}:{location}.{id}"), "etag": format!("j{number}"),
        "jobReference": {"projectId": project, "jobId": id, "location": location},
        "configuration": configuration,
        "statistics": {"creationTime": now(), "startTime": now()},
        "status": {"state": "RUNNING"},
    });
    state.jobs.insert(id.clone(), Job { resource, project: project.into(), result: None, waits: false });
    Ok(id)
}

/// Does a job's work. An error is one of its statement, with which the job is to end.
pub(crate) async fn run(shared: &Arc<Shared>, id: &str, fault: Option<Fault>) -> Result<(), ApiError> {
    let (project, configuration) = {
        let mut state = shared.lock();
        let job = state.jobs.get_mut(id).ok_or_else(|| ApiError::not_found(format!("Not found: Job {id}")))?;
        job.waits = false;
        (job.project.clone(), job.resource["configuration"].clone())
    };
    let ended = match fault {
        Some(Fault::JobFails { reason, message }) => Ended::failed(ApiError::new(400, &reason, message)),
        fault => {
            let refused = if let Some(Fault::JobRefusesRows(rows)) = fault { rows } else { Vec::new() };
            if configuration["load"].is_object() {
                load::run(&mut shared.lock(), &project, &configuration["load"], &refused)
            } else if configuration["copy"].is_object() {
                copy::run(&mut shared.lock(), &project, &configuration["copy"])
            } else {
                run_query(shared, &project, &configuration["query"]).await?
            }
        }
    };
    finish(&mut shared.lock(), id, ended);
    Ok(())
}

async fn run_query(shared: &Arc<Shared>, project: &str, configuration: &Value) -> Result<Ended, ApiError> {
    let result = sql::run(shared, project, configuration, false).await?.result;
    let mut statistics = json!({"query": {"statementType": result.statement, "totalBytesProcessed": "0", "cacheHit": false}});
    if let Some(affected) = result.affected {
        let text = |rows: usize| rows.to_string();
        statistics["query"]["numDmlAffectedRows"] = json!(text(affected.total()));
        statistics["query"]["dmlStats"] = json!({
            "insertedRowCount": text(affected.inserted), "updatedRowCount": text(affected.updated),
            "deletedRowCount": text(affected.deleted),
        });
    }
    let errors = match copy::write_result(&mut shared.lock(), project, configuration, &result) {
        Ok(()) => Vec::new(),
        Err(error) => vec![error],
    };
    Ok(Ended { statistics, result: Some(result), errors, ..Ended::default() })
}

fn finish(state: &mut State, id: &str, ended: Ended) {
    let Some(job) = state.jobs.get_mut(id) else { return };
    if job.resource["status"]["state"] == "DONE" {
        return;
    }
    let statistics = &mut job.resource["statistics"];
    for (key, value) in ended.statistics.as_object().into_iter().flatten() {
        statistics[key] = value.clone();
    }
    statistics["endTime"] = now();
    job.resource["status"] = json!({"state": "DONE"});
    if let Some(first) = ended.errors.first() {
        job.resource["status"]["errorResult"] = first.proto();
        job.resource["status"]["errors"] = ended.errors.iter().map(ApiError::proto).collect();
    } else {
        if !ended.warnings.is_empty() {
            job.resource["status"]["errors"] = ended.warnings.iter().map(ApiError::proto).collect();
        }
        job.result = ended.result;
    }
}

fn find<'a>(state: &'a State, id: &str, location: Option<&str>) -> Result<&'a Job, ApiError> {
    let not_found = || ApiError::not_found(format!("Not found: Job {id}"));
    let job = state.jobs.get(id).ok_or_else(not_found)?;
    let home = job.resource["jobReference"]["location"].as_str().unwrap_or_default();
    // Only the two large locations are looked through without being named.
    let found = match location {
        Some(location) => home.eq_ignore_ascii_case(location),
        None => home.eq_ignore_ascii_case("US") || home.eq_ignore_ascii_case("EU"),
    };
    if found { Ok(job) } else { Err(not_found()) }
}

pub(crate) fn get(state: &State, id: &str, location: Option<&str>) -> Result<Value, ApiError> {
    Ok(find(state, id, location)?.resource.clone())
}

pub(crate) fn list(state: &State, call: &Call) -> Value {
    let wanted = call.param("stateFilter").map(str::to_uppercase);
    let jobs = state.jobs.values().filter(|job| wanted.as_ref().is_none_or(|w| job.resource["status"]["state"] == w.as_str()));
    let shown = jobs.map(|job| {
        let mut shown = job.resource.clone();
        shown["state"] = job.resource["status"]["state"].clone();
        shown
    });
    json!({"kind": "bigquery#jobList", "jobs": shown.collect::<Vec<_>>()})
}

pub(crate) fn cancel(state: &mut State, id: &str, location: Option<&str>) -> Result<Value, ApiError> {
    find(state, id, location)?;
    if state.jobs.get(id).is_some_and(|job| job.waits) {
        finish(
            state,
            id,
            Ended::failed(ApiError::new(499, "stopped", "Job execution was cancelled: User requested cancellation")),
        );
        if let Some(job) = state.jobs.get_mut(id) {
            job.waits = false;
        }
    }
    Ok(json!({"kind": "bigquery#jobCancelResponse", "job": find(state, id, location)?.resource}))
}

/// `jobs.query`.
pub(crate) async fn query(shared: &Arc<Shared>, project: &str, body: &Value, fault: Option<Fault>) -> Result<Value, ApiError> {
    if body["dryRun"].as_bool() == Some(true) {
        let ran = sql::run(shared, project, body, true).await?;
        return Ok(json!({
            "kind": "bigquery#queryResponse", "jobComplete": true, "totalBytesProcessed": ran.bytes.to_string(),
            "jobReference": {"projectId": project, "location": location(&shared.lock(), body, None)},
            "schema": shown_schema(&ran.result.fields), "cacheHit": false,
        }));
    }
    let request = body["requestId"].as_str().filter(|id| !id.is_empty()).map(str::to_owned);
    let known = request.as_ref().and_then(|request| shared.lock().query_requests.get(request).cloned());
    let id = match known {
        Some(id) => id,
        None => {
            let configuration = json!({"query": body});
            let id = register(&mut shared.lock(), project, &json!({"location": body["location"]}), configuration)?;
            if let Some(request) = request {
                shared.lock().query_requests.insert(request, id.clone());
            }
            if matches!(fault, Some(Fault::JobStaysRunning)) {
                set_waiting(&mut shared.lock(), &id);
            } else if let Err(error) = run(shared, &id, fault).await {
                fail(&mut shared.lock(), &id, error.clone());
                return Err(error);
            }
            id
        }
    };
    let state = shared.lock();
    let int64 = body["formatOptions"]["useInt64Timestamp"].as_bool() == Some(true);
    let max = body["maxResults"].as_u64().or_else(|| body["maxResults"].as_str()?.parse().ok());
    let max = max.and_then(|max| usize::try_from(max).ok()).unwrap_or(usize::MAX);
    let job = state.jobs.get(&id).ok_or_else(|| ApiError::not_found(format!("Not found: Job {id}")))?;
    page(job, 0, max, int64, "bigquery#queryResponse")
}

/// `jobs.getQueryResults`.
pub(crate) fn results(state: &State, id: &str, call: &Call) -> Result<Value, ApiError> {
    let job = find(state, id, call.param("location"))?;
    let number = |name: &str| call.param(name).and_then(|text| text.parse().ok());
    let start = number("pageToken").or_else(|| number("startIndex")).unwrap_or(0);
    let int64 = call.flag("formatOptions.useInt64Timestamp");
    page(job, start, number("maxResults").unwrap_or(usize::MAX), int64, "bigquery#getQueryResultsResponse")
}

fn page(job: &Job, start: usize, max: usize, int64_timestamps: bool, kind: &str) -> Result<Value, ApiError> {
    let reference = &job.resource["jobReference"];
    let status = &job.resource["status"];
    if let Some(error) = status.get("errorResult") {
        let text = |key: &str| error[key].as_str().unwrap_or_default();
        let status = match text("reason") {
            "notFound" => 404,
            "duplicate" => 409,
            "accessDenied" | "quotaExceeded" | "rateLimitExceeded" => 403,
            "backendError" => 503,
            "internalError" => 500,
            _ => 400,
        };
        return Err(ApiError::new(status, text("reason"), text("message")));
    }
    if status["state"] != "DONE" {
        return Ok(json!({"kind": kind, "jobReference": reference, "jobComplete": false}));
    }
    let empty = QueryResult::default();
    let result = job.result.as_ref().unwrap_or(&empty);
    let rows = result.rows.iter().skip(start).take(max).map(|row| wire_row(&result.fields, row, int64_timestamps));
    let rows: Vec<Value> = rows.collect();
    let end = start + rows.len();
    let mut answer = json!({
        "kind": kind, "jobReference": reference, "jobComplete": true, "cacheHit": false, "totalBytesProcessed": "0",
        "schema": shown_schema(&result.fields), "totalRows": result.rows.len().to_string(),
    });
    if !rows.is_empty() {
        answer["rows"] = Value::Array(rows);
    }
    if end < result.rows.len() && max > 0 {
        answer["pageToken"] = json!(end.to_string());
    }
    if let Some(affected) = result.affected {
        answer["numDmlAffectedRows"] = json!(affected.total().to_string());
    }
    Ok(answer)
}

/// Ends a job with an error.
pub(crate) fn fail(state: &mut State, id: &str, error: ApiError) {
    finish(state, id, Ended::failed(error));
}
