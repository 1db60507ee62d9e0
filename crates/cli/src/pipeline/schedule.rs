//! The `schedule` of a pipeline file.

use longshore_core::error::Result;
use longshore_server::Schedule;
use longshore_server::error::TIME_ZONE_UNKNOWN;

use super::yaml::{Node, invalid};

/// When a pipeline is run. Where clocks change, a time that does not exist is run right after, and one that exists twice is run once.
#[derive(Debug, Clone, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ScheduleSettings {
    /// Minute, hour, day of the month, month, day of the week; or with seconds before them: `0 3 * * *`.
    cron: String,
    /// The time zone that these are of, by its IANA name: `Europe/Oslo`. UTC if not given.
    #[serde(default)]
    time_zone: Option<String>,
}

impl ScheduleSettings {
    /// The times that it means. Errors: a pattern or a zone that cannot be used, or a source that needs none, each with its place.
    pub(super) fn of(&self, node: &Node, endless: bool) -> Result<Schedule> {
        if endless {
            let message = "a source that never ends takes no `schedule`: `longshore serve` runs it all the time";
            return Err(invalid(node.place.clone(), message));
        }
        Schedule::new(&self.cron, self.time_zone.as_deref()).map_err(|error| {
            let key = if error.code() == TIME_ZONE_UNKNOWN.name { "time_zone" } else { "cron" };
            error.at(node.get(key).unwrap_or(node).place.clone())
        })
    }
}
