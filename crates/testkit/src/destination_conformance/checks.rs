//! The checks themselves, in the order of the list.

use super::*;
use WriteDisposition::{Append, Empty, Truncate};

pub async fn staged_rows_are_not_visible(bench: Bench) {
    bench.prepare().await;
    bench.staged("a1", &[1, 2]).await;
    assert_eq!(bench.ids().await, [] as [i64; 0]);
    assert_eq!(bench.mark().await, None);
}

pub async fn published_twice_is_visible_once(bench: Bench) {
    bench.prepare().await;
    let first = [bench.staged("a1", &[1, 2]).await];
    assert!(is_done(&bench.publish(1, &first).await));
    assert!(is_already(&bench.publish(1, &first).await));
    let second = [bench.staged("a2", &[3]).await];
    assert!(is_done(&bench.publish(2, &second).await));
    assert!(is_already(&bench.publish(1, &first).await));
    assert_eq!(bench.ids().await, [1, 2, 3]);
    assert_eq!(bench.mark().await, Some(2));
}

pub async fn a_lower_number_after_a_higher_one_changes_nothing(bench: Bench) {
    bench.prepare().await;
    let (low, high) = ([bench.staged("a1", &[1]).await], [bench.staged("a2", &[2]).await]);
    assert!(is_done(&bench.publish(7, &high).await));
    assert!(is_already(&bench.publish(6, &low).await));
    assert_eq!(bench.ids().await, [2]);
    assert_eq!(bench.mark().await, Some(7));
}

pub async fn several_committables_become_visible_in_one_commit(bench: Bench) {
    bench.prepare().await;
    let parts = [bench.staged("a1", &[1, 2]).await, bench.staged("a1", &[3]).await, bench.staged("a2", &[4]).await];
    assert!(is_done(&bench.publish(1, &parts).await));
    assert_eq!(bench.ids().await, [1, 2, 3, 4]);
    assert!(is_already(&bench.publish(1, &parts).await));
}

async fn race(bench: &Bench, left: (CommitNumber, Vec<Committable>), right: (CommitNumber, Vec<Committable>)) -> [Published; 2] {
    let barrier = Arc::new(Barrier::new(2));
    let run = |(n, staged): (CommitNumber, Vec<Committable>)| {
        let (bench, fence) = (bench.clone(), Together { barrier: barrier.clone(), passed: false.into() });
        tokio::spawn(async move { bench.publish_with(n, &staged, &fence).await.expect("publishes") })
    };
    let (left, right) = (run(left), run(right));
    [left.await.expect("no panic"), right.await.expect("no panic")]
}

pub async fn two_workers_publishing_the_same_number_at_once_publish_it_once(bench: Bench) {
    bench.prepare().await;
    let staged = vec![bench.staged("a1", &[1, 2]).await];
    let answers = race(&bench, (1, staged.clone()), (1, staged)).await;
    let done = answers.iter().filter(|answer| is_done(answer)).count();
    assert!(done == 1 || (done == 2 && !bench.subject.tells_who_was_first()), "{answers:?}");
    assert_eq!(answers.iter().filter(|answer| is_already(answer)).count(), 2 - done, "{answers:?}");
    assert_eq!(bench.ids().await, [1, 2]);
}

pub async fn two_workers_with_different_numbers_lose_and_double_nothing(bench: Bench) {
    bench.prepare().await;
    let (first, second) = (vec![bench.staged("a1", &[1]).await], vec![bench.staged("a2", &[2]).await]);
    let [low, high] = race(&bench, (1, first.clone()), (2, second.clone())).await;
    assert!(is_done(&high), "nothing above it can have been there");
    // Whoever said that it is visible now is right; whoever came too late changed nothing.
    assert_eq!(bench.ids().await, if is_done(&low) { vec![1, 2] } else { vec![2] });
    assert_eq!(bench.mark().await, Some(2));
}

