//! Statements: SELECT by way of DataFusion, and the few others that a loader needs.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Schema;
use datafusion::catalog::{CatalogProvider, MemoryCatalogProvider, MemorySchemaProvider, SchemaProvider};
use datafusion::common::config::Dialect;
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use longshore_core::schema::Field;
use serde_json::Value;

use super::cell::{self, Row};
use super::ddl::{Parsed, parse};
use super::from_arrow::{self, Mismatch, Source, result_field};
use super::http::{ApiError, Shared};
use super::jobs::QueryResult;
use super::state::{State, Stored, Table};
use super::tokens::Path;

/// What names in a statement are completed with.
struct Names {
    project: String,
    dataset: Option<String>,
}

impl Names {
    fn of(project: &str, configuration: &Value) -> Self {
        let dataset = configuration["defaultDataset"]["datasetId"].as_str().map(str::to_owned);
        Self { project: project.to_owned(), dataset }
    }

    fn resolve(&self, path: &Path) -> Result<(String, String, String), ApiError> {
        let dataset = path.dataset.clone().or_else(|| self.dataset.clone());
        let dataset = dataset.ok_or_else(|| {
            ApiError::invalid_query(format!("Table \"{}\" must be qualified with a dataset (e.g. dataset.table).", path.table))
        })?;
        Ok((path.project.clone().unwrap_or_else(|| self.project.clone()), dataset, path.table.clone()))
    }
}

/// Runs a statement. An error is one of the statement, and nothing is done then.
pub(crate) async fn run(shared: &Arc<Shared>, project: &str, configuration: &Value) -> Result<QueryResult, ApiError> {
    let names = Names::of(project, configuration);
    let text = configuration["query"].as_str().unwrap_or_default();
    let text = super::ddl::with_parameters(text, configuration["queryParameters"].as_array())?;
    let parsed = parse(&text)?;
    // One statement at a time reads tables and writes them.
    let _turn = shared.statements.lock().await;
    match parsed {
        Parsed::Select(text) => {
            let (fields, batches) = select(shared, &names, &text).await?;
            let mut rows = Vec::new();
            for batch in &batches {
                rows.extend(computed(&fields, batch)?);
            }
            Ok(QueryResult { fields, rows, affected: None, statement: "SELECT" })
        }
        Parsed::Delete { table, shown, condition } => {
            let (project, dataset, name) = names.resolve(&table)?;
            shared.lock().table(&project, &dataset, &name)?;
            let query = format!("SELECT ({condition}) AS gone FROM {shown}");
            let (_, batches) = select(shared, &names, &query).await?;
            let gone = batches.iter().flat_map(|batch| {
                let column = batch.column(0).as_boolean_opt().cloned();
                (0..batch.num_rows()).map(move |row| column.as_ref().is_some_and(|c| c.is_valid(row) && c.value(row)))
            });
            let mut gone: std::vec::IntoIter<bool> = gone.collect::<Vec<_>>().into_iter();
            let mut state = shared.lock();
            let table = state.table_mut(&project, &dataset, &name)?;
            let before = table.rows.len();
            // Rows that came in meanwhile stand at the end and stay.
            table.rows.retain(|_| !gone.next().unwrap_or(false));
            table.rows_version += 1;
            let affected = (before - table.rows.len()) as u64;
            Ok(QueryResult { affected: Some(affected), statement: "DELETE", ..Default::default() })
        }
        Parsed::Insert { table, columns, text } => {
            let (project, dataset, name) = names.resolve(&table)?;
            let schema = shared.lock().table(&project, &dataset, &name)?.schema.clone();
            let columns = if columns.is_empty() { schema.fields.iter().map(|f| f.name.clone()).collect() } else { columns };
            let (_, batches) = select(shared, &names, &text).await?;
            let mut rows = Vec::new();
            for batch in &batches {
                rows.extend(computed(&schema.fields, &renamed(batch, &columns)?)?);
            }
            let affected = rows.len() as u64;
            shared.lock().table_mut(&project, &dataset, &name)?.append(rows, None);
            Ok(QueryResult { affected: Some(affected), statement: "INSERT", ..Default::default() })
        }
        Parsed::Replace { table, source, delete, columns } => {
            let (from, to) = (names.resolve(&source)?, names.resolve(&table)?);
            let mut state = shared.lock();
            let source = state.table(&from.0, &from.1, &from.2)?.clone();
            let table = state.table_mut(&to.0, &to.1, &to.2)?;
            let rows = taken(&source, &table.schema.fields, &columns)?;
            let affected = rows.len() + if delete { table.rows.len() } else { 0 };
            if delete {
                table.rows.clear();
            }
            table.append(rows, None);
            Ok(QueryResult { affected: Some(affected as u64), statement: "MERGE", ..Default::default() })
        }
        Parsed::Truncate { table } => {
            let (project, dataset, name) = names.resolve(&table)?;
            let mut state = shared.lock();
            let table = state.table_mut(&project, &dataset, &name)?;
            let affected = table.rows.len() as u64;
            table.rows.clear();
            table.rows_version += 1;
            Ok(QueryResult { affected: Some(affected), statement: "TRUNCATE_TABLE", ..Default::default() })
        }
        Parsed::Alter { table, changes } => {
            let (project, dataset, name) = names.resolve(&table)?;
            let mut state = shared.lock();
            let table = state.table_mut(&project, &dataset, &name)?;
            // On a copy, so that a statement that fails changes nothing.
            let mut altered = table.clone();
            for change in &changes {
                super::ddl::alter(&mut altered, change)?;
            }
            *table = altered;
            Ok(QueryResult { statement: "ALTER_TABLE", ..Default::default() })
        }
    }
}

