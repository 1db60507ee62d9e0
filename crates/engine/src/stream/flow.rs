//! One worker's part: steps 1, 2 and 5 of each commit.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures::stream::{BoxStream, StreamExt};
use longshore_core::Result;
use longshore_core::commit::{CommitNumber, DEAD_LETTERS, Entry, EntryState};
use longshore_core::error::{Error, Kind, Retry, code};
use longshore_core::event::{RunEvent, Summary};
use longshore_core::failpoint;
use longshore_core::position::Covers;
use longshore_core::retry::Policy;
use longshore_core::stop::Stop;
use longshore_core::stream::{Decoded, Delivery, Letterbox};

use super::arrivals::{Arrivee, What, on_a_thread};
use super::copies::Copies;
use super::figures::Figures;
use super::publish::{News, Publishing};
use super::reader::Reader;
use super::tables::TableBook;
use super::window::{Broken, Full, Window};
use super::worker::HeldWorker;
use crate::lease::interrupted;
use crate::session::Session;

/// Commits that may be journalled and not complete before reading waits.
const OPEN: usize = 8;
/// How often this worker asks how far its commits are, besides when it is told; and how often it tells how the source flows.
const TICK: Duration = Duration::from_secs(1);
/// How often in a row staging is tried again before the run fails.
const TRIES: u32 = 6;
/// How often in a row staging for a table is tried before its messages are dead letters.
const TRIES_OF_A_TABLE: u32 = 3;

/// A commit of this worker that is not complete.
pub(crate) struct Open {
    n: CommitNumber,
    covers: Vec<Covers>,
    rows: BTreeMap<String, u64>,
    oldest: Option<DateTime<Utc>>,
}

/// A worker at work.
pub(crate) struct Flow {
    pub(crate) session: Arc<Session>,
    pub(crate) reader: Reader,
    pub(crate) arrivals: BoxStream<'static, Result<Arrivee>>,
    pub(crate) book: TableBook,
    pub(crate) worker: HeldWorker,
    pub(crate) news: Arc<News>,
    /// `None` once its end is known.
    pub(crate) publishing: Option<Publishing>,
    /// Tells the publisher to end.
    pub(crate) no_more: Stop,
    /// Messages and bytes that a commit may hold, or the broker sends no more.
    pub(crate) at_most: (u64, u64),
    /// Where copies of dead letters go.
    pub(crate) boxes: Vec<Arc<dyn Letterbox>>,
    /// Whether it was told that copies do not arrive.
    pub(crate) told_of_copies: Arc<AtomicBool>,
    /// Whether to end when everything that was there has landed.
    pub(crate) until_idle: bool,
    pub(crate) generation: u64,
    /// Whether everything that was there has been handed out.
    pub(crate) idle: bool,
    /// A delivery that came while something else was waited for.
    pub(crate) waiting: Option<(Delivery, Decoded)>,
    /// Why reading failed, until it is begun again.
    pub(crate) failure: Option<Error>,
    /// How often in a row reading has failed.
    pub(crate) unread: u32,
    pub(crate) open: VecDeque<Open>,
    pub(crate) figures: Figures,
    pub(crate) ticked: Option<Instant>,
}

/// Why gathering ended.
enum End {
    /// The commit is full, or had better end.
    Full,
    /// What was gathered is not to be journalled: it comes again.
    Again(Error),
}