pub async fn a_refused_fence_leaves_nothing_visible(bench: Bench) {
    bench.prepare().await;
    let staged = [bench.staged("a1", &[1]).await];
    let error = bench.publish_with(1, &staged, &Lost).await.expect_err("is refused");
    assert_eq!(error.code(), "lease_lost");
    assert_eq!(bench.ids().await, [] as [i64; 0]);
    assert_eq!(bench.mark().await, None);
    assert!(is_done(&bench.publish(1, &staged).await));
    // What is published needs no fence any more.
    assert!(is_already(&bench.publish_with(1, &staged, &Lost).await.expect("writes nothing")));
    assert_eq!(bench.ids().await, [1]);
}

pub async fn a_lost_answer_of_publish_is_settled(bench: Bench) {
    bench.prepare().await;
    let staged = [bench.staged("a1", &[1]).await];
    bench.subject.arm(Fault::PublishAnswerLost);
    match bench.publish_with(1, &staged, &Free).await {
        Ok(published) => assert!(is_done(&published) || is_already(&published), "{published:?}"),
        Err(error) => assert_eq!(error.retry(), Retry::Backoff, "an unknown outcome is asked about again"),
    }
    let again = bench.publish(1, &staged).await;
    assert!(is_already(&again) || !bench.subject.tells_who_was_first(), "{again:?}");
    assert_eq!(bench.ids().await, [1]);
}

pub async fn a_refused_write_leaves_nothing_visible_and_is_repeated(bench: Bench) {
    bench.prepare().await;
    let staged = [bench.staged("a1", &[1]).await];
    bench.subject.arm(Fault::PublishRefused);
    bench.publish_with(1, &staged, &Free).await.expect_err("fails");
    assert_eq!(bench.ids().await, [] as [i64; 0]);
    assert_eq!(bench.mark().await, bench.subject.marks_first().then_some(1));
    assert!(is_done(&bench.publish(1, &staged).await));
    assert_eq!(bench.ids().await, [1]);
}

pub async fn a_failed_stage_leaves_nothing_visible_and_is_repeated(bench: Bench) {
    bench.prepare().await;
    bench.subject.arm(Fault::StageFails);
    let error = bench.stage("a1", &[1], Append).await.expect_err("fails");
    assert_eq!(error.kind(), Kind::Destination, "{error:?}");
    assert_eq!(bench.ids().await, [] as [i64; 0]);
    let staged = [bench.staged("a2", &[1]).await];
    assert!(is_done(&bench.publish(1, &staged).await));
    assert_eq!(bench.ids().await, [1]);
}

pub async fn a_stream_that_fails_is_not_staged(bench: Bench) {
    const BROKEN: Code = Code { name: "broken", explanation: "A test's error." };
    bench.prepare().await;
    let rows = vec![Ok(Rows::Plain(batch(&[1]))), Err(Error::new(Kind::Source, BROKEN, "the source broke off"))];
    let worker = bench.subject.worker();
    let staged = worker.stage(&AttemptId("a1".into()), TABLE, &columns(), Append, stream(rows)).await;
    assert_eq!(staged.expect_err("fails").code(), "broken", "the source's own error comes back");
    worker.sweep(&[AttemptId("a1".into())]).await.expect("sweeps");
    assert_eq!(bench.subject.kept().await, 0);
    assert_eq!(bench.ids().await, [] as [i64; 0]);
}

pub async fn a_dry_run_changes_nothing(bench: Bench) {
    let worker = bench.subject.worker();
    let create = change(Contract::Evolve, Append, columns());
    let plan = worker.prepare(&create, Mode::DryRun).await.expect("plans");
    assert!(!plan.existed && plan.changes.len() == 1, "{plan:?}");
    let marks = worker.open(&application(), &[TABLE.to_owned()]).await.expect("opens");
    assert!(!marks[TABLE].exists);
    assert_eq!(worker.prepare(&create, Mode::Apply).await.expect("applies"), plan, "the plan is what is done");
    let mut wider = columns();
    wider.fields.push(Field::new("Fax", Type::String));
    let add = change(Contract::Evolve, Append, wider);
    let plan = worker.prepare(&add, Mode::DryRun).await.expect("plans");
    assert_eq!(worker.prepare(&add, Mode::DryRun).await.expect("plans"), plan);
    assert_eq!(worker.prepare(&create, Mode::DryRun).await.expect("plans").schema, columns());
}

