//! The history of runs: events are appended, never changed; a status is read off them.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use longshore_core::Result;
use longshore_core::event::RunEvent;
use longshore_core::store::{HistoryLine, Run, Runs};
use sqlx::PgConnection;

use super::PostgresStore;
use super::database::{in_time, query, query_as, query_scalar};
use super::journal::ensure_pipeline;
use crate::error;
use crate::history::{CANDIDATES, goes_on_after_finish, is_kept, new_run_id, summarise};
use crate::rows::{Failure, limit};

/// A run with whether any event shows work, and its last event.
type Row = (String, String, DateTime<Utc>, bool, Option<DateTime<Utc>>, Option<String>);

#[async_trait]
impl Runs for PostgresStore {
    async fn begin_run(&self, pipeline: &str) -> Result<String> {
        const SQL: &str = "INSERT INTO runs (id, pipeline, started_at) VALUES ($1, $2, clock_timestamp())";
        let mut write = self.database.begin().await?;
        let result = in_time(async {
            let id = new_run_id();
            query(SQL).bind(&id).bind(pipeline).execute(&mut *write).await?;
            Ok(id)
        })
        .await;
        write.finish("registering a run in", result).await
    }

    async fn append_events(&self, run: &str, events: &[RunEvent]) -> Result<()> {
        let mut write = self.database.begin().await?;
        let result = in_time(append(&mut write, run, events)).await;
        write.finish("writing the history in", result).await
    }

    async fn runs(&self, pipeline: Option<&str>, rows: usize) -> Result<Vec<Run>> {
        let mut read = self.database.read().await?;
        let result = in_time(find(&mut read, pipeline, rows)).await;
        read.finish("reading", result).await
    }

    async fn run_newest(&self, id: &str, lines: usize) -> Result<Option<(Run, Vec<HistoryLine>)>> {
        let mut read = self.database.read().await?;
        let result = in_time(one(&mut read, id, lines)).await;
        read.finish("reading", result).await
    }

