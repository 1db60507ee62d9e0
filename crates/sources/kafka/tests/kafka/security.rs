//! TLS, passwords, certificates, tokens, and who may do what.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use longshore_core::Error;
use longshore_core::stream::StreamSource;
use longshore_kafka::KafkaSource;
use longshore_testkit::services::kafka::{ALICE, BOB, CAROL, ERIN, User};
use longshore_testkit::services::{Kafka, KafkaOptions};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::support::{Books, Told, Worker, config, context, fresh, record};

/// A broker with TLS and passwords, shared by these tests.
async fn secured() -> Option<&'static Kafka> {
    static SECURED: OnceCell<Option<Kafka>> = OnceCell::const_new();
    let options = KafkaOptions { tls_sasl: true, ..KafkaOptions::default() };
    SECURED.get_or_init(|| Kafka::start_with(options)).await.as_ref()
}

fn sasl(user: User) -> Value {
    json!({"mechanism": user.mechanism, "user": user.name, "password": user.password})
}

/// Reads ten records with these settings.
async fn reads(kafka: &Kafka, brokers: &str, more: Value) {
    let topic = fresh("secure");
    kafka.create_topic(&topic, 1, &[]).await;
    kafka.produce(&topic, (0..10).map(record)).await;
    let books = Arc::new(Books::default());
    let mut worker = Worker::new(config(brokers, &topic, more), &topic, &books).await;
    worker.catch_up().await;
    assert_eq!(books.len(), 10);
    worker.close().await;
}