pub async fn preparing_twice_is_preparing_once(bench: Bench) {
    let first = bench.prepare().await;
    assert_eq!((first.existed, &first.schema), (false, &columns()));
    let second = bench.prepare().await;
    assert_eq!(second, Plan { schema: columns(), existed: true, changes: Vec::new() });
}

pub async fn no_columns_make_no_table_and_leave_one_as_it_is(bench: Bench) {
    let nothing = change(Contract::Evolve, Append, TableSchema::default());
    for mode in [Mode::DryRun, Mode::Apply] {
        let plan = bench.subject.worker().prepare(&nothing, mode).await.expect("an answer");
        assert_eq!(plan, Plan::default());
    }
    assert!(!bench.prepare().await.existed, "it was not made");
    let plan = bench.subject.worker().prepare(&nothing, Mode::Apply).await.expect("an answer");
    assert_eq!(plan, Plan { schema: columns(), existed: true, changes: Vec::new() });
}

pub async fn a_lost_answer_of_prepare_is_settled(bench: Bench) {
    let create = change(Contract::Evolve, Append, columns());
    bench.subject.arm(Fault::PrepareAnswerLost);
    if let Err(error) = bench.subject.worker().prepare(&create, Mode::Apply).await {
        assert_eq!(error.retry(), Retry::Backoff);
    }
    assert_eq!(bench.prepare().await, Plan { schema: columns(), existed: true, changes: Vec::new() });
}

pub async fn columns_are_added_only_if_the_contract_says_so(bench: Bench) {
    bench.prepare().await;
    let staged = [bench.staged("a1", &[1]).await];
    bench.publish(1, &staged).await;
    let mut wider = columns();
    wider.fields.push(Field::new("Fax", Type::String).with_mode(schema::Mode::Required));
    let worker = bench.subject.worker();
    for contract in [Contract::Freeze, Contract::Ignore] {
        let plan = worker.prepare(&change(contract, Append, wider.clone()), Mode::Apply).await.expect("prepares");
        assert_eq!((plan.schema, plan.changes), (columns(), Vec::new()));
    }
    let plan = worker.prepare(&change(Contract::Evolve, Append, wider), Mode::Apply).await.expect("prepares");
    assert_eq!(plan.changes, ["add column Fax STRING"], "the rows that are there have no value for it");
    let added = &plan.schema.fields[2];
    assert_eq!((added.name.as_str(), added.mode), ("Fax", schema::Mode::Nullable));
    // Rows staged before the column was added still fit, and those after it have it.
    let older = bench.staged("a2", &[2]).await;
    let fax: ArrayRef = Arc::new(StringArray::from(vec![Some("+47")]));
    let narrow = batch(&[3]);
    let wide = RecordBatch::try_from_iter_with_nullable(vec![
        ("id", narrow.column(0).clone(), true),
        ("Name", narrow.column(1).clone(), true),
        ("Fax", fax, true),
    ]);
    let rows = stream(vec![Ok(Rows::Plain(wide.expect("a batch")))]);
    let newer = worker.stage(&AttemptId("a3".into()), TABLE, &plan.schema, Append, rows).await.expect("stages").committable;
    assert!(is_done(&bench.publish(2, &[older, newer]).await));
    assert_eq!(bench.ids().await, [1, 2, 3]);
    let faxes: Vec<Value> = bench.subject.visible(TABLE).await.iter().filter_map(|row| row.get("Fax").cloned()).collect();
    assert_eq!(faxes, [json!("+47")]);
}

pub async fn a_column_that_exists_keeps_its_type_and_case(bench: Bench) {
    bench.prepare().await;
    let other = TableSchema::new(vec![Field::new("NAME", Type::Float64), Field::new("ID", Type::String)]);
    let worker = bench.subject.worker();
    let plan = worker.prepare(&change(Contract::Evolve, Append, other), Mode::Apply).await.expect("prepares");
    assert_eq!((plan.schema, plan.changes), (columns(), Vec::new()));
}

