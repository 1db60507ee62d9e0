//! How an endless source flows, for people.

use longshore_core::event::{Flow, TableFlow};

use crate::{listing, units};

/// In a line: what is done, what waits.
pub fn line(flow: &Flow) -> String {
    let mut parts = vec![
        units::count(flow.messages, "message", "messages"),
        units::show_bytes(flow.bytes),
        units::count(flow.commits, "commit", "commits"),
    ];
    if flow.rejects > 0 {
        parts.push(units::count(flow.rejects, "dead letter", "dead letters"));
    }
    let behind: Vec<u64> = flow.lag.iter().filter_map(|lag| lag.messages).collect();
    if !behind.is_empty() {
        parts.push(format!("{} behind", units::show_count(behind.iter().sum())));
    }
    let parked: Vec<&str> = flow.tables.iter().filter(|(_, of)| of.parked > 0).map(|(name, _)| name.as_str()).collect();
    if !parked.is_empty() {
        parts.push(format!("waiting: {}", parked.join(", ")));
    }
    parts.join(", ")
}

/// A line for each table, and one for each part of the source that is behind.
pub fn tables(flow: &Flow) -> String {
    let row = |(name, of): (&String, &TableFlow)| {
        let shown = of.shown_at.map_or_else(String::new, |at| at.format("%H:%M:%S").to_string());
        let delay = of.delay.map_or_else(String::new, |delay| format!("{delay:.1} s"));
        let waits = match (of.parked, &of.reason) {
            (0, _) => String::new(),
            (parked, reason) => {
                let commits = units::count(parked, "commit waits", "commits wait");
                format!("{commits}: {}", reason.as_deref().unwrap_or_default())
            }
        };
        vec![format!("  {name}"), units::show_count(of.rows), shown, delay, waits]
    };
    let rows: Vec<Vec<String>> = flow.tables.iter().map(row).collect();
    let mut text = listing::aligned(&["  TABLE", "ROWS", "SHOWN AT", "AFTER", ""], &rows);
    for lag in flow.lag.iter().filter(|lag| lag.messages.is_some_and(|messages| messages > 0)) {
        text += &format!("\n  {} is {} behind", lag.name, units::count(lag.messages.unwrap_or(0), "message", "messages"));
    }
    text
}
