//! REST, and Cloud Storage.

use std::collections::HashMap;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tonic::body::Body;

use super::{Error, Place, Seen, State, cpu_seconds};

/// Answers a call.
pub async fn rest(place: Place, path: &str, request: Request<Incoming>) -> Result<Response<Body>, Error> {
    let path = path.strip_prefix("/bigquery/v2").unwrap_or(path);
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let method = request.method().clone();
    let body = match (&method, segments.as_slice()) {
        (_, ["upload", "storage", "v1", "b", bucket, "o"]) => return upload(place, bucket, request).await,
        (&Method::GET, ["stats"]) => place.lock().stats()?,
        (&Method::GET, ["projects", _, "datasets", dataset]) => {
            json!({"datasetReference": {"datasetId": dataset}, "location": "US"})
        }
        (&Method::GET, ["projects", _, "datasets", _, "tables"]) => json!({"tables": []}),
        (&Method::POST, ["projects", _, "datasets", _, "tables"]) => {
            let table = body(request).await?;
            return Ok(place.lock().create_table(path, table));
        }
        (_, ["projects", _, "datasets", _, "tables", _]) => {
            let change = body(request).await?;
            return Ok(place.lock().table(&method, path, change));
        }
        (&Method::POST, ["projects", _, "queries"]) => json!({"jobComplete": true, "schema": {"fields": []}, "rows": []}),
        (&Method::POST, ["projects", _, "jobs"]) => done(&body(request).await?["jobReference"]),
        (&Method::GET, ["projects", project, "jobs", job]) => done(&json!({"projectId": project, "jobId": job})),
        (&Method::GET, ["storage", "v1", "b", bucket]) => json!({"name": bucket, "location": "US"}),
        (&Method::GET, ["storage", "v1", "b", _, "o"]) => json!({"kind": "storage#objects", "items": []}),
        (&Method::DELETE, ["storage", "v1", "b", _, "o", ..]) => Value::Null,
        _ => return Ok(refusal(404, "notFound", &format!("not served: {method} {path}"))),
    };
    Ok(json_answer(200, &body))
}

fn done(reference: &Value) -> Value {
    json!({"jobReference": reference, "status": {"state": "DONE"}})
}

impl State {
    fn stats(&self) -> Result<Value, Error> {
        let Seen { appends, rows, append_bytes, uploads, upload_bytes } = self.seen;
        Ok(json!({
            "appends": appends, "rows": rows, "append_bytes": append_bytes, "uploads": uploads, "upload_bytes": upload_bytes,
            "cpu_seconds": cpu_seconds()?,
        }))
    }

    fn create_table(&mut self, path: &str, mut table: Value) -> Response<Body> {
        let path = format!("{path}/{}", table["tableReference"]["tableId"].as_str().unwrap_or_default());
        if self.tables.contains_key(&path) {
            return refusal(409, "duplicate", "the table exists");
        }
        table["type"] = json!("TABLE");
        table["creationTime"] = json!((self.tables.len() + 1).to_string());
        let answer = json_answer(200, &table);
        self.tables.insert(path, table);
        answer
    }

    fn table(&mut self, method: &Method, path: &str, change: Value) -> Response<Body> {
        let Some(table) = self.tables.get_mut(path) else { return refusal(404, "notFound", "there is no such table") };
        if method == Method::DELETE {
            self.tables.remove(path);
            return json_answer(200, &Value::Null);
        }
        if let (Some(table), Value::Object(change)) = (table.as_object_mut(), change) {
            table.extend(change);
        }
        json_answer(200, table)
    }

    /// Counts what came of an upload. Answers how far it is, or that it is there.
    fn uploaded(&mut self, id: &str, range: &str, bytes: u64) -> Response<Body> {
        let Some((name, size)) = self.uploads.get_mut(id) else { return refusal(404, "notFound", "there is no such upload") };
        *size += bytes;
        self.seen.upload_bytes += bytes;
        let (name, size) = (name.clone(), *size);
        if range.rsplit_once('/').is_none_or(|(_, total)| total == size.to_string()) {
            self.seen.uploads += 1;
            return json_answer(200, &object(&name, size));
        }
        let mut answer = Response::new(Body::empty());
        *answer.status_mut() = http::StatusCode::PERMANENT_REDIRECT;
        if let Ok(range) = http::HeaderValue::from_str(&format!("bytes=0-{}", size.saturating_sub(1))) {
            answer.headers_mut().extend((size > 0).then_some((http::header::RANGE, range)));
        }
        answer
    }
}

fn object(name: &str, size: u64) -> Value {
    json!({"kind": "storage#object", "name": name, "size": size.to_string(), "generation": "1"})
}

/// One request of an upload: whole, the beginning of a session, or a piece of one. The bytes go as they come.
async fn upload(place: Place, bucket: &str, request: Request<Incoming>) -> Result<Response<Body>, Error> {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let query: HashMap<_, _> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let named = |name: &str| query.get(name).cloned().unwrap_or_default();
    if let Some(id) = query.get("upload_id") {
        let range = request.headers().get("content-range").map(|range| range.to_str().map(str::to_owned)).transpose()?;
        let bytes = drained(request).await?;
        return Ok(place.lock().uploaded(id, &range.unwrap_or_default(), bytes));
    }
    let bytes = drained(request).await?;
    let mut state = place.lock();
    if named("uploadType") != "resumable" {
        // What wraps the parts is counted with them.
        state.seen.uploads += 1;
        state.seen.upload_bytes += bytes;
        return Ok(json_answer(200, &object(&named("name"), bytes)));
    }
    let id = format!("u{}", state.uploads.len() + 1);
    let location = format!("{}/upload/storage/v1/b/{bucket}/o?uploadType=resumable&upload_id={id}", place.address);
    state.uploads.insert(id, (named("name"), 0));
    let mut answer = json_answer(200, &Value::Null);
    answer.headers_mut().insert(http::header::LOCATION, location.parse()?);
    Ok(answer)
}

async fn drained(request: Request<Incoming>) -> Result<u64, Error> {
    let mut body = request.into_body();
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        bytes += frame?.data_ref().map_or(0, Bytes::len) as u64;
    }
    Ok(bytes)
}

async fn body(request: Request<Incoming>) -> Result<Value, Error> {
    let bytes = request.into_body().collect().await?.to_bytes();
    Ok(if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes)? })
}

fn json_answer(status: u16, body: &Value) -> Response<Body> {
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let mut answer = Response::new(Body::new(Full::new(Bytes::from(text))));
    *answer.status_mut() = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    answer.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    answer
}

/// A no, in the words of the REST API.
pub fn refusal(status: u16, reason: &str, message: &str) -> Response<Body> {
    json_answer(status, &json!({"error": {"code": status, "message": message, "errors": [{"reason": reason}]}}))
}
