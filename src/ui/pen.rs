//! Cells as bytes for a terminal: as few as it takes. Only what differs from the cell before is said again, of a blank
//! cell only what is seen of it, and where it stands only where the cursor is not there already.
//!
//! The sixteen named colours are spelt in the form that every terminal knows (`31`, `101`), not as entries of a table of
//! 256, which a terminal of eight or sixteen colours never said it has.

use std::io::Write as _;

use ratatui::{
    buffer::Cell,
    style::{Color, Modifier},
};

/// What is seen of a cell without a sign in it.
const SEEN_ON_BLANK: Modifier = Modifier::REVERSED.union(Modifier::UNDERLINED).union(Modifier::CROSSED_OUT);

/// Modifiers, and the codes that set and take them. Two are taken by one code.
const MODIFIERS: [(Modifier, u8, u8); 9] = [
    (Modifier::BOLD, 1, 22),
    (Modifier::DIM, 2, 22),
    (Modifier::ITALIC, 3, 23),
    (Modifier::UNDERLINED, 4, 24),
    (Modifier::SLOW_BLINK, 5, 25),
    (Modifier::RAPID_BLINK, 6, 25),
    (Modifier::REVERSED, 7, 27),
    (Modifier::HIDDEN, 8, 28),
    (Modifier::CROSSED_OUT, 9, 29),
];

/// Where the cursor stands.
#[derive(Clone, Copy, Debug)]
struct Place {
    x: u16,
    y: u16,
    /// Nothing was written since the last absolute move that a terminal might take for wider than it is.
    is_sure: bool,
}

/// How a terminal writes at the moment, as far as it was told.
#[derive(Debug, Default)]
pub struct Pen {
    fg: Color,
    bg: Color,
    modifier: Modifier,
    place: Option<Place>,
}

impl Pen {
    /// Puts cells to `out`, each with its place, in the order of reading.
    pub fn draw<'a>(&mut self, out: &mut Vec<u8>, cells: impl Iterator<Item = (u16, u16, &'a Cell)>) {
        for (x, y, cell) in cells {
            self.go(out, x, y);
            self.dress(out, cell);
            let symbol = cell.symbol();
            out.extend_from_slice(symbol.as_bytes());
            let is_sure = symbol.len() == 1 && self.place.is_some_and(|place| place.is_sure);
            // Behind anything but a single sign the terminal is told where to go on.
            let is_single = symbol.chars().nth(1).is_none() && unicode_width::UnicodeWidthStr::width(symbol) == 1;
            self.place = Some(Place { x: if is_single { x + 1 } else { u16::MAX }, y, is_sure });
        }
    }

    /// Leaves the terminal as it is without a style.
    pub fn rest(&mut self, out: &mut Vec<u8>) {
        if (self.fg, self.bg, self.modifier) != (Color::Reset, Color::Reset, Modifier::empty()) {
            out.extend_from_slice(b"\x1b[m");
        }
        *self = Self::default();
    }

    fn go(&mut self, out: &mut Vec<u8>, x: u16, y: u16) {
        let _ = match self.place {
            Some(at) if (at.x, at.y) == (x, y) => return,
            Some(at) if at.y == y && at.is_sure && at.x + 1 == x => write!(out, "\x1b[C"),
            Some(at) if at.y == y && at.is_sure && at.x < x && x - at.x < 10 => write!(out, "\x1b[{}C", x - at.x),
            Some(at) if at.y == y => write!(out, "\x1b[{}G", x + 1),
            _ => write!(out, "\x1b[{};{}H", y + 1, x + 1),
        };
        self.place = Some(Place { x, y, is_sure: true });
    }

    fn dress(&mut self, out: &mut Vec<u8>, cell: &Cell) {
        let is_blank = cell.symbol() == " ";
        let (mut fg, mut modifier) = (cell.fg, cell.modifier);
        if is_blank && (modifier | self.modifier).intersection(SEEN_ON_BLANK).is_empty() {
            (fg, modifier) = (self.fg, self.modifier);
        }
        let plain = (Color::Reset, Color::Reset, Modifier::empty());
        if (fg, cell.bg, modifier) == (self.fg, self.bg, self.modifier) {
            return;
        }
        if (fg, cell.bg, modifier) == plain {
            out.extend_from_slice(b"\x1b[m");
        } else {
            out.extend_from_slice(b"\x1b[");
            let from = out.len();
            self.change_modifiers(out, modifier);
            if fg != self.fg {
                colour(out, fg, 30);
            }
            if cell.bg != self.bg {
                colour(out, cell.bg, 40);
            }
            // Each code ends in a semicolon; the last one's gives way to the end.
            out.truncate(out.len().saturating_sub(1).max(from));
            out.push(b'm');
        }
        (self.fg, self.bg, self.modifier) = (fg, cell.bg, modifier);
    }

    fn change_modifiers(&self, out: &mut Vec<u8>, to: Modifier) {
        let mut left = self.modifier;
        for (flag, _, take) in MODIFIERS {
            if left.contains(flag) && !to.contains(flag) {
                let _ = write!(out, "{take};");
                // Its code takes others with it.
                for (other, ..) in MODIFIERS.iter().filter(|(_, _, code)| *code == take) {
                    left.remove(*other);
                }
            }
        }
        for (flag, set, _) in MODIFIERS {
            if to.contains(flag) && !left.contains(flag) {
                let _ = write!(out, "{set};");
            }
        }
    }
}

