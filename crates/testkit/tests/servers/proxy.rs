//! Each way to fail, seen by a client of HTTP/1.1, of HTTP/2, and of gRPC.

use std::convert::Infallible;
use std::time::Duration;

use futures::StreamExt;
use futures::channel::mpsc::{UnboundedSender, unbounded};
use http::{Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use longshore_testkit::proxy::{Gate, Proxy, Rule, What};
use reqwest::Client;
use tokio::net::TcpStream;

use crate::upstream::Upstream;

async fn start() -> (Upstream, Proxy) {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&upstream.url).await;
    (upstream, proxy)
}

fn clients() -> [(&'static str, Client); 2] {
    let builder = || Client::builder().no_proxy().timeout(Duration::from_secs(20));
    [("HTTP/1.1", builder().build().unwrap()), ("HTTP/2.0", builder().http2_prior_knowledge().build().unwrap())]
}

#[tokio::test]
async fn requests_pass_in_the_version_of_the_client() {
    let (upstream, proxy) = start().await;
    for (version, client) in clients() {
        let host = upstream.url.strip_prefix("http://").unwrap();
        for _ in 0..2 {
            let answer = client.post(format!("{}/a/b?c=d", proxy.url())).body("hello").send().await.unwrap();
            assert_eq!(answer.headers()["location"], format!("{}/next?part=2", proxy.url()));
            assert_eq!(answer.text().await.unwrap(), format!("{version} {host} hello"));
        }
    }
    assert_eq!(proxy.requests(), vec!["POST /a/b?c=d"; 4]);
    assert_eq!(proxy.fired(), 0);
}

#[tokio::test]
async fn a_large_body_passes_both_ways() {
    let (_upstream, proxy) = start().await;
    for (_, client) in clients() {
        let body = "x".repeat(5_000_000);
        let answer = client.post(proxy.url()).body(body.clone()).send().await.unwrap().text().await.unwrap();
        assert!(answer.ends_with(&body));
    }
}

#[tokio::test]
async fn a_refusal_is_not_forwarded() {
    let (upstream, proxy) = start().await;
    for (_, client) in clients() {
        proxy.clear();
        let what = What::Refuse { status: 503, headers: vec![("retry-after".into(), "1".into())], body: "later".into() };
        proxy.arm(Rule { skip: 1, times: 2, ..Rule::once("POST /jobs$", what) });
        let before = upstream.seen().len();
        let mut statuses = Vec::new();
        for path in ["/jobs", "/jobs/1", "/jobs", "/jobs", "/jobs"] {
            let answer = client.post(format!("{}{path}", proxy.url())).body("x".repeat(1_000_000)).send().await.unwrap();
            statuses.push(answer.status().as_u16());
            if answer.status() == 503 {
                assert_eq!(answer.headers()["retry-after"], "1");
                assert_eq!(answer.text().await.unwrap(), "later");
            }
        }
        assert_eq!(statuses, [200, 200, 503, 503, 200]);
        assert_eq!(upstream.seen().len() - before, 3);
        assert_eq!((proxy.fired(), proxy.requests().len()), (2, 5));
    }
}

#[tokio::test]
async fn an_answer_is_lost_after_the_request_was_served() {
    let (upstream, proxy) = start().await;
    for (version, client) in clients() {
        for what in [What::LoseAnswer { after_messages: 0 }, What::LoseConnection { after_messages: 0 }] {
            proxy.clear();
            let before = upstream.seen().len();
            proxy.arm(Rule::once("PUT", what));
            client.put(proxy.url()).body("x").send().await.expect_err(version);
            assert_eq!((proxy.fired(), upstream.seen().len() - before), (1, 1));
            client.put(proxy.url()).body("y").send().await.expect(version);
        }
    }
}

#[tokio::test]
async fn a_connection_that_breaks_before_forwards_nothing() {
    let (upstream, proxy) = start().await;
    for (version, client) in clients() {
        proxy.clear();
        let before = upstream.seen().len();
        proxy.arm(Rule::once("/a", What::BreakBefore));
        client.post(format!("{}/a", proxy.url())).body("x").send().await.expect_err(version);
        assert_eq!((proxy.fired(), upstream.seen().len() - before), (1, 0));
        client.post(format!("{}/a", proxy.url())).body("x").send().await.expect(version);
    }
}

#[tokio::test]
async fn a_request_waits_at_a_gate() {
    let (upstream, proxy) = start().await;
    let (_, client) = &clients()[0];
    let gate = Gate::new();
    proxy.arm(Rule::once("/slow", What::Hold(gate.clone())));
    let held = tokio::spawn(client.get(format!("{}/slow", proxy.url())).send());
    gate.arrived().await;
    client.get(format!("{}/quick", proxy.url())).send().await.unwrap();
    assert_eq!((proxy.fired(), upstream.seen().len()), (1, 1));
    gate.open();
    assert_eq!(held.await.unwrap().unwrap().status(), 200);
    assert_eq!(upstream.seen().len(), 2);
}

#[tokio::test]
async fn without_an_upstream_the_answer_says_so() {
    let free = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap().local_addr().unwrap();
    let proxy = Proxy::start(&format!("http://{free}")).await;
    for (_, client) in clients() {
        assert_eq!(client.get(proxy.url()).send().await.unwrap().status(), 502);
    }
}

/// One call of gRPC, as bytes.
struct Call {
    send: UnboundedSender<Result<Frame<Bytes>, Infallible>>,
    answer: Response<Incoming>,
}

/// A message with its header.
fn message(text: &str) -> Bytes {
    let mut bytes = vec![0];
    bytes.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
    bytes.extend(text.as_bytes());
    bytes.into()
}

impl Call {
    async fn open(url: &str, path: &str) -> Self {
        let stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).await.unwrap();
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let (send, body) = unbounded();
        let request = Request::post(format!("{url}{path}")).header("content-type", "application/grpc").header("te", "trailers");
        let answer = sender.send_request(request.body(StreamBody::new(body)).unwrap()).await.unwrap();
        Self { send, answer }
    }

    fn say(&self, bytes: Bytes) {
        self.send.unbounded_send(Ok(Frame::data(bytes))).unwrap();
    }

    /// What comes until the end, or until it breaks off: the bytes, and the status that was told.
    async fn rest(mut self) -> (Bytes, Result<String, String>) {
        self.send.close_channel();
        let (mut bytes, mut status) = (Vec::new(), String::new());
        while let Some(frame) = self.answer.body_mut().frame().await {
            match frame {
                Ok(frame) if frame.is_data() => bytes.extend(frame.into_data().unwrap()),
                Ok(frame) => status = frame.into_trailers().unwrap()["grpc-status"].to_str().unwrap().to_owned(),
                Err(e) => return (bytes.into(), Err(format!("{e:?}"))),
            }
        }
        (bytes.into(), Ok(status))
    }

    async fn hear(&mut self) -> Bytes {
        self.answer.body_mut().frame().await.unwrap().unwrap().into_data().unwrap()
    }
}

