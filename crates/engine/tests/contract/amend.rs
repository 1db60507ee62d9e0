//! Contract case 11: a destination says a final no to rows that are journalled already.

use longshore_core::store::{DeadLetterFilter, DeadLetterIndex};

use super::*;

fn unwanted(row: &serde_json::Value) -> bool {
    row.get("partition").is_some() && number(&row["id"]) % 5 == 1
}

/// Each record once in its table, or once in the dead letters, if nobody wants it with the destination's words.
fn check_tables(world: &World) {
    let letters = world.destination.rows("_dead_letters");
    let (refused, others): (Vec<_>, Vec<_>) = letters.iter().partition(|letter| letter["code"] == "row_refused");
    for letter in &refused {
        let row: serde_json::Value = serde_json::from_str(&text(&letter["payload"])).expect("a row");
        assert!(unwanted(&row), "{row}");
        assert_eq!(letter["reason"], "a test does not want this row");
        assert_eq!(letter["file"], row["partition"], "it is known where the row came from");
    }
    let mut seen = Vec::new();
    for t in 0..TABLES {
        let rows = world.destination.rows(&format!("t{t}"));
        assert!(!rows.iter().any(unwanted));
        seen.extend(rows.iter().map(|row| (text(&row["partition"]), number(&row["id"]))));
    }
    seen.extend(refused.iter().map(|letter| {
        let row: serde_json::Value = serde_json::from_str(&text(&letter["payload"])).expect("a row");
        (text(&row["partition"]), number(&row["id"]))
    }));
    seen.sort();
    let records = |(partition, records): (&String, &u64)| (0..*records).map(|id| (partition.clone(), id)).collect::<Vec<_>>();
    let good: Vec<_> = world.partitions.iter().flat_map(records).filter(|(_, id)| !is_bad(*id)).collect();
    assert_eq!(seen, good, "each record once");
    assert!(!refused.is_empty() && !others.is_empty());
}

/// The same, and the run has counted what it did.
fn check(world: &World, outcome: &Outcome) {
    check_tables(world);
    let letters = world.destination.rows("_dead_letters").len() as u64;
    assert_eq!(outcome.summary.rejects, letters);
    assert_eq!(outcome.summary.tables.values().sum::<u64>() + letters, 73);
}

#[tokio::test(flavor = "multi_thread")]
async fn case_11_rows_refused_at_publish_become_dead_letters_of_their_commit_once() {
    let world = World::new();
    world.destination.refuse(unwanted);
    let outcome = world.run().await.expect("succeeds");
    check(&world, &outcome);
    let index = world.store.dead_letters(&DeadLetterFilter::default()).await.expect("reads");
    assert_eq!(index.len() as u64, outcome.summary.rejects, "each is in the index");
    let mut ids: Vec<&str> = index.iter().map(|letter| letter.key.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), index.len(), "under an id of its own");
    let receipts = world.store.receipts(Some(&outcome.run), 100).await.expect("receipts");
    assert_eq!(receipts.iter().map(|receipt| receipt.rows).sum::<u64>(), 73, "the receipts account for every record");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_at_any_point_of_an_amendment_is_made_good_by_the_next_run() {
    for point in ["restage.before", "restage.after", "stage.before", "stage.after", "publish.before", "publish.after"] {
        let mut failures = 0;
        for passes in 0.. {
            let what = format!("{point} after {passes}");
            let world = World::new();
            world.destination.refuse(unwanted);
            world.destination.fail_after(passes, point, Retry::AfterFix);
            if world.run().await.is_ok() {
                break;
            }
            failures += 1;
            world.run().await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
            check_tables(&world);
            let index = world.store.dead_letters(&DeadLetterFilter::default()).await.expect("reads");
            assert_eq!(index.len(), world.destination.rows("_dead_letters").len(), "{what}");
            assert!(world.store.pipeline("p").await.expect("known").open.is_empty(), "{what}");
        }
        assert!(failures >= 2, "{point}: only {failures} visits");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_amendment_whose_answer_is_lost_is_made_once() {
    let world = World::new();
    world.destination.refuse(unwanted);
    world.store.lose_answer("amend");
    let outcome = world.run().await.expect("succeeds");
    check(&world, &outcome);
}
