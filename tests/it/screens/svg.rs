//! A screen as an SVG picture. Lines, blocks and braille are drawn as shapes, so that a picture looks the same with every
//! font; words stand in runs that are stretched to their cells.

use std::{collections::BTreeMap, fmt::Write};

use ratatui::{
    buffer::{Buffer, Cell},
    style::{Color, Modifier},
};
use unicode_width::UnicodeWidthStr;

/// A cell's size, and the frame around all of them.
const WIDTH: f64 = 8.4;
const HEIGHT: f64 = 18.0;
const MARGIN: f64 = 14.0;
const BAR: f64 = 30.0;
/// Where a bar begins in its row, and how high it is, in parts of the row.
const BAR_TOP: f64 = 0.13;
const BAR_HEIGHT: f64 = 0.74;
const FONT: &str = "ui-monospace,'JetBrains Mono','SF Mono',Menlo,Consolas,'DejaVu Sans Mono',monospace";

/// The colours of a terminal: its text and its ground.
pub struct Terminal {
    pub text: &'static str,
    pub ground: &'static str,
    pub edge: &'static str,
}

pub const DARK: Terminal = Terminal { text: "#d8dee9", ground: "#10151f", edge: "#2a3446" };
pub const LIGHT: Terminal = Terminal { text: "#1b2430", ground: "#fbfcfe", edge: "#cfd6e1" };

/// Shapes of one colour.
#[derive(Default)]
struct Shapes {
    filled: String,
    lines: String,
}

pub fn draw(buffer: &Buffer, title: &str, terminal: &Terminal) -> String {
    let (columns, rows) = (f64::from(buffer.area.width), f64::from(buffer.area.height));
    let (width, height) = (columns * WIDTH + 2.0 * MARGIN, rows * HEIGHT + BAR + MARGIN);
    let mut out = String::new();
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"{FONT}\" font-size=\"14\">\n\
         <title>{}</title>\n\
         <rect x=\".5\" y=\".5\" width=\"{:.0}\" height=\"{:.0}\" rx=\"9\" fill=\"{}\" stroke=\"{}\"/>",
        escape(title),
        width - 1.0,
        height - 1.0,
        terminal.ground,
        terminal.edge,
    );
    for (n, colour) in ["#ff5f57", "#febc2e", "#28c840"].iter().enumerate() {
        let _ = writeln!(out, "<circle cx=\"{}\" cy=\"15\" r=\"5\" fill=\"{colour}\"/>", 18 + n * 18);
    }
    let mut grounds = String::new();
    let mut shapes: BTreeMap<String, Shapes> = BTreeMap::new();
    let mut words = String::new();
    for y in 0..buffer.area.height {
        let mut x = 0;
        while x < buffer.area.width {
            let cell = &buffer[(x, y)];
            let colours = Colours::of(cell, terminal);
            let wide = (cell.symbol().width() as u16).max(1);
            let place = Place { x: MARGIN + f64::from(x) * WIDTH, y: BAR + f64::from(y) * HEIGHT };
            if let Some(ground) = &colours.ground {
                let run = run(buffer, x, y, |c| Colours::of(c, terminal).ground.as_ref() == Some(ground));
                // The first cell of a run paints it whole.
                if x == 0 || Colours::of(&buffer[(x - 1, y)], terminal).ground.as_ref() != Some(ground) {
                    let w = f64::from(run) * WIDTH;
                    let _ = writeln!(
                        grounds,
                        "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{w:.1}\" height=\"{HEIGHT}\" fill=\"{ground}\"/>",
                        place.x, place.y
                    );
                }
            }
            let shape = shapes.entry(colours.text.clone()).or_default();
            if cell.symbol() == " " || place.draw(cell.symbol(), shape) {
                x += wide;
                continue;
            }
            let same = |c: &Cell| {
                Colours::of(c, terminal).text == colours.text
                    && c.modifier == cell.modifier
                    && c.symbol() != " "
                    && !Place { x: 0.0, y: 0.0 }.draw(c.symbol(), &mut Shapes::default())
                    && c.symbol().width() == 1
            };
            let length = if wide == 1 { run(buffer, x, y, same).max(1) } else { wide };
            let text: String = (x..x + if wide == 1 { length } else { 1 }).map(|x| buffer[(x, y)].symbol()).collect();
            let bold = if cell.modifier.contains(Modifier::BOLD) { " font-weight=\"600\"" } else { "" };
            let _ = writeln!(
                words,
                "<text x=\"{:.1}\" y=\"{:.1}\" textLength=\"{:.1}\" lengthAdjust=\"spacingAndGlyphs\" fill=\"{}\"{bold}>{}</text>",
                place.x,
                place.y + 13.5,
                f64::from(length) * WIDTH,
                colours.text,
                escape(&text),
            );
            x += length;
        }
    }
    out.push_str(&grounds);
    for (colour, Shapes { filled, lines }) in &shapes {
        if !filled.is_empty() {
            let _ = writeln!(out, "<path fill=\"{colour}\" d=\"{filled}\"/>");
        }
        if !lines.is_empty() {
            let _ = writeln!(out, "<path fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.2\" d=\"{lines}\"/>");
        }
    }
    out.push_str(&words);
    out.push_str("</svg>\n");
    out
}

/// Cells from here on, on one row, that are alike.
fn run(buffer: &Buffer, x: u16, y: u16, is_alike: impl Fn(&Cell) -> bool) -> u16 {
    (x..buffer.area.width).take_while(|x| is_alike(&buffer[(*x, y)])).count() as u16
}

