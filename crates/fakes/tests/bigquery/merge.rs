//! MERGE and UPDATE.

use googleapis_tonic_google_cloud_bigquery_storage_v1::google::cloud::bigquery::storage::v1::write_stream::Type;
use longshore_fakes::bigquery::FakeBigQuery;
use serde_json::{Value, json};

use crate::client::*;

async fn query(fake: &FakeBigQuery, text: &str) -> (u16, Value) {
    post(fake, "projects/p/queries", json!({"query": text, "useLegacySql": false})).await
}

async fn changed(fake: &FakeBigQuery, text: &str) -> Value {
    let (status, answer) = query(fake, text).await;
    assert_eq!(status, 200, "{answer}");
    answer["numDmlAffectedRows"].clone()
}

fn columns() -> Value {
    json!([
        {"name": "k", "type": "INT64"}, {"name": "part", "type": "STRING"}, {"name": "a", "type": "STRING"},
        {"name": "at", "type": "TIMESTAMP"}, {"name": "n", "type": "NUMERIC"}, {"name": "b", "type": "BIGNUMERIC"},
        {"name": "day", "type": "TIME"}, {"name": "j", "type": "JSON"}, {"name": "y", "type": "BYTES"},
        {"name": "tags", "type": "STRING", "mode": "REPEATED"},
        {"name": "home", "type": "STRUCT", "fields": [{"name": "city", "type": "STRING", "mode": "REQUIRED"},
            {"name": "lines", "type": "STRUCT", "mode": "REPEATED", "fields": [{"name": "n", "type": "INT64"}, {"name": "j", "type": "JSON"}]}]},
        {"name": "_order", "type": "STRING"},
    ])
}

/// A table `t` and one `s` of changes to it, filled by loads.
async fn keyed(rows: &[Value], changes: &[Value]) -> FakeBigQuery {
    let fake = fake().await;
    table(&fake, columns());
    let mut more = columns();
    more.as_array_mut().unwrap().push(json!({"name": "_operation", "type": "STRING"}));
    fake.create_table("d", "s", &schema(more), json!({}));
    for (name, rows) in [("t", rows), ("s", changes)] {
        let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
        fake.put_object("b", name, lines);
        let job = json!({"configuration": {"load": {
            "sourceUris": [format!("gs://b/{name}")], "sourceFormat": "NEWLINE_DELIMITED_JSON",
            "destinationTable": {"projectId": "p", "datasetId": "d", "tableId": name},
        }}});
        let (_, job) = post(&fake, "projects/p/jobs", job).await;
        assert_eq!(job["status"], json!({"state": "DONE"}), "{job}");
    }
    fake
}

/// The statement that makes a table equal to a stream of keyed changes.
fn keyed_merge(keys: &[&str]) -> String {
    let all = ["k", "part", "a", "at", "n", "b", "day", "j", "y", "tags", "home", "_order"];
    let quoted = |names: &[&str]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let on = keys.iter().map(|key| format!("old.`{key}` = new.`{key}`")).collect::<Vec<_>>().join(" AND ");
    let set: Vec<&str> = all.into_iter().filter(|name| !keys.contains(name)).collect();
    let set = set.iter().map(|name| format!("`{name}` = new.`{name}`")).collect::<Vec<_>>().join(", ");
    let newer = "(old.`_order` IS NULL OR old.`_order` <= new.`_order`)";
    let (keys, all) = (quoted(keys), quoted(&all));
    format!(
        "MERGE `p.d.t` AS old USING (SELECT * FROM `p.d.s` QUALIFY ROW_NUMBER() OVER (PARTITION BY {keys} ORDER BY `_order` DESC) = 1) \
         AS new ON {on} WHEN MATCHED AND {newer} AND new.`_operation` = 'delete' THEN DELETE \
         WHEN MATCHED AND {newer} THEN UPDATE SET {set} \
         WHEN NOT MATCHED AND new.`_operation` = 'upsert' THEN INSERT ({all}) VALUES ({all})"
    )
}

