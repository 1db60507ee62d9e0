//! What Prometheus reads.

use std::collections::{BTreeMap, BTreeSet};

use longshore_core::event::TableFlow;
use longshore_core::stream::Lag;

use super::*;
use crate::metrics::text;

/// Reads the text format and fails unless every line of it is right; returns each series with its value.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let (mut series, mut helped, mut typed) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a name and a help");
            assert!(!help.is_empty() && helped.insert(name.to_owned()), "{line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a name and a type");
            assert!(matches!(kind, "counter" | "gauge") && typed.insert(name.to_owned(), kind.to_owned()).is_none(), "{line}");
        } else {
            let (key, value) = line.rsplit_once(' ').expect("a series and a value");
            let (name, labels) =
                key.split_once('{').map_or((key, ""), |(name, rest)| (name, rest.strip_suffix('}').expect("closed")));
            assert!(helped.contains(name) && typed.contains_key(name), "{line} stands before its HELP and TYPE");
            assert_eq!(typed[name] == "counter", name.ends_with("_total"), "{line}");
            for label in labels.split("\",").filter(|label| !label.is_empty()) {
                let (label, value) = label.split_once("=\"").expect("a label and its value");
                assert!(label.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{line}");
                assert!(!value.trim_end_matches('"').contains(['\n', '"']), "{line}");
            }
            let value = value.parse().unwrap_or_else(|e| panic!("{e} in {line}"));
            assert!(series.insert(key.to_owned(), value).is_none(), "{line} is there twice");
        }
    }
    assert!(text.ends_with('\n'));
    series
}

fn tell(observer: &Arc<dyn Observer>, messages: u64, lag: Option<u64>) {
    let table = TableFlow {
        rows: messages - 1,
        shown_at: Some(dawn()),
        delay: Some(1.25),
        parked: 2,
        reason: Some("it is locked".into()),
    };
    observer.event(&RunEvent::Flow(Flow {
        messages,
        bytes: messages * 100,
        rejects: 1,
        commits: messages / 10,
        open: 0,
        lag: lag.map(|lag| Lag { name: "orders/0".into(), messages: Some(lag) }).into_iter().collect(),
        tables: [("orders".to_owned(), table)].into(),
    }));
}

#[tokio::test(start_paused = true)]
async fn counters_go_on_when_a_pipeline_starts_again_and_gauges_go_with_what_they_measure() {
    let fake = Fake::new(|call| async move {
        tell(&call.observer, 10, Some(7));
        seconds(5).await;
        tell(&call.observer, 30, (call.number == 1).then_some(4));
        seconds(5).await;
        match call.number {
            1 => Err(Error::new(ErrorKind::Source, code::BUG, "lost").with_retry(Retry::Backoff)),
            _ => {
                call.stop.requested().await;
                Err(interrupted())
            }
        }
    });
    let world = World::new(vec![endless("a.yaml", "a", "1", &fake)]);
    seconds(7).await;
    let first = parse(&text(&world.shared.board));
    let expected = [
        ("longshore_messages_total{pipeline=\"a\"}", 30.0),
        ("longshore_rows_total{pipeline=\"a\",table=\"orders\"}", 29.0),
        ("longshore_bytes_total{pipeline=\"a\"}", 3000.0),
        ("longshore_commits_total{pipeline=\"a\"}", 3.0),
        ("longshore_dead_letters_total{pipeline=\"a\"}", 1.0),
        ("longshore_run_failures_total{pipeline=\"a\"}", 0.0),
        ("longshore_lag_messages{pipeline=\"a\",source=\"orders/0\"}", 4.0),
        ("longshore_table_delay_seconds{pipeline=\"a\",table=\"orders\"}", 1.25),
        ("longshore_table_last_commit_timestamp_seconds{pipeline=\"a\",table=\"orders\"}", dawn().timestamp() as f64),
        ("longshore_parked_commits{pipeline=\"a\",table=\"orders\"}", 2.0),
        ("longshore_pipeline_up{pipeline=\"a\"}", 1.0),
        ("longshore_stalled{pipeline=\"a\"}", 0.0),
        ("longshore_last_success_timestamp_seconds{pipeline=\"a\"}", dawn().timestamp() as f64 + 5.0),
        ("longshore_invalid_files", 0.0),
    ];
    assert_eq!(first, expected.map(|(name, value)| (name.to_owned(), value)).into());
    seconds(4 + 2).await;
    let second = parse(&text(&world.shared.board));
    assert_eq!(second["longshore_messages_total{pipeline=\"a\"}"], 40.0, "ten more by the second run");
    assert_eq!(second["longshore_rows_total{pipeline=\"a\",table=\"orders\"}"], 38.0);
    assert_eq!(second["longshore_run_failures_total{pipeline=\"a\"}"], 1.0);
    seconds(5).await;
    let third = parse(&text(&world.shared.board));
    assert!(!third.keys().any(|key| key.starts_with("longshore_lag")), "somebody else reads the partition now");
    for (key, value) in first.iter().filter(|(key, _)| key.contains("_total{")) {
        assert!(second[key] >= *value && third[key] >= second[key], "{key}");
    }
    // Without its file it measures nothing, and its counters stay.
    world.set(vec![]);
    seconds(10).await;
    let gone = parse(&text(&world.shared.board));
    assert_eq!(gone["longshore_messages_total{pipeline=\"a\"}"], third["longshore_messages_total{pipeline=\"a\"}"]);
    assert!(!gone.contains_key("longshore_pipeline_up{pipeline=\"a\"}"));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_with_an_end_is_counted_by_its_commits_each_once() {
    let published = |n, table: &str, rows| RunEvent::Published { n, table: table.into(), rows, commit: None };
    let fake = Fake::new(move |call| async move {
        let events = [
            published(1, "orders", 5),
            published(1, "orders", 5),
            published(1, "_dead_letters", 2),
            RunEvent::Completed { n: 1 },
            RunEvent::Completed { n: 1 },
            published(2, "orders", 3),
            RunEvent::Finished {
                status: longshore_core::event::Status::Succeeded,
                error: None,
                code: None,
                summary: Summary { bytes: 800, ..Summary::default() },
            },
        ];
        // The second run finds nothing new but what it publishes again.
        events.iter().take(if call.number == 1 { 7 } else { 2 }).for_each(|event| call.observer.event(event));
        Ok(well())
    });
    let world = World::new(vec![scheduled("a.yaml", "a", "* * * * *", &fake)]);
    seconds(100).await;
    assert_eq!(fake.seconds().len(), 2);
    let series = parse(&text(&world.shared.board));
    assert_eq!(series["longshore_rows_total{pipeline=\"a\",table=\"orders\"}"], 8.0);
    assert_eq!(series["longshore_dead_letters_total{pipeline=\"a\"}"], 2.0);
    assert_eq!(series["longshore_commits_total{pipeline=\"a\"}"], 1.0);
    assert_eq!(series["longshore_bytes_total{pipeline=\"a\"}"], 800.0);
    assert!(!series.keys().any(|key| key.contains("_dead_letters\"") || key.contains("messages_total")), "{series:?}");
    world.end().await;
}
