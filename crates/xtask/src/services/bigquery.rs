//! An emulator of BigQuery, from Python, and one of Cloud Storage, from Go.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{go, once, possible, read};
use crate::{Outcome, Workspace, machine, readers};

/// The packages of the environment that runs the emulator of BigQuery.
const PACKAGES: &str = "tests/services.txt";
/// What that emulator needs of DuckDB. Unless it finds them in its home, DuckDB asks the network for them.
const EXTENSIONS: [&str; 2] = ["avro", "spatial"];
const CLOUD_STORAGE: &str = "github.com/fsouza/fake-gcs-server@v1.56.1";

/// `python` is a virtual environment, `home` the HOME of its programs, `bin` has what Go built.
pub fn install(workspace: &Workspace, folder: &Path) -> Outcome {
    let needs = [(machine::python().is_some(), machine::NEEDS_PYTHON), (machine::go(), machine::NEEDS_GO)];
    if !possible("BigQuery or Cloud Storage", &needs)? {
        return Ok(());
    }
    let Some(python) = python(workspace)? else { return Ok(()) };
    extensions(folder, &python, &read(&workspace.root.join(PACKAGES))?)?;
    cloud_storage(folder)
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
        crate::run(go("mod").args(["install", CLOUD_STORAGE]).current_dir(&bin).env("GOBIN", &bin))
    })
}
