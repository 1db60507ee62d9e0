//! What a server runs. It knows no pipeline files: whoever starts it says what there is.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use longshore_core::Result;
use longshore_core::error::Error;
use longshore_core::event::Observer;
use longshore_core::stop::Stop;
use longshore_engine::Outcome;

use crate::schedule::Schedule;

/// Where pipelines are found.
pub trait Jobs: Send + Sync {
    /// Looks at every file, in an order that stays the same. Called every two seconds, on a thread that may block. Errors: the folder as a
    /// whole cannot be read; what runs then goes on.
    fn scan(&self) -> Result<Vec<Found>>;
}

/// What a file is.
pub enum Found {
    /// A pipeline.
    Job(Job),
    /// A file that cannot be used.
    Broken {
        /// The file.
        file: String,
        /// Why, with its place.
        error: Error,
    },
}

/// A pipeline that may be run.
#[derive(Clone)]
pub struct Job {
    /// Its file.
    pub file: String,
    /// Its name, which is its identity in the store.
    pub name: String,
    /// What it is to do: if this differs from before, it is started anew.
    pub version: String,
    /// When it is run.
    pub kind: Kind,
    /// Runs it.
    pub runner: Arc<dyn Runner>,
}

/// When a pipeline is run.
#[derive(Debug, Clone)]
pub enum Kind {
    /// All the time: its source never ends.
    Endless,
    /// At its times.
    Scheduled(Schedule),
    /// Not by a server.
    ByHand,
}

impl Kind {
    /// In a word, for programs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Endless => "endless",
            Self::Scheduled(_) => "scheduled",
            Self::ByHand => "by_hand",
        }
    }

    /// Its schedule, if it has one, for people.
    pub(crate) fn schedule(&self) -> Option<String> {
        match self {
            Self::Scheduled(schedule) => Some(schedule.to_string()),
            Self::Endless | Self::ByHand => None,
        }
    }
}

/// Runs one pipeline.
#[async_trait]
pub trait Runner: Send + Sync {
    /// One run, for the scheduled time `at` if it has one. Ends soon after it is asked to stop. Errors as a run has them; safe to repeat.
    async fn run(&self, at: Option<DateTime<Utc>>, observer: Arc<dyn Observer>, stop: Stop) -> Result<Outcome>;
}
