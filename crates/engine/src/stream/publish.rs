//! Whoever of the workers holds the lease publishes, for all of them: each table in order of N, the tables beside one another. A table that
//! cannot be published is parked: the others go on without it, and it catches up later.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream::{self, FuturesUnordered, StreamExt};
use longshore_core::Result;
use longshore_core::commit::{DEAD_LETTERS, Entry, EntryState, Parked, Published, Receipt, Refused};
use longshore_core::error::{Error, Kind, Retry, code};
use longshore_core::event::RunEvent;
use longshore_core::failpoint;
use longshore_core::position::Covers;
use longshore_core::retry::Policy;
use longshore_core::stop::Stop;
use longshore_core::store::{PipelineState, Writer};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};

use crate::error::TABLE_PARKED;
use crate::lease::HeldLease;
use crate::publisher::{Part, Publisher, receipt};
use crate::repair::Note;
use crate::session::Session;

/// Tables that are published at once.
const ABREAST: usize = 8;
/// How long the others wait for the table that tells the ids of a commit, before the next one tells them, too.
const HEAD_START: Duration = Duration::from_secs(1);
/// How often the journal is asked for commits of other processes.
const ASK: Duration = Duration::from_millis(200);
/// How often who does not hold the lease asks for it.
const ASK_LEASE: Duration = Duration::from_secs(1);
/// How often attempts of workers that are gone are swept, and old ids forgotten.
const TIDY: Duration = Duration::from_secs(20);
/// The first and the longest pause before a parked table is tried again.
const TRY_AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What worker and publisher of one process tell each other.
#[derive(Default)]
pub(crate) struct News {
    /// A commit was journalled.
    pub(crate) journalled: Notify,
    /// Commits were completed.
    pub(crate) completed: Notify,
}

/// Publishing, beside the worker. Dropped, by a worker that panics say, it goes no further, and its lease lapses.
pub(crate) struct Publishing(JoinHandle<Result<()>>);

impl Publishing {
    /// Begins it; see [`keep_publishing`].
    pub(crate) fn start(session: Arc<Session>, news: Arc<News>, ids: Option<(String, Duration)>, stop: Stop) -> Self {
        Self(tokio::spawn(keep_publishing(session, news, ids, stop)))
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.0.is_finished()
    }

    /// Waits for its end.
    pub(crate) async fn end(mut self) -> Result<()> {
        (&mut self.0).await.map_err(|e| Error::new(Kind::Bug, code::BUG, "publishing panicked").caused_by(e))?
    }
}

impl Drop for Publishing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Publishes whenever this process holds the lease, until it is told to stop.
async fn keep_publishing(session: Arc<Session>, news: Arc<News>, ids: Option<(String, Duration)>, stop: Stop) -> Result<()> {
    while !stop.is_requested() {
        let lost = Stop::default();
        let (cx, events) = (&session.cx, &session.cx.events);
        let taken = HeldLease::take(&session.store, &cx.pipeline, &cx.run, Duration::ZERO, events, &lost).await;
        let lease = match taken {
            Ok(lease) => lease,
            Err(error) if error.code() == code::LEASE_HELD.name || error.retry() == Retry::Backoff => {
                tokio::select! {
                    () = tokio::time::sleep(ASK_LEASE) => {}
                    () = stop.requested() => {}
                }
                continue;
            }
            Err(error) => return Err(error),
        };
        let publisher = Arc::new(Publisher { session: session.clone(), lease });
        let mut desk = Desk {
            publisher,
            news: news.clone(),
            ids: ids.clone(),
            lanes: JoinSet::new(),
            waiting: BTreeMap::new(),
            held: BTreeMap::new(),
        };
        let result = desk.tend(&stop, &lost).await;
        desk.lanes.shutdown().await;
        if let Some(publisher) = Arc::into_inner(desk.publisher) {
            let freed = publisher.lease.free().await;
            if result.is_ok() && stop.is_requested() {
                return freed;
            }
        }
        match result {
            // Somebody else publishes now.
            Err(error) if error.code() == code::LEASE_LOST.name => {}
            other => other?,
        }
    }
    Ok(())
}

/// The publisher's work while it holds the lease.
struct Desk {
    publisher: Arc<Publisher>,
    news: Arc<News>,
    ids: Option<(String, Duration)>,
    /// Parked tables that are being tried.
    lanes: JoinSet<(String, Result<(), String>)>,
    /// Parked tables: when each is tried again, and after which pause; `None` while it is being tried.
    waiting: BTreeMap<String, Wait>,
    /// Tables that are not what the journal says, and what is wrong.
    held: BTreeMap<String, String>,
}

struct Wait {
    at: Option<Instant>,
    pause: Duration,
}