/// What a statement would read, in bytes; its errors are found without running it.
pub(crate) async fn dry_run(shared: &Arc<Shared>, project: &str, configuration: &Value) -> Result<usize, ApiError> {
    let names = Names::of(project, configuration);
    let text = configuration["query"].as_str().unwrap_or_default();
    let text = super::ddl::with_parameters(text, configuration["queryParameters"].as_array())?;
    let Parsed::Select(text) = parse(&text)? else { return Ok(0) };
    let context = context(shared, &names, &text)?;
    context.state().create_logical_plan(&text).await.map_err(query_error)?;
    let tables = referenced(&context, &text)?;
    let state = shared.lock();
    let size = |path: &Path| {
        let (_, dataset, table) = names.resolve(path).ok()?;
        let table = state.tables.get(&format!("{dataset}.{table}"))?;
        Some(table.rows.len() * table.schema.fields.len() * 8)
    };
    Ok(tables.iter().filter_map(size).sum())
}

fn query_error(error: datafusion::error::DataFusionError) -> ApiError {
    ApiError::invalid_query(error.strip_backtrace())
}

async fn select(shared: &Arc<Shared>, names: &Names, text: &str) -> Result<(Vec<Field>, Vec<RecordBatch>), ApiError> {
    let context = context(shared, names, text)?;
    let plan = context.state().create_logical_plan(text).await.map_err(query_error)?;
    let frame = context.execute_logical_plan(plan).await.map_err(query_error)?;
    let fields = frame.schema().as_arrow().fields().iter().map(|field| result_field(field)).collect();
    let batches = frame.collect().await.map_err(query_error)?;
    Ok((fields, batches))
}

/// A session that knows the tables which the statement names.
fn context(shared: &Arc<Shared>, names: &Names, text: &str) -> Result<SessionContext, ApiError> {
    let config = SessionConfig::new()
        .with_target_partitions(1)
        .with_default_catalog_and_schema(&names.project, names.dataset.as_deref().unwrap_or("no dataset"))
        .with_create_default_catalog_and_schema(false)
        .set_str("datafusion.sql_parser.dialect", "BigQuery")
        .set_bool("datafusion.sql_parser.enable_ident_normalization", false);
    let context = SessionContext::new_with_config(config);
    let state = shared.lock();
    for path in referenced(&context, text)? {
        register(&context, &state, names, &path)?;
    }
    Ok(context)
}

