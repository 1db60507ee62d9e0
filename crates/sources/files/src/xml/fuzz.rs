//! What must hold for any bytes: no panic, and the same records however the input comes in pieces.

use std::io::{Cursor, Read};

use longshore_core::error::Result;

use super::cut::{Clashes, XmlFormat, XmlPath};
use super::structure::{Known, Rigour, Structure, look};
use crate::cut::{Format, Limits, empty_records};
use crate::tape::{Tape, Token};

/// Reads any bytes as XML, whole and in pieces of one byte, and panics if the two differ; or if a document that is not well formed
/// passes for one.
pub fn fuzz_xml(data: &[u8]) {
    let whole = read(Box::new(Cursor::new(data.to_vec())), data, 1 << 20);
    for chunk in [1, 64] {
        let pieces = read(Box::new(Dribble(Cursor::new(data.to_vec()))), data, chunk);
        assert_eq!(whole, pieces, "the same bytes in chunks of {chunk}");
    }
    let strict = look(Box::new(Cursor::new(data.to_vec())), "f", Known::Earlier(&[]), Rigour::Strict, |_| Ok(()));
    match (strict, whole) {
        (Ok(strict), Ok(outline)) => assert_eq!(strict, outline.structure),
        (Ok(_), Err(error)) => panic!("a well-formed document is refused: {error}"),
        (Err(error), Ok(outline)) => assert!(outline.rejects > 0, "nothing says that {error}"),
        (Err(_), Err(_)) => {}
    }
}

/// Everything that a document yields.
#[derive(Debug, PartialEq)]
struct Found {
    structure: Structure,
    records: Vec<String>,
    rejects: usize,
}

fn read(input: Box<dyn Read + Send>, data: &[u8], chunk: usize) -> Result<Found, String> {
    let structure = look(input, "f", Known::Earlier(&[]), Rigour::Outline, |_| Ok(())).map_err(|error| error.to_string())?;
    let paths: Vec<_> = structure.records.iter().enumerate().map(|(table, r)| XmlPath { path: r.path.clone(), table }).collect();
    let format = XmlFormat::new("f", paths.len(), paths, structure.entities.clone(), &Clashes::new());
    let limits = Limits { chunk, max_record: 1 << 20, spill: std::env::temp_dir(), keep_payloads: false };
    let mut cutter = format.cutter(Box::new(Cursor::new(data.to_vec())), &limits);
    let mut found = Vec::new();
    let mut rejects = 0;
    while let Some(chunk) = cutter.next().map_err(|error| error.to_string())? {
        let mut records = empty_records(&format);
        format.parse(&chunk, &mut records).map_err(|error| error.to_string())?;
        for (table, records) in records.iter().enumerate() {
            for row in &records.rows {
                let value = json(&records.tape, row.token);
                found.push((row.index, format!("{table} {}:{} {} {value}", row.line, row.column, row.len)));
            }
            rejects += records.rejects.len();
            for reject in &records.rejects {
                found.push((reject.index, format!("{table} {} {} {}", reject.place, reject.code, reject.reason)));
            }
        }
    }
    found.sort();
    Ok(Found { structure, records: found.into_iter().map(|(_, text)| text).collect(), rejects })
}

/// A value of a tape as JSON, for comparing. Texts are strings, whatever their content.
pub fn json(tape: &Tape, index: u32) -> serde_json::Value {
    match tape.token(index) {
        Token::Null => serde_json::Value::Null,
        Token::Bool(value) => value.into(),
        Token::Number(span) | Token::String(span) | Token::Text(span) | Token::Key(span) => tape.text(span).into(),
        Token::Typed(..) | Token::Bytes(_) => unreachable!("XML has nothing but text"),
        Token::Array { .. } => tape.elements(index).map(|i| json(tape, i)).collect(),
        Token::Object { .. } => {
            serde_json::Value::Object(tape.members(index).map(|(key, i)| (key.to_owned(), json(tape, i))).collect())
        }
    }
}

/// Gives one byte at a time.
struct Dribble(Cursor<Vec<u8>>);

impl Read for Dribble {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let one = buffer.len().min(1);
        self.0.read(&mut buffer[..one])
    }
}
