//! The structural scanner: where elements begin and end, and whether they are nested as XML demands.
//!
//! It is handed the document in slices of any size and takes as much of each as it understands; the caller hands the
//! rest in again with more behind it. It keeps the names of the open elements and nothing else, so its memory does not
//! grow with the document. What stands inside a tag is looked at only as far as needed to find its end: a broken attribute is
//! the record parser's business, which turns the one record away and not the whole file.
//!
//! An element whose inside does not matter ([`Events::passes`]) is passed over at the speed of a text search: only tags of its own name
//! are looked at, and what may hold such a tag without meaning it (comments, CDATA sections, instructions).

use memchr::memmem;

use super::markup::{
    begins_name, doctype_end, find_aside, find_own, has_attributes, is_blank, name_end, shown, tag_end, unclosed_tag,
};
use super::words::{find_tag, first_dark, same};

/// The deepest nesting of a document.
pub const MAX_DEPTH: usize = 10_000;
/// The longest element name, bytes.
pub const MAX_NAME: usize = 4096;
/// The longest document type declaration, bytes.
pub const MAX_DOCTYPE: usize = 1 << 20;
/// A tag shorter than this is looked at in one piece, so that its attributes can be told from namespace declarations.
const WHOLE_TAG: usize = 64 << 10;

/// What the scanner tells. Offsets count within the slice given to [`Scanner::scan`].
pub trait Events {
    /// An element begins: its name as written, and the offset of its `<`.
    fn start(&mut self, name: &[u8], at: usize);
    /// The element that began last has attributes, other than namespace declarations and those of the XSI namespace.
    fn attributes(&mut self) {}
    /// The innermost element ends: the offset behind its `>`.
    fn end(&mut self, after: usize);
    /// The innermost element has text that is not blank. Told at least once per run of text.
    fn text(&mut self) {}
    /// The document type declaration.
    fn doctype(&mut self, _declaration: &[u8]) {}
    /// Whether the element that began last may be passed over: of what is inside of it, only elements of its own name are told, and
    /// it is not checked whether other tags are in their places.
    fn passes(&self) -> bool {
        false
    }
}

/// Why a document is not well formed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Offset of the first byte that does not belong there, within the slice.
    pub at: usize,
    /// What is wrong, in words.
    pub reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Content,
    /// Inside a start tag that is too long to be looked at in one piece.
    Tag {
        /// The open quote, 0 for none.
        quote: u8,
        /// Whether the last byte was a `/` outside quotes.
        slash: bool,
    },
    Comment,
    Cdata,
    Instruction,
}

/// How far one step went.
enum Step {
    /// To this offset.
    To(usize),
    /// Nowhere: more bytes are needed.
    More,
}

/// The scanner. One for a document.
#[derive(Debug)]
pub struct Scanner {
    state: State,
    /// The names of the open elements, one after the other, and where each ends.
    names: Vec<u8>,
    ends: Vec<u32>,
    begun: bool,
    root: bool,
    doctype: bool,
    /// The depth of the element that is passed over, 0 for none. Above it there are only elements of its name.
    passing: usize,
    /// The searches for tags of elements that were passed over.
    own: Vec<OwnTags>,
    /// Where the next `<!` or `<?` of this slice is, its end if there is none; `None` if it was not looked for.
    aside: Option<usize>,
}

/// Finds the tags of one name.
#[derive(Debug)]
struct OwnTags {
    name: Box<[u8]>,
    begin: memmem::Finder<'static>,
    end: memmem::Finder<'static>,
}

/// Names of which [`OwnTags`] are kept; documents have a few kinds of records.
const OWN_TAGS: usize = 16;

impl Default for Scanner {
    fn default() -> Self {
        Self {
            state: State::Content,
            names: Vec::new(),
            ends: Vec::new(),
            begun: false,
            root: false,
            doctype: false,
            passing: 0,
            own: Vec::new(),
            aside: None,
        }
    }
}

impl Scanner {
    /// Number of open elements.
    pub fn depth(&self) -> usize {
        self.ends.len()
    }

