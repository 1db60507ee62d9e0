//! One file per command.

mod check;
mod completions;
mod dead_letters;
mod describe;
mod discover;
mod explain;
mod init;
mod load;
mod query;
mod reference;
mod repair;
mod run;
mod runs;
mod serve;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use longshore_connectors::{Declaration, Make, Surroundings, find};
use longshore_core::commit::WriteDisposition;
use longshore_core::destination::Destination;
use longshore_core::error::{Error, Kind, Result, code};
use longshore_core::source::Source;
use longshore_core::store::Store;
use longshore_engine::Pipeline;
use longshore_files::config::FilesConfig;
use longshore_store::{MemoryStore, PostgresStore, SqliteStore};

use crate::args::{Cli, Command, Limits};
use crate::console::Console;
use crate::destination::Dataset;

/// Where the state is if nobody says otherwise.
const FOLDER: &str = ".longshore";

/// Runs a command; returns the exit code of what went well enough to be no error.
pub async fn run(cli: Cli, console: &Console) -> Result<u8> {
    let store = cli.global.store.as_path();
    match cli.command {
        Command::Load(args) => load::run(console, store, &args).await,
        Command::Run(args) => run::run(console, store, &args).await,
        Command::Serve(args) => serve::run(console, store, &args).await,
        Command::Check(args) => check::run(console, store, &args).await,
        Command::Discover(args) => discover::run(console, store, &args).await,
        Command::Query(args) => query::run(console, &args).await,
        Command::Runs { action } => runs::run(console, store, action).await,
        Command::DeadLetters { action } => dead_letters::run(console, store, action).await,
        Command::Repair(args) => repair::run(console, store, &args).await,
        Command::Init(args) => init::run(console, &args),
        Command::Describe(args) => describe::run(console, &args).await,
        Command::Explain(args) => explain::run(console, &args),
        Command::Completions(args) => completions::run(&args),
        Command::Reference(args) => reference::run(console, &args),
    }
}

/// The store, which is made if it is not there.
async fn open_store(store: &Path) -> Result<Arc<dyn Store>> {
    Ok(match url(store) {
        Some(url) => Arc::new(PostgresStore::open(url).await?),
        None => Arc::new(SqliteStore::open(store).await?),
    })
}

/// The address of a store that is no folder.
fn url(store: &Path) -> Option<&str> {
    store.to_str().filter(|text| PostgresStore::is_url(text))
}

/// The folder for what is kept beside the books: that of the books themselves, if they are in one.
fn state(store: &Path) -> PathBuf {
    match url(store) {
        None => store.to_owned(),
        Some(_) => std::env::var_os("LONGSHORE_STATE").map_or_else(|| PathBuf::from(FOLDER), PathBuf::from),
    }
}

/// The store if it is there: a look at the history makes none.
async fn existing_store(store: &Path) -> Result<Option<Arc<dyn Store>>> {
    Ok(match url(store) {
        Some(url) => PostgresStore::open_existing_read(url).await?.map(|store| Arc::new(store) as Arc<dyn Store>),
        None => SqliteStore::open_existing_read(store).await?.map(|store| Arc::new(store) as Arc<dyn Store>),
    })
}

/// The store if it is there, else an empty one that is gone afterwards: a plan makes none either.
async fn store_to_look_at(folder: &Path) -> Result<Arc<dyn Store>> {
    Ok(match existing_store(folder).await? {
        Some(store) => store,
        None => Arc::new(MemoryStore::new()),
    })
}

/// What a source may use, and has to know, of the run that it is made for.
fn surroundings(store: &Path, disposition: WriteDisposition) -> Surroundings {
    let state = state(store);
    Surroundings { spool: state.join("spool"), state, again: disposition == WriteDisposition::Truncate }
}

/// The source that reads these files.
fn open_files(config: &FilesConfig, surroundings: &Surroundings) -> Result<Arc<dyn Source>> {
    match connector("files")?.make {
        Make::Source { open, .. } => open(settings(config)?, surroundings),
        Make::Destination { .. } | Make::Stream { .. } => Err(Error::new(Kind::Bug, code::BUG, "`files` is not a source")),
    }
}

/// The destination that writes to a dataset on the command line.
fn open_dataset(dataset: &Dataset, store: &Path) -> Result<Arc<dyn Destination>> {
    let (name, settings) = dataset.connector()?;
    match connector(name)?.make {
        Make::Destination { open, .. } => open(settings, &surroundings(store, WriteDisposition::Append)),
        Make::Source { .. } | Make::Stream { .. } => {
            Err(Error::new(Kind::Bug, code::BUG, format!("`{name}` is not a destination")))
        }
    }
}

fn connector(name: &str) -> Result<&'static Declaration> {
    find(name).ok_or_else(|| Error::new(Kind::Bug, code::BUG, format!("`{name}` is not in the list of connectors")))
}

fn settings(config: &impl serde::Serialize) -> Result<serde_json::Value> {
    serde_json::to_value(config).map_err(|e| Error::new(Kind::Bug, code::BUG, "settings could not be handed over").caused_by(e))
}

/// What the command line says of how a run is to run.
fn limit(pipeline: &mut Pipeline, limits: &Limits) {
    pipeline.memory = limits.memory;
    if let Some(lanes) = limits.lanes {
        pipeline.lanes = usize::from(lanes);
    }
    pipeline.wait = limits.wait;
    pipeline.join = limits.join;
}
