//! The settings of the `files` source: `load`'s flags and a pipeline file's `source:` block are both read into this.

use std::collections::BTreeMap;
use std::path::PathBuf;

use longshore_core::schema::TableSchema;

/// Files: JSON, CSV and XML, one by one, by pattern or by folder; gzip and zstd are recognised by content.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FilesConfig {
    /// Paths, patterns (`data/*.xml`) or folders; `-` is standard input. One text or a list.
    #[serde(deserialize_with = "one_or_many")]
    pub path: Vec<String>,
    /// The one table that every record goes to.
    pub table: Option<String>,
    /// Tables and where their records are: an XML element path (`/Root/Orders/Order`) or a JSON pointer (`/data/items`).
    pub records: BTreeMap<String, String>,
    /// How the files are written. `auto` looks at the content.
    pub format: FormatName,
    /// The columns of each table, as BigQuery schema JSON. Under `*`, of the one table.
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub schema: BTreeMap<String, TableSchema>,
    /// Types of single columns, `COLUMN` or `TABLE.COLUMN`, a dot before each nested field: `{"ShipInfo.Freight": "STRING"}`.
    pub types: BTreeMap<String, String>,
    /// Whether types are found from the content; with `off`, what no schema names is STRING.
    pub infer: Infer,
    /// How CSV is written.
    pub csv: CsvConfig,
    /// What happens to a file that has a record which does not fit.
    pub on_bad_record: OnBadRecord,
    /// A folder that files which cannot be read are moved to, each with a reason beside it.
    pub dead_letter_dir: Option<PathBuf>,
    /// What happens to a file once it has landed.
    pub after_load: AfterLoad,
    /// The folder for `after_load: move`.
    pub move_to: Option<PathBuf>,
    /// A name for standard input in the file ledger, so that it is not loaded twice.
    pub name: Option<String>,
}

/// How files are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FormatName {
    /// Found from the content.
    #[default]
    Auto,
    /// JSON lines, one array of objects, or one object.
    Json,
    /// Delimited text.
    Csv,
    /// XML.
    Xml,
}

/// Whether types are found from the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Infer {
    /// They are.
    #[default]
    On,
    /// Everything is STRING.
    Off,
}

/// What happens to a file with a bad record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnBadRecord {
    /// The record becomes a dead letter, the rest lands.
    #[default]
    DeadLetter,
    /// The whole file becomes a dead letter.
    RejectFile,
}

/// What happens to a file once it has landed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AfterLoad {
    /// It stays.
    #[default]
    Keep,
    /// It is moved to `move_to`.
    Move,
    /// It is deleted.
    Delete,
}

/// How CSV is written. What is not given is found from the first MiB.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CsvConfig {
    /// `,`, `;`, `|`, `tab` or any other single byte.
    pub delimiter: Option<String>,
    /// Whether the first row names the columns.
    pub header: CsvHeader,
    /// An unquoted text that means NULL, beside the empty one.
    pub null: Option<String>,
    /// The quote, `"` if not given; `none` for none.
    pub quote: Option<String>,
    /// What happens to a row with too few values.
    pub jagged: Jagged,
}

/// Whether the first row names the columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CsvHeader {
    /// If it is all text, unique, and differs in type from later rows.
    #[default]
    Auto,
    /// It does.
    Yes,
    /// It does not: `c1`, `c2` ...
    No,
}

/// What happens to a row with too few values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Jagged {
    /// It is a dead letter.
    #[default]
    Reject,
    /// The missing values are NULL.
    Fill,
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(match serde::Deserialize::deserialize(deserializer)? {
        OneOrMany::One(one) => vec![one],
        OneOrMany::Many(many) => many,
    })
}
