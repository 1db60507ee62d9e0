//! A schema registry for tests: answers by heart, and fails on command.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

#[derive(Default)]
struct State {
    answers: HashMap<String, (u16, String)>,
    /// What was asked for, and as whom.
    asked: Vec<(String, Option<String>)>,
    /// The status that everything is answered with.
    fault: Option<u16>,
}

/// The server. It lives as long as the test's process.
pub struct Server {
    pub url: String,
    state: Arc<Mutex<State>>,
}

impl Server {
    pub fn start() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("not blocking");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let shared = state.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                loop {
                    let (stream, _) = listener.accept().await.expect("a connection");
                    let state = shared.clone();
                    tokio::spawn(async move {
                        let answer = service_fn(move |request| {
                            let answer = answer(&state, &request);
                            async move { Ok::<_, Infallible>(answer) }
                        });
                        let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
                    });
                }
            });
        });
        Self { url, state }
    }

    fn set(&self, path: &str, status: u16, body: &Value) {
        self.state.lock().expect("not poisoned").answers.insert(path.to_owned(), (status, body.to_string()));
    }

    /// Gives a number to a schema. `references` are names and subjects, of version 1.
    pub fn register(&self, id: u32, kind: &str, schema: &str, references: &[(&str, &str)]) {
        self.set(&format!("/schemas/ids/{id}"), 200, &body(kind, schema, references));
    }

    /// Gives version 1 of a subject a schema.
    pub fn subject(&self, subject: &str, kind: &str, schema: &str, references: &[(&str, &str)]) {
        let subject = subject.replace('/', "%2F");
        self.set(&format!("/subjects/{subject}/versions/1"), 200, &body(kind, schema, references));
    }

    /// Answers everything with this status, until it is told otherwise.
    pub fn fail(&self, status: Option<u16>) {
        self.state.lock().expect("not poisoned").fault = status;
    }

    /// What was asked for so far.
    pub fn asked(&self) -> Vec<(String, Option<String>)> {
        self.state.lock().expect("not poisoned").asked.clone()
    }
}

fn body(kind: &str, schema: &str, references: &[(&str, &str)]) -> Value {
    let references: Vec<Value> =
        references.iter().map(|(name, subject)| json!({"name": name, "subject": subject, "version": 1})).collect();
    let mut body = json!({"schema": schema, "references": references});
    // Avro's is left out, as registries do.
    if kind != "AVRO" {
        body["schemaType"] = kind.into();
    }
    body
}

fn answer(state: &Mutex<State>, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let mut state = state.lock().expect("not poisoned");
    let path = request.uri().path().to_owned();
    let who = request.headers().get("authorization").map(|value| value.to_str().expect("text").to_owned());
    state.asked.push((path.clone(), who));
    let missing = || (404, json!({"error_code": 40403, "message": "Schema not found"}).to_string());
    let (status, body) = match state.fault {
        Some(404) => (404, "<html>no such page</html>".to_owned()),
        Some(status) => (status, json!({"error_code": status, "message": "on purpose"}).to_string()),
        None => state.answers.get(&path).cloned().unwrap_or_else(missing),
    };
    Response::builder().status(status).body(Full::new(Bytes::from(body))).expect("an answer")
}

/// A content with the number of its schema before it.
pub fn framed(id: u32, content: &[u8]) -> Vec<u8> {
    [&[0], &id.to_be_bytes()[..], content].concat()
}
