//! The tables, and how a store of an older version gets them.
//!
//! Text that may have any characters (partitions, positions, scopes, ids of messages) is kept as the bytes of its UTF-8, since a
//! text of PostgreSQL cannot have a nul; `convert_from(id, 'UTF8')` shows it. JSON is kept as text for the same reason.
//! A migration that was released is never edited: the next change is another text at the end.

use longshore_core::Result;
use longshore_core::error::{Error, Kind, Retry, code};
use sqlx::{AssertSqlSafe, PgConnection};

use super::database::{Database, in_time, query, query_as, query_scalar};
use crate::rows::Failure;

/// One text a version, from version 1 on.
const MIGRATIONS: &[&str] = &[VERSION_1, VERSION_2];

const VERSION_1: &str = r#"
-- One row: the identity of this store, and how many of these migrations it has.
CREATE TABLE store (
    one smallint PRIMARY KEY CHECK (one = 1),
    id text NOT NULL,
    version integer NOT NULL,
    created_at timestamptz NOT NULL
);

-- `last` is the last number given; it only grows. Whoever writes for a pipeline keeps its row locked, so that its writers
-- come one after the other. `ledger` is born with the row and part of every mark; so is this store's id, unless a repair took
-- the pipeline over from a lost store, `origin`.
CREATE TABLE pipelines (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE,
    ledger text NOT NULL,
    origin text,
    last bigint NOT NULL DEFAULT 0
);

-- Who may publish. `held` is false after the holder freed it.
CREATE TABLE leases (
    pipeline bigint PRIMARY KEY REFERENCES pipelines,
    epoch bigint NOT NULL,
    holder text NOT NULL,
    held boolean NOT NULL,
    expires_at timestamptz NOT NULL
);

-- Who stages beside others. A row goes when its worker leaves or is taken for dead, and no id is given twice.
CREATE TABLE workers (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pipeline bigint NOT NULL REFERENCES pipelines,
    holder text NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX workers_of_pipeline ON workers (pipeline);

-- What is staged or was given up, begun under the lease of an epoch or by a worker. `n` is set by the journal; the row goes
-- when the entry is acknowledged or the files are swept. An attempt without a row is dead.
CREATE TABLE attempts (
    id text COLLATE "C" PRIMARY KEY,
    pipeline bigint NOT NULL REFERENCES pipelines,
    epoch bigint,
    worker bigint,
    dead boolean NOT NULL DEFAULT false,
    n bigint,
    CHECK ((epoch IS NULL) <> (worker IS NULL))
);
CREATE INDEX attempts_waiting ON attempts (pipeline) WHERE n IS NULL;
CREATE INDEX attempts_journalled ON attempts (pipeline, n) WHERE n IS NOT NULL;

-- Lines for the index of dead letters that an attempt at staging has so far.
CREATE TABLE attempt_letters (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    attempt text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    code text NOT NULL,
    letter text NOT NULL,
    UNIQUE (attempt, id)
);

-- The journal. `state` is 0 journalled, 1 complete, 2 acknowledged. `draft` is the draft as JSON; once acknowledged it has
-- lost what receipts, ledger and index hold.
CREATE TABLE entries (
    pipeline bigint NOT NULL REFERENCES pipelines,
    n bigint NOT NULL,
    token text COLLATE "C" NOT NULL,
    state bigint NOT NULL,
    amendment bigint NOT NULL,
    at timestamptz NOT NULL,
    draft text NOT NULL,
    PRIMARY KEY (pipeline, n),
    UNIQUE (pipeline, token)
);
CREATE INDEX entries_open ON entries (pipeline, n) WHERE state < 2;

-- How far each partition is journalled.
CREATE TABLE positions (
    pipeline bigint NOT NULL REFERENCES pipelines,
    partition bytea NOT NULL,
    position bytea NOT NULL,
    PRIMARY KEY (pipeline, partition)
);

-- What ids of messages are unique within.
CREATE TABLE scopes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pipeline bigint NOT NULL REFERENCES pipelines,
    scope bytea NOT NULL,
    UNIQUE (pipeline, scope)
);

-- Messages journalled, for sources without positions, until they are forgotten. There are millions of them, so that a row has
-- nothing more and there is no other index: the ids of a commit stand in its draft.
CREATE TABLE message_ids (
    scope bigint NOT NULL,
    n bigint NOT NULL,
    id bytea NOT NULL,
    PRIMARY KEY (scope, id)
);

