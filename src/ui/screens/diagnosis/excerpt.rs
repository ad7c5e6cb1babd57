//! What stands in the log around a line that proves something.

use ratatui::{
    Frame,
    layout::Rect,
    text::{Line, Span},
    widgets::Paragraph,
};
use unicode_width::UnicodeWidthStr;

use crate::{
    model::failure::Failure,
    ui::{
        App, Theme,
        format::count,
        log_text::{Inked, is_underline},
    },
};

/// Rows that the line itself takes at most.
const MOST_ROWS: usize = 6;

/// ```text
/// ── the log, line 122 ───────────────────
///   121 │     q_embed = (q * cos) + …
///   122 │ torch.OutOfMemoryError: CUDA out
///       │ of memory. Tried to allocate …
/// ```
pub(super) fn render(frame: &mut Frame, area: Rect, app: &App, failure: &Failure, line: u64, theme: &Theme) {
    let lines = lines(app, failure);
    let Some(at) = lines.iter().rposition(|(number, _)| *number == line) else { return };
    let (width, height) = (usize::from(area.width), usize::from(area.height));
    let room = width.saturating_sub(10);
    let row = |number: String, spans: Vec<Span<'static>>| {
        let mut row = vec![
            Span::styled(format!("  {number:>5} "), theme.muted),
            Span::styled(theme.glyphs.pick("│ ", "| "), theme.faint),
        ];
        row.extend(spans);
        Line::from(row)
    };
    let (number, text) = lines[at];
    let itself: Vec<Line> = Inked::plain(text.trim_end(), theme.selection)
        .rows(room, MOST_ROWS, theme)
        .into_iter()
        .enumerate()
        .map(|(n, spans)| row(if n == 0 { count(number) } else { String::new() }, spans))
        .collect();
    // The marks under a traceback's code tell nothing without the columns above them.
    let told = |(_, text): &&(u64, &str)| !text.trim().is_empty() && !is_underline(text.trim());
    let plain = |(number, text): &(u64, &str)| row(count(*number), Inked::of(text, theme).fitted(room, theme));
    let left = height.saturating_sub(1 + itself.len());
    let after: Vec<Line> = lines[at + 1..].iter().filter(told).take(left / 3).map(plain).collect();
    let before: Vec<&(u64, &str)> = lines[..at].iter().rev().filter(told).take(left - after.len()).collect();
    let head = format!("{} the log, line {} ", theme.glyphs.pick("──", "--"), count(number));
    let rule = theme.glyphs.pick("─", "-").repeat(width.saturating_sub(head.width()));
    let mut rows = vec![Line::from(Span::styled(format!("{head}{rule}"), theme.muted))];
    rows.extend(before.into_iter().rev().map(plain));
    rows.extend(itself);
    rows.extend(after);
    let shorter = height.saturating_sub(rows.len()) as u16;
    frame.render_widget(Paragraph::new(rows), Rect { y: area.y + shorter, height: area.height - shorter, ..area });
}

/// The numbered lines of the text that was judged.
fn lines<'a>(app: &'a App, failure: &Failure) -> Vec<(u64, &'a str)> {
    if app.diagnosis.pasted {
        return app.paste.lines().collect();
    }
    let source = app.session.sources.values().find(|s| s.name == failure.place.source);
    let lines = source.into_iter().flat_map(|source| source.log.lines());
    lines.filter_map(|line| Some((line.number?, line.text.as_str()))).collect()
}
