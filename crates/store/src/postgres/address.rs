//! Where a store is: a URL, whose password is never shown.

use std::str::FromStr;

use longshore_core::Result;
use longshore_core::error::{Error, Kind, Retry, code};
use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;

/// A store's place on a server.
#[derive(Debug)]
pub(super) struct Address {
    pub(super) options: PgConnectOptions,
    pub(super) schema: String,
    /// What people are shown.
    pub(super) place: String,
}

/// Where tables are unless the URL says otherwise.
const SCHEMA: &str = "longshore";

/// What a URL may say behind its question mark. What is not known would be a setting that does nothing.
const PARAMETERS: &[&str] = &[
    "schema",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "host",
    "hostaddr",
    "port",
    "user",
    "password",
    "dbname",
    "application_name",
    "options",
];

impl Address {
    /// Reads `postgres://USER:PASSWORD@HOST:PORT/DATABASE?PARAMETER=VALUE&...`; what it lacks comes from `PGHOST`, `PGUSER`,
    /// `PGPASSWORD`, `~/.pgpass` and so on, as with other clients.
    pub(super) fn parse(url: &str) -> Result<Self> {
        let refused = |why: String| Error::new(Kind::Usage, code::USAGE, why).with_retry(Retry::AfterFix).hint(SHAPE);
        if !is_url(url) {
            return Err(refused("the store's address is no URL of PostgreSQL".to_owned()));
        }
        let (mut kept, query) = url.split_once('?').map_or((url.to_owned(), ""), |(base, query)| (base.to_owned(), query));
        let mut schema = SCHEMA.to_owned();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let plain = name.split_once('[').map_or(name, |(plain, _)| plain);
            if !PARAMETERS.contains(&plain) {
                return Err(refused(format!("the store's URL has a parameter {name}, which is not known"))
                    .hint(format!("known are {}", PARAMETERS.join(", "))));
            }
            if name == "schema" {
                schema = value.to_owned();
            } else {
                kept.push(if kept.contains('?') { '&' } else { '?' });
                kept.push_str(pair);
            }
        }
        if !is_name(&schema) {
            return Err(refused("the schema in the store's URL has a name that is not plain".to_owned())
                .hint("use at most 63 lower-case letters, digits and underscores, not a digit first"));
        }
        let options = PgConnectOptions::from_str(&kept)
            .map_err(|error| refused("the store's URL cannot be read".to_owned()).caused_by(error))?;
        let options = match options.get_application_name() {
            Some(_) => options,
            None => options.application_name("longshore"),
        };
        // A pooler between us and the server refuses what it does not know, and we have no use for it.
        let options = options.extra_float_digits(None).disable_statement_logging();
        Ok(Self { place: place(&options, &schema), options, schema })
    }
}

/// Whether this names a store on a server, rather than a folder.
pub(super) fn is_url(text: &str) -> bool {
    ["postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme))
}

const SHAPE: &str = "it looks like postgres://USER@HOST:5432/DATABASE?sslmode=verify-full; the password is best kept out of it, \
    in PGPASSWORD or ~/.pgpass; a character that means something in a URL is written as its percent code";

/// It stands between quotes in statements.
fn is_name(name: &str) -> bool {
    let first = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    first && name.len() <= 63 && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

fn place(options: &PgConnectOptions, schema: &str) -> String {
    let host = match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => options.get_host().to_owned(),
    };
    // Without a name the server takes the user's.
    let database = options.get_database().unwrap_or(options.get_username());
    format!("postgres://{}@{host}:{}/{database} (schema {schema})", options.get_username(), options.get_port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_is_taken_out_of_the_url_and_the_rest_is_left() {
        let address = Address::parse("postgres://me@db:5433/books?sslmode=require&schema=s_1&host=other").expect("read");
        assert_eq!(address.schema, "s_1");
        assert_eq!(address.place, "postgres://me@other:5433/books (schema s_1)");
        assert!(matches!(address.options.get_ssl_mode(), sqlx::postgres::PgSslMode::Require));
        assert_eq!(Address::parse("postgresql://me@db/books").expect("read").schema, "longshore");
    }

    #[test]
    fn a_password_is_not_shown() {
        let secret = "s3cr3t";
        let shown = |address: &Address| address.place.clone();
        let both = [format!("postgres://me:{secret}@db/books"), format!("postgres://me@db/books?password={secret}")];
        for url in &both {
            assert!(!shown(&Address::parse(url).expect("read")).contains(secret));
        }
        for url in [
            format!("postgres://me:{secret}@db:no/books"),
            format!("postgres://me:{secret}@db/books?sslmode=no"),
            format!("postgres://me:{secret}@db/books?schema=No"),
            format!("postgres://me@db/books?pasword={secret}"),
            format!("me:{secret}@db/books"),
        ] {
            let error = Address::parse(&url).expect_err("refused");
            assert_eq!((error.code(), error.retry()), ("usage", Retry::AfterFix));
            assert!(!format!("{error:?}{error}{:?}", error.hint_text()).contains(secret), "{error:?}");
        }
    }

    #[test]
    fn a_schema_has_a_plain_name() {
        for bad in ["", "1a", "A", "a-b", "a\"b", "a b", "ä", &"a".repeat(64)] {
            assert!(!is_name(bad), "{bad}");
        }
        assert!(is_name("_a1") && is_name(&"a".repeat(63)));
    }
}
