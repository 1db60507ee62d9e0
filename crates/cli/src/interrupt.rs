//! SIGINT and SIGTERM: the first asks the run to stop, the second ends the program.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use longshore_core::stop::Stop;
use tokio::signal::unix::{SignalKind, signal};

use crate::console::Console;
use crate::exit;

/// How long a run may take to end once it was asked to: it ends between two pieces of work, and what it waits for may never come.
const GRACE: Duration = Duration::from_secs(30);

/// The exit code that the first signal asks for; 0 while there was none.
static ASKED: AtomicU8 = AtomicU8::new(0);

/// A [`Stop`] that signals request. The second signal, or the end of the grace period, exits at once: that is a
/// crash, and crashes are safe.
pub fn stop_on_signals(console: &Console) -> std::io::Result<Stop> {
    let stop = Stop::default();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let (asked, console) = (stop.clone(), console.clone());
    tokio::spawn(async move {
        loop {
            let code = tokio::select! {
                _ = interrupt.recv() => exit::INTERRUPTED,
                _ = terminate.recv() => exit::TERMINATED,
            };
            if ASKED.swap(code, Ordering::Relaxed) != 0 {
                std::process::exit(i32::from(code));
            }
            console.note("stopping: what is whole is committed first (once more to stop at once)");
            asked.request();
            tokio::spawn(async move {
                tokio::time::sleep(GRACE).await;
                std::process::exit(i32::from(code));
            });
        }
    });
    Ok(stop)
}

/// The exit code of a run that was told to stop: by the signal that came, else by `longshore runs cancel`.
pub fn exit_code() -> u8 {
    match ASKED.load(Ordering::Relaxed) {
        0 => exit::TERMINATED,
        code => code,
    }
}
