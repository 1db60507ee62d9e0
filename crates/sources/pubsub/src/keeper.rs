//! Keeps what was lent to us, acknowledges it, and gives it back.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use prost::Message as _;
use tokio::time::Instant;
use tonic::Status;

use crate::client::Client;
use crate::desk::Desk;
use crate::error::{Verdict, verdict};
use crate::leases::Loan;
use crate::outage::Failures;
use crate::protocol::{ErrorInfo, RpcStatus};

/// Ids of one request. Google takes 512 KiB, and an id has up to some 250 bytes.
const IDS: usize = 1_000;
const ID_BYTES: usize = 400 << 10;
/// Requests that are on their way at once.
const AT_ONCE: usize = 8;
/// How often what could not be given back is tried again. What then is not comes back by itself when its lease ends.
const TRIES: u32 = 4;
/// How long giving back may take in all. The rest comes back by itself as well.
const GIVEN_WITHIN: Duration = Duration::from_secs(10);

/// Speaks for one subscription.
pub(crate) struct Keeper {
    pub client: Client,
    pub desk: Arc<Desk>,
    pub subscription: String,
    pub term: Duration,
}

/// What became of the loans of a request.
#[derive(Debug, Default)]
struct Outcome {
    done: Vec<Loan>,
    /// It may succeed later.
    again: Vec<Loan>,
    /// It never will: others have them.
    lost: Vec<Loan>,
    /// Why the request as a whole has no good answer.
    failed: Option<Status>,
}

impl Keeper {
    /// Extends leases for ever.
    pub(crate) async fn extend(&self) {
        let mut failures = Failures::default();
        loop {
            // Half a term is left when a lease is due: time for a few more tries.
            tokio::time::sleep(self.term / 12).await;
            let due = self.desk.leases().due(Instant::now());
            let requests = batches(due).into_iter().map(async |loans| {
                let asked = Instant::now();
                let extended = self.client.extend(&self.subscription, ack_ids(&loans), self.term.as_secs());
                // One that hangs must not hold up the next try.
                let late = |_| Err(Status::deadline_exceeded("no answer in time"));
                let answer = tokio::time::timeout(self.term / 6, extended).await.unwrap_or_else(late);
                let outcome = sort_out(loans, answer);
                let mut leases = self.desk.leases();
                leases.extended(&outcome.done, asked);
                leases.lost(&outcome.lost);
                outcome.failed
            });
            let outcomes: Vec<_> = futures::stream::iter(requests).buffer_unordered(AT_ONCE).collect().await;
            self.tell(&mut failures, &outcomes);
        }
    }

    /// Acknowledges for ever what is done.
    pub(crate) async fn acknowledge(&self) {
        let mut failures = Failures::default();
        loop {
            let done = self.desk.leases().take_done();
            if done.is_empty() {
                self.desk.done.notified().await;
                continue;
            }
            let at_once = if self.desk.in_order() { 1 } else { AT_ONCE };
            let requests = batches(done).into_iter().map(async |loans| {
                let answer = self.client.acknowledge(&self.subscription, ack_ids(&loans)).await;
                let outcome = sort_out(loans, answer);
                let again = !outcome.again.is_empty();
                {
                    let mut leases = self.desk.leases();
                    leases.acknowledged(&outcome.done);
                    // These come again, are known then, and are acknowledged then.
                    leases.acknowledged(&outcome.lost);
                    leases.not_acknowledged(&outcome.again);
                }
                self.desk.stirred();
                self.desk.left.notify_waiters();
                outcome.failed.or_else(|| again.then(|| Status::unavailable("some acknowledgements were not taken")))
            });
            let outcomes: Vec<_> = futures::stream::iter(requests).buffer_unordered(at_once).collect().await;
            if let Some(wait) = self.tell(&mut failures, &outcomes) {
                tokio::time::sleep(wait).await;
            }
        }
    }

    /// Gives messages back, in this order, so that others get them at once. An answer that is lost does no harm.
    pub(crate) async fn give_back(&self, loans: Vec<Loan>) {
        _ = tokio::time::timeout(GIVEN_WITHIN, self.try_to_give_back(loans)).await;
        self.desk.left.notify_waiters();
    }

    /// Request by request; after one that uses up its tries there is no use in the others.
    async fn try_to_give_back(&self, loans: Vec<Loan>) {
        for mut loans in batches(loans) {
            let mut failures = Failures::default();
            for tries_left in (0..TRIES).rev() {
                let answer = self.client.extend(&self.subscription, ack_ids(&loans), 0).await;
                let outcome = sort_out(loans, answer);
                loans = outcome.again;
                if loans.is_empty() {
                    break;
                }
                if tries_left == 0 {
                    return;
                }
                let why = outcome.failed.map(|status| status.message().to_owned()).unwrap_or_default();
                tokio::time::sleep(self.desk.outage.failed(&mut failures, &why)).await;
            }
        }
    }

    /// Tells how a round of requests went; how long to wait before the next if some of it failed.
    fn tell(&self, failures: &mut Failures, outcomes: &[Option<Status>]) -> Option<Duration> {
        let Some(failed) = outcomes.iter().flatten().next() else {
            if !outcomes.is_empty() {
                self.desk.outage.works(failures);
            }
            return None;
        };
        Some(self.desk.outage.failed(failures, &format!("{:?}: {}", failed.code(), failed.message())))
    }
}

