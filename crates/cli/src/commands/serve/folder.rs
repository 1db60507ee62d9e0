//! A folder of pipeline files, as a server looks at it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use longshore_core::error::{Error, Kind, Place, Result, code};
use longshore_core::event::Observer;
use longshore_core::stop::Stop;
use longshore_core::store::Store;
use longshore_engine::Outcome;
use longshore_server::{Found, Job, Jobs, Kind as Frequency, Runner};

use crate::args::Limits;
use crate::commands::{limit, run};
use crate::pipeline::PipelineFile;
use crate::pipeline::interpolate::Variables;

/// A folder of pipeline files.
pub(super) struct Folder {
    path: PathBuf,
    store: PathBuf,
    /// What all runs share, so that they need no more connections than one.
    books: Arc<dyn Store>,
    limits: Limits,
    /// What each file was, by its name: what has not changed is not read again.
    known: Mutex<BTreeMap<String, Job>>,
}

/// Runs a file as its text was when it was found.
struct FileRunner {
    file: String,
    text: String,
    store: PathBuf,
    books: Arc<dyn Store>,
    limits: Limits,
}

impl Folder {
    /// A folder, whose runs stand in these books of `store`.
    pub(super) fn new(path: &Path, store: &Path, books: Arc<dyn Store>, limits: &Limits) -> Self {
        let (path, store, limits) = (path.to_owned(), store.to_owned(), limits.clone());
        Self { path, store, books, limits, known: Mutex::default() }
    }

    /// The name of a file as it is told: as somebody in the working directory would type it.
    fn name(&self, path: &Path) -> String {
        let shown = if self.path == Path::new(".") { path.strip_prefix(".").unwrap_or(path) } else { path };
        shown.display().to_string()
    }

    fn job(&self, file: &str, text: String) -> Result<Job> {
        let parsed = PipelineFile::parse(file, &text, &Variables::new(run::of_time(None)))?;
        let kind = if parsed.is_endless() {
            Frequency::Endless
        } else {
            parsed.schedule.map_or(Frequency::ByHand, Frequency::Scheduled)
        };
        let (store, books, limits) = (self.store.clone(), self.books.clone(), self.limits.clone());
        let runner = FileRunner { file: file.to_owned(), text: text.clone(), store, books, limits };
        Ok(Job { file: file.to_owned(), name: parsed.pipeline.name, version: text, kind, runner: Arc::new(runner) })
    }
}

impl Jobs for Folder {
    fn scan(&self) -> Result<Vec<Found>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::take(&mut *known);
        let mut found = Vec::new();
        for path in files(&self.path)? {
            let file = self.name(&path);
            let unreadable = |e| {
                let place = Place { file: file.clone(), ..Place::default() };
                Error::new(Kind::Config, code::CONFIG, "the pipeline file cannot be read").at(place).caused_by(e)
            };
            let job = std::fs::read_to_string(&path).map_err(unreadable).and_then(|text| match before.get(&file) {
                Some(job) if job.version == text => Ok(job.clone()),
                _ => self.job(&file, text),
            });
            found.push(match job {
                Ok(job) => {
                    known.insert(file, job.clone());
                    Found::Job(job)
                }
                Err(error) => Found::Broken { file, error },
            });
        }
        Ok(found)
    }
}

#[async_trait]
impl Runner for FileRunner {
    async fn run(&self, at: Option<DateTime<Utc>>, observer: Arc<dyn Observer>, stop: Stop) -> Result<Outcome> {
        let mut file = PipelineFile::parse(&self.file, &self.text, &Variables::new(run::of_time(at)))?;
        limit(&mut file.pipeline, &self.limits);
        file.pipeline.run_time = at;
        run::execute(&file, &self.store, Some(self.books.clone()), observer, stop, false).await
    }
}

/// The pipeline files of a folder, in the order of their names. Editors' and other hidden files are not among them. Errors: it cannot be read.
pub(super) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |e: std::io::Error| {
        Error::new(Kind::Config, code::CONFIG, format!("the folder {} cannot be read", folder.display())).caused_by(e)
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        let fits = path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
        if fits && !hidden && !path.is_dir() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
