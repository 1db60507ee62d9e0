//! Statements.

use longshore_fakes::bigquery::FakeBigQuery;
use serde_json::{Value, json};

use crate::client::*;

async fn query(fake: &FakeBigQuery, text: &str) -> (u16, Value) {
    post(fake, "projects/p/queries", json!({"query": text, "useLegacySql": false, "formatOptions": {"useInt64Timestamp": true}}))
        .await
}

async fn filled() -> FakeBigQuery {
    let fake = fake().await;
    table(
        &fake,
        json!([{"name": "id", "type": "INT64"}, {"name": "Name", "type": "STRING"}, {"name": "at", "type": "TIMESTAMP"},
               {"name": "n", "type": "NUMERIC"}, {"name": "l", "type": "INT64", "mode": "REPEATED"},
               {"name": "st", "type": "RECORD", "fields": [{"name": "a", "type": "BOOL"}]}, {"name": "y", "type": "BYTES"}, {"name": "t", "type": "TIME"}]),
    );
    let rows = json!({"rows": [
        {"json": {"id": 1, "Name": "a", "at": "1970-01-01 00:00:01", "n": "1.50", "l": [1, 2], "st": {"a": true}, "y": "AQ==", "t": "01:02:03"}},
        {"json": {"id": 2, "Name": "b"}},
    ]});
    post(&fake, "projects/p/datasets/d/tables/t/insertAll", rows).await;
    fake.empty_streaming_buffers();
    fake
}

#[tokio::test]
async fn select_answers_in_the_form_of_the_wire() {
    let fake = filled().await;
    let (status, answer) = query(&fake, "SELECT *, COUNT(*) OVER () AS c FROM `p.d.t` WHERE `Name` = 'a' ORDER BY id").await;
    assert_eq!(status, 200, "{answer}");
    let row = json!({"f": [{"v": "1"}, {"v": "a"}, {"v": "1000000"}, {"v": "1.5"}, {"v": [{"v": "1"}, {"v": "2"}]},
        {"v": {"f": [{"v": "true"}]}}, {"v": "AQ=="}, {"v": "01:02:03"}, {"v": "1"}]});
    assert_eq!(answer["rows"], json!([row]));
    assert_eq!(answer["schema"]["fields"][7]["type"], "TIME");
    let (_, answer) = query(&fake, "SELECT COUNT(*) AS c, MAX(n) AS m FROM `d`.`t`").await;
    assert_eq!(answer["rows"], json!([{"f": [{"v": "2"}, {"v": "1.5"}]}]));
    let (_, answer) = query(&fake, "SELECT `Name` FROM d.t WHERE FALSE").await;
    assert_eq!((&answer["totalRows"], &answer["schema"]["fields"][0]["name"]), (&json!("0"), &json!("Name")));
    let refused = query(&fake, "SELECT nothing FROM d.t").await;
    assert_eq!((refused.0, reason(&refused)), (400, "invalidQuery"));
    let refused = query(&fake, "SELECT 1 FROM d.none").await;
    assert_eq!((refused.0, reason(&refused)), (404, "notFound"));
    let refused = query(&fake, "CREATE MODEL x").await;
    assert_eq!((refused.0, reason(&refused)), (400, "invalidQuery"));
}

#[tokio::test]
async fn results_come_in_pages_and_a_retry_does_not_run_twice() {
    let fake = filled().await;
    let body = json!({"query": "INSERT INTO `d.t` (id, `Name`) SELECT id + 10, `Name` FROM `d.t`", "requestId": "r1"});
    let (_, first) = post(&fake, "projects/p/queries", body.clone()).await;
    let (_, second) = post(&fake, "projects/p/queries", body).await;
    assert_eq!(first["numDmlAffectedRows"], "2", "{first}");
    assert_eq!(first["jobReference"], second["jobReference"]);
    assert_eq!(fake.row_count("d", "t"), 4);

    let (_, page) = post(&fake, "projects/p/queries", json!({"query": "SELECT id FROM d.t ORDER BY id", "maxResults": 3})).await;
    assert_eq!(page["rows"].as_array().unwrap().len(), 3);
    let (job, token) = (page["jobReference"]["jobId"].as_str().unwrap(), page["pageToken"].as_str().unwrap());
    let (_, page) = get(&fake, &format!("projects/p/queries/{job}?pageToken={token}&location=US")).await;
    assert_eq!(page["rows"], json!([{"f": [{"v": "12"}]}]));
    let (_, dry) = post(&fake, "projects/p/queries", json!({"query": "SELECT id FROM d.t", "dryRun": true})).await;
    assert_ne!(dry["totalBytesProcessed"], "0");
}

