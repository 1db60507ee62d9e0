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
fn a_letter_is_found_corrected_and_replayed_once() {
    let place = Place::with(&[("tides.csv", TIDES)]);
    place.good(&["load", "tides.csv"]);
    let listed = place.good(&["dead-letters", "list", "--json"]).objects();
    let ids: Vec<&str> = listed.iter().map(|letter| letter["id"].as_str().expect("an id")).collect();
    // As they are they do not fit either: they stay open, and no new ones are made.
    snapshot!("replay_unchanged", place.run(&["dead-letters", "replay", "--all"]));
    assert_eq!(place.good(&["dead-letters", "list", "--json"]).objects(), listed);
    // One of them corrected, by the lines that `show` writes.
    let mut letter = place.good(&["dead-letters", "show", ids[0], "--json"]).objects().remove(0);
    letter["payload"] = json!("south,120.25");
    place.write("letters.jsonl", &letter.to_string());
    snapshot!("replay_corrected", place.good(&["dead-letters", "replay", "--from", "letters.jsonl"]));
    assert_eq!(place.rows("select level from tides where station = 'south'"), [json!({"level": "120.25"})]);
    let open = place.good(&["dead-letters", "list", "--json"]).objects();
    assert_eq!(open.iter().map(|letter| letter["id"].as_str().expect("an id")).collect::<Vec<_>>(), ids[1..]);
    snapshot!("replay_again", place.run(&["dead-letters", "replay", "--from", "letters.jsonl"]));
    assert_eq!(place.rows("select count(*) as n from tides"), [json!({"n": 3})]);
    // What was wrong with the corrections is said with its line.
    place.write("letters.jsonl", "{\"id\": \"x\"}\n");
    snapshot!("replay_bad_corrections", place.run(&["dead-letters", "replay", "--from", "letters.jsonl"]));
}

#[test]
fn letters_of_every_format_fit_once_the_table_takes_them() {
    let place = Place::with(&[
        ("a.json", "{\"id\": 1}\n"),
        ("a.csv", "id,kind\n1,x\n"),
        ("a.xml", "<all><r id='1'/><r id='2'/></all>"),
        ("b.json", "{\"id\": 2, \"more\": [1]}\n"),
        ("b.csv", "id,kind,more\n2,\"y, z\",7\n"),
        ("b.xml", "<!DOCTYPE all [<!ENTITY co 'Nord &amp; Söhne'>]><all><r id='3'><more>&co;</more></r><r id='4'/></all>"),
    ]);
    for ending in ["json", "csv", "xml"] {
        let load = |name: &str| {
            let file = format!("{name}.{ending}");
            place.run(&["load", &file, "--table", ending, "--contract", "freeze"])
        };
        assert_eq!(load("a").code, 0, "{ending}");
        load("b");
    }
    assert_eq!(place.good(&["dead-letters", "list", "--code", "unknown_column", "--json"]).objects().len(), 3);
    let said = place.good(&["dead-letters", "replay", "--code", "unknown_column", "--json"]).objects();
    assert_eq!(said.last().expect("a summary")["replayed"], 3, "{said:?}");
    assert_eq!(place.rows("select id, more from json order by id")[1], json!({"id": 2, "more": [1]}));
    assert_eq!(place.rows("select kind, more from csv order by id")[1], json!({"kind": "y, z", "more": 7}));
    assert_eq!(place.rows("select more from xml where id = 3"), [json!({"more": "Nord & Söhne"})]);
    assert_eq!(place.good(&["dead-letters", "list", "--json"]).objects().len(), 0);
    assert_eq!(place.good(&["dead-letters", "list", "--state", "replayed", "--json"]).objects().len(), 3);
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
