//! Kafka: clusters of one or three brokers, without or with TLS and passwords.

mod cluster;
mod produce;
mod topics;

use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::AdminClient;
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::FutureProducer;
use tokio::sync::OnceCell;

use cluster::Cluster;
pub use produce::{Record, Transaction};

use super::installed;

/// How long the cluster may take to do one thing.
const PATIENCE: Duration = Duration::from_secs(60);

/// Somebody who may log in where a cluster wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: &'static str,
    /// The password.
    pub password: &'static str,
    /// The only mechanism by which they may.
    pub mechanism: &'static str,
}

/// May do everything.
pub const ALICE: User = User { name: "alice", password: "alice-secret", mechanism: "SCRAM-SHA-512" };
/// May do everything.
pub const BOB: User = User { name: "bob", password: "bob-secret", mechanism: "PLAIN" };
/// May log in, and nothing else.
pub const CAROL: User = User { name: "carol", password: "carol-secret", mechanism: "SCRAM-SHA-256" };
/// May do everything by OAUTHBEARER, with an unsigned token (`alg` is `none`) whose `sub` is this name.
pub const ERIN: &str = "erin";

/// What a cluster is like.
#[derive(Debug, Clone)]
pub struct KafkaOptions {
    /// Brokers, with the numbers 1 to this. Of three, two must have each record: one may fail.
    pub nodes: u16,
    /// Whether clients need TLS and a password (or TLS and a certificate, see [`Kafka::mutual`]), and only some may do things.
    pub tls_sasl: bool,
    /// Settings of each broker besides; they win over ours.
    pub config: Vec<(String, String)>,
}

impl Default for KafkaOptions {
    fn default() -> Self {
        Self { nodes: 1, tls_sasl: false, config: Vec::new() }
    }
}

/// A cluster of Kafka with an identity of its own. Topics are not made by asking for them.
pub struct Kafka {
    cluster: Cluster,
    admin: Arc<AdminClient<DefaultClientContext>>,
    producer: FutureProducer,
}

impl std::fmt::Debug for Kafka {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kafka").field("brokers", &self.brokers()).finish_non_exhaustive()
    }
}

impl Kafka {
    /// Starts one broker without topics, which takes a second or two; `None` (said loudly) if Kafka is not installed.
    ///
    /// # Panics
    /// If it does not start, with what it said; with `CI=true` if it is not installed.
    pub async fn start() -> Option<Self> {
        Self::start_with(KafkaOptions::default()).await
    }

    /// As [`Self::start`], with options.
    pub async fn start_with(options: KafkaOptions) -> Option<Self> {
        let cluster = Cluster::start(&installed("kafka")?, &installed("java")?, options).await;
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", cluster.internal());
        let admin = Arc::new(config.create().expect("these settings are right"));
        // Records arrive in the order in which a test gives them, once. With more than one request under way, a broker that is not ready for a
        // new partition refuses the first and takes the second, and then calls the first one's repetition a duplicate.
        config
            .set("max.in.flight.requests.per.connection", "1")
            .set("enable.idempotence", "true")
            .set("linger.ms", "1")
            .set("message.max.bytes", "67108864");
        config.set("queue.buffering.max.kbytes", "262144");
        let producer = config.create().expect("these settings are right");
        let kafka = Self { cluster, admin, producer };
        kafka.all_are_there().await;
        Some(kafka)
    }

    /// The broker that all tests of this process share, started at the first call; each test makes topics and groups of its
    /// own in it. It ends with the process. `None` and panics as for [`Self::start`].
    pub async fn shared() -> Option<&'static Self> {
        static SHARED: OnceCell<Option<Kafka>> = OnceCell::const_new();
        SHARED.get_or_init(Self::start).await.as_ref()
    }

    /// Where clients begin, `HOST:PORT,...`; with `tls_sasl` they need [`Self::ca`] and a [`User`].
    pub fn brokers(&self) -> String {
        self.cluster.clients()
    }

    /// Where clients with `tls_sasl` begin that have a certificate ([`Self::client_certificate`]) and no password.
    ///
    /// # Panics
    /// Without `tls_sasl`.
    pub fn mutual(&self) -> String {
        self.cluster.mutual()
    }

    /// Where anybody may do everything, without TLS, whatever the options: for what a test does besides.
    pub fn internal(&self) -> String {
        self.cluster.internal()
    }

    /// The file with the certificate that has signed those of the brokers (PEM).
    pub fn ca(&self) -> String {
        self.cluster.tls("ca.pem")
    }

    /// A file like [`Self::ca`] that has signed nothing.
    pub fn other_ca(&self) -> String {
        self.cluster.tls("other-ca.pem")
    }

    /// The file with a client's certificate (PEM), who may do everything.
    pub fn client_certificate(&self) -> String {
        self.cluster.tls("client.pem")
    }

    /// The file with the key of [`Self::client_certificate`] (PEM, without a password).
    pub fn client_key(&self) -> String {
        self.cluster.tls("client.key")
    }

    /// The cluster's own id.
    pub fn cluster_id(&self) -> &str {
        self.cluster.id()
    }

    /// Kills a broker (1 to the number of them) as a loss of power would; what it has stored stays.
    pub async fn stop_node(&self, node: u16) {
        self.cluster.node(node).end().await;
    }

    /// Starts a broker that was stopped once more, with its ports and what it has stored, and waits until it is ready; that
    /// takes some seconds, as others must have noticed that it was gone.
    pub async fn start_node(&self, node: u16) {
        self.cluster.node(node).start_again(cluster::STARTED).await;
    }

    /// Stops a broker in the middle of what it does: its connections stay, and nothing answers.
    pub fn pause_node(&self, node: u16) {
        self.cluster.node(node).signal("STOP");
    }

    /// Lets a broker that was paused go on.
    pub fn resume_node(&self, node: u16) {
        self.cluster.node(node).signal("CONT");
    }

    /// What the brokers have said, for a test that fails.
    pub fn log(&self) -> String {
        self.cluster.log()
    }
}
