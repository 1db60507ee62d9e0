//! Where a JSON value ends, without parsing it: strings are told from brackets, nothing else.

/// A walk over one value that may stop at the end of a buffer and go on with the next.
#[derive(Debug, Clone, Copy, Default)]
pub struct ValueScan {
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// Inside a number or literal at depth 0.
    in_word: bool,
}

impl ValueScan {
    /// Walks on; returns the number of bytes up to the value's end if that is among them. The first byte of a value is not white.
    pub fn run(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        if self.in_string {
            at = self.string(bytes, 0)?;
            if self.depth == 0 {
                return Some(at);
            }
        }
        while at < bytes.len() {
            match bytes[at] {
                b'"' => {
                    if self.in_word {
                        return Some(at);
                    }
                    self.in_string = true;
                    at = self.string(bytes, at + 1)?;
                    if self.depth == 0 {
                        return Some(at);
                    }
                    continue;
                }
                b'{' | b'[' => {
                    if self.in_word {
                        return Some(at);
                    }
                    self.depth += 1;
                }
                b'}' | b']' => {
                    if self.in_word || self.depth == 0 {
                        return Some(at);
                    }
                    self.depth -= 1;
                    if self.depth == 0 {
                        return Some(at + 1);
                    }
                }
                b',' | b':' | b' ' | b'\t' | b'\n' | b'\r' if self.depth == 0 => return Some(at),
                _ if self.depth == 0 => self.in_word = true,
                _ => {}
            }
            at += 1;
        }
        None
    }

    /// Whether the value may end where the input does.
    pub fn may_end(&self) -> bool {
        self.in_word
    }

    /// Walks to the closing quote; returns the place behind it.
    fn string(&mut self, bytes: &[u8], mut at: usize) -> Option<usize> {
        if self.escaped && at < bytes.len() {
            self.escaped = false;
            at += 1;
        }
        loop {
            let found = at + memchr::memchr2(b'"', b'\\', bytes.get(at..)?)?;
            if bytes[found] == b'"' {
                self.in_string = false;
                return Some(found + 1);
            }
            if found + 1 >= bytes.len() {
                self.escaped = true;
                return None;
            }
            at = found + 2;
        }
    }
}

/// Whether a line is one value and nothing else.
pub fn is_one_value(line: &[u8]) -> bool {
    let mut scan = ValueScan::default();
    match scan.run(line) {
        Some(end) => end > 0 && line[end..].trim_ascii().is_empty(),
        None => scan.may_end(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_ends_where_its_brackets_do_whatever_the_pieces() {
        for (text, length) in [
            (r#"{"a":"}\"{","b":[1,{}]} x"#, Some(23)),
            (r#"[1,"]",[2]],"#, Some(11)),
            (r#""a\\" "#, Some(5)),
            ("12,", Some(2)),
            ("true}", Some(4)),
            ("12", None),
            (r#"{"a":1"#, None),
            (r#""abc\""#, None),
        ] {
            for size in 1..text.len() {
                let mut scan = ValueScan::default();
                let mut before = 0;
                let mut found = None;
                for piece in text.as_bytes().chunks(size) {
                    if let Some(end) = scan.run(piece) {
                        found = Some(before + end);
                        break;
                    }
                    before += piece.len();
                }
                assert_eq!(found, length, "{text} in pieces of {size}");
            }
        }
    }
}
