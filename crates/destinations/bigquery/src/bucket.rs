//! The bucket where rows of load jobs wait, and whether BigQuery may load from it.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use google_cloud_storage::client::Storage;
use google_cloud_storage::streaming_source::StreamingSource;
use longshore_core::Result;
use longshore_core::commit::AttemptId;
use longshore_core::error::{Error, Retry};
use tokio::io::AsyncWriteExt;
use tokio::sync::{OnceCell, mpsc};
use tokio::task::JoinHandle;

use crate::config::BigQueryConfig;
use crate::credentials::Identity;
use crate::error::{Failure, Refusal, bug, codes, config, destination};
use crate::rest::Rest;
use crate::tables::Tables;

/// What of a file is held until it is known to have arrived.
const BUFFER_BYTES: usize = 8 << 20;

/// A folder of a bucket.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    identity: Identity,
    endpoint: String,
    storage: Arc<OnceCell<Storage>>,
    name: String,
    prefix: String,
    rest: Rest,
    checked: Arc<OnceCell<()>>,
}

impl Bucket {
    /// The bucket of `staging: gs://BUCKET/PREFIX`. Asks nobody yet.
    ///
    /// Errors: `bigquery_staging` (configuration).
    pub(crate) fn new(settings: &BigQueryConfig, staging: &str, identity: &Identity) -> Result<Self> {
        let wrong = || {
            config(codes::STAGING, format!("`{staging}` is not a folder of a bucket"))
                .hint("for example `staging: gs://acme-landing/longshore`")
        };
        let rest = staging.strip_prefix("gs://").ok_or_else(wrong)?;
        let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if name.is_empty() || prefix.contains(['*', '?', '#']) {
            return Err(wrong());
        }
        let endpoint = settings.storage_endpoint.as_deref().unwrap_or("https://storage.googleapis.com").trim_end_matches('/');
        Ok(Self {
            identity: identity.clone(),
            endpoint: endpoint.to_owned(),
            storage: Arc::default(),
            name: name.to_owned(),
            prefix: prefix.trim_matches('/').to_owned(),
            rest: Rest::new(endpoint.to_owned(), identity.clone())?,
            checked: Arc::default(),
        })
    }

    /// The bucket's own name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Those of some permissions that we have on the bucket. Anybody may ask.
    /// Source: <https://cloud.google.com/storage/docs/json_api/v1/buckets/testIamPermissions>
    pub(crate) async fn granted(&self, permissions: &[&str]) -> Result<Vec<String>, Failure> {
        let query: Vec<(&str, &str)> = permissions.iter().map(|permission| ("permissions", *permission)).collect();
        let path = format!("/storage/v1/b/{}/iam/testPermissions", self.name);
        let answer = self.rest.get(&format!("buckets.testIamPermissions {}", self.name), &path, &query).await?;
        Ok(crate::rest::texts(&answer["permissions"]))
    }

    async fn storage(&self) -> Result<&Storage> {
        let connect = || async {
            let builder = Storage::builder().with_endpoint(&self.endpoint).with_credentials(self.identity.credentials());
            builder.build().await.map_err(|e| destination(codes::UNAVAILABLE, "Cloud Storage cannot be used").caused_by(e))
        };
        self.storage.get_or_try_init(connect).await
    }

    /// A file of this attempt that is about to be written.
    pub(crate) async fn create(&self, attempt: &AttemptId, below: &str, content_type: &str) -> Result<Upload> {
        let name = format!("{}{below}", self.folder(attempt));
        let (sender, receiver) = mpsc::channel(1);
        let write = self
            .storage()
            .await?
            .write_object(format!("projects/_/buckets/{}", self.name), &name, Pieces { receiver, ended: false })
            .set_content_type(content_type)
            .with_resumable_upload_threshold(BUFFER_BYTES)
            .with_resumable_upload_buffer_size(BUFFER_BYTES)
            // The name is new: writing it again writes the same.
            .with_idempotency(true);
        let task = tokio::spawn(async move { write.send_buffered().await.map(drop).map_err(|e| failed("objects.insert", &e)) });
        Ok(Upload { uri: format!("gs://{}/{name}", self.name), sender, task: Some(task), seen: Seen::default() })
    }

    fn folder(&self, attempt: &AttemptId) -> String {
        let slash = if self.prefix.is_empty() { "" } else { "/" };
        format!("{}{slash}longshore-{}/", self.prefix, &blake3::hash(attempt.0.as_bytes()).to_hex()[..32])
    }

