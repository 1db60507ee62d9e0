//! Cloud Storage: the XML API, as far as object stores' clients use it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::Method;

use super::http::{Answer, ApiError, Call, Shared, last_of_each};
use super::state::State;
use super::uploads::Session;

/// Buckets and what is in them.
#[derive(Default)]
pub(crate) struct Storage {
    /// The location of each bucket.
    pub(crate) buckets: BTreeMap<String, String>,
    /// By `(bucket, key)`.
    pub(crate) objects: BTreeMap<(String, String), Object>,
    /// Of the XML API, by upload id.
    uploads: BTreeMap<String, Upload>,
    /// Of the JSON API, by upload id.
    pub(crate) sessions: BTreeMap<String, Session>,
}

/// An object.
#[derive(Clone)]
pub(crate) struct Object {
    pub(crate) bytes: Bytes,
    pub(crate) generation: u64,
    pub(crate) content_type: String,
    pub(crate) updated: DateTime<Utc>,
}

struct Upload {
    bucket: String,
    key: String,
    content_type: String,
    parts: BTreeMap<u32, Bytes>,
}

impl Object {
    pub(crate) fn etag(&self) -> String {
        format!("\"g{}\"", self.generation)
    }
}

impl State {
    /// Puts an object, unless one is there and shall not be, or is another one than it shall be.
    pub(crate) fn put_object(
        &mut self,
        bucket: &str,
        key: &str,
        bytes: Bytes,
        content_type: &str,
        if_generation: Option<&str>,
    ) -> Result<Object, ApiError> {
        self.bucket(bucket)?;
        let place = (bucket.to_owned(), key.to_owned());
        if let Some(expected) = if_generation {
            let found = self.storage.objects.get(&place).map_or(0, |object| object.generation);
            if expected.parse() != Ok(found) {
                let why = "At least one of the pre-conditions you specified did not hold.";
                return Err(ApiError::new(412, "conditionNotMet", why));
            }
        }
        let generation = 1_000 + self.number();
        let object = Object { bytes, generation, content_type: content_type.to_owned(), updated: Utc::now() };
        self.storage.objects.insert(place, object.clone());
        Ok(object)
    }

    pub(crate) fn bucket(&self, bucket: &str) -> Result<&String, ApiError> {
        let found = self.storage.buckets.get(bucket);
        found.ok_or_else(|| ApiError::not_found(format!("The specified bucket does not exist: {bucket}")))
    }

    pub(crate) fn object(&self, bucket: &str, key: &str) -> Result<&Object, ApiError> {
        self.bucket(bucket)?;
        let found = self.storage.objects.get(&(bucket.to_owned(), key.to_owned()));
        found.ok_or_else(|| ApiError::not_found(format!("No such object: {bucket}/{key}")))
    }

    pub(crate) fn delete_object(&mut self, bucket: &str, key: &str) -> Result<(), ApiError> {
        self.object(bucket, key)?;
        self.storage.objects.remove(&(bucket.to_owned(), key.to_owned()));
        Ok(())
    }
}

/// The bucket and the key of a call.
fn place(call: &Call) -> (String, String) {
    let bucket = call.segments.first().cloned().unwrap_or_default();
    // A key's slashes may be escaped or not, and stand side by side.
    let raw = call.path.trim_start_matches('/').split_once('/').map_or("", |(_, key)| key);
    (bucket, super::http::percent_decoded(raw))
}

/// The name of a method and what it is about.
pub(crate) fn name(call: &Call) -> (String, String) {
    let (bucket, key) = place(call);
    let has = |name: &str| call.param(name).is_some();
    let method = match call.method {
        Method::GET | Method::HEAD if key.is_empty() => "objects.list",
        Method::GET | Method::HEAD => "objects.get",
        Method::PUT if has("uploadId") => "objects.putPart",
        Method::PUT => "objects.put",
        Method::POST if has("uploads") => "objects.startUpload",
        Method::POST if has("uploadId") => "objects.completeUpload",
        Method::DELETE if has("uploadId") => "objects.abortUpload",
        Method::DELETE => "objects.delete",
        _ => "unknown",
    };
    (method.to_owned(), format!("{bucket}/{key}"))
}

