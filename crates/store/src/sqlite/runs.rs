//! The history of runs: events are appended, never changed; a status is read off them.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use longshore_core::Result;
use longshore_core::event::RunEvent;
use longshore_core::store::{HistoryLine, Run, Runs};
use sqlx::SqliteConnection;

use super::SqliteStore;
use super::database::{from_nanos, list, now_nanos, to_nanos};
use super::journal::ensure_pipeline;
use crate::error;
use crate::history::{CANDIDATES, goes_on_after_finish, is_kept, new_run_id, summarise};
use crate::rows::{Failure, limit};

/// A run with its last event, and whether any event shows work.
const SELECT: &str = "SELECT r.id, r.pipeline, r.started_at,
    EXISTS (SELECT 1 FROM run_events w WHERE w.run = r.seq AND w.kind <> 'waiting'), e.at, e.event
    FROM runs r LEFT JOIN run_events e
    ON e.run = r.seq AND e.sequence = (SELECT max(m.sequence) FROM run_events m WHERE m.run = r.seq)";

type Row = (String, String, i64, i64, Option<i64>, Option<String>);

#[async_trait]
impl Runs for SqliteStore {
    async fn begin_run(&self, pipeline: &str) -> Result<String> {
        const SQL: &str = "INSERT INTO runs (id, pipeline, started_at) VALUES (?, ?, ?)";
        let mut write = self.database.begin().await?;
        let result = async {
            let id = new_run_id();
            sqlx::query(SQL).bind(&id).bind(pipeline).bind(now_nanos()).execute(&mut *write).await?;
            Ok(id)
        }
        .await;
        write.finish("registering a run in", result).await
    }

    async fn append_events(&self, run: &str, events: &[RunEvent]) -> Result<()> {
        let mut write = self.database.begin().await?;
        let result = append(&mut write, run, events).await;
        write.finish("writing the history in", result).await
    }

    async fn runs(&self, pipeline: Option<&str>, rows: usize) -> Result<Vec<Run>> {
        let mut read = self.database.read().await?;
        let result = find(&mut read, pipeline, rows).await;
        result.map_err(|failure| self.database.error("reading", failure))
    }

    async fn run_newest(&self, id: &str, lines: usize) -> Result<Option<(Run, Vec<HistoryLine>)>> {
        let mut read = self.database.read().await?;
        let result = one(&mut read, id, lines).await;
        result.map_err(|failure| self.database.error("reading", failure))
    }

