//! Tables and columns, before anything is staged.

use std::collections::BTreeMap;

use longshore_core::Result;
use longshore_core::batch::{Changes, OPERATION, ORDER};
use longshore_core::destination::{Plan, SchemaChange};
use longshore_core::schema::TableSchema;
use longshore_core::source::{Description, Target};

use crate::pipeline::{Keep, Pipeline};
use crate::run::Session;

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

/// What tables are to be like for what a source found: each change with the source's own table.
pub(crate) fn wanted(pipeline: &Pipeline, found: &Description) -> Vec<(String, SchemaChange)> {
    let mut all = Vec::new();
    for (name, columns) in &found.tables {
        let (contract, disposition) = (pipeline.contract(name), pipeline.disposition);
        let change = |table: &str, wanted: TableSchema, key: &[String]| {
            let mut options = pipeline.options(table);
            if options.key.is_empty() {
                options.key = key.to_vec();
            }
            (name.clone(), SchemaChange { table: table.to_owned(), wanted, contract, disposition, options })
        };
        let key = found.keys.get(name);
        let keep = if key.is_some() { pipeline.changes(name) } else { Keep::Current };
        if keep != Keep::History {
            all.push(change(name, columns.clone(), key.map_or(&[], Vec::as_slice)));
        }
        match keep {
            Keep::Current => {}
            Keep::History => all.push(change(name, Changes::history(columns), &[])),
            Keep::Both => all.push(change(&history_of(name), Changes::history(columns), &[])),
        }
    }
    all
}

impl Session {
    /// Makes the tables ready. A table that no rows can go to (it is to be emptied and is not there) is left out.
    pub(crate) async fn prepare(&self, found: &Description) -> Result<Prepared> {
        let changes = wanted(&self.pipeline, found);
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
