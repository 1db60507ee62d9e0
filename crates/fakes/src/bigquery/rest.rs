//! REST: which method a call is, and datasets and tables.

use std::sync::Arc;

use http::Method;
use longshore_core::schema::TableSchema;
use serde_json::{Map, Value, json};

use super::fault::Fault;
use super::http::{Answer, ApiError, Call, Shared};
use super::permissions::On;
use super::state::{Dataset, State, evolves};
use super::{jobs, storage_json, tabledata};

/// Whether a call is to a JSON API; BigQuery's version prefix is taken off the path.
pub(crate) fn is_json_api(call: &mut Call) -> bool {
    let segment = |i: usize| call.segments.get(i).map_or("", String::as_str);
    match (segment(0), segment(1)) {
        ("bigquery", "v2") => {
            call.segments.drain(..2);
            true
        }
        // Cloud Resource Manager.
        ("v1" | "v3", "projects") => {
            call.segments.drain(..1);
            true
        }
        ("projects", _) | ("storage", "v1") | ("upload" | "download", "storage") => true,
        _ => false,
    }
}

/// What stands after a resource's name in a call that asks for permissions.
const TEST_PERMISSIONS: &str = ":testIamPermissions";

/// The name of a method and what it is about.
pub(crate) fn name(call: &Call) -> (String, String) {
    if call.segments.first().is_some_and(|first| first != "projects") {
        return storage_json::name(call);
    }
    let path: Vec<&str> = call.segments.iter().map(String::as_str).collect();
    let verb = call.method.as_str();
    let (name, subject) = match (verb, path.as_slice()) {
        ("POST", ["projects", project]) if project.ends_with(TEST_PERMISSIONS) => {
            ("projects.testIamPermissions", project.trim_end_matches(TEST_PERMISSIONS).to_owned())
        }
        ("GET", ["projects", _, "datasets"]) => ("datasets.list", String::new()),
        ("POST", ["projects", _, "datasets"]) => ("datasets.insert", String::new()),
        ("GET", ["projects", _, "datasets", d]) => ("datasets.get", (*d).to_owned()),
        ("DELETE", ["projects", _, "datasets", d]) => ("datasets.delete", (*d).to_owned()),
        ("GET", ["projects", _, "datasets", d, "tables"]) => ("tables.list", (*d).to_owned()),
        ("POST", ["projects", _, "datasets", d, "tables"]) => {
            let body = call.json().unwrap_or_default();
            ("tables.insert", format!("{d}.{}", body["tableReference"]["tableId"].as_str().unwrap_or_default()))
        }
        ("POST", ["projects", _, "datasets", d, "tables", t]) if t.ends_with(TEST_PERMISSIONS) => {
            ("tables.testIamPermissions", format!("{d}.{}", t.trim_end_matches(TEST_PERMISSIONS)))
        }
        (verb, ["projects", _, "datasets", d, "tables", t]) => {
            let method = match verb {
                "GET" => "tables.get",
                "PATCH" => "tables.patch",
                "PUT" => "tables.update",
                "DELETE" => "tables.delete",
                _ => "unknown",
            };
            (method, format!("{d}.{t}"))
        }
        ("GET", ["projects", _, "datasets", d, "tables", t, "data"]) => ("tabledata.list", format!("{d}.{t}")),
        ("POST", ["projects", _, "datasets", d, "tables", t, "insertAll"]) => ("tabledata.insertAll", format!("{d}.{t}")),
        ("GET", ["projects", _, "jobs"]) => ("jobs.list", String::new()),
        ("POST", ["projects", _, "jobs"]) => ("jobs.insert", jobs::subject(&call.json().unwrap_or_default())),
        ("GET", ["projects", _, "jobs", job]) => ("jobs.get", (*job).to_owned()),
        ("POST", ["projects", _, "jobs", job, "cancel"]) => ("jobs.cancel", (*job).to_owned()),
        ("POST", ["projects", _, "queries"]) => {
            let body = call.json().unwrap_or_default();
            ("jobs.query", body["query"].as_str().unwrap_or_default().to_owned())
        }
        ("GET", ["projects", _, "queries", job]) => ("jobs.getQueryResults", (*job).to_owned()),
        _ => ("unknown", call.path.clone()),
    };
    (name.to_owned(), subject)
}

