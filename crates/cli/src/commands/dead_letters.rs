//! `longshore dead-letters`: the records that did not fit.

mod replay;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use longshore_core::commit::DeadLetterState;
use longshore_core::error::{Error, Kind, Result, code};
use longshore_core::store::{DeadLetterFilter, IndexedDeadLetter, Store};
use serde_json::{Map, Value, json};

use super::existing_store;
use crate::args::{DeadLetterArgs, DeadLettersAction, WarehouseArgs};
use crate::console::Console;
use crate::destination::Dataset;
use crate::warehouse::Wanted;
use crate::{exit, listing, units, warehouse};

/// Lists, shows, replays or drops.
pub async fn run(console: &Console, store: &Path, action: Option<DeadLettersAction>) -> Result<u8> {
    let books = existing_store(store).await?;
    let open = DeadLetterArgs { state: "open".to_owned(), limit: 100, ..DeadLetterArgs::default() };
    match action.unwrap_or(DeadLettersAction::List(open)) {
        DeadLettersAction::List(args) => list(console, books, &args).await?,
        DeadLettersAction::Show { ids, warehouse } => show(console, books, &ids, &warehouse).await?,
        DeadLettersAction::Replay(args) => return replay::run(console, store, &args).await,
        DeadLettersAction::Drop { ids } => drop_letters(console, books, &ids).await?,
    }
    Ok(exit::DONE)
}

async fn list(console: &Console, books: Option<Arc<dyn Store>>, args: &DeadLetterArgs) -> Result<()> {
    let filter = DeadLetterFilter {
        ids: Vec::new(),
        pipeline: args.pipeline.clone(),
        run: args.run.clone(),
        code: args.code.clone(),
        state: state(&args.state),
        // One more than is shown tells whether there are more.
        limit: if args.limit == 0 { 0 } else { args.limit.saturating_add(1) },
    };
    let mut letters = match books {
        Some(books) => books.dead_letters(&filter).await?,
        None => Vec::new(),
    };
    let more = args.limit > 0 && letters.len() > args.limit;
    if more {
        letters.truncate(args.limit);
    }
    if console.json {
        return letters.iter().try_for_each(|letter| console.object(letter));
    }
    if letters.is_empty() {
        let which = if args.state == "any" { "" } else { &args.state };
        console.note(format!("no {which} dead letters").replace("  ", " "));
        return Ok(());
    }
    let rows: Vec<Vec<String>> = letters.iter().map(line).collect();
    console.data(listing::aligned(&["ID", "CODE", "TABLE", "STATE", "PLACE"], &rows))?;
    if more {
        console.note(format!("the first {}; `--limit 0` shows all", units::show_count(args.limit as u64)));
    }
    console.note("\nnext: longshore dead-letters show ID\n      longshore explain CODE");
    Ok(())
}

fn line(letter: &IndexedDeadLetter) -> Vec<String> {
    let key = &letter.key;
    let table = key.table.clone().unwrap_or_else(|| "-".to_owned());
    vec![key.id.clone(), key.code.clone(), table, name(letter.state).to_owned(), key.place.to_string()]
}

async fn show(console: &Console, books: Option<Arc<dyn Store>>, ids: &[String], args: &WarehouseArgs) -> Result<()> {
    let letters = indexed(books.as_ref(), ids).await?;
    let mut by_place: BTreeMap<String, (Vec<Dataset>, Vec<&str>)> = BTreeMap::new();
    for letter in &letters {
        let (name, datasets) = places(letter, args)?;
        by_place.entry(name).or_insert((datasets, Vec::new())).1.push(&letter.key.id);
    }
    let mut rows: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for (datasets, ids) in by_place.into_values() {
        for dataset in datasets {
            for row in warehouse::dead_letters(&dataset, Wanted::Everything, &ids).await? {
                rows.insert(row["id"].as_str().unwrap_or_default().to_owned(), row);
            }
        }
    }
    for (i, letter) in letters.iter().enumerate() {
        let Some(row) = rows.get(&letter.key.id) else {
            let message = format!("the row of dead letter {} is not in the warehouse", letter.key.id);
            return Err(Error::new(Kind::Destination, code::TABLE_BEHIND_STORE, message)
                .with("pipeline", &letter.pipeline)
                .hint("name the warehouse that the pipeline writes to with `--warehouse DIR`, or its dataset with `--on DEST`"));
        };
        if console.json {
            let mut object = row.clone();
            object.insert("state".to_owned(), json!(letter.state));
            console.object(&object)?;
        } else {
            console.data(text(letter, row, i > 0))?;
        }
    }
    Ok(())
}

