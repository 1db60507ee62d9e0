//! What a server knows of its pipelines: the one place that pages, metrics and readiness are read from.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio::time::Instant;

use crate::event::Failure;
use crate::jobs::{Job, Kind};
use crate::state::{Known, State};

/// Everything that is known. Shared by all who work for a server.
#[derive(Debug)]
pub struct Board {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    pipelines: BTreeMap<String, Known>,
    files: BTreeMap<String, Failure>,
    folder: Option<Failure>,
    looked: bool,
    beat: Instant,
}

/// Why a server is not ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// A pipeline or a file.
    #[serde(flatten)]
    pub what: What,
    /// Why.
    pub reason: String,
}

/// What is not ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A pipeline.
    Pipeline(String),
    /// A file, or the folder.
    File(String),
    /// The server itself.
    Server(&'static str),
}

impl Default for Board {
    fn default() -> Self {
        let inner =
            Inner { pipelines: BTreeMap::new(), files: BTreeMap::new(), folder: None, looked: false, beat: Instant::now() };
        Self { inner: Mutex::new(inner) }
    }
}

impl Board {
    /// The pipelines whose files are there.
    pub fn pipelines(&self) -> BTreeMap<String, Known> {
        let inner = self.lock();
        let present = inner.pipelines.iter().filter(|(_, known)| known.present);
        present.map(|(name, known)| (name.clone(), known.clone())).collect()
    }

    /// All pipelines that ever were there.
    pub(crate) fn ever(&self) -> BTreeMap<String, Known> {
        self.lock().pipelines.clone()
    }

    /// The files that cannot be used, and why.
    pub fn files(&self) -> BTreeMap<String, Failure> {
        self.lock().files.clone()
    }

    /// Why not every pipeline has started. A scheduled one has as soon as its next time is known.
    pub fn not_ready(&self) -> Vec<Reason> {
        let inner = self.lock();
        let mut reasons = Vec::new();
        if !inner.looked {
            let reason = "the folder has not been looked at yet".to_owned();
            reasons.push(Reason { what: What::Server("starting"), reason });
        }
        if let Some(failure) = &inner.folder {
            reasons.push(Reason { what: What::Server("folder"), reason: failure.error.clone() });
        }
        let wrong =
            |(file, failure): (&String, &Failure)| Reason { what: What::File(file.clone()), reason: failure.error.clone() };
        reasons.extend(inner.files.iter().map(wrong));
        for (name, known) in inner.pipelines.iter().filter(|(_, known)| known.present) {
            let reason = match (known.state, &known.last_error) {
                (State::Starting, _) => "starting".to_owned(),
                (State::Stopping, _) => "stopping".to_owned(),
                (State::Retrying, Some(last)) if known.kind == Kind::Endless.name() => last.failure.error.clone(),
                _ => continue,
            };
            reasons.push(Reason { what: What::Pipeline(name.clone()), reason });
        }
        reasons
    }

    /// How long ago the server last looked after its pipelines.
    pub(crate) fn silent(&self) -> std::time::Duration {
        self.lock().beat.elapsed()
    }

    /// The server is alive.
    pub(crate) fn beat(&self) {
        self.lock().beat = Instant::now();
    }

    /// The folder was looked at; with the error if that failed. Returns whether it is another one than before.
    pub(crate) fn looked(&self, failure: Option<Failure>) -> bool {
        let mut inner = self.lock();
        inner.looked |= failure.is_none();
        let news = inner.folder != failure;
        inner.folder = failure;
        news
    }

    /// Which files cannot be used now. Returns those that could be until now, or could not for another reason.
    pub(crate) fn set_files(&self, files: BTreeMap<String, Failure>) -> Vec<(String, Failure)> {
        let mut inner = self.lock();
        let news = files.iter().filter(|(file, failure)| inner.files.get(*file) != Some(*failure));
        let news = news.map(|(file, failure)| (file.clone(), failure.clone())).collect();
        inner.files = files;
        news
    }

    /// A pipeline is looked after.
    pub(crate) fn appear(&self, job: &Job, now: DateTime<Utc>) {
        let mut inner = self.lock();
        let before = inner.pipelines.remove(&job.name);
        inner.pipelines.insert(job.name.clone(), Known::new(job, before, now));
    }

    /// A pipeline is looked after no more.
    pub(crate) fn vanish(&self, pipeline: &str) {
        self.change(pipeline, |known| {
            known.between_runs();
            known.present = false;
        });
    }

    /// Visits the pipelines whose files are there.
    pub(crate) fn visit(&self, mut visitor: impl FnMut(&str, &mut Known)) {
        for (name, known) in self.lock().pipelines.iter_mut().filter(|(_, known)| known.present) {
            visitor(name, known);
        }
    }

    /// Changes what is known of a pipeline.
    pub(crate) fn change<T>(&self, pipeline: &str, change: impl FnOnce(&mut Known) -> T) -> Option<T> {
        self.lock().pipelines.get_mut(pipeline).map(change)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
