//! Cloud Storage: uploads of the JSON API, in one request of two parts or in a session of many.

use bytes::Bytes;
use serde_json::{Value, json};

use super::http::{Answer, ApiError, Call};
use super::state::State;
use super::storage::Object;
use super::storage_json::resource;

/// A session of an upload.
pub(crate) struct Session {
    bucket: String,
    key: String,
    content_type: String,
    if_generation: Option<String>,
    bytes: Vec<u8>,
    finished: Option<Object>,
}

/// What a request of an upload is called.
pub(crate) fn name(call: &Call) -> &'static str {
    if call.method == http::Method::POST {
        return if call.param("uploadType") == Some("resumable") { "objects.startUpload" } else { "objects.put" };
    }
    match call.header("content-range").and_then(Range::parse) {
        Some(range) if range.start.is_none() && range.total.is_none() => "objects.uploadStatus",
        Some(range) if range.total.is_none() => "objects.putPart",
        _ => "objects.put",
    }
}

/// `Content-Range: bytes START-END/TOTAL`, where each may be `*`.
struct Range {
    start: Option<usize>,
    total: Option<usize>,
}

impl Range {
    fn parse(text: &str) -> Option<Self> {
        let (span, total) = text.strip_prefix("bytes ")?.split_once('/')?;
        let start = match span {
            "*" => None,
            span => Some(span.split_once('-')?.0.parse().ok()?),
        };
        Some(Self { start, total: if total == "*" { None } else { Some(total.parse().ok()?) } })
    }
}

/// Does a request of an upload.
pub(crate) fn serve(state: &mut State, bucket: &str, call: &Call) -> Result<Answer, ApiError> {
    if call.method == http::Method::PUT || call.param("upload_id").is_some() {
        return proceed(state, call);
    }
    match call.param("uploadType") {
        Some("media") => {
            let key = call.param("name").unwrap_or_default().to_owned();
            let content_type = call.header("content-type").unwrap_or("application/octet-stream").to_owned();
            put(state, bucket, &key, call.body.clone(), &content_type, call.param("ifGenerationMatch"))
        }
        Some("multipart") => {
            let parts = parts(call).ok_or_else(|| ApiError::invalid("Malformed multipart body."))?;
            let [metadata, media, more @ ..] = parts.as_slice() else {
                return Err(ApiError::invalid("A multipart upload has two parts."));
            };
            let metadata: Value =
                serde_json::from_slice(metadata).map_err(|e| ApiError::invalid(format!("Invalid metadata: {e}")))?;
            let checksums: Value = more.first().and_then(|part| serde_json::from_slice(part).ok()).unwrap_or_default();
            check(media, metadata["crc32c"].as_str().or_else(|| checksums["crc32c"].as_str()))?;
            let key = call.param("name").or_else(|| metadata["name"].as_str()).unwrap_or_default().to_owned();
            let content_type = metadata["contentType"].as_str().unwrap_or("application/octet-stream").to_owned();
            put(state, bucket, &key, media.clone(), &content_type, call.param("ifGenerationMatch"))
        }
        Some("resumable") => start(state, bucket, call),
        _ => Err(ApiError::invalid("uploadType must be media, multipart or resumable")),
    }
}

fn put(
    state: &mut State,
    bucket: &str,
    key: &str,
    bytes: Bytes,
    content_type: &str,
    if_generation: Option<&str>,
) -> Result<Answer, ApiError> {
    let object = state.put_object(bucket, key, bytes, content_type, if_generation)?;
    Ok(Answer::json(200, &resource(bucket, key, &object)))
}

fn start(state: &mut State, bucket: &str, call: &Call) -> Result<Answer, ApiError> {
    state.bucket(bucket)?;
    let metadata = call.json()?;
    let key = call.param("name").or_else(|| metadata["name"].as_str()).unwrap_or_default();
    let session = Session {
        bucket: bucket.to_owned(),
        key: key.to_owned(),
        content_type: metadata["contentType"].as_str().unwrap_or("application/octet-stream").to_owned(),
        if_generation: call.param("ifGenerationMatch").map(str::to_owned),
        bytes: Vec::new(),
        finished: None,
    };
    let id = format!("r{:06}", state.number());
    // By the name under which the client knows us, so that what stands in between stays there.
    // Not the request's own host: some clients leave out the port.
    let host = &state.address;
    let name: String = url::form_urlencoded::byte_serialize(key.as_bytes()).collect();
    let location = format!("http://{host}/upload/storage/v1/b/{bucket}/o?uploadType=resumable&name={name}&upload_id={id}");
    state.storage.sessions.insert(id, session);
    Ok(Answer { headers: vec![("location", location)], ..Answer::empty(200) })
}

