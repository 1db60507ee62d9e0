//! The whole command line, as a person or a program meets it: exit code, stdout and stderr of good and bad use.
//!
//! Each test runs in a folder of its own. What differs from run to run (paths, ids, times, sizes of files that a library
//! writes) is replaced before it is compared.

mod arguments;
mod bigquery;
mod check_bigquery;
mod cloud;
mod examples_streams;
mod export;
mod extremes;
mod faults;
mod load;
mod pipelines;
mod place;
mod queries;
mod rejects;
mod running;
mod serve;
mod streams;
mod streams_fleet;
mod streams_pubsub;
mod values;
