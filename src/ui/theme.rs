//! Colours by role, and the characters that this terminal can show. Never knows a widget.

use ratatui::{
    style::{Color, Modifier, Style},
    symbols::border,
};
use serde::{Deserialize, Serialize};

/// The themes that come with the program; a test compares the list with the folder.
pub const BUILT_IN: &[(&str, &str)] = &[
    ("dark", include_str!("../../themes/dark.toml")),
    ("light", include_str!("../../themes/light.toml")),
    ("high-contrast", include_str!("../../themes/high-contrast.toml")),
    ("colour-blind", include_str!("../../themes/colour-blind.toml")),
    ("sixteen", include_str!("../../themes/sixteen.toml")),
    ("mono", include_str!("../../themes/mono.toml")),
];

/// How many colours the terminal shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    None,
    Sixteen,
    Indexed,
    True,
}

impl Depth {
    /// Reads `NO_COLOR`, `TERM` and `COLORTERM` through `env`.
    pub fn detect(env: &dyn Fn(&str) -> Option<String>) -> Self {
        if env("NO_COLOR").is_some_and(|v| !v.is_empty()) {
            return Self::None;
        }
        let term = env("TERM").unwrap_or_default();
        let deep = env("COLORTERM").is_some_and(|v| v == "truecolor" || v == "24bit");
        match term.as_str() {
            "" | "dumb" | "vt100" | "vt220" => Self::None,
            _ if deep || term.contains("direct") || term.contains("truecolor") => Self::True,
            _ if term.contains("256") || term.contains("kitty") || term.contains("ghostty") => Self::Indexed,
            _ => Self::Sixteen,
        }
    }
}

/// Which characters the terminal can be trusted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Glyphs {
    Braille,
    Block,
    Ascii,
}

impl Glyphs {
    /// Unicode where the locale says UTF-8, else ASCII.
    pub fn detect(env: &dyn Fn(&str) -> Option<String>) -> Self {
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(env).find(|v| !v.is_empty());
        let utf8 = locale.is_some_and(|v| {
            let v = v.to_ascii_lowercase();
            v.contains("utf-8") || v.contains("utf8")
        });
        match env("TERM").as_deref() {
            _ if !utf8 => Self::Ascii,
            Some("linux") => Self::Block,
            _ => Self::Braille,
        }
    }

    /// The set that comes after this one when the user asks for another.
    #[must_use]
    pub fn next(self) -> Self {
        match self {
            Self::Braille => Self::Block,
            Self::Block => Self::Ascii,
            Self::Ascii => Self::Braille,
        }
    }

    pub fn ascii(self) -> bool {
        self == Self::Ascii
    }

    /// `unicode`, or `plain` where only ASCII can be shown.
    pub fn pick(self, unicode: &'static str, plain: &'static str) -> &'static str {
        if self.ascii() { plain } else { unicode }
    }

    pub fn border(self) -> border::Set<'static> {
        if self.ascii() {
            border::Set {
                top_left: "+",
                top_right: "+",
                bottom_left: "+",
                bottom_right: "+",
                vertical_left: "|",
                vertical_right: "|",
                horizontal_top: "-",
                horizontal_bottom: "-",
            }
        } else {
            border::ROUNDED
        }
    }
}

/// One theme, ready for the terminal at hand.
#[derive(Clone, Debug)]
pub struct Theme {
    pub name: String,
    pub about: String,
    pub ground: Ground,
    pub text: Style,
    /// Values that matter.
    pub bright: Style,
    /// Labels and units.
    pub muted: Style,
    /// Borders, axes, grids.
    pub faint: Style,
    pub accent: Style,
    pub good: Style,
    pub warning: Style,
    pub critical: Style,
    /// The row under the cursor.
    pub selection: Style,
    /// A filled banner that cannot be missed.
    pub alarm: Style,
    /// A ground that lets everything before it be read: spreads, what is used. `None` where colours are too few.
    pub shade: Option<Color>,
    series: Vec<Style>,
    pub glyphs: Glyphs,
}

/// What a theme is made for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ground {
    Dark,
    Light,
    #[default]
    Any,
}

/// How calm or alarming something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tone {
    Quiet,
    Good,
    Warning,
    Critical,
}