/// What came of publishing a table.
enum Came {
    Shown(Receipt),
    Refused(String, Refused),
}

impl Desk {
    async fn tend(&mut self, stop: &Stop, lost: &Stop) -> Result<()> {
        let mut tidied: Option<Instant> = None;
        let mut first = true;
        loop {
            let state = self.state().await?;
            if std::mem::take(&mut first) {
                self.check(&state).await?;
            }
            let completed = self.settle_all(state).await?;
            if completed {
                self.news.completed.notify_waiters();
                self.news.completed.notify_one();
            }
            if tidied.is_none_or(|at| at.elapsed() >= TIDY) {
                tidied = Some(Instant::now());
                self.tidy().await?;
            }
            if stop.is_requested() || lost.is_requested() {
                return Ok(());
            }
            tokio::select! {
                () = self.news.journalled.notified() => {}
                () = tokio::time::sleep(ASK) => {}
                () = stop.requested() => {}
                Some(done) = self.lanes.join_next() => self.tried(done),
            }
        }
    }

    fn session(&self) -> &Session {
        &self.publisher.session
    }

    async fn state(&self) -> Result<PipelineState> {
        let session = self.session();
        Policy::default().run(&session.patience, || session.store.pipeline(&session.pipeline.name)).await
    }

    /// Before anything is published: the tables of what waits must be those that the journal means. One that lost something is parked.
    async fn check(&mut self, state: &PipelineState) -> Result<()> {
        let tables: BTreeSet<String> = state.open.iter().flat_map(Entry::tables).collect();
        let all: Vec<String> = tables.iter().cloned().collect();
        // One question for all, as a rule.
        let behind = |error: &Error| error.code() == code::TABLE_BEHIND_STORE.name;
        match self.session().check_marks(&all).await {
            Err(error) if behind(&error) => {}
            checked => return checked,
        }
        for table in tables {
            match self.session().check_marks(std::slice::from_ref(&table)).await {
                Err(error) if behind(&error) => drop(self.held.insert(table, error.to_string())),
                checked => checked?,
            }
        }
        Ok(())
    }

    /// Everything that is journalled, in order of N. Returns whether anything is complete now that was not.
    async fn settle_all(&mut self, state: PipelineState) -> Result<bool> {
        let mut blocked: BTreeSet<String> = state.parked.iter().map(|part| part.table.clone()).collect();
        for table in self.waiting.keys().filter(|table| !blocked.contains(*table)) {
            self.session().cx.events.send(RunEvent::Unparked { table: table.clone() });
        }
        self.waiting.retain(|table, _| blocked.contains(table));
        self.check_bound(&state.parked)?;
        self.try_parked(state.parked);
        let mut completed = false;
        let session = self.publisher.session.clone();
        let workers = Policy::default().run(&session.patience, || session.store.workers(&session.pipeline.name)).await?;
        for entry in state.open {
            match entry.state {
                EntryState::Journalled => {
                    self.settle(entry, &mut blocked).await?;
                    completed = true;
                }
                // Whoever journalled it acknowledges it, unless it is gone.
                EntryState::Complete if !lives(entry.draft.writer, &workers) => {
                    let acknowledge = || session.store.acknowledged(&entry.draft.pipeline, entry.n);
                    Policy::default().run(&session.patience, acknowledge).await?;
                }
                EntryState::Complete | EntryState::Acknowledged => {}
            }
        }
        Ok(completed)
    }

