//! What a machine must have, checked before the first minute is spent.

use std::process::{Command, Stdio};

use crate::Outcome;

const RUST: (u32, u32) = (1, 95);

/// Whether Longshore can be built here: Rust and a C compiler (for SQLite, zstd and the allocator).
pub fn can_build() -> Outcome {
    let mut missing = Vec::new();
    match output("rustc", &["--version"]).as_deref().and_then(version) {
        Some(found) if found >= RUST => {}
        Some((major, minor)) => {
            missing.push(format!("Rust {}.{} or newer (this is {major}.{minor}); see https://rustup.rs", RUST.0, RUST.1));
        }
        None => missing.push(format!("Rust {}.{} or newer; see https://rustup.rs", RUST.0, RUST.1)),
    }
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let mut words = compiler.split_whitespace();
    let found = words.next().is_some_and(|program| output(program, &["--version"]).is_some());
    if !found {
        missing
            .push(format!("a C compiler (`{compiler}` cannot be run); for example `apt-get install build-essential`, or set CC"));
    }
    lacks(&missing, "a build")
}

/// Whether Kafka can be installed here.
pub fn can_have_kafka() -> Outcome {
    let needs = [(python().is_some(), NEEDS_PYTHON), (maven(), NEEDS_MAVEN), (openssl(), NEEDS_OPENSSL)];
    let missing: Vec<String> = needs.iter().filter(|(found, _)| !found).map(|(_, need)| (*need).to_owned()).collect();
    lacks(&missing, "Kafka")
}

fn lacks(missing: &[String], what: &str) -> Outcome {
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!("this machine lacks what {what} needs:\n  - {}", missing.join("\n  - ")))
}

/// What to say where [`python`] finds none.
pub const NEEDS_PYTHON: &str = "Python 3.11 or newer with venv (`apt-get install python3-venv`)";
/// What to say where there is no [`go`].
pub const NEEDS_GO: &str = "Go 1.26 or newer (https://go.dev/dl; one from 1.21 on fetches it by itself)";

/// A Python 3 that can make virtual environments.
pub fn python() -> Option<String> {
    ["python3", "python"]
        .into_iter()
        .find(|python| {
            let probe = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))";
            output(python, &["-c", probe]).is_some()
        })
        .map(str::to_owned)
}

/// Whether there is a Go that knows which Go it needs: it fetches that, or says so.
pub fn go() -> bool {
    output("go", &["version"]).as_deref().and_then(go_version).is_some_and(|found| found >= (1, 21))
}

/// What to say where there is no [`maven`].
pub const NEEDS_MAVEN: &str = "Maven (`apt-get install maven`)";
/// What to say where there is no [`openssl`].
pub const NEEDS_OPENSSL: &str = "openssl (`apt-get install openssl`)";
/// What to say where there is no [`npm`].
pub const NEEDS_NPM: &str = "npm (`apt-get install npm`)";
/// What to say where [`lesser_user`] says no.
pub const NEEDS_SETPRIV: &str = "setpriv, since this is root (`apt-get install util-linux`)";

/// Whether a program that refuses to run as root can be run here.
pub fn lesser_user() -> bool {
    use std::os::unix::fs::MetadataExt;
    let root = std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    !root || output("setpriv", &["--version"]).is_some()
}

/// Whether there is a Maven with a Java to run it.
pub fn maven() -> bool {
    output("mvn", &["--version"]).is_some()
}

/// Whether there is the program `openssl`.
pub fn openssl() -> bool {
    output("openssl", &["version"]).is_some()
}

/// Whether there is an npm.
pub fn npm() -> bool {
    output("npm", &["--version"]).is_some()
}

fn output(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn version(text: &str) -> Option<(u32, u32)> {
    numbers(text.split_whitespace().nth(1)?)
}

fn go_version(text: &str) -> Option<(u32, u32)> {
    numbers(text.split_whitespace().nth(2)?.strip_prefix("go")?)
}

fn numbers(dotted: &str) -> Option<(u32, u32)> {
    let mut numbers = dotted.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compiler_version_is_read_from_its_banner() {
        assert_eq!(version("rustc 1.95.0 (59807616e 2026-04-14)"), Some((1, 95)));
        assert_eq!(version("rustc 1.100.0-nightly (abc 2026-09-01)"), Some((1, 100)));
        assert_eq!(version("something else"), None);
        assert_eq!(go_version("go version go1.26.8 linux/amd64"), Some((1, 26)));
        assert_eq!(go_version("go version go1.26 linux/amd64"), Some((1, 26)));
        assert_eq!(go_version("go version devel +abc linux/amd64"), None);
    }
}
