//! Settings as people read them, from the JSON schema that their documentation makes.

use serde_json::Value;

use crate::pipeline::conform::{resolve, types, words};

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Setting {
    /// Its key, with those around it: `csv.delimiter`.
    pub name: String,
    /// What it takes.
    #[serde(rename = "type")]
    pub type_: String,
    /// What it is if not given; `None` if that is nothing, or if it must be given.
    pub default: Option<String>,
    /// Whether it must be given.
    pub required: bool,
    /// What it does.
    pub text: String,
}

/// All settings of a schema in its order, those of inner objects after the object.
pub fn all(schema: &Value) -> Vec<Setting> {
    let mut settings = Vec::new();
    collect(schema, schema, "", &mut settings);
    settings
}

fn collect(schema: &Value, root: &Value, prefix: &str, settings: &mut Vec<Setting>) {
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (key, property) in schema["properties"].as_object().into_iter().flatten() {
        let name = format!("{prefix}{key}");
        let target = behind(property, root);
        settings.push(Setting {
            type_: type_name(target, root),
            default: property.get("default").and_then(default_text),
            required: required.contains(&key.as_str()),
            text: text(property).or_else(|| text(target)).unwrap_or_default(),
            name: name.clone(),
        });
        if target.get("properties").is_some() {
            collect(target, root, &format!("{name}."), settings);
        } else if let Some(entries) = target.get("additionalProperties").map(|schema| behind(schema, root))
            && entries.get("properties").is_some()
        {
            collect(entries, root, &format!("{name}.NAME."), settings);
        }
    }
}

/// A schema without reference and without the null of an optional value.
fn behind<'a>(schema: &'a Value, root: &'a Value) -> &'a Value {
    let schema = resolve(schema, root);
    let choice = schema["anyOf"].as_array().and_then(|choices| choices.iter().find(|choice| choice["type"] != "null"));
    choice.map_or(schema, |choice| resolve(choice, root))
}

fn type_name(schema: &Value, root: &Value) -> String {
    if let Some(words) = words(schema) {
        return words.join(" | ");
    }
    match types(schema).0.first().copied() {
        Some("object") => match schema.get("additionalProperties") {
            Some(entry) if entry.is_object() && schema.get("properties").is_none() => {
                format!("map of {}", plural(&type_name(behind(entry, root), root)))
            }
            Some(Value::Bool(true)) if schema.get("properties").is_none() => "map".to_owned(),
            _ => "settings".to_owned(),
        },
        Some("array") => format!("list of {}", plural(&type_name(behind(&schema["items"], root), root))),
        Some("string") => "text".to_owned(),
        Some("integer") => "number".to_owned(),
        Some("number") => "number".to_owned(),
        Some("boolean") => "true | false".to_owned(),
        _ => "any".to_owned(),
    }
}

fn plural(name: &str) -> String {
    match name {
        "text" => "texts".to_owned(),
        "number" => "numbers".to_owned(),
        other => other.to_owned(),
    }
}

fn default_text(default: &Value) -> Option<String> {
    match default {
        Value::Null => None,
        Value::Array(items) if items.is_empty() => None,
        Value::Object(entries) if entries.is_empty() || entries.values().all(|v| !v.is_boolean()) => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// The documentation, as one line.
fn text(schema: &Value) -> Option<String> {
    let text = schema.get("description")?.as_str()?;
    Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(schema: &Value, name: &str) -> Setting {
        all(schema).into_iter().find(|setting| setting.name == name).unwrap_or_else(|| panic!("no setting {name}"))
    }

    #[test]
    fn every_kind_of_setting_is_named() {
        let files = (longshore_connectors::find("files").expect("listed").settings)();
        assert_eq!(setting(&files, "path").type_, "list of texts");
        assert_eq!(setting(&files, "records").type_, "map of texts");
        assert_eq!(setting(&files, "table").type_, "text");
        let format = setting(&files, "format");
        assert_eq!((format.type_.as_str(), format.default.as_deref()), ("auto | json | csv | xml", Some("auto")));
        assert_eq!(setting(&files, "csv").type_, "settings");
        assert_eq!(setting(&files, "csv.header").type_, "auto | yes | no");
        let delta = (longshore_connectors::find("delta").expect("listed").settings)();
        assert!(setting(&delta, "path").required);
        assert_eq!(setting(&delta, "dataset").default.as_deref(), Some("main"));
        let pipeline = crate::pipeline::schema();
        assert_eq!(setting(&pipeline, "tables.NAME.schema").type_, "evolve | freeze | ignore");
        for schema in [files, delta, pipeline] {
            for setting in all(&schema) {
                assert!(!setting.text.is_empty(), "{} has no text", setting.name);
            }
        }
    }
}
