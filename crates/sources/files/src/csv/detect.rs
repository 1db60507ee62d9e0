//! The dialect, from the beginning of a file.

use std::collections::HashSet;
use std::sync::Arc;

use longshore_core::error::{Error, Kind, Place, Result, code};

use super::record::Outcome;
use super::{CsvFormat, Dialect};
use crate::config::{CsvConfig, CsvHeader};
use crate::cut::Limits;
use crate::error::FILE_UNREADABLE;
use crate::values::{self, kind};

/// In the order in which one wins over another that fits as well.
const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];

/// The records at the beginning, as far as they are whole.
type Rows = Vec<Vec<Option<String>>>;

pub fn detect(file: Arc<str>, head: &[u8], whole: bool, config: &CsvConfig) -> Result<CsvFormat> {
    let whole = whole && head.len() <= Limits::CHUNK;
    let head = &head[..head.len().min(Limits::CHUNK)];
    let head = head.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(head);
    let quote = match config.quote.as_deref() {
        None => Some(b'"'),
        Some("none" | "") => None,
        Some(text) => Some(single("quote", text)?),
    };
    let terminator = if memchr::memchr(b'\n', head).is_none() && memchr::memchr(b'\r', head).is_some() { b'\r' } else { b'\n' };
    let dialect = |delimiter| Dialect { delimiter, quote, terminator };
    let dialect = dialect(match config.delimiter.as_deref() {
        Some(text) => delimiter(text)?,
        None => best_delimiter(|delimiter| widths(dialect(delimiter), head, whole)),
    });
    let rows = read(dialect, head, whole);
    if dialect.quote == Some(dialect.delimiter) || matches!(dialect.delimiter, b'\n' | b'\r') {
        return Err(Error::new(Kind::Config, code::CONFIG, "the CSV delimiter is also the quote or the line end"));
    }
    let null = config.null.clone().filter(|null| !null.is_empty());
    let header = match config.header {
        CsvHeader::Yes => true,
        CsvHeader::No => false,
        CsvHeader::Auto => rows.split_first().is_some_and(|(first, rest)| is_header(first, rest, null.as_deref())),
    };
    let names = if header { header_names(dialect, head, whole, &file)? } else { numbered(&rows) };
    let note = format!("delimiter {}, header {}", shown(dialect.delimiter), if header { "yes" } else { "no" });
    Ok(CsvFormat { file, dialect, header, names: names.into(), null, jagged: config.jagged, note })
}

fn single(what: &str, text: &str) -> Result<u8> {
    match text.as_bytes() {
        [byte] if byte.is_ascii() && !matches!(byte, b'\n' | b'\r') => Ok(*byte),
        _ => Err(Error::new(Kind::Config, code::CONFIG, format!("the CSV {what} is not a single ASCII character"))
            .hint(format!("for example --csv-{what} ';', or `tab`"))),
    }
}

fn delimiter(text: &str) -> Result<u8> {
    match text {
        "tab" | "\\t" => Ok(b'\t'),
        _ => single("delimiter", text),
    }
}

fn shown(delimiter: u8) -> String {
    if delimiter == b'\t' { "tab".to_owned() } else { format!("'{}'", char::from(delimiter)) }
}

/// Whole records; values are `None` where they are unquoted and empty. Bad ones are left out.
fn read(dialect: Dialect, head: &[u8], whole: bool) -> Rows {
    let mut rows = Rows::new();
    let mut start = 0;
    while start < head.len() {
        let mut values = Vec::new();
        let outcome = dialect.record(head, start, whole, |value| {
            let text = || String::from_utf8_lossy(&head[value.start..value.end]).into_owned();
            values.push((value.quoted || value.end > value.start).then(text));
        });
        start = match outcome {
            Outcome::Record { end, next } => {
                if end > start {
                    rows.push(values);
                }
                next
            }
            Outcome::Unclosed { next, .. } | Outcome::Misplaced { next, .. } => next,
            Outcome::Open => break,
        };
    }
    rows
}

/// The number of values of each whole record.
fn widths(dialect: Dialect, head: &[u8], whole: bool) -> Vec<usize> {
    let mut widths = Vec::new();
    let mut start = 0;
    while start < head.len() {
        let mut width = 0;
        start = match dialect.record(head, start, whole, |_| width += 1) {
            Outcome::Record { end, next } => {
                if end > start {
                    widths.push(width);
                }
                next
            }
            Outcome::Unclosed { next, .. } | Outcome::Misplaced { next, .. } => next,
            Outcome::Open => break,
        };
    }
    widths
}

