//! `longshore dead-letters replay`: some of them decoded again and landed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use longshore_core::batch::Payload;
use longshore_core::commit::DeadLetterState;
use longshore_core::error::{Error, Kind, Place, Result, code};
use longshore_core::store::{DeadLetterFilter, Store};
use longshore_engine::{Outcome, Pipeline, ReplayStream};
use longshore_files::values::base64;
use longshore_files::{Letter, Letters, ReplaySource};
use serde_json::{Map, Value, json};

use super::indexed;
use crate::args::{PipelineArgs, ReplayArgs};
use crate::commands::run::{dataset, read};
use crate::commands::{limit, open_dataset, open_store, state, surroundings};
use crate::console::Console;
use crate::destination::Dataset;
use crate::pipeline::{Opened, PipelineFile};
use crate::reporter::Reporter;
use crate::summary::{self, Landed};
use crate::warehouse::Wanted;
use crate::{exit, interrupt, units, warehouse};

/// Replays, pipeline by pipeline: each has its own lease and commits.
pub async fn run(console: &Console, store: &Path, args: &ReplayArgs) -> Result<u8> {
    let corrections = args.from.as_deref().map(corrections).transpose()?.unwrap_or_default();
    let file = match &args.pipeline_file {
        Some(path) => Some(read(&PipelineArgs { file: path.clone(), params: Vec::new(), run_time: None })?),
        None => None,
    };
    let books = open_store(store).await?;
    let chosen = choose(&books, args, &corrections).await?;
    if chosen.is_empty() {
        if console.json {
            console.object(&json!({"replayed": 0, "open": []}))?;
        } else {
            console.note("no open dead letters to replay");
        }
        return Ok(exit::DONE);
    }
    let corrections = Arc::new(corrections);
    let stop = interrupt::stop_on_signals(console)
        .map_err(|e| Error::new(Kind::Bug, code::BUG, "signals cannot be listened to").caused_by(e))?;
    let mut worst = exit::DONE;
    for (name, ids) in chosen {
        let (pipeline, place) = pipeline(&name, file.as_ref(), args)?;
        let destination = match &file {
            Some(file) => file.open_destination(&surroundings(store, pipeline.disposition))?,
            None => open_dataset(&place, store)?,
        };
        let (corrections, table) = (corrections.clone(), args.table.clone());
        let letters: Arc<dyn Letters> = Arc::new(Kept { books: books.clone(), ids, dataset: place.clone(), corrections, table });
        let reporter = Arc::new(Reporter::new(console));
        let (books, observer, stop) = (books.clone(), reporter.clone(), stop.clone());
        let endless = file.as_ref().map(|file| file.open_source(&surroundings(store, pipeline.disposition))).transpose()?;
        let (result, kept) = match endless {
            Some(Opened::Endless(source)) => {
                let source = Arc::new(ReplayStream::new(letters, source));
                let result =
                    longshore_engine::run_stream(books, source.clone(), destination, &pipeline, observer, stop, true).await;
                (result, source.kept())
            }
            _ => {
                let source = Arc::new(ReplaySource::new(letters, state(store).join("spool")));
                let result = longshore_engine::run(books, source.clone(), destination, &pipeline, observer, stop).await;
                (result, source.kept())
            }
        };
        let outcome = match result {
            Ok(outcome) => outcome,
            Err(error) => return summary::finish(console, &reporter, &Landed::dataset(place, store), Err(error)),
        };
        reporter.done();
        tell(console, &outcome, &place, &kept, args)?;
        if !kept.is_empty() {
            worst = exit::DEAD_LETTERS;
        }
    }
    Ok(worst)
}

/// The ids to replay, by pipeline: those named, else those corrected, narrowed to the open ones that the filters leave.
async fn choose(books: &Arc<dyn Store>, args: &ReplayArgs, corrections: &Corrections) -> Result<BTreeMap<String, Vec<String>>> {
    let filters = args.pipeline.is_some() || args.run.is_some() || args.code.is_some() || args.all;
    let named: Vec<String> =
        if args.ids.is_empty() && !filters { corrections.keys().cloned().collect() } else { args.ids.clone() };
    if named.is_empty() && !filters {
        return Ok(BTreeMap::new());
    }
    for letter in indexed(Some(books), &named).await? {
        if letter.state != DeadLetterState::Open {
            let what = format!("dead letter {} is not open: it was {}", letter.key.id, super::name(letter.state));
            return Err(Error::new(Kind::Usage, code::USAGE, what).hint("`longshore dead-letters list` shows the open ones"));
        }
    }
    let filter = DeadLetterFilter {
        ids: named,
        pipeline: args.pipeline.clone(),
        run: args.run.clone(),
        code: args.code.clone(),
        state: Some(DeadLetterState::Open),
        limit: 0,
    };
    let mut chosen: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for letter in books.dead_letters(&filter).await? {
        chosen.entry(letter.pipeline).or_default().push(letter.key.id);
    }
    Ok(chosen)
}

