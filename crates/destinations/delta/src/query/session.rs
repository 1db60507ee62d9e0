//! Runs a query: which tables it reads, how their columns are read, what comes out.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, StringArray};
use arrow::datatypes::{DataType, Field as ArrowField, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::{CatalogProvider, MemoryCatalogProvider, MemorySchemaProvider, TableProvider};
use datafusion::common::{Column, TableReference};
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, ScalarUDF, cast};
use datafusion::prelude::{DataFrame, SessionConfig, SessionContext};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{self, VisitMut, VisitorMut};
use deltalake::delta_datafusion::DeltaSessionConfig;
use deltalake::{DeltaTable, DeltaTableBuilder};
use futures::StreamExt as _;
use longshore_core::Result;
use longshore_core::error::{Error, Kind, code};
use longshore_core::schema::{TYPE_KEY, Type};

use super::bignumeric::BigNumeric;
use super::catalog::{self, Part, TableInfo};
use super::error::{codes, from_datafusion, unreadable, usage};
use super::names::{Names, Seen, Speller};
use super::nested::StructFields;
use super::output::{self, Labels};
use super::provider::Provider;
use super::relations::Relations;
use super::statement::{self, Request};
use super::{QueryResult, Warehouse, checks, literals};

/// The catalog under which tables are known to DataFusion. It never shows.
pub(super) const CATALOG: &str = "longshore";

/// See [`Warehouse::query`].
pub(super) async fn run(warehouse: &Warehouse, sql: &str) -> Result<QueryResult> {
    let tables = warehouse.tables()?;
    match statement::parse(sql)? {
        Request::Rows(statement) => rows(warehouse, &tables, *statement).await,
        Request::Tables(None) => listing(&["dataset", "table"], tables.iter().map(|t| vec![&t.dataset, &t.table]).collect()),
        Request::Tables(Some(dataset)) => {
            let wanted = ast_parts(&dataset).concat();
            let found: Vec<_> = tables.iter().filter(|t| t.dataset.eq_ignore_ascii_case(&wanted)).collect();
            if found.is_empty() {
                let known: Vec<String> = datasets(&tables);
                return Err(usage(codes::UNKNOWN_TABLE, format!("there is no dataset {wanted}"))
                    .hint(super::error::known_names("datasets", &wanted, &known)));
            }
            listing(&["dataset", "table"], found.iter().map(|t| vec![&t.dataset, &t.table]).collect())
        }
        Request::Datasets => listing(&["dataset"], datasets(&tables).iter().map(|d| vec![d]).collect()),
        Request::Columns(name) => {
            let found = Relations::new(&tables).find(&name)?;
            let delta = open(warehouse, &found).await?;
            let schema = super::detail::schema(warehouse, &delta, &found).await?;
            let texts: Vec<[String; 4]> = schema
                .fields
                .iter()
                .map(|field| {
                    let type_ = field.to_string();
                    let type_ = type_.strip_suffix(" NOT NULL").unwrap_or(&type_).to_owned();
                    let mode = field_mode(field);
                    [field.name.clone(), type_, mode, field.description.clone().unwrap_or_default()]
                })
                .collect();
            listing(&["column", "type", "mode", "description"], texts.iter().map(|row| row.iter().collect()).collect())
        }
    }
}

fn field_mode(field: &longshore_core::schema::Field) -> String {
    use longshore_core::schema::Mode;
    match field.mode {
        Mode::Nullable => "NULLABLE",
        Mode::Required => "REQUIRED",
        Mode::Repeated => "REPEATED",
    }
    .to_owned()
}

fn ast_parts(name: &ast::ObjectName) -> Vec<String> {
    name.0.iter().filter_map(|part| part.as_ident().map(|ident| ident.value.clone())).collect()
}

fn datasets(tables: &[TableInfo]) -> Vec<String> {
    let mut datasets: Vec<String> = tables.iter().map(|t| t.dataset.clone()).collect();
    datasets.dedup();
    datasets
}

/// A result of texts that are known already.
fn listing(names: &[&str], rows: Vec<Vec<&String>>) -> Result<QueryResult> {
    let fields: Vec<ArrowField> = names.iter().map(|name| ArrowField::new(*name, DataType::Utf8, false)).collect();
    let schema = Arc::new(Schema::new(fields));
    let column = |i: usize| Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row[i]))) as ArrayRef;
    let batch = RecordBatch::try_new(Arc::clone(&schema), (0..names.len()).map(column).collect())
        .map_err(|e| Error::new(Kind::Bug, code::BUG, "a listing could not be built").caused_by(e))?;
    let (schema, columns) = output::columns(&schema, &Labels::default());
    Ok(QueryResult { schema, columns, stream: futures::stream::iter([Ok(batch)]).boxed() })
}

