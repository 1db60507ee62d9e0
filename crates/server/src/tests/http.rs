//! Real requests.

use std::collections::BTreeMap;

use longshore_core::commit::{Committable, Completion, Counts, Draft, Receipt, WriteDisposition};
use longshore_core::error::code::LEASE_HELD;
use longshore_core::store::{Attempts as _, Journal as _, LeaseAnswer, Leases as _, Runs as _, Writer};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::*;
use crate::http::{AT_ONCE, Api, answer, bind};

/// A server that answers, and its store.
struct Site {
    address: String,
    board: Arc<Board>,
    store: Arc<MemoryStore>,
    stop: Stop,
    history: Arc<Semaphore>,
}

impl Site {
    async fn new() -> Self {
        let listener = bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let (board, store, stop) = (Arc::new(Board::default()), Arc::new(MemoryStore::new()), Stop::default());
        let api = Api::new(board.clone(), store.clone(), stop.clone());
        let history = api.history.clone();
        tokio::spawn(answer(listener, api, Stop::default()));
        Self { address, board, store, stop, history }
    }

    /// Status, headers in lower case, body.
    async fn ask(&self, method: &str, path: &str) -> (u16, String, String) {
        let mut socket = TcpStream::connect(&self.address).await.expect("it listens");
        let request = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.address);
        socket.write_all(request.as_bytes()).await.expect("sent");
        let mut text = String::new();
        socket.read_to_string(&mut text).await.expect("answered");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, head.to_lowercase(), body.to_owned())
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let (status, head, body) = self.ask("GET", path).await;
        assert!(head.contains("content-type: application/json"), "{head}");
        (status, serde_json::from_str(&body).unwrap_or_else(|e| panic!("{e} in {body}")))
    }
}

fn job(name: &str) -> Job {
    let runner = Fake::endless(Duration::ZERO);
    let File::Job(job) = endless(&format!("{name}.yaml"), name, "1", &runner) else { panic!("a job") };
    job
}

#[tokio::test]
async fn health_is_of_the_process_and_readiness_of_its_pipelines() {
    let site = Site::new().await;
    assert_eq!(site.get("/healthz").await, (200, json!({"status": "ok"})));
    let reason = json!({"server": "starting", "reason": "the folder has not been looked at yet"});
    assert_eq!(site.get("/readyz").await, (503, json!({"status": "not ready", "reasons": [reason]})));
    site.board.looked(None);
    assert_eq!(site.get("/readyz").await, (200, json!({"status": "ready"})));
    site.board.appear(&job("a"), dawn());
    let (status, answer) = site.get("/readyz").await;
    assert_eq!((status, &answer["reasons"]), (503, &json!([{"pipeline": "a", "reason": "starting"}])));
    site.board.change("a", |known| known.enter(state::State::Running, dawn()));
    assert_eq!(site.get("/readyz").await.0, 200);
    let failure = Failure { error: "b.yaml:3:5: no".into(), code: "config".into(), place: None, hint: None };
    site.board.set_files([("b.yaml".to_owned(), failure)].into());
    let (status, answer) = site.get("/readyz").await;
    assert_eq!((status, &answer["reasons"]), (503, &json!([{"file": "b.yaml", "reason": "b.yaml:3:5: no"}])));
    site.board.set_files([].into());
    // A standby still reads.
    site.store.lose_answer("free_lease");
    let (status, answer) = site.get("/readyz").await;
    assert_eq!((status, &answer["reasons"][0]["server"]), (503, &json!("store")), "{answer}");
    assert_eq!(site.get("/readyz").await.0, 200);
    assert!(site.store.pipelines().await.expect("names").is_empty(), "asking leaves nothing behind");
    site.stop.request();
    let (status, answer) = site.get("/readyz").await;
    assert_eq!((status, &answer["reasons"][0]["server"]), (503, &json!("stopping")));
    assert_eq!(site.get("/healthz").await.0, 200);
}

