//! BigQuery as a destination.

use longshore_bigquery::config::BigQueryConfig;

use crate::{Declaration, Make, read};

pub(crate) const DECLARATION: Declaration = Declaration {
    name: "bigquery",
    summary: "Tables of a BigQuery dataset",
    capabilities: &[
        "exactly once: every commit has its mark in the table `_longshore` of the dataset",
        "load jobs through a bucket, or the Storage Write API without one",
        "append, or replace in one step; tables partitioned by day",
        "new columns; nothing else of an existing table is touched",
        "application default credentials, keys, workload identity, impersonation",
    ],
    settings: || schemars::schema_for!(BigQueryConfig).to_value(),
    codes: &[longshore_bigquery::error::codes::ALL],
    make: Make::Destination {
        open: |settings, surroundings| {
            let config: BigQueryConfig = read("bigquery", settings)?;
            Ok(std::sync::Arc::new(longshore_bigquery::BigQueryDestination::open_dataset(&config, &surroundings.state)?))
        },
        place: |settings| {
            let config: BigQueryConfig = read("bigquery", settings.clone())?;
            Ok(config.place())
        },
    },
};