async fn rows(warehouse: &Warehouse, tables: &[TableInfo], mut statement: Statement) -> Result<QueryResult> {
    let labels = Labels::of(&statement);
    let sql = query_of(&mut statement).ok_or_else(|| Error::new(Kind::Bug, code::BUG, "a query that was checked is no query"))?;
    let mut relations = Relations::new(tables);
    visit(sql, &mut relations)?;

    let struct_fields = Arc::new(StructFields::default());
    let context = context(warehouse, Arc::clone(&struct_fields))?;
    let mut opened = Vec::with_capacity(relations.named.len());
    for table in &relations.named {
        let delta = open(warehouse, table).await?;
        opened.push((table, provider(&delta, table, &context.state()).await?));
    }
    let mut names = Names::default();
    for (_, provider) in &opened {
        provider.schema().fields().iter().for_each(|field| names.add(field.name()));
    }
    names.add(CATALOG);
    for (table, _) in &opened {
        names.add(&table.dataset);
        names.add(&table.table);
    }
    visit(sql, &mut Speller::collecting(&mut names))?;
    register(&context, &names, opened)?;
    let mut speller = Speller::rewriting(&mut names);
    visit(sql, &mut speller)?;
    let seen = Arc::new(speller.seen);

    let planned = context.state().statement_to_plan(statement).await;
    let plan = planned.map_err(|e| struct_fields.take_problem().unwrap_or_else(|| from_datafusion(e, &seen)))?;
    let plan = literals::settle(plan).map_err(|e| from_datafusion(e, &seen))?;
    checks::reads_only(&plan)?;
    checks::arithmetic(&plan)?;
    let planned_fields = plan.schema().as_arrow().clone();
    let frame = DataFrame::new(context.state(), plan);
    let stream = Box::pin(frame.execute_stream()).await.map_err(|e| from_datafusion(e, &seen))?;
    // The plan's types are before coercion, the stream's after; the plan's metadata is the more complete.
    let typed: Vec<ArrowField> = stream
        .schema()
        .fields()
        .iter()
        .zip(planned_fields.fields())
        .map(|(run, planned)| run.as_ref().clone().with_metadata(planned.metadata().clone()))
        .collect();
    let (schema, columns) = output::columns(&Schema::new(typed), &labels);
    let named = Arc::clone(&schema);
    let stream = stream.map(move |batch| batch.map_err(|e| from_datafusion(e, &seen)).and_then(|batch| rename(batch, &named)));
    Ok(QueryResult { schema, columns, stream: stream.boxed() })
}

/// The batch with the result's names. Its own types stay: they may differ from the plan's in nested metadata.
fn rename(batch: RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let fields = batch.schema_ref().fields().iter().zip(schema.fields());
    let fields: Vec<ArrowField> =
        fields.map(|(own, named)| own.as_ref().clone().with_name(named.name()).with_metadata(named.metadata().clone())).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), batch.columns().to_vec(), &options)
        .map_err(|e| Error::new(Kind::Bug, code::BUG, "a batch does not fit its own schema").caused_by(e))
}

fn query_of(statement: &mut Statement) -> Option<&mut ast::Statement> {
    match statement {
        Statement::Statement(sql) => Some(sql),
        Statement::Explain(explain) => query_of(&mut explain.statement),
        _ => None,
    }
}

fn visit<V: VisitorMut<Break = Error>>(sql: &mut ast::Statement, visitor: &mut V) -> Result<()> {
    match VisitMut::visit(sql, visitor) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

fn context(warehouse: &Warehouse, struct_fields: Arc<StructFields>) -> Result<SessionContext> {
    let internal = |e: DataFusionError| from_datafusion(e, &Seen::default());
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(FairSpillPool::new(warehouse.memory_bytes)))
        .build_arc()
        .map_err(internal)?;
    let config: SessionConfig = DeltaSessionConfig::default().into();
    let config = config
        .with_target_partitions(warehouse.partitions)
        .set_bool("datafusion.sql_parser.enable_ident_normalization", true)
        // A TIMESTAMP is a point in time: now() too.
        .set_str("datafusion.execution.time_zone", "+00:00")
        // So that a BIGNUMERIC is compared with all the digits that are written; see `literals`.
        .set_bool("datafusion.sql_parser.parse_float_as_decimal", true);
    let state = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime)
        // First, so that it is asked before the planners that take names exactly.
        .with_expr_planners(vec![struct_fields])
        .with_default_features()
        .build();
    let context = SessionContext::new_with_state(state);
    context.register_udf(ScalarUDF::new_from_impl(BigNumeric::default()));
    Ok(context)
}

