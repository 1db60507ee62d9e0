//! `longshore init`: a pipeline file with comments, and a file for it to load.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use longshore_core::error::{Error, Kind, Result, code};
use serde_json::json;

use crate::args::InitArgs;
use crate::console::Console;
use crate::exit;

/// What is written, by name.
pub const FILES: &[(&str, &str)] =
    &[("readings.yaml", include_str!("init/readings.yaml")), ("readings.csv", include_str!("init/readings.csv"))];

/// Writes the files that are not there; leaves those that are.
pub fn run(console: &Console, args: &InitArgs) -> Result<u8> {
    std::fs::create_dir_all(&args.folder).map_err(|e| failed(&args.folder, e))?;
    for (name, text) in FILES {
        let path = args.folder.join(name);
        let written = write_new(&path, text)?;
        if console.json {
            console.object(&json!({"file": path, "written": written}))?;
        } else if written {
            console.data(path.display())?;
        } else {
            console.warning(format!("{} is there already and was left as it is", path.display()));
        }
    }
    let here = args.folder == Path::new(".");
    let go = if here { String::new() } else { format!("cd {} && ", args.folder.display()) };
    console.note(format!("\nnext: {go}longshore run readings.yaml"));
    Ok(exit::DONE)
}

/// False if there is such a file.
fn write_new(path: &Path, text: &str) -> Result<bool> {
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(mut file) => file.write_all(text.as_bytes()).map(|()| true).map_err(|e| failed(path, e)),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(failed(path, e)),
    }
}

fn failed(path: &Path, e: std::io::Error) -> Error {
    Error::new(Kind::Config, code::CONFIG, format!("{} cannot be written", path.display())).caused_by(e)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::pipeline::PipelineFile;

    #[test]
    fn the_pipeline_file_that_init_writes_can_be_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(FILES[0].0);
        std::fs::write(&path, FILES[0].1).expect("written");
        let file = PipelineFile::read(&path, BTreeMap::new()).expect("reads");
        assert_eq!(file.pipeline.name, "readings");
        assert_eq!(file.pipeline.inputs, ["readings.csv"]);
    }
}
