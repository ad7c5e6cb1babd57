//! Asks the terminal what it can do, with questions that a terminal answers or passes over, the last of which every
//! terminal answers (DA1). What comes back is as untrusted as a log.

use std::{
    io::{self, IsTerminal, Write},
    os::fd::AsFd,
    time::{Duration, Instant},
};

use ratatui::crossterm::terminal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::keys;
use crate::model::Clean;

/// One character of each set that the screen is drawn with.
pub const SAMPLES: [char; 4] = ['─', '█', '⣿', '✖'];
/// Longest answer that is read.
const LONGEST: usize = 16 << 10;

/// What the terminal answered; `None`: it passed the question over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// Whether it answered anything at all.
    pub answered: bool,
    /// Its name and version.
    pub name: Option<Clean>,
    /// Whole frames at once (mode 2026).
    pub synchronised: Option<bool>,
    /// Whether a colour of 24 bits is kept as one.
    pub true_colour: Option<bool>,
    /// Whether it says that programs may set the clipboard (OSC 52).
    pub clipboard: Option<bool>,
    /// Red, green and blue of its ground.
    pub ground: Option<(u8, u8, u8)>,
    /// Columns that each of [`SAMPLES`] takes.
    pub widths: Vec<u16>,
}

/// Asks, and waits `patience` long at the most. `None`: there is nobody to ask, as input or output is no terminal, or one
/// that cannot move its cursor.
///
/// # Errors
/// When the terminal fails.
pub fn ask(patience: Duration) -> io::Result<Option<Answers>> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() || super::is_dumb() {
        return Ok(None);
    }
    let typed_on = keys::terminal()?;
    terminal::enable_raw_mode()?;
    let guard = Raw;
    let mut out = io::stdout().lock();
    let plain = std::env::var("TERM").is_ok_and(|term| term == "linux" || term.starts_with("vt"));
    out.write_all(questions(plain).as_bytes())?;
    out.flush()?;
    let start = Instant::now();
    let mut said = Vec::new();
    let mut buffer = [0; 1024];
    while !is_complete(&said) && said.len() < LONGEST {
        let left = patience.saturating_sub(start.elapsed());
        if left.is_zero() {
            break;
        }
        let wait = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        let mut fds = [PollFd::from_borrowed_fd(typed_on.as_fd(), PollFlags::IN)];
        match poll(&mut fds, Some(&wait)) {
            Ok(0) => break,
            Ok(_) => match rustix::io::read(typed_on.as_fd(), &mut buffer) {
                Ok(0) => break,
                Ok(n) => said.extend_from_slice(buffer.get(..n).unwrap_or_default()),
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                Err(error) => return Err(error.into()),
            },
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // Whatever a terminal that did not understand has printed goes.
    out.write_all(b"\r\x1b[0m\x1b[K")?;
    out.flush()?;
    drop(guard);
    Ok(Some(understand(&said)))
}

struct Raw;

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = terminal::disable_raw_mode();
    }
}

/// Everything that is asked. `plain`: a terminal that prints control strings instead of passing them over.
fn questions(plain: bool) -> String {
    let mut all = String::new();
    for sample in SAMPLES {
        all.push('\r');
        all.push(sample);
        all.push_str("\x1b[6n");
    }
    all.push_str("\r\x1b[K");
    if !plain {
        // The name; a colour and how it was kept (DECRQSS); the ground; the entry for the clipboard (XTGETTCAP Ms).
        all.push_str("\x1b[>0q\x1b[48;2;1;2;3m\x1bP$qm\x1b\\\x1b[0m\x1b]11;?\x1b\\\x1bP+q4d73\x1b\\");
        all.push_str("\x1b[?2026$p");
    }
    all.push_str("\x1b[c");
    all
}

