//! What a table is like besides its columns, as BigQuery's REST has it.
//!
//! Source: <https://cloud.google.com/bigquery/docs/reference/rest/v2/tables#Table>

use longshore_core::Result;
use longshore_core::error::{Code, Error};
use longshore_core::schema::{Field, Mode, TableSchema, Type};
use longshore_core::table_options::{Partition, PartitionBy, TableOptions};
use serde_json::{Map, Value, json};

use crate::error::{codes, config};
use crate::tables::Remote;

const DAY_MILLIS: i64 = 86_400_000;
/// A table has no more partitions, and ranges are partitions whether rows are in them or not.
const MOST_PARTITIONS: i128 = 10_000;
const MOST_CLUSTERS: usize = 4;
const MOST_KEY_COLUMNS: usize = 16;
const MOST_LABELS: usize = 64;
const LONGEST_LABEL: usize = 63;

/// What is wanted of a table with these columns.
pub(super) struct Options<'a> {
    pub(super) table: &'a str,
    pub(super) schema: &'a TableSchema,
    pub(super) wanted: &'a TableOptions,
}

impl Options<'_> {
    /// Everything that is wanted, for the resource of a new table; says each in words.
    ///
    /// Errors: `bigquery_partition`, `bigquery_option`.
    pub(super) fn of_new(&self, now_millis: i64, changes: &mut Vec<String>) -> Result<Map<String, Value>> {
        let (table, wanted) = (self.table, self.wanted);
        if let Some((option, column)) = wanted.unknown_column(self.schema) {
            return Err(
                self.refused(codes::OPTION, format!("`{option}` of table {table} names {column}: there is no such column"))
            );
        }
        let mut new = Map::new();
        self.partition(&mut new, changes)?;
        self.clusters(&mut new, changes)?;
        if let Some(text) = &wanted.description {
            new.insert("description".into(), json!(text));
            changes.push(format!("describe table {table}"));
        }
        self.labels(&mut new, changes)?;
        if let Some(days) = wanted.expiration_days {
            new.insert("expirationTime".into(), json!((now_millis + i64::from(days) * DAY_MILLIS).to_string()));
            changes.push(format!("remove {table} {days} days from now"));
        }
        if !wanted.key.is_empty() {
            new.insert("tableConstraints".into(), json!({"primaryKey": {"columns": self.key()?}}));
            changes.push(self.key_in_words());
        }
        if let Some(seconds) = wanted.max_staleness {
            new.insert("maxStaleness".into(), json!(interval(seconds)));
            changes.push(self.staleness_in_words(seconds));
        }
        let tagged = |(name, of_it): (&String, &longshore_core::table_options::ColumnOptions)| {
            Some(format!("tag column {name} with {}", of_it.policy_tag.as_ref()?))
        };
        changes.extend(wanted.columns.iter().filter_map(tagged));
        Ok(new)
    }

    /// What a table that is there lacks of what changes need, to be patched; says each in words.
    ///
    /// Errors: `bigquery_option` for another primary key.
    pub(super) fn of_existing(&self, remote: &Remote, changes: &mut Vec<String>) -> Result<Map<String, Value>> {
        let mut patch = Map::new();
        let constraints = &remote.0["tableConstraints"];
        let has: Vec<&str> =
            constraints["primaryKey"]["columns"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if !self.wanted.key.is_empty() && has.is_empty() {
            // With what else stands there: foreign keys.
            let mut constraints = constraints.as_object().cloned().unwrap_or_default();
            constraints.insert("primaryKey".into(), json!({"columns": self.key()?}));
            patch.insert("tableConstraints".into(), Value::Object(constraints));
            changes.push(self.key_in_words());
        } else if !self.wanted.key.is_empty() && !same_names(&has, &self.wanted.key) {
            let (has, wanted) = (has.join(", "), self.wanted.key.join(", "));
            return Err(config(codes::OPTION, format!("table {} has the key {has}, and {wanted} is wanted", self.table))
                .hint("say the key that the table has, or remove that from the table: `ALTER TABLE ... DROP PRIMARY KEY`"));
        }
        if let Some(seconds) = self.wanted.max_staleness.filter(|_| remote.0["maxStaleness"].as_str().is_none_or(str::is_empty)) {
            patch.insert("maxStaleness".into(), json!(interval(seconds)));
            changes.push(self.staleness_in_words(seconds));
        }
        Ok(patch)
    }

    fn partition(&self, new: &mut Map<String, Value>, changes: &mut Vec<String>) -> Result<()> {
        let (table, wanted) = (self.table, self.wanted);
        let Some(partition) = &wanted.partition else {
            if wanted.require_partition_filter || wanted.partition_expiration_days.is_some() {
                return Err(self.refused(codes::PARTITION, format!("table {table} has no partitions to filter by or to remove")));
            }
            return Ok(());
        };
        let column = &self.partition_column(partition)?.name;
        if let PartitionBy::Range { start, end, interval } = partition.by {
            let range = json!({"start": start.to_string(), "end": end.to_string(), "interval": interval.to_string()});
            new.insert("rangePartitioning".into(), json!({"field": column, "range": range}));
            changes.push(format!("partition {table} by {column}, {interval} to a partition from {start} to {end}"));
        } else {
            let (unit, word) = unit(partition.by);
            let mut time = json!({"type": unit, "field": column});
            changes.push(format!("partition {table} by {word} of {column}"));
            if let Some(days) = wanted.partition_expiration_days {
                time["expirationMs"] = json!((i64::from(days) * DAY_MILLIS).to_string());
                changes.push(format!("remove partitions of {table} after {days} days"));
            }
            new.insert("timePartitioning".into(), time);
        }
        if wanted.require_partition_filter {
            new.insert("requirePartitionFilter".into(), json!(true));
            changes.push(format!("refuse queries of {table} that do not say which partitions they want"));
        }
        Ok(())
    }

    /// Source: <https://cloud.google.com/bigquery/docs/partitioned-tables#types_of_partitioning>
    fn partition_column(&self, partition: &Partition) -> Result<&Field> {
        let refused = |why: String| {
            let message = format!("table {} cannot be partitioned by {}: {why}", self.table, partition.column);
            self.refused(codes::PARTITION, message)
        };
        let field = self.schema.field(&partition.column).ok_or_else(|| refused("there is no such column".into()))?;
        if field.mode == Mode::Repeated {
            return Err(refused(format!("it is {field}")));
        }
        match (&field.type_, partition.by) {
            (Type::Int64, PartitionBy::Range { start, end, interval }) => {
                let count = (i128::from(end) - i128::from(start)) / i128::from(interval).max(1);
                if self.wanted.partition_expiration_days.is_some() {
                    return Err(refused("ranges do not go after some days".into()));
                }
                if start >= end || interval < 1 || count > MOST_PARTITIONS {
                    return Err(refused(format!("{start} to {end} by {interval} is not 1 to {MOST_PARTITIONS} ranges")));
                }
            }
            (Type::Timestamp | Type::DateTime, PartitionBy::Hour | PartitionBy::Day | PartitionBy::Month | PartitionBy::Year)
            | (Type::Date, PartitionBy::Day | PartitionBy::Month | PartitionBy::Year) => {}
            (Type::Date, PartitionBy::Hour) => return Err(refused("a DATE has no hours".into())),
            (Type::Int64, _) => return Err(refused(format!("it is {field}, which needs a range"))),
            (_, PartitionBy::Range { .. }) => return Err(refused(format!("it is {field}, and ranges are of INT64"))),
            _ => return Err(refused(format!("it is {field}"))),
        }
        Ok(field)
    }

    /// Source: <https://cloud.google.com/bigquery/docs/clustered-tables#cluster_column_types>
    fn clusters(&self, new: &mut Map<String, Value>, changes: &mut Vec<String>) -> Result<()> {
        let fits = |type_: &Type| {
            use Type::{BigNumeric, Bool, Date, DateTime, Geography, Int64, Numeric, String, Timestamp};
            matches!(type_, BigNumeric | Bool | Date | DateTime | Geography | Int64 | Numeric | String | Timestamp)
        };
        let names = self.columns("cluster_by", &self.wanted.cluster_by, MOST_CLUSTERS, fits)?;
        if !names.is_empty() {
            new.insert("clustering".into(), json!({"fields": names}));
            changes.push(format!("cluster {} by {}", self.table, names.join(", ")));
        }
        Ok(())
    }

    /// The columns of the key as the table writes them.
    ///
    /// Source: <https://cloud.google.com/bigquery/docs/primary-foreign-keys>
    fn key(&self) -> Result<Vec<&str>> {
        let fits = |type_: &Type| {
            use Type::{BigNumeric, Bool, Date, DateTime, Int64, Numeric, String, Timestamp};
            matches!(type_, BigNumeric | Bool | Date | DateTime | Int64 | Numeric | String | Timestamp)
        };
        self.columns("key", &self.wanted.key, MOST_KEY_COLUMNS, fits)
    }

    /// Columns that an option names, as the table writes them.
    fn columns(&self, option: &str, names: &[String], most: usize, fits: impl Fn(&Type) -> bool) -> Result<Vec<&str>> {
        let refused = |why: String| self.refused(codes::OPTION, format!("`{option}` of table {}: {why}", self.table));
        if names.len() > most {
            return Err(refused(format!("{} columns are more than {most}", names.len())));
        }
        let column = |name: &String| {
            let field = self.schema.field(name).ok_or_else(|| refused(format!("there is no column {name}")))?;
            if field.mode == Mode::Repeated || !fits(&field.type_) {
                return Err(refused(format!("BigQuery does not take column {name}, which is {field}")));
            }
            Ok(field.name.as_str())
        };
        names.iter().map(column).collect()
    }

    /// Source: <https://cloud.google.com/bigquery/docs/labels-intro#requirements>
    fn labels(&self, new: &mut Map<String, Value>, changes: &mut Vec<String>) -> Result<()> {
        let labels = &self.wanted.labels;
        let fits = |c: char| (c.is_alphanumeric() && !c.is_uppercase()) || matches!(c, '_' | '-');
        let text = |text: &str| text.chars().count() <= LONGEST_LABEL && text.chars().all(fits);
        let begins = |name: &str| name.starts_with(|c: char| c.is_alphabetic());
        if let Some((name, value)) = labels.iter().find(|(name, value)| !begins(name) || !text(name) || !text(value)) {
            return Err(config(
                codes::OPTION,
                format!("BigQuery does not take the label `{name}: {value}` of table {}", self.table),
            )
            .hint("names and values are lower-case letters, digits, `_` and `-`, at most 63; a name begins with a letter"));
        }
        if labels.len() > MOST_LABELS {
            let message = format!("table {} has {} labels; {MOST_LABELS} are allowed", self.table, labels.len());
            return Err(config(codes::OPTION, message));
        }
        if !labels.is_empty() {
            new.insert("labels".into(), json!(labels));
            let all: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            changes.push(format!("label {} {}", self.table, all.join(", ")));
        }
        Ok(())
    }

    fn key_in_words(&self) -> String {
        format!("make {} the key of {}", self.wanted.key.join(", "), self.table)
    }

    fn staleness_in_words(&self, seconds: u32) -> String {
        format!("let answers about {} be up to {seconds} s old", self.table)
    }

    fn refused(&self, code: Code, message: String) -> Error {
        let known: Vec<String> = self.schema.fields.iter().map(|field| format!("{} {field}", field.name)).collect();
        config(code, message).hint(format!("columns: {}", known.join(", ")))
    }
}