struct Colours {
    text: String,
    ground: Option<String>,
}

impl Colours {
    fn of(cell: &Cell, terminal: &Terminal) -> Self {
        let text = colour(cell.fg).unwrap_or_else(|| terminal.text.to_string());
        let ground = colour(cell.bg);
        if cell.modifier.contains(Modifier::REVERSED) {
            return Self { text: ground.unwrap_or_else(|| terminal.ground.to_string()), ground: Some(text) };
        }
        Self { text, ground }
    }
}

fn colour(colour: Color) -> Option<String> {
    match colour {
        Color::Rgb(r, g, b) => Some(format!("#{r:02x}{g:02x}{b:02x}")),
        _ => None,
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[derive(Clone, Copy)]
struct Place {
    x: f64,
    y: f64,
}

impl Place {
    /// Draws a character as shapes. False: it is a letter.
    fn draw(self, symbol: &str, shapes: &mut Shapes) -> bool {
        let mut characters = symbol.chars();
        let (Some(c), None) = (characters.next(), characters.next()) else { return false };
        let mut part = |x: f64, y: f64, w: f64, h: f64| {
            let _ = write!(
                shapes.filled,
                "M{:.1} {:.1}h{:.1}v{:.1}h-{:.1}z",
                self.x + x * WIDTH,
                self.y + y * HEIGHT,
                w * WIDTH,
                h * HEIGHT,
                w * WIDTH
            );
        };
        match c {
            '\u{2800}'..='\u{28ff}' => {
                let dots = u32::from(c) - 0x2800;
                // Dots 1 to 3 and 7 stand left, 4 to 6 and 8 right.
                for (bit, column, row) in
                    [(0, 0, 0), (1, 0, 1), (2, 0, 2), (3, 1, 0), (4, 1, 1), (5, 1, 2), (6, 0, 3), (7, 1, 3)]
                {
                    if dots & (1 << bit) != 0 {
                        part(0.13 + 0.5 * f64::from(column), 0.07 + 0.25 * f64::from(row), 0.26, 0.12);
                    }
                }
            }
            // Bars, a little lower than their rows, so that one is told from the next.
            '█' => part(0.0, BAR_TOP, 1.02, BAR_HEIGHT),
            '▉'..='▏' => part(0.0, BAR_TOP, f64::from(8 - (u32::from(c) - u32::from('█'))) / 8.0, BAR_HEIGHT),
            '▁'..='▇' => {
                let eighths = f64::from(u32::from(c) - u32::from('▁') + 1) / 8.0;
                part(0.0, 1.0 - eighths, 1.02, eighths);
            }
            '▀' => part(0.0, 0.0, 1.02, 0.5),
            '■' => part(0.15, 0.3, 0.7, 0.36),
            // Shades as stripes, the denser the darker.
            '░' | '▒' | '▓' => {
                let stripes = match c {
                    '░' => 3,
                    '▒' => 5,
                    _ => 8,
                };
                for n in 0..stripes {
                    part(0.0, BAR_TOP + BAR_HEIGHT * (f64::from(n) + 0.3) / f64::from(stripes), 1.02, 0.06);
                }
            }
            '·' => part(0.4, 0.46, 0.2, 0.1),
            '━' => part(0.0, 0.44, 1.02, 0.12),
            '╸' => part(0.0, 0.44, 0.5, 0.12),
            _ => return self.line(c, &mut shapes.lines),
        }
        true
    }

    /// Box drawing: where a line goes from the middle of the cell.
    fn line(self, c: char, lines: &mut String) -> bool {
        let (left, right) = (self.x, self.x + WIDTH);
        let (top, bottom) = (self.y, self.y + HEIGHT);
        let (x, y) = (self.x + WIDTH / 2.0, self.y + HEIGHT / 2.0);
        let round = 4.0;
        let _ = match c {
            '─' => write!(lines, "M{left:.1} {y:.1}H{right:.1}"),
            '│' => write!(lines, "M{x:.1} {top:.1}V{bottom:.1}"),
            '╷' => write!(lines, "M{x:.1} {y:.1}V{bottom:.1}"),
            '┤' => write!(lines, "M{x:.1} {top:.1}V{bottom:.1}M{left:.1} {y:.1}H{x:.1}"),
            '├' => write!(lines, "M{x:.1} {top:.1}V{bottom:.1}M{x:.1} {y:.1}H{right:.1}"),
            '└' => write!(lines, "M{x:.1} {top:.1}V{y:.1}H{right:.1}"),
            '╱' => write!(lines, "M{left:.1} {bottom:.1}L{right:.1} {top:.1}"),
            '╭' => {
                write!(lines, "M{x:.1} {bottom:.1}V{:.1}Q{x:.1} {y:.1} {:.1} {y:.1}H{right:.1}", y + round, x + round)
            }
            '╮' => {
                write!(lines, "M{x:.1} {bottom:.1}V{:.1}Q{x:.1} {y:.1} {:.1} {y:.1}H{left:.1}", y + round, x - round)
            }
            '╰' => {
                write!(lines, "M{x:.1} {top:.1}V{:.1}Q{x:.1} {y:.1} {:.1} {y:.1}H{right:.1}", y - round, x + round)
            }
            '╯' => write!(lines, "M{x:.1} {top:.1}V{:.1}Q{x:.1} {y:.1} {:.1} {y:.1}H{left:.1}", y - round, x - round),
            _ => return false,
        };
        true
    }
}