-- The commits whose drafts have ids of a scope that are not forgotten.
CREATE TABLE id_commits (
    scope bigint NOT NULL REFERENCES scopes,
    at timestamptz NOT NULL,
    n bigint NOT NULL,
    PRIMARY KEY (scope, at, n)
);

-- The last commit published to each table.
CREATE TABLE published (
    pipeline bigint NOT NULL REFERENCES pipelines,
    table_name text COLLATE "C" NOT NULL,
    n bigint NOT NULL,
    PRIMARY KEY (pipeline, table_name)
);

-- What became of each table of each commit; `receipt` is the receipt as JSON.
CREATE TABLE receipts (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pipeline bigint NOT NULL REFERENCES pipelines,
    n bigint NOT NULL,
    table_name text COLLATE "C" NOT NULL,
    run text COLLATE "C" NOT NULL,
    receipt text NOT NULL,
    UNIQUE (pipeline, n, table_name)
);
CREATE INDEX receipts_of_run ON receipts (run, seq);

-- Parts of complete commits that wait for their tables; `part` is the part as JSON.
CREATE TABLE parked (
    pipeline bigint NOT NULL REFERENCES pipelines,
    n bigint NOT NULL,
    table_name text COLLATE "C" NOT NULL,
    part text NOT NULL,
    PRIMARY KEY (pipeline, n, table_name)
);

-- The file ledger: the latest landing of a file in a table; `landing` is the landing as JSON.
CREATE TABLE landings (
    pipeline bigint NOT NULL REFERENCES pipelines,
    address text COLLATE "C" NOT NULL,
    table_name text COLLATE "C" NOT NULL,
    digest text COLLATE "C" NOT NULL,
    n bigint NOT NULL,
    landing text NOT NULL,
    PRIMARY KEY (pipeline, address, table_name)
);
CREATE INDEX landings_by_digest ON landings (pipeline, digest);
CREATE INDEX landings_by_table ON landings (pipeline, table_name, n);

-- The record paths of landings, kept apart since there are few of them and many files. `place` orders those of one commit.
CREATE TABLE record_paths (
    pipeline bigint NOT NULL REFERENCES pipelines,
    table_name text COLLATE "C" NOT NULL,
    paths text COLLATE "C" NOT NULL,
    n bigint NOT NULL,
    place bigint NOT NULL,
    PRIMARY KEY (pipeline, table_name, paths)
);

-- The index of dead letters. `state` is 0 open, 1 replayed, 2 dropped; `replaying` is the commit that is to replay it;
-- `letter` is the key (code, table, place) as JSON.
CREATE TABLE dead_letters (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pipeline bigint NOT NULL REFERENCES pipelines,
    id text COLLATE "C" NOT NULL,
    n bigint NOT NULL,
    code text COLLATE "C" NOT NULL,
    run text COLLATE "C" NOT NULL,
    at timestamptz NOT NULL,
    state bigint NOT NULL DEFAULT 0,
    replaying bigint,
    letter text NOT NULL,
    UNIQUE (id, pipeline)
);
CREATE INDEX dead_letters_of_run ON dead_letters (run);
CREATE INDEX dead_letters_of_pipeline ON dead_letters (pipeline, state);

-- The history. A run's status is not kept: its events tell it.
CREATE TABLE runs (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id text COLLATE "C" NOT NULL UNIQUE,
    pipeline text COLLATE "C" NOT NULL,
    started_at timestamptz NOT NULL,
    cancel boolean NOT NULL DEFAULT false
);
CREATE INDEX runs_of_pipeline ON runs (pipeline, seq);
CREATE TABLE run_events (
    run bigint NOT NULL REFERENCES runs,
    sequence bigint NOT NULL,
    at timestamptz NOT NULL,
    kind text COLLATE "C" NOT NULL,
    event text NOT NULL,
    PRIMARY KEY (run, sequence)
);
"#;

/// When a server first looked after a pipeline: what came before was not missed. Those that had turns already were there long ago.
const VERSION_2: &str = "
ALTER TABLE pipelines ADD COLUMN first_served timestamptz;
UPDATE pipelines p SET first_served = to_timestamp(0) WHERE EXISTS (SELECT 1 FROM pipelines t WHERE t.name = 'serve:' || p.name);
";