    /// Takes from `bytes` as much as it understands and tells `events`; returns how much that was. With `ended`, nothing comes
    /// behind `bytes`, all of it is taken, and the document must be complete.
    pub fn scan(&mut self, bytes: &[u8], ended: bool, events: &mut impl Events) -> Result<usize, Fault> {
        let mut at = 0;
        self.aside = None;
        while at < bytes.len() {
            let step = match self.state {
                State::Content if self.passing > 0 => self.passed(bytes, at, ended, events)?,
                State::Content => self.content(bytes, at, ended, events)?,
                State::Tag { quote, slash } => self.long_tag(bytes, at, quote, slash, events)?,
                State::Comment => self.until(bytes, at, b"-->"),
                State::Instruction => self.until(bytes, at, b"?>"),
                State::Cdata => {
                    events.text();
                    self.until(bytes, at, b"]]>")
                }
            };
            match step {
                Step::To(next) => at = next,
                Step::More => break,
            }
        }
        if ended {
            self.finish(bytes, at)?;
            return Ok(bytes.len());
        }
        Ok(at)
    }

    fn finish(&self, bytes: &[u8], at: usize) -> Result<(), Fault> {
        let fault = |reason: String| Err(Fault { at: bytes.len(), reason });
        match self.state {
            State::Comment => return fault("the document ends inside a comment".into()),
            State::Cdata => return fault("the document ends inside a CDATA section".into()),
            State::Instruction => return fault("the document ends inside a processing instruction".into()),
            State::Content if at == bytes.len() => {}
            State::Content | State::Tag { .. } => return fault("the document ends inside a tag".into()),
        }
        if !self.ends.is_empty() {
            return fault(format!("the document ends, but <{}> is still open", shown(self.top())));
        }
        if !self.root {
            return fault("the document has no element".into());
        }
        Ok(())
    }

    fn top(&self) -> &[u8] {
        let begin = self.ends.len().checked_sub(2).map_or(0, |i| self.ends[i] as usize);
        &self.names[begin..]
    }

    /// Text, and the markup behind it.
    fn content(&mut self, bytes: &[u8], at: usize, ended: bool, events: &mut impl Events) -> Result<Step, Fault> {
        let open = find_tag(bytes, at).unwrap_or(bytes.len());
        if let Some(first) = first_dark(&bytes[at..open]) {
            if self.ends.is_empty() {
                let what = if self.root { "text behind the root element" } else { "text before the root element" };
                return Err(Fault { at: at + first, reason: format!("{what}: this is not XML, or not one document") });
            }
            events.text();
        }
        let blank = open > at;
        if open == bytes.len() {
            self.begun = true;
            return Ok(Step::To(open));
        }
        let step = self.markup(bytes, open, blank, ended, events)?;
        self.begun |= open > 0 || matches!(step, Step::To(_));
        match step {
            // The text before it is done with.
            Step::More if blank => Ok(Step::To(open)),
            step => Ok(step),
        }
    }

    /// What the `<` at `open` begins. `blank` says that something stands before it.
    fn markup(&mut self, bytes: &[u8], open: usize, blank: bool, ended: bool, events: &mut impl Events) -> Result<Step, Fault> {
        match bytes.get(open + 1) {
            None => Ok(Step::More),
            Some(b'/') => self.end_tag(bytes, open, ended, events),
            Some(b'!') => self.declaration(bytes, open, ended, events),
            Some(b'?') => self.instruction(bytes, open, blank, ended),
            Some(_) => self.start_tag(bytes, open, ended, events),
        }
    }

    /// The inside of an element that is passed over, up to the next markup that counts.
    fn passed(&mut self, bytes: &[u8], at: usize, ended: bool, events: &mut impl Events) -> Result<Step, Fault> {
        let aside = match self.aside {
            Some(aside) if aside >= at => aside,
            _ => *self.aside.insert(find_aside(bytes, at)),
        };
        let own = self.own_tags();
        let end = find_own(&own.end, own.name.len() + 2, bytes, at, aside);
        let begin = find_own(&own.begin, own.name.len() + 1, bytes, at, end.unwrap_or(aside));
        let open = begin.or(end).unwrap_or(aside);
        if open == bytes.len() {
            // A tag may begin here whose rest is not there.
            let tail = open.saturating_sub(own.name.len() + 2).max(at);
            let sure = memchr::memrchr(b'<', &bytes[tail..]).map_or(open, |i| tail + i);
            return Ok(if sure > at { Step::To(sure) } else { Step::More });
        }
        match self.markup(bytes, open, true, ended, events)? {
            Step::More if open > at => Ok(Step::To(open)),
            step => Ok(step),
        }
    }

    /// The searches for tags with the name of the innermost element.
    fn own_tags(&mut self) -> &OwnTags {
        let name = self.top();
        let at = match self.own.iter().position(|own| same(&own.name, name)) {
            Some(known) => known,
            None => {
                let finder = |open: &[u8]| memmem::Finder::new(&[open, name].concat()).into_owned();
                let own = OwnTags { name: name.into(), begin: finder(b"<"), end: finder(b"</") };
                if self.own.len() == OWN_TAGS {
                    self.own.clear();
                }
                self.own.push(own);
                self.own.len() - 1
            }
        };
        &self.own[at]
    }

