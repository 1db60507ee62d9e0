//! The brokers of a cluster as processes, and what each is told.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use futures::future::join_all;
use uuid::Uuid;

use super::{BOB, ERIN, KafkaOptions};
use crate::services::process::{Process, Ready, Spec, free_port};

/// What a broker says once clients may come.
pub const STARTED: &str = "Kafka Server started";
/// Another process may take a port between our choice and a broker's start.
const TRIES: usize = 3;

/// Running brokers that know each other.
pub struct Cluster {
    nodes: Vec<Process>,
    ports: Vec<Ports>,
    id: String,
    tls: PathBuf,
    secured: bool,
}

/// Where a broker listens.
struct Ports {
    /// To other brokers and to tests, in plain text.
    internal: u16,
    controller: u16,
    /// To clients with TLS and a password.
    clients: u16,
    /// To clients with TLS and a certificate.
    mutual: u16,
}

impl Cluster {
    /// Starts brokers and waits until each says that it has started.
    pub async fn start(kafka: &Path, java: &Path, options: KafkaOptions) -> Self {
        let mut said = String::new();
        for _ in 0..TRIES {
            let ports: Vec<Ports> = (0..options.nodes).map(|_| Ports::free()).collect();
            let id = fresh_id();
            let starts = (1..=options.nodes).map(|number| {
                let node = Node { number, id: &id, ports: &ports, options: &options, kafka };
                Process::try_start(move |folder| node.spec(folder, java))
            });
            match join_all(starts).await.into_iter().collect() {
                Ok(nodes) => return Self { nodes, ports, id, tls: kafka.join("tls"), secured: options.tls_sasl },
                Err(why) => said = why,
            }
        }
        panic!("{said}");
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// A broker by its number, from 1 on.
    pub fn node(&self, number: u16) -> &Process {
        self.nodes.get(usize::from(number).wrapping_sub(1)).unwrap_or_else(|| panic!("there is no broker {number}"))
    }

    pub fn internal(&self) -> String {
        self.list("127.0.0.1", |ports| ports.internal)
    }

    pub fn clients(&self) -> String {
        if self.secured { self.list("localhost", |ports| ports.clients) } else { self.internal() }
    }

    pub fn mutual(&self) -> String {
        assert!(self.secured, "clients with certificates come to a cluster with `tls_sasl`");
        self.list("localhost", |ports| ports.mutual)
    }

    fn list(&self, host: &str, port: impl Fn(&Ports) -> u16) -> String {
        self.ports.iter().map(|ports| format!("{host}:{}", port(ports))).collect::<Vec<_>>().join(",")
    }

    pub fn tls(&self, file: &str) -> String {
        self.tls.join(file).display().to_string()
    }

    pub fn log(&self) -> String {
        let logs = self.nodes.iter().zip(1..).map(|(node, number)| format!("broker {number}:\n{}", node.log()));
        logs.collect()
    }
}

impl Ports {
    fn free() -> Self {
        Self { internal: free_port(), controller: free_port(), clients: free_port(), mutual: free_port() }
    }
}

/// One broker before it runs.
struct Node<'a> {
    number: u16,
    id: &'a str,
    ports: &'a [Ports],
    options: &'a KafkaOptions,
    kafka: &'a Path,
}

