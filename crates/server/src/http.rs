//! What a server answers: whether it is well, its metrics, its pipelines, the history of runs. It only tells, and asks nobody who they are.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use longshore_core::Result;
use longshore_core::error::{Error, Kind, Retry, code};
use longshore_core::stop::Stop;
use longshore_core::store::Store;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::board::{Board, Reason, What};
use crate::error::LISTEN_FAILED;
use crate::{metrics, turn};

/// What there is.
const PATHS: [&str; 6] = ["/healthz", "/readyz", "/metrics", "/api/pipelines", "/api/runs", "/api/runs/{id}"];
/// A server that has not looked after its pipelines for so long is not well.
const SILENT: Duration = Duration::from_secs(60);
/// How long the store may take to answer whoever asks whether we are ready.
const STORE: Duration = Duration::from_secs(5);
/// Runs in an answer, unless asked for fewer or more.
const RUNS: usize = 20;
/// The most runs in an answer.
const MOST_RUNS: usize = 1000;
/// How many events and receipts of one run are told, the newest: one that never ends has more every minute.
const NEWEST: usize = 1000;
/// How many answers are made from the history at once; it must leave the store to the pipelines.
pub(crate) const AT_ONCE: usize = 2;

/// What answers are made from.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) board: Arc<Board>,
    pub(crate) store: Arc<dyn Store>,
    /// From when on the server is not ready any more.
    pub(crate) stop: Stop,
    /// Whoever asks for the history waits for one.
    pub(crate) history: Arc<Semaphore>,
}