/// The datasets that may have the letter, and a name for them together: the name of a `load` tells its own, else the arguments do.
fn places(letter: &IndexedDeadLetter, args: &WarehouseArgs) -> Result<(String, Vec<Dataset>)> {
    if let Some(place) = letter.pipeline.strip_prefix("load:") {
        return Ok((place.to_owned(), vec![Dataset::parse(place)?]));
    }
    match &args.on {
        Some(place) => Ok((place.clone(), vec![Dataset::parse(place)?])),
        None => Ok((args.folder.display().to_string(), warehouse::with_dead_letters(&args.folder)?)),
    }
}

fn text(letter: &IndexedDeadLetter, row: &Map<String, Value>, apart: bool) -> String {
    let mut lines: Vec<Vec<String>> = vec![
        vec!["id".to_owned(), letter.key.id.clone()],
        vec!["state".to_owned(), name(letter.state).to_owned()],
        vec!["place".to_owned(), letter.key.place.to_string()],
    ];
    for key in ["unit", "table", "code", "reason", "field", "pipeline", "run", "at", "payload_file", "payload_digest"] {
        if let Some(value) = row.get(key).filter(|value| !value.is_null()) {
            lines.push(vec![key.to_owned(), value.as_str().map_or_else(|| value.to_string(), str::to_owned)]);
        }
    }
    let mut text = listing::aligned(&["", ""], &lines);
    if let Some(payload) = row.get("payload").and_then(Value::as_str) {
        text += &format!("\npayload\n{}", indented(payload));
    } else if let Some(bytes) = row.get("payload_bytes").and_then(Value::as_str) {
        text += &format!("\npayload (base64)\n{}", indented(bytes));
    }
    if apart { format!("\n{text}") } else { text }
}

/// Line by line; what could command a terminal is escaped.
fn indented(payload: &str) -> String {
    let line = |line: &str| {
        let shown: String = line
            .chars()
            .map(|c| if c.is_control() && c != '\t' { c.escape_default().to_string() } else { c.to_string() })
            .collect();
        format!("  {shown}")
    };
    payload.trim_end_matches(['\r', '\n']).lines().map(line).collect::<Vec<_>>().join("\n")
}

async fn drop_letters(console: &Console, books: Option<Arc<dyn Store>>, ids: &[String]) -> Result<()> {
    let letters = indexed(books.as_ref(), ids).await?;
    let dropped = match &books {
        Some(books) => books.drop_dead_letters(ids).await?,
        None => 0,
    };
    if console.json {
        return console.object(&json!({"dropped": dropped}));
    }
    console.data(format!(
        "{} dropped; their rows stay in _dead_letters",
        units::count(dropped, "dead letter is", "dead letters are")
    ))?;
    let closed = letters.iter().filter(|letter| letter.state != DeadLetterState::Open).count() as u64;
    if closed > 0 {
        console.note(format!("{} not open before", units::count(closed, "was", "were")));
    }
    Ok(())
}

/// The lines of these ids in the index, in the order given. Errors: `Usage` for one that is not there.
async fn indexed(books: Option<&Arc<dyn Store>>, ids: &[String]) -> Result<Vec<IndexedDeadLetter>> {
    let filter = DeadLetterFilter { ids: ids.to_vec(), ..DeadLetterFilter::default() };
    let mut found = BTreeMap::new();
    // No ids in a filter means any.
    if let (Some(books), false) = (books, ids.is_empty()) {
        for letter in books.dead_letters(&filter).await? {
            found.insert(letter.key.id.clone(), letter);
        }
    }
    ids.iter()
        .map(|id| {
            found.get(id).cloned().ok_or_else(|| {
                Error::new(Kind::Usage, code::USAGE, format!("there is no dead letter `{id}`"))
                    .hint("`longshore dead-letters list` shows the open ones")
            })
        })
        .collect()
}

fn state(word: &str) -> Option<DeadLetterState> {
    match word {
        "open" => Some(DeadLetterState::Open),
        "replayed" => Some(DeadLetterState::Replayed),
        "dropped" => Some(DeadLetterState::Dropped),
        _ => None,
    }
}

fn name(state: DeadLetterState) -> &'static str {
    match state {
        DeadLetterState::Open => "open",
        DeadLetterState::Replayed => "replayed",
        DeadLetterState::Dropped => "dropped",
    }
}
