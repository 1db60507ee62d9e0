//! Decimals that formats have as bytes.

use arrow::datatypes::i256;

/// A decimal's text: an integer in two's complement, the highest byte first, with the point before its last `scale` digits. `None` beyond
/// 256 bits or 1,000 digits.
pub(crate) fn text(bytes: &[u8], scale: u64) -> Option<String> {
    let is_negative = bytes.first().is_some_and(|&byte| byte >= 0x80);
    let filler = if is_negative { 0xFF } else { 0 };
    let plain = bytes.iter().position(|&byte| byte != filler).map_or(&[][..], |first| &bytes[first..]);
    let mut wide = [filler; 32];
    wide[32usize.checked_sub(plain.len())?..].copy_from_slice(plain);
    if (wide[0] >= 0x80) != is_negative {
        return None;
    }
    let digits = i256::from_be_bytes(wide).to_string();
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits.as_str()), |digits| ("-", digits));
    let scale = usize::try_from(scale).ok()?;
    if scale == 0 {
        return Some(format!("{sign}{digits}"));
    }
    // At least one digit before the point.
    let digits = format!("{digits:0>width$}", width = scale.checked_add(1).filter(|width| *width <= 1000)?);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    Some(format!("{sign}{whole}.{fraction}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_of_any_length_are_exact() {
        for (bytes, scale, expected) in [
            (&[][..], 0, "0"),
            (&[0x00], 2, "0.00"),
            (&[0x04, 0xD2], 2, "12.34"),
            (&[0xFB, 0x2E], 2, "-12.34"),
            (&[0xFF], 3, "-0.001"),
            (&[0x00, 0xFF], 0, "255"),
            (&[0xFF; 40], 0, "-1"),
        ] {
            assert_eq!(text(bytes, scale).as_deref(), Some(expected), "{bytes:?}");
        }
        let mut large = [0xFF; 32];
        large[0] = 0x7F;
        let expected = "57896044618658097711785492504343953926634992332820282019728.792003956564819967";
        assert_eq!(text(&large, 18).as_deref(), Some(expected));
        assert_eq!(text(&[0x80; 33], 0), None, "no table holds it");
        let mut beyond = [0; 33];
        beyond[1] = 0x80;
        assert_eq!(text(&beyond, 0), None);
    }
}
