//! What a server tells, besides the events of its runs.

use chrono::{DateTime, Utc};
use longshore_core::error::{Error, Place};
use longshore_core::event::{RunEvent, Summary};
use serde::Serialize;

/// Who listens to a server. Called from many threads, must not block for long.
pub trait Listener: Send + Sync {
    /// Something that the server did or saw.
    fn server(&self, event: &ServerEvent);

    /// Something that happened in a run of this pipeline.
    fn run(&self, pipeline: &str, event: &RunEvent);
}

/// One thing that happened. No name of an event is also one of a [`RunEvent`].
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum ServerEvent {
    /// It answers here.
    Listening {
        /// Address and port.
        address: String,
    },
    /// A pipeline is looked after from now on.
    Serving {
        /// Which.
        pipeline: String,
        /// Its file.
        file: String,
        /// `endless` or `scheduled`.
        kind: &'static str,
        /// Its schedule.
        schedule: Option<String>,
    },
    /// A pipeline is neither endless nor scheduled.
    ByHand {
        /// Which.
        pipeline: String,
        /// Its file.
        file: String,
    },
    /// A file changed: its pipeline is stopped, and then started anew.
    Changed {
        /// The pipeline.
        pipeline: String,
        /// The file.
        file: String,
    },
    /// A file is gone: its pipeline is stopped.
    Removed {
        /// The pipeline.
        pipeline: String,
        /// The file.
        file: String,
    },
    /// A file cannot be used.
    Broken {
        /// The file.
        file: String,
        /// The pipeline that goes on as the file was before.
        goes_on: Option<String>,
        /// Why.
        #[serde(flatten)]
        failure: Failure,
    },
    /// The folder cannot be read; everything goes on as it is.
    FolderUnreadable {
        /// Why.
        #[serde(flatten)]
        failure: Failure,
    },
    /// A scheduled time has come, or is made up for.
    Due {
        /// The pipeline.
        pipeline: String,
        /// The time.
        at: DateTime<Utc>,
    },
    /// The pipeline was run for a scheduled time already, most often by another server.
    RunElsewhere {
        /// The pipeline.
        pipeline: String,
        /// The time.
        at: DateTime<Utc>,
        /// Its run.
        run: String,
    },
    /// A run ended well.
    Landed {
        /// The pipeline.
        pipeline: String,
        /// The run.
        run: String,
        /// What it did.
        #[serde(flatten)]
        summary: Summary,
        /// Whether it has more dead letters than it may have.
        over_max: bool,
    },
    /// A run failed, or somebody cancelled it.
    Failed {
        /// The pipeline.
        pipeline: String,
        /// Why.
        #[serde(flatten)]
        failure: Failure,
        /// When it is tried again, or the next scheduled time; `None` if never.
        again: Option<DateTime<Utc>>,
    },
    /// A pipeline has work and gets nothing done.
    Stalled {
        /// The pipeline.
        pipeline: String,
        /// For how long, in seconds.
        seconds: u64,
        /// What it waits for, as far as that is known.
        reason: String,
    },
    /// One that was stalled commits again.
    Flows {
        /// The pipeline.
        pipeline: String,
    },
    /// A pipeline was stopped.
    Stopped {
        /// Which.
        pipeline: String,
    },
}

/// An error, as it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// What failed, with its place and the errors underneath.
    pub error: String,
    /// The stable code.
    pub code: String,
    /// Where in a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// What a person can do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        let mut text = error.to_string();
        for cause in error.chain() {
            text += ": ";
            text += &cause;
        }
        Self {
            error: text,
            code: error.code().to_owned(),
            place: error.place().cloned(),
            hint: error.hint_text().map(str::to_owned),
        }
    }
}
