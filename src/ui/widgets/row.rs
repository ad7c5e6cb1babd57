//! Rows of figures: a muted label, a bright value, always in the same columns.

use ratatui::{
    style::Style,
    text::{Line, Span},
};

use crate::ui::theme::Theme;

/// `label value` with the value padded to `width` columns, so that nothing beside it moves.
pub fn figure(label: &str, value: &str, width: usize, style: Style, theme: &Theme) -> Vec<Span<'static>> {
    let mut spans = Vec::new();
    if !label.is_empty() {
        spans.push(Span::styled(format!("{label} "), theme.muted));
    }
    spans.push(Span::styled(format!("{value:<width$}"), style));
    spans
}

/// Groups of spans in one line, as many whole groups as fit, `gap` columns apart.
pub fn groups(groups: Vec<Vec<Span<'static>>>, width: usize, gap: usize) -> Line<'static> {
    let mut line: Vec<Span<'static>> = Vec::new();
    let mut used = 0;
    for group in groups {
        let needed: usize = group.iter().map(Span::width).sum::<usize>();
        let space = if used == 0 { 0 } else { gap };
        if needed == 0 || used + space + needed > width {
            continue;
        }
        if space > 0 {
            line.push(Span::raw(" ".repeat(space)));
        }
        used += space + needed;
        line.extend(group);
    }
    Line::from(line)
}

/// Groups of spans in as many lines as they need, `gap` columns apart; none is left out but one that is wider than a line.
pub fn flow(all: Vec<Vec<Span<'static>>>, width: usize, gap: usize) -> Vec<Line<'static>> {
    let size = |group: &[Span]| group.iter().map(Span::width).sum::<usize>();
    let mut lines = Vec::new();
    let (mut line, mut used) = (Vec::new(), 0);
    for group in all.into_iter().filter(|group| (1..=width).contains(&size(group))) {
        if used > 0 && used + gap + size(&group) > width {
            lines.push(groups(std::mem::take(&mut line), width, gap));
            used = 0;
        }
        used += size(&group) + if used > 0 { gap } else { 0 };
        line.push(group);
    }
    if !line.is_empty() {
        lines.push(groups(line, width, gap));
    }
    lines
}

/// Two sides of one line: what stands left is cut before what stands right.
pub fn sides(left: Vec<Span<'static>>, right: Vec<Span<'static>>, width: usize) -> Line<'static> {
    let right_width: usize = right.iter().map(Span::width).sum();
    let left_width: usize = left.iter().map(Span::width).sum();
    let mut spans = left;
    if left_width + right_width < width {
        spans.push(Span::raw(" ".repeat(width - left_width - right_width)));
        spans.extend(right);
    }
    Line::from(spans)
}
