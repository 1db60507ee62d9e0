//! Parts of commits that wait for their tables.

use std::collections::BTreeMap;

use longshore_core::commit::{Completion, Draft, Entry, Parked, Receipt};
use longshore_core::store::{Lease, Store};

use super::{LONG, Pair, begin, committable, complete, completion, draft, journal, lease_of, receipt, refused_with};

/// A completion by which these tables wait.
fn parking(entry: &Entry, epoch: i64, tables: &[&str]) -> Completion {
    let mut done = completion(entry, epoch);
    for receipt in done.receipts.iter_mut().filter(|receipt| tables.contains(&receipt.table.as_str())) {
        (receipt.commit, receipt.parked) = (None, Some(format!("{} is locked", receipt.table)));
    }
    done
}

/// Journals rows for `orders` and `other`, and completes all of it but `orders`.
async fn park(store: &dyn Store, lease: &Lease, token: &str) -> Entry {
    let tables = vec![committable("orders"), committable("other"), committable("orders")];
    let entry = journal(store, lease, token, |draft| draft.committables = tables).await.expect("journalled");
    store.complete(parking(&entry, lease.epoch, &["orders"])).await.expect("completed");
    entry
}

async fn parked(store: &dyn Store) -> Vec<Parked> {
    store.pipeline("p").await.expect("known").parked
}

/// With all that publishing it needs, also when the entry has been acknowledged; what it names is not swept.
pub async fn a_parked_part_waits_until_it_is_published(pair: Pair) {
    let lease = lease_of(&*pair.one, "p", LONG).await;
    let entry = park(&*pair.one, &lease, "t1").await;
    let expected = entry.park(parking(&entry, lease.epoch, &["orders"]).receipts[0].clone());
    assert_eq!((expected.committables.len(), expected.schema.fields.len()), (2, 1));
    assert_eq!(parked(&*pair.two).await, std::slice::from_ref(&expected));
    assert_eq!(pair.two.pipeline("p").await.expect("known").published, BTreeMap::from([("other".to_owned(), 1)]));
    pair.one.acknowledged("p", entry.n).await.expect("acknowledged");
    assert_eq!(parked(&*pair.two).await, [expected]);
    assert!(pair.two.doom_attempts("p", lease.epoch, &entry.draft.attempts).await.expect("none").is_empty());

    let published = receipt(&entry, "orders");
    refused_with(pair.one.unpark(published.clone(), lease.epoch + 1).await, "lease_lost");
    assert_eq!(parked(&*pair.one).await.len(), 1);
    pair.one.unpark(published.clone(), lease.epoch).await.expect("published");
    let state = pair.two.pipeline("p").await.expect("known");
    assert_eq!((state.published["orders"], state.parked.len(), state.last), (1, 0, 1));
    let receipts = pair.two.receipts(None, 10).await.expect("receipts");
    assert_eq!(receipts.len(), 2, "one for a table");
    assert!(receipts.contains(&published), "it took the place of the one that said parked");
}

/// The answer was lost, or somebody comes late: the first stays.
pub async fn publishing_a_parked_part_twice_changes_nothing(pair: Pair) {
    let lease = lease_of(&*pair.one, "p", LONG).await;
    let entry = park(&*pair.one, &lease, "t1").await;
    let first = receipt(&entry, "orders");
    pair.one.unpark(first.clone(), lease.epoch).await.expect("published");
    pair.two.unpark(Receipt { rows: 99, ..first.clone() }, lease.epoch).await.expect("published before");
    pair.one.complete(parking(&entry, lease.epoch, &["orders"])).await.expect("complete before");
    assert!(parked(&*pair.one).await.is_empty());
    assert!(pair.one.receipts(None, 10).await.expect("receipts").contains(&first));
    for never in [Receipt { n: 7, ..first.clone() }, Receipt { table: "never".into(), ..first.clone() }] {
        pair.one.unpark(never, lease.epoch).await.expect("nothing is parked there");
    }
    pair.one.unpark(Receipt { pipeline: "never".into(), ..first }, lease.epoch).await.expect("nothing is parked there");
    assert_eq!(pair.one.pipeline("p").await.expect("known").published.len(), 2);
    assert_eq!(pair.one.receipts(None, 10).await.expect("receipts").len(), 2);
}

/// In the order of their commits; what is published already to the table does not go back.
pub async fn parked_parts_come_in_order_and_move_nothing_back(pair: Pair) {
    let lease = lease_of(&*pair.one, "p", LONG).await;
    let first = park(&*pair.one, &lease, "t1").await;
    let second = park(&*pair.one, &lease, "t2").await;
    let third = journal(&*pair.one, &lease, "t3", |_| {}).await.expect("journalled");
    complete(&*pair.one, &lease, &third).await;
    assert_eq!(parked(&*pair.two).await.iter().map(|part| part.n).collect::<Vec<_>>(), [first.n, second.n]);
    for entry in [&second, &first] {
        pair.two.unpark(receipt(entry, "orders"), lease.epoch).await.expect("published");
        assert_eq!(pair.one.pipeline("p").await.expect("known").published["orders"], third.n);
    }
    assert!(parked(&*pair.one).await.is_empty());
}

/// A part is as the last amendment left it.
pub async fn a_parked_part_is_that_of_the_amended_commit(pair: Pair) {
    let lease = lease_of(&*pair.one, "p", LONG).await;
    let entry = journal(&*pair.one, &lease, "t1", |_| {}).await.expect("journalled");
    let better = vec![committable("orders"), committable("orders")];
    let attempts = [entry.draft.attempts.clone(), vec![begin(&*pair.one, &lease).await]].concat();
    let amended = Draft { attempts, committables: better.clone(), ..draft(&lease, &[], "t1") };
    let amended = pair.one.amend(entry.n, 0, amended).await.expect("amended");
    pair.one.complete(parking(&amended, lease.epoch, &["orders"])).await.expect("completed");
    let parts = parked(&*pair.two).await;
    assert_eq!((parts[0].amendment, parts[0].token.as_str(), &parts[0].committables), (1, "t1", &better));
}

/// What a receipt calls parked is not published.
pub async fn a_receipt_that_says_parked_publishes_nothing(pair: Pair) {
    let lease = lease_of(&*pair.one, "p", LONG).await;
    let entry = park(&*pair.one, &lease, "t1").await;
    let still = parking(&entry, lease.epoch, &["orders"]).receipts[0].clone();
    refused_with(pair.one.unpark(still, lease.epoch).await, "bug");
    assert_eq!(parked(&*pair.one).await.len(), 1);
    assert_eq!(pair.one.pipeline("p").await.expect("known").published, BTreeMap::from([("other".to_owned(), 1)]));
}

/// Repair: the table was deleted on purpose. What waits for it is nowhere else, so that only somebody who says so gives it up.
pub async fn parked_parts_are_given_up_only_by_name(pair: Pair) {
    let lease = lease_of(&*pair.one, "p", LONG).await;
    let entry = journal(&*pair.one, &lease, "t1", |draft| draft.committables.push(committable("other"))).await;
    let entry = entry.expect("journalled");
    pair.one.complete(parking(&entry, lease.epoch, &["orders", "other"])).await.expect("completed");
    pair.one.forget_table("p", "orders").await.expect("forgotten");
    assert_eq!(parked(&*pair.two).await.len(), 2);
    for _ in 0..2 {
        pair.one.give_up_parked("p", "orders").await.expect("given up");
    }
    pair.one.give_up_parked("never", "orders").await.expect("nothing is parked there");
    assert_eq!(parked(&*pair.two).await.iter().map(|part| part.table.as_str()).collect::<Vec<_>>(), ["other"]);
}