    async fn first_served(&self, pipeline: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>> {
        const SQL: &str = "UPDATE pipelines SET first_served = coalesce(first_served, ?) WHERE id = ? RETURNING first_served";
        let mut write = self.database.begin().await?;
        let result = async {
            let id = ensure_pipeline(&mut write, pipeline).await?;
            let first: i64 = sqlx::query_scalar(SQL).bind(to_nanos(now)).bind(id).fetch_one(&mut *write).await?;
            Ok(from_nanos(first))
        }
        .await;
        write.finish("noting a pipeline in", result).await
    }

    async fn request_cancel(&self, run: &str) -> Result<()> {
        let mut write = self.database.begin().await?;
        let result = async {
            let done = sqlx::query("UPDATE runs SET cancel = 1 WHERE id = ?").bind(run).execute(&mut *write).await?;
            if done.rows_affected() == 0 {
                return Err(error::no_run(run).into());
            }
            Ok(())
        }
        .await;
        write.finish("cancelling a run in", result).await
    }

    async fn cancel_requested(&self, run: &str) -> Result<bool> {
        let cancel: Option<i64> = sqlx::query_scalar("SELECT cancel FROM runs WHERE id = ?")
            .bind(run)
            .fetch_optional(self.database.readers())
            .await
            .map_err(|error| self.database.error("reading", error.into()))?;
        Ok(cancel == Some(1))
    }
}

async fn append(connection: &mut SqliteConnection, run: &str, events: &[RunEvent]) -> Result<(), Failure> {
    const LAST: &str = "SELECT r.seq, e.sequence, e.kind FROM runs r LEFT JOIN run_events e ON e.run = r.seq
        WHERE r.id = ? ORDER BY e.sequence DESC LIMIT 1";
    const INSERT: &str = "INSERT INTO run_events (run, sequence, at, kind, event)
        SELECT ?, ? + key, ?, value ->> '$.event', value FROM json_each(?)";
    let row: Option<(i64, Option<i64>, Option<String>)> = sqlx::query_as(LAST).bind(run).fetch_optional(&mut *connection).await?;
    let Some((seq, last, kind)) = row else {
        return Err(error::no_run(run).into());
    };
    let events: Vec<&RunEvent> = events.iter().filter(|event| is_kept(event)).collect();
    if events.is_empty() {
        return Ok(());
    }
    if kind.as_deref() == Some("finished") || goes_on_after_finish(events.iter().copied()) {
        return Err(error::run_finished(run).into());
    }
    let query = sqlx::query(INSERT).bind(seq).bind(last.unwrap_or(0) + 1).bind(now_nanos());
    query.bind(list(&events)?).execute(connection).await?;
    Ok(())
}

async fn find(connection: &mut SqliteConnection, pipeline: Option<&str>, rows: usize) -> Result<Vec<Run>, Failure> {
    let mut query = sqlx::QueryBuilder::<sqlx::Sqlite>::new(SELECT);
    if let Some(pipeline) = pipeline {
        query.push(" WHERE r.pipeline = ").push_bind(pipeline);
    }
    query.push(" ORDER BY r.seq DESC LIMIT ").push_bind(limit(rows));
    let rows: Vec<Row> = query.build_query_as().fetch_all(connection).await?;
    rows.into_iter().map(to_run).collect()
}

async fn one(connection: &mut SqliteConnection, id: &str, lines: usize) -> Result<Option<(Run, Vec<HistoryLine>)>, Failure> {
    const IDS: &str = "SELECT id FROM runs WHERE id >= ? AND id < ? ORDER BY id LIMIT ?";
    const EVENTS: &str = "SELECT e.sequence, e.at, e.event FROM run_events e JOIN runs r ON r.seq = e.run
        WHERE r.id = ? ORDER BY e.sequence DESC LIMIT ?";
    let beginning = id.to_ascii_lowercase();
    if beginning.is_empty() {
        return Ok(None);
    }
    // Ids are hexadecimal, so nothing that begins with the text is behind this.
    let end = format!("{beginning}~");
    let query = sqlx::query_scalar(IDS).bind(&beginning).bind(&end).bind(limit(CANDIDATES));
    let ids: Vec<String> = query.fetch_all(&mut *connection).await?;
    let id = match ids.as_slice() {
        [] => return Ok(None),
        [id] => id,
        [id, ..] if *id == beginning => id,
        ids => return Err(error::run_ambiguous(&beginning, ids).into()),
    };
    let mut query = sqlx::QueryBuilder::<sqlx::Sqlite>::new(SELECT);
    query.push(" WHERE r.id = ").push_bind(id);
    let row: Row = query.build_query_as().fetch_one(&mut *connection).await?;
    let lines: Vec<(i64, i64, String)> = sqlx::query_as(EVENTS).bind(id).bind(limit(lines)).fetch_all(connection).await?;
    let history = lines
        .into_iter()
        .rev()
        .map(|(sequence, at, event)| Ok(HistoryLine { sequence, at: from_nanos(at), event: serde_json::from_str(&event)? }))
        .collect::<Result<Vec<_>, Failure>>()?;
    Ok(Some((to_run(row)?, history)))
}

fn to_run((id, pipeline, started_at, works, at, event): Row) -> Result<Run, Failure> {
    let last = match (at, event) {
        (Some(at), Some(event)) => Some((from_nanos(at), serde_json::from_str(&event)?)),
        _ => None,
    };
    Ok(summarise(id, pipeline, from_nanos(started_at), works != 0, last))
}
