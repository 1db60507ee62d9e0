//! Tables as the destination makes, widens and empties them; and how these checks land rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Date32Array, Int64Array, RecordBatch};
use futures::StreamExt;
use longshore_bigquery::config::Method;
use longshore_core::Result;
use longshore_core::batch::Rows;
use longshore_core::commit::{Application, AttemptId, CommitNumber, Committable, Contract, Published, WriteDisposition};
use longshore_core::destination::{Destination, Mode, Plan, Publication, SchemaChange, Staged};
use longshore_core::retry::{Patience, Policy};
use longshore_core::schema::{Field, TableSchema, Type};
use longshore_core::table_options::{ColumnOptions, Partition, PartitionBy, TableOptions};
use serde_json::{Value, json};

use super::Dataset;
use crate::cases::Free;

/// A worker that lands rows in one table, as the engine does: what passes is tried again.
pub struct Land {
    pub worker: Arc<dyn Destination>,
    pub table: &'static str,
    pub schema: TableSchema,
}

impl Land {
    /// For a table of one column `id` until `schema` says otherwise.
    pub fn new(worker: Arc<dyn Destination>, table: &'static str) -> Self {
        Self { worker, table, schema: TableSchema::new(vec![Field::new("id", Type::Int64)]) }
    }

    pub async fn stage(&self, attempt: &str, rows: RecordBatch, disposition: WriteDisposition) -> Result<Staged> {
        self.stage_rows(attempt, Rows::Plain(rows), disposition).await
    }

    pub async fn stage_rows(&self, attempt: &str, rows: Rows, disposition: WriteDisposition) -> Result<Staged> {
        let batches = futures::stream::iter([Ok(rows)]).boxed();
        self.worker.stage(&AttemptId(attempt.into()), self.table, &self.schema, disposition, batches).await
    }

    pub async fn try_publish(&self, n: CommitNumber, amendment: i64, staged: &Committable) -> Result<Published> {
        let application = Application { pipeline: "check".into(), ledger: "check".into(), store: "check".into() };
        // A job's id holds the table and when it was made, too.
        let token = format!("check{n}");
        let publish = || {
            self.worker.publish(Publication {
                application: &application,
                n,
                token: &token,
                amendment,
                table: self.table,
                committables: std::slice::from_ref(staged),
                note: json!({}),
                fence: &Free,
            })
        };
        Policy { tries: 10, ..Policy::default() }.run(&Patience::default(), publish).await
    }

    /// Panics unless it is shown.
    pub async fn publish(&self, n: CommitNumber, staged: &Committable) {
        let published = self.try_publish(n, 0, staged).await;
        assert!(matches!(published, Ok(Published::Done(_))), "rows that were staged are not shown: {published:?}");
    }

    /// Stages and publishes rows that are not refused.
    pub async fn land(&self, n: CommitNumber, rows: RecordBatch, disposition: WriteDisposition) -> Result<Published> {
        let staged = self.stage(&format!("a{n}"), rows, disposition).await?;
        assert_eq!(staged.refused, [], "nothing is wrong with these rows");
        self.try_publish(n, 0, &staged.committable).await
    }
}

pub fn change(table: &str, wanted: TableSchema, options: TableOptions) -> SchemaChange {
    let (contract, disposition) = (Contract::Evolve, WriteDisposition::Append);
    SchemaChange { table: table.into(), wanted, contract, disposition, options }
}

pub async fn apply(worker: &Arc<dyn Destination>, change: SchemaChange) -> Result<Plan> {
    worker.prepare(&change, Mode::Apply).await
}

fn columns() -> TableSchema {
    TableSchema::new(vec![Field::new("id", Type::Int64), Field::new("day", Type::Date), Field::new("who", Type::String)])
}

fn key() -> Vec<String> {
    vec!["id".into()]
}

/// Everything that a pipeline file can say of a table.
pub async fn options(dataset: &Dataset) {
    let worker = dataset.open(Method::StorageWritePending);
    let who = ColumnOptions { description: Some("who ordered".into()), policy_tag: None };
    let options = TableOptions {
        partition: Some(Partition { column: "day".into(), by: PartitionBy::Month }),
        partition_expiration_days: Some(90),
        require_partition_filter: true,
        cluster_by: vec!["who".into(), "id".into()],
        description: Some("All orders".into()),
        labels: BTreeMap::from([("team".into(), "verkäufe-1".into()), ("stage".into(), String::new())]),
        expiration_days: Some(2),
        key: key(),
        max_staleness: Some(900),
        columns: BTreeMap::from([("who".into(), who)]),
    };
    let made = apply(&worker, change("orders", columns(), options.clone())).await;
    dataset.sheet.holds("the table is made", made.is_ok(), &format!("{:?}", made.err()));
    let table = dataset.table("orders").await;
    let partitions = json!({"type": "MONTH", "field": "day", "expirationMs": "7776000000"});
    dataset.sheet.same("partitions", &partitioning(&table), &partitions);
    let filter = table["requirePartitionFilter"].as_bool().or(table["timePartitioning"]["requirePartitionFilter"].as_bool());
    dataset.sheet.same("the filter that queries need", filter, Some(true));
    for (what, wanted) in [
        ("clustering", json!({"fields": ["who", "id"]})),
        ("description", json!("All orders")),
        ("labels", json!({"team": "verkäufe-1", "stage": ""})),
        ("tableConstraints", json!({"primaryKey": {"columns": ["id"]}})),
        ("maxStaleness", json!("0-0 0 0:15:0")),
    ] {
        dataset.sheet.same(what, &table[what], &wanted);
    }
    let column = &table["schema"]["fields"][2]["description"];
    dataset.sheet.same("a column's description", column, &json!("who ordered"));
    let left = table["expirationTime"]
        .as_str()
        .and_then(|at| at.parse::<i64>().ok())
        .map(|at| at - chrono::Utc::now().timestamp_millis());
    let two_days = left.is_some_and(|left| (86_400_000..=2 * 86_400_000).contains(&left));
    dataset.sheet.holds("the time when it goes", two_days, &format!("{left:?} ms from now"));
    dataset.sheet.left_out("policy tags", "they need a taxonomy of the project");
    let again = apply(&worker, change("orders", columns(), options)).await;
    dataset.sheet.same("nothing is changed a second time", again.map(|plan| plan.changes).map_err(|e| e.to_string()), Ok(vec![]));
}

