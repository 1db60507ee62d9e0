//! What can go wrong with BigQuery, and which of it passes.

use std::time::Duration;

use longshore_core::error::{Code, Error, Kind, Retry, code};

/// The codes of this destination.
pub mod codes {
    longshore_core::codes! {
        CREDENTIALS = "bigquery_credentials": "No way to log in to Google was found, or the one that was found is refused. Log in with `gcloud auth application-default login`, name a service account's key or a workload identity configuration with `credentials`, or correct the account named by `impersonate`.";
        DENIED = "bigquery_denied": "Google knows who asks and does not allow it. The message names what was refused; the guide to BigQuery lists the roles to grant.";
        DATASET_MISSING = "bigquery_dataset_missing": "The dataset does not exist, or who asks may not see it. Longshore makes tables, not datasets: where a dataset lies is a decision of its own. Make it with `bq mk --location=EU PROJECT:DATASET`.";
        UNAVAILABLE = "bigquery_unavailable": "Google's servers could not be reached, or said that they cannot answer for now. The step is tried again; what was journalled is published by the next run.";
        QUOTA = "bigquery_quota": "A quota or rate limit of the project or table is used up. The step is tried again after the time that BigQuery asks for; what was journalled is published by the next run.";
        MISSING = "bigquery_missing": "A table or stream is not there: it was removed, or was made so recently that not every server of Google's knows it yet.";
        REFUSED = "bigquery_refused": "BigQuery understood a request and does not take it. Its own words say why.";
        ANSWER = "bigquery_answer_unreadable": "An answer could not be understood: perhaps a proxy answered in place of BigQuery. Nothing is assumed from it.";
        NOT_EMPTY = "table_not_empty": "The table holds rows, and the run was told to write only into an empty one. Use `--write append` or `--write truncate`.";
        NO_COLUMNS = "table_without_columns": "A table needs at least one column, and the records have shown none.";
        NAME = "bigquery_name": "The name cannot be used for a table or column of BigQuery: a table takes up to 1,024 letters, digits, marks, connectors and dashes, and names that begin with `_longshore` are Longshore's own.";
        UNSUPPORTED = "bigquery_table_unsupported": "The table is not one that rows can be appended to (a view, an external table, a snapshot), or its columns cannot be written by this method. The message names it.";
        PARTITION = "bigquery_partition": "The column cannot partition the table: it is missing or repeated, or its type cannot be parted that way: a TIMESTAMP or DATETIME by hour, day, month or year, a DATE by day, month or year, an INT64 by ranges.";
        QUERY = "bigquery_query": "BigQuery cannot run the query. Its own words say where and why. Queries on a dataset of BigQuery are written in its own dialect.";
        STAGING = "bigquery_staging": "The bucket for load jobs is missing or cannot be used. Name a folder of one at the dataset's own place with `staging: gs://BUCKET/FOLDER`, or choose a method that needs none.";
        LOCATION = "bigquery_location": "The bucket for load jobs does not lie where the dataset does, and BigQuery loads from there only. Nothing was staged.";
        CHANGES = "bigquery_changes_unsupported": "Rows that update or delete others by key cannot be written by this method, only rows to append.";
        CHANGED = "bigquery_table_changed": "The table's columns changed in a way that the rows do not fit, after they were settled. Run again: the rows are decoded anew into the columns that the table has now.";
        OFFSET = "bigquery_stream_disturbed": "Somebody else wrote to a stream that is ours, or its end is not where it was left. The rows go to a new stream.";
        ROWS_REFUSED = "bigquery_rows_refused": "BigQuery does not take some of the rows. The message has its words for the first of them.";
        VALUE = "bigquery_value": "A value cannot be given to BigQuery as the type that its column has there.";
        PAYLOAD = "bigquery_committable_unreadable": "The journal holds a record of staged rows that this version of Longshore cannot read. Use the version that wrote it, or a newer one.";
        GONE = "bigquery_staged_gone": "The files in which rows waited to be sent are gone: somebody removed them, or another worker has just sent them. Which of the two the next run finds out by the marks in the dataset.";
        IO = "bigquery_io": "A file beside the store could not be written or read.";
        OPTION = "bigquery_option": "A table cannot be made as the pipeline file wants it: a column that it names is missing or of a type that BigQuery does not take there, a label has characters that BigQuery does not take, or the table that is there has another key. Nothing was made or changed.";
    }
}

/// An error of this destination, which trying again does not cure.
pub(crate) fn destination(code: Code, message: impl Into<String>) -> Error {
    Error::new(Kind::Destination, code, message)
}

/// A setting or name that cannot be used.
pub(crate) fn config(code: Code, message: impl Into<String>) -> Error {
    Error::new(Kind::Config, code, message)
}

/// A broken assumption of ours.
pub(crate) fn bug(message: impl Into<String>) -> Error {
    Error::new(Kind::Bug, code::BUG, message)
}

/// What Google said no to, and in which words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// What was asked for: `tables.insert orders`.
    pub doing: String,
    /// The HTTP status, or the one that a gRPC code stands for.
    pub status: u16,
    /// BigQuery's word for it: `notFound`, `quotaExceeded`.
    pub reason: String,
    /// BigQuery's sentence.
    pub message: String,
    /// The wait that it asks for.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    pub(crate) fn is_missing(&self) -> bool {
        self.status == 404
    }

    pub(crate) fn exists(&self) -> bool {
        self.status == 409
    }

    /// Whether it says that a limit is reached, which passes.
    pub(crate) fn is_quota(&self) -> bool {
        self.code().0.name == codes::QUOTA.name
    }

    /// Whether it is a matter of permissions.
    pub(crate) fn is_denied(&self) -> bool {
        self.code().0 == codes::DENIED
    }

    fn code(&self) -> (Code, Retry) {
        match (self.status, self.reason.as_str()) {
            // A token may have expired on the way: the next one is fresh.
            (401, _) => (codes::CREDENTIALS, Retry::Backoff),
            (429, _) | (_, "rateLimitExceeded" | "quotaExceeded" | "jobRateLimitExceeded" | "userRateLimitExceeded") => {
                (codes::QUOTA, Retry::Backoff)
            }
            (403, _) => (codes::DENIED, Retry::AfterFix),
            (404, _) => (codes::MISSING, Retry::AfterFix),
            (408 | 412 | 499 | 500..=599, _) | (_, "backendError" | "internalError" | "jobBackendError" | "jobInternalError") => {
                (codes::UNAVAILABLE, Retry::Backoff)
            }
            _ => (codes::REFUSED, Retry::Never),
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        let (code, retry) = refusal.code();
        let text = if refusal.message.is_empty() { &refusal.reason } else { &refusal.message };
        let error =
            destination(code, format!("{}: BigQuery answered {}: {text}", refusal.doing, refusal.status)).with_retry(retry);
        match refusal.retry_after {
            Some(wait) => error.with_retry_after(wait),
            None => error,
        }
    }
}

/// Why a call has no good answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Google said no.
    Refused(Refusal),
    /// There is no answer: whether it was done is not known.
    Lost(Error),
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(refusal) => refusal.into(),
            Failure::Lost(error) => error,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Lost(error)
    }
}

/// Whether an error says that a table or stream is not there.
pub(crate) fn is_missing(error: &Error) -> bool {
    error.code() == codes::MISSING.name
}

/// No answer came.
pub(crate) fn lost(doing: &str, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    destination(codes::UNAVAILABLE, format!("{doing}: no answer from BigQuery")).with_retry(Retry::Backoff).caused_by(error)
}
