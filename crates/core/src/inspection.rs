//! What a destination says of a run before it: whether it can be reached, what the run may not do there, what it would cost.

use serde_json::{Map, Value};

/// How one thing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As a run needs it.
    Fine,
    /// A run would fail for it.
    Wrong,
    /// Nobody tells before the run.
    Unknown,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// What: `dataset`, or the name of a permission.
    pub subject: String,
    /// How it stands.
    pub verdict: Verdict,
    /// The same in words: lower case, no final period.
    pub words: String,
    /// What a person can do, or should know.
    pub hint: Option<String>,
    /// What the words say in numbers, for programs; the unit is part of each name.
    pub numbers: Map<String, Value>,
}

impl Finding {
    /// A finding without hint and numbers.
    pub fn new(subject: impl Into<String>, verdict: Verdict, words: impl Into<String>) -> Self {
        Self { subject: subject.into(), verdict, words: words.into(), hint: None, numbers: Map::new() }
    }

    /// Something that a run needs and has.
    pub fn fine(subject: impl Into<String>, words: impl Into<String>) -> Self {
        Self::new(subject, Verdict::Fine, words)
    }

    /// An error as a finding: its message with what is at the bottom of it, and its hint, or else where its code is explained.
    pub fn of_error(subject: impl Into<String>, verdict: Verdict, error: &crate::Error) -> Self {
        let mut words = error.to_string();
        if let Some(cause) = root(error) {
            words += &format!(": {cause}");
        }
        let hint = error.hint_text().map_or_else(|| format!("`longshore explain {}` says more", error.code()), str::to_owned);
        Self::new(subject, verdict, words).hint(hint)
    }

    /// Says what a person can do, or should know.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds a number. The unit is part of its name: `bytes`, `usd`.
    #[must_use]
    pub fn number(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.numbers.insert(name.to_owned(), value.into());
        self
    }
}

/// The first line of the innermost error; those between say the same at greater length.
fn root(error: &crate::Error) -> Option<String> {
    let mut root = std::error::Error::source(error)?;
    while let Some(inner) = root.source() {
        root = inner;
    }
    root.to_string().lines().next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, Kind, code};

    #[test]
    fn an_error_becomes_a_finding_with_its_first_cause_and_a_hint_in_every_case() {
        let between =
            || Error::new(Kind::Source, code::USAGE, "the call failed").caused_by(std::io::Error::other("no route\nat all"));
        let error = || Error::new(Kind::Destination, code::CONFIG, "no answer").caused_by(between());
        let told = Finding::of_error("server", Verdict::Wrong, &error());
        let hint = Some("`longshore explain config` says more");
        assert_eq!((told.words.as_str(), told.hint.as_deref()), ("no answer: no route", hint));
        let told = Finding::of_error("server", Verdict::Wrong, &error().hint("look at the address"));
        assert_eq!(told.hint.as_deref(), Some("look at the address"));
    }
}