#[tokio::test]
async fn parameters_stand_for_values() {
    let fake = filled().await;
    let body = json!({"query": "SELECT `Name` FROM d.t WHERE id = @id AND `Name` = @name", "parameterMode": "NAMED", "queryParameters": [
        {"name": "id", "parameterType": {"type": "INT64"}, "parameterValue": {"value": "2"}},
        {"name": "name", "parameterType": {"type": "STRING"}, "parameterValue": {"value": "b"}},
    ]});
    let (_, answer) = post(&fake, "projects/p/queries", body).await;
    assert_eq!(answer["rows"], json!([{"f": [{"v": "b"}]}]), "{answer}");
}

#[tokio::test]
async fn statements_change_rows_and_columns() {
    let fake = filled().await;
    let (_, answer) = query(&fake, "DELETE FROM `p.d.t` WHERE id = 1").await;
    assert_eq!(answer["numDmlAffectedRows"], "1", "{answer}");
    let alter = "ALTER TABLE `d.t` ADD COLUMN x STRUCT<a INT64, b ARRAY<STRING(3)>>, ADD COLUMN IF NOT EXISTS id INT64";
    assert_eq!(query(&fake, alter).await.0, 200);
    assert_eq!(query(&fake, "ALTER TABLE d.t ADD COLUMN x INT64").await.0, 400);
    assert_eq!(query(&fake, "ALTER TABLE d.t ALTER COLUMN id SET DATA TYPE NUMERIC").await.0, 200);
    assert_eq!(query(&fake, "ALTER TABLE d.t ALTER COLUMN id SET DATA TYPE INT64").await.0, 400);
    assert_eq!(query(&fake, "ALTER TABLE d.t ALTER COLUMN id SET DATA TYPE BIGNUMERIC").await.0, 200);
    assert_eq!(query(&fake, "ALTER TABLE d.t ALTER COLUMN `Name` SET DATA TYPE INT64").await.0, 400);
    assert_eq!(fake.rows("d", "t"), [json!({"id": "2", "Name": "b", "l": []})]);
    let insert = "INSERT INTO `d.t` (id, `Name`, at) VALUES (3, 'c', '1970-01-01T00:00:02Z')";
    assert_eq!(query(&fake, insert).await.1["numDmlAffectedRows"], "1");
    assert_eq!(fake.rows("d", "t")[1]["at"], "1970-01-01T00:00:02Z");
    assert_eq!(query(&fake, "TRUNCATE TABLE `d.t`").await.0, 200);
    assert_eq!(fake.row_count("d", "t"), 0);
    let schema = fake.schema("d", "t").unwrap();
    assert_eq!(schema[8]["fields"][1]["maxLength"], "3");
}

#[tokio::test]
async fn conditions_know_literals_of_each_type() {
    let fake = filled().await;
    for condition in [
        "`Name` = \"a\"",
        "at < TIMESTAMP '2024-01-01 00:00:00+00'",
        "at = TIMESTAMP '1970-01-01T00:00:01Z'",
        "CAST(at AS DATE) = DATE '1970-01-01'",
        "n = 1.5",
        "id IN (1, 7) AND COALESCE(`Name`, '') <> ''",
        "t = '01:02:03.000000'",
        "EXISTS (SELECT 1 FROM `p.d.t` AS o WHERE o.id = a.id AND o.n IS NOT NULL)",
    ] {
        let (status, answer) = query(&fake, &format!("SELECT id FROM `p.d.t` AS a WHERE {condition}")).await;
        assert_eq!((status, &answer["rows"]), (200, &json!([{"f": [{"v": "1"}]}])), "{condition}: {answer}");
    }
    let (_, answer) = query(&fake, "DELETE FROM `p.d.t` AS t WHERE t.at IS NULL OR id > 1").await;
    assert_eq!(answer["numDmlAffectedRows"], "1", "{answer}");
}

