//! One table's rows on their way to the destination, beside those of other tables.

use std::sync::Arc;

use futures::stream::{self, StreamExt};
use longshore_core::Result;
use longshore_core::batch::Rows;
use longshore_core::commit::{AttemptId, Origins, WriteDisposition};
use longshore_core::destination::{self, Destination};
use longshore_core::error::{Error, Kind, code};
use longshore_core::schema::TableSchema;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::lease::interrupted;

/// Batches that wait for a table's encoder.
const WAITING: usize = 2;

/// One table's rows on their way to the destination.
pub(crate) struct Stager {
    sender: mpsc::Sender<Result<Rows>>,
    task: JoinHandle<Result<destination::Staged>>,
    /// Where the rows came from.
    pub(crate) origins: Origins,
}

impl Stager {
    /// Whether it takes no more rows: it has failed.
    pub(crate) fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// Waits for it; `None` if it gave up as it was told to.
    pub(crate) async fn end(self, whole: bool) -> Result<Option<(destination::Staged, Origins)>> {
        if !whole {
            // Whether it still listens does not matter: it has failed then.
            let _ = self.sender.send(Err(interrupted())).await;
        }
        drop(self.sender);
        match self.task.await {
            Ok(Ok(staged)) => Ok(Some((staged, self.origins))),
            Ok(Err(error)) if error.kind() == Kind::Interrupted && !whole => Ok(None),
            Ok(Err(error)) => Err(error),
            Err(panic) => Err(Error::new(Kind::Bug, code::BUG, "staging panicked").caused_by(panic)),
        }
    }
}

pub(crate) fn start(
    destination: &Arc<dyn Destination>,
    attempt: &AttemptId,
    table: &str,
    schema: &TableSchema,
    disposition: WriteDisposition,
) -> Stager {
    let (sender, mut receiver) = mpsc::channel(WAITING);
    let batches = stream::poll_fn(move |cx| receiver.poll_recv(cx)).boxed();
    let (destination, attempt, table, schema) = (destination.clone(), attempt.clone(), table.to_owned(), schema.clone());
    let task = tokio::spawn(async move { destination.stage(&attempt, &table, &schema, disposition, batches).await });
    Stager { sender, task, origins: Origins::default() }
}

pub(crate) async fn send(stager: &Stager, rows: Rows) -> Result<()> {
    // The stager's own error is found when its task is joined.
    stager.sender.send(Ok(rows)).await.map_err(|_| Error::new(Kind::Destination, code::BUG, "staging ended early"))
}
