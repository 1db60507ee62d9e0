//! Jobs: queries whose rows are wanted, and statements that must run exactly once.

use std::time::Duration;

use longshore_core::Result;
use serde_json::{Map, Value, json};

use crate::error::{Failure, Refusal, codes, destination};
use crate::quota::Spent;
use crate::tables::Tables;

/// How long one call waits at BigQuery's end.
const WAIT_MILLIS: &str = "10000";

/// A page of the answer to a query.
pub(crate) struct Page(Value);

impl Page {
    /// Runs a query and waits for its first page.
    pub(crate) async fn first(tables: &Tables, doing: &str, sql: &str) -> Result<Self, Failure> {
        let location = tables.location().await?;
        let request = json!({
            "query": sql,
            "useLegacySql": false,
            "location": location,
            "defaultDataset": {"projectId": tables.project, "datasetId": tables.dataset},
            "requestId": uuid::Uuid::new_v4().to_string(),
            "timeoutMs": WAIT_MILLIS.parse::<u32>().unwrap_or(10_000),
            "formatOptions": {"useInt64Timestamp": true},
        });
        let mut page = Self(tables.quota.spend(Spent::Job, tables.rest().post(doing, &queries(tables), &request)).await?);
        while page.0["jobComplete"].as_bool() != Some(true) {
            page = page.ask(tables, doing, "").await?;
        }
        Ok(page)
    }

    pub(crate) fn fields(&self) -> Vec<Value> {
        self.0["schema"]["fields"].as_array().cloned().unwrap_or_default()
    }

    pub(crate) fn rows(&self) -> &[Value] {
        self.0["rows"].as_array().map_or(&[], Vec::as_slice)
    }

    /// The page behind this one, if there is one.
    pub(crate) async fn following(&self, tables: &Tables, doing: &str) -> Result<Option<Self>, Failure> {
        match self.0["pageToken"].as_str() {
            None | Some("") => Ok(None),
            Some(token) => self.ask(tables, doing, token).await.map(Some),
        }
    }

    async fn ask(&self, tables: &Tables, doing: &str, token: &str) -> Result<Self, Failure> {
        let job = self.0["jobReference"]["jobId"].as_str().unwrap_or_default();
        let location = tables.location().await?;
        let mut query = vec![("location", location), ("timeoutMs", WAIT_MILLIS), ("formatOptions.useInt64Timestamp", "true")];
        if !token.is_empty() {
            query.push(("pageToken", token));
        }
        tables.rest().get(doing, &format!("{}/{job}", queries(tables)), &query).await.map(Self)
    }
}

fn queries(tables: &Tables) -> String {
    format!("/bigquery/v2/projects/{}/queries", tables.project)
}

/// Rows of a query, each cell under its column's name.
pub(crate) async fn rows(tables: &Tables, doing: &str, sql: &str) -> Result<Vec<Map<String, Value>>, Failure> {
    let mut page = Some(Page::first(tables, doing, sql).await?);
    let mut found = Vec::new();
    while let Some(current) = page {
        let names: Vec<String> = current.fields().iter().filter_map(|f| f["name"].as_str().map(str::to_owned)).collect();
        let object = |row: &Value| names.iter().enumerate().map(|(i, name)| (name.clone(), row["f"][i]["v"].clone())).collect();
        found.extend(current.rows().iter().map(object));
        page = current.following(tables, doing).await?;
    }
    Ok(found)
}

/// What a statement would read, in bytes. It is not run, but whatever it needs to run is looked at.
/// Source: <https://cloud.google.com/bigquery/docs/running-queries#dry-run>
pub(crate) async fn dry_run(tables: &Tables, location: Option<&str>, doing: &str, sql: &str) -> Result<u64, Failure> {
    let mut reference = json!({"projectId": tables.project});
    if let Some(location) = location {
        reference["location"] = json!(location);
    }
    let configuration = json!({"dryRun": true, "query": {"query": sql, "useLegacySql": false}});
    let path = format!("/bigquery/v2/projects/{}/jobs", tables.project);
    let job = tables.rest().post(doing, &path, &json!({"jobReference": reference, "configuration": configuration})).await?;
    Ok(job["statistics"]["totalBytesProcessed"].as_str().and_then(|bytes| bytes.parse().ok()).unwrap_or_default())
}