#[tokio::test]
async fn a_merge_on_false_replaces_all_rows_at_once() {
    let fake = filled().await;
    let fields =
        schema(json!([{"name": "id", "type": "INT64"}, {"name": "other", "type": "STRING"}, {"name": "Name", "type": "STRING"}]));
    fake.create_table("d", "new", &fields, json!({}));
    query(&fake, "INSERT INTO d.new (id, `Name`) VALUES (7, 'g')").await;
    let merge = "MERGE `p.d.t` AS old USING `p.d.new` AS new ON FALSE WHEN NOT MATCHED BY SOURCE THEN DELETE \
                 WHEN NOT MATCHED BY TARGET THEN INSERT (`id`, `Name`) VALUES (`id`, new.`Name`)";
    let (_, answer) = query(&fake, merge).await;
    assert_eq!(answer["numDmlAffectedRows"], "3", "{answer}");
    assert_eq!(fake.rows("d", "t"), [json!({"id": 7, "Name": "g", "l": []})]);
    assert_eq!(query(&fake, &merge.replace("(`id`,", "(`none`,")).await.0, 400);
    let (_, answer) = query(&fake, "SELECT COUNT(*) AS n FROM (SELECT 1 FROM `p.d.t` LIMIT 1)").await;
    assert_eq!(answer["rows"], json!([{"f": [{"v": "1"}]}]), "{answer}");
    let (_, answer) =
        query(&fake, r"SELECT DISTINCT `Name`, MIN(id) AS m FROM d.t WHERE `Name` IN ('a\'\n', 'g') GROUP BY `Name` ORDER BY m")
            .await;
    assert_eq!(answer["rows"][0]["f"][0]["v"], "g", "{answer}");
}

#[tokio::test]
async fn a_column_changes_to_a_wider_type_with_its_values() {
    let fake = fake().await;
    table(
        &fake,
        json!([{"name": "i", "type": "INT64", "mode": "REQUIRED"}, {"name": "n", "type": "NUMERIC", "precision": "10", "scale": "2"},
               {"name": "l", "type": "INT64", "mode": "REPEATED"}, {"name": "s", "type": "STRING", "maxLength": "3"}]),
    );
    query(&fake, "INSERT INTO d.t (i, n, l, s) SELECT 9007199254740993, 1.25, [1, 2], 'abc'").await;
    let set = async |column: &str, type_: &str| {
        query(&fake, &format!("ALTER TABLE `p.d.t` ALTER COLUMN `{column}` SET DATA TYPE {type_}")).await
    };
    for (column, type_) in [
        ("i", "STRING"),
        ("i", "NUMERIC(18)"),
        ("i", "ARRAY<INT64>"),
        ("n", "INT64"),
        ("n", "NUMERIC(10, 3)"),
        ("n", "NUMERIC(9, 2)"),
        ("s", "STRING(2)"),
        ("s", "BYTES"),
        ("l", "FLOAT64"),
    ] {
        let refused = set(column, type_).await;
        let message = refused.1["error"]["message"].as_str().unwrap_or_default();
        assert_eq!(reason(&refused), "invalidQuery", "{column} {type_}: {message}");
        assert!(
            message.starts_with("ALTER TABLE ALTER COLUMN SET DATA TYPE requires that the existing column type ("),
            "{message}"
        );
    }
    for (column, type_) in [
        ("i", "NUMERIC"),
        ("n", "NUMERIC(12, 3)"),
        ("n", "NUMERIC"),
        ("n", "BIGNUMERIC"),
        ("l", "ARRAY<FLOAT64>"),
        ("s", "STRING"),
    ] {
        let (status, answer) = set(column, type_).await;
        assert_eq!(status, 200, "{column} {type_}: {answer}");
    }
    assert_eq!(fake.rows("d", "t"), [json!({"i": "9007199254740993", "n": "1.25", "l": [1.0, 2.0], "s": "abc"})]);
    let schema = fake.schema("d", "t").unwrap();
    assert_eq!(
        (&schema[0]["type"], &schema[1]["type"], schema[3].get("maxLength")),
        (&json!("NUMERIC"), &json!("BIGNUMERIC"), None)
    );
    assert_eq!(schema[0]["mode"], "REQUIRED");
    assert_eq!(query(&fake, "ALTER TABLE d.t ALTER COLUMN i DROP NOT NULL").await.0, 200);
    assert_ne!(fake.schema("d", "t").unwrap()[0]["mode"], "REQUIRED");
    assert_eq!(query(&fake, "ALTER TABLE d.t ALTER COLUMN i DROP NOT NULL").await.0, 400);
    assert_eq!(query(&fake, "ALTER TABLE d.t ALTER COLUMN none DROP NOT NULL").await.0, 400);
    assert_eq!(query(&fake, "ALTER TABLE d.t ALTER COLUMN IF EXISTS none DROP NOT NULL").await.0, 200);
}

