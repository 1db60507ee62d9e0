//! The rules for single tables: what stands in the file, and what it means.

use std::collections::BTreeMap;

use longshore_core::commit::Contract;
use longshore_core::error::{Place, Result};
use longshore_core::table_options::{ColumnOptions, Partition, PartitionBy, TableOptions};
use longshore_engine::Keep;

use super::yaml::{Content, Node, invalid};

/// BigQuery sorts by no more columns.
const MOST_CLUSTERS: usize = 4;
/// The longest staleness, in seconds: a day.
const LONGEST_STALENESS: u32 = 86_400;

/// Rules for one table. Apart from `schema`, they are for new tables: one that exists stays as it is.
#[derive(Debug, Clone, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct TableSettings {
    /// The column to partition a new table by; a TIMESTAMP or DATETIME by its UTC day.
    partition_by: Option<String>,
    /// How long a partition is: `day` if not given. BigQuery only, but for `day`.
    partition_unit: Option<UnitName>,
    /// Partitions of an INT64 column instead. BigQuery only.
    partition_range: Option<RangeSettings>,
    /// Partitions are removed so many days after their time. BigQuery only.
    partition_expiration_days: Option<i64>,
    /// Whether queries must say which partitions they want. BigQuery only.
    require_partition_filter: Option<bool>,
    /// Up to four columns to sort rows by within a partition. BigQuery only.
    cluster_by: Vec<String>,
    /// A text for people.
    description: Option<String>,
    /// Names and values for bills and searches.
    labels: BTreeMap<String, String>,
    /// A new table is removed so many days after it was made. BigQuery only.
    expiration_days: Option<i64>,
    /// The columns that tell rows apart. BigQuery's primary key; a table that exists without one gets it.
    key: Vec<String>,
    /// How old an answer about changed rows may be: `90s`, `15m`, `2h`, at most a day. BigQuery only.
    max_staleness: Option<String>,
    /// What is kept of changes by key. Sources of files have none.
    changes: Option<KeepName>,
    /// What single columns are to be like; also those that come later.
    columns: BTreeMap<String, ColumnSettings>,
    /// What may happen to the columns.
    schema: Option<ContractName>,
}

/// What one column is to be like.
#[derive(Debug, Clone, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct ColumnSettings {
    /// A text for people.
    description: Option<String>,
    /// The tag that says who may read it: `projects/P/locations/L/taxonomies/T/policyTags/G`. BigQuery only.
    policy_tag: Option<String>,
}

/// Integers from `start` on, below `end`, `interval` of them in a partition.
#[derive(Debug, Clone, Copy, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct RangeSettings {
    /// The first integer.
    start: i64,
    /// The integer behind the last.
    end: i64,
    /// How many integers are in a partition.
    interval: i64,
}

/// How long a partition is.
#[derive(Debug, Clone, Copy, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
enum UnitName {
    /// A UTC hour.
    Hour,
    /// A UTC day.
    Day,
    /// A month.
    Month,
    /// A year.
    Year,
}

/// What is kept of changes by key.
#[derive(Debug, Clone, Copy, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
enum KeepName {
    /// The rows as they are now.
    Current,
    /// Every change as a row, with what happened (`_operation`) and its order key (`_order`).
    History,
    /// The rows as they are now, and every change in a second table, `NAME_history`.
    Both,
}

/// What may happen to a table's columns when records do not match them.
#[derive(Debug, Clone, Copy, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
enum ContractName {
    /// Columns are added, types widened where no value changes.
    Evolve,
    /// Nothing: a record that does not fit is a dead letter.
    Freeze,
    /// Nothing: unknown columns are dropped, counted and reported.
    Ignore,
}

impl TableSettings {
    /// What may happen to the columns, if that is said.
    pub(super) fn contract(&self) -> Option<Contract> {
        self.schema.map(|name| match name {
            ContractName::Evolve => Contract::Evolve,
            ContractName::Freeze => Contract::Freeze,
            ContractName::Ignore => Contract::Ignore,
        })
    }

    /// What is kept of changes, if that is said.
    pub(super) fn changes(&self) -> Option<Keep> {
        self.changes.map(|name| match name {
            KeepName::Current => Keep::Current,
            KeepName::History => Keep::History,
            KeepName::Both => Keep::Both,
        })
    }

