//! Horizontal bars: a thin one for progress, a full one for fill, and one of several parts.

use ratatui::{style::Style, text::Span};

use crate::ui::theme::Theme;

/// A thin bar: `━━━━━━╸─────`.
pub fn thin(share: f64, width: usize, style: Style, theme: &Theme) -> Vec<Span<'static>> {
    let halves = (share.clamp(0.0, 1.0) * (width * 2) as f64).floor() as usize;
    let (full, half) = (halves / 2, halves % 2);
    let half = if theme.glyphs.ascii() { 0 } else { half };
    let mut done = theme.glyphs.pick("━", "=").repeat(full);
    if half == 1 {
        done.push('╸');
    }
    let rest = theme.glyphs.pick("─", "-").repeat(width.saturating_sub(full + half));
    vec![Span::styled(done, style), Span::styled(rest, theme.faint)]
}

/// From so many columns on whole ones tell a share well enough, and bars below each other stay apart.
const LONG: usize = 12;

/// A full bar: `▆▆▆▆▆▆▆▆▆▆▆▆▆····`, or a short one with eighths: `█████▍  `, on a faint ground.
pub fn full(share: f64, width: usize, style: Style, theme: &Theme) -> Vec<Span<'static>> {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
    let long = width >= LONG;
    let eighths = (share * (width * 8) as f64).round() as usize;
    let whole = if long { (eighths + 4) / 8 } else { eighths / 8 };
    let mut text = theme.glyphs.pick(if long { "▆" } else { "█" }, "#").repeat(whole);
    let mut used = whole;
    if !theme.glyphs.ascii() && !long && !eighths.is_multiple_of(8) && whole < width {
        text.push_str(EIGHTHS[eighths % 8]);
        used += 1;
    }
    let rest = theme.glyphs.pick("·", ".").repeat(width.saturating_sub(used));
    vec![Span::styled(text, style), Span::styled(rest, theme.faint)]
}

/// A full bar with a mark at another share: the peak.
pub fn marked(share: f64, mark: Option<f64>, width: usize, style: Style, theme: &Theme) -> Vec<Span<'static>> {
    let Some(mark) = mark.filter(|m| m.is_finite() && *m > share && *m <= 1.0) else {
        return full(share, width, style, theme);
    };
    let mut spans = full(share, width, style, theme);
    let rest = spans.pop().map_or(0, |s| s.width());
    let at = ((mark * width as f64).round() as usize).min(width).saturating_sub(1);
    let before = at.saturating_sub(width - rest);
    if rest == 0 {
        return full(share, width, style, theme);
    }
    let dot = theme.glyphs.pick("·", ".");
    spans.push(Span::styled(dot.repeat(before.min(rest - 1)), theme.faint));
    spans.push(Span::styled(theme.glyphs.pick("╷", "'"), theme.warning));
    spans.push(Span::styled(dot.repeat(rest - 1 - before.min(rest - 1)), theme.faint));
    spans
}

/// Parts of one whole side by side, each at least one column if it is anything at all.
pub fn parts(parts: &[(f64, Style, &'static str)], width: usize) -> Vec<Span<'static>> {
    let total: f64 = parts.iter().map(|(size, ..)| size.max(0.0)).sum();
    if total <= 0.0 || width == 0 {
        return Vec::new();
    }
    let mut spans = Vec::new();
    let (mut sum, mut used) = (0.0, 0);
    let some = parts.iter().filter(|(size, ..)| *size > 0.0).count();
    for (nth, (size, style, symbol)) in parts.iter().filter(|(size, ..)| *size > 0.0).enumerate() {
        sum += size;
        let left_over = some - nth - 1;
        let end = ((sum / total * width as f64).round() as usize).max(used + 1).min(width.saturating_sub(left_over));
        spans.push(Span::styled(symbol.repeat(end.saturating_sub(used)), *style));
        used = end.max(used);
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::theme::{Depth, Glyphs};

    #[test]
    fn bars_have_their_width() {
        for glyphs in [Glyphs::Braille, Glyphs::Ascii] {
            let theme = Theme::built_in(Depth::True, glyphs).remove(0);
            for width in [0, 1, 7, 40] {
                for share in [f64::NAN, -1.0, 0.0, 0.01, 0.5, 0.999, 1.0, 7.0] {
                    let sum = |spans: Vec<Span>| spans.iter().map(Span::width).sum::<usize>();
                    assert_eq!(sum(full(share, width, theme.good, &theme)), width, "{share}");
                    assert_eq!(sum(thin(share, width, theme.good, &theme)), width, "{share}");
                    for mark in [None, Some(f64::NAN), Some(0.0), Some(0.02), Some(0.7), Some(1.0), Some(2.0)] {
                        assert_eq!(sum(marked(share, mark, width, theme.good, &theme)), width, "{share} {mark:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn small_parts_stay_visible() {
        let spans = parts(&[(1e9, Style::new(), "a"), (1.0, Style::new(), "b"), (0.0, Style::new(), "c")], 20);
        let text: String = spans.iter().map(|s| s.content.as_ref()).collect();
        assert_eq!(text, format!("{}b", "a".repeat(19)));
    }
}
