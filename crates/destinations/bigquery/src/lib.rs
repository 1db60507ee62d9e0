//! BigQuery as a destination.