#[tokio::test]
async fn a_keyed_merge_keeps_the_newest_change_of_each_key() {
    let rows = [
        json!({"k": 1, "a": "old", "_order": "05"}),
        json!({"k": 2, "a": "old", "_order": "05"}),
        json!({"k": 3, "a": "old", "_order": "05"}),
        json!({"k": 4, "a": "old"}),
        json!({"k": 5, "a": "kept", "_order": "05"}),
    ];
    let change =
        |k: i64, a: &str, order: &str, operation: &str| json!({"k": k, "a": a, "_order": order, "_operation": operation});
    let changes = [
        change(1, "between", "06", "upsert"),
        change(1, "newest", "07", "upsert"),
        change(2, "", "06", "delete"),
        change(3, "late", "04", "upsert"),
        change(4, "first", "01", "upsert"),
        change(6, "new", "06", "upsert"),
        change(7, "", "06", "delete"),
        change(8, "", "06", "upsert"),
        change(8, "", "08", "delete"),
    ];
    let fake = keyed(&rows, &changes).await;
    let (status, answer) = query(&fake, &keyed_merge(&["k"])).await;
    assert_eq!((status, &answer["numDmlAffectedRows"]), (200, &json!("4")), "{answer}");
    let job = fake.jobs().into_iter().find(|job| job["configuration"]["jobType"] == "QUERY").unwrap();
    let statistics = json!({"insertedRowCount": "1", "updatedRowCount": "2", "deletedRowCount": "1"});
    assert_eq!(job["statistics"]["query"]["dmlStats"], statistics);
    assert_eq!(job["statistics"]["query"]["statementType"], "MERGE");
    let found: Vec<(Value, Value)> = fake.rows("d", "t").iter().map(|row| (row["k"].clone(), row["a"].clone())).collect();
    let expected = [(1, "newest"), (3, "old"), (4, "first"), (5, "kept"), (6, "new")];
    assert_eq!(found, expected.map(|(k, a)| (json!(k), json!(a))));
    // Once more it changes the same rows to the same values.
    let before = fake.rows("d", "t");
    assert_eq!(changed(&fake, &keyed_merge(&["k"])).await, "3");
    assert_eq!(fake.rows("d", "t"), before);
}

#[tokio::test]
async fn values_of_all_types_come_through_a_merge_unchanged() {
    let full = |k: i64, part: &str, order: &str| {
        json!({
            "k": k, "part": part, "a": format!("{order}'\\"), "at": "1970-01-01T00:00:01.000001Z", "n": "1.5",
            "b": "123456789012345678901234567890123456789.5", "day": "01:02:03.5", "j": {"x": [1, null, "1"]}, "y": "AQI=",
            "tags": ["x", ""], "home": {"city": "z", "lines": [{"n": 1, "j": {"deep": true}}, {"n": 2}]}, "_order": order,
        })
    };
    let mut changes = [full(2, "x", "2"), full(3, "x", "2"), full(3, "y", "2")];
    for change in &mut changes {
        change["_operation"] = json!("upsert");
    }
    let empty = json!({"k": 3, "part": "x", "_order": "1"});
    let fake = keyed(&[full(1, "x", "1"), full(2, "y", "1"), empty], &changes).await;
    let untouched = fake.rows("d", "t")[..2].to_vec();
    assert_eq!(changed(&fake, &keyed_merge(&["k", "part"])).await, "3");
    let rows = fake.rows("d", "t");
    assert_eq!(rows[..2], untouched);
    assert_eq!(rows.len(), 5);
    let shown = |row: &Value| {
        let mut row = row.clone();
        for name in ["k", "part", "_order", "a"] {
            row.as_object_mut().unwrap().shift_remove(name);
        }
        row
    };
    assert!(rows.iter().all(|row| shown(row) == shown(&untouched[0])), "{rows:#?}");
    assert_eq!((&rows[2]["k"], &rows[2]["a"]), (&json!(3), &json!("2'\\")));
}

#[tokio::test]
async fn two_rows_of_the_source_for_one_of_the_table_are_refused() {
    let twice = [json!({"k": 1, "a": "x"}), json!({"k": 1, "a": "y"})];
    let fake = keyed(&[json!({"k": 1, "a": "old"})], &twice).await;
    let merge = "MERGE INTO d.t USING d.s ON t.k = s.k WHEN MATCHED THEN UPDATE SET a = s.a";
    let refused = query(&fake, merge).await;
    assert_eq!((refused.0, reason(&refused)), (400, "invalidQuery"));
    let message = refused.1["error"]["message"].as_str().unwrap();
    assert_eq!(message, "UPDATE/MERGE must match at most one source row for each target row");
    assert_eq!(fake.rows("d", "t")[0]["a"], "old");
    // Only one of the two does anything here.
    assert_eq!(changed(&fake, &merge.replace("MATCHED THEN", "MATCHED AND s.a = 'y' THEN")).await, "1");
    assert_eq!(fake.rows("d", "t")[0]["a"], "y");
}

