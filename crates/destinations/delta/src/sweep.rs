//! `sweep`: what attempts staged that came to nothing is removed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use longshore_core::Result;
use longshore_core::commit::{AttemptId, DEAD_LETTERS};

use crate::log::LOG;
use crate::partition::path_of;
use crate::payload::PAYLOADS;
use crate::stage::{attempt_name, staged_by};
use crate::storage::{Storage, TEMPORARY};
use crate::table::Table;

/// A temporary file of a log this old belongs to nobody any more.
const ABANDONED: Duration = Duration::from_secs(3600);

/// Removes data files and payloads of these attempts, but none that a table's log names; returns the bytes freed. Blocks.
pub(crate) fn sweep(storage: &Storage, dataset: &str, attempts: &[AttemptId]) -> Result<u64> {
    let attempts: BTreeSet<String> = attempts.iter().map(attempt_name).collect();
    let mut freed = 0;
    // Table -> its files that may go: path below the table, size.
    let mut files: BTreeMap<String, Vec<(String, u64)>> = BTreeMap::new();
    let mut emptied: BTreeSet<String> = BTreeSet::new();
    for file in storage.list(dataset, true)? {
        let below = file.path.strip_prefix(&format!("{dataset}/")).unwrap_or(&file.path);
        let Some((table, inner)) = below.split_once('/') else { continue };
        let name = inner.rsplit('/').next().unwrap_or(inner);
        let parts: Vec<&str> = inner.split('/').collect();
        match parts.as_slice() {
            [LOG, ..] if name.starts_with(TEMPORARY) && file.age > ABANDONED => storage.delete(&file.path)?,
            [LOG, ..] => {}
            [PAYLOADS, attempt, _] if table == DEAD_LETTERS && attempts.contains(*attempt) => {
                storage.delete(&file.path)?;
                freed += file.size;
                emptied.insert(format!("{dataset}/{table}/{PAYLOADS}/{attempt}"));
            }
            _ if staged_by(name, &attempts) => files.entry(table.to_owned()).or_default().push((inner.to_owned(), file.size)),
            _ => {}
        }
    }
    for (table, files) in files {
        let folder = format!("{dataset}/{table}");
        let named: BTreeSet<String> = Table::new(folder.clone()).named_files(storage)?.iter().map(|path| path_of(path)).collect();
        for (path, size) in files {
            if named.contains(&path) {
                tracing::warn!(table, path, "a file of a dead attempt is part of its table and stays");
                continue;
            }
            storage.delete(&format!("{folder}/{path}"))?;
            // Folders of partitions stay: somebody may be about to write into one.
            freed += size;
        }
    }
    emptied.iter().try_for_each(|folder| storage.delete_empty_dir(folder))?;
    Ok(freed)
}
