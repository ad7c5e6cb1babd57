//! What is written can be read: each letter and digit on each screen, in each theme of a known ground, against the WCAG's
//! ratios. <https://www.w3.org/TR/WCAG21/#dfn-contrast-ratio>

use std::collections::BTreeMap;

use oomph::ui::theme::{Depth, Glyphs, Ground, Theme};
use ratatui::style::{Color, Modifier, Style};

use super::{app, drawn, press, scenes};

type Rgb = (u8, u8, u8);
/// A scene, and the keys that lead to each of its screens.
type Shown = (fn() -> scenes::Scene, &'static [&'static str]);

/// Grounds that terminals have: black, and those of widespread colour schemes.
const DARK: [Rgb; 3] = [(0, 0, 0), (0x1e, 0x1e, 0x1e), (0x28, 0x28, 0x28)];
const LIGHT: [Rgb; 3] = [(255, 255, 255), (0xfa, 0xfa, 0xfa), (0xfd, 0xf6, 0xe3)];

/// Least ratio of words (level AA), and of lines and bars.
const WORDS: f64 = 4.5;
const SHAPES: f64 = 3.0;

fn luminance((r, g, b): Rgb) -> f64 {
    let linear = |v: u8| match f64::from(v) / 255.0 {
        v if v <= 0.04045 => v / 12.92,
        v => ((v + 0.055) / 1.055).powf(2.4),
    };
    0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b)
}

fn contrast(a: Rgb, b: Rgb) -> f64 {
    let (a, b) = (luminance(a), luminance(b));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

/// The colour that a terminal shows; xterm's cube and greys are the same everywhere, its first sixteen are not.
fn rgb(color: Color) -> Option<Rgb> {
    let level = |n: u8| if n == 0 { 0 } else { 55 + 40 * n };
    match color {
        Color::Rgb(r, g, b) => Some((r, g, b)),
        Color::Indexed(n @ 16..232) => Some((level((n - 16) / 36), level((n - 16) / 6 % 6), level((n - 16) % 6))),
        Color::Indexed(n @ 232..) => Some((8 + 10 * (n - 232), 8 + 10 * (n - 232), 8 + 10 * (n - 232))),
        _ => None,
    }
}

fn themes() -> Vec<Theme> {
    let all = [Depth::True, Depth::Indexed].into_iter().flat_map(|depth| Theme::built_in(depth, Glyphs::Braille));
    all.filter(|theme| theme.ground != Ground::Any).collect()
}

fn grounds(theme: &Theme) -> [Rgb; 3] {
    if theme.ground == Ground::Light { LIGHT } else { DARK }
}

#[test]
fn the_ratio_is_that_of_the_standard() {
    assert!((contrast((0, 0, 0), (255, 255, 255)) - 21.0).abs() < 1e-9);
    assert!((contrast((0x77, 0x77, 0x77), (255, 255, 255)) - 4.48).abs() < 0.01);
}

#[test]
fn lines_and_bars_stand_out_from_every_ground() {
    for theme in themes() {
        let series = (0..8).map(|n| theme.series(n));
        let roles = [theme.muted, theme.accent, theme.good, theme.warning, theme.critical];
        for style in roles.into_iter().chain(series) {
            let shown = style.fg.and_then(rgb).unwrap();
            for ground in grounds(&theme) {
                assert!(contrast(shown, ground) >= SHAPES, "{} {shown:?} on {ground:?}", theme.name);
            }
        }
        // Two lines beside each other are two colours.
        for n in 0..4 {
            for other in 0..n {
                assert_ne!(theme.series(n), theme.series(other), "{}", theme.name);
            }
        }
    }
}

/// The least ratio of a style on the grounds of a theme.
fn least(style: Style, theme: &Theme) -> Option<f64> {
    let (fg, bg) = (style.fg.and_then(rgb), style.bg.and_then(rgb));
    let reversed = style.add_modifier.contains(Modifier::REVERSED);
    let all = grounds(theme).into_iter().filter_map(|ground| {
        let (ink, paper) = match (fg, bg) {
            (Some(fg), bg) => (fg, bg.unwrap_or(ground)),
            // The terminal's own ink was made for its ground.
            (None, _) => return None,
        };
        Some(if reversed { contrast(paper, ink) } else { contrast(ink, paper) })
    });
    all.reduce(f64::min)
}

#[test]
fn words_can_be_read_in_every_theme() {
    let screens: &[Shown] = &[
        (
            scenes::grpo,
            &["", "2", "2<enter>", "3", "4", "5", "5w", "5/1\\.2..'<enter>", "6", "7", "?", ":", "t", "e", "a"],
        ),
        (scenes::died, &["", "d", "djj", "d<space>", "3", "5", "a"]),
        (scenes::lost_gpu, &["", "4", "4jjj", "a", "e"]),
        (scenes::troubled, &["4jjjj", "3", "3jjjj"]),
        (scenes::roomy, &["3"]),
        (scenes::two_runs, &["2"]),
        (scenes::eventful, &["2nn"]),
        (scenes::silent, &[""]),
        (scenes::empty, &["", "4", "<paste oom>7"]),
    ];
    let mut wrong: BTreeMap<String, String> = BTreeMap::new();
    let mut looked = 0;
    for (scene, all_keys) in screens {
        let mut shown = app(scene(), (200, 50));
        for keys in *all_keys {
            press(&mut shown, "<esc><esc><esc>1");
            press(&mut shown, keys);
            for theme in themes() {
                let depth = if matches!(theme.text.fg, Some(Color::Indexed(_))) { "256" } else { "true" };
                shown.add_theme(theme.clone());
                assert!(shown.set_theme(&theme.name));
                let buffer = drawn(&shown, (200, 50));
                for (at, cell) in buffer.content().iter().enumerate() {
                    if !cell.symbol().chars().all(char::is_alphanumeric) {
                        continue;
                    }
                    looked += 1;
                    if let Some(ratio) = least(cell.style(), &theme).filter(|ratio| *ratio < WORDS) {
                        let row: String = (0..200).map(|x| buffer[(x, at as u16 / 200)].symbol()).collect();
                        let key = format!("{} {depth} {:?} on {:?}: {ratio:.2}", theme.name, cell.fg, cell.bg);
                        wrong.entry(key).or_insert_with(|| format!("{keys} column {}: {}", at % 200, row.trim()));
                    }
                }
            }
        }
    }
    assert!(looked > 100_000, "{looked}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}
