//! What only a store in a folder can do wrong.

use std::sync::Arc;
use std::time::Duration;

use longshore_core::commit::{AttemptId, Completion, Counts, Draft, EntryState, Landing};
use longshore_core::error::Retry;
use longshore_core::position::{Covers, Delta, Partition, Position};
use longshore_core::store::{Attempts, FileLedger, Journal, Lease, LeaseAnswer, Leases, Runs, Store, Writer};
use longshore_testkit::store_conformance::{Pair, check_all};
use tempfile::TempDir;

use super::SqliteStore;
use super::ids::{KNOWN, OLD};
use super::journal::{OPEN_ENTRIES, PUBLISHED};
use super::migrations::MIGRATIONS;
use crate::MemoryStore;

const LONG: Duration = Duration::from_secs(3600);

async fn open(folder: &TempDir) -> SqliteStore {
    SqliteStore::open(folder.path()).await.expect("opens")
}

async fn lease(store: &SqliteStore, valid: Duration) -> Lease {
    match store.take_lease("p", "tester", valid).await.expect("an answer") {
        LeaseAnswer::Granted(lease) => lease,
        LeaseAnswer::Held { holder, .. } => panic!("held by {holder}"),
    }
}

/// A draft without rows, which reads one partition up to `to`.
async fn draft(store: &SqliteStore, lease: &Lease, from: Option<u64>, to: u64) -> Draft {
    let delta = Delta { partition: Partition("a".into()), from: from.map(Position::from_count), to: Position::from_count(to) };
    Draft {
        pipeline: "p".into(),
        token: format!("token {to}"),
        writer: Writer::Lease(lease.epoch),
        run: "r".into(),
        attempts: vec![store.begin_attempt("p", Writer::Lease(lease.epoch)).await.expect("an attempt")],
        covers: vec![Covers::Deltas(vec![delta])],
        committables: Vec::new(),
        schemas: Default::default(),
        counts: Counts::default(),
        landings: Vec::new(),
        dead_letters: Vec::new(),
        replayed: Vec::new(),
        origins: Default::default(),
        held: Default::default(),
        acknowledge: None,
    }
}

fn position(to: u64) -> Option<Position> {
    Some(Position::from_count(to))
}

#[tokio::test]
async fn a_store_in_a_folder_does_what_a_store_must() {
    check_all(|| async {
        let folder = TempDir::new().expect("a folder");
        let (one, two) = (open(&folder).await, open(&folder).await);
        Pair { one: Arc::new(one), two: Arc::new(two), guard: Box::new(folder) }
    })
    .await;
}

#[tokio::test]
async fn a_store_in_memory_does_what_a_store_must() {
    check_all(|| async {
        let store = MemoryStore::new();
        Pair { one: Arc::new(store.clone()), two: Arc::new(store), guard: Box::new(()) }
    })
    .await;
}

#[tokio::test]
async fn a_lease_in_memory_can_be_expired_by_hand() {
    let (one, two) = {
        let store = MemoryStore::new();
        (store.clone(), store)
    };
    let LeaseAnswer::Granted(first) = one.take_lease("p", "one", LONG).await.expect("an answer") else { panic!("free") };
    drop(one);
    assert!(matches!(two.take_lease("p", "two", LONG).await, Ok(LeaseAnswer::Held { .. })), "a dropped handle frees nothing");
    two.expire_lease("p");
    assert!(matches!(two.take_lease("p", "two", LONG).await, Ok(LeaseAnswer::Granted(_))));
    assert_eq!(two.check_lease(&first).await.expect_err("taken over").code(), "lease_lost");
}

