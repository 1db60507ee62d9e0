//! Workers: several processes stage and journal side by side, and one of them publishes.

use std::collections::BTreeMap;
use std::time::Duration;

use longshore_core::commit::{AttemptId, CommitNumber, DeadLetterState, Draft, Entry, EntryState};
use longshore_core::error::Error;
use longshore_core::position::{Covers, Position};
use longshore_core::store::{Store, Worker, Writer};

use super::{
    LONG, Pair, begin, committable, complete, delta, draft, ids, journal, lease_of, letter, position, refused_with, states,
};

async fn join(store: &dyn Store, valid: Duration) -> Worker {
    store.join("p", "tester", valid).await.expect("joined")
}

async fn begin_as(store: &dyn Store, worker: &Worker) -> AttemptId {
    store.begin_attempt(&worker.pipeline, writer(worker)).await.expect("an attempt")
}

fn writer(worker: &Worker) -> Writer {
    Writer::Worker { worker: worker.id }
}

fn draft_as(worker: &Worker, attempts: &[AttemptId], token: &str, covers: Vec<Covers>) -> Draft {
    let lease = longshore_core::store::Lease { pipeline: worker.pipeline.clone(), epoch: 0, holder: String::new() };
    Draft { writer: writer(worker), covers, ..draft(&lease, attempts, token) }
}

/// Journals a draft of a new attempt.
async fn journal_as(store: &dyn Store, worker: &Worker, token: &str, covers: Vec<Covers>) -> Result<Entry, Error> {
    let attempt = begin_as(store, worker).await;
    store.journal(draft_as(worker, &[attempt], token, covers)).await
}

fn up_to(from: Option<u64>, to: u64) -> Vec<Covers> {
    vec![Covers::Deltas(vec![delta("a", from, to)])]
}

/// Also not after one of them left. Each pipeline has its own.
pub async fn an_id_of_a_worker_is_given_once(pair: Pair) {
    assert!(pair.one.workers("p").await.expect("none").is_empty());
    let (first, second) = (join(&*pair.one, LONG).await, join(&*pair.two, LONG).await);
    assert_eq!(first.pipeline, "p");
    assert_eq!(pair.one.pipelines().await.expect("created"), ["p"]);
    assert_eq!(pair.one.workers("p").await.expect("both"), [first.id, second.id]);
    for _ in 0..2 {
        pair.one.leave(&second).await.expect("repeating it changes nothing");
    }
    let third = join(&*pair.one, LONG).await;
    assert!(third.id > second.id && second.id > first.id);
    assert_eq!(pair.two.workers("p").await.expect("two"), [first.id, third.id]);
    pair.one.join("q", "tester", LONG).await.expect("joined");
    assert_eq!(pair.two.workers("p").await.expect("two"), [first.id, third.id]);
    pair.two.leave(&Worker { pipeline: "never seen".into(), id: 1 }).await.expect("changes nothing");
    assert!(pair.two.workers("never seen").await.expect("none").is_empty());
}

/// Two journal for one table, the second of them first to stage; the holder of the lease, a third, publishes one after the other.
pub async fn commits_of_two_workers_are_published_in_the_order_of_their_numbers(pair: Pair) {
    let (a, b) = (join(&*pair.one, LONG).await, join(&*pair.two, LONG).await);
    let lease = lease_of(&*pair.two, "p", LONG).await;
    for n in 1..=4 {
        let entry = journal(&*pair.two, &lease, &format!("before {n}"), |_| {}).await.expect("journalled");
        complete(&*pair.two, &lease, &entry).await;
        pair.two.acknowledged("p", n).await.expect("acknowledged");
    }
    let of_b = begin_as(&*pair.two, &b).await;
    let of_a = begin_as(&*pair.one, &a).await;
    let fifth = pair.one.journal(draft_as(&a, &[of_a], "a", Vec::new())).await.expect("without the lease");
    let sixth = pair.two.journal(draft_as(&b, &[of_b], "b", Vec::new())).await.expect("without the lease");
    assert_eq!((fifth.n, sixth.n), (5, 6));
    assert_eq!((fifth.draft.writer, sixth.draft.writer), (writer(&a), writer(&b)));

    let open = pair.two.pipeline("p").await.expect("known").open;
    assert_eq!(open, [fifth.clone(), sixth.clone()], "whoever publishes finds 5 before 6");
    complete(&*pair.two, &lease, &open[0]).await;
    let state = pair.one.pipeline("p").await.expect("known");
    assert_eq!(state.published["orders"], 5);
    assert_eq!(state.open.iter().map(|entry| entry.state).collect::<Vec<_>>(), [EntryState::Complete, EntryState::Journalled]);
    complete(&*pair.two, &lease, &open[1]).await;
    assert_eq!(pair.one.pipeline("p").await.expect("known").published["orders"], 6);
}

