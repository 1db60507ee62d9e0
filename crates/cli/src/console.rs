//! What people and programs read: data on stdout, everything else on stderr.

use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};

use longshore_core::error::{Error, Kind, code};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::args::Global;

/// How to speak. Everything is readable without colour.
#[derive(Debug, Clone)]
pub struct Console {
    /// One JSON object a line.
    pub json: bool,
    quiet: bool,
    /// Not even warnings.
    silent: bool,
    colour: bool,
}

impl Console {
    /// As the flags and the terminal say.
    pub fn new(global: &Global) -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let refused = global.no_color || std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        Self {
            json: global.json,
            quiet: global.quiet,
            silent: global.json,
            colour: io::stderr().is_terminal() && !refused && !dumb,
        }
    }

    /// For an error in the arguments themselves.
    pub fn plain_json() -> Self {
        Self { json: true, quiet: false, silent: true, colour: false }
    }

    /// The same, for a command whose answer is not a stream of events: with `--json` nothing but the answer is written.
    pub fn without_events(&self) -> Self {
        Self { json: false, quiet: self.quiet || self.json, silent: self.json, colour: self.colour }
    }

    /// Whether progress may be drawn.
    pub fn draws(&self) -> bool {
        !self.json && !self.quiet && io::stderr().is_terminal()
    }

    /// Whether a person reads stdout.
    pub fn stdout_is_terminal(&self) -> bool {
        io::stdout().is_terminal()
    }

    /// Text to stdout, ended with a line break.
    pub fn data(&self, text: impl fmt::Display) -> longshore_core::Result<()> {
        written(writeln!(io::stdout().lock(), "{text}"))
    }

    /// One JSON object to stdout.
    pub fn object(&self, value: &impl Serialize) -> longshore_core::Result<()> {
        let text = serde_json::to_string(value)
            .map_err(|e| Error::new(Kind::Bug, code::BUG, "an answer could not be written as JSON").caused_by(e))?;
        self.data(text)
    }

    /// A line that one may do without.
    pub fn note(&self, text: impl fmt::Display) {
        if !self.json && !self.quiet {
            self.to_stderr(&text.to_string());
        }
    }

    /// A line that deserves a look.
    pub fn warning(&self, text: impl fmt::Display) {
        if !self.silent {
            self.to_stderr(&format!("{} {text}", self.paint("33;1", "warning:")));
        }
    }

    /// An error: message, chain, context, hint; one object with `--json`.
    pub fn error(&self, error: &Error, exit_code: u8) {
        if self.json {
            self.to_stderr(&error_object(error, exit_code).to_string());
            return;
        }
        let mut text = format!("{} {error}", self.paint("31;1", "error:"));
        for cause in error.chain() {
            text += &format!("\n  caused by: {cause}");
        }
        for (key, value) in error.context() {
            text += &format!("\n  {}: {value}", key.replace('_', " "));
        }
        if let Some(hint) = error.hint_text() {
            text += &format!("\n\n{} {hint}", self.paint("36;1", "hint:"));
        }
        self.to_stderr(&text);
    }

    fn paint(&self, style: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn to_stderr(&self, text: &str) {
        // Nothing is left to tell it to if stderr is closed.
        let _ = writeln!(io::stderr().lock(), "{text}");
    }
}

/// The columns of the terminal that stdout is, if it is one that says so.
pub fn terminal_width() -> Option<usize> {
    // SAFETY: all zeros is a valid `winsize`.
    #[expect(unsafe_code, reason = "the standard library does not tell how wide a terminal is")]
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: the call writes one `winsize` to the place it is given, which lives longer than the call.
    #[expect(unsafe_code, reason = "the standard library does not tell how wide a terminal is")]
    let answer = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    (answer == 0 && size.ws_col > 0).then_some(usize::from(size.ws_col))
}

/// Judges a write to stdout. A reader that has seen enough (`| head`) is a good end, not an error.
pub fn written<T>(result: io::Result<T>) -> longshore_core::Result<T> {
    result.map_err(|e| {
        if e.kind() == io::ErrorKind::BrokenPipe {
            std::process::exit(i32::from(crate::exit::DONE));
        }
        Error::new(Kind::Destination, code::USAGE, "stdout could not be written").caused_by(e)
    })
}

fn error_object(error: &Error, exit_code: u8) -> Value {
    let mut object = Map::new();
    object.insert("error".into(), json!(error.message()));
    object.insert("code".into(), json!(error.code()));
    object.insert("kind".into(), json!(error.kind()));
    object.insert("exit_code".into(), json!(exit_code));
    if let Some(place) = error.place() {
        object.insert("place".into(), json!(place));
    }
    let chain = error.chain();
    if !chain.is_empty() {
        object.insert("caused_by".into(), json!(chain));
    }
    if !error.context().is_empty() {
        let context: Map<String, Value> = error.context().iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        object.insert("context".into(), Value::Object(context));
    }
    if let Some(hint) = error.hint_text() {
        object.insert("hint".into(), json!(hint));
    }
    Value::Object(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_object_has_everything_that_the_text_has() {
        let error = Error::new(Kind::Source, code::CONFIG, "file is gone")
            .at(longshore_core::error::Place { file: "a.csv".into(), line: Some(3), column: None })
            .with("bytes", 12)
            .hint("look again")
            .caused_by(io::Error::other("disk on fire"));
        let expected = json!({
            "error": "file is gone", "code": "config", "kind": "source", "exit_code": 4,
            "place": {"file": "a.csv", "line": 3}, "caused_by": ["disk on fire"], "context": {"bytes": "12"}, "hint": "look again",
        });
        assert_eq!(error_object(&error, 4), expected);
    }
}
