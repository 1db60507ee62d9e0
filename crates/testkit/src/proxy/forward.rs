//! Connections, and the way of one request through the proxy.

use std::future;
use std::sync::Arc;

use http::header::{CONNECTION, CONTENT_TYPE, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION, TRANSFER_ENCODING};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, StatusCode, Uri, Version};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::answer::{self, Body, Cut, Fault};
use super::{Book, What};

/// Where requests go.
pub struct Route {
    pub authority: Authority,
    /// Our own address.
    pub url: String,
    pub book: Arc<Book>,
}

/// Serves every connection until it is dropped.
pub async fn accept(listener: TcpListener, route: Arc<Route>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        // Small answers leave at once.
        let _ = stream.set_nodelay(true);
        connections.spawn(serve(stream, route.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, route: Arc<Route>) {
    let breaks = Arc::new(Notify::new());
    let service = service_fn(|request| answer(request, route.clone(), breaks.clone()));
    let builder = auto::Builder::new(TokioExecutor::new());
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        _ = connection => {}
        // The connection is dropped, and its socket with it.
        () = breaks.notified() => {}
    }
}

/// An error breaks off the stream of a client with HTTP/2, and the connection of one with HTTP/1.1.
async fn answer(request: Request<Incoming>, route: Arc<Route>, breaks: Arc<Notify>) -> Result<Response<Body>, Fault> {
    let line = format!("{} {}", request.method(), path(request.uri()));
    match route.book.note(line) {
        None => Ok(route.forward(request).await),
        Some(What::Hold(gate)) => {
            route.book.fire();
            gate.pass().await;
            Ok(route.forward(request).await)
        }
        Some(What::Refuse { status, headers, body }) => {
            // A client that still sends would see a broken pipe and not the answer. A stream of gRPC has no end.
            if !is_grpc(request.headers()) {
                drain(request.into_body()).await;
            }
            route.book.fire();
            Ok(answer::refusal(status, &headers, body))
        }
        Some(What::RefuseGrpc { code, message }) => {
            route.book.fire();
            Ok(answer::grpc_refusal(code, &message))
        }
        Some(What::BreakBefore) => {
            route.book.fire();
            breaks.notify_one();
            future::pending().await
        }
        Some(What::LoseAnswer { after_messages }) => lose(&route, request, after_messages, None).await,
        Some(What::LoseConnection { after_messages }) => lose(&route, request, after_messages, Some(breaks)).await,
    }
}

/// Lets the upstream answer, and the client not learn it. With `breaks` its whole connection goes.
async fn lose(
    route: &Route,
    request: Request<Incoming>,
    after_messages: usize,
    breaks: Option<Arc<Notify>>,
) -> Result<Response<Body>, Fault> {
    let answer = route.forward(request).await;
    let (head, body) = answer.into_parts();
    let streamed = is_grpc(&head.headers) && !body.is_end_stream();
    if streamed {
        let cut = Cut::new(body, after_messages, route.book.clone(), breaks);
        return Ok(Response::from_parts(head, cut.boxed_unsync()));
    }
    // A status of gRPC without any message, where some were to pass first, is none of those that are to be lost.
    if is_grpc(&head.headers) && after_messages > 0 {
        return Ok(Response::from_parts(head, body));
    }
    drain(body).await;
    route.book.fire();
    match breaks {
        None => Err("the answer is lost".into()),
        Some(breaks) => {
            breaks.notify_one();
            future::pending().await
        }
    }
}

impl Route {
    /// The upstream's answer. Every request has a connection of its own there: what breaks one harms no other.
    async fn forward(&self, mut request: Request<Incoming>) -> Response<Body> {
        let version = request.version();
        let path = path(request.uri());
        let headers = request.headers_mut();
        strip(headers);
        // The body's length is known, or it goes in chunks again.
        headers.remove(EXPECT);
        let uri = if version == Version::HTTP_2 {
            headers.remove(HOST);
            Uri::builder().scheme(Scheme::HTTP).authority(self.authority.clone()).path_and_query(path).build()
        } else {
            let host = HeaderValue::from_str(self.authority.as_str()).expect("an authority is a header value");
            headers.insert(HOST, host);
            Uri::builder().path_and_query(path).build()
        };
        *request.uri_mut() = uri.expect("a path that came is a path that goes");
        match self.send(request, version).await {
            Ok(answer) => self.back(answer),
            Err(why) => answer::refusal(StatusCode::BAD_GATEWAY.as_u16(), &[], format!("the proxy got no answer: {why}")),
        }
    }

    async fn send(&self, request: Request<Incoming>, version: Version) -> Result<Response<Incoming>, Fault> {
        let stream = TcpStream::connect(self.authority.as_str()).await?;
        stream.set_nodelay(true)?;
        let io = TokioIo::new(stream);
        if version == Version::HTTP_2 {
            let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
            tokio::spawn(connection);
            return Ok(sender.send_request(request).await?);
        }
        let (mut sender, connection) = http1::handshake(io).await?;
        tokio::spawn(connection);
        Ok(sender.send_request(request).await?)
    }

    /// The answer as the client gets it: what it is sent to goes through us again (the next part of an upload, mostly).
    fn back(&self, answer: Response<Incoming>) -> Response<Body> {
        let (mut head, body) = answer.into_parts();
        strip(&mut head.headers);
        let upstream = format!("http://{}/", self.authority);
        let there = head.headers.get(LOCATION).and_then(|value| value.to_str().ok());
        if let Some(rest) = there.and_then(|there| there.strip_prefix(&upstream)) {
            let here = HeaderValue::from_str(&format!("{}/{rest}", self.url)).expect("a header value stays one");
            head.headers.insert(LOCATION, here);
        }
        Response::from_parts(head, body.map_err(Fault::from).boxed_unsync())
    }
}

fn path(uri: &Uri) -> PathAndQuery {
    uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"))
}

/// Removes what is about one connection only.
fn strip(headers: &mut HeaderMap) {
    for name in [CONNECTION, TRANSFER_ENCODING, HeaderName::from_static("keep-alive")] {
        headers.remove(name);
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// Reads a body to its end, or to where it breaks.
async fn drain<B: hyper::body::Body + Unpin>(mut body: B) {
    while let Some(Ok(_)) = body.frame().await {}
}
