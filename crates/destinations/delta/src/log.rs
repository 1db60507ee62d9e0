//! The Delta log: its entries and checkpoints, read and written.
//!
//! A table's log is `_delta_log/%020d.json`, one file a version, one JSON action a line. A checkpoint
//! (`%020d.checkpoint.parquet`, or in parts) holds the state up to its version, one action a row.
//!
//! Source: <https://github.com/delta-io/delta/blob/master/PROTOCOL.md>

use std::collections::BTreeMap;

use arrow::json::writer::{LineDelimited, WriterBuilder};
use longshore_core::Result;
use longshore_core::error::Retry;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{codes, destination, first_line};
use crate::storage::Storage;

/// The folder of a table's log.
pub(crate) const LOG: &str = "_delta_log";

/// Which readers and writers a table needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Protocol {
    pub min_reader_version: i32,
    pub min_writer_version: i32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reader_features: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writer_features: Option<Vec<String>>,
}

/// What a table is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Metadata {
    pub id: String,
    pub schema_string: String,
    #[serde(default)]
    pub partition_columns: Vec<String>,
    #[serde(default)]
    pub configuration: BTreeMap<String, Option<String>>,
    /// What else stands there (name, format, creation time), kept.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// The last transaction of an application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Txn {
    pub app_id: String,
    pub version: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_updated: Option<i64>,
}

/// A data file that became part of the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Add {
    pub path: String,
    #[serde(default)]
    pub partition_values: Map<String, Value>,
    pub size: u64,
    #[serde(default)]
    pub modification_time: i64,
    #[serde(default)]
    pub data_change: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stats: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_vector: Option<Value>,
}

/// A data file that is part of it no longer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Remove {
    pub path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_timestamp: Option<i64>,
    #[serde(default)]
    pub data_change: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extended_file_metadata: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_values: Option<Map<String, Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_vector: Option<Value>,
}

/// One line of an entry, to be written.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Action {
    CommitInfo(Value),
    Protocol(Protocol),
    MetaData(Metadata),
    Txn(Txn),
    Remove(Remove),
    Add(Add),
}

/// A line as far as the table's state is concerned: what else it holds is skipped unparsed.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StateLine {
    pub protocol: Option<Protocol>,
    pub meta_data: Option<Metadata>,
    pub txn: Option<Txn>,
}

/// A line as far as the table's files are concerned.
#[derive(Debug, Deserialize)]
pub(crate) struct FileLine {
    pub add: Option<Add>,
    pub remove: Option<Remove>,
}

/// A line as far as its author is concerned.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InfoLine {
    pub commit_info: Option<Value>,
}

/// The path of a version's entry.
pub(crate) fn entry_path(table: &str, version: u64) -> String {
    format!("{table}/{LOG}/{version:020}.json")
}

/// The text of an entry.
pub(crate) fn entry_text(actions: &[Action]) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    for action in actions {
        serde_json::to_writer(&mut text, action)
            .map_err(|e| crate::error::bug("cannot write a log action as JSON").caused_by(e))?;
        text.push(b'\n');
    }
    Ok(text)
}

/// The lines of an entry; `None` if it does not exist. Errors: `delta_log_damaged`.
pub(crate) fn read_entry<T: DeserializeOwned>(storage: &Storage, table: &str, version: u64) -> Result<Option<Vec<T>>> {
    let path = entry_path(table, version);
    match storage.read(&path)? {
        None => Ok(None),
        // An entry has at least one action: nothing at all is what a power cut leaves of an unsynced file.
        Some(bytes) if bytes.is_empty() => Err(damaged(storage, &path, "it is empty")),
        Some(bytes) => lines(storage, &path, &bytes).map(Some),
    }
}

