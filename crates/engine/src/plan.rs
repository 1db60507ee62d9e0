//! What a run would do, without doing it.

use std::sync::Arc;

use longshore_core::Result;
use longshore_core::budget::Budget;
use longshore_core::commit::Contract;
use longshore_core::destination::{Destination, Mode, Plan, SchemaChange};
use longshore_core::error::{Error, Kind, Retry};
use longshore_core::event::{Events, Observer};
use longshore_core::inspection::{Finding, Verdict};
use longshore_core::schema::TableSchema;
use longshore_core::source::{Context, Source};
use longshore_core::stop::Stop;
use longshore_core::store::Store;
use longshore_core::stream::StreamSource;

use crate::pipeline::Pipeline;
use crate::prepare::wanted;

/// What a run would do to one table.
#[derive(Debug, Clone)]
pub struct TablePlan {
    /// The table.
    pub table: String,
    /// The columns that the records have.
    pub found: TableSchema,
    /// The destination's answer.
    pub plan: Plan,
}

/// What a run would do.
#[derive(Debug, Clone, Default)]
pub struct RunPlan {
    /// Tables in order of name.
    pub tables: Vec<TablePlan>,
    /// Inputs that would be read, with their bytes.
    pub inputs: Vec<(String, u64)>,
    /// Inputs known already, and why.
    pub skipped: Vec<(String, String)>,
    /// Inputs that cannot be read at all, and why.
    pub refused: Vec<(String, String)>,
    /// What the destination says of the run as a whole.
    pub findings: Vec<Finding>,
}

/// Looks at what the source has now and says what a run would do. Changes nothing. A table whose plan the destination cannot tell is left
/// out and found to be wrong, if the destination says anything about itself, else that is the error.
pub async fn plan(
    store: Arc<dyn Store>,
    source: Arc<dyn Source>,
    destination: Arc<dyn Destination>,
    pipeline: &Pipeline,
    observer: Arc<dyn Observer>,
) -> Result<RunPlan> {
    let cx = context(pipeline, observer);
    let found = source.splits(&cx, store.as_ref()).await?;
    let inputs: Vec<(String, u64)> = found.splits.iter().map(|split| (split.name.clone(), split.bytes)).collect();
    let bytes = inputs.iter().map(|(_, bytes)| bytes).sum();
    let described = source.describe(&cx, found.splits, store.as_ref()).await?;
    let changes = wanted(pipeline, destination.takes_changes(), &described)?.into_iter().map(|(_, change)| change).collect();
    let looked = look(destination.as_ref(), changes, bytes).await?;
    let refused = described.refused.into_iter().map(|(split, reject)| (split.name, reject.reason)).collect();
    Ok(RunPlan { inputs, skipped: found.skipped, refused, ..looked })
}

/// Looks at what an endless source reads and says what a run would do to the tables that have schema files. Changes nothing. Other tables are
/// found when messages come for them.
pub async fn plan_stream(
    source: Arc<dyn StreamSource>,
    destination: Arc<dyn Destination>,
    pipeline: &Pipeline,
    observer: Arc<dyn Observer>,
) -> Result<RunPlan> {
    let inputs = source.inspect(&context(pipeline, observer)).await?.into_iter().map(|line| (line, 0)).collect();
    let mut changes = Vec::new();
    if let Some(folder) = &pipeline.stream.schemas {
        let (tables, wrong) = crate::stream::schemas(folder)?;
        if let Some(error) = wrong.into_iter().next() {
            return Err(error);
        }
        for (table, wanted) in tables {
            let options = pipeline.options(&table);
            changes.push(SchemaChange { table, wanted, contract: Contract::Evolve, disposition: pipeline.disposition, options });
        }
    }
    let looked = look(destination.as_ref(), changes, 0).await?;
    Ok(RunPlan { inputs, ..looked })
}

fn context(pipeline: &Pipeline, observer: Arc<dyn Observer>) -> Context {
    Context {
        pipeline: pipeline.name.clone(),
        run: String::new(),
        budget: Budget::new(pipeline.memory),
        lanes: pipeline.lanes,
        events: Events::new(observer),
        stop: Stop::default(),
    }
}

/// What would become of the tables, and what the destination says besides.
async fn look(destination: &dyn Destination, changes: Vec<SchemaChange>, bytes: u64) -> Result<RunPlan> {
    let (mut planned, mut failed) = (Vec::new(), Vec::new());
    for change in changes {
        match destination.prepare(&change, Mode::DryRun).await {
            Ok(plan) if plan.schema.fields.is_empty() => {}
            Ok(plan) => planned.push((change, plan)),
            Err(error) if error.kind() != Kind::Destination => return Err(error),
            Err(error) => {
                // What fails for a passing reason fails for the next table, too.
                let passing = error.retry() == Retry::Backoff;
                failed.push((change, error));
                if passing {
                    break;
                }
            }
        }
    }
    let unplanned = failed.iter().map(|(change, _)| (change.clone(), Plan::default()));
    let wanted: Vec<(SchemaChange, Plan)> = planned.iter().cloned().chain(unplanned).collect();
    let mut findings = destination.inspect(&wanted, bytes).await?;
    add_failures(&mut findings, failed)?;
    let tables = planned.into_iter().map(|(change, plan)| TablePlan { table: change.table, found: change.wanted, plan });
    Ok(RunPlan { tables: tables.collect(), findings, ..RunPlan::default() })
}

/// Adds the tables whose plan failed. Where something else is wrong that may be why: then the table is unknown, not wrong; and of what
/// fails for a passing reason the destination itself has told why.
fn add_failures(findings: &mut Vec<Finding>, failed: Vec<(SchemaChange, Error)>) -> Result<()> {
    let explained = findings.iter().any(|finding| finding.verdict == Verdict::Wrong);
    for (change, error) in failed {
        if findings.is_empty() {
            return Err(error);
        }
        if explained && error.retry() == Retry::Backoff {
            continue;
        }
        let verdict = if explained { Verdict::Unknown } else { Verdict::Wrong };
        let finding = Finding::of_error(format!("table {}", change.table), verdict, &error);
        if findings.iter().all(|known| known.words != finding.words) {
            findings.push(finding);
        }
    }
    Ok(())
}
