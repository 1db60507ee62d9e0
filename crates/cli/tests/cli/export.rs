//! `runs export`: the books as tables, joined with the data, made again, killed at every step, and the same in BigQuery.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;

use longshore_core::failpoint;
use serde_json::{Value, json};

use crate::cloud::Cloud;
use crate::place::{Place, snapshot};

const TABLES: [&str; 4] = ["longshore_runs", "longshore_run_events", "longshore_receipts", "longshore_dead_letter_index"];
const EXPORT: [&str; 4] = ["runs", "export", "--to", "warehouse/books"];

/// A warehouse with rows of two files, of which one record did not fit, and the books of it.
fn shop() -> Place {
    let place = Place::with(&[("in/a.csv", "id,n\n1,5\n2,oops\n3,7\n"), ("in/b.csv", "id,n\n4,8\n")]);
    load(&place, "in");
    place
}

fn load(place: &Place, input: &str) {
    place.good(&["load", input, "--to", "warehouse/shop", "--table", "t", "--type", "n=INT64", "--csv-header", "yes"]);
}

/// What the store itself says, but for what a run writes down of itself after it has copied: a row's key in each table.
fn books(place: &Place, without: &str) -> [BTreeSet<String>; 4] {
    let mut books: [BTreeSet<String>; 4] = Default::default();
    for run in place.good(&["runs", "list", "--limit", "1000", "--json"]).objects() {
        let id = run["id"].as_str().expect("an id");
        if id == without {
            books[0].insert(format!("{id:?} \"RUNNING\""));
            continue;
        }
        books[0].insert(key(&run, &["id", "status"]));
        let shown = place.good(&["runs", "show", id, "--json"]).objects().remove(0);
        for event in shown["events"].as_array().expect("events") {
            books[1].insert(format!("{id:?} {}", key(event, &["sequence", "event"])));
        }
        for receipt in shown["receipts"].as_array().expect("receipts") {
            books[2].insert(key(receipt, &["pipeline", "n", "table", "rows"]));
        }
    }
    for letter in place.good(&["dead-letters", "list", "--state", "any", "--limit", "0", "--json"]).objects() {
        books[3].insert(key(&letter, &["id", "state"]));
    }
    books
}

/// The same as the tables have it. Fails if a row is there twice.
fn copied(place: &Place) -> [BTreeSet<String>; 4] {
    let keys: [&[&str]; 4] =
        [&["run", "status"], &["run", "sequence", "event"], &["pipeline", "n", "table_name", "rows"], &["id", "state"]];
    std::array::from_fn(|i| {
        let rows = place.rows(&format!("select * from books.{}", TABLES[i]));
        let found: BTreeSet<String> = rows.iter().map(|row| key(row, keys[i])).collect();
        assert_eq!(found.len(), rows.len(), "{}: each row once", TABLES[i]);
        found
    })
}

/// Some values of an object, in a line.
fn key(row: &Value, columns: &[&str]) -> String {
    columns.iter().map(|column| row[*column].to_string()).collect::<Vec<_>>().join(" ")
}

/// The run that wrote the copy that is there.
fn copier(place: &Place) -> String {
    let newest = "select run from books.longshore_runs where status = 'RUNNING' order by run desc limit 1";
    place.rows(newest).remove(0)["run"].as_str().expect("an id").to_owned()
}

/// Exports, and compares the tables with the store.
fn export(place: &Place, what: &str) {
    let said = place.run(&EXPORT);
    assert_eq!(said.code, 0, "{what}: {said}");
    assert_eq!(copied(place), books(place, &copier(place)), "{what}");
}

#[test]
fn the_books_are_asked_in_sql_beside_the_data() {
    let place = shop();
    snapshot!("runs_export", place.run(&EXPORT));
    let sums = "select r.status, r.rejects, sum(c.rows) as rows from books.longshore_runs r \
                join books.longshore_receipts c on c.run = r.run where c.table_name = 't' group by r.status, r.rejects";
    let there = place.rows("select count(*) as n from shop.t")[0]["n"].clone();
    assert_eq!(place.rows(sums), [json!({"status": "SUCCEEDED", "rejects": 1, "rows": there})]);
    assert_eq!(there, 3);
    let letters = "select i.code, i.state, i.line, d.payload from books.longshore_dead_letter_index i \
                   join shop._dead_letters d on d.id = i.id";
    let letter = json!({"code": "type_mismatch", "state": "open", "line": 3, "payload": "2,oops"});
    assert_eq!(place.rows(letters), [letter]);
    let digests = "select digests, covers from books.longshore_receipts where table_name = 't'";
    let receipt = place.rows(digests).remove(0);
    assert_eq!(receipt["digests"].as_array().map(Vec::len), Some(1), "{receipt}");
    assert!(receipt["covers"].to_string().contains("in/b.csv"), "{receipt}");
    assert_eq!(copied(&place), books(&place, &copier(&place)));
}

#[test]
fn an_export_made_again_is_a_new_copy_and_not_a_second_one() {
    let place = shop();
    export(&place, "first");
    let first = copied(&place);
    export(&place, "second");
    let second = copied(&place);
    assert_eq!(second[0].len(), first[0].len() + 1);
    assert_eq!(second[3], first[3]);
    // A letter that was dropped meanwhile, and a run that failed.
    let id = place.good(&["dead-letters", "list", "--json"]).objects()[0]["id"].as_str().expect("an id").to_owned();
    place.good(&["dead-letters", "drop", &id]);
    assert_eq!(place.run(&["load", "none.csv", "--to", "warehouse/shop"]).code, 4);
    export(&place, "third");
    assert_eq!(place.rows("select state from books.longshore_dead_letter_index"), [json!({"state": "dropped"})]);
    let failed = "select code, error is not null as told, rows from books.longshore_runs where status = 'FAILED'";
    assert_eq!(place.rows(failed), [json!({"code": "file_missing", "told": true, "rows": 0})]);
}

