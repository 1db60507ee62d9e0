//! The journal: numbers, entries and positions. What completing leaves is in `complete.rs`.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use longshore_core::Result;
use longshore_core::commit::{Adoption, Application, CommitNumber, Completion, Draft, Entry, EntryState, Receipt};
use longshore_core::error::{Error, Kind, code};
use longshore_core::position::{Checkpoint, Covers, Delta, Partition, Position};
use longshore_core::store::{Journal, PipelineState, Writer};
use sqlx::PgConnection;

use super::database::{in_time, query, query_as, query_scalar, text};
use super::ids::{find_ids, take_ids};
use super::leases::check_epoch;
use super::workers::check_writer;
use super::{PostgresStore, complete, repair};
use crate::error;
use crate::rows::{Failure, decode_all, entry_state, limit};

type EntryRow = (i64, i64, i64, DateTime<Utc>, String);

#[async_trait]
impl Journal for PostgresStore {
    async fn pipeline(&self, name: &str) -> Result<PipelineState> {
        if let Some(state) = self.known_pipeline(name).await? {
            return Ok(state);
        }
        let mut write = self.database.begin().await?;
        let created = in_time(ensure_pipeline(&mut write, name)).await;
        write.finish("adding a pipeline to", created).await?;
        self.known_pipeline(name)
            .await?
            .ok_or_else(|| Error::new(Kind::Bug, code::BUG, format!("pipeline {name} is gone as soon as it was created")))
    }

    async fn pipelines(&self) -> Result<Vec<String>> {
        let mut read = self.database.read().await?;
        let names =
            in_time(async { Ok(query_scalar("SELECT name FROM pipelines ORDER BY name").fetch_all(&mut *read).await?) }).await;
        read.finish("reading", names).await
    }

    async fn journal(&self, draft: Draft) -> Result<Entry> {
        let mut write = self.database.begin().await?;
        let result = in_time(journal(&mut write, draft)).await;
        write.finish("journalling into", result).await
    }

    async fn amend(&self, n: CommitNumber, amendment: i64, draft: Draft) -> Result<Entry> {
        let mut write = self.database.begin().await?;
        let result = in_time(amend(&mut write, n, amendment, draft)).await;
        write.finish("amending a commit in", result).await
    }

    async fn complete(&self, completion: Completion) -> Result<()> {
        let mut write = self.database.begin().await?;
        let result = in_time(complete::complete(&mut write, &completion)).await;
        write.finish("completing a commit in", result).await
    }

    async fn unpark(&self, receipt: Receipt, epoch: i64) -> Result<()> {
        error::check_published(&receipt)?;
        let mut write = self.database.begin().await?;
        let result = in_time(complete::unpark(&mut write, &receipt, epoch)).await;
        write.finish("publishing a parked part in", result).await
    }

    async fn states(&self, pipeline: &str, numbers: &[CommitNumber]) -> Result<BTreeMap<CommitNumber, EntryState>> {
        const SQL: &str =
            "SELECT n, state FROM entries WHERE pipeline = (SELECT id FROM pipelines WHERE name = $1) AND n = ANY($2)";
        let mut read = self.database.read().await?;
        let rows = in_time(async { Ok(query_as(SQL).bind(pipeline).bind(numbers).fetch_all(&mut *read).await?) }).await;
        let rows: Vec<(i64, i64)> = read.finish("reading", rows).await?;
        Ok(rows.into_iter().map(|(n, state)| (n, entry_state(state))).collect())
    }

    async fn known_ids(&self, pipeline: &str, scope: &str, ids: &[String]) -> Result<BTreeMap<String, EntryState>> {
        let mut read = self.database.read().await?;
        let known = in_time(find_ids(&mut read, pipeline, scope, ids)).await;
        read.finish("reading", known).await
    }

    async fn forget_ids(&self, pipeline: &str, scope: &str, before: DateTime<Utc>) -> Result<u64> {
        self.forget_old_ids(pipeline, scope, before).await
    }

    async fn acknowledged(&self, pipeline: &str, n: CommitNumber) -> Result<()> {
        let mut write = self.database.begin().await?;
        let result = in_time(complete::acknowledged(&mut write, pipeline, n)).await;
        write.finish("acknowledging a commit in", result).await
    }

