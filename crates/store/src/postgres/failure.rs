//! What errors of a server mean, and whether asking again may help.

use longshore_core::error::{Error, Kind, Retry, code};

use crate::rows::Failure;

/// What a failure of `doing` means to people.
pub(super) fn error(place: &str, doing: &str, failure: Failure) -> Error {
    let unavailable = |why: &str| Error::new(Kind::Store, code::STORE_UNAVAILABLE, format!("{doing} the store {place} {why}"));
    let error = match failure {
        Failure::Refused(error) => return error,
        Failure::Damaged(error) => return unavailable("found a row that is damaged").hint(DAMAGED).caused_by(error),
        Failure::Sql(error) => error,
    };
    let meaning = match &error {
        sqlx::Error::Database(database) => of_state(database.code().as_deref().unwrap_or_default()),
        sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => UNTRUSTED,
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) => LOST,
        sqlx::Error::Tls(_) | sqlx::Error::Configuration(_) => UNTRUSTED,
        sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } => {
            Meaning { why: "found a row that is damaged", hint: DAMAGED, ..OTHER }
        }
        _ => OTHER,
    };
    unavailable(meaning.why).with_retry(meaning.retry).hint(meaning.hint).caused_by(error)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Meaning {
    why: &'static str,
    retry: Retry,
    hint: &'static str,
}

const LOST: Meaning = Meaning {
    why: "lost its server, or does not reach it",
    retry: Retry::Backoff,
    hint: "it is tried again; see whether the server runs and can be reached from here",
};

const UNTRUSTED: Meaning = Meaning {
    why: "found no connection that both sides trust",
    retry: Retry::AfterFix,
    hint: "see `sslmode` and `sslrootcert` in the store's URL",
};

const OTHER: Meaning =
    Meaning { why: "failed", retry: Retry::Never, hint: "the server's own words are above; its log may say more" };

const DAMAGED: &str = "put back a backup of the schema; then `longshore repair` compares a store with its tables";

/// By the first letters of an SQLSTATE: https://www.postgresql.org/docs/current/errcodes-appendix.html
fn of_state(state: &str) -> Meaning {
    let again = |why, hint| Meaning { why, retry: Retry::Backoff, hint };
    let fix = |why, hint| Meaning { why, retry: Retry::AfterFix, hint };
    match state {
        "57014" => again("took longer than its server allows", "raise `statement_timeout` of the store's user"),
        "40001" | "40P01" => again("met others who write", "it is tried again"),
        "55P03" => again(
            "waited too long for another process",
            "it is tried again; a process that hangs loses its locks after 30 seconds",
        ),
        // A server that recovers says the latter of a transaction that is to write from its beginning.
        "25006" | "0A000" => again("met a server that only reads", "give the address of the primary in the store's URL"),
        "53100" => {
            fix("failed, since the server's disk is full", "make room on the server's disk, then run again: nothing is lost")
        }
        "53300" => again("found no free connection", "raise `max_connections` of the server, or put a pooler in front of it"),
        "3D000" => fix("failed, since there is no such database", "create the database, or name another in the store's URL"),
        "42501" => fix("failed, since its user may not do that", "the user must own the schema, or be allowed to create it"),
        "3F000" | "42P01" | "42703" => fix(
            "does not find its tables as they were",
            "the user must own the schema; if tables were changed, put back a backup of it",
        ),
        _ => match state.get(..2).unwrap_or_default() {
            // A server that ends, starts, or ended this session.
            "57" | "08" => LOST,
            "25" => again("was too slow for its server", "it is tried again"),
            "53" | "58" => again("failed, since the server lacks something", "it is tried again; the server's log may say more"),
            "28" => {
                fix("was refused by its server", "see user and password: PGPASSWORD, ~/.pgpass, and the server's pg_hba.conf")
            }
            "XX" => Meaning { why: "failed, since the server's data may be damaged", hint: DAMAGED, ..OTHER },
            _ => OTHER,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_tried_again_and_what_a_person_must_mend_is_not() {
        for state in
            ["40001", "40P01", "55P03", "57P01", "57P02", "57P03", "57014", "08006", "53300", "25P03", "25006", "0A000", "58030"]
        {
            assert_eq!(of_state(state).retry, Retry::Backoff, "{state}");
        }
        for state in ["28P01", "28000", "3D000", "42501", "53100", "42P01"] {
            assert_eq!(of_state(state).retry, Retry::AfterFix, "{state}");
        }
        for state in ["23505", "XX001", "22021", ""] {
            assert_eq!(of_state(state).retry, Retry::Never, "{state}");
        }
        let gone = || Failure::Sql(sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into()));
        let error = error("postgres://me@db/books", "journalling into", gone());
        assert_eq!((error.code(), error.retry()), ("store_unavailable", Retry::Backoff));
    }
}