#[tokio::test]
async fn pipelines_are_told_with_what_they_do_and_how_they_failed() {
    let site = Site::new().await;
    site.board.appear(&job("a"), dawn());
    let error = Error::new(ErrorKind::Source, LEASE_HELD, "the broker is away").hint("look at it");
    site.board.change("a", |known| {
        known.enter(state::State::Retrying, dawn());
        known.next = Some(dawn() + TimeDelta::seconds(4));
        known.last_error = Some(state::LastError { at: dawn(), failure: Failure::from(&error) });
        let lag = |name: &str, messages| longshore_core::stream::Lag { name: name.into(), messages };
        known.lag = vec![lag("t/0", Some(3)), lag("t/1", Some(4)), lag("s", None)];
        known
            .tables
            .insert("orders".into(), state::Table { rows: 9, parked: 1, reason: Some("locked".into()), ..Default::default() });
    });
    let (status, answer) = site.get("/api/pipelines").await;
    let expected = json!({
        "name": "a", "file": "a.yaml", "kind": "endless", "schedule": null, "state": "retrying",
        "since": "2026-05-01T00:00:30Z", "next": "2026-05-01T00:00:34Z",
        "last_error": {"at": "2026-05-01T00:00:30Z", "error": "the broker is away", "code": "lease_held", "hint": "look at it"},
        "last_success": null, "stalled": null,
        "lag": [{"name": "t/0", "messages": 3}, {"name": "t/1", "messages": 4}, {"name": "s", "messages": null}],
        "tables": {"orders": {"rows": 9, "shown_at": null, "delay_seconds": null, "parked": 1, "reason": "locked"}},
        "totals": {"messages": 0, "bytes": 0, "commits": 0, "dead_letters": 0, "failures": 0},
        "lag_messages": 7,
    });
    assert_eq!((status, answer), (200, json!({"pipelines": [expected], "broken_files": []})));
}

#[tokio::test]
async fn the_history_is_told_and_what_is_asked_wrongly_is_refused_as_json() {
    let site = Site::new().await;
    let mut ids = Vec::new();
    for pipeline in ["a", "a", "b"] {
        ids.push(site.store.begin_run(pipeline).await.expect("registered"));
    }
    let (status, answer) = site.get("/api/runs?pipeline=a&limit=1").await;
    let runs = answer["runs"].as_array().expect("a list");
    assert_eq!((status, runs.len(), &runs[0]["id"]), (200, 1, &json!(ids[1])));
    assert_eq!(site.get("/api/runs").await.1["runs"].as_array().map(Vec::len), Some(3));
    let (status, answer) = site.get(&format!("/api/runs/{}", ids[2])).await;
    assert_eq!(
        (status, &answer["run"]["pipeline"], &answer["events"], &answer["receipts"]),
        (200, &json!("b"), &json!([]), &json!([]))
    );
    for (path, status, code) in [
        ("/api/runs?limit=0", 400, "usage"),
        ("/api/runs?limit=1001", 400, "usage"),
        ("/api/runs?limit=many", 400, "usage"),
        ("/api/runs?pipelin=a", 400, "usage"),
        ("/api/runs/ffffffff", 404, "not_found"),
        ("/api/runs/%ff", 400, "usage"),
        ("/api", 404, "not_found"),
    ] {
        let (found, answer) = site.get(path).await;
        assert_eq!((found, &answer["code"]), (status, &json!(code)), "{path}: {answer}");
        assert!(answer["error"].as_str().is_some_and(|text| !text.is_empty()), "{path}");
    }
    // The ids of one millisecond begin alike.
    let (status, answer) = site.get("/api/runs/0").await;
    assert_eq!((status, answer["error"].as_str().is_some_and(|text| text.contains('0'))), (400, true), "{answer}");
}

/// A commit with one receipt a table.
async fn commit(store: &MemoryStore, run: &str, tables: usize) {
    let LeaseAnswer::Granted(lease) = store.take_lease("a", "tester", Duration::from_secs(60)).await.expect("an answer") else {
        panic!("it is free");
    };
    let writer = Writer::Lease(lease.epoch);
    let tables: Vec<String> = (0..tables).map(|table| format!("t{table:04}")).collect();
    let committable = |table: &String| Committable {
        table: table.clone(),
        disposition: WriteDisposition::Append,
        payload: Value::Null,
        rows: 1,
        bytes: 1,
        digest: String::new(),
    };
    let attempt = store.begin_attempt("a", writer).await.expect("an attempt");
    let draft = Draft {
        pipeline: "a".into(),
        token: run.into(),
        writer,
        run: run.into(),
        attempts: vec![attempt],
        covers: vec![],
        committables: tables.iter().map(committable).collect(),
        schemas: BTreeMap::new(),
        counts: Counts::default(),
        landings: vec![],
        dead_letters: vec![],
        replayed: vec![],
        origins: BTreeMap::new(),
        held: BTreeMap::new(),
        acknowledge: None,
    };
    let n = store.journal(draft).await.expect("journalled").n;
    let receipt = |table: String| Receipt {
        pipeline: "a".into(),
        n,
        table,
        commit: None,
        parked: None,
        rows: 1,
        bytes: 1,
        digests: vec![],
        run: run.into(),
        covers: vec![],
        at: dawn(),
    };
    let receipts = tables.into_iter().map(receipt).collect();
    store.complete(Completion { pipeline: "a".into(), n, epoch: lease.epoch, receipts }).await.expect("complete");
    store.free_lease(&lease).await.expect("freed");
}

