//! What all stores refuse, in the same words.

use longshore_core::commit::{Adoption, CommitNumber, Draft, Receipt};
use longshore_core::error::{Error, Kind, Retry, code};
use longshore_core::store::Writer;

longshore_core::codes! {
    DEAD_LETTER_NOT_OPEN = "dead_letter_not_open": "A dead letter that was to be replayed is not open: it is unknown in this pipeline, was replayed or dropped before, or another replay of it is under way. Nothing was changed. `longshore dead-letters list` shows which are open.";
}

pub(crate) fn lease_lost(pipeline: &str, epoch: i64, current: Option<i64>) -> Error {
    Error::new(Kind::Store, code::LEASE_LOST, format!("another process has taken over pipeline {pipeline}"))
        .with("epoch", epoch)
        .with("current_epoch", current.map_or("none".to_owned(), |epoch| epoch.to_string()))
        .hint("the other process goes on with what was journalled; `longshore runs list` shows it")
}

pub(crate) fn worker_gone(pipeline: &str, worker: i64) -> Error {
    Error::new(Kind::Store, code::LEASE_LOST, format!("worker {worker} of pipeline {pipeline} was taken for dead"))
        .with("worker", worker)
        .hint("it did not renew itself in time; others go on with what was journalled, and a new worker can join")
}

/// `current` is the epoch of the lease, if there ever was one.
pub(crate) fn writer_gone(pipeline: &str, writer: Writer, current: Option<i64>) -> Error {
    match writer {
        Writer::Lease(epoch) => lease_lost(pipeline, epoch, current),
        Writer::Worker { worker } => worker_gone(pipeline, worker),
    }
}

pub(crate) fn amended_by_worker(pipeline: &str, worker: i64) -> Error {
    let text = format!("worker {worker} of pipeline {pipeline} tried to amend a commit without holding the lease");
    Error::new(Kind::Bug, code::BUG, text)
}

pub(crate) fn attempt_dead(draft: &Draft, wanted: usize, alive: usize) -> Error {
    Error::new(
        Kind::Store,
        code::ATTEMPT_DEAD,
        format!("{} of {wanted} attempts staged for pipeline {} were given up", wanted.saturating_sub(alive), draft.pipeline),
    )
    .with_retry(Retry::Backoff)
    .with("run", &draft.run)
}

pub(crate) fn ids_taken(draft: &Draft, scope: &str, taken: usize, wanted: usize) -> Error {
    Error::new(
        Kind::Store,
        code::DELTA_REFUSED,
        format!("{taken} of {wanted} ids of {scope} are already journalled in pipeline {}", draft.pipeline),
    )
}

pub(crate) fn amended_elsewhere(pipeline: &str, n: CommitNumber, amendment: i64) -> Error {
    Error::new(
        Kind::Store,
        code::DELTA_REFUSED,
        format!("commit {n} of pipeline {pipeline} was amended or completed by another process"),
    )
    .with("amendment", amendment)
}

pub(crate) fn dead_letters_not_open(draft: &Draft, open: usize, wanted: usize) -> Error {
    Error::new(
        Kind::Usage,
        DEAD_LETTER_NOT_OPEN,
        format!("{} of {wanted} dead letters to replay in pipeline {} are not open", wanted - open.min(wanted), draft.pipeline),
    )
    .hint("`longshore dead-letters list` shows which are open")
}

pub(crate) fn not_journalled(pipeline: &str, n: CommitNumber) -> Error {
    Error::new(Kind::Bug, code::BUG, format!("commit {n} of pipeline {pipeline} was never journalled"))
}

pub(crate) fn not_complete(pipeline: &str, n: CommitNumber) -> Error {
    Error::new(Kind::Bug, code::BUG, format!("commit {n} of pipeline {pipeline} was acknowledged before it was complete"))
}

pub(crate) fn receipt_missing(pipeline: &str, n: CommitNumber, table: &str) -> Error {
    Error::new(Kind::Bug, code::BUG, format!("commit {n} of pipeline {pipeline} was completed without a receipt for {table}"))
}

/// A part that is published now must not be said to be parked.
pub(crate) fn check_published(receipt: &Receipt) -> longshore_core::Result<()> {
    if receipt.parked.is_none() {
        return Ok(());
    }
    let text =
        format!("commit {} of pipeline {} is not published to {}, so its part stays", receipt.n, receipt.pipeline, receipt.table);
    Err(Error::new(Kind::Bug, code::BUG, text))
}

/// A mark that no commit can have left means that the caller misread the destination.
pub(crate) fn check_marks(pipeline: &str, adoption: &Adoption) -> longshore_core::Result<()> {
    match adoption.marks.iter().find(|(_, n)| **n < 1) {
        None => Ok(()),
        Some((table, n)) => {
            let text = format!("{n} is no commit number that table {table} of pipeline {pipeline} could hold");
            Err(Error::new(Kind::Bug, code::BUG, text))
        }
    }
}

pub(crate) fn no_run(run: &str) -> Error {
    Error::new(Kind::Usage, code::USAGE, format!("there is no run {run}")).hint("`longshore runs list` shows them")
}

pub(crate) fn run_finished(run: &str) -> Error {
    Error::new(Kind::Bug, code::BUG, format!("run {run} is finished, so nothing can happen in it any more"))
}

pub(crate) fn run_ambiguous(beginning: &str, candidates: &[String]) -> Error {
    Error::new(Kind::Usage, code::USAGE, format!("several runs begin with {beginning}"))
        .with("candidates", candidates.join(", "))
        .hint(format!("write more of the id: {}", candidates.join(", ")))
}