fn lines<T: DeserializeOwned>(storage: &Storage, path: &str, bytes: &[u8]) -> Result<Vec<T>> {
    bytes
        .split(|byte| *byte == b'\n')
        .enumerate()
        .filter(|(_, line)| !line.trim_ascii().is_empty())
        .map(|(i, line)| {
            serde_json::from_slice(line).map_err(|e| damaged(storage, path, &format!("line {} is no action", i + 1)).caused_by(e))
        })
        .collect()
}

/// An error about a file of the log.
pub(crate) fn damaged(storage: &Storage, path: &str, why: &str) -> longshore_core::Error {
    destination(codes::LOG_DAMAGED, format!("cannot read {}: {why}", storage.address(path).display()))
        .with_retry(Retry::AfterFix)
        .hint("restore the table's folder from a copy, or move it away and load again")
}

/// What a log folder holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    /// Versions that have an entry, in order.
    pub entries: Vec<u64>,
    /// Whole checkpoints: version and files, newest first.
    pub checkpoints: Vec<(u64, Vec<String>)>,
}

impl Listing {
    /// Lists a table's log. Empty for a folder that is no table.
    pub(crate) fn read(storage: &Storage, table: &str) -> Result<Self> {
        let dir = format!("{table}/{LOG}");
        let files = storage.list(&dir, false)?;
        Ok(Self::of(files.into_iter().filter(|file| file.size > 0 || file.path.ends_with(".json")).map(|file| file.path)))
    }

    fn of(paths: impl Iterator<Item = String>) -> Self {
        let mut listing = Self::default();
        // Version, number of parts -> the parts there are, in order.
        let mut parts: BTreeMap<(u64, u64), Vec<String>> = BTreeMap::new();
        for path in paths {
            let name = path.rsplit('/').next().unwrap_or(&path);
            let pieces: Vec<&str> = name.split('.').collect();
            let number =
                |i: usize, digits: usize| pieces.get(i).filter(|p| p.len() == digits).and_then(|p| p.parse::<u64>().ok());
            let Some(version) = number(0, 20) else { continue };
            match (pieces.get(1).copied(), pieces.last().copied(), pieces.len()) {
                (Some("json"), _, 2) => listing.entries.push(version),
                (Some("checkpoint"), Some("parquet"), 3) => parts.entry((version, 1)).or_default().push(path),
                (Some("checkpoint"), Some("parquet"), 5) => {
                    if let Some(count) = number(3, 10) {
                        parts.entry((version, count)).or_default().push(path);
                    }
                }
                _ => {}
            }
        }
        listing.entries.sort_unstable();
        // A checkpoint counts once all of its parts are there. Both forms may exist: either is good.
        listing.checkpoints = parts
            .into_iter()
            .rev()
            .filter(|((_, count), files)| u64::try_from(files.len()).is_ok_and(|found| found == *count))
            .map(|((version, _), files)| (version, files))
            .collect();
        listing
    }

    /// The last version; `None` if this is no table.
    pub(crate) fn latest(&self) -> Option<u64> {
        self.entries.last().copied().max(self.checkpoints.first().map(|(version, _)| *version))
    }

    /// The ways to build the state of version `at`, best first: a checkpoint, if any, and the entries after it, without a
    /// gap.
    pub(crate) fn ways(&self, at: u64) -> Vec<Way<'_>> {
        let checkpoints = self.checkpoints.iter().filter(|(version, _)| *version <= at).map(Some).chain([None]);
        checkpoints
            .filter_map(|checkpoint| {
                let first = checkpoint.map_or(0, |(version, _)| version + 1);
                let from = self.entries.partition_point(|version| *version < first);
                let to = self.entries.partition_point(|version| *version <= at);
                let entries = &self.entries[from.min(to)..to];
                let whole = u64::try_from(entries.len()).is_ok_and(|count| count == at + 1 - first);
                whole.then_some(Way { checkpoint: checkpoint.map(|(version, files)| (*version, files.as_slice())), entries })
            })
            .collect()
    }
}

/// A way to build a state.
pub(crate) struct Way<'a> {
    pub checkpoint: Option<(u64, &'a [String])>,
    pub entries: &'a [u64],
}

