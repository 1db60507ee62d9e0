//! What every store must do: one list, run against each of them and against its in-memory twin.
//!
//! Every check gets a new, empty store with two handles on it, which play two processes.

mod books;
mod ids;
mod journal;
mod leases;
mod parked;
mod runs;
mod workers;

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use longshore_core::commit::{
    AttemptId, Committable, Completion, Counts, DeadLetterKey, DeadLetterState, Draft, Entry, Landing, Receipt, WriteDisposition,
};
use longshore_core::error::{Error, Place};
use longshore_core::position::{Covers, Delta, Partition, Position};
use longshore_core::schema::{Field, TableSchema, Type};
use longshore_core::store::{DeadLetterFilter, Lease, LeaseAnswer, Store, Writer};

/// Two handles on one new store.
pub struct Pair {
    /// One process.
    pub one: Arc<dyn Store>,
    /// Another.
    pub two: Arc<dyn Store>,
    /// What has to live as long as the handles (a temporary folder).
    pub guard: Box<dyn Any + Send + Sync>,
}

/// Long enough never to expire in a test.
const LONG: Duration = Duration::from_secs(3600);

macro_rules! checks {
    ($($module:ident: $($name:ident),*;)*) => {
        $($(pub use $module::$name;)*)*

        /// Runs every check, each on a store of its own that `make` makes. Panics at the first that fails.
        pub async fn check_all<F: Future<Output = Pair>>(make: impl Fn() -> F) {
            $($(
                println!("a store: {}", stringify!($name).replace('_', " "));
                $module::$name(make().await).await;
            )*)*
        }
    };
}

checks! {
    journal:
        a_new_pipeline_is_empty_and_keeps_its_identity,
        numbers_count_up_and_are_never_given_twice,
        pipelines_do_not_share_numbers_positions_or_ids,
        an_entry_comes_back_as_it_was_journalled,
        a_refused_delta_changes_nothing,
        several_deltas_of_one_partition_apply_in_order,
        an_id_is_journalled_once_per_scope,
        a_repeated_token_gives_the_first_entry_and_moves_nothing,
        a_repeated_token_is_answered_even_after_the_lease_was_lost,
        calls_at_the_same_time_get_numbers_of_their_own,
        a_late_complete_moves_nothing_back,
        completing_twice_changes_nothing,
        completing_needs_a_receipt_for_each_table,
        an_entry_is_acknowledged_only_after_it_is_complete,
        amending_is_compare_and_set;
    leases:
        a_dead_or_unknown_attempt_is_refused,
        dooming_spares_journalled_attempts_and_those_of_the_current_epoch,
        a_lease_is_held_by_one_at_a_time,
        a_taken_over_lease_makes_the_old_holder_fail,
        a_freed_lease_can_be_taken_at_once;
    workers:
        an_id_of_a_worker_is_given_once,
        commits_of_two_workers_are_published_in_the_order_of_their_numbers,
        a_late_complete_of_another_workers_commit_moves_nothing_back,
        a_delta_from_where_another_worker_was_is_refused,
        the_same_ids_of_two_workers_are_journalled_once,
        workers_journal_at_the_same_time,
        a_worker_that_slept_too_long_cannot_journal,
        a_repeated_token_is_answered_even_after_the_worker_is_gone,
        leaving_dooms_what_is_not_journalled,
        a_new_holder_of_the_lease_spares_living_workers,
        a_worker_writes_for_its_own_pipeline_only,
        only_the_holder_of_the_lease_amends;
    parked:
        a_parked_part_waits_until_it_is_published,
        publishing_a_parked_part_twice_changes_nothing,
        parked_parts_come_in_order_and_move_nothing_back,
        a_parked_part_is_that_of_the_amended_commit,
        a_receipt_that_says_parked_publishes_nothing,
        parked_parts_are_given_up_only_by_name;
    ids:
        a_known_id_comes_with_the_state_of_its_commit,
        ids_are_forgotten_when_they_are_old_and_acknowledged,
        tens_of_thousands_of_ids_are_known_and_forgotten;
    books:
        a_dead_letter_is_replayed_once,
        letters_kept_with_an_attempt_share_its_fate,
        dead_letters_are_filtered_and_dropped_once,
        later_landings_replace_earlier_ones,
        record_paths_come_newest_first,
        receipts_come_newest_first_and_parked_tables_are_not_published,
        a_mark_is_adopted_and_numbers_go_on_after_it,
        an_entry_of_a_lost_journal_is_adopted_once,
        a_lost_ledger_is_adopted,
        a_forgotten_table_can_land_again_but_its_neighbours_do_not;
    runs:
        a_status_follows_from_events_and_their_order_is_kept,
        nothing_happens_in_a_finished_run,
        a_run_is_found_by_an_unambiguous_beginning,
        the_newest_of_a_long_history_come_in_order,
        cancelling_is_seen_by_others,
        a_pipeline_is_first_served_once;
}

