//! Leases and attempts: who may, and what of the others is dead.

use std::time::Duration;

use longshore_core::commit::AttemptId;
use longshore_core::store::{Lease, LeaseAnswer, Writer};

use super::{LONG, Pair, begin, complete, completion, draft, journal, lease_of, refused_with};

/// Dead, swept, unknown, another pipeline's, or journalled before: none of these can be journalled.
pub async fn a_dead_or_unknown_attempt_is_refused(pair: Pair) {
    let lease = lease_of(&*pair.one, "p", LONG).await;
    let other = lease_of(&*pair.one, "q", LONG).await;
    let (good, dead, used) = (begin(&*pair.one, &lease).await, begin(&*pair.one, &lease).await, begin(&*pair.one, &lease).await);
    let foreign = begin(&*pair.one, &other).await;
    let doomed = pair.two.doom_attempts("p", lease.epoch, std::slice::from_ref(&dead)).await.expect("doomed");
    assert_eq!(doomed, std::slice::from_ref(&dead));
    pair.one.journal(draft(&lease, std::slice::from_ref(&used), "t0")).await.expect("journalled");
    for (token, bad) in [("t1", dead.clone()), ("t2", used), ("t3", foreign), ("t4", AttemptId("never".into()))] {
        refused_with(pair.one.journal(draft(&lease, &[good.clone(), bad], token)).await, "attempt_dead");
    }
    pair.one.swept(std::slice::from_ref(&dead)).await.expect("swept");
    refused_with(pair.one.journal(draft(&lease, &[dead], "t5")).await, "attempt_dead");
    assert_eq!(pair.one.journal(draft(&lease, &[good], "t6")).await.expect("still alive").n, 2);
    refused_with(pair.one.begin_attempt("p", Writer::Lease(lease.epoch + 1)).await, "lease_lost");
    refused_with(pair.one.begin_attempt("no such pipeline", Writer::Lease(1)).await, "lease_lost");
}

/// What a new holder may sweep: what older holders staged and did not journal.
pub async fn dooming_spares_journalled_attempts_and_those_of_the_current_epoch(pair: Pair) {
    let old = lease_of(&*pair.one, "p", Duration::ZERO).await;
    let (journalled, left) = (begin(&*pair.one, &old).await, begin(&*pair.one, &old).await);
    pair.one.journal(draft(&old, std::slice::from_ref(&journalled), "t1")).await.expect("journalled");
    let new = lease_of(&*pair.two, "p", LONG).await;
    let mine = begin(&*pair.two, &new).await;
    let given_up = [journalled, AttemptId("never".into())];
    assert_eq!(pair.two.doom_attempts("p", new.epoch, &given_up).await.expect("doomed"), std::slice::from_ref(&left));
    assert_eq!(pair.two.doom_attempts("p", new.epoch, &[]).await.expect("not swept yet"), std::slice::from_ref(&left));
    refused_with(pair.two.journal(draft(&new, std::slice::from_ref(&left), "t2")).await, "attempt_dead");
    pair.two.swept(&[left]).await.expect("swept");
    assert!(pair.two.doom_attempts("p", new.epoch, &[]).await.expect("none").is_empty());
    assert_eq!(pair.two.journal(draft(&new, &[mine], "t3")).await.expect("alive").n, 2);
    assert!(pair.two.doom_attempts("no such pipeline", 9, &[]).await.expect("none").is_empty());
}

/// The second is told who holds it and for how long; the holder may renew.
pub async fn a_lease_is_held_by_one_at_a_time(pair: Pair) {
    let LeaseAnswer::Granted(lease) = pair.one.take_lease("p", "process 7 on host a", LONG).await.expect("an answer") else {
        panic!("nobody holds it");
    };
    assert_eq!((lease.pipeline.as_str(), lease.holder.as_str()), ("p", "process 7 on host a"));
    for store in [&pair.one, &pair.two] {
        match store.take_lease("p", "me too", LONG).await.expect("an answer") {
            LeaseAnswer::Held { holder, remaining } => {
                assert_eq!(holder, "process 7 on host a");
                assert!(remaining <= LONG && remaining > LONG / 2, "{remaining:?}");
            }
            LeaseAnswer::Granted(_) => panic!("it is held"),
        }
    }
    pair.one.renew_lease(&lease, LONG * 3).await.expect("renewed");
    let LeaseAnswer::Held { remaining, .. } = pair.two.take_lease("p", "me too", LONG).await.expect("an answer") else {
        panic!("it is held");
    };
    assert!(remaining > LONG);
    pair.two.check_lease(&lease).await.expect("current");
    lease_of(&*pair.two, "another pipeline", LONG).await;
}

/// Expiry alone loses nothing; takeover does, at every step that writes.
pub async fn a_taken_over_lease_makes_the_old_holder_fail(pair: Pair) {
    let old = lease_of(&*pair.one, "p", Duration::ZERO).await;
    pair.one.check_lease(&old).await.expect("expired, but nobody took it");
    pair.one.renew_lease(&old, Duration::ZERO).await.expect("expired, but nobody took it");
    let entry = journal(&*pair.one, &old, "t1", |_| {}).await.expect("expired, but nobody took it");
    let attempt = begin(&*pair.one, &old).await;

    let new = lease_of(&*pair.two, "p", LONG).await;
    assert!(new.epoch > old.epoch);
    refused_with(pair.one.check_lease(&old).await, "lease_lost");
    refused_with(pair.one.renew_lease(&old, LONG).await, "lease_lost");
    refused_with(pair.one.begin_attempt("p", Writer::Lease(old.epoch)).await, "lease_lost");
    refused_with(pair.one.journal(draft(&old, &[attempt], "t2")).await, "lease_lost");
    refused_with(pair.one.complete(completion(&entry, old.epoch)).await, "lease_lost");
    refused_with(pair.one.amend(entry.n, 0, entry.draft.clone()).await, "lease_lost");
    pair.one.free_lease(&old).await.expect("freeing a lost lease changes nothing");
    pair.two.check_lease(&new).await.expect("current");
    complete(&*pair.two, &new, &entry).await;
    assert_eq!(pair.two.pipeline("p").await.expect("known").last, 1);
}

/// Freed, it is nobody's: also its holder cannot use it any more. Epochs go on.
pub async fn a_freed_lease_can_be_taken_at_once(pair: Pair) {
    let first = lease_of(&*pair.one, "p", LONG).await;
    pair.one.free_lease(&first).await.expect("freed");
    pair.one.free_lease(&first).await.expect("again");
    refused_with(pair.one.check_lease(&first).await, "lease_lost");
    refused_with(pair.one.renew_lease(&first, LONG).await, "lease_lost");
    refused_with(pair.one.begin_attempt("p", Writer::Lease(first.epoch)).await, "lease_lost");
    let second = lease_of(&*pair.two, "p", LONG).await;
    assert!(second.epoch > first.epoch);
    pair.one.free_lease(&first).await.expect("changes nothing");
    pair.one.check_lease(&second).await.expect("current");
    pair.one.free_lease(&Lease { pipeline: "never seen".into(), epoch: 1, holder: String::new() }).await.expect("nothing");
}
