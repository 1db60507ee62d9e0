//! The tables that the ledger becomes, and their columns.

use std::collections::BTreeMap;

use longshore_core::schema::{Field, Mode, TableSchema, Type};

/// One row a run.
pub const RUNS: &str = "longshore_runs";
/// One row an event of a run.
pub const RUN_EVENTS: &str = "longshore_run_events";
/// One row a table of a commit.
pub const RECEIPTS: &str = "longshore_receipts";
/// One row a dead letter; its payload is in the dataset that it was meant for.
pub const DEAD_LETTER_INDEX: &str = "longshore_dead_letter_index";

/// All tables and their columns, in the order of a row's fields. A column that is REQUIRED stands in every row.
pub fn schemas() -> BTreeMap<String, TableSchema> {
    let tables = [(RUNS, runs()), (RUN_EVENTS, run_events()), (RECEIPTS, receipts()), (DEAD_LETTER_INDEX, dead_letter_index())];
    tables.into_iter().map(|(table, fields)| (table.to_owned(), TableSchema::new(fields))).collect()
}

fn runs() -> Vec<Field> {
    vec![
        required("run", Type::String, "The run's id; ids sort by time"),
        required("pipeline", Type::String, "The pipeline"),
        required("status", Type::String, "PENDING, RUNNING (or its process died), SUCCEEDED, FAILED or CANCELLED"),
        required("started_at", Type::Timestamp, "When it began"),
        nullable("finished_at", Type::Timestamp, "When it ended"),
        nullable("seconds", Type::Float64, "How long it took"),
        nullable("rows", Type::Int64, "Rows landed; dead letters are not among them"),
        nullable("rejects", Type::Int64, "Records that became dead letters"),
        nullable("bytes", Type::Int64, "Input bytes read"),
        nullable("commits", Type::Int64, "Commits made"),
        nullable("landed", Type::Int64, "Inputs (files) landed"),
        nullable("skipped", Type::Int64, "Inputs (files) that had landed before"),
        nullable("error", Type::String, "Why it failed, in words"),
        nullable("code", Type::String, "Why it failed, as a stable code; see longshore explain CODE"),
        repeated("inputs", Type::String, "What it reads, as it was written"),
        nullable("destination", Type::String, "Where it lands, as it was written"),
        nullable("process", Type::Int64, "The number of its process"),
    ]
}

fn run_events() -> Vec<Field> {
    vec![
        required("run", Type::String, "The run"),
        required("sequence", Type::Int64, "The event's place within the run, from 1"),
        required("at", Type::Timestamp, "When"),
        required("event", Type::String, "What happened: started, found, schema, published, finished ..."),
        required("details", Type::Json, "The whole event"),
    ]
}

fn receipts() -> Vec<Field> {
    vec![
        required("run", Type::String, "The run that made the commit"),
        required("n", Type::Int64, "The commit's number within its pipeline, from 1"),
        required("pipeline", Type::String, "The pipeline"),
        required("table_name", Type::String, "The table"),
        nullable("commit", Type::String, "The destination's name for the commit: a table version, a job"),
        nullable("parked", Type::String, "Why the table could not take the commit for a while"),
        required("rows", Type::Int64, "Rows"),
        required("bytes", Type::Int64, "Bytes staged"),
        repeated("digests", Type::String, "BLAKE3 of what was staged, hex, a part each"),
        required("covers", Type::Json, "What the commit covers of its source: ranges of positions, or ids"),
        required("at", Type::Timestamp, "When the table was published"),
    ]
}

fn dead_letter_index() -> Vec<Field> {
    vec![
        required("id", Type::String, "Names the dead letter, here and in the table _dead_letters of its dataset"),
        required("code", Type::String, "Stable reason code; see longshore explain CODE"),
        nullable("table", Type::String, "The table it was meant for"),
        required("file", Type::String, "Path or address of the source"),
        nullable("line", Type::Int64, "Line of its first byte, from 1"),
        nullable("column", Type::Int64, "Column of its first byte, from 1"),
        required("state", Type::String, "open, replayed or dropped"),
        required("pipeline", Type::String, "The pipeline"),
        required("n", Type::Int64, "The commit that brought it"),
        required("run", Type::String, "The run that brought it"),
        required("at", Type::Timestamp, "When"),
    ]
}

fn nullable(name: &str, type_: Type, description: &str) -> Field {
    Field { description: Some(description.to_owned()), ..Field::new(name, type_) }
}

fn required(name: &str, type_: Type, description: &str) -> Field {
    nullable(name, type_, description).with_mode(Mode::Required)
}

fn repeated(name: &str, type_: Type, description: &str) -> Field {
    nullable(name, type_, description).with_mode(Mode::Repeated)
}
