//! `prepare`: a table comes to be, or gets columns. Everything else of it stays as it is.

use longshore_core::Result;
use longshore_core::commit::{Contract, WriteDisposition};
use longshore_core::destination::{Mode, Plan, SchemaChange};
use longshore_core::error::Retry;
use longshore_core::schema::{Mode as FieldMode, Type};
use longshore_core::table_options::Partition;
use serde_json::{Value, json};

use crate::columns;
use crate::error::{Failure, codes, config, destination};
use crate::jobs;
use crate::tables::{OURS, Remote, Tables};

/// How often somebody else may change a table between our look at it and our change.
const RACES: u32 = 10;

/// Makes the table ready, or says what that would take.
pub(crate) async fn prepare(tables: &Tables, change: &SchemaChange, mode: Mode) -> Result<Plan> {
    check_name(&change.table)?;
    for _ in 0..RACES {
        let plan = match tables.get(&change.table).await? {
            None => Some(create(tables, change, mode).await?),
            Some(remote) => evolve(tables, change, &remote, mode).await?,
        };
        if let Some(plan) = plan {
            return Ok(plan);
        }
    }
    Err(destination(codes::CHANGED, format!("table {} keeps changing under our hands", change.table)).with_retry(Retry::Backoff))
}

fn check_name(table: &str) -> Result<()> {
    let fits = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | ' ');
    if table.is_empty() || table.len() > 1024 || !table.chars().all(fits) || table.starts_with(OURS) {
        return Err(config(codes::NAME, format!("a table of BigQuery cannot be named `{}`", table.escape_debug())));
    }
    Ok(())
}

async fn create(tables: &Tables, change: &SchemaChange, mode: Mode) -> Result<Plan> {
    let table = &change.table;
    if change.wanted.fields.is_empty() {
        return Ok(Plan::default());
    }
    let count = change.wanted.fields.len();
    let mut changes = vec![format!("create table {table} ({count} {})", if count == 1 { "column" } else { "columns" })];
    let mut resource = json!({
        "tableReference": {"projectId": tables.project, "datasetId": tables.dataset, "tableId": table},
        "schema": {"fields": columns::to_rest(&change.wanted.fields)?},
    });
    if let Some(Partition { column, .. }) = &change.options.partition {
        resource["timePartitioning"] = json!({"type": "DAY", "field": partition_column(change, column)?});
        changes.push(format!("partition {table} by {column}"));
    }
    let schema = columns::from_rest(table, resource["schema"]["fields"].as_array().map_or(&[], Vec::as_slice))?;
    if mode == Mode::Apply {
        // Somebody else may have made it meanwhile, with other columns: theirs count.
        let made = tables.insert(table, &resource).await?;
        return Ok(Plan { schema: made.schema(table)?, existed: false, changes });
    }
    Ok(Plan { schema, existed: false, changes })
}

fn partition_column(change: &SchemaChange, name: &str) -> Result<String> {
    let refused = |why: String| {
        let known: Vec<&str> = change.wanted.fields.iter().map(|f| f.name.as_str()).collect();
        config(codes::PARTITION, format!("table {} cannot be partitioned by {name}: {why}", change.table))
            .hint(format!("columns: {}", known.join(", ")))
    };
    let field = change.wanted.field(name).ok_or_else(|| refused("there is no such column".into()))?;
    let by_day = matches!(field.type_, Type::Date | Type::Timestamp | Type::DateTime) && field.mode != FieldMode::Repeated;
    if by_day { Ok(field.name.clone()) } else { Err(refused(format!("it is {field}"))) }
}

/// `None` if the table was changed by somebody else meanwhile.
async fn evolve(tables: &Tables, change: &SchemaChange, remote: &Remote, mode: Mode) -> Result<Option<Plan>> {
    let table = &change.table;
    if remote.kind() != "TABLE" {
        return Err(destination(codes::UNSUPPORTED, format!("{table} is a {}, which rows cannot be written to", remote.kind()))
            .with_retry(Retry::AfterFix));
    }
    if change.disposition == WriteDisposition::Empty && has_rows(tables, table).await? {
        return Err(destination(codes::NOT_EMPTY, format!("table {table} holds rows"))
            .with_retry(Retry::AfterFix)
            .hint("use `--write append` to add to them, or `--write truncate` to replace them"));
    }
    let mut fields = remote.fields();
    let mut changes = Vec::new();
    if change.contract == Contract::Evolve {
        columns::add_missing(&mut fields, &change.wanted.fields, "", &mut changes)?;
    }
    let plan = Plan { schema: columns::from_rest(table, &fields)?, existed: true, changes };
    if plan.changes.is_empty() || mode == Mode::DryRun {
        return Ok(Some(plan));
    }
    match tables.patch(table, &json!({"schema": {"fields": fields}}), remote.etag()).await {
        Ok(_) => Ok(Some(plan)),
        Err(Failure::Refused(refusal)) if refusal.status == 412 => Ok(None),
        Err(failure) => Err(failure.into()),
    }
}

/// Rows that were streamed are not in the table's own count yet: asking is the only way to know.
async fn has_rows(tables: &Tables, table: &str) -> Result<bool> {
    let sql = format!("SELECT COUNT(*) AS n FROM (SELECT 1 FROM {} LIMIT 1)", tables.sql_name(table));
    let rows = jobs::rows(tables, "count", &sql).await?;
    Ok(rows.first().is_some_and(|row| row.get("n").and_then(Value::as_str).is_some_and(|n| n != "0")))
}
