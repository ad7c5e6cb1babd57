//! Colours of log lines, made anew from the SGR sequences that the trainer printed; no sequence is ever passed on.

/// A colour that a trainer asked for. The theme decides what it looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Ink {
    #[default]
    Plain,
    Black,
    Red,
    Green,
    Yellow,
    Blue,
    Magenta,
    Cyan,
    White,
}

/// Text without its control sequences, and from which byte of it each colour holds.
#[derive(Debug, Default)]
pub struct Inked {
    pub text: Vec<u8>,
    pub inks: Vec<(u32, Ink)>,
}

/// Drops CSI, OSC, DCS, APC, PM and SOS sequences and lone escapes; keeps the foreground colours (ECMA-48).
pub fn read(raw: &[u8]) -> Inked {
    let mut out = Inked { text: Vec::with_capacity(raw.len()), inks: Vec::new() };
    let mut at = 0;
    while let Some(escape) = memchr::memchr(0x1b, &raw[at..]) {
        out.text.extend_from_slice(&raw[at..at + escape]);
        at += escape + 1;
        match raw.get(at) {
            Some(b'[') => {
                let body = &raw[at + 1..];
                let end = body.iter().position(|b| (0x40..=0x7e).contains(b));
                if let Some(end) = end.filter(|e| body[*e] == b'm') {
                    let ink = colour(&body[..end], out.inks.last().map(|(_, ink)| *ink).unwrap_or_default());
                    let place = u32::try_from(out.text.len()).unwrap_or(u32::MAX);
                    if out.inks.last().map(|(_, last)| *last).unwrap_or_default() != ink {
                        out.inks.push((place, ink));
                    }
                }
                at = end.map_or(raw.len(), |end| at + 1 + end + 1);
            }
            Some(b']' | b'P' | b'X' | b'^' | b'_') => {
                // Ends with BEL or ESC \.
                let body = &raw[at + 1..];
                let end = body.iter().position(|b| *b == 0x07 || *b == 0x1b);
                at = match end {
                    Some(end) if body[end] == 0x1b => (at + 1 + end + 2).min(raw.len()),
                    Some(end) => at + 1 + end + 1,
                    None => raw.len(),
                };
            }
            // Two bytes: charset shifts and the like take one more.
            Some(b'(' | b')' | b'*' | b'+' | b'#' | b'%') => at = (at + 2).min(raw.len()),
            Some(_) => at += 1,
            None => {}
        }
    }
    out.text.extend_from_slice(&raw[at..]);
    out
}

/// The foreground after an SGR sequence.
fn colour(parameters: &[u8], before: Ink) -> Ink {
    let mut ink = before;
    let mut numbers = parameters.split(|b| *b == b';' || *b == b':');
    while let Some(number) = numbers.next() {
        let number = std::str::from_utf8(number).unwrap_or_default();
        ink = match number.parse::<u16>().unwrap_or(0) {
            0 | 39 => Ink::Plain,
            30 | 90 => Ink::Black,
            31 | 91 => Ink::Red,
            32 | 92 => Ink::Green,
            33 | 93 => Ink::Yellow,
            34 | 94 => Ink::Blue,
            35 | 95 => Ink::Magenta,
            36 | 96 => Ink::Cyan,
            37 | 97 => Ink::White,
            // 256 colours and true colour: their numbers are no colours of the sixteen.
            38 | 48 | 58 => {
                match numbers.next() {
                    Some(b"5") => drop(numbers.next()),
                    Some(b"2") => drop(numbers.nth(2)),
                    _ => {}
                }
                ink
            }
            _ => ink,
        };
    }
    ink
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(raw: &str, text: &str, inks: &[(u32, Ink)]) {
        let read = read(raw.as_bytes());
        assert_eq!(String::from_utf8_lossy(&read.text), text, "{raw:?}");
        assert_eq!(read.inks, inks, "{raw:?}");
    }

    #[test]
    fn colours_are_kept_and_sequences_go() {
        check("plain", "plain", &[]);
        check("\x1b[31mred\x1b[0m x", "red x", &[(0, Ink::Red), (3, Ink::Plain)]);
        check("loss: \x1b[1;32m6.1\x1b[m", "loss: 6.1", &[(6, Ink::Green), (9, Ink::Plain)]);
        check("\x1b[38;5;31mx", "x", &[]);
        check("\x1b[38;2;1;2;31mx", "x", &[]);
        check("\x1b]0;title\x07a\x1b]8;;http://x\x1b\\b", "ab", &[]);
        check("\x1bP1;2qpayload\x1b\\end", "end", &[]);
        check("cut \x1b[3", "cut ", &[]);
        check("cut \x1b", "cut ", &[]);
        check("a\x1b(Bb", "ab", &[]);
        check("\x1b[Aup\x1b[K", "up", &[]);
    }

    #[test]
    fn no_bytes_panic_it_and_no_escape_stays() {
        for first in 0..=255u8 {
            for second in [0, b'[', b']', b'm', 0x1b, 0xff] {
                let raw = [0x1b, first, second, b'3', b'1', b'm', 0x1b, second];
                assert!(!read(&raw).text.contains(&0x1b));
            }
        }
    }
}