fn ack_ids(loans: &[Loan]) -> impl Iterator<Item = &str> {
    loans.iter().map(|loan| &*loan.ack_id)
}

/// Cuts loans into requests.
fn batches(loans: Vec<Loan>) -> Vec<Vec<Loan>> {
    let mut batches: Vec<Vec<Loan>> = Vec::new();
    let mut bytes = usize::MAX;
    for loan in loans {
        match batches.last_mut().filter(|batch| batch.len() < IDS && bytes + loan.ack_id.len() <= ID_BYTES) {
            Some(batch) => {
                bytes += loan.ack_id.len();
                batch.push(loan);
            }
            None => {
                bytes = loan.ack_id.len();
                batches.push(vec![loan]);
            }
        }
    }
    batches
}

/// What an answer says of each loan. Of a subscription that delivers exactly once it names those that it did not take, in its details.
fn sort_out(loans: Vec<Loan>, answer: Result<(), Status>) -> Outcome {
    let mut outcome = Outcome::default();
    let status = match answer {
        Ok(()) => return Outcome { done: loans, ..outcome },
        Err(status) => status,
    };
    let refused = refused_ids(&status);
    if refused.is_empty() {
        match (verdict(&status), status.code()) {
            // Whoever asks about a subscription that is gone, or without the right to, learns so from its streams.
            (Verdict::Final, tonic::Code::InvalidArgument | tonic::Code::FailedPrecondition | tonic::Code::OutOfRange) => {
                outcome.lost = loans;
            }
            _ => outcome.again = loans,
        }
        return Outcome { failed: Some(status), ..outcome };
    }
    for loan in loans {
        match refused.get(&*loan.ack_id) {
            None => outcome.done.push(loan),
            Some(why) if why.starts_with("TRANSIENT_FAILURE_") => outcome.again.push(loan),
            Some(_) => outcome.lost.push(loan),
        }
    }
    outcome
}

/// The ids that a status names, with Google's word for each.
fn refused_ids(status: &Status) -> HashMap<String, String> {
    let details = RpcStatus::decode(status.details()).unwrap_or_default().details;
    let infos = details.iter().filter(|any| any.type_url.ends_with("google.rpc.ErrorInfo"));
    let named = infos.filter_map(|any| ErrorInfo::decode(any.value.as_slice()).ok()).flat_map(|info| info.metadata);
    named.filter(|(_, why)| why.starts_with("TRANSIENT_FAILURE_") || why.starts_with("PERMANENT_FAILURE_")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loan(ack_id: String) -> Loan {
        Loan { id: "id".into(), ack_id: ack_id.into() }
    }

    #[test]
    fn requests_hold_a_thousand_ids_and_less_than_the_limit() {
        let sizes = |count: usize, length: usize| {
            let loans: Vec<_> = (0..count).map(|_| loan("x".repeat(length))).collect();
            batches(loans).iter().map(Vec::len).collect::<Vec<_>>()
        };
        assert_eq!(sizes(0, 10), [0; 0]);
        assert_eq!(sizes(2_500, 200), [1_000, 1_000, 500]);
        assert_eq!(sizes(1_000, 1_024), [400, 400, 200]);
        assert_eq!(sizes(2, ID_BYTES + 1), [1, 1], "what is larger goes alone");
    }

    #[test]
    fn an_answer_that_names_ids_is_about_these_alone() {
        let words = [("a", "PERMANENT_FAILURE_INVALID_ACK_ID"), ("b", "TRANSIENT_FAILURE_UNORDERED_ACK_ID"), ("z", "other")];
        let metadata = words.map(|(id, why)| (id.to_owned(), why.to_owned())).into();
        let info = prost_types::Any {
            type_url: "type.googleapis.com/google.rpc.ErrorInfo".to_owned(),
            value: ErrorInfo { metadata }.encode_to_vec(),
        };
        let details = RpcStatus { details: vec![info] }.encode_to_vec();
        let status = Status::with_details(tonic::Code::FailedPrecondition, "some failed", details.into());
        let outcome = sort_out(["a", "b", "c"].map(|id| loan(id.to_owned())).into(), Err(status));
        let ids = |loans: &[Loan]| loans.iter().map(|loan| loan.ack_id.to_string()).collect::<Vec<_>>();
        assert_eq!(
            (ids(&outcome.lost), ids(&outcome.again), ids(&outcome.done)),
            (vec!["a".into()], vec!["b".into()], vec!["c".into()])
        );
        assert!(outcome.failed.is_none());
    }

    #[test]
    fn a_refusal_of_the_whole_request_is_tried_again_unless_it_would_be_refused_again() {
        for (status, again) in [
            (Status::unavailable("x"), true),
            (Status::permission_denied("x"), true),
            (Status::unauthenticated("x"), true),
            (Status::invalid_argument("x"), false),
        ] {
            let outcome = sort_out(vec![loan("a".to_owned())], Err(status));
            assert_eq!((outcome.again.len(), outcome.lost.len()), if again { (1, 0) } else { (0, 1) });
            assert!(outcome.failed.is_some());
        }
    }
}
