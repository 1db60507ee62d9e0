//! Attempts at staging: alive, journalled, or dead until swept.

use async_trait::async_trait;
use longshore_core::Result;
use longshore_core::commit::{AttemptId, DeadLetterKey};
use longshore_core::store::{Attempts, Writer};
use sqlx::PgConnection;

use super::PostgresStore;
use super::database::{in_time, query, query_scalar};
use super::journal::lock_pipeline;
use super::workers::{check_writer, doom_of_gone, forget_expired};
use crate::error;
use crate::rows::Failure;

#[async_trait]
impl Attempts for PostgresStore {
    async fn begin_attempt(&self, pipeline: &str, writer: Writer) -> Result<AttemptId> {
        let mut write = self.database.begin().await?;
        let result = in_time(begin(&mut write, pipeline, writer)).await;
        write.finish("registering an attempt in", result).await
    }

    async fn keep_letters(&self, attempt: &AttemptId, letters: &[DeadLetterKey]) -> Result<()> {
        if letters.is_empty() {
            return Ok(());
        }
        let mut write = self.database.begin().await?;
        let result = in_time(keep_letters(&mut write, attempt, letters)).await;
        write.finish("keeping dead letters in", result).await
    }

    async fn doom_attempts(&self, pipeline: &str, epoch: i64, given_up: &[AttemptId]) -> Result<Vec<AttemptId>> {
        let mut write = self.database.begin().await?;
        let result = in_time(doom(&mut write, pipeline, epoch, given_up)).await;
        write.finish("giving up attempts in", result).await
    }

    async fn swept(&self, attempts: &[AttemptId]) -> Result<()> {
        if attempts.is_empty() {
            return Ok(());
        }
        let mut write = self.database.begin().await?;
        let result = in_time(swept(&mut write, attempts)).await;
        write.finish("forgetting attempts in", result).await
    }
}

/// Attempts as a parameter.
pub(super) fn texts(attempts: &[AttemptId]) -> Vec<&str> {
    attempts.iter().map(|attempt| attempt.0.as_str()).collect()
}

async fn begin(connection: &mut PgConnection, pipeline: &str, writer: Writer) -> Result<AttemptId, Failure> {
    let Some(locked) = lock_pipeline(connection, pipeline).await? else {
        return Err(error::writer_gone(pipeline, writer, None).into());
    };
    check_writer(connection, locked.id, pipeline, writer).await?;
    let (epoch, worker) = match writer {
        Writer::Lease(epoch) => (Some(epoch), None),
        Writer::Worker { worker } => (None, Some(worker)),
    };
    let attempt = uuid::Uuid::now_v7().simple().to_string();
    query("INSERT INTO attempts (id, pipeline, epoch, worker) VALUES ($1, $2, $3, $4)")
        .bind(&attempt)
        .bind(locked.id)
        .bind(epoch)
        .bind(worker)
        .execute(connection)
        .await?;
    Ok(AttemptId(attempt))
}

async fn keep_letters(connection: &mut PgConnection, attempt: &AttemptId, letters: &[DeadLetterKey]) -> Result<(), Failure> {
    // Shared, so that it is not swept before its letters are there to be swept with it.
    const ALIVE: &str = "SELECT id FROM attempts WHERE id = $1 AND NOT dead FOR SHARE";
    const SQL: &str = "INSERT INTO attempt_letters (attempt, id, code, letter)
        SELECT $1, id, code, letter FROM unnest($2::text[], $3::text[], $4::text[]) AS new (id, code, letter)
        ON CONFLICT (attempt, id) DO NOTHING";
    let alive: Option<String> = query_scalar(ALIVE).bind(&attempt.0).fetch_optional(&mut *connection).await?;
    if alive.is_none() {
        return Ok(());
    }
    let (ids, codes, texts) = letter_columns(letters)?;
    query(SQL).bind(&attempt.0).bind(ids).bind(codes).bind(texts).execute(connection).await?;
    Ok(())
}

/// Letters as parameters: their ids, their codes, and all of them as JSON.
pub(super) type LetterColumns<'a> = (Vec<&'a str>, Vec<&'a str>, Vec<String>);

pub(super) fn letter_columns(letters: &[DeadLetterKey]) -> Result<LetterColumns<'_>, Failure> {
    let mut columns = (Vec::with_capacity(letters.len()), Vec::with_capacity(letters.len()), Vec::with_capacity(letters.len()));
    for key in letters {
        columns.0.push(key.id.as_str());
        columns.1.push(key.code.as_str());
        columns.2.push(serde_json::to_string(key)?);
    }
    Ok(columns)
}

async fn doom(
    connection: &mut PgConnection,
    pipeline: &str,
    epoch: i64,
    given_up: &[AttemptId],
) -> Result<Vec<AttemptId>, Failure> {
    const OLD: &str = "UPDATE attempts SET dead = true WHERE pipeline = $1 AND n IS NULL AND epoch < $2 AND NOT dead";
    const GIVEN_UP: &str = "UPDATE attempts SET dead = true WHERE id = ANY($1) AND pipeline = $2 AND n IS NULL";
    const DEAD: &str = "SELECT id FROM attempts WHERE pipeline = $1 AND n IS NULL AND dead ORDER BY id";
    let Some(locked) = lock_pipeline(connection, pipeline).await? else { return Ok(Vec::new()) };
    forget_expired(connection, locked.id).await?;
    doom_of_gone(connection, locked.id).await?;
    query(OLD).bind(locked.id).bind(epoch).execute(&mut *connection).await?;
    if !given_up.is_empty() {
        query(GIVEN_UP).bind(texts(given_up)).bind(locked.id).execute(&mut *connection).await?;
    }
    let dead: Vec<String> = query_scalar(DEAD).bind(locked.id).fetch_all(connection).await?;
    Ok(dead.into_iter().map(AttemptId).collect())
}

/// Files that are gone cannot be journalled, so an attempt without a row is as dead as a doomed one.
async fn swept(connection: &mut PgConnection, attempts: &[AttemptId]) -> Result<(), Failure> {
    const LETTERS: &str = "DELETE FROM attempt_letters WHERE attempt = ANY($1)
        AND NOT EXISTS (SELECT 1 FROM attempts a WHERE a.id = attempt AND a.n IS NOT NULL)";
    query("DELETE FROM attempts WHERE id = ANY($1) AND n IS NULL").bind(texts(attempts)).execute(&mut *connection).await?;
    query(LETTERS).bind(texts(attempts)).execute(connection).await?;
    Ok(())
}
