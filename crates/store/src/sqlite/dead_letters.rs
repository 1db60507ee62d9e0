//! The index of dead letters. Rows come and are marked in `complete.rs`.

use async_trait::async_trait;
use longshore_core::Result;
use longshore_core::store::{DeadLetterFilter, DeadLetterIndex, IndexedDeadLetter};
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::SqliteStore;
use super::database::{from_nanos, list};

use crate::rows::{Failure, letter_state, letter_state_number, limit};

type Row = (String, i64, String, i64, String, i64);

#[async_trait]
impl DeadLetterIndex for SqliteStore {
    async fn dead_letters(&self, filter: &DeadLetterFilter) -> Result<Vec<IndexedDeadLetter>> {
        let mut read = self.database.read().await?;
        let result = find(&mut read, filter).await;
        result.map_err(|failure| self.database.error("reading", failure))
    }

    async fn drop_dead_letters(&self, ids: &[String]) -> Result<u64> {
        // One that is being replayed lands in any case, so it cannot be given up any more.
        const SQL: &str = "UPDATE dead_letters SET state = 2
            WHERE id IN (SELECT value FROM json_each(?)) AND state = 0 AND replaying IS NULL";
        let mut write = self.database.begin().await?;
        let result = async {
            let done = sqlx::query(SQL).bind(list(ids)?).execute(&mut *write).await?;
            Ok(done.rows_affected())
        }
        .await;
        write.finish("dropping dead letters in", result).await
    }
}

async fn find(connection: &mut SqliteConnection, filter: &DeadLetterFilter) -> Result<Vec<IndexedDeadLetter>, Failure> {
    let mut query = QueryBuilder::<Sqlite>::new(
        "SELECT p.name, d.n, d.run, d.at, d.letter, d.state FROM dead_letters d JOIN pipelines p ON p.id = d.pipeline WHERE true",
    );
    if !filter.ids.is_empty() {
        query.push(" AND d.id IN (SELECT value FROM json_each(").push_bind(list(&filter.ids)?).push("))");
    }
    if let Some(pipeline) = &filter.pipeline {
        query.push(" AND p.name = ").push_bind(pipeline);
    }
    if let Some(run) = &filter.run {
        query.push(" AND d.run = ").push_bind(run);
    }
    if let Some(code) = &filter.code {
        query.push(" AND d.code = ").push_bind(code);
    }
    if let Some(state) = filter.state {
        query.push(" AND d.state = ").push_bind(letter_state_number(state));
    }
    query.push(" ORDER BY d.seq");
    if filter.limit > 0 {
        query.push(" LIMIT ").push_bind(limit(filter.limit));
    }
    let rows: Vec<Row> = query.build_query_as().fetch_all(connection).await?;
    rows.into_iter()
        .map(|(pipeline, n, run, at, letter, state)| {
            let state = letter_state(state);
            Ok(IndexedDeadLetter { key: serde_json::from_str(&letter)?, state, pipeline, n, run, at: from_nanos(at) })
        })
        .collect()
}
