//! A YAML tree made into the settings that a JSON schema describes. Whatever does not fit is an error with its place, and
//! an unknown key or word names the nearest known one.

use longshore_core::error::Result;
use serde_json::{Map, Number, Value};

use super::yaml::{Content, Key, Node, invalid};

/// The value that `node` has in a place which `schema` describes; `root` is the schema with the definitions. `path` names the
/// place for people, empty at the top.
pub fn conform(node: &Node, schema: &Value, root: &Value, path: &str) -> Result<Value> {
    let schema = resolve(schema, root);
    if let Some(words) = words(schema) {
        return word(node, &words, path);
    }
    if let Some(Value::Array(choices)) = schema.get("anyOf") {
        // An optional value: the schema of the value beside that of null.
        if node.is_null() {
            return Ok(Value::Null);
        }
        if let Some(choice) = choices.iter().find(|choice| choice.get("type") != Some(&Value::from("null"))) {
            return conform(node, choice, root, path);
        }
    }
    let (types, optional) = types(schema);
    if optional && node.is_null() {
        return Ok(Value::Null);
    }
    match types.first().copied() {
        Some("object") => object(node, schema, root, path),
        Some("array") => array(node, schema, root, path),
        Some(kind @ ("integer" | "number" | "boolean" | "string")) => scalar(node, kind, path),
        _ => Ok(free(node)),
    }
}

/// A schema with its reference followed.
pub fn resolve<'a>(schema: &'a Value, root: &'a Value) -> &'a Value {
    schema.get("$ref").and_then(Value::as_str).and_then(|reference| root.pointer(reference.strip_prefix('#')?)).unwrap_or(schema)
}

/// The words that a schema allows, if it is a choice of words.
pub fn words(schema: &Value) -> Option<Vec<&str>> {
    if let Some(Value::Array(words)) = schema.get("enum") {
        return words.iter().map(Value::as_str).collect();
    }
    let Some(Value::Array(choices)) = schema.get("oneOf") else { return None };
    let mut all = Vec::new();
    for choice in choices {
        match (choice.get("const"), choice.get("enum")) {
            (Some(word), _) => all.push(word.as_str()?),
            (None, Some(Value::Array(words))) => all.extend(words.iter().filter_map(Value::as_str)),
            _ => return None,
        }
    }
    Some(all)
}

/// The types that a schema allows, null apart.
pub fn types(schema: &Value) -> (Vec<&str>, bool) {
    let all: Vec<&str> = match schema.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let optional = all.contains(&"null");
    (all.into_iter().filter(|kind| *kind != "null").collect(), optional)
}

/// An error for a word that is not known, with the nearest known one or all of them.
pub fn unknown(what: &str, word: &str, known: &[&str]) -> (String, String) {
    let message = format!("{what} `{word}` is not known");
    let hint = match nearest(word, known) {
        Some(near) => format!("did you mean `{near}`? known: {}", known.join(", ")),
        None => format!("known: {}", known.join(", ")),
    };
    (message, hint)
}

/// The known word that is most like this one, if one is.
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let word = word.to_lowercase();
    // A slip of the finger, or the beginning of a longer word.
    let likeness = |candidate: &str| {
        let slip = strsim::normalized_damerau_levenshtein(&word, candidate);
        let beginning = strsim::jaro_winkler(&word, candidate);
        if slip < 0.6 && beginning < 0.8 { 0.0 } else { slip + beginning }
    };
    known
        .iter()
        .map(|candidate| (likeness(&candidate.to_lowercase()), *candidate))
        .filter(|(likeness, _)| *likeness > 0.0)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

fn object(node: &Node, schema: &Value, root: &Value, path: &str) -> Result<Value> {
    let entries = match &node.content {
        Content::Map(entries) => entries.as_slice(),
        // `csv:` with nothing below it.
        Content::Scalar { .. } if node.is_null() => &[],
        _ => return Err(wrong(node, path, "a map of settings")),
    };
    let properties = schema.get("properties").and_then(Value::as_object);
    let others = schema.get("additionalProperties").filter(|others| **others != Value::Bool(false));
    let mut object = Map::new();
    for (key, value) in entries {
        let inner = if path.is_empty() { key.name.clone() } else { format!("{path}.{}", key.name) };
        let property = properties.and_then(|properties| properties.get(&key.name));
        let value = match property.or(others) {
            Some(schema) => conform(value, schema, root, &inner)?,
            None if properties.is_none() => free(value),
            None => return Err(unknown_key(key, path, properties)),
        };
        object.insert(key.name.clone(), value);
    }
    for required in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        if !object.contains_key(required) {
            let of = if path.is_empty() { String::new() } else { format!(" in `{path}`") };
            return Err(invalid(node.place.clone(), format!("`{required}` is missing{of}")));
        }
    }
    Ok(Value::Object(object))
}

fn unknown_key(key: &Key, path: &str, properties: Option<&Map<String, Value>>) -> longshore_core::Error {
    let mut known: Vec<&str> = properties.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    known.sort_unstable();
    let what = if path.is_empty() { "the key".to_owned() } else { format!("in `{path}`, the key") };
    let (message, hint) = unknown(&what, &key.name, &known);
    invalid(key.place.clone(), message).hint(hint)
}

