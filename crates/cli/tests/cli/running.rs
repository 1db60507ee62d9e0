//! The history, signals, repair.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

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

/// Ends with the code of the signal and leaves nothing half-done, whether the signal comes while it reads or waits.
#[test]
fn a_signal_stops_a_run_gracefully() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let place = Place::new();
        // Standard input that never ends: the run is reading it, whenever the signal comes.
        let mut command = place.command(&["load", "-", "--table", "t", "--json"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let first = lines.next().expect("a first event").expect("text");
        assert!(first.contains("\"started\""), "{first}");
        let id = child.id().to_string();
        assert!(std::process::Command::new("kill").args(["-s", signal, &id]).status().expect("kill runs").success());
        // The writer's end stays open, as that of a program which has more to say.
        let stdin = child.stdin.take();
        let status = child.wait().expect("ends");
        drop(stdin);
        assert_eq!(status.code(), Some(code), "SIG{signal}");
    }
}
