//! Columns that get a wider type in place, where no value that is there changes.
//!
//! Only columns at the top: BigQuery wants a STRUCT restated as a whole. A REQUIRED column stays so: what records are like says
//! nothing about it, since files never show that a column may not be empty.
//!
//! Source: <https://cloud.google.com/bigquery/docs/reference/standard-sql/data-definition-language#alter_column_set_data_type_statement>

use longshore_core::Result;
use longshore_core::schema::{Field, Mode, Type};
use serde_json::{Value, json};

use super::ask::any_row;
use crate::tables::{Remote, Tables};

/// Up to here every integer is a double of its own: 2^53.
const LAST_EXACT: i64 = 1 << 53;

/// A column that is to have a wider type.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Widening {
    column: String,
    from: Type,
    to: Type,
}

/// Whether every value of one type is one of the other; from INT64 to FLOAT64 only if the values that are there are.
pub(super) fn widens(from: &Type, to: &Type) -> bool {
    matches!((from, to), (Type::Int64, Type::Numeric | Type::BigNumeric | Type::Float64) | (Type::Numeric, Type::BigNumeric))
}

/// The columns of a table that are to be widened for these records. Asks for the values of a column if that depends on them.
pub(super) async fn wanted(tables: &Tables, table: &str, remote: &Remote, wanted: &[Field]) -> Result<Vec<Widening>> {
    let mut found = Vec::new();
    for widening in candidates(remote, wanted) {
        // Their order is what parts the rows: BigQuery keeps its type.
        let parts = remote.0["rangePartitioning"]["field"].as_str();
        if parts.is_some_and(|column| column.eq_ignore_ascii_case(&widening.column)) {
            continue;
        }
        let column = &widening.column;
        let inexact = format!("`{column}` NOT BETWEEN -{LAST_EXACT} AND {LAST_EXACT}");
        if widening.to != Type::Float64 || !any_row(tables, table, remote, &inexact).await? {
            found.push(widening);
        }
    }
    Ok(found)
}

fn candidates(remote: &Remote, wanted: &[Field]) -> Vec<Widening> {
    let fields = remote.fields();
    let widening = |field: &Value| {
        let column = field["name"].as_str()?;
        let from: Type = field["type"].as_str()?.parse().ok()?;
        let wanted = wanted.iter().find(|wanted| wanted.name.eq_ignore_ascii_case(column))?;
        let repeated = field["mode"] == "REPEATED" || wanted.mode == Mode::Repeated;
        (!repeated && widens(&from, &wanted.type_)).then(|| Widening { column: column.into(), from, to: wanted.type_.clone() })
    };
    fields.iter().filter_map(widening).collect()
}

impl Widening {
    /// The statement that does it. Repeating it changes nothing.
    pub(super) fn statement(&self, tables: &Tables, table: &str) -> String {
        let (column, to) = (&self.column, self.to.name());
        format!("ALTER TABLE {} ALTER COLUMN `{column}` SET DATA TYPE {to}", tables.sql_name(table))
    }

    pub(super) fn in_words(&self) -> String {
        format!("widen column {} from {} to {}", self.column, self.from.name(), self.to.name())
    }

    /// Gives the column its type in the table's columns.
    pub(super) fn apply(&self, fields: &mut [Value]) {
        let column = fields.iter_mut().find(|field| field["name"] == json!(self.column)).and_then(Value::as_object_mut);
        if let Some(column) = column {
            column.insert("type".into(), json!(crate::columns::legacy_name(&self.to)));
            // What bounded the narrower type.
            column.retain(|key, _| key != "precision" && key != "scale");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_columns_whose_values_stay_what_they_are_widen() {
        let remote = |fields: Value| Remote(json!({"schema": {"fields": fields}}));
        let table = remote(json!([
            {"name": "A", "type": "INTEGER", "mode": "REQUIRED"},
            {"name": "b", "type": "NUMERIC", "precision": "10"},
            {"name": "c", "type": "FLOAT"},
            {"name": "d", "type": "INTEGER", "mode": "REPEATED"},
            {"name": "e", "type": "INTEGER"},
            {"name": "f", "type": "BIGNUMERIC"},
            {"name": "g", "type": "RANGE"},
        ]));
        let wanted = |name: &str, type_: Type| Field::new(name, type_);
        let found = candidates(
            &table,
            &[
                wanted("a", Type::Numeric),
                wanted("b", Type::BigNumeric),
                wanted("c", Type::Numeric),
                wanted("d", Type::Numeric),
                wanted("e", Type::String),
                wanted("f", Type::Int64),
                wanted("g", Type::Date),
            ],
        );
        let words: Vec<String> = found.iter().map(Widening::in_words).collect();
        assert_eq!(words, ["widen column A from INT64 to NUMERIC", "widen column b from NUMERIC to BIGNUMERIC"]);
        let mut fields = table.fields();
        found.iter().for_each(|widening| widening.apply(&mut fields));
        assert_eq!(fields[0], json!({"name": "A", "type": "NUMERIC", "mode": "REQUIRED"}));
        assert_eq!(fields[1], json!({"name": "b", "type": "BIGNUMERIC"}));
    }
}