    fn start_tag(&mut self, bytes: &[u8], open: usize, ended: bool, events: &mut impl Events) -> Result<Step, Fault> {
        let name_end = name_end(bytes, open + 1);
        if name_end == bytes.len() && name_end - open <= MAX_NAME {
            return self.unfinished(bytes, ended, "the document ends inside a tag");
        }
        let name = &bytes[open + 1..name_end];
        if name.len() > MAX_NAME {
            return Err(Fault { at: open, reason: format!("an element name is longer than {MAX_NAME} bytes") });
        }
        let follows = bytes[name_end];
        if !name.first().is_some_and(|&b| begins_name(b)) || !(is_blank(follows) || matches!(follows, b'>' | b'/')) {
            let reason = "a `<` that begins no tag; in text it is written `&lt;`".into();
            return Err(Fault { at: open, reason });
        }
        if follows == b'>' {
            if let Some(after) = self.leaf(bytes, open, name_end, events) {
                return Ok(Step::To(after));
            }
            self.begin(name, open, events)?;
            return Ok(Step::To(name_end + 1));
        }
        // The whole tag, where it is not too long for that.
        match tag_end(bytes, name_end)? {
            Some(close) => {
                self.begin(name, open, events)?;
                if has_attributes(&bytes[name_end..close]) {
                    events.attributes();
                }
                if bytes[close - 1] == b'/' {
                    self.close(close + 1, events);
                }
                Ok(Step::To(close + 1))
            }
            None if ended => Err(Fault { at: bytes.len(), reason: "the document ends inside a tag".into() }),
            None if bytes.len() - open < WHOLE_TAG => Ok(Step::More),
            None => {
                self.begin(name, open, events)?;
                events.attributes();
                self.state = State::Tag { quote: 0, slash: false };
                Ok(Step::To(name_end))
            }
        }
    }

    /// An element that holds nothing but text, which most do: it need not be kept as open. Returns the offset behind it.
    #[inline]
    fn leaf(&self, bytes: &[u8], open: usize, name_end: usize, events: &mut impl Events) -> Option<usize> {
        if self.ends.is_empty() || self.ends.len() >= MAX_DEPTH {
            return None;
        }
        let name = &bytes[open + 1..name_end];
        let close = find_tag(bytes, name_end + 1)?;
        let behind = close + 2 + name.len();
        let ends = *bytes.get(behind)? == b'>' && bytes[close + 1] == b'/' && same(&bytes[close + 2..behind], name);
        if !ends {
            return None;
        }
        events.start(name, open);
        if first_dark(&bytes[name_end + 1..close]).is_some() {
            events.text();
        }
        events.end(behind + 1);
        Some(behind + 1)
    }

    /// The rest of a long start tag.
    fn long_tag(
        &mut self,
        bytes: &[u8],
        from: usize,
        mut quote: u8,
        mut slash: bool,
        events: &mut impl Events,
    ) -> Result<Step, Fault> {
        for (i, &byte) in bytes[from..].iter().enumerate() {
            match byte {
                b'<' => return Err(unclosed_tag(from + i)),
                _ if quote != 0 => {
                    if byte == quote {
                        quote = 0;
                    }
                }
                b'"' | b'\'' => (quote, slash) = (byte, false),
                b'>' => {
                    self.state = State::Content;
                    if slash {
                        self.close(from + i + 1, events);
                    }
                    return Ok(Step::To(from + i + 1));
                }
                _ => slash = byte == b'/',
            }
        }
        self.state = State::Tag { quote, slash };
        Ok(Step::To(bytes.len()))
    }

    fn begin(&mut self, name: &[u8], at: usize, events: &mut impl Events) -> Result<(), Fault> {
        if self.ends.is_empty() {
            if self.root {
                let reason = format!("a second root element <{}>: a document has one", shown(name));
                return Err(Fault { at, reason });
            }
            self.root = true;
        }
        if self.ends.len() >= MAX_DEPTH {
            return Err(Fault { at, reason: format!("elements are nested more than {MAX_DEPTH} deep") });
        }
        self.names.extend_from_slice(name);
        self.ends.push(self.names.len() as u32);
        events.start(name, at);
        if self.passing == 0 && events.passes() {
            self.passing = self.ends.len();
        }
        Ok(())
    }