fn array(node: &Node, schema: &Value, root: &Value, path: &str) -> Result<Value> {
    let any = Value::Bool(true);
    let items = schema.get("items").unwrap_or(&any);
    match &node.content {
        Content::List(list) => {
            list.iter().map(|item| conform(item, items, root, path)).collect::<Result<Vec<_>>>().map(Value::Array)
        }
        // One item may stand for a list of one.
        Content::Scalar { .. } if !node.is_null() => Ok(Value::Array(vec![conform(node, items, root, path)?])),
        _ => Err(wrong(node, path, "a list")),
    }
}

fn scalar(node: &Node, kind: &str, path: &str) -> Result<Value> {
    let Content::Scalar { text, plain } = &node.content else {
        return Err(wrong(node, path, kind));
    };
    let value = match kind {
        "string" if *plain && node.is_null() => None,
        "string" => Some(Value::String(text.clone())),
        "boolean" => text.parse().ok().map(Value::Bool),
        "integer" => text.parse::<i64>().map(Value::from).or_else(|_| text.parse::<u64>().map(Value::from)).ok(),
        _ => text.parse().ok().and_then(Number::from_f64).map(Value::Number),
    };
    value.ok_or_else(|| wrong(node, path, kind))
}

fn word(node: &Node, words: &[&str], path: &str) -> Result<Value> {
    match &node.content {
        Content::Scalar { text, .. } if words.contains(&text.as_str()) => Ok(Value::String(text.clone())),
        Content::Scalar { text, .. } => {
            let (message, hint) = unknown(&format!("for `{path}`,"), text, words);
            Err(invalid(node.place.clone(), message).hint(hint))
        }
        _ => Err(wrong(node, path, &format!("one of {}", words.join(", ")))),
    }
}

fn wrong(node: &Node, path: &str, wanted: &str) -> longshore_core::Error {
    let wanted = match wanted {
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "true or false",
        "string" => "a text",
        other => other,
    };
    let path = if path.is_empty() { "the file".to_owned() } else { format!("`{path}`") };
    invalid(node.place.clone(), format!("{path} must be {wanted}, not {}", node.what()))
}

/// A value that no schema describes, typed as YAML does.
fn free(node: &Node) -> Value {
    match &node.content {
        Content::List(items) => Value::Array(items.iter().map(free).collect()),
        Content::Map(entries) => Value::Object(entries.iter().map(|(key, value)| (key.name.clone(), free(value))).collect()),
        Content::Scalar { text, plain: false } => Value::String(text.clone()),
        Content::Scalar { .. } if node.is_null() => Value::Null,
        Content::Scalar { text, .. } => match text.as_str() {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            text => text
                .parse::<i64>()
                .map(Value::from)
                .ok()
                .or_else(|| text.parse().ok().and_then(Number::from_f64).map(Value::Number))
                .unwrap_or_else(|| Value::String(text.to_owned())),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::yaml::parse;
    use super::*;

    fn schema() -> Value {
        (longshore_connectors::find("files").expect("listed").settings)()
    }

    fn conformed(text: &str) -> Result<Value> {
        let schema = schema();
        conform(&parse("p.yaml", text).expect("YAML"), &schema, &schema, "source")
    }

    #[test]
    fn texts_stay_texts_and_words_stay_words() {
        let settings =
            conformed("path: 2024\ntable: 007\ninfer: off\ncsv: {header: no, null: 'null'}\nformat: json\n").expect("fits");
        let expected = serde_json::json!({
            "path": ["2024"], "table": "007", "infer": "off", "csv": {"header": "no", "null": "null"}, "format": "json",
        });
        assert_eq!(settings, expected);
    }

    #[test]
    fn an_unknown_key_or_word_names_the_nearest_one_and_its_place() {
        let error = conformed("path: a\nrecord: {}\n").expect_err("unknown key");
        assert_eq!(error.to_string(), "p.yaml:2:1: in `source`, the key `record` is not known");
        assert!(error.hint_text().expect("a hint").starts_with("did you mean `records`?"));
        let error = conformed("csv:\n  delimeter: ;\n").expect_err("unknown key");
        assert_eq!(error.to_string(), "p.yaml:2:3: in `source.csv`, the key `delimeter` is not known");
        let error = conformed("format: jsn\n").expect_err("unknown word");
        assert_eq!(error.to_string(), "p.yaml:1:9: for `source.format`, `jsn` is not known");
        assert!(error.hint_text().expect("a hint").starts_with("did you mean `json`?"));
    }

    #[test]
    fn a_value_of_another_kind_is_refused() {
        let error = conformed("path: {a: b}\n").expect_err("a map");
        assert_eq!(error.to_string(), "p.yaml:1:7: `source.path` must be a list, not a map");
        let error = conformed("table: [a]\n").expect_err("a list");
        assert_eq!(error.to_string(), "p.yaml:1:8: `source.table` must be a text, not a list");
    }

    #[test]
    fn a_type_without_schema_is_what_yaml_says() {
        let node = parse("p.yaml", "[1, 1.5, true, ~, x, '1']").expect("YAML");
        assert_eq!(free(&node), serde_json::json!([1, 1.5, true, null, "x", "1"]));
    }
}
