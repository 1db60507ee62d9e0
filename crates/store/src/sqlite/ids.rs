//! Ids of messages, for sources without positions.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use longshore_core::Result;
use longshore_core::commit::{Draft, EntryState};
use longshore_core::position::Covers;
use sqlx::SqliteConnection;

use super::SqliteStore;
use super::database::{list, to_nanos};
use crate::error;
use crate::rows::{Failure, entry_state};

/// Ids are forgotten so many at a time, so that others do not wait long; those of one commit together.
const PORTION: usize = 20_000;

/// As many commits are looked at for a portion.
const COMMITS: i64 = 500;

// Crossed joins keep their order. Left to itself SQLite goes over the whole list for each id that it has.

/// Those of a list that are known.
pub(super) const KNOWN: &str = "SELECT i.id, e.state FROM pipelines p
    CROSS JOIN scopes s ON s.pipeline = p.id AND s.scope = ?
    CROSS JOIN json_each(?) asked
    CROSS JOIN message_ids i ON i.scope = s.id AND i.id = asked.value
    CROSS JOIN entries e ON e.pipeline = p.id AND e.n = i.n
    WHERE p.name = ?";

/// Commits whose ids may be forgotten, the oldest first.
pub(super) const OLD: &str = "SELECT s.id, e.seq, c.at, c.n FROM pipelines p
    CROSS JOIN scopes s ON s.pipeline = p.id AND s.scope = ?
    CROSS JOIN id_commits c ON c.scope = s.id AND c.at < ?
    CROSS JOIN entries e ON e.pipeline = p.id AND e.n = c.n AND e.state = 2
    WHERE p.name = ? ORDER BY c.at, c.n LIMIT ?";

/// Writes ids down that are not there yet; returns how many those are.
pub(super) async fn add_ids(
    connection: &mut SqliteConnection,
    pipeline: i64,
    (n, at): (i64, DateTime<Utc>),
    scope: &str,
    ids: &[String],
) -> Result<u64, Failure> {
    const SCOPE: &str = "INSERT INTO scopes (pipeline, scope) VALUES (?, ?)
        ON CONFLICT (pipeline, scope) DO UPDATE SET scope = excluded.scope RETURNING id";
    const IDS: &str = "INSERT INTO message_ids (scope, id, n) SELECT ?, value, ? FROM json_each(?) WHERE true
        ON CONFLICT (scope, id) DO NOTHING";
    const COMMIT: &str = "INSERT INTO id_commits (scope, at, n) VALUES (?, ?, ?) ON CONFLICT DO NOTHING";
    let scope: i64 = sqlx::query_scalar(SCOPE).bind(pipeline).bind(scope).fetch_one(&mut *connection).await?;
    // In the order of the tree, so that each of its pages is touched once.
    let mut sorted: Vec<&str> = ids.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    let new = sqlx::query(IDS).bind(scope).bind(n).bind(list(&sorted)?).execute(&mut *connection).await?.rows_affected();
    sqlx::query(COMMIT).bind(scope).bind(to_nanos(at)).bind(n).execute(connection).await?;
    Ok(new)
}

/// Writes down the ids of a draft; refuses if one is there already, or twice in the draft.
pub(super) async fn take_ids(
    connection: &mut SqliteConnection,
    pipeline: i64,
    commit: (i64, DateTime<Utc>),
    draft: &Draft,
) -> Result<(), Failure> {
    for covers in &draft.covers {
        let Covers::Ids { scope, ids } = covers else { continue };
        let free = add_ids(connection, pipeline, commit, scope, ids).await?;
        if free != ids.len() as u64 {
            return Err(error::ids_taken(draft, scope, ids.len() - free as usize, ids.len()).into());
        }
    }
    Ok(())
}

impl SqliteStore {
    /// Those that are journalled.
    pub(super) async fn find_ids(
        &self,
        pipeline: &str,
        scope: &str,
        ids: &[String],
    ) -> Result<BTreeMap<String, EntryState>, Failure> {
        let query = sqlx::query_as(KNOWN).bind(scope).bind(list(ids)?).bind(pipeline);
        let rows: Vec<(String, i64)> = query.fetch_all(self.database.readers()).await?;
        Ok(rows.into_iter().map(|(id, state)| (id, entry_state(state))).collect())
    }

    /// Forgets ids until there are no old ones left.
    pub(super) async fn forget_old_ids(&self, pipeline: &str, scope: &str, before: DateTime<Utc>) -> Result<u64> {
        let mut forgotten = 0;
        loop {
            let mut write = self.database.begin().await?;
            let portion = forget_portion(&mut write, pipeline, scope, to_nanos(before)).await;
            match write.finish("forgetting ids in", portion).await? {
                None => return Ok(forgotten),
                Some(ids) => forgotten += ids,
            }
        }
    }
}

/// Forgets the ids of some commits; `None` if there are no such commits any more.
async fn forget_portion(
    connection: &mut SqliteConnection,
    pipeline: &str,
    scope: &str,
    before: i64,
) -> Result<Option<u64>, Failure> {
    const FORGET: &str = "DELETE FROM message_ids WHERE scope = ? AND id IN (SELECT value FROM json_each(?)) AND n = ?";
    let query = sqlx::query_as(OLD).bind(scope).bind(before).bind(pipeline).bind(COMMITS);
    let commits: Vec<(i64, i64, i64, i64)> = query.fetch_all(&mut *connection).await?;
    if commits.is_empty() {
        return Ok(None);
    }
    let (mut seen, mut forgotten) = (0, 0);
    for (of, seq, at, n) in commits {
        let mut draft = draft(connection, seq).await?;
        let is_of_scope = |covers: &mut Covers| matches!(covers, Covers::Ids { scope: name, .. } if name == scope);
        for covers in draft.covers.extract_if(.., is_of_scope) {
            let Covers::Ids { ids, .. } = covers else { continue };
            seen += ids.len();
            let query = sqlx::query(FORGET).bind(of).bind(list(&ids)?).bind(n);
            forgotten += query.execute(&mut *connection).await?.rows_affected();
        }
        sqlx::query("UPDATE entries SET draft = ? WHERE seq = ?")
            .bind(serde_json::to_string(&draft)?)
            .bind(seq)
            .execute(&mut *connection)
            .await?;
        sqlx::query("DELETE FROM id_commits WHERE scope = ? AND at = ? AND n = ?")
            .bind(of)
            .bind(at)
            .bind(n)
            .execute(&mut *connection)
            .await?;
        if seen >= PORTION {
            break;
        }
    }
    Ok(Some(forgotten))
}

async fn draft(connection: &mut SqliteConnection, seq: i64) -> Result<Draft, Failure> {
    let text: String = sqlx::query_scalar("SELECT draft FROM entries WHERE seq = ?").bind(seq).fetch_one(connection).await?;
    Ok(serde_json::from_str(&text)?)
}
