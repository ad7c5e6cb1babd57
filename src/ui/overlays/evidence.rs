//! What the verdict rests on, each item leading to where it can be seen.

use ratatui::{
    Frame,
    crossterm::event::{KeyCode, KeyEvent},
    layout::Rect,
    text::{Line, Span},
    widgets::Paragraph,
};

use crate::ui::{
    App, Cmd, Theme,
    evidence::{Leads, evidence},
    format::{fit, folded, sentence},
    screens,
    standing::standing,
    update::show,
    widgets::panel::panel_in,
};

use super::{Overlay, moved, window};

pub fn render(frame: &mut Frame, area: Rect, selected: usize, app: &App, theme: &Theme) {
    let proofs = evidence(app);
    let verdict = standing(&app.session, &app.alerts);
    let across = 96.min(area.width.saturating_sub(4).max(30));
    let width = usize::from(across).saturating_sub(4);
    let mut lines: Vec<Line> = folded(&sentence(verdict.text.as_str()), width)
        .into_iter()
        .map(|text| Line::from(Span::styled(text, theme.tone(verdict.tone))))
        .collect();
    lines.push(Line::default());
    let head = lines.len();
    let height = ((proofs.len() + head) as u16 + 2).clamp(5, area.height.saturating_sub(2).max(5));
    let window = window(frame, area, across, height);
    let right = vec![Span::styled("enter shows it, esc closes", theme.muted)];
    let inner = panel_in(frame, window, "What the verdict rests on", right, theme, theme.accent);
    let rows = usize::from(inner.height).saturating_sub(head);
    let selected = selected.min(proofs.len().saturating_sub(1));
    let top = selected.saturating_sub(rows.saturating_sub(1));
    for (i, proof) in proofs.iter().enumerate().skip(top).take(rows) {
        let mark = theme.glyphs.pick("• ", "- ");
        let style = if i == selected { theme.selection } else { theme.text };
        let shown = fit(proof.text.as_str(), width.saturating_sub(2), theme.glyphs.pick("…", "~"));
        lines.push(Line::from(vec![Span::styled(mark, theme.tone(proof.tone)), Span::styled(shown, style)]));
    }
    frame.render_widget(Paragraph::new(lines), Rect { x: inner.x + 1, width: width as u16, ..inner });
}

pub fn key(app: &mut App, key: &KeyEvent) -> Vec<Cmd> {
    let Some(Overlay::Evidence { selected }) = app.overlay else { return Vec::new() };
    let proofs = evidence(app);
    if let Some(selected) = moved(app, key, selected, proofs.len()) {
        app.overlay = Some(Overlay::Evidence { selected });
        return Vec::new();
    }
    app.overlay = None;
    if let (KeyCode::Enter, Some(proof)) = (key.code, proofs.get(selected)) {
        match &proof.leads {
            Leads::Line(line) => screens::log::jump(app, *line),
            Leads::Screen(screen) => show(app, *screen),
            Leads::Chart(key) => screens::charts::open(app, key.as_str()),
            Leads::Nowhere => {}
        }
    }
    Vec::new()
}
