//! The store compared with the destination, and mended.

use std::sync::Arc;

use longshore_core::Result;
use longshore_core::commit::{CommitNumber, EntryState, check_mark};
use longshore_core::destination::Destination;
use longshore_core::store::Store;

/// One mismatch between store and destination.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Finding {
    /// The table.
    pub table: String,
    /// What is wrong.
    pub what: String,
    /// What mends it.
    pub fix: String,
    /// Whether that was done.
    pub applied: bool,
}

/// Compares the marks of these tables, and of those that the store knows, with the journal of `pipeline`. With `apply`
/// the store is made to agree with the destination; the destination's tables are never changed. May be repeated.
pub async fn repair(
    store: Arc<dyn Store>,
    destination: Arc<dyn Destination>,
    pipeline: &str,
    tables: &[String],
    apply: bool,
) -> Result<Vec<Finding>> {
    let state = store.pipeline(pipeline).await?;
    let pending: Vec<CommitNumber> =
        state.open.iter().filter(|entry| entry.state == EntryState::Journalled).map(|entry| entry.n).collect();
    let mut all: Vec<String> = state.published.keys().chain(tables).cloned().collect();
    all.extend(state.open.iter().flat_map(longshore_core::commit::Entry::tables));
    all.sort();
    all.dedup();
    let marks = destination.open(&state.application, &all).await?;
    let mut findings = Vec::new();
    for (table, mark) in marks {
        let published = state.published.get(&table).copied();
        let Err(error) = check_mark(&table, mark.last, published, &pending) else { continue };
        let what = format!("{error} (the table holds {}, the store says {})", number(mark.last), number(published));
        let fix = match mark.last {
            Some(n) if mark.last > published => {
                if apply {
                    store.adopt_mark(pipeline, &table, n).await?;
                }
                format!(
                    "take commit {n} for the last one; files of the commits in between will be loaded again unless they are removed from the input"
                )
            }
            _ => {
                if apply {
                    store.forget_table(pipeline, &table).await?;
                }
                "forget what was landed in this table, so that its files are loaded again".to_owned()
            }
        };
        findings.push(Finding { table, what, fix, applied: apply });
    }
    Ok(findings)
}

fn number(n: Option<CommitNumber>) -> String {
    n.map_or_else(|| "no commit".to_owned(), |n| format!("commit {n}"))
}
