//! `prepare`: a table comes to be, or gets columns. Everything else of it stays as it is.

use std::collections::BTreeMap;

use longshore_core::Result;
use longshore_core::commit::{Contract, WriteDisposition};
use longshore_core::destination::{Mode, Plan, SchemaChange};
use longshore_core::error::Retry;
use longshore_core::schema::TableSchema;
use longshore_core::table_options::{PartitionBy, TableOptions};
use serde_json::{Map, Value, json};

use crate::checkpoint;
use crate::commit::{LogEntry, now_millis};
use crate::error::{bug, codes, config, destination};
use crate::log::{Action, LOG, Metadata};
use crate::schema::{Columns, new_schema};
use crate::state::{TableState, plain_protocol, with_timestamp_ntz};
use crate::stats::INDEXED_COLUMNS;
use crate::storage::Storage;

/// A change that was thought through but not made.
struct Proposal {
    plan: Plan,
    /// Nothing if the table is as it should be.
    entry: Option<LogEntry>,
}

/// Makes the table ready, or says what that would take. `refresh` reads the table as it is now. Blocks.
pub(crate) fn prepare(
    storage: &Storage,
    folder: &str,
    change: &SchemaChange,
    mode: Mode,
    refresh: impl Fn() -> Result<Option<TableState>>,
) -> Result<Plan> {
    check_options(&change.table, &change.options)?;
    let change = SchemaChange { wanted: change.options.describe(&change.wanted), ..change.clone() };
    loop {
        let proposal = match refresh()? {
            None => create(&change)?,
            Some(state) => evolve(storage, folder, &change, &state)?,
        };
        let Some(entry) = proposal.entry.filter(|_| mode == Mode::Apply) else { return Ok(proposal.plan) };
        if entry.version == 0 {
            let log = format!("{folder}/{LOG}");
            storage.make_dirs(&log)?;
            storage.sync_up(&log)?;
        }
        if entry.write(storage, folder, || ())? {
            return Ok(proposal.plan);
        }
        // Somebody else was faster: look again at what is there now.
    }
}

/// Refuses what Delta tables have no place for.
fn check_options(table: &str, options: &TableOptions) -> Result<()> {
    let by = options.partition.as_ref().map_or(PartitionBy::Day, |partition| partition.by);
    let of_bigquery = [
        ("partition_range", matches!(by, PartitionBy::Range { .. })),
        ("partition_unit", !matches!(by, PartitionBy::Day | PartitionBy::Range { .. })),
        ("partition_expiration_days", options.partition_expiration_days.is_some()),
        ("require_partition_filter", options.require_partition_filter),
        ("cluster_by", !options.cluster_by.is_empty()),
        ("expiration_days", options.expiration_days.is_some()),
        ("max_staleness", options.max_staleness.is_some()),
        ("policy_tag", options.columns.values().any(|column| column.policy_tag.is_some())),
    ];
    match of_bigquery.iter().find(|(_, given)| *given) {
        Some((name, _)) => Err(config(codes::OPTION, format!("Delta table {table} cannot have `{name}`"))
            .hint(format!("`{name}` is an option of BigQuery; take it out, or land the table there"))),
        None => Ok(()),
    }
}

fn check_named_columns(table: &str, wanted: &TableSchema, options: &TableOptions) -> Result<()> {
    let Some((option, name)) = options.unknown_column(wanted) else { return Ok(()) };
    let known: Vec<&str> = wanted.fields.iter().map(|field| field.name.as_str()).collect();
    Err(config(codes::OPTION, format!("`{option}` of table {table} names {name}: there is no such column"))
        .hint(format!("columns: {}", known.join(", "))))
}

fn create(change: &SchemaChange) -> Result<Proposal> {
    let table = &change.table;
    if change.wanted.fields.is_empty() {
        return Ok(Proposal { plan: Plan::default(), entry: None });
    }
    check_named_columns(table, &change.wanted, &change.options)?;
    let partition_by = change.options.partition.as_ref().map(|partition| partition.column.as_str());
    let (schema, partition_columns) = new_schema(table, &change.wanted, partition_by)?;
    let protocol = plain_protocol();
    let raised = Columns::has_timestamp_ntz(&schema).then(|| with_timestamp_ntz(&protocol)).flatten();
    let count = change.wanted.fields.len();
    let mut changes = vec![format!("create table {table} ({count} {})", if count == 1 { "column" } else { "columns" })];
    if let [column] = partition_columns.as_slice() {
        changes.push(format!("partition {table} by {column}"));
    }
    let metadata = metadata(&schema, partition_columns, &change.options);
    let columns = Columns::parse(&metadata)?;
    let info = json!({"operationParameters": {"isManaged": "false", "properties": "{}"}});
    let actions = vec![Action::Protocol(raised.unwrap_or(protocol)), Action::MetaData(metadata)];
    let entry = LogEntry::new(0, "CREATE TABLE", info, actions)?;
    Ok(Proposal { plan: Plan { schema: columns.table_schema(), existed: false, changes }, entry: Some(entry) })
}

