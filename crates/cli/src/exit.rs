//! Exit codes.

use longshore_core::error::{Error, Kind};

/// Done.
pub const DONE: u8 = 0;
/// A bug.
pub const BUG: u8 = 1;
/// A command line that cannot be understood.
pub const USAGE: u8 = 2;
/// A pipeline file or a setting that cannot be used.
pub const CONFIG: u8 = 3;
/// The source could not be read.
pub const SOURCE: u8 = 4;
/// The destination could not be written or read, or `check` found that it could not be.
pub const DESTINATION: u8 = 5;
/// Done, with dead letters beyond the allowed number, or nothing but dead letters; or stopped because of them.
pub const DEAD_LETTERS: u8 = 6;
/// The store, a lease, or a mismatch that needs `longshore repair`.
pub const STORE: u8 = 7;
/// Stopped by SIGINT (Ctrl-C), gracefully or at once.
pub const INTERRUPTED: u8 = 130;
/// Stopped by SIGTERM or by `longshore runs cancel`.
pub const TERMINATED: u8 = 143;

/// Every code and what it says, for the reference pages.
pub const ALL: &[(u8, &str)] = &[
    (DONE, "done"),
    (BUG, "a bug; please report it"),
    (USAGE, "the command line cannot be understood"),
    (CONFIG, "a pipeline file or a setting cannot be used"),
    (SOURCE, "the source could not be read"),
    (DESTINATION, "the destination could not be written or read; or `check` found that it could not be"),
    (DEAD_LETTERS, "more dead letters than `--max-dead-letters` allows, or records were read and none of them landed"),
    (STORE, "the store or its lease; or store and destination disagree and `longshore repair` is needed"),
    (INTERRUPTED, "stopped by SIGINT (Ctrl-C)"),
    (TERMINATED, "stopped by SIGTERM or `longshore runs cancel`"),
];

/// The exit code of an error.
pub fn of(error: &Error) -> u8 {
    // It is found while reading the source, but it is about the number of dead letters.
    if error.code() == "too_many_dead_letters" {
        return DEAD_LETTERS;
    }
    match error.kind() {
        Kind::Bug => BUG,
        Kind::Usage => USAGE,
        Kind::Config => CONFIG,
        Kind::Source => SOURCE,
        Kind::Destination => DESTINATION,
        Kind::Store => STORE,
        Kind::Interrupted => crate::interrupt::exit_code(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_because_of_dead_letters_ends_as_they_do() {
        let code = longshore_engine::CODES.iter().find(|code| code.name == "too_many_dead_letters").expect("declared");
        assert_eq!(of(&Error::new(Kind::Source, *code, "too many")), DEAD_LETTERS);
        assert_eq!(of(&Error::new(Kind::Source, longshore_core::error::code::CONFIG, "another")), SOURCE);
    }
}
