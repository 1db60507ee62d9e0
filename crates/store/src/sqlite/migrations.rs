//! The tables, and how a store of an older version gets them.
//!
//! Times are nanoseconds since 1970 in UTC unless said otherwise. A migration that was released is never edited: the next
//! change is another text at the end.

use longshore_core::Result;
use longshore_core::error::{Error, Kind, code};
use sqlx::SqliteConnection;

use super::database::{Database, now_nanos};

use crate::rows::Failure;

/// One text a version, from version 1 on.
pub(super) const MIGRATIONS: &[&str] = &[VERSION_1, VERSION_2, VERSION_3, VERSION_4];

const VERSION_1: &str = "
-- One row: the identity of this store.
CREATE TABLE store (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    id TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

-- `last` is the last number given; it only grows. `ledger` is born with the row and part of every mark; so is this store's
-- id, unless a repair took the pipeline over from a lost store, `origin`.
CREATE TABLE pipelines (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    ledger TEXT NOT NULL,
    origin TEXT,
    last INTEGER NOT NULL DEFAULT 0
) STRICT;

-- Who may publish. `held` is 0 after the holder freed it; `expires_at` is in milliseconds.
CREATE TABLE leases (
    pipeline INTEGER PRIMARY KEY REFERENCES pipelines,
    epoch INTEGER NOT NULL,
    holder TEXT NOT NULL,
    held INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;

-- What is staged or was given up. `n` is set by the journal; the row goes when the entry is acknowledged or the files are
-- swept. An attempt without a row is dead.
CREATE TABLE attempts (
    id TEXT PRIMARY KEY,
    pipeline INTEGER NOT NULL REFERENCES pipelines,
    epoch INTEGER NOT NULL,
    dead INTEGER NOT NULL DEFAULT 0,
    n INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX attempts_waiting ON attempts (pipeline, epoch) WHERE n IS NULL;
CREATE INDEX attempts_journalled ON attempts (pipeline, n) WHERE n IS NOT NULL;

-- The journal. `state` is 0 journalled, 1 complete, 2 acknowledged. `draft` is the draft as JSON; once acknowledged it has
-- lost what receipts, ledger and index hold.
CREATE TABLE entries (
    seq INTEGER PRIMARY KEY,
    pipeline INTEGER NOT NULL REFERENCES pipelines,
    n INTEGER NOT NULL,
    token TEXT NOT NULL,
    state INTEGER NOT NULL,
    amendment INTEGER NOT NULL,
    at INTEGER NOT NULL,
    draft TEXT NOT NULL,
    UNIQUE (pipeline, n),
    UNIQUE (pipeline, token)
) STRICT;
CREATE INDEX entries_open ON entries (pipeline, n) WHERE state < 2;

-- How far each partition is journalled.
CREATE TABLE positions (
    pipeline INTEGER NOT NULL REFERENCES pipelines,
    partition TEXT NOT NULL,
    position TEXT NOT NULL,
    PRIMARY KEY (pipeline, partition)
) STRICT, WITHOUT ROWID;

-- Messages journalled, for sources without positions.
CREATE TABLE ids (
    pipeline INTEGER NOT NULL REFERENCES pipelines,
    scope TEXT NOT NULL,
    id TEXT NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (pipeline, scope, id)
) STRICT, WITHOUT ROWID;

-- The last commit published to each table.
CREATE TABLE published (
    pipeline INTEGER NOT NULL REFERENCES pipelines,
    table_name TEXT NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (pipeline, table_name)
) STRICT, WITHOUT ROWID;

-- What became of each table of each commit; `receipt` is the receipt as JSON.
CREATE TABLE receipts (
    seq INTEGER PRIMARY KEY,
    pipeline INTEGER NOT NULL REFERENCES pipelines,
    n INTEGER NOT NULL,
    table_name TEXT NOT NULL,
    run TEXT NOT NULL,
    receipt TEXT NOT NULL,
    UNIQUE (pipeline, n, table_name)
) STRICT;
CREATE INDEX receipts_of_run ON receipts (run);

-- The file ledger: the latest landing of a file in a table; `landing` is the landing as JSON.
CREATE TABLE landings (
    pipeline INTEGER NOT NULL REFERENCES pipelines,
    address TEXT NOT NULL,
    table_name TEXT NOT NULL,
    digest TEXT NOT NULL,
    n INTEGER NOT NULL,
    landing TEXT NOT NULL,
    PRIMARY KEY (pipeline, address, table_name)
) STRICT, WITHOUT ROWID;
CREATE INDEX landings_by_digest ON landings (pipeline, digest);
CREATE INDEX landings_by_table ON landings (pipeline, table_name, n);

-- The record paths of landings, kept apart since there are few of them and many files. `place` orders those of one commit.
CREATE TABLE record_paths (
    pipeline INTEGER NOT NULL REFERENCES pipelines,
    table_name TEXT NOT NULL,
    paths TEXT NOT NULL,
    n INTEGER NOT NULL,
    place INTEGER NOT NULL,
    PRIMARY KEY (pipeline, table_name, paths)
) STRICT, WITHOUT ROWID;

-- The index of dead letters. `state` is 0 open, 1 replayed, 2 dropped; `replaying` is the commit that is to replay it;
-- `letter` is the key (code, table, place) as JSON.
CREATE TABLE dead_letters (
    seq INTEGER PRIMARY KEY,
    pipeline INTEGER NOT NULL REFERENCES pipelines,
    id TEXT NOT NULL,
    n INTEGER NOT NULL,
    code TEXT NOT NULL,
    run TEXT NOT NULL,
    at INTEGER NOT NULL,
    state INTEGER NOT NULL DEFAULT 0,
    replaying INTEGER,
    letter TEXT NOT NULL,
    UNIQUE (id, pipeline)
) STRICT;
CREATE INDEX dead_letters_of_run ON dead_letters (run);
CREATE INDEX dead_letters_of_pipeline ON dead_letters (pipeline, state);

-- The history. A run's status is not kept: its events tell it.
CREATE TABLE runs (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    pipeline TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    cancel INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX runs_of_pipeline ON runs (pipeline, seq);
CREATE TABLE run_events (
    run INTEGER NOT NULL REFERENCES runs,
    sequence INTEGER NOT NULL,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    event TEXT NOT NULL,
    PRIMARY KEY (run, sequence)
) STRICT, WITHOUT ROWID;
";

const VERSION_2: &str = "
-- Lines for the index of dead letters that an attempt at staging has so far.
CREATE TABLE attempt_letters (
    seq INTEGER PRIMARY KEY,
    attempt TEXT NOT NULL,
    id TEXT NOT NULL,
    code TEXT NOT NULL,
    letter TEXT NOT NULL,
    UNIQUE (attempt, id)
) STRICT;
";

const VERSION_3: &str = "
-- Who stages beside others. A row goes when its worker leaves or is taken for dead, and no id is given twice. `expires_at` is in
-- milliseconds.
CREATE TABLE workers (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    pipeline INTEGER NOT NULL REFERENCES pipelines,
    holder TEXT NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX workers_of_pipeline ON workers (pipeline);

-- The worker that began it, if it was not the holder of a lease; `epoch` means nothing then.
ALTER TABLE attempts ADD COLUMN worker INTEGER;

-- Parts of complete commits that wait for their tables; `part` is the part as JSON.
CREATE TABLE parked (
    pipeline INTEGER NOT NULL REFERENCES pipelines,
    n INTEGER NOT NULL,
    table_name TEXT NOT NULL,
    part TEXT NOT NULL,
    PRIMARY KEY (pipeline, n, table_name)
) STRICT, WITHOUT ROWID;

-- What ids of messages are unique within.
CREATE TABLE scopes (
    id INTEGER PRIMARY KEY,
    pipeline INTEGER NOT NULL REFERENCES pipelines,
    scope TEXT NOT NULL,
    UNIQUE (pipeline, scope)
) STRICT;

-- Messages journalled, for sources without positions, until they are forgotten. There are millions of them, so that a row has
-- nothing more and there is no other index: the ids of a commit stand in its draft.
CREATE TABLE message_ids (
    scope INTEGER NOT NULL,
    id TEXT NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (scope, id)
) STRICT, WITHOUT ROWID;

-- The commits whose drafts have ids of a scope that are not forgotten.
CREATE TABLE id_commits (
    scope INTEGER NOT NULL REFERENCES scopes,
    at INTEGER NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (scope, at, n)
) STRICT, WITHOUT ROWID;

INSERT INTO scopes (pipeline, scope) SELECT DISTINCT pipeline, scope FROM ids;
INSERT INTO message_ids (scope, id, n)
    SELECT s.id, i.id, i.n FROM ids i JOIN scopes s ON s.pipeline = i.pipeline AND s.scope = i.scope;
INSERT INTO id_commits (scope, at, n)
    SELECT DISTINCT s.id, e.at, e.n FROM ids i JOIN scopes s ON s.pipeline = i.pipeline AND s.scope = i.scope
    JOIN entries e ON e.pipeline = i.pipeline AND e.n = i.n;
DROP TABLE ids;
";

/// When a server first looked after a pipeline: what came before was not missed. Those that had turns already were there long ago.
const VERSION_4: &str = "
ALTER TABLE pipelines ADD COLUMN first_served INTEGER;
UPDATE pipelines SET first_served = 0 WHERE 'serve:' || name IN (SELECT name FROM pipelines);
";

/// The newest version this program knows.
pub(super) fn newest() -> i64 {
    MIGRATIONS.len() as i64
}

/// Fails with `store_version` if the file is of a newer version than this program knows.
pub(super) fn check_version(database: &Database, version: i64) -> Result<()> {
    if version <= newest() {
        return Ok(());
    }
    Err(Error::new(
        Kind::Store,
        code::STORE_VERSION,
        format!("the store {} was written by a newer Longshore", database.path().display()),
    )
    .with("store_version", version)
    .with("known_version", newest())
    .hint("use that version or newer, or another store with `--store PATH`"))
}

/// Brings the file to the newest version, one transaction a version. Another process may do the same at the same time.
pub(super) async fn migrate(database: &Database) -> Result<()> {
    loop {
        let mut write = database.begin().await?;
        let step = step(database, &mut write).await;
        if write.finish("migrating", step).await? {
            return Ok(());
        }
    }
}

/// Applies the next migration; true if there is none left.
async fn step(database: &Database, connection: &mut SqliteConnection) -> Result<bool, Failure> {
    // Read within the transaction: another process may have migrated meanwhile.
    let version: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut *connection).await?;
    check_version(database, version)?;
    if version == newest() {
        return Ok(true);
    }
    if version == 0 {
        refuse_foreign(database, connection).await?;
    }
    let sql = MIGRATIONS[usize::try_from(version).unwrap_or(0)];
    sqlx::raw_sql(sql).execute(&mut *connection).await?;
    if version == 0 {
        sqlx::query("INSERT INTO store (one, id, created_at) VALUES (1, ?, ?)")
            .bind(uuid::Uuid::new_v4().to_string())
            .bind(now_nanos())
            .execute(&mut *connection)
            .await?;
    }
    let stamp = sqlx::AssertSqlSafe(format!("PRAGMA user_version = {}", version + 1));
    sqlx::raw_sql(stamp).execute(&mut *connection).await?;
    Ok(false)
}

/// A file of version 0 with tables in it is some other program's.
async fn refuse_foreign(database: &Database, connection: &mut SqliteConnection) -> Result<(), Failure> {
    let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_master").fetch_one(connection).await?;
    if tables == 0 {
        return Ok(());
    }
    let text = format!("{} is a database of another program", database.path().display());
    Err(Error::new(Kind::Store, code::STORE_UNAVAILABLE, text).hint("choose another folder with `--store PATH`").into())
}
