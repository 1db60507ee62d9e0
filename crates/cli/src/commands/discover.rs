//! `longshore discover`: what files hold, as a pipeline file to start from.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use longshore_core::budget::Budget;
use longshore_core::commit::{Landing, WriteDisposition};
use longshore_core::error::Result;
use longshore_core::event::Events;
use longshore_core::names::table_name;
use longshore_core::source::{Context, Description};
use longshore_core::stop::Stop;
use longshore_core::store::FileLedger;
use longshore_engine::Pipeline;
use serde_json::{Value, json};

use crate::args::FileArgs;
use crate::console::Console;
use crate::reporter::Reporter;
use crate::{exit, listing};

/// A ledger that knows nothing: every file is looked at.
struct NoLedger;

#[async_trait]
impl FileLedger for NoLedger {
    async fn landings(&self, _: &str, _: &str) -> Result<Vec<Landing>> {
        Ok(Vec::new())
    }

    async fn same_bytes(&self, _: &str, _: &str, _: &str) -> Result<Option<Landing>> {
        Ok(None)
    }

    async fn record_paths(&self, _: &str) -> Result<Vec<Value>> {
        Ok(Vec::new())
    }
}

/// Looks at the files. Writes a pipeline file to stdout, with the columns that were found as comments. Changes nothing.
pub async fn run(console: &Console, store: &Path, args: &FileArgs) -> Result<u8> {
    let config = args.config()?;
    let source = super::open_files(&config, &super::surroundings(store, WriteDisposition::Append))?;
    let reporter = Arc::new(Reporter::new(&console.without_events()));
    let defaults = Pipeline::default();
    let cx = Context {
        pipeline: "discover".to_owned(),
        run: String::new(),
        budget: Budget::new(defaults.memory),
        lanes: defaults.lanes,
        events: Events::new(reporter.clone()),
        stop: Stop::default(),
    };
    let found = source.splits(&cx, &NoLedger).await?;
    if found.splits.is_empty() {
        console.warning("no file matches");
    }
    let description = source.describe(&cx, found.splits, &NoLedger).await?;
    reporter.done();
    source.close().await?;
    for (split, reject) in &description.refused {
        console.warning(format!("{}: {}", split.name, reject.reason));
    }
    if console.json {
        objects(console, &description)?
    } else {
        console.data(suggestion(&config.path, &description))?
    }
    Ok(if description.tables.is_empty() && !description.refused.is_empty() { exit::SOURCE } else { exit::DONE })
}

fn objects(console: &Console, description: &Description) -> Result<()> {
    let paths = record_paths(description);
    for (table, schema) in &description.tables {
        console.object(&json!({"table": table, "records": paths.get(table), "schema": schema}))?;
    }
    for (split, reject) in &description.refused {
        console.object(&json!({"refused": split.name, "code": reject.code, "reason": reject.reason}))?;
    }
    Ok(())
}

fn suggestion(inputs: &[String], description: &Description) -> String {
    let mut text = String::from("# What was found, by table:\n");
    for (table, schema) in &description.tables {
        text += &format!("#\n# {table}\n");
        let rows: Vec<Vec<String>> =
            schema.fields.iter().map(|field| vec![format!("#   {}", field.name), field.to_string()]).collect();
        text += &listing::aligned(&["", ""], &rows);
        text.push('\n');
    }
    let name = inputs.first().map_or_else(|| "files".to_owned(), |input| pipeline_name(input));
    text += &format!("\npipeline: {}\nsource:\n  type: files\n", quoted(&name));
    match inputs {
        [one] => text += &format!("  path: {}\n", quoted(one)),
        several => {
            let list: Vec<String> = several.iter().map(|input| quoted(input)).collect();
            text += &format!("  path: [{}]\n", list.join(", "));
        }
    }
    let paths = record_paths(description);
    if !paths.is_empty() {
        text += "  records:\n";
        for (table, path) in &paths {
            text += &format!("    {}: {}\n", quoted(table), quoted(path));
        }
    }
    text += "destination:\n  type: delta\n  path: warehouse\n  dataset: main";
    text
}

/// A name after the file, or the folder if the file's name is a pattern.
fn pipeline_name(input: &str) -> String {
    let names = Path::new(input).with_extension("");
    let words = names.components().rev().map(|part| part.as_os_str().to_string_lossy());
    let named = words.into_iter().find(|word| word.chars().any(|c| c.is_ascii_alphabetic()) && !word.contains(['*', '?', '[']));
    named.map_or_else(|| "files".to_owned(), |word| table_name(&word))
}

/// Where the records of each table are, as the source remembers it for the next time: `{"paths": [{"table", "path"}, ...]}`.
fn record_paths(description: &Description) -> BTreeMap<String, String> {
    let mut paths = BTreeMap::new();
    for records in description.landings.iter().filter_map(|landing| landing.records.as_ref()) {
        for record in records["paths"].as_array().into_iter().flatten() {
            if let (Some(table), Some(path)) = (record["table"].as_str(), record["path"].as_str()) {
                paths.insert(table.to_owned(), path.to_owned());
            }
        }
    }
    paths
}

/// A YAML scalar that is read as this text.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '/' | '.');
    let simple = text.chars().all(plain) && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    if simple && !matches!(text, "null" | "true" | "false") {
        return text.to_owned();
    }
    // `${` in a path is not a variable.
    Value::from(text.replace("${", "$${")).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_core::schema::{Field, TableSchema, Type};

    #[test]
    fn a_pipeline_is_named_after_the_file_or_its_folder() {
        let names = ["in/Orders.2024.xml", "shop/*.xml", "-", "/data/shop/"].map(pipeline_name);
        assert_eq!(names, ["orders_2024", "shop", "files", "shop"]);
    }

    #[test]
    fn the_suggestion_is_a_pipeline_file_that_can_be_read() {
        let mut description = Description::default();
        description.tables.insert("orders".into(), TableSchema::new(vec![Field::new("id", Type::Int64)]));
        let text = suggestion(&["in/*.xml".to_owned(), "a: \"b\" ${c}".to_owned()], &description);
        assert!(text.starts_with("# What was found, by table:\n#\n# orders\n#   id  INT64\n"), "{text}");
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("p.yaml");
        std::fs::write(&path, text).expect("written");
        let file = crate::pipeline::PipelineFile::read(&path, BTreeMap::new()).expect("reads");
        assert_eq!(file.pipeline.inputs, ["in/*.xml", "a: \"b\" ${c}"]);
    }
}
