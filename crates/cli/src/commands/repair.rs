//! `longshore repair`: the books compared with the tables.

use std::path::Path;

use longshore_core::error::Result;
use longshore_engine::{Finding, repair};
use serde_json::json;

use super::run::{dataset, read};
use super::{open_store, store_to_look_at, surroundings};
use crate::args::{PipelineArgs, RepairArgs};
use crate::console::Console;
use crate::destination::Dataset;
use crate::{exit, warehouse};

/// Compares, and with `--apply` makes the books agree with the tables. The tables are never changed.
pub async fn run(console: &Console, store: &Path, args: &RepairArgs) -> Result<u8> {
    let path = Path::new(&args.target);
    let is_file = path.is_file() || path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
    let (name, destination, place) = if is_file {
        let file = read(&PipelineArgs { file: path.to_owned(), params: Vec::new(), run_time: None })?;
        (file.pipeline.name.clone(), file.open_destination(&surroundings(store, file.pipeline.disposition))?, dataset(&file))
    } else {
        let dataset = Dataset::parse(&args.target)?;
        (format!("load:{}", dataset.identity()?), super::open_dataset(&dataset, store)?, Some(dataset))
    };
    // The tables that are there, too: a store that was lost knows none.
    let tables = match &place {
        Some(place) => warehouse::tables_of(place).await?,
        None => Vec::new(),
    };
    // A look makes no books.
    let books = if args.apply { open_store(store).await? } else { store_to_look_at(store).await? };
    let findings = repair(books, destination, &name, &tables, &args.give_up, args.apply).await?;
    if console.json {
        for finding in &findings {
            console.object(finding)?;
        }
        if findings.is_empty() {
            console.object(&json!({"pipeline": name, "findings": 0}))?;
        }
    } else {
        text(console, &name, &findings, args.apply)?;
    }
    // What is still to be mended is what exit code 7 is for.
    Ok(if findings.iter().any(|finding| !finding.applied) { exit::STORE } else { exit::DONE })
}

fn text(console: &Console, name: &str, findings: &[Finding], apply: bool) -> Result<()> {
    if findings.is_empty() {
        return console.data(format!("the books of {name} and its tables agree"));
    }
    for finding in findings {
        let verb = if finding.applied { "done" } else { "would" };
        console.data(format!("table {}: {}\n  {verb}: {}", finding.table, finding.what, finding.fix))?;
    }
    if !apply {
        console.note("nothing was changed; `--apply` does it");
    }
    Ok(())
}
