//! Numbers, positions, ids, tokens; completing, acknowledging, amending.

use std::collections::BTreeMap;
use std::time::Duration;

use longshore_core::commit::{CommitNumber, Completion, DEAD_LETTERS, DeadLetterState, Draft, EntryState, Landing};
use longshore_core::position::{Covers, Position};
use longshore_core::store::Writer;

use super::{
    LONG, Pair, begin, committable, complete, completion, delta, draft, ids, journal, landing, lease_of, letter, position,
    refused_with, states,
};

/// `pipeline` creates a pipeline once, with an identity that all handles see.
pub async fn a_new_pipeline_is_empty_and_keeps_its_identity(pair: Pair) {
    let first = pair.one.pipeline("load:warehouse/main").await.expect("created");
    assert_eq!((first.last, first.open.len(), first.published.len()), (0, 0, 0));
    assert_eq!(first.application.pipeline, "load:warehouse/main");
    assert_eq!(first.application.store, pair.one.id());
    assert_eq!(pair.one.id(), pair.two.id());
    assert_eq!(pair.two.pipeline("load:warehouse/main").await.expect("known"), first);
    let other = pair.two.pipeline("another").await.expect("created");
    assert_ne!(other.application.ledger, first.application.ledger);
    assert_eq!(pair.one.pipelines().await.expect("names"), ["another", "load:warehouse/main"]);
}

/// 1, 2, 3; a refused draft takes no number, and a complete one does not give its number back.
pub async fn numbers_count_up_and_are_never_given_twice(pair: Pair) {
    let lease = lease_of(&*pair.one, "p", LONG).await;
    let mut given: Vec<CommitNumber> = Vec::new();
    for round in 0..3 {
        let entry = journal(&*pair.one, &lease, &format!("t{round}"), |_| {}).await.expect("journalled");
        given.push(entry.n);
        let later = |draft: &mut Draft| draft.writer = Writer::Lease(lease.epoch + 1);
        refused_with(journal(&*pair.one, &lease, &format!("bad{round}"), later).await, "lease_lost");
        if round != 1 {
            complete(&*pair.one, &lease, &entry).await;
            pair.one.acknowledged("p", entry.n).await.expect("acknowledged");
        }
    }
    assert_eq!(given, [1, 2, 3]);
    let state = pair.two.pipeline("p").await.expect("known");
    assert_eq!(state.last, 3);
    assert_eq!(state.open.iter().map(|entry| entry.n).collect::<Vec<_>>(), [2], "the others are acknowledged");
}

/// Everything is per pipeline.
pub async fn pipelines_do_not_share_numbers_positions_or_ids(pair: Pair) {
    for pipeline in ["a", "b"] {
        let lease = lease_of(&*pair.one, pipeline, LONG).await;
        let covers = vec![Covers::Deltas(vec![delta("x", None, 5)]), ids("s", &["1"])];
        let entry = journal(&*pair.one, &lease, "token", |draft| draft.covers = covers).await.expect("journalled");
        assert_eq!(entry.n, 1);
    }
}

/// All fields of a draft survive, and so does the time of the entry.
pub async fn an_entry_comes_back_as_it_was_journalled(pair: Pair) {
    let lease = lease_of(&*pair.one, "p", LONG).await;
    let attempt = begin(&*pair.one, &lease).await;
    let mut asked = draft(&lease, std::slice::from_ref(&attempt), "t");
    asked.covers = vec![Covers::Deltas(vec![delta("ä'\"\\\u{0}x", None, 5)]), ids("s", &["1", "2"])];
    asked.landings = vec![Landing { records: Some(serde_json::json!({"b": "/x", "a": ["/y"]})), ..landing("orders", "a", "d") }];
    asked.dead_letters = vec![letter("1-0", "bad")];
    let entry = pair.one.journal(asked.clone()).await.expect("journalled");
    assert_eq!(entry.draft, asked);
    assert_eq!((entry.state, entry.amendment), (EntryState::Journalled, 0));
    assert_eq!(pair.two.pipeline("p").await.expect("known").open, [entry]);
    assert_eq!(position(&*pair.two, "p", "ä'\"\\\u{0}x").await, Some(Position::from_count(5)));
}

