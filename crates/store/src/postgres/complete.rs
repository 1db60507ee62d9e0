//! What follows the journal: completing and acknowledging.

use std::collections::BTreeMap;

use longshore_core::commit::{CommitNumber, Completion, Draft, Entry, EntryState, Landing, Receipt};
use sqlx::PgConnection;

use super::attempts::{letter_columns, texts};
use super::database::{query, query_scalar};
use super::journal::{entry, lock_pipeline};
use super::leases::check_epoch;
use crate::error;
use crate::rows::Failure;

/// Step 4.
pub(super) async fn complete(connection: &mut PgConnection, completion: &Completion) -> Result<(), Failure> {
    let (pipeline, n) = (completion.pipeline.as_str(), completion.n);
    let (id, entry) = locked_entry(connection, pipeline, n).await?;
    if entry.state != EntryState::Journalled {
        return Ok(());
    }
    check_epoch(connection, id, pipeline, completion.epoch).await?;
    for table in entry.tables() {
        if !completion.receipts.iter().any(|receipt| receipt.table == table) {
            return Err(error::receipt_missing(pipeline, n, &table).into());
        }
    }
    add_receipts(connection, id, completion).await?;
    park(connection, id, &entry, completion).await?;
    add_landings(connection, id, n, &entry.draft.landings).await?;
    add_dead_letters(connection, id, n, &entry.draft).await?;
    if !entry.draft.replayed.is_empty() {
        query("UPDATE dead_letters SET state = 1 WHERE id = ANY($1) AND pipeline = $2")
            .bind(&entry.draft.replayed)
            .bind(id)
            .execute(&mut *connection)
            .await?;
    }
    query("UPDATE entries SET state = 1 WHERE pipeline = $1 AND n = $2").bind(id).bind(n).execute(connection).await?;
    Ok(())
}

/// An entry and the row of its pipeline, which is locked.
async fn locked_entry(connection: &mut PgConnection, pipeline: &str, n: CommitNumber) -> Result<(i64, Entry), Failure> {
    let unknown = || error::not_journalled(pipeline, n);
    let id = lock_pipeline(connection, pipeline).await?.ok_or_else(unknown)?.id;
    Ok((id, entry(connection, id, n).await?.ok_or_else(unknown)?))
}

async fn add_receipts(connection: &mut PgConnection, pipeline: i64, completion: &Completion) -> Result<(), Failure> {
    const SQL: &str = "INSERT INTO receipts (pipeline, n, table_name, run, receipt)
        SELECT $1, $2, table_name, run, receipt FROM unnest($3::text[], $4::text[], $5::text[]) AS new (table_name, run, receipt)
        ON CONFLICT (pipeline, n, table_name) DO NOTHING";
    let receipts = &completion.receipts;
    if receipts.is_empty() {
        return Ok(());
    }
    let tables: Vec<&str> = receipts.iter().map(|receipt| receipt.table.as_str()).collect();
    let runs: Vec<&str> = receipts.iter().map(|receipt| receipt.run.as_str()).collect();
    let kept: Vec<String> = receipts.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
    let insert = query(SQL).bind(pipeline).bind(completion.n).bind(tables).bind(runs).bind(kept);
    insert.execute(&mut *connection).await?;
    let published: Vec<&str> =
        receipts.iter().filter(|receipt| receipt.parked.is_none()).map(|receipt| receipt.table.as_str()).collect();
    publish(connection, pipeline, completion.n, &published).await
}

/// Marks move forward only.
async fn publish(connection: &mut PgConnection, pipeline: i64, n: CommitNumber, tables: &[&str]) -> Result<(), Failure> {
    const SQL: &str = "INSERT INTO published (pipeline, table_name, n)
        SELECT DISTINCT $1::bigint, name, $2::bigint FROM unnest($3::text[]) AS name
        ON CONFLICT (pipeline, table_name) DO UPDATE SET n = greatest(published.n, excluded.n)";
    if !tables.is_empty() {
        query(SQL).bind(pipeline).bind(n).bind(tables).execute(connection).await?;
    }
    Ok(())
}

