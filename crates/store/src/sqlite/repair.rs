//! The two repairs: what a destination says is taken over, what is gone from it is forgotten.

use std::collections::BTreeMap;

use longshore_core::commit::{Adoption, CommitNumber, Entry, Landing};
use longshore_core::position::{Covers, Partition};
use sqlx::SqliteConnection;

use super::complete::add_landings;
use super::database::{list, to_nanos};
use super::ids::add_ids;
use super::journal::{ensure_pipeline, pipeline_id};

use crate::rows::Failure;

/// Takes over marks, landings and positions, and the identity of a pipeline whose store is lost.
pub(super) async fn adopt(connection: &mut SqliteConnection, pipeline: &str, adoption: &Adoption) -> Result<(), Failure> {
    const MARK: &str = "INSERT INTO published (pipeline, table_name, n) VALUES (?, ?, ?)
        ON CONFLICT (pipeline, table_name) DO UPDATE SET n = excluded.n";
    const POSITIONS: &str = "INSERT INTO positions (pipeline, partition, position)
        SELECT ?, value ->> 'partition', value ->> 'to' FROM json_each(?) WHERE true
        ON CONFLICT (pipeline, partition) DO UPDATE SET position = max(position, excluded.position)";
    let id = ensure_pipeline(connection, pipeline).await?;
    if let Some(application) = &adoption.application {
        sqlx::query("UPDATE pipelines SET ledger = ?, origin = ? WHERE id = ?")
            .bind(&application.ledger)
            .bind(&application.store)
            .bind(id)
            .execute(&mut *connection)
            .await?;
    }
    for (table, n) in &adoption.marks {
        sqlx::query("UPDATE pipelines SET last = max(last, ?) WHERE id = ?").bind(n).bind(id).execute(&mut *connection).await?;
        sqlx::query(MARK).bind(id).bind(table).bind(n).execute(&mut *connection).await?;
    }
    let mut by_commit: BTreeMap<CommitNumber, Vec<Landing>> = BTreeMap::new();
    for landing in &adoption.landings {
        by_commit.entry(landing.n).or_default().push(landing.clone());
    }
    for (n, landings) in by_commit {
        add_landings(connection, id, n, &landings).await?;
    }
    for entry in &adoption.entries {
        adopt_entry(connection, id, entry).await?;
    }
    let covers = adoption.covers.iter().chain(adoption.entries.iter().flat_map(|entry| &entry.draft.covers));
    for covers in covers {
        if let Covers::Deltas(deltas) = covers {
            sqlx::query(POSITIONS).bind(id).bind(list(deltas)?).execute(&mut *connection).await?;
        }
    }
    Ok(())
}

/// Puts an entry back as it was journalled, its ids with it.
async fn adopt_entry(connection: &mut SqliteConnection, pipeline: i64, entry: &Entry) -> Result<(), Failure> {
    const ENTRY: &str = "INSERT INTO entries (pipeline, n, token, state, amendment, at, draft) VALUES (?, ?, ?, 0, ?, ?, ?)
        ON CONFLICT DO NOTHING";
    sqlx::query("UPDATE pipelines SET last = max(last, ?) WHERE id = ?")
        .bind(entry.n)
        .bind(pipeline)
        .execute(&mut *connection)
        .await?;
    sqlx::query(ENTRY)
        .bind(pipeline)
        .bind(entry.n)
        .bind(&entry.draft.token)
        .bind(entry.amendment)
        .bind(to_nanos(entry.at))
        .bind(serde_json::to_string(&entry.draft)?)
        .execute(&mut *connection)
        .await?;
    for covers in &entry.draft.covers {
        let Covers::Ids { scope, ids } = covers else { continue };
        add_ids(connection, pipeline, (entry.n, entry.at), scope, ids).await?;
    }
    Ok(())
}

/// Forgets what was published to a table.
pub(super) async fn forget_table(connection: &mut SqliteConnection, pipeline: &str, table: &str) -> Result<(), Failure> {
    // A file's position goes with the lines, since it would refuse the file for ever.
    const POSITIONS: &str = "DELETE FROM positions WHERE pipeline = ?1 AND substr(partition, 1, length(?3)) = ?3 AND partition IN
        (SELECT delta.value ->> 'partition' FROM receipts r, json_each(r.receipt, '$.covers') covers,
            json_each(covers.value, '$.deltas') delta
         WHERE r.pipeline = ?1 AND r.table_name = ?2)";
    const WHOLE: &str = "DELETE FROM landings WHERE pipeline = ?1 AND table_name = ?3
        AND n IN (SELECT n FROM receipts WHERE pipeline = ?1 AND table_name = ?2)";
    let Some(id) = pipeline_id(connection, pipeline).await? else { return Ok(()) };
    for sql in [
        "DELETE FROM published WHERE pipeline = ? AND table_name = ?",
        "DELETE FROM landings WHERE pipeline = ? AND table_name = ?",
        "DELETE FROM record_paths WHERE pipeline = ? AND table_name = ?",
    ] {
        sqlx::query(sql).bind(id).bind(table).execute(&mut *connection).await?;
    }
    for (sql, last) in [(POSITIONS, Partition::FILE), (WHOLE, Landing::WHOLE)] {
        sqlx::query(sql).bind(id).bind(table).bind(last).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Gives up what waits for a table.
pub(super) async fn give_up_parked(connection: &mut SqliteConnection, pipeline: &str, table: &str) -> Result<(), Failure> {
    let Some(id) = pipeline_id(connection, pipeline).await? else { return Ok(()) };
    sqlx::query("DELETE FROM parked WHERE pipeline = ? AND table_name = ?").bind(id).bind(table).execute(connection).await?;
    Ok(())
}
