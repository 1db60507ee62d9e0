//! OPTIONS (...) of tables and columns.
//!
//! Source: <https://cloud.google.com/bigquery/docs/reference/standard-sql/data-definition-language#table_option_list>

use serde_json::{Map, Value, json};

use super::cell::{self, Cell};
use super::http::ApiError;
use super::tokens::{Token, Tokens, syntax};

/// An option: its name and its expression.
pub(crate) struct Given {
    name: String,
    value: String,
}

/// Reads `(name = expression, ...)`.
pub(crate) fn read(tokens: &mut Tokens<'_>) -> Result<Vec<Given>, ApiError> {
    let inside = tokens.group().ok_or_else(|| syntax("OPTIONS without ("))?;
    if inside.trim().is_empty() {
        return Ok(Vec::new());
    }
    let one = |item: &String| {
        let mut tokens = Tokens::new(item)?;
        let name = tokens.name()?.to_lowercase();
        if !tokens.symbol('=') {
            return Err(syntax("expected ="));
        }
        Ok(Given { name, value: tokens.rest() })
    };
    Tokens::list(&inside)?.iter().map(one).collect()
}

/// The description among a column's options.
pub(crate) fn description(given: &[Given]) -> Result<Option<String>, ApiError> {
    match given {
        [Given { name, value }] if name == "description" => text(value),
        _ => Err(ApiError::invalid_query("the fake knows no option of a column but its description")),
    }
}

/// Writes options into a table's REST resource. NULL takes one away.
pub(crate) fn set(resource: &mut Map<String, Value>, given: &[Given]) -> Result<(), ApiError> {
    for Given { name, value } in given {
        let (key, value) = match name.as_str() {
            "description" => ("description", text(value)?.map(Value::from)),
            "friendly_name" => ("friendlyName", text(value)?.map(Value::from)),
            "labels" => ("labels", labels(value)?),
            "max_staleness" => ("maxStaleness", staleness(value)?),
            "expiration_timestamp" => ("expirationTime", expiration(value)?),
            "partition_expiration_days" => {
                set_partition_expiration(resource, value)?;
                continue;
            }
            other => return Err(ApiError::invalid_query(format!("Unknown option: {other}"))),
        };
        match value {
            Some(value) => _ = resource.insert(key.to_owned(), value),
            None => _ = resource.shift_remove(key),
        }
    }
    Ok(())
}

fn invalid(option: &str, value: &str) -> ApiError {
    ApiError::invalid_query(format!("Invalid value for option {option}: {value}"))
}

fn is_null(value: &str) -> bool {
    value.trim().eq_ignore_ascii_case("NULL")
}

/// What a quoted text says.
fn unescaped(text: &str) -> String {
    let (mut out, mut characters) = (String::new(), text.chars());
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some('r') => out.push('\r'),
                other => out.extend(other),
            },
            other => out.push(other),
        }
    }
    out
}

fn text(value: &str) -> Result<Option<String>, ApiError> {
    if is_null(value) {
        return Ok(None);
    }
    match Tokens::new(value)?.tokens.as_slice() {
        [(Token::Text(text), _, _)] => Ok(Some(unescaped(text))),
        _ => Err(ApiError::invalid_query(format!("expected a STRING, found {value}"))),
    }
}

/// `[('key', 'value'), ...]`, each with or without STRUCT before it.
fn labels(value: &str) -> Result<Option<Value>, ApiError> {
    if is_null(value) {
        return Ok(None);
    }
    let tokens = Tokens::new(value)?;
    let texts = tokens.tokens.iter().filter_map(|(token, _, _)| match token {
        Token::Text(text) => Some(unescaped(text)),
        _ => None,
    });
    let texts: Vec<String> = texts.collect();
    if !texts.len().is_multiple_of(2) || !value.trim_start().starts_with('[') {
        return Err(invalid("labels", value));
    }
    let labels: Map<String, Value> = texts.chunks(2).map(|pair| (pair[0].clone(), json!(pair[1]))).collect();
    Ok(if labels.is_empty() { None } else { Some(Value::Object(labels)) })
}

