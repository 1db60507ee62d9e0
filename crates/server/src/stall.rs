//! Notices pipelines that have work and get nothing done.

use std::time::Duration;

use chrono::TimeDelta;
use tokio::time::Instant;

use crate::event::ServerEvent;
use crate::jobs::Kind;
use crate::shared::Shared;
use crate::state::{Known, Stalled, State};

/// A pipeline that has got nothing done for so long is stalled.
const STALLED: Duration = Duration::from_secs(5 * 60);

/// Looks at every endless pipeline; tells of those that stall now, and of those that flow again.
pub(crate) fn look(shared: &Shared) {
    let (now, time) = (Instant::now(), shared.now());
    let mut told = Vec::new();
    shared.board.visit(|name, known| {
        let pipeline = name.to_owned();
        match (found(known, now), &mut known.stalled) {
            (Some((idle, reason)), None) => {
                let since = time - TimeDelta::from_std(idle).unwrap_or_default();
                known.stalled = Some(Stalled { since, reason: reason.clone() });
                told.push(ServerEvent::Stalled { pipeline, seconds: idle.as_secs(), reason });
            }
            (Some((_, reason)), Some(stalled)) => stalled.reason = reason,
            (None, Some(_)) => {
                known.stalled = None;
                told.push(ServerEvent::Flows { pipeline });
            }
            (None, None) => {}
        }
    });
    told.iter().for_each(|event| shared.tell(event));
}

/// How long a pipeline has been idle that should not be, and what holds it up.
fn found(known: &Known, now: Instant) -> Option<(Duration, String)> {
    if known.kind != Kind::Endless.name() || !matches!(known.state, State::Starting | State::Running) {
        return None;
    }
    let (silent, idle) = (now.duration_since(known.pulse.heard), now.duration_since(known.pulse.moved));
    let behind = known.behind().unwrap_or(0);
    let (idle, step) = if silent >= STALLED {
        let step = if known.state == State::Starting { "its run has not begun to read" } else { "its run says nothing any more" };
        (silent, step.to_owned())
    } else if idle < STALLED {
        return None;
    } else if known.pulse.open > 0 {
        (idle, format!("{} journalled and not published", commits(known.pulse.open)))
    } else if behind > 0 {
        (idle, format!("{behind} messages wait to be read, and none is journalled"))
    } else {
        return None;
    };
    let mut reason = step;
    for (name, table) in known.tables.iter().filter(|(_, table)| table.parked > 0) {
        let why = table.reason.as_deref().unwrap_or("for a reason that it did not say");
        reason += &format!("; table {name} keeps {} waiting: {why}", commits(table.parked));
    }
    if let Some(waits) = &known.pulse.waits {
        reason += &format!("; it waits: {waits}");
    }
    Some((idle, reason))
}

fn commits(number: u64) -> String {
    if number == 1 { "1 commit".to_owned() } else { format!("{number} commits") }
}
