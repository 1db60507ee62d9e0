//! A server that takes rows for BigQuery and throws them away, so that a benchmark measures who sends them:
//! `null_bigquery [--tls CERTIFICATE KEY]`, both files in PEM.
//!
//! The first line of its output says as JSON where it is: `plain` and, with a certificate, `tls` (for the name `localhost`)
//! answer REST, Cloud Storage and gRPC alike. `GET /stats` says what has come and what that cost. It ends with its standard input.
//!
//! It keeps names and counts and no rows. Every dataset and bucket exists and lies in the US, every query is answered with no
//! rows, every job is done at once. Offsets are checked, so that rows that are lost on the way show.

mod grpc;
mod rest;

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::Read as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, crypto};
use tonic::body::Body;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Where the methods of the Storage Write API are.
const WRITE: &str = "/google.cloud.bigquery.storage.v1.BigQueryWrite/";

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (acceptor, blocked) = match arguments.as_slice() {
        [] => (None, None),
        ["--tls", certificate, key] => (Some(acceptor(certificate, key)?), None),
        ["--blocked", table] => (None, Some(format!("/tables/{table}"))),
        _ => return Err("usage: null_bigquery [--tls CERTIFICATE KEY | --blocked TABLE]".into()),
    };
    let shared = Arc::new(Mutex::new(State { blocked, ..State::default() }));
    let plain = TcpListener::bind("127.0.0.1:0").await?;
    let mut places = json!({"plain": format!("http://{}", plain.local_addr()?)});
    if let Some(acceptor) = acceptor {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        places["tls"] = json!(format!("https://localhost:{}", listener.local_addr()?.port()));
        tokio::spawn(take(listener, Some(acceptor), place(&places, "tls", &shared)));
    }
    tokio::spawn(take(plain, None, place(&places, "plain", &shared)));
    println!("{places}");
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    // Connections may still be open, and nobody is served any more.
    std::process::exit(0);
}

fn acceptor(certificate: &str, key: &str) -> Result<TlsAcceptor, Error> {
    let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(key)?;
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder.with_no_client_auth().with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// What a call is about: the server's own address as the client knows it, and what is kept.
#[derive(Clone)]
struct Place {
    address: Arc<str>,
    shared: Arc<Mutex<State>>,
}

fn place(places: &Value, name: &str, shared: &Arc<Mutex<State>>) -> Place {
    Place { address: places[name].as_str().unwrap_or_default().into(), shared: Arc::clone(shared) }
}

impl Place {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct State {
    /// Tables' resources, by their path.
    tables: HashMap<String, Value>,
    /// How many rows each write stream has.
    streams: HashMap<String, i64>,
    /// What is on its way into a bucket, by the session's id: the object's name and its bytes so far.
    uploads: HashMap<String, (String, u64)>,
    seen: Seen,
    /// The end of the path of a table in which no row becomes visible.
    blocked: Option<String>,
}

/// What has come.
#[derive(Default)]
struct Seen {
    appends: u64,
    rows: u64,
    append_bytes: u64,
    uploads: u64,
    upload_bytes: u64,
}

/// User and system CPU seconds of this process, in hundredths.
fn cpu_seconds() -> Result<f64, Error> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The name of the program, in brackets, may hold spaces.
    let (_, rest) = stat.rsplit_once(") ").ok_or("/proc/self/stat has another form")?;
    let ticks: Vec<u64> = rest.split(' ').skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
    // Linux counts in hundredths of a second there, whatever its own clock does.
    Ok(ticks.iter().sum::<u64>() as f64 / 100.0)
}

async fn take(listener: TcpListener, acceptor: Option<TlsAcceptor>, place: Place) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        _ = stream.set_nodelay(true);
        let (acceptor, place) = (acceptor.clone(), place.clone());
        tokio::spawn(async move {
            match acceptor {
                None => serve(TokioIo::new(stream), place).await,
                Some(acceptor) => match acceptor.accept(stream).await {
                    Ok(stream) => serve(TokioIo::new(stream), place).await,
                    Err(error) => eprintln!("a client was lost: {error}"),
                },
            }
        });
    }
}

async fn serve(stream: impl Read + Write + Unpin + Send + 'static, place: Place) {
    let service = service_fn(move |request| answer(place.clone(), request));
    // A client that goes away is done.
    _ = auto::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await;
}

async fn answer(place: Place, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    let answered = match path.strip_prefix(WRITE) {
        Some(method) => return Ok(grpc::write(place, method, request).await),
        None => rest::rest(place, &path, request).await,
    };
    Ok(answered.unwrap_or_else(|error| rest::refusal(500, "internalError", &error.to_string())))
}
