//! The server: one port for REST, Cloud Storage and gRPC, and what goes wrong before and after each call.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tonic::body::Body;

use super::fault::Fault;
use super::state::State;
use super::{grpc, permissions, rest, storage};

/// What all connections share.
#[derive(Default)]
pub(crate) struct Shared {
    state: Mutex<State>,
    /// Held by a statement from its reading of tables to its writing of them.
    pub(crate) statements: tokio::sync::Mutex<()>,
    /// Where the server listens.
    pub(crate) address: String,
}

impl Shared {
    pub(crate) fn new(address: String, state: State) -> Self {
        Self { state: Mutex::new(state), statements: tokio::sync::Mutex::default(), address }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // A test that panics with the lock shall not hide its own message behind another.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An error as the REST API words it.
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    pub(crate) status: u16,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) location: Option<String>,
    pub(crate) retry_after: Option<u64>,
}

impl ApiError {
    pub(crate) fn new(status: u16, reason: &str, message: impl Into<String>) -> Self {
        Self { status, reason: reason.into(), message: message.into(), location: None, retry_after: None }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(400, "invalid", message)
    }

    pub(crate) fn invalid_query(message: impl Into<String>) -> Self {
        Self::new(400, "invalidQuery", message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(404, "notFound", message)
    }

    pub(crate) fn at(mut self, location: impl Into<String>) -> Self {
        self.location = Some(location.into());
        self
    }

    /// As it stands in a job's `errorResult`.
    pub(crate) fn proto(&self) -> Value {
        let mut proto = json!({"reason": self.reason, "message": self.message});
        if let Some(location) = &self.location {
            proto["location"] = json!(location);
        }
        proto
    }

    fn answer(&self) -> Answer {
        let status = match self.status {
            400 => "INVALID_ARGUMENT",
            401 => "UNAUTHENTICATED",
            403 => "PERMISSION_DENIED",
            404 => "NOT_FOUND",
            409 => "ALREADY_EXISTS",
            412 => "FAILED_PRECONDITION",
            429 => "RESOURCE_EXHAUSTED",
            503 => "UNAVAILABLE",
            _ => "INTERNAL",
        };
        let mut one = self.proto();
        one["domain"] = json!("global");
        let body = json!({"error": {"code": self.status, "message": self.message, "errors": [one], "status": status}});
        let mut answer = Answer::json(self.status, &body);
        if let Some(seconds) = self.retry_after {
            answer.headers.push(("retry-after", seconds.to_string()));
        }
        answer
    }
}

/// A REST call.
pub(crate) struct Call {
    pub(crate) method: Method,
    /// The path, not decoded.
    pub(crate) path: String,
    /// The parts of the path, decoded.
    pub(crate) segments: Vec<String>,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Call {
    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A parameter that is `true`; clients write it with a capital letter, too.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.param(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub(crate) fn json(&self) -> Result<Value, ApiError> {
        if self.body.is_empty() {
            return Ok(json!({}));
        }
        serde_json::from_slice(&self.body)
            .map_err(|e| ApiError::new(400, "parseError", format!("Invalid JSON payload received. {e}")))
    }
}

/// A REST answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        let headers = vec![("content-type", "application/json; charset=UTF-8".to_owned())];
        Self { status, headers, body: body.to_string().into() }
    }

    pub(crate) fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Bytes::new() }
    }

    fn response(self, head: bool) -> Response<Body> {
        let mut builder =
            Response::builder().status(StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR));
        if head {
            builder = builder.header("content-length", self.body.len());
        }
        for (name, value) in &self.headers {
            builder = builder.header(*name, value);
        }
        let body = if head { Bytes::new() } else { self.body };
        builder.body(Body::new(Full::new(body))).expect("headers of our own are valid")
    }
}

/// What a call came to.
pub(crate) enum Outcome {
    Answer(Answer),
    /// The connection breaks off.
    Break,
}

/// Takes connections until it is aborted.
pub(crate) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        _ = stream.set_nodelay(true);
        while connections.try_join_next().is_some() {}
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let broken = Arc::new(Notify::new());
            let breaks = Arc::clone(&broken);
            let service = service_fn(move |request| handle(Arc::clone(&shared), Arc::clone(&breaks), request));
            let builder = auto::Builder::new(TokioExecutor::new());
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                _ = connection => {}
                () = broken.notified() => {}
            }
        });
    }
}

async fn handle(shared: Arc<Shared>, broken: Arc<Notify>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    if request.uri().path().starts_with("/google.cloud.bigquery.storage.v1.") {
        return Ok(grpc::handle(shared, broken, request).await);
    }
    let (parts, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return std::future::pending().await };
    let path = parts.uri.path().to_owned();
    let decode = |text: &str| percent_decoded(text);
    let segments = path.split('/').filter(|part| !part.is_empty()).map(decode).collect();
    let query = url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
    let call = Call { method: parts.method, path, segments, query, headers: parts.headers, body: body.to_bytes() };
    let head = call.method == Method::HEAD;
    // On its own: what is under way is done even if the client goes away.
    let outcome = tokio::spawn(async move { answer(&shared, call).await }).await;
    match outcome {
        Ok(Outcome::Answer(answer)) => Ok(answer.response(head)),
        Ok(Outcome::Break) => {
            broken.notify_one();
            std::future::pending().await
        }
        Err(panic) => Ok(ApiError::new(500, "internalError", format!("the fake failed: {panic}")).answer().response(head)),
    }
}

pub(crate) fn percent_decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let hex = text.get(at + 1..at + 3).filter(|_| bytes[at] == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok());
        out.push(hex.unwrap_or(bytes[at]));
        at += if hex.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

async fn answer(shared: &Arc<Shared>, mut call: Call) -> Outcome {
    let xml = !rest::is_json_api(&mut call);
    let (method, subject) = if xml { storage::name(&call) } else { rest::name(&call) };
    let token = call.header("authorization").and_then(|value| value.strip_prefix("Bearer ")).map(str::to_owned);
    let fault = {
        let mut state = shared.lock();
        let fault = state.faults.next(&method, &subject);
        let wrong_token = state.faults.token.is_some() && state.faults.token != token;
        if wrong_token { Some(Fault::ExpireToken) } else { fault }
    };
    match &fault {
        Some(Fault::ExpireToken) => {
            let why = "Request had invalid authentication credentials. Expected OAuth 2 access token.";
            return Outcome::Answer(ApiError::new(401, "authError", why).answer());
        }
        Some(Fault::Refuse { status, reason, message, retry_after }) => {
            let error = ApiError { retry_after: *retry_after, ..ApiError::new(*status, reason, message) };
            return Outcome::Answer(error.answer());
        }
        Some(Fault::LoseRequest) => return Outcome::Break,
        Some(Fault::Hold(gate)) => gate.pass().await,
        _ => {}
    }
    let permitted = permissions::check(&shared.lock(), &method, &subject, &call);
    if let Err(error) = permitted {
        return Outcome::Answer(error.answer());
    }
    let lost = matches!(fault, Some(Fault::LoseAnswer));
    let done = if xml { storage::serve(shared, &call) } else { rest::serve(shared, &method, call, fault).await };
    if lost {
        return Outcome::Break;
    }
    Outcome::Answer(done.unwrap_or_else(|error| error.answer()))
}

/// The parameters of a form or a query, the last of each.
pub(crate) fn last_of_each(query: &[(String, String)]) -> HashMap<&str, &str> {
    query.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()
}
