//! `longshore run`: one run of a pipeline file.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use longshore_core::commit::WriteDisposition;
use longshore_core::error::{Error, Kind, Result, code};
use longshore_core::event::Observer;
use longshore_core::stop::Stop;
use longshore_core::store::Store;
use longshore_engine::Outcome;

use super::{limit, open_store, surroundings};
use crate::args::{PipelineArgs, RunArgs, unique};
use crate::console::Console;
use crate::destination::Dataset;
use crate::interrupt;
use crate::pipeline::{Opened, PipelineFile};
use crate::reporter::Reporter;
use crate::summary::{self, Landed};

/// Runs the pipeline once; an endless one until it is told to stop, or has caught up.
pub async fn run(console: &Console, store: &Path, args: &RunArgs) -> Result<u8> {
    let mut file = read(&args.pipeline)?;
    limit(&mut file.pipeline, &args.limits);
    if file.is_endless() && args.full_refresh {
        let message =
            format!("`{}` is a source that never ends, so nothing can be read again as a whole", file.source.declaration.name);
        return Err(
            Error::new(Kind::Usage, code::USAGE, message).hint("to read a topic again, run it under another pipeline's name")
        );
    }
    if !file.is_endless() && args.until_idle {
        console.note("the pipeline's source has an end; `--until-idle` changes nothing");
    }
    if args.full_refresh {
        file.pipeline.disposition = WriteDisposition::Truncate;
    }
    if file.schedule.is_some() {
        console.note("the pipeline has a schedule; `run` runs it now, once");
    }
    let stop = interrupt::stop_on_signals(console)
        .map_err(|e| Error::new(Kind::Bug, code::BUG, "signals cannot be listened to").caused_by(e))?;
    let reporter = Arc::new(Reporter::new(console));
    let result = execute(&file, store, None, reporter.clone(), stop, args.until_idle).await;
    let dataset = dataset(&file);
    let landed = Landed { place: file.pipeline.destination.clone(), dataset, store: summary::unusual(store) };
    summary::finish(console, &reporter, &landed, result)
}

/// One run of a pipeline of either kind. Its books are those of `store`, which is opened unless its caller has it open.
pub async fn execute(
    file: &PipelineFile,
    store: &Path,
    books: Option<Arc<dyn Store>>,
    observer: Arc<dyn Observer>,
    stop: Stop,
    until_idle: bool,
) -> Result<Outcome> {
    let surroundings = surroundings(store, file.pipeline.disposition);
    let source = file.open_source(&surroundings)?;
    let destination = file.open_destination(&surroundings)?;
    let books = match books {
        Some(books) => books,
        None => open_store(store).await?,
    };
    match source {
        Opened::Finite(source) => longshore_engine::run(books, source, destination, &file.pipeline, observer, stop).await,
        Opened::Endless(source) => {
            longshore_engine::run_stream(books, source, destination, &file.pipeline, observer, stop, until_idle).await
        }
    }
}

/// Reads the pipeline file with its variables.
pub fn read(args: &PipelineArgs) -> Result<PipelineFile> {
    let mut parameters = unique("--param", &args.params)?;
    for (name, value) in of_time(args.run_time) {
        if parameters.insert(name.clone(), value).is_some() {
            return Err(Error::new(Kind::Usage, code::USAGE, format!("`{name}` is set by --run-time, not by --param")));
        }
    }
    let mut file = PipelineFile::read(&args.file, parameters)?;
    file.pipeline.run_time = args.run_time;
    Ok(file)
}

/// The variables that a run's logical time gives; now if it has none.
pub fn of_time(run_time: Option<chrono::DateTime<chrono::Utc>>) -> BTreeMap<String, String> {
    let time = run_time.unwrap_or_else(chrono::Utc::now);
    let stamp = time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    BTreeMap::from([("run_time".to_owned(), stamp), ("run_date".to_owned(), time.format("%Y-%m-%d").to_string())])
}

/// The dataset where the pipeline lands, if commands can look into it.
pub fn dataset(file: &PipelineFile) -> Option<Dataset> {
    let settings = &file.destination.settings;
    match file.destination.declaration.name {
        "delta" => {
            let name = settings["dataset"].as_str().unwrap_or("main").to_owned();
            Some(Dataset::Folder { folder: settings["path"].as_str()?.into(), name })
        }
        "bigquery" => serde_json::from_value(settings.clone()).ok().map(|config| Dataset::BigQuery(Box::new(config))),
        _ => None,
    }
}
