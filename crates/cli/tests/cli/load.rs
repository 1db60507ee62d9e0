//! `load` when all goes well, and what it leaves.

use serde_json::json;

use crate::place::{Place, examples, snapshot};

fn shop() -> Place {
    let place = Place::new();
    for name in ["2024-03.xml", "2024-04.xml"] {
        place.write(&format!("shop/{name}"), &examples(&format!("shop/{name}")));
    }
    place
}

#[test]
fn xml_files_become_tables_once() {
    let place = shop();
    snapshot!("load_xml", place.run(&["load", "shop/*.xml", "--to", "warehouse/shop"]));
    snapshot!("load_xml_again", place.run(&["load", "shop/*.xml", "--to", "warehouse/shop"]));
    assert_eq!(place.rows("select count(*) as n from shop.orders"), [json!({"n": 15})]);
    assert_eq!(place.rows("select count(*) as n from shop.customers"), [json!({"n": 6})]);
    let sum = "select sum(o.ShipInfo['Freight']) as freight from shop.orders o where o.ShipInfo['ShippedDate'] is null";
    assert_eq!(place.rows(sum), [json!({"freight": "214.9"})]);
    snapshot!("describe_table", place.run(&["describe", "shop.orders"]));
}

#[test]
fn csv_and_json_land_beside_each_other() {
    let place = Place::with(&[
        ("tides.csv", "station,at,level\nnorth,2024-05-01T06:00:00Z,112.5\nsouth,2024-05-01T06:00:00Z,120\n"),
        ("visits.jsonl", "{\"who\": \"a\", \"pages\": [1, 2]}\n{\"who\": \"b\", \"pages\": []}\n"),
    ]);
    snapshot!("load_csv", place.run(&["load", "tides.csv"]));
    snapshot!("load_json", place.run(&["load", "visits.jsonl"]));
    assert_eq!(place.rows("select level from tides order by level")[0], json!({"level": "112.5"}));
    assert_eq!(place.rows("select pages from visits where who = 'a'"), [json!({"pages": [1, 2]})]);
}

#[test]
fn json_events_end_with_a_summary() {
    let place = Place::with(&[("a.csv", "id,name\n1,x\n2,y\n")]);
    let said = place.good(&["load", "a.csv", "--json"]);
    assert_eq!(said.stderr, "");
    let events = said.objects();
    assert_eq!(events[0]["event"], "started");
    let last = events.last().expect("events");
    assert_eq!(last["event"], "summary");
    assert_eq!((&last["status"], &last["exit_code"], &last["tables"]), (&json!("SUCCEEDED"), &json!(0), &json!({"a": 2})));
    let kinds: Vec<&str> = events.iter().filter_map(|event| event["event"].as_str()).collect();
    for kind in ["found", "schema", "journalled", "published", "completed", "finished"] {
        assert!(kinds.contains(&kind), "{kind} is not among {kinds:?}");
    }
}

#[test]
fn files_that_have_landed_are_moved_or_deleted_and_refused_ones_set_apart() {
    let files: &[(&str, &str)] =
        &[("in/a.csv", "id\n1\n"), ("in/b.xml", "<r><x i='1'/><x i='2'/></r>"), ("in/bad.xml", "<r><x>")];
    let place = Place::with(files);
    place.good(&["load", "in", "--after-load", "move=done", "--dead-letter-dir", "bad"]);
    assert!(place.has("done/a.csv") && place.has("done/b.xml") && !place.has("done/bad.xml"));
    assert!(!place.has("in/a.csv") && !place.has("in/bad.xml"));
    let set_apart = std::fs::read_dir(place.path().join("bad")).expect("made").count();
    assert_eq!(set_apart, 2, "the file and its reason");
    let place = Place::with(files);
    place.good(&["load", "in", "--after-load", "delete"]);
    assert!(!place.has("in/a.csv") && !place.has("in/b.xml") && place.has("in/bad.xml"), "what did not land is not deleted");
}

#[test]
fn one_bad_record_turns_the_file_away_if_asked() {
    let place = Place::with(&[("good.csv", "id\n1\n"), ("bad.csv", "id\n1\n2,3\n")]);
    snapshot!("reject_file", place.run(&["load", "*.csv", "--table", "t", "--on-bad-record", "reject-file"]));
    assert_eq!(place.rows("select count(*) as n from t"), [json!({"n": 1})]);
    assert_eq!(place.rows("select unit, code from _dead_letters"), [json!({"unit": "file", "code": "file_rejected"})]);
}

