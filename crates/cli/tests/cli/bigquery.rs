//! The whole command into BigQuery, against a server of our own: killed at every step, every answer lost once, and compared with the
//! embedded warehouse. At the end a checker counts: each record is in the table once or in the dead letters once.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;

use longshore_core::failpoint;
use longshore_fakes::bigquery::{Fault, Rule};
use serde_json::{Value, json};

use crate::cloud::Cloud;
use crate::place::{Place, Said};

const METHODS: [&str; 3] = ["load_job", "storage_write_pending", "storage_write"];
/// Those whose rows show as soon as they are sent, and are sent again if nobody knows.
const AT_LEAST_ONCE: [&str; 2] = ["storage_write_default", "insert_all"];
const RECORDS: usize = 60;

/// A folder with two files, and a server to load them into.
struct Scene {
    place: Place,
    cloud: Cloud,
}

impl Scene {
    fn new(method: &'static str) -> Self {
        let file = |file: usize| {
            let value = |i: usize| if i % 29 == 13 { "oops".to_owned() } else { i.to_string() };
            let lines: String = (0..RECORDS).map(|i| format!("{file}-{i};,{}\n", value(i))).collect();
            format!("id,n\n{lines}")
        };
        let place = Place::with(&[("in/0.csv", &file(0)), ("in/1.csv", &file(1))]);
        Self { place, cloud: Cloud::new("shop", method) }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.cloud.command(&self.place, args);
        command.env("LONGSHORE_TEST_LEASE_MS", "1500");
        command
    }

    fn load(&self, more: &[&str]) -> Command {
        let mut command = self.command(&["load", "in", "--to", "bigquery://acme/shop", "--table", "t"]);
        command.args(["--type", "n=INT64", "--csv-header", "yes"]).args(more);
        command
    }

    fn run(&self, mut command: Command) -> Said {
        self.place.said(command.output().expect("the program runs"))
    }

    /// Each record once; nothing else waits anywhere.
    fn check(&self, what: &str) {
        self.check_for(what, 1);
    }

    /// Each record at least once, and at most so often.
    fn check_for(&self, what: &str, most: usize) {
        let mut seen: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        for row in self.cloud.server.rows("shop", "t") {
            seen.entry(row["id"].as_str().expect("an id").to_owned()).or_default().0 += 1;
        }
        for row in self.cloud.server.rows("shop", "_dead_letters") {
            let payload = row["payload"].as_str().expect("a payload");
            seen.entry(payload[..=payload.find(';').expect("an id")].to_owned()).or_default().1 += 1;
        }
        for file in 0..2 {
            for i in 0..RECORDS {
                let id = format!("{file}-{i};");
                let found = seen.remove(&id).unwrap_or_default();
                let right = match found {
                    (rows, 0) => i % 29 != 13 && (1..=most).contains(&rows),
                    (rows, letters) => i % 29 == 13 && rows == 0 && letters <= most,
                };
                assert!(right, "{what}, {}: record {id}: {found:?} (in the table, in dead letters)", self.cloud.method);
            }
        }
        assert!(seen.is_empty(), "{what}: records that nobody wrote: {seen:?}");
        assert_eq!(self.cloud.server.objects(), [] as [String; 0], "{what}: files that nobody needs any more");
        let own: Vec<String> =
            self.cloud.server.tables("shop").into_iter().filter(|table| table.starts_with("_longshore_stage")).collect();
        assert!(own.is_empty(), "{what}: {own:?}");
    }
}

#[test]
fn killed_at_every_step_each_record_lands_once() {
    for method in METHODS {
        let mut hit = 0;
        for failpoint in failpoint::ALL {
            let scene = Scene::new(method);
            let mut killed = scene.load(&[]);
            let output = killed.env("LONGSHORE_FAILPOINT", failpoint).output().expect("the program runs");
            hit += usize::from(output.status.signal() == Some(9));
            assert!(output.status.signal() == Some(9) || output.status.success(), "{failpoint}: {output:?}");
            let said = scene.run(scene.load(&[]));
            assert_eq!(said.code, 0, "{failpoint}, {method}: {said}");
            scene.check(failpoint);
        }
        assert!(hit >= failpoint::ALL.len() - 3, "{method}: only {hit} failpoints are on the way");
    }
}