/// Does a call.
pub(crate) fn serve(shared: &Arc<Shared>, call: &Call) -> Result<Answer, ApiError> {
    let mut state = shared.lock();
    let (bucket, key) = place(call);
    let query = last_of_each(&call.query);
    let (method, _) = name(call);
    state.bucket(&bucket)?;
    match method.as_str() {
        "objects.list" => Ok(list(&state, &bucket, &query)),
        "objects.get" => get(state.object(&bucket, &key)?, call),
        "objects.put" => {
            let bytes = match call.header("x-goog-copy-source") {
                Some(source) => {
                    let source = super::http::percent_decoded(source);
                    let (bucket, key) = source.trim_start_matches('/').split_once('/').unwrap_or_default();
                    state.object(bucket, key)?.bytes.clone()
                }
                None => call.body.clone(),
            };
            let generation = call.header("x-goog-if-generation-match");
            let object = state.put_object(&bucket, &key, bytes, content_type(call), generation)?;
            Ok(written(&object, "<CopyObjectResult/>"))
        }
        "objects.delete" => state.delete_object(&bucket, &key).map(|()| Answer::empty(204)),
        "objects.startUpload" => {
            let id = format!("u{:06}", state.number());
            let body = format!(
                "<InitiateMultipartUploadResult><Bucket>{}</Bucket><Key>{}</Key><UploadId>{id}</UploadId>\
                 </InitiateMultipartUploadResult>",
                escaped(&bucket),
                escaped(&key)
            );
            let upload = Upload { bucket, key, content_type: content_type(call).to_owned(), parts: BTreeMap::new() };
            state.storage.uploads.insert(id, upload);
            Ok(xml(body))
        }
        "objects.putPart" => {
            let number = query.get("partNumber").and_then(|text| text.parse().ok()).unwrap_or(0);
            let upload = query.get("uploadId").and_then(|id| state.storage.uploads.get_mut(*id)).ok_or_else(no_upload)?;
            upload.parts.insert(number, call.body.clone());
            Ok(Answer { headers: vec![("etag", format!("\"part{number}\""))], ..Answer::empty(200) })
        }
        "objects.abortUpload" => {
            let id = query.get("uploadId").copied().unwrap_or_default();
            state.storage.uploads.remove(id).map(|_| Answer::empty(204)).ok_or_else(no_upload)
        }
        "objects.completeUpload" => complete(&mut state, query.get("uploadId").copied().unwrap_or_default(), call),
        _ => Err(ApiError::invalid(format!("not an operation of the XML API: {} {}", call.method, call.path))),
    }
}

fn no_upload() -> ApiError {
    ApiError::not_found("The requested upload was not found.")
}

fn content_type(call: &Call) -> &str {
    call.header("content-type").unwrap_or("application/octet-stream")
}

fn complete(state: &mut State, id: &str, call: &Call) -> Result<Answer, ApiError> {
    let upload = state.storage.uploads.remove(id).ok_or_else(no_upload)?;
    let named = String::from_utf8_lossy(&call.body).matches("<PartNumber>").count();
    if named != upload.parts.len() {
        let why = format!("{named} parts named, {} uploaded", upload.parts.len());
        state.storage.uploads.insert(id.to_owned(), upload);
        return Err(ApiError::invalid(why));
    }
    let bytes: Vec<u8> = upload.parts.values().flatten().copied().collect();
    let object = state.put_object(&upload.bucket, &upload.key, bytes.into(), &upload.content_type, None)?;
    let etag = escaped(&object.etag());
    let body = format!("<CompleteMultipartUploadResult><ETag>{etag}</ETag></CompleteMultipartUploadResult>");
    Ok(written(&object, &body))
}

fn written(object: &Object, body: &str) -> Answer {
    let mut answer = xml(body.to_owned());
    answer.headers.push(("etag", object.etag()));
    answer.headers.push(("x-goog-generation", object.generation.to_string()));
    answer
}

