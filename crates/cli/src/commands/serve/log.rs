//! What a server tells: a line for each thing worth noting, or events as JSON lines, each with its pipeline.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use longshore_core::event::{RunEvent, Summary};
use longshore_server::{Failure, Listener, ServerEvent};
use serde_json::{Map, Value, json};

use crate::console::Console;
use crate::reporter::changed;
use crate::units;

/// How often the flow of an endless run is among the JSON lines.
const FLOW: Duration = Duration::from_secs(60);

/// Prints what a server tells.
pub(super) struct Log {
    console: Console,
    /// When each pipeline's flow was last written.
    flowed: Mutex<BTreeMap<String, Instant>>,
}

impl Log {
    pub(super) fn new(console: &Console) -> Self {
        Self { console: console.clone(), flowed: Mutex::default() }
    }

    fn note(&self, who: &str, text: impl Display) {
        self.console.note(format!("{} {who}: {text}", stamp(Utc::now())));
    }

    fn warn(&self, who: &str, text: impl Display) {
        self.console.warning(format!("{} {who}: {text}", stamp(Utc::now())));
    }

    /// Whether a run's event is among the JSON lines: what comes each second is not.
    fn is_written(&self, pipeline: &str, event: &RunEvent) -> bool {
        match event {
            RunEvent::Progress { .. } => false,
            RunEvent::Flow(_) => {
                let mut flowed = self.flowed.lock().unwrap_or_else(PoisonError::into_inner);
                let due = flowed.get(pipeline).is_none_or(|at| at.elapsed() >= FLOW);
                if due {
                    flowed.insert(pipeline.to_owned(), Instant::now());
                }
                due
            }
            _ => true,
        }
    }

    fn say(&self, event: &ServerEvent) {
        match event {
            ServerEvent::Listening { address } => self.note("serve", format!("listening on http://{address}")),
            ServerEvent::Serving { pipeline, file, schedule, .. } => match schedule {
                Some(schedule) => self.note(pipeline, format!("{file} runs at {schedule}")),
                None => self.note(pipeline, format!("{file} runs all the time")),
            },
            ServerEvent::ByHand { pipeline, file } => {
                let why = "has no schedule and its source has an end, so it is not run here";
                self.note(pipeline, format!("{file} {why}: `longshore run {file}` runs it"));
            }
            ServerEvent::Changed { pipeline, file } => self.note(pipeline, format!("{file} has changed: it is started anew")),
            ServerEvent::Removed { pipeline, file } => self.note(pipeline, format!("{file} is gone: it is stopped")),
            ServerEvent::Broken { goes_on, failure, .. } => {
                let goes_on = goes_on.as_ref().map_or_else(String::new, |name| format!("; {name} goes on as it was"));
                self.warn("serve", format!("{}{goes_on}{}", failure.error, hint(failure)));
            }
            ServerEvent::FolderUnreadable { failure } => {
                self.warn("serve", format!("{}; what runs goes on{}", failure.error, hint(failure)));
            }
            ServerEvent::Due { pipeline, at } => self.note(pipeline, format!("run for {}", stamp(*at))),
            ServerEvent::RunElsewhere { pipeline, at, run } => {
                self.note(pipeline, format!("{} has been run already (run {run})", stamp(*at)));
            }
            ServerEvent::Landed { pipeline, run, summary, over_max } => {
                let text = landed(run, summary);
                if *over_max { self.warn(pipeline, text + ": more dead letters than may be") } else { self.note(pipeline, text) }
            }
            ServerEvent::Failed { pipeline, failure, again } => {
                let again = again.map_or_else(String::new, |again| format!("; again at {}", stamp(again)));
                self.warn(pipeline, format!("{}{again}{}", failure.error, hint(failure)));
            }
            ServerEvent::Stalled { pipeline, seconds, reason } => {
                self.warn(pipeline, format!("nothing has been done for {seconds} s: {reason}"));
            }
            ServerEvent::Flows { pipeline } => self.note(pipeline, "it goes on"),
            ServerEvent::Stopped { pipeline } => self.note(pipeline, "stopped"),
        }
    }

    fn say_run(&self, pipeline: &str, event: &RunEvent) {
        match event {
            RunEvent::Waiting { reason } => self.note(pipeline, format!("waiting: {reason}")),
            RunEvent::Recovered { n } => self.note(pipeline, format!("commit {n} of an earlier run is published")),
            RunEvent::Note { text } => self.note(pipeline, text),
            RunEvent::Warning { text } => self.warn(pipeline, text),
            RunEvent::Schema { table, changes } => self.note(pipeline, changed(table, changes)),
            RunEvent::Rejected { place, code, reason } => self.note(pipeline, format!("dead letter {place}: {code}: {reason}")),
            RunEvent::Parked { table, reason, .. } => {
                self.warn(pipeline, format!("table {table} cannot be published for now: {reason}"));
            }
            RunEvent::Unparked { table } => self.note(pipeline, format!("table {table} shows all that waited for it")),
            // Counted, shown by `/metrics` and `/api`, or told by the server itself.
            RunEvent::Started { .. }
            | RunEvent::Found { .. }
            | RunEvent::Progress { .. }
            | RunEvent::Journalled { .. }
            | RunEvent::Published { .. }
            | RunEvent::Flow(_)
            | RunEvent::Completed { .. }
            | RunEvent::Finished { .. } => {}
        }
    }
}

impl Listener for Log {
    fn server(&self, event: &ServerEvent) {
        if self.console.json { write(&json!(event)) } else { self.say(event) }
    }

    fn run(&self, pipeline: &str, event: &RunEvent) {
        if !self.console.json {
            return self.say_run(pipeline, event);
        }
        if self.is_written(pipeline, event) {
            let mut object = Map::from_iter([("pipeline".to_owned(), json!(pipeline))]);
            if let Value::Object(facts) = json!(event) {
                object.extend(facts);
            }
            write(&Value::Object(object));
        }
    }
}

/// A closed stdout stops no pipeline: its rows are what matters.
fn write(value: &Value) {
    let _ = writeln!(std::io::stdout().lock(), "{value}");
}

fn hint(failure: &Failure) -> String {
    failure.hint.as_ref().map_or_else(String::new, |hint| format!(" (hint: {hint})"))
}

fn landed(run: &str, summary: &Summary) -> String {
    if summary.commits == 0 {
        return format!("nothing new (run {run})");
    }
    let rows = units::count(summary.tables.values().sum(), "row", "rows");
    let letters = match summary.rejects {
        0 => String::new(),
        rejects => format!(" and {}", units::count(rejects, "dead letter", "dead letters")),
    };
    format!("{rows}{letters} landed in {:.1} s (run {run})", summary.seconds)
}

fn stamp(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}
