//! Running statements: SELECT by way of DataFusion, and what the others need of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::concat_batches;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::{CatalogProvider, MemoryCatalogProvider, MemorySchemaProvider, SchemaProvider};
use datafusion::common::config::Dialect;
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use longshore_core::schema::Field;
use serde_json::Value;

use super::cell::Row;
use super::dml;
use super::from_arrow::{self, Mismatch, Source, result_field};
use super::http::{ApiError, Shared};
use super::jobs::QueryResult;
use super::merge_rows;
use super::permissions::On;
use super::state::{State, Table};
use super::statements::{Parsed, parse, with_parameters};
use super::to_arrow;
use super::tokens::Path;

/// The project and the dataset of tables that stand for a statement's own rows. No project of Google's is named so.
pub(crate) const OWN: &str = "__rows";

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

/// Where statements run: the tables, and how names are completed.
pub(crate) struct Engine<'a> {
    pub(crate) shared: &'a Arc<Shared>,
    names: Names,
    /// Whether a statement is only looked at: it reads no rows and writes nothing.
    dry: bool,
    /// The tables that were read, by `project:dataset.table`, and how many bytes they have.
    read: Mutex<BTreeMap<String, usize>>,
}

/// What a statement came to.
pub(crate) struct Ran {
    pub(crate) result: QueryResult,
    /// The bytes of the tables that it read, as JSON: an estimate of what would be charged for. Of a dry run only.
    pub(crate) bytes: usize,
}

/// What a SELECT gave.
pub(crate) struct Selected {
    pub(crate) schema: SchemaRef,
    pub(crate) batches: Vec<RecordBatch>,
}

impl Selected {
    /// The columns as a table would have them.
    pub(crate) fn fields(&self) -> Vec<Field> {
        self.schema.fields().iter().map(|field| result_field(field)).collect()
    }

    /// All rows as one batch.
    pub(crate) fn batch(&self) -> Result<RecordBatch, ApiError> {
        concat_batches(&self.schema, &self.batches).map_err(|e| ApiError::invalid_query(e.to_string()))
    }
}

/// A table's place.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) project: String,
    pub(crate) dataset: String,
    pub(crate) table: String,
}

impl Engine<'_> {
    pub(crate) fn place(&self, path: &Path) -> Result<Place, ApiError> {
        let (project, dataset, table) = self.names.resolve(path)?;
        Ok(Place { project, dataset, table })
    }

    /// Whether a statement is only looked at.
    pub(crate) fn is_dry(&self) -> bool {
        self.dry
    }

    /// Runs a SELECT; a dry run gives no rows. Further tables are known by these names below [`OWN`].
    pub(crate) async fn select(&self, text: &str, own: &[(&str, RecordBatch)]) -> Result<Selected, ApiError> {
        let context = self.context(text, own)?;
        let plan = context.state().create_logical_plan(text).await.map_err(query_error)?;
        let frame = context.execute_logical_plan(plan).await.map_err(query_error)?;
        let schema = Arc::clone(frame.schema().inner());
        let batches = if self.dry { Vec::new() } else { frame.collect().await.map_err(query_error)? };
        Ok(Selected { schema, batches })
    }

    /// A session that knows the tables which the statement names.
    fn context(&self, text: &str, own: &[(&str, RecordBatch)]) -> Result<SessionContext, ApiError> {
        let config = SessionConfig::new()
            .with_target_partitions(1)
            .with_default_catalog_and_schema(&self.names.project, self.names.dataset.as_deref().unwrap_or("no dataset"))
            .with_create_default_catalog_and_schema(false)
            .set_str("datafusion.sql_parser.dialect", "BigQuery")
            .set_bool("datafusion.sql_parser.enable_ident_normalization", false);
        let context = SessionContext::new_with_config(config);
        for (name, batch) in own {
            register(&context, OWN, OWN, name, batch.clone())?;
        }
        for path in referenced(&context, text)?.iter().filter(|path| path.project.as_deref() != Some(OWN)) {
            let place = self.place(path)?;
            let batch = self.table(&place)?.batch();
            register(&context, &place.project, &place.dataset, &place.table, batch)?;
        }
        Ok(context)
    }

    /// A table as it stands, to be read.
    pub(crate) fn table(&self, place: &Place) -> Result<Table, ApiError> {
        let state = self.shared.lock();
        state.permit("bigquery.tables.getData", &On::from(place))?;
        let table = state.table(&place.project, &place.dataset, &place.table)?.clone();
        if self.dry {
            let bytes = to_arrow::objects(&table.batch()).iter().map(|row| row.to_string().len()).sum();
            let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
            read.insert(format!("{}:{}.{}", place.project, place.dataset, place.table), bytes);
        }
        Ok(table)
    }

    /// A table as it stands, to be written; its rows are not read.
    pub(crate) fn target(&self, place: &Place) -> Result<Table, ApiError> {
        self.permit_writing(place)?;
        self.shared.lock().table(&place.project, &place.dataset, &place.table).cloned()
    }

    /// Whether the caller may change a table's rows.
    pub(crate) fn permit_writing(&self, place: &Place) -> Result<(), ApiError> {
        self.shared.lock().permit("bigquery.tables.updateData", &On::from(place))
    }

    /// Does a statement of its own on the state; a dry run does it on a copy of the table and throws that away.
    fn define(
        &self,
        table: &Path,
        permission: &str,
        work: impl FnOnce(&mut State, &Place) -> Result<QueryResult, ApiError>,
    ) -> Result<QueryResult, ApiError> {
        let place = self.place(table)?;
        let mut state = self.shared.lock();
        // A table that is to be made is the dataset's concern.
        let dataset = On::Dataset(&place.project, &place.dataset);
        state.permit(permission, &if permission == "bigquery.tables.create" { dataset } else { On::from(&place) })?;
        let key = format!("{}.{}", place.dataset, place.table);
        let before = state.tables.get(&key).cloned();
        let done = work(&mut state, &place);
        if self.dry {
            match before {
                Some(before) => state.tables.insert(key, before),
                None => state.tables.remove(&key),
            };
        }
        done
    }
}

