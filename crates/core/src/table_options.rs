//! What a table is like besides its columns.

use std::collections::BTreeMap;

use crate::schema::{Field, TableSchema};

/// What a new table is to be like. One that exists keeps what it has. A destination refuses what it cannot do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableOptions {
    /// How rows are parted.
    pub partition: Option<Partition>,
    /// Partitions go so many days after their day; in days.
    pub partition_expiration_days: Option<u32>,
    /// Whether queries must say which partitions they want.
    pub require_partition_filter: bool,
    /// The columns to sort rows by within a partition.
    pub cluster_by: Vec<String>,
    /// A text for people.
    pub description: Option<String>,
    /// Names and values for bills and searches.
    pub labels: BTreeMap<String, String>,
    /// The table goes so many days after it was made; in days.
    pub expiration_days: Option<u32>,
    /// The columns that tell rows apart, in order. Changes need them.
    pub key: Vec<String>,
    /// How old an answer about changed rows may be, in seconds.
    pub max_staleness: Option<u32>,
    /// What single columns are to be like.
    pub columns: BTreeMap<String, ColumnOptions>,
}

/// What parts rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// The column.
    pub column: String,
    /// How its values are parted.
    pub by: PartitionBy,
}

/// How the values of a column part rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PartitionBy {
    /// By UTC hour.
    Hour,
    /// By UTC day.
    #[default]
    Day,
    /// By month.
    Month,
    /// By year.
    Year,
    /// Integers from `start` on, below `end`, so many in a partition.
    Range {
        /// The first.
        start: i64,
        /// Behind the last.
        end: i64,
        /// How many.
        interval: i64,
    },
}

/// What a column is to be like besides its type.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ColumnOptions {
    /// A text for people.
    pub description: Option<String>,
    /// BigQuery's tag that says who may read it.
    pub policy_tag: Option<String>,
}

impl TableOptions {
    /// Nothing but a partition by the day of a column.
    pub fn by_day(column: &str) -> Self {
        let partition = Partition { column: column.to_owned(), by: PartitionBy::Day };
        Self { partition: Some(partition), ..Self::default() }
    }

    /// The columns with what is said of them here. Names that the table does not have count for nothing.
    pub fn describe(&self, schema: &TableSchema) -> TableSchema {
        let described = |field: &Field| {
            let mut field = field.clone();
            let of_it = |(name, _): &(&String, &ColumnOptions)| name.eq_ignore_ascii_case(&field.name);
            let Some((_, options)) = self.columns.iter().find(of_it) else { return field };
            field.description = options.description.clone().or(field.description);
            if let Some(tag) = &options.policy_tag {
                field.options.insert("policyTags".into(), serde_json::json!({"names": [tag]}));
            }
            field
        };
        TableSchema::new(schema.fields.iter().map(described).collect())
    }

    /// The first column that is named here, but for the partition's, and that the table does not have; with what it is named for.
    pub fn unknown_column(&self, schema: &TableSchema) -> Option<(&'static str, &str)> {
        let key = self.key.iter().map(|name| ("key", name));
        let clusters = self.cluster_by.iter().map(|name| ("cluster_by", name));
        let columns = self.columns.keys().map(|name| ("columns", name));
        let mut named = key.chain(clusters).chain(columns);
        named.find(|(_, name)| schema.field(name).is_none()).map(|(what, name)| (what, name.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Type;

    #[test]
    fn columns_are_described_and_known_without_regard_to_case() {
        let schema = TableSchema::new(vec![Field::new("id", Type::Int64), Field::new("ssn", Type::String)]);
        let tagged = ColumnOptions { description: Some("who".into()), policy_tag: Some("tags/1".into()) };
        let mut options = TableOptions { columns: [("SSN".to_owned(), tagged)].into(), ..TableOptions::by_day("at") };
        let described = options.describe(&schema);
        assert_eq!(described.fields[0], schema.fields[0]);
        assert_eq!(described.fields[1].description.as_deref(), Some("who"));
        assert_eq!(described.fields[1].options["policyTags"], serde_json::json!({"names": ["tags/1"]}));
        options.key = vec!["ID".into()];
        assert_eq!(options.unknown_column(&schema), None);
        options.cluster_by = vec!["id".into(), "who".into()];
        assert_eq!(options.unknown_column(&schema), Some(("cluster_by", "who")));
    }
}
