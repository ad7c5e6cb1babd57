//! What is typed: the bytes of a terminal as events. A paste is text and never keys, however large it is, and a
//! terminal that hangs up is noticed.
//!
//! crossterm's own reader keeps all of a paste in memory twice, and waits for ever on a terminal that is gone.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};

use super::probe;
use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A longer paste is cut here; whoever gets it sees by its length that it is not whole.
pub const LONGEST_PASTE: usize = (8 << 20) + 1;
/// An escape byte with nothing after it for so long is the key.
const ALONE: Duration = Duration::from_millis(50);
/// So long at the most until it is noticed that nobody wants keys any more.
const LOOK_UP: Duration = Duration::from_secs(2);
/// A paste that goes on no more, and never ended, ends after so long.
const STALLED: Duration = Duration::from_secs(2);
/// No sequence of a terminal is longer.
const LONGEST_SEQUENCE: usize = 64;
const PASTE_ENDS: &[u8] = b"\x1b[201~";

/// What comes from a terminal.
#[derive(Debug, Default)]
pub struct Heard {
    pub events: Vec<Event>,
    /// The colour of its ground, where it was asked for it.
    pub ground: Option<(u8, u8, u8)>,
}

/// Reads keys from `terminal` until `send` says that nobody wants more. Looks up every two seconds.
///
/// # Errors
/// When the terminal is gone.
pub fn read(terminal: BorrowedFd<'_>, send: &mut dyn FnMut(Heard) -> bool) -> io::Result<()> {
    let mut keys = Keys::default();
    let mut buffer = vec![0; 16 << 10];
    let mut came = Instant::now();
    loop {
        let wait = if keys.held.is_empty() { LOOK_UP } else { ALONE };
        let wait = Timespec { tv_sec: wait.as_secs().cast_signed(), tv_nsec: i64::from(wait.subsec_nanos()) };
        let mut fds = [PollFd::from_borrowed_fd(terminal, PollFlags::IN)];
        let mut events = Vec::new();
        match poll(&mut fds, Some(&wait)) {
            Ok(0) => keys.settle(came.elapsed(), &mut events),
            Ok(_) => match rustix::io::read(terminal, &mut buffer) {
                // A terminal in raw mode has no end of file: there is nobody at the other end any more.
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    came = Instant::now();
                    keys.feed(buffer.get(..n).unwrap_or_default(), &mut events);
                }
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                Err(error) => return Err(error.into()),
            },
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
        if !send(Heard { events, ground: keys.ground.take() }) {
            return Ok(());
        }
    }
}

/// The terminal that keys come from: standard input, or the one that controls this process where that is a pipe.
///
/// # Errors
/// When there is none.
pub fn terminal() -> io::Result<Box<dyn AsFd + Send>> {
    use std::io::IsTerminal;
    if io::stdin().is_terminal() { Ok(Box::new(io::stdin())) } else { Ok(Box::new(std::fs::File::open("/dev/tty")?)) }
}

/// Bytes on their way to be events.
#[derive(Debug, Default)]
pub struct Keys {
    held: Vec<u8>,
    /// The paste that is coming in.
    paste: Option<Vec<u8>>,
    ground: Option<(u8, u8, u8)>,
}

/// What stands at the beginning of some bytes: an event or nothing, and how long it is.
type Parsed = Option<(Option<Event>, usize)>;

