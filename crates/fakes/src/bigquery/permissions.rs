//! Permissions: what each call needs, and how Google words that it is missing.
//!
//! Source: <https://cloud.google.com/bigquery/docs/access-control#bq-permissions> and
//! <https://cloud.google.com/storage/docs/access-control/iam-json>. Of the caller's own jobs nothing more is asked.

use serde_json::{Value, json};
use tonic::Status;

use super::copy::Destination;
use super::http::{ApiError, Call};
use super::rest::without_decorator;
use super::sql::Place;
use super::state::State;
use super::streams::parse_table;

/// What a permission is asked on.
pub(crate) enum On<'a> {
    Project(&'a str),
    /// A project and a dataset.
    Dataset(&'a str, &'a str),
    /// A project, a dataset and a table.
    Table(&'a str, &'a str, &'a str),
    /// Of Cloud Storage: `bucket` or `object`.
    Storage(&'static str),
}

impl On<'_> {
    fn refusal(&self, permission: &str) -> ApiError {
        let denied = |kind: &str, lower: &str, name: &str| {
            let why =
                format!("Access Denied: {kind} {name}: Permission {permission} denied on {lower} {name} (or it may not exist).");
            ApiError::new(403, "accessDenied", why)
        };
        match self {
            On::Project(project) => {
                let why =
                    format!("Access Denied: Project {project}: User does not have {permission} permission in project {project}.");
                ApiError::new(403, "accessDenied", why)
            }
            On::Dataset(project, dataset) => denied("Dataset", "dataset", &format!("{project}:{dataset}")),
            On::Table(project, dataset, table) => denied("Table", "table", &format!("{project}:{dataset}.{table}")),
            On::Storage(kind) => ApiError::new(403, "forbidden", storage_words(permission, kind)),
        }
    }
}

/// How Cloud Storage says it.
fn storage_words(permission: &str, kind: &str) -> String {
    format!(
        "Caller does not have {permission} access to the Google Cloud Storage {kind}. Permission '{permission}' denied on \
         resource (or it may not exist)."
    )
}

impl<'a> From<&'a Place> for On<'a> {
    fn from(place: &'a Place) -> Self {
        On::Table(&place.project, &place.dataset, &place.table)
    }
}

impl State {
    /// Whether the caller has a permission.
    pub(crate) fn permit(&self, permission: &str, on: &On<'_>) -> Result<(), ApiError> {
        if self.denied.contains(permission) { Err(on.refusal(permission)) } else { Ok(()) }
    }

    /// Those of some permissions that the caller has, as `testIamPermissions` answers.
    pub(crate) fn granted<'a>(&self, asked: impl Iterator<Item = &'a str>) -> Value {
        let granted: Vec<&str> = asked.filter(|permission| !self.denied.contains(*permission)).collect();
        if granted.is_empty() { json!({}) } else { json!({"permissions": granted}) }
    }

    /// Whether a call of the Storage Write API is permitted: each needs to write to its table.
    /// <https://cloud.google.com/bigquery/docs/write-api#required_permissions>
    pub(crate) fn permit_write(&self, name: &str) -> Result<(), Status> {
        if !self.denied.contains("bigquery.tables.updateData") {
            return Ok(());
        }
        let (project, dataset, table) = parse_table(name)?;
        Err(Status::permission_denied(format!(
            "Permission 'TABLES_UPDATE_DATA' denied on resource 'projects/{project}/datasets/{dataset}/tables/{table}' (or it \
             may not exist)."
        )))
    }

    /// Whether a job may write a table: make it, change its columns, add rows.
    /// <https://cloud.google.com/bigquery/docs/loading-data-cloud-storage-parquet#required_permissions>
    pub(crate) fn permit_destination(&self, project: &str, configuration: &Value) -> Result<(), ApiError> {
        if !configuration["destinationTable"].is_object() {
            return Ok(());
        }
        let to = Destination::of(project, &configuration["destinationTable"])?;
        let table = On::Table(&to.project, &to.dataset, &to.table);
        if !self.tables.contains_key(&to.key()) {
            self.permit("bigquery.tables.create", &On::Dataset(&to.project, &to.dataset))?;
        }
        if configuration["schemaUpdateOptions"].as_array().is_some_and(|options| !options.is_empty()) {
            self.permit("bigquery.tables.update", &table)?;
        }
        self.permit("bigquery.tables.updateData", &table)
    }

    /// Whether a load job may read files: to list them, where there is a wildcard, and to get them.
    pub(crate) fn permit_files(&self, uri: &str) -> Result<(), ApiError> {
        let list = uri.contains('*').then_some(("storage.objects.list", "bucket"));
        for (permission, kind) in list.into_iter().chain([("storage.objects.get", "object")]) {
            if self.denied.contains(permission) {
                let why = format!(
                    "Access Denied: BigQuery BigQuery: Permission denied while globbing file pattern. {} Please make sure {uri} \
                     is accessible via appropriate IAM roles, e.g. Storage Object Viewer or Storage Object Creator.",
                    storage_words(permission, kind)
                );
                return Err(ApiError::new(403, "accessDenied", why));
            }
        }
        Ok(())
    }
}