fn proceed(state: &mut State, call: &Call) -> Result<Answer, ApiError> {
    let id = call.param("upload_id").unwrap_or_default();
    let session = state.storage.sessions.get_mut(id).ok_or_else(|| ApiError::not_found("No such upload."))?;
    if let Some(object) = &session.finished {
        return Ok(Answer::json(200, &resource(&session.bucket, &session.key, object)));
    }
    let whole = Range { start: Some(0), total: Some(call.body.len()) };
    let range = match call.header("content-range") {
        Some(text) => Range::parse(text).ok_or_else(|| ApiError::invalid(format!("Invalid Content-Range: {text}")))?,
        None => whole,
    };
    // What is known already is passed over; what would leave a gap is not taken.
    if let Some(start) = range.start.filter(|start| *start <= session.bytes.len()) {
        let known = session.bytes.len() - start;
        session.bytes.extend_from_slice(call.body.get(known..).unwrap_or_default());
    }
    if range.total != Some(session.bytes.len()) {
        let mut answer = Answer::empty(308);
        if let Some(last) = session.bytes.len().checked_sub(1) {
            answer.headers.push(("range", format!("bytes=0-{last}")));
        }
        return Ok(answer);
    }
    let hash = call.header("x-goog-hash").and_then(|hash| hash.strip_prefix("crc32c="));
    check(&session.bytes, hash)?;
    let bytes = Bytes::from(std::mem::take(&mut session.bytes));
    let (bucket, key, content_type) = (session.bucket.clone(), session.key.clone(), session.content_type.clone());
    let if_generation = session.if_generation.clone();
    let object = state.put_object(&bucket, &key, bytes, &content_type, if_generation.as_deref())?;
    if let Some(session) = state.storage.sessions.get_mut(id) {
        session.finished = Some(object.clone());
    }
    Ok(Answer::json(200, &resource(&bucket, &key, &object)))
}

fn check(bytes: &[u8], expected: Option<&str>) -> Result<(), ApiError> {
    match expected {
        Some(expected) if expected != crc32c(bytes) => Err(ApiError::invalid(format!(
            "Provided CRC32C \"{expected}\" doesn't match calculated CRC32C \"{}\".",
            crc32c(bytes)
        ))),
        _ => Ok(()),
    }
}

/// The checksum as it stands in resources: base64 of its bytes, the highest first.
pub(crate) fn crc32c(bytes: &[u8]) -> String {
    use base64::Engine as _;
    let mut table = [0u32; 256];
    for (value, i) in table.iter_mut().zip(0u32..) {
        *value = (0..8).fold(i, |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 });
    }
    let crc = !bytes.iter().fold(!0u32, |crc, byte| crc >> 8 ^ table[usize::from(crc as u8 ^ byte)]);
    base64::engine::general_purpose::STANDARD.encode(crc.to_be_bytes())
}

/// The parts of a `multipart/related` body.
fn parts(call: &Call) -> Option<Vec<Bytes>> {
    let boundary = call.header("content-type")?.split("boundary=").nth(1)?.split(';').next()?.trim_matches('"').to_owned();
    let find = |from: usize, what: &[u8]| {
        let at = call.body.get(from..)?.windows(what.len()).position(|window| window == what)?;
        Some(from + at)
    };
    let delimiter = format!("\r\n--{boundary}");
    let mut parts = Vec::new();
    let mut at = find(0, delimiter.trim_start().as_bytes())? + boundary.len() + 2;
    while !call.body.get(at..)?.starts_with(b"--") {
        let start = find(at, b"\r\n\r\n")? + 4;
        // An empty part's delimiter shares its line break with the end of the headers.
        let end = find(start - 2, delimiter.as_bytes())?;
        parts.push(call.body.slice(start.min(end)..end.max(start)));
        at = end + delimiter.len();
    }
    Some(parts)
}

/// One page of a list: keys below a prefix, and the prefixes that a delimiter makes of others.
pub(crate) fn list(state: &State, bucket: &str, call: &Call) -> Value {
    let text = |name: &str| call.param(name).unwrap_or_default();
    let (prefix, delimiter) = (text("prefix"), text("delimiter"));
    let max = text("maxResults").parse().unwrap_or(1_000usize);
    let (mut items, mut prefixes, mut last, mut next) = (Vec::new(), Vec::<String>::new(), "", None);
    for ((_, key), object) in state.storage.objects.iter().filter(|((b, _), _)| b == bucket) {
        if !key.starts_with(prefix) || key.as_str() <= text("pageToken") || key.as_str() < text("startOffset") {
            continue;
        }
        let common = if delimiter.is_empty() { None } else { key[prefix.len()..].find(delimiter) };
        let group = common.map(|at| key[..prefix.len() + at + delimiter.len()].to_owned());
        let known = group.as_ref().is_some_and(|group| prefixes.last() == Some(group));
        if !known && items.len() + prefixes.len() == max {
            next = Some(last);
            break;
        }
        last = key;
        match group {
            Some(group) if !known => prefixes.push(group),
            Some(_) => {}
            None => items.push(resource(bucket, key, object)),
        }
    }
    let mut answer = json!({"kind": "storage#objects", "items": items, "prefixes": prefixes});
    if let Some(next) = next {
        answer["nextPageToken"] = json!(next);
    }
    answer
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_checksum_is_the_published_one() {
        // The check value of CRC-32C: 0xe3069283.
        assert_eq!(super::crc32c(b"123456789"), "4waSgw==");
    }
}
