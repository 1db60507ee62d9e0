//! Servers that tests run against, each from the registry of packages that has it.

mod bigquery;
mod java;
mod kafka;
mod postgres;
mod pubsub;
mod registry;

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Outcome, Workspace, machine, skip};

pub use bigquery::python;

/// Installs what is missing and returns the folder of it, which is in the target folder. What this machine cannot have is
/// said loudly. `longshore_testkit::services` starts what is there and knows the layout: each part is a folder of its own
/// with a stamp, `installed.txt`, that is written last.
pub fn install(workspace: &Workspace) -> Outcome<PathBuf> {
    let folder = workspace.target.join("services");
    bigquery::install(workspace, &folder)?;
    pubsub::install(workspace, &folder)?;
    postgres::install(workspace, &folder)?;
    if let Some(java) = java::install(workspace, &folder)? {
        kafka::install(workspace, &folder, &java)?;
        registry::install(workspace, &folder, &java)?;
    }
    Ok(folder)
}

/// Kafka, as [`fn@kafka`] installs it.
pub struct Kafka {
    /// The Java that runs it.
    pub java: PathBuf,
    /// Its folder; see [`kafka::install`].
    pub folder: PathBuf,
}

/// Installs Kafka alone, if it is missing. A machine that cannot have it is told what it lacks.
pub fn kafka(workspace: &Workspace) -> Outcome<Kafka> {
    machine::can_have_kafka()?;
    let folder = workspace.target.join("services");
    let java = java::install(workspace, &folder)?.ok_or("Java could not be installed")?;
    kafka::install(workspace, &folder, &java)?;
    Ok(Kafka { java, folder: folder.join("kafka") })
}

/// Any Kafka that is installed, or else as [`mod@kafka`]; no time is spent on whether it is the version that tests want.
pub fn any_kafka(workspace: &Workspace) -> Outcome<Kafka> {
    let folder = workspace.target.join("services");
    let found = Kafka { java: folder.join("java/bin/java"), folder: folder.join("kafka") };
    if found.java.exists() && found.folder.join("installed.txt").exists() { Ok(found) } else { kafka(workspace) }
}

/// Whether this machine has what a part needs; if it lacks something, that is said loudly.
fn possible(part: &str, needs: &[(bool, &str)]) -> Outcome<bool> {
    let missing: Vec<&str> = needs.iter().filter(|(found, _)| !found).map(|(_, need)| *need).collect();
    if !missing.is_empty() {
        skip(&format!("the tests that need {part}, for which this machine lacks {}", missing.join(" and ")))?;
    }
    Ok(missing.is_empty())
}

/// Fills an empty folder, unless it has been filled for `wanted` before. An interrupted installation is made anew.
fn once(folder: &Path, wanted: &str, fill: impl FnOnce() -> Outcome) -> Outcome {
    let stamp = folder.join("installed.txt");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    if folder.exists() {
        std::fs::remove_dir_all(folder).map_err(|e| format!("cannot empty {}: {e}", folder.display()))?;
    }
    std::fs::create_dir_all(folder).map_err(|e| format!("cannot create {}: {e}", folder.display()))?;
    fill()?;
    write(&stamp, wanted)
}

/// A Go that uses the versions it is told. A person's own setting may be one that only fits their own modules; what they set
/// for this call counts.
fn go(modules: &str) -> Command {
    let mut go = Command::new("go");
    if std::env::var_os("GOFLAGS").is_none() {
        go.env("GOFLAGS", format!("-mod={modules}"));
    }
    go
}

/// A goal of the plugin that copies what a project needs, with checksums that must be right.
fn maven(project: &Path, goal: &str, into: &Path) -> Outcome {
    let goal = format!("org.apache.maven.plugins:maven-dependency-plugin:3.6.1:{goal}");
    let mut maven = Command::new("mvn");
    maven.args(["--quiet", "--batch-mode", "--strict-checksums", "-Dstyle.color=never", "--file"]).arg(project).arg(goal);
    // Or it notes what it has unpacked beside the project.
    maven.args(["-DincludeScope=runtime".to_owned(), format!("-DmarkersDirectory={}", into.join("markers").display())]);
    crate::run(maven.arg(format!("-DoutputDirectory={}", into.display())))
}

pub fn read(path: &Path) -> Outcome<String> {
    std::fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))
}

pub fn write(path: &Path, text: &str) -> Outcome {
    std::fs::write(path, text).map_err(|e| format!("cannot write {}: {e}", path.display()))
}

pub fn copy(from: &Path, to: &Path) -> Outcome {
    std::fs::copy(from, to).map(drop).map_err(|e| format!("cannot copy {} to {}: {e}", from.display(), to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_interrupted_is_made_anew_and_what_was_finished_is_kept() {
        let folder = std::env::temp_dir().join(format!("longshore-once-{}", std::process::id()));
        let half = || std::fs::write(folder.join("half"), "").map_err(|e| e.to_string()).and(Err("interrupted".to_owned()));
        assert!(once(&folder, "a", half).is_err());
        assert!(folder.join("half").exists());
        once(&folder, "a", || Ok(())).expect("a second try");
        assert!(!folder.join("half").exists());
        once(&folder, "a", || Err("nothing is left to do".to_owned())).expect("it is installed");
        assert!(once(&folder, "b", half).is_err(), "another version is another installation");
        std::fs::remove_dir_all(&folder).expect("our own folder");
    }

    #[test]
    fn what_a_machine_lacks_is_a_part_that_is_not_installed_and_in_ci_a_failure() {
        assert_eq!(possible("nothing", &[(true, "this machine")]), Ok(true));
        let lacking = possible("a test of the tests", &[(true, "this machine"), (false, "that one")]);
        if std::env::var_os("CI").is_some_and(|ci| ci == "true") {
            assert!(lacking.is_err_and(|why| why.contains("that one") && !why.contains("this machine lacks this")));
        } else {
            assert_eq!(lacking, Ok(false));
        }
    }
}
