//! What follows the journal: completing and acknowledging.

use std::collections::BTreeMap;

use longshore_core::commit::{CommitNumber, Completion, Draft, Entry, EntryState, Landing, Receipt};
use sqlx::SqliteConnection;

use super::database::{list, now_nanos};
use super::journal::{entry, pipeline_id};
use super::leases::check_epoch;
use crate::error;
use crate::rows::Failure;

const PUBLISH: &str = "INSERT INTO published (pipeline, table_name, n) SELECT ?, value, ? FROM json_each(?) WHERE true
    ON CONFLICT (pipeline, table_name) DO UPDATE SET n = max(n, excluded.n)";

/// Step 4.
pub(super) async fn complete(connection: &mut SqliteConnection, completion: &Completion) -> Result<(), Failure> {
    let (pipeline, n) = (completion.pipeline.as_str(), completion.n);
    let (id, entry) = entry(connection, pipeline, n).await?;
    if entry.state != EntryState::Journalled {
        return Ok(());
    }
    check_epoch(connection, pipeline, completion.epoch).await?;
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
        sqlx::query("UPDATE dead_letters SET state = 1 WHERE id IN (SELECT value FROM json_each(?)) AND pipeline = ?")
            .bind(list(&entry.draft.replayed)?)
            .bind(id)
            .execute(&mut *connection)
            .await?;
    }
    sqlx::query("UPDATE entries SET state = 1 WHERE pipeline = ? AND n = ?").bind(id).bind(n).execute(connection).await?;
    Ok(())
}

async fn add_receipts(connection: &mut SqliteConnection, pipeline: i64, completion: &Completion) -> Result<(), Failure> {
    const SQL: &str = "INSERT INTO receipts (pipeline, n, table_name, run, receipt)
        SELECT ?, ?, value ->> 0, value ->> 1, value ->> 2 FROM json_each(?) WHERE true ORDER BY key
        ON CONFLICT (pipeline, n, table_name) DO NOTHING";
    if completion.receipts.is_empty() {
        return Ok(());
    }
    let mut rows = Vec::with_capacity(completion.receipts.len());
    for receipt in &completion.receipts {
        rows.push((&receipt.table, &receipt.run, serde_json::to_string(receipt)?));
    }
    let n = completion.n;
    sqlx::query(SQL).bind(pipeline).bind(n).bind(list(&rows)?).execute(&mut *connection).await?;
    let published: Vec<&str> =
        completion.receipts.iter().filter(|receipt| receipt.parked.is_none()).map(|receipt| receipt.table.as_str()).collect();
    if !published.is_empty() {
        sqlx::query(PUBLISH).bind(pipeline).bind(n).bind(list(&published)?).execute(connection).await?;
    }
    Ok(())
}