    async fn position(&self, pipeline: &str, partition: &Partition) -> Result<Option<Position>> {
        const SQL: &str =
            "SELECT position FROM positions WHERE pipeline = (SELECT id FROM pipelines WHERE name = $1) AND partition = $2";
        let mut read = self.database.read().await?;
        let position = in_time(async {
            let bytes: Option<Vec<u8>> =
                query_scalar(SQL).bind(pipeline).bind(partition.0.as_bytes()).fetch_optional(&mut *read).await?;
            bytes.map(text).transpose()
        })
        .await;
        Ok(read.finish("reading", position).await?.map(Position))
    }

    async fn receipts(&self, run: Option<&str>, rows: usize) -> Result<Vec<Receipt>> {
        let sql = match run {
            None => "SELECT receipt FROM receipts WHERE $1 IS NULL ORDER BY seq DESC LIMIT $2",
            Some(_) => "SELECT receipt FROM receipts WHERE run = $1 ORDER BY seq DESC LIMIT $2",
        };
        let mut read = self.database.read().await?;
        let receipts = in_time(async {
            let texts: Vec<String> = query_scalar(sql).bind(run).bind(limit(rows)).fetch_all(&mut *read).await?;
            decode_all(&texts)
        })
        .await;
        read.finish("reading", receipts).await
    }

    async fn adopt(&self, pipeline: &str, adoption: &Adoption) -> Result<()> {
        error::check_marks(pipeline, adoption)?;
        let mut write = self.database.begin().await?;
        let result = repair::adopt(&mut write, pipeline, adoption).await;
        write.finish("repairing", result).await
    }

    async fn forget_table(&self, pipeline: &str, table: &str) -> Result<()> {
        let mut write = self.database.begin().await?;
        let result = repair::forget_table(&mut write, pipeline, table).await;
        write.finish("repairing", result).await
    }

    async fn give_up_parked(&self, pipeline: &str, table: &str) -> Result<()> {
        let mut write = self.database.begin().await?;
        let result = repair::give_up_parked(&mut write, pipeline, table).await;
        write.finish("repairing", result).await
    }
}

impl PostgresStore {
    async fn known_pipeline(&self, name: &str) -> Result<Option<PipelineState>> {
        let mut read = self.database.read().await?;
        let state = in_time(self.read_pipeline(&mut read, name)).await;
        read.finish("reading", state).await
    }

    async fn read_pipeline(&self, read: &mut PgConnection, name: &str) -> Result<Option<PipelineState>, Failure> {
        const PIPELINE: &str = "SELECT id, ledger, origin, last FROM pipelines WHERE name = $1";
        // The condition has to be written as the index has it.
        const OPEN: &str = "SELECT n, state, amendment, at, draft FROM entries WHERE pipeline = $1 AND state < 2 ORDER BY n";
        const PARKED: &str = "SELECT part FROM parked WHERE pipeline = $1 ORDER BY n, table_name";
        let row: Option<(i64, String, Option<String>, i64)> = query_as(PIPELINE).bind(name).fetch_optional(&mut *read).await?;
        let Some((id, ledger, origin, last)) = row else { return Ok(None) };
        let rows: Vec<EntryRow> = query_as(OPEN).bind(id).fetch_all(&mut *read).await?;
        let open = rows.into_iter().map(to_entry).collect::<Result<Vec<_>, _>>()?;
        let published: Vec<(String, i64)> =
            query_as("SELECT table_name, n FROM published WHERE pipeline = $1").bind(id).fetch_all(&mut *read).await?;
        let parked: Vec<String> = query_scalar(PARKED).bind(id).fetch_all(read).await?;
        let application = Application { pipeline: name.to_owned(), ledger, store: origin.unwrap_or_else(|| self.id.clone()) };
        let published = published.into_iter().collect();
        Ok(Some(PipelineState { application, last, open, published, parked: decode_all(&parked)? }))
    }
}

/// A pipeline, locked until the transaction ends: whoever writes for it comes one after the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Locked {
    /// Its row.
    pub(super) id: i64,
    /// The last number given.
    last: i64,
    /// By the server's clock.
    now: DateTime<Utc>,
}

/// Waits for a pipeline, if it is there.
///
/// Statements that come after see what whoever held it before has committed. This one itself does not, but for the row: so
/// nothing else is asked in it. (`FOR NO KEY UPDATE` keeps writers apart and lets rows refer to it meanwhile.)
pub(super) async fn lock_pipeline(connection: &mut PgConnection, name: &str) -> Result<Option<Locked>, Failure> {
    const SQL: &str = "SELECT id, last, clock_timestamp() FROM pipelines WHERE name = $1 FOR NO KEY UPDATE";
    let row: Option<(i64, i64, DateTime<Utc>)> = query_as(SQL).bind(name).fetch_optional(connection).await?;
    Ok(row.map(|(id, last, now)| Locked { id, last, now }))
}