impl Flow {
    /// Steps 1, 2 and 5, over and over.
    pub(crate) async fn run(&mut self) -> Result<()> {
        let mut failed = 0;
        loop {
            self.make_room().await?;
            if let Some(error) = self.failure.take() {
                self.read_again(error).await?;
            }
            if self.session.cx.stop.is_requested() {
                return Err(interrupted());
            }
            if self.until_idle && self.idle && self.open.is_empty() && self.all_shown().await? {
                return Ok(());
            }

            // 1. Stage: rows go to their tables' stagers as they come. A crash here means invisible files, and a source that has everything.
            let first = match self.waiting.take() {
                Some(first) => first,
                None => match self.next().await? {
                    Some(first) => first,
                    None => continue,
                },
            };
            let session = self.session.clone();
            let copies = Copies::new(self.boxes.clone(), session.patience.clone(), self.told_of_copies.clone());
            let mut window = Window::begin(&session, self.worker.writer(), copies, self.at_most, self.figures.rejects()).await?;
            failpoint::hit("attempt.after");
            let staged = match self.gather(&mut window, first).await {
                Ok(End::Full) => window.finish().await,
                Ok(End::Again(error)) | Err(error) => Err(error),
            };
            let attempt = window.attempt.clone();
            let full = match staged {
                Ok(full) => full,
                Err(error) => {
                    let error = window.drop_rows().await.unwrap_or(error);
                    let broken = window.broken();
                    session.give_up(&attempt).await;
                    self.recover(error, broken, &mut failed).await?;
                    continue;
                }
            };
            drop(window);
            if full.draft.covers.iter().all(covers_nothing) {
                // Nothing of what was read is to be journalled: dead letters that still do not fit.
                session.give_up(&attempt).await;
                continue;
            }
            failpoint::hit("stage.after");

            // 2. Journal. From here on the commit will become visible, whoever publishes it, and its messages are never asked for again.
            failpoint::hit("journal.before");
            match self.journal(full).await {
                Ok(()) => failed = 0,
                // Another worker was faster, or took us for dead: the journal says what is left to do.
                Err(error) if REFUSALS.contains(&error.code()) => {
                    session.give_up(&attempt).await;
                    if error.code() == code::LEASE_LOST.name {
                        let session = &self.session;
                        self.worker = HeldWorker::join(&session.store, &session.pipeline.name, &session.cx.run).await?;
                    }
                    tracing::info!(%error, "a commit was refused; its messages are asked for again");
                    self.rewind().await?;
                }
                Err(error) => return Err(error),
            }
            failpoint::hit("journal.after");
        }
    }

    /// Waits while too many commits are open.
    async fn make_room(&mut self) -> Result<()> {
        self.acknowledge().await?;
        while self.open.len() >= OPEN && !self.session.cx.stop.is_requested() {
            self.pause().await?;
        }
        Ok(())
    }

    /// Whether what others journalled is published, too, and what is theirs is read: a worker that died may have left both. Waits a moment if
    /// not.
    async fn all_shown(&mut self) -> Result<bool> {
        let session = self.session.clone();
        let state = Policy::default().run(&session.patience, || session.store.pipeline(&session.pipeline.name)).await?;
        let all_shown = state.open.iter().all(|entry| entry.state > EntryState::Journalled);
        if all_shown && self.reader.rest_is_read().await? {
            return Ok(true);
        }
        // It may be given to us, and we are told of it as of anything else.
        if let Some(first) = self.next().await? {
            self.waiting = Some(first);
            return Ok(false);
        }
        self.pause().await?;
        Ok(false)
    }

    /// Waits until commits are complete, or for a tick.
    async fn pause(&mut self) -> Result<()> {
        let (news, stop) = (self.news.clone(), self.session.cx.stop.clone());
        tokio::select! {
            () = news.completed.notified() => {}
            () = tokio::time::sleep(TICK / 4) => {}
            () = stop.requested() => {}
        }
        self.tick().await?;
        self.acknowledge().await
    }

    /// The next delivery; `None` if something else came, which may have changed what is to be done.
    async fn next(&mut self) -> Result<Option<(Delivery, Decoded)>> {
        let (news, stop) = (self.news.clone(), self.session.cx.stop.clone());
        let arrivee = tokio::select! {
            biased;
            () = stop.requested() => return Ok(None),
            arrivee = self.arrivals.next() => arrivee,
            () = news.completed.notified() => {
                self.acknowledge().await?;
                return Ok(None);
            }
            () = tokio::time::sleep(TICK) => {
                self.tick().await?;
                self.acknowledge().await?;
                return Ok(None);
            }
        };
        let Arrivee { generation, what } = arrivee.ok_or_else(|| {
            Error::new(Kind::Source, code::BUG, "the source ended, which it never should").with_retry(Retry::Backoff)
        })??;
        if generation != self.generation {
            return Ok(None);
        }
        match what {
            What::Delivery(delivery, decoded, version) => {
                (self.idle, self.unread) = (false, 0);
                let decoded = self.settle(&delivery, decoded, version).await?;
                Ok(Some((delivery, decoded)))
            }
            What::CaughtUp => {
                (self.idle, self.unread) = (true, 0);
                Ok(None)
            }
            What::Rebalance => Ok(None),
            What::Failed(error) => {
                self.read_again(error).await?;
                Ok(None)
            }
        }
    }

