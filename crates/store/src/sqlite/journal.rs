//! The journal: numbers, entries and positions. What completing leaves is in `complete.rs`.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use longshore_core::Result;
use longshore_core::commit::{Adoption, Application, CommitNumber, Completion, Draft, Entry, EntryState, Receipt};
use longshore_core::error::{Error, Kind, code};
use longshore_core::position::{Checkpoint, Covers, Delta, Partition, Position};
use longshore_core::store::{Journal, PipelineState, Writer};
use sqlx::SqliteConnection;

use super::database::{from_nanos, list, to_nanos};
use super::ids::take_ids;
use super::leases::check_epoch;
use super::workers::check_writer;
use super::{SqliteStore, complete, repair};
use crate::error;
use crate::rows::{Failure, decode_all, entry_state, limit};

/// Entries that are not acknowledged. The condition has to be written as the index has it.
pub(super) const OPEN_ENTRIES: &str =
    "SELECT n, state, amendment, at, draft FROM entries WHERE pipeline = ? AND state < 2 ORDER BY n";

/// The last commit published to each table.
pub(super) const PUBLISHED: &str = "SELECT table_name, n FROM published WHERE pipeline = ? ORDER BY table_name";

const PARKED: &str = "SELECT part FROM parked WHERE pipeline = ? ORDER BY n, table_name";

const ONE_PIPELINE: &str = "SELECT id, ledger, origin, last FROM pipelines WHERE name = ?";

pub(super) type EntryRow = (i64, i64, i64, i64, String);

#[async_trait]
impl Journal for SqliteStore {
    async fn pipeline(&self, name: &str) -> Result<PipelineState> {
        if let Some(state) = self.known_pipeline(name).await? {
            return Ok(state);
        }
        let mut write = self.database.begin().await?;
        let created = ensure_pipeline(&mut write, name).await;
        write.finish("adding a pipeline to", created).await?;
        self.known_pipeline(name)
            .await?
            .ok_or_else(|| Error::new(Kind::Bug, code::BUG, format!("pipeline {name} is gone as soon as it was created")))
    }

    async fn pipelines(&self) -> Result<Vec<String>> {
        sqlx::query_scalar("SELECT name FROM pipelines ORDER BY name")
            .fetch_all(self.database.readers())
            .await
            .map_err(|error| self.database.error("reading", error.into()))
    }

    async fn journal(&self, draft: Draft) -> Result<Entry> {
        let mut write = self.database.begin().await?;
        let result = journal(&mut write, draft).await;
        write.finish("journalling into", result).await
    }

    async fn amend(&self, n: CommitNumber, amendment: i64, draft: Draft) -> Result<Entry> {
        let mut write = self.database.begin().await?;
        let result = amend(&mut write, n, amendment, draft).await;
        write.finish("amending a commit in", result).await
    }

    async fn complete(&self, completion: Completion) -> Result<()> {
        let mut write = self.database.begin().await?;
        let result = complete::complete(&mut write, &completion).await;
        write.finish("completing a commit in", result).await
    }

    async fn unpark(&self, receipt: Receipt, epoch: i64) -> Result<()> {
        error::check_published(&receipt)?;
        let mut write = self.database.begin().await?;
        let result = complete::unpark(&mut write, &receipt, epoch).await;
        write.finish("publishing a parked part in", result).await
    }

    async fn states(&self, pipeline: &str, numbers: &[CommitNumber]) -> Result<BTreeMap<CommitNumber, EntryState>> {
        const SQL: &str = "SELECT n, state FROM entries
            WHERE pipeline = (SELECT id FROM pipelines WHERE name = ?) AND n IN (SELECT value FROM json_each(?))";
        let rows: Result<Vec<(i64, i64)>, Failure> =
            async { Ok(sqlx::query_as(SQL).bind(pipeline).bind(list(numbers)?).fetch_all(self.database.readers()).await?) }.await;
        let rows = rows.map_err(|failure| self.database.error("reading", failure))?;
        Ok(rows.into_iter().map(|(n, state)| (n, entry_state(state))).collect())
    }

