//! One record to tokens.
//!
//! Attributes and children are members of an object; children of one name become one array at the place of the first; an
//! element that has neither is its text. Text is kept exactly, but for line ends, which XML makes line feeds; blank text
//! beside attributes or children is formatting.

use std::collections::BTreeSet;

use memchr::{memchr, memchr2, memchr3, memmem};

use super::entities::{Entities, split_reference};
use super::markup::{is_blank, is_instruction, is_name, name_end, shown};
use super::names::{Id, Names, RECORD, TEXT};
use super::words::{find_tag, first_dark, same};
use crate::error::{XML_ENTITY_UNKNOWN, XML_RECORD_INVALID, XML_TOO_DEEP};
use crate::tape::{Tape, Token};

/// The deepest nesting within a record. A table has at most 15 levels; what is deeper becomes JSON, up to here.
pub const MAX_DEPTH: usize = 100;

/// Why a record cannot be parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// Offset of the first byte that does not belong there, within the record.
    pub at: usize,
    /// The reason code.
    pub code: &'static str,
    /// Why, in words.
    pub reason: String,
}

/// An open element.
struct Frame {
    name: Id,
    /// Different for each element.
    number: u64,
    /// Its name as written, in the record.
    raw: (usize, usize),
    /// Its `Object` token, once it has members.
    object: Option<u32>,
    /// Where its members and its text begin.
    members: usize,
    text: usize,
    /// Some member came twice.
    repeats: bool,
    attributes: bool,
    /// Its text counts even if it is blank.
    significant: bool,
    nil: bool,
}

/// Parses the records of one table onto one tape.
pub struct Parser<'e> {
    entities: &'e Entities,
    names: Names,
    frames: Vec<Frame>,
    /// The members of the open elements: name and `Key` token.
    members: Vec<(Id, u32)>,
    /// The texts of the open elements, one behind the other.
    text: String,
    elements: u64,
    left: usize,
    /// Whether the record has neither references nor carriage returns: its texts are copied as they are.
    plain: bool,
    moved: Vec<Token>,
    order: Vec<(u32, u32, u32)>,
}

impl<'e> Parser<'e> {
    /// A parser for records of one table. `clashes` are the paths of attributes that share their name with an element.
    pub fn new(entities: &'e Entities, clashes: &BTreeSet<String>) -> Self {
        Self {
            entities,
            names: Names::new(clashes),
            frames: Vec::new(),
            members: Vec::new(),
            text: String::new(),
            elements: 0,
            left: 0,
            plain: false,
            moved: Vec::new(),
            order: Vec::new(),
        }
    }

    /// Parses one element, from its `<` to behind its last `>`, onto the tape; returns the index of its object. If it is
    /// wrong, the tape is as before. All records of one parser go to one tape.
    pub fn record(&mut self, record: &str, tape: &mut Tape) -> Result<u32, Wrong> {
        let mark = tape.mark();
        let index = tape.len();
        self.plain = memchr2(b'&', b'\r', record.as_bytes()).is_none();
        self.left = Entities::allowance(record.len());
        let result = self.elements_of(record, tape);
        if let Err(wrong) = result {
            tape.truncate(mark);
            self.names.forget_spans();
            self.frames.clear();
            self.members.clear();
            self.text.clear();
            return Err(wrong);
        }
        Ok(index)
    }

