//! Ids of messages, for sources without positions.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use longshore_core::Result;
use longshore_core::commit::{Draft, EntryState};
use longshore_core::position::Covers;
use sqlx::PgConnection;

use super::PostgresStore;
use super::database::{in_time, query, query_as, query_scalar, text};
use super::journal::lock_pipeline;
use crate::error;
use crate::rows::{Failure, entry_state};

/// Ids are forgotten so many at a time, so that others do not wait long; those of one commit together.
const PORTION: usize = 20_000;

/// As many commits are looked at for a portion.
const COMMITS: i64 = 500;

/// Writes ids down that are not there yet; returns how many those are. The pipeline is locked.
pub(super) async fn add_ids(
    connection: &mut PgConnection,
    pipeline: i64,
    (n, at): (i64, DateTime<Utc>),
    scope: &str,
    ids: &[String],
) -> Result<u64, Failure> {
    const IDS: &str = "INSERT INTO message_ids (scope, n, id) SELECT $1, $2, id FROM unnest($3::bytea[]) AS new (id)
        ON CONFLICT (scope, id) DO NOTHING";
    const COMMIT: &str = "INSERT INTO id_commits (scope, at, n) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
    let scope = scope_row(connection, pipeline, scope).await?;
    // In the order of the index, so that each of its pages is touched once.
    let mut sorted: Vec<&[u8]> = ids.iter().map(String::as_bytes).collect();
    sorted.sort_unstable();
    let new = query(IDS).bind(scope).bind(n).bind(sorted).execute(&mut *connection).await?.rows_affected();
    query(COMMIT).bind(scope).bind(at).bind(n).execute(connection).await?;
    Ok(new)
}

async fn scope_row(connection: &mut PgConnection, pipeline: i64, scope: &str) -> Result<i64, Failure> {
    const KNOWN: &str = "SELECT id FROM scopes WHERE pipeline = $1 AND scope = $2";
    const NEW: &str = "INSERT INTO scopes (pipeline, scope) VALUES ($1, $2) RETURNING id";
    let known = query_scalar(KNOWN).bind(pipeline).bind(scope.as_bytes()).fetch_optional(&mut *connection).await?;
    match known {
        Some(id) => Ok(id),
        None => Ok(query_scalar(NEW).bind(pipeline).bind(scope.as_bytes()).fetch_one(connection).await?),
    }
}

/// Writes down the ids of a draft; refuses if one is there already, or twice in the draft.
pub(super) async fn take_ids(
    connection: &mut PgConnection,
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

/// Those that are journalled.
pub(super) async fn find_ids(
    connection: &mut PgConnection,
    pipeline: &str,
    scope: &str,
    ids: &[String],
) -> Result<BTreeMap<String, EntryState>, Failure> {
    // One by one in the index: a plan that reads all ids to find a few thousand would have to be kept from the planner else.
    const SQL: &str = "SELECT asked.id, e.state FROM pipelines p
        JOIN scopes s ON s.pipeline = p.id AND s.scope = $2
        CROSS JOIN unnest($3::bytea[]) AS asked (id)
        CROSS JOIN LATERAL (SELECT i.n FROM message_ids i WHERE i.scope = s.id AND i.id = asked.id OFFSET 0) AS known
        CROSS JOIN LATERAL (SELECT e.state FROM entries e WHERE e.pipeline = p.id AND e.n = known.n OFFSET 0) AS e
        WHERE p.name = $1";
    let asked: Vec<&[u8]> = ids.iter().map(String::as_bytes).collect();
    let query = query_as(SQL).bind(pipeline).bind(scope.as_bytes()).bind(asked);
    let rows: Vec<(Vec<u8>, i64)> = query.fetch_all(connection).await?;
    rows.into_iter().map(|(id, state)| Ok((text(id)?, entry_state(state)))).collect()
}

impl PostgresStore {
    /// Forgets ids until there are no old ones left.
    pub(super) async fn forget_old_ids(&self, pipeline: &str, scope: &str, before: DateTime<Utc>) -> Result<u64> {
        let mut forgotten = 0;
        loop {
            let mut write = self.database.begin().await?;
            let portion = in_time(forget_portion(&mut write, pipeline, scope, before)).await;
            match write.finish("forgetting ids in", portion).await? {
                None => return Ok(forgotten),
                Some(ids) => forgotten += ids,
            }
        }
    }
}

/// Forgets the ids of some commits; `None` if there are no such commits any more.
async fn forget_portion(
    connection: &mut PgConnection,
    pipeline: &str,
    scope: &str,
    before: DateTime<Utc>,
) -> Result<Option<u64>, Failure> {
    const OLD: &str = "SELECT s.id, c.at, c.n FROM scopes s
        JOIN id_commits c ON c.scope = s.id AND c.at < $3
        JOIN entries e ON e.pipeline = s.pipeline AND e.n = c.n AND e.state = 2
        WHERE s.pipeline = $1 AND s.scope = $2 ORDER BY c.at, c.n LIMIT $4";
    const FORGET: &str = "DELETE FROM message_ids WHERE scope = $1 AND id = ANY($2) AND n = $3";
    let Some(pipeline) = lock_pipeline(connection, pipeline).await? else { return Ok(None) };
    let query_old = query_as(OLD).bind(pipeline.id).bind(scope.as_bytes()).bind(before).bind(COMMITS);
    let commits: Vec<(i64, DateTime<Utc>, i64)> = query_old.fetch_all(&mut *connection).await?;
    if commits.is_empty() {
        return Ok(None);
    }
    let (mut seen, mut forgotten) = (0, 0);
    for (of, at, n) in commits {
        let mut draft = draft(connection, pipeline.id, n).await?;
        let is_of_scope = |covers: &mut Covers| matches!(covers, Covers::Ids { scope: name, .. } if name == scope);
        for covers in draft.covers.extract_if(.., is_of_scope) {
            let Covers::Ids { ids, .. } = covers else { continue };
            seen += ids.len();
            let ids: Vec<&[u8]> = ids.iter().map(String::as_bytes).collect();
            forgotten += query(FORGET).bind(of).bind(ids).bind(n).execute(&mut *connection).await?.rows_affected();
        }
        keep_draft(connection, pipeline.id, n, &draft).await?;
        query("DELETE FROM id_commits WHERE scope = $1 AND at = $2 AND n = $3")
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

async fn draft(connection: &mut PgConnection, pipeline: i64, n: i64) -> Result<Draft, Failure> {
    const SQL: &str = "SELECT draft FROM entries WHERE pipeline = $1 AND n = $2";
    let text: String = query_scalar(SQL).bind(pipeline).bind(n).fetch_one(connection).await?;
    Ok(serde_json::from_str(&text)?)
}

async fn keep_draft(connection: &mut PgConnection, pipeline: i64, n: i64, draft: &Draft) -> Result<(), Failure> {
    const SQL: &str = "UPDATE entries SET draft = $1 WHERE pipeline = $2 AND n = $3";
    query(SQL).bind(serde_json::to_string(draft)?).bind(pipeline).bind(n).execute(connection).await?;
    Ok(())
}
