//! `longshore runs export`: the books as tables.

use std::path::Path;
use std::sync::Arc;

use longshore_core::commit::WriteDisposition;
use longshore_core::destination::Destination;
use longshore_core::error::{Error, Kind, Result, code};
use longshore_core::store::Store;
use longshore_engine::{Outcome, Pipeline, repair};
use longshore_ledger::{LedgerSource, RUNS, schemas};

use crate::args::ExportArgs;
use crate::commands::{limit, open_dataset, open_store};
use crate::console::Console;
use crate::destination::{Dataset, FOLDER};
use crate::reporter::Reporter;
use crate::summary::{self, Landed};
use crate::{exit, interrupt, units};

/// Exports. It is a run as every other: the pipeline is `export:` and the absolute path of the dataset, and each table is
/// replaced in one commit.
pub async fn run(console: &Console, store: &Path, args: &ExportArgs) -> Result<u8> {
    let dataset = Dataset::parse(&args.to)?;
    let pipeline = pipeline(args, &dataset)?;
    let stop = interrupt::stop_on_signals(console)
        .map_err(|e| Error::new(Kind::Bug, code::BUG, "signals cannot be listened to").caused_by(e))?;
    let destination = open_dataset(&dataset, store)?;
    let books = open_store(store).await?;
    if let Err(error) = agree(console, &books, &destination, &pipeline.name).await {
        tracing::debug!(%error, "the tables could not be looked at; the run will say why");
    }
    let source = Arc::new(LedgerSource::new(books.clone()));
    let reporter = Arc::new(Reporter::new(console));
    match longshore_engine::run(books, source, destination, &pipeline, reporter.clone(), stop).await {
        // What is told of files does not hold for books.
        Ok(outcome) if !console.json && outcome.summary.rejects == 0 => {
            reporter.done();
            tell(console, &outcome, &dataset);
            Ok(exit::DONE)
        }
        result => summary::finish(console, &reporter, &Landed::dataset(dataset, store), result),
    }
}

/// Makes the books of this export agree with its tables, which may have been deleted, and the books restored from an older copy.
/// What would be refused elsewhere is harmless here: the tables are replaced whole, so that nothing can land twice. Tables that another
/// store writes to are left to the run, which refuses them.
async fn agree(console: &Console, books: &Arc<dyn Store>, destination: &Arc<dyn Destination>, name: &str) -> Result<()> {
    if books.pipeline(name).await?.last == 0 {
        return Ok(());
    }
    let tables: Vec<String> = schemas().into_keys().collect();
    for finding in repair(books.clone(), destination.clone(), name, &tables, &[], true).await? {
        console.warning(format!("{}; it is copied anew", finding.what));
    }
    Ok(())
}

fn pipeline(args: &ExportArgs, dataset: &Dataset) -> Result<Pipeline> {
    let mut pipeline = Pipeline {
        name: format!("export:{}", dataset.identity()?),
        inputs: vec!["the books".to_owned()],
        destination: dataset.shown(),
        disposition: WriteDisposition::Truncate,
        ..Pipeline::default()
    };
    limit(&mut pipeline, &args.limits);
    Ok(pipeline)
}

fn tell(console: &Console, outcome: &Outcome, dataset: &Dataset) {
    let tables = &outcome.summary.tables;
    console.note(format!("the books were copied to {} in {:.1} s:", dataset.shown(), outcome.summary.seconds));
    let widest = tables.keys().map(|name| name.chars().count()).max().unwrap_or(0);
    for (table, rows) in tables {
        console.note(format!("  {table:widest$}  {}", units::count(*rows, "row", "rows")));
    }
    let sql = |table: &str| format!("select status, count(*) as runs from {table} group by status");
    let next = match dataset {
        Dataset::Folder { folder, name } => {
            let warehouse =
                if folder == Path::new(FOLDER) { String::new() } else { format!(" --warehouse {}", folder.display()) };
            format!("longshore query{warehouse} \"{}\"", sql(&format!("{name}.{RUNS}")))
        }
        Dataset::BigQuery(_) => format!("longshore query --on {} \"{}\"", dataset.shown(), sql(RUNS)),
    };
    console.note(format!("\nnext: {next}"));
}
