//! Queries on tables written by hand: Parquet files and log entries as any Delta writer makes them.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::DataType;
use futures::StreamExt as _;
use longshore_core::error::Error;
use longshore_core::schema::{Field, Mode, TYPE_KEY, TableSchema, Type};
use longshore_core::show::{value_to_json, value_to_text};
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};

use super::*;

/// Delta's schema JSON of a type.
fn delta_type(type_: &Type) -> Value {
    json!(match type_ {
        Type::Int64 => "long",
        Type::Float64 => "double",
        Type::Numeric => "decimal(38,9)",
        Type::Bytes => "binary",
        Type::Bool => "boolean",
        Type::Timestamp => "timestamp",
        Type::DateTime => "timestamp_ntz",
        Type::Date => "date",
        Type::Struct(fields) => return json!({"type": "struct", "fields": fields.iter().map(delta_field).collect::<Vec<_>>()}),
        _ => "string",
    })
}

fn delta_field(field: &Field) -> Value {
    let mut type_ = delta_type(&field.type_);
    if field.mode == Mode::Repeated {
        type_ = json!({"type": "array", "elementType": type_, "containsNull": false});
    }
    let metadata = if field.type_.is_text_carried() { json!({TYPE_KEY: field.type_.name()}) } else { json!({}) };
    json!({"name": field.name, "type": type_, "nullable": field.mode != Mode::Required, "metadata": metadata})
}

