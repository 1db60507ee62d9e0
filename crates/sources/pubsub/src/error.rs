//! What can go wrong with Pub/Sub, and which of it passes.

use longshore_core::error::{Code, Error, Kind, Retry, code};
use tonic::Status;

/// The codes of this source.
pub mod codes {
    longshore_core::codes! {
        CREDENTIALS = "pubsub_credentials": "No way to log in to Google was found, or the one that was found is refused. Log in with `gcloud auth application-default login`, name a service account's key or a workload identity configuration with `credentials`, or correct the account named by `impersonate`.";
        DENIED = "pubsub_denied": "Google knows who asks and does not allow it. To read a subscription takes the role `roles/pubsub.subscriber` on it, to publish to a topic `roles/pubsub.publisher` on that.";
        MISSING = "pubsub_missing": "The subscription or topic does not exist, or who asks may not see it. Longshore makes neither: what is published before a subscription exists never reaches it. Make it with `gcloud pubsub subscriptions create NAME --topic TOPIC`.";
        UNAVAILABLE = "pubsub_unavailable": "Google's servers could not be reached, or said that they cannot answer for now. It is tried again, and nothing is lost: what was not acknowledged comes again.";
        REFUSED = "pubsub_refused": "Pub/Sub understood a request and does not take it. Its own words say why. A subscription that pushes, or that writes into a table or a bucket by itself, cannot be read.";
        ANSWER = "pubsub_answer_unreadable": "An answer could not be understood: perhaps a proxy answered in place of Pub/Sub. Nothing is assumed from it.";
        NAME = "pubsub_name": "A subscription or topic is named in full, `projects/PROJECT/subscriptions/NAME`, or by its own name beside `project`.";
    }
}

/// A setting that cannot be used.
pub(crate) fn config(code: Code, message: impl Into<String>) -> Error {
    Error::new(Kind::Config, code, message)
}

/// A broken assumption of ours.
pub(crate) fn bug(message: impl Into<String>) -> Error {
    Error::new(Kind::Bug, code::BUG, message)
}

/// An answer that cannot be read.
pub(crate) fn unreadable(what: &str) -> Error {
    Error::new(Kind::Source, codes::ANSWER, format!("{what} cannot be read"))
}

/// What a refusal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It passes.
    Passing,
    /// Who asks is not known: a token may have run out on the way, and the next one is fresh.
    Unknown,
    /// It stays.
    Final,
}

/// What a status means for a call that may be repeated.
pub(crate) fn verdict(status: &Status) -> Verdict {
    use tonic::Code::*;
    match status.code() {
        // Streams end with these by design, and everything between us and Google answers with them.
        Unavailable | DeadlineExceeded | Internal | Aborted | ResourceExhausted | Unknown | Cancelled | DataLoss | Ok => {
            Verdict::Passing
        }
        Unauthenticated => Verdict::Unknown,
        NotFound | PermissionDenied | InvalidArgument | FailedPrecondition | OutOfRange | AlreadyExists | Unimplemented => {
            Verdict::Final
        }
    }
}

/// What was asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Doing<'a> {
    /// Messages of a subscription.
    Reading(&'a str),
    /// To publish to a topic.
    Publishing(&'a str),
}

impl Doing<'_> {
    fn words(&self) -> String {
        match self {
            Doing::Reading(subscription) => format!("reading {subscription}"),
            Doing::Publishing(topic) => format!("publishing to {topic}"),
        }
    }

    fn role(&self) -> &'static str {
        match self {
            Doing::Reading(_) => "grant the role `roles/pubsub.subscriber` on the subscription",
            Doing::Publishing(_) => "grant the role `roles/pubsub.publisher` on the topic",
        }
    }

    fn made(&self) -> &'static str {
        match self {
            Doing::Reading(_) => "make it with `gcloud pubsub subscriptions create NAME --topic TOPIC`",
            Doing::Publishing(_) => "make it with `gcloud pubsub topics create NAME`",
        }
    }
}

/// A refusal in Google's words.
pub(crate) fn refusal(doing: Doing<'_>, status: &Status) -> Error {
    use tonic::Code::*;
    let (code, hint) = match status.code() {
        Unauthenticated => {
            (codes::CREDENTIALS, Some("log in with `gcloud auth application-default login`, or name a key with `credentials`"))
        }
        PermissionDenied => (codes::DENIED, Some(doing.role())),
        NotFound => (codes::MISSING, Some(doing.made())),
        _ if verdict(status) == Verdict::Passing => (codes::UNAVAILABLE, None),
        _ => (codes::REFUSED, None),
    };
    let retry = if verdict(status) == Verdict::Passing { Retry::Backoff } else { Retry::AfterFix };
    let words = if status.message().is_empty() { status.code().description() } else { status.message() };
    let message = format!("{}: Pub/Sub answered {:?}: {words}", doing.words(), status.code());
    let error = Error::new(Kind::Source, code, message).with_retry(retry);
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}
