//! A server that speaks Pub/Sub: a null server, which sends messages without end as fast as they are taken, and a fault server, in memory.
//!
//! It keeps to what Google documents: flow control of each stream, leases that end, ack ids of the last delivery alone, ordering keys that
//! come again with all that follow, results for each id where a subscription delivers exactly once. And it fails on command: a [`Rule`] says
//! which call goes wrong, a [`Fault`] how.
//!
//! What it does not do: unary pull, push, filters, schemas, snapshots, seek, retention, dead-letter policies, permissions.

mod backlog;
mod fault;
mod grpc;
mod protocol;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};

use self::backlog::Backlog;

pub use self::fault::{Fault, Rule};
pub use self::protocol::Message;

/// What a subscription is.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The topic whose messages it gets from now on, in full.
    pub topic: String,
    /// Acknowledgements are confirmed for each id.
    pub exactly_once: bool,
    /// The messages of an ordering key come in order.
    pub ordered: bool,
    /// It pushes to this address, and cannot be read.
    pub push: String,
}

/// Messages that are made when they are sent: JSON objects with `id` (from 0), `kind`, `amount` and `text`, and the attributes
/// `destination_table` (`table_0`, `table_1` ...) and `origin`.
#[derive(Debug, Clone)]
pub struct Generated {
    /// How many.
    pub messages: u64,
    /// For how many tables, in turn.
    pub tables: u32,
    /// Bytes of each content.
    pub bytes: usize,
    /// How many a second; as many as are taken if not given.
    pub per_second: Option<u64>,
}

/// The server. Clones are the same one; it stops when the last of them is dropped.
#[derive(Clone)]
pub struct FakePubSub {
    running: Arc<Running>,
}

struct Running {
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.server.abort();
    }
}

#[derive(Default)]
struct State {
    subscriptions: HashMap<String, Backlog>,
    topics: HashMap<String, Vec<Message>>,
    rules: Vec<Rule>,
    calls: HashMap<String, usize>,
    streams: u64,
}

/// What all connections share.
struct Shared {
    address: String,
    state: Mutex<State>,
    /// Something may be there for streams to send.
    stirred: Notify,
    /// Streams are to end.
    broken: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A test that panics with the lock shall not hide its own message behind another.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Counts a call and says what goes wrong with it.
    fn fault(&mut self, method: &str) -> Option<Fault> {
        *self.calls.entry(method.to_owned()).or_default() += 1;
        self.rules.iter_mut().find_map(|rule| rule.applies(method).then(|| rule.what.clone()))
    }
}

impl std::fmt::Debug for FakePubSub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("FakePubSub").field(&self.endpoint()).finish()
    }
}

impl FakePubSub {
    /// Starts a server on a free port of the loopback interface. It runs on the runtime of the caller.
    pub async fn start() -> Self {
        Self::start_at("127.0.0.1:0").await
    }

    /// Starts a server at an address.
    pub async fn start_at(address: &str) -> Self {
        let listener = TcpListener::bind(address).await.expect("the address is free");
        let address = listener.local_addr().expect("a listener has an address").to_string();
        let (state, stirred, broken) = (Mutex::default(), Notify::new(), Notify::new());
        let shared = Arc::new(Shared { address, state, stirred, broken });
        let server = tokio::spawn(serve(listener, Arc::clone(&shared)));
        Self { running: Arc::new(Running { shared, server }) }
    }

    fn state<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        let done = work(&mut self.running.shared.lock());
        self.running.shared.stirred.notify_waiters();
        done
    }

    fn backlog<T>(&self, subscription: &str, work: impl FnOnce(&mut Backlog) -> T) -> T {
        self.state(|state| work(state.subscriptions.get_mut(subscription).expect("the subscription was made")))
    }

    /// Where it is: HTTP/2 without TLS.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.running.shared.address)
    }

    /// Makes a topic, named in full.
    pub fn create_topic(&self, topic: &str) {
        self.state(|state| _ = state.topics.entry(topic.to_owned()).or_default());
    }

    /// Makes a subscription, named in full.
    pub fn create_subscription(&self, name: &str, options: Options) {
        self.state(|state| state.subscriptions.insert(name.to_owned(), Backlog::new(options)));
    }

    /// Takes a subscription away. What reads it is not told before its stream is opened again.
    pub fn delete_subscription(&self, name: &str) {
        self.state(|state| state.subscriptions.remove(name));
    }

    /// Adds a message to a subscription alone; returns its id.
    pub fn publish(&self, subscription: &str, message: Message) -> String {
        backlog::id(self.backlog(subscription, |backlog| backlog.publish(message)))
    }

    /// From now on a subscription has these messages.
    pub fn generate(&self, subscription: &str, generated: Generated) {
        self.backlog(subscription, |backlog| backlog.generate(generated));
    }

    /// Every lease of a subscription ends now: what is not acknowledged is sent again.
    pub fn expire(&self, subscription: &str) {
        self.backlog(subscription, Backlog::expire);
    }

    /// Ends all streams, as Google does now and then.
    pub fn break_streams(&self) {
        self.running.shared.broken.notify_waiters();
    }

    /// Something goes wrong from now on.
    pub fn rule(&self, rule: Rule) {
        self.state(|state| state.rules.push(rule));
    }

    /// How many streams of a subscription are open.
    pub fn streams(&self, subscription: &str) -> usize {
        self.backlog(subscription, |backlog| backlog.streams())
    }

    /// How many messages of a subscription are lent.
    pub fn outstanding(&self, subscription: &str) -> usize {
        self.backlog(subscription, |backlog| backlog.lent())
    }

    /// How often messages of a subscription were sent, the same one again included.
    pub fn sent(&self, subscription: &str) -> usize {
        self.backlog(subscription, |backlog| backlog.sent)
    }

    /// The ids of the messages of a subscription that were acknowledged, in that order.
    pub fn acknowledged(&self, subscription: &str) -> Vec<String> {
        self.backlog(subscription, |backlog| backlog.acknowledged.iter().map(|number| backlog::id(*number)).collect())
    }

    /// How many of them there are.
    pub fn acknowledged_count(&self, subscription: &str) -> usize {
        self.backlog(subscription, |backlog| backlog.acknowledged.len())
    }

    /// What was published to a topic.
    pub fn published(&self, topic: &str) -> Vec<Message> {
        self.state(|state| state.topics.get(topic).cloned().unwrap_or_default())
    }

    /// How often a method was called.
    pub fn calls(&self, method: &str) -> usize {
        self.state(|state| state.calls.get(method).copied().unwrap_or_default())
    }
}

/// Takes connections until it is aborted.
async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        _ = stream.set_nodelay(true);
        while connections.try_join_next().is_some() {}
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let service = hyper::service::service_fn(move |request| {
                let shared = Arc::clone(&shared);
                async move { Ok::<_, std::convert::Infallible>(grpc::handle(shared, request).await) }
            });
            // A connection that breaks off is the client's to see.
            _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
