//! Partitions: which one a row belongs to, and which ones a table can have.
//!
//! Source: <https://cloud.google.com/bigquery/docs/partitioned-tables>

use chrono::{DateTime, Datelike, NaiveDateTime, Timelike};
use serde_json::{Value, json};

use super::cell::Cell;
use super::state::{Stored, Table};

impl Table {
    fn partitioning(&self) -> Option<&Value> {
        self.resource.get("timePartitioning").filter(|p| !p.is_null())
    }

    /// Whether rows belong to the partition of the time at which they came in.
    pub(crate) fn by_ingestion(&self) -> bool {
        self.partitioning().is_some_and(|p| p.get("field").is_none_or(Value::is_null))
    }

    /// The partition of a time in microseconds.
    pub(crate) fn instant_partition(&self, micros: i64) -> String {
        let at = DateTime::from_timestamp_micros(micros).unwrap_or_default();
        match self.unit() {
            "HOUR" => format!("{:04}{:02}{:02}{:02}", at.year(), at.month(), at.day(), at.hour()),
            "MONTH" => format!("{:04}{:02}", at.year(), at.month()),
            "YEAR" => format!("{:04}", at.year()),
            _ => format!("{:04}{:02}{:02}", at.year(), at.month(), at.day()),
        }
    }

    /// Whether a decorator names a partition that the table can have: its unit of time must be the table's.
    /// <https://cloud.google.com/bigquery/docs/managing-partitioned-table-data#partition_decorators>
    pub(crate) fn check_partition(&self, id: &str) -> Result<(), String> {
        let by_column = !self.by_ingestion();
        if self.resource.get("rangePartitioning").is_some_and(Value::is_object) {
            let start = id.parse().map(|value| self.range_partition(value));
            return if start.as_deref() == Ok(id) || id == "__NULL__" { Ok(()) } else { Err(format!("Invalid partition: {id}")) };
        }
        let given = match id.len() {
            _ if id == "__NULL__" && by_column && self.partitioning().is_some() => return Ok(()),
            4 => "YEAR",
            6 => "MONTH",
            8 => "DAY",
            10 => "HOUR",
            _ => "",
        };
        // Filled up to an hour, it must be one that there is.
        let hour = format!("{id}{}", "0001010100".get(id.len()..).unwrap_or_default());
        let whole = NaiveDateTime::parse_from_str(&format!("{hour}00"), "%Y%m%d%H%M").is_ok();
        if given.is_empty() || !whole || !id.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(format!("Invalid partition: {id}. It must be YYYY, YYYYMM, YYYYMMDD or YYYYMMDDHH."));
        }
        if self.partitioning().is_none() || self.unit() != given {
            let (found, given) = (specification(self.partitioning()), specification(Some(&json!({"type": given}))));
            return Err(format!(
                "Incompatible table partitioning specification. Expects partitioning specification {found}, but input partitioning \
                 specification is {given}"
            ));
        }
        Ok(())
    }

    fn unit(&self) -> &str {
        self.partitioning().and_then(|p| p["type"].as_str()).unwrap_or("DAY")
    }

    /// The partition of an integer.
    fn range_partition(&self, value: i64) -> String {
        let number = |key: &str| {
            let value = &self.resource["rangePartitioning"]["range"][key];
            value.as_i64().or_else(|| value.as_str()?.parse().ok()).unwrap_or(0)
        };
        let (start, end, step) = (number("start"), number("end"), number("interval").max(1));
        if (start..end).contains(&value) {
            (start + (value - start) / step * step).to_string()
        } else {
            "__UNPARTITIONED__".into()
        }
    }

    /// The partition that a row belongs to; an error if the table has none.
    pub(crate) fn partition_of(&self, row: &Stored) -> Result<String, String> {
        if let Some(partition) = &row.partition {
            return Ok(partition.clone());
        }
        let range = self.resource.get("rangePartitioning").filter(|p| !p.is_null());
        let column = self.partitioning().or(range).and_then(|p| p["field"].as_str()).ok_or("the table is not partitioned")?;
        let at = self.schema.fields.iter().position(|field| field.name.eq_ignore_ascii_case(column));
        let cell = at.and_then(|at| row.cells.get(at)).ok_or_else(|| format!("no column {column}"))?;
        Ok(match (cell, range) {
            (Cell::Days(days), _) => self.instant_partition(i64::from(*days) * 86_400_000_000),
            (Cell::Micros(micros), _) => self.instant_partition(*micros),
            (Cell::Int(value), Some(_)) => self.range_partition(*value),
            _ => "__NULL__".into(),
        })
    }
}

/// How BigQuery words a table's partitioning.
pub(crate) fn specification(partitioning: Option<&Value>) -> String {
    let Some(partitioning) = partitioning.filter(|p| p.is_object()) else { return "none".into() };
    let unit = partitioning["type"].as_str().unwrap_or("DAY").to_lowercase();
    let field = partitioning["field"].as_str().map(|field| format!(",field:{field}")).unwrap_or_default();
    format!("interval(type:{unit}{field})")
}