    async fn first_served(&self, pipeline: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>> {
        const SQL: &str = "UPDATE pipelines SET first_served = coalesce(first_served, $1) WHERE id = $2 RETURNING first_served";
        let mut write = self.database.begin().await?;
        let result = in_time(async {
            let id = ensure_pipeline(&mut write, pipeline).await?.id;
            Ok(query_scalar(SQL).bind(now).bind(id).fetch_one(&mut *write).await?)
        })
        .await;
        write.finish("noting a pipeline in", result).await
    }

    async fn request_cancel(&self, run: &str) -> Result<()> {
        let mut write = self.database.begin().await?;
        let result = in_time(async {
            let done = query("UPDATE runs SET cancel = true WHERE id = $1").bind(run).execute(&mut *write).await?;
            if done.rows_affected() == 0 {
                return Err(error::no_run(run).into());
            }
            Ok(())
        })
        .await;
        write.finish("cancelling a run in", result).await
    }

    async fn cancel_requested(&self, run: &str) -> Result<bool> {
        let mut read = self.database.read().await?;
        let cancel = in_time(async {
            let cancel: Option<bool> =
                query_scalar("SELECT cancel FROM runs WHERE id = $1").bind(run).fetch_optional(&mut *read).await?;
            Ok(cancel == Some(true))
        })
        .await;
        read.finish("reading", cancel).await
    }
}

async fn append(connection: &mut PgConnection, run: &str, events: &[RunEvent]) -> Result<(), Failure> {
    // Locked, so that what comes at the same time gets other numbers.
    const RUN: &str = "SELECT seq FROM runs WHERE id = $1 FOR NO KEY UPDATE";
    const LAST: &str = "SELECT sequence, kind FROM run_events WHERE run = $1 ORDER BY sequence DESC LIMIT 1";
    const INSERT: &str = "INSERT INTO run_events (run, sequence, at, kind, event)
        SELECT $1, $2 + place, statement_timestamp(), kind, event
        FROM unnest($3::text[], $4::text[]) WITH ORDINALITY AS new (kind, event, place)";
    let seq: Option<i64> = query_scalar(RUN).bind(run).fetch_optional(&mut *connection).await?;
    let seq = seq.ok_or_else(|| error::no_run(run))?;
    let last: Option<(i64, String)> = query_as(LAST).bind(seq).fetch_optional(&mut *connection).await?;
    let events: Vec<&RunEvent> = events.iter().filter(|event| is_kept(event)).collect();
    if events.is_empty() {
        return Ok(());
    }
    if last.as_ref().is_some_and(|(_, kind)| kind == "finished") || goes_on_after_finish(events.iter().copied()) {
        return Err(error::run_finished(run).into());
    }
    let (mut kinds, mut texts) = (Vec::with_capacity(events.len()), Vec::with_capacity(events.len()));
    for event in events {
        let value = serde_json::to_value(event)?;
        kinds.push(value["event"].as_str().unwrap_or_default().to_owned());
        texts.push(value.to_string());
    }
    let last = last.map_or(0, |(sequence, _)| sequence);
    query(INSERT).bind(seq).bind(last).bind(kinds).bind(texts).execute(connection).await?;
    Ok(())
}

async fn find(connection: &mut PgConnection, pipeline: Option<&str>, rows: usize) -> Result<Vec<Run>, Failure> {
    const SQL: &str = "SELECT r.id, r.pipeline, r.started_at,
        EXISTS (SELECT 1 FROM run_events w WHERE w.run = r.seq AND w.kind <> 'waiting'), e.at, e.event
        FROM (SELECT * FROM runs WHERE $1::text IS NULL OR pipeline = $1 ORDER BY seq DESC LIMIT $2) r
        LEFT JOIN LATERAL (SELECT at, event FROM run_events WHERE run = r.seq ORDER BY sequence DESC LIMIT 1) e ON true
        ORDER BY r.seq DESC";
    let rows: Vec<Row> = query_as(SQL).bind(pipeline).bind(limit(rows)).fetch_all(connection).await?;
    rows.into_iter().map(to_run).collect()
}

async fn one(connection: &mut PgConnection, id: &str, lines: usize) -> Result<Option<(Run, Vec<HistoryLine>)>, Failure> {
    const IDS: &str = "SELECT id FROM runs WHERE id >= $1 AND id < $2 ORDER BY id LIMIT $3";
    const RUN: &str = "SELECT r.id, r.pipeline, r.started_at,
        EXISTS (SELECT 1 FROM run_events w WHERE w.run = r.seq AND w.kind <> 'waiting'), e.at, e.event
        FROM runs r
        LEFT JOIN LATERAL (SELECT at, event FROM run_events WHERE run = r.seq ORDER BY sequence DESC LIMIT 1) e ON true
        WHERE r.id = $1";
    const EVENTS: &str = "SELECT e.sequence, e.at, e.event FROM run_events e JOIN runs r ON r.seq = e.run
        WHERE r.id = $1 ORDER BY e.sequence DESC LIMIT $2";
    let beginning = id.to_ascii_lowercase();
    if beginning.is_empty() {
        return Ok(None);
    }
    // Ids are hexadecimal, so nothing that begins with the text is behind this.
    let end = format!("{beginning}~");
    let query = query_scalar(IDS).bind(&beginning).bind(&end).bind(limit(CANDIDATES));
    let ids: Vec<String> = query.fetch_all(&mut *connection).await?;
    let id = match ids.as_slice() {
        [] => return Ok(None),
        [id] => id,
        [id, ..] if *id == beginning => id,
        ids => return Err(error::run_ambiguous(&beginning, ids).into()),
    };
    let row: Row = query_as(RUN).bind(id).fetch_one(&mut *connection).await?;
    let query = query_as(EVENTS).bind(id).bind(limit(lines));
    let lines: Vec<(i64, DateTime<Utc>, String)> = query.fetch_all(connection).await?;
    let history = lines
        .into_iter()
        .rev()
        .map(|(sequence, at, event)| Ok(HistoryLine { sequence, at, event: serde_json::from_str(&event)? }))
        .collect::<Result<Vec<_>, Failure>>()?;
    Ok(Some((to_run(row)?, history)))
}

fn to_run((id, pipeline, started_at, works, at, event): Row) -> Result<Run, Failure> {
    let last = match (at, event) {
        (Some(at), Some(event)) => Some((at, serde_json::from_str(&event)?)),
        _ => None,
    };
    Ok(summarise(id, pipeline, started_at, works, last))
}