impl Api {
    pub(crate) fn new(board: Arc<Board>, store: Arc<dyn Store>, stop: Stop) -> Self {
        Self { board, store, stop, history: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

/// Takes the address. Errors: `listen_failed`.
pub(crate) async fn bind(address: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|e| {
        Error::new(Kind::Config, LISTEN_FAILED, format!("the server cannot listen at {address}"))
            .caused_by(e)
            .hint("`--listen ADDRESS:PORT` names another address; port 0 takes a free one")
    })
}

/// Answers until it is asked to stop.
pub(crate) async fn answer(listener: TcpListener, api: Api, stop: Stop) {
    let served = axum::serve(listener, router(api)).with_graceful_shutdown(async move { stop.requested().await }).await;
    if let Err(error) = served {
        tracing::error!(%error, "the HTTP server ended");
    }
}

fn router(api: Api) -> Router {
    Router::new()
        .route("/healthz", get(healthy))
        .route("/readyz", get(ready))
        .route("/metrics", get(all_metrics))
        .route("/api/pipelines", get(pipelines))
        .route("/api/runs", get(runs))
        .route("/api/runs/{id}", get(run))
        .fallback(nothing)
        .method_not_allowed_fallback(only_get)
        .with_state(api)
}

async fn healthy(State(api): State<Api>) -> Response {
    let silent = api.board.silent();
    if silent > SILENT && !api.stop.is_requested() {
        let reason = format!("the server has not looked after its pipelines for {} s", silent.as_secs());
        return object(StatusCode::SERVICE_UNAVAILABLE, &json!({"status": "stuck", "reason": reason}));
    }
    object(StatusCode::OK, &json!({"status": "ok"}))
}

async fn ready(State(api): State<Api>) -> Response {
    let mut reasons = Vec::new();
    if api.stop.is_requested() {
        reasons.push(Reason { what: What::Server("stopping"), reason: "the server was told to stop".to_owned() });
    }
    reasons.extend(api.board.not_ready());
    let asked = tokio::time::timeout(STORE, turn::check_writable(&api.store)).await;
    let trouble = match asked {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!("the store has not answered for {} s", STORE.as_secs())),
    };
    reasons.extend(trouble.map(|reason| Reason { what: What::Server("store"), reason }));
    if reasons.is_empty() {
        return object(StatusCode::OK, &json!({"status": "ready"}));
    }
    object(StatusCode::SERVICE_UNAVAILABLE, &json!({"status": "not ready", "reasons": reasons}))
}

async fn all_metrics(State(api): State<Api>) -> Response {
    ([(header::CONTENT_TYPE, metrics::MEDIA_TYPE)], metrics::text(&api.board)).into_response()
}

async fn pipelines(State(api): State<Api>) -> Response {
    let known = api.board.pipelines().into_iter().map(|(name, known)| {
        let mut object = json!({"name": name});
        if let (Some(object), Value::Object(facts)) = (object.as_object_mut(), json!(known)) {
            object.extend(facts);
            object.insert("lag_messages".to_owned(), json!(known.behind()));
        }
        object
    });
    let files = api.board.files().into_iter().map(|(file, failure)| json!({"file": file, "error": failure}));
    let answer = json!({"pipelines": known.collect::<Vec<_>>(), "broken_files": files.collect::<Vec<_>>()});
    object(StatusCode::OK, &answer)
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    pipeline: Option<String>,
    limit: Option<usize>,
}

async fn runs(State(api): State<Api>, which: Result<Query<Which>, QueryRejection>) -> Response {
    let which = match which {
        Ok(Query(which)) => which,
        Err(rejection) => return refusal(&rejection.body_text()),
    };
    let limit = which.limit.unwrap_or(RUNS);
    if !(1..=MOST_RUNS).contains(&limit) {
        return refusal(&format!("`limit` must be 1 to {MOST_RUNS}"));
    }
    let _permit = api.history.acquire().await;
    match api.store.runs(which.pipeline.as_deref(), limit).await {
        Ok(runs) => object(StatusCode::OK, &json!({"runs": runs})),
        Err(error) => failed(&error),
    }
}

async fn run(State(api): State<Api>, id: Result<Path<String>, PathRejection>) -> Response {
    let id = match id {
        Ok(Path(id)) => id,
        Err(rejection) => return refusal(&rejection.body_text()),
    };
    let _permit = api.history.acquire().await;
    match one_run(api.store.as_ref(), &id).await {
        Ok(Some(run)) => object(StatusCode::OK, &run),
        Ok(None) => object(StatusCode::NOT_FOUND, &json!({"error": format!("there is no run `{id}`"), "code": "not_found"})),
        Err(error) => failed(&error),
    }
}

/// A run with its newest events and receipts, and `cut` if there are older ones.
async fn one_run(store: &dyn Store, id: &str) -> Result<Option<Value>> {
    let Some((run, events)) = store.run_newest(id, NEWEST).await? else { return Ok(None) };
    let mut receipts = store.receipts(Some(&run.id), NEWEST + 1).await?;
    let cut = receipts.len() > NEWEST || events.first().is_some_and(|first| first.sequence > 1);
    receipts.truncate(NEWEST);
    receipts.sort_by(|a, b| (a.n, &a.table).cmp(&(b.n, &b.table)));
    let mut answer = json!({"run": run, "events": events, "receipts": receipts});
    if cut {
        answer["cut"] = json!(true);
    }
    Ok(Some(answer))
}

async fn nothing(uri: Uri) -> Response {
    let error = format!("there is nothing at {}", uri.path());
    object(StatusCode::NOT_FOUND, &json!({"error": error, "code": "not_found", "known": PATHS}))
}

async fn only_get(method: Method) -> Response {
    let error = format!("{method} is not understood here: this server only tells");
    let answer = object(StatusCode::METHOD_NOT_ALLOWED, &json!({"error": error, "code": "method_not_allowed"}));
    ([(header::ALLOW, "GET, HEAD")], answer).into_response()
}

fn refusal(why: &str) -> Response {
    object(StatusCode::BAD_REQUEST, &json!({"error": why, "code": code::USAGE.name}))
}

fn failed(error: &Error) -> Response {
    let status = match (error.kind(), error.retry()) {
        (Kind::Usage, _) => StatusCode::BAD_REQUEST,
        (_, Retry::Backoff) => StatusCode::SERVICE_UNAVAILABLE,
        (_, Retry::Never | Retry::AfterFix) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    object(status, &json!(crate::event::Failure::from(error)))
}

fn object(status: StatusCode, value: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")], format!("{value}\n"))
        .into_response()
}
