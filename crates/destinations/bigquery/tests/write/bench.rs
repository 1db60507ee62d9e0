//! A dataset of its own for each test, behind proxies that fail on command.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use longshore_bigquery::BigQueryDestination;
use longshore_bigquery::config::{BigQueryConfig, FileFormat, Method};
use longshore_core::destination::Destination;
use longshore_testkit::proxy::Proxy;
use longshore_testkit::services::BigQueryEmulator;
use serde_json::{Map, Value, json};

pub const PROJECT: &str = "test";

/// The emulator bears one request at a time: whoever uses it holds this.
pub static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A dataset in an emulator.
pub struct Dataset {
    pub name: String,
    pub rest: Proxy,
    pub grpc: Proxy,
    pub storage: Proxy,
    direct: String,
    state: tempfile::TempDir,
}

impl Dataset {
    /// `None`, said loudly, if there is no emulator.
    pub async fn new() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let emulator = BigQueryEmulator::shared().await?;
        let name = format!("shop_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let dataset = Self {
            rest: Proxy::start(emulator.rest()).await,
            grpc: Proxy::start(emulator.grpc()).await,
            storage: Proxy::start(emulator.url()).await,
            direct: emulator.rest().to_owned(),
            state: tempfile::tempdir().unwrap(),
            name,
        };
        let reference = json!({"datasetReference": {"projectId": PROJECT, "datasetId": dataset.name}, "location": "US"});
        let made = dataset.ask(reqwest::Method::POST, "/datasets", Some(reference)).await;
        assert_eq!(made.0, 200, "{}", made.1);
        emulator.create_bucket(&dataset.name).await;
        Some(dataset)
    }

    pub fn open(&self, method: Method) -> Arc<dyn Destination> {
        self.open_with(method, FileFormat::Auto)
    }

    pub fn open_with(&self, method: Method, format: FileFormat) -> Arc<dyn Destination> {
        let config = BigQueryConfig {
            project: PROJECT.into(),
            dataset: self.name.clone(),
            method,
            format,
            anonymous: true,
            endpoint: Some(self.rest.url().to_owned()),
            write_endpoint: Some(self.grpc.url().to_owned()),
            storage_endpoint: Some(self.storage.url().to_owned()),
            staging: (method == Method::LoadJob).then(|| format!("gs://{}/staging", self.name)),
            ..BigQueryConfig::default()
        };
        Arc::new(BigQueryDestination::open_dataset(&config, self.state.path()).unwrap())
    }

    /// A call that no fault meets.
    pub async fn ask(&self, method: reqwest::Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let url = format!("{}/bigquery/v2/projects/{PROJECT}{path}", self.direct);
        let mut request = reqwest::Client::new().request(method, url);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap_or_default())
    }

    pub async fn table(&self, table: &str) -> (u16, Value) {
        self.ask(reqwest::Method::GET, &format!("/datasets/{}/tables/{table}", self.name), None).await
    }

    pub async fn drop_table(&self, table: &str) {
        self.ask(reqwest::Method::DELETE, &format!("/datasets/{}/tables/{table}", self.name), None).await;
    }

    /// What waits in the bucket.
    pub async fn objects(&self) -> Vec<String> {
        let url = format!("{}/storage/v1/b/{}/o", self.storage.url(), self.name);
        let page: Value = reqwest::get(url).await.unwrap().json().await.unwrap();
        let items = page["items"].as_array().cloned().unwrap_or_default();
        items.iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
    }

    /// Rows as BigQuery tells them, nulls left out.
    pub async fn rows(&self, table: &str) -> Vec<Value> {
        if self.table(table).await.0 == 404 {
            return Vec::new();
        }
        let query = format!("SELECT * FROM `{PROJECT}.{}.{table}`", self.name);
        let request = json!({"query": query, "useLegacySql": false, "timeoutMs": 60_000});
        let (status, page) = self.ask(reqwest::Method::POST, "/queries", Some(request)).await;
        assert_eq!(status, 200, "{page}");
        let fields = page["schema"]["fields"].as_array().unwrap();
        let rows = page["rows"].as_array().cloned().unwrap_or_default();
        rows.iter().map(|row| object(fields, row)).collect()
    }
}

fn object(fields: &[Value], row: &Value) -> Value {
    let cells = fields.iter().zip(row["f"].as_array().unwrap());
    let known = cells.filter(|(_, cell)| !cell["v"].is_null());
    let object: Map<String, Value> = known
        .map(|(field, cell)| {
            let value = match field["type"].as_str().unwrap() {
                "INTEGER" | "INT64" if cell["v"].is_string() => cell["v"].as_str().unwrap().parse::<i64>().unwrap().into(),
                _ => cell["v"].clone(),
            };
            (field["name"].as_str().unwrap().to_owned(), value)
        })
        .collect();
    Value::Object(object)
}