#[tokio::test]
async fn tables_are_made_altered_and_dropped_by_statements() {
    let fake = fake().await;
    let create = "CREATE TABLE IF NOT EXISTS `p.d.made` (id INT64 NOT NULL OPTIONS(description = 'the key'), at TIMESTAMP, \
        l ARRAY<STRUCT<a STRING(3)>>, PRIMARY KEY (`id`) NOT ENFORCED) PARTITION BY TIMESTAMP_TRUNC(at, MONTH) CLUSTER BY id, `at` \
        OPTIONS (description = 'made', labels = [('team', 'a')])";
    assert_eq!(query(&fake, create).await.0, 200);
    let made = fake.table("d", "made").unwrap();
    assert_eq!(made["timePartitioning"], json!({"type": "MONTH", "field": "at"}));
    assert_eq!(made["clustering"], json!({"fields": ["id", "at"]}));
    assert_eq!(made["tableConstraints"], json!({"primaryKey": {"columns": ["id"]}}));
    assert_eq!((&made["description"], &made["labels"]), (&json!("made"), &json!({"team": "a"})));
    assert_eq!(
        (&made["schema"]["fields"][0]["mode"], &made["schema"]["fields"][0]["description"]),
        (&json!("REQUIRED"), &json!("the key"))
    );
    query(&fake, "INSERT INTO d.made (id) VALUES (1)").await;
    assert_eq!(query(&fake, create).await.0, 200);
    assert_eq!(fake.row_count("d", "made"), 1);
    let again = query(&fake, &create.replace("IF NOT EXISTS", "")).await;
    assert_eq!((again.0, reason(&again)), (409, "duplicate"));

    let set = "ALTER TABLE d.made SET OPTIONS (max_staleness = INTERVAL 15 MINUTE, partition_expiration_days = 2, description = NULL), \
        ALTER COLUMN id SET OPTIONS (description = 'other')";
    let (status, answer) = query(&fake, set).await;
    assert_eq!(status, 200, "{answer}");
    let altered = fake.table("d", "made").unwrap();
    assert_eq!((&altered["maxStaleness"], altered.get("description")), (&json!("0-0 0 0:15:0"), None));
    assert_eq!(altered["timePartitioning"]["expirationMs"], "172800000");
    assert_eq!(altered["schema"]["fields"][0]["description"], "other");
    assert_ne!(altered["etag"], made["etag"]);
    assert_eq!(query(&fake, "ALTER TABLE d.made ADD COLUMN x INT64, SET OPTIONS (colour = 'red')").await.0, 400);
    assert_eq!(fake.schema("d", "made").unwrap().as_array().unwrap().len(), 3);

    assert_eq!(query(&fake, "DROP TABLE `p.d.made`").await.0, 200);
    assert!(fake.table("d", "made").is_none());
    let gone = query(&fake, "DROP TABLE d.made").await;
    assert_eq!((gone.0, reason(&gone)), (404, "notFound"));
    assert_eq!(query(&fake, "DROP TABLE IF EXISTS d.made").await.0, 200);
    assert_eq!(query(&fake, "ALTER TABLE d.made ADD COLUMN x INT64").await.0, 404);
    assert_eq!(query(&fake, "ALTER TABLE IF EXISTS d.made ADD COLUMN x INT64").await.0, 200);
}