/// What a table says of its partitions, without the filter, which stands in two places.
fn partitioning(table: &Value) -> Value {
    let mut partitioning = table["timePartitioning"].clone();
    if let Some(partitioning) = partitioning.as_object_mut() {
        partitioning.remove("requirePartitionFilter");
    }
    partitioning
}

/// Columns that get wider where they stand.
pub async fn widening(dataset: &Dataset) {
    let worker = dataset.open(Method::StorageWritePending);
    let fields = [("i", "INT64"), ("n", "NUMERIC"), ("f", "INT64"), ("big", "INT64")];
    let fields: Vec<Value> = fields.iter().map(|(name, type_)| json!({"name": name, "type": type_})).collect();
    dataset.make_table("orders", Value::Array(fields), json!({})).await;
    let row =
        format!("INSERT INTO {} (i, n, f, big) VALUES (7, 1.5, 9007199254740992, 9007199254740993)", dataset.sql_name("orders"));
    dataset.query(&row).await.unwrap();
    let wanted = [("i", Type::Numeric), ("n", Type::BigNumeric), ("f", Type::Float64), ("big", Type::Float64)];
    let wanted = TableSchema::new(wanted.map(|(name, type_)| Field::new(name, type_)).into());
    let plan = apply(&worker, change("orders", wanted, TableOptions::default())).await.map_err(|error| error.to_string());
    let words = [
        "widen column i from INT64 to NUMERIC",
        "widen column n from NUMERIC to BIGNUMERIC",
        "widen column f from INT64 to FLOAT64",
    ];
    dataset.sheet.same("what is widened", plan.map(|plan| plan.changes), Ok(words.map(str::to_owned).to_vec()));
    let sql = format!("SELECT i, n, f = 9007199254740992 AS f, big FROM {}", dataset.sql_name("orders"));
    let values = dataset.query(&sql).await.map(|rows| rows.first().map(|row| json!(row)));
    let expected = json!({"i": "7", "n": "1.5", "f": "true", "big": "9007199254740993"});
    dataset.sheet.same("no value changed", values, Ok(Some(expected)));
}

fn days(ids: &[i64]) -> RecordBatch {
    let (id, day) = (Int64Array::from(ids.to_vec()), Date32Array::from(vec![19_723; ids.len()]));
    let who: ArrayRef = arrow::array::new_null_array(&arrow::datatypes::DataType::Utf8, ids.len());
    RecordBatch::try_new(columns().to_arrow(), vec![Arc::new(id), Arc::new(day), who]).unwrap()
}

/// `--write truncate`: the rows go, and nothing else of the table does.
pub async fn replacing(dataset: &Dataset) {
    let mut methods = vec![("a stream and MERGE", Method::StorageWritePending)];
    if dataset.has_bucket() {
        methods.push(("a load job", Method::LoadJob));
    }
    for (by, method) in methods {
        for filter in [false, true] {
            replace(dataset, by, method, filter).await;
        }
    }
    dataset.sheet.left_out("policy tags after a replacement", "they need a taxonomy of the project");
}

async fn replace(dataset: &Dataset, by: &str, method: Method, filter: bool) {
    let table: &'static str = match (method, filter) {
        (Method::LoadJob, false) => "loaded",
        (Method::LoadJob, true) => "loaded_filtered",
        (_, false) => "merged",
        (_, true) => "merged_filtered",
    };
    let by = if filter { format!("{by}, where queries need a filter") } else { by.to_owned() };
    let extra = json!({
        "timePartitioning": {"type": "DAY", "field": "day"}, "requirePartitionFilter": filter, "clustering": {"fields": ["who"]},
        "description": "theirs", "labels": {"team": "sales"}, "tableConstraints": {"primaryKey": {"columns": ["id"]}},
    });
    let mut fields = columns().to_json();
    fields[2]["description"] = json!("who ordered");
    dataset.make_table(table, fields, extra).await;
    let before = dataset.table(table).await;
    let land = Land { worker: dataset.open(method), table, schema: columns() };
    let first = land.land(1, days(&[1, 2]), WriteDisposition::Append).await;
    dataset.sheet.holds(&format!("{by}: rows land"), matches!(first, Ok(Published::Done(_))), &format!("{first:?}"));
    let second = land.land(2, days(&[3]), WriteDisposition::Truncate).await;
    dataset.sheet.holds(&format!("{by}: they are replaced"), matches!(second, Ok(Published::Done(_))), &format!("{second:?}"));
    let sql = format!("SELECT id FROM {} WHERE day >= '1970-01-01'", dataset.sql_name(table));
    let found = dataset.query(&sql).await.map(|rows| rows.iter().map(|row| row["id"].clone()).collect::<Vec<_>>());
    dataset.sheet.same(&format!("{by}: only the new rows are there"), found, Ok(vec![json!("3")]));
    let after = dataset.table(table).await;
    for what in ["creationTime", "description", "labels", "tableConstraints", "clustering", "schema"] {
        dataset.sheet.same(&format!("{by}: {what} stays"), &after[what], &before[what]);
    }
    dataset.sheet.same(&format!("{by}: partitions stay"), partitioning(&after), partitioning(&before));
}
