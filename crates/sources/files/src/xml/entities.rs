//! Entities: the predefined ones, characters by number, and those that a document's internal subset declares. What stands
//! outside of the document is never fetched, and what expands without end is cut off.

use std::collections::BTreeMap;

use memchr::{memchr, memmem};

use super::markup::{is_blank, is_name, name_end};
use crate::error::{XML_ENTITY_LIMIT, XML_ENTITY_UNKNOWN, XML_EXTERNAL_ENTITY};

/// How deep entities may refer to one another.
const MAX_DEPTH: usize = 16;
/// The most that the entities of one record may expand to, bytes.
const MAX_EXPANSION: usize = 1 << 20;

/// The general entities that a document declares.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Entities(BTreeMap<String, Option<String>>);

/// Why a reference has no text: a reason code and words.
pub type Refused = (&'static str, String);

impl Entities {
    /// Reads the declarations of a DOCTYPE. What is not understood is passed over: a reference to it is then unknown.
    pub fn from_doctype(declaration: &[u8]) -> Self {
        let mut entities = BTreeMap::new();
        let mut at = memchr(b'[', declaration).unwrap_or(declaration.len());
        while let Some(&byte) = declaration.get(at) {
            let rest = &declaration[at..];
            at += match byte {
                b'<' if rest.starts_with(b"<!--") => memmem::find(rest, b"-->").map_or(rest.len(), |i| i + 3),
                b'<' if rest.starts_with(b"<?") => memmem::find(rest, b"?>").map_or(rest.len(), |i| i + 2),
                b'<' if rest.starts_with(b"<!ENTITY") => {
                    if let Some((name, value)) = declared(&rest[8..]) {
                        // The first declaration counts.
                        entities.entry(name).or_insert(value);
                    }
                    8
                }
                b'"' | b'\'' => memchr(byte, &rest[1..]).map_or(rest.len(), |i| i + 2),
                _ => 1,
            };
        }
        Self(entities)
    }

    /// Whether it declares none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes of their names and values.
    pub fn size(&self) -> usize {
        self.0.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, String::len)).sum()
    }

    /// Appends what a reference (without `&` and `;`) stands for. `left` is what the record's entities may still expand to.
    pub fn expand(&self, reference: &str, out: &mut String, left: &mut usize) -> Result<(), Refused> {
        self.expand_at(reference, out, left, 0)
    }

    /// How much the entities of a record of this many bytes may expand to: in proportion, so that many small records of one
    /// chunk do not add up to more memory than there is.
    pub fn allowance(record_bytes: usize) -> usize {
        (4096 + record_bytes.saturating_mul(64)).min(MAX_EXPANSION)
    }

    fn expand_at(&self, reference: &str, out: &mut String, left: &mut usize, depth: usize) -> Result<(), Refused> {
        if let Some(number) = reference.strip_prefix('#') {
            let character = character(number).ok_or_else(|| unknown(reference))?;
            out.push(character);
            return Ok(());
        }
        let predefined = match reference {
            "amp" => Some('&'),
            "lt" => Some('<'),
            "gt" => Some('>'),
            "quot" => Some('"'),
            "apos" => Some('\''),
            _ => None,
        };
        if let Some(character) = predefined {
            out.push(character);
            return Ok(());
        }
        let value = match self.0.get(reference) {
            Some(Some(value)) => value,
            Some(None) => {
                let reason = format!("the entity &{}; stands outside of the document, which is never fetched", short(reference));
                return Err((XML_EXTERNAL_ENTITY.name, reason));
            }
            None => return Err(unknown(reference)),
        };
        if depth >= MAX_DEPTH {
            let reason = format!("entities refer to one another more than {MAX_DEPTH} deep, at &{};", short(reference));
            return Err((XML_ENTITY_LIMIT.name, reason));
        }
        if value.contains('<') {
            let reason = format!("the entity &{}; holds markup, which is not expanded", short(reference));
            return Err((XML_ENTITY_UNKNOWN.name, reason));
        }
        // Empty ones count too, so that a bomb of nothing ends as well.
        let cost = value.len().max(1);
        *left = left.checked_sub(cost).ok_or_else(|| {
            let reason = format!("the entities expand to more than this record may hold, at &{};", short(reference));
            (XML_ENTITY_LIMIT.name, reason)
        })?;
        let mut rest = value.as_str();
        while let Some(ampersand) = rest.find('&') {
            out.push_str(&rest[..ampersand]);
            let (name, behind) = split_reference(&rest[ampersand + 1..]).ok_or_else(|| unknown(reference))?;
            self.expand_at(name, out, left, depth + 1)?;
            rest = behind;
        }
        out.push_str(rest);
        Ok(())
    }
}

