//! Ids of messages: known until they are forgotten.

use std::collections::BTreeMap;
use std::time::Duration;

use longshore_core::commit::{Draft, EntryState};
use longshore_core::position::Covers;
use longshore_core::store::Store;

use super::{LONG, Pair, complete, delta, ids, journal, lease_of, refused_with};

fn texts(ids: &[&str]) -> Vec<String> {
    ids.iter().map(|&id| id.to_owned()).collect()
}

async fn known(store: &dyn Store, scope: &str, ids: &[&str]) -> BTreeMap<String, EntryState> {
    store.known_ids("p", scope, &texts(ids)).await.expect("an answer")
}

fn with(covers: Vec<Covers>) -> impl FnOnce(&mut Draft) {
    move |draft| draft.covers = covers
}

/// Whether it may be acknowledged, and whether it has to be waited for.
pub async fn a_known_id_comes_with_the_state_of_its_commit(pair: Pair) {
    assert!(known(&*pair.one, "s", &["1"]).await.is_empty(), "also before there is a pipeline");
    let lease = lease_of(&*pair.one, "p", LONG).await;
    let covers = vec![ids("s", &["1", "nul \u{0} ä'\"\\"]), ids("z", &["2"])];
    let first = journal(&*pair.one, &lease, "t1", with(covers)).await.expect("journalled");
    let second = journal(&*pair.one, &lease, "t2", with(vec![ids("s", &["3"])])).await.expect("journalled");
    complete(&*pair.one, &lease, &first).await;
    let asked = ["3", "2", "1", "nul \u{0} ä'\"\\", "never", "1"];
    let state = |id: &str, state| (id.to_owned(), state);
    let complete_now =
        [state("1", EntryState::Complete), state("nul \u{0} ä'\"\\", EntryState::Complete), state("3", EntryState::Journalled)];
    assert_eq!(known(&*pair.two, "s", &asked).await, BTreeMap::from(complete_now));
    assert_eq!(known(&*pair.two, "z", &asked).await, BTreeMap::from([state("2", EntryState::Complete)]));
    assert!(known(&*pair.two, "never", &asked).await.is_empty());
    assert!(known(&*pair.two, "s", &[]).await.is_empty());
    assert!(pair.two.known_ids("q", "s", &texts(&asked)).await.expect("none").is_empty());

    pair.one.acknowledged("p", first.n).await.expect("acknowledged");
    assert_eq!(known(&*pair.two, "s", &["1"]).await, BTreeMap::from([state("1", EntryState::Acknowledged)]));
    let states = pair.two.states("p", &[second.n, first.n, 7]).await.expect("states");
    assert_eq!(states, BTreeMap::from([(1, EntryState::Acknowledged), (2, EntryState::Journalled)]));
    assert!(pair.two.states("p", &[]).await.expect("none").is_empty());
    assert!(pair.two.states("q", &[1]).await.expect("none").is_empty());
}

/// Those of commits that were acknowledged before a time; then they may come again.
pub async fn ids_are_forgotten_when_they_are_old_and_acknowledged(pair: Pair) {
    let lease = lease_of(&*pair.one, "p", LONG).await;
    let mut entries = Vec::new();
    for (token, covers) in [
        ("t1", vec![ids("s", &["1", "2"]), ids("z", &["1"]), Covers::Deltas(vec![delta("a", None, 5)])]),
        ("t2", vec![ids("s", &["3"])]),
        ("t3", vec![ids("s", &["4"])]),
        ("t4", vec![ids("s", &["5", "6"])]),
    ] {
        entries.push(journal(&*pair.one, &lease, token, with(covers)).await.expect("journalled"));
    }
    let mut before = Vec::new();
    for entry in [&entries[0], &entries[2], &entries[3]] {
        // Times of their own.
        tokio::time::sleep(Duration::from_millis(2)).await;
        before.push(chrono::Utc::now());
        tokio::time::sleep(Duration::from_millis(2)).await;
        complete(&*pair.one, &lease, entry).await;
        pair.one.acknowledged("p", entry.n).await.expect("acknowledged");
    }
    let forget = async |scope: &str, before| pair.two.forget_ids("p", scope, before).await.expect("forgotten");
    assert_eq!(forget("s", before[0]).await, 0, "journalled before, but the messages may have come again until now");
    assert_eq!(forget("s", before[2]).await, 3, "of the first and the third: the second is open, the fourth not older");
    assert_eq!(forget("s", before[2]).await, 0);
    assert_eq!(forget("never", chrono::Utc::now()).await, 0);
    assert_eq!(pair.two.forget_ids("q", "s", chrono::Utc::now()).await.expect("none"), 0);
    let left = known(&*pair.one, "s", &["1", "2", "3", "4", "5", "6"]).await;
    assert_eq!(left.into_keys().collect::<Vec<_>>(), ["3", "5", "6"]);
    assert_eq!(known(&*pair.one, "z", &["1"]).await.len(), 1, "another scope");

    for bad in ["3", "5"] {
        refused_with(journal(&*pair.one, &lease, "bad", with(vec![ids("s", &[bad])])).await, "delta_refused");
    }
    let again = journal(&*pair.one, &lease, "t5", with(vec![ids("s", &["1", "4"])])).await.expect("as if never seen");
    assert_eq!(known(&*pair.one, "s", &["1", "2"]).await, BTreeMap::from([("1".to_owned(), EntryState::Journalled)]));
    complete(&*pair.one, &lease, &entries[1]).await;
    pair.one.acknowledged("p", entries[1].n).await.expect("acknowledged");
    assert_eq!(forget("s", before[2]).await, 0, "it was acknowledged only now");
    complete(&*pair.one, &lease, &again).await;
    pair.one.acknowledged("p", again.n).await.expect("acknowledged");
    assert_eq!(forget("s", chrono::Utc::now() + Duration::from_secs(1)).await, 5);
    assert_eq!(forget("z", chrono::Utc::now() + Duration::from_secs(1)).await, 1);
}

/// More than a store forgets at once; and as many are asked for.
pub async fn tens_of_thousands_of_ids_are_known_and_forgotten(pair: Pair) {
    const EACH: usize = 12_000;
    let lease = lease_of(&*pair.one, "p", LONG).await;
    let ids: Vec<Vec<String>> = (0..3).map(|n| (0..EACH).map(|i| format!("{:017}", i * 3 + n)).collect()).collect();
    for (n, ids) in ids.iter().enumerate() {
        let covers = vec![Covers::Ids { scope: "s".into(), ids: ids.clone() }];
        let entry = journal(&*pair.one, &lease, &format!("t{n}"), with(covers)).await.expect("journalled");
        complete(&*pair.one, &lease, &entry).await;
        pair.one.acknowledged("p", entry.n).await.expect("acknowledged");
    }
    let last = vec![Covers::Ids { scope: "s".into(), ids: vec!["new".into(), ids[1][EACH - 1].clone()] }];
    refused_with(journal(&*pair.two, &lease, "again", with(last)).await, "delta_refused");
    let all: Vec<String> = ids.concat();
    assert_eq!(pair.two.known_ids("p", "s", &all).await.expect("known").len(), 3 * EACH);
    let before = chrono::Utc::now() + Duration::from_secs(1);
    assert_eq!(pair.two.forget_ids("p", "s", before).await.expect("forgotten"), 3 * EACH as u64);
    assert!(pair.one.known_ids("p", "s", &all).await.expect("known").is_empty());
}