/// 6 is complete before 5, of another worker: nothing moves back.
pub async fn a_late_complete_of_another_workers_commit_moves_nothing_back(pair: Pair) {
    let (a, b) = (join(&*pair.one, LONG).await, join(&*pair.two, LONG).await);
    let lease = lease_of(&*pair.one, "p", LONG).await;
    let first = journal_as(&*pair.one, &a, "a", up_to(None, 100)).await.expect("journalled");
    let second = journal_as(&*pair.two, &b, "b", up_to(Some(100), 200)).await.expect("journalled");
    complete(&*pair.one, &lease, &second).await;
    complete(&*pair.one, &lease, &first).await;
    complete(&*pair.one, &lease, &first).await;
    let state = pair.two.pipeline("p").await.expect("known");
    assert_eq!((state.published["orders"], state.last), (second.n, second.n));
    assert_eq!(position(&*pair.two, "p", "a").await, Some(Position::from_count(200)));
}

/// The partition was given to another worker, who goes on where the journal is, not where it was told to begin.
pub async fn a_delta_from_where_another_worker_was_is_refused(pair: Pair) {
    let (a, b) = (join(&*pair.one, LONG).await, join(&*pair.two, LONG).await);
    journal_as(&*pair.one, &a, "a1", up_to(None, 100)).await.expect("journalled");
    journal_as(&*pair.one, &a, "a2", up_to(Some(100), 200)).await.expect("journalled, not complete");
    assert_eq!(position(&*pair.two, "p", "a").await, Some(Position::from_count(200)));
    refused_with(journal_as(&*pair.two, &b, "b1", up_to(Some(100), 300)).await, "delta_refused");
    journal_as(&*pair.two, &b, "b2", up_to(Some(200), 300)).await.expect("from where the journal is");
    refused_with(journal_as(&*pair.one, &a, "a3", up_to(Some(200), 300)).await, "delta_refused");
    assert_eq!(pair.one.pipeline("p").await.expect("known").last, 3);
}

/// The broker gave the messages of one to another: who comes second is refused, and what else it has goes with the rest.
pub async fn the_same_ids_of_two_workers_are_journalled_once(pair: Pair) {
    let (a, b) = (join(&*pair.one, LONG).await, join(&*pair.two, LONG).await);
    journal_as(&*pair.two, &b, "b", vec![ids("s", &["1", "2", "3"])]).await.expect("journalled");
    let attempt = begin_as(&*pair.one, &a).await;
    let again = draft_as(&a, std::slice::from_ref(&attempt), "a1", vec![ids("s", &["3", "4"])]);
    refused_with(pair.one.journal(again).await, "delta_refused");
    let asked = ["3".to_owned(), "4".to_owned()];
    let known = pair.one.known_ids("p", "s", &asked).await.expect("known");
    assert_eq!(known, BTreeMap::from([("3".to_owned(), EntryState::Journalled)]));
    let rest = draft_as(&a, &[attempt], "a2", vec![ids("s", &["4"])]);
    assert_eq!(pair.one.journal(rest).await.expect("the attempt was left alone").n, 2);
}