#[test]
fn settings_that_match_nothing_and_files_that_stay_unread_are_told() {
    let place = Place::with(&[("a.json", "{\"orders\":[{\"id\":1}]}\n"), ("bad.xml", "<r>")]);
    let said = place.good(&[
        "load",
        "a.json",
        "--records",
        "orders=/orders",
        "--records",
        "none=/nothing",
        "--type",
        "orders.idd=INT64",
    ]);
    assert!(said.stderr.contains("has no record at /nothing"), "{}", said.stderr);
    assert!(said.stderr.contains("there is no column orders.idd"), "{}", said.stderr);
    assert!(!said.stderr.contains("has no record at /orders"), "{}", said.stderr);
    place.run(&["load", "bad.xml"]);
    let again = place.good(&["load", "bad.xml"]);
    assert!(again.stderr.contains("could not be read then and has not changed"), "{}", again.stderr);
}

#[test]
fn an_empty_file_that_replaces_a_table_empties_it() {
    let place = Place::with(&[("a.csv", "id\n1\n2\n")]);
    place.good(&["load", "a.csv"]);
    place.good(&["load", "a.csv", "--to", "warehouse/other", "--write", "truncate"]);
    place.write("a.csv", "");
    place.good(&["load", "a.csv"]);
    assert_eq!(place.rows("select count(*) as n from main.a"), [json!({"n": 2})], "appending nothing changes nothing");
    place.good(&["load", "a.csv", "--write", "truncate"]);
    assert_eq!(place.rows("select count(*) as n from main.a"), [json!({"n": 0})]);
    place.write("a.csv", "id\n");
    place.good(&["load", "a.csv", "--to", "warehouse/other", "--write", "truncate"]);
    assert_eq!(place.rows("select count(*) as n from other.a"), [json!({"n": 0})], "a header alone is no row either");
    place.good(&["load", "a.csv", "--to", "warehouse/new", "--write", "truncate"]);
    assert!(!place.has("warehouse/new/a"), "no table is made of nothing");
}

/// The rows of the example documents, checked by eye against the documents.
#[test]
fn the_example_documents_land_as_the_rows_written_beside_them() {
    let place = shop();
    place.good(&["load", "shop/*.xml", "--to", "warehouse/shop"]);
    for (table, key) in [("customers", "CustomerID"), ("orders", "CustomerID, OrderDate")] {
        let written: Vec<serde_json::Value> = examples(&format!("shop/expected/{table}.jsonl"))
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        let mut rows = place.rows(&format!("select * from shop.{table} order by {key}"));
        rows.iter_mut().for_each(without_nulls);
        assert_eq!(rows, written, "{table}");
    }
}

/// What a document does not have is NULL in its row, and left out beside it.
fn without_nulls(value: &mut serde_json::Value) {
    if let Some(object) = value.as_object_mut() {
        object.retain(|_, value| !value.is_null());
        object.values_mut().for_each(without_nulls);
    }
}

#[test]
fn the_flags_of_an_older_tool_are_understood() {
    let place = Place::with(&[("a.csv", "id\n1\n")]);
    place.good(&["load", "--input", "a.csv", "--output", "warehouse/old", "--dead_letter_dir", "bad"]);
    assert_eq!(place.rows("select id from old.a"), [json!({"id": 1})]);
}

#[test]
fn an_input_that_is_not_there_is_exit_code_4_and_a_pattern_without_match_is_none() {
    let place = Place::with(&[("a.csv", "id\n1\n")]);
    snapshot!("missing_file", place.run(&["load", "a.csv", "none.csv"]));
    assert_eq!(place.run(&["query", "select * from a"]).code, 3, "nothing may have landed");
    snapshot!("no_match", place.run(&["load", "none/*.csv"]));
}

#[test]
fn standard_input_is_loaded() {
    let place = Place::with(&[("a.csv", "id\n1\n2\n")]);
    let mut command = place.command(&["load", "-", "--table", "piped"]);
    command.stdin(std::fs::File::open(place.path().join("a.csv")).expect("opens"));
    let said = place.said(command.output().expect("runs"));
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert_eq!(place.rows("select count(*) as n from piped"), [json!({"n": 2})]);
}

#[test]
fn truncate_replaces_and_partitions_are_by_day() {
    let place = Place::with(&[
        ("a.csv", "at,n\n2024-05-01T06:00:00Z,1\n2024-05-02T06:00:00Z,2\n"),
        ("b.csv", "at,n\n2024-05-03T06:00:00Z,3\n"),
    ]);
    place.good(&["load", "a.csv", "--table", "t", "--partition-by", "at"]);
    assert!(place.has("warehouse/main/t/at_day=2024-05-01"));
    place.good(&["load", "b.csv", "--table", "t", "--write", "truncate"]);
    assert_eq!(place.rows("select n from t"), [json!({"n": 3})]);
}

#[test]
fn what_files_hold_is_discovered_as_a_pipeline_file() {
    let place = shop();
    let said = place.good(&["discover", "shop/*.xml"]);
    snapshot!("discover", said);
    assert!(!place.has("warehouse"), "nothing is written");
    place.write("found.yaml", &said.stdout);
    place.good(&["run", "found.yaml"]);
    assert_eq!(place.rows("select count(*) as n from orders"), [json!({"n": 15})]);
}
