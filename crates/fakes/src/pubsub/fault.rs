//! What goes wrong, and when.

use tonic::Code;

/// What goes wrong with a call.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Fault {
    /// The call is refused with this code and text, and nothing is done.
    Refuse(Code, String),
    /// The call is done, and answered with UNAVAILABLE.
    LoseAnswer,
    /// Nothing is done, and nobody answers: a network that swallows everything.
    Hold,
    /// Nothing is done with any id of the call, and the answer says this word of each, as of a subscription that delivers exactly once:
    /// `TRANSIENT_FAILURE_...`, `PERMANENT_FAILURE_...`.
    Each(&'static str),
}

/// When something goes wrong: which calls, and how many of them.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The method: `Acknowledge`, `ModifyAckDeadline`, `StreamingPull`, `GetSubscription`, `Publish` ...
    pub method: &'static str,
    /// So many calls pass first.
    pub skip: usize,
    /// So many calls go wrong then.
    pub times: usize,
    /// What goes wrong.
    pub what: Fault,
}

impl Rule {
    /// The next call of a method goes wrong.
    pub fn on(method: &'static str, what: Fault) -> Self {
        Self { method, skip: 0, times: 1, what }
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

    /// Whether this call goes wrong.
    pub(crate) fn applies(&mut self, method: &str) -> bool {
        if self.method != method {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        let applies = self.times > 0;
        self.times = self.times.saturating_sub(1);
        applies
    }
}
