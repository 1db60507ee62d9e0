//! What only Google's cloud can show: `cargo x cloud-check PROJECT` runs these tests in a project of somebody's own, and prints a sheet of
//! what held, what differed and how long it took. `cargo test` runs all of them against our own server, to check the check.

mod changes;
mod command_line;
mod jobs;
mod list;
mod sheet;
mod streams;
mod tables;
mod values;
mod wire;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use futures::FutureExt;
use google_cloud_auth::credentials::{self, CacheableResource, Credentials};
use http::{Extensions, HeaderMap};
use longshore_bigquery::BigQueryDestination;
use longshore_bigquery::config::{BigQueryConfig, Changes, Method};
use longshore_core::destination::Destination;
use longshore_fakes::bigquery::FakeBigQuery;
use serde_json::{Map, Value, json};

use self::sheet::Sheet;

const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// A check that is killed leaves its tables for no longer.
const DAY_MILLIS: &str = "86400000";

/// A project where checks may make datasets.
#[derive(Clone)]
pub struct Cloud {
    project: String,
    location: String,
    /// For load jobs; must lie where the datasets do.
    bucket: Option<String>,
    /// The servers, if they are not Google's: REST, Storage Write, Cloud Storage.
    endpoints: Option<[String; 3]>,
    credentials: Credentials,
}

impl Cloud {
    /// What `cargo x cloud-check` says: `LONGSHORE_CLOUD_PROJECT`, `_LOCATION` and `_BUCKET`, and, for trying the checks on another server,
    /// `_ENDPOINT`, `_WRITE_ENDPOINT` and `_STORAGE_ENDPOINT`, to which no credentials are sent.
    fn of_environment() -> Self {
        let variable = |name: &str| std::env::var(format!("LONGSHORE_CLOUD_{name}")).ok().filter(|value| !value.is_empty());
        let endpoints = variable("ENDPOINT").map(|rest| {
            let [write, storage] = ["WRITE_ENDPOINT", "STORAGE_ENDPOINT"].map(|name| variable(name).unwrap_or(rest.clone()));
            [rest, write, storage]
        });
        let credentials = match endpoints {
            Some(_) => credentials::anonymous::Builder::new().build(),
            None => credentials::Builder::default()
                .with_scopes([SCOPE])
                .build()
                .expect("log in: gcloud auth application-default login"),
        };
        Self {
            project: variable("PROJECT").expect("LONGSHORE_CLOUD_PROJECT names a project"),
            location: variable("LOCATION").unwrap_or_else(|| "US".into()),
            bucket: variable("BUCKET"),
            endpoints,
            credentials,
        }
    }

    /// Our own server, as if it were the cloud.
    fn of(server: &FakeBigQuery) -> Self {
        server.create_bucket("landing", "EU");
        Self {
            project: "acme".into(),
            location: "EU".into(),
            bucket: Some("landing".into()),
            endpoints: Some([server.rest(), server.grpc(), server.rest()]),
            credentials: credentials::anonymous::Builder::new().build(),
        }
    }

    fn is_google(&self) -> bool {
        self.endpoints.is_none()
    }

    fn endpoint(&self, which: usize, googles: &str) -> String {
        self.endpoints.as_ref().map_or_else(|| googles.to_owned(), |endpoints| endpoints[which].clone())
    }

    /// The headers of a request: who we are, as the destination finds it out without settings.
    async fn headers(&self) -> HeaderMap {
        match self.credentials.headers(Extensions::new()).await.expect("a token from Google") {
            CacheableResource::New { data, .. } => data,
            CacheableResource::NotModified => HeaderMap::new(),
        }
    }

