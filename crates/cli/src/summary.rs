//! The end of a run: what landed, what did not, what to type next.

use std::path::PathBuf;

use longshore_core::commit::DEAD_LETTERS;
use longshore_core::error::{Error, Kind, Result};
use longshore_engine::Outcome;
use serde_json::json;

use crate::console::Console;
use crate::destination::{Dataset, FOLDER, absolute};
use crate::exit;
use crate::reporter::{Reporter, Seen};
use crate::units;

/// Where a run landed.
pub struct Landed {
    /// For people.
    pub place: String,
    /// The dataset, if `longshore query` can read it.
    pub dataset: Option<Dataset>,
    /// The store's folder, if it is not the default one.
    pub store: Option<PathBuf>,
}

/// Tells how a run ended; returns the exit code. An error is passed on after what is durable has been said.
pub fn finish(console: &Console, reporter: &Reporter, landed: &Landed, result: Result<Outcome>) -> Result<u8> {
    reporter.done();
    let seen = reporter.seen();
    let code = match &result {
        Ok(outcome) if outcome.over_max => exit::DEAD_LETTERS,
        Ok(_) => exit::DONE,
        Err(error) => exit::of(error),
    };
    if console.json {
        summary_object(console, &seen, landed, &result, code)?;
    } else {
        match &result {
            Ok(outcome) => say_done(console, &seen, landed, outcome),
            Err(error) => say_failed(console, &seen, error),
        }
    }
    match result {
        // Being told to stop is how a run over an endless source ends: no error, but the exit code says it.
        Err(error) if seen.endless && error.kind() == Kind::Interrupted => Ok(code),
        result => result.map(|_| code),
    }
}

fn summary_object(console: &Console, seen: &Seen, landed: &Landed, result: &Result<Outcome>, code: u8) -> Result<()> {
    let (run, status, summary) = match result {
        Ok(outcome) => (Some(&outcome.run), "SUCCEEDED", &outcome.summary),
        Err(error) if error.kind() == Kind::Interrupted => (None, "CANCELLED", &seen.summary),
        Err(_) => (None, "FAILED", &seen.summary),
    };
    let mut object = json!({"event": "summary", "run": run, "status": status, "destination": landed.place, "exit_code": code});
    if let (Some(object), serde_json::Value::Object(counts)) = (object.as_object_mut(), json!(summary)) {
        object.extend(counts);
    }
    console.object(&object)
}

fn say_done(console: &Console, seen: &Seen, landed: &Landed, outcome: &Outcome) {
    let summary = &outcome.summary;
    let seconds = format!("{:.1} s", summary.seconds);
    if summary.commits == 0 {
        match seen.found {
            Some((0, skipped)) if skipped > 0 => {
                let files = units::count(skipped, "input has", "inputs have");
                console.note(format!("nothing new: {files} landed in {} before", landed.place));
            }
            _ => console.note(format!("nothing to load into {}", landed.place)),
        }
        return;
    }
    console.note(format!("landed in {} in {seconds}:", landed.place));
    let widest = summary.tables.keys().map(|name| name.chars().count()).max().unwrap_or(0);
    for (table, rows) in &summary.tables {
        console.note(format!("  {table:widest$}  {}", units::count(*rows, "row", "rows")));
    }
    let mut read = format!("  from {}, {}", inputs(seen, summary.landed), units::show_bytes(summary.bytes));
    if summary.skipped > 0 {
        read += &format!("; {} landed before", units::count(summary.skipped, "other", "others"));
    }
    console.note(read);
    if summary.rejects > 0 {
        say_rejects(console, seen, landed, summary.rejects);
    }
    let next =
        next_lines(landed, summary.tables.iter().find(|(_, rows)| **rows > 0).map(|(name, _)| name.as_str()), summary.rejects);
    for (i, line) in next.iter().enumerate() {
        console.note(format!("{}{line}", if i == 0 { "\nnext: " } else { "      " }));
    }
}

fn inputs(seen: &Seen, number: u64) -> String {
    if seen.endless { units::count(number, "message", "messages") } else { units::count(number, "file", "files") }
}

fn say_rejects(console: &Console, seen: &Seen, landed: &Landed, rejects: u64) {
    let records = if rejects == 1 { "1 record does".to_owned() } else { format!("{} records do", units::show_count(rejects)) };
    let mut text = format!("{records} not fit and went to the table {DEAD_LETTERS} of {}:", landed.place);
    for (place, code, reason) in &seen.rejected {
        text += &format!("\n  {place}: {code}: {reason}");
    }
    let more = rejects.saturating_sub(seen.rejected.len() as u64);
    if more > 0 {
        text += &format!("\n  and {} more", units::show_count(more));
    }
    console.warning(text);
}