async fn lease_of(store: &dyn Store, pipeline: &str, valid: Duration) -> Lease {
    match store.take_lease(pipeline, "tester", valid).await.expect("a lease") {
        LeaseAnswer::Granted(lease) => lease,
        LeaseAnswer::Held { holder, .. } => panic!("the lease of {pipeline} is held by {holder}"),
    }
}

async fn begin(store: &dyn Store, lease: &Lease) -> AttemptId {
    store.begin_attempt(&lease.pipeline, Writer::Lease(lease.epoch)).await.expect("an attempt")
}

fn delta(partition: &str, from: Option<u64>, to: u64) -> Delta {
    Delta { partition: Partition(partition.into()), from: from.map(Position::from_count), to: Position::from_count(to) }
}

fn ids(scope: &str, ids: &[&str]) -> Covers {
    Covers::Ids { scope: scope.into(), ids: ids.iter().map(|&id| id.into()).collect() }
}

fn committable(table: &str) -> Committable {
    Committable {
        table: table.into(),
        disposition: WriteDisposition::Append,
        payload: serde_json::json!({"files": ["a.parquet"], "größe": 3.25}),
        rows: 3,
        bytes: u64::MAX,
        digest: format!("digest of {table}"),
    }
}

fn letter(id: &str, code: &str) -> DeadLetterKey {
    let place = Place { file: "in/a.csv".into(), line: Some(7), column: None };
    DeadLetterKey { id: id.into(), code: code.into(), table: Some("orders".into()), place }
}

fn landing(table: &str, address: &str, digest: &str) -> Landing {
    Landing {
        table: table.into(),
        address: address.into(),
        size: 10,
        version: "1".into(),
        digest: digest.into(),
        rows: 3,
        rejects: 0,
        refused: false,
        n: 0,
        run: "r1".into(),
        records: None,
    }
}

/// A draft that stages rows for the table `orders`.
fn draft(lease: &Lease, attempts: &[AttemptId], token: &str) -> Draft {
    let schema = TableSchema::new(vec![Field::new("id", Type::Int64)]);
    Draft {
        pipeline: lease.pipeline.clone(),
        token: token.into(),
        writer: Writer::Lease(lease.epoch),
        run: "r1".into(),
        attempts: attempts.to_vec(),
        covers: Vec::new(),
        committables: vec![committable("orders")],
        schemas: BTreeMap::from([("orders".to_owned(), schema)]),
        counts: Counts { rows: BTreeMap::from([("orders".to_owned(), 3)]), rejects: 0, bytes: 10 },
        landings: Vec::new(),
        dead_letters: Vec::new(),
        replayed: Vec::new(),
        origins: Default::default(),
        held: BTreeMap::new(),
        acknowledge: Some(serde_json::json!({"move": "done/"})),
    }
}

/// Journals a draft of a new attempt.
async fn journal(store: &dyn Store, lease: &Lease, token: &str, change: impl FnOnce(&mut Draft)) -> Result<Entry, Error> {
    let attempt = begin(store, lease).await;
    let mut draft = draft(lease, &[attempt], token);
    change(&mut draft);
    store.journal(draft).await
}

fn receipt(entry: &Entry, table: &str) -> Receipt {
    Receipt {
        pipeline: entry.draft.pipeline.clone(),
        n: entry.n,
        table: table.into(),
        commit: Some(format!("v{}", entry.n)),
        parked: None,
        rows: 3,
        bytes: 30,
        digests: entry.committables(table).map(|committable| committable.digest.clone()).collect(),
        run: entry.draft.run.clone(),
        covers: entry.draft.covers.clone(),
        at: entry.at,
    }
}

fn completion(entry: &Entry, epoch: i64) -> Completion {
    let receipts = entry.tables().iter().map(|table| receipt(entry, table)).collect();
    Completion { pipeline: entry.draft.pipeline.clone(), n: entry.n, epoch, receipts }
}

async fn complete(store: &dyn Store, lease: &Lease, entry: &Entry) {
    store.complete(completion(entry, lease.epoch)).await.expect("completed");
}

async fn position(store: &dyn Store, pipeline: &str, partition: &str) -> Option<Position> {
    store.position(pipeline, &Partition(partition.into())).await.expect("a position")
}

fn refused_with<T>(result: Result<T, Error>, code: &str) {
    match result {
        Ok(_) => panic!("this should have been refused with {code}"),
        Err(error) => assert_eq!(error.code(), code, "{error:?}"),
    }
}

async fn states(store: &dyn Store) -> Vec<(String, DeadLetterState)> {
    let letters = store.dead_letters(&DeadLetterFilter::default()).await.expect("dead letters");
    letters.into_iter().map(|letter| (letter.key.id, letter.state)).collect()
}
