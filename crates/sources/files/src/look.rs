//! The look at files before they are read: digest, format, records, columns.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::StreamExt;
use longshore_core::commit::Landing;
use longshore_core::error::{Error, Kind, Result};
use longshore_core::event::{Events, Phase, RunEvent};
use longshore_core::lanes::in_lanes;
use longshore_core::schema::{Field, TableSchema, Type};
use longshore_core::source::{Context, Description, Split};
use longshore_core::store::FileLedger;

use crate::chunks::{Part, Pass, interrupted};
use crate::config::{FilesConfig, FormatName};
use crate::cut::{Limits, empty_records};
use crate::error::XML_INVALID;
use crate::input::{Raw, Version, digest, head};
use crate::landing;
use crate::shape::{Overrides, Shape};
use crate::source::{FilesSource, blocking};
use crate::split::{FileSplit, Looked, Refusal, Written, sniff};
use crate::xml::cut::{Clashes, XmlFormat, XmlPath};
use crate::xml::structure::{Known, RecordPath, Rigour, Structure, look as look_at_xml};

/// How much a file's format is guessed from.
const SNIFF: usize = 64 << 10;

/// What the ledger remembers of an XML file's records.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Remembered {
    pub paths: Vec<RecordPath>,
    /// Attributes that share their name with an element: table and path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<(String, String)>,
}

/// What a first look at one file gives.
struct First {
    written: Written,
    tables: Vec<String>,
    digest: Option<String>,
    notes: Vec<String>,
    warnings: Vec<String>,
}

/// How far the look is, over all files: each byte is passed once or twice.
struct Progress {
    events: Events,
    done: u64,
}

impl Progress {
    fn tell(&self, bytes: u64) {
        self.events.send(RunEvent::Progress { bytes: self.done + bytes, rows: 0, rejects: 0, phase: Phase::Look });
    }
}

impl FilesSource {
    /// Looks at the files of one commit, in order.
    pub(crate) async fn look(&self, cx: &Context, splits: Vec<Split>, ledger: &dyn FileLedger) -> Result<Description> {
        let mut found = Description::default();
        let mut shapes: BTreeMap<String, Shape> = BTreeMap::new();
        let mut remembered = remembered(ledger.record_paths(&cx.pipeline).await?);
        let mut progress = Progress { events: cx.events.clone(), done: 0 };
        for split in splits {
            let mut file = FileSplit::read(&split)?;
            let path = file.path.clone();
            // As it is now: a retry comes here after the file has changed.
            file.version = blocking(move || Version::of(&path)).await?;
            let landings = ledger.landings(&cx.pipeline, &file.address).await?;
            let refused = match self.look_at_file(cx, &mut file, &landings, &mut remembered, &progress).await {
                Ok(None) => continue,
                Ok(Some(of_file)) => {
                    for (table, shape) in of_file {
                        shapes.entry(table).or_default().merge(shape);
                    }
                    None
                }
                Err(error) => Some(self.refuse(cx, &mut file, &landings, error).await?),
            };
            progress.done += file.version.size;
            if refused.as_ref().is_some_and(Option::is_none) {
                continue;
            }
            self.warn_of_twins(cx, &file, &landings, ledger).await?;
            found.landings.extend(self.lines(cx, &file, &remembered)?);
            match refused.flatten() {
                Some(reject) => found.refused.push((file.write()?, reject)),
                None => found.splits.push(file.write()?),
            }
        }
        for (table, shape) in &shapes {
            let schema = shape.resolve(&Overrides::for_table(&self.config, table)?).map_err(|e| e.with("table", table))?;
            if schema.fields.is_empty() {
                if shape.rows() > 0 {
                    cx.events
                        .warn(format!("the {} records of {table} have no value at all: there is nothing to land", shape.rows()));
                }
                // What replaces a table with nothing empties it.
                if !self.ignore_ledger {
                    continue;
                }
            }
            found.tables.insert(table.clone(), schema);
        }
        if !found.tables.is_empty() {
            for key in unused_types(&self.config, &found.tables) {
                self.warn_once(cx, format!("there is no column {key}, of which the type was given"));
            }
        }
        Ok(found)
    }