#[test]
fn killed_at_every_step_no_record_is_lost_where_rows_show_at_once() {
    for method in AT_LEAST_ONCE {
        for failpoint in failpoint::ALL {
            let scene = Scene::new(method);
            let mut killed = scene.load(&[]);
            let output = killed.env("LONGSHORE_FAILPOINT", failpoint).output().expect("the program runs");
            assert!(output.status.signal() == Some(9) || output.status.success(), "{failpoint}: {output:?}");
            let said = scene.run(scene.load(&[]));
            assert_eq!(said.code, 0, "{failpoint}, {method}: {said}");
            // Only who dies between sending and saying so sends again; insertAll knows the rows by their ids.
            let again = *failpoint == "publish.log_entry_unsynced" && method == "storage_write_default";
            scene.check_for(failpoint, if again { 2 } else { 1 });
        }
    }
}

/// Contract case 11 with a kill -9 before and after the amendment is in the journal.
#[test]
fn killed_while_it_takes_out_refused_rows_each_record_lands_once() {
    for failpoint in failpoint::AMENDING {
        let scene = Scene::new("load_job");
        scene.cloud.server.create_table("shop", "t", &short_ids(), json!({}));
        let mut killed = scene.load(&[]);
        let output = killed.env("LONGSHORE_FAILPOINT", failpoint).output().expect("the program runs");
        assert_eq!(output.status.signal(), Some(9), "{failpoint}: {output:?}");
        assert_eq!(scene.run(scene.load(&[])).code, 0, "{failpoint}");
        let (rows, letters) = (scene.cloud.server.row_count("shop", "t"), scene.cloud.server.row_count("shop", "_dead_letters"));
        assert_eq!((rows, letters), (20, 2 * RECORDS - 20), "{failpoint}");
        assert_eq!(scene.cloud.server.objects(), [] as [String; 0], "{failpoint}: files that nobody needs any more");
        let listed = scene.run(scene.command(&["dead-letters", "list", "--json"])).objects();
        let ids: std::collections::BTreeSet<&str> = listed.iter().filter_map(|letter| letter["id"].as_str()).collect();
        assert_eq!(ids.len(), letters, "{failpoint}");
    }
}

#[test]
fn killed_while_it_replaces_rows_the_new_ones_are_there_once() {
    for method in METHODS {
        for failpoint in
            ["stage.after", "journal.after", "publish.before_log_entry", "publish.log_entry_unsynced", "complete.before"]
        {
            let scene = Scene::new(method);
            assert_eq!(scene.run(scene.load(&[])).code, 0);
            let mut killed = scene.load(&["--write", "truncate"]);
            let output = killed.env("LONGSHORE_FAILPOINT", failpoint).output().expect("the program runs");
            assert_eq!(output.status.signal(), Some(9), "{failpoint}, {method}");
            // The rows of the table itself; dead letters are added to, whatever becomes of the rows.
            let said = scene.run(scene.load(&["--write", "truncate"]));
            assert_eq!(said.code, 0, "{failpoint}, {method}: {said}");
            let rows = scene.cloud.server.rows("shop", "t");
            assert_eq!(rows.len(), 2 * RECORDS - 4, "{failpoint}, {method}");
        }
    }
}

#[test]
fn whichever_answer_is_lost_each_record_lands_once() {
    for method in METHODS {
        let mut lost = 0;
        loop {
            let scene = Scene::new(method);
            scene.cloud.server.arm(Rule::on("*", Fault::LoseAnswer).skip(lost));
            let mut said = scene.run(scene.load(&[]));
            let calls = scene.cloud.server.requests().len();
            if calls <= lost {
                // Nothing was lost any more.
                assert_eq!(said.code, 0, "{said}");
                break;
            }
            let which = scene.cloud.server.requests()[lost].clone();
            if said.code != 0 {
                said = scene.run(scene.load(&[]));
            }
            assert_eq!(said.code, 0, "{method}, answer {lost} ({which}) lost: {said}");
            scene.check(&format!("answer {lost} ({which}) lost"));
            lost += 1;
        }
        assert!(lost > 15, "{method}: {lost} calls");
    }
}