/// One bad delta among good ones, and ids beside it: no position, id, number or attempt is taken.
pub async fn a_refused_delta_changes_nothing(pair: Pair) {
    let lease = lease_of(&*pair.one, "p", LONG).await;
    let first = vec![Covers::Deltas(vec![delta("a", None, 200)])];
    journal(&*pair.one, &lease, "t1", |draft| draft.covers = first).await.expect("journalled");
    let attempt = begin(&*pair.one, &lease).await;
    for bad in [delta("a", Some(100), 300), delta("a", None, 300), delta("a", Some(300), 400), delta("a", Some(200), 200)] {
        let mut refused = draft(&lease, std::slice::from_ref(&attempt), "t2");
        refused.covers = vec![Covers::Deltas(vec![delta("b", None, 7), bad]), ids("s", &["1"])];
        refused_with(pair.two.journal(refused).await, "delta_refused");
        assert_eq!(position(&*pair.one, "p", "a").await, Some(Position::from_count(200)));
        assert_eq!(position(&*pair.one, "p", "b").await, None);
    }
    assert_eq!(pair.one.pipeline("p").await.expect("known").last, 1);
    let mut good = draft(&lease, &[attempt], "t2");
    good.covers = vec![Covers::Deltas(vec![delta("b", None, 7), delta("a", Some(200), 300)]), ids("s", &["1"])];
    assert_eq!(pair.one.journal(good).await.expect("attempt, ids and positions were left alone").n, 2);
}

/// A second delta of a partition goes on where the first ends.
pub async fn several_deltas_of_one_partition_apply_in_order(pair: Pair) {
    let lease = lease_of(&*pair.one, "p", LONG).await;
    let covers = vec![
        Covers::Deltas(vec![delta("a", None, 100), delta("a", Some(100), 200)]),
        Covers::Deltas(vec![delta("a", Some(200), 300)]),
    ];
    journal(&*pair.one, &lease, "t1", |draft| draft.covers = covers).await.expect("journalled");
    assert_eq!(position(&*pair.two, "p", "a").await, Some(Position::from_count(300)));
    let wrong = vec![Covers::Deltas(vec![delta("a", Some(400), 500), delta("a", Some(300), 400)])];
    refused_with(journal(&*pair.one, &lease, "t2", |draft| draft.covers = wrong).await, "delta_refused");
}

/// A known id refuses the whole draft; so does one that is there twice; another scope does not mind.
pub async fn an_id_is_journalled_once_per_scope(pair: Pair) {
    let lease = lease_of(&*pair.one, "p", LONG).await;
    let with = |covers: Vec<Covers>| move |draft: &mut Draft| draft.covers = covers;
    journal(&*pair.one, &lease, "t1", with(vec![ids("s", &["1", "2"])])).await.expect("journalled");
    let mixed = vec![Covers::Deltas(vec![delta("a", None, 1)]), ids("s", &["3", "2"])];
    refused_with(journal(&*pair.two, &lease, "t2", with(mixed)).await, "delta_refused");
    refused_with(journal(&*pair.two, &lease, "t3", with(vec![ids("s", &["4", "4"])])).await, "delta_refused");
    refused_with(journal(&*pair.two, &lease, "t4", with(vec![ids("s", &["5"]), ids("s", &["5"])])).await, "delta_refused");
    assert_eq!(position(&*pair.one, "p", "a").await, None);
    let free = vec![ids("s", &["3", "4", "5"]), ids("z", &["1"])];
    assert_eq!(journal(&*pair.two, &lease, "t5", with(free)).await.expect("journalled").n, 2);
}

/// The answer of the first call was lost: the second gives it.
pub async fn a_repeated_token_gives_the_first_entry_and_moves_nothing(pair: Pair) {
    let lease = lease_of(&*pair.one, "p", LONG).await;
    let attempt = begin(&*pair.one, &lease).await;
    let mut asked = draft(&lease, &[attempt], "t");
    asked.covers = vec![Covers::Deltas(vec![delta("a", None, 100)]), ids("s", &["1"])];
    let entry = pair.one.journal(asked.clone()).await.expect("journalled");
    assert_eq!(pair.one.journal(asked.clone()).await.expect("known"), entry);
    assert_eq!(pair.two.journal(asked.clone()).await.expect("known"), entry);
    let state = pair.two.pipeline("p").await.expect("known");
    assert_eq!((state.last, state.open.len()), (1, 1));
    assert_eq!(position(&*pair.one, "p", "a").await, Some(Position::from_count(100)));
    complete(&*pair.one, &lease, &entry).await;
    let again = pair.one.journal(asked.clone()).await.expect("known");
    assert_eq!((again.n, again.state), (entry.n, EntryState::Complete));
    pair.one.acknowledged("p", entry.n).await.expect("acknowledged");
    let again = pair.one.journal(asked).await.expect("known");
    assert_eq!((again.n, again.state), (entry.n, EntryState::Acknowledged));
}