pub async fn truncate_replaces_the_rows_in_one_commit(bench: Bench) {
    bench.prepare().await;
    let first = [bench.staged("a1", &[1, 2]).await];
    bench.publish(1, &first).await;
    bench.prepare_for(Truncate).await;
    let second = [bench.stage("a2", &[3], Truncate).await.expect("stages")];
    assert_eq!(bench.ids().await, [1, 2], "nothing goes before publish");
    assert!(is_done(&bench.publish(2, &second).await));
    assert_eq!(bench.ids().await, [3]);
    let third = [bench.staged("a3", &[4]).await];
    bench.publish(3, &third).await;
    assert!(is_already(&bench.publish(2, &second).await));
    assert_eq!(bench.ids().await, [3, 4], "a late truncate takes nothing away");
}

pub async fn truncate_without_rows_empties_the_table(bench: Bench) {
    bench.prepare().await;
    let first = [bench.staged("a1", &[1, 2]).await];
    bench.publish(1, &first).await;
    let second = [bench.stage("a2", &[], Truncate).await.expect("stages")];
    assert!(is_done(&bench.publish(2, &second).await));
    assert_eq!(bench.ids().await, [] as [i64; 0]);
    assert_eq!(bench.mark().await, Some(2));
}

pub async fn empty_refuses_a_table_with_rows(bench: Bench) {
    bench.prepare_for(Empty).await;
    let none = [bench.stage("a1", &[], Empty).await.expect("stages")];
    bench.publish(1, &none).await;
    bench.prepare_for(Empty).await;
    let some = [bench.stage("a2", &[1], Empty).await.expect("stages")];
    assert!(is_done(&bench.publish(2, &some).await));
    let again = change(Contract::Evolve, Empty, columns());
    for mode in [Mode::DryRun, Mode::Apply] {
        let error = bench.subject.worker().prepare(&again, mode).await.expect_err("has rows");
        assert_eq!(error.retry(), Retry::AfterFix);
    }
}

pub async fn a_commit_without_rows_keeps_its_mark(bench: Bench) {
    bench.prepare().await;
    let none = [bench.staged("a1", &[]).await];
    assert!(is_done(&bench.publish(1, &none).await));
    assert!(is_done(&bench.publish(2, &[]).await));
    assert!(is_already(&bench.publish(2, &[]).await));
    assert_eq!(bench.mark().await, Some(2));
    assert_eq!(bench.ids().await, [] as [i64; 0]);
}

pub async fn sweep_removes_what_dead_attempts_staged_and_nothing_else(bench: Bench) {
    bench.prepare().await;
    let published = [bench.staged("a", &[1]).await];
    bench.publish(1, &published).await;
    let waiting = [bench.staged("a-2", &[2]).await];
    bench.staged("a-2-dead", &[3]).await;
    let worker = bench.subject.worker();
    // The first attempt's rows are part of the table: no sweep takes them, even if it is told to.
    let dead = ["a", "a-2-dead", "never-staged"].map(|a| AttemptId(a.into()));
    let kept = bench.subject.kept().await;
    let removed = worker.sweep(&dead).await.expect("sweeps");
    if bench.subject.counts_what_is_kept() {
        assert_eq!((kept, removed > 0, bench.subject.kept().await), (3, true, 2));
    }
    assert_eq!(worker.sweep(&dead).await.expect("sweeps again"), 0);
    assert!(is_done(&bench.publish(2, &waiting).await));
    assert_eq!(bench.ids().await, [1, 2]);
}