/// One row with every type at a bound, one in the middle, one of nulls.
fn extremes() -> (Value, String) {
    let schema = json!([
        {"name": "k", "type": "INT64", "mode": "REQUIRED"},
        {"name": "s", "type": "STRING"}, {"name": "y", "type": "BYTES"}, {"name": "i", "type": "INT64"},
        {"name": "f", "type": "FLOAT64"}, {"name": "n", "type": "NUMERIC"}, {"name": "bn", "type": "BIGNUMERIC"},
        {"name": "b", "type": "BOOL"}, {"name": "ts", "type": "TIMESTAMP"}, {"name": "d", "type": "DATE"},
        {"name": "t", "type": "TIME"}, {"name": "dt", "type": "DATETIME"}, {"name": "j", "type": "JSON"},
        {"name": "iv", "type": "INTERVAL"}, {"name": "g", "type": "GEOGRAPHY"},
        {"name": "l", "type": "NUMERIC", "mode": "REPEATED"},
        {"name": "st", "type": "STRUCT", "fields": [
            {"name": "a", "type": "TIME", "mode": "REPEATED"},
            {"name": "x", "type": "STRUCT", "mode": "REPEATED", "fields": [{"name": "v", "type": "BIGNUMERIC"}]},
        ]},
    ]);
    let rows = [
        json!({"k": 1, "s": "é\u{1F30A}\n\"", "y": "AP8=", "i": i64::MIN, "f": "-Infinity",
            "n": "-99999999999999999999999999999.999999999",
            "bn": "578960446186580977117854925043439539266.34992332820282019728792003956564819967",
            "b": true, "ts": "0001-01-01T00:00:00Z", "d": "0001-01-01", "t": "00:00:00", "dt": "0001-01-01T00:00:00",
            "j": {"a": [1, null, "x"]}, "iv": "-10000-0 -3660000 -2000000:0:0", "g": "POINT(1 2)", "l": ["1.5", "-2"],
            "st": {"a": ["23:59:59.999999"], "x": [{"v": "0.5"}, {"v": null}]}}),
        json!({"k": 2, "s": "", "y": "", "i": i64::MAX, "f": "NaN", "n": "99999999999999999999999999999.999999999",
            "bn": "-578960446186580977117854925043439539266.34992332820282019728792003956564819968",
            "b": false, "ts": "9999-12-31T23:59:59.999999Z", "d": "9999-12-31", "t": "23:59:59.999999",
            "dt": "9999-12-31T23:59:59.999999", "j": "text", "iv": "0-0 0 0:0:0", "g": "POINT(0 0)", "l": [],
            "st": {"a": [], "x": []}}),
        json!({"k": 3}),
    ];
    (schema, rows.iter().map(|row| format!("{row}\n")).collect())
}

#[test]
fn bigquery_holds_what_the_embedded_warehouse_holds() {
    let (schema, rows) = extremes();
    for method in METHODS {
        let scene = Scene::new(method);
        scene.place.write("all.jsonl", &rows);
        scene.place.write("schema.json", &schema.to_string());
        let load = |to: &str| {
            let said = scene.run(scene.command(&["load", "all.jsonl", "--schema", "schema.json", "--to", to]));
            assert_eq!(said.code, 0, "{method}: {said}");
        };
        load("warehouse/shop");
        load("bigquery://acme/shop");
        let sql = "select * from shop.all order by k";
        let here = scene.run(scene.command(&["query", sql.replace("shop.all", "shop.\"all\"").as_str(), "--json"])).objects();
        let there = "select * from `shop.all` order by k";
        let there = scene.run(scene.command(&["query", "--on", "bigquery://acme/shop", there, "--json"]));
        assert_eq!(there.code, 0, "{there}");
        assert_eq!((there.objects(), here.len()), (here, 3), "{method}");
    }
}

/// Columns that BigQuery takes only short ids for.
fn short_ids() -> longshore_core::schema::TableSchema {
    let schema = json!([{"name": "id", "type": "STRING", "maxLength": "4"}, {"name": "n", "type": "INT64"}]);
    longshore_core::schema::TableSchema::from_json(&schema).expect("valid")
}

#[test]
fn a_row_that_bigquery_refuses_becomes_a_dead_letter_and_the_rest_lands() {
    for method in METHODS.iter().chain(&AT_LEAST_ONCE) {
        let scene = Scene::new(method);
        scene.cloud.server.create_table("shop", "t", &short_ids(), json!({}));
        // Of each file the first ten records fit: `0-9;` has four characters, `0-10;` five.
        let said = scene.run(scene.load(&["--json"]));
        assert_eq!(said.code, 0, "{said}");
        let rows = scene.cloud.server.rows("shop", "t");
        assert!(rows.iter().all(|row| row["id"].as_str().is_some_and(|id| id.len() == 4)), "{rows:?}");
        assert_eq!(rows.len(), 20, "{method}");
        let letters = scene.cloud.server.rows("shop", "_dead_letters");
        assert_eq!(letters.len(), 2 * RECORDS - 20, "{method}");
        let refused: Vec<&Value> = letters.iter().filter(|letter| letter["code"] == "row_refused").collect();
        assert_eq!(refused.len(), 2 * RECORDS - 20 - 4);
        let payload: Value = serde_json::from_str(refused[0]["payload"].as_str().expect("a payload")).expect("JSON");
        assert!(payload["id"].as_str().is_some_and(|id| id.len() == 5) && payload["n"].is_number(), "{payload}");
        assert!(refused.iter().all(|letter| letter["file"].as_str().is_some_and(|file| file.ends_with(".csv"))));
        let summary = said.objects().pop().expect("a summary");
        assert_eq!((&summary["tables"]["t"], &summary["rejects"]), (&json!(20), &json!(100)), "{summary}");
    }
}