/// Waits for a pipeline, which is made if it is new.
pub(super) async fn ensure_pipeline(connection: &mut PgConnection, name: &str) -> Result<Locked, Failure> {
    if let Some(pipeline) = lock_pipeline(connection, name).await? {
        return Ok(pipeline);
    }
    query("INSERT INTO pipelines (name, ledger) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING")
        .bind(name)
        .bind(uuid::Uuid::new_v4().to_string())
        .execute(&mut *connection)
        .await?;
    let made = lock_pipeline(connection, name).await?;
    Ok(made.ok_or_else(|| Error::new(Kind::Bug, code::BUG, format!("pipeline {name} is gone as soon as it was created")))?)
}

/// One entry.
pub(super) async fn entry(connection: &mut PgConnection, pipeline: i64, n: CommitNumber) -> Result<Option<Entry>, Failure> {
    const SQL: &str = "SELECT n, state, amendment, at, draft FROM entries WHERE pipeline = $1 AND n = $2";
    let row: Option<EntryRow> = query_as(SQL).bind(pipeline).bind(n).fetch_optional(connection).await?;
    row.map(to_entry).transpose()
}

fn to_entry((n, state, amendment, at, draft): EntryRow) -> Result<Entry, Failure> {
    Ok(Entry { n, draft: serde_json::from_str(&draft)?, amendment, state: entry_state(state), at })
}

/// Step 2. Everything that can refuse comes before the entry is written; an error rolls all of it back.
async fn journal(connection: &mut PgConnection, draft: Draft) -> Result<Entry, Failure> {
    const SQL: &str = "INSERT INTO entries (pipeline, n, token, state, amendment, at, draft) VALUES ($1, $2, $3, 0, 0, $4, $5)";
    let Some(Locked { id, last, now: at }) = lock_pipeline(connection, &draft.pipeline).await? else {
        return Err(error::writer_gone(&draft.pipeline, draft.writer, None).into());
    };
    if let Some(known) = by_token(connection, id, &draft.token).await? {
        // The answer to the first call was lost. What has become of its writer since then does not matter.
        return Ok(known);
    }
    check_writer(connection, id, &draft.pipeline, draft.writer).await?;
    let n = last + 1;
    take_attempts(connection, id, n, &draft).await?;
    move_positions(connection, id, &draft).await?;
    take_ids(connection, id, (n, at), &draft).await?;
    reserve_dead_letters(connection, id, n, &draft).await?;

    let query_entry = query(SQL).bind(id).bind(n).bind(&draft.token).bind(at).bind(serde_json::to_string(&draft)?);
    query_entry.execute(&mut *connection).await?;
    query("UPDATE pipelines SET last = $1 WHERE id = $2").bind(n).bind(id).execute(connection).await?;
    Ok(Entry { n, draft, amendment: 0, state: EntryState::Journalled, at })
}

async fn by_token(connection: &mut PgConnection, pipeline: i64, token: &str) -> Result<Option<Entry>, Failure> {
    const SQL: &str = "SELECT n, state, amendment, at, draft FROM entries WHERE pipeline = $1 AND token = $2";
    let row: Option<EntryRow> = query_as(SQL).bind(pipeline).bind(token).fetch_optional(connection).await?;
    row.map(to_entry).transpose()
}

/// Takes the attempts for this entry; refuses if one of them is not alive.
async fn take_attempts(connection: &mut PgConnection, pipeline: i64, n: i64, draft: &Draft) -> Result<(), Failure> {
    const SQL: &str = "UPDATE attempts SET n = $1 WHERE id = ANY($2) AND pipeline = $3 AND NOT dead AND n IS NULL";
    let wanted: BTreeSet<&str> = draft.attempts.iter().map(|attempt| attempt.0.as_str()).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let ids: Vec<&str> = wanted.iter().copied().collect();
    let alive = query(SQL).bind(n).bind(ids).bind(pipeline).execute(connection).await?.rows_affected();
    if alive != wanted.len() as u64 {
        return Err(error::attempt_dead(draft, wanted.len(), alive as usize).into());
    }
    Ok(())
}

/// Moves the positions of all deltas, in order; refuses if one does not fit.
async fn move_positions(connection: &mut PgConnection, pipeline: i64, draft: &Draft) -> Result<(), Failure> {
    let deltas: Vec<Delta> = draft.covers.iter().flat_map(deltas).cloned().collect();
    if deltas.is_empty() {
        return Ok(());
    }
    let mut checkpoint = positions(connection, pipeline, deltas.iter().map(|delta| &delta.partition)).await?;
    checkpoint.apply(&deltas)?;
    keep_positions(connection, pipeline, &checkpoint).await
}