    async fn known_ids(&self, pipeline: &str, scope: &str, ids: &[String]) -> Result<BTreeMap<String, EntryState>> {
        self.find_ids(pipeline, scope, ids).await.map_err(|failure| self.database.error("reading", failure))
    }

    async fn forget_ids(&self, pipeline: &str, scope: &str, before: DateTime<Utc>) -> Result<u64> {
        self.forget_old_ids(pipeline, scope, before).await
    }

    async fn acknowledged(&self, pipeline: &str, n: CommitNumber) -> Result<()> {
        let mut write = self.database.begin().await?;
        let result = complete::acknowledged(&mut write, pipeline, n).await;
        write.finish("acknowledging a commit in", result).await
    }

    async fn position(&self, pipeline: &str, partition: &Partition) -> Result<Option<Position>> {
        const SQL: &str =
            "SELECT position FROM positions WHERE pipeline = (SELECT id FROM pipelines WHERE name = ?) AND partition = ?";
        let position: Option<String> = sqlx::query_scalar(SQL)
            .bind(pipeline)
            .bind(&partition.0)
            .fetch_optional(self.database.readers())
            .await
            .map_err(|error| self.database.error("reading", error.into()))?;
        Ok(position.map(Position))
    }

    async fn receipts(&self, run: Option<&str>, rows: usize) -> Result<Vec<Receipt>> {
        let query = match run {
            None => sqlx::query_scalar("SELECT receipt FROM receipts ORDER BY seq DESC LIMIT ?"),
            Some(run) => sqlx::query_scalar("SELECT receipt FROM receipts WHERE run = ? ORDER BY seq DESC LIMIT ?").bind(run),
        };
        let texts: Result<Vec<String>, _> = query.bind(limit(rows)).fetch_all(self.database.readers()).await;
        let receipts = texts.map_err(Failure::from).and_then(|texts| decode_all(&texts));
        receipts.map_err(|failure| self.database.error("reading", failure))
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

impl SqliteStore {
    async fn known_pipeline(&self, name: &str) -> Result<Option<PipelineState>> {
        let mut read = self.database.read().await?;
        let state = self.read_pipeline(&mut read, name).await;
        state.map_err(|failure| self.database.error("reading", failure))
    }

    async fn read_pipeline(&self, read: &mut SqliteConnection, name: &str) -> Result<Option<PipelineState>, Failure> {
        let row: Option<(i64, String, Option<String>, i64)> =
            sqlx::query_as(ONE_PIPELINE).bind(name).fetch_optional(&mut *read).await?;
        let Some((id, ledger, origin, last)) = row else { return Ok(None) };
        let rows: Vec<EntryRow> = sqlx::query_as(OPEN_ENTRIES).bind(id).fetch_all(&mut *read).await?;
        let open = rows.into_iter().map(to_entry).collect::<Result<Vec<_>, _>>()?;
        let published: Vec<(String, i64)> = sqlx::query_as(PUBLISHED).bind(id).fetch_all(&mut *read).await?;
        let parked: Vec<String> = sqlx::query_scalar(PARKED).bind(id).fetch_all(read).await?;
        let application = Application { pipeline: name.to_owned(), ledger, store: origin.unwrap_or_else(|| self.id.clone()) };
        Ok(Some(PipelineState {
            application,
            last,
            open,
            published: published.into_iter().collect(),
            parked: decode_all(&parked)?,
        }))
    }
}

/// The row of a pipeline, which is made if it is new.
pub(super) async fn ensure_pipeline(connection: &mut SqliteConnection, name: &str) -> Result<i64, Failure> {
    if let Some(id) = pipeline_id(connection, name).await? {
        return Ok(id);
    }
    let id = sqlx::query_scalar("INSERT INTO pipelines (name, ledger) VALUES (?, ?) RETURNING id")
        .bind(name)
        .bind(uuid::Uuid::new_v4().to_string())
        .fetch_one(connection)
        .await?;
    Ok(id)
}

/// The row of a pipeline.
pub(super) async fn pipeline_id(connection: &mut SqliteConnection, name: &str) -> Result<Option<i64>, Failure> {
    Ok(sqlx::query_scalar("SELECT id FROM pipelines WHERE name = ?").bind(name).fetch_optional(connection).await?)
}

/// One entry, with the row of its pipeline.
pub(super) async fn entry(connection: &mut SqliteConnection, pipeline: &str, n: CommitNumber) -> Result<(i64, Entry), Failure> {
    const SQL: &str = "SELECT pipeline, n, state, amendment, at, draft FROM entries
        WHERE pipeline = (SELECT id FROM pipelines WHERE name = ?) AND n = ?";
    let row: Option<(i64, i64, i64, i64, i64, String)> =
        sqlx::query_as(SQL).bind(pipeline).bind(n).fetch_optional(connection).await?;
    let Some((id, n, state, amendment, at, draft)) = row else {
        return Err(error::not_journalled(pipeline, n).into());
    };
    Ok((id, to_entry((n, state, amendment, at, draft))?))
}

fn to_entry((n, state, amendment, at, draft): EntryRow) -> Result<Entry, Failure> {
    Ok(Entry { n, draft: serde_json::from_str(&draft)?, amendment, state: entry_state(state), at: from_nanos(at) })
}

/// Step 2. Everything that can refuse comes before the entry is written; an error rolls all of it back.
async fn journal(connection: &mut SqliteConnection, draft: Draft) -> Result<Entry, Failure> {
    const SQL: &str = "SELECT p.id, p.last, (SELECT e.n FROM entries e WHERE e.pipeline = p.id AND e.token = ?)
        FROM pipelines p WHERE p.name = ?";
    let row: Option<(i64, i64, Option<i64>)> =
        sqlx::query_as(SQL).bind(&draft.token).bind(&draft.pipeline).fetch_optional(&mut *connection).await?;
    let Some((pipeline, last, known)) = row else {
        return Err(error::writer_gone(&draft.pipeline, draft.writer, None).into());
    };
    if let Some(n) = known {
        // The answer to the first call was lost. What has become of its writer since then does not matter.
        return Ok(entry(connection, &draft.pipeline, n).await?.1);
    }
    check_writer(connection, &draft.pipeline, draft.writer).await?;
    let n = last + 1;
    let at = from_nanos(to_nanos(Utc::now()));
    take_attempts(connection, pipeline, n, &draft).await?;
    move_positions(connection, pipeline, &draft).await?;
    take_ids(connection, pipeline, (n, at), &draft).await?;
    reserve_dead_letters(connection, pipeline, n, &draft).await?;

    sqlx::query("INSERT INTO entries (pipeline, n, token, state, amendment, at, draft) VALUES (?, ?, ?, 0, 0, ?, ?)")
        .bind(pipeline)
        .bind(n)
        .bind(&draft.token)
        .bind(to_nanos(at))
        .bind(serde_json::to_string(&draft)?)
        .execute(&mut *connection)
        .await?;
    sqlx::query("UPDATE pipelines SET last = ? WHERE id = ?").bind(n).bind(pipeline).execute(connection).await?;
    Ok(Entry { n, draft, amendment: 0, state: EntryState::Journalled, at })
}

/// Takes the attempts for this entry; refuses if one of them is not alive.
async fn take_attempts(connection: &mut SqliteConnection, pipeline: i64, n: i64, draft: &Draft) -> Result<(), Failure> {
    const SQL: &str = "UPDATE attempts SET n = ?
        WHERE id IN (SELECT value FROM json_each(?)) AND pipeline = ? AND dead = 0 AND n IS NULL";
    let wanted: BTreeSet<&str> = draft.attempts.iter().map(|attempt| attempt.0.as_str()).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let alive = sqlx::query(SQL).bind(n).bind(list(&wanted)?).bind(pipeline).execute(connection).await?.rows_affected();
    if alive != wanted.len() as u64 {
        return Err(error::attempt_dead(draft, wanted.len(), alive as usize).into());
    }
    Ok(())
}

/// Moves the positions of all deltas, in order; refuses if one does not fit.
async fn move_positions(connection: &mut SqliteConnection, pipeline: i64, draft: &Draft) -> Result<(), Failure> {
    const READ: &str =
        "SELECT partition, position FROM positions WHERE pipeline = ? AND partition IN (SELECT value FROM json_each(?))";
    const WRITE: &str = "INSERT INTO positions (pipeline, partition, position)
        SELECT ?, value ->> 0, value ->> 1 FROM json_each(?) WHERE true
        ON CONFLICT (pipeline, partition) DO UPDATE SET position = excluded.position";
    let deltas: Vec<Delta> = draft
        .covers
        .iter()
        .flat_map(|covers| match covers {
            Covers::Deltas(deltas) => deltas.as_slice(),
            Covers::Ids { .. } => &[],
        })
        .cloned()
        .collect();
    if deltas.is_empty() {
        return Ok(());
    }
    let touched: BTreeSet<&str> = deltas.iter().map(|delta| delta.partition.0.as_str()).collect();
    let rows: Vec<(String, String)> =
        sqlx::query_as(READ).bind(pipeline).bind(list(&touched)?).fetch_all(&mut *connection).await?;
    let mut checkpoint: Checkpoint =
        rows.into_iter().map(|(partition, position)| (Partition(partition), Position(position))).collect();
    checkpoint.apply(&deltas)?;
    let moved: Vec<_> = checkpoint.iter().collect();
    sqlx::query(WRITE).bind(pipeline).bind(list(&moved)?).execute(connection).await?;
    Ok(())
}

/// Keeps the dead letters that this entry replays from other replays, until `complete` marks them.
async fn reserve_dead_letters(connection: &mut SqliteConnection, pipeline: i64, n: i64, draft: &Draft) -> Result<(), Failure> {
    const SQL: &str = "UPDATE dead_letters SET replaying = ?
        WHERE id IN (SELECT value FROM json_each(?)) AND pipeline = ? AND state = 0 AND replaying IS NULL";
    let wanted: BTreeSet<&str> = draft.replayed.iter().map(String::as_str).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let open = sqlx::query(SQL).bind(n).bind(list(&wanted)?).bind(pipeline).execute(connection).await?.rows_affected();
    if open != wanted.len() as u64 {
        return Err(error::dead_letters_not_open(draft, open as usize, wanted.len()).into());
    }
    Ok(())
}

async fn amend(connection: &mut SqliteConnection, n: CommitNumber, amendment: i64, draft: Draft) -> Result<Entry, Failure> {
    let (id, mut entry) = entry(connection, &draft.pipeline, n).await?;
    if entry.amendment == amendment + 1 && entry.draft.attempts == draft.attempts {
        // The answer to the first call was lost.
        return Ok(entry);
    }
    match draft.writer {
        Writer::Lease(epoch) => check_epoch(connection, &draft.pipeline, epoch).await?,
        Writer::Worker { worker } => return Err(error::amended_by_worker(&draft.pipeline, worker).into()),
    };
    if entry.state != EntryState::Journalled || entry.amendment != amendment {
        return Err(error::amended_elsewhere(&draft.pipeline, n, amendment).into());
    }
    let mut new = draft.clone();
    new.attempts.retain(|attempt| !entry.draft.attempts.contains(attempt));
    take_attempts(connection, id, n, &new).await?;
    entry.amendment += 1;
    entry.draft = Draft { covers: entry.draft.covers, token: entry.draft.token, ..draft };
    sqlx::query("UPDATE entries SET amendment = ?, draft = ? WHERE pipeline = ? AND n = ?")
        .bind(entry.amendment)
        .bind(serde_json::to_string(&entry.draft)?)
        .bind(id)
        .bind(n)
        .execute(connection)
        .await?;
    Ok(entry)
}