/// `INTERVAL 15 MINUTE`, `INTERVAL '0:15:0' HOUR TO SECOND` or `INTERVAL '0-0 0 0:15:0' YEAR TO SECOND`, as the REST
/// resource has it.
fn staleness(value: &str) -> Result<Option<Value>, ApiError> {
    if is_null(value) {
        return Ok(None);
    }
    let mut tokens = Tokens::new(value)?;
    if !tokens.word("INTERVAL") {
        return Err(invalid("max_staleness", value));
    }
    let amount = match tokens.peek() {
        Some(Token::Text(text) | Token::Word(text)) => text.clone(),
        _ => return Err(invalid("max_staleness", value)),
    };
    tokens.at += 1;
    let unit = tokens.rest().to_uppercase();
    let number = amount.trim().parse::<i64>().ok();
    let cell = match (unit.as_str(), number) {
        ("HOUR TO SECOND", _) => cell::interval(&format!("0-0 0 {amount}")),
        ("YEAR TO SECOND", _) => cell::interval(&amount),
        ("SECOND", Some(n)) => Ok(Cell::Text(cell::interval_text(0, 0, n * 1_000_000))),
        ("MINUTE", Some(n)) => Ok(Cell::Text(cell::interval_text(0, 0, n * 60_000_000))),
        ("HOUR", Some(n)) => Ok(Cell::Text(cell::interval_text(0, 0, n * 3_600_000_000))),
        ("DAY", Some(n)) => Ok(Cell::Text(cell::interval_text(0, n, 0))),
        ("MONTH", Some(n)) => Ok(Cell::Text(cell::interval_text(n, 0, 0))),
        ("YEAR", Some(n)) => Ok(Cell::Text(cell::interval_text(n * 12, 0, 0))),
        _ => Err(String::new()),
    };
    match cell {
        Ok(Cell::Text(text)) => Ok(Some(json!(text))),
        _ => Err(invalid("max_staleness", value)),
    }
}

/// `TIMESTAMP '...'`, in milliseconds as text.
fn expiration(value: &str) -> Result<Option<Value>, ApiError> {
    if is_null(value) {
        return Ok(None);
    }
    let mut tokens = Tokens::new(value)?;
    tokens.word("TIMESTAMP");
    let instant = text(&tokens.rest())?.unwrap_or_default();
    match cell::timestamp(&instant) {
        Ok(Cell::Micros(micros)) => Ok(Some(json!((micros / 1_000).to_string()))),
        _ => Err(invalid("expiration_timestamp", value)),
    }
}

fn set_partition_expiration(resource: &mut Map<String, Value>, value: &str) -> Result<(), ApiError> {
    let partitioning = resource.get_mut("timePartitioning").and_then(Value::as_object_mut);
    let why = "partition_expiration_days is only supported for tables that are partitioned by time";
    let partitioning = partitioning.ok_or_else(|| ApiError::invalid_query(why))?;
    if is_null(value) {
        partitioning.shift_remove("expirationMs");
        return Ok(());
    }
    let days: f64 = value.trim().parse().map_err(|_| invalid("partition_expiration_days", value))?;
    partitioning.insert("expirationMs".into(), json!(((days * 86_400_000.0) as i64).to_string()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_become_the_properties_of_the_resource() {
        let mut resource = Map::new();
        resource.insert("timePartitioning".into(), json!({"type": "DAY"}));
        let list = r#"(description = "It's \"new\"", labels = [("a", "b"), STRUCT("c", "d")], max_staleness = INTERVAL "0:15:0" HOUR TO SECOND,
            expiration_timestamp = TIMESTAMP "2030-01-01 00:00:00 UTC", partition_expiration_days = 1.5)"#;
        let set_all =
            |resource: &mut Map<String, Value>, list: &str| set(resource, &read(&mut Tokens::new(list).expect("words"))?);
        set_all(&mut resource, list).expect("known options");
        let expected = json!({
            "timePartitioning": {"type": "DAY", "expirationMs": "129600000"}, "description": "It's \"new\"",
            "labels": {"a": "b", "c": "d"}, "maxStaleness": "0-0 0 0:15:0", "expirationTime": "1893456000000",
        });
        assert_eq!(Value::Object(resource.clone()), expected);
        set_all(&mut resource, "(max_staleness = INTERVAL 90 MINUTE, description = NULL, labels = [])").expect("known options");
        assert_eq!(resource.get("maxStaleness"), Some(&json!("0-0 0 1:30:0")));
        assert_eq!((resource.get("description"), resource.get("labels")), (None, None));
        for wrong in ["(colour = 'red')", "(description = 1)", "(max_staleness = '15')", "(expiration_timestamp = 'soon')"] {
            assert!(set_all(&mut resource, wrong).is_err(), "{wrong}");
        }
    }
}
