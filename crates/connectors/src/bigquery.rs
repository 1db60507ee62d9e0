//! BigQuery as a destination.

use longshore_bigquery::config::BigQueryConfig;

use crate::{Declaration, Make, read};

pub(crate) const DECLARATION: Declaration = Declaration {
    name: "bigquery",
    summary: "Tables of a BigQuery dataset",
    capabilities: &[
        "exactly once: every commit has its mark in the table `_longshore` of the dataset",
        "load jobs through a bucket, or the Storage Write API without one",
        "at least once, where asked for: the default stream, `insertAll`",
        "append, or replace a table or one partition in one step; upserts and deletes by key",
        "rows that BigQuery refuses become dead letters, the rest lands",
        "tables with partitions, clusters, labels, expiration, key, policy tags; new columns and wider types in existing ones",
        "quotas are waited for",
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
