//! What every destination must do, as a list of checks. A connector and its twins run all of it: no opt-out.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use async_trait::async_trait;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use longshore_core::batch::{Payload, Rows};
use longshore_core::commit::{Application, AttemptId, CommitNumber, Committable, Contract, Published, WriteDisposition};
use longshore_core::destination::{Batches, Destination, Fence, Mode, PastCommit, Plan, Publication, SchemaChange};
use longshore_core::error::{Code, Error, Kind, Retry, code};
use longshore_core::schema::{Field, TableSchema, Type};
use longshore_core::table_options::TableOptions;
use longshore_core::{Result, schema};
use serde_json::{Value, json};
use tokio::sync::Barrier;

/// A way to fail, once, at the next step that it fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Writing staged rows fails (a full disk).
    StageFails,
    /// The write that would make rows visible fails and is not done.
    PublishRefused,
    /// The write that makes rows visible is done, and its answer is lost.
    PublishAnswerLost,
    /// The write that changes a table's columns is done, and its answer is lost.
    PrepareAnswerLost,
}

/// A destination under test: empty, and able to say what nobody else can see of it.
#[async_trait]
pub trait Subject: Send + Sync {
    /// Another worker over the same tables, as another process would open it.
    fn worker(&self) -> Arc<dyn Destination>;
    /// Makes the next fitting step of any worker fail.
    fn arm(&self, fault: Fault);
    /// The visible rows of a table as JSON objects, nulls left out, in any order; none if there is no such table.
    async fn visible(&self, table: &str) -> Vec<Value>;
    /// How many pieces of staged rows are kept (files, streams), visible or not.
    async fn kept(&self) -> usize;
    /// Removes a table, as a person would behind our back.
    async fn drop_table(&self, table: &str);
    /// Whether `kept` counts what is staged, until and after it is published. (What is in streams of a server nobody counts; files for
    /// a load go once they are loaded.)
    fn counts_what_is_kept(&self) -> bool {
        true
    }
    /// Whether the mark is written before the rows show, beside them, and not with them in one step.
    fn marks_first(&self) -> bool {
        false
    }
    /// Whether a worker that publishes what another one is publishing, or has published without knowing, is told so.
    fn tells_who_was_first(&self) -> bool {
        true
    }
}

mod checks;

type Check = fn(Bench) -> BoxFuture<'static, ()>;

macro_rules! checks {
    ($($name:ident),* $(,)?) => {
        &[$((stringify!($name), (|bench| checks::$name(bench).boxed()) as Check)),*]
    };
}

/// The list: what must hold, and the check of it.
const CHECKS: &[(&str, Check)] = checks![
    staged_rows_are_not_visible,
    published_twice_is_visible_once,
    a_lower_number_after_a_higher_one_changes_nothing,
    several_committables_become_visible_in_one_commit,
    two_workers_publishing_the_same_number_at_once_publish_it_once,
    two_workers_with_different_numbers_lose_and_double_nothing,
    a_refused_fence_leaves_nothing_visible,
    a_lost_answer_of_publish_is_settled,
    a_refused_write_leaves_nothing_visible_and_is_repeated,
    a_failed_stage_leaves_nothing_visible_and_is_repeated,
    a_stream_that_fails_is_not_staged,
    a_dry_run_changes_nothing,
    preparing_twice_is_preparing_once,
    no_columns_make_no_table_and_leave_one_as_it_is,
    a_lost_answer_of_prepare_is_settled,
    columns_are_added_only_if_the_contract_says_so,
    a_column_that_exists_keeps_its_type_and_case,
    truncate_replaces_the_rows_in_one_commit,
    truncate_without_rows_empties_the_table,
    empty_refuses_a_table_with_rows,
    a_commit_without_rows_keeps_its_mark,
    sweep_removes_what_dead_attempts_staged_and_nothing_else,
    open_tells_marks_and_foreign_ledgers,
    history_tells_the_notes_of_the_commits_that_were_made,
    a_table_removed_behind_our_back_is_parked,
    a_payload_is_kept_under_its_digest,
];

/// Runs the whole list, each check on a fresh subject. Needs a runtime with more than one thread.
///
/// # Panics
/// At the first check that fails, naming it.
pub async fn check_all<S: Subject + 'static>(make: impl AsyncFn() -> S) {
    check_all_but(&[], make).await;
}

/// As [`check_all`], but for what a server behind the destination cannot do as the real one does: the name of each check that is
/// left out, and why. Another server has to show those.
///
/// # Panics
/// At the first check that fails, naming it, and if an exception names no check.
pub async fn check_all_but<S: Subject + 'static>(exceptions: &[(&str, &str)], make: impl AsyncFn() -> S) {
    let known = |name: &str| CHECKS.iter().any(|(check, _)| *check == name);
    assert!(exceptions.iter().all(|(name, _)| known(name)), "an exception names no check: {exceptions:?}");
    for (name, check) in CHECKS {
        if let Some((_, why)) = exceptions.iter().find(|(exception, _)| exception == name) {
            eprintln!("not checked here: {}: {why}", name.replace('_', " "));
            continue;
        }
        eprintln!("checking: {}", name.replace('_', " "));
        let bench = Bench { subject: Arc::new(make().await) };
        if let Err(panic) = AssertUnwindSafe(check(bench)).catch_unwind().await {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default();
            panic!("{}: {text}", name.replace('_', " "));
        }
    }
}

