//! What a run would do, without doing it.

use std::sync::Arc;

use longshore_core::Result;
use longshore_core::budget::Budget;
use longshore_core::destination::{Destination, Mode, Plan};
use longshore_core::event::{Events, Observer};
use longshore_core::schema::TableSchema;
use longshore_core::source::{Context, Source};
use longshore_core::stop::Stop;
use longshore_core::store::Store;

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
}

/// Looks at what the source has now and says what a run would do. Changes nothing.
pub async fn plan(
    store: Arc<dyn Store>,
    source: Arc<dyn Source>,
    destination: Arc<dyn Destination>,
    pipeline: &Pipeline,
    observer: Arc<dyn Observer>,
) -> Result<RunPlan> {
    let cx = Context {
        pipeline: pipeline.name.clone(),
        run: String::new(),
        budget: Budget::new(pipeline.memory),
        lanes: pipeline.lanes,
        events: Events::new(observer),
        stop: Stop::default(),
    };
    let found = source.splits(&cx, store.as_ref()).await?;
    let inputs = found.splits.iter().map(|split| (split.name.clone(), split.bytes)).collect();
    let described = source.describe(&cx, found.splits, store.as_ref()).await?;
    let mut tables = Vec::new();
    for (_, change) in wanted(pipeline, &described) {
        let plan = destination.prepare(&change, Mode::DryRun).await?;
        if plan.schema.fields.is_empty() {
            continue;
        }
        tables.push(TablePlan { table: change.table, found: change.wanted, plan });
    }
    let refused = described.refused.into_iter().map(|(split, reject)| (split.name, reject.reason)).collect();
    Ok(RunPlan { tables, inputs, skipped: found.skipped, refused })
}
