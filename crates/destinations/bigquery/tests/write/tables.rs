//! What tables are made like, and how columns that are there get wider.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use longshore_bigquery::config::Method;
use longshore_core::Result;
use longshore_core::commit::{Contract, WriteDisposition};
use longshore_core::destination::{Destination, Mode, Plan, SchemaChange};
use longshore_core::error::{Kind, Retry};
use longshore_core::event::{Events, Observer, RunEvent};
use longshore_core::retry::Patience;
use longshore_core::schema::{Field, TableSchema, Type};
use longshore_core::stop::Stop;
use longshore_core::table_options::{ColumnOptions, Partition, PartitionBy, TableOptions};
use longshore_fakes::bigquery::{Fault, Gate, Rule};
use serde_json::{Value, json};

use crate::own_server::Shop;

const TABLE: &str = "orders";

fn columns() -> TableSchema {
    TableSchema::new(vec![
        Field::new("OrderID", Type::Int64),
        Field::new("OrderDate", Type::Timestamp),
        Field::new("Customer", Type::String),
        Field::new("Tags", Type::Json),
    ])
}

fn of(fields: &[(&str, Type)]) -> TableSchema {
    TableSchema::new(fields.iter().map(|(name, type_)| Field::new(*name, type_.clone())).collect())
}

fn change(wanted: TableSchema, options: TableOptions) -> SchemaChange {
    let (contract, disposition) = (Contract::Evolve, WriteDisposition::Append);
    SchemaChange { table: TABLE.into(), wanted, contract, disposition, options }
}

fn partition(column: &str, by: PartitionBy) -> TableOptions {
    TableOptions { partition: Some(Partition { column: column.into(), by }), ..TableOptions::default() }
}

fn key(columns: &[&str]) -> TableOptions {
    TableOptions { key: columns.iter().map(|column| (*column).to_owned()).collect(), ..TableOptions::default() }
}

async fn shop() -> (Shop, Arc<dyn Destination>) {
    let shop = Shop::new(Method::StorageWritePending).await;
    let worker = shop.open();
    (shop, worker)
}

/// Makes a table with rows, as somebody else would.
async fn table_of(shop: &Shop, schema: Value, extra: Value, rows: &[Value]) {
    shop.server.create_table("shop", TABLE, &TableSchema::from_json(&schema).unwrap(), extra);
    let url = format!("{}/bigquery/v2/projects/acme/datasets/shop/tables/{TABLE}/insertAll", shop.server.rest());
    let rows: Vec<Value> = rows.iter().map(|row| json!({"json": row})).collect();
    let answer: Value = reqwest::Client::new().post(url).json(&json!({"rows": rows})).send().await.unwrap().json().await.unwrap();
    assert!(answer["insertErrors"].is_null(), "{answer}");
}

async fn apply(worker: &Arc<dyn Destination>, wanted: TableSchema, options: TableOptions) -> Result<Plan> {
    worker.prepare(&change(wanted, options), Mode::Apply).await
}

fn types(plan: &Plan) -> Vec<&'static str> {
    plan.schema.fields.iter().map(|field| field.type_.name()).collect()
}

