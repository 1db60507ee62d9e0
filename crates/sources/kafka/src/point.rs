//! What the journal's positions say.

use longshore_core::Result;
use longshore_core::error::{Error, Kind, code};
use longshore_core::position::{Partition, Position};

/// The last position of a partition of a topic without an id: its topic has one now, and the partition goes on under that. It is behind all
/// offsets.
const CARRIED: &str = "goes on under the topic's id";

/// The latest time that counts, in milliseconds since 1970: of the year 2286.
const LAST: i64 = 9_999_999_999_999;

/// What the journal says of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    Nothing,
    At(Point),
    /// It goes on under its topic's id.
    Carried,
}

impl Known {
    pub(crate) fn of(partition: &Partition, position: Option<&Position>) -> Result<Self> {
        match position {
            None => Ok(Known::Nothing),
            Some(position) if position.0 == CARRIED => Ok(Known::Carried),
            Some(position) => Point::of(partition, position).map(Known::At),
        }
    }
}

/// The position that ends a partition of a topic without an id.
pub(crate) fn carried() -> Position {
    Position(CARRIED.to_owned())
}

/// A point of a partition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Point {
    /// The next offset.
    pub(crate) offset: i64,
    /// Where messages are changes: the latest time of the records before it, in milliseconds since 1970, 0 if none has a time. It is part of
    /// the position, so that whoever reads on from there gives each record the same place in the order of changes.
    pub(crate) latest: Option<i64>,
}

impl Point {
    /// As the journal has it: the offset, and behind an `@` the time. Offsets have as many digits each, so that they alone decide the order.
    pub(crate) fn position(self) -> Position {
        // Offsets are never negative here.
        let offset = Position::from_count(u64::try_from(self.offset).unwrap_or(0));
        match self.latest {
            Some(latest) => Position(format!("{offset}@{latest}")),
            None => offset,
        }
    }

    /// What a position says.
    pub(crate) fn of(partition: &Partition, position: &Position) -> Result<Self> {
        let (offset, latest) = match position.0.split_once('@') {
            Some((offset, latest)) => (offset.parse(), latest.parse().map(Some)),
            None => (position.0.parse(), Ok(None)),
        };
        match (offset, latest) {
            (Ok(offset), Ok(latest)) => Ok(Self { offset, latest }),
            _ => Err(Error::new(Kind::Bug, code::BUG, format!("the journal's position of {partition} is not an offset"))
                .with("position", position)),
        }
    }
}

/// The latest time once a record of this time has come as well.
pub(crate) fn later(latest: Option<i64>, time: Option<i64>) -> i64 {
    latest.unwrap_or(0).max(time.unwrap_or(0).min(LAST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_comes_back_as_it_was_and_offsets_decide_the_order() {
        let at = |offset, latest| Point { offset, latest };
        let all = [at(0, None), at(9, Some(1_700_000_000_000)), at(10, None), at(11, Some(0)), at(100, Some(LAST))];
        let positions = all.map(Point::position);
        assert!(positions.is_sorted());
        let partition = Partition("p".to_owned());
        for (point, position) in all.into_iter().zip(&positions) {
            assert_eq!(Point::of(&partition, position).expect("a point"), point);
        }
        assert_eq!(positions[2], Position::from_count(10), "as it was before there was a time");
        assert!(positions[4] < carried());
        assert_eq!(Known::of(&partition, Some(&carried())).expect("known"), Known::Carried);
        for wrong in ["", "x", "1@", "1@x", "1@2@3"] {
            assert!(Point::of(&partition, &Position(wrong.to_owned())).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_latest_time_never_goes_back() {
        assert_eq!(later(None, None), 0);
        assert_eq!(later(Some(5), Some(3)), 5);
        assert_eq!(later(Some(5), Some(i64::MAX)), LAST);
    }
}
