//! `prepare`: a table comes to be, or gets columns and wider types. Everything else of one that is there stays as it is, but for the key
//! and the staleness that changes need, where it has none.

mod ask;
mod options;
mod visible;
mod widen;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use longshore_core::Result;
use longshore_core::commit::{Contract, WriteDisposition};
use longshore_core::destination::{Mode, Plan, SchemaChange};
use longshore_core::error::Retry;
use longshore_core::retry::Patience;
use longshore_core::schema::TableSchema;
use serde_json::{Map, Value, json};

use self::ask::any_row;
use self::options::Options;
use self::widen::Widening;
use crate::columns;
use crate::error::{Failure, codes, config, destination};
use crate::jobs;
use crate::tables::{OURS, Remote, Tables};
use crate::write::StorageWrite;

/// How often somebody else may change a table between our look at it and our change.
const RACES: u32 = 10;

/// What `prepare` works with.
pub(crate) struct Prepare<'a> {
    pub(crate) tables: &'a Tables,
    /// Where rows will be appended; none if they come by load jobs, which know a table's columns at once.
    pub(crate) write: Option<&'a StorageWrite>,
    pub(crate) patience: &'a Patience,
    pub(crate) known: &'a Known,
}

/// The columns that tables are known to have where rows are written, by table and when it was made. Columns may also come from
/// somebody else, between two commits.
#[derive(Debug, Default)]
pub(crate) struct Known(Mutex<HashMap<String, TableSchema>>);

impl Known {
    fn has(&self, table: &str, schema: &TableSchema) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(table) == Some(schema)
    }

    fn learn(&self, table: String, schema: TableSchema) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(table, schema);
    }
}

/// What a table that is there lacks.
struct Proposal {
    /// What it will be like, and all of it in words.
    plan: Plan,
    widenings: Vec<Widening>,
    /// Of its resource, once its columns are wide enough.
    patch: Map<String, Value>,
}

