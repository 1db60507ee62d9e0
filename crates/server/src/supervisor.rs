//! Looks after a folder of pipelines: starts, stops and starts anew what its files say.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use longshore_core::error::{Error, Kind as ErrorKind, Place, code};
use longshore_core::stop::Stop;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;

use crate::error::PIPELINE_TWICE;
use crate::event::{Failure, ServerEvent};
use crate::jobs::{Found, Job, Jobs, Kind};
use crate::scheduled::Since;
use crate::shared::Shared;
use crate::state::State;
use crate::{endless, scheduled, stall};

/// How often the folder is looked at.
const LOOK: Duration = Duration::from_secs(2);

/// Keeps the pipelines of a folder running.
pub(crate) struct Supervisor {
    shared: Arc<Shared>,
    jobs: Arc<dyn Jobs>,
    /// What each file was when the folder was last looked at.
    seen: Option<BTreeMap<String, String>>,
    /// What is to run, by the pipeline's name.
    wanted: BTreeMap<String, Wanted>,
    /// What runs. One that was asked to stop is here until it has.
    entries: BTreeMap<String, Entry>,
    tasks: JoinSet<()>,
    names: HashMap<Id, String>,
}

#[derive(Clone)]
struct Wanted {
    job: Job,
    since: Since,
}

struct Entry {
    job: Job,
    stop: Stop,
}

impl Supervisor {
    pub(crate) fn new(shared: Arc<Shared>, jobs: Arc<dyn Jobs>) -> Self {
        Self {
            shared,
            jobs,
            seen: None,
            wanted: BTreeMap::new(),
            entries: BTreeMap::new(),
            tasks: JoinSet::new(),
            names: HashMap::new(),
        }
    }

    /// Works until it is asked to stop, and then until every pipeline has stopped.
    pub(crate) async fn run(mut self, stop: &Stop) {
        while !stop.is_requested() {
            tokio::select! {
                biased;
                () = stop.requested() => break,
                () = self.look() => {}
            }
            self.settle();
            stall::look(&self.shared);
            self.shared.board.beat();
            let next = Instant::now() + LOOK;
            loop {
                tokio::select! {
                    biased;
                    () = stop.requested() => break,
                    Some(ended) = self.tasks.join_next_with_id() => {
                        // What panicked is started at the next look, lest it panics all the time.
                        if self.ended(ended) {
                            self.settle();
                        }
                    }
                    () = tokio::time::sleep_until(next) => break,
                }
            }
        }
        for (name, entry) in &self.entries {
            entry.stop.request();
            self.shared.board.change(name, |known| known.enter(State::Stopping, self.shared.now()));
        }
        while let Some(ended) = self.tasks.join_next_with_id().await {
            self.ended(ended);
        }
    }

    /// Finds out what is to run now.
    async fn look(&mut self) {
        let jobs = self.jobs.clone();
        let scanned = tokio::task::spawn_blocking(move || jobs.scan()).await;
        let result = scanned.unwrap_or_else(|panic| {
            Err(Error::new(ErrorKind::Bug, code::BUG, "looking at the folder panicked").caused_by(panic))
        });
        match result {
            Ok(found) => {
                self.shared.board.looked(None);
                self.take(found);
            }
            Err(error) => {
                let failure = Failure::from(&error);
                if self.shared.board.looked(Some(failure.clone())) {
                    self.shared.tell(&ServerEvent::FolderUnreadable { failure });
                }
            }
        }
    }

    /// Decides by what was found. A file that changes counts when it was the same twice: it may be half written, or gone for a moment only.
    fn take(&mut self, found: Vec<Found>) {
        let sights: BTreeMap<String, String> = found.iter().map(sight).collect();
        let before = self.seen.replace(sights);
        let (first, before) = (before.is_none(), before.unwrap_or_default());
        let sights = self.seen.as_ref().unwrap_or(&before);
        let told = self.shared.board.files();

        let mut broken: BTreeMap<String, Failure> = BTreeMap::new();
        // What runs from these files goes on as it is.
        let mut unsure: BTreeSet<String> = before.keys().filter(|file| !sights.contains_key(*file)).cloned().collect();
        let mut jobs: BTreeMap<String, Job> = BTreeMap::new();
        for found in found {
            let file = found.file().to_owned();
            match found {
                _ if !first && before.get(&file) != sights.get(&file) => {
                    broken.extend(told.get(&file).map(|failure| (file.clone(), failure.clone())));
                    unsure.insert(file);
                }
                Found::Broken { error, .. } => {
                    broken.insert(file.clone(), Failure::from(&error));
                    unsure.insert(file);
                }
                Found::Job(job) => {
                    if let Some(loser) = self.claim(&mut jobs, job) {
                        let winner = jobs.get(&loser.name).map_or_else(String::new, |job| job.file.clone());
                        broken.insert(loser.file.clone(), twice(&loser, &winner));
                    }
                }
            }
        }

        let keeps = |wanted: &Wanted| unsure.contains(&wanted.job.file);
        let mut next: BTreeMap<String, Wanted> =
            self.wanted.iter().filter(|(_, wanted)| keeps(wanted)).map(|(name, wanted)| (name.clone(), wanted.clone())).collect();
        for (name, job) in jobs {
            if let Some(holder) = next.get(&name) {
                broken.insert(job.file.clone(), twice(&job, &holder.job.file));
                continue;
            }
            let since = match self.wanted.get(&name) {
                // What failed before the change, or is interrupted by it, is still to be run for its time.
                Some(same) if same.job.kind.schedule() == job.kind.schedule() => same.since,
                _ if first => Since::Down,
                _ => Since::Time(self.shared.now()),
            };
            next.insert(name, Wanted { job, since });
        }
        self.wanted = next;
        for (file, failure) in self.shared.board.set_files(broken) {
            let goes_on = self.entries.values().find(|entry| entry.job.file == file).map(|entry| entry.job.name.clone());
            self.shared.tell(&ServerEvent::Broken { file, goes_on, failure });
        }
    }