    /// One call; what comes back is its status and its JSON. A URL is taken as it is, a path is one of the project's.
    async fn ask(&self, method: reqwest::Method, path: &str, body: Option<&Value>) -> (u16, Value) {
        let rest = self.endpoint(0, "https://bigquery.googleapis.com");
        let url = if path.starts_with("http") {
            path.to_owned()
        } else {
            format!("{rest}/bigquery/v2/projects/{}{path}", self.project)
        };
        let mut request = reqwest::Client::new().request(method, url).headers(self.headers().await);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.expect("an answer of the server");
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap_or_default())
    }

    /// A dataset of its own for a check, which goes with its tables when the check is over; its tables go after a day in any case.
    async fn dataset(&self, check: &str) -> Dataset {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("longshore_check_{now}_{number}");
        let mut cloud = self.clone();
        if !self.is_google() {
            // Changes of tables are held back by project and name, which our own server does not need.
            cloud.project = format!("{}-{number}", self.project);
        }
        let resource = json!({
            "datasetReference": {"projectId": cloud.project, "datasetId": name}, "location": self.location,
            "description": "Of `cargo x cloud-check`; may be deleted.", "defaultTableExpirationMs": DAY_MILLIS,
        });
        let (status, answer) = cloud.ask(reqwest::Method::POST, "/datasets", Some(&resource)).await;
        assert_eq!(status, 200, "a dataset cannot be made: {answer}");
        let bucket = cloud.bucket.iter().map(|bucket| (format!("gs://{bucket}"), "gs://BUCKET"));
        let hidden = [(cloud.project.clone(), "PROJECT")].into_iter().chain(bucket).collect();
        let sheet = Sheet::new(check, hidden);
        Dataset { cloud, name, sheet, state: tempfile::tempdir().unwrap() }
    }
}

/// A dataset of one check, and the sheet that it fills.
pub struct Dataset {
    cloud: Cloud,
    name: String,
    sheet: Sheet,
    state: tempfile::TempDir,
}

impl Dataset {
    fn config(&self, method: Method) -> BigQueryConfig {
        let endpoint = |which: usize| self.cloud.endpoints.as_ref().map(|endpoints| endpoints[which].clone());
        BigQueryConfig {
            project: self.cloud.project.clone(),
            dataset: self.name.clone(),
            method,
            anonymous: !self.cloud.is_google(),
            endpoint: endpoint(0),
            write_endpoint: endpoint(1),
            storage_endpoint: endpoint(2),
            staging: self
                .cloud
                .bucket
                .as_ref()
                .filter(|_| method == Method::LoadJob)
                .map(|bucket| format!("gs://{bucket}/{}", self.name)),
            ..BigQueryConfig::default()
        }
    }

    fn open(&self, method: Method) -> Arc<dyn Destination> {
        self.open_as(&self.config(method))
    }

    fn open_with(&self, method: Method, changes: Changes) -> Arc<dyn Destination> {
        self.open_as(&BigQueryConfig { changes, ..self.config(method) })
    }

    fn open_as(&self, config: &BigQueryConfig) -> Arc<dyn Destination> {
        Arc::new(BigQueryDestination::open_dataset(config, self.state.path()).unwrap())
    }

    /// Whether load jobs can be checked; says so if not.
    fn has_bucket(&self) -> bool {
        if self.cloud.bucket.is_none() {
            self.sheet.left_out("load jobs", "no bucket was named: --bucket NAME");
        }
        self.cloud.bucket.is_some()
    }

    async fn table(&self, table: &str) -> Value {
        self.cloud.ask(reqwest::Method::GET, &format!("/datasets/{}/tables/{table}", self.name), None).await.1
    }

    /// Makes a table as somebody else would; `extra` holds what its resource has besides its columns.
    async fn make_table(&self, table: &str, fields: Value, extra: Value) {
        let mut resource = extra.as_object().cloned().unwrap_or_default();
        let reference = json!({"projectId": self.cloud.project, "datasetId": self.name, "tableId": table});
        resource.insert("tableReference".into(), reference);
        resource.insert("schema".into(), json!({"fields": fields}));
        let path = format!("/datasets/{}/tables", self.name);
        let (status, answer) = self.cloud.ask(reqwest::Method::POST, &path, Some(&Value::Object(resource))).await;
        assert_eq!(status, 200, "table {table} cannot be made: {answer}");
    }

    async fn drop_table(&self, table: &str) {
        self.cloud.ask(reqwest::Method::DELETE, &format!("/datasets/{}/tables/{table}", self.name), None).await;
    }

    fn sql_name(&self, table: &str) -> String {
        format!("`{}.{}.{table}`", self.cloud.project, self.name)
    }

    /// The rows of a query's first page, each cell as BigQuery's REST has it; its own words if it refuses.
    async fn query(&self, sql: &str) -> Result<Vec<Map<String, Value>>, String> {
        let request = json!({"query": sql, "useLegacySql": false, "location": self.cloud.location, "timeoutMs": 60_000});
        let (status, page) = self.cloud.ask(reqwest::Method::POST, "/queries", Some(&request)).await;
        if status != 200 || page["jobComplete"] != json!(true) {
            return Err(page["error"]["message"].as_str().map_or_else(|| format!("{status}: {page}"), str::to_owned));
        }
        let fields = page["schema"]["fields"].as_array().cloned().unwrap_or_default();
        let cells = |row: &Value| {
            let named = fields
                .iter()
                .enumerate()
                .map(|(i, field)| (field["name"].as_str().unwrap_or_default().to_owned(), row["f"][i]["v"].clone()));
            named.collect()
        };
        Ok(page["rows"].as_array().into_iter().flatten().map(cells).collect())
    }

