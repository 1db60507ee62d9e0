//! A table as its log tells it: version, protocol, columns, marks. Kept in memory and brought up to date by reading the new
//! entries only, so that publishing costs the same after a million commits as after ten.

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_core::Result;
use longshore_core::error::Retry;

use crate::error::{codes, destination};
use crate::log::{self, Add, FileLine, Listing, Metadata, Protocol, StateLine};
use crate::schema::Columns;
use crate::storage::Storage;

/// The last transaction of an application in a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark {
    pub n: i64,
    /// The version that brought it, where an entry told.
    pub at: Option<u64>,
}

/// A table at a version. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct TableState {
    pub version: u64,
    pub protocol: Protocol,
    pub metadata: Arc<Metadata>,
    pub columns: Arc<Columns>,
    pub marks: BTreeMap<String, Mark>,
    /// The version of the checkpoint that it was read from.
    pub checkpoint: Option<u64>,
    /// What the entry of `version` was: another one under this name means another table.
    tag: Option<String>,
}

#[derive(Default)]
struct Parts {
    protocol: Option<Protocol>,
    metadata: Option<Metadata>,
    marks: BTreeMap<String, Mark>,
}

impl Parts {
    fn take(&mut self, at: Option<u64>, line: StateLine) {
        if let Some(protocol) = line.protocol {
            self.protocol = Some(protocol);
        }
        if let Some(metadata) = line.meta_data {
            self.metadata = Some(metadata);
        }
        if let Some(txn) = line.txn {
            self.marks.insert(txn.app_id, Mark { n: txn.version, at });
        }
    }
}

impl TableState {
    /// Reads a table as it is now; `None` if there is none.
    pub(crate) fn load(storage: &Storage, table: &str) -> Result<Option<Self>> {
        let listing = Listing::read(storage, table)?;
        let Some(version) = listing.latest() else { return Ok(None) };
        // Before the entries are read, so that an entry replaced meanwhile shows at the next refresh.
        let tag = storage.stat(&log::entry_path(table, version))?.map(|stat| stat.tag);
        let from_entry = |v: u64| listing.entries.binary_search(&v).is_ok();
        let (parts, checkpoint): (Parts, _) =
            log::replay(storage, table, &listing, version, &["protocol", "metaData", "txn"], |parts: &mut Parts, at, line| {
                // A checkpoint does not tell which version brought a mark.
                parts.take(Some(at).filter(|at| from_entry(*at) && !listing.checkpoints.iter().any(|(v, _)| v == at)), line);
            })?;
        let (Some(protocol), Some(metadata)) = (parts.protocol, parts.metadata) else {
            return Err(log::damaged(storage, &format!("{table}/{}", log::LOG), "it has no protocol or no metadata"));
        };
        let columns = Arc::new(Columns::parse(&metadata)?);
        Ok(Some(Self { version, protocol, metadata: Arc::new(metadata), columns, marks: parts.marks, checkpoint, tag }))
    }

    /// Brings `cached` up to date: reads the entries that are new, or everything if the table is another one (removed and
    /// made anew, its log cut off). `None` if there is none.
    pub(crate) fn refresh(storage: &Storage, table: &str, cached: Option<Self>) -> Result<Option<Self>> {
        let Some(mut state) = cached else { return Self::load(storage, table) };
        let tag = storage.stat(&log::entry_path(table, state.version))?.map(|stat| stat.tag);
        if tag.is_none() || tag != state.tag {
            return Self::load(storage, table);
        }
        while let Some(lines) = log::read_entry::<StateLine>(storage, table, state.version + 1)? {
            let version = state.version + 1;
            let mut parts = Parts { marks: std::mem::take(&mut state.marks), ..Parts::default() };
            lines.into_iter().for_each(|line| parts.take(Some(version), line));
            state.marks = parts.marks;
            if let Some(protocol) = parts.protocol {
                state.protocol = protocol;
            }
            if let Some(metadata) = parts.metadata {
                state.columns = Arc::new(Columns::parse(&metadata)?);
                state.metadata = Arc::new(metadata);
            }
            state.version = version;
            state.tag = storage.stat(&log::entry_path(table, version))?.map(|stat| stat.tag);
        }
        Ok(Some(state))
    }

