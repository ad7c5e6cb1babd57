//! Numbers as people read them, in a stable width.

use jiff::tz::TimeZone;

use crate::model::{Bytes, Timestamp};

/// A value in at most seven characters: `0.8125`, `1,240`, `12.3M`, `2.6e-8`, `nan`.
pub fn short(value: f64) -> String {
    if value.is_nan() {
        return "nan".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf".into() } else { "-inf".into() };
    }
    let size = value.abs();
    if size == 0.0 {
        "0".into()
    } else if !(1e-3..1e15).contains(&size) {
        let text = format!("{value:.1e}");
        text.replace(".0e", "e")
    } else if size < 0.999_95 {
        format!("{value:.4}")
    } else if size < 9.999_5 {
        trim_zeros(format!("{value:.3}"))
    } else if size < 99.995 {
        trim_zeros(format!("{value:.2}"))
    } else if size < 999.95 {
        trim_zeros(format!("{value:.1}"))
    } else if size < 99_999.5 {
        signed_count(value)
    } else {
        let (scaled, suffix) = match size {
            s if s < 999_950.0 => (value / 1e3, "k"),
            s if s < 999.95e6 => (value / 1e6, "M"),
            s if s < 999.95e9 => (value / 1e9, "G"),
            _ => (value / 1e12, "T"),
        };
        match scaled.abs() {
            s if s < 9.995 => format!("{scaled:.2}{suffix}"),
            s if s < 99.95 => format!("{scaled:.1}{suffix}"),
            _ => format!("{scaled:.0}{suffix}"),
        }
    }
}

fn trim_zeros(text: String) -> String {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_string() } else { text }
}

fn signed_count(value: f64) -> String {
    let text = count(value.abs().round() as u64);
    if value < 0.0 { format!("-{text}") } else { text }
}

/// A whole number with thousands apart: `1,240`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// A span of time in at most seven characters: `0.42 s`, `45 s`, `12m 05s`, `3h 04m`, `12d 03h`.
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "-".into();
    }
    let whole = seconds.round() as u64;
    match whole {
        _ if seconds < 0.095 => format!("{:.0} ms", seconds * 1e3),
        _ if seconds < 9.95 => format!("{seconds:.1} s"),
        0..60 => format!("{whole} s"),
        60..3600 => format!("{}m {:02}s", whole / 60, whole % 60),
        3600..86_400 => format!("{}h {:02}m", whole / 3600, whole % 3600 / 60),
        _ if whole / 86_400 < 1000 => format!("{}d {:02}h", whole / 86_400, whole % 86_400 / 3600),
        _ => format!("{}d", whole / 86_400),
    }
}

/// A span that is round, in words: `minute`, `3 minutes`, `2 hours`.
pub fn round_span(seconds: f64) -> String {
    let minutes = (seconds / 60.0).round() as u64;
    match minutes {
        0..=1 => "minute".into(),
        2..120 => format!("{minutes} minutes"),
        _ => format!("{} hours", minutes / 60),
    }
}

/// Seconds between two times; never negative.
pub fn seconds_between(from: Timestamp, to: Timestamp) -> f64 {
    (to.as_millisecond().saturating_sub(from.as_millisecond())).max(0) as f64 / 1e3
}

/// Seconds since 1970, for a time axis.
pub fn unix(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1e3
}

/// `14:05:09` in the user's zone.
pub fn clock(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned_datetime(zone.clone()).strftime("%H:%M:%S").to_string()
}

/// GiB with the digits that fit in five characters: `9.412`, `15.73`, `141.1`.
pub fn gib(bytes: Bytes) -> String {
    match bytes.gib() {
        g if g < 99.995 => format!("{g:.2}"),
        g if g < 9999.95 => format!("{g:.1}"),
        g if g < 99_999.5 => format!("{g:.0}"),
        g => format!("{g:.0e}"),
    }
}

/// A share as `87 %`.
pub fn percent(share: f64) -> String {
    if share.is_finite() { format!("{:.0} %", share * 100.0) } else { "-".into() }
}

