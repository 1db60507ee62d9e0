//! How values stand in the rows of either database, and why a transaction may end.

use longshore_core::commit::{DeadLetterState, EntryState};
use longshore_core::error::Error;
use serde::de::DeserializeOwned;

/// Why a step of a transaction ends it.
pub(crate) enum Failure {
    /// The database says so.
    Sql(sqlx::Error),
    /// A row does not hold what it should.
    Damaged(serde_json::Error),
    /// A contract is not met.
    Refused(Error),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::Damaged(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// Values that are kept as JSON.
pub(crate) fn decode_all<T: DeserializeOwned>(texts: &[String]) -> Result<Vec<T>, Failure> {
    texts.iter().map(|text| serde_json::from_str(text).map_err(Failure::from)).collect()
}

/// A bound on rows as databases take it.
pub(crate) fn limit(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

pub(crate) fn entry_state(number: i64) -> EntryState {
    match number {
        0 => EntryState::Journalled,
        1 => EntryState::Complete,
        _ => EntryState::Acknowledged,
    }
}

pub(crate) fn letter_state(number: i64) -> DeadLetterState {
    match number {
        0 => DeadLetterState::Open,
        1 => DeadLetterState::Replayed,
        _ => DeadLetterState::Dropped,
    }
}

pub(crate) fn letter_state_number(state: DeadLetterState) -> i64 {
    match state {
        DeadLetterState::Open => 0,
        DeadLetterState::Replayed => 1,
        DeadLetterState::Dropped => 2,
    }
}