    /// The files of the table at this version, in order of their paths.
    pub(crate) fn active_files(&self, storage: &Storage, table: &str) -> Result<Vec<Add>> {
        let listing = Listing::read(storage, table)?;
        let (files, _): (BTreeMap<(String, String), Add>, _) =
            log::replay(storage, table, &listing, self.version, &["add"], |files: &mut BTreeMap<_, Add>, _, line: FileLine| {
                if let Some(remove) = line.remove {
                    files.remove(&(remove.path, vector_id(remove.deletion_vector.as_ref())));
                }
                if let Some(add) = line.add {
                    files.insert((add.path.clone(), vector_id(add.deletion_vector.as_ref())), add);
                }
            })?;
        Ok(files.into_values().collect())
    }

    /// Whether the table has rows. A file that does not tell how many it has counts as having some.
    pub(crate) fn has_rows(&self, storage: &Storage, table: &str) -> Result<bool> {
        Ok(self.active_files(storage, table)?.iter().any(|add| {
            let rows = add.stats.as_deref().and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
            let rows = rows.and_then(|stats| stats.get("numRecords").and_then(serde_json::Value::as_u64));
            let deleted = add.deletion_vector.as_ref().and_then(|v| v.get("cardinality")).and_then(serde_json::Value::as_u64);
            rows.is_none_or(|rows| rows > deleted.unwrap_or(0))
        }))
    }

    /// Checks that we may append to the table without harm (and replace its rows, if `replacing`).
    ///
    /// Errors: `delta_table_unsupported`, naming the feature or setting.
    pub(crate) fn check_writable(&self, table: &str, replacing: bool) -> Result<()> {
        let refused = |what: String| {
            destination(codes::UNSUPPORTED, format!("table {table} {what}"))
                .with_retry(Retry::AfterFix)
                .hint("load into another table, or remove this with the program that added it")
        };
        check_protocol(&self.protocol).map_err(|feature| refused(format!("uses {feature}, which is not supported")))?;
        let set = |key: &str| self.metadata.configuration.get(key).and_then(Option::as_deref).filter(|v| !v.is_empty());
        let on = |key: &str| set(key).is_some_and(|v| v.eq_ignore_ascii_case("true"));
        if set("delta.setTransactionRetentionDuration").is_some() {
            return Err(refused("forgets the numbers of its commits (delta.setTransactionRetentionDuration)".into()));
        }
        if set("delta.columnMapping.mode").is_some_and(|mode| !mode.eq_ignore_ascii_case("none")) {
            return Err(refused("maps its columns to other names (delta.columnMapping.mode)".into()));
        }
        for key in ["delta.enableRowTracking", "delta.enableInCommitTimestamps"] {
            if on(key) {
                return Err(refused(format!("has {key} set, which is not supported")));
            }
        }
        if let Some(key) = self.metadata.configuration.keys().find(|key| key.starts_with("delta.constraints.")) {
            return Err(refused(format!("has the constraint {key}, which is not supported")));
        }
        if let Some(key) = self.columns.unsupported_metadata() {
            return Err(refused(format!("has a column with {key}, which is not supported")));
        }
        if replacing && on("delta.appendOnly") {
            return Err(refused("takes appends only (delta.appendOnly): its rows cannot be replaced".into()));
        }
        Ok(())
    }
}

