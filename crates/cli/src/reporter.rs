//! A run's events, as they come: a progress bar and notes for people, JSON lines for programs.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use longshore_core::commit::CommitNumber;
use longshore_core::error::Place;
use longshore_core::event::{Observer, Phase, RunEvent, Summary};

use crate::console::Console;
use crate::units;

/// How many rejected records the summary quotes.
const QUOTED: usize = 5;

/// Listens to one run.
pub struct Reporter {
    console: Console,
    bar: ProgressBar,
    seen: Mutex<Seen>,
}

/// What the end of the run needs to know of its events.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// What the run did, failed or not.
    pub summary: Summary,
    /// The first records that did not fit.
    pub rejected: Vec<(Place, String, String)>,
    /// Commits that were journalled and not completed.
    pub open: BTreeSet<CommitNumber>,
    /// Tables that could not be published for now, and why.
    pub parked: Vec<(String, String)>,
    /// Whether the source never ends, so that its messages are counted, not its files.
    pub endless: bool,
    /// Inputs to be read and inputs known already.
    pub found: Option<(u64, u64)>,
}

impl Reporter {
    /// Draws on stderr if a person looks at it.
    pub fn new(console: &Console) -> Self {
        let target = if console.draws() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self { console: console.clone(), bar: ProgressBar::with_draw_target(None, target), seen: Mutex::default() }
    }

    /// What was seen so far.
    pub fn seen(&self) -> Seen {
        self.lock().clone()
    }

    /// Takes the bar away.
    pub fn done(&self) {
        self.bar.finish_and_clear();
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, event: &RunEvent) {
        let mut seen = self.lock();
        match event {
            RunEvent::Found { splits, skipped, .. } => seen.found = Some((*splits, *skipped)),
            RunEvent::Rejected { place, code, reason } if seen.rejected.len() < QUOTED => {
                seen.rejected.push((place.clone(), code.clone(), reason.clone()));
            }
            RunEvent::Journalled { n } => {
                seen.open.insert(*n);
            }
            RunEvent::Completed { n } | RunEvent::Recovered { n } => {
                seen.open.remove(n);
            }
            RunEvent::Flow(_) => seen.endless = true,
            RunEvent::Parked { table, reason, .. } => seen.parked.push((table.clone(), reason.clone())),
            RunEvent::Finished { summary, .. } => seen.summary = summary.clone(),
            _ => {}
        }
    }

    fn say(&self, event: &RunEvent) {
        match event {
            RunEvent::Waiting { reason } => self.bar.suspend(|| self.console.note(format!("waiting: {reason}"))),
            RunEvent::Recovered { n } => {
                self.bar.suspend(|| self.console.note(format!("commit {n} of an earlier run is published")));
            }
            RunEvent::Found { splits, bytes, .. } if *splits > 0 => self.begin(*bytes),
            RunEvent::Note { text } => self.bar.suspend(|| self.console.note(text)),
            RunEvent::Warning { text } => self.bar.suspend(|| self.console.warning(text)),
            RunEvent::Schema { table, changes } => {
                self.bar.suspend(|| self.console.note(changed(table, changes)));
            }
            RunEvent::Parked { table, reason, .. } => {
                self.bar.suspend(|| self.console.warning(format!("table {table} cannot be published for now: {reason}")));
            }
            RunEvent::Unparked { table } => {
                self.bar.suspend(|| self.console.note(format!("table {table} shows all that waited for it")));
            }
            RunEvent::Flow(flow) => self.flow(crate::flow::line(flow)),
            RunEvent::Progress { bytes, rows, rejects, phase } => self.advance(*bytes, *rows, *rejects, *phase),
            RunEvent::Finished { .. } => self.done(),
            _ => {}
        }
    }

    fn begin(&self, bytes: u64) {
        self.bar.set_length(bytes);
        // The template is a constant; the default style is as good a bar.
        if let Ok(style) = ProgressStyle::with_template("{spinner} {bar:24} {bytes}/{total_bytes} at {bytes_per_sec}  {msg}") {
            self.bar.set_style(style);
        }
    }

    /// What never ends has no length, so that a line says how far it is.
    fn flow(&self, line: String) {
        if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
            self.bar.set_style(style);
        }
        self.bar.set_message(line);
        self.bar.tick();
    }

    fn advance(&self, bytes: u64, rows: u64, rejects: u64, phase: Phase) {
        // What is uncompressed while it is read can be more than was found on disk.
        if self.bar.length().is_some_and(|length| bytes > length) {
            self.bar.unset_length();
        }
        self.bar.set_position(bytes);
        self.bar.set_message(match (phase, rejects) {
            (Phase::Look, _) => "looking for tables and types".to_owned(),
            (Phase::Load, 0) => units::count(rows, "row", "rows"),
            (Phase::Load, _) => {
                format!("{}, {}", units::count(rows, "row", "rows"), units::count(rejects, "dead letter", "dead letters"))
            }
        });
    }
}

impl Observer for Reporter {
    fn event(&self, event: &RunEvent) {
        self.remember(event);
        if self.console.json {
            print_event(event);
        } else {
            self.say(event);
        }
    }
}

/// What was done, or would be done, to a table: `create table orders (7 columns)`, `table orders: add column Fax STRING`.
pub fn changed(table: &str, changes: &[String]) -> String {
    match changes {
        [] => format!("table {table}: no change"),
        [first, ..] if first.contains(&format!("table {table}")) => changes.join(", "),
        _ => format!("table {table}: {}", changes.join(", ")),
    }
}

/// A closed stdout does not stop a run: its rows are what matters.
fn print_event(event: &RunEvent) {
    use std::io::Write as _;
    if let Ok(line) = serde_json::to_string(event) {
        let _ = writeln!(std::io::stdout().lock(), "{line}");
    }
}
