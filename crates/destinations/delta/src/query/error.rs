//! What can go wrong in a query, said without the libraries' backtraces and internal names.

use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::parser::ParserError;
use longshore_core::error::{Code, Error, Kind, Place, code};

use super::names::Seen;
use super::session::CATALOG;

/// The codes of queries.
pub mod codes {
    longshore_core::codes! {
        WAREHOUSE_MISSING = "warehouse_missing": "There is no warehouse folder at the place where it was looked for. `--warehouse FOLDER` names it; the default is `warehouse` in the working directory. A `load` creates it.";
        WAREHOUSE_UNREADABLE = "warehouse_unreadable": "The warehouse folder, or a folder in it, could not be listed. Check its permissions.";
        TABLE_UNREADABLE = "table_unreadable": "The log or a data file of a Delta table could not be read: a file is missing or damaged, the folder's permissions forbid it, or another program wrote the table with a feature that is not supported here.";
        QUERY_READ_ONLY = "query_read_only": "`query` only reads: one SELECT (also WITH and VALUES), EXPLAIN, SHOW TABLES, SHOW DATASETS, SHOW COLUMNS FROM a table, or DESCRIBE a table. Rows are written by `load`, `run` and `dead-letters replay`.";
        QUERY_INVALID = "query_invalid": "The query cannot be understood: a word is out of place, a function is unknown, or types do not fit each other. The dialect is DataFusion's; backticks quote names as well as double quotes do.";
        UNKNOWN_TABLE = "unknown_table": "The query names a table that the warehouse does not have, or a name that several tables have. `SHOW TABLES` lists them; a table is named `DATASET.TABLE`, and `TABLE` alone is looked for in the dataset `main`, then wherever it is unique.";
        QUERY_UNKNOWN_COLUMN = "query_unknown_column": "The query names a column or a field of a STRUCT that is not there, or a name that several have. `DESCRIBE TABLE_NAME` lists a table's columns.";
        UNSUPPORTED_ARITHMETIC = "unsupported_arithmetic": "BIGNUMERIC columns compare, sort and group exactly, but are not computed with: a result could need more digits than there are. Cast first: `CAST(x AS DECIMAL(38, 9))` is NUMERIC, `CAST(x AS DOUBLE)` is approximate.";
        QUERY_FAILED = "query_failed": "A value could not be computed: a text that is not of the type it is cast to, a division by zero, a number too large. TRY_CAST gives NULL instead.";
        QUERY_MEMORY = "query_memory": "The query needs more memory than it may take, and what it does cannot spill to disk. Select fewer columns or rows, or give it more memory.";
    }
}

/// An error of the query's text.
pub(super) fn usage(code: Code, message: impl Into<String>) -> Error {
    Error::new(Kind::Usage, code, message)
}

/// A table that cannot be read, named as people name it.
pub(super) fn unreadable(table: &str, cause: impl std::fmt::Display) -> Error {
    let line = first_line(&cause.to_string());
    Error::new(Kind::Destination, codes::TABLE_UNREADABLE, format!("cannot read table {table}: {line}"))
}

/// What DataFusion says, in our words where we have better ones. `seen` knows where names stand in the query.
pub(super) fn from_datafusion(error: DataFusionError, seen: &Seen) -> Error {
    match error.find_root() {
        DataFusionError::SQL(parser, _) => from_parser(parser),
        DataFusionError::SchemaError(schema, _) => from_schema(schema, seen),
        DataFusionError::Plan(text) | DataFusionError::NotImplemented(text) | DataFusionError::Configuration(text) => {
            let error = usage(codes::QUERY_INVALID, clean(text));
            if text.contains("Cannot coerce arithmetic") {
                return error.hint("cast one side, as in CAST(x AS DOUBLE), CAST(x AS DECIMAL(38, 9)) or CAST(x AS BIGINT)");
            }
            error
        }
        DataFusionError::Execution(text) => usage(codes::QUERY_FAILED, clean(text)),
        DataFusionError::ArrowError(arrow, _) => {
            let text = arrow.to_string();
            let hint = if text.contains("too large to store in a Decimal") {
                "a number of more than 38 digits before the point is written bignumeric('...')"
            } else {
                "TRY_CAST gives NULL for what cannot be cast"
            };
            usage(codes::QUERY_FAILED, clean(&text)).hint(hint)
        }
        DataFusionError::ResourcesExhausted(text) => {
            Error::new(Kind::Usage, codes::QUERY_MEMORY, format!("the query ran out of memory: {}", clean(text)))
                .hint("select fewer columns or rows, or give the query more memory")
        }
        DataFusionError::Internal(text) => Error::new(Kind::Bug, code::BUG, format!("the query engine failed: {}", clean(text))),
        other => {
            let text = format!("cannot read the warehouse: {}", clean(&other.message()));
            Error::new(Kind::Destination, codes::TABLE_UNREADABLE, text)
        }
    }
}