/// The reference that the text behind an `&` begins with, and what follows its `;`.
pub fn split_reference(text: &str) -> Option<(&str, &str)> {
    let end = text.bytes().take(256).position(|b| b == b';')?;
    let name = &text[..end];
    (name.starts_with('#') || is_name(name.as_bytes())).then(|| (name, &text[end + 1..]))
}

/// The name and value of an entity declaration, behind `<!ENTITY`; no value for an external one. `None` for parameter entities.
fn declared(text: &[u8]) -> Option<(String, Option<String>)> {
    let begin = text.iter().position(|&b| !is_blank(b)).filter(|&i| i > 0)?;
    let end = name_end(text, begin);
    let name = String::from_utf8(text[begin..end].to_vec()).ok().filter(|name| is_name(name.as_bytes()))?;
    let rest = text[end..].trim_ascii_start();
    match rest.first()? {
        quote @ (b'"' | b'\'') => {
            let value = &rest[1..=memchr(*quote, &rest[1..])?];
            Some((name, Some(String::from_utf8(value.to_vec()).ok()?)))
        }
        _ if rest.starts_with(b"SYSTEM") || rest.starts_with(b"PUBLIC") => Some((name, None)),
        _ => None,
    }
}

/// The character of a numeric reference, if XML allows it.
fn character(number: &str) -> Option<char> {
    let code = match number.strip_prefix('x') {
        Some(hex) if hex.bytes().all(|b| b.is_ascii_hexdigit()) => u32::from_str_radix(hex, 16).ok()?,
        None if number.bytes().all(|b| b.is_ascii_digit()) => number.parse().ok()?,
        _ => return None,
    };
    let allowed = matches!(code, 0x9 | 0xA | 0xD | 0x20..=0xD7FF | 0xE000..=0xFFFD | 0x1_0000..);
    char::from_u32(code).filter(|_| allowed)
}

fn unknown(reference: &str) -> Refused {
    (XML_ENTITY_UNKNOWN.name, format!("the reference &{}; stands for nothing that the document declares", short(reference)))
}

fn short(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(doctype: &str, reference: &str) -> Result<String, Refused> {
        let mut out = String::new();
        Entities::from_doctype(doctype.as_bytes()).expand(reference, &mut out, &mut 10_000).map(|()| out)
    }

    #[test]
    fn internal_entities_expand_through_one_another_and_the_first_declaration_counts() {
        let doctype = r#"<!DOCTYPE r [<!-- <!ENTITY a "no"> --><!ENTITY a "x &b;"><!ENTITY b 'y&#x41;&amp;'><!ENTITY a "z">]>"#;
        assert_eq!(expand(doctype, "a").expect("declared"), "x yA&");
    }

    #[test]
    fn external_and_unknown_entities_have_no_text() {
        let doctype = r#"<!DOCTYPE r [<!ENTITY % p "q"><!ENTITY f SYSTEM "file:///etc/passwd">]>"#;
        assert_eq!(expand(doctype, "f").expect_err("external").0, "xml_external_entity");
        assert_eq!(expand(doctype, "p").expect_err("a parameter entity").0, "xml_entity_unknown");
        assert_eq!(expand(doctype, "#0").expect_err("not a character").0, "xml_entity_unknown");
        assert_eq!(expand(doctype, "#xD800").expect_err("not a character").0, "xml_entity_unknown");
    }

    #[test]
    fn entities_that_grow_without_end_or_refer_to_themselves_are_cut_off() {
        let mut laughs = String::from(r#"<!DOCTYPE r [<!ENTITY l0 "ha">"#);
        for i in 1..12 {
            laughs += &format!("<!ENTITY l{i} \"{}\">", format!("&l{};", i - 1).repeat(10));
        }
        assert_eq!(expand(&(laughs + "]>"), "l11").expect_err("a billion").0, "xml_entity_limit");
        assert_eq!(expand(r#"<!DOCTYPE r [<!ENTITY a "&a;">]>"#, "a").expect_err("a circle").0, "xml_entity_limit");
    }
}