/// From two processes, as many at once: numbers have no gaps, and of those who want the same records one gets them.
pub async fn workers_journal_at_the_same_time(pair: Pair) {
    let workers = [join(&*pair.one, LONG).await, join(&*pair.two, LONG).await];
    let journals = (0..24).map(|turn| {
        let (store, worker) = if turn % 2 == 0 { (&pair.one, &workers[0]) } else { (&pair.two, &workers[1]) };
        let own = vec![Covers::Deltas(vec![delta(&format!("own {turn}"), None, 1)]), ids("s", &[&format!("id {}", turn / 2)])];
        async move { journal_as(&**store, worker, &format!("t{turn}"), own).await }
    });
    let (given, refused): (Vec<_>, Vec<_>) = futures::future::join_all(journals).await.into_iter().partition(Result::is_ok);
    let mut numbers: Vec<CommitNumber> = given.into_iter().map(|entry| entry.expect("given").n).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=12).collect::<Vec<_>>());
    assert_eq!(refused.len(), 12);
    refused.into_iter().for_each(|result| refused_with(result, "delta_refused"));
}

/// It stopped renewing itself, the holder of the lease removed its files; it wakes up and knows nothing of that.
pub async fn a_worker_that_slept_too_long_cannot_journal(pair: Pair) {
    let (slow, quick) = (join(&*pair.one, Duration::ZERO).await, join(&*pair.two, LONG).await);
    let lost = begin_as(&*pair.one, &slow).await;
    pair.one.keep_letters(&lost, &[letter("0-0", "bad")]).await.expect("kept");
    let kept = begin_as(&*pair.two, &quick).await;
    let journalled = journal_as(&*pair.one, &slow, "t1", Vec::new()).await.expect("late, but nobody has looked");
    pair.one.renew_worker(&slow, Duration::ZERO).await.expect("late, but nobody has looked");
    assert_eq!(pair.two.workers("p").await.expect("both"), [slow.id, quick.id]);

    let lease = lease_of(&*pair.two, "p", LONG).await;
    assert_eq!(pair.two.doom_attempts("p", lease.epoch, &[]).await.expect("doomed"), std::slice::from_ref(&lost));
    assert_eq!(pair.two.workers("p").await.expect("one"), [quick.id]);
    for swept in [false, true] {
        if swept {
            pair.two.swept(std::slice::from_ref(&lost)).await.expect("swept");
        }
        let woken = draft_as(&slow, std::slice::from_ref(&lost), "t2", up_to(None, 100));
        refused_with(pair.one.journal(woken).await, "lease_lost");
        refused_with(pair.one.begin_attempt("p", writer(&slow)).await, "lease_lost");
        refused_with(pair.one.renew_worker(&slow, LONG).await, "lease_lost");
    }
    assert_eq!(position(&*pair.one, "p", "a").await, None);
    pair.one.leave(&slow).await.expect("changes nothing");

    let again = join(&*pair.one, LONG).await;
    refused_with(pair.one.journal(draft_as(&again, &[lost], "t3", Vec::new())).await, "attempt_dead");
    journal_as(&*pair.one, &again, "t4", up_to(None, 100)).await.expect("anew");
    pair.two.journal(draft_as(&quick, &[kept], "t5", Vec::new())).await.expect("the other one is not concerned");
    complete(&*pair.two, &lease, &journalled).await;
    assert!(states(&*pair.two).await.is_empty(), "the letters of the lost attempt went with it");
}

/// The answer was lost, and then the worker: it must learn that its entry exists.
pub async fn a_repeated_token_is_answered_even_after_the_worker_is_gone(pair: Pair) {
    let worker = join(&*pair.one, LONG).await;
    let attempt = begin_as(&*pair.one, &worker).await;
    let asked = draft_as(&worker, &[attempt], "t", up_to(None, 100));
    let entry = pair.one.journal(asked.clone()).await.expect("journalled");
    pair.two.leave(&worker).await.expect("gone");
    assert_eq!(pair.one.journal(asked).await.expect("known"), entry);
}

/// Only what was not journalled; and nobody else's.
pub async fn leaving_dooms_what_is_not_journalled(pair: Pair) {
    let lease = lease_of(&*pair.two, "p", LONG).await;
    let (gone, stays) = (join(&*pair.one, LONG).await, join(&*pair.two, LONG).await);
    let journalled = begin_as(&*pair.one, &gone).await;
    pair.one.journal(draft_as(&gone, &[journalled], "t1", Vec::new())).await.expect("journalled");
    let left = begin_as(&*pair.one, &gone).await;
    let (others, mine) = (begin_as(&*pair.two, &stays).await, begin(&*pair.two, &lease).await);
    pair.one.leave(&gone).await.expect("left");
    refused_with(pair.one.journal(draft_as(&gone, std::slice::from_ref(&left), "t2", Vec::new())).await, "lease_lost");
    refused_with(pair.two.journal(draft_as(&stays, std::slice::from_ref(&left), "t3", Vec::new())).await, "attempt_dead");
    assert_eq!(pair.two.doom_attempts("p", lease.epoch, &[]).await.expect("doomed"), [left]);
    pair.two.journal(draft_as(&stays, &[others], "t4", Vec::new())).await.expect("alive");
    pair.two.journal(draft(&lease, &[mine], "t5")).await.expect("alive");
}

