//! Dead letters of an endless source as an endless source: their messages come once more.
//!
//! It runs as one more worker beside those that read the source, so nothing has to be stopped. A letter that fits now lands and is covered by its
//! id; the commit that lands it closes it. One that still does not fit is covered by nothing: it stays open, as it was, and no letter is made of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use longshore_core::Result;
use longshore_core::batch::Payload;
use longshore_core::budget::Permit;
use longshore_core::commit::DEAD_LETTERS;
use longshore_core::error::{Error, Kind, code};
use longshore_core::event::Events;
use longshore_core::letters::{Letter, Letters};
use longshore_core::position::Covers;
use longshore_core::source::Context;
use longshore_core::stream::{Arrival, Decode, Decoded, Delivery, Lag, Progress, StreamSource, Subscription, Tables};
use tokio::task::JoinHandle;

/// Letters that are handed out together.
const TOGETHER: usize = 200;
/// Letters that are told one by one when they stay open.
const TOLD: usize = 5;

/// The letters of a source, and how its messages are decoded.
pub struct ReplayStream {
    letters: Arc<dyn Letters>,
    source: Arc<dyn StreamSource>,
    kept: Arc<Mutex<BTreeMap<String, String>>>,
}

impl ReplayStream {
    /// These letters, decoded as this source does it; the source itself is not read.
    pub fn new(letters: Arc<dyn Letters>, source: Arc<dyn StreamSource>) -> Self {
        Self { letters, source, kept: Arc::default() }
    }

    /// The letters that stay open because they still do not fit, and why.
    pub fn kept(&self) -> BTreeMap<String, String> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl StreamSource for ReplayStream {
    async fn subscribe(&self, cx: &Context, _: Arc<dyn Progress>) -> Result<Box<dyn Subscription>> {
        let waiting = self.letters.open().await?.into_iter().collect();
        let (letters, source, kept) = (self.letters.clone(), self.source.clone(), self.kept.clone());
        Ok(Box::new(Replay { letters, source, kept, cx: cx.clone(), waiting, fetching: None, told_idle: false }))
    }

    async fn inspect(&self, _: &Context) -> Result<Vec<String>> {
        Ok(vec![format!("{} dead letters", self.letters.open().await?.len())])
    }
}

struct Replay {
    letters: Arc<dyn Letters>,
    source: Arc<dyn StreamSource>,
    kept: Arc<Mutex<BTreeMap<String, String>>>,
    cx: Context,
    /// Ids, with the bytes of their payloads.
    waiting: VecDeque<(String, u64)>,
    /// Those of them that come next. Waiting for them may be broken off, and they are not asked for anew.
    fetching: Option<Fetching>,
    told_idle: bool,
}

struct Fetching {
    letters: usize,
    bytes: u64,
    task: JoinHandle<Result<(Permit, Vec<Letter>)>>,
}

impl Drop for Fetching {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[async_trait]
impl Subscription for Replay {
    async fn next(&mut self) -> Result<Arrival> {
        let most = self.cx.budget.total() / 4;
        if self.waiting.is_empty() {
            if std::mem::replace(&mut self.told_idle, true) {
                std::future::pending::<()>().await;
            }
            return Ok(Arrival::CaughtUp);
        }
        let fetching = self.fetching.get_or_insert_with(|| fetch(&self.letters, &self.cx, &self.waiting, most));
        let fetched = (&mut fetching.task).await;
        let (count, bytes) = (fetching.letters, fetching.bytes);
        self.fetching = None;
        let panicked = |e| Error::new(Kind::Bug, code::BUG, "reading dead letters panicked").caused_by(e);
        let (permit, letters) = fetched.map_err(panicked)??;
        let mut again = Vec::with_capacity(letters.len());
        for letter in letters {
            match self.again(letter, most)? {
                Ok(one) => again.push(one),
                Err((id, why)) => keep(&self.kept, &self.cx.events, id, why),
            }
        }
        self.waiting.drain(..count);
        let ids = again.iter().map(|(id, _)| id.clone()).collect();
        Ok(Arrival::Delivery(Delivery {
            messages: again.len() as u64,
            bytes,
            oldest: None,
            decode: Arc::new(Again { letters: again, kept: self.kept.clone(), events: self.cx.events.clone() }),
            covers: vec![Covers::Ids { scope: DEAD_LETTERS.to_owned(), ids }],
            permit: Some(permit),
        }))
    }