#[test]
fn an_export_tells_events_and_a_summary_as_a_load_does() {
    let place = shop();
    let said = place.good(&["runs", "export", "--to", "warehouse/books", "--json"]);
    assert_eq!(said.stderr, "");
    let events = said.objects();
    assert_eq!(events[0]["event"], "started");
    let last = events.last().expect("events");
    assert_eq!((&last["event"], &last["status"], &last["exit_code"]), (&json!("summary"), &json!("SUCCEEDED"), &json!(0)));
    assert_eq!((&last["tables"]["longshore_runs"], &last["tables"]["longshore_receipts"]), (&json!(2), &json!(2)));
    for (to, code) in [("warehouse/my-books", 2), ("gs://bucket/books", 3)] {
        assert_eq!(place.run(&["runs", "export", "--to", to]).code, code, "{to}");
    }
}

#[test]
fn new_books_are_empty_tables_and_the_export_itself() {
    let place = Place::new();
    place.good(&["runs", "export"]);
    let count = |table: &str| place.rows(&format!("select count(*) as n from main.{table}"))[0]["n"].clone();
    assert_eq!(TABLES.map(count), [json!(1), json!(0), json!(0), json!(0)]);
}

#[test]
fn an_export_killed_at_every_step_leaves_the_old_copy_or_the_new_one() {
    let (mut hit, mut kept, mut replaced) = (BTreeSet::new(), 0, 0);
    for name in failpoint::ALL.iter().filter(|name| !name.starts_with("sweep.")) {
        let place = shop();
        export(&place, name);
        let old = copied(&place);
        place.write("in/c.csv", "id,n\n5,x\n6,1\n");
        load(&place, "in");
        let before = books(&place, "");
        let output = place.command(&EXPORT).env("LONGSHORE_FAILPOINT", name).output().expect("the program runs");
        assert!(output.status.signal() == Some(9) || output.status.success(), "{name}: {output:?}");
        if output.status.signal() == Some(9) {
            hit.insert(*name);
        }
        // The new copy has one run more than the books had before it: its own.
        let mut new = before;
        let seen = copied(&place);
        new[0].extend(seen[0].difference(&old[0]).filter(|run| run.ends_with("\"RUNNING\"")).cloned());
        for ((table, seen), (old, new)) in TABLES.iter().zip(&seen).zip(old.iter().zip(&new)) {
            assert!(seen == old || seen == new, "{name}: {table} is neither the old copy nor the new one: {seen:#?}");
            kept += usize::from(seen == old);
            replaced += usize::from(seen == new);
        }
        export(&place, name);
    }
    for name in ["stage.after", "journal.after", "publish.log_entry_unsynced", "publish.after_table", "complete.after"] {
        assert!(hit.contains(name), "{name} is not on the way: {hit:?}");
    }
    assert!(kept >= 20 && replaced >= 20, "{kept} tables were killed as they were, {replaced} as they became");
}

#[test]
fn tables_that_were_deleted_and_books_that_were_restored_are_no_obstacle() {
    let place = shop();
    export(&place, "first");
    let at = |name: &str| place.path().join(name);
    let copy = Command::new("cp").args(["-r", ".longshore", "older"]).current_dir(place.path()).status();
    assert!(copy.expect("cp runs").success());
    std::fs::remove_dir_all(at("warehouse/books")).expect("removed");
    let said = place.good(&EXPORT);
    assert!(said.stderr.contains("it is copied anew"), "{said}");
    export(&place, "deleted");
    std::fs::remove_dir_all(at(".longshore")).expect("removed");
    std::fs::rename(at("older"), at(".longshore")).expect("restored");
    export(&place, "restored");
    // Another store's tables are another matter.
    let other = place.run(&["runs", "export", "--to", "warehouse/books", "--store", "elsewhere"]);
    assert_eq!(other.code, 7, "{other}");
    assert!(other.stderr.contains("--join"), "{other}");
}

/// What the program answers that works with this server.
fn told(cloud: &Cloud, place: &Place, args: &[&str]) -> Vec<Value> {
    let said = place.said(cloud.command(place, args).output().expect("the program runs"));
    assert_eq!(said.code, 0, "{}: {said}", cloud.method);
    said.objects()
}

#[test]
fn bigquery_holds_the_same_books() {
    for method in ["load_job", "storage_write_pending", "storage_write"] {
        let (place, cloud) = (shop(), Cloud::new("books", method));
        export(&place, method);
        for _ in 0..2 {
            told(&cloud, &place, &["runs", "export", "--to", "bigquery://acme/books", "--json"]);
        }
        for table in TABLES {
            // The load's own rows, which every copy has.
            let load = "select run from longshore_runs where pipeline like 'load:%'";
            let sql = format!("select * from {table} where run in ({load})");
            let here = place.rows(&sql);
            let there = told(&cloud, &place, &["query", "--on", "bigquery://acme/books", &sql, "--json"]);
            let sorted = |mut rows: Vec<Value>| {
                rows.sort_by_key(Value::to_string);
                rows
            };
            assert!(!here.is_empty(), "{table}");
            assert_eq!(sorted(there), sorted(here), "{method}, {table}");
            let schema = cloud.server.schema("books", table).expect("a schema");
            let columns = schema.as_array().expect("columns");
            assert!(columns.iter().all(|column| column["description"].is_string()), "{table}: {schema}");
            assert_eq!(columns[0]["mode"], "REQUIRED", "{table}");
        }
        // The second copy has replaced the first.
        assert_eq!(cloud.server.row_count("books", "longshore_runs"), 4, "{method}");
    }
}
