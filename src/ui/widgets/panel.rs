//! A bordered area with a title at the left and a figure at the right of its upper border.

use ratatui::{
    Frame,
    layout::{Alignment, Rect},
    style::Style,
    text::{Line, Span},
    widgets::{Block, Borders},
};

use crate::ui::theme::Theme;

/// Draws the border and gives the area inside.
pub fn panel(frame: &mut Frame, area: Rect, title: &str, right: Vec<Span<'_>>, theme: &Theme) -> Rect {
    panel_in(frame, area, title, right, theme, theme.faint)
}

/// The same with a border of another style.
pub fn panel_in(
    frame: &mut Frame,
    area: Rect,
    title: &str,
    right: Vec<Span<'_>>,
    theme: &Theme,
    border: Style,
) -> Rect {
    let mut block = Block::new().borders(Borders::ALL).border_set(theme.glyphs.border()).border_style(border);
    let room = usize::from(area.width).saturating_sub(4);
    let right_width: usize = right.iter().map(Span::width).sum::<usize>();
    let shows_right = right_width > 0 && right_width + 8 <= room;
    if !title.is_empty() {
        let room = if shows_right { room - right_width - 3 } else { room };
        let title = crate::ui::format::fit(title, room.saturating_sub(2), theme.glyphs.pick("…", "~"));
        block = block.title(Line::from(Span::styled(format!(" {title} "), theme.text)));
    }
    if shows_right {
        let mut line = vec![Span::raw(" ")];
        line.extend(right);
        line.push(Span::raw(" "));
        block = block.title(Line::from(line).alignment(Alignment::Right));
    }
    let inner = block.inner(area);
    frame.render_widget(block, area);
    inner
}

/// An explanation in the middle of an area that has nothing to show yet: a headline and what to do.
pub fn explain(frame: &mut Frame, area: Rect, headline: &str, advice: &[&str], theme: &Theme) {
    use ratatui::widgets::{Paragraph, Wrap};
    let area = Rect { x: area.x + 1.min(area.width), width: area.width.saturating_sub(2), ..area };
    let mut lines = vec![Line::from(Span::styled(crate::ui::format::sentence(headline), theme.bright))];
    for text in advice {
        lines.push(Line::from(Span::styled((*text).to_string(), theme.muted)));
    }
    let width = usize::from(area.width).max(1);
    let needed: usize = lines.iter().map(|l| l.width().div_ceil(width).max(1)).sum();
    let above = (usize::from(area.height).saturating_sub(needed)) / 2;
    let inside = Rect { y: area.y + above as u16, height: area.height - above as u16, ..area };
    frame.render_widget(Paragraph::new(lines).alignment(Alignment::Center).wrap(Wrap { trim: true }), inside);
}
