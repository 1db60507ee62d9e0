//! `longshore serve`: a folder of pipeline files, whole: rows land, HTTP answers, signals end it.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use longshore_testkit::services::kafka::Record;
use longshore_testkit::services::{Kafka, Postgres};
use serde_json::{Value, json};

use crate::place::{Place, snapshot};

/// How long anything may take on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(90);

const EACH_SECOND: &str = "\
pipeline: orders
source: {type: files, path: 'in/*.csv', table: a}
destination: {type: delta, path: warehouse, dataset: main}
schedule: {cron: '* * * * * *'}
";

/// A server that does not outlive its test.
struct Server {
    child: Child,
    events: Receiver<Value>,
    address: String,
}

impl Server {
    /// `longshore serve pipelines`, which answers at a free port.
    fn start(place: &Place) -> Self {
        Self::start_with(place, &[])
    }

    fn start_with(place: &Place, more: &[&str]) -> Self {
        let mut command = place.command(&["serve", "pipelines", "--listen", "127.0.0.1:0", "--json"]);
        command.args(more);
        command.env("LONGSHORE_TEST_LEASE_MS", "1500");
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().expect("the program starts");
        let stdout = child.stdout.take().expect("piped");
        let (sender, events) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let event = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e} in {line}"));
                if sender.send(event).is_err() {
                    return;
                }
            }
        });
        let mut server = Self { child, events, address: String::new() };
        server.address = server.wait_for("listening")["address"].as_str().expect("an address").to_owned();
        server
    }

    /// The next event of this kind.
    fn wait_for(&self, event: &str) -> Value {
        let begin = Instant::now();
        loop {
            let left = PATIENCE.saturating_sub(begin.elapsed());
            let found = self.events.recv_timeout(left).unwrap_or_else(|e| panic!("no {event}: {e}"));
            if found["event"] == event {
                return found;
            }
        }
    }

    fn get(&self, path: &str) -> (u16, String) {
        let mut socket = TcpStream::connect(&self.address).expect("it listens");
        write!(socket, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").expect("sent");
        let mut text = String::new();
        socket.read_to_string(&mut text).expect("answered");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        (head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status"), body.to_owned())
    }

    fn json(&self, path: &str) -> Value {
        let (status, body) = self.get(path);
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).expect("JSON")
    }

    /// The value of a series now.
    fn value(&self, name: &str) -> Option<f64> {
        let (_, text) = self.get("/metrics");
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }

    /// Waits until the value of a series is there and fits.
    fn series(&self, name: &str, fits: impl Fn(f64) -> bool) {
        let begin = Instant::now();
        loop {
            let (value, (_, text)) = (self.value(name), self.get("/metrics"));
            if value.is_some_and(&fits) {
                return;
            }
            assert!(begin.elapsed() < PATIENCE, "{name} is {value:?} in\n{text}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Sends a signal; returns the exit code.
    fn end(&mut self, signal: &str) -> Option<i32> {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &id]).status().expect("kill runs").success());
        self.child.wait().expect("ends").code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_scheduled_pipeline_lands_what_comes_and_http_tells_until_a_signal_ends_it() {
    let place = Place::with(&[("in/a.csv", "id,name\n1,x\n2,y\n"), ("pipelines/orders.yaml", EACH_SECOND)]);
    let mut server = Server::start(&place);
    let serving = server.wait_for("serving");
    assert_eq!((&serving["pipeline"], &serving["schedule"]), (&json!("orders"), &json!("* * * * * * (UTC)")));
    let rows = "longshore_rows_total{pipeline=\"orders\",table=\"a\"} ";
    server.series(rows, |rows| rows == 2.0);
    place.write("in/b.csv", "id,name\n3,z\n");
    server.series(rows, |rows| rows == 3.0);
    server.series("longshore_commits_total{pipeline=\"orders\"} ", |commits| commits == 2.0);
    server.series("longshore_pipeline_up{pipeline=\"orders\"} ", |up| up == 1.0);
    server.series("longshore_last_success_timestamp_seconds{pipeline=\"orders\"} ", |time| time > 1.7e9);
    assert_eq!((server.get("/readyz").0, server.get("/healthz").0), (200, 200));

    let pipelines = server.json("/api/pipelines");
    let orders = &pipelines["pipelines"][0];
    assert_eq!(
        (&orders["name"], &orders["kind"], &orders["file"]),
        (&json!("orders"), &json!("scheduled"), &json!("pipelines/orders.yaml"))
    );
    assert_eq!(orders["tables"]["a"]["rows"], 3);
    let landed = server.json("/api/runs?pipeline=orders&limit=1000")["runs"]
        .as_array()
        .expect("a list")
        .iter()
        .find(|run| run["summary"]["commits"] == 1)
        .expect("one that landed something")["id"]
        .clone();
    let id = landed.as_str().expect("an id");
    let told = server.get(&format!("/api/runs/{id}")).1.replace(&place.path().display().to_string(), "[DIR]");
    let told: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(told, place.good(&["runs", "show", id, "--json"]).objects()[0], "the same as `runs show`");
    assert!(told["events"][0]["run_time"].is_string(), "{}", told["events"][0]);

    assert_eq!(server.end("TERM"), Some(143));
    assert_eq!(place.rows("select id from a order by id"), [1, 2, 3].map(|id| json!({"id": id})));
}

#[test]
fn an_invalid_file_is_told_with_its_place_and_what_ran_before_goes_on() {
    let place = Place::with(&[
        ("in/a.csv", "id\n1\n"),
        ("pipelines/orders.yaml", EACH_SECOND),
        ("pipelines/.hidden.yaml", "not looked at"),
        ("pipelines/notes.txt", "not looked at"),
    ]);
    let mut server = Server::start(&place);
    server.series("longshore_rows_total{pipeline=\"orders\",table=\"a\"} ", |rows| rows == 1.0);
    place.write("pipelines/orders.yaml", &EACH_SECOND.replace("'* * * * * *'", "'99 * * * * *'"));
    let broken = server.wait_for("broken");
    assert_eq!(
        (&broken["file"], &broken["goes_on"], &broken["code"]),
        (&json!("pipelines/orders.yaml"), &json!("orders"), &json!("schedule_invalid"))
    );
    assert_eq!(broken["place"], json!({"file": "pipelines/orders.yaml", "line": 4, "column": 18}));
    assert!(broken["error"].as_str().is_some_and(|text| text.starts_with("pipelines/orders.yaml:4:18: ")), "{broken}");
    let (status, body) = server.get("/readyz");
    assert!(status == 503 && body.contains("pipelines/orders.yaml:4:18"), "{status} {body}");
    place.write("in/b.csv", "id\n2\n");
    server.series("longshore_rows_total{pipeline=\"orders\",table=\"a\"} ", |rows| rows == 2.0);
    // Mended, and with a second one under the same name.
    place.write("pipelines/orders.yaml", EACH_SECOND);
    place.write("pipelines/twice.yml", EACH_SECOND);
    assert_eq!(server.wait_for("broken")["code"], "pipeline_twice");
    std::fs::remove_file(place.path().join("pipelines/twice.yml")).expect("removed");
    let begin = Instant::now();
    while server.get("/readyz").0 != 200 {
        assert!(begin.elapsed() < PATIENCE, "{:?}", server.get("/readyz"));
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(server.end("INT"), Some(130));
}

#[test]
fn of_two_servers_with_one_store_each_scheduled_time_is_run_by_one() {
    each_time_once(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_servers_with_one_store_in_postgresql_each_scheduled_time_is_run_by_one() {
    let Some(server) = Postgres::shared().await else { return };
    let url = server.database().await;
    each_time_once(&["--store", &url]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_runs_of_a_server_share_its_connections() {
    let Some(server) = Postgres::shared().await else { return };
    let url = server.database().await;
    let place = Place::with(&[("in/a.csv", "id\n1\n")]);
    for number in 0..5 {
        let file = EACH_SECOND.replace("pipeline: orders", &format!("pipeline: orders{number}"));
        place.write(&format!("pipelines/{number}.yaml"), &file.replace("dataset: main", &format!("dataset: d{number}")));
    }
    let mut serving = Server::start_with(&place, &["--store", &url]);
    for _ in 0..40 {
        serving.wait_for("landed");
    }
    assert_eq!(serving.end("TERM"), Some(143));
    let sessions = server.sessions(&url).await;
    assert!(sessions <= 20, "{sessions} connections were made");
}

fn each_time_once(store: &[&str]) {
    let place = Place::with(&[("in/a.csv", "id\n1\n"), ("pipelines/orders.yaml", EACH_SECOND)]);
    let mut servers = [Server::start_with(&place, store), Server::start_with(&place, store)];
    // Either may be quicker, even every time.
    let mut quicker = 0;
    for _ in 0..5 {
        quicker = first_that_lands(&servers);
    }
    servers[quicker].child.kill().expect("killed");
    let other = &mut servers[1 - quicker];
    for _ in 0..3 {
        other.wait_for("landed");
    }
    assert_eq!(other.end("TERM"), Some(143));
    let runs = place.good(&[&["runs", "list", "--limit", "1000", "--json"], store].concat()).objects();
    let mut times = BTreeSet::new();
    let mut ended = 0;
    for run in runs.iter().filter(|run| run["status"] == "SUCCEEDED") {
        let logs = place.good(&[&["runs", "logs", run["id"].as_str().expect("an id"), "--json"], store].concat()).objects();
        let time = logs[0]["run_time"].as_str().expect("a time").to_owned();
        assert!(times.insert(time.clone()), "{time} was run twice");
        ended += 1;
    }
    assert!(ended >= 5, "{runs:?}");
    assert_eq!(place.rows("select count(*) as n from a"), [json!({"n": 1})]);
}

/// Which of two servers tells first that a run of its has landed.
fn first_that_lands(servers: &[Server; 2]) -> usize {
    let begin = Instant::now();
    loop {
        for (number, server) in servers.iter().enumerate() {
            if server.events.try_iter().any(|event| event["event"] == "landed") {
                return number;
            }
        }
        assert!(begin.elapsed() < PATIENCE, "neither runs anything");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn people_read_a_line_for_each_thing_worth_noting() {
    let by_hand = EACH_SECOND.replace("schedule: {cron: '* * * * * *'}\n", "").replace("pipeline: orders", "pipeline: by_hand");
    let place = Place::with(&[
        ("in/a.csv", "id\n1\n"),
        ("pipelines/broken.yaml", "pipeline: p\n"),
        ("pipelines/by_hand.yaml", &by_hand),
        ("pipelines/orders.yaml", EACH_SECOND),
    ]);
    let mut command = place.command(&["serve", "pipelines", "--listen", "127.0.0.1:0"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the program starts");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
    let mut said = Vec::new();
    for line in lines.by_ref() {
        said.push(line);
        if said.last().is_some_and(|line| line.contains("1 row landed")) {
            break;
        }
    }
    assert!(Command::new("kill").args(["-s", "TERM", &child.id().to_string()]).status().expect("kill runs").success());
    said.extend(lines);
    assert_eq!(child.wait().expect("ends").code(), Some(143));
    let said = said.join("\n");
    for line in [
        " serve: listening on http://127.0.0.1:",
        " serve: pipelines/broken.yaml:1:1: `source` is missing",
        " by_hand: pipelines/by_hand.yaml has no schedule and its source has an end, so it is not run here: `longshore run pipelines/by_hand.yaml` runs it",
        " orders: pipelines/orders.yaml runs at * * * * * * (UTC)",
        " orders: run for 20",
        " orders: create table a (1 column)",
        " orders: 1 row landed in ",
        "stopping: what is whole is committed first",
        " orders: stopped",
    ] {
        assert_eq!(said.lines().filter(|said| said.contains(line)).count().min(1), 1, "{line} is not in\n{said}");
    }
    assert_eq!(said.matches("by_hand: ").count(), 1, "said once");
}

const CLICKS: &str = "\
pipeline: clicks
source: {type: kafka, brokers: '${BROKERS}', topics: '${TOPIC}', options: {session.timeout.ms: '6000'}}
destination: {type: delta, path: warehouse, dataset: main}
create_tables: true
commit: {every: 200ms}
";

/// How many messages are in the table of a topic, and how many different ones.
fn landed(place: &Place, topic: &str) -> (i64, i64) {
    if !place.has(&format!("warehouse/main/{topic}")) {
        return (0, 0);
    }
    let row = &place.rows(&format!("select count(*) as n, count(distinct id) as m from main.{topic}"))[0];
    (row["n"].as_i64().expect("a number"), row["m"].as_i64().expect("a number"))
}

fn wait_until_landed(place: &Place, topic: &str, number: i64) {
    let begin = Instant::now();
    while landed(place, topic).1 < number {
        assert!(begin.elapsed() < PATIENCE, "only {:?} of {number}", landed(place, topic));
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_share_a_topic_one_is_killed_and_the_other_goes_on_through_a_changed_file() {
    let Some(kafka) = Kafka::shared().await else { return };
    let topic = format!("clicks{}", std::process::id());
    kafka.create_topic(&topic, 4, &[]).await;
    let send = async |ids: std::ops::Range<i64>| {
        let record = |id: i64| Record::new(format!(r#"{{"id": {id}}}"#)).key(id.to_string());
        kafka.produce(&topic, ids.map(record)).await;
    };
    let file = CLICKS.replace("${BROKERS}", &kafka.brokers()).replace("${TOPIC}", &topic);
    let place = Place::with(&[("pipelines/clicks.yaml", &file)]);
    let mut servers = [Server::start(&place), Server::start(&place)];
    send(0..200).await;
    wait_until_landed(&place, &topic, 200);
    let survivor = &servers[1];
    let begin = Instant::now();
    while survivor.get("/readyz").0 != 200 {
        assert!(begin.elapsed() < PATIENCE, "{:?}", survivor.get("/readyz"));
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(survivor.json("/api/pipelines")["pipelines"][0]["state"], "running");

    servers[0].child.kill().expect("killed");
    send(200..400).await;
    wait_until_landed(&place, &topic, 400);

    let survivor = &mut servers[1];
    let messages = "longshore_messages_total{pipeline=\"clicks\"} ";
    survivor.series(messages, |now| now > 0.0);
    let before = survivor.value(messages).expect("it is there");
    place.write("pipelines/clicks.yaml", &file.replace("200ms", "300ms"));
    survivor.wait_for("changed");
    survivor.wait_for("serving");
    send(400..500).await;
    wait_until_landed(&place, &topic, 500);
    survivor.series(messages, |now| now >= before + 100.0);
    std::thread::sleep(Duration::from_secs(3));
    survivor.series(&format!("longshore_lag_messages{{pipeline=\"clicks\",source=\"{topic}/0\"}} "), |lag| lag == 0.0);
    survivor.series(&format!("longshore_table_delay_seconds{{pipeline=\"clicks\",table=\"{topic}\"}} "), |delay| delay >= 0.0);
    assert_eq!(survivor.end("TERM"), Some(143));
    assert_eq!(landed(&place, &topic), (500, 500), "each message once");
}

#[test]
fn a_folder_or_an_address_that_cannot_be_used_ends_it_at_once() {
    let place = Place::new();
    snapshot!("serve_no_folder", place.run(&["serve", "pipelines"]));
    place.write("pipelines/.keep", "");
    snapshot!("serve_no_address", place.run(&["serve", "pipelines", "--listen", "8650"]));
    snapshot!("serve_help", place.run(&["serve", "--help"]));
}
