//! The one list of sources and destinations: what each is called, what it can do, which settings it takes and how it is
//! made. The command line, `describe`, `explain` and the reference pages read it.
//!
//! A new connector is its folder, a line in this crate's manifest and an entry in [`ALL`].

mod bigquery;
mod delta;
mod files;
mod kafka;
mod pubsub;

use std::path::PathBuf;
use std::sync::Arc;

use longshore_core::Result;
use longshore_core::destination::Destination;
use longshore_core::error::{Code, Error, Kind, code};
use longshore_core::source::Source;
use longshore_core::stream::StreamSource;
use serde_json::Value;

/// Every connector, sources first.
pub const ALL: &[Declaration] =
    &[files::DECLARATION, kafka::DECLARATION, pubsub::DECLARATION, delta::DECLARATION, bigquery::DECLARATION];

/// What a connector says of itself.
#[derive(Debug, Clone, Copy)]
pub struct Declaration {
    /// The name, as `type:` in a pipeline file has it.
    pub name: &'static str,
    /// What it is, in one line.
    pub summary: &'static str,
    /// What it can do, a phrase each.
    pub capabilities: &'static [&'static str],
    /// The JSON schema of its settings, generated from their documentation.
    pub settings: fn() -> Value,
    /// The error and reason codes of its own.
    pub codes: &'static [&'static [Code]],
    /// How it is made.
    pub make: Make,
}

/// How a connector is made from its settings. Errors: kind `Config` if they cannot be used.
#[derive(Debug, Clone, Copy)]
pub enum Make {
    /// A source.
    Source {
        /// Makes it.
        open: fn(Value, &Surroundings) -> Result<Arc<dyn Source>>,
        /// What it reads, for people.
        inputs: fn(&Value) -> Vec<String>,
    },
    /// A source that never ends.
    Stream {
        /// Makes it.
        open: fn(Value, &Surroundings) -> Result<Arc<dyn StreamSource>>,
        /// What it reads, for people.
        inputs: fn(&Value) -> Vec<String>,
    },
    /// A destination.
    Destination {
        /// Makes it.
        open: fn(Value, &Surroundings) -> Result<Arc<dyn Destination>>,
        /// The dataset, for people and as an identity: two settings that mean one place give one text.
        place: fn(&Value) -> Result<String>,
    },
}

/// What a connector may use of the machine.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The store's folder, for what has to be kept beside the books.
    pub state: PathBuf,
    /// A folder for what does not fit into memory: standard input, records that are too large.
    pub spool: PathBuf,
    /// Whether everything is read, whatever landed before: for rows that replace those of their table.
    pub again: bool,
}

impl Declaration {
    /// `source` or `destination`.
    pub fn role(&self) -> &'static str {
        match self.make {
            Make::Source { .. } | Make::Stream { .. } => "source",
            Make::Destination { .. } => "destination",
        }
    }
}

/// The connector of this name.
pub fn find(name: &str) -> Option<&'static Declaration> {
    ALL.iter().find(|declaration| declaration.name == name)
}

/// Every code that somebody may meet, those of the core and of all connectors, in order of name.
pub fn codes() -> Vec<Code> {
    let mut codes: Vec<Code> = code::ALL.to_vec();
    codes.extend(ALL.iter().flat_map(|declaration| declaration.codes.iter().copied().flatten()));
    codes.sort_by_key(|code| code.name);
    // Sources of messages share those of messages.
    codes.dedup();
    codes
}

/// Reads settings into a connector's own form. They were checked against its schema before, so that an error here is rare and
/// names the connector only.
fn read<T: serde::de::DeserializeOwned>(name: &str, settings: Value) -> Result<T> {
    serde_json::from_value(settings)
        .map_err(|e| Error::new(Kind::Config, code::CONFIG, format!("the settings of `{name}` cannot be used")).caused_by(e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_taken_once_and_a_list_declares_a_code_once() {
        let unique = |mut names: Vec<&str>| {
            let all = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), all);
        };
        unique(ALL.iter().map(|declaration| declaration.name).collect());
        for list in ALL.iter().flat_map(|declaration| declaration.codes) {
            unique(list.iter().map(|code| code.name).collect());
        }
    }

    #[test]
    fn every_setting_is_documented() {
        for declaration in ALL {
            let schema = (declaration.settings)();
            let properties = schema["properties"].as_object().expect("an object of settings");
            assert!(!properties.is_empty());
            for (name, property) in properties {
                assert!(property["description"].is_string(), "{}: {name} has no text", declaration.name);
            }
        }
    }
}
