//! REST: datasets, tables and streamed rows.

use serde_json::json;

use crate::client::*;

const TABLES: &str = "projects/p/datasets/d/tables";
const T: &str = "projects/p/datasets/d/tables/t";

#[tokio::test]
async fn a_table_is_made_once_and_keeps_what_it_was_given() {
    let fake = fake().await;
    let table = json!({
        "tableReference": {"projectId": "p", "datasetId": "d", "tableId": "t"},
        "schema": {"fields": [{"name": "id", "type": "INTEGER", "mode": "REQUIRED", "policyTags": {"names": ["a"]}}, {"name": "at", "type": "DATE"}]},
        "timePartitioning": {"type": "DAY", "field": "at"}, "clustering": {"fields": ["id"]}, "labels": {"a": "b"},
        "tableConstraints": {"primaryKey": {"columns": ["id"]}}, "maxStaleness": "0-0 0 0:10:0", "description": "words",
    });
    assert_eq!(post(&fake, TABLES, table.clone()).await.0, 200);
    let again = post(&fake, TABLES, table.clone()).await;
    assert_eq!((again.0, reason(&again)), (409, "duplicate"));
    let (_, shown) = get(&fake, T).await;
    for key in ["timePartitioning", "clustering", "labels", "tableConstraints", "maxStaleness", "description"] {
        assert_eq!(shown[key], table[key], "{key}");
    }
    assert_eq!(shown["schema"]["fields"][0]["policyTags"], json!({"names": ["a"]}));
    assert_eq!(shown["schema"]["fields"][0]["type"], "INTEGER");
    assert_eq!((shown["numRows"].as_str(), shown["location"].as_str()), (Some("0"), Some("US")));
    assert_eq!(get(&fake, TABLES).await.1["tables"].as_array().unwrap().len(), 1);
    assert_eq!(call(&fake, "DELETE", T, json!(null)).await.0, 204);
    let gone = get(&fake, T).await;
    assert_eq!((gone.0, reason(&gone)), (404, "notFound"));
    assert_eq!(get(&fake, "projects/p/datasets/none").await.0, 404);
    assert_eq!(get(&fake, "projects/p/datasets/d").await.1["location"], "US");
}

#[tokio::test]
async fn a_schema_only_grows() {
    let fake = fake().await;
    table(&fake, json!([{"name": "id", "type": "INT64", "mode": "REQUIRED"}]));
    fake.running_rows(&[json!({"id": 1})]).await;
    let patch = async |fields: serde_json::Value| call(&fake, "PATCH", T, json!({"schema": {"fields": fields}})).await;
    assert_eq!(
        patch(json!([{"name": "id", "type": "INTEGER"}, {"name": "l", "type": "STRING", "mode": "REPEATED"}])).await.0,
        200
    );
    assert_eq!(fake.rows("d", "t"), [json!({"id": 1, "l": []})]);
    for bad in [
        json!([{"name": "id", "type": "INTEGER"}]),
        json!([{"name": "id", "type": "STRING"}, {"name": "l", "type": "STRING", "mode": "REPEATED"}]),
        json!([{"name": "id", "type": "INTEGER", "mode": "REQUIRED"}, {"name": "l", "type": "STRING", "mode": "REPEATED"}]),
        json!([{"name": "id", "type": "INTEGER"}, {"name": "l", "type": "STRING", "mode": "REPEATED"}, {"name": "r", "type": "STRING", "mode": "REQUIRED"}]),
    ] {
        let refused = patch(bad).await;
        assert_eq!((refused.0, reason(&refused)), (400, "invalid"));
    }
    let (_, patched) = call(&fake, "PATCH", T, json!({"labels": {"a": "1"}, "description": "x"})).await;
    assert_eq!((&patched["labels"]["a"], &patched["description"]), (&json!("1"), &json!("x")));
    let (_, patched) = call(&fake, "PATCH", T, json!({"labels": {"b": "2"}, "description": null})).await;
    assert_eq!(patched["labels"], json!({"a": "1", "b": "2"}));
    assert!(patched.get("description").is_none());
    let with_etag = async |etag: &str| {
        let request = reqwest::Client::new().patch(format!("{}/bigquery/v2/{T}", fake.rest())).header("if-match", etag);
        request.json(&json!({"description": "y"})).send().await.unwrap().status().as_u16()
    };
    assert_eq!(with_etag("other").await, 412);
    assert_eq!(with_etag(patched["etag"].as_str().unwrap()).await, 200);
}

/// Streams rows in by REST.
trait Rows {
    async fn running_rows(&self, rows: &[serde_json::Value]);
}

impl Rows for longshore_fakes::bigquery::FakeBigQuery {
    async fn running_rows(&self, rows: &[serde_json::Value]) {
        let rows: Vec<_> = rows.iter().map(|row| json!({"json": row})).collect();
        assert_eq!(
            post(self, &format!("{T}/insertAll"), json!({"rows": rows})).await,
            (200, json!({"kind": "bigquery#tableDataInsertAllResponse"}))
        );
    }
}

#[tokio::test]
async fn streamed_rows_are_kept_apart_by_their_ids_and_refused_together() {
    let fake = fake().await;
    table(&fake, json!([{"name": "id", "type": "INT64", "mode": "REQUIRED"}, {"name": "s", "type": "STRING"}]));
    let insert = async |body| post(&fake, &format!("{T}/insertAll"), body).await.1;
    let rows = json!({"rows": [{"insertId": "a", "json": {"id": "1", "s": "x"}}, {"insertId": "b", "json": {"id": 2}}]});
    assert!(insert(rows.clone()).await.get("insertErrors").is_none());
    insert(rows).await;
    assert_eq!(fake.row_count("d", "t"), 2);

    let rows = json!([{"json": {"id": 3}}, {"json": {"id": "x"}}, {"json": {"s": "no id"}}, {"json": {"id": 4, "more": 1}}]);
    let answer = insert(json!({"rows": rows})).await;
    let reasons: Vec<_> = answer["insertErrors"].as_array().unwrap().iter().map(|e| e["errors"][0]["reason"].clone()).collect();
    assert_eq!(reasons, ["stopped", "invalid", "invalid", "invalid"]);
    assert_eq!(fake.row_count("d", "t"), 2);
    let answer = insert(json!({"rows": rows, "skipInvalidRows": true, "ignoreUnknownValues": true})).await;
    assert_eq!(answer["insertErrors"].as_array().unwrap().len(), 2);
    assert_eq!(fake.row_count("d", "t"), 4);

    let (_, page) = get(&fake, &format!("{T}/data?maxResults=3")).await;
    assert_eq!((page["rows"].as_array().unwrap().len(), &page["totalRows"]), (3, &json!("4")));
    let token = page["pageToken"].as_str().unwrap();
    let (_, page) = get(&fake, &format!("{T}/data?pageToken={token}")).await;
    assert_eq!(page["rows"], json!([{"f": [{"v": "4"}, {"v": null}]}]));
}
