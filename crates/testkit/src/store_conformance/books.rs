//! What commits leave: receipts, the file ledger, dead letters; and the repairs of it.

use std::collections::BTreeMap;

use longshore_core::commit::{Adoption, Application, DEAD_LETTERS, DeadLetterState, Draft, Entry, Landing};
use longshore_core::position::{Covers, Delta, Partition, Position};
use longshore_core::store::{DeadLetterFilter, Writer};

use super::{LONG, Pair, begin, committable, complete, completion, journal, landing, lease_of, letter, refused_with, states};

/// By two people at once, or again later; and what is being replayed cannot be dropped.
pub async fn a_dead_letter_is_replayed_once(pair: Pair) {
    let lease = lease_of(&*pair.one, "p", LONG).await;
    let letters = vec![letter("1-0", "bad"), letter("1-1", "bad")];
    let replay = |ids: &[&str]| {
        let ids = ids.iter().map(|&id| id.to_owned()).collect::<Vec<_>>();
        move |draft: &mut Draft| draft.replayed = ids
    };
    let first = journal(&*pair.one, &lease, "t1", |draft| draft.dead_letters = letters).await.expect("journalled");
    refused_with(journal(&*pair.one, &lease, "t2", replay(&["1-0"])).await, "dead_letter_not_open");
    complete(&*pair.one, &lease, &first).await;

    let second = journal(&*pair.one, &lease, "t3", replay(&["1-0"])).await.expect("open");
    refused_with(journal(&*pair.two, &lease, "t4", replay(&["1-1", "1-0"])).await, "dead_letter_not_open");
    assert_eq!(states(&*pair.two).await[0].1, DeadLetterState::Open, "until the replay is complete");
    assert_eq!(pair.two.drop_dead_letters(&["1-0".to_owned()]).await.expect("none"), 0);
    complete(&*pair.one, &lease, &second).await;
    let expected = [("1-0".to_owned(), DeadLetterState::Replayed), ("1-1".to_owned(), DeadLetterState::Open)];
    assert_eq!(states(&*pair.two).await, expected);
    refused_with(journal(&*pair.two, &lease, "t5", replay(&["1-0"])).await, "dead_letter_not_open");
    refused_with(journal(&*pair.two, &lease, "t6", replay(&["unknown"])).await, "dead_letter_not_open");
    assert_eq!(pair.one.pipeline("p").await.expect("known").last, second.n);
    journal(&*pair.two, &lease, "t7", replay(&["1-1"])).await.expect("the refusals left it alone");
}

/// Lines kept with an attempt are seen when its commit is complete, in their order and once, and never if it is swept.
pub async fn letters_kept_with_an_attempt_share_its_fate(pair: Pair) {
    let lease = lease_of(&*pair.one, "p", LONG).await;
    let (lost, taken) = (begin(&*pair.one, &lease).await, begin(&*pair.one, &lease).await);
    pair.one.keep_letters(&lost, &[letter("0-0", "bad")]).await.expect("kept");
    pair.one.keep_letters(&taken, &[letter("1-0", "bad"), letter("1-1", "bad")]).await.expect("kept");
    pair.one.keep_letters(&taken, &[letter("1-1", "bad"), letter("1-2", "bad")]).await.expect("repeated");
    let attempts = vec![taken.clone()];
    let entry = journal(&*pair.one, &lease, "t1", |draft| draft.attempts = attempts).await.expect("journalled");
    let doomed = pair.one.doom_attempts("p", lease.epoch, std::slice::from_ref(&lost)).await.expect("doomed");
    pair.one.keep_letters(&lost, &[letter("0-1", "bad")]).await.expect("told that it is dead when it is journalled");
    pair.one.swept(&doomed).await.expect("swept");
    pair.one.swept(&[taken]).await.expect("a journalled attempt is not swept");
    assert!(states(&*pair.two).await.is_empty(), "until the commit is complete");
    complete(&*pair.one, &lease, &entry).await;
    let ids: Vec<String> = states(&*pair.two).await.into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, ["1-0", "1-1", "1-2"]);
}