    /// Steps 3 and 4 of one entry: tables that are blocked, or fail, are parked.
    async fn settle(&mut self, mut entry: Entry, blocked: &mut BTreeSet<String>) -> Result<()> {
        failpoint::hit("publish.before");
        let mut receipts: BTreeMap<String, Receipt> = BTreeMap::new();
        // Ids of messages may be as many as their rows, and tables are many: one table's log tells them, that of the first to show the commit.
        let mut told = !entry.draft.covers.iter().any(is_of_ids);
        loop {
            let rest = self.publisher.note(&without_ids(&mut entry))?;
            let note = if told { None } else { Some(self.publisher.note(&entry)?) };
            let note = note.as_ref().unwrap_or(&rest);
            let todo: Vec<String> = entry.tables().into_iter().filter(|table| !receipts.contains_key(table)).collect();
            let (letters, rows): (Vec<String>, Vec<String>) = todo.into_iter().partition(|table| table == DEAD_LETTERS);
            let mut refused = None;
            // Dead letters last: rows are never missing without the letters that follow.
            for tables in [rows, letters] {
                let (this, entry, blocked, rest) = (&*self, &entry, &*blocked, &rest);
                let mut tables = tables.into_iter();
                let (mut telling, mut results) = (FuturesUnordered::new(), Vec::new());
                while !told && (tables.len() > 0 || !telling.is_empty()) {
                    telling.extend(tables.next().map(|table| this.show(entry, table, blocked, note)));
                    tokio::select! {
                        Some(came) = telling.next() => {
                            told = matches!(&came, Ok(Came::Shown(receipt)) if receipt.parked.is_none());
                            results.push(came);
                        }
                        () = tokio::time::sleep(HEAD_START), if tables.len() > 0 => {}
                    }
                }
                let calls = stream::iter(tables).map(|table| async move { this.show(entry, table, blocked, rest).await });
                let calls = calls.buffer_unordered(ABREAST).collect::<Vec<Result<Came>>>();
                let (others, late) = futures::join!(calls, telling.collect::<Vec<Result<Came>>>());
                for came in results.into_iter().chain(others).chain(late) {
                    match came? {
                        Came::Shown(receipt) => drop(receipts.insert(receipt.table.clone(), receipt)),
                        Came::Refused(table, why) => refused = Some((table, why)),
                    }
                }
            }
            let Some((table, why)) = refused else { break };
            let amend = || self.publisher.amend(&entry, &table, &why);
            entry = Policy::default().run(&self.session().patience, amend).await?;
        }
        failpoint::hit("publish.after");
        for receipt in receipts.values() {
            let Some(reason) = &receipt.parked else { continue };
            if blocked.insert(receipt.table.clone()) {
                let (n, table, reason) = (entry.n, receipt.table.clone(), reason.clone());
                self.waiting.insert(table.clone(), Wait { at: Some(Instant::now() + TRY_AGAIN.0), pause: TRY_AGAIN.0 });
                self.session().cx.events.send(RunEvent::Parked { n, table, reason });
            }
        }
        failpoint::hit("complete.before");
        self.publisher.complete(entry.n, receipts.into_values().collect()).await?;
        failpoint::hit("complete.after");
        Ok(())
    }

    /// Publishes one table of an entry, or says why it has to wait. Errors are those of the store and of ours.
    async fn show(&self, entry: &Entry, table: String, blocked: &BTreeSet<String>, note: &serde_json::Value) -> Result<Came> {
        let parked = |reason: String| Came::Shown(receipt(entry, &table, None, Some(reason)));
        if let Some(why) = self.held.get(&table).or_else(|| entry.draft.held.get(&table)) {
            return Ok(parked(why.clone()));
        }
        if blocked.contains(&table) {
            return Ok(parked("earlier commits wait for the table".to_owned()));
        }
        let part = Part::of(entry, &table, note.clone());
        Ok(match self.attempt(&part).await? {
            Ok(Published::Done(commit)) => Came::Shown(receipt(entry, &table, Some(commit), None)),
            Ok(Published::Already(commit)) => Came::Shown(receipt(entry, &table, commit, None)),
            Ok(Published::Refused(refused)) => Came::Refused(table, refused),
            Ok(Published::Parked(reason)) | Err(reason) => parked(reason),
        })
    }

    /// One try with the patience that a table has; the inner error says why it was in vain.
    async fn attempt(&self, part: &Part) -> Result<Result<Published, String>> {
        attempt(&self.publisher, part).await
    }

    /// Ends the run if more waits than may.
    fn check_bound(&self, parked: &[Parked]) -> Result<()> {
        let bytes: u64 = parked.iter().map(|part| part.receipt.bytes).sum();
        let most = self.session().pipeline.stream.max_parked_bytes;
        let Some(first) = parked.first().filter(|_| bytes > most) else { return Ok(()) };
        let tables: BTreeSet<&str> = parked.iter().map(|part| part.table.as_str()).collect();
        let names = tables.into_iter().collect::<Vec<_>>().join(", ");
        let reason = first.receipt.parked.as_deref().unwrap_or_default();
        Err(Error::new(Kind::Destination, TABLE_PARKED, format!("{bytes} bytes wait for the tables {names}, more than may"))
            .with_retry(Retry::AfterFix)
            .with("first", format!("commit {} of table {}: {reason}", first.n, first.table))
            .hint("mend the table, or raise `max_parked`; nothing is lost, and what waits is published as soon as the table can take it"))
    }

    /// Tries the tables whose pause is over, each by itself and in order of N.
    fn try_parked(&mut self, parked: Vec<Parked>) {
        let mut parts: BTreeMap<String, Vec<Parked>> = BTreeMap::new();
        for part in parked {
            parts.entry(part.table.clone()).or_default().push(part);
        }
        for (table, parts) in parts {
            let wait = self.waiting.entry(table.clone()).or_insert(Wait { at: Some(Instant::now()), pause: TRY_AGAIN.0 });
            if wait.at.is_some_and(|at| Instant::now() >= at) {
                wait.at = None;
                let publisher = self.publisher.clone();
                self.lanes.spawn(async move { (table, catch_up(&publisher, parts).await) });
            }
        }
    }