/// The token is looked at before the lease: the caller must learn that its entry exists.
pub async fn a_repeated_token_is_answered_even_after_the_lease_was_lost(pair: Pair) {
    let lease = lease_of(&*pair.one, "p", Duration::ZERO).await;
    let attempt = begin(&*pair.one, &lease).await;
    let asked = draft(&lease, &[attempt], "t");
    let entry = pair.one.journal(asked.clone()).await.expect("journalled");
    lease_of(&*pair.two, "p", LONG).await;
    assert_eq!(pair.one.journal(asked).await.expect("known"), entry);
}

/// From two processes, also when all of them want the same records: then one gets them.
pub async fn calls_at_the_same_time_get_numbers_of_their_own(pair: Pair) {
    let lease = lease_of(&*pair.one, "p", LONG).await;
    let mut calls = Vec::new();
    for turn in 0..20 {
        let store = if turn % 2 == 0 { &pair.one } else { &pair.two };
        let (token, lease) = (format!("t{turn}"), &lease);
        let own = delta(&token, None, 1);
        calls.push(async move { journal(&**store, lease, &token, |draft| draft.covers = vec![Covers::Deltas(vec![own])]).await });
    }
    let entries = futures::future::join_all(calls).await;
    let mut given: Vec<CommitNumber> = entries.into_iter().map(|entry| entry.expect("journalled").n).collect();
    given.sort_unstable();
    assert_eq!(given, (1..=20).collect::<Vec<_>>());

    let mut calls = Vec::new();
    for turn in 0..6 {
        let store = if turn % 2 == 0 { &pair.one } else { &pair.two };
        let (token, lease) = (format!("s{turn}"), &lease);
        let same = vec![Covers::Deltas(vec![delta("same", None, 1)])];
        calls.push(async move { journal(&**store, lease, &token, |draft| draft.covers = same).await });
    }
    let (given, refused): (Vec<_>, Vec<_>) = futures::future::join_all(calls).await.into_iter().partition(Result::is_ok);
    assert_eq!((given.len(), refused.len()), (1, 5));
    refused.into_iter().for_each(|result| refused_with(result, "delta_refused"));
}

/// 6 is complete before 5: `published`, ledger and positions stay at 6.
pub async fn a_late_complete_moves_nothing_back(pair: Pair) {
    let lease = lease_of(&*pair.one, "p", LONG).await;
    let file = |digest: &'static str| move |draft: &mut Draft| draft.landings = vec![landing("orders", "in/a", digest)];
    let first = journal(&*pair.one, &lease, "t1", file("old")).await.expect("journalled");
    let second = journal(&*pair.one, &lease, "t2", file("new")).await.expect("journalled");
    complete(&*pair.one, &lease, &second).await;
    complete(&*pair.two, &lease, &first).await;
    let state = pair.one.pipeline("p").await.expect("known");
    assert_eq!(state.published, BTreeMap::from([("orders".to_owned(), 2)]));
    assert_eq!(state.last, 2);
    assert!(state.open.iter().all(|entry| entry.state == EntryState::Complete));
    let landings = pair.one.landings("p", "in/a").await.expect("landings");
    assert_eq!(landings, [Landing { n: 2, ..landing("orders", "in/a", "new") }]);
    assert_eq!(pair.one.receipts(None, 10).await.expect("receipts").len(), 2);
}

/// Repeated by the holder or by one whose lease is lost: fine, and nothing is added. Not complete and lost: refused.
pub async fn completing_twice_changes_nothing(pair: Pair) {
    let old = lease_of(&*pair.one, "p", Duration::ZERO).await;
    let done =
        journal(&*pair.one, &old, "t1", |draft| draft.dead_letters = vec![letter("1-0", "bad")]).await.expect("journalled");
    let waiting =
        journal(&*pair.one, &old, "t2", |draft| draft.dead_letters = vec![letter("2-0", "bad")]).await.expect("journalled");
    complete(&*pair.one, &old, &done).await;
    let receipts = pair.one.receipts(None, 10).await.expect("receipts");
    let new = lease_of(&*pair.two, "p", LONG).await;
    let mut changed = completion(&done, old.epoch);
    changed.receipts[0].rows = 99;
    pair.one.complete(changed).await.expect("complete already");
    assert_eq!(pair.two.receipts(None, 10).await.expect("receipts"), receipts);
    refused_with(pair.one.complete(completion(&waiting, old.epoch)).await, "lease_lost");
    assert_eq!(pair.two.receipts(None, 10).await.expect("receipts"), receipts);
    assert_eq!(states(&*pair.two).await, [("1-0".to_owned(), DeadLetterState::Open)]);
    complete(&*pair.two, &new, &waiting).await;
    assert_eq!(states(&*pair.two).await.len(), 2);
    refused_with(pair.two.complete(Completion { n: 9, ..completion(&waiting, new.epoch) }).await, "bug");
}