    /// Looks at one file and completes its split. `None` if it landed before; else the facts about each table's records.
    async fn look_at_file(
        &self,
        cx: &Context,
        file: &mut FileSplit,
        landings: &[Landing],
        remembered: &mut Remembered,
        progress: &Progress,
    ) -> Result<Option<Vec<(String, Shape)>>> {
        let first = self.first_look(cx, file, landings, remembered, progress).await?;
        let required = landing::required(&self.config);
        let may_skip = !self.ignore_ledger && !self.is_anonymous(file);
        if let Some(digest) = &first.digest
            && may_skip
            && let Some(n) = landing::known_by_digest(landings, &required, digest)
        {
            cx.events.note(format!("{} already landed as commit {n}: only its time has changed", file.address));
            return Ok(None);
        }
        first.notes.iter().for_each(|note| self.note_once(cx, note.clone()));
        first.warnings.iter().for_each(|warning| cx.events.warn(warning.clone()));
        let read = |table: &String| {
            let known = may_skip && first.digest.as_ref().is_some_and(|digest| landing::has(landings, table, digest));
            (table.clone(), !known)
        };
        let tables: Vec<(String, bool)> = first.tables.iter().map(read).collect();
        let mut keys: Vec<String> = tables.iter().filter(|(_, read)| *read).map(|(table, _)| table.clone()).collect();
        keys.extend(required.into_iter().filter(|key| key == Landing::WHOLE || !first.tables.contains(key)));
        let keys = landing::before(landings, keys);
        let digest = first.digest.unwrap_or_default();
        file.look = Some(Looked { digest, keys, written: first.written, tables: tables.clone(), refused: None });
        let shapes = self.look_at_records(cx, file, remembered, progress).await?;
        if matches!(file.looked()?.written, Written::Json) {
            for ((_, pointer), _) in self.config.records.iter().zip(&shapes).filter(|(_, shape)| shape.rows() == 0) {
                cx.events.warn(format!("{} has no record at {pointer}", file.address));
            }
        }
        let of_tables = tables.into_iter().zip(shapes).filter(|((_, read), _)| *read).map(|((table, _), shape)| (table, shape));
        Ok(Some(of_tables.collect()))
    }

    /// Format and record paths. The digest comes along where it costs no time, or where it may save reading on.
    async fn first_look(
        &self,
        cx: &Context,
        file: &FileSplit,
        landings: &[Landing],
        remembered: &Remembered,
        progress: &Progress,
    ) -> Result<First> {
        let (config, file) = (self.config.clone(), file.clone());
        let earlier = remembered.clone();
        let (stop, events, done) = (cx.stop.clone(), progress.events.clone(), progress.done);
        let known_before = !landings.is_empty();
        blocking(move || {
            let start = head(&file.path, &file.version, SNIFF)?;
            let name = file.path.to_string_lossy();
            let format = sniff(&start, &name, config.format);
            if format == Some(FormatName::Xml) {
                let named: Vec<RecordPath> = named_paths(&config);
                let known = if named.is_empty() { Known::Earlier(&earlier.paths) } else { Known::Named(&named) };
                let progress = Progress { events, done };
                let structure_of = |rigour| {
                    let raw = Raw::open(&file.path, &file.version)?.without_digest();
                    let structure = look_at_xml(raw.content()?, &file.address, known, rigour, |_| {
                        progress.tell(raw.bytes_read() / 2);
                        if stop.is_requested() { Err(interrupted()) } else { Ok(()) }
                    })?;
                    raw.finish().map(|_| structure)
                };
                // The outline is found by one thread, so another has the time for the digest.
                let broken = AtomicBool::new(false);
                let go_on = || !stop.is_requested() && !broken.load(Ordering::Relaxed);
                let (structure, digest) = std::thread::scope(|scope| {
                    let hashing = scope.spawn(|| Raw::open(&file.path, &file.version)?.finish_while(go_on));
                    let structure = match structure_of(Rigour::Outline) {
                        // The first place where it is broken may lie inside of a record.
                        Err(error) if error.code() == XML_INVALID.name => structure_of(Rigour::Strict),
                        found => found,
                    };
                    broken.store(structure.is_err(), Ordering::Relaxed);
                    let digest = hashing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                    structure.and_then(|structure| Ok((structure, digest?)))
                })?;
                return Ok(first_of_xml(&config, &file, structure, &earlier, digest));
            }
            let digest = if known_before || format.is_none() { Some(digest(&file.path)?) } else { None };
            first_of_others(&config, &file, format, digest)
        })
        .await
    }