/// The newest version this program knows.
fn newest() -> i32 {
    MIGRATIONS.len() as i32
}

/// The store's id, if there is a store and it is of the newest version.
///
/// Fails with `store_version` if it is of a newer one than this program knows.
pub(super) async fn id_if_ready(database: &Database) -> Result<Found> {
    let mut read = database.read().await?;
    let found = in_time(look(database, &mut read)).await;
    read.finish("opening", found).await
}

/// What there is in the schema.
pub(super) enum Found {
    /// Nothing.
    None,
    /// A store of an older version.
    Old(i32),
    /// A store of the newest version, with its id.
    Ready(String),
}

async fn look(database: &Database, connection: &mut PgConnection) -> Result<Found, Failure> {
    const EXISTS: &str = "SELECT EXISTS (SELECT 1 FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace
        WHERE s.nspname = $1 AND c.relname = 'store' AND c.relkind = 'r')";
    if !query_scalar(EXISTS).bind(&database.schema).fetch_one(&mut *connection).await? {
        return Ok(Found::None);
    }
    let (id, version): (String, i32) = query_as("SELECT id, version FROM store").fetch_one(connection).await?;
    if version > newest() {
        let text = format!("the store {} was written by a newer Longshore", database.place());
        return Err(Error::new(Kind::Store, code::STORE_VERSION, text)
            .with("store_version", version)
            .with("known_version", newest())
            .hint("use that version or newer, or another schema: `?schema=NAME` in the store's URL")
            .into());
    }
    Ok(if version == newest() { Found::Ready(id) } else { Found::Old(version) })
}

/// Brings the schema to the newest version, which it makes if it is not there: all in one transaction. Other processes may do
/// the same at the same time.
pub(super) async fn migrate(database: &Database) -> Result<()> {
    let mut write = database.begin().await?;
    let result = step_by_step(database, &mut write).await;
    write.finish("setting up", result).await
}

async fn step_by_step(database: &Database, connection: &mut PgConnection) -> Result<(), Failure> {
    // The others wait here until the first is done, however long that takes.
    sqlx::raw_sql("SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = 0").execute(&mut *connection).await?;
    query("SELECT pg_advisory_xact_lock(hashtextextended('longshore ' || $1, 0))")
        .bind(&database.schema)
        .execute(&mut *connection)
        .await?;
    let version = match look(database, connection).await? {
        Found::Ready(_) => return Ok(()),
        Found::Old(version) => version,
        Found::None => {
            make_schema(database, connection).await?;
            0
        }
    };
    for sql in &MIGRATIONS[usize::try_from(version).unwrap_or(0)..] {
        sqlx::raw_sql(*sql).execute(&mut *connection).await?;
    }
    const STAMP: &str = "INSERT INTO store (one, id, version, created_at) VALUES (1, $1, $2, clock_timestamp())
        ON CONFLICT (one) DO UPDATE SET version = excluded.version";
    query(STAMP).bind(uuid::Uuid::new_v4().to_string()).bind(newest()).execute(connection).await?;
    Ok(())
}

/// A schema that is there may be one that an administrator made for us, but must be empty: a user who owns it needs no other
/// right.
async fn make_schema(database: &Database, connection: &mut PgConnection) -> Result<(), Failure> {
    const TABLES: &str = "SELECT count(c.oid) FROM pg_namespace s LEFT JOIN pg_class c ON c.relnamespace = s.oid
        WHERE s.nspname = $1 GROUP BY s.oid";
    let tables: Option<i64> = query_scalar(TABLES).bind(&database.schema).fetch_optional(&mut *connection).await?;
    match tables {
        Some(0) => Ok(()),
        Some(_) => {
            let text = format!("the schema of {} is another program's", database.place());
            Err(Error::new(Kind::Store, code::STORE_UNAVAILABLE, text)
                .with_retry(Retry::AfterFix)
                .hint("choose another with `?schema=NAME` in the store's URL")
                .into())
        }
        None => {
            let sql = AssertSqlSafe(format!("CREATE SCHEMA \"{}\"", database.schema));
            sqlx::raw_sql(sql).execute(connection).await?;
            Ok(())
        }
    }
}