/// A table without a receipt would never be published.
pub async fn completing_needs_a_receipt_for_each_table(pair: Pair) {
    let lease = lease_of(&*pair.one, "p", LONG).await;
    let tables = vec![committable("orders"), committable(DEAD_LETTERS)];
    let entry = journal(&*pair.one, &lease, "t1", |draft| draft.committables = tables).await.expect("journalled");
    let mut half = completion(&entry, lease.epoch);
    half.receipts.pop();
    refused_with(pair.one.complete(half).await, "bug");
    let state = pair.one.pipeline("p").await.expect("known");
    assert_eq!(state.open[0].state, EntryState::Journalled);
    assert!(state.published.is_empty() && pair.one.receipts(None, 10).await.expect("receipts").is_empty());
}

/// Step 5 comes after step 4; repeating it changes nothing.
pub async fn an_entry_is_acknowledged_only_after_it_is_complete(pair: Pair) {
    let lease = lease_of(&*pair.one, "p", LONG).await;
    let entry = journal(&*pair.one, &lease, "t1", |_| {}).await.expect("journalled");
    refused_with(pair.one.acknowledged("p", entry.n).await, "bug");
    refused_with(pair.one.acknowledged("p", 7).await, "bug");
    complete(&*pair.one, &lease, &entry).await;
    let open = pair.one.pipeline("p").await.expect("known").open;
    assert_eq!(open[0].draft.acknowledge, entry.draft.acknowledge, "what step 5 has to do is still known");
    pair.one.acknowledged("p", entry.n).await.expect("acknowledged");
    pair.two.acknowledged("p", entry.n).await.expect("changes nothing");
    complete(&*pair.one, &lease, &entry).await;
    assert!(pair.two.pipeline("p").await.expect("known").open.is_empty());
}

/// Of two who amend, one does; the attempt of the one is the entry's from then on, that of the other is not.
pub async fn amending_is_compare_and_set(pair: Pair) {
    let lease = lease_of(&*pair.one, "p", LONG).await;
    let entry = journal(&*pair.one, &lease, "t1", |_| {}).await.expect("journalled");
    let amendment = async |table: &str| {
        let attempts = [entry.draft.attempts.clone(), vec![begin(&*pair.one, &lease).await]].concat();
        let (committables, dead_letters) = (vec![committable(table)], vec![letter("1-0", "refused")]);
        Draft { attempts, committables, dead_letters, covers: Vec::new(), ..entry.draft.clone() }
    };
    let (better, worse) = (amendment("better").await, amendment("worse").await);
    let amended = pair.one.amend(entry.n, 0, better.clone()).await.expect("amended");
    assert_eq!((amended.amendment, amended.tables()), (1, vec!["better".to_owned()]));
    assert_eq!(amended.draft.covers, entry.draft.covers, "what it covers stays");
    refused_with(pair.two.amend(entry.n, 0, worse.clone()).await, "delta_refused");
    assert_eq!(pair.two.amend(entry.n, 0, better.clone()).await.expect("asked again"), amended);
    refused_with(
        pair.two.amend(entry.n, 1, Draft { writer: Writer::Lease(lease.epoch - 1), ..worse.clone() }).await,
        "lease_lost",
    );
    assert_eq!(pair.two.pipeline("p").await.expect("known").open, std::slice::from_ref(&amended));

    let given_up = [better.attempts[1].clone(), worse.attempts[1].clone()];
    let dead = pair.one.doom_attempts("p", lease.epoch, &given_up).await.expect("doomed");
    assert_eq!(dead, worse.attempts[1..], "what an amendment took is not given up");
    refused_with(pair.one.amend(entry.n, 1, worse.clone()).await, "attempt_dead");

    complete(&*pair.one, &lease, &amended).await;
    assert_eq!(states(&*pair.one).await, [("1-0".to_owned(), DeadLetterState::Open)]);
    refused_with(pair.one.amend(entry.n, 1, amendment("too late").await).await, "delta_refused");
}