/// By id, pipeline, run, code and state; oldest first.
pub async fn dead_letters_are_filtered_and_dropped_once(pair: Pair) {
    for (pipeline, run) in [("p", "r1"), ("q", "r2")] {
        let lease = lease_of(&*pair.one, pipeline, LONG).await;
        let letters = vec![letter(&format!("{pipeline}-0"), "bad"), letter(&format!("{pipeline}-1"), "worse")];
        let change = |draft: &mut Draft| (draft.dead_letters, draft.run) = (letters, run.into());
        let entry = journal(&*pair.one, &lease, "t", change).await.expect("journalled");
        complete(&*pair.one, &lease, &entry).await;
    }
    let all = pair.two.dead_letters(&DeadLetterFilter::default()).await.expect("all");
    assert_eq!(
        (all[0].key.clone(), all[0].pipeline.as_str(), all[0].n, all[0].run.as_str()),
        (letter("p-0", "bad"), "p", 1, "r1")
    );
    assert_eq!(pair.one.drop_dead_letters(&["p-1".into(), "p-1".into(), "no".into()]).await.expect("dropped"), 1);
    assert_eq!(pair.two.drop_dead_letters(&["p-1".into()]).await.expect("again"), 0);
    let none = DeadLetterFilter::default;
    for (filter, expected) in [
        (DeadLetterFilter { ids: vec!["q-1".into(), "p-0".into()], ..none() }, vec!["p-0", "q-1"]),
        (DeadLetterFilter { pipeline: Some("q".into()), ..none() }, vec!["q-0", "q-1"]),
        (DeadLetterFilter { run: Some("r1".into()), ..none() }, vec!["p-0", "p-1"]),
        (DeadLetterFilter { code: Some("worse".into()), ..none() }, vec!["p-1", "q-1"]),
        (DeadLetterFilter { state: Some(DeadLetterState::Open), ..none() }, vec!["p-0", "q-0", "q-1"]),
        (DeadLetterFilter { state: Some(DeadLetterState::Dropped), pipeline: Some("p".into()), ..none() }, vec!["p-1"]),
        (DeadLetterFilter { limit: 3, ..none() }, vec!["p-0", "p-1", "q-0"]),
    ] {
        let found = pair.two.dead_letters(&filter).await.expect("found");
        assert_eq!(found.into_iter().map(|letter| letter.key.id).collect::<Vec<_>>(), expected, "{filter:?}");
    }
    let lease = lease_of(&*pair.one, "z", LONG).await;
    let dropped = journal(&*pair.one, &lease, "t", |draft| draft.replayed = vec!["p-1".into()]).await;
    refused_with(dropped, "dead_letter_not_open");
}

/// One line per table and address, the latest; whether the same bytes came from elsewhere.
pub async fn later_landings_replace_earlier_ones(pair: Pair) {
    let lease = lease_of(&*pair.one, "p", LONG).await;
    let commits = [
        vec![landing("orders", "in/a", "x"), landing(Landing::WHOLE, "in/a", "x"), landing("orders", "in/b", "y")],
        vec![landing("orders", "in/a", "z"), landing("orders", "in/c", "y")],
    ];
    for (token, landings) in ["t1", "t2"].into_iter().zip(commits) {
        let entry = journal(&*pair.one, &lease, token, |draft| draft.landings = landings).await.expect("journalled");
        complete(&*pair.one, &lease, &entry).await;
    }
    let expected = [Landing { n: 1, ..landing(Landing::WHOLE, "in/a", "x") }, Landing { n: 2, ..landing("orders", "in/a", "z") }];
    assert_eq!(pair.two.landings("p", "in/a").await.expect("landings"), expected);
    assert!(pair.two.landings("p", "in/never").await.expect("none").is_empty());
    assert!(pair.two.landings("q", "in/a").await.expect("none").is_empty());

    let twin = pair.two.same_bytes("p", "y", "in/z").await.expect("found").expect("twice");
    assert_eq!((twin.address.as_str(), twin.n), ("in/c", 2), "the newest");
    let twin = pair.two.same_bytes("p", "y", "in/c").await.expect("found").expect("once");
    assert_eq!((twin.address.as_str(), twin.n), ("in/b", 1));
    assert_eq!(pair.two.same_bytes("p", "z", "in/a").await.expect("itself is no twin"), None);
    assert_eq!(pair.two.same_bytes("q", "y", "in/z").await.expect("another pipeline"), None);
}