    /// Takes deliveries into a commit until it is full, the source has no more for now and nobody waits for more, or others take over.
    async fn gather(&mut self, window: &mut Window<'_>, first: (Delivery, Decoded)) -> Result<End> {
        let (delivery, decoded) = first;
        window.take(delivery, decoded, &self.book).await?;
        let (news, stop) = (self.news.clone(), self.session.cx.stop.clone());
        while !window.is_full() {
            let arrivee = tokio::select! {
                biased;
                () = stop.requested() => break,
                () = tokio::time::sleep_until(window.deadline().into()) => break,
                () = news.completed.notified() => {
                    self.acknowledge().await?;
                    continue;
                }
                arrivee = self.arrivals.next() => arrivee,
            };
            let Some(arrivee) = arrivee else { break };
            let Arrivee { generation, what } = arrivee?;
            if generation != self.generation {
                continue;
            }
            match what {
                What::Delivery(delivery, decoded, version) => {
                    (self.idle, self.unread) = (false, 0);
                    match self.settle(&delivery, decoded, version).await {
                        Ok(decoded) => window.take(delivery, decoded, &self.book).await?,
                        Err(error) => return Ok(End::Again(error)),
                    }
                }
                What::CaughtUp => {
                    (self.idle, self.unread) = (true, 0);
                    if self.until_idle {
                        break;
                    }
                }
                What::Rebalance => break,
                // What was gathered is whole: it is journalled first, and the source begins behind it.
                What::Failed(error) => {
                    self.failure = Some(error);
                    break;
                }
            }
            self.tick().await?;
        }
        Ok(End::Full)
    }