/// The pipeline that letters are of, and where it lands. The name of a `load` says it; others need their file.
fn pipeline(name: &str, file: Option<&PipelineFile>, args: &ReplayArgs) -> Result<(Pipeline, Dataset)> {
    let (mut pipeline, place) = match file {
        Some(file) if file.pipeline.name == name => {
            let elsewhere =
                || Error::new(Kind::Config, code::CONFIG, format!("the dead letters of {name} are where no command can look"));
            (file.pipeline.clone(), dataset(file).ok_or_else(elsewhere)?)
        }
        Some(file) => {
            let what = format!("the dead letters are of {name}, the file is of {}", file.pipeline.name);
            return Err(Error::new(Kind::Usage, code::USAGE, what).hint("`--pipeline NAME` chooses those of one pipeline"));
        }
        None => {
            let place = name.strip_prefix("load:").ok_or_else(|| {
                Error::new(Kind::Usage, code::USAGE, format!("where the dead letters of {name} land is in its pipeline file"))
                    .hint("name it with `--pipeline-file PIPELINE.yaml`")
            })?;
            let place = Dataset::parse(place)?;
            let pipeline =
                Pipeline { name: name.to_owned(), destination: place.shown(), contract: args.contract, ..Pipeline::default() };
            (pipeline, place)
        }
    };
    pipeline.inputs = vec!["dead letters".to_owned()];
    pipeline.disposition = Default::default();
    limit(&mut pipeline, &args.limits);
    Ok((pipeline, place))
}

/// What a person wrote of letters, by their ids.
type Corrections = BTreeMap<String, Correction>;

struct Correction {
    payload: Vec<u8>,
    table: Option<String>,
}

/// From lines such as `dead-letters show --json` writes.
fn corrections(path: &Path) -> Result<Corrections> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| Error::new(Kind::Usage, code::USAGE, format!("{} cannot be read", path.display())).caused_by(e))?;
    let mut found = BTreeMap::new();
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let wrong = |why: String| {
            let place = Place { file: path.display().to_string(), line: Some(i as u64 + 1), column: None };
            Error::new(Kind::Usage, code::USAGE, why).at(place).hint(
                "each line is an object with `id` and `payload` (or `payload_bytes`, base64), as `longshore dead-letters show ID --json` writes it",
            )
        };
        let letter: Map<String, Value> = serde_json::from_str(line).map_err(|e| wrong(format!("not a JSON object: {e}")))?;
        let text = |key: &str| letter.get(key).and_then(Value::as_str);
        let id = text("id").ok_or_else(|| wrong("there is no `id`".to_owned()))?;
        let payload = match (text("payload"), text("payload_bytes")) {
            (Some(payload), _) => payload.as_bytes().to_vec(),
            (None, Some(bytes)) => base64(bytes).ok_or_else(|| wrong("`payload_bytes` is not base64".to_owned()))?,
            (None, None) => return Err(wrong(format!("dead letter {id} has no `payload`"))),
        };
        if found.insert(id.to_owned(), Correction { payload, table: text("table").map(str::to_owned) }).is_some() {
            return Err(wrong(format!("dead letter {id} is there twice")));
        }
    }
    Ok(found)
}

