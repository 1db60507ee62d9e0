//! Permissions that the caller does not have.

use googleapis_tonic_google_cloud_bigquery_storage_v1::google::cloud::bigquery::storage::v1 as pb;
use longshore_fakes::bigquery::FakeBigQuery;
use pb::write_stream::Type;
use serde_json::{Value, json};
use tonic::Code;

use crate::client::*;

const T: &str = "bigquery/v2/projects/p/datasets/d/tables/t";

async fn filled() -> FakeBigQuery {
    let fake = fake().await;
    table(&fake, json!([{"name": "n", "type": "INT64"}]));
    fake.create_table("d", "s", &schema(json!([{"name": "n", "type": "INT64"}])), json!({}));
    fake.put_object("b", "in/1.json", "{\"n\": 1}\n");
    fake
}

/// A call to any of the APIs.
async fn http(fake: &FakeBigQuery, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let request = reqwest::Client::new().request(method.parse().unwrap(), format!("{}/{path}", fake.rest()));
    let request = if body.is_null() { request } else { request.json(body) };
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

fn message(answer: &(u16, Value)) -> &str {
    answer.1["error"]["message"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn each_rest_method_needs_its_permission() {
    let dataset = "bigquery/v2/projects/p/datasets";
    let made = |name: &str| json!({"tableReference": {"projectId": "p", "datasetId": "d", "tableId": name}});
    let row = json!({"rows": [{"json": {"n": 1}}]});
    let query = json!({"query": "SELECT 1"});
    let on_table = "denied on table p:d.t (or it may not exist).";
    let on_dataset = "denied on dataset p:d (or it may not exist).";
    let on_project = "Access Denied: Project p: User does not have bigquery.";
    let (get, none) = ("GET", Value::Null);
    let insert = format!("{T}/insertAll");
    for (permission, method, path, body, words) in [
        ("bigquery.datasets.get", get, format!("{dataset}/d"), none.clone(), on_dataset),
        ("bigquery.datasets.create", "POST", dataset.to_owned(), json!({"datasetReference": {"datasetId": "e"}}), on_project),
        ("bigquery.tables.list", get, format!("{dataset}/d/tables"), none.clone(), on_dataset),
        ("bigquery.tables.create", "POST", format!("{dataset}/d/tables"), made("new"), on_dataset),
        ("bigquery.tables.get", get, T.to_owned(), none.clone(), on_table),
        ("bigquery.tables.update", "PATCH", T.to_owned(), json!({"description": "x"}), on_table),
        ("bigquery.tables.updateData", "POST", insert, row, on_table),
        ("bigquery.tables.getData", get, format!("{T}/data"), none.clone(), on_table),
        ("bigquery.jobs.create", "POST", "bigquery/v2/projects/p/queries".to_owned(), query, on_project),
        ("bigquery.jobs.list", get, "bigquery/v2/projects/p/jobs".to_owned(), none.clone(), on_project),
        ("bigquery.tables.delete", "DELETE", T.to_owned(), none.clone(), on_table),
        ("bigquery.datasets.delete", "DELETE", format!("{dataset}/d"), none.clone(), on_dataset),
        ("storage.buckets.get", get, "storage/v1/b/b".to_owned(), none.clone(), "access to the Google Cloud Storage bucket."),
        ("storage.objects.list", get, "storage/v1/b/b/o".to_owned(), none.clone(), "access to the Google Cloud Storage bucket."),
        ("storage.objects.list", get, "b?list-type=2".to_owned(), none.clone(), "access to the Google Cloud Storage bucket."),
        (
            "storage.objects.get",
            get,
            "b/in/1.json".to_owned(),
            none.clone(),
            "Permission 'storage.objects.get' denied on resource",
        ),
        ("storage.objects.create", "PUT", "b/x".to_owned(), json!({}), "Permission 'storage.objects.create' denied on resource"),
        ("storage.objects.delete", "PUT", "b/in/1.json".to_owned(), json!({}), "access to the Google Cloud Storage object."),
        ("storage.objects.delete", "DELETE", "storage/v1/b/b/o/in%2F1.json".to_owned(), none.clone(), "storage.objects.delete"),
    ] {
        let fake = filled().await;
        fake.deny(&[permission]);
        let refused = http(&fake, method, &path, &body).await;
        let expected = if permission.starts_with("storage") { "forbidden" } else { "accessDenied" };
        assert_eq!((refused.0, reason(&refused)), (403, expected), "{method} {path}: {}", refused.1);
        let message = message(&refused);
        assert!(message.contains(permission) && message.contains(words), "{message}");
        assert_eq!((fake.row_count("d", "t"), fake.tables("d")), (0, vec!["s".to_owned(), "t".to_owned()]));
        assert_eq!(fake.objects(), ["b/in/1.json"]);
        fake.deny(&[]);
        let (status, answer) = http(&fake, method, &path, &body).await;
        assert!(status < 300, "{method} {path}: {answer}");
    }
}

#[tokio::test]
async fn statements_need_permissions_on_what_they_read_and_write() {
    let fake = filled().await;
    let merge = "MERGE d.t USING d.s ON t.n = s.n WHEN NOT MATCHED THEN INSERT (n) VALUES (n)";
    for (permission, text, place) in [
        ("bigquery.tables.getData", "SELECT n FROM d.t", "p:d.t"),
        ("bigquery.tables.getData", "INSERT INTO d.t SELECT n FROM d.s", "p:d.s"),
        ("bigquery.tables.updateData", "INSERT INTO d.t SELECT n FROM d.s", "p:d.t"),
        ("bigquery.tables.getData", "DELETE FROM d.t WHERE TRUE", "p:d.t"),
        ("bigquery.tables.updateData", "DELETE FROM d.t WHERE TRUE", "p:d.t"),
        ("bigquery.tables.updateData", "UPDATE d.t SET n = 1 WHERE TRUE", "p:d.t"),
        ("bigquery.tables.updateData", "TRUNCATE TABLE d.t", "p:d.t"),
        ("bigquery.tables.updateData", merge, "p:d.t"),
        ("bigquery.tables.getData", merge, "p:d.t"),
        ("bigquery.tables.update", "ALTER TABLE d.t ADD COLUMN x INT64", "p:d.t"),
        ("bigquery.tables.create", "CREATE TABLE d.new (x INT64)", "dataset p:d "),
        ("bigquery.tables.delete", "DROP TABLE d.t", "p:d.t"),
    ] {
        fake.deny(&[permission]);
        for dry in [true, false] {
            let refused = post(&fake, "projects/p/queries", json!({"query": text, "dryRun": dry})).await;
            assert_eq!((refused.0, reason(&refused)), (403, "accessDenied"), "{text}: {}", refused.1);
            let message = message(&refused);
            assert!(message.contains(&format!("Permission {permission} denied on")) && message.contains(place), "{message}");
        }
        let job = json!({"configuration": {"query": {"query": text}}});
        let (status, job) = post(&fake, "projects/p/jobs", job).await;
        assert_eq!((status, &job["status"]["errorResult"]["reason"]), (200, &json!("accessDenied")), "{job}");
    }
    fake.deny(&["bigquery.tables.getData"]);
    let (_, answer) = post(&fake, "projects/p/queries", json!({"query": "INSERT INTO d.t (n) SELECT 1"})).await;
    assert_eq!(answer["numDmlAffectedRows"], "1", "to write needs no permission to read: {answer}");
    fake.deny(&["bigquery.jobs.create"]);
    let refused =
        post(&fake, "projects/p/jobs", json!({"configuration": {"dryRun": true, "query": {"query": "SELECT 1"}}})).await;
    assert_eq!(reason(&refused), "accessDenied");
}

#[tokio::test]
async fn a_load_needs_permissions_on_its_table_and_its_files() {
    let fake = filled().await;
    let load = |uri: &str, table: &str, more: Value| {
        let mut load = json!({
            "sourceUris": [uri], "sourceFormat": "NEWLINE_DELIMITED_JSON", "schema": {"fields": [{"name": "n", "type": "INTEGER"}]},
            "destinationTable": {"projectId": "p", "datasetId": "d", "tableId": table},
        });
        load.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"configuration": {"load": load}})
    };
    let one = "gs://b/in/1.json";
    let add = json!({"schemaUpdateOptions": ["ALLOW_FIELD_ADDITION"]});
    for (permission, body) in [
        ("bigquery.jobs.create", load(one, "t", json!({}))),
        ("bigquery.tables.updateData", load(one, "t", json!({}))),
        ("bigquery.tables.create", load(one, "new", json!({}))),
        ("bigquery.tables.update", load(one, "t", add)),
    ] {
        fake.deny(&[permission]);
        let refused = post(&fake, "projects/p/jobs", body).await;
        assert_eq!((refused.0, reason(&refused)), (403, "accessDenied"));
        assert!(message(&refused).contains(permission), "{}", message(&refused));
    }
    assert!(fake.jobs().is_empty());
    for (permission, uri) in [("storage.objects.get", one), ("storage.objects.list", "gs://b/in/*")] {
        fake.deny(&[permission]);
        let (status, job) = post(&fake, "projects/p/jobs", load(uri, "t", json!({}))).await;
        let error = &job["status"]["errorResult"];
        assert_eq!((status, &error["reason"]), (200, &json!("accessDenied")), "{job}");
        let expected = format!("Permission '{permission}' denied on resource (or it may not exist). Please make sure {uri} is");
        assert!(error["message"].as_str().unwrap().contains(&expected), "{error}");
    }
    // A file that is named is not looked for.
    let (_, job) = post(&fake, "projects/p/jobs", load(one, "t", json!({}))).await;
    assert_eq!(job["status"], json!({"state": "DONE"}));
    let table = |name: &str| json!({"projectId": "p", "datasetId": "d", "tableId": name});
    let copy = json!({"configuration": {"copy": {"sourceTable": table("t"), "destinationTable": table("u")}}});
    fake.deny(&["bigquery.tables.getData"]);
    assert_eq!(post(&fake, "projects/p/jobs", copy).await.1["status"]["errorResult"]["reason"], "accessDenied");
    assert_eq!(fake.row_count("d", "t"), 1);
}

#[tokio::test]
async fn streams_need_the_permission_to_write_to_their_table() {
    let fake = filled().await;
    let stream = create_stream(&fake, Type::Buffered).await;
    fake.deny(&["bigquery.tables.updateData"]);
    let (answers, end) = append(&fake, vec![request(&stream, Some(0), numbers(0, 1))]).await;
    let end = end.unwrap();
    let words = "Permission 'TABLES_UPDATE_DATA' denied on resource 'projects/p/datasets/d/tables/t' (or it may not exist).";
    assert_eq!((answers.len(), end.code(), end.message()), (0, Code::PermissionDenied, words));
    let mut client = write_client(&fake).await;
    let commit = pb::BatchCommitWriteStreamsRequest { parent: TABLE.into(), write_streams: vec![stream.clone()] };
    let made = pb::CreateWriteStreamRequest { parent: TABLE.into(), ..Default::default() };
    let flush = pb::FlushRowsRequest { write_stream: stream.clone(), offset: Some(0) };
    let finalize = pb::FinalizeWriteStreamRequest { name: stream.clone() };
    for status in [
        client.create_write_stream(made).await.unwrap_err(),
        client.flush_rows(flush).await.unwrap_err(),
        client.finalize_write_stream(finalize).await.unwrap_err(),
        client.batch_commit_write_streams(commit).await.unwrap_err(),
    ] {
        assert_eq!((status.code(), status.message()), (Code::PermissionDenied, words));
    }
    fake.deny(&[]);
    let (answers, _) = append(&fake, vec![request(&stream, Some(0), numbers(0, 1))]).await;
    assert_eq!(offset(&answers[0]), Some(0));
}

#[tokio::test]
async fn whoever_asks_is_told_which_permissions_there_are() {
    let fake = filled().await;
    fake.deny(&["bigquery.tables.updateData", "storage.objects.create", "bigquery.jobs.create"]);
    let ask = json!({"permissions": ["bigquery.tables.get", "bigquery.tables.updateData"]});
    let (_, answer) = http(&fake, "POST", &format!("{T}:testIamPermissions"), &ask).await;
    assert_eq!(answer, json!({"permissions": ["bigquery.tables.get"]}));
    let missing = T.replace("tables/t", "tables/none");
    assert_eq!(http(&fake, "POST", &format!("{missing}:testIamPermissions"), &ask).await, (200, json!({})));
    let path = "storage/v1/b/b/iam/testPermissions?permissions=storage.objects.create&permissions=storage.objects.get";
    let (_, answer) = http(&fake, "GET", path, &Value::Null).await;
    assert_eq!(answer["permissions"], json!(["storage.objects.get"]));
    let ask = json!({"permissions": ["bigquery.jobs.create", "bigquery.datasets.create"]});
    let (_, answer) = http(&fake, "POST", "v1/projects/p:testIamPermissions", &ask).await;
    assert_eq!(answer, json!({"permissions": ["bigquery.datasets.create"]}));
    assert_eq!(fake.calls("projects.testIamPermissions"), 1);
    fake.deny(&["bigquery.datasets.get"]);
    let (_, answer) = get(&fake, "projects/p/datasets").await;
    assert_eq!(answer["datasets"], json!([]));
}
