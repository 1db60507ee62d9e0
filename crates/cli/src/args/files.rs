//! The flags that say what to read and how, and the settings that they make.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use longshore_core::error::{Error, Kind, Place, Result, code};
use longshore_core::schema::TableSchema;
use longshore_files::config::{AfterLoad, CsvConfig, CsvHeader, FilesConfig, FormatName, Infer, Jagged, OnBadRecord};

use super::word;
use crate::destination::is_name;

/// What to read and how.
#[derive(Debug, Clone, Args)]
pub struct FileArgs {
    /// Paths, patterns ('data/*.xml') or folders; `-` is standard input.
    #[arg(value_name = "INPUT", required_unless_present = "input")]
    pub inputs: Vec<String>,
    /// One more input.
    #[arg(long, value_name = "INPUT", env = "LONGSHORE_INPUT", value_delimiter = '\n', hide = true)]
    pub input: Vec<String>,
    /// The one table that every record goes to.
    #[arg(long, value_name = "NAME", env = "LONGSHORE_TABLE", conflicts_with = "records", hide_env = true)]
    pub table: Option<String>,
    /// A table and where its records are: an XML element path (/Root/Orders/Order) or a JSON pointer (/data/items). May be repeated.
    #[arg(long, value_name = "NAME=PATH", env = "LONGSHORE_RECORDS", value_delimiter = '\n', value_parser = pair, hide_env = true)]
    pub records: Vec<(String, String)>,
    /// How the files are written; found from the content if not given.
    #[arg(long, env = "LONGSHORE_FORMAT", default_value = "auto", value_parser = word::<FormatName>(&["auto", "json", "csv", "xml"]), hide_env = true)]
    pub format: FormatName,
    /// The columns, as a file of BigQuery schema JSON. May be repeated.
    #[arg(long, value_name = "[TABLE=]FILE", env = "LONGSHORE_SCHEMA", value_delimiter = '\n', hide_env = true)]
    pub schema: Vec<String>,
    /// The type of one column, such as zip=STRING or orders.ShipInfo.Freight=NUMERIC. May be repeated.
    #[arg(long = "type", value_name = "COLUMN=TYPE", env = "LONGSHORE_TYPE", value_delimiter = '\n', value_parser = pair, hide_env = true)]
    pub types: Vec<(String, String)>,
    /// Whether types are found from the content; with `off`, what no schema names is STRING.
    #[arg(long, env = "LONGSHORE_INFER", default_value = "on", value_parser = word::<Infer>(&["on", "off"]), hide_env = true)]
    pub infer: Infer,
    /// What happens to a file that has a record which does not fit.
    #[arg(long, env = "LONGSHORE_ON_BAD_RECORD", default_value = "dead-letter", value_parser = word::<OnBadRecord>(&["dead-letter", "reject-file"]), hide_env = true)]
    pub on_bad_record: OnBadRecord,
    /// A name for standard input, so that what comes under it is not loaded twice.
    #[arg(long, env = "LONGSHORE_NAME", hide_env = true)]
    pub name: Option<String>,
    /// How CSV is written.
    #[command(flatten)]
    pub csv: CsvArgs,
}

/// How CSV is written. What is not given is found from the first MiB.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "CSV")]
pub struct CsvArgs {
    /// `,`, `;`, `|`, `tab` or any other single byte.
    #[arg(long, value_name = "CHAR", env = "LONGSHORE_CSV_DELIMITER", hide_env = true)]
    pub csv_delimiter: Option<String>,
    /// Whether the first row names the columns.
    #[arg(long, env = "LONGSHORE_CSV_HEADER", default_value = "auto", value_parser = word::<CsvHeader>(&["auto", "yes", "no"]), hide_env = true)]
    pub csv_header: CsvHeader,
    /// An unquoted text that means NULL, beside the empty one.
    #[arg(long, value_name = "TEXT", env = "LONGSHORE_CSV_NULL", hide_env = true)]
    pub csv_null: Option<String>,
    /// The quote, `"` if not given; `none` for none.
    #[arg(long, value_name = "CHAR", env = "LONGSHORE_CSV_QUOTE", hide_env = true)]
    pub csv_quote: Option<String>,
    /// What happens to a row with too few values.
    #[arg(long, env = "LONGSHORE_CSV_JAGGED", default_value = "reject", value_parser = word::<Jagged>(&["reject", "fill"]), hide_env = true)]
    pub csv_jagged: Jagged,
}

/// What happens to a file once it has landed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AfterLoadArg {
    /// It stays.
    Keep,
    /// It is moved to this folder.
    Move(PathBuf),
    /// It is deleted.
    Delete,
}

impl FromStr for AfterLoadArg {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text.split_once('=') {
            None if text == "keep" => Ok(Self::Keep),
            None if text == "delete" => Ok(Self::Delete),
            Some(("move", folder)) if !folder.is_empty() => Ok(Self::Move(PathBuf::from(folder))),
            _ => Err("it is keep, move=DIR or delete".to_owned()),
        }
    }
}