pub async fn open_tells_marks_and_foreign_ledgers(bench: Bench) {
    let worker = bench.subject.worker();
    let tables = [TABLE.to_owned(), "absent".to_owned()];
    let none = worker.open(&application(), &tables).await.expect("opens");
    assert_eq!(none.values().filter(|mark| **mark == Default::default()).count(), 2);
    bench.prepare().await;
    let other = Application { store: "store-2".into(), ..application() };
    bench.publish_as(&other, 9, &[bench.staged("a1", &[1]).await], &Free).await.expect("publishes");
    bench.publish(4, &[bench.staged("a2", &[2]).await]).await;
    let sibling = Application { pipeline: "another".into(), ..application() };
    bench.publish_as(&sibling, 5, &[bench.staged("a3", &[3]).await], &Free).await.expect("publishes");
    // A worker that has seen the table before, and one that has not.
    for worker in [worker, bench.subject.worker()] {
        let marks = worker.open(&application(), &tables).await.expect("opens");
        assert_eq!((marks[TABLE].exists, marks[TABLE].last), (true, Some(4)));
        assert_eq!(marks[TABLE].others, std::slice::from_ref(&other));
        assert!(!marks["absent"].exists);
    }
}

pub async fn history_tells_the_notes_of_the_commits_that_were_made(bench: Bench) {
    bench.prepare().await;
    let worker = bench.subject.worker();
    assert_eq!(worker.history(&application(), TABLE).await.expect("nothing yet"), []);
    let other = Application { store: "store-2".into(), ..application() };
    let first = [bench.staged("a1", &[1]).await];
    bench.publish(3, &first).await;
    bench.publish_as(&other, 9, &[bench.staged("a2", &[2]).await], &Free).await.expect("publishes");
    bench.publish(3, &first).await;
    bench.publish(7, &[bench.staged("a3", &[3]).await]).await;
    let past = |n: CommitNumber| PastCommit { n, note: json!({"n": n}), done: true };
    let ours = worker.history(&application(), TABLE).await.expect("reads");
    // A destination without a log of its own tells nothing; one that has one tells what happened.
    if !ours.is_empty() {
        assert_eq!(ours, [past(3), past(7)]);
        assert_eq!(worker.history(&other, TABLE).await.expect("reads"), [past(9)]);
    }
    assert_eq!(worker.history(&application(), "absent").await.expect("no table, no history"), []);
}

pub async fn a_table_removed_behind_our_back_is_parked(bench: Bench) {
    bench.prepare().await;
    let staged = [bench.staged("a1", &[1]).await];
    bench.subject.drop_table(TABLE).await;
    assert!(matches!(bench.publish(1, &staged).await, Published::Parked(_)));
    // A table of the same name is another table: rows staged for the old one do not show up in it.
    bench.prepare().await;
    assert!(matches!(bench.publish(1, &staged).await, Published::Parked(_)));
    assert_eq!(bench.mark().await, None);
    assert_eq!(bench.ids().await, [] as [i64; 0]);
}

pub async fn a_payload_is_kept_under_its_digest(bench: Bench) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("input");
    std::fs::write(&path, b"<<payload>>").expect("writes");
    let part = |temporary| Payload::File { path: path.clone(), offset: 2, length: 7, temporary };
    let worker = bench.subject.worker();
    let attempt = AttemptId("a1".into());
    let keep = async |payload: &Payload| worker.keep_payload(&attempt, "id-1", payload).await;
    let (address, digest) = keep(&Payload::Inline(b"payload".to_vec())).await.expect("keeps");
    assert_eq!(keep(&part(false)).await.expect("keeps"), (address.clone(), digest.clone()));
    assert!(path.exists(), "an input is nobody's to remove");
    let beyond = Payload::File { path: path.clone(), offset: 8, length: 7, temporary: false };
    keep(&beyond).await.expect_err("the file ends before the payload does");
    assert_eq!(keep(&part(true)).await.expect("keeps"), (address.clone(), digest.clone()));
    assert!(!path.exists(), "a temporary file goes once it is copied");
    let (same, other) = keep(&Payload::Inline(b"corrected".to_vec())).await.expect("keeps");
    assert_eq!(same, address);
    assert_ne!(other, digest);
    assert!(worker.sweep(std::slice::from_ref(&attempt)).await.expect("sweeps") > 0);
}