    fn close(&mut self, after: usize, events: &mut impl Events) {
        self.ends.pop();
        self.names.truncate(self.ends.last().map_or(0, |&end| end as usize));
        if self.ends.len() < self.passing {
            self.passing = 0;
        }
        events.end(after);
    }

    fn end_tag(&mut self, bytes: &[u8], open: usize, ended: bool, events: &mut impl Events) -> Result<Step, Fault> {
        if !self.ends.is_empty() {
            let name = self.top();
            let behind = open + 2 + name.len();
            if bytes.get(behind) == Some(&b'>') && same(&bytes[open + 2..behind], name) {
                self.close(behind + 1, events);
                return Ok(Step::To(behind + 1));
            }
        }
        let rest = &bytes[open + 2..];
        let Some(close) = rest.iter().take(MAX_NAME * 2).position(|&b| matches!(b, b'>' | b'<')) else {
            if rest.len() >= MAX_NAME * 2 {
                return Err(unclosed_tag(open));
            }
            return self.unfinished(bytes, ended, "the document ends inside a tag");
        };
        if rest[close] == b'<' {
            return Err(unclosed_tag(open));
        }
        let found = rest[..close].trim_ascii_end();
        if self.ends.is_empty() {
            return Err(Fault { at: open, reason: format!("</{}> ends an element that never began", shown(found)) });
        }
        if found != self.top() {
            let reason = format!("</{}> stands where </{}> is due", shown(found), shown(self.top()));
            return Err(Fault { at: open, reason });
        }
        self.close(open + 2 + close + 1, events);
        Ok(Step::To(open + 2 + close + 1))
    }

    fn declaration(&mut self, bytes: &[u8], open: usize, ended: bool, events: &mut impl Events) -> Result<Step, Fault> {
        let rest = &bytes[open..];
        if rest.starts_with(b"<!--") {
            self.state = State::Comment;
            return Ok(Step::To(open + 4));
        }
        if rest.starts_with(b"<![CDATA[") {
            if self.ends.is_empty() {
                return Err(Fault { at: open, reason: "a CDATA section outside of the root element".into() });
            }
            self.state = State::Cdata;
            return Ok(Step::To(open + 9));
        }
        if rest.starts_with(b"<!DOCTYPE") {
            if self.root || self.doctype {
                return Err(Fault { at: open, reason: "a DOCTYPE belongs before the root element, once".into() });
            }
            let Some(length) = doctype_end(rest) else {
                if rest.len() > MAX_DOCTYPE {
                    let reason = format!("the DOCTYPE is longer than {MAX_DOCTYPE} bytes, or does not end");
                    return Err(Fault { at: open, reason });
                }
                return self.unfinished(bytes, ended, "the document ends inside its DOCTYPE");
            };
            self.doctype = true;
            events.doctype(&rest[..length]);
            return Ok(Step::To(open + length));
        }
        if !ended && [&b"<!--"[..], b"<![CDATA[", b"<!DOCTYPE"].iter().any(|known| known.starts_with(rest)) {
            return Ok(Step::More);
        }
        Err(Fault { at: open, reason: "a `<!` that begins no comment, CDATA section or DOCTYPE".into() })
    }

    fn instruction(&mut self, bytes: &[u8], open: usize, blank: bool, ended: bool) -> Result<Step, Fault> {
        let target = &bytes[open + 2..];
        if target.len() < 4 && !ended {
            return Ok(Step::More);
        }
        let is_declaration = target.len() > 3 && target[..3].eq_ignore_ascii_case(b"xml") && is_blank(target[3]);
        if is_declaration && (self.begun || blank) {
            let reason = "an XML declaration inside the document: it belongs to its first byte".into();
            return Err(Fault { at: open, reason });
        }
        self.state = State::Instruction;
        Ok(Step::To(open + 2))
    }

    /// Goes behind the end of a comment, CDATA section or instruction, or as far as surely belongs to it.
    fn until(&mut self, bytes: &[u8], from: usize, end: &[u8]) -> Step {
        match memmem::find(&bytes[from..], end) {
            Some(i) => {
                self.state = State::Content;
                Step::To(from + i + end.len())
            }
            None => match (bytes.len() + 1).saturating_sub(end.len()).max(from) {
                kept if kept == from => Step::More,
                kept => Step::To(kept),
            },
        }
    }

    fn unfinished(&self, bytes: &[u8], ended: bool, reason: &str) -> Result<Step, Fault> {
        if ended { Err(Fault { at: bytes.len(), reason: reason.into() }) } else { Ok(Step::More) }
    }
}
