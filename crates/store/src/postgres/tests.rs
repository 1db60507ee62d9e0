//! What only a store on a server can do wrong. Needs PostgreSQL, see `cargo x services`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use longshore_core::commit::{Completion, Counts, Draft, Entry};
use longshore_core::error::{Error, Retry};
use longshore_core::position::{Covers, Delta, Partition, Position};
use longshore_core::store::{Attempts, Journal, Lease, LeaseAnswer, Leases, Runs, Store, Worker, Workers, Writer};
use longshore_testkit::services::Postgres;
use longshore_testkit::store_conformance::{Pair, check_all};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use super::PostgresStore;
use super::database::{CONNECTIONS, RENEWALS, query, query_scalar};

const LONG: Duration = Duration::from_secs(3600);

/// A schema of its own in a database.
fn schema(database: &str) -> String {
    static SCHEMAS: AtomicU64 = AtomicU64::new(0);
    let sign = if database.contains('?') { '&' } else { '?' };
    format!("{database}{sign}schema=s{}", SCHEMAS.fetch_add(1, Ordering::Relaxed))
}

async fn open(url: &str) -> PostgresStore {
    PostgresStore::open(url).await.expect("opens")
}

async fn lease(store: &PostgresStore) -> Lease {
    match store.take_lease("p", "tester", LONG).await.expect("an answer") {
        LeaseAnswer::Granted(lease) => lease,
        LeaseAnswer::Held { holder, .. } => panic!("held by {holder}"),
    }
}

/// A draft without rows, which reads one partition one step on.
async fn draft(store: &PostgresStore, writer: Writer, partition: &str, to: u64) -> Result<Draft, Error> {
    let from = (to > 1).then(|| Position::from_count(to - 1));
    let delta = Delta { partition: Partition(partition.into()), from, to: Position::from_count(to) };
    Ok(Draft {
        pipeline: "p".into(),
        token: format!("{partition} {to}"),
        writer,
        run: "r".into(),
        attempts: vec![store.begin_attempt("p", writer).await?],
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
    })
}

/// Asks again as the engine does: while the error says that it may help.
async fn persistently<T, F: Future<Output = Result<T, Error>>>(call: impl Fn() -> F) -> T {
    for _ in 0..600 {
        match call().await {
            Ok(value) => return value,
            Err(error) if error.retry() == Retry::Backoff => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => panic!("{error:?}"),
        }
    }
    panic!("it does not end");
}

/// As an administrator.
async fn admin(url: &str) -> PgConnection {
    PgConnection::connect(url.split('?').next().expect("a URL")).await.expect("connects")
}

async fn does_what_a_store_must(database: &str) {
    check_all(|| async {
        let url = schema(database);
        let (one, two) = (open(&url).await, open(&url).await);
        Pair { one: Arc::new(one), two: Arc::new(two), guard: Box::new(()) }
    })
    .await;
}

#[tokio::test]
async fn a_store_on_the_newest_server_does_what_a_store_must() {
    let Some(server) = Postgres::start().await else { return };
    does_what_a_store_must(&server.database().await).await;
}

#[tokio::test]
async fn a_store_on_an_old_server_does_what_a_store_must() {
    let Some(server) = Postgres::start_version(13).await else { return };
    does_what_a_store_must(&server.database().await).await;
}

/// Behind a pooler, say, or in a cloud. The database must be empty.
#[tokio::test]
#[ignore = "needs a database of your own: LONGSHORE_TEST_STORE_URL=postgres://..."]
async fn a_store_of_your_own_does_what_a_store_must() {
    does_what_a_store_must(&std::env::var("LONGSHORE_TEST_STORE_URL").expect("LONGSHORE_TEST_STORE_URL")).await;
}