fn xml(body: String) -> Answer {
    let body = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>{body}").into();
    Answer { status: 200, headers: vec![("content-type", "application/xml; charset=UTF-8".into())], body }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// An object's bytes, or a range of them.
pub(crate) fn get(object: &Object, call: &Call) -> Result<Answer, ApiError> {
    let size = object.bytes.len();
    let mut answer = Answer { status: 200, headers: Vec::new(), body: object.bytes.clone() };
    answer.headers.push(("content-type", object.content_type.clone()));
    answer.headers.push(("etag", object.etag()));
    answer.headers.push(("x-goog-generation", object.generation.to_string()));
    answer.headers.push(("last-modified", object.updated.format("%a, %d %b %Y %H:%M:%S GMT").to_string()));
    if call.header("if-match").is_some_and(|expected| expected != "*" && expected != object.etag()) {
        return Err(ApiError::new(412, "conditionNotMet", "Precondition check failed."));
    }
    if call.header("if-none-match").is_some_and(|known| known == "*" || known == object.etag()) {
        return Ok(Answer { status: 304, body: Bytes::new(), ..answer });
    }
    let Some(range) = call.header("range").and_then(|range| range.strip_prefix("bytes=")) else { return Ok(answer) };
    let (first, last) = range.split_once('-').unwrap_or((range, ""));
    let (start, end) = match (first.parse::<usize>(), last.parse::<usize>()) {
        (Ok(start), Ok(last)) => (start, (last + 1).min(size)),
        (Ok(start), Err(_)) => (start, size),
        (Err(_), Ok(length)) => (size.saturating_sub(length), size),
        _ => return Ok(answer),
    };
    if start >= end {
        return Err(ApiError::new(416, "requestedRangeNotSatisfiable", "The requested range cannot be satisfied."));
    }
    answer.status = 206;
    answer.headers.push(("content-range", format!("bytes {start}-{}/{size}", end - 1)));
    answer.body = object.bytes.slice(start..end);
    Ok(answer)
}

fn list(state: &State, bucket: &str, query: &std::collections::HashMap<&str, &str>) -> Answer {
    let text = |name: &str| query.get(name).copied().unwrap_or_default();
    let (prefix, delimiter) = (text("prefix"), text("delimiter"));
    let after = [text("start-after"), text("continuation-token"), text("marker")].into_iter().max().unwrap_or_default();
    let max = text("max-keys").parse().unwrap_or(1_000usize);
    let (mut contents, mut prefixes, mut count, mut truncated) = (String::new(), String::new(), 0, false);
    // The last key of the page, those under its common prefixes included: the next page begins after it.
    let (mut group, mut last) = (String::new(), String::new());
    for ((_, key), object) in state.storage.objects.iter().filter(|((b, _), _)| b == bucket) {
        if !key.starts_with(prefix) || key.as_str() <= after {
            continue;
        }
        if !group.is_empty() && key.starts_with(&group) {
            last.clone_from(key);
            continue;
        }
        if count == max {
            truncated = true;
            break;
        }
        count += 1;
        last.clone_from(key);
        let common = if delimiter.is_empty() { None } else { key[prefix.len()..].find(delimiter) };
        group = common.map_or_else(String::new, |at| key[..prefix.len() + at + delimiter.len()].to_owned());
        if common.is_some() {
            prefixes += &format!("<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>", escaped(&group));
            continue;
        }
        let updated = object.updated.format("%Y-%m-%dT%H:%M:%S%.3fZ");
        contents += &format!("<Contents><Key>{}</Key><Generation>{}</Generation>", escaped(key), object.generation);
        contents += &format!("<LastModified>{updated}</LastModified><ETag>{}</ETag>", escaped(&object.etag()));
        contents += &format!("<Size>{}</Size></Contents>", object.bytes.len());
    }
    let token =
        if truncated { format!("<NextContinuationToken>{}</NextContinuationToken>", escaped(&last)) } else { String::new() };
    let head = format!("<Name>{}</Name><Prefix>{}</Prefix><KeyCount>{count}</KeyCount>", escaped(bucket), escaped(prefix));
    let head = format!("{head}<IsTruncated>{truncated}</IsTruncated>{token}");
    xml(format!("<ListBucketResult>{head}{contents}{prefixes}</ListBucketResult>"))
}