/// Does a call.
pub(crate) async fn serve(shared: &Arc<Shared>, name: &str, call: Call, fault: Option<Fault>) -> Result<Answer, ApiError> {
    if name.starts_with("objects.") || name.starts_with("buckets.") {
        return storage_json::serve(shared, name, &call);
    }
    let part = |i: usize| call.segments.get(i).map_or("", String::as_str);
    let (project, dataset, table) = (part(1), part(3), part(5));
    let body = match name {
        "datasets.list" => list_datasets(&shared.lock(), project),
        "datasets.insert" => insert_dataset(&mut shared.lock(), project, &call)?,
        "datasets.get" => shown_dataset(&shared.lock(), project, dataset)?,
        "datasets.delete" => {
            let mut state = shared.lock();
            state.dataset(project, dataset)?;
            state.datasets.remove(dataset);
            state.tables.retain(|key, _| !key.starts_with(&format!("{dataset}.")));
            return Ok(Answer::empty(204));
        }
        "tables.list" => list_tables(&shared.lock(), project, dataset, &call)?,
        "tables.insert" => insert_table(&mut shared.lock(), project, dataset, &call)?,
        "tables.get" => shown_table(&shared.lock(), project, dataset, without_decorator(table))?,
        "tables.patch" => change_table(&mut shared.lock(), project, dataset, table, &call, true)?,
        "tables.update" => change_table(&mut shared.lock(), project, dataset, table, &call, false)?,
        "tables.delete" => {
            let mut state = shared.lock();
            state.table(project, dataset, table)?;
            state.tables.remove(&format!("{dataset}.{table}"));
            return Ok(Answer::empty(204));
        }
        "tables.testIamPermissions" => {
            let table = table.trim_end_matches(TEST_PERMISSIONS);
            let state = shared.lock();
            // As documented: of what does not exist no permission is had, and that is no error.
            if state.table(project, dataset, table).is_ok() { test_permissions(&state, &call)? } else { json!({}) }
        }
        "projects.testIamPermissions" => test_permissions(&shared.lock(), &call)?,
        "tabledata.list" => tabledata::list(&shared.lock(), project, dataset, without_decorator(table), &call)?,
        "tabledata.insertAll" => tabledata::insert_all(&mut shared.lock(), project, dataset, table, &call)?,
        "jobs.insert" => jobs::insert(shared, project, &call.json()?, fault).await?,
        "jobs.query" => jobs::query(shared, project, &call.json()?, fault).await?,
        "jobs.get" => jobs::get(&shared.lock(), part(3), call.param("location"))?,
        "jobs.list" => jobs::list(&shared.lock(), &call),
        "jobs.cancel" => jobs::cancel(&mut shared.lock(), part(3), call.param("location"))?,
        "jobs.getQueryResults" => jobs::results(&shared.lock(), part(3), &call)?,
        _ => return Err(ApiError::not_found(format!("no such method: {} {}", call.method, call.path))),
    };
    debug_assert!(call.method != Method::HEAD, "the JSON APIs have no HEAD");
    Ok(Answer::json(200, &body))
}

/// A table's name without `$partition`.
pub(crate) fn without_decorator(table: &str) -> &str {
    table.split_once('$').map_or(table, |(name, _)| name)
}

fn dataset_resource(name: &str, dataset: &Dataset) -> Value {
    let mut shown = dataset.resource.clone();
    shown.insert("kind".into(), json!("bigquery#dataset"));
    shown.insert("id".into(), json!(format!("{}:{name}", dataset.project)));
    shown.insert("etag".into(), json!(format!("d{name}")));
    shown.insert("datasetReference".into(), json!({"projectId": dataset.project, "datasetId": name}));
    shown.insert("location".into(), json!(dataset.location));
    Value::Object(shown)
}

fn list_datasets(state: &State, project: &str) -> Value {
    // Those are listed that the caller may get.
    let datasets = state.datasets.iter().filter(|(name, dataset)| {
        dataset.project == project && state.permit("bigquery.datasets.get", &On::Dataset(project, name)).is_ok()
    });
    json!({"kind": "bigquery#datasetList", "datasets": datasets.map(|(name, d)| dataset_resource(name, d)).collect::<Vec<_>>()})
}

fn insert_dataset(state: &mut State, project: &str, call: &Call) -> Result<Value, ApiError> {
    let Value::Object(resource) = call.json()? else { return Err(ApiError::invalid("a dataset must be an object")) };
    let name = resource.get("datasetReference").and_then(|r| r["datasetId"].as_str()).unwrap_or_default().to_owned();
    if name.is_empty() {
        return Err(ApiError::invalid("Required parameter is missing: datasetId"));
    }
    if state.datasets.contains_key(&name) {
        return Err(ApiError::new(409, "duplicate", format!("Already Exists: Dataset {project}:{name}")));
    }
    let location = resource.get("location").and_then(Value::as_str).unwrap_or("US").to_owned();
    state.datasets.insert(name.clone(), Dataset { project: project.into(), location, resource });
    shown_dataset(state, project, &name)
}

