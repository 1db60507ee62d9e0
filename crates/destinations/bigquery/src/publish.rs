//! What `publish` does with what was staged for one table, by where it is kept. Repeating any of it changes nothing.

use longshore_core::Result;
use longshore_core::batch::{OPERATION, ORDER};
use longshore_core::commit::{Refused, WriteDisposition};
use longshore_core::schema::{Field, Type};
use serde_json::json;

use crate::error::{Failure, codes};
use crate::jobs::{self, Ended};
use crate::stage::{Kept, Shared, Staged};
use crate::tables::{Remote, Tables};
use crate::write::Committed;

/// The rows of one table of one commit.
pub(crate) struct Publish<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) table: &'a str,
    pub(crate) remote: &'a Remote,
    pub(crate) token: &'a str,
    pub(crate) disposition: WriteDisposition,
    pub(crate) staged: Vec<Staged>,
    /// The rows of each.
    pub(crate) rows: Vec<u64>,
}

/// The column of a table that takes changes by MERGE: the order key of each row's last change.
pub(crate) const KEPT: &str = "_longshore_order";

/// That column.
pub(crate) fn kept_column() -> Field {
    let description = Some("Longshore: the order key of the row's last change".to_owned());
    Field { description, ..Field::new(KEPT, Type::String) }
}