impl Keys {
    /// Takes the next bytes; whole events go to `out`.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<Event>) {
        self.held.extend_from_slice(bytes);
        loop {
            if self.paste.is_some() {
                if !self.take_paste(out) {
                    return;
                }
                continue;
            }
            if self.held.starts_with(b"\x1b[200~") {
                self.held.drain(..6);
                self.paste = Some(Vec::new());
                continue;
            }
            if let Some((text, length)) = answer(&self.held) {
                self.ground = std::str::from_utf8(text).ok().and_then(probe::colour).or(self.ground);
                self.held.drain(..length.min(self.held.len()));
                continue;
            }
            match parse(&self.held) {
                Some((event, length)) => {
                    self.held.drain(..length.clamp(1, self.held.len()));
                    out.extend(event);
                }
                None if self.held.len() > LONGEST_SEQUENCE => {
                    self.held.drain(..1);
                }
                None => return,
            }
        }
    }

    /// Nothing came for a while: what is held back is all there is.
    pub fn settle(&mut self, quiet: Duration, out: &mut Vec<Event>) {
        if self.paste.is_some() {
            if quiet >= STALLED {
                self.held.extend_from_slice(PASTE_ENDS);
                self.take_paste(out);
            }
        } else if self.held == b"\x1b" {
            self.held.clear();
            out.push(key(KeyCode::Esc, KeyModifiers::NONE));
        } else if quiet >= ALONE * 4 {
            // The beginning of a sequence whose end got lost.
            self.held.clear();
        }
    }

    /// Moves bytes to the paste. True when it has ended.
    fn take_paste(&mut self, out: &mut Vec<Event>) -> bool {
        let Some(paste) = &mut self.paste else { return true };
        let end = memchr::memmem::find(&self.held, PASTE_ENDS);
        // The end may be cut: its beginning waits for the rest.
        let text = end.unwrap_or(self.held.len().saturating_sub(PASTE_ENDS.len() - 1));
        let room = LONGEST_PASTE.saturating_sub(paste.len());
        paste.extend(self.held.iter().take(text.min(room)));
        self.held.drain(..end.map_or(text, |end| end + PASTE_ENDS.len()));
        if end.is_some() {
            let text = self.paste.take().unwrap_or_default();
            out.push(Event::Paste(String::from_utf8_lossy(&text).into_owned()));
        }
        end.is_some()
    }
}

fn key(code: KeyCode, modifiers: KeyModifiers) -> Event {
    Event::Key(KeyEvent::new(code, modifiers))
}

/// An answer of the terminal (OSC) to a question: its text, and its length with its end. Never a key.
fn answer(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let body = bytes.strip_prefix(b"\x1b]")?;
    let end = body.iter().position(|b| matches!(b, 0x07 | 0x1b))?;
    let (text, rest) = body.split_at(end);
    match rest {
        [0x07, ..] => Some((text, 2 + end + 1)),
        [0x1b, b'\\', ..] => Some((text, 2 + end + 2)),
        [0x1b] => None,
        // Another sequence begins: the answer was cut.
        _ => Some((text, 2 + end)),
    }
}

/// The first event of some bytes. `None`: more must come.
fn parse(bytes: &[u8]) -> Parsed {
    match bytes {
        [] | [0x1b] | [0x1b, b']', ..] => None,
        [0x1b, b'[', rest @ ..] => control_sequence(rest).map(|(event, n)| (event, n + 2)),
        [0x1b, b'O', rest @ ..] => {
            let (last, _) = rest.split_first()?;
            Some((named(*last).map(|code| key(code, KeyModifiers::NONE)), 3))
        }
        [0x1b, 0x1b, ..] => Some((Some(key(KeyCode::Esc, KeyModifiers::NONE)), 1)),
        [0x1b, rest @ ..] => {
            let (event, n) = character(rest)?;
            let event = event.map(|event| match event {
                Event::Key(k) => key(k.code, k.modifiers | KeyModifiers::ALT),
                other => other,
            });
            Some((event, n + 1))
        }
        _ => character(bytes),
    }
}

