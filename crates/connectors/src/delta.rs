//! Delta Lake tables in a folder as a destination.

use longshore_delta::config::DeltaConfig;

use crate::{Declaration, Make, read};

pub(crate) const DECLARATION: Declaration = Declaration {
    name: "delta",
    summary: "Delta Lake tables in a local folder: the warehouse that Longshore carries inside itself",
    capabilities: &[
        "exactly once: the commit's number stands in the table's log",
        "append, or replace in one commit",
        "new columns and wider types without rewriting files where the format allows",
        "partitions by a column, by day for times",
        "read by `longshore query`, DuckDB, Polars, Spark and delta-rs",
    ],
    settings: || schemars::schema_for!(DeltaConfig).to_value(),
    codes: &[longshore_delta::error::codes::ALL, longshore_delta::query::error::codes::ALL],
    make: Make::Destination {
        open: |settings, _| {
            let config: DeltaConfig = read("delta", settings)?;
            Ok(std::sync::Arc::new(longshore_delta::DeltaDestination::open_dataset(&config)?))
        },
        place: |settings| {
            let config: DeltaConfig = read("delta", settings.clone())?;
            Ok(config.path.join(&config.dataset).display().to_string())
        },
    },
};