#[tokio::test]
async fn clauses_count_in_their_order_and_rows_without_a_match_have_their_own() {
    let rows: Vec<Value> = (1..=4).map(|k| json!({"k": k, "a": "old"})).collect();
    let fake = keyed(&rows, &[json!({"k": 1, "a": "one"}), json!({"k": 2, "a": "two"}), json!({"k": 9, "a": "nine"})]).await;
    let merge = "MERGE d.t AS o USING (SELECT k, a FROM d.s) n ON o.k = n.k \
        WHEN MATCHED AND CASE WHEN n.k = 1 THEN TRUE ELSE FALSE END THEN UPDATE SET o.a = CONCAT(n.a, ', first'), n = o.k + 1 \
        WHEN MATCHED THEN DELETE \
        WHEN NOT MATCHED BY SOURCE AND o.k = 3 THEN UPDATE SET a = 'alone' \
        WHEN NOT MATCHED BY SOURCE THEN DELETE \
        WHEN NOT MATCHED THEN INSERT (k, a, home) VALUES (n.k, 'new', NULL);";
    assert_eq!(changed(&fake, merge).await, "5");
    let found: Vec<(Value, Value)> = fake.rows("d", "t").iter().map(|row| (row["k"].clone(), row["a"].clone())).collect();
    assert_eq!(found, [(1, "one, first"), (3, "alone"), (9, "new")].map(|(k, a)| (json!(k), json!(a))));
    assert_eq!(fake.rows("d", "t")[0]["n"], "2");
}

#[tokio::test]
async fn a_row_with_a_match_is_not_checked_for_being_inserted() {
    let fake = fake().await;
    table(
        &fake,
        json!([{"name": "k", "type": "INT64"}, {"name": "r", "type": "STRING", "mode": "REQUIRED"}, {"name": "a", "type": "STRING"}]),
    );
    assert_eq!(changed(&fake, "INSERT INTO d.t (k, r) VALUES (1, 'there')").await, "1");
    let merge = "MERGE d.t USING (SELECT 1 AS k, CAST(NULL AS STRING) AS r, 'new' AS a UNION ALL SELECT 2, 'two', 'b') AS s ON t.k = s.k \
        WHEN MATCHED THEN UPDATE SET a = s.a WHEN NOT MATCHED THEN INSERT (k, r, a) VALUES (k, r, a)";
    assert_eq!(changed(&fake, merge).await, "2");
    assert_eq!(fake.rows("d", "t"), [json!({"k": 1, "r": "there", "a": "new"}), json!({"k": 2, "r": "two", "a": "b"})]);
    let missing = query(&fake, &merge.replace("'two'", "NULL").replace("SELECT 2", "SELECT 3")).await;
    assert_eq!(reason(&missing), "invalidQuery", "{}", missing.1);
    assert_eq!(fake.row_count("d", "t"), 2);
}

#[tokio::test]
async fn a_merge_that_cannot_be_done_says_why_and_changes_nothing() {
    let fake = keyed(&[json!({"k": 1, "a": "old"})], &[json!({"k": 1, "a": "new"})]).await;
    let end = "WHEN MATCHED THEN UPDATE SET a = s.a";
    for (merge, expected) in [
        (format!("MERGE d.t USING d.none AS s ON t.k = s.k {end}"), "notFound"),
        (format!("MERGE d.none AS t USING d.s ON t.k = s.k {end}"), "notFound"),
        (format!("MERGE d.t USING d.s ON t.nothing = s.k {end}"), "invalidQuery"),
        (format!("MERGE d.t USING d.s ON k = s.k {end}"), "invalidQuery"),
        ("MERGE d.t USING d.s ON t.k = s.k WHEN MATCHED THEN UPDATE SET a = s.k".to_owned(), "invalidQuery"),
        ("MERGE d.t USING d.s ON t.k = s.k WHEN MATCHED THEN UPDATE SET none = s.k".to_owned(), "invalidQuery"),
        ("MERGE d.t USING d.s ON t.k = s.k WHEN MATCHED THEN INSERT (k) VALUES (k)".to_owned(), "invalidQuery"),
        ("MERGE d.t USING d.s ON t.k = s.k WHEN NOT MATCHED THEN INSERT (k, a) VALUES (k)".to_owned(), "invalidQuery"),
        ("MERGE d.t USING d.s ON t.k = s.k".to_owned(), "invalidQuery"),
    ] {
        let refused = query(&fake, &merge).await;
        assert_eq!(reason(&refused), expected, "{merge}: {}", refused.1);
    }
    assert_eq!(fake.rows("d", "t")[0]["a"], "old");
}

