//! The settings that every source of messages has, beside its own.

use std::path::PathBuf;

use longshore_files::config::Jagged;
use secrecy::SecretString;

use crate::metadata::MetadataColumns;
use crate::route::Route;

/// What messages hold and which tables they go to. Flattened into the settings of a source.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct MessagesConfig {
    /// How the contents of messages are written.
    pub format: Format,
    /// What names the table of a message. One of `table: NAME`, `attribute: NAME` or `header: NAME`, `key: true`, `topic: true`,
    /// `field: NAME` or `field: /JSON/POINTER`, and `expression: "{topic|name}_{header.kind}"`. Not given: the topic's name with
    /// Kafka, the attribute `destination_table` with Pub/Sub.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<Route>,
    /// What else of a message becomes columns: a list of `key`, `headers`, `attributes`, `time`, `topic`, `partition`, `offset`,
    /// `subscription`, `message_id` and `ordering_key`, or a map of these to the names of their columns. The columns are called `_key`,
    /// `_headers`, `_attributes`, `_time`, `_topic`, `_topic_partition`, `_offset`, `_subscription`, `_message_id` and
    /// `_ordering_key` if nothing else is said. Keys and the values of headers are BYTES, attributes STRING; `{key: {name: k, type:
    /// STRING}}` or a table's own column says otherwise.
    pub columns: MetadataColumns,
    /// Whether messages are changes by key: one without content deletes the row of its key, any other one is the row as it is now.
    pub changes: bool,
    /// With `changes`, the column of a key that has no fields of its own: `key` if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_column: Option<String>,
    /// Cuts times that are finer than a microsecond, the finest that a table holds. If not, such a time does not fit its column.
    pub truncate_nanoseconds: bool,
    /// Takes texts with a day and a time and no zone to be in UTC where the column is a TIMESTAMP. If not, they do not fit it.
    pub assume_utc: bool,
    /// How `format: raw` is taken.
    pub raw: RawConfig,
    /// How `format: csv` is written.
    pub csv: CsvConfig,
    /// What `format: avro` is written by, where it is not a schema registry.
    pub avro: AvroConfig,
    /// What `format: protobuf` is written by, where it is not a schema registry.
    pub protobuf: ProtobufConfig,
    /// The schema registry that has the schemas of messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry: Option<Registry>,
}

/// How the contents of messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// One JSON object each. A schema registry's five bytes before it are skipped.
    #[default]
    Json,
    /// One JSON object each, whose columns are those of a JSON Schema in the schema registry.
    JsonSchema,
    /// Avro, by a schema of the schema registry or of a file.
    Avro,
    /// Protocol Buffers, by a schema of the schema registry or of a file.
    Protobuf,
    /// One row of delimited text each.
    Csv,
    /// Any bytes: one column.
    Raw,
}

/// How raw bytes are taken.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawConfig {
    /// The column: `value` if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// Whether it is text. The column is then STRING instead of BYTES, and what is not UTF-8 is a dead letter.
    pub text: bool,
}

/// How rows of delimited text are written. Quotes double inside of quotes.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CsvConfig {
    /// The columns, in the order of the values.
    pub columns: Vec<String>,
    /// `,` (if not given), `;`, `|`, `tab` or any other single byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<String>,
    /// The quote, `"` if not given; `none` for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quote: Option<String>,
    /// An unquoted text that means NULL, beside the empty one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub null: Option<String>,
    /// What happens to a row with too few values.
    pub jagged: Jagged,
}

/// The schema of Avro messages that name none.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AvroConfig {
    /// A file with the schema (`.avsc`) that every message is written by. Messages are then plain Avro, or begin with the mark of
    /// Avro's single-object encoding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<PathBuf>,
}

/// The schema of Protocol Buffers messages that name none.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProtobufConfig {
    /// A `.proto` file, or a descriptor set as `protoc --include_imports --descriptor_set_out` writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<PathBuf>,
    /// The folder that imports of the `.proto` file start from: its own if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include: Option<PathBuf>,
    /// The full name of the type of every message, as in `shop.v1.Order`. Not needed if the file declares only one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// A schema registry that speaks Confluent's protocol, version 7.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Registry {
    /// Its address: `https://registry.example.com`.
    pub url: String,
    /// The user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The user's password: `${REGISTRY_PASSWORD}`.
    #[serde(default, skip_serializing)]
    #[schemars(with = "Option<String>")]
    pub password: Option<SecretString>,
    /// A bearer token, instead of user and password: `${REGISTRY_TOKEN}`.
    #[serde(default, skip_serializing)]
    #[schemars(with = "Option<String>")]
    pub token: Option<SecretString>,
    /// A file with the certificate of the authority that signed the registry's own (PEM), if it is not one that everybody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
}
