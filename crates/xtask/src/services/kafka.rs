//! Kafka, from Maven Central: jars, what a new cluster begins with, certificates, and a cache for a fast start.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use super::{copy, java, maven, once, possible, read, write};
use crate::{Outcome, Workspace, machine};

/// Who may log in by a password that the cluster keeps; `longshore_testkit::services::kafka` knows them.
const USERS: [&str; 2] = ["SCRAM-SHA-512=[name=alice,password=alice-secret]", "SCRAM-SHA-256=[name=carol,password=carol-secret]"];

/// `kafka/java.args` is how brokers are run, `server.properties` what they have in common, `bootstrap.checkpoint` what a
/// new cluster begins with; `tls` has certificates, see [`certificates`].
pub fn install(workspace: &Workspace, folder: &Path, java: &Path) -> Outcome {
    let needs = [(machine::maven(), machine::NEEDS_MAVEN), (machine::openssl(), machine::NEEDS_OPENSSL)];
    if !possible("Kafka", &needs)? {
        return Ok(());
    }
    let source = workspace.root.join("tests/kafka");
    let (project, common) = (source.join("pom.xml"), source.join("server.properties"));
    let wanted = [include_str!("kafka.rs"), &read(&project)?, &read(&common)?, &read(&workspace.root.join("tests/java.txt"))?];
    let kafka = folder.join("kafka");
    once(&kafka, &wanted.concat(), || {
        eprintln!("installing Kafka: half a minute, once");
        maven(&project, "copy-dependencies", &kafka.join("libs"))?;
        copy(&common, &kafka.join("server.properties"))?;
        certificates(&kafka.join("tls"))?;
        first_start(&kafka, java)
    })
}

/// Formats a broker's folder, keeps what is the same in each, and runs that broker once for the cache.
fn first_start(kafka: &Path, java: &Path) -> Outcome {
    let work = kafka.join("first");
    std::fs::create_dir_all(&work).map_err(|e| format!("cannot create {}: {e}", work.display()))?;
    let mut arguments: String = java::OPTIONS.iter().map(|option| java::line(option)).collect();
    for option in ["-Xmx256m", "-Xms64m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"] {
        arguments.push_str(&java::line(option));
    }
    // It says there that it has started.
    arguments.push_str(&java::line("-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info"));
    arguments.push_str(&java::line("-cp"));
    arguments.push_str(&java::line(&jars(&kafka.join("libs"))?));
    let (file, cache) = (kafka.join("java.args"), kafka.join("kafka.aot"));
    write(&file, &arguments)?;
    let run = |file: &Path| {
        let mut run = Command::new(java);
        run.arg(format!("@{}", file.display())).current_dir(&work);
        run
    };
    let (data, settings) = (work.join("data"), work.join("server.properties"));
    write(&settings, &settings_of_first(kafka, &data)?)?;
    let mut format = run(&file);
    format.args(["kafka.tools.StorageTool", "format", "--cluster-id", "4L6g3nShT-eMCtK--X86sw", "--config"]).arg(&settings);
    for user in USERS {
        format.args(["--add-scram", user]);
    }
    crate::run(format.stdout(std::process::Stdio::null()))?;
    copy(&data.join("bootstrap.checkpoint"), &kafka.join("bootstrap.checkpoint"))?;
    let training = work.join("java.args");
    write(&training, &format!("{}{arguments}", java::line(&format!("-XX:AOTCacheOutput={}", cache.display()))))?;
    let mut broker = run(&training);
    broker.arg("kafka.Kafka").arg(&settings);
    java::train(broker, &cache, &work.join("log"), "Kafka Server started")?;
    write(&file, &format!("{}{arguments}", java::line(&format!("-XX:AOTCache={}", cache.display()))))?;
    std::fs::remove_dir_all(&work).map_err(|e| format!("cannot remove {}: {e}", work.display()))
}

/// The cache holds for this very order.
fn jars(libs: &Path) -> Outcome<String> {
    let listed = std::fs::read_dir(libs).map_err(|e| format!("cannot list {}: {e}", libs.display()))?;
    let mut jars = Vec::new();
    for entry in listed {
        jars.push(entry.map_err(|e| format!("cannot list {}: {e}", libs.display()))?.path().display().to_string());
    }
    jars.sort();
    Ok(jars.join(":"))
}

fn settings_of_first(kafka: &Path, data: &Path) -> Outcome<String> {
    // Held together until both are known, so that they are two.
    let (one, two) = (TcpListener::bind("127.0.0.1:0"), TcpListener::bind("127.0.0.1:0"));
    let port = |listener: std::io::Result<TcpListener>| {
        listener.and_then(|l| l.local_addr()).map(|a| a.port()).map_err(|e| format!("no free port: {e}"))
    };
    let (clients, controller) = (port(one)?, port(two)?);
    Ok(format!(
        "{}\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
         listeners=PLAINTEXT://127.0.0.1:{clients},CONTROLLER://127.0.0.1:{controller}\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         inter.broker.listener.name=PLAINTEXT\nlog.dirs={}\n",
        read(&kafka.join("server.properties"))?,
        data.display()
    ))
}

/// `ca.pem` has signed the brokers' `server.pem` (key and chain in one file) and a client's `client.pem` with
/// `client.key`; `other-ca.pem` has signed nothing. For `localhost` and 127.0.0.1, for ten years.
fn certificates(tls: &Path) -> Outcome {
    std::fs::create_dir_all(tls).map_err(|e| format!("cannot create {}: {e}", tls.display()))?;
    let openssl = |line: &str| {
        let words = line.split_whitespace();
        crate::run(Command::new("openssl").args(words).current_dir(tls).stderr(std::process::Stdio::null()))
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    for name in ["ca", "other-ca"] {
        openssl(&format!("req -x509 {key} -keyout {name}.key -out {name}.pem -days 3650 -subj /CN=longshore-{name}"))?;
    }
    write(&tls.join("names"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n")?;
    for name in ["server", "client"] {
        openssl(&format!("req {key} -keyout {name}.key -out {name}.csr -subj /CN={name}"))?;
        openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 3650 -out {name}.pem -extfile names"
        ))?;
    }
    let mut chain = String::new();
    for part in ["server.key", "server.pem", "ca.pem"] {
        chain.push_str(&read(&tls.join(part))?);
    }
    write(&tls.join("server.pem"), &chain)
}
