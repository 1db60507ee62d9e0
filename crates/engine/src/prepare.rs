//! Tables and columns, before anything is staged.

use std::collections::BTreeMap;

use longshore_core::batch::{Changes, OPERATION, ORDER};
use longshore_core::destination::{Plan, SchemaChange};
use longshore_core::schema::TableSchema;
use longshore_core::source::{Description, Target};
use longshore_core::{Error, Result};

use crate::pipeline::{Keep, Pipeline};
use crate::session::Session;

/// The tables of a commit as they are now.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    /// What records are decoded into, by the tables that the source knows.
    pub(crate) targets: BTreeMap<String, Target>,
    /// The columns of every table that rows are staged for.
    pub(crate) schemas: BTreeMap<String, TableSchema>,
    /// Where each change of a table goes as a row: the table, perhaps the same, that keeps them all.
    pub(crate) histories: BTreeMap<String, String>,
}

/// The table that keeps the changes of another beside it.
fn history_of(table: &str) -> String {
    format!("{table}_history")
}

/// What tables are to be like for what a source found: each change with the source's own table. A destination that takes no changes is given
/// each as a row.
///
/// Errors: `config` for a table that cannot keep its changes.
pub(crate) fn wanted(pipeline: &Pipeline, takes_changes: bool, found: &Description) -> Result<Vec<(String, SchemaChange)>> {
    let mut all = Vec::new();
    for (name, columns) in &found.tables {
        let (contract, disposition) = (pipeline.contract(name), pipeline.disposition);
        let change = |table: &str, wanted: TableSchema| {
            let options = pipeline.options(table);
            SchemaChange { table: table.to_owned(), wanted, contract, disposition, options }
        };
        // Rows of one key stand there as often as it changed: it is no key.
        let history = |table: &str| {
            let mut change = change(table, Changes::history(columns)?);
            change.options.key.clear();
            Ok::<_, Error>((name.clone(), change))
        };
        let Some(key) = found.keys.get(name) else {
            all.push((name.clone(), change(name, columns.clone())));
            continue;
        };
        let keep = if takes_changes { pipeline.changes(name) } else { Keep::History };
        if keep != Keep::History {
            let mut change = change(name, columns.clone());
            if change.options.key.is_empty() {
                change.options.key.clone_from(key);
            }
            all.push((name.clone(), change));
        }
        match keep {
            Keep::Current => {}
            Keep::History => all.push(history(name)?),
            Keep::Both => all.push(history(&history_of(name))?),
        }
    }
    Ok(all)
}

impl Session {
    /// Makes the tables ready. A table that no rows can go to (it is to be emptied and is not there) is left out.
    pub(crate) async fn prepare(&self, found: &Description) -> Result<Prepared> {
        let changes = wanted(&self.pipeline, self.destination.takes_changes(), found)?;
        let tables: Vec<String> = changes.iter().map(|(_, change)| change.table.clone()).collect();
        self.check_marks(&tables).await?;
        let mut prepared = Prepared::default();
        for (source, change) in changes {
            let (table, contract) = (change.table.clone(), change.contract);
            let keeps_all = change.wanted.field(OPERATION).is_some() && found.keys.contains_key(&source);
            let Plan { schema, .. } = self.prepare_table(change).await?;
            if schema.fields.is_empty() {
                continue;
            }
            prepared.schemas.insert(table.clone(), schema.clone());
            if keeps_all {
                prepared.histories.insert(source.clone(), table);
            }
            prepared.targets.entry(source).or_insert_with(|| Target { schema: without_history(schema, keeps_all), contract });
        }
        Ok(prepared)
    }
}

/// The columns that records are decoded into.
fn without_history(schema: TableSchema, keeps_all: bool) -> TableSchema {
    let ours = |name: &str| keeps_all && matches!(name, OPERATION | ORDER);
    TableSchema::new(schema.fields.into_iter().filter(|field| !ours(&field.name)).collect())
}

#[cfg(test)]
mod tests {
    use longshore_core::schema::{Field, Type};
    use longshore_core::table_options::TableOptions;

    use super::*;

    #[test]
    fn a_table_of_rows_as_they_are_now_has_the_key_and_a_history_has_none() {
        let columns = TableSchema::new(vec![Field::new("id", Type::Int64)]);
        let found = Description {
            tables: [("t".to_owned(), columns.clone()), ("plain".to_owned(), columns)].into(),
            keys: [("t".to_owned(), vec!["id".to_owned()])].into(),
            ..Description::default()
        };
        let said = TableOptions { key: vec!["ID".into()], ..TableOptions::default() };
        for (options, key) in [(None, "id"), (Some(said), "ID")] {
            let options: BTreeMap<_, _> = options.map(|options| ("*".to_owned(), options)).into_iter().collect();
            let keys = |keep: Keep| -> BTreeMap<String, Vec<String>> {
                let changes = [("*".to_owned(), keep)].into();
                let pipeline = Pipeline { changes, options: options.clone(), ..Pipeline::default() };
                let wanted = wanted(&pipeline, true, &found).expect("fits");
                wanted.into_iter().map(|(_, change)| (change.table, change.options.key)).collect()
            };
            let both = keys(Keep::Both);
            assert_eq!((both["t"].as_slice(), both["t_history"].len()), (&[key.to_owned()][..], 0));
            assert_eq!(both["plain"], pipeline_key(&options));
            assert!(keys(Keep::History)["t"].is_empty());
            assert_eq!(keys(Keep::Current)["t"], [key]);
        }
    }

    fn pipeline_key(options: &BTreeMap<String, TableOptions>) -> Vec<String> {
        options.get("*").map(|options| options.key.clone()).unwrap_or_default()
    }
}