/// Keeps the parts that their tables do not take yet.
async fn park(connection: &mut PgConnection, pipeline: i64, entry: &Entry, completion: &Completion) -> Result<(), Failure> {
    const SQL: &str = "INSERT INTO parked (pipeline, n, table_name, part) VALUES ($1, $2, $3, $4)";
    for receipt in completion.receipts.iter().filter(|receipt| receipt.parked.is_some()) {
        let part = serde_json::to_string(&entry.park(receipt.clone()))?;
        query(SQL).bind(pipeline).bind(entry.n).bind(&receipt.table).bind(part).execute(&mut *connection).await?;
    }
    Ok(())
}

/// A part is published now. One that is not parked was published before.
pub(super) async fn unpark(connection: &mut PgConnection, receipt: &Receipt, epoch: i64) -> Result<(), Failure> {
    const IS_PARKED: &str = "SELECT n FROM parked WHERE pipeline = $1 AND n = $2 AND table_name = $3";
    const TAKE: &str = "DELETE FROM parked WHERE pipeline = $1 AND n = $2 AND table_name = $3";
    const RECEIPT: &str = "UPDATE receipts SET run = $1, receipt = $2 WHERE pipeline = $3 AND n = $4 AND table_name = $5";
    let (n, table) = (receipt.n, receipt.table.as_str());
    let Some(locked) = lock_pipeline(connection, &receipt.pipeline).await? else { return Ok(()) };
    let id = locked.id;
    let parked: Option<i64> = query_scalar(IS_PARKED).bind(id).bind(n).bind(table).fetch_optional(&mut *connection).await?;
    if parked.is_none() {
        return Ok(());
    }
    check_epoch(connection, id, &receipt.pipeline, epoch).await?;
    query(TAKE).bind(id).bind(n).bind(table).execute(&mut *connection).await?;
    let text = serde_json::to_string(receipt)?;
    query(RECEIPT).bind(&receipt.run).bind(text).bind(id).bind(n).bind(table).execute(&mut *connection).await?;
    publish(connection, id, n, &[table]).await
}

/// A late landing does not replace a newer one.
pub(super) async fn add_landings(
    connection: &mut PgConnection,
    pipeline: i64,
    n: i64,
    landings: &[Landing],
) -> Result<(), Failure> {
    const LANDINGS: &str = "INSERT INTO landings (pipeline, address, table_name, digest, n, landing)
        SELECT $1, address, table_name, digest, $2, landing
        FROM unnest($3::text[], $4::text[], $5::text[], $6::text[]) AS new (address, table_name, digest, landing)
        ON CONFLICT (pipeline, address, table_name) DO UPDATE
        SET digest = excluded.digest, n = excluded.n, landing = excluded.landing WHERE excluded.n >= landings.n";
    const PATHS: &str = "INSERT INTO record_paths (pipeline, table_name, paths, n, place)
        SELECT $1, table_name, paths, $2, place
        FROM unnest($3::text[], $4::text[], $5::bigint[]) AS new (table_name, paths, place)
        ON CONFLICT (pipeline, table_name, paths) DO UPDATE
        SET n = excluded.n, place = excluded.place WHERE excluded.n >= record_paths.n";
    if landings.is_empty() {
        return Ok(());
    }
    // One statement changes a row once at most: of two lines for one file and table the later counts.
    let mut lines: BTreeMap<(&str, &str), &Landing> = BTreeMap::new();
    let mut used: BTreeMap<(&str, String), i64> = BTreeMap::new();
    for (place, landing) in (0..).zip(landings) {
        lines.insert((&landing.address, &landing.table), landing);
        if let Some(records) = &landing.records {
            used.insert((&landing.table, records.to_string()), place);
        }
    }
    let (addresses, tables): (Vec<&str>, Vec<&str>) = lines.keys().copied().unzip();
    let digests: Vec<&str> = lines.values().map(|landing| landing.digest.as_str()).collect();
    let kept = lines.values().map(|landing| serde_json::to_string(&Landing { n, ..(*landing).clone() }));
    let kept: Vec<String> = kept.collect::<Result<_, _>>()?;
    let insert = query(LANDINGS).bind(pipeline).bind(n).bind(addresses).bind(tables).bind(digests).bind(kept);
    insert.execute(&mut *connection).await?;
    if !used.is_empty() {
        let tables: Vec<&str> = used.keys().map(|(table, _)| *table).collect();
        let paths: Vec<&str> = used.keys().map(|(_, paths)| paths.as_str()).collect();
        let places: Vec<i64> = used.values().copied().collect();
        query(PATHS).bind(pipeline).bind(n).bind(tables).bind(paths).bind(places).execute(connection).await?;
    }
    Ok(())
}

