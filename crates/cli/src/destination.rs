//! DEST on the command line: a dataset.

use std::path::{Component, Path, PathBuf};

use longshore_bigquery::config::BigQueryConfig;
use longshore_core::error::{Error, Kind, Result, code};
use longshore_delta::config::DeltaConfig;
use serde_json::Value;

/// Where `load` lands unless `--to` says otherwise.
pub const DEFAULT: &str = "warehouse/main";
/// The folder of a DEST that names only a dataset.
pub const FOLDER: &str = "warehouse";

/// What a DEST in BigQuery begins with.
const BIGQUERY: &str = "bigquery://";

/// Where tables are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dataset {
    /// In a warehouse folder.
    Folder {
        /// The folder, as written.
        folder: PathBuf,
        /// The dataset's name.
        name: String,
    },
    /// In BigQuery.
    BigQuery(Box<BigQueryConfig>),
}

impl Dataset {
    /// Reads DEST: `FOLDER/DATASET`, `DATASET` alone for `warehouse/DATASET`, or `bigquery://PROJECT/DATASET?SETTING=VALUE`, where
    /// settings may also come from the environment (`LONGSHORE_BIGQUERY_STAGING`). `PROJECT:DATASET` is BigQuery, too.
    ///
    /// Errors: `Config` for a place that this version cannot write to and for unknown settings; `Usage` for what is no dataset.
    pub fn parse(text: &str) -> Result<Self> {
        Self::parse_with(text, |variable| std::env::var(variable).ok())
    }

    fn parse_with(text: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        if let Some(rest) = text.strip_prefix(BIGQUERY) {
            return bigquery(rest, variable);
        }
        if let Some((scheme, _)) = text.split_once("://") {
            return Err(Error::new(Kind::Config, code::CONFIG, format!("{scheme}:// destinations are not in this version"))
                .with("destination", text)
                .hint("this version writes to a local folder, `--to warehouse/shop`, and to BigQuery, `--to bigquery://PROJECT/DATASET`"));
        }
        if let Some((project, dataset)) = text.split_once(':').filter(|_| !text.contains('/')) {
            return bigquery(&format!("{project}/{dataset}"), variable);
        }
        let path = text.trim_end_matches('/');
        let (folder, name) = match path.rsplit_once('/') {
            Some(("", name)) => ("/", name),
            Some((folder, name)) => (folder, name),
            None => (FOLDER, path),
        };
        if !is_name(name) {
            return Err(Error::new(Kind::Usage, code::USAGE, format!("`{text}` does not name a dataset")).hint(
                "a destination is FOLDER/DATASET, such as warehouse/shop, or bigquery://PROJECT/DATASET; a dataset's name has letters, digits and `_` only",
            ));
        }
        Ok(Self::Folder { folder: PathBuf::from(folder), name: name.to_owned() })
    }

    /// The same for every way to write this place: absolute, without `.`, `..`, links and settings.
    pub fn identity(&self) -> Result<String> {
        match self {
            Dataset::Folder { folder, name } => Ok(absolute(folder)?.join(name).display().to_string()),
            Dataset::BigQuery(config) => Ok(config.place()),
        }
    }

    /// For people: as written, with the folder.
    pub fn shown(&self) -> String {
        match self {
            Dataset::Folder { folder, name } => folder.join(name).display().to_string(),
            Dataset::BigQuery(config) => config.place(),
        }
    }

    /// The connector that writes there, and its settings.
    pub fn connector(&self) -> Result<(&'static str, Value)> {
        let settings = |settings: serde_json::Result<Value>| {
            settings.map_err(|e| Error::new(Kind::Bug, code::BUG, "settings could not be handed over").caused_by(e))
        };
        Ok(match self {
            Dataset::Folder { folder, name } => {
                let config = DeltaConfig { path: folder.clone(), dataset: name.clone() };
                ("delta", settings(serde_json::to_value(config))?)
            }
            Dataset::BigQuery(config) => ("bigquery", settings(serde_json::to_value(config))?),
        })
    }
}

/// `PROJECT/DATASET?SETTING=VALUE&...`. What is not set there comes from the environment.
fn bigquery(rest: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Dataset> {
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (project, dataset) = place.trim_end_matches('/').split_once('/').unwrap_or((place, ""));
    let is_project = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-.:".contains(c));
    if !is_project(project) || !is_name(dataset) {
        return Err(Error::new(Kind::Usage, code::USAGE, format!("`{BIGQUERY}{rest}` does not name a dataset of BigQuery"))
            .hint("a dataset of BigQuery is bigquery://PROJECT/DATASET"));
    }
    let schema = schemars::schema_for!(BigQueryConfig).to_value();
    let known: Vec<&str> = schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    let mut settings = serde_json::Map::new();
    let given = url::form_urlencoded::parse(query.as_bytes()).map(|(name, value)| (name.into_owned(), value.into_owned()));
    let from_environment = known.iter().filter(|name| !matches!(**name, "project" | "dataset")).filter_map(|name| {
        variable(&format!("LONGSHORE_BIGQUERY_{}", name.to_ascii_uppercase())).map(|value| ((*name).to_owned(), value))
    });
    for (name, value) in from_environment.chain(given).filter(|(_, value)| !value.is_empty()) {
        if !known.contains(&name.as_str()) {
            let (message, hint) = crate::pipeline::conform::unknown(BIGQUERY, &name, &known);
            return Err(Error::new(Kind::Usage, code::USAGE, message).hint(hint));
        }
        let kind = &schema["properties"][&name]["type"];
        let is = |wanted: &str| kind == wanted || kind.as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == wanted));
        // What cannot be read is told by the settings' own check.
        let value = match serde_json::from_str(&value) {
            Ok(read @ (Value::Bool(_) | Value::Number(_))) if is("boolean") || is("integer") => read,
            _ => Value::String(value),
        };
        settings.insert(name, value);
    }
    settings.insert("project".into(), project.into());
    settings.insert("dataset".into(), dataset.into());
    let config = serde_json::from_value(Value::Object(settings)).map_err(|e| {
        Error::new(Kind::Usage, code::USAGE, format!("a setting of {BIGQUERY}{place} cannot be used"))
            .hint("`longshore describe bigquery` tells what each takes")
            .caused_by(e)
    })?;
    Ok(Dataset::BigQuery(Box::new(config)))
}

