//! Writing one log entry: whole, synced, and only if nobody else has taken its version.

use longshore_core::Result;
use serde_json::{Value, json};

use crate::log::{self, Action, InfoLine};
use crate::storage::Storage;

/// An entry to be written, recognisable by its id.
#[derive(Debug, Clone)]
pub(crate) struct LogEntry {
    pub version: u64,
    id: String,
    text: Vec<u8>,
}

/// Milliseconds since 1970.
pub(crate) fn now_millis() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

impl LogEntry {
    /// The entry of `version` with these actions. `info` goes into its commit information beside who, what and when.
    pub(crate) fn new(version: u64, operation: &str, info: Value, actions: Vec<Action>) -> Result<Self> {
        let id = uuid::Uuid::new_v4().to_string();
        let mut commit_info = json!({
            "timestamp": now_millis(),
            "operation": operation,
            "engineInfo": format!("longshore/{}", env!("CARGO_PKG_VERSION")),
            "txnId": id,
        });
        if let (Value::Object(all), Value::Object(more)) = (&mut commit_info, info) {
            all.extend(more);
        }
        if version > 0
            && let Value::Object(all) = &mut commit_info
        {
            all.insert("readVersion".into(), json!(version - 1));
        }
        let mut lines = vec![Action::CommitInfo(commit_info)];
        lines.extend(actions);
        Ok(Self { version, id, text: log::entry_text(&lines)? })
    }

    /// Writes it durably; `false` if the version is taken by another one. An answer that was lost is settled by reading
    /// the log; with an error, nothing is known, and asking the log again later tells. `linked` is called once the entry can
    /// be seen but may not survive a power cut.
    pub(crate) fn write(&self, storage: &Storage, table: &str, linked: impl FnOnce()) -> Result<bool> {
        let written = match storage.put_if_absent(&log::entry_path(table, self.version), &self.text) {
            Ok(written) => written,
            Err(error) => match self.stands_in(storage, table) {
                Ok(Some(ours)) => ours,
                Ok(None) => return Err(error),
                Err(unreadable) => return Err(error.with("then", unreadable)),
            },
        };
        if written {
            linked();
            // A crash before this leaves an entry whose name may be lost: whoever finds it syncs the folder first.
            sync_log(storage, table)?;
        }
        Ok(written)
    }

    /// Whether the entry in the log is this one; `None` if there is none.
    fn stands_in(&self, storage: &Storage, table: &str) -> Result<Option<bool>> {
        let Some(lines) = log::read_entry::<InfoLine>(storage, table, self.version)? else { return Ok(None) };
        let ids = lines.iter().filter_map(|line| line.commit_info.as_ref()?.get("txnId")?.as_str());
        Ok(Some(ids.into_iter().any(|id| id == self.id)))
    }
}

/// Makes the names in a table's log durable.
pub(crate) fn sync_log(storage: &Storage, table: &str) -> Result<()> {
    storage.sync_dir(&format!("{table}/{}", log::LOG))
}