    /// Takes a name for a job; returns the one of two that does not get it: the other runs already, or comes first.
    fn claim(&self, jobs: &mut BTreeMap<String, Job>, job: Job) -> Option<Job> {
        let runs = self.entries.get(&job.name).is_some_and(|entry| entry.job.file == job.file);
        match jobs.get(&job.name) {
            Some(_) if !runs => Some(job),
            _ => jobs.insert(job.name.clone(), job),
        }
    }

    /// Makes what runs be what is wanted. A pipeline that has to be started anew is stopped here, and started when it has.
    fn settle(&mut self) {
        for (name, entry) in self.entries.iter_mut().filter(|(_, entry)| !entry.stop.is_requested()) {
            let (pipeline, file) = (name.clone(), entry.job.file.clone());
            let event = match self.wanted.get(name) {
                Some(wanted) if wanted.job.version == entry.job.version => {
                    entry.job.file.clone_from(&wanted.job.file);
                    self.shared.board.change(name, |known| known.file.clone_from(&wanted.job.file));
                    continue;
                }
                Some(_) => ServerEvent::Changed { pipeline, file },
                None => ServerEvent::Removed { pipeline, file },
            };
            entry.stop.request();
            self.shared.board.change(name, |known| known.enter(State::Stopping, self.shared.now()));
            self.shared.tell(&event);
        }
        let missing = self.wanted.iter().filter(|(name, _)| !self.entries.contains_key(*name));
        for (_, Wanted { job, since }) in missing.map(|(name, wanted)| (name.clone(), wanted.clone())).collect::<Vec<_>>() {
            self.start(job, since);
        }
    }

    fn start(&mut self, job: Job, since: Since) {
        self.shared.board.appear(&job, self.shared.now());
        let (pipeline, file) = (job.name.clone(), job.file.clone());
        self.shared.tell(&match &job.kind {
            Kind::ByHand => ServerEvent::ByHand { pipeline, file },
            kind => ServerEvent::Serving { pipeline, file, kind: kind.name(), schedule: kind.schedule() },
        });
        let stop = Stop::default();
        let task = self.tasks.spawn(live(self.shared.clone(), job.clone(), since, stop.clone()));
        self.names.insert(task.id(), job.name.clone());
        self.entries.insert(job.name.clone(), Entry { job, stop });
    }

    /// A pipeline has stopped; `false` if it panicked.
    fn ended(&mut self, ended: Result<(Id, ()), JoinError>) -> bool {
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, ())| *id);
        let Some(name) = self.names.remove(&id) else { return true };
        let entry = self.entries.remove(&name);
        self.shared.board.vanish(&name);
        if let Err(panic) = &ended {
            tracing::error!(%panic, pipeline = name, "looking after a pipeline panicked");
        } else if entry.is_some_and(|entry| !matches!(entry.job.kind, Kind::ByHand)) {
            self.shared.tell(&ServerEvent::Stopped { pipeline: name });
        }
        ended.is_ok()
    }
}

/// A pipeline, from when it is found until it is asked to stop.
async fn live(shared: Arc<Shared>, job: Job, since: Since, stop: Stop) {
    match &job.kind {
        Kind::Endless => endless::keep(&shared, &job, &stop).await,
        Kind::Scheduled(schedule) => scheduled::keep(&shared, &job, schedule, since, &stop).await,
        Kind::ByHand => {
            shared.board.change(&job.name, |known| known.enter(State::ByHand, shared.now()));
            stop.requested().await;
        }
    }
}

impl Found {
    fn file(&self) -> &str {
        match self {
            Self::Job(job) => &job.file,
            Self::Broken { file, .. } => file,
        }
    }
}

/// A file, and what tells whether it is the same again.
fn sight(found: &Found) -> (String, String) {
    let sign = match found {
        Found::Job(job) => format!("job {}", job.version),
        Found::Broken { error, .. } => format!("broken {}", Failure::from(error).error),
    };
    (found.file().to_owned(), sign)
}

fn twice(job: &Job, other: &str) -> Failure {
    let error = Error::new(ErrorKind::Config, PIPELINE_TWICE, format!("the pipeline {} is in {other} already", job.name))
        .at(Place { file: job.file.clone(), ..Place::default() })
        .hint("a pipeline's name is its identity in the store: give each file one of its own");
    Failure::from(&error)
}