/// A subject and what the checks do to it.
#[derive(Clone)]
struct Bench {
    subject: Arc<dyn Subject>,
}

const TABLE: &str = "orders";

fn application() -> Application {
    Application { pipeline: "load:shop".into(), ledger: "ledger-1".into(), store: "store-1".into() }
}

fn columns() -> TableSchema {
    TableSchema::new(vec![Field::new("id", Type::Int64), Field::new("Name", Type::String)])
}

fn batch(ids: &[i64]) -> RecordBatch {
    let names: Vec<String> = ids.iter().map(|id| format!("n{id}")).collect();
    let columns: Vec<(&str, ArrayRef, bool)> =
        vec![("id", Arc::new(Int64Array::from(ids.to_vec())), true), ("Name", Arc::new(StringArray::from(names)), true)];
    RecordBatch::try_from_iter_with_nullable(columns).expect("a batch")
}

fn stream(batches: Vec<Result<Rows>>) -> Batches {
    futures::stream::iter(batches).boxed()
}

fn change(contract: Contract, disposition: WriteDisposition, wanted: TableSchema) -> SchemaChange {
    SchemaChange { table: TABLE.into(), wanted, contract, disposition, options: TableOptions::default() }
}

struct Free;

#[async_trait]
impl Fence for Free {
    async fn check(&self) -> Result<()> {
        Ok(())
    }
}

struct Lost;

#[async_trait]
impl Fence for Lost {
    async fn check(&self) -> Result<()> {
        Err(Error::new(Kind::Store, code::LEASE_LOST, "another process took over"))
    }
}

/// Holds each worker at its first write until all have got that far: all have read the table before any writes to it.
struct Together {
    barrier: Arc<Barrier>,
    passed: std::sync::atomic::AtomicBool,
}

#[async_trait]
impl Fence for Together {
    async fn check(&self) -> Result<()> {
        if !self.passed.swap(true, std::sync::atomic::Ordering::SeqCst) {
            self.barrier.wait().await;
        }
        Ok(())
    }
}

impl Bench {
    async fn prepare(&self) -> Plan {
        self.prepare_for(WriteDisposition::Append).await
    }

    async fn prepare_for(&self, disposition: WriteDisposition) -> Plan {
        let change = change(Contract::Evolve, disposition, columns());
        self.subject.worker().prepare(&change, Mode::Apply).await.expect("prepares")
    }

    async fn stage(&self, attempt: &str, ids: &[i64], disposition: WriteDisposition) -> Result<Committable> {
        let rows = if ids.is_empty() { Vec::new() } else { vec![Ok(Rows::Plain(batch(ids)))] };
        let staged =
            self.subject.worker().stage(&AttemptId(attempt.into()), TABLE, &columns(), disposition, stream(rows)).await?;
        assert_eq!(staged.refused, [], "nothing is wrong with these rows");
        let staged = staged.committable;
        assert_eq!((staged.table.as_str(), staged.rows, staged.disposition), (TABLE, ids.len() as u64, disposition));
        Ok(staged)
    }

    async fn staged(&self, attempt: &str, ids: &[i64]) -> Committable {
        self.stage(attempt, ids, WriteDisposition::Append).await.expect("stages")
    }

    /// Publishes as a process would that has nothing but the journal's text.
    async fn publish_with(&self, n: CommitNumber, committables: &[Committable], fence: &dyn Fence) -> Result<Published> {
        self.publish_as(&application(), n, committables, fence).await
    }

    async fn publish_as(
        &self,
        application: &Application,
        n: CommitNumber,
        committables: &[Committable],
        fence: &dyn Fence,
    ) -> Result<Published> {
        let text = serde_json::to_string(committables).expect("is written to the journal");
        let committables: Vec<Committable> = serde_json::from_str(&text).expect("is read from the journal");
        let token = format!("token-{n}");
        let publication = Publication {
            application,
            n,
            token: &token,
            amendment: 0,
            table: TABLE,
            committables: &committables,
            note: json!({"n": n}),
            fence,
        };
        self.subject.worker().publish(publication).await
    }

    async fn publish(&self, n: CommitNumber, committables: &[Committable]) -> Published {
        self.publish_with(n, committables, &Free).await.expect("publishes")
    }

    async fn mark(&self) -> Option<CommitNumber> {
        let tables = [TABLE.to_owned()];
        let marks = self.subject.worker().open(&application(), &tables).await.expect("opens");
        marks.get(TABLE).expect("the table's mark").last
    }

    async fn ids(&self) -> Vec<i64> {
        let rows = self.subject.visible(TABLE).await;
        let mut ids: Vec<i64> = rows.iter().map(|row| row.get("id").and_then(Value::as_i64).expect("an id")).collect();
        for row in &rows {
            let (id, name) = (row.get("id").and_then(Value::as_i64), row.get("Name").and_then(Value::as_str));
            assert_eq!(name.map(str::to_owned), id.map(|id| format!("n{id}")), "a row lost its other column");
        }
        ids.sort_unstable();
        ids
    }
}

fn is_done(published: &Published) -> bool {
    matches!(published, Published::Done(_))
}

fn is_already(published: &Published) -> bool {
    matches!(published, Published::Already(_))
}