/// A colour's code; `base` is 30 for signs and 40 for their ground.
fn colour(out: &mut Vec<u8>, colour: Color, base: u8) {
    let _ = match colour {
        Color::Reset => write!(out, "{};", base + 9),
        Color::Rgb(r, g, b) => write!(out, "{};2;{r};{g};{b};", base + 8),
        Color::Indexed(n) if n < 8 => write!(out, "{};", base + n),
        Color::Indexed(n) if n < 16 => write!(out, "{};", base + 60 + n - 8),
        Color::Indexed(n) => write!(out, "{};5;{n};", base + 8),
        named => write!(out, "{};", base + named_code(named)),
    };
}

/// What is added to the base for a named colour.
fn named_code(colour: Color) -> u8 {
    match colour {
        Color::Black => 0,
        Color::Red => 1,
        Color::Green => 2,
        Color::Yellow => 3,
        Color::Blue => 4,
        Color::Magenta => 5,
        Color::Cyan => 6,
        Color::Gray => 7,
        Color::DarkGray => 60,
        Color::LightRed => 61,
        Color::LightGreen => 62,
        Color::LightYellow => 63,
        Color::LightBlue => 64,
        Color::LightMagenta => 65,
        Color::LightCyan => 66,
        Color::White => 67,
        Color::Reset | Color::Rgb(..) | Color::Indexed(_) => 9,
    }
}

#[cfg(test)]
mod tests {
    use ratatui::{buffer::Buffer, layout::Rect, style::Style};

    use super::*;

