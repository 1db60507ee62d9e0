use serde_json::json;

use super::*;
use crate::tables::schemas;

fn fields(table: &str) -> Vec<String> {
    schemas()[table].fields.iter().map(|field| field.name.clone()).collect()
}

fn keys(row: &impl Serialize) -> Vec<String> {
    serde_json::to_value(row).expect("JSON").as_object().expect("an object").keys().cloned().collect()
}

fn time(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000 + seconds, 123_456_789).expect("a time")
}

fn run() -> Run {
    let tables = [("t".to_owned(), 7), ("u".to_owned(), 2), (DEAD_LETTERS.to_owned(), 3)];
    let summary = Summary { tables: tables.into(), rejects: 3, commits: 1, seconds: 0.5, ..Summary::default() };
    Run {
        id: "r1".into(),
        pipeline: "p".into(),
        status: Status::Failed,
        started_at: time(0),
        finished_at: Some(time(1)),
        summary: Some(summary),
        error: Some("it broke".into()),
    }
}

fn history() -> Vec<HistoryLine> {
    let started = RunEvent::Started {
        pipeline: "p".into(),
        inputs: vec!["a".into(), "b".into()],
        destination: "d".into(),
        process: 7,
        run_time: None,
    };
    let finished = RunEvent::Finished {
        status: Status::Failed,
        error: Some("it broke".into()),
        code: Some("file_missing".into()),
        summary: Summary::default(),
    };
    vec![HistoryLine { sequence: 1, at: time(0), event: started }, HistoryLine { sequence: 2, at: time(1), event: finished }]
}

#[test]
fn rows_have_the_columns_of_their_tables() {
    let history = history();
    assert_eq!(keys(&run_row(run(), &history)), fields(RUNS));
    assert_eq!(keys(&event_row("r1", &history[0]).expect("a row")), fields(RUN_EVENTS));
    let receipt = Receipt {
        pipeline: "p".into(),
        n: 1,
        table: "t".into(),
        commit: None,
        parked: None,
        rows: 7,
        bytes: 70,
        digests: vec![],
        run: "r1".into(),
        covers: vec![],
        at: time(1),
    };
    assert_eq!(keys(&receipt_row(receipt).expect("a row")), fields(RECEIPTS));
    let key = longshore_core::commit::DeadLetterKey {
        id: "d1".into(),
        code: "type_mismatch".into(),
        table: None,
        place: Default::default(),
    };
    let letter =
        IndexedDeadLetter { key, state: DeadLetterState::Open, pipeline: "p".into(), n: 1, run: "r1".into(), at: time(1) };
    assert_eq!(keys(&letter_row(letter)), fields(DEAD_LETTER_INDEX));
}

#[test]
fn a_run_says_what_it_read_what_it_landed_and_why_it_failed() {
    let row = serde_json::to_value(run_row(run(), &history())).expect("JSON");
    assert_eq!((&row["rows"], &row["rejects"], &row["seconds"]), (&json!(9), &json!(3), &json!(0.5)));
    assert_eq!((&row["status"], &row["code"], &row["error"]), (&json!("FAILED"), &json!("file_missing"), &json!("it broke")));
    assert_eq!((&row["inputs"], &row["destination"], &row["process"]), (&json!(["a", "b"]), &json!("d"), &json!(7)));
}

#[test]
fn a_run_that_goes_on_has_no_numbers_yet() {
    let run = Run { status: Status::Running, finished_at: None, summary: None, error: None, ..run() };
    let row = serde_json::to_value(run_row(run, &[])).expect("JSON");
    for column in ["finished_at", "seconds", "rows", "rejects", "bytes", "commits", "code", "destination"] {
        assert_eq!(row[column], json!(null), "{column}");
    }
    assert_eq!(row["inputs"], json!([]));
}

#[test]
fn times_are_cut_to_microseconds_and_unknown_columns_are_null() {
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::TimestampMicrosecondType;
    use longshore_core::schema::{Field, TableSchema, Type};

    let mut schema = schemas().remove(RUNS).expect("the table");
    schema.fields.insert(0, Field::new("added_by_hand", Type::String));
    let columns = Arc::new([(RUNS.to_owned(), TableSchema::new(schema.fields).to_arrow())].into());
    let batches = encode(RUNS, &[run_row(run(), &history())], &columns).expect("encoded");
    let [Batch { rows: Rows::Plain(rows), .. }] = batches.as_slice() else { panic!("one batch") };
    assert_eq!(rows.column(0).null_count(), 1);
    let at = rows.column_by_name("started_at").expect("a column").as_primitive::<TimestampMicrosecondType>();
    assert_eq!(at.value(0), 1_700_000_000_123_456);
}

#[test]
fn many_rows_come_in_several_batches() {
    let events: Vec<EventRow> = (0..BATCH * 2 + 1).map(|_| event_row("r1", &history()[0]).expect("a row")).collect();
    let columns = Arc::new(schemas().into_iter().map(|(table, schema)| (table, schema.to_arrow())).collect());
    let batches = encode(RUN_EVENTS, &events, &columns).expect("encoded");
    assert_eq!(batches.iter().map(|batch| batch.rows.len()).collect::<Vec<_>>(), [BATCH, BATCH, 1]);
}
