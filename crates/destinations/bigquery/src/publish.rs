//! What `publish` does with what was staged for one table, by where it is kept. Repeating any of it changes nothing.

use longshore_core::Result;
use longshore_core::commit::WriteDisposition;
use serde_json::json;

use crate::bucket::Bucket;
use crate::error::{Failure, codes};
use crate::jobs::{self, Ended};
use crate::stage::{Idle, Kept, Staged};
use crate::tables::{Remote, Tables};
use crate::write::{Committed, StorageWrite};

/// The rows of one table of one commit.
pub(crate) struct Publish<'a> {
    pub(crate) tables: &'a Tables,
    pub(crate) write: &'a StorageWrite,
    pub(crate) idle: &'a Idle,
    pub(crate) bucket: Option<&'a Bucket>,
    pub(crate) table: &'a str,
    pub(crate) remote: &'a Remote,
    pub(crate) token: &'a str,
    pub(crate) disposition: WriteDisposition,
    pub(crate) staged: Vec<Staged>,
}

/// What came of it.
pub(crate) enum Outcome {
    Now,
    Before,
    Parked(String),
}

impl Publish<'_> {
    /// A table of the same name is another table.
    pub(crate) fn is_for_another_table(&self) -> bool {
        self.staged.iter().any(|staged| staged.born != self.remote.born())
    }

    /// BigQuery's name for what makes the rows visible.
    pub(crate) fn name(&self) -> String {
        let name = self.staged.iter().find_map(|staged| match &staged.kept {
            Kept::Nothing => None,
            Kept::Pending { stream } => Some(stream.clone()),
            Kept::Buffered { stream, last } => Some(format!("{stream}@{last}")),
            Kept::Table { .. } | Kept::Files { .. } => Some(self.job()),
        });
        // The project and dataset are known.
        let name = name.unwrap_or_default();
        name.split_once("/tables/").map_or(name.clone(), |(_, short)| short.to_owned())
    }

    /// The beginning of the ids of the jobs that load or replace the table's rows: the same whoever publishes this commit, and no
    /// other commit's or table's in the whole project.
    fn job(&self) -> String {
        let table = format!("{}@{}", self.tables.resource_name(self.table), self.remote.born());
        format!("longshore_{}_{}", self.token, &blake3::hash(table.as_bytes()).to_hex()[..12])
    }

    pub(crate) async fn run(&self) -> Result<Outcome> {
        let mut before = !self.staged.is_empty();
        for staged in &self.staged {
            if let Kept::Table { name, columns } = &staged.kept {
                before &= jobs::once(self.tables, "replace rows", &self.job(), &self.replacement(name, columns)).await?
                    == Ended::Before;
            }
        }
        if let Some(load) = self.load() {
            match jobs::once(self.tables, "load", &self.job(), &load).await {
                Ok(ended) => before &= ended == Ended::Before,
                Err(error) if error.code() == codes::MISSING.name => return Ok(Outcome::Parked(error.message().to_owned())),
                Err(error) => return Err(error),
            }
        }
        let streams: Vec<String> = self
            .staged
            .iter()
            .filter_map(|staged| match &staged.kept {
                Kept::Pending { stream } => Some(stream.clone()),
                _ => None,
            })
            .collect();
        if !streams.is_empty() {
            match self.write.commit(&self.tables.resource_name(self.table), &streams).await {
                Ok(committed) => before &= committed == Committed::Before,
                Err(failure) => return gone(failure),
            }
        }
        for staged in &self.staged {
            if let Kept::Buffered { stream, last } = &staged.kept {
                match self.write.flush(stream, *last).await {
                    Ok(flushed) => before &= flushed == Committed::Before,
                    Err(failure) => return gone(failure),
                }
            }
        }
        before &= self.staged.iter().any(|staged| staged.kept != Kept::Nothing);
        Ok(if before { Outcome::Before } else { Outcome::Now })
    }

    /// One load job for all files of the table, `None` if there are none.
    fn load(&self) -> Option<serde_json::Value> {
        let mut all: Vec<&str> = Vec::new();
        let mut source_format = None;
        for staged in &self.staged {
            if let Kept::Files { uris, format } = &staged.kept {
                all.extend(uris.iter().map(String::as_str));
                source_format = Some(format);
            }
        }
        let format = source_format?;
        let mut load = json!({
            "sourceUris": all,
            "sourceFormat": format,
            "destinationTable": {"projectId": self.tables.project, "datasetId": self.tables.dataset, "tableId": self.table},
            "createDisposition": "CREATE_NEVER",
            "writeDisposition": match self.disposition {
                WriteDisposition::Append | WriteDisposition::Empty => "WRITE_APPEND",
                WriteDisposition::Truncate => "WRITE_TRUNCATE",
            },
            // Replacing rows would replace these too, if they were not said again.
            "schema": {"fields": self.remote.fields()},
        });
        for kept in ["timePartitioning", "rangePartitioning", "clustering"] {
            if let Some(value) = self.remote.0.get(kept).filter(|value| !value.is_null()) {
                load[kept] = value.clone();
            }
        }
        if format == "PARQUET" {
            load["parquetOptions"] = json!({"enableListInference": true});
        }
        Some(json!({"load": load, "labels": {"longshore": "load"}}))
    }

    /// One statement takes the old rows out and puts the new ones in; the table itself stays as it is.
    fn replacement(&self, from: &str, columns: &[String]) -> serde_json::Value {
        let columns: Vec<String> = columns.iter().map(|column| format!("`{column}`")).collect();
        let columns = columns.join(", ");
        let sql = format!(
            "MERGE {} AS old USING {} AS new ON FALSE WHEN NOT MATCHED BY SOURCE THEN DELETE WHEN NOT MATCHED BY TARGET THEN INSERT ({columns}) VALUES ({columns})",
            self.tables.sql_name(self.table),
            self.tables.sql_name(from)
        );
        json!({"query": {"query": sql, "useLegacySql": false}, "labels": {"longshore": "replace"}})
    }

    /// What nobody needs any more goes; streams may take the next commit.
    pub(crate) async fn tidy(&self) {
        for staged in &self.staged {
            match &staged.kept {
                Kept::Table { name, .. } => {
                    if let Err(error) = self.tables.delete(name).await {
                        tracing::warn!(table = name, %error, "a table of rows that have landed stays");
                    }
                }
                Kept::Buffered { stream, last } => self.idle.give_back(self.table, &self.remote.born(), stream, last + 1),
                Kept::Files { uris, .. } => {
                    let Some(bucket) = self.bucket else { continue };
                    for uri in uris {
                        if let Err(error) = bucket.remove_uri(uri).await {
                            tracing::warn!(uri, %error, "a file of rows that have landed stays");
                        }
                    }
                }
                Kept::Nothing | Kept::Pending { .. } => {}
            }
        }
    }
}

/// A stream that is gone has lost its rows: nobody but the source can tell them again.
fn gone(failure: Failure) -> Result<Outcome> {
    match failure {
        Failure::Refused(refusal) if refusal.is_missing() => {
            Ok(Outcome::Parked(format!("the stream with its rows is gone: {}", refusal.message)))
        }
        failure => Err(failure.into()),
    }
}