#[tokio::test]
async fn of_a_long_run_the_newest_events_and_receipts_are_told_and_that_there_are_more() {
    let site = Site::new().await;
    let notes = |from: usize, to: usize| (from..to).map(|n| RunEvent::Note { text: n.to_string() }).collect::<Vec<_>>();
    let told = async |id: &str| {
        let (status, answer) = site.get(&format!("/api/runs/{id}")).await;
        let [events, receipts] = ["events", "receipts"].map(|name| answer[name].as_array().expect("a list").clone());
        assert_eq!(status, 200);
        (events, receipts, answer["cut"].clone())
    };
    let long = site.store.begin_run("a").await.expect("registered");
    site.store.append_events(&long, &notes(1, 1001)).await.expect("written");
    commit(&site.store, &long, 1000).await;
    let (events, receipts, cut) = told(&long).await;
    assert_eq!((events.len(), receipts.len(), cut), (1000, 1000, Value::Null), "that is all of it");
    site.store.append_events(&long, &notes(1001, 1003)).await.expect("written");
    let (events, _, cut) = told(&long).await;
    assert_eq!((events.len(), &events[0]["sequence"], &events[999]["text"], cut), (1000, &json!(3), &json!("1002"), json!(true)));
    let wide = site.store.begin_run("a").await.expect("registered");
    commit(&site.store, &wide, 1002).await;
    let (_, receipts, cut) = told(&wide).await;
    assert_eq!(
        (receipts.len(), &receipts[0]["table"], &receipts[999]["table"], cut),
        (1000, &json!("t0002"), &json!("t1001"), json!(true))
    );
}

#[tokio::test]
async fn few_ask_for_the_history_at_once_and_the_others_wait() {
    let site = Site::new().await;
    let id = site.store.begin_run("a").await.expect("registered");
    let busy = site.history.acquire_many(AT_ONCE as u32).await.expect("free");
    for path in ["/api/runs".to_owned(), format!("/api/runs/{id}")] {
        assert!(tokio::time::timeout(Duration::from_millis(100), site.get(&path)).await.is_err(), "{path} waits");
    }
    assert_eq!(site.get("/healthz").await.0, 200, "what asks nothing of it does not");
    drop(busy);
    assert_eq!(site.get("/api/runs").await.0, 200);
}

#[tokio::test]
async fn only_questions_are_answered() {
    let site = Site::new().await;
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        let (status, head, body) = site.ask(method, "/api/runs").await;
        assert_eq!(status, 405, "{method}");
        assert!(head.contains("allow: get, head") && body.contains("method_not_allowed"), "{head}\n{body}");
    }
    let (status, head, body) = site.ask("HEAD", "/healthz").await;
    assert_eq!((status, body.as_str()), (200, ""), "{head}");
    let (status, head, body) = site.ask("GET", "/metrics").await;
    assert!(status == 200 && head.contains("text/plain; version=0.0.4") && body.starts_with("# HELP "), "{head}\n{body}");
}

#[tokio::test]
async fn an_address_that_is_taken_is_an_error_that_names_the_flag() {
    let site = Site::new().await;
    let error = bind(&site.address).await.expect_err("taken");
    assert_eq!((error.code(), error.hint_text().is_some_and(|hint| hint.contains("--listen"))), ("listen_failed", true));
    assert_eq!(bind("nowhere").await.expect_err("no address").code(), "listen_failed");
}

#[tokio::test]
async fn serve_says_where_it_listens_and_returns_when_everything_has_stopped() {
    let told = Arc::new(Told::default());
    let stop = Stop::default();
    let fake = Fake::endless(Duration::from_millis(50));
    let folder = Arc::new(Folder(Mutex::new(Some(vec![endless("a.yaml", "a", "1", &fake)]))));
    let serving = tokio::spawn(serve_on("127.0.0.1:0".into(), folder, Arc::new(MemoryStore::new()), told.clone(), stop.clone()));
    while fake.running() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let listening = locked(&told.0).iter().find_map(|event| match event {
        ServerEvent::Listening { address } => Some(address.clone()),
        _ => None,
    });
    let address = listening.expect("said at once");
    assert!(TcpStream::connect(&address).await.is_ok());
    stop.request();
    serving.await.expect("no panic").expect("ends well");
    assert_eq!(fake.running(), 0);
    assert!(TcpStream::connect(&address).await.is_err(), "nobody listens any more");
}

async fn serve_on(listen: String, jobs: Arc<Folder>, store: Arc<MemoryStore>, told: Arc<Told>, stop: Stop) -> Result<()> {
    serve(&listen, jobs, store, told, stop).await
}
