//! The settings of the `bigquery` destination.

use std::path::PathBuf;

/// A dataset of BigQuery.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BigQueryConfig {
    /// The project of the dataset, which also pays for jobs.
    pub project: String,
    /// The dataset. It must exist: where it lies is not Longshore's to decide.
    pub dataset: String,
    /// How rows are written. `auto` takes the method that suits the source and what else is set.
    #[serde(default)]
    pub method: Method,
    /// How changes by key reach a table.
    #[serde(default)]
    pub changes: Changes,
    /// The file of a key or of a workload identity configuration. Without it the application default credentials count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<PathBuf>,
    /// A service account to act as. Who we are without it must be allowed to make tokens for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub impersonate: Option<String>,
    /// Sends no credentials at all, for servers other than Google's.
    #[serde(default)]
    pub anonymous: bool,
    /// A folder of a bucket where rows of load jobs wait, at the dataset's own place: `gs://BUCKET/FOLDER`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staging: Option<String>,
    /// The format of what waits there.
    #[serde(default)]
    pub format: FileFormat,
    /// How many rows of one table and commit BigQuery may refuse. They become dead letters; with more than these the run stops.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bad_records: Option<u64>,
    /// Where BigQuery's REST is, for servers other than Google's: `http://127.0.0.1:9050`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Where the Storage Write API is, for servers other than Google's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_endpoint: Option<String>,
    /// Where Cloud Storage is, for servers other than Google's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_endpoint: Option<String>,
}

/// How rows reach BigQuery.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// `load_job` if `staging` names a bucket, else `storage_write_pending`.
    #[default]
    Auto,
    /// Files in a bucket, and one load job for each table of a commit. Loading costs nothing; a table takes 1,500 jobs a day.
    LoadJob,
    /// Storage Write, pending streams: every row of a commit becomes visible at once. For loads.
    StorageWritePending,
    /// Storage Write, buffered streams: rows become visible by moving a mark in their stream. For endless sources with
    /// short commits, because a stream serves many of them.
    StorageWrite,
    /// Storage Write, the default stream: rows show as soon as they are sent. At least once: rows that were sent right before a crash are
    /// sent again. Until their commit is journalled they wait in files of ours.
    StorageWriteDefault,
    /// `tabledata.insertAll`, the old way, for small amounts. At least once, though BigQuery drops most repeats of the same minute.
    InsertAll,
}

/// How changes by key (upserts and deletes) reach a table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Changes {
    /// As change rows that BigQuery applies by the table's primary key.
    #[default]
    Cdc,
    /// In a table of ours, by one `MERGE` for each commit. The table gets a column `_longshore_order`.
    Merge,
}

/// A format of files for load jobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FileFormat {
    /// Parquet, or JSON lines for tables with columns of JSON, INTERVAL or GEOGRAPHY.
    #[default]
    Auto,
    /// Parquet.
    Parquet,
    /// Avro; JSON lines for the same tables.
    Avro,
    /// JSON lines.
    Json,
}

impl BigQueryConfig {
    /// The method that `auto` stands for.
    pub(crate) fn method(&self) -> Method {
        match (self.method, &self.staging) {
            (Method::Auto, Some(_)) => Method::LoadJob,
            (Method::Auto, None) => Method::StorageWritePending,
            (method, _) => method,
        }
    }

    /// `bigquery://PROJECT/DATASET`: the same for all settings that mean one dataset.
    pub fn place(&self) -> String {
        format!("bigquery://{}/{}", self.project, self.dataset)
    }

    /// Where REST is, without a slash at the end.
    pub(crate) fn rest(&self) -> String {
        self.endpoint.as_deref().unwrap_or("https://bigquery.googleapis.com").trim_end_matches('/').to_owned()
    }

    /// Where Cloud Resource Manager is, which knows what is granted on a project; on a server other than Google's, REST's own address.
    pub(crate) fn manager(&self) -> String {
        self.endpoint.as_deref().unwrap_or("https://cloudresourcemanager.googleapis.com").trim_end_matches('/').to_owned()
    }

    /// Where the Storage Write API is.
    pub(crate) fn grpc(&self) -> String {
        self.write_endpoint.as_deref().unwrap_or("https://bigquerystorage.googleapis.com").trim_end_matches('/').to_owned()
    }
}
