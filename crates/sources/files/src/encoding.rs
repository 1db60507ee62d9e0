//! Other encodings than UTF-8: by byte order mark, or as an XML document declares.

use std::io::{self, Read};
use std::path::Path;

use encoding_rs::{Decoder, DecoderResult, Encoding, UTF_8, UTF_16BE, UTF_16LE};
use longshore_core::error::{Error, Kind, Place, Result};

use crate::cut::Input;
use crate::error::ENCODING_UNKNOWN;
use crate::input::unwrap;

/// How far an XML declaration is looked for.
const DECLARATION: usize = 1024;

/// The content in UTF-8, without byte order mark. Bytes that are not text in the declared encoding become the byte 0xFF, which UTF-8
/// never has: their record is then turned away, and no character is made up. Errors: `encoding_unknown`.
pub fn to_utf8(mut content: Input, path: &Path) -> Result<Input> {
    let mut head = Vec::with_capacity(DECLARATION);
    content.by_ref().take(DECLARATION as u64).read_to_end(&mut head).map_err(|e| unwrap(e, path))?;
    let (encoding, mark) = match head.as_slice() {
        [0xEF, 0xBB, 0xBF, ..] => (UTF_8, 3),
        [0xFF, 0xFE, ..] => (UTF_16LE, 2),
        [0xFE, 0xFF, ..] => (UTF_16BE, 2),
        [b'<', 0, b'?', 0, ..] => (UTF_16LE, 0),
        [0, b'<', 0, b'?', ..] => (UTF_16BE, 0),
        _ => (declared(&head, path)?, 0),
    };
    let rest = io::Cursor::new(head.split_off(mark)).chain(content);
    if encoding == UTF_8 {
        return Ok(Box::new(rest));
    }
    Ok(Box::new(Transcoded {
        inner: rest,
        decoder: encoding.new_decoder_without_bom_handling(),
        raw: vec![0; 64 << 10],
        begin: 0,
        end: 0,
        last: false,
        done: false,
        text: vec![0; 128 << 10],
        taken: 0,
        written: 0,
    }))
}

/// The encoding that an XML declaration names, UTF-8 without one.
fn declared(head: &[u8], path: &Path) -> Result<&'static Encoding> {
    let Some(label) = declared_label(head) else { return Ok(UTF_8) };
    // A document whose declaration can be read as ASCII is not in UTF-16, whatever it says; ASCII is a part of UTF-8.
    let lower = label.to_ascii_lowercase();
    if ["us-ascii", "ascii", "utf-16", "utf-16le", "utf-16be", "ucs-2"].contains(&lower.as_str()) {
        return Ok(UTF_8);
    }
    Encoding::for_label_no_replacement(label.as_bytes()).ok_or_else(|| {
        let label: String = label.chars().take(40).collect();
        Error::new(Kind::Source, ENCODING_UNKNOWN, format!("the encoding {label} is not known")).at(Place {
            file: path.display().to_string(),
            line: Some(1),
            column: None,
        })
    })
}

fn declared_label(head: &[u8]) -> Option<&str> {
    let rest = head.strip_prefix(b"<?xml")?;
    let end = memchr::memmem::find(rest, b"?>")?;
    let declaration = std::str::from_utf8(&rest[..end]).ok()?;
    let (_, behind) = declaration.split_once("encoding")?;
    let value = behind.trim_start().strip_prefix('=')?.trim_start();
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    value[1..].split(quote).next().map(str::trim)
}

struct Transcoded<R> {
    inner: R,
    decoder: Decoder,
    raw: Vec<u8>,
    begin: usize,
    end: usize,
    last: bool,
    done: bool,
    /// Decoded and not yet taken. The decoder writes whole characters only, so it cannot write into any buffer.
    text: Vec<u8>,
    taken: usize,
    written: usize,
}

impl<R: Read> Transcoded<R> {
    fn fill(&mut self) -> io::Result<()> {
        (self.taken, self.written) = (0, 0);
        while !self.done && self.written == 0 {
            if self.begin == self.end && !self.last {
                self.begin = 0;
                self.end = self.inner.read(&mut self.raw)?;
                self.last = self.end == 0;
            }
            let room = self.text.len() - 1;
            let source = &self.raw[self.begin..self.end];
            let (result, read, written) =
                self.decoder.decode_to_utf8_without_replacement(source, &mut self.text[..room], self.last);
            self.begin += read;
            self.written = written;
            match result {
                DecoderResult::InputEmpty => self.done = self.last,
                DecoderResult::OutputFull => {}
                DecoderResult::Malformed(..) => {
                    self.text[written] = 0xFF;
                    self.written += 1;
                }
            }
        }
        Ok(())
    }
}

impl<R: Read> Read for Transcoded<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.written {
            self.fill()?;
        }
        let n = out.len().min(self.written - self.taken);
        out[..n].copy_from_slice(&self.text[self.taken..self.taken + n]);
        self.taken += n;
        Ok(n)
    }
}