/// A name that SQL takes without quotes.
pub fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !text.starts_with(|c: char| c.is_ascii_digit())
}

/// An absolute path without `.`, `..` and symbolic links, for a path that need not exist yet.
pub fn absolute(path: &Path) -> Result<PathBuf> {
    let failed = |e: std::io::Error| {
        Error::new(Kind::Config, code::CONFIG, format!("{} cannot be made an absolute path", path.display())).caused_by(e)
    };
    let full = std::path::absolute(path).map_err(failed)?;
    let mut known = PathBuf::new();
    for component in full.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                known.pop();
            }
            other => {
                known.push(other);
                // Links are followed one by one, so that `..` after a link leaves the place it points to.
                if let Ok(real) = known.canonicalize() {
                    known = real;
                }
            }
        }
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_a_folder_and_a_dataset() {
        let parse = |text: &str| Dataset::parse(text).map(|dataset| dataset.shown()).map_err(|e| e.kind());
        for (text, shown) in [
            ("warehouse/shop", "warehouse/shop"),
            ("shop", "warehouse/shop"),
            ("/data/lake/shop/", "/data/lake/shop"),
            ("./shop", "./shop"),
            ("bigquery://acme/shop", "bigquery://acme/shop"),
            ("bigquery://acme/shop/?method=load_job&staging=gs://landing/tmp", "bigquery://acme/shop"),
            ("acme:shop", "bigquery://acme/shop"),
        ] {
            assert_eq!(parse(text).as_deref(), Ok(shown));
        }
        for scheme in ["gs://bucket/shop", "s3://bucket/shop"] {
            assert_eq!(parse(scheme), Err(Kind::Config));
        }
        for wrong in [
            "",
            "/",
            "warehouse/my-shop",
            "warehouse/..",
            "2nd",
            "bigquery://acme",
            "bigquery://acme/shop/orders",
            "acme:my-shop",
        ] {
            assert_eq!(parse(wrong), Err(Kind::Usage), "{wrong}");
        }
    }

    #[test]
    fn settings_of_bigquery_come_from_the_destination_over_the_environment() {
        let environment = |variable: &str| match variable {
            "LONGSHORE_BIGQUERY_STAGING" => Some("gs://from-environment".to_owned()),
            "LONGSHORE_BIGQUERY_ANONYMOUS" => Some("true".to_owned()),
            _ => None,
        };
        let Ok(Dataset::BigQuery(config)) = Dataset::parse_with("bigquery://acme/shop?staging=gs%3A%2F%2Flanding", environment)
        else {
            panic!("a dataset");
        };
        assert_eq!((config.staging.as_deref(), config.anonymous), (Some("gs://landing"), true));
        let error = Dataset::parse_with("bigquery://acme/shop?stagin=x", environment).expect_err("unknown");
        assert!(error.hint_text().is_some_and(|hint| hint.contains("staging")), "{error:?}");
        Dataset::parse_with("bigquery://acme/shop?method=fast", environment).expect_err("no such method");
        Dataset::parse_with("bigquery://acme/shop?max_bad_records=few", environment).expect_err("no number");
        let Ok(Dataset::BigQuery(config)) = Dataset::parse_with("bigquery://acme/s7?max_bad_records=7&staging=7", environment)
        else {
            panic!("a dataset");
        };
        assert_eq!((config.max_bad_records, config.staging.as_deref()), (Some(7), Some("7")));
    }

    #[test]
    fn every_way_to_write_one_place_is_one_identity() {
        let folder = tempfile::tempdir().expect("a folder");
        let real = folder.path().canonicalize().expect("exists");
        std::fs::create_dir(real.join("lake")).expect("made");
        std::os::unix::fs::symlink(real.join("lake"), real.join("link")).expect("linked");
        let identity = |text: String| Dataset::parse(&text).and_then(|d| d.identity()).expect("a place");
        let base = real.display();
        let expected = format!("{base}/lake/shop");
        assert_eq!(identity(format!("{base}/lake/shop")), expected);
        assert_eq!(identity(format!("{base}/./link/shop/")), expected);
        assert_eq!(identity(format!("{base}/none/../lake/shop")), expected);
    }
}
