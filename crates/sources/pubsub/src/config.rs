//! The settings of the `pubsub` source.

mod duration;

use std::path::PathBuf;
use std::time::Duration;

use longshore_core::Result;
use longshore_messages::MessagesConfig;

use crate::error::{codes, config};

/// A subscription of Google Pub/Sub.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct PubSubConfig {
    /// The subscription: its own name beside `project`, or `projects/PROJECT/subscriptions/NAME`.
    pub subscription: String,
    /// The project of the subscription, if `subscription` does not name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Where Pub/Sub is and who we are to it.
    #[serde(flatten)]
    pub access: Access,
    /// How much Pub/Sub sends before something of it is acknowledged. A commit can hold no more than this.
    #[serde(default)]
    pub max_outstanding: Outstanding,
    /// Streams that are read at once. Google sends up to 10 MB a second on each.
    #[serde(default = "streams")]
    pub streams: u32,
    /// How long Pub/Sub waits for a sign of life of ours before it gives messages to others: 10s to 10m. It is extended for as long as a message
    /// is worked on.
    #[serde(default = "ack_deadline", with = "duration")]
    #[schemars(with = "String")]
    pub ack_deadline: Duration,
    /// How long the ids of messages are kept after they were acknowledged, to know those that come again.
    #[serde(default = "dedupe_window", with = "duration")]
    #[schemars(with = "String")]
    pub dedupe_window: Duration,
    /// When nothing has come for so long, everything counts as read. Pub/Sub does not tell. A run that ends when it has caught up waits for
    /// `ack_deadline`, too, since a worker that died may have had some.
    #[serde(default = "idle_after", with = "duration")]
    #[schemars(with = "String")]
    pub idle_after: Duration,
    /// A topic that copies of dead letters go to, beside their table: by its own name beside `project` (or in the subscription's), or in full.
    /// Payload, attributes and ordering key are unchanged, and what is known about each stands in attributes that begin with `longshore-`. A copy
    /// may come twice, with the same `longshore-id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter_topic: Option<String>,
    /// What messages are and where they go. Without a `route`, the attribute `destination_table` names the table.
    #[serde(flatten)]
    pub messages: MessagesConfig,
}

/// Where Pub/Sub is and who we are to it.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Access {
    /// The file of a key or of a workload identity configuration. Without it the application default credentials count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<PathBuf>,
    /// A service account to act as. Who we are without it must be allowed to make tokens for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub impersonate: Option<String>,
    /// Where Pub/Sub is, if not at Google's own address: `https://europe-west1-pubsub.googleapis.com` keeps everything in a region. An `http://`
    /// address, or the one in the variable PUBSUB_EMULATOR_HOST, is an emulator's: it gets no credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
}

/// How much may be on its way: sent by Pub/Sub and not acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Outstanding {
    /// Messages. Each takes some 400 bytes of memory until it is acknowledged.
    pub messages: u32,
    /// Their bytes. These do not stay in memory.
    pub bytes: u64,
}

impl Default for Outstanding {
    fn default() -> Self {
        Self { messages: 100_000, bytes: 1 << 30 }
    }
}

fn streams() -> u32 {
    2
}

fn ack_deadline() -> Duration {
    Duration::from_secs(60)
}

fn dedupe_window() -> Duration {
    Duration::from_secs(24 * 60 * 60)
}

fn idle_after() -> Duration {
    Duration::from_secs(1)
}

/// What Google takes as a deadline.
const DEADLINES: std::ops::RangeInclusive<u64> = 10..=600;
/// More streams than a connection carries, or than anybody can use.
const MOST_STREAMS: u32 = 64;

impl PubSubConfig {
    /// The subscription's full name. Errors: `pubsub_name`.
    pub fn subscription(&self) -> Result<String> {
        full_name(&self.subscription, "subscriptions", self.project.as_deref())
    }

    /// The full name of the topic of dead letters, if there is one. Errors: `pubsub_name`.
    pub fn dead_letter_topic(&self) -> Result<Option<String>> {
        let of_subscription = self.subscription.strip_prefix("projects/").and_then(|rest| rest.split('/').next());
        // A topic may be in another project than the subscription.
        let named = |topic: &String| match topic.contains('/') {
            true => full_name(topic, "topics", None),
            false => full_name(topic, "topics", self.project.as_deref().or(of_subscription)),
        };
        self.dead_letter_topic.as_ref().map(named).transpose()
    }

    /// Whether the numbers can be used. Errors: `config`.
    pub(crate) fn check(&self) -> Result<()> {
        let wrong = |message: String| Err(config(longshore_core::error::code::CONFIG, message));
        if !DEADLINES.contains(&self.ack_deadline.as_secs()) {
            return wrong("`ack_deadline` is at least 10s and at most 10m: Pub/Sub takes nothing else".to_owned());
        }
        if !(1..=MOST_STREAMS).contains(&self.streams) {
            return wrong(format!("`streams` is a number from 1 to {MOST_STREAMS}"));
        }
        if self.max_outstanding.messages < self.streams || self.max_outstanding.bytes < u64::from(self.streams) {
            return wrong("`max_outstanding` leaves nothing to read: each stream needs at least a message".to_owned());
        }
        Ok(())
    }
}

/// `projects/PROJECT/KIND/NAME`, out of that or of a name beside a project. Errors: `pubsub_name`.
pub(crate) fn full_name(name: &str, kind: &str, project: Option<&str>) -> Result<String> {
    let wrong = |why: String| {
        config(codes::NAME, why)
            .hint(format!("name it in full, `projects/PROJECT/{kind}/NAME`, or by its own name beside `project`"))
    };
    let parts: Vec<&str> = name.split('/').collect();
    match (parts.as_slice(), project) {
        (["projects", named, of, own], beside) if *of == kind && !named.is_empty() && !own.is_empty() => match beside {
            Some(beside) if beside != *named => Err(wrong(format!("`{name}` is in another project than `{beside}`"))),
            _ => Ok(name.to_owned()),
        },
        ([own], Some(project)) if !own.is_empty() && !project.is_empty() => Ok(format!("projects/{project}/{kind}/{own}")),
        ([own], None) if !own.is_empty() => Err(wrong(format!("the project of `{name}` is missing"))),
        _ => Err(wrong(format!("`{name}` is no name of one of a project's {kind}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_is_named_in_full_or_beside_its_project() {
        let name = |name, project| full_name(name, "subscriptions", project);
        assert_eq!(name("orders", Some("p")).expect("short"), "projects/p/subscriptions/orders");
        for project in [None, Some("p")] {
            assert_eq!(name("projects/p/subscriptions/orders", project).expect("full"), "projects/p/subscriptions/orders");
        }
    }

    #[test]
    fn a_name_that_cannot_be_one_is_refused_with_both_forms() {
        for (name, project) in [
            ("orders", None),
            ("", Some("p")),
            ("orders", Some("")),
            ("projects/p/topics/orders", None),
            ("projects/p/subscriptions/orders", Some("q")),
            ("projects//subscriptions/orders", None),
            ("p/orders", Some("p")),
        ] {
            let error = full_name(name, "subscriptions", project).expect_err(name);
            assert_eq!(error.code(), "pubsub_name", "{name}");
            assert!(error.hint_text().is_some_and(|hint| hint.contains("projects/PROJECT/subscriptions/NAME")), "{name}");
        }
    }
}