fn referenced(context: &SessionContext, text: &str) -> Result<Vec<Path>, ApiError> {
    let state = context.state();
    let statement = state.sql_to_statement(text, &Dialect::BigQuery).map_err(query_error)?;
    let references = state.resolve_table_references(&statement).map_err(query_error)?;
    let path = |reference: &datafusion::common::TableReference| Path {
        project: reference.catalog().map(str::to_owned),
        dataset: reference.schema().map(str::to_owned),
        table: reference.table().to_owned(),
    };
    Ok(references.iter().map(path).collect())
}

fn register(context: &SessionContext, state: &State, names: &Names, path: &Path) -> Result<(), ApiError> {
    let (project, dataset, name) = names.resolve(path)?;
    let table = state.table(&project, &dataset, &name)?;
    let catalog = context.catalog(&project).unwrap_or_else(|| {
        let catalog: Arc<dyn CatalogProvider> = Arc::new(MemoryCatalogProvider::new());
        context.register_catalog(&project, Arc::clone(&catalog));
        catalog
    });
    let schema = match catalog.schema(&dataset) {
        Some(schema) => schema,
        None => {
            let schema: Arc<dyn SchemaProvider> = Arc::new(MemorySchemaProvider::new());
            catalog.register_schema(&dataset, Arc::clone(&schema)).map_err(query_error)?;
            schema
        }
    };
    let batch = table.batch();
    let memory = MemTable::try_new(batch.schema(), vec![vec![batch]]).map_err(query_error)?;
    if !schema.table_exist(&name) {
        schema.register_table(name, Arc::new(memory)).map_err(query_error)?;
    }
    Ok(())
}

/// The rows of a table as rows of these columns, each from the one that it is to be taken from.
fn taken(source: &Table, fields: &[Field], columns: &[(String, String)]) -> Result<Vec<Row>, ApiError> {
    let known = |name: &str| fields.iter().any(|field| field.name.eq_ignore_ascii_case(name));
    if let Some((name, _)) = columns.iter().find(|(name, _)| !known(name)) {
        return Err(ApiError::invalid_query(format!("Column {name} is not present in the table")));
    }
    let mut from = Vec::with_capacity(fields.len());
    for field in fields {
        let named = columns.iter().find(|(into, _)| into.eq_ignore_ascii_case(&field.name));
        let Some((_, name)) = named else {
            from.push(None);
            continue;
        };
        let at = source.schema.fields.iter().position(|f| f.name.eq_ignore_ascii_case(name));
        let at = at.ok_or_else(|| ApiError::invalid_query(format!("Unrecognized name: {name}")))?;
        if source.schema.fields[at].type_.name() != field.type_.name() {
            return Err(ApiError::invalid_query(format!("Value of column {name} has another type than {}", field.name)));
        }
        from.push(Some(at));
    }
    let cell = |row: &Row, field: &Field, at: &Option<usize>| {
        let cell = at.map_or_else(|| cell::missing(field), |at| Ok(row[at].clone()))?;
        cell::check(field, &cell)?;
        Ok(cell)
    };
    let row = |stored: &Stored| fields.iter().zip(&from).map(|(field, at)| cell(&stored.cells, field, at)).collect();
    source.rows.iter().map(row).collect::<Result<_, String>>().map_err(ApiError::invalid_query)
}

/// A result's rows as rows of these columns.
fn computed(fields: &[Field], batch: &RecordBatch) -> Result<Vec<Row>, ApiError> {
    let rows = from_arrow::rows(fields, batch, Source::Computed).map_err(|mismatch| match mismatch {
        Mismatch::Unknown(names) => ApiError::invalid_query(format!("no such column: {}", names.join(", "))),
        Mismatch::Invalid(why) => ApiError::invalid_query(why),
    })?;
    rows.into_iter().collect::<Result<_, _>>().map_err(ApiError::invalid_query)
}

fn renamed(batch: &RecordBatch, names: &[String]) -> Result<RecordBatch, ApiError> {
    if batch.num_columns() != names.len() {
        let why = format!("Inserted row has wrong column count; Has {}, expected {}", batch.num_columns(), names.len());
        return Err(ApiError::invalid_query(why));
    }
    let schema = batch.schema();
    let fields = schema.fields().iter().zip(names).map(|(field, name)| field.as_ref().clone().with_name(name));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    RecordBatch::try_new(schema, batch.columns().to_vec()).map_err(|e| ApiError::invalid_query(e.to_string()))
}
