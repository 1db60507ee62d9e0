//! `query`.

use crate::place::{Place, snapshot};

fn place() -> Place {
    let place = Place::with(&[("a.csv", "id,name\n1,\"x, y\"\n2,\n")]);
    place.good(&["load", "a.csv", "--to", "warehouse/shop"]);
    place
}

#[test]
fn rows_go_to_a_pipe_as_csv_and_otherwise_as_asked() {
    let place = place();
    let sql = "select * from shop.a order by id";
    snapshot!("query_csv", place.run(&["query", sql]));
    snapshot!("query_table", place.run(&["query", sql, "--format", "table"]));
    snapshot!("query_json", place.run(&["query", sql, "--json"]));
}

#[test]
fn a_query_that_cannot_be_answered_says_why() {
    let place = place();
    snapshot!("query_unknown_table", place.run(&["query", "select * from shop.b"]));
    snapshot!("query_not_read_only", place.run(&["query", "delete from shop.a"]));
    snapshot!("query_no_warehouse", Place::new().run(&["query", "select 1"]));
}

#[test]
fn a_reader_that_has_seen_enough_is_a_good_end() {
    let place = place();
    let mut command = place.command(&["query", "select a.value from generate_series(1, 1000000) as a(value)"]);
    let mut child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().expect("runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("ends");
    let said = place.said(output);
    assert_eq!((said.code, said.stderr.as_str()), (0, ""));
}