fn next_lines(landed: &Landed, table: Option<&str>, rejects: u64) -> Vec<String> {
    let store = landed.store.as_ref().map_or_else(String::new, |store| format!(" --store {}", store.display()));
    let mut lines = Vec::new();
    match (&landed.dataset, table) {
        (Some(Dataset::Folder { folder, name }), Some(table)) => {
            let elsewhere = folder != std::path::Path::new(FOLDER);
            let warehouse = if elsewhere { format!(" --warehouse {}", folder.display()) } else { String::new() };
            lines.push(format!("longshore query{warehouse} \"select * from {name}.{table} limit 10\""));
        }
        (Some(dataset @ Dataset::BigQuery(_)), Some(table)) => {
            lines.push(format!("longshore query --on {} \"select * from {table} limit 10\"", dataset.shown()));
        }
        (_, None) | (None, _) => {}
    }
    if rejects > 0 {
        lines.push(format!("longshore dead-letters{store} list"));
    }
    lines
}

/// What is durable and what comes back, before the error itself is told.
fn say_failed(console: &Console, seen: &Seen, error: &Error) {
    for (place, code, reason) in &seen.rejected {
        console.note(format!("  {place}: {code}: {reason}"));
    }
    let summary = &seen.summary;
    if let Some(n) = seen.open.first() {
        console.note(format!("commit {n} is in the books: the next run publishes it before it reads anything"));
    }
    if summary.commits > 0 {
        let rows = units::count(summary.tables.values().sum(), "row", "rows");
        let files = inputs(seen, summary.landed);
        console.note(format!("{rows} from {files} landed before it stopped and stay; a next run reads the rest"));
    } else if seen.open.is_empty() && seen.found.is_some() && error.kind() != Kind::Usage {
        console.note("nothing of this run landed; a next run reads everything again");
    }
}

impl Landed {
    /// A dataset of the command line.
    pub fn dataset(dataset: Dataset, store: &std::path::Path) -> Self {
        Self { place: dataset.shown(), dataset: Some(dataset), store: unusual(store) }
    }
}

/// A store for people: of an address, all but its password.
pub fn shown(store: &std::path::Path) -> String {
    let text = store.display().to_string();
    let Some(mut url) = text.contains("://").then(|| url::Url::parse(&text).ok()).flatten() else { return text };
    // One that cannot have a password has none.
    let _ = url.set_password(None);
    let secret = |(name, _): &(std::borrow::Cow<'_, str>, std::borrow::Cow<'_, str>)| name != "password";
    let rest: Vec<(String, String)> = url.query_pairs().filter(secret).map(|(name, value)| (name.into(), value.into())).collect();
    url.set_query(None);
    if !rest.is_empty() {
        url.query_pairs_mut().extend_pairs(rest);
    }
    url.to_string()
}

/// The store's folder if a next command would have to name it.
pub fn unusual(store: &std::path::Path) -> Option<PathBuf> {
    let set = std::env::var_os("LONGSHORE_HOME").map(PathBuf::from).unwrap_or_else(|| PathBuf::from(".longshore"));
    let same = matches!((absolute(store), absolute(&set)), (Ok(a), Ok(b)) if a == b);
    (!same).then(|| shown(store).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destination::DEFAULT;

    #[test]
    fn a_password_of_a_store_is_never_shown() {
        let store = std::path::Path::new("postgres://me:secret@host/db?schema=s&password=secret");
        assert_eq!(shown(store), "postgres://me@host/db?schema=s");
        assert_eq!(shown(std::path::Path::new("/books/here")), "/books/here");
    }

    #[test]
    fn what_to_type_next_names_what_is_not_the_default() {
        let lines = |dataset: &str, store: Option<&str>, rejects| {
            let dataset = Dataset::parse(dataset).expect("a dataset");
            let landed = Landed { place: dataset.shown(), dataset: Some(dataset), store: store.map(PathBuf::from) };
            next_lines(&landed, Some("orders"), rejects)
        };
        assert_eq!(lines(DEFAULT, None, 0), ["longshore query \"select * from main.orders limit 10\""]);
        assert_eq!(
            lines("/data/shop", Some("/books"), 2),
            [
                "longshore query --warehouse /data \"select * from shop.orders limit 10\"",
                "longshore dead-letters --store /books list"
            ]
        );
    }
}
