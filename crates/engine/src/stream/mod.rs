//! A run over a source that never ends. The same five steps as for files, as one of any number of workers:
//!
//! - a [`reader`] owns the subscription and hands its deliveries to the lanes, which decode them against the tables that there are now;
//! - [`flow::Flow::run`] takes them in order into a [`window`], until it is full, and journals it: steps 1 and 2;
//! - whoever of the workers holds the lease [`publish`]es, for all of them: steps 3 and 4;
//! - each worker acknowledges its own commits when they are complete: step 5.

mod arrivals;
mod copies;
mod figures;
mod flow;
mod publish;
mod reader;
pub(crate) mod replay;
mod schemas;
mod tables;
mod window;
mod worker;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use async_trait::async_trait;
use longshore_core::commit::EntryState;
use longshore_core::destination::Destination;
use longshore_core::error::Kind;
use longshore_core::event::{Observer, RunEvent, Summary};
use longshore_core::position::{Partition, Position};
use longshore_core::retry::{Patience, Policy};
use longshore_core::schema::TableSchema;
use longshore_core::source::Context;
use longshore_core::stop::Stop;
use longshore_core::store::Store;
use longshore_core::stream::{Letterbox, Progress, StreamSource};
use longshore_core::{Error, Result};

use self::arrivals::decoded;
use self::copies::FolderBox;
use self::figures::Figures;
use self::flow::Flow;
use self::publish::{News, Publishing};
use self::reader::Reader;
use self::tables::TableBook;
use self::worker::HeldWorker;
use crate::history::Frame;
use crate::pipeline::{Outcome, Pipeline};
use crate::session::Session;

/// Runs a pipeline over an endless source, as one of any number of workers, until it is told to stop; with `until_idle` until everything that
/// was there has landed.
///
/// Returns what it did. Errors by kind: `Source`, `Destination`, `Store`, `Interrupted`; what is journalled stays, and is published by the next
/// run or another worker. Safe to repeat and to call from several processes at once.
pub async fn run_stream(
    store: Arc<dyn Store>,
    source: Arc<dyn StreamSource>,
    destination: Arc<dyn Destination>,
    pipeline: &Pipeline,
    observer: Arc<dyn Observer>,
    stop: Stop,
    until_idle: bool,
) -> Result<Outcome> {
    let frame = Frame::open(&store, pipeline, observer.clone(), stop, is_kept).await?;
    let mut summary = Summary::default();
    let result = work(store, source, destination, pipeline, frame.cx.clone(), &observer, until_idle, &mut summary).await;
    let (run, summary) = frame.close(result, summary).await?;
    let over_max = pipeline.max_dead_letters.is_some_and(|max| summary.rejects > max);
    Ok(Outcome { run, summary, over_max })
}

/// The tables of a folder of schema files, and why others of its files cannot be used.
pub(crate) fn schemas(folder: &std::path::Path) -> Result<(BTreeMap<String, TableSchema>, Vec<Error>)> {
    let mut schemas = schemas::Schemas::default();
    let (tables, wrong) = schemas.refresh(folder)?;
    let of = |table: String| schemas.of(&table).cloned().map(|schema| (table, schema));
    Ok((tables.into_iter().filter_map(of).collect(), wrong))
}

/// What comes with every commit would fill the history of a run that never ends.
fn is_kept(event: &RunEvent) -> bool {
    use RunEvent::{Completed, Journalled, Progress, Published};
    !matches!(event, Progress { .. } | Journalled { .. } | Published { .. } | Completed { .. })
}

#[expect(clippy::too_many_arguments, reason = "what a run is made of, once")]
async fn work(
    store: Arc<dyn Store>,
    source: Arc<dyn StreamSource>,
    destination: Arc<dyn Destination>,
    pipeline: &Pipeline,
    cx: Context,
    observer: &Arc<dyn Observer>,
    until_idle: bool,
    summary: &mut Summary,
) -> Result<()> {
    destination.attend(&Patience { stop: cx.stop.clone(), events: cx.events.clone() });
    let application = store.pipeline(&pipeline.name).await?.application;
    let session = Arc::new(Session::new(store.clone(), destination.clone(), pipeline, application, cx));
    let worker = HeldWorker::join(&store, &pipeline.name, &session.cx.run).await?;
    let books = Arc::new(Books { store, pipeline: pipeline.name.clone(), patience: session.patience.clone() });
    let subscription = match source.subscribe(&session.cx, books).await {
        Ok(subscription) => subscription,
        Err(error) => {
            worker.leave().await?;
            return Err(error);
        }
    };
    let (news, no_more) = (Arc::new(News::default()), Stop::default());
    let publishing = Publishing::start(session.clone(), news.clone(), subscription.remembers(), no_more.clone());
    // While one commit is on its way, the next one is read.
    let half = |(messages, bytes): (u64, u64)| (messages.div_ceil(2), bytes.div_ceil(2));
    let at_most = subscription.outstanding().map_or((u64::MAX, u64::MAX), half);
    let (reader, arrivals) = Reader::start(subscription, session.cx.events.clone());
    let book = TableBook::new(session.clone());
    let folder = pipeline.stream.dead_letter_folder.clone().map(|folder| Arc::new(FolderBox(folder)) as Arc<dyn Letterbox>);
    let boxes = source.letterbox().into_iter().chain(folder).collect();
    let arrivals = decoded(arrivals, book.shared(), pipeline.lanes);
    let mut flow = Flow {
        session: session.clone(),
        reader,
        arrivals,
        book,
        worker,
        news,
        publishing: Some(publishing),
        no_more,
        at_most,
        boxes,
        told_of_copies: Arc::default(),
        until_idle,
        generation: 0,
        idle: false,
        waiting: None,
        failure: None,
        unread: 0,
        open: VecDeque::new(),
        figures: Figures::new(observer.clone(), session.cx.events.clone()),
        ticked: None,
    };
    let result = flow.run().await;
    let well = result.as_ref().err().is_none_or(|error| error.kind() == Kind::Interrupted);
    let left = flow.leave(well, summary).await;
    result.and(left).and(session.destination.close().await)
}

/// What the journal knows, for the source.
struct Books {
    store: Arc<dyn Store>,
    pipeline: String,
    patience: Patience,
}

#[async_trait]
impl Progress for Books {
    async fn position(&self, partition: &Partition) -> Result<Option<Position>> {
        Policy::default().run(&self.patience, || self.store.position(&self.pipeline, partition)).await
    }

    async fn known(&self, scope: &str, ids: &[String]) -> Result<BTreeMap<String, bool>> {
        let known = Policy::default().run(&self.patience, || self.store.known_ids(&self.pipeline, scope, ids)).await?;
        Ok(known.into_iter().map(|(id, state)| (id, state > EntryState::Journalled)).collect())
    }
}