    fn bytes(draw: impl Fn(&mut Buffer)) -> String {
        let before = Buffer::empty(Rect::new(0, 0, 20, 2));
        let mut after = before.clone();
        draw(&mut after);
        let mut out = Vec::new();
        let mut pen = Pen::default();
        pen.draw(&mut out, before.diff(&after).into_iter());
        pen.rest(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn only_what_differs_is_said() {
        let check = |want: &str, draw: &dyn Fn(&mut Buffer)| assert_eq!(bytes(draw), want);
        let plain = Style::new();
        check("", &|_| {});
        check("\x1b[1;3Hab", &|b| b.set_string(2, 0, "ab", plain));
        check("\x1b[1;1Ha\x1b[Cb\x1b[7Cc\x1b[2;1Hd", &|b| {
            b.set_string(0, 0, "a b       c", plain);
            b.set_string(0, 1, "d", plain);
        });
        // Behind what may be wider than it looks the column is said outright.
        check("\x1b[1;1H⣀⣀\x1b[5Gx", &|b| b.set_string(0, 0, "⣀⣀  x", plain));
        check("\x1b[1;1H漢\x1b[3Gx", &|b| b.set_string(0, 0, "漢x", plain));
        let red = Style::new().fg(Color::Red);
        check("\x1b[1;1H\x1b[31ma b\x1b[m", &|b| b.set_string(0, 0, "a b", red));
        check("\x1b[1;1H\x1b[31ma\x1b[44mb\x1b[m", &|b| {
            b.set_string(0, 0, "a", red);
            b.set_string(1, 0, "b", red.bg(Color::Blue));
        });
        check("\x1b[1;1H\x1b[1;2ma\x1b[22;1mb\x1b[mc", &|b| {
            b.set_string(0, 0, "a", plain.add_modifier(Modifier::BOLD | Modifier::DIM));
            b.set_string(1, 0, "b", plain.add_modifier(Modifier::BOLD));
            b.set_string(2, 0, "c", plain);
        });
    }

    #[test]
    fn named_colours_are_spelt_out() {
        let check = |colour, want: &str| {
            let mut out = Vec::new();
            super::colour(&mut out, colour, 30);
            super::colour(&mut out, colour, 40);
            assert_eq!(String::from_utf8(out).unwrap(), want);
        };
        check(Color::Reset, "39;49;");
        check(Color::Red, "31;41;");
        check(Color::Gray, "37;47;");
        check(Color::White, "97;107;");
        check(Color::Indexed(8), "90;100;");
        check(Color::Indexed(1), "31;41;");
        check(Color::Indexed(16), "38;5;16;48;5;16;");
        check(Color::Rgb(1, 2, 3), "38;2;1;2;3;48;2;1;2;3;");
    }

    /// A terminal shows what was drawn, frame after frame.
    #[test]
    fn a_terminal_shows_the_cells() {
        const SIGNS: [&str; 8] = [" ", " ", "a", "Z", "█", "⣀", "│", "é"];
        const COLOURS: [Color; 5] =
            [Color::Reset, Color::Red, Color::Rgb(9, 8, 7), Color::Indexed(200), Color::LightBlue];
        let mut dice = 7_u64;
        let mut roll = |n: usize| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (dice >> 33) as usize % n
        };
        let area = Rect::new(0, 0, 40, 6);
        let mut before = Buffer::empty(area);
        let mut terminal = vt100::Parser::new(6.try_into().unwrap(), 40.try_into().unwrap(), 0);
        let mut pen = Pen::default();
        for _ in 0..200 {
            let mut after = before.clone();
            for _ in 0..roll(60) {
                let style = Style::new().fg(COLOURS[roll(5)]).bg(COLOURS[roll(5)]);
                let marks =
                    [Modifier::empty(), Modifier::BOLD, Modifier::REVERSED, Modifier::UNDERLINED | Modifier::DIM];
                let style = style.remove_modifier(Modifier::all()).add_modifier(marks[roll(4)]);
                let (x, y) = (roll(38) as u16, roll(6) as u16);
                after.set_string(x, y, SIGNS[roll(8)].repeat(1 + roll(3)), style);
            }
            let mut out = Vec::new();
            pen.draw(&mut out, before.diff(&after).into_iter());
            pen.rest(&mut out);
            terminal.process(&out);
            for (y, x) in (0..6).flat_map(|y| (0..40).map(move |x| (y, x))) {
                let (want, seen) = (&after[(x, y)], terminal.screen().cell(y, x).unwrap());
                if seen.is_wide_continuation() {
                    continue;
                }
                let sign = if seen.contents().is_empty() { " " } else { seen.contents() };
                assert_eq!(sign, want.symbol(), "{x},{y}");
                assert_eq!(seen.bgcolor(), of(want.bg), "{x},{y}");
                assert_eq!(seen.inverse(), want.modifier.contains(Modifier::REVERSED));
                assert_eq!(seen.underline(), want.modifier.contains(Modifier::UNDERLINED));
                if sign != " " || seen.inverse() || seen.underline() {
                    assert_eq!(seen.fgcolor(), of(want.fg), "{x},{y}: {want:?}");
                    assert_eq!(seen.bold(), want.modifier.contains(Modifier::BOLD));
                }
            }
            before = after;
        }
    }

    fn of(colour: Color) -> vt100::Color {
        match colour {
            Color::Reset => vt100::Color::Default,
            Color::Red => vt100::Color::Idx(1),
            Color::LightBlue => vt100::Color::Idx(12),
            Color::Indexed(n) => vt100::Color::Idx(n),
            Color::Rgb(r, g, b) => vt100::Color::Rgb(r, g, b),
            other => panic!("{other:?} is not among those that are drawn"),
        }
    }
}
