//! How far a source has been read: positions, deltas, and the checkpoint they build.
//!
//! The algebra is small on purpose. A [`Checkpoint`] maps partitions to positions; a batch carries a [`Delta`]
//! `(from, to]` per partition; a delta whose `from` is not the checkpoint's position is refused and changes nothing.

use std::collections::BTreeMap;
use std::fmt;

use crate::error::{Error, Kind, Result, code};

/// The name of something that is read in order. It holds the identity of what it counts (a Kafka topic id, a file's
/// address and digest), so that a recreated topic or a replaced file is another partition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Partition(pub String);

impl Partition {
    /// How the names of partitions begin that are whole files: what covers them is known by the file ledger too.
    pub const FILE: &'static str = "file:";
}

/// A place in a partition: an opaque text whose order is the order of the partition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Position(pub String);

impl Position {
    /// The position of a count, zero-padded so that text order is number order.
    pub fn from_count(count: u64) -> Self {
        Self(format!("{count:020}"))
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The records of one partition after `from` (from its start if `None`) up to and including `to`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Delta {
    /// Which partition.
    pub partition: Partition,
    /// The position before the first record, `None` for the start.
    pub from: Option<Position>,
    /// The position of the last record.
    pub to: Position,
}

/// What a commit covers of its source.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Covers {
    /// Ranges of partitions.
    Deltas(Vec<Delta>),
    /// Ids of single messages, for a source without positions. Each is journalled once per `scope`.
    Ids {
        /// What the ids are unique within (a subscription, a set of dead letters).
        scope: String,
        /// The ids.
        ids: Vec<String>,
    },
}

/// `partition -> position`: how far everything has been journalled.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Checkpoint(BTreeMap<Partition, Position>);

impl Checkpoint {
    /// The position of a partition, `None` at its start.
    pub fn position(&self, partition: &Partition) -> Option<&Position> {
        self.0.get(partition)
    }

    /// Partitions and positions in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Partition, &Position)> {
        self.0.iter()
    }

    /// Moves every delta's partition from its `from` to its `to`: all of them or, with an error, none.
    ///
    /// Fails with `delta_refused` if a `from` is not the partition's position, or a delta goes backwards.
    pub fn apply(&mut self, deltas: &[Delta]) -> Result<()> {
        let mut next = self.clone();
        for delta in deltas {
            check_delta(delta, next.position(&delta.partition))?;
            next.0.insert(delta.partition.clone(), delta.to.clone());
        }
        *self = next;
        Ok(())
    }
}

impl Checkpoint {
    /// Repair: moves a partition to `to` unless it is there or beyond.
    pub fn advance(&mut self, partition: &Partition, to: &Position) {
        let position = self.0.entry(partition.clone()).or_insert_with(|| to.clone());
        if *position < *to {
            *position = to.clone();
        }
    }

    /// Repair: puts a partition back to its start.
    pub fn forget(&mut self, partition: &Partition) {
        self.0.remove(partition);
    }
}

impl FromIterator<(Partition, Position)> for Checkpoint {
    fn from_iter<I: IntoIterator<Item = (Partition, Position)>>(iter: I) -> Self {
        Self(iter.into_iter().collect())
    }
}

/// Checks one delta against the position its partition has now. Every store's `journal` calls this inside its
/// transaction.
pub fn check_delta(delta: &Delta, now: Option<&Position>) -> Result<()> {
    let refused = |why: &str| {
        Err(Error::new(Kind::Store, code::DELTA_REFUSED, format!("records of {} {why}", delta.partition))
            .with("from", delta.from.as_ref().map_or("start", |p| &p.0))
            .with("to", &delta.to)
            .with("journalled_to", now.map_or("start", |p| &p.0)))
    };
    if delta.from.as_ref() != now {
        return refused("are already journalled, or leave a gap");
    }
    if delta.from.as_ref().is_some_and(|from| *from >= delta.to) {
        return refused("go backwards");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delta(partition: &str, from: Option<u64>, to: u64) -> Delta {
        Delta { partition: Partition(partition.into()), from: from.map(Position::from_count), to: Position::from_count(to) }
    }

    #[test]
    fn a_delta_from_the_current_position_moves_it() {
        let mut checkpoint = Checkpoint::default();
        checkpoint.apply(&[delta("a", None, 100)]).expect("from the start");
        checkpoint.apply(&[delta("a", Some(100), 200), delta("b", None, 7)]).expect("goes on");
        assert_eq!(checkpoint.position(&Partition("a".into())), Some(&Position::from_count(200)));
    }

    #[test]
    fn a_delta_from_elsewhere_is_refused_and_changes_nothing() {
        let mut checkpoint = Checkpoint::default();
        checkpoint.apply(&[delta("a", None, 200)]).expect("from the start");
        let before = checkpoint.clone();
        for bad in [delta("a", Some(100), 300), delta("a", None, 300), delta("a", Some(300), 400)] {
            let error = checkpoint.apply(&[delta("b", None, 1), bad]).expect_err("refused");
            assert_eq!(error.code(), "delta_refused");
            assert_eq!(checkpoint, before);
        }
    }

    #[test]
    fn a_delta_that_goes_backwards_is_refused() {
        let mut checkpoint = Checkpoint::default();
        checkpoint.apply(&[delta("a", None, 200)]).expect("from the start");
        assert!(checkpoint.apply(&[delta("a", Some(200), 200)]).is_err());
        assert!(checkpoint.apply(&[delta("a", Some(200), 150)]).is_err());
    }

    #[test]
    fn text_order_of_counts_is_number_order() {
        assert!(Position::from_count(9) < Position::from_count(10));
        assert!(Position::from_count(99) < Position::from_count(u64::MAX));
    }
}
