//! A small server for the proxy to stand in front of: it counts what reaches it and answers in the client's version.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// The server and what has reached it to the end.
pub struct Upstream {
    pub url: String,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Upstream {
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (noted, own) = (seen.clone(), url.clone());
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (noted, own) = (noted.clone(), own.clone());
                let service = service_fn(move |request| answer(request, noted.clone(), own.clone()));
                tokio::spawn(async move {
                    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { url, seen }
    }

    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

async fn answer(request: Request<Incoming>, seen: Arc<Mutex<Vec<String>>>, own: String) -> Result<Response<Body>, Infallible> {
    let version = request.version();
    let host = request.headers().get("host").map(|host| host.to_str().unwrap().to_owned());
    let host = host.or_else(|| request.uri().authority().map(ToString::to_string)).unwrap();
    let path = request.uri().path().to_owned();
    if path.starts_with("/grpc/") {
        return Ok(echo(path, request.into_body(), seen));
    }
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let text = format!("{version:?} {host} {}", String::from_utf8_lossy(&body));
    seen.lock().unwrap().push(format!("{path} {text}"));
    let mut answer = Response::new(Full::new(Bytes::from(text)).boxed_unsync());
    answer.headers_mut().insert("location", HeaderValue::from_str(&format!("{own}/next?part=2")).unwrap());
    Ok(answer)
}

/// Each message comes back as it came; then a status. `/grpc/all-at-once` answers when it has read everything.
fn echo(path: String, body: Incoming, seen: Arc<Mutex<Vec<String>>>) -> Response<Body> {
    let frames = futures::stream::unfold((body, false), move |(mut body, done)| {
        let (seen, path) = (seen.clone(), path.clone());
        async move {
            if done {
                return None;
            }
            if path == "/grpc/all-at-once" {
                let all = (&mut body).collect().await.unwrap().to_bytes();
                seen.lock().unwrap().push(format!("{path} {} bytes", all.len()));
                return Some((Ok(Frame::data(all)), (body, true)));
            }
            match body.frame().await {
                Some(Ok(frame)) if frame.is_data() => {
                    let data = frame.into_data().unwrap();
                    // An empty one is how some clients end.
                    if !data.is_empty() {
                        seen.lock().unwrap().push(format!("{path} {} bytes", data.len()));
                    }
                    Some((Ok(Frame::data(data)), (body, false)))
                }
                _ => {
                    let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("0"))]);
                    Some((Ok(Frame::trailers(trailers)), (body, true)))
                }
            }
        }
    });
    let mut answer = Response::new(StreamBody::new(frames).boxed_unsync());
    answer.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    answer
}