#[tokio::test]
async fn every_option_stands_in_a_new_table_and_is_announced() {
    let (shop, worker) = shop().await;
    let tagged = ColumnOptions { description: Some("who ordered".into()), policy_tag: Some("taxonomies/1/policyTags/2".into()) };
    let options = TableOptions {
        partition_expiration_days: Some(90),
        require_partition_filter: true,
        cluster_by: vec!["customer".into(), "OrderID".into()],
        description: Some("All orders".into()),
        labels: BTreeMap::from([("team".into(), "verkäufe-1".into()), ("stage".into(), String::new())]),
        expiration_days: Some(7),
        key: vec!["OrderID".into()],
        max_staleness: Some(900),
        columns: BTreeMap::from([("customer".into(), tagged)]),
        ..partition("orderdate", PartitionBy::Month)
    };
    let change = change(columns(), options);
    let planned = worker.prepare(&change, Mode::DryRun).await.unwrap();
    assert_eq!(shop.server.table("shop", TABLE), None, "a dry run makes nothing");
    let before = chrono_millis();
    let made = worker.prepare(&change, Mode::Apply).await.unwrap();
    assert_eq!(made, planned);
    let changes = [
        "create table orders (4 columns)",
        "partition orders by month of OrderDate",
        "remove partitions of orders after 90 days",
        "refuse queries of orders that do not say which partitions they want",
        "cluster orders by Customer, OrderID",
        "describe table orders",
        "label orders stage=, team=verkäufe-1",
        "remove orders 7 days from now",
        "make OrderID the key of orders",
        "let answers about orders be up to 900 s old",
        "tag column customer with taxonomies/1/policyTags/2",
    ];
    assert_eq!(made.changes, changes);
    let table = shop.server.table("shop", TABLE).unwrap();
    let partitioning = json!({"type": "MONTH", "field": "OrderDate", "expirationMs": "7776000000"});
    assert_eq!(table["timePartitioning"], partitioning);
    assert_eq!(table["requirePartitionFilter"], json!(true));
    assert_eq!(table["clustering"], json!({"fields": ["Customer", "OrderID"]}));
    assert_eq!(table["description"], "All orders");
    assert_eq!(table["labels"], json!({"team": "verkäufe-1", "stage": ""}));
    assert_eq!(table["tableConstraints"], json!({"primaryKey": {"columns": ["OrderID"]}}));
    assert_eq!(table["maxStaleness"], "0-0 0 0:15:0");
    let customer = &table["schema"]["fields"][2];
    assert_eq!(customer["description"], "who ordered");
    assert_eq!(customer["policyTags"], json!({"names": ["taxonomies/1/policyTags/2"]}));
    let expires: i64 = table["expirationTime"].as_str().unwrap().parse().unwrap();
    assert!((before..before + 60_000).contains(&(expires - 7 * 86_400_000)), "{expires}");
    // Once it is there nothing of it is touched again.
    let again = apply(&worker, columns(), partition("OrderID", PartitionBy::Year)).await.unwrap();
    assert_eq!((again.changes, shop.server.table("shop", TABLE).unwrap()), (Vec::new(), table));
}

fn chrono_millis() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

#[tokio::test]
async fn rows_are_parted_by_hour_by_year_and_by_ranges() {
    for (by, resource, words) in [
        (PartitionBy::Hour, json!({"type": "HOUR", "field": "OrderDate"}), "partition orders by hour of OrderDate"),
        (PartitionBy::Year, json!({"type": "YEAR", "field": "OrderDate"}), "partition orders by year of OrderDate"),
    ] {
        let (shop, worker) = shop().await;
        let plan = apply(&worker, columns(), partition("OrderDate", by)).await.unwrap();
        assert_eq!(plan.changes[1], words);
        assert_eq!(shop.server.table("shop", TABLE).unwrap()["timePartitioning"], resource);
    }
    let (shop, worker) = shop().await;
    let by = PartitionBy::Range { start: 0, end: 100_000, interval: 1000 };
    let plan = apply(&worker, columns(), partition("OrderID", by)).await.unwrap();
    assert_eq!(plan.changes[1], "partition orders by OrderID, 1000 to a partition from 0 to 100000");
    let range = json!({"field": "OrderID", "range": {"start": "0", "end": "100000", "interval": "1000"}});
    assert_eq!(shop.server.table("shop", TABLE).unwrap()["rangePartitioning"], range);
}

#[tokio::test]
async fn what_bigquery_would_not_take_is_refused_before_anything_is_made() {
    let (shop, worker) = shop().await;
    let clusters = |names: &[&str]| TableOptions {
        cluster_by: names.iter().map(|name| (*name).to_owned()).collect(),
        ..TableOptions::default()
    };
    let refused = [
        (partition("Customer", PartitionBy::Day), "bigquery_partition"),
        (partition("nothing", PartitionBy::Day), "bigquery_partition"),
        (partition("OrderID", PartitionBy::Day), "bigquery_partition"),
        (clusters(&["Tags"]), "bigquery_option"),
        (clusters(&["nothing"]), "bigquery_option"),
        (clusters(&["OrderID"; 5]), "bigquery_option"),
        (key(&["Tags"]), "bigquery_option"),
        (TableOptions { labels: [("Team".into(), "a".into())].into(), ..TableOptions::default() }, "bigquery_option"),
        (TableOptions { columns: [("x".into(), ColumnOptions::default())].into(), ..TableOptions::default() }, "bigquery_option"),
    ];
    for (options, code) in refused {
        let error = apply(&worker, columns(), options.clone()).await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (Kind::Config, code), "{options:?}: {error}");
    }
    assert_eq!(shop.server.calls("tables.insert"), 0);
}