fn tell(console: &Console, outcome: &Outcome, place: &Dataset, kept: &BTreeMap<String, String>, args: &ReplayArgs) -> Result<()> {
    let replayed: u64 = outcome.summary.tables.values().sum();
    if console.json {
        let open: Vec<Value> = kept.iter().map(|(id, reason)| json!({"id": id, "reason": reason})).collect();
        return console.object(&json!({
            "event": "summary", "run": outcome.run, "destination": place.shown(),
            "replayed": replayed, "tables": outcome.summary.tables, "open": open,
        }));
    }
    if replayed > 0 {
        console.note(format!("{} landed in {}:", units::count(replayed, "dead letter", "dead letters"), place.shown()));
        let widest = outcome.summary.tables.keys().map(|name| name.chars().count()).max().unwrap_or(0);
        for (table, rows) in &outcome.summary.tables {
            console.note(format!("  {table:widest$}  {}", units::count(*rows, "row", "rows")));
        }
    }
    if kept.is_empty() {
        return Ok(());
    }
    // The first reasons were told as they came.
    let still = units::count(kept.len() as u64, "still does not fit and stays open", "still do not fit and stay open");
    console.warning(still);
    let file = args.pipeline_file.as_ref().map_or_else(String::new, |file| format!(" --pipeline-file {}", file.display()));
    console.note(format!(
        "\nnext: longshore dead-letters show ID --json > letters.jsonl   (correct the payload, or the table)\n      longshore dead-letters replay{file} --from letters.jsonl"
    ));
    Ok(())
}

/// Letters of one dataset.
struct Kept {
    books: Arc<dyn Store>,
    ids: Vec<String>,
    dataset: Dataset,
    corrections: Arc<Corrections>,
    /// The table for all.
    table: Option<String>,
}

#[async_trait]
impl Letters for Kept {
    async fn open(&self) -> Result<Vec<(String, u64)>> {
        let filter =
            DeadLetterFilter { ids: self.ids.clone(), state: Some(DeadLetterState::Open), ..DeadLetterFilter::default() };
        let open: BTreeSet<String> = self.books.dead_letters(&filter).await?.into_iter().map(|letter| letter.key.id).collect();
        let mut sizes = BTreeMap::new();
        for row in self.rows(Wanted::Sizes, &self.ids).await? {
            sizes.insert(row["id"].as_str().unwrap_or_default().to_owned(), row["bytes"].as_u64().unwrap_or_default());
        }
        let size = |id: &String| {
            let corrected = self.corrections.get(id).map(|correction| correction.payload.len() as u64);
            corrected.or_else(|| sizes.get(id).copied()).unwrap_or_default()
        };
        Ok(self.ids.iter().filter(|id| open.contains(*id)).map(|id| (id.clone(), size(id))).collect())
    }

    async fn fetch(&self, ids: &[String]) -> Result<Vec<Letter>> {
        let mut rows: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
        for row in self.rows(Wanted::Everything, ids).await? {
            rows.insert(row["id"].as_str().unwrap_or_default().to_owned(), row);
        }
        ids.iter().map(|id| self.letter(id, rows.remove(id))).collect()
    }
}

impl Kept {
    async fn rows(&self, wanted: Wanted, ids: &[String]) -> Result<Vec<Map<String, Value>>> {
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        warehouse::dead_letters(&self.dataset, wanted, &ids).await
    }

    fn letter(&self, id: &str, row: Option<Map<String, Value>>) -> Result<Letter> {
        let gone = |what: &str| {
            let what = format!("{what} of dead letter {id} is not in {}", self.dataset.shown());
            Error::new(Kind::Destination, code::TABLE_BEHIND_STORE, what)
        };
        let row = row.ok_or_else(|| gone("the row"))?;
        let text = |key: &str| row.get(key).and_then(Value::as_str);
        let decoding = match row.get("decoding") {
            Some(Value::String(text)) => serde_json::from_str(text).ok(),
            Some(Value::Null) | None => None,
            Some(value) => Some(value.clone()),
        };
        let correction = self.corrections.get(id);
        let before = text("table");
        let corrected = correction.and_then(|correction| correction.table.as_deref()).filter(|table| Some(*table) != before);
        let named = self.table.as_deref().or(corrected);
        let payload = if let Some(correction) = correction {
            Payload::Inline(correction.payload.clone())
        } else if let Some(payload) = text("payload") {
            Payload::Inline(payload.as_bytes().to_vec())
        } else if let Some(bytes) = text("payload_bytes").and_then(base64) {
            Payload::Inline(bytes)
        } else {
            let path = text("payload_file").ok_or_else(|| gone("the payload"))?.into();
            let length = std::fs::metadata(&path).map_err(|e| gone("the payload").caused_by(e))?.len();
            Payload::File { path, offset: 0, length, temporary: false }
        };
        let table = named.or(before).map(str::to_owned);
        Ok(Letter { id: id.to_owned(), table, readdressed: named.is_some(), payload, decoding })
    }
}