    /// Asks once whether BigQuery can load from here into the dataset, before anything is staged.
    ///
    /// Errors: `bigquery_location`, `bigquery_denied`, `bigquery_staging`.
    pub(crate) async fn check(&self, tables: &Tables) -> Result<()> {
        self.checked.get_or_try_init(|| self.ask(tables)).await.copied()
    }

    async fn ask(&self, tables: &Tables) -> Result<()> {
        let doing = format!("buckets.get {}", self.name);
        let bucket = match self.rest.get(&doing, &format!("/storage/v1/b/{}", self.name), &[]).await {
            Ok(bucket) => bucket,
            Err(Failure::Refused(refusal)) if refusal.is_missing() => {
                return Err(config(codes::STAGING, format!("there is no bucket {}", self.name)));
            }
            Err(failure) => return Err(failure.into()),
        };
        let (place, dataset) = (bucket["location"].as_str().unwrap_or_default(), tables.location().await?);
        if can_load(place, dataset) {
            return Ok(());
        }
        Err(destination(codes::LOCATION, format!("the bucket {} lies in {place} and the dataset in {dataset}", self.name))
            .with_retry(Retry::AfterFix)
            .hint("BigQuery loads from buckets at the dataset's own place only: name one there with `staging`"))
    }

    /// Removes everything of an attempt; returns its bytes.
    pub(crate) async fn sweep(&self, attempt: &AttemptId) -> Result<u64> {
        let folder = self.folder(attempt);
        let path = format!("/storage/v1/b/{}/o", self.name);
        let (mut bytes, mut token) = (0, String::new());
        loop {
            let mut query = vec![("prefix", folder.as_str())];
            if !token.is_empty() {
                query.push(("pageToken", &token));
            }
            let page = self.rest.get("objects.list", &path, &query).await?;
            let objects = page["items"].as_array().cloned().unwrap_or_default();
            let names: Vec<String> = objects.iter().filter_map(|object| object["name"].as_str().map(str::to_owned)).collect();
            bytes += objects.iter().filter_map(|object| object["size"].as_str()?.parse::<u64>().ok()).sum::<u64>();
            let gone = futures::stream::iter(names).map(|name| async move { self.remove(&name).await });
            gone.buffer_unordered(8).try_collect::<Vec<()>>().await?;
            token = page["nextPageToken"].as_str().unwrap_or_default().to_owned();
            if token.is_empty() {
                return Ok(bytes);
            }
        }
    }

    /// Copies a file by the name that BigQuery knows it by into a local one.
    ///
    /// Errors: `bigquery_staged_gone` if it is not there, `bigquery_io`.
    pub(crate) async fn download(&self, uri: &str, to: &Path) -> Result<()> {
        let rest = uri.strip_prefix("gs://").and_then(|rest| rest.split_once('/'));
        let (bucket, name) = rest.ok_or_else(|| bug(format!("{uri} is no file of a bucket")))?;
        let failed_at = |e: std::io::Error| destination(codes::IO, format!("{} could not be written", to.display())).caused_by(e);
        let mut file = tokio::fs::File::create(to).await.map_err(failed_at)?;
        let read = self.storage().await?.read_object(format!("projects/_/buckets/{bucket}"), name);
        let mut object = match read.send().await {
            Ok(object) => object,
            Err(e) if e.http_status_code() == Some(404) => {
                return Err(destination(codes::GONE, format!("{uri} is gone")).with_retry(Retry::AfterFix));
            }
            Err(e) => return Err(failed("objects.get", &e)),
        };
        while let Some(bytes) = object.next().await {
            file.write_all(&bytes.map_err(|e| failed("objects.get", &e))?).await.map_err(failed_at)?;
        }
        file.flush().await.map_err(failed_at)
    }

    /// Removes a file by the name that BigQuery knows it by; one that is not there is fine.
    pub(crate) async fn remove_uri(&self, uri: &str) -> Result<()> {
        match uri.strip_prefix("gs://").and_then(|rest| rest.strip_prefix(&self.name)?.strip_prefix('/')) {
            Some(name) => self.remove(name).await,
            // Staged under other settings: that bucket is not ours to clean any more.
            None => Ok(()),
        }
    }

