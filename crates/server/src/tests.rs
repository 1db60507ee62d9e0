//! A server over pipelines that do as a test says.

mod following;
mod http;
mod metrics;
mod restarts;
mod stalls;
mod times;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, TimeDelta};
use futures::future::BoxFuture;
use longshore_core::error::{Error, Kind as ErrorKind, Place, Retry, code};
use longshore_core::event::{Flow, Observer, RunEvent, Status, Summary};
use longshore_engine::Outcome;
use longshore_store::MemoryStore;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::*;

/// A run that was begun.
struct Call {
    /// Which of the pipeline's runs, from 1.
    number: usize,
    /// The time that it is for.
    at: Option<DateTime<Utc>>,
    observer: Arc<dyn Observer>,
    stop: Stop,
}

type Act = dyn Fn(Call) -> BoxFuture<'static, Result<Outcome>> + Send + Sync;

/// A pipeline's runner.
#[derive(Clone)]
struct Fake(Arc<Inside>);

struct Inside {
    act: Box<Act>,
    began: Instant,
    /// When each run began, in seconds since the test did, and for which time.
    calls: Mutex<Vec<(u64, Option<DateTime<Utc>>)>>,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
}

impl Fake {
    fn new<F>(act: impl Fn(Call) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Outcome>> + Send + 'static,
    {
        Self(Arc::new(Inside {
            act: Box::new(move |call| Box::pin(act(call))),
            began: Instant::now(),
            calls: Mutex::default(),
            at_once: AtomicUsize::new(0),
            most_at_once: AtomicUsize::new(0),
        }))
    }

    /// One that works until it is asked to stop, and then for a while.
    fn endless(farewell: Duration) -> Self {
        Self::new(move |call| async move {
            call.observer.event(&RunEvent::Flow(Flow::default()));
            call.stop.requested().await;
            tokio::time::sleep(farewell).await;
            Err(interrupted())
        })
    }

    /// One that works so long and ends well.
    fn brief(work: Duration) -> Self {
        Self::new(move |_| async move {
            tokio::time::sleep(work).await;
            Ok(well())
        })
    }

    /// One that fails at once, every time.
    fn failing(retry: Retry) -> Self {
        Self::new(move |_| async move { Err(Error::new(ErrorKind::Destination, code::BUG, "refused").with_retry(retry)) })
    }

    /// Runs of this pipeline that end at once, with this status, in the history of a store.
    fn kept(store: &Arc<dyn Store>, pipeline: &'static str, status: Status) -> Self {
        let store = store.clone();
        Self::new(move |call| {
            let store = store.clone();
            async move {
                let run = store.begin_run(pipeline).await?;
                let (pipeline, destination) = (pipeline.to_owned(), "w/main".to_owned());
                let started = RunEvent::Started { pipeline, inputs: vec![], destination, process: 7, run_time: call.at };
                let finished = RunEvent::Finished { status, error: None, code: None, summary: Summary::default() };
                store.append_events(&run, &[started, finished]).await?;
                let refused = Error::new(ErrorKind::Destination, code::BUG, "refused").with_retry(Retry::AfterFix);
                if status == Status::Succeeded { Ok(Outcome { run, ..well() }) } else { Err(refused) }
            }
        })
    }

    /// When each run began, in seconds since the test did.
    fn seconds(&self) -> Vec<u64> {
        locked(&self.0.calls).iter().map(|(seconds, _)| *seconds).collect()
    }

    /// The times that runs were for.
    fn times(&self) -> Vec<DateTime<Utc>> {
        locked(&self.0.calls).iter().filter_map(|(_, at)| *at).collect()
    }

    fn running(&self) -> usize {
        self.0.at_once.load(Ordering::SeqCst)
    }
}

struct Leaving<'a>(&'a AtomicUsize);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait::async_trait]
impl Runner for Fake {
    async fn run(&self, at: Option<DateTime<Utc>>, observer: Arc<dyn Observer>, stop: Stop) -> Result<Outcome> {
        let inside = &self.0;
        let number = {
            let mut calls = locked(&inside.calls);
            calls.push((inside.began.elapsed().as_secs(), at));
            calls.len()
        };
        inside.most_at_once.fetch_max(inside.at_once.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let _leaving = Leaving(&inside.at_once);
        (inside.act)(Call { number, at, observer, stop }).await
    }
}

fn well() -> Outcome {
    Outcome { run: "r".into(), summary: Summary::default(), over_max: false }
}

fn interrupted() -> Error {
    Error::new(ErrorKind::Interrupted, code::INTERRUPTED, "told to stop")
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file of the folder.
#[derive(Clone)]
enum File {
    Job(Job),
    Broken(String, &'static str),
}

fn endless(file: &str, name: &str, version: &str, runner: &Fake) -> File {
    let (file, name, version) = (file.to_owned(), name.to_owned(), version.to_owned());
    File::Job(Job { file, name, version, kind: Kind::Endless, runner: Arc::new(runner.clone()) })
}

fn scheduled(file: &str, name: &str, cron: &str, runner: &Fake) -> File {
    let kind = Kind::Scheduled(Schedule::new(cron, None).expect("a schedule"));
    let (file, name, version) = (file.to_owned(), name.to_owned(), cron.to_owned());
    File::Job(Job { file, name, version, kind, runner: Arc::new(runner.clone()) })
}

/// A folder, or why it cannot be read.
#[derive(Default)]
struct Folder(Mutex<Option<Vec<File>>>);

impl Jobs for Folder {
    fn scan(&self) -> Result<Vec<Found>> {
        let files = locked(&self.0).clone();
        let files = files.ok_or_else(|| Error::new(ErrorKind::Config, code::CONFIG, "the folder is gone"))?;
        let found = |file| match file {
            File::Job(job) => Found::Job(job),
            File::Broken(file, why) => {
                let place = Place { file: file.clone(), line: Some(3), column: Some(5) };
                Found::Broken { file, error: Error::new(ErrorKind::Config, code::CONFIG, why).at(place) }
            }
        };
        Ok(files.into_iter().map(found).collect())
    }
}

#[derive(Default)]
struct Told(Mutex<Vec<ServerEvent>>);

impl Listener for Told {
    fn server(&self, event: &ServerEvent) {
        locked(&self.0).push(event.clone());
    }

    fn run(&self, _: &str, _: &RunEvent) {}
}

/// A server that works.
struct World {
    shared: Arc<Shared>,
    folder: Arc<Folder>,
    told: Arc<Told>,
    stop: Stop,
    task: JoinHandle<()>,
}

/// When every test begins.
fn dawn() -> DateTime<Utc> {
    "2026-05-01T00:00:30Z".parse().expect("a time")
}

impl World {
    /// One over these files, whose wall clock goes with the test's.
    fn new(files: Vec<File>) -> Self {
        Self::with(files, Arc::new(MemoryStore::new()))
    }

    fn with(files: Vec<File>, store: Arc<dyn Store>) -> Self {
        Self::later(0, files, store)
    }

    /// One whose wall clock begins so many seconds after dawn.
    fn later(seconds: i64, files: Vec<File>, store: Arc<dyn Store>) -> Self {
        let began = Instant::now();
        let start = dawn() + TimeDelta::seconds(seconds);
        let clock = move || start + TimeDelta::from_std(began.elapsed()).expect("a short time");
        let (folder, told, stop) = (Arc::new(Folder(Mutex::new(Some(files)))), Arc::new(Told::default()), Stop::default());
        let (board, clock, listener) = (Arc::default(), Arc::new(clock), told.clone());
        let shared = Arc::new(Shared { board, store, listener, clock, chance: || 0.0 });
        let supervisor = Supervisor::new(shared.clone(), folder.clone());
        let asked = stop.clone();
        let task = tokio::spawn(async move { supervisor.run(&asked).await });
        Self { shared, folder, told, stop, task }
    }

    fn set(&self, files: Vec<File>) {
        *locked(&self.folder.0) = Some(files);
    }

    /// What was told of this kind.
    fn told<T>(&self, wanted: impl Fn(&ServerEvent) -> Option<T>) -> Vec<T> {
        locked(&self.told.0).iter().filter_map(wanted).collect()
    }

    /// Stops it, and says how many seconds that took.
    async fn end(self) -> u64 {
        let began = Instant::now();
        self.stop.request();
        self.task.await.expect("it ends well");
        began.elapsed().as_secs()
    }
}

async fn seconds(number: u64) {
    tokio::time::sleep(Duration::from_secs(number)).await;
}
