//! A schema registry, from Maven Central: Apicurio, which also answers as Confluent's does.

use std::path::Path;
use std::process::Command;

use super::{java, maven, once, possible, read, write};
use crate::{Outcome, Workspace, machine};

/// `registry/java.args` is how it is run; its environment says where it listens.
pub fn install(workspace: &Workspace, folder: &Path, java: &Path) -> Outcome {
    if !possible("a schema registry", &[(machine::maven(), machine::NEEDS_MAVEN)])? {
        return Ok(());
    }
    let project = workspace.root.join("tests/registry/pom.xml");
    let wanted = [include_str!("registry.rs"), &read(&project)?, &read(&workspace.root.join("tests/java.txt"))?];
    let registry = folder.join("registry");
    once(&registry, &wanted.concat(), || {
        eprintln!("installing a schema registry: a minute, once");
        let app = registry.join("app");
        maven(&project, "unpack-dependencies", &app)?;
        let mut arguments: String = java::OPTIONS.iter().map(|option| java::line(option)).collect();
        arguments.push_str(&java::line("-Xmx384m"));
        let program = format!("{}{}", java::line("-jar"), java::line(&app.join("quarkus-run.jar").display().to_string()));
        let (file, cache) = (registry.join("java.args"), registry.join("registry.aot"));
        let learn = java::line(&format!("-XX:AOTCacheOutput={}", cache.display()));
        write(&file, &format!("{learn}{arguments}{program}"))?;
        let mut server = Command::new(java);
        server.arg(format!("@{}", file.display())).current_dir(&registry);
        server.env("APICURIO_STORAGE_KIND", "sql").env("APICURIO_STORAGE_SQL_KIND", "h2");
        for part in ["HTTP", "MANAGEMENT"] {
            server.env(format!("QUARKUS_{part}_HOST"), "127.0.0.1").env(format!("QUARKUS_{part}_PORT"), "0");
        }
        java::train(server, &cache, &registry.join("log"), "Listening on")?;
        write(&file, &format!("{}{arguments}{program}", java::line(&format!("-XX:AOTCache={}", cache.display()))))
    })
}