fn from_parser(error: &ParserError) -> Error {
    let text = match error {
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => text.as_str(),
        ParserError::RecursionLimitExceeded => "it is nested too deeply",
    };
    let line = first_line(text);
    let (words, place) = match line.split_once(" at Line: ") {
        Some((words, place)) => (words.to_owned(), read_place(place)),
        None => (line, None),
    };
    let error = usage(codes::QUERY_INVALID, format!("the query cannot be read: {}", lower_first(&words)));
    match place {
        Some(place) => error.at(place),
        None => error,
    }
}

/// `1, Column: 8` as a place in the query.
fn read_place(text: &str) -> Option<Place> {
    let (line, column) = text.split_once(", Column: ")?;
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok();
    Some(Place { file: "query".into(), line: digits(line), column: digits(column) })
}

fn from_schema(error: &SchemaError, seen: &Seen) -> Error {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let known: Vec<String> = valid_fields.iter().map(|column| column.name.clone()).collect();
            let owner = field.relation.as_ref().map(|relation| clean(&relation.to_string()));
            let message = match &owner {
                Some(owner) => format!("there is no column {} in {owner}", field.name),
                None => format!("there is no column {}", field.name),
            };
            let error = usage(codes::QUERY_UNKNOWN_COLUMN, message).hint(known_names("columns", &field.name, &known));
            match seen.place(&field.name) {
                Some(place) => error.at(place),
                None => error,
            }
        }
        SchemaError::AmbiguousReference { field } => {
            let error = usage(codes::QUERY_UNKNOWN_COLUMN, format!("several tables of the query have a column {}", field.name))
                .hint(format!("say whose it is, as in TABLE.{}", field.name));
            match seen.place(&field.name) {
                Some(place) => error.at(place),
                None => error,
            }
        }
        other => usage(codes::QUERY_INVALID, clean(&other.to_string())).hint("give one of the two columns another name with AS"),
    }
}

/// The first line of what a library says, without its internal names.
fn clean(text: &str) -> String {
    let text = first_line(text).replace(&format!("{CATALOG}."), "");
    let known = ["Error during planning: ", "Arrow error: ", "This feature is not implemented: ", "Cast error: "];
    let text = known.iter().fold(text.as_str(), |text, prefix| text.trim_start_matches(prefix));
    lower_first(text)
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(500).collect()
}

/// Messages begin in lower case, unless they begin with a name in capitals.
fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match (chars.next(), chars.clone().next()) {
        (Some(first), Some(second)) if first.is_uppercase() && second.is_lowercase() => {
            first.to_lowercase().chain(chars).collect()
        }
        _ => text.to_owned(),
    }
}

/// A hint that says which names there are, the nearest first: `did you mean OrderDate? columns: ...`.
pub(super) fn known_names(what: &str, wanted: &str, known: &[String]) -> String {
    const LISTED: usize = 20;
    if known.is_empty() {
        return format!("there are no {what}");
    }
    let wanted_lower = wanted.to_lowercase();
    let near = known
        .iter()
        .map(|name| (distance(&wanted_lower, &name.to_lowercase()), name))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= wanted.chars().count().div_ceil(3));
    let mut text = near.map_or(String::new(), |(_, name)| format!("did you mean {name}? "));
    let mut listed: Vec<&str> = Vec::new();
    for name in known {
        if !listed.contains(&name.as_str()) {
            listed.push(name);
        }
    }
    let more = listed.len().saturating_sub(LISTED);
    listed.truncate(LISTED);
    text.push_str(&format!("{what}: {}", listed.join(", ")));
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

/// How many characters have to be put in, taken out or changed.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, c) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, d) in b.iter().enumerate() {
            let changed = diagonal + usize::from(c != *d);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