/// Writes a table with one file at `root/path`, and the marks given.
fn write_table(root: &Path, path: &str, schema: &TableSchema, columns: Vec<ArrayRef>, marks: &[(&str, i64)], stats: bool) {
    let folder = root.join(path);
    std::fs::create_dir_all(folder.join("_delta_log")).expect("folder");
    let batch = RecordBatch::try_new(schema.to_arrow(), columns).expect("columns as in the schema");
    let file = folder.join("part-0.parquet");
    let mut writer = ArrowWriter::try_new(File::create(&file).expect("file"), batch.schema(), None).expect("writer");
    writer.write(&batch).expect("rows");
    writer.close().expect("closed");
    let fields: Vec<Value> = schema.fields.iter().map(delta_field).collect();
    let schema_string = json!({"type": "struct", "fields": fields}).to_string();
    let mut lines = vec![
        json!({"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["timestampNtz"], "writerFeatures": ["timestampNtz"]}}),
        json!({"metaData": {"id": "7f1b7a5c-1b8e-4bb0-9f6c-6f6f2b4f2f11", "format": {"provider": "parquet", "options": {}},
            "schemaString": schema_string, "partitionColumns": [], "configuration": {"delta.appendOnly": "false"}, "createdTime": 0}}),
    ];
    let mut add = json!({"path": "part-0.parquet", "partitionValues": {}, "size": file.metadata().expect("size").len(),
        "modificationTime": 0, "dataChange": true});
    if stats {
        add["stats"] = json!(json!({"numRecords": batch.num_rows()}).to_string());
    }
    lines.push(json!({"add": add}));
    lines.extend(marks.iter().map(|(app, n)| json!({"txn": {"appId": app, "version": n}})));
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(folder.join("_delta_log/00000000000000000000.json"), text).expect("log");
}

fn strings(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn orders_schema() -> TableSchema {
    let ship = Type::Struct(vec![Field::new("Freight", Type::Numeric), Field::new("ShipName", Type::String)]);
    TableSchema::new(vec![
        Field::new("OrderID", Type::Int64),
        Field::new("OrderDate", Type::DateTime),
        Field::new("CustomerID", Type::String),
        Field::new("ShipInfo", ship),
        Field::new("Tags", Type::String).with_mode(Mode::Repeated),
    ])
}

fn write_orders(root: &Path, path: &str) {
    let schema = orders_schema();
    let DataType::Struct(children) = schema.to_arrow().field(3).data_type().clone() else { panic!("a struct") };
    let freight = Decimal128Array::from(vec![3_350_000_000, 10_000_000_000, 500_000_000]);
    let freight = freight.with_precision_and_scale(38, 9).expect("fits");
    let ship = StructArray::new(children, vec![Arc::new(freight), strings(&["Vins", "Toms", "Hanari"])], None);
    let mut tags =
        ListBuilder::new(StringBuilder::new()).with_field(arrow::datatypes::Field::new("element", DataType::Utf8, false));
    tags.append_value([Some("a"), Some("b")]);
    tags.append_value([Some("c")]);
    tags.append(true);
    let dates = TimestampMicrosecondArray::from(vec![0, 86_400_000_000, 2 * 86_400_000_000]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![10, 20, 30])),
        Arc::new(dates),
        strings(&["A", "B", "A"]),
        Arc::new(ship),
        Arc::new(tags.finish()),
    ];
    write_table(root, path, &schema, columns, &[("longshore:s:l:p", 4), ("spark", 9)], true);
}

/// A warehouse with `shop.orders`, `shop.customers` (whose `customerid` is spelled in lower case), `crm.people` and `crm.Tags`.
fn shop() -> (tempfile::TempDir, Warehouse) {
    let dir = tempfile::tempdir().expect("temp dir");
    write_orders(dir.path(), "shop/orders");
    let customers = TableSchema::new(vec![Field::new("customerid", Type::String), Field::new("Name", Type::String)]);
    write_table(dir.path(), "shop/customers", &customers, vec![strings(&["A", "B"]), strings(&["Ann", "Bob"])], &[], true);
    let people = TableSchema::new(vec![Field::new("id", Type::Int64)]);
    write_table(dir.path(), "crm/people", &people, vec![Arc::new(Int64Array::from(vec![1]))], &[], false);
    let warehouse = Warehouse::open(dir.path()).expect("warehouse").with_partitions(2);
    (dir, warehouse)
}

/// The names of the result's columns and its rows as texts.
async fn try_rows(warehouse: &Warehouse, sql: &str) -> Result<(Vec<String>, Vec<Vec<String>>)> {
    let mut result = warehouse.query(sql).await?;
    let names = result.schema.fields().iter().map(|field| field.name().clone()).collect();
    let mut rows = Vec::new();
    while let Some(batch) = result.stream.next().await {
        let batch = batch?;
        for row in 0..batch.num_rows() {
            let cells = result.schema.fields().iter().zip(batch.columns());
            rows.push(cells.map(|(f, a)| value_to_text(f, a, row).unwrap_or_else(|| "NULL".into())).collect());
        }
    }
    Ok((names, rows))
}

async fn rows(warehouse: &Warehouse, sql: &str) -> (Vec<String>, Vec<Vec<String>>) {
    try_rows(warehouse, sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}; hint: {:?}", e.hint_text()))
}

/// The rows as one text: cells by comma, rows by semicolon.
async fn flat(warehouse: &Warehouse, sql: &str) -> String {
    let (_, rows) = rows(warehouse, sql).await;
    rows.iter().map(|row| row.join(",")).collect::<Vec<_>>().join(";")
}

async fn refusal(warehouse: &Warehouse, sql: &str) -> Error {
    match try_rows(warehouse, sql).await {
        Ok(found) => panic!("{sql} should fail and gave {found:?}"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn names_match_without_case_and_come_back_as_the_table_spells_them() {
    let (_dir, warehouse) = shop();
    for sql in [
        "select orderdate, ORDERID from shop.orders order by orderid limit 1",
        "SELECT `orderdate`, \"OrderID\" FROM `shop`.`orders` ORDER BY OrderId LIMIT 1",
        "select o.OrderDate, O.orderId from `shop.orders` o order by O.ORDERID limit 1",
        "select SHOP.Orders.orderdate, orders.orderid from Shop.ORDERS order by 2 limit 1",
        "select `shop.orders`.orderdate, `orders.orderid` from `shop.orders` order by 2 limit 1",
        "with X as (select * from orders) select orderdate, x.orderid from x order by 2 limit 1",
        "select s.orderdate, s.orderid from (select orderid, orderdate from orders) as S order by 2 limit 1",
    ] {
        let (names, rows) = rows(&warehouse, sql).await;
        assert_eq!(names, ["OrderDate", "OrderID"], "{sql}");
        assert_eq!(rows, [["1970-01-01T00:00:00", "10"]], "{sql}");
    }
}

#[tokio::test]
async fn columns_are_named_by_alias_by_column_or_by_what_was_written() {
    let (_dir, warehouse) = shop();
    let sql = "select sum(orderid), count(*), 1+1 as Two, shipinfo.freight, o.ShipInfo['shipname'] as orderdate \
               from orders o group by shipinfo.freight, o.shipinfo order by 1 limit 1";
    let (names, rows) = rows(&warehouse, sql).await;
    assert_eq!(names, ["sum(orderid)", "count(*)", "Two", "Freight", "orderdate"]);
    assert_eq!(rows, [["10", "1", "2", "3.35", "Vins"]]);
    let (names, _) = self::rows(&warehouse, "select 7 as First, *, upper(customerid) from orders").await;
    assert_eq!(names, ["First", "OrderID", "OrderDate", "CustomerID", "ShipInfo", "Tags", "upper(customerid)"]);
    let (names, _) = self::rows(&warehouse, "select * except (orderdate, SHIPINFO, tags) from orders").await;
    assert_eq!(names, ["OrderID", "CustomerID"]);
}

#[tokio::test]
async fn tables_that_spell_a_column_differently_join_on_it() {
    let (_dir, warehouse) = shop();
    for sql in [
        "select name, orderid from orders join customers using (CUSTOMERID) order by orderid",
        "select c.NAME, o.orderid from orders o, customers c where o.customerid = C.CustomerId order by o.orderid",
        "select c.name, o.orderid from customers c join orders o on o.customerid = c.customerid order by 2",
    ] {
        assert_eq!(flat(&warehouse, sql).await, "Ann,10;Bob,20;Ann,30", "{sql}");
    }
    let error = refusal(&warehouse, "select customerid from orders, customers").await;
    assert_eq!((error.code(), error.kind()), ("query_unknown_column", Kind::Usage));
    assert!(error.to_string().contains("several tables"), "{error}");
}

#[tokio::test]
async fn fields_of_structs_match_without_case_too() {
    let (_dir, warehouse) = shop();
    for path in ["ShipInfo.Freight", "shipinfo.freight", "o.SHIPINFO.FREIGHT", "o.shipinfo['freight']", "`shipinfo`.`freight`"] {
        let sql = format!("select {path} from orders o where {path} > 1.5 order by {path}");
        assert_eq!(flat(&warehouse, &sql).await, "3.35;10", "{sql}");
    }
    let error = refusal(&warehouse, "select shipinfo.frieght from orders").await;
    assert_eq!(error.code(), "query_unknown_column");
    assert_eq!(error.to_string(), "there is no field frieght in ShipInfo");
    assert_eq!(error.hint_text(), Some("did you mean Freight? fields: Freight, ShipName"));
    let error = refusal(&warehouse, "select tags.x from orders").await;
    assert!(error.hint_text().is_some_and(|hint| hint.contains("unnest")), "{error}");
    assert_eq!(flat(&warehouse, "select unnest(tags) from orders order by 1").await, "a;b;c");
}

#[tokio::test]
async fn an_unknown_column_names_the_near_ones_and_its_place() {
    let (_dir, warehouse) = shop();
    let error = refusal(&warehouse, "select orderid,\n  ordredate from orders").await;
    assert_eq!((error.code(), error.kind()), ("query_unknown_column", Kind::Usage));
    assert_eq!(error.to_string(), "query:2:3: there is no column ordredate");
    let hint = error.hint_text().expect("a hint");
    assert_eq!(hint, "did you mean OrderDate? columns: OrderID, OrderDate, CustomerID, ShipInfo, Tags");
    let error = refusal(&warehouse, "select o.nothing from orders o").await;
    assert_eq!(error.message(), "there is no column nothing in o");
}

#[tokio::test]
async fn an_unknown_table_names_the_near_ones_and_its_place() {
    let (_dir, warehouse) = shop();
    let error = refusal(&warehouse, "select * from shop.order").await;
    assert_eq!((error.code(), error.kind()), ("unknown_table", Kind::Usage));
    assert_eq!(error.to_string(), "query:1:15: there is no table shop.order");
    assert_eq!(error.hint_text(), Some("did you mean shop.orders? tables: crm.people, shop.customers, shop.orders"));
    let error = refusal(&warehouse, "select * from custmers").await;
    assert!(error.hint_text().is_some_and(|hint| hint.starts_with("did you mean shop.customers?")), "{error:?}");
    let error = refusal(&warehouse, "select * from '/etc/passwd'").await;
    assert_eq!(error.code(), "unknown_table");
}

#[tokio::test]
async fn a_bare_table_is_looked_for_in_main_and_then_wherever_it_is_unique() {
    let (dir, warehouse) = shop();
    assert_eq!(flat(&warehouse, "select count(*) from people").await, "1");
    write_orders(dir.path(), "archive/orders");
    let error = refusal(&warehouse, "select * from orders").await;
    assert_eq!(error.code(), "unknown_table");
    assert!(error.to_string().contains("archive.orders, shop.orders"), "{error}");
    let orders = TableSchema::new(vec![Field::new("here", Type::Bool)]);
    write_table(dir.path(), "main/orders", &orders, vec![Arc::new(BooleanArray::from(vec![true]))], &[], true);
    assert_eq!(flat(&warehouse, "select here from orders").await, "true");
}

#[tokio::test]
async fn names_that_differ_only_by_case_must_be_quoted() {
    let (dir, warehouse) = shop();
    write_orders(dir.path(), "shop/Orders");
    let error = refusal(&warehouse, "select * from shop.orders").await;
    assert!(error.to_string().contains("differ only by case"), "{error}");
    assert_eq!(flat(&warehouse, "select count(*) from `shop`.`Orders`").await, "3");
    assert_eq!(flat(&warehouse, "select count(*) from `Orders`").await, "3");
    let error = refusal(&warehouse, "select * from `shop`.`Orders` a, `shop`.`orders` b").await;
    assert!(error.to_string().contains("cannot be read in one query"), "{error}");
}

#[tokio::test]
async fn common_table_expressions_and_subqueries_find_their_tables() {
    let (_dir, warehouse) = shop();
    for (sql, expected) in [
        ("with orders as (select * from shop.orders where orderid > 10) select count(*) from orders", "2"),
        ("with orders as (select * from orders where orderid > 10) select count(*) from ORDERS", "2"),
        ("with a as (select 1 as n), b as (select n + 1 as m from a) select M from B", "2"),
        ("select count(*) from orders o where exists (select 1 from customers c where c.customerid = o.customerid)", "3"),
        ("select orderid from orders where customerid in (select customerid from customers where name = 'Bob')", "20"),
        ("with recursive t as (select 1 as n union all select n + 1 from t where n < 3) select sum(n) from t", "6"),
        ("select (select max(orderid) from orders) as m", "30"),
        ("values (1, 'a'), (2, 'b')", "1,a;2,b"),
        ("select value from generate_series(1, 3) order by 1 desc", "3;2;1"),
        ("select orderid from orders union all select id from people order by 1 limit 2", "1;10"),
    ] {
        assert_eq!(flat(&warehouse, sql).await, expected, "{sql}");
    }
}

#[tokio::test]
async fn only_reading_is_allowed_and_one_statement_at_a_time() {
    let (dir, warehouse) = shop();
    for sql in [
        "insert into shop.orders values (1)",
        "delete from shop.orders",
        "update shop.orders set orderid = 1",
        "drop table shop.orders",
        "create table x as select 1",
        "create external table x stored as csv location '/etc/passwd'",
        "copy (select 1) to '/tmp/longshore-should-not-exist.csv'",
        "set datafusion.execution.batch_size = 1",
        "explain insert into shop.orders values (1)",
        "with x as (insert into shop.orders values (1)) select 1",
        "select 1; select 2",
        "select * into x from shop.orders",
        "merge into shop.orders using shop.orders s on true when matched then delete",
        "truncate table shop.orders",
        "vacuum",
        "reset datafusion.execution.batch_size",
    ] {
        let error = refusal(&warehouse, sql).await;
        assert_eq!(error.kind(), Kind::Usage, "{sql}: {error:?}");
    }
    for sql in ["insert into shop.orders values (1)", "drop table shop.orders", "select 1; select 2"] {
        assert_eq!(refusal(&warehouse, sql).await.code(), "query_read_only", "{sql}");
    }
    assert_eq!(refusal(&warehouse, "  ").await.code(), "query_invalid");
    assert!(dir.path().join("shop/orders/part-0.parquet").exists());
}

#[tokio::test]
async fn what_cannot_be_read_is_told_with_its_place() {
    let (_dir, warehouse) = shop();
    let error = refusal(&warehouse, "selekt 1").await;
    assert_eq!((error.code(), error.kind()), ("query_invalid", Kind::Usage));
    let error = refusal(&warehouse, "select 1 +\n  from orders").await;
    let place = error.place().expect("a place");
    assert_eq!((place.line, place.file.as_str()), (Some(2), "query"), "{error}");
    let error = refusal(&warehouse, "select nofunction(1)").await;
    assert_eq!(error.code(), "query_invalid");
    assert!(error.to_string().contains("nofunction"), "{error}");
    let error = refusal(&warehouse, "select cast(customerid as bigint) from orders").await;
    assert_eq!(error.code(), "query_failed");
    assert!(!error.to_string().contains('\n'));
}

#[tokio::test]
async fn show_describe_and_explain_tell_of_tables() {
    let (_dir, warehouse) = shop();
    assert_eq!(flat(&warehouse, "show tables").await, "crm,people;shop,customers;shop,orders");
    assert_eq!(flat(&warehouse, "show tables from crm").await, "crm,people");
    assert_eq!(flat(&warehouse, "show schemas").await, "crm;shop");
    let columns = "OrderID,INT64,NULLABLE,;OrderDate,DATETIME,NULLABLE,;CustomerID,STRING,NULLABLE,;\
                   ShipInfo,STRUCT<Freight NUMERIC, ShipName STRING>,NULLABLE,;Tags,ARRAY<STRING>,REPEATED,";
    assert_eq!(flat(&warehouse, "describe Shop.ORDERS").await, columns);
    assert_eq!(flat(&warehouse, "show columns from orders").await, columns);
    let plan = flat(&warehouse, "explain select orderid from orders").await;
    assert!(plan.contains("OrderID"), "{plan}");
}

#[tokio::test]
async fn a_table_is_described_with_its_counts_and_marks() {
    let (_dir, warehouse) = shop();
    let detail = warehouse.describe("orders").await.expect("described");
    assert_eq!((detail.dataset.as_str(), detail.table.as_str()), ("shop", "orders"));
    assert_eq!(detail.schema, orders_schema());
    assert_eq!((detail.rows, detail.files, detail.version), (3, 1, 0));
    assert!(detail.bytes > 0);
    assert_eq!(detail.properties.get("delta.appendOnly").map(String::as_str), Some("false"));
    let marks: Vec<(&str, i64)> = detail.marks.iter().map(|mark| (mark.application.as_str(), mark.n)).collect();
    assert_eq!(marks, [("longshore:s:l:p", 4), ("spark", 9)]);
    assert_eq!(warehouse.describe("crm.people").await.expect("counted").rows, 1, "without statistics the rows are counted");
    assert_eq!(warehouse.describe("crm.nobody").await.expect_err("unknown").code(), "unknown_table");
}

#[tokio::test]
async fn a_number_with_a_point_is_a_float_unless_it_meets_a_decimal() {
    let dir = tempfile::tempdir().expect("temp dir");
    let schema = TableSchema::new(vec![Field::new("f", Type::Float64), Field::new("n", Type::Numeric)]);
    let n = Decimal128Array::from(vec![1_000_000_000, 100_000_000, 3_350_000_000]).with_precision_and_scale(38, 9).expect("fits");
    let f = Float64Array::from(vec![f64::NAN, 0.1, 1e300]);
    write_table(dir.path(), "main/t", &schema, vec![Arc::new(f), Arc::new(n)], &[], true);
    let warehouse = Warehouse::open(dir.path()).expect("warehouse");
    for (sql, expected) in [
        ("select f from t where f = 0.1", "0.1"),
        ("select f from t where f between 0.05 and 0.15", "0.1"),
        ("select f from t where f in (0.1, 0.2)", "0.1"),
        ("select count(*) from t where f > 0.1", "2"),
        ("select n from t where n = 3.35", "3.35"),
        ("select n from t where n in (0.1, 3.35) order by 1", "0.1;3.35"),
        ("select n * 1.1 from t where n between 0.99 and 1.01", "1.1"),
        ("select 1.0 / 3, 100.0 * 1 / 3", "0.3333333333333333,33.333333333333336"),
        ("select x + 1 from (select 0.1 as x) where x > 0.05", "1.1"),
        ("select sum(x) from (select 0.5 as x union all select f from t where f = 0.1)", "0.6"),
        ("select count(*) from t where n > (select 0.5)", "2"),
        ("select case when n > 1.5 then 0.5 else 0.25 end from t order by n", "0.25;0.25;0.5"),
        ("select cast(0.1 as decimal(38, 38)) = 0.1", "true"),
        ("values (1.5), (2)", "1.5;2"),
        ("select round(2.71828, 2), power(2.0, 0.5)", "2.72,1.4142135623730951"),
    ] {
        assert_eq!(flat(&warehouse, sql).await, expected, "{sql}");
    }
}

#[tokio::test]
async fn partition_columns_have_their_types() {
    let dir = tempfile::tempdir().expect("temp dir");
    let whole = TableSchema::new(vec![
        Field::new("a", Type::Int64),
        Field::new("Kind", Type::String),
        Field::new("day", Type::Date),
        Field::new("at", Type::Time),
        Field::new("big", Type::BigNumeric),
    ]);
    let written = TableSchema::new(vec![Field::new("a", Type::Int64)]);
    write_table(dir.path(), "main/t", &written, vec![Arc::new(Int64Array::from(vec![1, 2]))], &[], true);
    let log = dir.path().join("main/t/_delta_log/00000000000000000000.json");
    let text = std::fs::read_to_string(&log).expect("log");
    let lines = text.lines().map(|line| {
        let mut line: Value = serde_json::from_str(line).expect("JSON");
        if let Some(metadata) = line.get_mut("metaData") {
            let fields: Vec<Value> = whole.fields.iter().map(delta_field).collect();
            metadata["schemaString"] = json!(json!({"type": "struct", "fields": fields}).to_string());
            metadata["partitionColumns"] = json!(["Kind", "day", "at", "big"]);
        }
        if let Some(add) = line.get_mut("add") {
            add["partitionValues"] = json!({"Kind": "x", "day": "2024-01-02", "at": "10:00:00.000000", "big": "12.5"});
        }
        format!("{line}\n")
    });
    std::fs::write(&log, lines.collect::<String>()).expect("log");
    let warehouse = Warehouse::open(dir.path()).expect("warehouse");
    assert_eq!(
        flat(&warehouse, "select * from t where kind = 'x' and at < '11:00' and big > 2 and a > 1").await,
        "2,x,2024-01-02,10:00:00,12.5"
    );
    assert_eq!(flat(&warehouse, "select count(*) from t where day > '2024-01-02' or kind = 'y'").await, "0");
    let detail = warehouse.describe("t").await.expect("described");
    assert_eq!((detail.schema, detail.partition_by), (whole, ["Kind", "day", "at", "big"].map(str::to_owned).to_vec()));
}

#[tokio::test]
async fn statistics_of_text_never_hide_rows_of_other_types() {
    let dir = tempfile::tempdir().expect("temp dir");
    let warehouse = every_type(dir.path());
    let log = dir.path().join("main/t/_delta_log/00000000000000000000.json");
    let text = std::fs::read_to_string(&log).expect("log");
    let lines = text.lines().map(|line| {
        let mut line: Value = serde_json::from_str(line).expect("JSON");
        if let Some(add) = line.get_mut("add") {
            let stats = json!({"numRecords": 2,
                "minValues": {"bn": "578960446186580977117854925043439539266", "t": "09:59:59.999999"},
                "maxValues": {"bn": "9.5", "t": "10:00:00.000000"}, "nullCount": {"bn": 0, "t": 0}});
            add["stats"] = json!(stats.to_string());
        }
        format!("{line}\n")
    });
    std::fs::write(&log, lines.collect::<String>()).expect("log");
    for sql in ["bn > 10", "bn = '9.5'", "bn < 10", "bn between 9 and 10", "t = '10:00'", "t >= '10:00'", "t < time '10:00:00'"] {
        assert_eq!(flat(&warehouse, &format!("select count(*) from t where {sql}")).await, "1", "{sql}");
    }
    assert_eq!(flat(&warehouse, "select min(bn), max(t) from t").await, "9.5,10:00:00");
}

#[tokio::test]
async fn a_long_chain_is_planned_or_refused_but_never_crashes() {
    let (_dir, warehouse) = shop();
    let sum = |terms: usize| format!("select {} from orders limit 1", vec!["orderid"; terms].join("+"));
    assert_eq!(flat(&warehouse, &sum(200)).await, "2000");
    let list = format!("select count(*) from orders where orderid in ({})", vec!["10"; 5_000].join(", "));
    assert_eq!(flat(&warehouse, &list).await, "1");
    let chains = [
        sum(100_000),
        vec!["select 1"; 5_000].join(" union all "),
        format!("select {}1{}", "(".repeat(5_000), ")".repeat(5_000)),
    ];
    for chain in chains {
        assert_eq!(refusal(&warehouse, &chain).await.code(), "query_invalid");
    }
}

fn every_type(root: &Path) -> Warehouse {
    let of = |name: &str, type_: Type| Field::new(name, type_);
    let nested = Type::Struct(vec![of("T", Type::Time), of("J", Type::Json).with_mode(Mode::Repeated)]);
    let schema = TableSchema::new(vec![
        of("s", Type::String),
        of("y", Type::Bytes),
        of("i", Type::Int64),
        of("f", Type::Float64),
        of("n", Type::Numeric),
        of("bn", Type::BigNumeric),
        of("b", Type::Bool),
        of("ts", Type::Timestamp),
        of("dt", Type::DateTime),
        of("d", Type::Date),
        of("t", Type::Time),
        of("j", Type::Json),
        of("g", Type::Geography),
        of("iv", Type::Interval),
        of("st", nested),
    ]);
    let arrow = schema.to_arrow();
    let DataType::Struct(children) = arrow.field(14).data_type().clone() else { panic!("a struct") };
    let mut documents =
        ListBuilder::new(StringBuilder::new()).with_field(arrow::datatypes::Field::new("element", DataType::Utf8, false));
    documents.append_value([Some("{\"k\":1}")]);
    documents.append_value([Some("[]"), Some("null")]);
    let st =
        StructArray::new(children, vec![strings(&["01:02:03.000000", "01:02:03.400000"]), Arc::new(documents.finish())], None);
    let n = Decimal128Array::from(vec![3_350_000_000, -1]).with_precision_and_scale(38, 9).expect("fits");
    let year_9999 = 253_402_300_799_999_999;
    let columns: Vec<ArrayRef> = vec![
        strings(&["x", ""]),
        Arc::new(BinaryArray::from_vec(vec![b"hi", b""])),
        Arc::new(Int64Array::from(vec![1, i64::MAX])),
        Arc::new(Float64Array::from(vec![0.5, f64::INFINITY])),
        Arc::new(n),
        strings(&["9.5", "578960446186580977117854925043439539266.34992332820282019728792003956564819967"]),
        Arc::new(BooleanArray::from(vec![true, false])),
        Arc::new(TimestampMicrosecondArray::from(vec![1_704_164_645_678_901, year_9999]).with_timezone("UTC")),
        Arc::new(TimestampMicrosecondArray::from(vec![0, year_9999])),
        Arc::new(Date32Array::from(vec![0, 2_932_896])),
        strings(&["10:00:00.000000", "09:59:59.999999"]),
        strings(&["{\"a\":[1,2]}", "\"text\""]),
        strings(&["POINT(1 2)", "POINT(3 4)"]),
        strings(&["1-2 3 4:5:6", "0-0 0 0:0:0"]),
        Arc::new(st),
    ];
    write_table(root, "main/t", &schema, columns, &[], true);
    Warehouse::open(root).expect("warehouse").with_partitions(2)
}

#[tokio::test]
async fn every_type_comes_back_as_what_it_is() {
    let dir = tempfile::tempdir().expect("temp dir");
    let warehouse = every_type(dir.path());
    let mut result = warehouse.query("select * from t order by i").await.expect("planned");
    let types: Vec<String> = result.columns.fields.iter().map(ToString::to_string).collect();
    assert_eq!(
        types,
        [
            "STRING",
            "BYTES",
            "INT64",
            "FLOAT64",
            "NUMERIC",
            "BIGNUMERIC",
            "BOOL",
            "TIMESTAMP",
            "DATETIME",
            "DATE",
            "TIME",
            "JSON",
            "GEOGRAPHY",
            "INTERVAL",
            "STRUCT<T TIME, J ARRAY<JSON>>"
        ]
    );
    let batch = result.stream.next().await.expect("a batch").expect("rows");
    let row = |row: usize| {
        let cells = result.schema.fields().iter().zip(batch.columns());
        Value::Object(cells.map(|(f, a)| (f.name().clone(), value_to_json(f, a, row))).collect())
    };
    assert_eq!(
        row(0),
        json!({"s": "x", "y": "aGk=", "i": 1, "f": 0.5, "n": "3.35", "bn": "9.5", "b": true, "ts": "2024-01-02T03:04:05.678901Z",
            "dt": "1970-01-01T00:00:00", "d": "1970-01-01", "t": "10:00:00", "j": {"a": [1, 2]}, "g": "POINT(1 2)",
            "iv": "1-2 3 4:5:6", "st": {"T": "01:02:03", "J": [{"k": 1}]}})
    );
    assert_eq!(
        row(1),
        json!({"s": "", "y": "", "i": "9223372036854775807", "f": "Infinity", "n": "-0.000000001",
            "bn": "578960446186580977117854925043439539266.34992332820282019728792003956564819967", "b": false,
            "ts": "9999-12-31T23:59:59.999999Z", "dt": "9999-12-31T23:59:59.999999", "d": "9999-12-31",
            "t": "09:59:59.999999", "j": "text", "g": "POINT(3 4)", "iv": "0-0 0 0:0:0",
            "st": {"T": "01:02:03.400", "J": [[], null]}})
    );
}

#[tokio::test]
async fn times_and_bignumerics_compare_and_sort_as_what_they_are() {
    let dir = tempfile::tempdir().expect("temp dir");
    let warehouse = every_type(dir.path());
    for (sql, expected) in [
        ("select i from t order by bn limit 1", "1"),
        ("select t from t order by t", "09:59:59.999999;10:00:00"),
        ("select i from t where bn > 10", "9223372036854775807"),
        ("select i from t where bn = 9.50", "1"),
        ("select i from t where bn = '9.5'", "1"),
        ("select count(*) from t where bn < 99999999999999999999999999999999999999.99999999999999999999999999999999999999", "1"),
        (
            "select count(*) from t where bn = bignumeric('578960446186580977117854925043439539266.34992332820282019728792003956564819967')",
            "1",
        ),
        ("select max(bn) > min(bn), min(bn) from t", "true,9.5"),
        ("select i from t where t = '10:00'", "1"),
        ("select i from t where t < time '10:00:00'", "9223372036854775807"),
        ("select i from t where n = 3.35", "1"),
        ("select i from t where f = 5e-1", "1"),
        ("select i from t where ts > '2024-01-02 03:04:05' order by ts desc limit 1", "9223372036854775807"),
        ("select i from t where ts < timestamp '2025-01-01'", "1"),
        ("select i from t where dt > '2024-01-01'", "9223372036854775807"),
        ("select i from t where d >= '9999-12-31'", "9223372036854775807"),
        ("select count(distinct bn), count(distinct t) from t", "2,2"),
        ("select st.t from t where st.t < '01:02:03.1'", "01:02:03"),
        ("select cast(bn as decimal(38, 9)) * 2 from t where i = 1", "19"),
        ("select sum(n) * 2 from t", "6.699999998"),
    ] {
        assert_eq!(flat(&warehouse, sql).await, expected, "{sql}");
    }
}

#[tokio::test]
async fn arithmetic_that_could_overflow_names_the_cast() {
    let dir = tempfile::tempdir().expect("temp dir");
    let warehouse = every_type(dir.path());
    for sql in [
        "select bn + 1 from t",
        "select sum(bn) from t",
        "select avg(bn) over () from t",
        "select 1 from t where bn * 2 > 3",
        "select round(bn) from t",
        "select i from t where exists (select 1 from t u where u.bn / 2 > 1)",
    ] {
        let error = refusal(&warehouse, sql).await;
        assert_eq!((error.code(), error.kind()), ("unsupported_arithmetic", Kind::Usage), "{sql}: {error:?}");
        assert!(error.hint_text().is_some_and(|hint| hint.contains("CAST(bn AS DECIMAL(38, 9))")), "{sql}: {error:?}");
    }
}

#[tokio::test]
async fn a_cast_takes_the_type_away() {
    let dir = tempfile::tempdir().expect("temp dir");
    let warehouse = every_type(dir.path());
    let sql = "select cast(bn as double), cast(t as varchar), length(j), j as j2, now(), null from t";
    let result = warehouse.query(sql).await.expect("planned");
    let types: Vec<&str> = result.columns.fields.iter().map(|field| field.type_.name()).collect();
    assert_eq!((types[0], types[2], types[3], types[4], types[5]), ("FLOAT64", "INT64", "JSON", "TIMESTAMP", "STRING"));
}

#[tokio::test]
async fn filters_and_columns_reach_the_files_below_typed_columns() {
    let dir = tempfile::tempdir().expect("temp dir");
    let warehouse = every_type(dir.path());
    let plan = flat(&warehouse, "explain select s from t where i > 5 and bn > 1").await;
    let scan = plan.lines().filter(|line| line.contains("TableScan")).collect::<String>();
    assert!(scan.contains("projection=[s, i, bn]"), "{plan}");
    assert!(scan.contains("i > Int64(5)"), "{plan}");
    std::fs::remove_file(dir.path().join("main/t/part-0.parquet")).expect("removed");
    assert_eq!(flat(&warehouse, "select count(*) from t").await, "2", "counted from the log");
}

#[tokio::test]
async fn a_count_needs_no_data_file() {
    let (dir, warehouse) = shop();
    std::fs::remove_file(dir.path().join("shop/orders/part-0.parquet")).expect("removed");
    assert_eq!(flat(&warehouse, "select count(*) from orders").await, "3");
    let error = refusal(&warehouse, "select orderid from orders").await;
    assert_eq!((error.code(), error.kind()), ("table_unreadable", Kind::Destination), "{error:?}");
}

#[tokio::test]
async fn a_sort_beyond_the_memory_spills_and_a_query_that_cannot_says_so() {
    let dir = tempfile::tempdir().expect("temp dir");
    let schema = TableSchema::new(vec![Field::new("a", Type::Int64), Field::new("b", Type::String)]);
    let count = 200_000i64;
    let texts: Vec<String> = (0..count).map(|i| format!("{:064}", (i * 7_919) % count)).collect();
    let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from_iter_values(0..count)), Arc::new(StringArray::from(texts))];
    write_table(dir.path(), "main/big", &schema, columns, &[], true);
    let warehouse = Warehouse::open(dir.path()).expect("warehouse").with_partitions(1).with_memory(24 << 20);
    let (_, sorted) = rows(&warehouse, "select b from big order by b").await;
    assert_eq!(sorted.len(), 200_000);
    assert!(sorted.is_sorted());
    let analysis = flat(&warehouse, "explain analyze select b from big order by b").await;
    assert!(analysis.contains("spill_count=") && !analysis.contains("spill_count=0"), "{analysis}");
    let error = refusal(&warehouse.clone().with_memory(4 << 20), "select count(*) from big a join big b on a.b = b.b").await;
    assert_eq!(error.code(), "query_memory", "{error:?}");
}

#[test]
fn a_missing_warehouse_says_what_to_do() {
    let dir = tempfile::tempdir().expect("temp dir");
    let error = Warehouse::open(&dir.path().join("nowhere")).expect_err("missing");
    assert_eq!((error.code(), error.kind()), ("warehouse_missing", Kind::Config));
    assert!(error.hint_text().is_some_and(|hint| hint.contains("--warehouse")));
    assert!(Warehouse::open(dir.path()).expect("empty").tables().expect("none").is_empty());
}

#[test]
fn bignumerics_are_read_to_the_last_digit() {
    use arrow::datatypes::i256;
    let max = "578960446186580977117854925043439539266.34992332820282019728792003956564819967";
    let min = "-578960446186580977117854925043439539266.34992332820282019728792003956564819968";
    assert_eq!(bignumeric::parse(max), Some(i256::MAX));
    assert_eq!(bignumeric::parse(min), Some(i256::MIN));
    assert_eq!(bignumeric::parse("0"), Some(i256::ZERO));
    assert_eq!(bignumeric::parse("-0.00000000000000000000000000000000000001"), Some(i256::from_i128(-1)));
    for text in ["", "-", ".", "1e5", "0x1", "1.000000000000000000000000000000000000001", &format!("1{max}"), "a", "--1", "+-1"] {
        assert_eq!(bignumeric::parse(text), None, "{text:?}");
    }
}