/// What tells two logical files of one path apart.
fn vector_id(vector: Option<&serde_json::Value>) -> String {
    let Some(vector) = vector.filter(|v| v.is_object()) else { return String::new() };
    let text = |key: &str| match vector.get(key) {
        None | Some(serde_json::Value::Null) => String::new(),
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    format!("{}{}@{}", text("storageType"), text("pathOrInlineDv"), text("offset"))
}

/// The features under which appending whole files is right, if the checks of [`TableState::check_writable`] pass too: what
/// some of them allow (constraints, generated columns ...) is looked for where it would stand.
const KNOWN_FEATURES: &[&str] = &[
    "appendOnly",
    "invariants",
    "checkConstraints",
    "generatedColumns",
    "identityColumns",
    "columnMapping",
    "changeDataFeed",
    "timestampNtz",
    "deletionVectors",
    "vacuumProtocolCheck",
];

/// The first feature that we do not know, in words.
fn check_protocol(protocol: &Protocol) -> Result<(), String> {
    if protocol.min_reader_version > 3 || protocol.min_writer_version > 7 {
        return Err(format!("protocol {}/{}", protocol.min_reader_version, protocol.min_writer_version));
    }
    let features = protocol.reader_features.iter().chain(&protocol.writer_features).flatten();
    match features.into_iter().find(|feature| !KNOWN_FEATURES.contains(&feature.as_str())) {
        Some(feature) => Err(format!("the feature {feature}")),
        None => Ok(()),
    }
}

/// The protocol that a table needs for DATETIME columns; `None` if it has it.
pub(crate) fn with_timestamp_ntz(protocol: &Protocol) -> Option<Protocol> {
    const FEATURE: &str = "timestampNtz";
    let has = |features: &Option<Vec<String>>| features.iter().flatten().any(|feature| feature == FEATURE);
    if has(&protocol.reader_features) && has(&protocol.writer_features) {
        return None;
    }
    let list = |features: &Option<Vec<String>>, implied: &[(i32, &str)], version: i32| {
        let mut list = features.clone().unwrap_or_default();
        // Up to here the version said what a table may use; from now on the list does.
        if features.is_none() {
            list.extend(implied.iter().filter(|(since, _)| version >= *since).map(|(_, name)| (*name).to_owned()));
        }
        if !list.iter().any(|feature| feature == FEATURE) {
            list.push(FEATURE.to_owned());
        }
        Some(list)
    };
    let (reader, writer) = (protocol.min_reader_version, protocol.min_writer_version);
    Some(Protocol {
        min_reader_version: 3,
        min_writer_version: 7,
        reader_features: list(&protocol.reader_features, &[(2, "columnMapping")], reader),
        writer_features: list(
            &protocol.writer_features,
            &[
                (2, "appendOnly"),
                (2, "invariants"),
                (3, "checkConstraints"),
                (4, "changeDataFeed"),
                (4, "generatedColumns"),
                (5, "columnMapping"),
                (6, "identityColumns"),
            ],
            writer,
        ),
    })
}

/// The protocol of a new table.
pub(crate) fn plain_protocol() -> Protocol {
    Protocol { min_reader_version: 1, min_writer_version: 2, reader_features: None, writer_features: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raising_a_protocol_keeps_what_its_version_allowed() {
        let raised = with_timestamp_ntz(&plain_protocol()).expect("raised");
        assert_eq!((raised.min_reader_version, raised.min_writer_version), (3, 7));
        assert_eq!(raised.reader_features.as_deref(), Some(&["timestampNtz".to_owned()][..]));
        assert_eq!(raised.writer_features.as_ref().expect("list"), &["appendOnly", "invariants", "timestampNtz"]);
        assert_eq!(with_timestamp_ntz(&raised), None);
    }

    #[test]
    fn an_unknown_feature_is_named() {
        let mut protocol = with_timestamp_ntz(&plain_protocol()).expect("raised");
        assert_eq!(check_protocol(&protocol), Ok(()));
        protocol.writer_features.as_mut().expect("list").push("clustering".into());
        assert_eq!(check_protocol(&protocol), Err("the feature clustering".into()));
    }
}