/// Runs a statement, or only looks at it. An error is one of the statement, and nothing is done then.
pub(crate) async fn run(shared: &Arc<Shared>, project: &str, configuration: &Value, dry: bool) -> Result<Ran, ApiError> {
    let text = configuration["query"].as_str().unwrap_or_default();
    let text = with_parameters(text, configuration["queryParameters"].as_array())?;
    let parsed = parse(&text)?;
    let engine = Engine { shared, names: Names::of(project, configuration), dry, read: Mutex::default() };
    // One statement at a time reads tables and writes them.
    let _turn = shared.statements.lock().await;
    let result = match parsed {
        Parsed::Select(text) => {
            let selected = engine.select(&text, &[]).await?;
            let fields = selected.fields();
            let rows = computed(&fields, &selected.batch()?)?;
            QueryResult { fields, rows, affected: None, statement: "SELECT" }
        }
        Parsed::Delete { table, alias, condition } => dml::delete(&engine, &table, &alias, &condition).await?,
        Parsed::Update { table, alias, values, condition } => dml::update(&engine, &table, &alias, &values, &condition).await?,
        Parsed::Insert { table, columns, text } => dml::insert(&engine, &table, columns, &text).await?,
        Parsed::Merge(merge) => merge_rows::run(&engine, &merge).await?,
        Parsed::Truncate { table } => dml::truncate(&engine, &table)?,
        Parsed::Alter(alter) => engine.define(&alter.table, "bigquery.tables.update", |state, place| alter.run(state, place))?,
        Parsed::Create(create) => {
            engine.define(&create.table, "bigquery.tables.create", |state, place| create.run(state, place))?
        }
        Parsed::Drop(drop) => engine.define(&drop.table, "bigquery.tables.delete", |state, place| drop.run(state, place))?,
    };
    let bytes = engine.read.lock().unwrap_or_else(PoisonError::into_inner).values().sum();
    Ok(Ran { result, bytes })
}

fn query_error(error: datafusion::error::DataFusionError) -> ApiError {
    ApiError::invalid_query(error.strip_backtrace())
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

fn register(context: &SessionContext, project: &str, dataset: &str, name: &str, batch: RecordBatch) -> Result<(), ApiError> {
    let catalog = context.catalog(project).unwrap_or_else(|| {
        let catalog: Arc<dyn CatalogProvider> = Arc::new(MemoryCatalogProvider::new());
        context.register_catalog(project, Arc::clone(&catalog));
        catalog
    });
    let schema = match catalog.schema(dataset) {
        Some(schema) => schema,
        None => {
            let schema: Arc<dyn SchemaProvider> = Arc::new(MemorySchemaProvider::new());
            catalog.register_schema(dataset, Arc::clone(&schema)).map_err(query_error)?;
            schema
        }
    };
    let memory = MemTable::try_new(batch.schema(), vec![vec![batch]]).map_err(query_error)?;
    if !schema.table_exist(name) {
        schema.register_table(name.to_owned(), Arc::new(memory)).map_err(query_error)?;
    }
    Ok(())
}

/// A result's rows as rows of these columns.
pub(crate) fn computed(fields: &[Field], batch: &RecordBatch) -> Result<Vec<Row>, ApiError> {
    let rows = from_arrow::rows(fields, batch, Source::Computed).map_err(|mismatch| match mismatch {
        Mismatch::Unknown(names) => ApiError::invalid_query(format!("no such column: {}", names.join(", "))),
        Mismatch::Invalid(why) => ApiError::invalid_query(why),
    })?;
    rows.into_iter().collect::<Result<_, _>>().map_err(ApiError::invalid_query)
}

/// A batch with other names for its columns.
pub(crate) fn renamed(batch: &RecordBatch, names: &[String]) -> Result<RecordBatch, ApiError> {
    if batch.num_columns() != names.len() {
        let why = format!("Inserted row has wrong column count; Has {}, expected {}", batch.num_columns(), names.len());
        return Err(ApiError::invalid_query(why));
    }
    let schema = batch.schema();
    let fields = schema.fields().iter().zip(names).map(|(field, name)| field.as_ref().clone().with_name(name));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(schema, batch.columns().to_vec(), &options)
        .map_err(|e| ApiError::invalid_query(e.to_string()))
}