impl Prepare<'_> {
    /// Makes the table ready, or says what that would take.
    pub(crate) async fn run(&self, change: &SchemaChange, mode: Mode) -> Result<Plan> {
        check_name(&change.table)?;
        let change = SchemaChange { wanted: change.options.describe(&change.wanted), ..change.clone() };
        let table = &change.table;
        // What was widened here, and what BigQuery does not widen.
        let (mut widened, mut refused) = (Vec::new(), Vec::new());
        for _ in 0..RACES {
            let Some(remote) = self.tables.get(table).await? else { return self.create(&change, mode).await };
            let mut proposal = self.propose(&change, &remote, &refused).await?;
            if mode == Mode::Apply && !proposal.widenings.is_empty() {
                if let Some(words) = self.widen(table, &proposal.widenings, &mut widened).await? {
                    tracing::warn!(table, words, "BigQuery does not widen a column");
                    refused = proposal.widenings;
                }
                continue;
            }
            if mode == Mode::Apply && !proposal.patch.is_empty() {
                match self.tables.patch(table, &Value::Object(proposal.patch), remote.etag()).await {
                    Ok(_) => {}
                    Err(Failure::Refused(refusal)) if refusal.status == 412 => continue,
                    Err(failure) => return Err(failure.into()),
                }
            }
            let (schema, place) = (&proposal.plan.schema, format!("{table}@{}", remote.born()));
            if let Some(write) = self.write.filter(|_| mode == Mode::Apply && !self.known.has(&place, schema)) {
                visible::wait(self.tables, write, self.patience, table, schema).await?;
                self.known.learn(place, schema.clone());
            }
            proposal.plan.changes.splice(0..0, widened);
            return Ok(proposal.plan);
        }
        Err(destination(codes::CHANGED, format!("table {table} keeps changing under our hands")).with_retry(Retry::Backoff))
    }

    async fn create(&self, change: &SchemaChange, mode: Mode) -> Result<Plan> {
        let (table, wanted) = (&change.table, &change.wanted);
        if wanted.fields.is_empty() {
            return Ok(Plan::default());
        }
        let count = wanted.fields.len();
        let mut changes = vec![format!("create table {table} ({count} {})", if count == 1 { "column" } else { "columns" })];
        let options = Options { table, schema: wanted, wanted: &change.options };
        let mut resource = options.of_new(chrono::Utc::now().timestamp_millis(), &mut changes)?;
        let reference = json!({"projectId": self.tables.project, "datasetId": self.tables.dataset, "tableId": table});
        let fields = columns::to_rest(&wanted.fields)?;
        let schema = columns::from_rest(table, &fields)?;
        resource.insert("tableReference".into(), reference);
        resource.insert("schema".into(), json!({"fields": fields}));
        if mode == Mode::Apply {
            // Somebody else may have made it meanwhile, with other columns: theirs count.
            let made = self.tables.insert(table, &Value::Object(resource)).await?;
            let schema = made.schema(table)?;
            self.known.learn(format!("{table}@{}", made.born()), schema.clone());
            return Ok(Plan { schema, existed: false, changes });
        }
        Ok(Plan { schema, existed: false, changes })
    }

    /// What a table that is there lacks. `refused` was tried in vain.
    async fn propose(&self, change: &SchemaChange, remote: &Remote, refused: &[Widening]) -> Result<Proposal> {
        let table = &change.table;
        self.check(change, remote).await?;
        let mut fields = remote.fields();
        let (mut changes, mut widenings, mut patch) = (Vec::new(), Vec::new(), Map::new());
        if change.contract == Contract::Evolve {
            widenings = widen::wanted(self.tables, table, remote, &change.wanted.fields).await?;
            if widenings == refused {
                widenings.clear();
            }
            for widening in &widenings {
                widening.apply(&mut fields);
                changes.push(widening.in_words());
            }
            let widened = changes.len();
            columns::add_missing(&mut fields, &change.wanted.fields, "", &mut changes)?;
            if changes.len() > widened {
                patch.insert("schema".into(), json!({"fields": fields}));
            }
        }
        let schema: TableSchema = columns::from_rest(table, &fields)?;
        if !change.wanted.fields.is_empty() {
            let options = Options { table, schema: &schema, wanted: &change.options };
            patch.extend(options.of_existing(remote, &mut changes)?);
        }
        Ok(Proposal { plan: Plan { schema, existed: true, changes }, widenings, patch })
    }

    async fn check(&self, change: &SchemaChange, remote: &Remote) -> Result<()> {
        let table = &change.table;
        if remote.kind() != "TABLE" {
            return Err(destination(
                codes::UNSUPPORTED,
                format!("{table} is a {}, which rows cannot be written to", remote.kind()),
            )
            .with_retry(Retry::AfterFix));
        }
        if change.disposition == WriteDisposition::Empty && any_row(self.tables, table, remote, "TRUE").await? {
            return Err(destination(codes::NOT_EMPTY, format!("table {table} holds rows"))
                .with_retry(Retry::AfterFix)
                .hint("use `--write append` to add to them, or `--write truncate` to replace them"));
        }
        Ok(())
    }

    /// Widens columns; says each in words. What comes back is BigQuery's own words if it does not do that: another worker that was
    /// faster may be why, so that the table is looked at again.
    async fn widen(&self, table: &str, widenings: &[Widening], done: &mut Vec<String>) -> Result<Option<String>> {
        for widening in widenings {
            match jobs::rows(self.tables, "widen a column", &widening.statement(self.tables, table)).await {
                Ok(_) => done.push(widening.in_words()),
                Err(Failure::Refused(refusal)) if refusal.status == 400 => return Ok(Some(refusal.message)),
                Err(failure) => return Err(failure.into()),
            }
        }
        Ok(None)
    }
}

fn check_name(table: &str) -> Result<()> {
    let fits = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | ' ');
    if table.is_empty() || table.len() > 1024 || !table.chars().all(fits) || table.starts_with(OURS) {
        return Err(config(codes::NAME, format!("a table of BigQuery cannot be named `{}`", table.escape_debug())));
    }
    Ok(())
}
