//! The list that every destination passes, for every method.

use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use longshore_bigquery::config::{FileFormat, Method};
use longshore_core::batch::Rows;
use longshore_core::commit::{AttemptId, Contract, WriteDisposition};
use longshore_core::destination::{Destination, Mode, SchemaChange};
use longshore_core::schema::TableSchema;
use longshore_core::table_options::TableOptions;
use longshore_testkit::destination_conformance::{Fault, Subject, check_all_but};
use longshore_testkit::proxy::{Rule, What};
use serde_json::{Value, json};

use crate::bench::{ALONE, Dataset};
use crate::cases::is_done;

const PERMISSION_DENIED: i32 = 7;

/// What the emulator does not do as BigQuery documents it.
const UNABLE: &[(&str, &str)] = &[
    ("columns_are_added_only_if_the_contract_says_so", "rows cannot be written once a column was added to their table"),
    ("two_workers_publishing_the_same_number_at_once_publish_it_once", "it bears one request at a time"),
    ("two_workers_with_different_numbers_lose_and_double_nothing", "it bears one request at a time"),
];
const UNABLE_TO_LOAD: &[(&str, &str)] =
    &[("a_lost_answer_of_publish_is_settled", "a job runs again under the id of an earlier one")];

struct InEmulator {
    dataset: Dataset,
    method: Method,
}

#[async_trait]
impl Subject for InEmulator {
    fn worker(&self) -> Arc<dyn Destination> {
        self.dataset.open(self.method)
    }

    fn arm(&self, fault: Fault) {
        let Dataset { rest, grpc, storage, .. } = &self.dataset;
        let loads = self.method == Method::LoadJob;
        let denied = |path| Rule::once(path, What::RefuseGrpc { code: PERMISSION_DENIED, message: "not now".into() });
        let refused = |path| {
            let body = r#"{"error": {"code": 403, "message": "not now", "errors": [{"reason": "accessDenied"}]}}"#;
            Rule::once(path, What::Refuse { status: 403, headers: Vec::new(), body: body.into() })
        };
        let lost = |path| Rule::once(path, What::LoseAnswer { after_messages: 0 });
        match fault {
            Fault::StageFails if loads => storage.arm(refused("POST */upload/")),
            Fault::StageFails => grpc.arm(denied("*BigQueryWrite/AppendRows")),
            Fault::PublishRefused if loads => rest.arm(refused("POST */jobs$")),
            Fault::PublishRefused => grpc.arm(denied("*BigQueryWrite/BatchCommitWriteStreams")),
            Fault::PublishAnswerLost if loads => rest.arm(lost("POST */jobs$")),
            Fault::PublishAnswerLost => grpc.arm(lost("*BigQueryWrite/BatchCommitWriteStreams")),
            Fault::PrepareAnswerLost => rest.arm(lost("POST */tables$")),
        }
    }

    async fn visible(&self, table: &str) -> Vec<Value> {
        self.dataset.rows(table).await
    }

    async fn kept(&self) -> usize {
        self.dataset.objects().await.len()
    }

    async fn drop_table(&self, table: &str) {
        self.dataset.drop_table(table).await;
    }

    fn counts_what_is_kept(&self) -> bool {
        false
    }

    fn marks_first(&self) -> bool {
        true
    }

    fn tells_who_was_first(&self) -> bool {
        true
    }
}

async fn passes_the_list(method: Method, unable: &[(&str, &str)]) {
    let _alone = ALONE.lock().await;
    if Dataset::new().await.is_some() {
        let unable = [UNABLE, unable].concat();
        check_all_but(&unable, async || InEmulator { dataset: Dataset::new().await.unwrap(), method }).await;
    }
}

// Buffered streams are not checked here: the emulator takes the offset of a flush for the first row that stays hidden, where
// BigQuery takes it for the last one that shows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pending_streams_do_what_every_destination_must() {
    passes_the_list(Method::StorageWritePending, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_jobs_do_what_every_destination_must() {
    passes_the_list(Method::LoadJob, UNABLE_TO_LOAD).await;
}

/// The types of Avro that the emulator reads out of a load job: it knows neither TIME nor DATETIME in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn avro_files_are_loaded_as_parquet_files_are() {
    let _alone = ALONE.lock().await;
    let Some(dataset) = Dataset::new().await else { return };
    let columns = json!([
        {"name": "id", "type": "INT64", "mode": "REQUIRED"}, {"name": "s", "type": "STRING"}, {"name": "y", "type": "BYTES"},
        {"name": "f", "type": "FLOAT64"}, {"name": "b", "type": "BOOL"}, {"name": "n", "type": "NUMERIC"},
        {"name": "ts", "type": "TIMESTAMP"}, {"name": "d", "type": "DATE"},
        {"name": "a", "type": "INT64", "mode": "REPEATED"},
        {"name": "o", "type": "STRUCT", "fields": [{"name": "x", "type": "STRING"}, {"name": "m", "type": "NUMERIC"}]},
    ]);
    let schema = TableSchema::from_json(&columns).unwrap();
    let rows = [
        json!({"id": 1, "s": "\u{e4}", "y": "00ff", "f": -0.5, "b": true, "n": "-12345678901234567890123456789.123456789",
            "ts": "2024-02-29T23:59:59.999999Z", "d": "1969-12-31",
            "a": [1, -2], "o": {"x": "in", "m": "0.5"}}),
        json!({"id": 2, "a": []}),
    ];
    let batch = crate::cases::batch_of(&schema, &rows);
    let mut told = Vec::new();
    for format in [FileFormat::Parquet, FileFormat::Avro] {
        let worker = dataset.open_with(Method::LoadJob, format);
        let table = format!("t_{format:?}").to_lowercase();
        let change = SchemaChange {
            table: table.clone(),
            wanted: schema.clone(),
            contract: Contract::Evolve,
            disposition: WriteDisposition::Append,
            options: TableOptions::default(),
        };
        worker.prepare(&change, Mode::Apply).await.unwrap();
        let batches = futures::stream::iter([Ok(Rows::Plain(batch.clone()))]).boxed();
        let attempt = AttemptId(format!("{format:?}"));
        let staged = worker.stage(&attempt, &table, &schema, WriteDisposition::Append, batches).await.unwrap();
        let ending = format!("{format:?}").to_lowercase();
        assert!(dataset.objects().await.iter().any(|name| name.ends_with(&format!(".{ending}"))), "{format:?}");
        let published = crate::cases::publish(worker.as_ref(), 1, 0, &staged.committable).await;
        assert!(is_done(&published), "{format:?}: {published:?}");
        let mut rows = dataset.rows(&table).await;
        rows.sort_by_key(|row| row["id"].as_i64());
        assert_eq!(rows.len(), 2, "{format:?}");
        told.push(rows);
    }
    assert_eq!(told[0], told[1]);
}