fn same_names(has: &[&str], wanted: &[String]) -> bool {
    has.len() == wanted.len() && wanted.iter().all(|name| has.iter().any(|has| has.eq_ignore_ascii_case(name)))
}

/// A unit of time as BigQuery writes it, and in words. A range has none.
fn unit(by: PartitionBy) -> (&'static str, &'static str) {
    match by {
        PartitionBy::Hour => ("HOUR", "hour"),
        PartitionBy::Month => ("MONTH", "month"),
        PartitionBy::Year => ("YEAR", "year"),
        PartitionBy::Day | PartitionBy::Range { .. } => ("DAY", "day"),
    }
}

/// An INTERVAL in BigQuery's own text.
fn interval(seconds: u32) -> String {
    format!("0-0 0 {}:{}:{}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(column: Field, change: impl FnOnce(&mut TableOptions)) -> String {
        let schema = TableSchema::new(vec![column]);
        let mut wanted = TableOptions::default();
        change(&mut wanted);
        let error = Options { table: "t", schema: &schema, wanted: &wanted }.of_new(0, &mut Vec::new()).expect_err("refused");
        assert_eq!(error.kind(), longshore_core::error::Kind::Config);
        error.to_string()
    }

    fn by(by: PartitionBy) -> impl FnOnce(&mut TableOptions) {
        move |wanted| wanted.partition = Some(Partition { column: "c".into(), by })
    }

    #[test]
    fn an_interval_is_bigquerys_own_text() {
        assert_eq!([interval(90), interval(900), interval(86_400)], ["0-0 0 0:1:30", "0-0 0 0:15:0", "0-0 0 24:0:0"]);
    }

    #[test]
    fn what_cannot_part_rows_is_refused_with_the_reason() {
        let range = |start, end, interval| PartitionBy::Range { start, end, interval };
        let words = refused(Field::new("c", Type::Date), by(PartitionBy::Hour));
        assert_eq!(words, "table t cannot be partitioned by c: a DATE has no hours");
        let words = refused(Field::new("c", Type::Int64), by(PartitionBy::Day));
        assert!(words.ends_with("it is INT64, which needs a range"), "{words}");
        let words = refused(Field::new("c", Type::Date), by(range(0, 10, 1)));
        assert!(words.ends_with("it is DATE, and ranges are of INT64"), "{words}");
        for bad in [range(5, 5, 1), range(0, 10, 0), range(0, 10_001, 1), range(i64::MIN, i64::MAX, 1)] {
            let words = refused(Field::new("c", Type::Int64), by(bad));
            assert!(words.ends_with("is not 1 to 10000 ranges"), "{words}");
        }
        let words = refused(Field::new("c", Type::Date).with_mode(Mode::Repeated), by(PartitionBy::Day));
        assert!(words.ends_with("it is ARRAY<DATE>"), "{words}");
        assert!(refused(Field::new("d", Type::Date), by(PartitionBy::Day)).ends_with("there is no such column"));
        let words = refused(Field::new("c", Type::Date), |wanted| wanted.require_partition_filter = true);
        assert!(words.contains("no partitions"), "{words}");
    }

    #[test]
    fn columns_that_cannot_be_sorted_or_compared_are_refused() {
        let words = refused(Field::new("c", Type::Json), |wanted| wanted.cluster_by = vec!["c".into()]);
        assert_eq!(words, "`cluster_by` of table t: BigQuery does not take column c, which is JSON");
        let words = refused(Field::new("c", Type::Float64), |wanted| wanted.key = vec!["c".into()]);
        assert_eq!(words, "`key` of table t: BigQuery does not take column c, which is FLOAT64");
        let words = refused(Field::new("c", Type::String), |wanted| _ = wanted.columns.insert("d".into(), Default::default()));
        assert_eq!(words, "`columns` of table t names d: there is no such column");
    }

    #[test]
    fn labels_that_bigquery_does_not_take_are_refused() {
        let label = |name: &str, value: &str| {
            refused(Field::new("c", Type::String), |wanted| _ = wanted.labels.insert(name.into(), value.into()))
        };
        for (name, value) in [("Team", "a"), ("1a", ""), ("", "a"), ("team", "a b"), ("team", &"x".repeat(64))] {
            assert!(label(name, value).starts_with("BigQuery does not take the label"), "{name}: {value}");
        }
    }
}