#[tokio::test]
async fn an_update_sets_columns_of_the_rows_that_it_names() {
    let fake = keyed(&[json!({"k": 1, "a": "x", "tags": ["q"]}), json!({"k": 2, "a": "x"})], &[]).await;
    assert_eq!(changed(&fake, "UPDATE `d.t` AS u SET a = CONCAT(a, '!'), u.n = k WHERE u.k = 1").await, "1");
    assert_eq!(fake.rows("d", "t"), [json!({"k": 1, "a": "x!", "n": "1", "tags": ["q"]}), json!({"k": 2, "a": "x", "tags": []})]);
    assert_eq!(query(&fake, "UPDATE d.t SET a = 'x'").await.0, 400);
    assert_eq!(query(&fake, "UPDATE d.t SET none = 'x' WHERE TRUE").await.0, 400);
}

#[tokio::test]
async fn rows_in_the_streaming_buffer_are_not_changed_until_it_is_emptied() {
    let fake = keyed(&[json!({"k": 1, "a": "loaded"})], &[json!({"k": 2, "a": "new"})]).await;
    let row = json!({"rows": [{"json": {"k": 2, "a": "streamed"}}]});
    post(&fake, "projects/p/datasets/d/tables/t/insertAll", row).await;
    assert_eq!(fake.table("d", "t").unwrap()["streamingBuffer"]["estimatedRows"], "1");
    let merge = "MERGE d.t USING d.s ON t.k = s.k WHEN MATCHED THEN UPDATE SET a = s.a";
    for text in ["DELETE FROM d.t WHERE k = 2", "UPDATE d.t SET a = 'x' WHERE TRUE", merge, "TRUNCATE TABLE d.t"] {
        let refused = query(&fake, text).await;
        let message = refused.1["error"]["message"].as_str().unwrap_or_default();
        let words = "statement over table p.d.t would affect rows in the streaming buffer, which is not supported";
        assert!(reason(&refused) == "invalidQuery" && message.ends_with(words), "{text}: {}", refused.1);
    }
    // Other rows of the table can be changed.
    assert_eq!(changed(&fake, "UPDATE d.t SET a = 'x' WHERE k = 1").await, "1");
    assert_eq!(changed(&fake, "INSERT INTO d.t (k) VALUES (3)").await, "1");
    fake.empty_streaming_buffers();
    assert!(fake.table("d", "t").unwrap().get("streamingBuffer").is_none());
    assert_eq!(changed(&fake, merge).await, "1");
    assert_eq!(changed(&fake, "TRUNCATE TABLE d.t").await, "3");
}

#[tokio::test]
async fn rows_of_write_streams_can_be_changed_at_once() {
    let fake = fake().await;
    table(&fake, json!([{"name": "n", "type": "INT64"}]));
    let stream = create_stream(&fake, Type::Committed).await;
    append(&fake, vec![request(&stream, Some(0), numbers(0, 2))]).await;
    append(&fake, vec![request(&format!("{TABLE}/streams/_default"), None, numbers(2, 4))]).await;
    assert_eq!(changed(&fake, "DELETE FROM d.t WHERE n IN (1, 2)").await, "2");
    assert_eq!(seen(&fake), [0, 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_does_not_write_over_a_load_that_came_in_while_it_ran() {
    let fake = fake().await;
    table(&fake, json!([{"name": "n", "type": "INT64"}]));
    let statements = {
        let fake = fake.clone();
        tokio::spawn(async move {
            loop {
                changed(&fake, "UPDATE d.t SET n = n WHERE TRUE").await;
            }
        })
    };
    for n in 0..50 {
        fake.put_object("b", "n", format!("{{\"n\": {n}}}\n").repeat(10));
        let job = json!({"configuration": {"load": {
            "sourceUris": ["gs://b/n"], "sourceFormat": "NEWLINE_DELIMITED_JSON", "writeDisposition": "WRITE_TRUNCATE",
            "destinationTable": {"projectId": "p", "datasetId": "d", "tableId": "t"},
        }}});
        let (_, job) = post(&fake, "projects/p/jobs", job).await;
        assert_eq!(job["status"], json!({"state": "DONE"}), "{job}");
        // Comes after whatever statement was under way.
        assert_eq!(changed(&fake, "DELETE FROM d.t WHERE FALSE").await, "0");
        assert_eq!(seen(&fake), [n; 10]);
    }
    statements.abort();
}