/// Each once.
pub async fn record_paths_come_newest_first(pair: Pair) {
    let lease = lease_of(&*pair.one, "p", LONG).await;
    let with = |paths: &str| Landing { records: Some(serde_json::json!({ "rows": paths })), ..landing("t", paths, "d") };
    for (token, paths) in [("t1", vec!["/a", "/b"]), ("t2", vec!["/c"]), ("t3", vec!["/a"])] {
        let mut landings: Vec<Landing> = paths.into_iter().map(with).collect();
        landings.push(landing("t", "without", "d"));
        let entry = journal(&*pair.one, &lease, token, |draft| draft.landings = landings).await.expect("journalled");
        complete(&*pair.one, &lease, &entry).await;
    }
    let paths = pair.two.record_paths("p").await.expect("paths");
    assert_eq!(paths, ["/a", "/c", "/b"].map(|path| serde_json::json!({ "rows": path })));
    assert!(pair.two.record_paths("q").await.expect("none").is_empty());
}

/// Of a run if one is named.
pub async fn receipts_come_newest_first_and_parked_tables_are_not_published(pair: Pair) {
    let lease = lease_of(&*pair.one, "p", LONG).await;
    for (token, run) in [("t1", "r1"), ("t2", "r2"), ("t3", "r1")] {
        let entry = journal(&*pair.one, &lease, token, |draft| draft.run = run.into()).await.expect("journalled");
        let mut done = completion(&entry, lease.epoch);
        if token == "t3" {
            (done.receipts[0].commit, done.receipts[0].parked) = (None, Some("locked".into()));
        }
        pair.one.complete(done).await.expect("completed");
    }
    let numbers = async |run: Option<&str>, limit: usize| {
        let receipts = pair.two.receipts(run, limit).await.expect("receipts");
        receipts.into_iter().map(|receipt| receipt.n).collect::<Vec<_>>()
    };
    assert_eq!(numbers(None, 10).await, [3, 2, 1]);
    assert_eq!(numbers(None, 2).await, [3, 2]);
    assert_eq!(numbers(Some("r1"), 10).await, [3, 1]);
    assert_eq!(pair.two.receipts(Some("r2"), 1).await.expect("one")[0].commit.as_deref(), Some("v2"));
    let published = pair.two.pipeline("p").await.expect("known").published;
    assert_eq!(published, BTreeMap::from([("orders".to_owned(), 2)]), "3 is parked");
}

/// Repair: the table holds more than the store knows, or less.
pub async fn a_mark_is_adopted_and_numbers_go_on_after_it(pair: Pair) {
    let marks = |n| Adoption { marks: BTreeMap::from([("orders".to_owned(), n)]), ..Adoption::default() };
    pair.one.adopt("p", &marks(40)).await.expect("adopted");
    let state = pair.two.pipeline("p").await.expect("known");
    assert_eq!((state.last, state.published), (40, BTreeMap::from([("orders".to_owned(), 40)])));
    pair.one.adopt("p", &marks(30)).await.expect("adopted");
    let state = pair.two.pipeline("p").await.expect("known");
    assert_eq!(state.last, 40, "numbers never go back");
    assert_eq!(state.published["orders"], 30, "what the table holds is as the destination says");
    let lease = lease_of(&*pair.one, "p", LONG).await;
    assert_eq!(journal(&*pair.one, &lease, "t", |_| {}).await.expect("journalled").n, 41);
    refused_with(pair.one.adopt("p", &marks(0)).await, "bug");
}