#[tokio::test]
async fn a_key_and_a_staleness_are_added_to_a_table_that_has_none_and_nothing_else_is() {
    let (shop, worker) = shop().await;
    let schema = json!([{"name": "id", "type": "INT64"}]);
    let foreign = json!([{"name": "fk", "referencedTable": {"tableId": "other"}}]);
    table_of(&shop, schema, json!({"tableConstraints": {"foreignKeys": foreign}, "labels": {"theirs": "1"}}), &[]).await;
    let mut options = key(&["ID"]);
    (options.max_staleness, options.description) = (Some(60), Some("ours".into()));
    let wanted = of(&[("id", Type::Int64)]);
    let planned = worker.prepare(&change(wanted.clone(), options.clone()), Mode::DryRun).await.unwrap();
    assert_eq!(shop.server.calls("tables.patch"), 0);
    let plan = apply(&worker, wanted.clone(), options.clone()).await.unwrap();
    assert_eq!(plan.changes, ["make ID the key of orders", "let answers about orders be up to 60 s old"]);
    assert_eq!(plan, planned);
    let table = shop.server.table("shop", TABLE).unwrap();
    assert_eq!(table["tableConstraints"], json!({"foreignKeys": foreign, "primaryKey": {"columns": ["id"]}}));
    assert_eq!((&table["maxStaleness"], &table["labels"]), (&json!("0-0 0 0:1:0"), &json!({"theirs": "1"})));
    assert_eq!(table.get("description"), None, "an existing table is not described");
    assert_eq!(apply(&worker, wanted.clone(), options).await.unwrap().changes, [] as [String; 0]);
    let more = of(&[("id", Type::Int64), ("n", Type::Int64)]);
    let error = apply(&worker, more, key(&["id", "n"])).await.unwrap_err();
    assert_eq!(error.to_string(), "table orders has the key id, and id, n is wanted");
    assert!(error.hint_text().is_some_and(|hint| hint.contains("DROP PRIMARY KEY")));
}

#[tokio::test]
async fn a_column_that_comes_later_is_described_and_tagged_too() {
    let (shop, worker) = shop().await;
    let tagged = ColumnOptions { description: Some("secret".into()), policy_tag: Some("t".into()) };
    let options = TableOptions { columns: [("b".into(), tagged)].into(), ..TableOptions::default() };
    apply(&worker, of(&[("a", Type::Int64)]), TableOptions::default()).await.unwrap();
    apply(&worker, of(&[("a", Type::Int64), ("b", Type::String)]), options).await.unwrap();
    let added = &shop.server.table("shop", TABLE).unwrap()["schema"]["fields"][1];
    assert_eq!((&added["description"], &added["policyTags"]["names"][0]), (&json!("secret"), &json!("t")));
}

#[tokio::test]
async fn columns_widen_in_place_and_a_dry_run_only_says_so() {
    let (shop, worker) = shop().await;
    let schema = json!([
        {"name": "id", "type": "INT64", "mode": "REQUIRED"}, {"name": "N", "type": "INT64"},
        {"name": "d", "type": "NUMERIC", "precision": "10", "scale": "2"}, {"name": "s", "type": "STRUCT", "fields": [{"name": "x", "type": "INT64"}]},
    ]);
    table_of(&shop, schema, json!({}), &[json!({"id": 1, "N": "9007199254740993", "d": "1.5", "s": {"x": 1}})]).await;
    let inner = Field::new("s", Type::Struct(vec![Field::new("x", Type::Numeric)]));
    let mut wanted = of(&[("id", Type::Int64), ("n", Type::Numeric), ("d", Type::BigNumeric), ("late", Type::String)]);
    wanted.fields.push(inner);
    let words = ["widen column N from INT64 to NUMERIC", "widen column d from NUMERIC to BIGNUMERIC", "add column late STRING"];
    let was = shop.server.table("shop", TABLE);
    let planned = worker.prepare(&change(wanted.clone(), TableOptions::default()), Mode::DryRun).await.unwrap();
    assert_eq!((planned.changes.clone(), shop.server.table("shop", TABLE)), (words.map(str::to_owned).to_vec(), was));
    let frozen = SchemaChange { contract: Contract::Freeze, ..change(wanted.clone(), TableOptions::default()) };
    assert_eq!(worker.prepare(&frozen, Mode::Apply).await.unwrap().changes, [] as [String; 0]);
    let plan = apply(&worker, wanted.clone(), TableOptions::default()).await.unwrap();
    assert_eq!(plan, planned);
    assert_eq!(types(&plan), ["INT64", "NUMERIC", "BIGNUMERIC", "STRUCT", "STRING"]);
    assert_eq!(plan.schema.fields[0].mode, longshore_core::schema::Mode::Required, "records do not say that it may be empty");
    assert_eq!(plan.schema.fields[3].children()[0].type_, Type::Int64, "BigQuery wants a STRUCT restated");
    let rows = json!([{"id": 1, "N": "9007199254740993", "d": "1.5", "s": {"x": 1}}]);
    assert_eq!(json!(shop.server.rows("shop", TABLE)), rows);
    assert_eq!(apply(&worker, wanted, TableOptions::default()).await.unwrap().changes, [] as [String; 0]);
    assert!(shop.server.requests().iter().all(|line| !line.contains("BETWEEN")), "values are asked for only if it matters");
}

