use longshore_core::table_options::{ColumnOptions, Partition, PartitionBy, TableOptions};

use super::*;

const WHOLE: &str = "\
pipeline: orders
source:
  type: files
  path: landing/${day}/*.xml
  records: {customers: /Root/Customers/Customer, orders: /Root/Orders/Order}
destination:
  type: delta
  path: warehouse
  dataset: shop
tables:
  orders: {partition_by: OrderDate, schema: freeze}
  '*': {schema: ignore}
write: truncate
dead_letters: {table: _dead_letters, max: 100}
schedule: {cron: '0 3 * * *', time_zone: Europe/Oslo}
";

fn read(text: &str) -> Result<PipelineFile> {
    let parameters = BTreeMap::from([("day".to_owned(), "2024-05-01".to_owned())]);
    PipelineFile::parse("p.yaml", text, &Variables::new(parameters))
}

fn refused(text: &str) -> String {
    match read(text) {
        Ok(_) => panic!("should be refused"),
        Err(error) => {
            assert_eq!(error.kind(), Kind::Config);
            error.to_string()
        }
    }
}

#[test]
fn a_whole_pipeline_file_is_read() {
    let file = read(WHOLE).expect("reads");
    assert_eq!(file.pipeline.name, "orders");
    assert_eq!(file.pipeline.inputs, ["landing/2024-05-01/*.xml"]);
    assert_eq!(file.pipeline.destination, "warehouse/shop");
    assert_eq!(file.pipeline.contract("orders"), Contract::Freeze);
    assert_eq!(file.pipeline.contract("customers"), Contract::Ignore);
    assert_eq!(file.pipeline.options("orders"), TableOptions::by_day("OrderDate"));
    assert_eq!(file.pipeline.options("customers"), TableOptions::default());
    assert_eq!(file.pipeline.disposition, WriteDisposition::Truncate);
    assert_eq!(file.pipeline.max_dead_letters, Some(100));
    assert!(!file.pipeline.stop_on_max && file.schedule.is_some());
    assert_eq!(file.source.settings["records"]["orders"], "/Root/Orders/Order");
}

#[test]
fn what_is_missing_or_unknown_is_said_with_its_place() {
    assert_eq!(refused("pipeline: a\n"), "p.yaml:1:1: `source` is missing");
    let text = WHOLE.replace("  type: files\n", "");
    assert_eq!(refused(&text), "p.yaml:3:3: `source` has no `type`");
    let text = WHOLE.replace("type: files", "type: fils");
    assert_eq!(refused(&text), "p.yaml:3:9: the source `fils` is not known");
    let text = WHOLE.replace("type: delta", "type: files");
    assert_eq!(refused(&text), "p.yaml:7:9: the destination `files` is not known");
    let text = WHOLE.replace("dataset:", "datset:");
    assert_eq!(refused(&text), "p.yaml:9:3: in `destination`, the key `datset` is not known");
    let text = WHOLE.replace("tables:", "table:");
    assert_eq!(refused(&text), "p.yaml:10:1: the key `table` is not known");
    let text = WHOLE.replace("schema: freeze", "schema: frozen");
    assert_eq!(refused(&text), "p.yaml:11:45: for `tables.orders.schema`, `frozen` is not known");
    let text = WHOLE.replace("max: 100", "max: many");
    assert_eq!(refused(&text), "p.yaml:14:43: `dead_letters.max` must be a whole number, not a text");
    let text = WHOLE.replace("_dead_letters,", "rejects,");
    assert_eq!(refused(&text), "p.yaml:14:23: in this version dead letters are kept in the table `_dead_letters`");
    let text = WHOLE.replace("pipeline: orders", "pipeline: my orders");
    assert_eq!(refused(&text), "p.yaml:1:11: a pipeline's name has letters, digits, `_`, `-` and `.` only");
    let text = WHOLE.replace("${day}", "${month}");
    assert_eq!(refused(&text), "p.yaml:4:9: the variable `month` is not set");
}

const TABLES: &str = "\
pipeline: orders
source: {type: files, path: 'a/*.csv'}
destination: {type: bigquery, project: acme, dataset: shop}
tables:
  orders:
    partition_by: OrderDate
    partition_unit: month
    partition_expiration_days: 90
    require_partition_filter: true
    cluster_by: [CustomerID, OrderID]
    description: All orders
    labels: {team: sales, year: 2024}
    expiration_days: 400
    key: OrderID
    max_staleness: 15m
    columns:
      Name: {description: who, policy_tag: tags/1}
      Note: {}
  lines:
    partition_by: LineID
    partition_range: {start: -10, end: 1000, interval: 10}
  '*': {labels: {by: longshore}}
";

#[test]
fn tables_are_told_what_to_be_like() {
    let file = read(TABLES).expect("reads");
    let name = ColumnOptions { description: Some("who".into()), policy_tag: Some("tags/1".into()) };
    let orders = TableOptions {
        partition: Some(Partition { column: "OrderDate".into(), by: PartitionBy::Month }),
        partition_expiration_days: Some(90),
        require_partition_filter: true,
        cluster_by: vec!["CustomerID".into(), "OrderID".into()],
        description: Some("All orders".into()),
        labels: [("team".to_owned(), "sales".to_owned()), ("year".to_owned(), "2024".to_owned())].into(),
        expiration_days: Some(400),
        key: vec!["OrderID".into()],
        max_staleness: Some(900),
        columns: [("Name".to_owned(), name), ("Note".to_owned(), ColumnOptions::default())].into(),
    };
    assert_eq!(file.pipeline.options("orders"), orders);
    let by = PartitionBy::Range { start: -10, end: 1000, interval: 10 };
    let lines = TableOptions { partition: Some(Partition { column: "LineID".into(), by }), ..TableOptions::default() };
    assert_eq!(file.pipeline.options("lines"), lines);
    let others = TableOptions { labels: [("by".to_owned(), "longshore".to_owned())].into(), ..TableOptions::default() };
    assert_eq!(file.pipeline.options("customers"), others);
    for (text, seconds) in [("90s", 90), ("24h", 86_400), ("0m", 0)] {
        let file = read(&TABLES.replace("15m", text)).expect("reads");
        assert_eq!(file.pipeline.options("orders").max_staleness, Some(seconds));
    }
}

#[test]
fn what_contradicts_itself_in_a_table_is_said_with_its_place_and_a_hint() {
    let with = |from: &str, to: &str| {
        assert!(TABLES.contains(from), "{from}");
        refused(&TABLES.replace(from, to))
    };
    let without_column = "    partition_by: OrderDate\n";
    let expected = "p.yaml:6:21: `partition_unit` needs partitions, and there is no `partition_by`";
    assert_eq!(with(without_column, ""), expected);
    let range = "partition_by: LineID\n    partition_unit: day\n";
    let expected = "p.yaml:21:21: `partition_unit` and `partition_range` exclude each other";
    assert_eq!(with("partition_by: LineID\n", range), expected);
    let days = "partition_by: LineID\n    partition_expiration_days: 1\n";
    let expected = "p.yaml:21:32: partitions of a range have no time after which they could be removed";
    assert_eq!(with("partition_by: LineID\n", days), expected);
    let expected = "p.yaml:21:22: `partition_range` holds no integers";
    assert_eq!(with("end: 1000", "end: -10"), expected);
    assert_eq!(with("interval: 10", "interval: 0"), expected);
    assert_eq!(with(", interval: 10", ""), "p.yaml:21:22: `interval` is missing in `tables.lines.partition_range`");
    let expected = "p.yaml:10:17: rows are sorted by at most 4 columns";
    assert_eq!(with("[CustomerID, OrderID]", "[a, b, c, d, e]"), expected);
    assert_eq!(with("[CustomerID, OrderID]", "[a, b, A]"), "p.yaml:10:24: `cluster_by` names A twice");
    assert_eq!(with("key: OrderID", "key: [a, a]"), "p.yaml:14:14: `key` names a twice");
    assert_eq!(with("expiration_days: 400", "expiration_days: 0"), "p.yaml:13:22: `expiration_days` must be at least 1");
    assert_eq!(with("expiration_days: 400", "expiration_days: -1"), "p.yaml:13:22: `expiration_days` must be at least 1");
    for text in ["25h", "15", "m", "-1m", "1d", "99999999h"] {
        let expected = format!("p.yaml:15:20: `{text}` is no time of at most a day");
        assert_eq!(with("max_staleness: 15m", &format!("max_staleness: {text}")), expected);
    }
    let expected = "p.yaml:18:14: in `tables.orders.columns.Note`, the key `type` is not known";
    assert_eq!(with("Note: {}", "Note: {type: a}"), expected);
    let error = read(&TABLES.replace("15m", "1d")).map(drop).expect_err("refused");
    assert!(error.hint_text().is_some_and(|hint| hint.contains("`15m`")));
}

#[test]
fn a_schedule_that_cannot_be_is_refused_at_its_place() {
    let file = read(WHOLE).expect("reads");
    assert_eq!(file.schedule.expect("one").to_string(), "0 3 * * * (Europe/Oslo)");
    let text = WHOLE.replace("0 3 * * *", "0 25 * * *");
    assert_eq!(refused(&text), "p.yaml:15:18: `0 25 * * *` is no schedule");
    let text = WHOLE.replace("Europe/Oslo", "Oslo");
    assert_eq!(refused(&text), "p.yaml:15:42: the time zone `Oslo` is not known");
}
