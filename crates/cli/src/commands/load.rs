//! `longshore load`: files to tables, no configuration.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use longshore_core::error::{Error, Kind, Result, code};
use longshore_core::table_options::TableOptions;
use longshore_engine::Pipeline;
use longshore_files::config::{AfterLoad, FilesConfig};

use super::{limit, open_store, surroundings};
use crate::args::LoadArgs;
use crate::console::Console;
use crate::destination::Dataset;
use crate::interrupt;
use crate::reporter::Reporter;
use crate::summary::{self, Landed};

/// Loads. The pipeline is `load:` and the absolute path of the dataset: what landed there once is not loaded again,
/// whatever the command line says besides.
pub async fn run(console: &Console, store: &Path, args: &LoadArgs) -> Result<u8> {
    let dataset = Dataset::parse(&args.to)?;
    let config = files(args)?;
    let pipeline = pipeline(args, &config, &dataset)?;
    let stop = interrupt::stop_on_signals(console)
        .map_err(|e| Error::new(Kind::Bug, code::BUG, "signals cannot be listened to").caused_by(e))?;
    let source = super::open_files(&config, &surroundings(store, args.write))?;
    let destination = super::open_dataset(&dataset, store)?;
    let books = open_store(store).await?;
    let reporter = Arc::new(Reporter::new(console));
    let result = longshore_engine::run(books, source, destination, &pipeline, reporter.clone(), stop).await;
    summary::finish(console, &reporter, &Landed::dataset(dataset, store), result)
}

fn files(args: &LoadArgs) -> Result<FilesConfig> {
    use crate::args::AfterLoadArg;
    let mut config = args.files.config()?;
    config.dead_letter_dir.clone_from(&args.dead_letter_dir);
    (config.after_load, config.move_to) = match &args.after_load {
        AfterLoadArg::Keep => (AfterLoad::Keep, None),
        AfterLoadArg::Move(folder) => (AfterLoad::Move, Some(folder.clone())),
        AfterLoadArg::Delete => (AfterLoad::Delete, None),
    };
    Ok(config)
}

fn pipeline(args: &LoadArgs, config: &FilesConfig, dataset: &Dataset) -> Result<Pipeline> {
    let mut options = BTreeMap::new();
    for argument in &args.partition_by {
        let (table, column) = crate::args::table_and_rest(argument, |_| false);
        if options.insert(table.to_owned(), TableOptions::by_day(column)).is_some() {
            return Err(crate::args::twice("--partition-by", table));
        }
    }
    let mut pipeline = Pipeline {
        name: format!("load:{}", dataset.identity()?),
        inputs: config.path.clone(),
        destination: dataset.shown(),
        contract: args.contract,
        disposition: args.write,
        options,
        max_dead_letters: args.max_dead_letters,
        stop_on_max: args.stop_on_max,
        ..Pipeline::default()
    };
    limit(&mut pipeline, &args.limits);
    Ok(pipeline)
}