#[tokio::test]
async fn a_dry_run_says_what_a_statement_would_read_and_does_nothing() {
    let fake = filled().await;
    let dry = async |text: &str| {
        let configuration = json!({"dryRun": true, "query": {"query": text, "useLegacySql": false}});
        post(
            &fake,
            "projects/p/jobs",
            json!({"jobReference": {"projectId": "p", "jobId": "dry", "location": "US"}, "configuration": configuration}),
        )
        .await
    };
    let rows: usize = fake.rows("d", "t").iter().map(|row| row.to_string().len()).sum();
    let (status, job) = dry("SELECT id, `Name`, st FROM d.t WHERE id = 7").await;
    assert_eq!((status, &job["status"]), (200, &json!({"state": "DONE"})), "{job}");
    let statistics = &job["statistics"]["query"];
    assert_eq!((&statistics["totalBytesProcessed"], &statistics["statementType"]), (&json!(rows.to_string()), &json!("SELECT")));
    let names: Vec<&Value> = statistics["schema"]["fields"].as_array().unwrap().iter().map(|field| &field["type"]).collect();
    assert_eq!(names, ["INTEGER", "STRING", "RECORD"]);
    assert!(job["jobReference"].get("jobId").is_none());

    let before = (fake.rows("d", "t"), fake.table("d", "t"));
    for text in [
        "DELETE FROM d.t WHERE TRUE",
        "UPDATE d.t SET id = 1 WHERE TRUE",
        "INSERT INTO d.t (id) SELECT 1",
        "MERGE d.t USING (SELECT 1 AS n, 'x' AS a) AS s ON t.id = s.n WHEN MATCHED THEN UPDATE SET `Name` = s.a \
         WHEN NOT MATCHED THEN INSERT (id) VALUES (n) WHEN NOT MATCHED BY SOURCE THEN DELETE",
        "TRUNCATE TABLE d.t",
        "ALTER TABLE d.t ADD COLUMN x INT64, SET OPTIONS (description = 'x')",
        "CREATE TABLE d.new (x INT64)",
        "DROP TABLE d.t",
    ] {
        let (status, job) = dry(text).await;
        assert_eq!((status, &job["status"]["state"]), (200, &json!("DONE")), "{text}: {job}");
        assert!(job["status"].get("errorResult").is_none());
    }
    assert_eq!(before, (fake.rows("d", "t"), fake.table("d", "t")));
    assert_eq!(fake.tables("d"), ["t"]);
    assert_eq!(dry("DELETE FROM d.t WHERE TRUE").await.1["statistics"]["query"]["totalBytesProcessed"], rows.to_string());

    for (text, expected) in [
        ("SELECT nothing FROM d.t", "invalidQuery"),
        ("SELECT 1 FROM d.none", "notFound"),
        ("DELETE FROM d.none WHERE TRUE", "notFound"),
        ("DELETE FROM d.t WHERE nothing = 1", "invalidQuery"),
        ("MERGE d.t USING d.t AS s ON t.id = s.id WHEN MATCHED THEN UPDATE SET nothing = 1", "invalidQuery"),
        ("INSERT INTO d.t (id) SELECT 1, 2", "invalidQuery"),
        ("ALTER TABLE d.t ADD COLUMN id INT64", "invalidQuery"),
        ("CREATE TABLE d.t (x INT64)", "duplicate"),
        ("DROP TABLE d.none", "notFound"),
        ("nonsense", "invalidQuery"),
    ] {
        assert_eq!(reason(&dry(text).await), expected, "{text}");
    }
    assert!(fake.jobs().is_empty());
    let (_, answer) = post(&fake, "projects/p/queries", json!({"query": "SELECT id FROM d.t", "dryRun": true})).await;
    assert_eq!(answer["schema"]["fields"][0]["name"], "id");
    let load = json!({"configuration": {"dryRun": true, "load": {"sourceUris": ["gs://b/x"]}}});
    assert_eq!(post(&fake, "projects/p/jobs", load).await.0, 400);
    assert!(fake.jobs().is_empty());
}
