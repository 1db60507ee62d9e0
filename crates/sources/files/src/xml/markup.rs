//! The bytes of tags and names: where they end, and what they are.

use memchr::{memchr, memmem};

use super::scan::Fault;

/// The offset of the first `<!` or `<?` at or behind `from`; the end of the bytes if there is none.
pub(super) fn find_aside(bytes: &[u8], from: usize) -> usize {
    let marks = memchr::memchr2_iter(b'!', b'?', &bytes[from..]).map(|i| from + i);
    let mut opened = marks.filter(|&mark| mark > from && bytes[mark - 1] == b'<');
    opened.next().map_or(bytes.len(), |mark| mark - 1)
}

/// The first tag that `finder` (of so many bytes) finds between `from` and `to` and that does not merely begin with its name. Whether the one
/// at the end of the bytes does is not known; it is taken for one.
pub(super) fn find_own(finder: &memmem::Finder<'_>, length: usize, bytes: &[u8], from: usize, to: usize) -> Option<usize> {
    let mut at = from;
    loop {
        let open = at + finder.find(&bytes[at..to])?;
        if bytes.get(open + length).is_none_or(|&follows| !IN_NAME[follows as usize]) {
            return Some(open);
        }
        at = open + length;
    }
}

/// The offset of the `>` that ends the start tag whose name ends at `from`; `None` if it is not in these bytes.
pub(super) fn tag_end(bytes: &[u8], from: usize) -> Result<Option<usize>, Fault> {
    let mut at = from;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'>' => return Ok(Some(at)),
            b'<' => return Err(unclosed_tag(at)),
            b'"' | b'\'' => match memchr::memchr2(byte, b'<', &bytes[at + 1..]) {
                None => return Ok(None),
                Some(i) if bytes[at + 1 + i] == b'<' => return Err(unclosed_tag(at + 1 + i)),
                Some(i) => at += i + 2,
            },
            _ => at += 1,
        }
    }
    Ok(None)
}

/// Whether the inside of a tag, behind its name, has an attribute that is data.
pub(super) fn has_attributes(mut inside: &[u8]) -> bool {
    while let Some(equals) = memchr(b'=', inside) {
        let name = inside[..equals].trim_ascii();
        if !name.is_empty() && !is_instruction(name) {
            return true;
        }
        let Some(open) = inside[equals..].iter().position(|&b| b == b'"' || b == b'\'') else { return false };
        let value = &inside[equals + open + 1..];
        let Some(close) = memchr(inside[equals + open], value) else { return false };
        inside = &value[close + 1..];
    }
    false
}

/// Whether an attribute speaks to the parser rather than holding data: namespace declarations, and the XSI namespace.
pub fn is_instruction(attribute: &[u8]) -> bool {
    attribute.strip_prefix(b"xmlns").is_some_and(|rest| rest.is_empty() || rest[0] == b':') || attribute.starts_with(b"xsi:")
}

/// The length of a DOCTYPE that `bytes` begin with; `None` if its end is not there.
pub(super) fn doctype_end(bytes: &[u8]) -> Option<usize> {
    let mut at = 9;
    let mut inside = false;
    loop {
        match *bytes.get(at)? {
            quote @ (b'"' | b'\'') => at += 1 + memchr(quote, &bytes[at + 1..])?,
            b'[' => inside = true,
            b']' => inside = false,
            b'>' if !inside => return Some(at + 1),
            b'<' if bytes[at..].starts_with(b"<!--") => at += 4 + memmem::find(&bytes[at + 4..], b"-->")? + 2,
            b'<' if bytes[at..].starts_with(b"<?") => at += 2 + memmem::find(&bytes[at + 2..], b"?>")? + 1,
            _ => {}
        }
        at += 1;
    }
}

pub(super) fn unclosed_tag(at: usize) -> Fault {
    Fault { at, reason: "a `<` inside a tag or an attribute's value: a tag or a quote is not closed before it".into() }
}

/// Whether a byte is white space to XML.
pub fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// The bytes that a name may hold. Names beyond ASCII are taken as they come.
static IN_NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        table[byte] = b.is_ascii_alphanumeric() || matches!(b, b'_' | b':' | b'-' | b'.') || b >= 0x80;
        byte += 1;
    }
    table
};

pub(super) fn begins_name(byte: u8) -> bool {
    IN_NAME[byte as usize] && !byte.is_ascii_digit() && byte != b'-' && byte != b'.'
}

/// The offset behind the name that begins at `from`; `from` itself if none does.
pub fn name_end(bytes: &[u8], from: usize) -> usize {
    bytes[from..].iter().position(|&b| !IN_NAME[b as usize]).map_or(bytes.len(), |i| from + i)
}

/// Whether these bytes are a name.
pub fn is_name(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|&b| begins_name(b)) && name_end(bytes, 0) == bytes.len()
}

/// A name without its namespace prefix.
pub fn local(name: &[u8]) -> &[u8] {
    match memchr(b':', name) {
        Some(colon) if colon + 1 < name.len() => &name[colon + 1..],
        _ => name,
    }
}

/// A name as an error shows it.
pub fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).chars().take(40).collect()
}