/// Opens a table as it is now.
pub(super) async fn open(warehouse: &Warehouse, table: &TableInfo) -> Result<DeltaTable> {
    let path = table.path(&warehouse.folder);
    let name = table.to_string();
    let url = url::Url::from_directory_path(&path)
        .map_err(|()| unreadable(&name, format!("its folder {} is no absolute path", path.display())))?;
    let builder = DeltaTableBuilder::from_url(url).map_err(|e| unreadable(&name, e))?;
    Box::pin(builder.load()).await.map_err(|e| unreadable(&name, e))
}

/// An open table as DataFusion reads it, with the columns that Delta has.
pub(super) async fn provider(delta: &DeltaTable, name: &TableInfo, state: &SessionState) -> Result<Arc<dyn TableProvider>> {
    let scan = Box::pin(delta.table_provider().with_session(Arc::new(state.clone())).build()).await;
    Ok(Arc::new(Provider(Arc::new(scan.map_err(|e| unreadable(&name.to_string(), e))?))))
}

/// Makes the tables known under the spelling that their names have in the query.
fn register(context: &SessionContext, names: &Names, opened: Vec<(&TableInfo, Arc<dyn TableProvider>)>) -> Result<()> {
    let internal = |e: DataFusionError| from_datafusion(e, &Seen::default());
    let catalog = MemoryCatalogProvider::new();
    let mut registered: HashMap<(String, String), &TableInfo> = HashMap::new();
    for (table, provider) in opened {
        let (dataset, name) = (names.spelled(&table.dataset), names.spelled(&table.table));
        if let Some(other) = registered.insert((dataset.clone(), name.clone()), table) {
            let message = format!("{other} and {table}, whose names differ only by case, cannot be read in one query");
            return Err(usage(codes::UNKNOWN_TABLE, message));
        }
        let path = TableReference::full(CATALOG, dataset.clone(), name.clone());
        let provider = typed(provider, &path, names).map_err(internal)?;
        let schema = match catalog.schema(&dataset) {
            Some(schema) => schema,
            None => {
                let schema = Arc::new(MemorySchemaProvider::new());
                catalog.register_schema(&dataset, schema.clone()).map_err(internal)?;
                schema
            }
        };
        schema.register_table(name, provider).map_err(internal)?;
    }
    context.register_catalog(names.spelled(CATALOG), Arc::new(catalog));
    Ok(())
}

/// The table with columns spelled as in the query, and with TIME and BIGNUMERIC as what they are.
fn typed(
    provider: Arc<dyn TableProvider>,
    path: &TableReference,
    names: &Names,
) -> Result<Arc<dyn TableProvider>, DataFusionError> {
    let schema = provider.schema();
    let bignumeric = ScalarUDF::new_from_impl(BigNumeric::default());
    let mut changed = false;
    let columns: Vec<Expr> = schema
        .fields()
        .iter()
        .map(|field| {
            let column = Expr::Column(Column::new(Some(path.clone()), field.name()));
            let spelled = names.spelled(field.name());
            let text = |data_type: &DataType| matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
            // The values of a partition column come as a dictionary.
            let dictionary = matches!(field.data_type(), DataType::Dictionary(_, value) if text(value));
            let is_text = dictionary || text(field.data_type());
            let carried = field.metadata().get(TYPE_KEY).and_then(|name| name.parse::<Type>().ok());
            let column = match carried {
                Some(Type::BigNumeric | Type::Time) if dictionary => cast(column, DataType::Utf8View),
                _ => column,
            };
            let column = match carried {
                Some(Type::BigNumeric) if is_text => bignumeric.call(vec![column]),
                // Nanoseconds, as literals have them: DataFusion does not compare times of two units.
                Some(Type::Time) if is_text => cast(column, DataType::Time64(TimeUnit::Nanosecond)),
                _ if spelled == *field.name() => return column,
                _ => column,
            };
            changed = true;
            column.alias(spelled)
        })
        .collect();
    if !changed {
        return Ok(provider);
    }
    let plan = LogicalPlanBuilder::scan(path.clone(), provider_as_source(provider), None)?.project(columns)?.build()?;
    Ok(Arc::new(ViewTable::new(plan, None)))
}

/// The table of a name outside of a query.
pub(super) fn find(warehouse: &Warehouse, name: &str) -> Result<TableInfo> {
    let tables = warehouse.tables()?;
    catalog::find(&tables, &Part::split(name)).cloned()
}

/// A session for reading without a query.
pub(super) fn plain_state(warehouse: &Warehouse) -> Result<SessionState> {
    Ok(context(warehouse, Arc::default())?.state())
}
