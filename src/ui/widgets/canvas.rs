//! A grid of dots finer than the characters: 2 x 4 in braille, 2 x 2 in blocks, 1 x 1 in ASCII.

use ratatui::{buffer::Buffer, layout::Rect, style::Style};

use crate::ui::theme::Glyphs;

/// Quadrants by bit: upper left 1, upper right 2, lower left 4, lower right 8.
const QUADRANTS: [&str; 16] = [" ", "▘", "▝", "▀", "▖", "▌", "▞", "▛", "▗", "▚", "▐", "▜", "▄", "▙", "▟", "█"];

/// Levels of dots: what lies over what. Spreads and rules lie behind everything.
pub const BEHIND: u8 = 1;
/// The ground under a filled line, and marks: they show through.
pub const GROUND: u8 = 2;
/// A line behind another.
pub const FADED: u8 = 3;
pub const LINE: u8 = 4;

#[derive(Clone, Copy, Default)]
struct Spot {
    bits: u8,
    /// Of several lines in one cell the highest level gives the style.
    level: u8,
    style: Style,
}

/// Dots, and the style of each cell.
pub struct Canvas {
    glyphs: Glyphs,
    columns: usize,
    rows: usize,
    spots: Vec<Spot>,
}

impl Canvas {
    pub fn new(columns: u16, rows: u16, glyphs: Glyphs) -> Self {
        let (columns, rows) = (usize::from(columns), usize::from(rows));
        Self { glyphs, columns, rows, spots: vec![Spot::default(); columns * rows] }
    }

    /// Dots of one character: across, down.
    pub fn fineness(glyphs: Glyphs) -> (usize, usize) {
        match glyphs {
            Glyphs::Braille => (2, 4),
            Glyphs::Block => (2, 2),
            Glyphs::Ascii => (1, 1),
        }
    }

    /// Dots across.
    pub fn width(&self) -> usize {
        self.columns * Self::fineness(self.glyphs).0
    }

    /// Dots down.
    pub fn height(&self) -> usize {
        self.rows * Self::fineness(self.glyphs).1
    }

    /// Sets one dot; a dot outside is left out.
    pub fn dot(&mut self, x: usize, y: usize, style: Style, level: u8) {
        let (across, down) = Self::fineness(self.glyphs);
        if x >= self.width() || y >= self.height() {
            return;
        }
        let bit = match self.glyphs {
            Glyphs::Braille => [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]][y % 4][x % 2],
            Glyphs::Block => 1 << ((y % 2) * 2 + x % 2),
            Glyphs::Ascii => 1,
        };
        let spot = &mut self.spots[(y / down) * self.columns + x / across];
        // A line keeps its cell to itself: dots of what lies behind it would only make it thick.
        let soft = |level: u8| level == BEHIND || level == FADED;
        if level > spot.level && (soft(spot.level) || self.glyphs == Glyphs::Ascii) {
            spot.bits = 0;
        } else if level < spot.level && soft(level) {
            return;
        }
        spot.bits |= bit;
        if level >= spot.level {
            spot.level = level;
            spot.style = style;
        }
    }

    /// Dots from `a` to `b` in one column.
    pub fn column(&mut self, x: usize, a: usize, b: usize, style: Style, level: u8) {
        for y in a.min(b)..=a.max(b) {
            self.dot(x, y, style, level);
        }
    }

    /// A straight line.
    pub fn line(&mut self, from: (usize, usize), to: (usize, usize), style: Style, level: u8) {
        let (x0, y0, x1, y1) = (from.0 as i64, from.1 as i64, to.0 as i64, to.1 as i64);
        let steps = (x1 - x0).abs().max((y1 - y0).abs()).max(1);
        for i in 0..=steps {
            let along = |a: i64, b: i64| (a * (steps - i) + b * i + steps / 2).div_euclid(steps);
            self.dot(along(x0, x1).max(0) as usize, along(y0, y1).max(0) as usize, style, level);
        }
    }

    /// Writes the cells that have dots.
    pub fn draw(&self, area: Rect, buffer: &mut Buffer) {
        for (i, spot) in self.spots.iter().enumerate().filter(|(_, s)| s.bits != 0) {
            let x = area.x + (i % self.columns) as u16;
            let y = area.y + (i / self.columns) as u16;
            let Some(cell) = buffer.cell_mut((x, y)) else { continue };
            match self.glyphs {
                Glyphs::Braille => {
                    cell.set_char(char::from_u32(0x2800 + u32::from(spot.bits)).unwrap_or(' '));
                }
                Glyphs::Block => {
                    cell.set_symbol(QUADRANTS[usize::from(spot.bits & 15)]);
                }
                Glyphs::Ascii => {
                    cell.set_symbol(match spot.level {
                        BEHIND | FADED => ".",
                        GROUND => ":",
                        _ => "*",
                    });
                }
            }
            cell.set_style(spot.style);
        }
    }
}