    /// The paths of the attributes that were found to share their name with an element.
    pub fn found_clashes(&self) -> impl Iterator<Item = String> + '_ {
        self.names.found_clashes()
    }

    fn elements_of(&mut self, record: &str, tape: &mut Tape) -> Result<(), Wrong> {
        let bytes = record.as_bytes();
        let mut at = self.begin(record, 0, tape)?;
        while !self.frames.is_empty() {
            let Some(open) = find_tag(bytes, at) else {
                return Err(wrong(bytes.len(), "the record ends inside an element"));
            };
            if open > at {
                self.append_text(&record[at..open], at)?;
            }
            at = match bytes.get(open + 1) {
                Some(b'/') => self.end(record, open, tape)?,
                Some(b'!') => self.section(record, open)?,
                Some(b'?') => behind(record, open + 2, "?>")?,
                _ => self.begin(record, open, tape)?,
            };
        }
        match record[at..].trim_ascii_start().is_empty() {
            true => Ok(()),
            false => Err(wrong(at, "text behind the record")),
        }
    }

    /// A start tag, and the whole element if it holds nothing but text. Returns the offset behind it.
    fn begin(&mut self, record: &str, open: usize, tape: &mut Tape) -> Result<usize, Wrong> {
        let bytes = record.as_bytes();
        let parent = self.frames.last().map(|frame| frame.name);
        let expected = parent.and_then(|parent| self.names.expected(parent, &bytes[open + 1..]));
        let name_end = match expected {
            Some((_, length)) => open + 1 + length,
            None => tag_name_end(bytes, open)?,
        };
        let raw = &record[open + 1..name_end];
        let id = match (expected, parent) {
            (Some((id, _)), _) => id,
            (None, Some(parent)) => self.names.find(parent, false, raw),
            (None, None) => RECORD,
        };
        let id = self.member(false, id, tape);
        let begins_text = bytes.get(name_end) == Some(&b'>');
        if begins_text
            && !self.frames.is_empty()
            && let Some(close) = find_tag(bytes, name_end + 1)
        {
            let behind = close + 2 + raw.len();
            let ends = bytes.get(behind) == Some(&b'>') && bytes[close + 1] == b'/';
            if ends && same(&bytes[close + 2..behind], raw.as_bytes()) {
                self.leaf(&record[name_end + 1..close], name_end + 1, tape)?;
                return Ok(behind + 1);
            }
        }
        if self.frames.len() >= MAX_DEPTH {
            let reason = format!("the record is nested more than {MAX_DEPTH} deep");
            return Err(Wrong { at: open, code: XML_TOO_DEEP.name, reason });
        }
        self.elements += 1;
        self.names.restart(id);
        let object = self.frames.is_empty().then(|| tape.open(Token::Object { end: 0 }));
        self.frames.push(Frame {
            name: id,
            number: self.elements,
            raw: (open + 1, name_end),
            object,
            members: self.members.len(),
            text: self.text.len(),
            repeats: false,
            attributes: false,
            significant: false,
            nil: false,
        });
        if begins_text {
            return Ok(name_end + 1);
        }
        let (behind, empty) = self.attributes(record, name_end, tape)?;
        if empty {
            self.finish(tape);
        }
        Ok(behind)
    }

    /// Notes a member of the open element and writes its key; the record itself is nobody's member.
    fn member(&mut self, attribute: bool, id: Id, tape: &mut Tape) -> Id {
        let Some(frame) = self.frames.last_mut() else { return RECORD };
        let id = self.names.canonical(id);
        if frame.object.is_none() {
            frame.object = Some(tape.open(Token::Object { end: 0 }));
        }
        frame.repeats |= self.names.see(id, frame.number);
        frame.attributes |= attribute;
        let span = self.names.span(id, tape);
        self.members.push((id, tape.len()));
        tape.push(Token::Key(span));
        id
    }

    /// The text of an element that holds nothing else.
    fn leaf(&mut self, text: &str, at: usize, tape: &mut Tape) -> Result<(), Wrong> {
        let span = if self.plain || memchr2(b'&', b'\r', text.as_bytes()).is_none() {
            tape.span(text)
        } else {
            let start = tape.text_mut().len();
            decode(text, at, self.entities, &mut self.left, tape.text_mut())?;
            tape.span_from(start)
        };
        tape.push(Token::Text(span));
        Ok(())
    }

    fn append_text(&mut self, text: &str, at: usize) -> Result<(), Wrong> {
        if self.plain {
            self.text.push_str(text);
            return Ok(());
        }
        decode(text, at, self.entities, &mut self.left, &mut self.text)
    }

    /// The attributes of the open element, from behind its name. Returns the offset behind the tag and whether it is empty.
    fn attributes(&mut self, record: &str, from: usize, tape: &mut Tape) -> Result<(usize, bool), Wrong> {
        let bytes = record.as_bytes();
        let skip_blanks = |at: usize| bytes[at..].iter().position(|&b| !is_blank(b)).map_or(bytes.len(), |i| at + i);
        let mut at = from;
        loop {
            let begin = skip_blanks(at);
            match bytes.get(begin) {
                Some(b'>') => return Ok((begin + 1, false)),
                Some(b'/') if bytes.get(begin + 1) == Some(&b'>') => return Ok((begin + 2, true)),
                _ => {}
            }
            let end = name_end(bytes, begin);
            if begin == at || !is_name(&bytes[begin..end]) {
                return Err(wrong(begin.min(bytes.len()), "no attribute begins here, and the tag is not closed"));
            }
            let equals = skip_blanks(end);
            let open = if bytes.get(equals) == Some(&b'=') { skip_blanks(equals + 1) } else { bytes.len() };
            let Some(quote @ (b'"' | b'\'')) = bytes.get(open) else {
                return Err(wrong(begin, "an attribute without a value in quotes"));
            };
            let Some(length) = memchr(*quote, &bytes[open + 1..]) else {
                return Err(wrong(open, "the value of an attribute has no closing quote"));
            };
            let value = &record[open + 1..open + 1 + length];
            if let Some(i) = memchr(b'<', value.as_bytes()) {
                return Err(wrong(open + 1 + i, "a `<` in the value of an attribute; it is written `&lt;`"));
            }
            self.attribute(&record[begin..end], begin, value, open + 1, tape)?;
            at = open + 1 + length + 1;
        }
    }

    fn attribute(&mut self, raw: &str, at: usize, value: &str, value_at: usize, tape: &mut Tape) -> Result<(), Wrong> {
        let Some(frame) = self.frames.last_mut() else { return Ok(()) };
        if is_instruction(raw.as_bytes()) {
            frame.nil |= raw == "xsi:nil" && matches!(value.trim_ascii(), "true" | "1");
            return Ok(());
        }
        let id = self.names.find(frame.name, true, raw);
        if self.names.see_raw(id, frame.number) {
            return Err(wrong(at, format!("the attribute {} stands twice in one tag", shown(raw.as_bytes()))));
        }
        self.member(true, id, tape);
        let needs_decoding = memchr3(b'\t', b'\n', b'\r', value.as_bytes()).is_some() || memchr(b'&', value.as_bytes()).is_some();
        if !needs_decoding {
            let span = tape.span(value);
            tape.push(Token::Text(span));
            return Ok(());
        }
        let start = tape.text_mut().len();
        // White space becomes a space, but not where a reference stands for it.
        let mut piece_at = value_at;
        for piece in value.replace("\r\n", "\n").split_inclusive(['\t', '\n', '\r']) {
            let text = piece.strip_suffix(['\t', '\n', '\r']);
            decode(text.unwrap_or(piece), piece_at, self.entities, &mut self.left, tape.text_mut())?;
            if text.is_some() {
                tape.text_mut().push(' ');
            }
            piece_at += piece.len();
        }
        let span = tape.span_from(start);
        tape.push(Token::Text(span));
        Ok(())
    }

    /// A comment or CDATA section. Returns the offset behind it.
    fn section(&mut self, record: &str, open: usize) -> Result<usize, Wrong> {
        let rest = &record[open..];
        if rest.starts_with("<!--") {
            return behind(record, open + 4, "-->");
        }
        if !rest.starts_with("<![CDATA[") {
            return Err(wrong(open, "a `<!` that begins no comment and no CDATA section"));
        }
        let after = behind(record, open + 9, "]]>")?;
        let text = &record[open + 9..after - 3];
        if self.plain || memchr(b'\r', text.as_bytes()).is_none() {
            self.text.push_str(text);
        } else {
            push_lines(text, &mut self.text);
        }
        if let Some(frame) = self.frames.last_mut() {
            frame.significant |= !text.is_empty();
        }
        Ok(after)
    }

    fn end(&mut self, record: &str, open: usize, tape: &mut Tape) -> Result<usize, Wrong> {
        let Some(frame) = self.frames.last() else { return Err(wrong(open, "an end tag without its beginning")) };
        let name = &record[frame.raw.0..frame.raw.1];
        let rest = record[open + 2..].strip_prefix(name).map(|rest| rest.trim_ascii_start());
        let Some(rest) = rest.and_then(|rest| rest.strip_prefix('>')) else {
            return Err(wrong(open, format!("</{}> is due here", shown(name.as_bytes()))));
        };
        self.finish(tape);
        Ok(record.len() - rest.len())
    }

    /// Ends the innermost open element: its value becomes complete on the tape.
    fn finish(&mut self, tape: &mut Tape) {
        let Some(mut frame) = self.frames.pop() else { return };
        let has_members = frame.object.is_some();
        let text_counts = {
            let text = &self.text[frame.text..];
            frame.significant || first_dark(text.as_bytes()).is_some()
        };
        if !has_members {
            if frame.nil {
                tape.push(Token::Null);
            } else {
                let span = tape.span(&self.text[frame.text..]);
                tape.push(Token::Text(span));
            }
        } else if text_counts {
            let id = self.names.find(frame.name, false, TEXT);
            frame.repeats |= self.names.see(id, frame.number);
            let key = self.names.span(id, tape);
            self.members.push((id, tape.len()));
            tape.push(Token::Key(key));
            let span = tape.span(&self.text[frame.text..]);
            tape.push(Token::Text(span));
        }
        self.text.truncate(frame.text);
        if let Some(object) = frame.object {
            if frame.attributes {
                self.rename_attributes(&frame, tape);
            }
            if frame.repeats {
                self.group(&frame, object, tape);
            }
            tape.close(object);
        }
        self.members.truncate(frame.members);
    }

    /// An attribute beside an element of its name is called `_attr`.
    fn rename_attributes(&mut self, frame: &Frame, tape: &mut Tape) {
        for &(id, key) in &self.members[frame.members..] {
            if self.names.clashes(id, frame.number) {
                let name = format!("{}_attr", self.names.key(id));
                let span = tape.span(&name);
                tape.replace(key, Token::Key(span));
            }
        }
    }

    /// Writes the members of an object again, those of one name together as an array.
    fn group(&mut self, frame: &Frame, object: u32, tape: &mut Tape) {
        let first = object + 1;
        self.moved.clear();
        self.moved.extend_from_slice(tape.tokens_from(first));
        let end = tape.len();
        self.order.clear();
        let members = &self.members[frame.members..];
        for (i, &(id, key)) in members.iter().enumerate() {
            let next = members.get(i + 1).map_or(end, |&(_, key)| key);
            self.order.push((self.names.rank(id, frame.number, i as u32), key, next));
        }
        self.order.sort_by_key(|&(rank, ..)| rank);
        tape.forget_tokens(first);
        let mut at = 0;
        while let Some(&(rank, key, _)) = self.order.get(at) {
            let count = self.order[at..].iter().take_while(|other| other.0 == rank).count();
            tape.push(self.moved[(key - first) as usize]);
            let array = (count > 1).then(|| tape.open(Token::Array { end: 0 }));
            for &(_, key, next) in &self.order[at..at + count] {
                let base = tape.len();
                for token in &self.moved[(key + 1 - first) as usize..(next - first) as usize] {
                    tape.push(match *token {
                        Token::Object { end } => Token::Object { end: end - (key + 1) + base },
                        Token::Array { end } => Token::Array { end: end - (key + 1) + base },
                        other => other,
                    });
                }
            }
            if let Some(array) = array {
                tape.close(array);
            }
            at += count;
        }
    }
}