/// Passes every line of the log up to version `at` to `each`, oldest first; `restart` is called before another way is tried
/// because a checkpoint turned out to be damaged. `roots` are the actions wanted out of checkpoints. Returns the version of
/// the checkpoint that was used.
pub(crate) fn replay<T: DeserializeOwned, S: Default>(
    storage: &Storage,
    table: &str,
    listing: &Listing,
    at: u64,
    roots: &[&str],
    mut each: impl FnMut(&mut S, u64, T),
) -> Result<(S, Option<u64>)> {
    let mut last_error = None;
    for way in listing.ways(at) {
        let mut state = S::default();
        if let Some((version, files)) = way.checkpoint {
            let read = files.iter().try_for_each(|file| {
                for line in read_checkpoint(storage, file, roots)? {
                    each(&mut state, version, line);
                }
                Ok(())
            });
            // A checkpoint is a copy: without it the state is built from older ones, or from the entries alone.
            if let Err(error) = read {
                tracing::warn!(table, version, error = %error, "a checkpoint cannot be read");
                last_error = Some(error);
                continue;
            }
        }
        for version in way.entries {
            let path = entry_path(table, *version);
            let lines = read_entry(storage, table, *version)?.ok_or_else(|| damaged(storage, &path, "it has gone"))?;
            lines.into_iter().for_each(|line| each(&mut state, *version, line));
        }
        return Ok((state, way.checkpoint.map(|(version, _)| version)));
    }
    Err(last_error.unwrap_or_else(|| damaged(storage, &format!("{table}/{LOG}"), "entries are missing")))
}

/// The rows of a checkpoint file. Rows turn into JSON, so that both forms of the log have one parser.
fn read_checkpoint<T: DeserializeOwned>(storage: &Storage, path: &str, roots: &[&str]) -> Result<Vec<T>> {
    let bytes = storage.read(path)?.ok_or_else(|| damaged(storage, path, "it has gone"))?;
    let failed = |e: &dyn std::fmt::Display| damaged(storage, path, &first_line(e));
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes)).map_err(|e| failed(&e))?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), roots.iter().copied());
    let reader = builder.with_projection(mask).build().map_err(|e| failed(&e))?;
    let mut rows = Vec::new();
    for batch in reader {
        let batch = batch.map_err(|e| failed(&e))?;
        // Explicit nulls, since a null partition value is not the same as none.
        let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(Vec::new());
        writer.write(&batch).and_then(|()| writer.finish()).map_err(|e| failed(&e))?;
        rows.extend(lines::<T>(storage, path, &writer.into_inner())?);
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(names: &[&str]) -> Listing {
        Listing::of(names.iter().map(|name| format!("d/t/_delta_log/{name}")))
    }

    #[test]
    fn a_checkpoint_without_all_its_parts_does_not_count() {
        let listing = listing(&[
            "00000000000000000009.json",
            "00000000000000000010.json",
            "00000000000000000010.checkpoint.parquet",
            "00000000000000000011.json",
            "00000000000000000011.checkpoint.0000000001.0000000002.parquet",
            "_last_checkpoint",
            ".longshore-tmp-1",
            "00000000000000000012.json.crc",
        ]);
        assert_eq!(listing.latest(), Some(11));
        let ways = listing.ways(11);
        assert_eq!(ways.len(), 1, "the entries alone leave a gap at the start");
        assert_eq!(ways[0].checkpoint.map(|(version, _)| version), Some(10));
        assert_eq!(ways[0].entries, [11]);
    }

    #[test]
    fn a_gap_leaves_no_way() {
        assert!(listing(&["00000000000000000000.json", "00000000000000000002.json"]).ways(2).is_empty());
        assert_eq!(listing(&["00000000000000000000.json"]).ways(0).len(), 1);
        assert_eq!(listing(&["x"]).latest(), None);
    }
}