/// A text in rows of `width` columns, broken at blanks where it can be.
pub fn folded(text: &str, width: usize) -> Vec<String> {
    use unicode_width::UnicodeWidthStr;
    let mut rows = vec![String::new()];
    for word in text.split(' ') {
        let mut word = word.to_string();
        loop {
            let used = rows.last().map_or(0, |r| r.width());
            let space = usize::from(used > 0);
            if used + space + word.width() <= width {
                if let Some(row) = rows.last_mut() {
                    if space > 0 {
                        row.push(' ');
                    }
                    row.push_str(&word);
                }
                break;
            }
            if used == 0 {
                let head = fit(&word, width, "");
                let rest = word[head.len()..].to_string();
                if head.is_empty() {
                    break;
                }
                if let Some(row) = rows.last_mut() {
                    *row = head;
                }
                word = rest;
            }
            rows.push(String::new());
        }
    }
    rows
}

/// A sentence with a capital at its beginning.
pub fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// At most `width` columns of a name whose end says most: `completions/clipped_ratio` as `…clipped_ratio`.
pub fn fit_end(text: &str, width: usize, ellipsis: &str) -> String {
    use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};
    if text.width() <= width || !text.contains('/') {
        return fit(text, width, ellipsis);
    }
    let room = width.saturating_sub(ellipsis.width());
    let mut used = 0;
    let kept = text.char_indices().rev().take_while(|(_, c)| {
        used += c.width().unwrap_or(0);
        used <= room
    });
    let from = kept.last().map_or(text.len(), |(at, _)| at);
    if width > 0 { format!("{ellipsis}{}", &text[from..]) } else { String::new() }
}

/// At most `width` columns of a text; what is cut ends in `…` (`~` in ASCII).
pub fn fit(text: &str, width: usize, ellipsis: &str) -> String {
    use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};
    if text.width() <= width {
        return text.to_string();
    }
    let room = width.saturating_sub(ellipsis.width());
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        let w = c.width().unwrap_or(0);
        if used + w > room {
            break;
        }
        used += w;
        out.push(c);
    }
    if width > 0 {
        out.push_str(ellipsis);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_short() {
        let check = |value: f64, want: &str| assert_eq!(short(value), want, "{value}");
        check(0.0, "0");
        check(0.8125, "0.8125");
        check(2.623e-8, "2.6e-8");
        check(1e-6, "1e-6");
        check(1.5, "1.5");
        check(11.75, "11.75");
        check(823.0, "823");
        check(1240.0, "1,240");
        check(-1240.0, "-1,240");
        check(123_456.0, "123k");
        check(12_345_678.0, "12.3M");
        check(0.99999, "1");
        check(999.99, "1,000");
        check(f64::NAN, "nan");
        check(f64::NEG_INFINITY, "-inf");
        for exponent in -300..300 {
            for mantissa in [1.0, -1.0, 9.999_999, -9.999_999, 4.567_89, -4.567_89] {
                let text = short(mantissa * 10f64.powi(exponent));
                assert!(text.len() <= 9, "{text}");
            }
        }
    }

    #[test]
    fn spans_of_time() {
        let check = |seconds: f64, want: &str| assert_eq!(duration(seconds), want, "{seconds}");
        check(0.05, "50 ms");
        check(0.42, "0.4 s");
        check(12.3, "12 s");
        check(59.9, "1m 00s");
        check(725.0, "12m 05s");
        check(11_040.0, "3h 04m");
        check(90_000.0, "1d 01h");
        check(f64::INFINITY, "-");
    }

    #[test]
    fn cutting_respects_columns() {
        assert_eq!(fit("abcdef", 4, "…"), "abc…");
        assert_eq!(fit("多言語", 4, "…"), "多…");
        assert_eq!(fit("abc", 0, "…"), "");
        assert_eq!(fit_end("completions/clipped_ratio", 14, "…"), "…clipped_ratio");
        assert_eq!(fit_end("a/多言語", 4, "…"), "…語");
        assert_eq!(fit_end("no_slash_here", 5, "…"), "no_s…");
    }
}