/// A control character or a letter of any script.
fn character(bytes: &[u8]) -> Parsed {
    let (first, _) = bytes.split_first()?;
    let none = KeyModifiers::NONE;
    let control = |from: u8, to: u8| KeyCode::Char(char::from(first.wrapping_sub(from).wrapping_add(to)));
    let event = match first {
        b'\r' => key(KeyCode::Enter, none),
        b'\t' => key(KeyCode::Tab, none),
        0x7f => key(KeyCode::Backspace, none),
        0 => key(KeyCode::Char(' '), KeyModifiers::CONTROL),
        0x01..=0x1a => key(control(1, b'a'), KeyModifiers::CONTROL),
        0x1c..=0x1f => key(control(0x1c, b'4'), KeyModifiers::CONTROL),
        _ => {
            let length = match first {
                0..0x80 => 1,
                0xc2..0xe0 => 2,
                0xe0..0xf0 => 3,
                0xf0..0xf5 => 4,
                _ => return Some((None, 1)),
            };
            let whole = bytes.get(..length)?;
            let Some(c) = std::str::from_utf8(whole).ok().and_then(|text| text.chars().next()) else {
                return Some((None, 1));
            };
            let shift = if c.is_uppercase() { KeyModifiers::SHIFT } else { none };
            return Some((Some(key(KeyCode::Char(c), shift)), length));
        }
    };
    Some((Some(event), 1))
}

/// Keys that are named by a letter, after `ESC O` or at the end of a control sequence.
fn named(last: u8) -> Option<KeyCode> {
    Some(match last {
        b'A' => KeyCode::Up,
        b'B' => KeyCode::Down,
        b'C' => KeyCode::Right,
        b'D' => KeyCode::Left,
        b'H' => KeyCode::Home,
        b'F' => KeyCode::End,
        b'P' => KeyCode::F(1),
        b'Q' => KeyCode::F(2),
        b'R' => KeyCode::F(3),
        b'S' => KeyCode::F(4),
        b'M' => KeyCode::Enter,
        _ => return None,
    })
}

/// Keys that are named by a number before `~`.
fn numbered(number: u16) -> Option<KeyCode> {
    Some(match number {
        1 | 7 => KeyCode::Home,
        2 => KeyCode::Insert,
        3 => KeyCode::Delete,
        4 | 8 => KeyCode::End,
        5 => KeyCode::PageUp,
        6 => KeyCode::PageDown,
        n @ 11..=15 => KeyCode::F((n - 10) as u8),
        n @ 17..=21 => KeyCode::F((n - 11) as u8),
        n @ 23..=24 => KeyCode::F((n - 12) as u8),
        _ => return None,
    })
}

/// What stands after `ESC [`.
fn control_sequence(bytes: &[u8]) -> Parsed {
    if let [b'[', letter, ..] = bytes {
        // The Linux console's function keys.
        let code = matches!(letter, b'A'..=b'E').then(|| KeyCode::F(letter - b'A' + 1));
        return Some((code.map(|code| key(code, KeyModifiers::NONE)), 2));
    }
    let at = bytes.iter().position(|b| (0x40..=0x7e).contains(b) && *b != b'[')?;
    let (parameters, last) = (bytes.get(..at)?, *bytes.get(at)?);
    let length = at + 1;
    let Ok(text) = std::str::from_utf8(parameters) else { return Some((None, length)) };
    if let Some(numbers) = text.strip_prefix('<') {
        return Some((mouse(numbers, last), length));
    }
    let mut numbers = text.split(';').map(|n| n.split(':').next().unwrap_or_default().parse::<u16>().ok());
    let first = numbers.next().flatten();
    let modifiers = modifiers(numbers.next().flatten().unwrap_or(1));
    let code = match last {
        b'~' => first.and_then(numbered),
        b'Z' => return Some((Some(key(KeyCode::BackTab, KeyModifiers::SHIFT)), length)),
        b'u' => first.and_then(|code| char::from_u32(u32::from(code))).map(|c| match c {
            '\r' => KeyCode::Enter,
            '\t' => KeyCode::Tab,
            '\x1b' => KeyCode::Esc,
            '\x7f' => KeyCode::Backspace,
            c => KeyCode::Char(c),
        }),
        b'M' => None,
        letter => named(letter),
    };
    Some((code.map(|code| key(code, modifiers)), length))
}