/// A commit that a lost journal held is in the journal again: open, with its number, its token and what it covers.
pub async fn an_entry_of_a_lost_journal_is_adopted_once(pair: Pair) {
    let lease = lease_of(&*pair.one, "lost", LONG).await;
    let delta = Delta { partition: Partition("a".into()), from: None, to: Position::from_count(9) };
    let known = Covers::Ids { scope: "s".into(), ids: vec!["1".into(), "2".into()] };
    let covers = [Covers::Deltas(vec![delta]), known];
    let both = covers.to_vec();
    let entry = journal(&*pair.one, &lease, "t1", |draft| draft.covers = both).await.expect("journalled");
    let draft = Draft { pipeline: "p".into(), ..entry.draft };
    let entry = Entry { n: 7, amendment: 2, draft, ..entry };
    let adoption = Adoption { entries: vec![entry.clone()], ..Adoption::default() };
    for _ in 0..2 {
        pair.one.adopt("p", &adoption).await.expect("adopted");
        let state = pair.two.pipeline("p").await.expect("known");
        assert_eq!((state.last, state.open.as_slice()), (7, std::slice::from_ref(&entry)));
    }
    let lease = lease_of(&*pair.one, "p", LONG).await;
    let again = Draft { writer: Writer::Lease(lease.epoch), ..entry.draft.clone() };
    assert_eq!(pair.one.journal(again.clone()).await.expect("its token is known").n, 7);
    for (token, covered) in ["t2", "t3"].into_iter().zip(covers) {
        let attempts = vec![begin(&*pair.one, &lease).await];
        let other = Draft { token: token.into(), attempts, covers: vec![covered], ..again.clone() };
        refused_with(pair.one.journal(other).await, "delta_refused");
    }
    complete(&*pair.two, &lease, &entry).await;
    pair.one.acknowledged("p", 7).await.expect("acknowledged");
    assert!(pair.two.pipeline("p").await.expect("known").open.is_empty());
}

/// Repair of a lost store: identity, ledger lines and positions come from the destination's log.
pub async fn a_lost_ledger_is_adopted(pair: Pair) {
    let application = Application { pipeline: "p".into(), ledger: "l-old".into(), store: "s-old".into() };
    let partition = Partition("file:orders:in/a".into());
    let covered = Delta { partition: partition.clone(), from: None, to: Position::from_count(9) };
    let adoption = Adoption {
        application: Some(application.clone()),
        marks: BTreeMap::from([("orders".to_owned(), 4)]),
        landings: vec![Landing { n: 3, ..landing("orders", "in/a", "x") }],
        covers: vec![Covers::Deltas(vec![covered])],
        entries: Vec::new(),
    };
    for _ in 0..2 {
        pair.one.adopt("p", &adoption).await.expect("adopted");
        assert_eq!(pair.two.pipeline("p").await.expect("known").application, application);
        assert_eq!(pair.two.landings("p", "in/a").await.expect("landings"), adoption.landings);
        assert_eq!(pair.two.position("p", &partition).await.expect("read"), Some(Position::from_count(9)));
    }
}

/// Its files are looked at again, and their positions do not refuse them; lines of other tables and streams stay.
pub async fn a_forgotten_table_can_land_again_but_its_neighbours_do_not(pair: Pair) {
    let lease = lease_of(&*pair.one, "p", LONG).await;
    let both = vec![landing(Landing::WHOLE, "in/both", "x"), landing("orders", "in/both", "x"), landing("other", "in/both", "x")];
    let alone = vec![landing(Landing::WHOLE, "in/alone", "y"), landing("orders", "in/alone", "y")];
    let delta = |partition: &str, to| Delta { partition: Partition(partition.into()), from: None, to: Position::from_count(to) };
    for (token, landings, table) in [("t1", both, "other"), ("t2", alone, DEAD_LETTERS)] {
        let covers = vec![delta(&format!("file:orders:{token}"), 9), delta(&format!("topic-{token}"), 9)];
        let change = |draft: &mut Draft| {
            draft.covers = vec![Covers::Deltas(covers)];
            draft.landings = landings;
            draft.committables.push(committable(table));
        };
        let entry = journal(&*pair.one, &lease, token, change).await.expect("journalled");
        complete(&*pair.one, &lease, &entry).await;
    }
    pair.two.forget_table("p", "orders").await.expect("forgotten");
    let published = pair.one.pipeline("p").await.expect("known").published;
    assert_eq!(published.keys().collect::<Vec<_>>(), [DEAD_LETTERS, "other"]);
    let tables: Vec<String> =
        pair.one.landings("p", "in/both").await.expect("landings").into_iter().map(|landing| landing.table).collect();
    assert_eq!(tables, ["other"]);
    for (partition, position) in [("file:orders:t1", None), ("topic-t1", Some(Position::from_count(9)))] {
        assert_eq!(pair.two.position("p", &Partition(partition.into())).await.expect("read"), position, "{partition}");
    }
    assert!(pair.one.landings("p", "in/alone").await.expect("none").is_empty());
    assert_eq!(pair.one.pipeline("p").await.expect("known").last, 2, "numbers never go back");
    pair.one.forget_table("no such pipeline", "orders").await.expect("nothing to do");
}