#[tokio::test]
async fn reopening_keeps_everything() {
    let Some(server) = Postgres::start().await else { return };
    let url = schema(&server.database().await);
    let store = open(&url).await;
    let id = store.id().to_owned();
    let held = lease(&store).await;
    let entry =
        store.journal(draft(&store, Writer::Lease(held.epoch), "a", 1).await.expect("a draft")).await.expect("journalled");
    let state = store.pipeline("p").await.expect("known");
    store.close().await;
    let store = PostgresStore::open_existing_read(&url).await.expect("opens").expect("there");
    assert_eq!(store.id(), id);
    assert_eq!(store.pipeline("p").await.expect("known"), state);
    assert_eq!(state.open, [entry]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_open_a_new_store_at_once() {
    let Some(server) = Postgres::start().await else { return };
    let database = server.database().await;
    for _ in 0..5 {
        let url = schema(&database);
        let openers: Vec<_> = (0..8)
            .map(|_| {
                tokio::spawn({
                    let url = url.clone();
                    async move { PostgresStore::open(&url).await }
                })
            })
            .collect();
        let mut ids = BTreeSet::new();
        for opener in openers {
            let store = opener.await.expect("no panic").expect("opens");
            store.begin_run("p").await.expect("writes");
            ids.insert(store.id().to_owned());
        }
        assert_eq!(ids.len(), 1, "one store was born");
        assert_eq!(open(&url).await.runs(None, 100).await.expect("runs").len(), 8);
    }
}

#[tokio::test]
async fn looking_creates_nothing() {
    let Some(server) = Postgres::start().await else { return };
    let url = schema(&server.database().await);
    assert!(PostgresStore::open_existing_read(&url).await.expect("an answer").is_none());
    let schemas: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 's%'")
        .fetch_one(&mut admin(&url).await)
        .await
        .expect("counted");
    assert_eq!(schemas, 0);
}

#[tokio::test]
async fn a_user_who_owns_the_schema_needs_no_other_right() {
    let Some(server) = Postgres::start().await else { return };
    let database = server.database().await;
    let mut administrator = admin(&database).await;
    let as_user = database.replace("postgres@", "lander@");
    administrator.execute("CREATE ROLE lander LOGIN").await.expect("made");
    let error = PostgresStore::open(&as_user).await.err().expect("it may not create a schema");
    assert_eq!((error.code(), error.retry()), ("store_unavailable", Retry::AfterFix), "{error:?}");
    administrator.execute("CREATE SCHEMA longshore AUTHORIZATION lander").await.expect("made");
    open(&as_user).await.begin_run("p").await.expect("writes");

    administrator.execute("CREATE ROLE stranger LOGIN").await.expect("made");
    let error = PostgresStore::open(&database.replace("postgres@", "stranger@")).await.err().expect("not theirs");
    assert_eq!(error.retry(), Retry::AfterFix, "{error:?}");
}

#[tokio::test]
async fn a_schema_of_another_program_and_a_newer_store_are_refused() {
    let Some(server) = Postgres::start().await else { return };
    let database = server.database().await;
    let mut administrator = admin(&database).await;
    administrator.execute("CREATE SCHEMA photos; CREATE TABLE photos.albums (id integer)").await.expect("made");
    let error = PostgresStore::open(&format!("{database}?schema=photos")).await.err().expect("refused");
    assert!(error.message().contains("another program's"), "{error}");

    let url = schema(&database);
    open(&url).await.close().await;
    let name = url.rsplit_once('=').expect("named").1;
    administrator.execute(AssertSqlSafe(format!("UPDATE {name}.store SET version = 99"))).await.expect("stamped");
    for result in [PostgresStore::open(&url).await.map(Some), PostgresStore::open_existing_read(&url).await] {
        let error = result.err().expect("refused");
        assert_eq!(error.code(), "store_version");
        assert!(error.context().contains(&("store_version", "99".to_owned())));
    }
}

#[tokio::test]
async fn a_store_of_version_1_is_brought_up_to_date() {
    let Some(server) = Postgres::start().await else { return };
    let url = schema(&server.database().await);
    let (name, mut administrator) = (url.rsplit_once('=').expect("named").1, admin(&url).await);
    let store = open(&url).await;
    for pipeline in ["served", "serve:served", "other"] {
        store.pipeline(pipeline).await.expect("made");
    }
    store.close().await;
    let back = format!("ALTER TABLE {name}.pipelines DROP COLUMN first_served; UPDATE {name}.store SET version = 1");
    administrator.execute(AssertSqlSafe(back)).await.expect("made old");
    let (store, now) = (open(&url).await, chrono::DateTime::from_timestamp(1000, 0).expect("a time"));
    assert_eq!(store.first_served("served", now).await.expect("known"), chrono::DateTime::UNIX_EPOCH);
    assert_eq!(store.first_served("other", now).await.expect("kept"), now);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_tried_again_and_its_password_is_not_shown() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("a port").port();
    let url = format!("postgres://me:s3cr3t@127.0.0.1:{port}/books");
    let error = PostgresStore::open(&url).await.err().expect("nobody listens");
    assert_eq!((error.code(), error.retry()), ("store_unavailable", Retry::Backoff));
    let shown = format!("{error} {error:?} {:?}", error.hint_text());
    assert!(!shown.contains("s3cr3t") && shown.contains(&format!("me@127.0.0.1:{port}/books")), "{shown}");
}

#[tokio::test]
async fn a_certificate_that_is_not_there_is_for_a_person_to_mend() {
    let Some(server) = Postgres::start().await else { return };
    let url = format!("{}?sslmode=verify-ca&sslrootcert=/no/such/file.pem", server.url());
    let error = PostgresStore::open(&url).await.err().expect("no such file");
    assert_eq!((error.code(), error.retry()), ("store_unavailable", Retry::AfterFix), "{error:?}");
    let error = PostgresStore::open(&format!("{}?sslmode=require", server.url())).await.err().expect("it has no TLS");
    assert_eq!(error.retry(), Retry::AfterFix, "{error:?}");
}

/// A pooler may give each transaction another session, and a session to others in between.
#[tokio::test]
async fn a_transaction_needs_nothing_of_its_session() {
    let Some(server) = Postgres::start().await else { return };
    let url = schema(&server.database().await);
    let mut administrator = admin(&url).await;
    for setting in
        ["synchronous_commit = off", "default_transaction_isolation = 'serializable'", "default_transaction_read_only = on"]
    {
        let database = url.split(['/', '?']).nth(3).expect("a name");
        let sql = AssertSqlSafe(format!("ALTER DATABASE {database} SET {setting}"));
        administrator.execute(sql).await.expect("set");
    }
    let store = open(&url).await;
    let held = lease(&store).await;
    let asked = draft(&store, Writer::Lease(held.epoch), "a", 1).await.expect("a draft");
    let entry = store.journal(asked).await.expect("journalled");
    store.complete(Completion { pipeline: "p".into(), n: entry.n, epoch: held.epoch, receipts: Vec::new() }).await.expect("done");

    let mut write = store.database.begin().await.expect("begun");
    for (setting, expected) in [
        ("synchronous_commit", "on"),
        ("transaction_isolation", "read committed"),
        ("transaction_read_only", "off"),
        ("lock_timeout", "20s"),
        ("idle_in_transaction_session_timeout", "30s"),
    ] {
        let value: String =
            query_scalar("SELECT current_setting($1)").bind(setting).fetch_one(&mut *write).await.expect("a value");
        assert_eq!(value, expected, "{setting}");
    }
    let prepared: i64 =
        query_scalar("SELECT count(*) FROM pg_prepared_statements").fetch_one(&mut *write).await.expect("counted");
    assert_eq!(prepared, 0);
    // What somebody else left in the session.
    query("CREATE TEMPORARY TABLE entries (n bigint)").execute(&mut *write).await.expect("made");
    write.finish("preparing", Ok(())).await.expect("committed");
    assert_eq!(store.pipeline("p").await.expect("known").open.len(), 1);
    let mut write = store.database.begin().await.expect("begun");
    let value: String = query_scalar("SELECT current_setting('search_path')").fetch_one(&mut *write).await.expect("a value");
    assert!(value.ends_with(", pg_temp"), "{value}");
}

#[tokio::test]
async fn a_call_that_is_given_up_half_way_leaves_nothing() {
    let Some(server) = Postgres::start().await else { return };
    let url = schema(&server.database().await);
    let store = open(&url).await;
    let writer = Writer::Lease(lease(&store).await.epoch);

    // While it waits for somebody.
    let mut other = admin(&url).await;
    let sql = format!("BEGIN; SELECT id FROM {}.pipelines FOR UPDATE", url.rsplit_once('=').expect("named").1);
    let asked = draft(&store, writer, "b", 1).await.expect("a draft");
    other.execute(AssertSqlSafe(sql)).await.expect("locked");
    tokio::time::timeout(Duration::from_millis(100), store.journal(asked.clone())).await.expect_err("it waits");
    other.execute("COMMIT").await.expect("freed");
    assert_eq!(store.pipeline("p").await.expect("reads").last, 0);

    // From the first step of the call to its end, however many that are.
    let (mut polls, mut done) = (1.0_f64, 0);
    while done < 4 {
        polls *= 1.3;
        let next = store.pipeline("p").await.expect("reads").last as u64 + 1;
        let asked = draft(&store, writer, "a", next).await.expect("a draft");
        let mut call = store.journal(asked);
        let mut ended = false;
        for _ in 0..polls as u64 {
            ended = futures::poll!(&mut call).is_ready();
            if ended {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(call);
        done += i32::from(ended);
        // A commit that was under way when its caller left may still come; nobody else writes before it did.
        store.begin_attempt("p", writer).await.expect("its turn comes");
        let state = store.pipeline("p").await.expect("reads");
        assert_eq!(state.open.len() as i64, state.last, "number and entry go together");
        let position = store.position("p", &Partition("a".into())).await.expect("reads");
        assert_eq!(position, (state.last > 0).then(|| Position::from_count(state.last as u64)));
    }
    store.journal(asked).await.expect("its attempt was left alone");
}

/// A worker that journals so many commits, whatever happens.
async fn work(url: &str, name: &str, commits: u64) -> Vec<Entry> {
    let store = persistently(|| PostgresStore::open(url)).await;
    let worker: Worker = persistently(|| store.join("p", name, LONG)).await;
    let writer = Writer::Worker { worker: worker.id };
    let mut entries = Vec::new();
    for to in 1..=commits {
        let asked = persistently(|| draft(&store, writer, name, to)).await;
        entries.push(persistently(|| store.journal(asked.clone())).await);
    }
    entries
}

/// Whatever happened meanwhile: every number is there once, and every draft was journalled once.
async fn check_numbers(url: &str, workers: &[Vec<Entry>]) {
    let store = open(url).await;
    let mut given: Vec<i64> = workers.iter().flatten().map(|entry| entry.n).collect();
    given.sort_unstable();
    assert_eq!(given, (1..=given.len() as i64).collect::<Vec<_>>());
    let open = store.pipeline("p").await.expect("known").open;
    assert_eq!(open.len(), given.len());
    let tokens: BTreeSet<&str> = open.iter().map(|entry| entry.draft.token.as_str()).collect();
    assert_eq!(tokens.len(), given.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_killed_connection_loses_nothing_and_repeats_nothing() {
    let Some(server) = Postgres::start().await else { return };
    let url = schema(&server.database().await);
    open(&url).await.close().await;
    let stop = Arc::new(AtomicBool::new(false));
    let killer = tokio::spawn({
        let (url, stop) = (url.clone(), stop.clone());
        async move {
            const KILL: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                WHERE application_name = 'longshore' AND datname = current_database() AND (state <> 'idle' OR random() < 0.1)";
            let mut administrator = admin(&url).await;
            let mut killed = 0;
            while !stop.load(Ordering::Relaxed) {
                killed += sqlx::query_scalar::<_, i64>(KILL).fetch_one(&mut administrator).await.expect("killed");
                tokio::time::sleep(Duration::from_millis(7)).await;
            }
            killed
        }
    });
    let (one, two) = tokio::join!(work(&url, "one", 60), work(&url, "two", 60));
    stop.store(true, Ordering::Relaxed);
    let killed = killer.await.expect("no panic");
    assert!(killed > 20, "{killed} connections were killed");
    check_numbers(&url, &[one, two]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_crashes_and_starts_again_has_all_it_said_it_has() {
    let Some(server) = Postgres::start().await else { return };
    let url = schema(&server.database().await);
    let store = open(&url).await;
    let worker = store.join("p", "first", LONG).await.expect("joined");
    let writer = Writer::Worker { worker: worker.id };
    let asked = draft(&store, writer, "before", 1).await.expect("a draft");
    let first = store.journal(asked.clone()).await.expect("journalled");
    let crash = async {
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(60)).await;
            server.stop().await;
            let error = store.journal(asked.clone()).await.expect_err("there is no server");
            assert_eq!((error.code(), error.retry()), ("store_unavailable", Retry::Backoff));
            server.start_again().await;
            assert_eq!(persistently(|| store.journal(asked.clone())).await, first);
        }
    };
    let (one, two, ()) = tokio::join!(work(&url, "one", 150), work(&url, "two", 150), crash);
    check_numbers(&url, &[vec![first], one, two]).await;
}

#[tokio::test]
async fn a_renewal_does_not_wait_for_whatever_else_is_done() {
    let Some(server) = Postgres::start().await else { return };
    let store = open(&schema(&server.database().await)).await;
    let (lease, worker) = (lease(&store).await, store.join("p", "first", LONG).await.expect("joined"));
    let mut busy = Vec::new();
    for _ in 0..CONNECTIONS - RENEWALS {
        busy.push(store.database.begin().await.expect("begun"));
    }
    let moment = Duration::from_secs(5);
    assert!(tokio::time::timeout(moment / 10, store.runs(None, 1)).await.is_err(), "anything else waits");
    tokio::time::timeout(moment, store.renew_lease(&lease, LONG)).await.expect("at once").expect("renewed");
    tokio::time::timeout(moment, store.renew_worker(&worker, LONG)).await.expect("at once").expect("renewed");
    let connections: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'longshore'")
        .fetch_one(&mut admin(&server.url()).await)
        .await
        .expect("counted");
    assert!(connections <= CONNECTIONS as i64, "{connections}");
}

/// As after a failover that the address does not follow yet.
#[tokio::test]
async fn a_standby_is_tried_again_and_known_by_whoever_asks_to_write() {
    let Some(server) = Postgres::start().await else { return };
    let url = schema(&server.database().await);
    let store = open(&url).await;
    let lease = lease(&store).await;
    admin(&url).await.execute("CHECKPOINT").await.expect("written");
    server.stop().await;
    server.start_as_standby().await;
    assert!(persistently(|| store.runs(None, 1)).await.is_empty(), "it reads");
    let nobodys = Lease { pipeline: "nobody's".into(), epoch: 0, holder: String::new() };
    for error in [
        store.begin_run("p").await.expect_err("it cannot be written"),
        store.renew_lease(&lease, LONG).await.expect_err("it cannot be written"),
        store.free_lease(&nobodys).await.expect_err("even if nothing is to be written"),
    ] {
        assert_eq!((error.code(), error.retry()), ("store_unavailable", Retry::Backoff), "{error:?}");
        assert!(error.message().contains("only reads"), "{error}");
    }
}

/// Prints how long a store takes for what a subscription with many messages asks of it.
#[tokio::test]
#[ignore = "a measurement: run it by its name, with --nocapture"]
async fn measure_commits_of_thirty_thousand_ids() {
    let Some(server) = Postgres::start().await else { return };
    let url = schema(&server.database().await);
    let store = open(&url).await;
    let held = lease(&store).await;
    let commits: u64 = std::env::var("COMMITS").map_or(30, |text| text.parse().expect("a number"));
    let ids = |commit: u64| (0..30_000).map(|i| format!("{:017}", 10_000_000_000 + commit * 30_000 + i)).collect::<Vec<_>>();
    let (mut slowest, mut journalled, mut acknowledged) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    for commit in 0..commits {
        let mut asked = draft(&store, Writer::Lease(held.epoch), "a", commit + 1).await.expect("a draft");
        asked.covers = vec![Covers::Ids { scope: "projects/p/subscriptions/s".into(), ids: ids(commit) }];
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
        "journal {:.0?} a commit of 30,000 ids, the slowest {slowest:.0?}; complete and acknowledge {:.0?}",
        journalled / commits as u32,
        acknowledged / commits as u32,
    );
    let start = std::time::Instant::now();
    let known = store.known_ids("p", "projects/p/subscriptions/s", &ids(commits / 2)).await.expect("known").len();
    println!("known_ids of {known}: {:.0?}", start.elapsed());
    let size: i64 = sqlx::query_scalar("SELECT pg_database_size(current_database())")
        .fetch_one(&mut admin(&url).await)
        .await
        .expect("a size");
    println!("database {} MiB for {} ids", size >> 20, commits * 30_000);
    let start = std::time::Instant::now();
    let before = chrono::Utc::now() + Duration::from_secs(1);
    let forgotten = store.forget_ids("p", "projects/p/subscriptions/s", before).await.expect("forgotten");
    println!("forgetting {forgotten}: {:.1?}", start.elapsed());
    assert_eq!((known, forgotten), (30_000, commits * 30_000));
}