/// xterm's encoding: one more than the sum of 1 shift, 2 alt, 4 control.
fn modifiers(number: u16) -> KeyModifiers {
    let bits = number.saturating_sub(1);
    let mut modifiers = KeyModifiers::NONE;
    for (bit, one) in [(1, KeyModifiers::SHIFT), (2, KeyModifiers::ALT), (4, KeyModifiers::CONTROL)] {
        if bits & bit != 0 {
            modifiers |= one;
        }
    }
    modifiers
}

/// A mouse report in SGR encoding: button, column, row, and whether it was released.
fn mouse(numbers: &str, last: u8) -> Option<Event> {
    let mut numbers = numbers.split(';').map(|n| n.parse::<u16>().ok());
    let (code, column, row) = (numbers.next()??, numbers.next()??, numbers.next()??);
    let button = match code & 3 {
        0 => MouseButton::Left,
        1 => MouseButton::Middle,
        _ => MouseButton::Right,
    };
    let kind = match (code & 64 != 0, code & 32 != 0, code & 3) {
        (true, _, 0) => MouseEventKind::ScrollUp,
        (true, _, 1) => MouseEventKind::ScrollDown,
        (true, _, 2) => MouseEventKind::ScrollLeft,
        (true, ..) => MouseEventKind::ScrollRight,
        (false, true, 3) => MouseEventKind::Moved,
        (false, true, _) => MouseEventKind::Drag(button),
        (false, false, _) if last == b'm' => MouseEventKind::Up(button),
        (false, false, 3) => MouseEventKind::Up(MouseButton::Left),
        (false, false, _) => MouseEventKind::Down(button),
    };
    let mut modifiers = KeyModifiers::NONE;
    for (bit, one) in [(4, KeyModifiers::SHIFT), (8, KeyModifiers::ALT), (16, KeyModifiers::CONTROL)] {
        if code & bit != 0 {
            modifiers |= one;
        }
    }
    let (column, row) = (column.saturating_sub(1), row.saturating_sub(1));
    Some(Event::Mouse(MouseEvent { kind, column, row, modifiers }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Vec<Event> {
        let (mut keys, mut out) = (Keys::default(), Vec::new());
        keys.feed(bytes, &mut out);
        keys.settle(ALONE, &mut out);
        out
    }

    #[test]
    fn keys_are_read() {
        let check = |bytes: &[u8], code, modifiers| assert_eq!(read(bytes), [key(code, modifiers)], "{bytes:?}");
        let none = KeyModifiers::NONE;
        check(b"q", KeyCode::Char('q'), none);
        check(b"Q", KeyCode::Char('Q'), KeyModifiers::SHIFT);
        check("é".as_bytes(), KeyCode::Char('é'), none);
        check("語".as_bytes(), KeyCode::Char('語'), none);
        check(b"\r", KeyCode::Enter, none);
        check(b"\t", KeyCode::Tab, none);
        check(b"\x7f", KeyCode::Backspace, none);
        check(b"\x03", KeyCode::Char('c'), KeyModifiers::CONTROL);
        check(b"\x1b", KeyCode::Esc, none);
        check(b"\x1bx", KeyCode::Char('x'), KeyModifiers::ALT);
        check(b"\x1b[A", KeyCode::Up, none);
        check(b"\x1bOB", KeyCode::Down, none);
        check(b"\x1b[1;5C", KeyCode::Right, KeyModifiers::CONTROL);
        check(b"\x1b[5~", KeyCode::PageUp, none);
        check(b"\x1b[3;2~", KeyCode::Delete, KeyModifiers::SHIFT);
        check(b"\x1b[Z", KeyCode::BackTab, KeyModifiers::SHIFT);
        check(b"\x1b[24~", KeyCode::F(12), none);
        check(b"\x1b[[A", KeyCode::F(1), none);
        check(b"\x1b[97;5u", KeyCode::Char('a'), KeyModifiers::CONTROL);
    }

    #[test]
    fn the_ground_is_heard_and_is_no_key() {
        for end in [&b"\x07"[..], b"\x1b\\"] {
            let whole = [b"a\x1b]11;rgb:ffff/f0f0/0000", end, b"b"].concat();
            for cut in 0..whole.len() {
                let (mut keys, mut out) = (Keys::default(), Vec::new());
                keys.feed(&whole[..cut], &mut out);
                keys.feed(&whole[cut..], &mut out);
                let none = KeyModifiers::NONE;
                assert_eq!(out, [key(KeyCode::Char('a'), none), key(KeyCode::Char('b'), none)], "{cut}");
                assert_eq!(keys.ground, Some((0xff, 0xf0, 0)));
            }
        }
        // Cut off, or alt and a bracket: nothing is held back for long.
        let (mut keys, mut out) = (Keys::default(), Vec::new());
        keys.feed(b"\x1b]", &mut out);
        keys.settle(ALONE * 4, &mut out);
        keys.feed(b"q", &mut out);
        assert_eq!(out, [key(KeyCode::Char('q'), KeyModifiers::NONE)]);
    }

    #[test]
    fn the_mouse_is_read() {
        let at = |kind, column, row| Event::Mouse(MouseEvent { kind, column, row, modifiers: KeyModifiers::NONE });
        assert_eq!(read(b"\x1b[<0;5;7M"), [at(MouseEventKind::Down(MouseButton::Left), 4, 6)]);
        assert_eq!(read(b"\x1b[<0;5;7m"), [at(MouseEventKind::Up(MouseButton::Left), 4, 6)]);
        assert_eq!(read(b"\x1b[<64;1;1M"), [at(MouseEventKind::ScrollUp, 0, 0)]);
        assert_eq!(read(b"\x1b[<35;1;2M"), [at(MouseEventKind::Moved, 0, 1)]);
    }

    #[test]
    fn a_paste_is_text_wherever_it_is_cut() {
        let whole = b"a\x1b[200~q quit \x1b[A \xc3\xa9\r\n\x1b[201b\x1b[201~b";
        for cut in 0..whole.len() {
            let (mut keys, mut out) = (Keys::default(), Vec::new());
            keys.feed(&whole[..cut], &mut out);
            keys.feed(&whole[cut..], &mut out);
            let none = KeyModifiers::NONE;
            let text = "q quit \x1b[A é\r\n\x1b[201b".to_string();
            assert_eq!(
                out,
                [key(KeyCode::Char('a'), none), Event::Paste(text), key(KeyCode::Char('b'), none)],
                "{cut}"
            );
        }
    }

    #[test]
    fn a_paste_takes_no_more_memory_than_may_be_pasted() {
        let (mut keys, mut out) = (Keys::default(), Vec::new());
        keys.feed(b"\x1b[200~", &mut out);
        for _ in 0..24 {
            keys.feed(&vec![b'q'; 1 << 20], &mut out);
            assert!(keys.held.len() < 8 && keys.paste.as_ref().unwrap().len() <= LONGEST_PASTE);
        }
        keys.feed(b"\x1b[201~", &mut out);
        assert!(matches!(out.as_slice(), [Event::Paste(text)] if text.len() == LONGEST_PASTE));
    }

    #[test]
    fn a_paste_that_never_ends_ends() {
        let (mut keys, mut out) = (Keys::default(), Vec::new());
        keys.feed(b"\x1b[200~half", &mut out);
        keys.settle(ALONE, &mut out);
        assert!(out.is_empty());
        keys.settle(STALLED, &mut out);
        assert_eq!(out, [Event::Paste("half".into())]);
    }

    #[test]
    fn no_bytes_hold_it_up() {
        let mut seed = 1u64;
        let mut random = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as u8
        };
        let (mut keys, mut out) = (Keys::default(), Vec::new());
        for _ in 0..200_000 {
            let byte = random();
            // Escapes and brackets are what matters.
            let byte = [byte, 0x1b, b'[', b'<', b';', b'2', b'~'][usize::from(random()) % 7];
            keys.feed(&[byte], &mut out);
            assert!(keys.held.len() <= LONGEST_SEQUENCE);
        }
        keys.settle(STALLED, &mut out);
        assert!(keys.held.is_empty() && keys.paste.is_none());
    }
}
