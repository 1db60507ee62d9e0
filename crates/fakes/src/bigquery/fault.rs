//! What goes wrong, and when.

use std::sync::Arc;

use tokio::sync::watch;

/// Holds calls until the test opens it. Clones are the same gate.
#[derive(Debug, Clone)]
pub struct Gate {
    open: Arc<watch::Sender<bool>>,
    waiting: Arc<watch::Sender<usize>>,
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Self { open: Arc::new(watch::channel(false).0), waiting: Arc::new(watch::channel(0).0) }
    }

    /// Lets through what waits, and what comes after.
    pub fn open(&self) {
        self.open.send_replace(true);
    }

    /// Returns when so many calls have come to the gate, those that went through included.
    pub async fn reached(&self, calls: usize) {
        let mut waiting = self.waiting.subscribe();
        _ = waiting.wait_for(|count| *count >= calls).await;
    }

    pub(crate) async fn pass(&self) {
        self.waiting.send_modify(|count| *count += 1);
        let mut open = self.open.subscribe();
        _ = open.wait_for(|open| *open).await;
    }
}

/// What goes wrong with a call.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Fault {
    /// The call is refused and nothing is done. A gRPC call ends with the code that belongs to the status.
    Refuse {
        /// The HTTP status.
        status: u16,
        /// Google's word for it, like `rateLimitExceeded`.
        reason: String,
        /// A text for people.
        message: String,
        /// The seconds of a `Retry-After` header; of a gRPC call, those of a `RetryInfo` in the status.
        retry_after: Option<u64>,
    },
    /// A gRPC call ends with this code and nothing is done.
    RefuseGrpc {
        /// The gRPC code.
        code: i32,
        /// A text for people.
        message: String,
        /// The number of a `StorageErrorCode` in the details.
        storage_error: Option<i32>,
    },
    /// An append is answered with an error in the response; the connection goes on.
    RefuseAppend {
        /// The gRPC code.
        code: i32,
        /// A text for people.
        message: String,
        /// The number of a `StorageErrorCode` in the details.
        storage_error: Option<i32>,
    },
    /// An append is refused for these of its rows.
    RefuseRows(Vec<i64>),
    /// The call is done, then the connection breaks off without an answer, with all other calls on it.
    LoseAnswer,
    /// The connection breaks off before anything is done.
    LoseRequest,
    /// The call is done when the gate opens, even if the client is gone by then.
    Hold(Gate),
    /// The job ends with this error and nothing written.
    JobFails {
        /// Google's word for it, like `backendError`.
        reason: String,
        /// A text for people.
        message: String,
    },
    /// A load job finds these rows bad, counted from 0 over all its files.
    JobRefusesRows(Vec<u64>),
    /// The job stays RUNNING, with nothing written, until jobs are released.
    JobStaysRunning,
    /// The token is not accepted: 401, or UNAUTHENTICATED.
    ExpireToken,
    /// An append, or `GetWriteStream`, does not know yet of the table's last change of schema.
    StaleSchema,
}

impl Fault {
    /// A refusal without `Retry-After`.
    pub fn refuse(status: u16, reason: &str, message: &str) -> Self {
        Fault::Refuse { status, reason: reason.into(), message: message.into(), retry_after: None }
    }

    /// A refusal for a quota that is used up, in Google's words. `reason` is `quotaExceeded`, `rateLimitExceeded` or
    /// `jobRateLimitExceeded`; `retry_after` is in seconds. A gRPC call ends with RESOURCE_EXHAUSTED, and the seconds stand in
    /// the `RetryInfo` of the status.
    ///
    /// Source: <https://cloud.google.com/bigquery/docs/error-messages#errortable>
    pub fn out_of_quota(reason: &str, retry_after: Option<u64>) -> Self {
        let (status, what) = match reason {
            "jobRateLimitExceeded" => (400, "Job exceeded rate limits: Your project exceeded quota for jobs."),
            "rateLimitExceeded" => (403, "Exceeded rate limits: too many requests for this project."),
            _ => (403, "Quota exceeded: Your project exceeded quota for this method."),
        };
        let message = format!("{what} For more information, see https://cloud.google.com/bigquery/docs/troubleshoot-quotas");
        Fault::Refuse { status, reason: reason.into(), message, retry_after }
    }

    /// A job that fails.
    pub fn job_fails(reason: &str, message: &str) -> Self {
        Fault::JobFails { reason: reason.into(), message: message.into() }
    }
}

/// When something goes wrong: which calls, and how many of them.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The method, as in the log of requests: `jobs.insert`, `AppendRows`, `objects.put` ...; `*` is any.
    pub method: String,
    /// A text that the call's subject holds: a table, a stream, a job, `bucket/key`. Empty is any.
    pub about: String,
    /// So many calls pass first.
    pub skip: usize,
    /// So many calls go wrong then.
    pub times: usize,
    /// What goes wrong.
    pub what: Fault,
}

impl Rule {
    /// The next call of a method goes wrong.
    pub fn on(method: &str, what: Fault) -> Self {
        Self { method: method.into(), about: String::new(), skip: 0, times: 1, what }
    }

    /// Only calls about this.
    #[must_use]
    pub fn about(mut self, text: &str) -> Self {
        self.about = text.into();
        self
    }

    /// So many calls pass first.
    #[must_use]
    pub fn skip(mut self, calls: usize) -> Self {
        self.skip = calls;
        self
    }

    /// So many calls go wrong.
    #[must_use]
    pub fn times(mut self, calls: usize) -> Self {
        self.times = calls;
        self
    }
}

/// The rules that are armed, and what was served.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    pub(crate) rules: Vec<Rule>,
    pub(crate) served: Vec<String>,
    /// The only token that is accepted, where one is asked for.
    pub(crate) token: Option<String>,
}

impl Faults {
    /// Takes down a call and says what goes wrong with it. The first rule that has its turn decides.
    pub(crate) fn next(&mut self, method: &str, subject: &str) -> Option<Fault> {
        self.served.push(format!("{method} {subject}").trim_end().to_owned());
        let matching = self.rules.iter_mut().filter(|r| (r.method == "*" || r.method == method) && subject.contains(&r.about));
        for rule in matching {
            if rule.skip > 0 {
                rule.skip -= 1;
            } else if rule.times > 0 {
                rule.times -= 1;
                return Some(rule.what.clone());
            }
        }
        None
    }
}