async fn add_dead_letters(connection: &mut PgConnection, pipeline: i64, n: i64, draft: &Draft) -> Result<(), Failure> {
    const KEPT: &str = "INSERT INTO dead_letters (pipeline, n, run, at, id, code, letter)
        SELECT $1, $2, $3, statement_timestamp(), id, code, letter FROM attempt_letters WHERE attempt = ANY($4) ORDER BY seq
        ON CONFLICT (id, pipeline) DO NOTHING";
    const SQL: &str = "INSERT INTO dead_letters (pipeline, n, run, at, id, code, letter)
        SELECT $1, $2, $3, statement_timestamp(), id, code, letter
        FROM unnest($4::text[], $5::text[], $6::text[]) AS new (id, code, letter)
        ON CONFLICT (id, pipeline) DO NOTHING";
    let attempts = texts(&draft.attempts);
    let kept = query(KEPT).bind(pipeline).bind(n).bind(&draft.run).bind(&attempts);
    kept.execute(&mut *connection).await?;
    query("DELETE FROM attempt_letters WHERE attempt = ANY($1)").bind(&attempts).execute(&mut *connection).await?;
    if draft.dead_letters.is_empty() {
        return Ok(());
    }
    let (ids, codes, letters) = letter_columns(&draft.dead_letters)?;
    let insert = query(SQL).bind(pipeline).bind(n).bind(&draft.run).bind(ids).bind(codes).bind(letters);
    insert.execute(connection).await?;
    Ok(())
}

/// Step 5 is done: the entry shrinks to what nothing else holds, and its attempts need no sweep any more.
pub(super) async fn acknowledged(connection: &mut PgConnection, pipeline: &str, n: CommitNumber) -> Result<(), Failure> {
    const SQL: &str = "UPDATE entries SET state = 2, draft = $1 WHERE pipeline = $2 AND n = $3";
    let (id, entry) = locked_entry(connection, pipeline, n).await?;
    match entry.state {
        EntryState::Journalled => return Err(error::not_complete(pipeline, n).into()),
        EntryState::Complete => {}
        EntryState::Acknowledged => return Ok(()),
    }
    let mut draft = entry.draft;
    draft.committables.clear();
    draft.schemas.clear();
    draft.landings.clear();
    draft.dead_letters.clear();
    draft.replayed.clear();
    query(SQL).bind(serde_json::to_string(&draft)?).bind(id).bind(n).execute(&mut *connection).await?;
    // Messages may come again until now: from here on it counts how long their ids are known.
    query("UPDATE id_commits SET at = $1 WHERE scope IN (SELECT id FROM scopes WHERE pipeline = $2) AND at = $3 AND n = $4")
        .bind(chrono::Utc::now())
        .bind(id)
        .bind(entry.at)
        .bind(n)
        .execute(&mut *connection)
        .await?;
    query("DELETE FROM attempts WHERE pipeline = $1 AND n = $2").bind(id).bind(n).execute(connection).await?;
    Ok(())
}
