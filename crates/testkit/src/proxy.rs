//! A proxy between a client and a real server that fails on command.
//!
//! It speaks HTTP/1.1 and HTTP/2 without TLS and keeps the version a client uses, so gRPC passes through it too. Bodies
//! and trailers are streamed both ways. A [`Rule`] says which requests fail, and how.

mod answer;
mod forward;

use std::sync::{Arc, Mutex, MutexGuard};

use http::Uri;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Requests to fail, and how.
#[derive(Debug, Clone)]
pub struct Rule {
    /// What the request's line (`POST /bigquery/v2/projects/test/jobs?alt=json`, or `POST /package.Service/Method` for gRPC)
    /// contains. `*` stands for any text, `$` at the end for the end of the line: `POST */jobs$`.
    pub path: String,
    /// How many such requests pass before the first that fails.
    pub skip: usize,
    /// How many fail.
    pub times: usize,
    /// How they fail.
    pub what: What,
}

impl Rule {
    /// The next request that fits fails.
    pub fn once(path: &str, what: What) -> Self {
        Self { path: path.to_owned(), skip: 0, times: 1, what }
    }
}

/// A way to fail.
#[derive(Debug, Clone)]
pub enum What {
    /// Nothing is forwarded; this is the answer. For a gRPC error with details, refuse with status 200, the headers
    /// `content-type`, `grpc-status` and `grpc-status-details-bin`, and no body.
    Refuse {
        /// The HTTP status.
        status: u16,
        /// Headers of the answer.
        headers: Vec<(String, String)>,
        /// Its body.
        body: String,
    },
    /// Nothing is forwarded; the answer is a gRPC status and nothing else.
    RefuseGrpc {
        /// The gRPC status, 14 for "unavailable".
        code: i32,
        /// What it says.
        message: String,
    },
    /// The upstream answers, and the client does not learn it: its stream (HTTP/2) or connection (HTTP/1.1) breaks off. A
    /// call of gRPC passes this many messages of the answer first; what comes after them, a message or the end, is lost.
    /// A client of gRPC sees "internal".
    LoseAnswer {
        /// How many messages a call of gRPC still gets; for anything else it does not count.
        after_messages: usize,
    },
    /// The same, but the connection breaks with all the calls on it, which clients of gRPC take for "unavailable" or
    /// "unknown".
    LoseConnection {
        /// As for [`What::LoseAnswer`].
        after_messages: usize,
    },
    /// Nothing is forwarded, and the connection breaks.
    BreakBefore,
    /// The request waits at the gate, then it is forwarded.
    Hold(Gate),
}

/// Where requests wait until a test lets them pass. Clones are the same gate.
#[derive(Debug, Clone)]
pub struct Gate {
    arrivals: Arc<Semaphore>,
    passage: Arc<Semaphore>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { arrivals: Arc::new(Semaphore::new(0)), passage: Arc::new(Semaphore::new(0)) }
    }
}

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits until a request has arrived; each arrival is told once.
    pub async fn arrived(&self) {
        self.arrivals.acquire().await.expect("arrivals are never closed").forget();
    }

    /// Lets every request pass, those that wait and those to come.
    pub fn open(&self) {
        self.passage.close();
    }

    async fn pass(&self) {
        self.arrivals.add_permits(1);
        // There are no permits: this ends when the gate opens.
        let _ = self.passage.acquire().await;
    }
}

/// The proxy. It ends, with every connection, when this is dropped.
#[derive(Debug)]
pub struct Proxy {
    url: String,
    book: Arc<Book>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy to a server (`http://127.0.0.1:9050`) on a free port of this machine.
    ///
    /// # Panics
    /// If that is not the address of a server, or there is no port.
    pub async fn start(upstream: &str) -> Self {
        let uri: Uri = upstream.parse().expect("the upstream is a URL");
        let authority = uri.authority().expect("the upstream has a host and a port").clone();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("a bound listener has an address"));
        let book = Arc::new(Book::default());
        let route = forward::Route { authority, url: url.clone(), book: book.clone() };
        Self { url, book, task: tokio::spawn(forward::accept(listener, Arc::new(route))) }
    }

    /// Where clients find it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// From now on requests that fit fail. Where several rules fit a request, the first one that was armed counts.
    pub fn arm(&self, rule: Rule) {
        self.book.pages().rules.push(rule);
    }

    /// The line of each request that came, failed ones included: `GET /storage/v1/b?project=test`.
    pub fn requests(&self) -> Vec<String> {
        self.book.pages().requests.clone()
    }

    /// How many requests have failed (or were held) as a rule says. A rule that loses what follows the tenth message does
    /// not count before there is something to lose.
    pub fn fired(&self) -> usize {
        self.book.pages().fired
    }

    /// Forgets rules, requests and counts. What a rule has begun to do to a request goes on.
    pub fn clear(&self) {
        *self.book.pages() = Pages::default();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What is armed and what has happened.
#[derive(Debug, Default)]
struct Book(Mutex<Pages>);

#[derive(Debug, Default)]
struct Pages {
    rules: Vec<Rule>,
    requests: Vec<String>,
    fired: usize,
}

impl Book {
    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Notes a request and says how it fails.
    fn note(&self, line: String) -> Option<What> {
        let mut pages = self.pages();
        let mut fate = None;
        for rule in pages.rules.iter_mut().filter(|rule| rule.times > 0 && fits(&rule.path, &line)) {
            if rule.skip > 0 {
                rule.skip -= 1;
                continue;
            }
            rule.times -= 1;
            fate = Some(rule.what.clone());
            break;
        }
        pages.requests.push(line);
        fate
    }

    fn fire(&self) {
        self.pages().fired += 1;
    }
}

/// Whether a line contains what a pattern says.
fn fits(pattern: &str, line: &str) -> bool {
    let (pattern, to_the_end) = match pattern.strip_suffix('$') {
        Some(pattern) => (pattern, true),
        None => (pattern, false),
    };
    let mut parts: Vec<&str> = pattern.split('*').collect();
    let last = if to_the_end { parts.pop() } else { None };
    let mut rest = line;
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    last.is_none_or(|last| rest.ends_with(last))
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn a_pattern_is_found_anywhere_in_a_line() {
        let line = "POST /bigquery/v2/projects/test/jobs/1?alt=json";
        for pattern in ["", "POST", "/jobs/1", "POST *jobs*alt", "*", "alt=json$", "POST */jobs/*$", "$"] {
            assert!(fits(pattern, line), "{pattern}");
        }
        for pattern in ["GET", "/jobs$", "alt*POST", "jobs*jobs", "POST *jobs/1$"] {
            assert!(!fits(pattern, line), "{pattern}");
        }
    }
}
