//! Pipeline files.

pub mod conform;
pub mod interpolate;
mod schedule;
mod tables;
pub mod yaml;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use longshore_connectors::{ALL, Declaration, Make, Surroundings, find};
use longshore_core::commit::{Contract, DEAD_LETTERS, WriteDisposition};
use longshore_core::destination::Destination;
use longshore_core::error::{Error, Kind, Place, Result, code};
use longshore_core::source::Source;
use longshore_core::stream::StreamSource;
use longshore_engine::{Pipeline, StreamSettings};
use longshore_server::Schedule;
use serde_json::Value;

use self::conform::{conform, unknown};
use self::interpolate::Variables;
use self::schedule::ScheduleSettings;
use self::tables::TableSettings;
use self::yaml::{Content, Node, invalid};
use crate::units;

/// A pipeline: where rows come from, where they land, and under which rules. Values may name variables: `${NAME}`, or
/// `${NAME:-default}`. Relative paths count from the working directory.
#[derive(Debug, Clone, serde::Deserialize, schemars::JsonSchema)]
pub struct Settings {
    /// The pipeline's name: its identity in the store, so it should not change. Letters, digits, `_`, `-` and `.`.
    pipeline: String,
    /// What is read: `type` names the connector, the other keys are its settings.
    #[serde(rename = "source")]
    _source: Value,
    /// Where rows land: `type` names the connector, the other keys are its settings.
    #[serde(rename = "destination")]
    _destination: Value,
    /// Rules for single tables; under `*` for every table that is not named.
    #[serde(default)]
    tables: BTreeMap<String, TableSettings>,
    /// What becomes of the rows that a table has.
    #[serde(default)]
    write: Write,
    /// What does not fit.
    #[serde(default)]
    dead_letters: DeadLetterSettings,
    /// When `longshore serve` runs it; `longshore run` runs it at once.
    #[serde(default)]
    schedule: Option<ScheduleSettings>,
    /// When what an endless source brings is committed.
    #[serde(default)]
    commit: CommitSettings,
    /// A folder of schema files for the tables of an endless source, in BigQuery's own JSON: `TABLE.json` or `TABLE.schema.json`. Its tables are
    /// made, and get the columns that are added to their files, while the pipeline runs.
    #[serde(default)]
    schemas: Option<PathBuf>,
    /// Whether a table that an endless source names and that is not there is made, in the shape of its first messages. Columns are then added,
    /// too, unless `tables` says otherwise.
    #[serde(default)]
    create_tables: bool,
    /// What becomes of a table of an endless source that cannot be written for a while: the others go on, and its rows wait.
    #[serde(default)]
    parking: ParkingSettings,
}

/// What becomes of the rows that a table has.
#[derive(Debug, Clone, Copy, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Write {
    /// They stay.
    #[default]
    Append,
    /// They are replaced, in the same commit.
    Truncate,
    /// There must be none.
    Empty,
}

/// What becomes of records that do not fit.
#[derive(Debug, Clone, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct DeadLetterSettings {
    /// The table of the destination that keeps them: `_dead_letters`.
    table: Option<String>,
    /// A folder that copies of the dead letters of an endless source go to, besides the table: `ID` with the message's bytes and `ID.json` with the
    /// reason. (A topic for copies is a setting of the source.)
    folder: Option<PathBuf>,
    /// More than this and the run ends with exit code 6.
    max: Option<u64>,
    /// Whether to stop then, with nothing of that commit published.
    stop_on_max: bool,
}

/// When what an endless source brings is committed: as soon as one of these is reached.
#[derive(Debug, Clone, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct CommitSettings {
    /// The time after the first message: `1s`, `5m`. `10s` if not given.
    every: Option<String>,
    /// Messages; a million if not given.
    messages: Option<u64>,
    /// Bytes of messages: `64MB`. `256MiB` if not given.
    bytes: Option<String>,
}

/// What becomes of a table that cannot be written for a while.
#[derive(Debug, Clone, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct ParkingSettings {
    /// How long a commit waits for the table before it is completed without it. `30s` if not given.
    after: Option<String>,
    /// Bytes of rows that may wait in all; with more the run ends. `10GiB` if not given.
    max: Option<String>,
}

/// A connector with its settings.
pub struct Connector {
    /// Which one.
    pub declaration: &'static Declaration,
    /// Its settings, checked against its schema.
    pub settings: Value,
}

/// A source, made.
pub enum Opened {
    /// One that a run reads to its end.
    Finite(Arc<dyn Source>),
    /// One that never ends.
    Endless(Arc<dyn StreamSource>),
}