/// The number of values that most rows have, and how many have it.
fn usual(widths: impl Iterator<Item = usize>) -> (usize, usize) {
    let mut counts = std::collections::BTreeMap::new();
    for width in widths {
        *counts.entry(width).or_insert(0usize) += 1;
    }
    counts.into_iter().max_by_key(|&(width, count)| (count, width)).unwrap_or((0, 0))
}

/// The delimiter that cuts the largest share of rows into the same number of values, more than one; among equals, into the most
/// values. If none does, each line is one value.
fn best_delimiter(widths: impl Fn(u8) -> Vec<usize>) -> u8 {
    let mut best = (0, 1, DELIMITERS[0]);
    for delimiter in DELIMITERS {
        let widths = widths(delimiter);
        let (width, count) = usual(widths.iter().copied());
        // In thousandths: a few odd rows among many do not decide.
        let share = (count * 1000).checked_div(widths.len()).unwrap_or(0);
        if width > 1 && (share, width) > (best.0, best.1) {
            best = (share, width, delimiter);
        }
    }
    best.2
}

/// All text, all different, and unlike the rows below it in at least one column, or above none.
fn is_header(first: &[Option<String>], rest: &[Vec<Option<String>>], null: Option<&str>) -> bool {
    let mut seen = HashSet::new();
    let named = first
        .iter()
        .all(|value| value.as_ref().is_some_and(|text| values::classify(text) == kind::STRING && seen.insert(text.as_str())));
    if !named {
        return false;
    }
    if rest.is_empty() {
        return true;
    }
    (0..first.len()).any(|column| {
        let values = || rest.iter().filter_map(|row| row.get(column)?.as_deref()).filter(|text| Some(*text) != null);
        let mut any = false;
        values().all(|text| {
            any = true;
            !matches!(values::classify(text), kind::STRING | kind::EMPTY)
        }) && any
    })
}

/// The header's names: one that is empty is `cN`, one that is there twice gets a number.
fn header_names(dialect: Dialect, head: &[u8], whole: bool, file: &str) -> Result<Vec<String>> {
    let mut start = 0;
    loop {
        let mut names: Vec<String> = Vec::new();
        let quote = dialect.quote.map(char::from).unwrap_or_default();
        let outcome = dialect.record(head, start, whole || head.len() < Limits::CHUNK, |value| {
            let text = String::from_utf8_lossy(&head[value.start..value.end]).into_owned();
            names.push(if value.doubled { text.replace(&format!("{quote}{quote}"), &quote.to_string()) } else { text });
        });
        match outcome {
            Outcome::Record { end, next } if end == start && next < head.len() => start = next,
            Outcome::Record { end, .. } if end == start => return Ok(Vec::new()),
            Outcome::Record { .. } => return Ok(all_different(names)),
            _ => {
                let place = Place { file: file.to_owned(), line: Some(1), column: Some(1) };
                return Err(Error::new(Kind::Source, FILE_UNREADABLE, "the header of the CSV file is not a row").at(place));
            }
        }
        if start >= head.len() {
            return Ok(Vec::new());
        }
    }
}

fn all_different(names: Vec<String>) -> Vec<String> {
    let mut taken: HashSet<String> = names.iter().cloned().collect();
    let mut used = HashSet::new();
    let mut out = Vec::with_capacity(names.len());
    for (i, name) in names.into_iter().enumerate() {
        let name = if name.is_empty() { format!("c{}", i + 1) } else { name };
        if used.insert(name.clone()) {
            out.push(name);
            continue;
        }
        let free = (2u64..).map(|n| format!("{name}_{n}")).find(|free| !taken.contains(free) && !used.contains(free));
        let free = free.expect("there are more numbers than names");
        taken.insert(free.clone());
        used.insert(free.clone());
        out.push(free);
    }
    out
}

/// `c1`, `c2` ... as many as most rows have values.
fn numbered(rows: &Rows) -> Vec<String> {
    (1..=usual(rows.iter().map(Vec::len)).0).map(|i| format!("c{i}")).collect()
}
