//! A folder with its own warehouse and books, and the program run in it.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output};

use tempfile::TempDir;

/// A temporary working directory.
pub struct Place {
    folder: TempDir,
}

/// What a run of the program said, ready to be compared.
pub struct Said {
    /// The exit code.
    pub code: i32,
    /// Its answer.
    pub stdout: String,
    /// Everything else.
    pub stderr: String,
}

impl Place {
    /// An empty one.
    pub fn new() -> Self {
        Self { folder: TempDir::new().expect("a temporary folder") }
    }

    /// One with these files.
    pub fn with(files: &[(&str, &str)]) -> Self {
        let place = Self::new();
        for (name, text) in files {
            place.write(name, text);
        }
        place
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        self.folder.path().canonicalize().expect("it exists")
    }

    /// Writes a file, and the folders above it.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("folders are made");
        std::fs::write(path, text).expect("the file is written");
    }

    /// Whether there is such a file.
    pub fn has(&self, name: &str) -> bool {
        self.folder.path().join(name).exists()
    }

    /// The program with these arguments, here, with nothing of this machine's settings.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("longshore"));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("LONGSHORE_")) {
            command.env_remove(name);
        }
        command.args(args).current_dir(self.folder.path()).stdin(std::process::Stdio::null());
        command
    }

    /// Runs the program to its end.
    pub fn run(&self, args: &[&str]) -> Said {
        self.said(self.command(args).output().expect("the program runs"))
    }

    /// Runs it and fails unless it ends well.
    pub fn good(&self, args: &[&str]) -> Said {
        let said = self.run(args);
        assert_eq!(said.code, 0, "longshore {}\n{}", args.join(" "), said.stderr);
        said
    }

    /// What was said, with this folder's path replaced.
    pub fn said(&self, output: Output) -> Said {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text").replace(&self.path().display().to_string(), "[DIR]");
        Said { code: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// The answer of a query as JSON lines.
    pub fn rows(&self, sql: &str) -> Vec<serde_json::Value> {
        self.good(&["query", "--json", sql]).objects()
    }
}

impl Said {
    /// Stdout as JSON lines.
    pub fn objects(&self) -> Vec<serde_json::Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e} in {line}"))).collect()
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {}\n--- stdout\n{}--- stderr\n{}", self.code, ended(&self.stdout), ended(&self.stderr))
    }
}

fn ended(text: &str) -> String {
    let mut text = text.to_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        let _ = writeln!(text);
    }
    text
}

/// The package's folder as cargo says it now: two checkouts that share a target folder also share this binary.
pub fn package() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into()).into()
}

/// The example files of the repository.
pub fn examples(name: &str) -> String {
    let path = package().join("../../examples").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Compares what was said with the snapshot of this name.
macro_rules! snapshot {
    ($name:literal, $said:expr) => {{
        let mut settings = insta::Settings::clone_current();
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.set_snapshot_path($crate::place::package().join("tests/cli/snapshots"));
        for (pattern, name) in crate::place::FILTERS {
            settings.add_filter(pattern, *name);
        }
        settings.bind(|| insta::assert_snapshot!($name, $said.to_string()));
    }};
}
pub(crate) use snapshot;

/// What differs from run to run.
pub const FILTERS: &[(&str, &str)] = &[
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "[ID]"),
    (r"\b[0-9a-f]{12}-(\d{6})\b", "[TOKEN]-$1"),
    (r"\b[0-9a-f]{64}\b", "[DIGEST]"),
    (r"\b[0-9a-f]{16}\b", "[DIGEST]"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+(Z|\+00:00)", "[TIME]"),
    (r"20(2[6-9]|[3-9]\d)-\d\d-\d\dT\d\d:\d\d:\d\dZ", "[TIME]"),
    (r"\b\d\d:\d\d:\d\d\.\d{3}\b", "[CLOCK]"),
    (r"in \d+\.\d s", "in [SECONDS]"),
    (r#""seconds":[0-9.e-]+"#, r#""seconds":"[SECONDS]""#),
    (r#"(process |"process":)\d+"#, "${1}[PID]"),
];