    /// The facts about each table's records. For XML this may take a second pass: the name of an attribute depends on the elements of
    /// all records.
    async fn look_at_records(
        &self,
        cx: &Context,
        file: &mut FileSplit,
        remembered: &mut Remembered,
        progress: &Progress,
    ) -> Result<Vec<Shape>> {
        let mut checked = false;
        loop {
            let look = file.looked()?.clone();
            let (shapes, digest, clashes) = match &look.written {
                Written::Blank => return Ok(look.tables.iter().map(|_| Shape::new()).collect()),
                Written::Xml { paths, .. } if paths.is_empty() => return Ok(Vec::new()),
                Written::Xml { paths, entities, clashes } => {
                    let format = XmlFormat::new(&file.address, look.tables.len(), paths.clone(), entities.clone(), clashes);
                    let format = std::sync::Arc::new(format);
                    let (shapes, _, rejects) = self.pass(cx, file, format.clone(), progress, true).await?;
                    if rejects > 0 && !checked {
                        // What is wrong may be the document and not only the record.
                        check_whole(cx, file).await?;
                        checked = true;
                    }
                    (shapes, look.digest.clone(), format.found_clashes())
                }
                Written::Json | Written::Csv => {
                    let (reopened, config) = (file.clone(), self.config.clone());
                    let Some(format) = blocking(move || reopened.format(&config)).await? else { return Ok(Vec::new()) };
                    let (shapes, digest, _) = self.pass(cx, file, format, progress, false).await?;
                    (shapes, digest, Clashes::new())
                }
            };
            let Some(look) = &mut file.look else { return Ok(shapes) };
            look.digest = digest;
            let tables = &look.tables;
            if let Written::Xml { clashes: known, .. } = &mut look.written {
                for (table, path) in &clashes {
                    let line = (tables[*table].0.clone(), path.clone());
                    if !remembered.attributes.contains(&line) {
                        remembered.attributes.push(line);
                    }
                }
                if !clashes.is_subset(known) {
                    known.extend(clashes);
                    continue;
                }
            }
            return Ok(shapes);
        }
    }

    /// One pass over the records, on every lane. Returns the facts by table number, the digest, and how many records are not well
    /// formed.
    async fn pass(
        &self,
        cx: &Context,
        file: &FileSplit,
        format: std::sync::Arc<dyn crate::cut::Format>,
        progress: &Progress,
        second: bool,
    ) -> Result<(Vec<Shape>, String, usize)> {
        let mut limits = Limits::for_memory(cx.budget.total(), &self.spool);
        limits.keep_payloads = false;
        let pass = Pass {
            path: file.path.clone(),
            version: file.version.clone(),
            format: format.clone(),
            limits,
            budget: cx.budget.clone(),
            stop: cx.stop.clone(),
            digest: !second,
        };
        let mut shapes: Vec<Shape> = (0..format.tables()).map(|_| Shape::new()).collect();
        let mut observed = in_lanes(pass.parts(), cx.lanes, move |part| match part {
            Part::End { digest, raw_bytes } => Ok((Vec::new(), 0, raw_bytes, Some(digest))),
            Part::Chunk { chunk, raw_bytes, permit } => {
                let mut records = empty_records(&*format);
                format.parse(&chunk, &mut records)?;
                let shapes = records.iter().map(|records| {
                    let mut shape = Shape::new();
                    shape.observe_all(records);
                    shape
                });
                let shapes: Vec<Shape> = shapes.collect();
                let rejects = records.iter().map(|records| records.rejects.len()).sum::<usize>();
                drop(permit);
                Ok((shapes, rejects, raw_bytes, None))
            }
        });
        let (mut bytes, mut rejects) = (0, 0);
        let mut whole = None;
        while let Some(part) = observed.next().await {
            let (of_chunk, of_it, raw_bytes, digest) = part?;
            rejects += of_it;
            for (shape, of_chunk) in shapes.iter_mut().zip(of_chunk) {
                shape.merge(of_chunk);
            }
            bytes += raw_bytes;
            progress.tell(if second { (file.version.size + bytes) / 2 } else { bytes });
            whole = digest.or(whole);
        }
        whole.map(|digest| (shapes, digest, rejects)).ok_or_else(interrupted)
    }