#[tokio::test]
async fn reopening_keeps_everything() {
    let folder = TempDir::new().expect("a folder");
    let store = open(&folder).await;
    let (id, run) = (store.id().to_owned(), store.begin_run("p").await.expect("a run"));
    let held = lease(&store, LONG).await;
    let mut asked = draft(&store, &held, None, 100).await;
    asked.landings = vec![Landing {
        table: Landing::WHOLE.into(),
        address: "in/a".into(),
        size: u64::MAX,
        version: "v".into(),
        digest: "d".into(),
        rows: 1,
        rejects: 0,
        refused: false,
        n: 0,
        run: run.clone(),
        records: None,
    }];
    let entry = store.journal(asked).await.expect("journalled");
    store.complete(Completion { pipeline: "p".into(), n: 1, epoch: held.epoch, receipts: Vec::new() }).await.expect("completed");
    let waiting = store.journal(draft(&store, &held, Some(100), 200).await).await.expect("journalled");
    let state = store.pipeline("p").await.expect("known");
    drop(store);

    let store = open(&folder).await;
    assert_eq!(store.id(), id);
    assert_eq!(store.pipeline("p").await.expect("known"), state);
    assert_eq!(state.open.iter().map(|entry| entry.n).collect::<Vec<_>>(), [entry.n, waiting.n]);
    assert_eq!(store.position("p", &Partition("a".into())).await.expect("known"), position(200));
    assert_eq!(store.landings("p", "in/a").await.expect("known")[0].size, u64::MAX);
    assert!(store.run(&run).await.expect("an answer").is_some());
}

#[tokio::test]
async fn a_lease_of_a_dead_holder_is_free_at_once_and_that_of_a_living_one_is_not() {
    let folder = TempDir::new().expect("a folder");
    let (one, two) = (open(&folder).await, open(&folder).await);
    let first = lease(&one, LONG).await;
    assert!(matches!(two.take_lease("p", "two", LONG).await, Ok(LeaseAnswer::Held { .. })));
    drop(one);
    let second = lease(&two, LONG).await;
    assert!(second.epoch > first.epoch);
}

#[tokio::test]
async fn a_stuck_holder_does_not_make_its_successor_look_dead() {
    let folder = TempDir::new().expect("a folder");
    let (stuck, next, third) = (open(&folder).await, open(&folder).await, open(&folder).await);
    lease(&stuck, Duration::ZERO).await;
    let taken = lease(&next, LONG).await;
    drop(stuck);
    assert!(matches!(third.take_lease("p", "third", LONG).await, Ok(LeaseAnswer::Held { .. })), "the successor lives");
    drop(next);
    assert!(lease(&third, LONG).await.epoch > taken.epoch);
}

#[tokio::test]
async fn a_lease_without_its_lock_file_has_to_expire() {
    let folder = TempDir::new().expect("a folder");
    let (one, two) = (open(&folder).await, open(&folder).await);
    let held = lease(&one, LONG).await;
    std::fs::remove_dir_all(folder.path().join("locks")).expect("removed");
    assert!(matches!(two.take_lease("p", "two", LONG).await, Ok(LeaseAnswer::Held { .. })));
    one.free_lease(&held).await.expect("freed");
    lease(&two, LONG).await;
}

#[tokio::test]
async fn lock_files_do_not_pile_up() {
    let folder = TempDir::new().expect("a folder");
    for _ in 0..3 {
        // The first frees its lease, the second does not.
        let store = open(&folder).await;
        let held = lease(&store, LONG).await;
        store.free_lease(&held).await.expect("freed");
        lease(&open(&folder).await, LONG).await;
    }
    let files = std::fs::read_dir(folder.path().join("locks")).expect("a folder").count();
    assert!(files <= 2, "{files} files: the one of the set-up and one lease are enough");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_open_a_new_folder_at_once() {
    for _ in 0..12 {
        let folder = TempDir::new().expect("a folder");
        let path = folder.path().join("new").join("store");
        let open = |_| {
            let path = path.clone();
            tokio::spawn(async move { SqliteStore::open(&path).await })
        };
        let openers: Vec<_> = (0..8).map(open).collect();
        let mut ids = std::collections::BTreeSet::new();
        for opener in openers {
            let store = opener.await.expect("no panic").expect("opens");
            store.begin_run("p").await.expect("writes");
            ids.insert(store.id().to_owned());
        }
        assert_eq!(ids.len(), 1, "one store was born");
        assert_eq!(SqliteStore::open(&path).await.expect("opens").runs(None, 100).await.expect("runs").len(), 8);
    }
}

#[tokio::test]
async fn looking_creates_nothing() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("none");
    assert!(SqliteStore::open_existing_read(&path).await.expect("an answer").is_none());
    assert!(!path.exists());
    assert!(SqliteStore::open_existing_read(folder.path()).await.expect("an answer").is_none());
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
    let run = open(&folder).await.begin_run("p").await.expect("a run");
    let store = SqliteStore::open_existing_read(folder.path()).await.expect("opens").expect("there");
    assert!(store.run(&run).await.expect("an answer").is_some());
    store.request_cancel(&run).await.expect("writing works");
}