/// What became of a job that ran under an id of ours.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Ended {
    /// By this call.
    Now,
    /// It had run before.
    Before,
}

/// Runs a job under an id made from what it does, so that it runs once however often this is called. An id that is taken by a
/// job that failed for a passing reason is followed by the next one; every caller takes the same way.
pub(crate) async fn once(tables: &Tables, doing: &str, id: &str, configuration: &Value) -> Result<Ended> {
    let location = tables.location().await?;
    let path = format!("/bigquery/v2/projects/{}/jobs", tables.project);
    let spent = configuration["load"]["destinationTable"]["tableId"].as_str().map_or(Spent::Job, Spent::Load);
    for attempt in 1..=MOST_TRIES {
        let id = format!("{id}_{attempt}");
        let reference = json!({"projectId": tables.project, "jobId": id, "location": location});
        let request = json!({"jobReference": reference, "configuration": configuration});
        let (ended, mut job) = match tables.quota.spend(spent, tables.rest().post(doing, &path, &request)).await {
            Ok(job) => (Ended::Now, job),
            Err(Failure::Refused(refusal)) if refusal.exists() => (Ended::Before, Value::Null),
            Err(failure) => return Err(failure.into()),
        };
        let mut wait = Duration::from_millis(100);
        while job["status"]["state"] != "DONE" {
            if !job.is_null() {
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(Duration::from_secs(5));
            }
            job = tables.rest().get(doing, &format!("{path}/{id}"), &[("location", location)]).await?;
        }
        if job["status"]["errorResult"].is_null() {
            return Ok(ended);
        }
        let mut refusal = job_refusal(doing, &job["status"]);
        if refusal.is_quota() {
            refusal.retry_after = Some(tables.quota.refused(spent, None));
        }
        let passes = match refusal.reason.as_str() {
            "backendError" | "internalError" | "jobBackendError" | "jobInternalError" | "stopped" => true,
            // Not at once: whoever asks again comes by here.
            "quotaExceeded" | "rateLimitExceeded" | "jobRateLimitExceeded" => ended == Ended::Before,
            _ => false,
        };
        if !passes {
            // Only a load that was understood and began can say this.
            let rows = refusal.reason == "invalid" && configuration.get("load").is_some();
            let error = longshore_core::Error::from(refusal);
            return Err(if rows { destination(codes::ROWS_REFUSED, error.message().to_owned()) } else { error });
        }
        tracing::info!(job = id, reason = refusal.reason, "a job failed for a passing reason: the next one takes its place");
    }
    Err(destination(codes::UNAVAILABLE, format!("{doing}: {MOST_TRIES} jobs failed one after the other")))
}

/// Jobs in a row that fail for a passing reason before a person has to look.
const MOST_TRIES: u32 = 20;

fn job_refusal(doing: &str, status: &Value) -> Refusal {
    let error = &status["errorResult"];
    let reason = error["reason"].as_str().unwrap_or_default().to_owned();
    let http = match reason.as_str() {
        "notFound" => 404,
        "accessDenied" => 403,
        "duplicate" => 409,
        "quotaExceeded" | "rateLimitExceeded" => 429,
        "backendError" | "internalError" => 503,
        _ => 400,
    };
    let mut message = error["message"].as_str().unwrap_or_default().to_owned();
    // What the result only sums up stands in the list: the file and the value.
    let details = status["errors"].as_array().into_iter().flatten().filter(|detail| detail["message"] != error["message"]);
    for detail in details.take(3) {
        let place = detail["location"].as_str().map_or_else(String::new, |place| format!("{place}: "));
        message += &format!("; {place}{}", detail["message"].as_str().unwrap_or_default());
    }
    Refusal { doing: doing.to_owned(), status: http, reason, message, retry_after: None }
}