    /// Makes a file that cannot be read a dead letter; `None` if these very bytes were refused before. Errors that are not the
    /// content's fault are passed on.
    async fn refuse(
        &self,
        cx: &Context,
        file: &mut FileSplit,
        landings: &[Landing],
        error: Error,
    ) -> Result<Option<longshore_core::batch::Reject>> {
        let (code, refusal) = Refusal::from_error(error, &file.address)?;
        let path = file.path.clone();
        let digest = blocking(move || digest(&path)).await?;
        let required = landing::required(&self.config);
        let may_skip = !self.ignore_ledger && !self.is_anonymous(file);
        if may_skip && let Some(n) = landing::known_by_digest(landings, &required, &digest) {
            cx.events.note(format!("{} was already refused in commit {n}: only its time has changed", file.address));
            return Ok(None);
        }
        let reject = file.reject(code, &refusal);
        let keys = landing::before(landings, required);
        file.look = Some(Looked { digest, keys, written: Written::Blank, tables: Vec::new(), refused: Some(refusal) });
        Ok(Some(reject))
    }

    /// The ledger's lines for a file, as far as they are known before its rows are counted.
    fn lines(&self, cx: &Context, file: &FileSplit, remembered: &Remembered) -> Result<Vec<Landing>> {
        let look = file.looked()?;
        let records = match &look.written {
            // A name for everything says nothing about where things are.
            Written::Xml { paths, .. } if !paths.is_empty() && self.config.table.is_none() => {
                let name = |path: &XmlPath| RecordPath { table: look.tables[path.table].0.clone(), path: path.path.clone() };
                let paths: Vec<RecordPath> = paths.iter().map(name).collect();
                let of_file = |line: &&(String, String)| look.tables.iter().any(|(table, _)| *table == line.0);
                let attributes = remembered.attributes.iter().filter(of_file).cloned().collect();
                serde_json::to_value(Remembered { paths, attributes }).ok()
            }
            _ => None,
        };
        let line = |table: &String| Landing {
            table: table.clone(),
            address: file.address.clone(),
            size: file.version.size,
            version: file.version.modified.clone(),
            digest: look.digest.clone(),
            rows: 0,
            rejects: 0,
            refused: look.refused.is_some(),
            n: 0,
            run: cx.run.clone(),
            records: records.clone(),
        };
        Ok(look.keys.keys().map(line).collect())
    }

    /// Warns of earlier content of this file, and of the same content elsewhere.
    async fn warn_of_twins(&self, cx: &Context, file: &FileSplit, landings: &[Landing], ledger: &dyn FileLedger) -> Result<()> {
        if self.is_anonymous(file) || self.ignore_ledger {
            return Ok(());
        }
        let digest = &file.looked()?.digest;
        if let Some(text) = landing::changed(landings, &landing::required(&self.config), &file.address, digest) {
            cx.events.warn(text);
        }
        if file.version.size > 0
            && let Some(twin) = ledger.same_bytes(&cx.pipeline, digest, &file.address).await?
        {
            cx.events.warn(format!(
                "{} has the same bytes as {}, which landed as commit {}: its rows are loaded again",
                file.address, twin.address, twin.n
            ));
        }
        Ok(())
    }
}

/// What earlier loads found, newest first.
fn remembered(lines: Vec<serde_json::Value>) -> Remembered {
    let mut all = Remembered::default();
    for line in lines {
        let Ok(line) = serde_json::from_value::<Remembered>(line) else { continue };
        let new = |path: &RecordPath| !all.paths.contains(path);
        let paths: Vec<RecordPath> = line.paths.iter().filter(|path| new(path)).cloned().collect();
        all.paths.extend(paths);
        let attributes: Vec<_> = line.attributes.into_iter().filter(|line| !all.attributes.contains(line)).collect();
        all.attributes.extend(attributes);
    }
    all
}

