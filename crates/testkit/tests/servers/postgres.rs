//! Both versions of PostgreSQL answer, and keep what they have over a crash.

use longshore_testkit::services::Postgres;
use sqlx::{Connection, Executor, PgConnection};

async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.unwrap()
}

async fn number(connection: &mut PgConnection, query: &'static str) -> i32 {
    sqlx::query_scalar(query).fetch_one(connection).await.unwrap()
}

#[tokio::test]
async fn every_database_is_an_empty_one() {
    let Some(postgres) = Postgres::shared().await else { return };
    let (one, two) = tokio::join!(postgres.database(), postgres.database());
    assert_ne!(one, two);
    for url in [one, two] {
        let mut connection = connect(&url).await;
        connection.execute("CREATE TABLE t AS SELECT 1 AS one").await.unwrap();
        assert_eq!(number(&mut connection, "SELECT one FROM t").await, 1);
        assert_eq!(number(&mut connection, "SELECT current_setting('server_version_num')::int / 10000").await, 18);
    }
}

#[tokio::test]
async fn an_old_version_keeps_its_rows_over_a_crash() {
    let Some(postgres) = Postgres::start_version(13).await else { return };
    let url = postgres.database().await;
    let mut connection = connect(&url).await;
    connection.execute("CREATE EXTENSION hstore; CREATE TABLE t AS SELECT 1 AS one").await.unwrap();
    postgres.stop().await;
    assert!(number_or_error(&mut connection).await.is_err());
    assert!(PgConnection::connect(&url).await.is_err());
    postgres.start_again().await;
    let mut connection = connect(&url).await;
    assert_eq!(number(&mut connection, "SELECT one FROM t").await, 1, "{}", postgres.log());
    assert_eq!(number(&mut connection, "SELECT current_setting('server_version_num')::int / 10000").await, 13);
}

async fn number_or_error(connection: &mut PgConnection) -> Result<i32, sqlx::Error> {
    sqlx::query_scalar("SELECT 1").fetch_one(connection).await
}
