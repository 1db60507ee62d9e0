//! The program itself, on the example files.

use std::path::Path;
use std::process::{Command, Output};

use super::Dataset;

const COUNTS: &str = "select (select count(*) from orders) as orders, (select count(*) from customers) as customers";

/// Loads `examples/shop` twice and counts what is there. The program is the one that `LONGSHORE_CLOUD_BINARY` names.
pub async fn shop(dataset: &Dataset) {
    let sheet = &dataset.sheet;
    let Ok(binary) = std::env::var("LONGSHORE_CLOUD_BINARY") else {
        return sheet.left_out("the program", "LONGSHORE_CLOUD_BINARY names none");
    };
    let place = format!("bigquery://{}/{}", dataset.cloud.project, dataset.name);
    let expected = format!("orders,customers\n{},{}\n", lines("orders"), lines("customers"));
    for (what, note) in [("loading the example files", "loads them"), ("loading them again", "finds them landed")] {
        let loaded = longshore(dataset, &binary, &["load", "examples/shop/*.xml", "--to", &place]).await;
        sheet.holds(&format!("{what} {note}"), loaded.status.success(), &said(&loaded));
        let counted = longshore(dataset, &binary, &["query", "--on", &place, "--format", "csv", COUNTS]).await;
        sheet.same(&format!("{what}: every record is there once"), said(&counted), expected.clone());
    }
}

/// How many records the examples have.
fn lines(table: &str) -> usize {
    std::fs::read_to_string(root().join(format!("examples/shop/expected/{table}.jsonl"))).unwrap().lines().count()
}

fn root() -> std::path::PathBuf {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../../..")
}

async fn longshore(dataset: &Dataset, binary: &str, args: &[&str]) -> Output {
    let mut command = Command::new(binary);
    command.args(args).current_dir(root()).env("LONGSHORE_HOME", dataset.state.path().join("home"));
    if let Some([rest, write, storage]) = &dataset.cloud.endpoints {
        let variables =
            [("ENDPOINT", rest.as_str()), ("WRITE_ENDPOINT", write), ("STORAGE_ENDPOINT", storage), ("ANONYMOUS", "true")];
        command.envs(variables.map(|(name, value)| (format!("LONGSHORE_BIGQUERY_{name}"), value)));
    }
    tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap()
}

/// What a program said, and, if it failed, why.
fn said(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() { said } else { said + &String::from_utf8_lossy(&output.stderr) }
}