#[test]
fn case_13_a_store_that_was_lost_or_restored_is_refused_and_mended_by_repair() {
    let scene = Scene::new("storage_write_pending");
    let store = |name: &str| scene.place.path().join(name);
    assert_eq!(scene.run(scene.load(&[])).code, 0);
    // An older copy of the books, then one more commit, then the copy comes back.
    let copied = Command::new("cp").args(["-r", ".longshore", "older"]).current_dir(scene.place.path()).status();
    assert!(copied.expect("cp runs").success());
    scene.place.write("in/2.csv", "id,n\n2-0;,0\n");
    assert_eq!(scene.run(scene.load(&[])).code, 0);
    std::fs::rename(store(".longshore"), store("newer")).expect("renamed");
    std::fs::rename(store("older"), store(".longshore")).expect("renamed");
    scene.place.write("in/3.csv", "id,n\n3-0;,0\n");
    let said = scene.run(scene.load(&[]));
    assert_eq!(said.code, 7, "{said}");
    assert!(said.stderr.contains("longshore repair"), "{said}");
    let repaired = scene.run(scene.command(&["repair", "bigquery://acme/shop", "--apply"]));
    assert_eq!(repaired.code, 0, "{repaired}");
    assert_eq!(scene.run(scene.load(&[])).code, 0);
    assert_eq!(scene.cloud.server.rows("shop", "t").len(), 2 * RECORDS - 4 + 2, "the files that had landed are known again");
    // The books are lost.
    std::fs::remove_dir_all(store(".longshore")).expect("removed");
    scene.place.write("in/4.csv", "id,n\n4-0;,0\n");
    let said = scene.run(scene.load(&[]));
    assert_eq!(said.code, 7, "{said}");
    assert!(said.stderr.contains("--join"), "{said}");
    let repaired = scene.run(scene.command(&["repair", "bigquery://acme/shop", "--apply"]));
    assert_eq!(repaired.code, 0, "{repaired}");
    assert_eq!(scene.run(scene.load(&[])).code, 0);
    assert_eq!(scene.cloud.server.rows("shop", "t").len(), 2 * RECORDS - 4 + 3);
}

/// The books are lost while a commit is on its way into its tables: BigQuery knows of it, and nobody else.
#[test]
fn case_13_a_store_that_is_lost_while_it_publishes_is_mended_with_all_that_was_on_its_way() {
    for method in METHODS {
        for failpoint in ["publish.before_log_entry", "publish.log_entry_unsynced", "publish.after_table", "complete.before"] {
            let scene = Scene::new(method);
            let mut killed = scene.load(&[]);
            let output = killed.env("LONGSHORE_FAILPOINT", failpoint).output().expect("the program runs");
            assert_eq!(output.status.signal(), Some(9), "{failpoint}, {method}");
            std::fs::remove_dir_all(scene.place.path().join(".longshore")).expect("removed");
            let said = scene.run(scene.load(&[]));
            assert_eq!(said.code, 7, "{failpoint}, {method}: {said}");
            let repaired = scene.run(scene.command(&["repair", "bigquery://acme/shop", "--apply"]));
            assert_eq!(repaired.code, 0, "{failpoint}, {method}: {repaired}");
            let said = scene.run(scene.load(&[]));
            assert_eq!(said.code, 0, "{failpoint}, {method}: {said}");
            scene.check(failpoint);
        }
    }
}

#[test]
fn a_column_of_integers_takes_the_decimals_of_a_later_file() {
    for method in METHODS {
        let scene = Scene::new(method);
        scene.place.write("a.csv", "k,n,x\n1,9007199254740993,1\n2,,2\n");
        scene.place.write("b.csv", "k,n,x\n3,0.5,15e-1\n4,7,2e-3\n");
        scene.place.write("c.csv", "k,n,x\n5,0.0000000000001,3\n");
        let load = |file: &str| {
            let to = ["--to", "bigquery://acme/shop", "--table", "t", "--json"];
            let said = scene.run(scene.command(&[&["load", file], to.as_slice()].concat()));
            assert_eq!(said.code, 0, "{method}: {said}");
            said
        };
        load("a.csv");
        let said = load("b.csv");
        for words in ["widen column n from INT64 to NUMERIC", "widen column x from INT64 to FLOAT64"] {
            assert!(said.stdout.contains(words), "{said}");
        }
        assert!(load("c.csv").stdout.contains("widen column n from NUMERIC to BIGNUMERIC"));
        let mut rows = scene.cloud.server.rows("shop", "t");
        rows.sort_by_key(|row| row["k"].as_i64());
        let wanted = json!([
            {"k": 1, "n": "9007199254740993", "x": 1.0}, {"k": 2, "x": 2.0},
            {"k": 3, "n": "0.5", "x": 1.5}, {"k": 4, "n": "7", "x": 0.002},
            {"k": 5, "n": "0.0000000000001", "x": 3.0},
        ]);
        assert_eq!(json!(rows), wanted, "{method}");
        assert_eq!(scene.cloud.server.rows("shop", "_dead_letters"), [] as [Value; 0]);
    }
}

