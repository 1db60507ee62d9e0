//! The two repairs: what a destination says is taken over, what is gone from it is forgotten.

use std::collections::{BTreeMap, BTreeSet};

use futures::TryStreamExt;
use longshore_core::commit::{Adoption, CommitNumber, Entry, Landing, Receipt};
use longshore_core::position::{Covers, Delta, Partition};
use sqlx::PgConnection;

use super::complete::add_landings;
use super::database::{query, query_scalar};
use super::ids::add_ids;
use super::journal::{deltas, ensure_pipeline, keep_positions, lock_pipeline, positions};
use crate::rows::Failure;

/// Takes over marks, landings and positions, and the identity of a pipeline whose store is lost.
pub(super) async fn adopt(connection: &mut PgConnection, pipeline: &str, adoption: &Adoption) -> Result<(), Failure> {
    const MARK: &str = "INSERT INTO published (pipeline, table_name, n) VALUES ($1, $2, $3)
        ON CONFLICT (pipeline, table_name) DO UPDATE SET n = excluded.n";
    let id = ensure_pipeline(connection, pipeline).await?.id;
    if let Some(application) = &adoption.application {
        query("UPDATE pipelines SET ledger = $1, origin = $2 WHERE id = $3")
            .bind(&application.ledger)
            .bind(&application.store)
            .bind(id)
            .execute(&mut *connection)
            .await?;
    }
    for (table, n) in &adoption.marks {
        raise_last(connection, id, *n).await?;
        query(MARK).bind(id).bind(table).bind(n).execute(&mut *connection).await?;
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
    let covered: Vec<&Delta> = covers.flat_map(deltas).collect();
    let mut checkpoint = positions(connection, id, covered.iter().map(|delta| &delta.partition)).await?;
    for delta in covered {
        checkpoint.advance(&delta.partition, &delta.to);
    }
    keep_positions(connection, id, &checkpoint).await
}

/// Puts an entry back as it was journalled, its ids with it.
async fn adopt_entry(connection: &mut PgConnection, pipeline: i64, entry: &Entry) -> Result<(), Failure> {
    const ENTRY: &str = "INSERT INTO entries (pipeline, n, token, state, amendment, at, draft) VALUES ($1, $2, $3, 0, $4, $5, $6)
        ON CONFLICT DO NOTHING";
    raise_last(connection, pipeline, entry.n).await?;
    query(ENTRY)
        .bind(pipeline)
        .bind(entry.n)
        .bind(&entry.draft.token)
        .bind(entry.amendment)
        .bind(entry.at)
        .bind(serde_json::to_string(&entry.draft)?)
        .execute(&mut *connection)
        .await?;
    for covers in &entry.draft.covers {
        let Covers::Ids { scope, ids } = covers else { continue };
        add_ids(connection, pipeline, (entry.n, entry.at), scope, ids).await?;
    }
    Ok(())
}

async fn raise_last(connection: &mut PgConnection, pipeline: i64, n: CommitNumber) -> Result<(), Failure> {
    query("UPDATE pipelines SET last = greatest(last, $1) WHERE id = $2").bind(n).bind(pipeline).execute(connection).await?;
    Ok(())
}

/// Forgets what was published to a table.
pub(super) async fn forget_table(connection: &mut PgConnection, pipeline: &str, table: &str) -> Result<(), Failure> {
    const WHOLE: &str = "DELETE FROM landings WHERE pipeline = $1 AND table_name = $3
        AND n IN (SELECT n FROM receipts WHERE pipeline = $1 AND table_name = $2)";
    let Some(locked) = lock_pipeline(connection, pipeline).await? else { return Ok(()) };
    let id = locked.id;
    for sql in [
        "DELETE FROM published WHERE pipeline = $1 AND table_name = $2",
        "DELETE FROM landings WHERE pipeline = $1 AND table_name = $2",
        "DELETE FROM record_paths WHERE pipeline = $1 AND table_name = $2",
    ] {
        query(sql).bind(id).bind(table).execute(&mut *connection).await?;
    }
    query(WHOLE).bind(id).bind(table).bind(Landing::WHOLE).execute(&mut *connection).await?;
    // A file's position goes with the lines, since it would refuse the file for ever.
    let files = files_of(connection, id, table).await?;
    let files: Vec<&[u8]> = files.iter().map(String::as_bytes).collect();
    query("DELETE FROM positions WHERE pipeline = $1 AND partition = ANY($2)").bind(id).bind(files).execute(connection).await?;
    Ok(())
}

/// Gives up what waits for a table.
pub(super) async fn give_up_parked(connection: &mut PgConnection, pipeline: &str, table: &str) -> Result<(), Failure> {
    let Some(locked) = lock_pipeline(connection, pipeline).await? else { return Ok(()) };
    query("DELETE FROM parked WHERE pipeline = $1 AND table_name = $2").bind(locked.id).bind(table).execute(connection).await?;
    Ok(())
}

/// The partitions of files that rows of a table came from.
async fn files_of(connection: &mut PgConnection, pipeline: i64, table: &str) -> Result<BTreeSet<String>, Failure> {
    const SQL: &str = "SELECT receipt FROM receipts WHERE pipeline = $1 AND table_name = $2";
    let mut files = BTreeSet::new();
    let mut texts = query_scalar::<String>(SQL).bind(pipeline).bind(table).fetch(connection);
    while let Some(text) = texts.try_next().await? {
        let receipt: Receipt = serde_json::from_str(&text)?;
        let partitions = receipt.covers.iter().flat_map(deltas).map(|delta| &delta.partition.0);
        files.extend(partitions.filter(|partition| partition.starts_with(Partition::FILE)).cloned());
    }
    Ok(files)
}
