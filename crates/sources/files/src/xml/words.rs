//! Searching and comparing a few bytes at a time. Tags and texts of XML are mostly shorter than what a call of a vectorised
//! function costs, so the first bytes are looked at in place, eight at once.

use memchr::memchr;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;
const SPACES: u64 = ONES * b' ' as u64;
/// Words looked at before the vectorised search takes over.
const WORDS: usize = 4;

#[inline]
fn word(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
}

#[inline]
fn half(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

/// The offset of the first `<` at or behind `from`.
#[inline]
pub fn find_tag(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    for _ in 0..WORDS {
        let Some(word) = word(bytes, at) else { break };
        // A zero byte where there is a `<`; the lowest of the bits found is never a false one.
        let differs = word ^ (ONES * b'<' as u64);
        let found = differs.wrapping_sub(ONES) & !differs & HIGHS;
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    memchr(b'<', &bytes[at..]).map(|i| at + i)
}

/// Whether two short texts are the same.
#[inline]
pub fn same(a: &[u8], b: &[u8]) -> bool {
    let n = a.len();
    if n != b.len() {
        return false;
    }
    match n {
        0..4 => a.iter().zip(b).all(|(a, b)| a == b),
        4..8 => half(a, 0) == half(b, 0) && half(a, n - 4) == half(b, n - 4),
        8..=16 => word(a, 0) == word(b, 0) && word(a, n - 8) == word(b, n - 8),
        _ => a == b,
    }
}

/// The offset of the first byte that is not white space, if there is one.
#[inline]
pub fn first_dark(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    while at < bytes.len() {
        if word(bytes, at) == Some(SPACES) {
            at += 8;
        } else if matches!(bytes[at], b' ' | b'\t' | b'\n' | b'\r') {
            at += 1;
        } else {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_found_wherever_it_begins() {
        for length in 0..100 {
            for place in 0..length {
                let mut bytes = vec![b';'; length];
                // Neighbours of `<` in value, which the trick with words could mistake for it.
                bytes[..place].iter_mut().enumerate().for_each(|(i, b)| *b = [b';', b'=', 0xBC, 0x3D, 0][i % 5]);
                bytes[place] = b'<';
                for from in 0..=place {
                    assert_eq!(find_tag(&bytes, from), Some(place));
                }
                assert_eq!(find_tag(&bytes, place + 1), None);
            }
        }
    }

    #[test]
    fn texts_are_the_same_only_if_every_byte_is() {
        for length in 0..40 {
            let text: Vec<u8> = (0..length).collect();
            assert!(same(&text, &text.clone()));
            assert!(!same(&text, &[&text[..], b"x"].concat()));
            for place in 0..text.len() {
                let mut other = text.clone();
                other[place] ^= 1;
                assert!(!same(&text, &other));
            }
        }
    }

    #[test]
    fn white_space_is_what_xml_says() {
        assert_eq!(first_dark(b""), None);
        assert_eq!(first_dark(b"\n\t\r          \n"), None);
        assert_eq!(first_dark(b"\n         \x0B"), Some(10));
        assert_eq!(first_dark(b"        x"), Some(8));
    }
}