#[test]
fn one_partition_is_replaced_by_its_name() {
    let scene = Scene::new("load_job");
    let schema = longshore_core::schema::TableSchema::from_json(
        &json!([{"name": "id", "type": "INT64"}, {"name": "day", "type": "DATE"}]),
    );
    let by_day = json!({"timePartitioning": {"type": "DAY", "field": "day"}});
    scene.cloud.server.create_table("shop", "orders", &schema.expect("valid"), by_day);
    let load = |csv: &str, table: &str, to: &str| {
        scene.place.write("a.csv", csv);
        scene.run(scene.command(&["load", "a.csv", "--to", to, "--table", table, "--write", "truncate"]))
    };
    let to = "bigquery://acme/shop";
    let said = load("id,day\n1,2024-01-30\n2,2024-01-31\n", "orders", to);
    assert_eq!(said.code, 0, "{said}");
    let said = load("id,day\n3,2024-01-31\n", "orders$20240131", to);
    assert_eq!(said.code, 0, "{said}");
    let mut rows = scene.cloud.server.rows("shop", "orders");
    rows.sort_by_key(|row| row["id"].as_i64());
    assert_eq!(json!(rows), json!([{"id": 1, "day": "2024-01-30"}, {"id": 3, "day": "2024-01-31"}]));
    // What belongs elsewhere is refused, and nothing of the partition is replaced by it.
    let said = load("id,day\n4,2024-01-30\n5,2024-01-31\n", "orders$20240131", to);
    assert_eq!(said.code, 6, "{said}");
    let letters = scene.cloud.server.rows("shop", "_dead_letters");
    assert!(
        letters.len() == 2 && letters[0]["reason"].as_str().is_some_and(|why| why.contains("different partitions")),
        "{letters:?}"
    );
    assert_eq!(scene.cloud.server.row_count("shop", "orders"), 2);
    assert_eq!(scene.cloud.server.objects(), [] as [String; 0]);
}

#[test]
fn a_pipeline_file_says_what_a_new_table_is_like() {
    let scene = Scene::new("storage_write_pending");
    scene.place.write("orders.csv", "id,at\n1,2024-05-01\n2,2024-06-01\n");
    let pipeline = "\
pipeline: orders
source: {type: files, path: orders.csv}
destination: {type: bigquery, project: acme, dataset: shop, anonymous: true, endpoint: ${REST}, write_endpoint: ${REST}}
tables:
  orders: {partition_by: at, partition_unit: month, cluster_by: id, labels: {team: sales}, key: id}
";
    let pipeline = pipeline.replace("${REST}", &scene.cloud.server.rest());
    scene.place.write("p.yaml", &pipeline);
    let said = scene.run(scene.command(&["run", "p.yaml", "--json"]));
    assert_eq!(said.code, 0, "{said}");
    assert!(said.stdout.contains("partition orders by month of at"), "{said}");
    let table = scene.cloud.server.table("shop", "orders").expect("made");
    assert_eq!(table["timePartitioning"], json!({"type": "MONTH", "field": "at"}));
    assert_eq!((&table["clustering"]["fields"], &table["labels"]), (&json!(["id"]), &json!({"team": "sales"})));
    assert_eq!(scene.cloud.server.row_count("shop", "orders"), 2);
    scene.place.write(
        "p.yaml",
        &pipeline.replace("labels: {team", "labels: {Team").replace("path: orders.csv", "path: new.csv, table: orders"),
    );
    scene.place.write("new.csv", "id,at\n3,2024-07-01\n");
    scene.cloud.server.drop_table("shop", "orders");
    let said = scene.run(scene.command(&["check", "p.yaml"]));
    assert_eq!(said.code, 3, "{said}");
    assert!(said.stderr.contains("BigQuery does not take the label `Team: sales`"), "{said}");
}