    /// A delivery decoded for the tables as they are now, after what could be done for what it wants.
    async fn settle(&mut self, delivery: &Delivery, decoded: Result<Decoded>, mut version: u64) -> Result<Decoded> {
        self.book.refresh().await?;
        let mut decoded = decoded;
        let mut failed = 0;
        loop {
            match decoded {
                Ok(mut settled) => {
                    let wanted = std::mem::take(&mut settled.wanted);
                    let changed = !wanted.is_empty() && self.book.settle(wanted).await?;
                    if !changed && version == self.book.snapshot().version {
                        return Ok(settled);
                    }
                }
                // Something that decoding needs cannot be reached: it is waited for, for any time.
                Err(error) if error.retry() == Retry::Backoff => {
                    failed += 1;
                    let pause = Duration::from_secs(1 << failed.min(5));
                    if failed == 1 {
                        self.session.cx.events.send(RunEvent::Waiting { reason: error.to_string() });
                    }
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = self.session.cx.stop.requested() => return Err(interrupted()),
                    }
                    self.tick().await?;
                }
                Err(error) => return Err(error),
            }
            let snapshot = self.book.snapshot();
            version = snapshot.version;
            decoded = on_a_thread(delivery.decode.clone(), snapshot.tables.clone()).await?;
        }
    }

    /// Step 2. The answer may be lost: the token makes the repeated call find what the first one wrote.
    async fn journal(&mut self, full: Full) -> Result<()> {
        let Full { draft, messages, oldest } = full;
        let session = &self.session;
        let entry = Policy::default().run(&session.patience, || session.store.journal(draft.clone())).await?;
        let Entry { n, draft, .. } = entry;
        session.cx.events.send(RunEvent::Journalled { n });
        self.figures.journalled(messages, &draft.counts);
        self.reader.journalled(draft.covers.clone());
        self.open.push_back(Open { n, covers: draft.covers, rows: draft.counts.rows, oldest });
        self.news.journalled.notify_one();
        Ok(())
    }

    /// Step 5 for every commit of ours that is complete. A crash here means that the source is told by what it hands out again.
    async fn acknowledge(&mut self) -> Result<()> {
        if let Some(publishing) = self.publishing.take_if(|publishing| publishing.has_ended()) {
            let ended = || Error::new(Kind::Bug, code::BUG, "publishing ended before the run");
            return Err(publishing.end().await.err().unwrap_or_else(ended));
        }
        if self.open.is_empty() {
            return Ok(());
        }
        let session = self.session.clone();
        let numbers: Vec<CommitNumber> = self.open.iter().map(|open| open.n).collect();
        let ask = || session.store.states(&session.pipeline.name, &numbers);
        let states = Policy::default().run(&session.patience, ask).await?;
        let done = |n: CommitNumber| states.get(&n).is_none_or(|state| *state >= EntryState::Complete);
        let (complete, open): (VecDeque<Open>, VecDeque<Open>) = self.open.drain(..).partition(|open| done(open.n));
        self.open = open;
        for Open { n, covers, rows, oldest } in complete {
            failpoint::hit("acknowledge.before");
            self.reader.acknowledge(covers);
            failpoint::hit("acknowledge.after");
            Policy::default().run(&session.patience, || session.store.acknowledged(&session.pipeline.name, n)).await?;
            failpoint::hit("acknowledged.after");
            session.cx.events.send(RunEvent::Completed { n });
            self.figures.completed(n, rows, oldest);
        }
        Ok(())
    }

    /// After staging failed, so many times in a row with this one. Returns the error if it is of no use to try again.
    async fn recover(&mut self, error: Error, broken: Broken, failed: &mut u32) -> Result<()> {
        *failed += 1;
        let passes = error.retry() == Retry::Backoff;
        // What is the matter with tables shall not be the others' trouble, unless it is the matter with the destination.
        let theirs = error.kind() == Kind::Destination
            && (!passes || broken.others_are_fine)
            && !broken.tables.is_empty()
            && broken.tables.iter().all(|(table, _)| table != DEAD_LETTERS);
        if theirs && *failed >= TRIES_OF_A_TABLE {
            *failed = 0;
            broken.tables.iter().for_each(|(table, why)| self.book.close(table, why));
            return self.rewind().await;
        }
        if !theirs && (!passes || *failed >= TRIES) {
            return Err(error);
        }
        self.again(&error, *failed).await
    }

    /// After reading failed. Returns the error if it does not pass.
    async fn read_again(&mut self, error: Error) -> Result<()> {
        self.unread += 1;
        if error.retry() != Retry::Backoff || self.unread >= TRIES {
            return Err(error);
        }
        match self.again(&error, self.unread).await {
            Err(other) if other.kind() != Kind::Interrupted => Err(error),
            waited => waited,
        }
    }

    /// The tables may be others now.
    async fn again(&mut self, error: &Error, failed: u32) -> Result<()> {
        let pause = error.retry_after().unwrap_or(Duration::from_millis(200 << failed.min(8)));
        if !self.session.patience.wait(pause, || error.to_string()).await {
            return Err(interrupted());
        }
        self.book.forget();
        self.rewind().await
    }

    async fn rewind(&mut self) -> Result<()> {
        self.idle = false;
        self.waiting = None;
        self.generation = self.reader.rewind().await?;
        Ok(())
    }

    /// Tells how the source flows, once in a while; sees whether somebody asked this run to stop.
    async fn tick(&mut self) -> Result<()> {
        if self.ticked.is_some_and(|at| at.elapsed() < TICK) {
            return Ok(());
        }
        self.ticked = Some(Instant::now());
        let session = self.session.clone();
        if session.store.cancel_requested(&session.cx.run).await.unwrap_or(false) {
            session.cx.stop.request();
        }
        // These are figures for people: a store that is away for a moment is waited for where it matters.
        let state = match session.store.pipeline(&session.pipeline.name).await {
            Err(error) if error.retry() == Retry::Backoff => return Ok(()),
            state => state?,
        };
        self.figures.look(state);
        self.figures.tell(self.open.len(), self.reader.lag(), false);
        Ok(())
    }

    /// Ends: if all went well, or somebody asked, what is journalled is waited for as long as the grace period; then everybody is let go of.
    pub(crate) async fn leave(mut self, well: bool, summary: &mut Summary) -> Result<()> {
        let mut result = Ok(());
        if well {
            let deadline = Instant::now() + self.session.pipeline.stream.grace;
            while result.is_ok() && !self.open.is_empty() && Instant::now() < deadline {
                let completed = self.news.completed.notified();
                let _ = tokio::time::timeout(TICK / 10, completed).await;
                result = self.acknowledge().await;
            }
        }
        if let Ok(state) = self.session.store.pipeline(&self.session.pipeline.name).await {
            self.figures.look(state);
        }
        self.figures.tell(self.open.len(), self.reader.lag(), true);
        self.figures.write(summary);
        // The lanes hold deliveries, which hold memory that the reader may wait for.
        self.arrivals = futures::stream::empty().boxed();
        let closed = self.reader.close().await;
        self.no_more.request();
        let published = match self.publishing.take() {
            Some(publishing) => publishing.end().await,
            None => Ok(()),
        };
        result.and(closed).and(published).and(self.worker.leave().await)
    }
}

fn covers_nothing(covers: &Covers) -> bool {
    match covers {
        Covers::Ids { ids, .. } => ids.is_empty(),
        Covers::Deltas(deltas) => deltas.is_empty(),
    }
}

/// What the journal answers to a commit that is not to be: nothing of it was written.
const REFUSALS: [&str; 3] = [code::DELTA_REFUSED.name, code::ATTEMPT_DEAD.name, code::LEASE_LOST.name];