/// Who publishes may change as often as it will: what living workers stage stays.
pub async fn a_new_holder_of_the_lease_spares_living_workers(pair: Pair) {
    let worker = join(&*pair.one, LONG).await;
    let attempt = begin_as(&*pair.one, &worker).await;
    let old = lease_of(&*pair.one, "p", Duration::ZERO).await;
    let left = begin(&*pair.one, &old).await;
    let new = lease_of(&*pair.two, "p", LONG).await;
    assert_eq!(pair.two.doom_attempts("p", new.epoch, &[]).await.expect("doomed"), [left]);
    let given_up = begin_as(&*pair.one, &worker).await;
    let doomed = pair.two.doom_attempts("p", new.epoch, std::slice::from_ref(&given_up)).await.expect("doomed");
    assert!(doomed.contains(&given_up) && !doomed.contains(&attempt));
    pair.one.keep_letters(&attempt, &[letter("1-0", "bad")]).await.expect("kept");
    let entry = pair.one.journal(draft_as(&worker, &[attempt], "t", Vec::new())).await.expect("alive");
    complete(&*pair.two, &new, &entry).await;
    assert_eq!(states(&*pair.two).await, [("1-0".to_owned(), DeadLetterState::Open)]);
}

/// One of another pipeline, or one that never was.
pub async fn a_worker_writes_for_its_own_pipeline_only(pair: Pair) {
    let other = pair.one.join("q", "tester", LONG).await.expect("joined");
    let mine = join(&*pair.one, LONG).await;
    assert_ne!(mine, other);
    let stranger = Worker { pipeline: "p".into(), id: 99 };
    let attempt = begin_as(&*pair.one, &mine).await;
    refused_with(pair.one.begin_attempt("p", writer(&stranger)).await, "lease_lost");
    refused_with(pair.one.renew_worker(&stranger, LONG).await, "lease_lost");
    refused_with(pair.one.journal(draft_as(&stranger, &[attempt], "t", Vec::new())).await, "lease_lost");
    let foreign = pair.one.begin_attempt("q", writer(&other)).await.expect("an attempt");
    refused_with(pair.one.journal(draft_as(&mine, &[foreign], "t", Vec::new())).await, "attempt_dead");
    refused_with(pair.one.begin_attempt("never seen", writer(&mine)).await, "lease_lost");
    assert_eq!(pair.one.pipeline("p").await.expect("known").last, 0);
}

/// A worker's commit that the destination refuses is amended by who publishes it, never by the worker.
pub async fn only_the_holder_of_the_lease_amends(pair: Pair) {
    let worker = join(&*pair.one, LONG).await;
    let entry = journal_as(&*pair.one, &worker, "t", up_to(None, 100)).await.expect("journalled");
    let own = begin_as(&*pair.one, &worker).await;
    let attempts = [entry.draft.attempts.clone(), vec![own]].concat();
    refused_with(pair.one.amend(entry.n, 0, Draft { attempts, ..entry.draft.clone() }).await, "bug");
    let lease = lease_of(&*pair.two, "p", LONG).await;
    let attempts = [entry.draft.attempts.clone(), vec![begin(&*pair.two, &lease).await]].concat();
    let writer = Writer::Lease(lease.epoch);
    let better = Draft { writer, attempts, committables: vec![committable("better")], ..entry.draft.clone() };
    let amended = pair.two.amend(entry.n, 0, better).await.expect("amended");
    assert_eq!((amended.amendment, amended.draft.writer), (1, writer));
    complete(&*pair.two, &lease, &amended).await;
    assert_eq!(pair.one.pipeline("p").await.expect("known").published, BTreeMap::from([("better".to_owned(), 1)]));
}