#[tokio::test]
async fn readers_see_the_state_before_while_a_write_is_under_way() {
    let folder = TempDir::new().expect("a folder");
    let (one, two) = (open(&folder).await, open(&folder).await);
    let held = lease(&one, LONG).await;
    one.journal(draft(&one, &held, None, 100).await).await.expect("journalled");
    let mut write = one.database.begin().await.expect("begun");
    sqlx::query("UPDATE positions SET position = 'x'").execute(&mut *write).await.expect("written");
    for store in [&one, &two] {
        assert_eq!(store.position("p", &Partition("a".into())).await.expect("reads"), position(100));
        assert_eq!(store.pipeline("p").await.expect("reads").last, 1);
    }
    drop(write);
    assert_eq!(one.position("p", &Partition("a".into())).await.expect("reads"), position(100), "rolled back");
    assert_eq!(two.journal(draft(&two, &held, Some(100), 200).await).await.expect("nobody is locked out").n, 2);
}

#[tokio::test]
async fn a_call_that_is_given_up_half_way_leaves_nothing() {
    let folder = TempDir::new().expect("a folder");
    let store = open(&folder).await;
    let held = lease(&store, LONG).await;
    let (mut done, mut given_up) = (0, 0);
    for round in 0..60 {
        // From the first step of the call to its end.
        let polls = 1.25_f64.powi(round) as u64;
        let mut ended = false;
        let last = store.pipeline("p").await.expect("reads").last;
        let from = (last > 0).then_some(last as u64);
        let asked = draft(&store, &held, from, last as u64 + 1).await;
        let mut call = store.journal(asked);
        for _ in 0..polls {
            if futures::poll!(&mut call).is_ready() {
                ended = true;
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(call);
        *(if ended { &mut done } else { &mut given_up }) += 1;
        // A commit that was under way when its caller left may still come; nobody else writes before it did.
        store.begin_attempt("p", Writer::Lease(held.epoch)).await.expect("its turn comes");
        let state = store.pipeline("p").await.expect("reads");
        assert_eq!(state.open.len() as i64, state.last, "number and entry go together");
        let position = store.position("p", &Partition("a".into())).await.expect("reads");
        assert_eq!(position, (state.last > 0).then(|| Position::from_count(state.last as u64)));
    }
    assert!(done > 0 && given_up > 10, "{done} done, {given_up} given up");
}

/// With an entry as version 2 wrote it, and its ids.
#[tokio::test]
async fn a_store_of_version_2_keeps_its_entries_and_ids() {
    let folder = TempDir::new().expect("a folder");
    let options =
        sqlx::sqlite::SqliteConnectOptions::new().filename(folder.path().join(SqliteStore::FILE)).create_if_missing(true);
    let mut file = sqlx::ConnectOptions::connect(&options).await.expect("opens");
    for sql in &MIGRATIONS[..2] {
        sqlx::raw_sql(*sql).execute(&mut file).await.expect("made");
    }
    let rows = r#"
        PRAGMA user_version = 2;
        INSERT INTO store VALUES (1, 'born long ago', 0);
        INSERT INTO pipelines (id, name, ledger, last) VALUES (1, 'p', 'l', 2);
        INSERT INTO leases VALUES (1, 7, 'somebody', 0, 0);
        INSERT INTO attempts (id, pipeline, epoch, n) VALUES ('left', 1, 6, NULL), ('taken', 1, 7, 2);
        INSERT INTO entries (pipeline, n, token, state, amendment, at, draft)
            SELECT 1, column1, 't' || column1, column2, 0, column1 * 1000, '{"pipeline":"p","token":"t' || column1 || '","epoch":7,
                "run":"r","attempts":["taken"],"covers":[{"ids":{"scope":"s","ids":["old ' || column1 || '"]}}],"committables":[],
                "schemas":{},"counts":{"rows":{},"rejects":0,"bytes":0},"landings":[],"dead_letters":[],"replayed":[],"acknowledge":null}'
            FROM (VALUES (1, 2), (2, 0));
        INSERT INTO ids VALUES (1, 's', 'old 1', 1), (1, 's', 'old 2', 2);
        "#;
    sqlx::raw_sql(rows).execute(&mut file).await.expect("filled");
    sqlx::Connection::close(file).await.expect("closed");

    let store = open(&folder).await;
    assert_eq!(store.id(), "born long ago");
    let state = store.pipeline("p").await.expect("known");
    assert_eq!(state.open.iter().map(|entry| (entry.n, entry.draft.writer)).collect::<Vec<_>>(), [(2, Writer::Lease(7))]);
    let asked = ["old 1".to_owned(), "old 2".to_owned()];
    let known = store.known_ids("p", "s", &asked).await.expect("known");
    assert_eq!(known.into_values().collect::<Vec<_>>(), [EntryState::Acknowledged, EntryState::Journalled]);
    assert_eq!(store.forget_ids("p", "s", chrono::Utc::now()).await.expect("forgotten"), 1);
    assert_eq!(store.known_ids("p", "s", &asked).await.expect("known").into_keys().collect::<Vec<_>>(), ["old 2"]);
    let held = lease(&store, LONG).await;
    assert_eq!(store.doom_attempts("p", held.epoch, &[]).await.expect("doomed"), [AttemptId("left".into())]);
}

#[tokio::test]
async fn a_pipeline_of_version_3_that_was_served_has_been_for_long() {
    let folder = TempDir::new().expect("a folder");
    let options =
        sqlx::sqlite::SqliteConnectOptions::new().filename(folder.path().join(SqliteStore::FILE)).create_if_missing(true);
    let mut file = sqlx::ConnectOptions::connect(&options).await.expect("opens");
    for sql in &MIGRATIONS[..3] {
        sqlx::raw_sql(*sql).execute(&mut file).await.expect("made");
    }
    let rows = r#"
        PRAGMA user_version = 3;
        INSERT INTO store VALUES (1, 'born long ago', 0);
        INSERT INTO pipelines (name, ledger) VALUES ('served', '1'), ('serve:served', '2'), ('other', '3');
        "#;
    sqlx::raw_sql(rows).execute(&mut file).await.expect("filled");
    sqlx::Connection::close(file).await.expect("closed");
    let (store, now) = (open(&folder).await, chrono::DateTime::from_timestamp(1000, 0).expect("a time"));
    assert_eq!(store.first_served("served", now).await.expect("known"), chrono::DateTime::UNIX_EPOCH);
    assert_eq!(store.first_served("other", now).await.expect("kept"), now);
}

#[tokio::test]
async fn a_newer_store_is_refused() {
    let folder = TempDir::new().expect("a folder");
    let store = open(&folder).await;
    let mut write = store.database.begin().await.expect("begun");
    let stamped = sqlx::query("PRAGMA user_version = 99").execute(&mut *write).await.map(drop).map_err(Into::into);
    write.finish("stamping", stamped).await.expect("stamped");
    store.close().await;
    for result in [SqliteStore::open(folder.path()).await.map(Some), SqliteStore::open_existing_read(folder.path()).await] {
        let error = result.err().expect("refused");
        assert_eq!(error.code(), "store_version");
        assert!(error.context().contains(&("store_version", "99".to_owned())));
    }
}

#[tokio::test]
async fn a_file_that_is_no_store_is_refused_by_name() {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join(SqliteStore::FILE);
    std::fs::write(&file, "this is no database, but long enough to be looked at as one. ".repeat(40)).expect("written");
    let error = SqliteStore::open(folder.path()).await.err().expect("refused");
    assert_eq!(error.code(), "store_unavailable");
    assert!(error.message().contains(&file.display().to_string()), "{error}");
    assert!(error.hint_text().is_some());

    let folder = TempDir::new().expect("a folder");
    let options =
        sqlx::sqlite::SqliteConnectOptions::new().filename(folder.path().join(SqliteStore::FILE)).create_if_missing(true);
    let mut other = sqlx::ConnectOptions::connect(&options).await.expect("opens");
    sqlx::query("CREATE TABLE photos (id INTEGER)").execute(&mut other).await.expect("created");
    sqlx::Connection::close(other).await.expect("closed");
    let error = SqliteStore::open(folder.path()).await.err().expect("refused");
    assert!(error.message().contains("another program"), "{error}");
}

#[tokio::test]
async fn a_store_with_a_damaged_page_says_so() {
    let folder = TempDir::new().expect("a folder");
    let store = open(&folder).await;
    let held = lease(&store, LONG).await;
    store.journal(draft(&store, &held, None, 100).await).await.expect("journalled");
    store.close().await;
    let file = folder.path().join(SqliteStore::FILE);
    let mut bytes = std::fs::read(&file).expect("there");
    let page = 4096;
    assert!(bytes.len() > 4 * page, "the log was written back when the store was closed");
    bytes[page..].fill(0xA5);
    std::fs::write(&file, bytes).expect("written");
    let result = match SqliteStore::open(folder.path()).await {
        Ok(store) => store.pipeline("p").await.map(drop),
        Err(error) => Err(error),
    };
    let error = result.expect_err("damaged");
    assert_eq!(error.code(), "store_unavailable");
    assert!(error.message().contains("damaged") && error.message().contains("store.db"), "{error:?}");
}

#[tokio::test]
async fn a_folder_that_cannot_be_is_refused_with_a_hint() {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("file");
    std::fs::write(&file, "").expect("written");
    let error = SqliteStore::open(&file.join("store")).await.err().expect("refused");
    assert_eq!(error.code(), "store_unavailable");
    assert!(error.hint_text().is_some_and(|hint| hint.contains("--store")));
    assert!(SqliteStore::open_existing_read(&file.join("store")).await.expect("there is none").is_none());
}

#[tokio::test]
async fn a_full_disk_refuses_the_write_and_the_store_goes_on_when_there_is_room() {
    let folder = TempDir::new().expect("a folder");
    let store = open(&folder).await;
    let held = lease(&store, LONG).await;
    let mut asked = draft(&store, &held, None, 100).await;
    asked.run = "x".repeat(1 << 20);
    let mut write = store.database.begin().await.expect("begun");
    sqlx::query("PRAGMA max_page_count = 1").fetch_one(&mut *write).await.expect("no page more than now");
    write.finish("limiting", Ok(())).await.expect("limited");
    let error = store.journal(asked.clone()).await.expect_err("full");
    assert_eq!((error.code(), error.retry()), ("store_unavailable", Retry::Never));
    assert!(error.message().contains("full"), "{error}");
    assert_eq!(store.position("p", &Partition("a".into())).await.expect("reads"), None);
    // The limit was the connection's, and that is gone.
    assert_eq!(store.journal(asked).await.expect("room again").n, 1);
}

#[tokio::test]
async fn a_million_commits_do_not_make_a_pipeline_slow() {
    let folder = TempDir::new().expect("a folder");
    let store = open(&folder).await;
    let held = lease(&store, LONG).await;
    let asked = draft(&store, &held, None, 100).await;
    let mut write = store.database.begin().await.expect("begun");
    let filled: Result<(), sqlx::Error> = async {
        let draft = serde_json::to_string(&asked).expect("json");
        sqlx::query(
            "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 20000)
             INSERT INTO entries (pipeline, n, token, state, amendment, at, draft) SELECT 1, n, 'old ' || n, 2, 0, 0, ? FROM c",
        )
        .bind(draft)
        .execute(&mut *write)
        .await?;
        sqlx::query("UPDATE pipelines SET last = 20000").execute(&mut *write).await?;
        Ok(())
    }
    .await;
    write.finish("filling", filled.map_err(Into::into)).await.expect("filled");
    assert_eq!(store.journal(asked).await.expect("journalled").n, 20001);
    let state = store.pipeline("p").await.expect("known");
    assert_eq!((state.last, state.open.len()), (20001, 1));
    for (sql, index) in [(OPEN_ENTRIES, "entries_open"), (PUBLISHED, "PRIMARY KEY")] {
        let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"));
        let plan: Vec<(i64, i64, i64, String)> =
            sqlx::query_as(explain).bind(1).fetch_all(store.database.readers()).await.expect("a plan");
        assert_eq!(plan.len(), 1, "one step, no sorting: {plan:?}");
        assert!(plan[0].3.starts_with("SEARCH") && plan[0].3.contains(index), "{plan:?}");
    }
}

#[tokio::test]
async fn ids_are_found_one_by_one_among_millions() {
    let folder = TempDir::new().expect("a folder");
    let store = open(&folder).await;
    for (sql, inner) in [(KNOWN, "asked"), (OLD, "c")] {
        let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"));
        let plan: Vec<(i64, i64, i64, String)> =
            sqlx::query_as(explain).fetch_all(store.database.readers()).await.expect("a plan");
        let steps: Vec<&str> = plan.iter().map(|(_, _, _, step)| step.as_str()).collect();
        let is_quick = |step: &&str| step.starts_with("SEARCH") || *step == "SCAN asked VIRTUAL TABLE INDEX 1:";
        assert!(steps.iter().all(is_quick), "nothing is scanned or sorted: {steps:?}");
        assert!(
            steps[2].split(' ').nth(1) == Some(inner),
            "the list or the commits come before what they are looked up in: {steps:?}"
        );
    }
}

/// Prints how long a store takes for what a subscription with many messages asks of it.
#[tokio::test]
#[ignore = "a measurement: run it by its name, with --nocapture"]
async fn measure_commits_of_thirty_thousand_ids() {
    let folder = TempDir::new().expect("a folder");
    let store = open(&folder).await;
    let held = lease(&store, LONG).await;
    let commits: u64 = std::env::var("COMMITS").map_or(30, |text| text.parse().expect("a number"));
    let (mut slowest, begun) = (Duration::ZERO, std::time::Instant::now());
    let (mut journalled, mut acknowledged) = (Duration::ZERO, Duration::ZERO);
    for commit in 0..commits {
        let mut asked = draft(&store, &held, (commit > 0).then_some(commit), commit + 1).await;
        asked.covers = vec![Covers::Ids { scope: "projects/p/subscriptions/s".into(), ids: message_ids(commit) }];
        let start = std::time::Instant::now();
        let entry = store.journal(asked).await.expect("journalled");
        slowest = slowest.max(start.elapsed());
        journalled += start.elapsed();
        let start = std::time::Instant::now();
        store
            .complete(Completion { pipeline: "p".into(), n: entry.n, epoch: held.epoch, receipts: Vec::new() })
            .await
            .expect("done");
        store.acknowledged("p", entry.n).await.expect("acknowledged");
        acknowledged += start.elapsed();
    }
    println!(
        "journal {:.0?} a commit of 30,000 ids, the slowest {slowest:.0?}; complete and acknowledge {:.0?}; all {:.1?}",
        journalled / commits as u32,
        acknowledged / commits as u32,
        begun.elapsed()
    );
    let start = std::time::Instant::now();
    let known = store.known_ids("p", "projects/p/subscriptions/s", &message_ids(commits / 2)).await.expect("known").len();
    println!("known_ids of {known}: {:.0?}", start.elapsed());
    let size =
        || ["", "-wal"].map(|end| std::fs::metadata(folder.path().join(format!("store.db{end}"))).map_or(0, |m| m.len()) >> 20);
    println!("file and log {:?} MiB for {} ids", size(), commits * 30_000);
    let start = std::time::Instant::now();
    let forgotten = store.forget_ids("p", "projects/p/subscriptions/s", chrono::Utc::now()).await.expect("forgotten");
    println!("forgetting {forgotten}: {:.1?}; file and log {:?} MiB", start.elapsed(), size());
    assert_eq!((known, forgotten), (30_000, commits * 30_000));
}

/// As Pub/Sub gives them: numbers of 17 digits, somewhat in order.
fn message_ids(commit: u64) -> Vec<String> {
    let scattered = |i: u64| (commit * 30_000 + i).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 44;
    (0..30_000).map(|i| format!("{:017}", 10_000_000_000_000_000 + (commit * 30_000 + i) * 1_048_576 + scattered(i))).collect()
}

#[tokio::test]
async fn every_write_is_on_disk_before_its_answer() {
    let folder = TempDir::new().expect("a folder");
    let store = open(&folder).await;
    let mut write = store.database.begin().await.expect("begun");
    for (pragma, expected) in [("PRAGMA synchronous", "2"), ("PRAGMA foreign_keys", "1")] {
        let value: i64 = sqlx::query_scalar(pragma).fetch_one(&mut *write).await.expect("a value");
        assert_eq!(value.to_string(), expected, "{pragma}");
    }
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut *write).await.expect("a value");
    assert_eq!(mode, "wal");
}