impl FileArgs {
    /// Everything that is to be read, in order.
    pub fn all_inputs(&self) -> Vec<String> {
        self.inputs.iter().chain(&self.input).cloned().collect()
    }

    /// The settings of the `files` source. Errors: kind `Usage` for what contradicts itself, `Config` for a schema file that
    /// cannot be used.
    pub fn config(&self) -> Result<FilesConfig> {
        let mut schema = BTreeMap::new();
        for argument in &self.schema {
            let (table, file) = table_and_rest(argument, |whole| Path::new(whole).exists());
            if schema.insert(table.to_owned(), read_schema(Path::new(file))?).is_some() {
                return Err(twice("--schema", table));
            }
        }
        Ok(FilesConfig {
            path: self.all_inputs(),
            table: self.table.clone(),
            records: unique("--records", &self.records)?,
            format: self.format,
            schema,
            types: unique("--type", &self.types)?,
            infer: self.infer,
            csv: CsvConfig {
                delimiter: self.csv.csv_delimiter.clone(),
                header: self.csv.csv_header,
                null: self.csv.csv_null.clone(),
                quote: self.csv.csv_quote.clone(),
                jagged: self.csv.csv_jagged,
            },
            on_bad_record: self.on_bad_record,
            dead_letter_dir: None,
            after_load: AfterLoad::Keep,
            move_to: None,
            name: self.name.clone(),
        })
    }
}

/// `TABLE=REST`, or `REST` alone for every table (`*`). A text that is `whole` is not taken apart.
pub fn table_and_rest(text: &str, whole: impl Fn(&str) -> bool) -> (&str, &str) {
    match text.split_once('=') {
        Some((table, rest)) if is_name(table) && !whole(text) => (table, rest),
        _ => ("*", text),
    }
}

/// Reads `KEY=VALUE`.
pub fn pair(text: &str) -> std::result::Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && !value.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("it is written NAME=VALUE".to_owned()),
    }
}

/// Reads a point in time: RFC 3339, or a date for its beginning in UTC.
pub fn time(text: &str) -> std::result::Result<chrono::DateTime<chrono::Utc>, String> {
    if let Ok(time) = chrono::DateTime::parse_from_rfc3339(text) {
        return Ok(time.to_utc());
    }
    chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d")
        .ok()
        .and_then(|date| date.and_hms_opt(0, 0, 0))
        .map(|time| time.and_utc())
        .ok_or_else(|| "a time is written like 2024-05-01T06:00:00Z or 2024-05-01".to_owned())
}

/// Pairs as a map. Errors: `Usage` if a key comes twice.
pub fn unique(flag: &str, pairs: &[(String, String)]) -> Result<BTreeMap<String, String>> {
    let mut map = BTreeMap::new();
    for (key, value) in pairs {
        if map.insert(key.clone(), value.clone()).is_some() {
            return Err(twice(flag, key));
        }
    }
    Ok(map)
}

/// A usage error for a name that a flag gives twice.
pub fn twice(flag: &str, name: &str) -> Error {
    Error::new(Kind::Usage, code::USAGE, format!("{flag} is given twice for `{name}`"))
}

fn read_schema(path: &Path) -> Result<TableSchema> {
    let place = Place { file: path.display().to_string(), ..Place::default() };
    let text = std::fs::read_to_string(path)
        .map_err(|e| Error::new(Kind::Config, code::CONFIG, "the schema file cannot be read").at(place.clone()).caused_by(e))?;
    let value: serde_json::Value = serde_json::from_str(&text).map_err(|e| {
        let place = Place { line: Some(e.line() as u64), column: Some(e.column() as u64), ..place.clone() };
        Error::new(Kind::Config, code::SCHEMA_INVALID, "the schema file is not JSON").at(place).caused_by(e)
    })?;
    TableSchema::from_json(&value).map_err(|e| e.at(place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_before_an_equals_sign_is_told_from_a_file_name_with_one() {
        assert_eq!(table_and_rest("orders=a.json", |_| false), ("orders", "a.json"));
        assert_eq!(table_and_rest("a.json", |_| false), ("*", "a.json"));
        assert_eq!(table_and_rest("dir/a=b.json", |_| false), ("*", "dir/a=b.json"));
        assert_eq!(table_and_rest("a=b.json", |_| true), ("*", "a=b.json"));
    }

    #[test]
    fn what_happens_after_a_load_is_one_of_three() {
        assert_eq!("move=done".parse(), Ok(AfterLoadArg::Move("done".into())));
        assert_eq!("keep".parse(), Ok(AfterLoadArg::Keep));
        assert_eq!("delete".parse(), Ok(AfterLoadArg::Delete));
        for wrong in ["move", "move=", "remove", "keep=x"] {
            assert!(wrong.parse::<AfterLoadArg>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_time_is_an_instant_or_a_day() {
        assert_eq!(time("2024-05-01").map(|t| t.to_rfc3339()), Ok("2024-05-01T00:00:00+00:00".into()));
        assert_eq!(time("2024-05-01T02:00:00+02:00").map(|t| t.to_rfc3339()), Ok("2024-05-01T00:00:00+00:00".into()));
        assert!(time("yesterday").is_err());
    }
}