/// The columns whose type was given and that no table has.
fn unused_types(config: &FilesConfig, tables: &BTreeMap<String, TableSchema>) -> Vec<String> {
    let known = |key: &str| {
        let key = key.to_lowercase();
        tables.iter().any(|(table, schema)| {
            let of_table = key.strip_prefix(&format!("{}.", table.to_lowercase()));
            has_path(&schema.fields, &key) || of_table.is_some_and(|path| has_path(&schema.fields, path))
        })
    };
    config.types.keys().filter(|key| !known(key)).cloned().collect()
}

/// Whether there is a column, or a field of a STRUCT, at this path of lower-case names.
fn has_path(fields: &[Field], path: &str) -> bool {
    fields.iter().any(|field| {
        let rest = path.strip_prefix(&field.name.to_lowercase());
        rest.is_some_and(|rest| match (&field.type_, rest.strip_prefix('.')) {
            (_, None) => rest.is_empty(),
            (Type::Struct(children), Some(path)) => has_path(children, path),
            _ => false,
        })
    })
}

/// Fails with `xml_invalid` if an XML file as a whole is not well formed.
async fn check_whole(cx: &Context, file: &FileSplit) -> Result<()> {
    let (file, stop) = (file.clone(), cx.stop.clone());
    let go_on = move |_| if stop.is_requested() { Err(interrupted()) } else { Ok(()) };
    blocking(move || {
        let raw = Raw::open(&file.path, &file.version)?.without_digest();
        look_at_xml(raw.content()?, &file.address, Known::Earlier(&[]), Rigour::Strict, go_on).map(drop)
    })
    .await
}

fn named_paths(config: &FilesConfig) -> Vec<RecordPath> {
    config.records.iter().map(|(table, path)| RecordPath { table: table.clone(), path: path.clone() }).collect()
}

fn first_of_xml(config: &FilesConfig, file: &FileSplit, structure: Structure, earlier: &Remembered, digest: String) -> First {
    let mut tables: Vec<String> = Vec::new();
    let mut paths = Vec::new();
    for record in &structure.records {
        let table = config.table.as_ref().unwrap_or(&record.table);
        let number = tables.iter().position(|known| known == table).unwrap_or_else(|| {
            tables.push(table.clone());
            tables.len() - 1
        });
        paths.push(XmlPath { path: record.path.clone(), table: number });
    }
    let number = |table: &String| tables.iter().position(|known| known == table);
    let clashes = earlier.attributes.iter().filter_map(|(table, path)| Some((number(table)?, path.clone()))).collect();
    let mut notes = Vec::new();
    let mut warnings = Vec::new();
    if structure.blank && config.records.is_empty() {
        notes.push(format!("{} holds no records", file.address));
    } else {
        let found: Vec<String> = paths.iter().map(|path| format!("{} at {}", tables[path.table], path.path)).collect();
        notes.push(format!("XML records: {}", found.join(", ")));
    }
    if !structure.outside.is_empty() {
        notes.push(format!("outside of the records, so not loaded: {}", structure.outside.join(", ")));
    }
    if !config.records.is_empty() {
        warnings.extend(structure.missing.iter().map(|path| format!("{} has no {}", file.address, path.path)));
    }
    let written = Written::Xml { paths, entities: structure.entities, clashes };
    First { written, tables, digest: Some(digest), notes, warnings }
}

fn first_of_others(config: &FilesConfig, file: &FileSplit, format: Option<FormatName>, digest: Option<String>) -> Result<First> {
    let mut file = file.clone();
    let table = config.table.clone().unwrap_or_else(|| file.table.clone());
    let tables = if config.records.is_empty() { vec![table] } else { config.records.keys().cloned().collect() };
    file.look = None;
    let (written, note) = match format {
        None => (Written::Blank, format!("{} is empty", file.address)),
        Some(FormatName::Json) => (Written::Json, file.json(config)?.note().to_owned()),
        Some(_) if !config.records.is_empty() => {
            let what = format!("{} is not XML or JSON, so `records` cannot say where its records are", file.address);
            return Err(Error::new(Kind::Config, longshore_core::error::code::CONFIG, what));
        }
        Some(_) => (Written::Csv, format!("CSV: {}", file.csv(config)?.note())),
    };
    Ok(First { written, tables, digest, notes: vec![note], warnings: Vec::new() })
}