/// A pipeline file, read and checked.
pub struct PipelineFile {
    /// What a run is asked to do, but for what the command line says.
    pub pipeline: Pipeline,
    /// What is read.
    pub source: Connector,
    /// Where it lands.
    pub destination: Connector,
    /// When `serve` runs it.
    pub schedule: Option<Schedule>,
}

/// The JSON schema of a pipeline file, without its connectors' settings.
pub fn schema() -> Value {
    schemars::schema_for!(Settings).to_value()
}

impl PipelineFile {
    /// Reads and checks a file. Errors: kind `Config`, with file, line and column.
    pub fn read(path: &Path, parameters: BTreeMap<String, String>) -> Result<Self> {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|e| {
            Error::new(Kind::Config, code::CONFIG, "the pipeline file cannot be read")
                .at(Place { file: file.clone(), ..Place::default() })
                .caused_by(e)
                .hint("`longshore init` writes one to start from")
        })?;
        Self::parse(&file, &text, &Variables::new(parameters))
    }

    /// Checks the text of a file, likewise.
    pub fn parse(file: &str, text: &str, variables: &Variables) -> Result<Self> {
        let mut root = yaml::parse(file, text)?;
        variables.fill(&mut root)?;
        let schema = schema();
        let value = conform(&root, &schema, &schema, "")?;
        let settings: Settings = serde_json::from_value(value).map_err(|e| {
            Error::new(Kind::Config, code::CONFIG, "the pipeline file cannot be used")
                .at(Place { file: file.to_owned(), ..Place::default() })
                .caused_by(e)
        })?;
        let source = connector(&root, "source")?;
        let destination = connector(&root, "destination")?;
        let pipeline = settings.pipeline(&root, &source, &destination)?;
        let mut file = Self { pipeline, source, destination, schedule: None };
        if let (Some(schedule), Some(node)) = (&settings.schedule, root.get("schedule")) {
            file.schedule = Some(schedule.of(node, file.is_endless())?);
        }
        Ok(file)
    }

    /// Makes the source.
    pub fn open_source(&self, surroundings: &Surroundings) -> Result<Opened> {
        match self.source.declaration.make {
            Make::Source { open, .. } => Ok(Opened::Finite(open(self.source.settings.clone(), surroundings)?)),
            Make::Stream { open, .. } => Ok(Opened::Endless(open(self.source.settings.clone(), surroundings)?)),
            Make::Destination { .. } => Err(self.source.misplaced()),
        }
    }

    /// Whether the source never ends.
    pub fn is_endless(&self) -> bool {
        matches!(self.source.declaration.make, Make::Stream { .. })
    }

    /// Makes the destination.
    pub fn open_destination(&self, surroundings: &Surroundings) -> Result<Arc<dyn Destination>> {
        match self.destination.declaration.make {
            Make::Destination { open, .. } => open(self.destination.settings.clone(), surroundings),
            Make::Source { .. } | Make::Stream { .. } => Err(self.destination.misplaced()),
        }
    }
}

impl Connector {
    fn misplaced(&self) -> Error {
        let (name, role) = (self.declaration.name, self.declaration.role());
        Error::new(Kind::Config, code::CONFIG, format!("`{name}` is a {role}, which does not fit here"))
    }
}