fn metadata(schema: &Value, partition_columns: Vec<String>, options: &TableOptions) -> Metadata {
    let mut other = Map::new();
    other.insert("format".into(), json!({"provider": "parquet", "options": {}}));
    other.insert("createdTime".into(), json!(now_millis()));
    if let Some(description) = &options.description {
        other.insert("description".into(), json!(description));
    }
    let mut properties = BTreeMap::from([
        ("delta.checkpointInterval".to_owned(), checkpoint::INTERVAL.to_string()),
        ("delta.dataSkippingNumIndexedCols".to_owned(), INDEXED_COLUMNS.to_string()),
    ]);
    properties.extend(options.labels.iter().map(|(name, value)| (format!("longshore.label.{name}"), value.clone())));
    if !options.key.is_empty() {
        properties.insert("longshore.key".into(), json!(options.key).to_string());
    }
    Metadata {
        id: uuid::Uuid::new_v4().to_string(),
        schema_string: schema.to_string(),
        partition_columns,
        configuration: properties.into_iter().map(|(key, value)| (key, Some(value))).collect(),
        other,
    }
}

fn evolve(storage: &Storage, folder: &str, change: &SchemaChange, state: &TableState) -> Result<Proposal> {
    let table = &change.table;
    state.check_writable(table, change.disposition == WriteDisposition::Truncate)?;
    if change.disposition == WriteDisposition::Empty && state.has_rows(storage, folder)? {
        return Err(destination(codes::NOT_EMPTY, format!("table {table} holds rows"))
            .with_retry(Retry::AfterFix)
            .hint("use `--write append` to add to them, or `--write truncate` to replace them"));
    }
    check_columns(table, change, &state.columns)?;
    let added = match change.contract {
        Contract::Evolve => state.columns.with_added(&change.wanted)?,
        Contract::Freeze | Contract::Ignore => None,
    };
    let Some((schema, mut changes)) = added else {
        let plan = Plan { schema: state.columns.table_schema(), existed: true, changes: Vec::new() };
        return Ok(Proposal { plan, entry: None });
    };
    let raised = Columns::has_timestamp_ntz(&schema).then(|| with_timestamp_ntz(&state.protocol)).flatten();
    let mut metadata = Metadata { schema_string: schema.to_string(), ..(*state.metadata).clone() };
    metadata.other.retain(|_, value| !value.is_null());
    let columns = Columns::parse(&metadata)?;
    let mut actions = Vec::new();
    if let Some(protocol) = raised {
        changes.push(format!("raise the protocol of {table} to 3/7 (timestampNtz)"));
        actions.push(Action::Protocol(protocol));
    }
    actions.push(Action::MetaData(metadata));
    let version = state.version.checked_add(1).ok_or_else(|| bug("a table is at the last version"))?;
    let info = json!({"operationParameters": {"columns": Value::from(changes.clone()).to_string()}});
    let entry = LogEntry::new(version, "ADD COLUMNS", info, actions)?;
    Ok(Proposal { plan: Plan { schema: columns.table_schema(), existed: true, changes }, entry: Some(entry) })
}

/// Refuses columns that the table has but that rows cannot fill, instead of leaving them out in silence.
fn check_columns(table: &str, change: &SchemaChange, columns: &Columns) -> Result<()> {
    let refused = |why: String| destination(codes::UNSUPPORTED, format!("table {table} {why}")).with_retry(Retry::AfterFix);
    for field in &change.wanted.fields {
        let Some(column) = columns.get(&field.name).filter(|column| column.logical.is_none()) else { continue };
        return Err(match &column.derived_from {
            Some(source) => refused(format!("makes its column {} from {source}: it cannot be loaded too", column.name)),
            None => refused(format!("has a column {} of a type that cannot be written", column.name)),
        });
    }
    match columns.columns.iter().find(|column| column.physical.is_none() && !column.nullable) {
        Some(column) => Err(refused(format!("requires a column {} of a type that cannot be written", column.name))),
        None => Ok(()),
    }
}