fn shown_dataset(state: &State, project: &str, dataset: &str) -> Result<Value, ApiError> {
    Ok(dataset_resource(dataset, state.dataset(project, dataset)?))
}

fn list_tables(state: &State, project: &str, dataset: &str, call: &Call) -> Result<Value, ApiError> {
    let location = &state.dataset(project, dataset)?.location;
    let prefix = format!("{dataset}.");
    let all: Vec<_> = state.tables.iter().filter(|(key, _)| key.starts_with(&prefix)).collect();
    let max = call.param("maxResults").and_then(|max| max.parse().ok()).unwrap_or(usize::MAX);
    let start = call.param("pageToken").and_then(|token| token.parse().ok()).unwrap_or(0usize);
    let page: Vec<Value> = all.iter().skip(start).take(max).map(|(_, table)| table.shown(location)).collect();
    let end = start + page.len();
    let mut answer = json!({"kind": "bigquery#tableList", "totalItems": all.len(), "tables": page});
    if end < all.len() {
        answer["nextPageToken"] = json!(end.to_string());
    }
    Ok(answer)
}

fn insert_table(state: &mut State, project: &str, dataset: &str, call: &Call) -> Result<Value, ApiError> {
    let Value::Object(resource) = call.json()? else { return Err(ApiError::invalid("a table must be an object")) };
    let table = resource.get("tableReference").and_then(|r| r["tableId"].as_str()).unwrap_or_default().to_owned();
    state.create_table(project, dataset, resource)?;
    shown_table(state, project, dataset, &table)
}

pub(crate) fn shown_table(state: &State, project: &str, dataset: &str, table: &str) -> Result<Value, ApiError> {
    let location = &state.dataset(project, dataset)?.location;
    Ok(state.table(project, dataset, table)?.shown(location))
}

fn change_table(
    state: &mut State,
    project: &str,
    dataset: &str,
    name: &str,
    call: &Call,
    patch: bool,
) -> Result<Value, ApiError> {
    let Value::Object(mut change) = call.json()? else { return Err(ApiError::invalid("a table must be an object")) };
    let table = state.table_mut(project, dataset, name)?;
    if let Some(expected) = call.header("if-match")
        && expected != "*"
        && expected != table.etag()
    {
        return Err(ApiError::new(412, "conditionNotMet", "Precondition check failed."));
    }
    let schema = match change.shift_remove("schema") {
        Some(schema) if schema.get("fields").is_some() => {
            let schema = TableSchema::from_json(&schema).map_err(|e| ApiError::invalid(e.to_string()))?;
            evolves(&table.schema.fields, &schema.fields, "").map_err(ApiError::invalid)?;
            Some(schema)
        }
        _ => None,
    };
    let fixed = ["kind", "etag", "id", "tableReference", "type", "creationTime", "numRows", "numBytes", "location"];
    change.retain(|key, _| !fixed.contains(&key.as_str()) && key != "lastModifiedTime");
    if !patch {
        table.resource.retain(|key, _| fixed.contains(&key.as_str()));
    }
    merge(&mut table.resource, change);
    table.version += 1;
    if let Some(schema) = schema {
        table.set_schema(schema);
    }
    shown_table(state, project, dataset, name)
}

/// A patch: null takes a property away, an object is patched in turn.
fn merge(into: &mut Map<String, Value>, change: Map<String, Value>) {
    for (key, value) in change {
        match (into.get_mut(&key), value) {
            (_, Value::Null) => _ = into.shift_remove(&key),
            (Some(Value::Object(old)), Value::Object(new)) => merge(old, new),
            (_, Value::Object(new)) => {
                let mut fresh = Map::new();
                merge(&mut fresh, new);
                into.insert(key, Value::Object(fresh));
            }
            (_, value) => _ = into.insert(key, value),
        }
    }
}

/// <https://cloud.google.com/bigquery/docs/reference/rest/v2/tables/testIamPermissions> and
/// <https://cloud.google.com/resource-manager/reference/rest/v1/projects/testIamPermissions>.
fn test_permissions(state: &State, call: &Call) -> Result<Value, ApiError> {
    let body = call.json()?;
    let asked = body["permissions"].as_array().cloned().unwrap_or_default();
    Ok(state.granted(asked.iter().filter_map(Value::as_str)))
}
