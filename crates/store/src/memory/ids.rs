//! Ids of messages in memory.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use longshore_core::Result;
use longshore_core::commit::{CommitNumber, Draft, EntryState};
use longshore_core::position::Covers;

use super::Pipeline;
use crate::error;

impl Pipeline {
    /// The ids of a draft, all of them free.
    pub(super) fn new_ids(&self, draft: &Draft) -> Result<BTreeSet<(String, String)>> {
        let mut new = BTreeSet::new();
        for covers in &draft.covers {
            let Covers::Ids { scope, ids } = covers else { continue };
            let mut free = 0;
            for id in ids {
                let key = (scope.clone(), id.clone());
                free += usize::from(!self.ids.contains_key(&key) && new.insert(key));
            }
            if free != ids.len() {
                return Err(error::ids_taken(draft, scope, ids.len() - free, ids.len()));
            }
        }
        Ok(new)
    }

    /// Those that are known, each with the state of its commit.
    pub(super) fn known_ids(&self, scope: &str, ids: &[String]) -> BTreeMap<String, EntryState> {
        let known = |id: &String| {
            let n = self.ids.get(&(scope.to_owned(), id.clone()))?;
            Some((id.clone(), self.entries.get(n)?.state))
        };
        ids.iter().filter_map(known).collect()
    }

    /// Forgets those of acknowledged commits that were journalled before this time; returns how many.
    pub(super) fn forget_ids(&mut self, scope: &str, before: DateTime<Utc>) -> u64 {
        let old: BTreeSet<CommitNumber> = self.acknowledged.iter().filter(|(_, at)| **at < before).map(|(n, _)| *n).collect();
        let kept = self.ids.len();
        self.ids.retain(|(of, _), n| of != scope || !old.contains(n));
        (kept - self.ids.len()) as u64
    }
}
