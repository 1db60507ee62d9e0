//! Attempts at staging: alive, journalled, or dead until swept.

use std::collections::BTreeSet;

use async_trait::async_trait;
use longshore_core::Result;
use longshore_core::commit::{AttemptId, DeadLetterKey};
use longshore_core::store::{Attempts, Writer};
use sqlx::SqliteConnection;

use super::SqliteStore;
use super::database::list;
use super::journal::pipeline_id;
use super::workers::{check_writer, doom_of_gone, forget_expired};

use crate::rows::Failure;

#[async_trait]
impl Attempts for SqliteStore {
    async fn begin_attempt(&self, pipeline: &str, writer: Writer) -> Result<AttemptId> {
        let mut write = self.database.begin().await?;
        let result = begin(&mut write, pipeline, writer).await;
        write.finish("registering an attempt in", result).await
    }

    async fn keep_letters(&self, attempt: &AttemptId, letters: &[DeadLetterKey]) -> Result<()> {
        if letters.is_empty() {
            return Ok(());
        }
        let mut write = self.database.begin().await?;
        let result = keep_letters(&mut write, attempt, letters).await;
        write.finish("keeping dead letters in", result).await
    }

    async fn doom_attempts(&self, pipeline: &str, epoch: i64, given_up: &[AttemptId]) -> Result<Vec<AttemptId>> {
        let mut write = self.database.begin().await?;
        let result = doom(&mut write, pipeline, epoch, given_up).await;
        write.finish("giving up attempts in", result).await
    }

    async fn swept(&self, attempts: &[AttemptId]) -> Result<()> {
        if attempts.is_empty() {
            return Ok(());
        }
        let mut write = self.database.begin().await?;
        let result = swept(&mut write, attempts).await;
        write.finish("forgetting attempts in", result).await
    }
}

async fn begin(connection: &mut SqliteConnection, pipeline: &str, writer: Writer) -> Result<AttemptId, Failure> {
    let id = check_writer(connection, pipeline, writer).await?;
    let (epoch, worker) = match writer {
        Writer::Lease(epoch) => (epoch, None),
        Writer::Worker { worker } => (0, Some(worker)),
    };
    let attempt = uuid::Uuid::now_v7().simple().to_string();
    sqlx::query("INSERT INTO attempts (id, pipeline, epoch, worker) VALUES (?, ?, ?, ?)")
        .bind(&attempt)
        .bind(id)
        .bind(epoch)
        .bind(worker)
        .execute(connection)
        .await?;
    Ok(AttemptId(attempt))
}

async fn keep_letters(connection: &mut SqliteConnection, attempt: &AttemptId, letters: &[DeadLetterKey]) -> Result<(), Failure> {
    const SQL: &str = "INSERT INTO attempt_letters (attempt, id, code, letter)
        SELECT a.id, value ->> 0, value ->> 1, value ->> 2 FROM json_each(?) JOIN attempts a ON a.id = ? AND a.dead = 0
        WHERE true ORDER BY key ON CONFLICT (attempt, id) DO NOTHING";
    let mut rows = Vec::with_capacity(letters.len());
    for key in letters {
        rows.push((&key.id, &key.code, serde_json::to_string(key)?));
    }
    sqlx::query(SQL).bind(list(&rows)?).bind(&attempt.0).execute(connection).await?;
    Ok(())
}

async fn doom(
    connection: &mut SqliteConnection,
    pipeline: &str,
    epoch: i64,
    given_up: &[AttemptId],
) -> Result<Vec<AttemptId>, Failure> {
    const OLD: &str =
        "UPDATE attempts SET dead = 1 WHERE pipeline = ? AND n IS NULL AND worker IS NULL AND epoch < ? AND dead = 0";
    const GIVEN_UP: &str =
        "UPDATE attempts SET dead = 1 WHERE id IN (SELECT value FROM json_each(?)) AND pipeline = ? AND n IS NULL";
    const DEAD: &str = "SELECT id FROM attempts WHERE pipeline = ? AND n IS NULL AND dead = 1 ORDER BY id";
    let Some(id) = pipeline_id(connection, pipeline).await? else { return Ok(Vec::new()) };
    forget_expired(connection, id).await?;
    doom_of_gone(connection, id).await?;
    sqlx::query(OLD).bind(id).bind(epoch).execute(&mut *connection).await?;
    let given_up: BTreeSet<&AttemptId> = given_up.iter().collect();
    if !given_up.is_empty() {
        sqlx::query(GIVEN_UP).bind(list(&given_up)?).bind(id).execute(&mut *connection).await?;
    }
    let dead: Vec<String> = sqlx::query_scalar(DEAD).bind(id).fetch_all(connection).await?;
    Ok(dead.into_iter().map(AttemptId).collect())
}

/// Files that are gone cannot be journalled, so an attempt without a row is as dead as a doomed one.
async fn swept(connection: &mut SqliteConnection, attempts: &[AttemptId]) -> Result<(), Failure> {
    const LETTERS: &str = "DELETE FROM attempt_letters WHERE attempt IN (SELECT value FROM json_each(?))
        AND attempt NOT IN (SELECT id FROM attempts WHERE n IS NOT NULL)";
    sqlx::query("DELETE FROM attempts WHERE id IN (SELECT value FROM json_each(?)) AND n IS NULL")
        .bind(list(attempts)?)
        .execute(&mut *connection)
        .await?;
    sqlx::query(LETTERS).bind(list(attempts)?).execute(connection).await?;
    Ok(())
}