    fn journalled(&mut self, _: &[Covers]) {}

    async fn acknowledge(&mut self, _: &[Covers]) -> Result<()> {
        Ok(())
    }

    async fn rewind(&mut self) -> Result<()> {
        self.fetching = None;
        self.waiting = self.letters.open().await?.into_iter().collect();
        self.told_idle = false;
        Ok(())
    }

    fn lag(&self) -> Vec<Lag> {
        vec![Lag { name: "dead letters".to_owned(), messages: Some(self.waiting.len() as u64) }]
    }

    async fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Begins to read the letters that come next.
fn fetch(letters: &Arc<dyn Letters>, cx: &Context, waiting: &VecDeque<(String, u64)>, most: u64) -> Fetching {
    let (mut ids, mut bytes) = (Vec::new(), 0);
    for (id, size) in waiting.iter().take(TOGETHER) {
        if !ids.is_empty() && bytes + size > most {
            break;
        }
        bytes += size;
        ids.push(id.clone());
    }
    let (count, letters, budget) = (ids.len(), letters.clone(), cx.budget.clone());
    let task = tokio::spawn(async move {
        let permit = budget.take(bytes).await;
        Ok((permit, letters.fetch(&ids).await?))
    });
    Fetching { letters: count, bytes, task }
}

impl Replay {
    /// What decodes a letter, or its id and why nothing does.
    fn again(&self, mut letter: Letter, most: u64) -> Result<Decodable> {
        if let Payload::File { path, length, .. } = &letter.payload {
            let id = letter.id.clone();
            if *length > most {
                return Ok(Err((id, format!("its {length} bytes are more than a quarter of the memory; raise --memory"))));
            }
            match std::fs::read(path) {
                Ok(bytes) => letter.payload = Payload::Inline(bytes),
                Err(e) => return Ok(Err((id, format!("its payload cannot be read from {}: {e}", path.display())))),
            }
        }
        Ok(self.source.again(&letter)?.map(|decode| (letter.id.clone(), decode)).map_err(|why| (letter.id, why)))
    }
}

/// What decodes a letter, or why nothing does; with its id.
type Decodable = std::result::Result<(String, Arc<dyn Decode>), (String, String)>;

/// Letters, each by itself: what does not fit is left.
struct Again {
    letters: Vec<(String, Arc<dyn Decode>)>,
    kept: Arc<Mutex<BTreeMap<String, String>>>,
    events: Events,
}

/// Notes that a letter stays open, and tells the first ones.
fn keep(kept: &Mutex<BTreeMap<String, String>>, events: &Events, id: String, why: String) {
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    if kept.len() < TOLD && !kept.contains_key(&id) {
        events.warn(format!("dead letter {id} stays open: {why}"));
    }
    kept.insert(id, why);
}

impl Decode for Again {
    fn decode(&self, tables: &Tables) -> Result<Decoded> {
        let mut all = Decoded::default();
        let mut kept: BTreeMap<String, String> = BTreeMap::new();
        let mut fit: BTreeSet<String> = BTreeSet::new();
        for (id, letter) in &self.letters {
            let mut decoded = letter.decode(tables)?;
            all.wanted.append(&mut decoded.wanted);
            let rejects = decoded.batches.iter_mut().flat_map(|batch| std::mem::take(&mut batch.rejects)).chain(decoded.rejects);
            match rejects.last() {
                Some(reject) => drop(kept.insert(id.clone(), reject.reason)),
                None => {
                    fit.insert(id.clone());
                    all.batches.append(&mut decoded.batches);
                }
            }
        }
        all.left = kept.keys().cloned().collect();
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).retain(|id, _| !fit.contains(id));
        kept.into_iter().for_each(|(id, why)| keep(&self.kept, &self.events, id, why));
        Ok(all)
    }
}
