//! What `start` means for one partition.

use longshore_core::error::{Error, Kind, Retry};

use crate::config::{Isolation, Start};
use crate::slots::Name;
use crate::survey::Survey;

/// Where a partition is to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begin {
    Earliest,
    Latest,
    /// At the offset that the survey found for the time.
    Time,
    Offset(i64),
}

impl Begin {
    /// What `start` says of this partition.
    pub(crate) fn of(start: &Start, name: &Name) -> Self {
        match start {
            Start::Earliest => Begin::Earliest,
            Start::Latest => Begin::Latest,
            Start::Time(_) => Begin::Time,
            Start::Offsets(offsets) => {
                let own = offsets.get(&name.to_string()).or_else(|| offsets.get(&name.number.to_string()));
                own.map_or(Begin::Earliest, |&offset| Begin::Offset(offset))
            }
        }
    }
}

/// The first offset to read, and whether it was chosen, so that the journal has to know it at once. The error is an offset that is not there
/// yet.
pub(crate) fn begin(begin: Begin, survey: &Survey) -> Result<(i64, bool), i64> {
    match begin {
        Begin::Earliest => Ok((survey.low, false)),
        Begin::Latest => Ok((survey.high, true)),
        // No record of that time or later: whatever comes next is one.
        Begin::Time => Ok((survey.timed.unwrap_or(survey.high), true)),
        Begin::Offset(offset) if offset > survey.high => Err(offset),
        Begin::Offset(offset) => Ok((offset.max(survey.low), true)),
    }
}

/// The error for a start that is not there yet.
pub(crate) fn beyond(name: &Name, offset: i64, survey: &Survey, isolation: Isolation) -> Error {
    let open = match isolation {
        Isolation::ReadCommitted => " (records of open transactions apart)",
        Isolation::ReadUncommitted => "",
    };
    Error::new(
        Kind::Source,
        crate::error::KAFKA_START_BEYOND_END,
        format!("{name} cannot begin at offset {offset}: it ends at {}{open}", survey.high),
    )
    .with_retry(Retry::AfterFix)
    .hint("correct `start.offsets`, or begin at `latest`")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SURVEY: Survey = Survey { low: 10, high: 100, timed: Some(40) };

    #[test]
    fn a_start_is_an_offset_and_everything_but_the_earliest_is_a_choice() {
        for (begins, offset, chosen) in [
            (Begin::Earliest, 10, false),
            (Begin::Latest, 100, true),
            (Begin::Time, 40, true),
            (Begin::Offset(50), 50, true),
            (Begin::Offset(100), 100, true),
            (Begin::Offset(3), 10, true),
        ] {
            assert_eq!(begin(begins, &SURVEY), Ok((offset, chosen)), "{begins:?}");
        }
        assert_eq!(begin(Begin::Offset(101), &SURVEY), Err(101));
        assert_eq!(begin(Begin::Time, &Survey { timed: None, ..SURVEY }), Ok((100, true)));
    }

    #[test]
    fn offsets_are_by_partition_and_those_of_one_topic_win() {
        let start = Start::Offsets([("0".to_owned(), 1), ("orders/0".to_owned(), 2)].into());
        let of = |topic: &str, number| Begin::of(&start, &Name { topic: topic.into(), number });
        assert_eq!(of("orders", 0), Begin::Offset(2));
        assert_eq!(of("other", 0), Begin::Offset(1));
        assert_eq!(of("orders", 1), Begin::Earliest);
    }
}