/// Appends text with its references replaced and its line ends made line feeds.
fn decode(text: &str, at: usize, entities: &Entities, left: &mut usize, out: &mut String) -> Result<(), Wrong> {
    let mut rest = text;
    loop {
        let Some(ampersand) = memchr(b'&', rest.as_bytes()) else {
            push_lines(rest, out);
            return Ok(());
        };
        push_lines(&rest[..ampersand], out);
        let here = at + (text.len() - rest.len()) + ampersand;
        let Some((reference, behind)) = split_reference(&rest[ampersand + 1..]) else {
            let reason = "an `&` that begins no reference; in text it is written `&amp;`".into();
            return Err(Wrong { at: here, code: XML_ENTITY_UNKNOWN.name, reason });
        };
        entities.expand(reference, out, left).map_err(|(code, reason)| Wrong { at: here, code, reason })?;
        rest = behind;
    }
}

/// Appends text with CRLF and CR as LF.
fn push_lines(text: &str, out: &mut String) {
    let mut rest = text;
    while let Some(i) = memchr(b'\r', rest.as_bytes()) {
        out.push_str(&rest[..i]);
        out.push('\n');
        rest = &rest[i + 1..];
        rest = rest.strip_prefix('\n').unwrap_or(rest);
    }
    out.push_str(rest);
}

fn behind(record: &str, from: usize, end: &str) -> Result<usize, Wrong> {
    match memmem::find(&record.as_bytes()[from..], end.as_bytes()) {
        Some(i) => Ok(from + i + end.len()),
        None => Err(wrong(from, format!("`{end}` is missing"))),
    }
}

/// The offset behind the name of the tag that begins at `open`.
fn tag_name_end(bytes: &[u8], open: usize) -> Result<usize, Wrong> {
    let end = if open < bytes.len() { name_end(bytes, open + 1) } else { open };
    let is_tag = bytes.get(open) == Some(&b'<') && is_name(&bytes[open + 1..end]);
    if is_tag { Ok(end) } else { Err(wrong(open, "a `<` that begins no tag; in text it is written `&lt;`")) }
}

fn wrong(at: usize, reason: impl Into<String>) -> Wrong {
    Wrong { at, code: XML_RECORD_INVALID.name, reason: reason.into() }
}

#[cfg(test)]
mod tests;