/// The ranges of partitions among what is covered.
pub(super) fn deltas(covers: &Covers) -> &[Delta] {
    match covers {
        Covers::Deltas(deltas) => deltas,
        Covers::Ids { .. } => &[],
    }
}

/// Where these partitions are.
pub(super) async fn positions(
    connection: &mut PgConnection,
    pipeline: i64,
    partitions: impl Iterator<Item = &Partition>,
) -> Result<Checkpoint, Failure> {
    const SQL: &str = "SELECT partition, position FROM positions WHERE pipeline = $1 AND partition = ANY($2)";
    let touched: BTreeSet<&[u8]> = partitions.map(|partition| partition.0.as_bytes()).collect();
    let touched: Vec<&[u8]> = touched.into_iter().collect();
    let rows: Vec<(Vec<u8>, Vec<u8>)> = query_as(SQL).bind(pipeline).bind(touched).fetch_all(connection).await?;
    let read = |(partition, position)| Ok((Partition(text(partition)?), Position(text(position)?)));
    rows.into_iter().map(read).collect()
}

pub(super) async fn keep_positions(connection: &mut PgConnection, pipeline: i64, checkpoint: &Checkpoint) -> Result<(), Failure> {
    const SQL: &str = "INSERT INTO positions (pipeline, partition, position)
        SELECT $1, partition, position FROM unnest($2::bytea[], $3::bytea[]) AS moved (partition, position)
        ON CONFLICT (pipeline, partition) DO UPDATE SET position = excluded.position";
    let (partitions, positions): (Vec<&[u8]>, Vec<&[u8]>) =
        checkpoint.iter().map(|(partition, position)| (partition.0.as_bytes(), position.0.as_bytes())).unzip();
    query(SQL).bind(pipeline).bind(partitions).bind(positions).execute(connection).await?;
    Ok(())
}

/// Keeps the dead letters that this entry replays from other replays, until `complete` marks them.
async fn reserve_dead_letters(connection: &mut PgConnection, pipeline: i64, n: i64, draft: &Draft) -> Result<(), Failure> {
    const SQL: &str = "UPDATE dead_letters SET replaying = $1
        WHERE id = ANY($2) AND pipeline = $3 AND state = 0 AND replaying IS NULL";
    let wanted: BTreeSet<&str> = draft.replayed.iter().map(String::as_str).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let ids: Vec<&str> = wanted.iter().copied().collect();
    let open = query(SQL).bind(n).bind(ids).bind(pipeline).execute(connection).await?.rows_affected();
    if open != wanted.len() as u64 {
        return Err(error::dead_letters_not_open(draft, open as usize, wanted.len()).into());
    }
    Ok(())
}

async fn amend(connection: &mut PgConnection, n: CommitNumber, amendment: i64, draft: Draft) -> Result<Entry, Failure> {
    let unknown = || error::not_journalled(&draft.pipeline, n);
    let id = lock_pipeline(connection, &draft.pipeline).await?.ok_or_else(unknown)?.id;
    let mut entry = entry(connection, id, n).await?.ok_or_else(unknown)?;
    if entry.amendment == amendment + 1 && entry.draft.attempts == draft.attempts {
        // The answer to the first call was lost.
        return Ok(entry);
    }
    match draft.writer {
        Writer::Lease(epoch) => check_epoch(connection, id, &draft.pipeline, epoch).await?,
        Writer::Worker { worker } => return Err(error::amended_by_worker(&draft.pipeline, worker).into()),
    }
    if entry.state != EntryState::Journalled || entry.amendment != amendment {
        return Err(error::amended_elsewhere(&draft.pipeline, n, amendment).into());
    }
    let mut new = draft.clone();
    new.attempts.retain(|attempt| !entry.draft.attempts.contains(attempt));
    take_attempts(connection, id, n, &new).await?;
    entry.amendment += 1;
    entry.draft = Draft { covers: entry.draft.covers, token: entry.draft.token, ..draft };
    query("UPDATE entries SET amendment = $1, draft = $2 WHERE pipeline = $3 AND n = $4")
        .bind(entry.amendment)
        .bind(serde_json::to_string(&entry.draft)?)
        .bind(id)
        .bind(n)
        .execute(connection)
        .await?;
    Ok(entry)
}
