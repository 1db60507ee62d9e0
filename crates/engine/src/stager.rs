//! One table's rows on their way to the destination, beside those of other tables.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
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
/// Rows of a table are handed over so many bytes at a time: of a delivery for fifty tables each gets a few rows only.
const TOGETHER: usize = 256 << 10;

/// One table's rows on their way to the destination.
pub(crate) struct Stager {
    sender: mpsc::Sender<Result<Rows>>,
    task: JoinHandle<Result<destination::Staged>>,
    gathered: Vec<RecordBatch>,
    /// The bytes of what is gathered.
    pub(crate) bytes: usize,
    /// Where the rows came from.
    pub(crate) origins: Origins,
}

impl Stager {
    /// Whether it takes no more rows: it has failed.
    pub(crate) fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// Waits for it; `None` if it gave up as it was told to.
    pub(crate) async fn end(mut self, whole: bool) -> Result<Option<(destination::Staged, Origins)>> {
        // Whether it still listens does not matter: it has failed then.
        let _ = if whole { self.hand_over().await } else { self.send_on(Err(interrupted())).await };
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
    Stager { sender, task, gathered: Vec::new(), bytes: 0, origins: Origins::default() }
}

impl Stager {
    /// Takes rows, which may wait for others to go with.
    pub(crate) async fn gather(&mut self, rows: Rows) -> Result<()> {
        match rows {
            Rows::Plain(batch) => {
                self.bytes += batch.get_array_memory_size();
                self.gathered.push(batch);
                if self.bytes < TOGETHER { Ok(()) } else { self.hand_over().await }
            }
            changes @ Rows::Changes(_) => {
                self.hand_over().await?;
                self.send(changes).await
            }
        }
    }

    /// Hands over what was gathered.
    pub(crate) async fn hand_over(&mut self) -> Result<()> {
        self.bytes = 0;
        let mut gathered = std::mem::take(&mut self.gathered);
        let Some(mut together) = gathered.pop() else { return Ok(()) };
        if !gathered.is_empty() {
            gathered.push(together);
            together = concat_batches(&gathered[0].schema(), &gathered)
                .map_err(|e| Error::new(Kind::Bug, code::BUG, "rows of one table do not go together").caused_by(e))?;
        }
        self.send(Rows::Plain(together)).await
    }

    /// Hands over rows.
    pub(crate) async fn send(&self, rows: Rows) -> Result<()> {
        self.send_on(Ok(rows)).await
    }

    async fn send_on(&self, rows: Result<Rows>) -> Result<()> {
        // The stager's own error is found when its task is joined.
        self.sender.send(rows).await.map_err(|_| Error::new(Kind::Destination, code::BUG, "staging ended early"))
    }
}