impl Settings {
    fn pipeline(self: &Settings, root: &Node, source: &Connector, destination: &Connector) -> Result<Pipeline> {
        let place = |key: &str| root.get(key).map_or_else(|| root.place.clone(), |node| node.place.clone());
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if self.pipeline.is_empty() || !self.pipeline.chars().all(fits) {
            return Err(invalid(place("pipeline"), "a pipeline's name has letters, digits, `_`, `-` and `.` only"));
        }
        if self.dead_letters.table.as_deref().is_some_and(|table| table != DEAD_LETTERS) {
            let table = root.get("dead_letters").and_then(|node| node.get("table"));
            let place = table.map_or_else(|| place("dead_letters"), |node| node.place.clone());
            return Err(invalid(place, format!("in this version dead letters are kept in the table `{DEAD_LETTERS}`")));
        }
        let nodes = root.get("tables");
        let option = |(name, table): (&String, &TableSettings)| {
            let node = nodes.and_then(|nodes| nodes.get(name)).unwrap_or(root);
            Ok((name.clone(), table.options(node)?))
        };
        let any = self.tables.get("*");
        let endless = matches!(source.declaration.make, Make::Stream { .. });
        let contracts = self.tables.iter().filter(|(name, _)| *name != "*");
        Ok(Pipeline {
            name: self.pipeline.clone(),
            inputs: match source.declaration.make {
                Make::Source { inputs, .. } | Make::Stream { inputs, .. } => inputs(&source.settings),
                Make::Destination { .. } => return Err(source.misplaced()),
            },
            destination: match destination.declaration.make {
                Make::Destination { place, .. } => place(&destination.settings)?,
                Make::Source { .. } | Make::Stream { .. } => return Err(destination.misplaced()),
            },
            contract: any.and_then(TableSettings::contract).unwrap_or(if endless && !self.create_tables {
                Contract::Freeze
            } else {
                Contract::Evolve
            }),
            contracts: contracts.filter_map(|(name, table)| Some((name.clone(), table.contract()?))).collect(),
            disposition: match self.write {
                Write::Append => WriteDisposition::Append,
                Write::Truncate => WriteDisposition::Truncate,
                Write::Empty => WriteDisposition::Empty,
            },
            options: self.tables.iter().map(option).collect::<Result<_>>()?,
            changes: self.tables.iter().filter_map(|(name, table)| Some((name.clone(), table.changes()?))).collect(),
            max_dead_letters: self.dead_letters.max,
            stop_on_max: self.dead_letters.stop_on_max,
            stream: self.stream(root)?,
            ..Pipeline::default()
        })
    }
}

impl Settings {
    /// How an endless source is landed.
    fn stream(&self, root: &Node) -> Result<StreamSettings> {
        let node = |block: &str, key: &str| root.get(block).and_then(|node| node.get(key)).unwrap_or(root);
        let read = |block: &str, key: &str, text: &Option<String>, parse: fn(&str) -> Result<u64, String>, or: u64| match text {
            None => Ok(or),
            Some(text) => parse(text).map_err(|why| invalid(node(block, key).place.clone(), format!("`{block}.{key}`: {why}"))),
        };
        let millis = |text: &str| Ok(units::duration(text)?.as_millis() as u64);
        let default = StreamSettings::default();
        let (every, park_after) = (default.commit_every.as_millis() as u64, default.park_after.as_millis() as u64);
        Ok(StreamSettings {
            commit_every: Duration::from_millis(read("commit", "every", &self.commit.every, millis, every)?.max(1)),
            commit_messages: self.commit.messages.unwrap_or(default.commit_messages).max(1),
            commit_bytes: read("commit", "bytes", &self.commit.bytes, units::bytes, default.commit_bytes)?.max(1),
            schemas: self.schemas.clone(),
            create_tables: self.create_tables,
            dead_letter_folder: self.dead_letters.folder.clone(),
            park_after: Duration::from_millis(read("parking", "after", &self.parking.after, millis, park_after)?.max(1)),
            max_parked_bytes: read("parking", "max", &self.parking.max, units::bytes, default.max_parked_bytes)?,
            ..default
        })
    }
}

/// The block `role` of a pipeline file: its connector and the settings that it takes.
fn connector(root: &Node, role: &str) -> Result<Connector> {
    let missing = || invalid(root.place.clone(), format!("`{role}` is missing"));
    let block = root.get(role).ok_or_else(missing)?;
    let Content::Map(entries) = &block.content else {
        return Err(invalid(block.place.clone(), format!("`{role}` must be a map of settings, not {}", block.what())));
    };
    let known: Vec<&str> = ALL.iter().filter(|d| d.role() == role).map(|d| d.name).collect();
    let Some(type_) = block.get("type") else {
        let known = known.join(", ");
        return Err(invalid(block.place.clone(), format!("`{role}` has no `type`")).hint(format!("known: {known}")));
    };
    let name = match &type_.content {
        Content::Scalar { text, .. } => text.as_str(),
        _ => return Err(invalid(type_.place.clone(), format!("`{role}.type` must be a text, not {}", type_.what()))),
    };
    let Some(declaration) = find(name).filter(|declaration| declaration.role() == role) else {
        let (message, hint) = unknown(&format!("the {role}"), name, &known);
        return Err(invalid(type_.place.clone(), message).hint(hint));
    };
    let rest: Vec<_> = entries.iter().filter(|(key, _)| key.name != "type").cloned().collect();
    let rest = Node { place: block.place.clone(), content: Content::Map(rest) };
    let schema = (declaration.settings)();
    Ok(Connector { declaration, settings: conform(&rest, &schema, &schema, role)? })
}

#[cfg(test)]
mod tests;
