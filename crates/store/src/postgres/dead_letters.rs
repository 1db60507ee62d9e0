//! The index of dead letters. Rows come and are marked in `complete.rs`.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use longshore_core::Result;
use longshore_core::store::{DeadLetterFilter, DeadLetterIndex, IndexedDeadLetter};
use sqlx::PgConnection;

use super::PostgresStore;
use super::database::{in_time, query, query_as};
use crate::rows::{Failure, letter_state, letter_state_number, limit};

type Row = (String, i64, String, DateTime<Utc>, String, i64);

#[async_trait]
impl DeadLetterIndex for PostgresStore {
    async fn dead_letters(&self, filter: &DeadLetterFilter) -> Result<Vec<IndexedDeadLetter>> {
        let mut read = self.database.read().await?;
        let result = in_time(find(&mut read, filter)).await;
        read.finish("reading", result).await
    }

    async fn drop_dead_letters(&self, ids: &[String]) -> Result<u64> {
        // One that is being replayed lands in any case, so it cannot be given up any more.
        const SQL: &str = "UPDATE dead_letters SET state = 2 WHERE id = ANY($1) AND state = 0 AND replaying IS NULL";
        let mut write = self.database.begin().await?;
        let result = in_time(async { Ok(query(SQL).bind(ids).execute(&mut *write).await?.rows_affected()) }).await;
        write.finish("dropping dead letters in", result).await
    }
}

async fn find(connection: &mut PgConnection, filter: &DeadLetterFilter) -> Result<Vec<IndexedDeadLetter>, Failure> {
    // It is planned with its parameters known, so that those which are null cost nothing.
    const SQL: &str =
        "SELECT p.name, d.n, d.run, d.at, d.letter, d.state FROM dead_letters d JOIN pipelines p ON p.id = d.pipeline
        WHERE ($1::text[] IS NULL OR d.id = ANY($1)) AND ($2::text IS NULL OR p.name = $2) AND ($3::text IS NULL OR d.run = $3)
        AND ($4::text IS NULL OR d.code = $4) AND ($5::bigint IS NULL OR d.state = $5) ORDER BY d.seq LIMIT $6";
    let rows: Vec<Row> = query_as(SQL)
        .bind((!filter.ids.is_empty()).then_some(&filter.ids))
        .bind(&filter.pipeline)
        .bind(&filter.run)
        .bind(&filter.code)
        .bind(filter.state.map(letter_state_number))
        .bind((filter.limit > 0).then(|| limit(filter.limit)))
        .fetch_all(connection)
        .await?;
    rows.into_iter()
        .map(|(pipeline, n, run, at, letter, state)| {
            Ok(IndexedDeadLetter { key: serde_json::from_str(&letter)?, state: letter_state(state), pipeline, n, run, at })
        })
        .collect()
}