#[tokio::test]
async fn integers_become_doubles_only_if_none_of_them_changes() {
    for (value, type_) in [(i64::MIN, "INT64"), ((1 << 53) + 1, "INT64"), (1 << 53, "FLOAT64"), (-7, "FLOAT64")] {
        let (shop, worker) = shop().await;
        let rows = [json!({"n": value.to_string()}), json!({"n": null})];
        table_of(&shop, json!([{"name": "n", "type": "INT64"}]), json!({}), &rows).await;
        let plan = apply(&worker, of(&[("n", Type::Float64)]), TableOptions::default()).await.unwrap();
        assert_eq!(types(&plan), [type_], "{value}");
        assert_eq!(shop.server.schema("shop", TABLE).unwrap()[0]["type"], type_, "{value}");
    }
}

#[tokio::test]
async fn another_worker_that_widened_first_is_no_error() {
    let (shop, worker) = shop().await;
    table_of(&shop, json!([{"name": "n", "type": "INT64"}]), json!({}), &[]).await;
    let gate = Gate::new();
    shop.server.arm(Rule::on("jobs.query", Fault::Hold(gate.clone())).about("SET DATA TYPE NUMERIC"));
    let slow = tokio::spawn(async move { apply(&worker, of(&[("n", Type::Numeric)]), TableOptions::default()).await });
    gate.reached(1).await;
    apply(&shop.open(), of(&[("n", Type::BigNumeric)]), TableOptions::default()).await.unwrap();
    gate.open();
    let plan = slow.await.unwrap().unwrap();
    assert_eq!((types(&plan), plan.changes), (vec!["BIGNUMERIC"], Vec::new()));
}

#[tokio::test]
async fn a_widening_whose_answer_is_lost_is_done_once() {
    let (shop, worker) = shop().await;
    table_of(&shop, json!([{"name": "n", "type": "INT64"}]), json!({}), &[json!({"n": 7})]).await;
    shop.server.arm(Rule::on("jobs.query", Fault::LoseAnswer).about("ALTER"));
    let wanted = || of(&[("n", Type::Numeric)]);
    let error = apply(&worker, wanted(), TableOptions::default()).await.unwrap_err();
    assert_eq!(error.retry(), Retry::Backoff);
    let plan = apply(&worker, wanted(), TableOptions::default()).await.unwrap();
    assert_eq!(types(&plan), ["NUMERIC"]);
    assert_eq!(json!(shop.server.rows("shop", TABLE)), json!([{"n": "7"}]));
}

#[tokio::test]
async fn a_column_that_bigquery_does_not_widen_keeps_its_type_and_others_widen() {
    let (shop, worker) = shop().await;
    let schema = json!([{"name": "a", "type": "INT64"}, {"name": "b", "type": "INT64"}, {"name": "c", "type": "INT64"}]);
    let by_range = json!({"rangePartitioning": {"field": "c", "range": {"start": "0", "end": "9", "interval": "1"}}});
    table_of(&shop, schema, by_range, &[]).await;
    let no = Fault::refuse(400, "invalidQuery", "not this column");
    shop.server.arm(Rule::on("jobs.query", no).about("ALTER COLUMN `b`").times(usize::MAX));
    let wanted = of(&[("a", Type::Numeric), ("b", Type::Numeric), ("c", Type::Numeric), ("d", Type::String)]);
    let plan = apply(&worker, wanted, TableOptions::default()).await.unwrap();
    assert_eq!(plan.changes, ["widen column a from INT64 to NUMERIC", "add column d STRING"]);
    assert_eq!(types(&plan), ["NUMERIC", "INT64", "INT64", "STRING"]);
    assert!(!shop.server.requests().iter().any(|line| line.contains("ALTER COLUMN `c`")), "it parts the rows");
}

/// Keeps what is told.
#[derive(Default)]
struct Told(Mutex<Vec<RunEvent>>);

impl Observer for Told {
    fn event(&self, event: &RunEvent) {
        self.0.lock().unwrap().push(event.clone());
    }
}

