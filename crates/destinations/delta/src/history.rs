//! What a table's log still tells of our commits: the notes in the commit information of its entries.

use longshore_core::Result;
use longshore_core::commit::Application;
use longshore_core::destination::PastCommit;
use serde_json::Value;

use crate::log::{InfoLine, Listing, read_entry};
use crate::storage::Storage;

/// The commits of an application in a table, oldest first. Entries that a clean-up has removed tell nothing any more, and
/// checkpoints hold no notes. Blocks, and reads the whole log: for repairs.
pub(crate) fn history(storage: &Storage, table: &str, application: &Application) -> Result<Vec<PastCommit>> {
    let mark = application.mark();
    let mut commits = Vec::new();
    for version in Listing::read(storage, table)?.entries {
        // Removed since it was listed: as if it had been before.
        let Some(lines) = read_entry::<InfoLine>(storage, table, version)? else { continue };
        let ours = lines.into_iter().filter_map(|line| line.commit_info?.get("longshore").cloned());
        commits.extend(ours.filter_map(|info| {
            let by_us = info.get("application").and_then(Value::as_str) == Some(mark.as_str());
            let n = info.get("n").and_then(Value::as_i64).filter(|_| by_us)?;
            Some(PastCommit { n, note: info.get("note").cloned().unwrap_or_default(), done: true })
        }));
    }
    Ok(commits)
}