/// Whether a REST call is permitted, as far as that does not depend on what a job does.
pub(crate) fn check(state: &State, method: &str, subject: &str, call: &Call) -> Result<(), ApiError> {
    if method.starts_with("objects.") || method.starts_with("buckets.") {
        return check_storage(state, method, subject);
    }
    let part = |i: usize| call.segments.get(i).map_or("", String::as_str);
    let (project, dataset, table) = (part(1), part(3), without_decorator(part(5)));
    let (permission, on) = match method {
        "datasets.insert" => ("bigquery.datasets.create", On::Project(project)),
        "datasets.get" => ("bigquery.datasets.get", On::Dataset(project, dataset)),
        "datasets.delete" => ("bigquery.datasets.delete", On::Dataset(project, dataset)),
        "tables.list" => ("bigquery.tables.list", On::Dataset(project, dataset)),
        "tables.insert" => ("bigquery.tables.create", On::Dataset(project, dataset)),
        "tables.get" => ("bigquery.tables.get", On::Table(project, dataset, table)),
        "tables.patch" | "tables.update" => ("bigquery.tables.update", On::Table(project, dataset, table)),
        "tables.delete" => ("bigquery.tables.delete", On::Table(project, dataset, table)),
        "tabledata.list" => ("bigquery.tables.getData", On::Table(project, dataset, table)),
        "tabledata.insertAll" => ("bigquery.tables.updateData", On::Table(project, dataset, table)),
        "jobs.insert" | "jobs.query" => ("bigquery.jobs.create", On::Project(project)),
        "jobs.list" => ("bigquery.jobs.list", On::Project(project)),
        _ => return Ok(()),
    };
    state.permit(permission, &on)
}

/// <https://cloud.google.com/storage/docs/access-control/iam-json>: to write over an object is to delete it, too.
fn check_storage(state: &State, method: &str, subject: &str) -> Result<(), ApiError> {
    let (permission, kind) = match method {
        "buckets.get" => ("storage.buckets.get", "bucket"),
        "buckets.insert" => ("storage.buckets.create", "bucket"),
        "objects.list" => ("storage.objects.list", "bucket"),
        "objects.get" => ("storage.objects.get", "object"),
        "objects.delete" => ("storage.objects.delete", "object"),
        "objects.put" | "objects.startUpload" | "objects.putPart" | "objects.completeUpload" => {
            ("storage.objects.create", "object")
        }
        "objects.abortUpload" => ("storage.multipartUploads.abort", "object"),
        _ => return Ok(()),
    };
    state.permit(permission, &On::Storage(kind))?;
    let (bucket, key) = subject.split_once('/').unwrap_or((subject, ""));
    let there = || state.object(bucket, key).is_ok();
    if permission == "storage.objects.create" && method != "objects.putPart" && there() {
        state.permit("storage.objects.delete", &On::Storage(kind))?;
    }
    Ok(())
}
