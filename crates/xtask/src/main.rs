//! `cargo x`: the one developer entry. Everything here runs other programs; it builds in a second.

mod cloud_check;
mod docs;
mod kafka;
mod machine;
mod readers;
mod services;
mod tour;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const HELP: &str = "\
cargo x try            build Longshore, load the example files, query them
cargo x kafka          starts a Kafka of its own with the messages of examples/streams/harbour, until Ctrl-C
cargo x kafka --send FILE [--topic harbour]
                       sends it the messages of a file, one JSON object a line
cargo x kafka --topic NAME
                       makes a topic there
cargo x check          formatting and lints
cargo x test           check, every test, the reference pages, other readers of our tables, the fuzz targets
cargo x services       installs the servers that tests run against, as `cargo x test` does
cargo x docs           API docs (broken links are errors) and the reference pages in docs/reference
cargo x docs --check   fails if those pages are stale
cargo x cloud-check PROJECT [--bucket NAME] [--location EU] [--yes]
                       checks in a project of Google Cloud what only the cloud can show; costs some cents

Builds go to CARGO_TARGET_DIR, or to ~/.cache/longshore-target if that is not set.";

/// What went wrong, for people.
type Outcome<T = ()> = Result<T, String>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let workspace = Workspace::here();
    let outcome = match words.as_slice() {
        ["try"] => machine::can_build().and_then(|()| tour::run(&workspace)),
        ["check"] => machine::can_build().and_then(|()| check(&workspace)),
        ["test"] => machine::can_build().and_then(|()| test(&workspace)),
        ["services"] => services::install(&workspace).map(|folder| {
            println!("For plain `cargo test`: LONGSHORE_SERVICES={}", folder.display());
        }),
        ["kafka"] => kafka::run(&workspace),
        ["kafka", options @ ..] => kafka::ask(&workspace, options),
        ["bench", options @ ..] => machine::can_build().and_then(|()| bench(&workspace, options)),
        ["cloud-check", options @ ..] => machine::can_build().and_then(|()| cloud_check::run(&workspace, options)),
        ["docs"] => machine::can_build().and_then(|()| docs::write(&workspace)),
        ["docs", "--check"] => machine::can_build().and_then(|()| docs::check(&workspace)),
        [] | ["help" | "--help" | "-h"] => {
            println!("{HELP}");
            Ok(())
        }
        other => Err(format!("cargo x does not know `{}`\n\n{HELP}", other.join(" "))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Formatting and lints, tests included.
fn check(workspace: &Workspace) -> Outcome {
    run(workspace.cargo().args(["fmt", "--all", "--check"]))?;
    run(workspace.cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

/// Everything that CI wants to see.
fn test(workspace: &Workspace) -> Outcome {
    check(workspace)?;
    let python = readers::python(workspace)?;
    let services = services::install(workspace)?;
    let mut tests = workspace.cargo();
    tests.args(["test", "--workspace"]).env("INSTA_UPDATE", "no");
    if let Some(python) = &python {
        tests.env("LONGSHORE_PYTHON", python);
    }
    tests.env("LONGSHORE_SERVICES", services);
    run(&mut tests)?;
    docs::check(workspace)?;
    if let Some(python) = &python {
        readers::run(workspace, python)?;
    }
    fuzz(workspace)
}

/// Each fuzz target for ten seconds, from the committed corpus. They are plain functions: no other compiler is needed. The
/// seed is fixed, since a check that fails by chance holds up whoever comes next; run without one to explore.
fn fuzz(workspace: &Workspace) -> Outcome {
    for target in ["json", "csv", "xml"] {
        run(workspace.cargo().args([
            "run",
            "--quiet",
            "--package",
            "longshore-files",
            "--example",
            "fuzz",
            "--",
            target,
            "10",
            "1",
        ]))?;
    }
    Ok(())
}

/// The benchmarks, with their peers, in a release build; see BENCHMARKS.md. `--only files`, `--only bigquery` or `--only streams` is one section of them.
fn bench(workspace: &Workspace, options: &[&str]) -> Outcome {
    let peers = workspace.root.join("benches/requirements.txt");
    let Some(python) = readers::python_with(workspace, "bench-venv", &peers)? else {
        return Err("the benchmarks need python3 with venv".into());
    };
    let google = services::python(workspace)?;
    let work = workspace.target.join("bench");
    let mut build = workspace.cargo();
    build.args(["build", "--release", "--package", "longshore", "--bin", "longshore", "--example", "commits"]);
    build.args(["--package", "longshore-bigquery", "--example", "append_arrow"]);
    build.args(["--package", "longshore-fakes", "--example", "null_bigquery", "--example", "null_pubsub"]);
    run(build.args(["--package", "longshore-testkit", "--example", "kafka_bench"]))?;
    let release = workspace.target.join("release");
    if !options.contains(&"--only") {
        run(Command::new(release.join("examples/commits")).arg(&work))?;
    }
    let mut benches = Command::new(python);
    benches.arg(workspace.root.join("benches/bench.py")).arg("--longshore").arg(release.join("longshore"));
    benches.arg("--null-server").arg(release.join("examples/null_bigquery"));
    benches.arg("--append-arrow").arg(release.join("examples/append_arrow"));
    benches.arg("--null-pubsub").arg(release.join("examples/null_pubsub"));
    benches.arg("--kafka-bench").arg(release.join("examples/kafka_bench"));
    // The servers are found where the tests find them.
    benches.env("LONGSHORE_SERVICES", services::install(workspace)?);
    if let Some(google) = google {
        benches.arg("--google-python").arg(google);
    }
    run(benches.arg("--work").arg(&work).args(options))
}

/// A skipped check is said loudly, and is a failure in CI.
fn skip(why: &str) -> Outcome {
    if std::env::var_os("CI").is_some_and(|ci| ci == "true") {
        return Err(format!("SKIPPED in CI: {why}"));
    }
    eprintln!("\n==== SKIPPED: {why} ====\n");
    Ok(())
}

/// Where the sources are and where builds go.
struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

impl Workspace {
    fn here() -> Self {
        // As cargo says it now: two checkouts that share a target folder also share this binary.
        let package = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let root = Path::new(&package).join("../..");
        let root = root.canonicalize().unwrap_or(root);
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
            || {
                std::env::var_os("HOME")
                    .map_or_else(|| root.join("target"), |home| PathBuf::from(home).join(".cache/longshore-target"))
            },
            |set| root.join(set),
        );
        Self { root, target }
    }

    /// Cargo as a person would call it: in the workspace's folder, with its target folder.
    fn cargo(&self) -> Command {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target);
        // Cargo sets these for us, not for what we call: a build script that watches one of them (ring's watches OUT_DIR)
        // would run again, and everything above it would be compiled again, here and at the next plain call of cargo.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            let ours = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_", "CARGO_PRIMARY_"];
            if text == "OUT_DIR" || ours.iter().any(|prefix| text.starts_with(prefix)) {
                cargo.env_remove(&name);
            }
        }
        cargo
    }

    /// Builds the binary in the profile that everything uses; returns its path.
    fn binary(&self) -> Outcome<PathBuf> {
        run(self.cargo().args(["build", "--package", "longshore"]))?;
        Ok(self.target.join("debug").join(format!("longshore{}", std::env::consts::EXE_SUFFIX)))
    }
}

/// Runs a program with our own input and output; an error names it.
fn run(command: &mut Command) -> Outcome {
    let name = || {
        let words: Vec<&OsStr> = std::iter::once(command.get_program()).chain(command.get_args()).collect();
        words.join(OsStr::new(" ")).to_string_lossy().into_owned()
    };
    let line = name();
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{line}` failed ({status})")),
        Err(e) => Err(format!("`{line}` could not be started: {e}")),
    }
}
