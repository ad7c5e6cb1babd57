//! Help, from the key table.

use ratatui::{
    Frame,
    crossterm::event::KeyEvent,
    layout::Rect,
    text::{Line, Span},
    widgets::Paragraph,
};

use crate::ui::{
    App, Cmd, Theme,
    keymap::{Action, Binding, Scope},
    widgets::panel::panel_in,
};

use super::{Overlay, window};

fn lines(app: &App, theme: &Theme, width: usize) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    let mut section = |title: String, bindings: Vec<&Binding>| {
        if bindings.is_empty() {
            return;
        }
        if !lines.is_empty() {
            lines.push(Line::default());
        }
        lines.push(Line::from(Span::styled(title, theme.accent)));
        for binding in bindings {
            let keys = binding.keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            let help = crate::ui::format::fit(binding.help, width.saturating_sub(23), theme.glyphs.pick("…", "~"));
            lines.push(Line::from(vec![
                Span::styled(format!("  {keys:<20} "), theme.bright),
                Span::styled(help, theme.text),
            ]));
        }
    };
    let bindings = || app.keymap.on(app.screen);
    section(
        format!("On this screen: {}", app.screen.title()),
        bindings().filter(|b| matches!(b.scope, Scope::On(_))).collect(),
    );
    section("Recording".to_string(), bindings().filter(|b| b.scope == Scope::Replay).collect());
    section("Everywhere".to_string(), bindings().filter(|b| b.scope == Scope::Everywhere).collect());
    lines.push(Line::default());
    for text in ["Mouse: wheel scrolls, a click on a tab opens it.", "Paste a log anywhere: it is diagnosed at once."] {
        lines.push(Line::from(Span::styled(text, theme.muted)));
    }
    lines
}

pub fn render(frame: &mut Frame, area: Rect, scroll: u16, app: &App, theme: &Theme) {
    let width = 76.min(area.width);
    let lines = lines(app, theme, usize::from(width) - 4);
    let height = (lines.len() as u16 + 2).min(area.height.saturating_sub(2)).max(6);
    let window = window(frame, area, width, height);
    let inner = panel_in(frame, window, "Help", vec![Span::styled("esc closes", theme.muted)], theme, theme.accent);
    let most = (lines.len() as u16).saturating_sub(inner.height);
    let inside = Rect { x: inner.x + 1, width: inner.width.saturating_sub(2), ..inner };
    frame.render_widget(Paragraph::new(lines).scroll((scroll.min(most), 0)), inside);
}

pub fn key(app: &mut App, key: &KeyEvent) -> Vec<Cmd> {
    let rows = lines(app, app.theme(), 60).len() as u16;
    let most = rows.saturating_sub(app.size.1.saturating_sub(4));
    let action = app.keymap.action(crate::ui::Screen::Overview, key);
    let Some(Overlay::Help { scroll }) = &mut app.overlay else { return Vec::new() };
    match action {
        Some(Action::Down) => *scroll = (*scroll + 1).min(most),
        Some(Action::Up) => *scroll = scroll.saturating_sub(1),
        Some(Action::PageDown) => *scroll = (*scroll + 10).min(most),
        Some(Action::PageUp) => *scroll = scroll.saturating_sub(10),
        Some(Action::Top) => *scroll = 0,
        Some(Action::Bottom) => *scroll = most,
        _ => app.overlay = None,
    }
    Vec::new()
}
