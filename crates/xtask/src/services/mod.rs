//! Servers that tests run against: an emulator of BigQuery, from Python, and one of Cloud Storage, from Go.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Outcome, Workspace, machine, readers, skip};

/// The packages of the environment that runs the emulator of BigQuery.
const PACKAGES: &str = "tests/services.txt";
/// What that emulator needs of DuckDB. Unless it finds them in its home, DuckDB asks the network for them.
const EXTENSIONS: [&str; 2] = ["avro", "spatial"];
const CLOUD_STORAGE: &str = "github.com/fsouza/fake-gcs-server@v1.56.1";

/// Installs what is missing and returns the folder of it; `None` (said loudly) if this machine cannot have it. It is kept
/// in the target folder. `longshore_testkit::services` starts what is there and knows its layout: `python` is a virtual
/// environment, `home` the HOME of its programs, `bin` has what Go built.
pub fn install(workspace: &Workspace) -> Outcome<Option<PathBuf>> {
    let mut missing = Vec::new();
    if machine::python().is_none() {
        missing.push(machine::NEEDS_PYTHON);
    }
    if !machine::go() {
        missing.push(machine::NEEDS_GO);
    }
    if !missing.is_empty() {
        skip(&format!("the tests that need servers, for which this machine lacks {}", missing.join(" and ")))?;
        return Ok(None);
    }
    let folder = workspace.target.join("services");
    let Some(python) = python(workspace)? else { return Ok(None) };
    extensions(&folder, &python, &read(&workspace.root.join(PACKAGES))?)?;
    cloud_storage(&folder)?;
    Ok(Some(folder))
}

/// The interpreter of the environment that has Google's own clients, with the emulator; `None` (said loudly) if this machine cannot have it.
pub fn python(workspace: &Workspace) -> Outcome<Option<PathBuf>> {
    readers::python_with(workspace, "services/python", &workspace.root.join(PACKAGES))
}

/// Copies the extensions out of their packages to where DuckDB looks for them.
fn extensions(folder: &Path, python: &Path, packages: &str) -> Outcome {
    let home = folder.join("home");
    once(&home, packages, || {
        let script = "import sys, duckdb_extensions as d; [d.import_extension(name) for name in sys.argv[1:]]";
        crate::run(Command::new(python).args(["-c", script]).args(EXTENSIONS).env("HOME", &home))
    })
}

fn cloud_storage(folder: &Path) -> Outcome {
    let bin = folder.join("bin");
    once(&bin, CLOUD_STORAGE, || {
        eprintln!("building {CLOUD_STORAGE}: some minutes, once");
        let mut go = Command::new("go");
        go.args(["install", CLOUD_STORAGE]).current_dir(&bin).env("GOBIN", &bin);
        // A person's own setting may be one that only fits their own modules; what they set for this call counts.
        if std::env::var_os("GOFLAGS").is_none() {
            go.env("GOFLAGS", "-mod=mod");
        }
        crate::run(&mut go)
    })
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
    std::fs::write(&stamp, wanted).map_err(|e| format!("cannot write {}: {e}", stamp.display()))
}

fn read(path: &Path) -> Outcome<String> {
    std::fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))
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
}
