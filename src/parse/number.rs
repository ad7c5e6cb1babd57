//! Reads a decimal number at the start of some bytes, without copying them.

/// Powers of ten that a `f64` holds exactly.
const EXACT: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

/// The number that the bytes begin with, and its length: `-1.5e-08`, `nan`, `inf`, `NaN`, `-Infinity`.
///
/// The value is the nearest `f64`, as `str::parse` gives it. Short numbers, which are nearly all that logs hold, are
/// put together from an integer and one exact power of ten (W. D. Clinger, How to read floating point numbers
/// accurately, 1990); the others are left to the standard library.
pub fn number(bytes: &[u8]) -> Option<(f64, usize)> {
    let (negative, start) = match bytes.first()? {
        b'-' => (true, 1),
        b'+' => (false, 1),
        _ => (false, 0),
    };
    let mut at = start;
    let (mut mantissa, mut digits, mut scale) = (0u64, 0u32, 0i32);
    let mut point = false;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'0'..=b'9' => {
                mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'));
                digits += u32::from(digits > 0 || *byte != b'0');
                scale -= i32::from(point);
            }
            b'.' if !point => point = true,
            _ => break,
        }
        at += 1;
    }
    if at == start + usize::from(point) {
        return word(bytes, start, negative);
    }
    if let Some(b'e' | b'E') = bytes.get(at)
        && let Some((exponent, end)) = exponent(bytes, at + 1)
    {
        scale = scale.saturating_add(exponent);
        at = end;
    }
    let magnitude = if digits <= 15 && scale.unsigned_abs() < EXACT.len() as u32 {
        let power = EXACT[scale.unsigned_abs() as usize];
        if scale < 0 { mantissa as f64 / power } else { mantissa as f64 * power }
    } else {
        std::str::from_utf8(&bytes[start..at]).ok()?.parse().ok()?
    };
    Some((if negative { -magnitude } else { magnitude }, at))
}

fn exponent(bytes: &[u8], mut at: usize) -> Option<(i32, usize)> {
    let negative = match bytes.get(at)? {
        b'-' => true,
        b'+' => false,
        _ => {
            at = at.checked_sub(1)?;
            false
        }
    };
    at += 1;
    let start = at;
    let mut value = 0i32;
    while let Some(digit @ b'0'..=b'9') = bytes.get(at) {
        value = value.saturating_mul(10).saturating_add(i32::from(digit - b'0'));
        at += 1;
    }
    (at > start).then_some((if negative { -value } else { value }, at))
}

fn word(bytes: &[u8], start: usize, negative: bool) -> Option<(f64, usize)> {
    const WORDS: [(&[u8], f64); 3] = [(b"nan", f64::NAN), (b"infinity", f64::INFINITY), (b"inf", f64::INFINITY)];
    let rest = bytes.get(start..)?;
    let is = |word: &[u8]| rest.get(..word.len()).is_some_and(|found| found.eq_ignore_ascii_case(word));
    let (word, value) = WORDS.into_iter().find(|(word, _)| is(word))?;
    // `info` and `nano` are no numbers.
    let end = start + word.len();
    let ends = !bytes.get(end).is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
    ends.then_some((if negative { -value } else { value }, end))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, want: Option<(f64, usize)>) {
        assert_eq!(format!("{:?}", number(text.as_bytes())), format!("{want:?}"), "{text}");
    }

    #[test]
    fn numbers_as_logs_print_them() {
        check("2.347,", Some((2.347, 5)));
        check("-0.0}", Some((-0.0, 4)));
        check("1.144e+04'", Some((11440.0, 9)));
        check("1e-08", Some((1e-8, 5)));
        check("5.", Some((5.0, 2)));
        check(".5", Some((0.5, 2)));
        check("00010", Some((10.0, 5)));
        check("7it/s", Some((7.0, 1)));
        check("1.5e", Some((1.5, 3)));
        check("1.2.3", Some((1.2, 3)));
        check("nan]", Some((f64::NAN, 3)));
        check("-inf", Some((f64::NEG_INFINITY, 4)));
        check("-Infinity", Some((f64::NEG_INFINITY, 9)));
        check("NaN", Some((f64::NAN, 3)));
        check("2.577319587628866e-06", Some((2.577319587628866e-06, 21)));
        check("1e999", Some((f64::INFINITY, 5)));
        check("info", None);
        check("nan_count", None);
        check("-", None);
        check(".", None);
        check("", None);
        check("e5", None);
    }

    proptest! {
        #![proptest_config(crate::properties::config(256))]

        #[test]
        fn as_the_standard_library(value in any::<f64>().prop_filter("finite", |v| v.is_finite()), digits in 0usize..20) {
            for text in [format!("{value}"), format!("{value:e}"), format!("{value:.digits$}"), format!("{value:.digits$e}")] {
                let want: f64 = text.parse().unwrap();
                let (got, used) = number(text.as_bytes()).unwrap();
                prop_assert_eq!((got.to_bits(), used), (want.to_bits(), text.len()), "{}", text);
            }
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = number(&bytes);
        }
    }
}
