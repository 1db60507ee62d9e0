//! Pipeline files: `run`, `check`.

use serde_json::json;

use crate::place::{Place, snapshot};

const PIPELINE: &str = "\
pipeline: tides
source:
  type: files
  path: ${INBOX:-inbox}/*.csv
  table: tides
destination:
  type: delta
  path: warehouse
  dataset: harbour
tables:
  tides: {schema: freeze}
dead_letters: {max: 0}
schedule: {cron: '0 3 * * *', time_zone: Europe/Oslo}
";

fn place() -> Place {
    Place::with(&[("tides.yaml", PIPELINE), ("inbox/1.csv", "station,level\nnorth,112\n")])
}

#[test]
fn a_pipeline_runs_once_and_again_for_what_is_new() {
    let place = place();
    snapshot!("check", place.run(&["check", "tides.yaml"]));
    assert!(!place.has("warehouse/harbour/tides"), "check changes nothing");
    snapshot!("run", place.run(&["run", "tides.yaml"]));
    place.write("inbox/2.csv", "station,level\nsouth,120\n");
    snapshot!("run_again", place.run(&["run", "tides.yaml"]));
    assert_eq!(place.rows("select count(*) as n from harbour.tides"), [json!({"n": 2})]);
}

#[test]
fn a_full_refresh_reads_everything_again_and_replaces() {
    let place = place();
    place.good(&["run", "tides.yaml"]);
    place.write("inbox/1.csv", "station,level\nwest,7\neast,8\n");
    place.write("inbox/2.csv", "station,level\nsouth,120\n");
    place.good(&["run", "tides.yaml", "--full-refresh"]);
    let stations = place.rows("select station from harbour.tides order by station");
    assert_eq!(stations, [json!({"station": "east"}), json!({"station": "south"}), json!({"station": "west"})]);
    place.good(&["run", "tides.yaml"]);
    assert_eq!(place.rows("select count(*) as n from harbour.tides"), [json!({"n": 3})], "and nothing is loaded twice");
}

#[test]
fn parameters_and_the_run_time_are_variables() {
    let place = place();
    place.write("dated.yaml", &PIPELINE.replace("${INBOX:-inbox}/*.csv", "${where}/${run_date}.csv"));
    place.write("in/2024-05-01.csv", "station,level\neast,7\n");
    place.good(&["run", "dated.yaml", "--param", "where=in", "--run-time", "2024-05-01T03:00:00Z"]);
    assert_eq!(place.rows("select station from harbour.tides"), [json!({"station": "east"})]);
    snapshot!("parameter_missing", place.run(&["run", "dated.yaml"]));
}

#[test]
fn what_is_wrong_in_a_pipeline_file_is_said_with_file_line_and_column() {
    let place = place();
    place.write("typo.yaml", &PIPELINE.replace("dead_letters", "dead_leters"));
    snapshot!("pipeline_unknown_key", place.run(&["run", "typo.yaml"]));
    snapshot!("pipeline_unknown_key_json", place.run(&["check", "typo.yaml", "--json"]));
    place.write("tab.yaml", "pipeline: x\n\tsource: y\n");
    snapshot!("pipeline_not_yaml", place.run(&["run", "tab.yaml"]));
    snapshot!("pipeline_missing", place.run(&["run", "none.yaml"]));
    assert!(!place.has(".longshore"), "a file that cannot be used leaves no books");
}

#[test]
fn what_init_writes_runs() {
    let place = Place::new();
    place.good(&["init"]);
    snapshot!("run_init", place.run(&["run", "readings.yaml"]));
}