#[tokio::test]
async fn new_columns_are_waited_for_where_rows_are_written() {
    let (shop, worker) = shop().await;
    let told = Arc::new(Told::default());
    worker.attend(&Patience { stop: Stop::default(), events: Events::new(told.clone()) });
    apply(&worker, of(&[("a", Type::Int64)]), TableOptions::default()).await.unwrap();
    assert_eq!(shop.server.calls("GetWriteStream"), 0, "a new table has no older columns");
    shop.server.arm(Rule::on("GetWriteStream", Fault::StaleSchema).times(4));
    shop.server.arm(Rule::on("GetWriteStream", Fault::LoseRequest));
    let wider = || of(&[("a", Type::Numeric), ("b", Type::String)]);
    let plan = apply(&worker, wider(), TableOptions::default()).await.unwrap();
    assert_eq!(plan.changes, ["widen column a from INT64 to NUMERIC", "add column b STRING"]);
    assert_eq!(shop.server.calls("GetWriteStream"), 6);
    let told = told.0.lock().unwrap().clone();
    let waiting = |event: &RunEvent| matches!(event, RunEvent::Waiting { reason } if reason.contains("new columns"));
    assert!(!told.is_empty() && told.iter().all(waiting), "{told:?}");
    apply(&worker, wider(), TableOptions::default()).await.unwrap();
    assert_eq!(shop.server.calls("GetWriteStream"), 6, "nothing changed");
}

#[tokio::test]
async fn a_request_to_stop_ends_the_waiting() {
    let (shop, worker) = shop().await;
    let stop = Stop::default();
    worker.attend(&Patience { stop: stop.clone(), events: Events::silent() });
    apply(&worker, of(&[("a", Type::Int64)]), TableOptions::default()).await.unwrap();
    shop.server.arm(Rule::on("GetWriteStream", Fault::StaleSchema).times(usize::MAX));
    stop.request();
    let error = apply(&worker, of(&[("b", Type::Int64)]), TableOptions::default()).await.unwrap_err();
    assert_eq!((error.code(), error.retry()), ("bigquery_table_changed", Retry::Backoff));
    // The next run finds the column there, and known.
    shop.server.clear_rules();
    worker.attend(&Patience::default());
    let plan = apply(&worker, of(&[("b", Type::Int64)]), TableOptions::default()).await.unwrap();
    assert_eq!((types(&plan), plan.changes), (vec!["INT64", "INT64"], Vec::new()));
}

#[tokio::test]
async fn columns_that_somebody_else_adds_between_two_commits_are_waited_for_once() {
    let (shop, worker) = shop().await;
    apply(&worker, of(&[("a", Type::Int64)]), TableOptions::default()).await.unwrap();
    apply(&shop.open(), of(&[("b", Type::Int64)]), TableOptions::default()).await.unwrap();
    let before = shop.server.calls("GetWriteStream");
    shop.server.arm(Rule::on("GetWriteStream", Fault::StaleSchema).times(2));
    for _ in 0..2 {
        let plan = apply(&worker, of(&[("a", Type::Int64)]), TableOptions::default()).await.unwrap();
        assert_eq!((types(&plan), plan.changes), (vec!["INT64", "INT64"], Vec::new()));
        assert_eq!(shop.server.calls("GetWriteStream"), before + 3);
    }
}

#[tokio::test]
async fn load_jobs_wait_for_nobody() {
    let shop = Shop::new(Method::LoadJob).await;
    let worker = shop.open();
    apply(&worker, of(&[("a", Type::Int64)]), TableOptions::default()).await.unwrap();
    apply(&worker, of(&[("a", Type::Int64), ("b", Type::Int64)]), TableOptions::default()).await.unwrap();
    assert_eq!(shop.server.calls("GetWriteStream"), 0);
}

#[tokio::test]
async fn a_table_that_wants_its_partitions_filtered_is_asked_with_a_filter() {
    let (shop, worker) = shop().await;
    let parted = json!({"timePartitioning": {"type": "DAY", "field": "at"}, "requirePartitionFilter": true});
    table_of(&shop, json!([{"name": "at", "type": "DATE"}]), parted, &[json!({"at": null})]).await;
    let empty =
        SchemaChange { disposition: WriteDisposition::Empty, ..change(of(&[("at", Type::Date)]), TableOptions::default()) };
    let error = worker.prepare(&empty, Mode::DryRun).await.unwrap_err();
    assert_eq!(error.code(), "table_not_empty");
    let asked = shop.server.requests();
    assert!(asked.iter().filter(|line| line.starts_with("jobs.query")).all(|line| line.contains("`at` IS")), "{asked:?}");
}
