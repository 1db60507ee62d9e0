//! `longshore describe`: a connector's settings, or a table.

use longshore_connectors::{Declaration, find};
use longshore_core::commit::Application;
use longshore_core::error::Result;
use longshore_delta::query::{TableDetail, Warehouse};
use serde_json::json;

use crate::args::DescribeArgs;
use crate::console::Console;
use crate::{exit, listing, settings, units};

/// Describes the connector of this name, else the table.
pub async fn run(console: &Console, args: &DescribeArgs) -> Result<u8> {
    if let Some(declaration) = find(&args.name) {
        connector(console, declaration)?;
        return Ok(exit::DONE);
    }
    let warehouse = Warehouse::open(&args.warehouse.folder).map_err(|e| {
        let names: Vec<&str> = longshore_connectors::ALL.iter().map(|declaration| declaration.name).collect();
        let hint = e.hint_text().unwrap_or_default().to_owned();
        e.hint(format!("`{}` is not a connector either ({}); {hint}", args.name, names.join(", ")))
    })?;
    let detail = warehouse.describe(&args.name).await?;
    if console.json {
        console.object(&detail)?
    } else {
        table(console, &detail)?
    }
    Ok(exit::DONE)
}

fn connector(console: &Console, declaration: &Declaration) -> Result<()> {
    let settings = settings::all(&(declaration.settings)());
    if console.json {
        return console.object(&json!({
            "name": declaration.name, "role": declaration.role(), "summary": declaration.summary,
            "capabilities": declaration.capabilities, "settings": settings,
        }));
    }
    console.data(format!("{} ({}): {}\n", declaration.name, declaration.role(), declaration.summary))?;
    for capability in declaration.capabilities {
        console.data(format!("- {capability}"))?;
    }
    for setting in settings {
        let default = match (&setting.default, setting.required) {
            (Some(default), _) => format!(", {default} if not given"),
            (None, true) => ", required".to_owned(),
            (None, false) => String::new(),
        };
        console.data(format!("\n{} ({}{default})\n    {}", setting.name, setting.type_, setting.text))?;
    }
    Ok(())
}

fn table(console: &Console, detail: &TableDetail) -> Result<()> {
    let mut head = vec![
        vec!["table".to_owned(), format!("{}.{}", detail.dataset, detail.table)],
        vec!["rows".to_owned(), units::show_count(detail.rows)],
        vec!["files".to_owned(), format!("{}, {}", units::show_count(detail.files), units::show_bytes(detail.bytes))],
        vec!["version".to_owned(), detail.version.to_string()],
    ];
    if !detail.partition_by.is_empty() {
        head.push(vec!["partitioned by".to_owned(), detail.partition_by.join(", ")]);
    }
    for mark in &detail.marks {
        let writer = match Application::parse_mark(&mark.application) {
            Some(ours) => format!("{} (store {})", ours.pipeline, ours.store),
            None => mark.application.clone(),
        };
        head.push(vec!["last commit".to_owned(), format!("{} of {writer}", mark.n)]);
    }
    console.data(listing::aligned(&["", ""], &head))?;
    let rows: Vec<Vec<String>> = detail
        .schema
        .fields
        .iter()
        .map(|field| vec![field.name.clone(), field.to_string(), field.description.clone().unwrap_or_default()])
        .collect();
    console.data(format!("\n{}", listing::aligned(&["COLUMN", "TYPE", ""], &rows)))
}
