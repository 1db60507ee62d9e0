//! Runs every pipeline of a folder: endless ones all the time, scheduled ones at their times; starts again what fails, follows the folder as
//! it changes, and answers over HTTP how all of it is.
//!
//! It knows the engine and the store, but no pipeline files, connectors or consoles: [`Jobs`] says what there is to run, a [`Listener`]
//! prints. Any number of servers may share a store: endless pipelines share their sources by their brokers, and each scheduled time is run
//! by one of them.

mod attempt;
mod board;
mod endless;
pub mod error;
mod event;
mod http;
mod jobs;
mod metrics;
mod pauses;
mod schedule;
mod scheduled;
mod shared;
mod stall;
mod state;
mod supervisor;
mod turn;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use longshore_core::Result;
use longshore_core::retry;
use longshore_core::stop::Stop;
use longshore_core::store::Store;

pub use self::error::ALL as CODES;
pub use self::event::{Failure, Listener, ServerEvent};
pub use self::jobs::{Found, Job, Jobs, Kind, Runner};
pub use self::schedule::Schedule;

use self::board::Board;
use self::http::Api;
use self::shared::Shared;
use self::supervisor::Supervisor;

/// How long answers that are under way may take at the end.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Serves until it is asked to stop; then every pipeline is stopped gracefully, side by side, and it returns when they have.
///
/// `listen` is the address that it answers at. Errors: `listen_failed`, before anything has run. What fails later is told to the listener
/// and tried again.
pub async fn serve(
    listen: &str,
    jobs: Arc<dyn Jobs>,
    store: Arc<dyn Store>,
    listener: Arc<dyn Listener>,
    stop: Stop,
) -> Result<()> {
    let socket = http::bind(listen).await?;
    let address = socket.local_addr().map_or_else(|_| listen.to_owned(), |address| address.to_string());
    let board = Arc::new(Board::default());
    let clock = Arc::new(Utc::now);
    let shared = Arc::new(Shared { board: board.clone(), store: store.clone(), listener, clock, chance: retry::chance });
    let silence = Stop::default();
    let mut answers = tokio::spawn(http::answer(socket, Api::new(board, store, stop.clone()), silence.clone()));
    shared.tell(&ServerEvent::Listening { address });
    Supervisor::new(shared, jobs).run(&stop).await;
    silence.request();
    if tokio::time::timeout(LAST_ANSWERS, &mut answers).await.is_err() {
        answers.abort();
    }
    Ok(())
}

#[cfg(test)]
mod tests;