/// Parts of an answer: what stands between an introducer and its end.
#[derive(Debug, PartialEq, Eq)]
enum Part<'a> {
    /// Parameters and the final byte.
    Control(&'a str, u8),
    Device(&'a str),
    System(&'a str),
}

fn parts(said: &[u8]) -> Vec<Part<'_>> {
    let mut all = Vec::new();
    let mut rest = said;
    while let Some(start) = memchr::memchr(0x1b, rest) {
        rest = rest.get(start + 1..).unwrap_or_default();
        let Some((kind, body)) = rest.split_first() else { break };
        match kind {
            b'[' => {
                let Some(end) = body.iter().position(|b| (0x40..=0x7e).contains(b)) else { break };
                let (parameters, after) = body.split_at(end);
                if let (Ok(parameters), Some(last)) = (std::str::from_utf8(parameters), after.first()) {
                    all.push(Part::Control(parameters, *last));
                }
                rest = after;
            }
            b'P' | b']' => {
                let Some(end) = body.iter().position(|b| *b == 0x1b || *b == 7) else { break };
                let (text, after) = body.split_at(end);
                if let Ok(text) = std::str::from_utf8(text) {
                    all.push(if *kind == b'P' { Part::Device(text) } else { Part::System(text) });
                }
                rest = after;
            }
            _ => {}
        }
    }
    all
}

fn is_complete(said: &[u8]) -> bool {
    parts(said).iter().any(|part| matches!(part, Part::Control(parameters, b'c') if parameters.starts_with('?')))
}

/// What the answers say.
fn understand(said: &[u8]) -> Answers {
    let mut known = Answers::default();
    for part in parts(said) {
        match part {
            Part::Control(place, b'R') => {
                let column = place.split_once(';').and_then(|(_, column)| column.parse::<u16>().ok());
                known.widths.extend(column.map(|column| column.saturating_sub(1)));
            }
            Part::Control(mode, b'y') => {
                if let Some(state) = mode.strip_prefix("?2026;").and_then(|m| m.strip_suffix('$')) {
                    known.synchronised = Some(matches!(state, "1" | "2" | "3"));
                }
            }
            Part::Control(abilities, b'c') if abilities.starts_with('?') => {
                if abilities.get(1..).unwrap_or_default().split(';').any(|n| n == "52") {
                    known.clipboard = Some(true);
                }
            }
            Part::Device(text) => {
                if let Some(name) = text.strip_prefix(">|") {
                    known.name = Some(Clean::new(&name.chars().take(80).collect::<String>()));
                } else if let Some(style) = text.strip_prefix("1$r") {
                    // 48:2::1:2:3, 48:2:1:2:3 and 48;2;1;2;3 are all in use.
                    let numbers: Vec<&str> = style.split([':', ';', 'm']).filter(|n| !n.is_empty()).collect();
                    known.true_colour = Some(numbers.windows(5).any(|n| n == ["48", "2", "1", "2", "3"]));
                } else if text.to_ascii_lowercase().starts_with("1+r4d73") {
                    known.clipboard = Some(true);
                }
            }
            Part::System(text) => known.ground = known.ground.or_else(|| colour(text)),
            Part::Control(..) => {}
        }
        known.answered = true;
    }
    known
}

/// What asks for the ground alone: nothing is printed by a terminal that does not know it.
pub const GROUND: &str = "\x1b]11;?\x1b\\";

/// Whether a ground is a light one, as an eye weighs its colours (ITU-R BT.601).
pub fn is_light((red, green, blue): (u8, u8, u8)) -> bool {
    299 * u32::from(red) + 587 * u32::from(green) + 114 * u32::from(blue) > 127_500
}

/// `11;rgb:1c1c/1c1c/1c1c`
pub(super) fn colour(text: &str) -> Option<(u8, u8, u8)> {
    let mut parts = text.strip_prefix("11;rgb:")?.split('/').map(|part| {
        // Two to four digits: the first two say enough.
        u8::from_str_radix(part.get(..2)?, 16).ok()
    });
    Some((parts.next()??, parts.next()??, parts.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_understood() {
        let said = "\x1b[1;2R\x1b[1;2R\x1b[1;2R\x1b[1;3R\x1bP>|kitty(0.40.0)\x1b\\\x1bP1$r0;48:2:1:2:3m\x1b\\\
                    \x1b]11;rgb:1c1c/2020/ffff\x1b\\\x1bP1+r4d73=5c\x1b\\\x1b[?2026;2$y\x1b[?62;52;c";
        let known = understand(said.as_bytes());
        assert_eq!(known.widths, [1, 1, 1, 2]);
        assert_eq!(known.name.unwrap().as_str(), "kitty(0.40.0)");
        assert_eq!((known.synchronised, known.true_colour, known.clipboard), (Some(true), Some(true), Some(true)));
        assert_eq!(known.ground, Some((0x1c, 0x20, 0xff)));
        assert!(is_complete(said.as_bytes()));
    }

    #[test]
    fn what_is_passed_over_is_unknown() {
        let known = understand(b"\x1b[?2026;0$y\x1b[?1;2c");
        assert_eq!((known.synchronised, known.true_colour, known.clipboard), (Some(false), None, None));
        assert!(known.answered);
        assert_eq!(understand(b""), Answers::default());
        assert!(!is_complete(b"\x1b[?1;2"));
    }

    #[test]
    fn a_hostile_terminal_is_only_a_text() {
        let known = understand(b"\x1bP>|\xc2\x9b31mevil\x1b[;R\x1b]11;rgb:zz/zz/zz\x07\x1b[99999999;99999999R\x1bP");
        assert_eq!(known.name.unwrap().as_str(), "\\u{9b}31mevil");
        assert_eq!((known.ground, known.widths), (None, vec![]));
        for cut in 0..20 {
            understand(&b"\x1b[1;2R\x1bP1$r\x1b\\\x1b]11;rgb:1/1"[..cut]);
        }
    }
}