    async fn remove(&self, name: &str) -> Result<()> {
        let encoded: String = url::form_urlencoded::byte_serialize(name.as_bytes()).collect();
        // A form writes a space as `+`, a path does not.
        let path = format!("/storage/v1/b/{}/o/{}", self.name, encoded.replace('+', "%20"));
        Ok(self.rest.delete("objects.delete", &path).await?)
    }
}

/// A file on its way into the bucket. It is not there before `finish`; dropped before, it never is.
pub(crate) struct Upload {
    pub(crate) uri: String,
    sender: mpsc::Sender<Piece>,
    task: Option<JoinHandle<Result<()>>>,
    pub(crate) seen: Seen,
}

enum Piece {
    Bytes(Bytes),
    End,
}

impl Upload {
    pub(crate) async fn put(&mut self, bytes: Bytes) -> Result<()> {
        self.seen.pass(&bytes);
        match self.sender.send(Piece::Bytes(bytes)).await {
            Ok(()) => Ok(()),
            Err(_) => self.ended().await.and_then(|()| Err(bug("a file ended before its last piece"))),
        }
    }

    pub(crate) async fn finish(&mut self) -> Result<()> {
        // If nobody takes it the upload has failed, and says so.
        let _ = self.sender.send(Piece::End).await;
        self.ended().await
    }

    async fn ended(&mut self) -> Result<()> {
        let task = self.task.take().ok_or_else(|| bug("a file was ended twice"))?;
        task.await.map_err(|e| bug("an upload ended early").caused_by(e))?
    }
}

/// Counts and digests what passes.
#[derive(Clone, Default)]
pub(crate) struct Seen(Arc<Mutex<(u64, blake3::Hasher)>>);

impl Seen {
    fn pass(&self, bytes: &[u8]) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.0 += bytes.len() as u64;
        seen.1.update(bytes);
    }

    /// Bytes, and their digest.
    pub(crate) fn so_far(&self) -> (u64, blake3::Hash) {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (seen.0, seen.1.finalize())
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0
    }
}

/// The pieces as the client of Cloud Storage asks for them.
struct Pieces {
    receiver: mpsc::Receiver<Piece>,
    ended: bool,
}

impl StreamingSource for Pieces {
    type Error = std::io::Error;

    async fn next(&mut self) -> Option<Result<Bytes, std::io::Error>> {
        // It asks again after the end, when it tries again.
        if self.ended {
            return None;
        }
        match self.receiver.recv().await {
            Some(Piece::Bytes(bytes)) => Some(Ok(bytes)),
            Some(Piece::End) => {
                self.ended = true;
                None
            }
            None => Some(Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "the file was given up"))),
        }
    }
}

/// Whether BigQuery loads from a bucket at `bucket` into a dataset at `dataset`.
/// Source: <https://cloud.google.com/bigquery/docs/batch-loading-data#data-locations>
fn can_load(bucket: &str, dataset: &str) -> bool {
    let (bucket, dataset) = (bucket.to_ascii_uppercase(), dataset.to_ascii_uppercase());
    match dataset.as_str() {
        _ if bucket == dataset => true,
        "US" => true,
        "EU" => bucket.starts_with("EUR"),
        // Dual regions hold the region among others.
        _ => matches!(
            (bucket.as_str(), dataset.as_str()),
            ("ASIA1", "ASIA-NORTHEAST1" | "ASIA-NORTHEAST2")
                | ("EUR4", "EUROPE-NORTH1" | "EUROPE-WEST4")
                | ("NAM4", "US-CENTRAL1" | "US-EAST1")
        ),
    }
}

/// What an error of the client of Cloud Storage means.
fn failed(doing: &str, error: &google_cloud_storage::Error) -> Error {
    match error.http_status_code() {
        Some(status) => {
            let message = error.status().map_or_else(|| error.to_string(), |status| status.message.clone());
            Refusal { doing: doing.to_owned(), status, reason: String::new(), message, retry_after: None }.into()
        }
        None => crate::error::lost(doing, error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_must_lie_where_the_dataset_does() {
        for (bucket, dataset, fits) in [
            ("US", "US", true),
            ("europe-west1", "US", true),
            ("EUROPE-WEST1", "EU", true),
            ("EUR4", "EU", true),
            ("US", "EU", false),
            ("EU", "europe-west1", false),
            ("EUROPE-WEST1", "europe-west1", true),
            ("NAM4", "us-central1", true),
            ("ASIA-EAST1", "asia-northeast1", false),
        ] {
            assert_eq!(can_load(bucket, dataset), fits, "{bucket} {dataset}");
        }
    }
}
