//! Records that do not fit.

use serde_json::json;

use crate::place::{Place, snapshot};

const TIDES: &str = "station,level\nnorth,112.5\nsouth,120,ebb\neast\nwest,98.25\n";

#[test]
fn the_rest_lands_and_what_does_not_fit_is_kept_with_its_reason() {
    let place = Place::with(&[("tides.csv", TIDES)]);
    snapshot!("dead_letters", place.run(&["load", "tides.csv"]));
    assert_eq!(place.rows("select count(*) as n from tides"), [json!({"n": 2})]);
    snapshot!("dead_letters_list", place.run(&["dead-letters", "list"]));
    let listed = place.good(&["dead-letters", "list", "--json"]).objects();
    let id = listed[0]["id"].as_str().expect("an id");
    snapshot!("dead_letters_show", place.run(&["dead-letters", "show", id]));
    assert_eq!(place.good(&["dead-letters", "show", id, "--json"]).objects()[0]["payload"], "south,120,ebb");
    snapshot!("dead_letters_drop", place.run(&["dead-letters", "drop", id]));
    assert_eq!(place.good(&["dead-letters", "list", "--json"]).objects().len(), 1);
    assert_eq!(place.good(&["dead-letters", "list", "--state", "dropped", "--json"]).objects().len(), 1);
    snapshot!("dead_letters_unknown", place.run(&["dead-letters", "show", "nothing"]));
}

#[test]
fn beyond_the_allowed_number_it_lands_and_ends_with_6() {
    let place = Place::with(&[("tides.csv", TIDES)]);
    let said = place.run(&["load", "tides.csv", "--max-dead-letters", "1"]);
    assert_eq!(said.code, 6, "{}", said.stderr);
    assert_eq!(place.rows("select count(*) as n from tides"), [json!({"n": 2})]);
}

#[test]
fn stop_on_max_ends_with_6_and_publishes_nothing() {
    let place = Place::with(&[("tides.csv", TIDES)]);
    snapshot!("stop_on_max", place.run(&["load", "tides.csv", "--max-dead-letters", "1", "--stop-on-max"]));
    assert_ne!(place.run(&["query", "select count(*) from tides"]).stdout, "count(*)\n2\n");
    let shown = place.run(&["query", "--json", "select count(*) as n from tides"]);
    assert!(shown.code != 0 || shown.objects() == [json!({"n": 0})], "nothing of it may be visible");
}

#[test]
fn a_load_that_lands_no_row_and_rejects_some_ends_with_6() {
    let place = Place::with(&[("bad.json", "{\"a\": 1, \"a\": 2}\n")]);
    assert_eq!(place.run(&["load", "bad.json"]).code, 6);
}

#[test]
fn without_books_there_are_no_dead_letters_and_none_are_made() {
    let place = Place::new();
    snapshot!("no_dead_letters", place.run(&["dead-letters"]));
    assert!(!place.has(".longshore"));
}