/// What came of it.
pub(crate) enum Outcome {
    Now,
    Before,
    Parked(String),
    /// The files of ours are not there any more.
    Gone(String),
    Refused(Refused),
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
            Kept::Table { .. } | Kept::Files { .. } | Kept::Changes { .. } => Some(self.job()),
            Kept::Spooled { .. } => Some(format!("/tables/{}/streams/_default", self.table)),
        });
        // The project and dataset are known.
        let name = name.unwrap_or_default();
        name.split_once("/tables/").map_or(name.clone(), |(_, short)| short.to_owned())
    }

    /// The beginning of the ids of the jobs that load or replace these rows: the same whoever publishes them, and no other rows' in the whole
    /// project. What an amendment staged anew is loaded by another job; the tables that it left alone keep theirs.
    fn job(&self) -> String {
        // With its partition, if it names one.
        let Tables { project, dataset, .. } = &self.shared.tables;
        let table = format!("projects/{project}/datasets/{dataset}/tables/{}@{}", self.table, self.remote.born());
        let rows = format!("{table} {:?}", self.staged.iter().map(|staged| &staged.kept).collect::<Vec<_>>());
        format!("longshore_{}_{}", self.token, &blake3::hash(rows.as_bytes()).to_hex()[..12])
    }

    pub(crate) async fn run(&self) -> Result<Outcome> {
        let mut before = !self.staged.is_empty();
        for staged in &self.staged {
            let (doing, statement) = match &staged.kept {
                Kept::Table { name, columns } => ("replace rows", self.replacement(name, columns)),
                Kept::Changes { name, columns, key } => ("merge changes", self.merge(name, columns, key)),
                _ => continue,
            };
            before &= jobs::once(&self.shared.tables, doing, &self.job(), &statement).await? == Ended::Before;
        }
        if let Some(load) = self.load() {
            match jobs::once(&self.shared.tables, "load", &self.job(), &load).await {
                Ok(ended) => before &= ended == Ended::Before,
                Err(error) if error.code() == codes::MISSING.name => return Ok(Outcome::Parked(error.message().to_owned())),
                // The job says at most which file: which rows it is the amendment finds out.
                Err(error) if error.code() == codes::ROWS_REFUSED.name => {
                    let reason = error.message().to_owned();
                    return Ok(Outcome::Refused(Refused { reason, rows: Vec::new(), others_shown: false }));
                }
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
            match self.shared.write.commit(&self.shared.tables.resource_name(self.table), &streams).await {
                Ok(committed) => before &= committed == Committed::Before,
                Err(failure) => return gone(failure),
            }
        }
        for staged in &self.staged {
            if let Kept::Buffered { stream, last } = &staged.kept {
                match self.shared.write.flush(stream, *last).await {
                    Ok(flushed) => before &= flushed == Committed::Before,
                    Err(failure) => return gone(failure),
                }
            }
        }
        match self.send_all().await {
            Ok(None) => {}
            Ok(Some(refused)) => return Ok(Outcome::Refused(refused)),
            Err(error) if error.code() == codes::GONE.name => return Ok(Outcome::Gone(error.message().to_owned())),
            Err(error) => return Err(error),
        }
        before &= self.staged.iter().any(|staged| !matches!(staged.kept, Kept::Nothing | Kept::Spooled { .. }));
        Ok(if before { Outcome::Before } else { Outcome::Now })
    }

    /// Sends what shows at once. Nobody can tell afterwards whether it was sent before.
    async fn send_all(&self) -> Result<Option<Refused>> {
        let (mut first, mut refused) = (0, None::<Refused>);
        for (staged, rows) in self.staged.iter().zip(&self.rows) {
            if let Kept::Spooled { files, how } = &staged.kept
                && let Some(more) = self.send(files, *how, first).await?
            {
                match &mut refused {
                    Some(refused) => refused.rows.extend(more.rows),
                    None => refused = Some(more),
                }
            }
            first += rows;
        }
        Ok(refused)
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
            "destinationTable": {"projectId": self.shared.tables.project, "datasetId": self.shared.tables.dataset, "tableId": self.table},
            "createDisposition": "CREATE_NEVER",
            "writeDisposition": match self.disposition {
                WriteDisposition::Append | WriteDisposition::Empty => "WRITE_APPEND",
                // A key would go with the rows otherwise.
                WriteDisposition::Truncate if !self.remote.key().is_empty() => "WRITE_TRUNCATE_DATA",
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
        match format.as_str() {
            "PARQUET" => load["parquetOptions"] = json!({"enableListInference": true}),
            // Days, times and decimals are what they are, not bare numbers.
            "AVRO" => load["useAvroLogicalTypes"] = json!(true),
            _ => {}
        }
        Some(json!({"load": load, "labels": {"longshore": "load"}}))
    }

    /// One statement takes the old rows out and puts the new ones in; the table itself stays as it is.
    fn replacement(&self, from: &str, columns: &[String]) -> serde_json::Value {
        let columns: Vec<String> = columns.iter().map(|column| format!("`{column}`")).collect();
        let columns = columns.join(", ");
        let sql = format!(
            "MERGE {} AS old USING {} AS new ON FALSE WHEN NOT MATCHED BY SOURCE THEN DELETE WHEN NOT MATCHED BY TARGET THEN INSERT ({columns}) VALUES ({columns})",
            self.shared.tables.sql_name(self.table),
            self.shared.tables.sql_name(from)
        );
        json!({"query": {"query": sql, "useLegacySql": false}, "labels": {"longshore": "replace"}})
    }

    /// One statement applies the last change of each key, unless the table has a newer one.
    fn merge(&self, from: &str, columns: &[String], key: &[String]) -> serde_json::Value {
        let list = |items: Vec<String>, between: &str| items.join(between);
        let keys = list(key.iter().map(|column| format!("`{column}`")).collect(), ", ");
        let same = list(key.iter().map(|column| format!("old.`{column}` = new.`{column}`")).collect(), " AND ");
        let set =
            columns.iter().map(|column| format!("`{column}` = new.`{column}`")).chain([format!("`{KEPT}` = new.`{ORDER}`")]);
        let names = list(columns.iter().map(|column| format!("`{column}`")).collect(), ", ");
        let newer = format!("(old.`{KEPT}` IS NULL OR old.`{KEPT}` <= new.`{ORDER}`)");
        let sql = format!(
            "MERGE {} AS old USING (SELECT * FROM {} QUALIFY ROW_NUMBER() OVER (PARTITION BY {keys} ORDER BY `{ORDER}` DESC) = 1) AS new ON {same} \
             WHEN MATCHED AND {newer} AND new.`{OPERATION}` = 'delete' THEN DELETE \
             WHEN MATCHED AND {newer} THEN UPDATE SET {} \
             WHEN NOT MATCHED AND new.`{OPERATION}` = 'upsert' THEN INSERT ({names}, `{KEPT}`) VALUES ({names}, `{ORDER}`)",
            self.shared.tables.sql_name(self.table),
            self.shared.tables.sql_name(from),
            list(set.collect(), ", ")
        );
        json!({"query": {"query": sql, "useLegacySql": false}, "labels": {"longshore": "merge"}})
    }

    /// What nobody needs any more goes; streams may take the next commit.
    pub(crate) async fn tidy(&self) {
        for staged in &self.staged {
            match &staged.kept {
                Kept::Table { name, .. } | Kept::Changes { name, .. } => {
                    if let Err(error) = self.shared.tables.delete(name).await {
                        tracing::warn!(table = name, %error, "a table of rows that have landed stays");
                    }
                }
                Kept::Buffered { stream, last } => {
                    self.shared.idle.give_back(self.table, &self.remote.born(), stream, last + 1);
                }
                Kept::Files { uris: files, .. } | Kept::Spooled { files, .. } => self.remove(files).await,
                Kept::Nothing | Kept::Pending { .. } => {}
            }
            self.remove(&staged.leftovers).await;
        }
    }

    async fn remove(&self, files: &[String]) {
        for file in files {
            if let Err(error) = self.shared.spool.remove(file).await {
                tracing::warn!(file, %error, "a file of rows that have landed stays");
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