impl Node<'_> {
    /// Prepares its folder as Kafka's own tool would, but in no time: what is the same in each broker was kept.
    fn spec(&self, folder: &Path, java: &Path) -> Spec {
        let data = folder.join("data");
        std::fs::create_dir(&data).expect("its folder can be written");
        std::fs::copy(self.kafka.join("bootstrap.checkpoint"), data.join("bootstrap.checkpoint")).expect("Kafka is installed");
        let identity = format!("version=1\ncluster.id={}\nnode.id={}\ndirectory.id={}\n", self.id, self.number, fresh_id());
        std::fs::write(data.join("meta.properties"), identity).expect("its folder can be written");
        let settings = folder.join("server.properties");
        std::fs::write(&settings, self.settings(&data)).expect("its folder can be written");
        Spec {
            program: java.join("bin/java"),
            args: vec![format!("@{}", self.kafka.join("java.args").display()).into(), "kafka.Kafka".into(), settings.into()],
            ready: Ready::Says(STARTED),
            ..Spec::default()
        }
    }

    /// Of two lines with one name, Kafka takes the last.
    fn settings(&self, data: &Path) -> String {
        let mut text = std::fs::read_to_string(self.kafka.join("server.properties")).expect("Kafka is installed");
        let own = &self.ports[usize::from(self.number) - 1];
        let voters: Vec<String> =
            self.ports.iter().zip(1..).map(|(ports, number)| format!("{number}@127.0.0.1:{}", ports.controller)).collect();
        let internal = format!("INTERNAL://127.0.0.1:{}", own.internal);
        let mut set = |name: &str, value: &str| writeln!(text, "{name}={value}").expect("a string takes all");
        set("node.id", &self.number.to_string());
        set("controller.quorum.voters", &voters.join(","));
        set("log.dirs", &data.display().to_string());
        set("inter.broker.listener.name", "INTERNAL");
        let controller = format!("CONTROLLER://127.0.0.1:{}", own.controller);
        let plain = "INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT";
        if self.options.tls_sasl {
            let tls = format!("CLIENT://localhost:{},MUTUAL://localhost:{}", own.clients, own.mutual);
            set("listeners", &format!("{internal},{},{controller}", tls.replace("localhost", "127.0.0.1")));
            set("advertised.listeners", &format!("{internal},{tls}"));
            set("listener.security.protocol.map", &format!("{plain},CLIENT:SASL_SSL,MUTUAL:SSL"));
            self.security(&mut set);
        } else {
            set("listeners", &format!("{internal},{controller}"));
            set("advertised.listeners", &internal);
            set("listener.security.protocol.map", plain);
        }
        let copies = self.ports.len();
        for name in ["default", "offsets.topic", "transaction.state.log", "share.coordinator.state.topic"] {
            set(&format!("{name}.replication.factor"), &copies.to_string());
        }
        for name in ["min.insync.replicas", "transaction.state.log.min.isr", "share.coordinator.state.topic.min.isr"] {
            set(name, &copies.min(2).to_string());
        }
        for (name, value) in &self.options.config {
            set(name, value);
        }
        text
    }

    fn security(&self, set: &mut impl FnMut(&str, &str)) {
        for listener in ["client", "mutual"] {
            let mut own = |name: &str, value: &str| set(&format!("listener.name.{listener}.{name}"), value);
            own("ssl.keystore.type", "PEM");
            own("ssl.keystore.location", &self.kafka.join("tls/server.pem").display().to_string());
            own("ssl.truststore.type", "PEM");
            own("ssl.truststore.location", &self.kafka.join("tls/ca.pem").display().to_string());
        }
        set("listener.name.mutual.ssl.client.auth", "required");
        let security = "org.apache.kafka.common.security";
        set("listener.name.client.sasl.enabled.mechanisms", "SCRAM-SHA-512,SCRAM-SHA-256,PLAIN,OAUTHBEARER");
        let mut mechanism = |name: &str, module: &str| {
            set(&format!("listener.name.client.{name}.sasl.jaas.config"), &format!("{security}.{module};"))
        };
        // Their users were made with the cluster.
        mechanism("scram-sha-512", "scram.ScramLoginModule required");
        mechanism("scram-sha-256", "scram.ScramLoginModule required");
        mechanism("plain", &format!("plain.PlainLoginModule required user_{}=\"{}\"", BOB.name, BOB.password));
        mechanism("oauthbearer", "oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"broker\"");
        set("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer");
        set("super.users", &format!("User:ANONYMOUS;User:alice;User:{};User:{ERIN};User:CN=client", BOB.name));
    }
}

/// What Kafka calls a UUID.
fn fresh_id() -> String {
    BASE64_URL_SAFE_NO_PAD.encode(Uuid::new_v4().as_bytes())
}