/// Keeps the parts that their tables do not take yet.
async fn park(connection: &mut SqliteConnection, pipeline: i64, entry: &Entry, completion: &Completion) -> Result<(), Failure> {
    const SQL: &str = "INSERT INTO parked (pipeline, n, table_name, part) VALUES (?, ?, ?, ?)";
    for receipt in completion.receipts.iter().filter(|receipt| receipt.parked.is_some()) {
        let part = serde_json::to_string(&entry.park(receipt.clone()))?;
        let query = sqlx::query(SQL).bind(pipeline).bind(entry.n).bind(&receipt.table).bind(part);
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

/// A part is published now. One that is not parked was published before.
pub(super) async fn unpark(connection: &mut SqliteConnection, receipt: &Receipt, epoch: i64) -> Result<(), Failure> {
    const IS_PARKED: &str = "SELECT count(*) FROM parked WHERE pipeline = ? AND n = ? AND table_name = ?";
    const TAKE: &str = "DELETE FROM parked WHERE pipeline = ? AND n = ? AND table_name = ?";
    const RECEIPT: &str = "UPDATE receipts SET run = ?, receipt = ? WHERE pipeline = ? AND n = ? AND table_name = ?";
    let (n, table) = (receipt.n, receipt.table.as_str());
    let Some(id) = pipeline_id(connection, &receipt.pipeline).await? else { return Ok(()) };
    let parked: i64 = sqlx::query_scalar(IS_PARKED).bind(id).bind(n).bind(table).fetch_one(&mut *connection).await?;
    if parked == 0 {
        return Ok(());
    }
    check_epoch(connection, &receipt.pipeline, epoch).await?;
    sqlx::query(TAKE).bind(id).bind(n).bind(table).execute(&mut *connection).await?;
    let text = serde_json::to_string(receipt)?;
    sqlx::query(RECEIPT).bind(&receipt.run).bind(text).bind(id).bind(n).bind(table).execute(&mut *connection).await?;
    sqlx::query(PUBLISH).bind(id).bind(n).bind(list([table])?).execute(connection).await?;
    Ok(())
}

/// A late landing does not replace a newer one.
pub(super) async fn add_landings(
    connection: &mut SqliteConnection,
    pipeline: i64,
    n: i64,
    landings: &[Landing],
) -> Result<(), Failure> {
    const LANDINGS: &str = "INSERT INTO landings (pipeline, address, table_name, digest, n, landing)
        SELECT ?, value ->> 0, value ->> 1, value ->> 2, ?, value ->> 3 FROM json_each(?) WHERE true
        ON CONFLICT (pipeline, address, table_name) DO UPDATE
        SET digest = excluded.digest, n = excluded.n, landing = excluded.landing WHERE excluded.n >= n";
    const PATHS: &str = "INSERT INTO record_paths (pipeline, table_name, paths, n, place)
        SELECT ?, value ->> 0, value ->> 1, ?, value ->> 2 FROM json_each(?) WHERE true
        ON CONFLICT (pipeline, table_name, paths) DO UPDATE
        SET n = excluded.n, place = excluded.place WHERE excluded.n >= n";
    if landings.is_empty() {
        return Ok(());
    }
    let mut rows = Vec::with_capacity(landings.len());
    let mut paths: BTreeMap<(&str, String), usize> = BTreeMap::new();
    for (place, landing) in landings.iter().enumerate() {
        let kept = serde_json::to_string(&Landing { n, ..landing.clone() })?;
        rows.push((&landing.address, &landing.table, &landing.digest, kept));
        if let Some(records) = &landing.records {
            paths.insert((&landing.table, records.to_string()), place);
        }
    }
    sqlx::query(LANDINGS).bind(pipeline).bind(n).bind(list(&rows)?).execute(&mut *connection).await?;
    if !paths.is_empty() {
        let rows: Vec<_> = paths.iter().map(|((table, paths), place)| (table, paths, place)).collect();
        sqlx::query(PATHS).bind(pipeline).bind(n).bind(list(&rows)?).execute(connection).await?;
    }
    Ok(())
}

async fn add_dead_letters(connection: &mut SqliteConnection, pipeline: i64, n: i64, draft: &Draft) -> Result<(), Failure> {
    const KEPT: &str = "INSERT INTO dead_letters (pipeline, n, run, at, id, code, letter)
        SELECT ?, ?, ?, ?, id, code, letter FROM attempt_letters WHERE attempt IN (SELECT value FROM json_each(?)) ORDER BY seq
        ON CONFLICT (id, pipeline) DO NOTHING";
    const SQL: &str = "INSERT INTO dead_letters (pipeline, n, run, at, id, code, letter)
        SELECT ?, ?, ?, ?, value ->> 0, value ->> 1, value ->> 2 FROM json_each(?) WHERE true ORDER BY key
        ON CONFLICT (id, pipeline) DO NOTHING";
    let attempts = list(&draft.attempts)?;
    let kept = sqlx::query(KEPT).bind(pipeline).bind(n).bind(&draft.run).bind(now_nanos()).bind(&attempts);
    kept.execute(&mut *connection).await?;
    sqlx::query("DELETE FROM attempt_letters WHERE attempt IN (SELECT value FROM json_each(?))")
        .bind(&attempts)
        .execute(&mut *connection)
        .await?;
    if draft.dead_letters.is_empty() {
        return Ok(());
    }
    let mut rows = Vec::with_capacity(draft.dead_letters.len());
    for key in &draft.dead_letters {
        rows.push((&key.id, &key.code, serde_json::to_string(key)?));
    }
    let query = sqlx::query(SQL).bind(pipeline).bind(n).bind(&draft.run).bind(now_nanos()).bind(list(&rows)?);
    query.execute(connection).await?;
    Ok(())
}

/// Step 5 is done: the entry shrinks to what nothing else holds, and its attempts need no sweep any more.
pub(super) async fn acknowledged(connection: &mut SqliteConnection, pipeline: &str, n: CommitNumber) -> Result<(), Failure> {
    const STATE: &str =
        "SELECT pipeline, state, at FROM entries WHERE pipeline = (SELECT id FROM pipelines WHERE name = ?) AND n = ?";
    const SHRINK: &str = "UPDATE entries SET state = 2, draft = json_set(draft, '$.committables', json('[]'),
        '$.schemas', json('{}'), '$.landings', json('[]'), '$.dead_letters', json('[]'), '$.replayed', json('[]'))
        WHERE pipeline = ? AND n = ?";
    let row: Option<(i64, i64, i64)> = sqlx::query_as(STATE).bind(pipeline).bind(n).fetch_optional(&mut *connection).await?;
    let Some((id, state, at)) = row else {
        return Err(error::not_journalled(pipeline, n).into());
    };
    match state {
        0 => return Err(error::not_complete(pipeline, n).into()),
        1 => {}
        _ => return Ok(()),
    }
    sqlx::query(SHRINK).bind(id).bind(n).execute(&mut *connection).await?;
    // Messages may come again until now: from here on it counts how long their ids are known.
    sqlx::query("UPDATE id_commits SET at = ? WHERE scope IN (SELECT id FROM scopes WHERE pipeline = ?) AND at = ? AND n = ?")
        .bind(now_nanos())
        .bind(id)
        .bind(at)
        .bind(n)
        .execute(&mut *connection)
        .await?;
    sqlx::query("DELETE FROM attempts WHERE pipeline = ? AND n = ?").bind(id).bind(n).execute(connection).await?;
    Ok(())
}
