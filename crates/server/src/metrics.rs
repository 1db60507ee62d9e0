//! What is known, as Prometheus reads it.
//!
//! Each answer is made from the board alone: what is no longer so (the lag of a partition that another process reads now) leaves no series
//! behind.

use std::collections::BTreeMap;

use metrics::{counter, describe_counter, describe_gauge, gauge, with_local_recorder};
use metrics_exporter_prometheus::PrometheusBuilder;

use crate::board::Board;
use crate::jobs::Kind;
use crate::state::Known;

/// The media type of the text.
pub(crate) const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

const COUNTERS: &[(&str, &str)] = &[
    ("longshore_rows_total", "Rows that were committed, dead letters not among them."),
    ("longshore_messages_total", "Messages of endless sources that were committed."),
    ("longshore_bytes_total", "Bytes of input that were committed."),
    ("longshore_commits_total", "Commits."),
    ("longshore_dead_letters_total", "Records that did not fit and became dead letters."),
    ("longshore_run_failures_total", "Runs that failed."),
];

const GAUGES: &[(&str, &str)] = &[
    (
        "longshore_lag_messages",
        "Messages that wait to be read, by part of the source, as far as this process reads it. Of a Pub/Sub subscription only those \
         that were lent to this process: see Google's num_undelivered_messages for those that wait there.",
    ),
    ("longshore_table_delay_seconds", "How old the oldest message of the table's last commit was when it became visible."),
    ("longshore_table_last_commit_timestamp_seconds", "When the table showed new rows last."),
    ("longshore_parked_commits", "Commits that wait for a table that cannot be published for now."),
    ("longshore_pipeline_up", "1 if the pipeline runs or waits for its time, 0 if it has not started or failed last."),
    ("longshore_stalled", "1 if the pipeline has work and has got nothing done for five minutes."),
    (
        "longshore_last_success_timestamp_seconds",
        "When a run of the pipeline ended well; of an endless one, when it committed last.",
    ),
    ("longshore_invalid_files", "Files of the folder that cannot be used."),
];

/// Everything in Prometheus' text format; families and series in a fixed order.
pub(crate) fn text(board: &Board) -> String {
    let recorder = PrometheusBuilder::new().build_recorder();
    with_local_recorder(&recorder, || {
        COUNTERS.iter().for_each(|(name, help)| describe_counter!(*name, *help));
        GAUGES.iter().for_each(|(name, help)| describe_gauge!(*name, *help));
        gauge!("longshore_invalid_files").set(board.files().len() as f64);
        for (pipeline, known) in board.ever() {
            if known.kind == Kind::ByHand.name() {
                continue;
            }
            count(&pipeline, &known);
            if known.is_present() {
                measure(&pipeline, &known);
            }
        }
    });
    ordered(&recorder.handle().render())
}

fn count(pipeline: &str, known: &Known) {
    let name = || pipeline.to_owned();
    let totals = &known.totals;
    for (table, seen) in known.row_tables() {
        counter!("longshore_rows_total", "pipeline" => name(), "table" => table.clone()).absolute(seen.rows);
    }
    if known.kind == Kind::Endless.name() {
        counter!("longshore_messages_total", "pipeline" => name()).absolute(totals.messages);
    }
    counter!("longshore_bytes_total", "pipeline" => name()).absolute(totals.bytes);
    counter!("longshore_commits_total", "pipeline" => name()).absolute(totals.commits);
    counter!("longshore_dead_letters_total", "pipeline" => name()).absolute(totals.dead_letters);
    counter!("longshore_run_failures_total", "pipeline" => name()).absolute(totals.failures);
}

fn measure(pipeline: &str, known: &Known) {
    let name = || pipeline.to_owned();
    let truth = |truth: bool| f64::from(u8::from(truth));
    let seconds = |time: chrono::DateTime<chrono::Utc>| time.timestamp_millis() as f64 / 1000.0;
    gauge!("longshore_pipeline_up", "pipeline" => name()).set(truth(known.is_up()));
    gauge!("longshore_stalled", "pipeline" => name()).set(truth(known.stalled.is_some()));
    if let Some(time) = known.last_success {
        gauge!("longshore_last_success_timestamp_seconds", "pipeline" => name()).set(seconds(time));
    }
    for lag in &known.lag {
        if let Some(messages) = lag.messages {
            gauge!("longshore_lag_messages", "pipeline" => name(), "source" => lag.name.clone()).set(messages as f64);
        }
    }
    for (table, seen) in known.row_tables() {
        let labels = [("pipeline", name()), ("table", table.clone())];
        gauge!("longshore_parked_commits", &labels).set(seen.parked as f64);
        if let Some(delay) = seen.delay_seconds {
            gauge!("longshore_table_delay_seconds", &labels).set(delay);
        }
        if let Some(time) = seen.shown_at {
            gauge!("longshore_table_last_commit_timestamp_seconds", &labels).set(seconds(time));
        }
    }
}

/// The recorder's families come in any order, as do the series of each.
fn ordered(text: &str) -> String {
    let mut families: BTreeMap<&str, (Vec<&str>, Vec<&str>)> = BTreeMap::new();
    let mut family = "";
    for line in text.lines().filter(|line| !line.is_empty()) {
        match line.strip_prefix("# ") {
            Some(about) => {
                family = about.split(' ').nth(1).unwrap_or_default();
                families.entry(family).or_default().0.push(line);
            }
            None => families.entry(family).or_default().1.push(line),
        }
    }
    let mut out = String::with_capacity(text.len());
    for (about, mut series) in families.into_values() {
        series.sort_unstable();
        for line in about.into_iter().chain(series) {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}