/// The process that [`a_kill_at_any_moment_leaves_a_whole_store`] kills: it commits until it dies, and says what is done.
#[tokio::test]
#[ignore = "started, and killed, by another test"]
async fn commits_until_it_is_killed() {
    let Some(folder) = std::env::var_os(KILLED) else { return };
    let store = SqliteStore::open(folder.as_ref()).await.expect("opens");
    let held = lease(&store, LONG).await;
    for attempt in store.doom_attempts("p", held.epoch, &[]).await.expect("doomed") {
        store.swept(&[attempt]).await.expect("swept");
    }
    loop {
        let last = store.pipeline("p").await.expect("reads").last as u64;
        let entry = store.journal(draft(&store, &held, (last > 0).then_some(last), last + 1).await).await.expect("journalled");
        let completion = Completion { pipeline: "p".into(), n: entry.n, epoch: held.epoch, receipts: Vec::new() };
        store.complete(completion).await.expect("completed");
        store.acknowledged("p", entry.n).await.expect("acknowledged");
        println!("done {}", entry.n);
    }
}

const KILLED: &str = "LONGSHORE_TEST_KILLED_STORE";

#[tokio::test]
async fn a_kill_at_any_moment_leaves_a_whole_store() {
    use std::io::BufRead;

    let folder = TempDir::new().expect("a folder");
    for round in 1..=6 {
        let mut child = std::process::Command::new(std::env::current_exe().expect("this test"))
            .args(["sqlite::tests::commits_until_it_is_killed", "--exact", "--ignored", "--nocapture"])
            .env(KILLED, folder.path())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("starts");
        let lines = std::io::BufReader::new(child.stdout.take().expect("piped")).lines();
        let done = lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("done ")?.parse::<i64>().ok());
        let told = done.take(round * 7).last().expect("it commits");
        child.kill().expect("killed");
        child.wait().expect("dead");

        let store = open(&folder).await;
        let state = store.pipeline("p").await.expect("reads");
        assert!(state.last >= told, "what was said to be done is done");
        assert!(state.open.len() <= 1);
        let position = store.position("p", &Partition("a".into())).await.expect("reads");
        assert_eq!(position, Some(Position::from_count(state.last as u64)));
        // The dead process held a lease for an hour; its file lock is free. The next round takes it likewise.
        let held = lease(&store, LONG).await;
        store.check_lease(&held).await.expect("ours");
        let mut write = store.database.begin().await.expect("begun");
        let sound: String = sqlx::query_scalar("PRAGMA integrity_check").fetch_one(&mut *write).await.expect("checked");
        write.finish("checking", Ok(())).await.expect("ended");
        assert_eq!(sound, "ok");
    }
}
