//! A pipeline whose source never ends: it is run all the time.

use std::sync::Arc;

use longshore_core::error::{Error, Kind, Retry};
use longshore_core::stop::Stop;
use tokio::time::Instant;

use crate::attempt::{Ended, attempt, failed};
use crate::error::SOURCE_ENDED;
use crate::jobs::Job;
use crate::pauses::Pauses;
use crate::shared::Shared;
use crate::state::State;

/// Runs it until it is asked to stop.
pub(crate) async fn keep(shared: &Arc<Shared>, job: &Job, stop: &Stop) {
    let mut pauses = Pauses::default();
    while !stop.is_requested() {
        let began = Instant::now();
        let error = match attempt(shared, job, None, stop).await {
            Ended::Stopped => return,
            Ended::Failed(error) => error,
            Ended::Well(_) => {
                Error::new(Kind::Source, SOURCE_ENDED, "the source ended, which it never should").with_retry(Retry::Backoff)
            }
        };
        let again = shared.again(&mut pauses, &error, began.elapsed());
        failed(shared, job, &error, State::Retrying, (!stop.is_requested()).then_some(again));
        if !shared.sleep_until(again, stop).await {
            return;
        }
    }
}