    /// The values of an INT64 column, in order. A table that is gone has none.
    async fn numbers(&self, table: &str, column: &str) -> Vec<i64> {
        let sql = format!("SELECT {column} AS n FROM {} ORDER BY n", self.sql_name(table));
        let rows = self.query(&sql).await.unwrap_or_default();
        rows.iter().filter_map(|row| row["n"].as_str()?.parse().ok()).collect()
    }

    async fn remove(&self) {
        let path = format!("/datasets/{}?deleteContents=true", self.name);
        let (status, answer) = self.cloud.ask(reqwest::Method::DELETE, &path, None).await;
        if status >= 300 {
            self.sheet.told("dataset stays", &format!("{} cannot be removed: {answer}", self.name));
        }
    }
}

/// Runs one check in a dataset of its own; an error names what differed.
async fn run<C: AsyncFn(&Dataset)>(cloud: &Cloud, name: &str, check: C) -> Result<(), String> {
    let dataset = cloud.dataset(&name.replace('_', " ")).await;
    if let Err(panic) = AssertUnwindSafe(check(&dataset)).catch_unwind().await {
        dataset.sheet.broke_off(&sheet::words(panic.as_ref()));
    }
    dataset.remove().await;
    dataset.sheet.outcome()
}

/// The list of checks: each is a test that needs a project, and part of what is tried on our own server.
macro_rules! checks {
    ($($name:ident: $check:path),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            #[ignore = "needs a project: cargo x cloud-check PROJECT"]
            async fn $name() {
                run(&Cloud::of_environment(), stringify!($name), $check).await.unwrap();
            }
        )*

        /// What differed.
        async fn run_all(cloud: &Cloud) -> Vec<String> {
            let outcomes = [$(run(cloud, stringify!($name), $check).await),*];
            outcomes.into_iter().filter_map(Result::err).collect()
        }
    };
}

checks! {
    a_flush_shows_the_rows_up_to_its_offset: streams::flush,
    a_commit_of_streams_can_be_repeated: streams::commit,
    rows_that_a_stream_refuses_are_named: streams::refused_rows,
    new_columns_are_known_where_rows_are_written: streams::new_columns,
    a_job_id_that_is_taken_is_found: jobs::taken_id,
    a_load_job_with_a_bad_row_lands_by_a_stream: jobs::bad_row,
    jobs_write_single_partitions: jobs::partitions,
    changes_by_key_as_change_rows: changes::cdc,
    changes_by_key_by_merge: changes::merge,
    what_tables_are_made_like_reads_back: tables::options,
    columns_widen: tables::widening,
    replacing_rows_leaves_the_table_as_it_is: tables::replacing,
    values_at_their_bounds: values::bounds,
    the_list_of_pending_streams: list::pending,
    the_list_of_buffered_streams: list::buffered,
    the_list_of_the_default_stream: list::default_stream,
    the_list_of_insert_all: list::insert_all,
    the_list_of_load_jobs: list::load_jobs,
    the_command_line: command_line::shop,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cloud_check_itself_passes_against_our_own_server() {
    let server = FakeBigQuery::start().await;
    assert_eq!(run_all(&Cloud::of(&server)).await, [] as [String; 0]);
    let left: Vec<String> = server.requests().into_iter().filter(|line| line.starts_with("datasets.insert")).collect();
    assert_eq!(server.calls("datasets.delete"), left.len(), "every dataset is removed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_tells_what_differs_and_removes_its_dataset() {
    let server = FakeBigQuery::start().await;
    let cloud = Cloud::of(&server);
    let differs = run(&cloud, "a_check", async |dataset: &Dataset| dataset.sheet.same("sum", 1 + 1, 3)).await;
    assert_eq!(differs, Err("a check: sum is 2, and 3 was expected".into()));
    let broken =
        run(&cloud, "a_check", async |dataset: &Dataset| assert_eq!(dataset.table("t").await["no"], 1, "no table")).await;
    assert!(broken.is_err_and(|why| why.contains("no table")));
    assert_eq!(server.calls("datasets.delete"), 2);
}