/// A theme file that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("theme {name}: {source}")]
pub struct ThemeError {
    name: String,
    #[source]
    source: toml::de::Error,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    about: String,
    ground: Ground,
    text: Role,
    bright: Role,
    muted: Role,
    faint: Role,
    accent: Role,
    good: Role,
    warning: Role,
    critical: Role,
    selection: Role,
    alarm: Role,
    #[serde(default)]
    shade: Option<Color>,
    series: Vec<Color>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Role {
    Color(Color),
    Full(Full),
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Full {
    fg: Option<Color>,
    bg: Option<Color>,
    bold: bool,
    dim: bool,
    underline: bool,
    reverse: bool,
}

impl Role {
    fn style(self) -> Style {
        let full = match self {
            Self::Color(fg) => Full { fg: Some(fg), ..Full::default() },
            Self::Full(full) => full,
        };
        let mut style = Style { fg: full.fg, bg: full.bg, ..Style::new() };
        for (on, modifier) in [
            (full.bold, Modifier::BOLD),
            (full.dim, Modifier::DIM),
            (full.underline, Modifier::UNDERLINED),
            (full.reverse, Modifier::REVERSED),
        ] {
            if on {
                style = style.add_modifier(modifier);
            }
        }
        style
    }
}

impl Theme {
    /// Reads a theme file.
    pub fn parse(name: &str, text: &str, glyphs: Glyphs) -> Result<Self, ThemeError> {
        let file: File = toml::from_str(text).map_err(|source| ThemeError { name: name.to_string(), source })?;
        let series: Vec<Style> = file.series.iter().map(|c| Style::new().fg(*c)).collect();
        Ok(Self {
            name: name.to_string(),
            about: file.about,
            ground: file.ground,
            text: file.text.style(),
            bright: file.bright.style(),
            muted: file.muted.style(),
            faint: file.faint.style(),
            accent: file.accent.style(),
            good: file.good.style(),
            warning: file.warning.style(),
            critical: file.critical.style(),
            selection: file.selection.style(),
            alarm: file.alarm.style(),
            shade: file.shade,
            series: if series.is_empty() { vec![Style::new()] } else { series },
            glyphs,
        })
    }

    /// The built-in themes at a depth of colour.
    pub fn built_in(depth: Depth, glyphs: Glyphs) -> Vec<Self> {
        BUILT_IN
            .iter()
            .filter_map(|(name, text)| Self::parse(name, text, glyphs).ok())
            .map(|theme| theme.at_depth(depth))
            .collect()
    }

    /// The theme to begin with: `mono` without colour, `sixteen` with few, else by the ground.
    pub fn first_choice(depth: Depth, env: &dyn Fn(&str) -> Option<String>) -> &'static str {
        let light = env("COLORFGBG")
            .and_then(|v| v.rsplit(';').next().and_then(|ground| ground.parse::<u8>().ok()))
            .is_some_and(|ground| ground == 7 || ground == 15);
        match depth {
            Depth::None => "mono",
            Depth::Sixteen => "sixteen",
            _ if light => "light",
            _ => "dark",
        }
    }

    /// Colour of the n-th line of a chart, the n-th GPU, the n-th segment.
    pub fn series(&self, n: usize) -> Style {
        self.series[n % self.series.len()]
    }

    pub fn tone(&self, tone: Tone) -> Style {
        match tone {
            Tone::Quiet => self.text,
            Tone::Good => self.good,
            Tone::Warning => self.warning,
            Tone::Critical => self.critical,
        }
    }

    /// Style of a share of something that can run full: memory, power, a disk.
    pub fn fullness(&self, share: f64) -> Style {
        match share {
            s if s >= 0.95 => self.critical,
            s if s >= 0.85 => self.warning,
            _ => self.good,
        }
    }

    /// The same theme with colours that a terminal of `depth` shows.
    #[must_use]
    pub fn at_depth(mut self, depth: Depth) -> Self {
        let roles = [
            &mut self.text,
            &mut self.bright,
            &mut self.muted,
            &mut self.faint,
            &mut self.accent,
            &mut self.good,
            &mut self.warning,
            &mut self.critical,
            &mut self.selection,
            &mut self.alarm,
        ];
        for style in roles.into_iter().chain(&mut self.series) {
            let had_ground = style.bg.is_some_and(|c| c != Color::Reset);
            style.fg = style.fg.map(|c| lower(c, depth));
            style.bg = style.bg.map(|c| lower(c, depth));
            if depth == Depth::None {
                style.fg = None;
                style.bg = None;
                if had_ground {
                    *style = style.add_modifier(Modifier::REVERSED);
                }
            }
        }
        self.shade = match depth {
            Depth::True | Depth::Indexed => self.shade.map(|c| lower(c, depth)),
            Depth::Sixteen | Depth::None => None,
        };
        self
    }
}

/// The nearest colour of a smaller palette.
fn lower(color: Color, depth: Depth) -> Color {
    let Color::Rgb(r, g, b) = color else { return color };
    match depth {
        Depth::True => color,
        Depth::Indexed => Color::Indexed(nearest_indexed(r, g, b)),
        Depth::Sixteen | Depth::None => nearest_of_sixteen(r, g, b),
    }
}

/// xterm's 6 x 6 x 6 cube and its 24 greys.
fn nearest_indexed(r: u8, g: u8, b: u8) -> u8 {
    const LEVELS: [u8; 6] = [0, 95, 135, 175, 215, 255];
    let nearest = |v: u8| (0..6u8).min_by_key(|i| LEVELS[usize::from(*i)].abs_diff(v)).unwrap_or(0);
    let (ri, gi, bi) = (nearest(r), nearest(g), nearest(b));
    let cube = (LEVELS[usize::from(ri)], LEVELS[usize::from(gi)], LEVELS[usize::from(bi)]);
    let mean = (u16::from(r) + u16::from(g) + u16::from(b)) / 3;
    let step = (mean.saturating_sub(8) / 10).min(23) as u8;
    let grey = 8 + 10 * step;
    if distance((r, g, b), (grey, grey, grey)) < distance((r, g, b), cube) {
        232 + step
    } else {
        16 + 36 * ri + 6 * gi + bi
    }
}

fn nearest_of_sixteen(r: u8, g: u8, b: u8) -> Color {
    const PALETTE: [(Color, (u8, u8, u8)); 16] = [
        (Color::Black, (0, 0, 0)),
        (Color::Red, (170, 0, 0)),
        (Color::Green, (0, 170, 0)),
        (Color::Yellow, (170, 130, 0)),
        (Color::Blue, (0, 0, 170)),
        (Color::Magenta, (170, 0, 170)),
        (Color::Cyan, (0, 170, 170)),
        (Color::Gray, (170, 170, 170)),
        (Color::DarkGray, (85, 85, 85)),
        (Color::LightRed, (255, 85, 85)),
        (Color::LightGreen, (85, 255, 85)),
        (Color::LightYellow, (255, 255, 85)),
        (Color::LightBlue, (85, 85, 255)),
        (Color::LightMagenta, (255, 85, 255)),
        (Color::LightCyan, (85, 255, 255)),
        (Color::White, (255, 255, 255)),
    ];
    PALETTE.iter().min_by_key(|(_, rgb)| distance((r, g, b), *rgb)).map_or(Color::Reset, |(color, _)| *color)
}

fn distance(a: (u8, u8, u8), b: (u8, u8, u8)) -> u32 {
    let d = |x: u8, y: u8| u32::from(x.abs_diff(y)).pow(2);
    d(a.0, b.0) + d(a.1, b.1) + d(a.2, b.2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_the_folder() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("themes");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|e| e.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        files.sort();
        let mut listed: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
        listed.sort_unstable();
        assert_eq!(files, listed);
        for (name, text) in BUILT_IN {
            Theme::parse(name, text, Glyphs::Braille).unwrap();
        }
    }

    #[test]
    fn the_environment_decides_the_depth() {
        let check = |vars: &[(&str, &str)], want: Depth| {
            let env = |name: &str| vars.iter().find(|(k, _)| *k == name).map(|(_, v)| (*v).to_string());
            assert_eq!(Depth::detect(&env), want, "{vars:?}");
        };
        check(&[("TERM", "xterm-256color"), ("COLORTERM", "truecolor")], Depth::True);
        check(&[("TERM", "xterm-256color"), ("COLORTERM", "truecolor"), ("NO_COLOR", "1")], Depth::None);
        check(&[("TERM", "xterm-256color"), ("NO_COLOR", "")], Depth::Indexed);
        check(&[("TERM", "tmux-256color")], Depth::Indexed);
        check(&[("TERM", "xterm")], Depth::Sixteen);
        check(&[("TERM", "dumb")], Depth::None);
        check(&[], Depth::None);
    }

    #[test]
    fn no_colour_leaves_no_colour() {
        for theme in Theme::built_in(Depth::None, Glyphs::Ascii) {
            for style in [theme.text, theme.alarm, theme.selection, theme.critical, theme.series(3)] {
                assert_eq!((style.fg, style.bg), (None, None), "{}", theme.name);
            }
        }
    }

    #[test]
    fn colours_go_to_their_nearest() {
        assert_eq!(lower(Color::Rgb(255, 0, 0), Depth::Indexed), Color::Indexed(196));
        assert_eq!(lower(Color::Rgb(70, 70, 70), Depth::Indexed), Color::Indexed(238));
        assert_eq!(lower(Color::Rgb(255, 90, 90), Depth::Sixteen), Color::LightRed);
    }
}