    fn tried(&mut self, done: Result<(String, Result<(), String>), tokio::task::JoinError>) {
        let Ok((table, outcome)) = done else { return };
        let Some(wait) = self.waiting.get_mut(&table) else { return };
        match outcome {
            // More may have been parked meanwhile.
            Ok(()) => {
                *wait = Wait { at: Some(Instant::now()), pause: TRY_AGAIN.0 };
                self.held.remove(&table);
            }
            Err(reason) => {
                tracing::info!(table, reason, "a parked table cannot be published yet");
                wait.pause = (wait.pause * 2).min(TRY_AGAIN.1);
                wait.at = Some(Instant::now() + wait.pause);
            }
        }
    }

    async fn tidy(&self) -> Result<()> {
        if let Err(error) = self.publisher.sweep(&[]).await {
            if error.code() == code::LEASE_LOST.name {
                return Err(error);
            }
            tracing::warn!(%error, "what was given up could not be swept; it is tried again");
        }
        if let Some((scope, window)) = &self.ids
            && let Ok(window) = chrono::TimeDelta::from_std(*window)
        {
            let session = self.session();
            let forget = || session.store.forget_ids(&session.pipeline.name, scope, chrono::Utc::now() - window);
            Policy::default().run(&session.patience, forget).await?;
        }
        Ok(())
    }
}

/// The same entry, but for the ids that it covers.
fn without_ids(entry: &mut Entry) -> Entry {
    let covers = std::mem::take(&mut entry.draft.covers);
    let mut rest = entry.clone();
    rest.draft.covers = covers.iter().filter(|covers| !is_of_ids(covers)).cloned().collect();
    entry.draft.covers = covers;
    rest
}

fn is_of_ids(covers: &Covers) -> bool {
    matches!(covers, Covers::Ids { .. })
}

/// Whether a writer is among the workers.
fn lives(writer: Writer, workers: &[i64]) -> bool {
    match writer {
        Writer::Worker { worker } => workers.contains(&worker),
        Writer::Lease(_) => false,
    }
}

/// Publishes a part within the time that a table may take. What is left undone by then is done again later, which changes nothing.
async fn attempt(publisher: &Publisher, part: &Part) -> Result<Result<Published, String>> {
    let session = &publisher.session;
    let patience = session.pipeline.stream.park_after;
    let policy = Policy { tries: 4, ..Policy::default() };
    let published = policy.run(&session.patience, || publisher.publish_part(part));
    match tokio::time::timeout(patience, published).await {
        Err(_) => Ok(Err(format!("it took longer than {} s", patience.as_secs_f64()))),
        Ok(Ok(published)) => Ok(Ok(published)),
        Ok(Err(error)) if matches!(error.kind(), Kind::Store | Kind::Bug) => Err(error),
        Ok(Err(error)) => Ok(Err(error.to_string())),
    }
}

/// Publishes what is parked of a table, in order of N, as far as it goes.
async fn catch_up(publisher: &Publisher, parts: Vec<Parked>) -> Result<(), String> {
    let tables: BTreeSet<String> = parts.iter().map(|part| part.table.clone()).collect();
    publisher.session.check_marks(&tables.into_iter().collect::<Vec<_>>()).await.map_err(|e| e.to_string())?;
    for parked in parts {
        // The ids are told by another table; a receipt has only the first of them.
        let covers = parked.receipt.covers.iter().filter(|covers| !is_of_ids(covers)).cloned().collect();
        let note = Note { run: parked.receipt.run.clone(), covers, landings: Vec::new(), entry: None };
        let part = Part {
            n: parked.n,
            table: parked.table,
            token: parked.token,
            amendment: parked.amendment,
            committables: parked.committables,
            note: note.to_json().map_err(|e| e.to_string())?,
        };
        let commit = match attempt(publisher, &part).await.map_err(|e| e.to_string())?? {
            Published::Done(commit) => Some(commit),
            Published::Already(commit) => commit,
            Published::Parked(reason) => return Err(reason),
            Published::Refused(refused) => return Err(format!("it refuses rows: {}", refused.reason)),
        };
        let receipt = Receipt { commit, parked: None, at: chrono::Utc::now(), ..parked.receipt };
        let unpark = || publisher.session.store.unpark(receipt.clone(), publisher.lease.epoch());
        Policy::default().run(&publisher.session.patience, unpark).await.map_err(|e| e.to_string())?;
    }
    Ok(())
}
