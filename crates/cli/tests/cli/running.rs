//! The history, signals, repair.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::place::{Place, snapshot};

fn loaded() -> Place {
    let place = Place::with(&[("a.csv", "id,name\n1,x\n2,y\n")]);
    place.good(&["load", "a.csv", "--to", "warehouse/shop"]);
    place
}

fn run_id(place: &Place) -> String {
    place.good(&["runs", "--json"]).objects()[0]["id"].as_str().expect("an id").to_owned()
}

#[test]
fn the_history_accounts_for_every_record() {
    let place = loaded();
    let id = run_id(&place);
    let listed = place.good(&["runs", "list"]);
    assert!(listed.stdout.starts_with("RUN ") && listed.stdout.contains("SUCCEEDED"));
    let shown = place.good(&["runs", "show", &id]);
    assert!(shown.stdout.contains("2 read = 2 rows + 0 dead letters"), "{}", shown.stdout);
    assert!(shown.stdout.contains("(start, "), "{}", shown.stdout);
    let object = &place.good(&["runs", "show", &id, "--json"]).objects()[0];
    assert_eq!((&object["receipts"][0]["table"], &object["receipts"][0]["rows"]), (&json!("a"), &json!(2)));
    assert!(place.good(&["runs", "logs", &id]).stdout.contains("commit 1 complete"));
    let said = place.run(&["runs", "cancel", &id]);
    assert_eq!(said.code, 2);
    assert!(said.stderr.contains("has ended already (SUCCEEDED)"));
}

#[test]
fn without_books_there_is_no_history_and_none_is_made() {
    let place = Place::new();
    snapshot!("no_runs", place.run(&["runs"]));
    snapshot!("unknown_run", place.run(&["runs", "show", "abc"]));
    assert!(!place.has(".longshore"));
}

#[test]
fn books_that_agree_need_no_repair_and_lost_ones_are_found() {
    let place = loaded();
    snapshot!("repair_agree", place.run(&["repair", "warehouse/shop"]));
    std::fs::remove_dir_all(place.path().join("warehouse/shop/a")).expect("removed");
    let said = place.run(&["repair", "warehouse/shop"]);
    snapshot!("repair_table_gone", said);
    snapshot!("repair_apply", place.run(&["repair", "warehouse/shop", "--apply"]));
    place.good(&["load", "a.csv", "--to", "warehouse/shop"]);
    assert_eq!(place.rows("select count(*) as n from shop.a"), [json!({"n": 2})]);
}

#[test]
fn other_books_are_refused_with_7_until_they_join() {
    let place = loaded();
    place.write("b.csv", "id,name\n3,z\n");
    let args = ["load", "b.csv", "--table", "a", "--to", "warehouse/shop", "--store", "other"];
    let said = place.run(&args);
    assert_eq!(said.code, 7, "{}", said.stderr);
    assert!(said.stderr.contains("--join"), "{}", said.stderr);
    place.good(&[&args[..], &["--join"]].concat());
    assert_eq!(place.rows("select count(*) as n from shop.a"), [json!({"n": 3})]);
}

/// Two runs of one pipeline: the first reads standard input that does not end and so holds the lease, the second waits for it.
#[test]
fn a_signal_stops_a_run_gracefully_and_the_exit_code_names_it() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let place = Place::with(&[("a.csv", "id\n1\n")]);
        let start = |args: &[&str]| {
            let mut command = place.command(args);
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("runs")
        };
        let mut first = start(&["load", "-", "--table", "t", "--json"]);
        let stdin = first.stdin.as_mut().expect("piped");
        stdin.write_all(b"id\n7\n").expect("it reads");
        wait_for(first.stdout.take(), "started");
        // It takes the lease before it reads anything.
        let spool = place.path().join(".longshore/spool");
        let began = Instant::now();
        while !std::fs::read_dir(&spool).is_ok_and(|mut files| files.next().is_some()) {
            assert!(began.elapsed() < Duration::from_secs(60), "standard input is not read");
            std::thread::yield_now();
        }
        let mut second = start(&["load", "a.csv", "--json"]);
        wait_for(second.stdout.take(), "waiting");
        let id = second.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &id]).status().expect("kill runs").success());
        assert_eq!(second.wait().expect("ends").code(), Some(code), "SIG{signal}");
        // The end of its input lets the first run end well.
        drop(first.stdin.take());
        assert_eq!(first.wait().expect("ends").code(), Some(0));
        assert_eq!(place.rows("select id from t"), [json!({"id": 7})]);
    }
}

/// Reads events up to the first of this kind, and the rest in the background.
fn wait_for(stdout: Option<std::process::ChildStdout>, event: &str) {
    let mut lines = BufReader::new(stdout.expect("piped")).lines();
    let sign = format!("{{\"event\":\"{event}\"");
    assert!(lines.by_ref().map_while(Result::ok).any(|line| line.starts_with(&sign)), "no {event}");
    std::thread::spawn(move || lines.for_each(drop));
}
