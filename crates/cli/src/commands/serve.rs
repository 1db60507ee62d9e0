//! `longshore serve`: every pipeline file of a folder.

mod folder;
mod log;

use std::path::Path;
use std::sync::Arc;

use longshore_core::error::{Error, Kind, Result, code};

use self::folder::Folder;
use self::log::Log;
use super::open_store;
use crate::args::ServeArgs;
use crate::console::Console;
use crate::interrupt;

/// Serves until a signal comes; returns the exit code that it asks for.
pub async fn run(console: &Console, store: &Path, args: &ServeArgs) -> Result<u8> {
    folder::files(&args.folder)?;
    let books = open_store(store).await?;
    let jobs = Arc::new(Folder::new(&args.folder, store, books.clone(), &args.limits));
    let stop = interrupt::stop_on_signals(console)
        .map_err(|e| Error::new(Kind::Bug, code::BUG, "signals cannot be listened to").caused_by(e))?;
    longshore_server::serve(&args.listen, jobs, books, Arc::new(Log::new(console)), stop).await?;
    Ok(interrupt::exit_code())
}
