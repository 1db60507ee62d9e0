//! A Pub/Sub server: Google's own fake, in a program of ours, from Go.

use std::path::Path;

use super::{go, once, possible, read};
use crate::{Outcome, Workspace, machine};

/// `pubsub/server` is the program.
pub fn install(workspace: &Workspace, folder: &Path) -> Outcome {
    if !possible("Pub/Sub", &[(machine::go(), machine::NEEDS_GO)])? {
        return Ok(());
    }
    let source = workspace.root.join("tests/pubsub");
    let mut wanted = String::new();
    for file in ["go.mod", "go.sum", "main.go"] {
        wanted.push_str(&read(&source.join(file))?);
    }
    let pubsub = folder.join("pubsub");
    once(&pubsub, &wanted, || {
        eprintln!("building a Pub/Sub server: a minute or two, once");
        crate::run(go("readonly").current_dir(&source).args(["build", "-o"]).arg(pubsub.join("server")).arg("."))
    })
}