    /// What a new table is to be like; `node` is where these settings stand. Errors: `config`, with file, line and column.
    pub(super) fn options(&self, node: &Node) -> Result<TableOptions> {
        self.check_partition(node)?;
        if self.cluster_by.len() > MOST_CLUSTERS {
            return Err(invalid(place(node, "cluster_by"), format!("rows are sorted by at most {MOST_CLUSTERS} columns")));
        }
        no_twins(node, "cluster_by", &self.cluster_by)?;
        no_twins(node, "key", &self.key)?;
        let column = |(name, column): (&String, &ColumnSettings)| {
            (name.clone(), ColumnOptions { description: column.description.clone(), policy_tag: column.policy_tag.clone() })
        };
        Ok(TableOptions {
            partition: self.partition_by.clone().map(|column| Partition { column, by: self.partition() }),
            partition_expiration_days: days(node, "partition_expiration_days", self.partition_expiration_days)?,
            require_partition_filter: self.require_partition_filter.unwrap_or_default(),
            cluster_by: self.cluster_by.clone(),
            description: self.description.clone(),
            labels: self.labels.clone(),
            expiration_days: days(node, "expiration_days", self.expiration_days)?,
            key: self.key.clone(),
            max_staleness: self.max_staleness.as_deref().map(|text| staleness(node, text)).transpose()?,
            columns: self.columns.iter().map(column).collect(),
        })
    }

    fn partition(&self) -> PartitionBy {
        match (self.partition_range, self.partition_unit) {
            (Some(RangeSettings { start, end, interval }), _) => PartitionBy::Range { start, end, interval },
            (None, Some(UnitName::Hour)) => PartitionBy::Hour,
            (None, Some(UnitName::Month)) => PartitionBy::Month,
            (None, Some(UnitName::Year)) => PartitionBy::Year,
            (None, Some(UnitName::Day) | None) => PartitionBy::Day,
        }
    }

    /// Refuses what contradicts itself.
    fn check_partition(&self, node: &Node) -> Result<()> {
        let parts = [
            ("partition_unit", self.partition_unit.is_some()),
            ("partition_range", self.partition_range.is_some()),
            ("partition_expiration_days", self.partition_expiration_days.is_some()),
            ("require_partition_filter", self.require_partition_filter == Some(true)),
        ];
        if let Some((key, _)) = parts.iter().find(|(_, given)| *given && self.partition_by.is_none()) {
            return Err(invalid(place(node, key), format!("`{key}` needs partitions, and there is no `partition_by`"))
                .hint("name the column with `partition_by`"));
        }
        let Some(range) = self.partition_range else { return Ok(()) };
        if self.partition_unit.is_some() {
            return Err(invalid(place(node, "partition_unit"), "`partition_unit` and `partition_range` exclude each other")
                .hint("a unit is for times and days, a range for INT64"));
        }
        if self.partition_expiration_days.is_some() {
            let place = place(node, "partition_expiration_days");
            return Err(invalid(place, "partitions of a range have no time after which they could be removed")
                .hint("`expiration_days` removes the table as a whole"));
        }
        if range.start >= range.end || range.interval < 1 {
            return Err(invalid(place(node, "partition_range"), "`partition_range` holds no integers")
                .hint("`start` is below `end`, and `interval` is at least 1"));
        }
        Ok(())
    }
}

/// Where a setting stands.
fn place(node: &Node, key: &str) -> Place {
    node.get(key).unwrap_or(node).place.clone()
}

fn days(node: &Node, key: &str, days: Option<i64>) -> Result<Option<u32>> {
    let Some(days) = days else { return Ok(None) };
    match u32::try_from(days) {
        Ok(days) if days > 0 => Ok(Some(days)),
        _ => Err(invalid(place(node, key), format!("`{key}` must be at least 1"))),
    }
}

/// `90s`, `15m`, `2h` in seconds.
fn staleness(node: &Node, text: &str) -> Result<u32> {
    let units = [('s', 1), ('m', 60), ('h', 3600)];
    let seconds = units.iter().find_map(|(unit, seconds)| text.strip_suffix(*unit)?.parse::<u32>().ok()?.checked_mul(*seconds));
    match seconds {
        Some(seconds) if seconds <= LONGEST_STALENESS => Ok(seconds),
        _ => Err(invalid(place(node, "max_staleness"), format!("`{text}` is no time of at most a day"))
            .hint("write seconds, minutes or hours: `90s`, `15m`, `2h`")),
    }
}

/// Refuses a column that is named twice.
fn no_twins(node: &Node, key: &str, names: &[String]) -> Result<()> {
    let twin = |(i, name): &(usize, &String)| names.iter().take(*i).any(|earlier| earlier.eq_ignore_ascii_case(name));
    let Some((i, name)) = names.iter().enumerate().find(twin) else { return Ok(()) };
    let items = node.get(key).map(|list| &list.content);
    let item = if let Some(Content::List(items)) = items { items.get(i) } else { None };
    let place = item.map_or_else(|| place(node, key), |item| item.place.clone());
    Err(invalid(place, format!("`{key}` names {name} twice")))
}
