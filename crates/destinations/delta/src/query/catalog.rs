//! Which tables there are, and which one a name means.

use std::path::{Path, PathBuf};

use longshore_core::Result;
use longshore_core::error::{Error, Kind};

use super::error::{codes, known_names, usage};

/// The dataset where a bare table name is looked for first.
const MAIN: &str = "main";

/// A table of the warehouse.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct TableInfo {
    /// The dataset: the folder it is in.
    pub dataset: String,
    /// The table.
    pub table: String,
}

impl std::fmt::Display for TableInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.dataset, self.table)
    }
}

impl TableInfo {
    /// Its folder in the warehouse at `folder`.
    pub(super) fn path(&self, folder: &Path) -> PathBuf {
        folder.join(&self.dataset).join(&self.table)
    }
}

/// One part of a name as the query has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub text: String,
    pub quoted: bool,
}

impl Part {
    /// The parts of `DATASET.TABLE` or `TABLE` outside of a query.
    pub(super) fn split(name: &str) -> Vec<Self> {
        name.replace(['`', '"'], "").split('.').map(|part| Self { text: part.to_owned(), quoted: true }).collect()
    }
}

/// The tables of a warehouse: folders `DATASET/TABLE` with a Delta log, in order.
pub(super) fn list(folder: &Path) -> Result<Vec<TableInfo>> {
    let mut tables = Vec::new();
    for dataset in folders(folder)? {
        for table in folders(&folder.join(&dataset))? {
            if folder.join(&dataset).join(&table).join("_delta_log").is_dir() {
                tables.push(TableInfo { dataset: dataset.clone(), table });
            }
        }
    }
    tables.sort();
    Ok(tables)
}

/// The visible folders in a folder. Names that are no text cannot be named in a query and are left out.
fn folders(folder: &Path) -> Result<Vec<String>> {
    let failed = |e: std::io::Error| {
        let message = format!("cannot list {}", folder.display());
        Error::new(Kind::Destination, codes::WAREHOUSE_UNREADABLE, message).caused_by(e)
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if let Ok(name) = entry.file_name().into_string()
            && !name.starts_with('.')
            && entry.path().is_dir()
        {
            names.push(name);
        }
    }
    Ok(names)
}

/// The table that a name means. Errors: `unknown_table`, also for a name that means several.
pub(super) fn find<'a>(tables: &'a [TableInfo], name: &[Part]) -> Result<&'a TableInfo> {
    let found: Vec<&TableInfo> = match name {
        [table] => {
            let all: Vec<&TableInfo> = tables.iter().filter(|t| same(&t.table, &table.text)).collect();
            let main: Vec<&TableInfo> = all.iter().copied().filter(|t| same(&t.dataset, MAIN)).collect();
            if main.is_empty() { all } else { main }
        }
        [dataset, table] => tables.iter().filter(|t| same(&t.dataset, &dataset.text) && same(&t.table, &table.text)).collect(),
        _ => Vec::new(),
    };
    if let [one] = found.as_slice() {
        return Ok(*one);
    }
    // A path within one pair of quotes.
    if let [whole] = name
        && found.is_empty()
        && whole.text.contains('.')
    {
        let parts: Vec<Part> = whole.text.split('.').map(|part| Part { text: part.to_owned(), quoted: true }).collect();
        return find(tables, &parts);
    }
    let exact = found.iter().find(|t| match name {
        [table] => table.quoted && t.table == table.text && found.iter().filter(|o| o.table == t.table).count() == 1,
        [dataset, table] => dataset.quoted && table.quoted && t.dataset == dataset.text && t.table == table.text,
        _ => false,
    });
    if let Some(exact) = exact {
        return Ok(*exact);
    }
    let wanted = name.iter().map(|part| part.text.as_str()).collect::<Vec<_>>().join(".");
    if found.is_empty() {
        let known: Vec<String> = tables.iter().map(ToString::to_string).collect();
        // A bare name is near to a table's own name, not to its path.
        let near = tables.iter().find(|t| t.table.eq_ignore_ascii_case(&wanted)).map_or(wanted.clone(), ToString::to_string);
        let near = match name {
            [_] => closest(tables, &wanted).unwrap_or(near),
            _ => near,
        };
        return Err(usage(codes::UNKNOWN_TABLE, format!("there is no table {wanted}")).hint(known_names("tables", &near, &known)));
    }
    let candidates: Vec<String> = found.iter().map(ToString::to_string).collect();
    let first = &candidates[0];
    let twins = candidates.iter().all(|candidate| candidate.eq_ignore_ascii_case(first));
    let (message, hint) = if twins {
        (format!("{wanted} could be {}, whose names differ only by case", candidates.join(" or ")), "quote the name")
    } else {
        (format!("there are several tables named {wanted}: {}", candidates.join(", ")), "name the dataset too")
    };
    Err(usage(codes::UNKNOWN_TABLE, message).hint(format!("{hint}, as in {}", quoted(found[0], twins))))
}

fn quoted(table: &TableInfo, quotes: bool) -> String {
    if quotes { format!("`{}`.`{}`", table.dataset, table.table) } else { table.to_string() }
}

fn closest(tables: &[TableInfo], wanted: &str) -> Option<String> {
    let names: Vec<String> = tables.iter().map(|t| t.table.clone()).collect();
    let hint = known_names("tables", wanted, &names);
    let near = hint.strip_prefix("did you mean ")?.split_once('?')?.0.to_owned();
    tables.iter().find(|t| t.table == near).map(ToString::to_string)
}

fn same(a: &str, b: &str) -> bool {
    a.to_lowercase() == b.to_lowercase()
}
