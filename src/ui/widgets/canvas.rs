//! A grid of dots finer than the characters: 2 x 4 in braille, 2 x 2 in blocks, 1 x 1 in ASCII.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::{Color, Style},
};

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

/// Dots, the style of each cell, and a shade behind them.
pub struct Canvas {
    glyphs: Glyphs,
    columns: usize,
    rows: usize,
    spots: Vec<Spot>,
    /// For each column of characters the dots, from the top, between which it is shaded.
    shades: Vec<Option<(usize, usize)>>,
}

impl Canvas {
    pub fn new(columns: u16, rows: u16, glyphs: Glyphs) -> Self {
        let (columns, rows) = (usize::from(columns), usize::from(rows));
        Self { glyphs, columns, rows, spots: vec![Spot::default(); columns * rows], shades: vec![None; columns] }
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

    /// Shades a column of dots from `top` down to `bottom`. A shade is as wide as a character: its columns of dots share
    /// the highest top and the lowest bottom, so that the narrowest spike stays visible.
    pub fn shade(&mut self, x: usize, top: usize, bottom: usize) {
        let across = Self::fineness(self.glyphs).0;
        if let Some(shade) = self.shades.get_mut(x / across) {
            let (from, to) = shade.unwrap_or((top, bottom));
            *shade = Some((from.min(top), to.max(bottom)));
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

    /// The first row as text.
    pub fn text(&self) -> String {
        let row = Rect::new(0, 0, self.columns as u16, 1);
        let mut buffer = Buffer::empty(row);
        self.draw(row, &mut buffer, None);
        buffer.content().iter().map(ratatui::buffer::Cell::symbol).collect()
    }

    /// Writes the shade in its colour, then the cells that have dots.
    pub fn draw(&self, area: Rect, buffer: &mut Buffer, shade: Option<Color>) {
        if let Some(color) = shade {
            self.draw_shade(area, buffer, color);
        }
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

    /// The edges of a shade are drawn to a quarter of a character where no dot stands on them.
    fn draw_shade(&self, area: Rect, buffer: &mut Buffer, color: Color) {
        let down = Self::fineness(self.glyphs).1;
        // What is lower than a character is no more than the line before it.
        let shades = self.shades.iter().enumerate().filter_map(|(i, s)| Some((i, (*s)?)));
        for (column, (top, bottom)) in shades.filter(|(_, (top, bottom))| bottom - top >= down) {
            for row in top / down..=(bottom / down).min(self.rows.saturating_sub(1)) {
                let Some(cell) = buffer.cell_mut((area.x + column as u16, area.y + row as u16)) else { continue };
                let (from, to) = (top.max(row * down), (bottom + 1).min((row + 1) * down));
                let quarters = (to.saturating_sub(from) * 4).div_ceil(down);
                let (above, below) = (top < row * down, bottom + 1 > (row + 1) * down);
                let dotted = self.spots.get(row * self.columns + column).is_some_and(|s| s.bits != 0);
                if quarters >= 4 || (quarters >= 2 && (dotted || self.glyphs.ascii())) || (quarters == 3 && above) {
                    cell.set_style(Style::new().bg(color));
                } else if !dotted && !self.glyphs.ascii() {
                    let upper = above || (!below && from % down < down / 2);
                    let symbol = match (upper, quarters) {
                        (true, 2..) => "▀",
                        (true, _) => "▔",
                        (false, 1) => "▂",
                        (false, 2) => "▄",
                        (false, _) => "▆",
                    };
                    cell.set_symbol(symbol).set_style(Style::new().fg(color));
                }
            }
        }
    }
}
