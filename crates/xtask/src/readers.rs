//! Other programs that read the tables we write: delta-rs, Polars and DuckDB, from Python.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Outcome, Workspace, machine, skip};

/// The interpreter of an environment with the packages of `tests/requirements.txt`; see [`python_with`].
pub fn python(workspace: &Workspace) -> Outcome<Option<PathBuf>> {
    python_with(workspace, "python", &workspace.root.join("tests/requirements.txt"))
}

/// The interpreter of the environment `name` with the packages of `list`; `None` (said loudly) if this machine cannot have
/// one. It is kept in the target folder and made anew when the list changes.
pub fn python_with(workspace: &Workspace, name: &str, list: &Path) -> Outcome<Option<PathBuf>> {
    let wanted = std::fs::read_to_string(list).map_err(|e| format!("cannot read {}: {e}", list.display()))?;
    let folder = workspace.target.join(name);
    let python = folder.join("bin/python");
    let stamp = folder.join("installed.txt");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(Some(python));
    }
    let Some(system) = machine::python() else {
        skip(&format!("what runs in Python needs {}", machine::NEEDS_PYTHON))?;
        return Ok(None);
    };
    crate::run(Command::new(system).args(["-m", "venv", "--clear"]).arg(&folder))?;
    crate::run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]).arg(list))?;
    // Written last: an interrupted installation is made anew.
    std::fs::write(&stamp, wanted).map_err(|e| format!("cannot write {}: {e}", stamp.display()))?;
    Ok(Some(python))
}

/// Lets the other readers compare what they see with what `longshore query` says.
pub fn run(workspace: &Workspace, python: &Path) -> Outcome {
    let binary = workspace.binary()?;
    let script = workspace.root.join("tests/readers.py");
    crate::run(Command::new(python).arg(script).arg(binary).current_dir(&workspace.root))
}