/// The error of a subscription with these settings, or of its reading.
async fn refused(kafka: &Kafka, topic: &str, more: Value) -> Error {
    let source = KafkaSource::new(config(&kafka.brokers(), topic, more)).expect("settings");
    let books = Arc::new(Books::default());
    let told = Arc::new(Told::default());
    let error = match source.subscribe(&context(topic, &told), books.clone()).await {
        Err(error) => error,
        Ok(subscription) => Worker { subscription, books, told }.error().await,
    };
    assert!(error.hint_text().is_some(), "{error:?}");
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn every_password_mechanism_reads_over_tls() {
    let Some(kafka) = secured().await else { return };
    for user in [ALICE, BOB] {
        reads(kafka, &kafka.brokers(), json!({"tls": {"ca": kafka.ca()}, "sasl": sasl(user)})).await;
    }
    // The authority's certificate as text, as it comes from a variable.
    let ca = std::fs::read_to_string(kafka.ca()).expect("a file");
    reads(kafka, &kafka.brokers(), json!({"tls": {"ca": ca}, "sasl": sasl(ALICE)})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_with_a_certificate_needs_no_password() {
    let Some(kafka) = secured().await else { return };
    let tls = json!({"ca": kafka.ca(), "certificate": kafka.client_certificate(), "key": kafka.client_key()});
    reads(kafka, &kafka.mutual(), json!({"tls": tls})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_refused_hears_the_brokers_words() {
    let Some(kafka) = secured().await else { return };
    let topic = fresh("refused");
    kafka.create_topic(&topic, 1, &[]).await;
    let wrong = User { password: "wrong", ..ALICE };
    let error = refused(kafka, &topic, json!({"tls": {"ca": kafka.ca()}, "sasl": sasl(wrong)})).await;
    assert_eq!(error.code(), "kafka_authentication");
    assert!(error.to_string().contains("invalid credentials") && !format!("{error:?}").contains("wrong"), "{error:?}");
    let error = refused(kafka, &topic, json!({"tls": {"ca": kafka.other_ca()}, "sasl": sasl(ALICE)})).await;
    assert_eq!(error.code(), "kafka_tls");
    assert!(error.to_string().contains("certificate"), "{error}");
    // She may log in, and see nothing.
    let error = refused(kafka, &topic, json!({"tls": {"ca": kafka.ca()}, "sasl": sasl(CAROL)})).await;
    assert!(["kafka_denied", "kafka_topic_unknown"].contains(&error.code()), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_says_what_a_run_would_meet() {
    let Some(kafka) = secured().await else { return };
    let topic = fresh("inspected");
    kafka.create_topic(&topic, 3, &[]).await;
    kafka.produce(&topic, (0..10).map(record)).await;
    let inspect = async |user: User| {
        let settings = config(&kafka.brokers(), &topic, json!({"tls": {"ca": kafka.ca()}, "sasl": sasl(user)}));
        KafkaSource::new(settings).expect("settings").inspect(&context("p", &Arc::new(Told::default()))).await
    };
    let lines = inspect(ALICE).await.expect("can be reached");
    assert!(lines[0].contains(kafka.cluster_id()), "{lines:?}");
    assert!(lines.contains(&format!("topic {topic}: 3 partitions with 10 offsets")), "{lines:?}");
    let error = inspect(User { password: "wrong", ..BOB }).await.expect_err("refused");
    assert_eq!(error.code(), "kafka_authentication");
}

/// An endpoint that gives unsigned tokens for ERIN, if it is asked rightly; how often it was asked.
async fn token_endpoint(lifetime: u64) -> (String, Arc<AtomicU32>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}/token", listener.local_addr().expect("an address"));
    let asked = Arc::new(AtomicU32::new(0));
    let count = asked.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let count = count.clone();
            let service = hyper::service::service_fn(move |request| answer(request, lifetime, count.clone()));
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    (address, asked)
}

async fn answer(request: Request<Incoming>, lifetime: u64, count: Arc<AtomicU32>) -> Result<Response<Full<Bytes>>, Infallible> {
    let authorization =
        request.headers().get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    // `longshore:hush`.
    if authorization != "Basic bG9uZ3Nob3JlOmh1c2g=" || &*body != b"grant_type=client_credentials&scope=kafka+read" {
        let refusal = Response::builder().status(401).body(Full::default());
        return Ok(refusal.expect("a response"));
    }
    count.fetch_add(1, Ordering::Relaxed);
    let now = chrono::Utc::now().timestamp();
    let part = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = json!({"sub": ERIN, "iat": now, "exp": now + lifetime as i64});
    let token = format!("{}.{}.", part(json!({"alg": "none"})), part(claims));
    let body = json!({"access_token": token, "token_type": "bearer", "expires_in": lifetime}).to_string();
    Ok(Response::new(Full::from(body)))
}

fn oauth(endpoint: &str, secret: &str) -> Value {
    json!({
        "mechanism": "OAUTHBEARER", "token_endpoint": endpoint, "client_id": "longshore", "client_secret": secret, "scope": "kafka read",
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_asked_for_and_again_before_they_end() {
    let Some(kafka) = secured().await else { return };
    let (endpoint, asked) = token_endpoint(10).await;
    let topic = fresh("tokens");
    kafka.create_topic(&topic, 1, &[]).await;
    kafka.produce(&topic, (0..10).map(record)).await;
    let books = Arc::new(Books::default());
    let settings = config(&kafka.brokers(), &topic, json!({"tls": {"ca": kafka.ca()}, "sasl": oauth(&endpoint, "hush")}));
    let mut worker = Worker::new(settings, &topic, &books).await;
    worker.until(10).await;
    tokio::time::sleep(std::time::Duration::from_secs(12)).await;
    kafka.produce(&topic, (10..20).map(record)).await;
    worker.until(20).await;
    assert!(asked.load(Ordering::Relaxed) >= 2);
    worker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_gives_no_token_is_named() {
    let Some(kafka) = secured().await else { return };
    let (endpoint, _) = token_endpoint(10).await;
    let topic = fresh("no-token");
    kafka.create_topic(&topic, 1, &[]).await;
    let error = refused(kafka, &topic, json!({"tls": {"ca": kafka.ca()}, "sasl": oauth(&endpoint, "wrong")})).await;
    assert_eq!(error.code(), "kafka_token");
    assert!(error.to_string().contains("401"), "{error}");
}