#[tokio::test]
async fn a_stream_of_grpc_passes_message_by_message() {
    let (_upstream, proxy) = start().await;
    let mut call = Call::open(proxy.url(), "/grpc/echo").await;
    for text in ["one", "", "three"] {
        call.say(message(text));
        assert_eq!(call.hear().await, message(text));
    }
    assert_eq!(call.rest().await, (Bytes::new(), Ok("0".to_owned())));
    assert_eq!(proxy.requests(), ["POST /grpc/echo"]);
}

#[tokio::test]
async fn a_call_of_grpc_is_refused_with_a_status_alone() {
    let (upstream, proxy) = start().await;
    proxy.arm(Rule::once("/grpc/", What::RefuseGrpc { code: 14, message: "50% of ä".into() }));
    let call = Call::open(proxy.url(), "/grpc/echo").await;
    assert_eq!(call.answer.headers()["grpc-status"], "14");
    assert_eq!(call.answer.headers()["grpc-message"], "50%25 of %C3%A4");
    assert!(hyper::body::Body::is_end_stream(call.answer.body()));
    assert_eq!((proxy.fired(), upstream.seen().len()), (1, 0));
}

#[tokio::test]
async fn a_stream_of_grpc_breaks_off_after_some_messages() {
    let (upstream, proxy) = start().await;
    for what in [What::LoseAnswer { after_messages: 2 }, What::LoseConnection { after_messages: 2 }] {
        proxy.clear();
        let before = upstream.seen().len();
        let reset = matches!(what, What::LoseAnswer { .. });
        proxy.arm(Rule::once("/grpc/echo", what));
        let mut call = Call::open(proxy.url(), "/grpc/echo").await;
        for text in ["one", "two"] {
            call.say(message(text));
            assert_eq!(call.hear().await, message(text));
        }
        assert_eq!(proxy.fired(), 0);
        call.say(message("three"));
        let (bytes, end) = call.rest().await;
        assert_eq!(bytes, Bytes::new());
        assert_eq!(end.unwrap_err().contains("INTERNAL_ERROR"), reset);
        assert_eq!((proxy.fired(), upstream.seen().len() - before), (1, 3));
    }
}

#[tokio::test]
async fn messages_that_come_in_one_piece_are_told_apart() {
    let (_upstream, proxy) = start().await;
    for what in [What::LoseAnswer { after_messages: 2 }, What::LoseConnection { after_messages: 2 }] {
        proxy.clear();
        proxy.arm(Rule::once("/grpc/", what));
        let call = Call::open(proxy.url(), "/grpc/all-at-once").await;
        for text in ["one", "two", "three", "four"] {
            call.say(message(text));
        }
        let (bytes, end) = call.rest().await;
        assert_eq!(bytes, [message("one"), message("two")].concat());
        assert!(end.is_err());
        assert_eq!(proxy.fired(), 1);
    }
}

#[tokio::test]
async fn the_end_of_a_call_is_lost_too() {
    let (_upstream, proxy) = start().await;
    proxy.arm(Rule { times: 2, ..Rule::once("/grpc/echo", What::LoseAnswer { after_messages: 1 }) });
    let call = Call::open(proxy.url(), "/grpc/echo").await;
    call.say(message("one"));
    let (bytes, end) = call.rest().await;
    assert_eq!((bytes, end.is_err(), proxy.fired()), (message("one"), true, 1));
    // There is nothing to lose behind the first message of a call that has none.
    let call = Call::open(proxy.url(), "/grpc/echo").await;
    assert_eq!(call.rest().await, (Bytes::new(), Ok("0".to_owned())));
    assert_eq!(proxy.fired(), 1);
}

#[tokio::test]
async fn streams_side_by_side_do_not_disturb_each_other() {
    let (_upstream, proxy) = start().await;
    proxy.arm(Rule { skip: 3, ..Rule::once("/grpc/echo", What::LoseAnswer { after_messages: 0 }) });
    let mut calls = Vec::new();
    for _ in 0..6 {
        calls.push(Call::open(proxy.url(), "/grpc/echo").await);
    }
    for call in &calls {
        call.say(message("x"));
    }
    let ends: Vec<bool> = futures::stream::iter(calls).then(|call| async { call.rest().await.1.is_ok() }).collect().await;
    assert_eq!(ends, [true, true, true, false, true, true]);
}
