//! The command palette: every command by name.

use ratatui::{
    Frame,
    crossterm::event::{KeyCode, KeyEvent},
    layout::Rect,
    text::{Line, Span},
};

use crate::ui::{
    App, Cmd, Theme,
    input::{Input, Typed},
    keymap::Binding,
    update::act,
    widgets::panel::panel_in,
};

use super::{Overlay, window};

#[derive(Clone, Debug, Default)]
pub struct State {
    input: Input,
    selected: usize,
}

/// The letters of the query in their order, anywhere in the text.
fn matches(text: &str, query: &str) -> bool {
    let mut letters = text.chars().flat_map(char::to_lowercase);
    query.chars().filter(|c| *c != ' ').flat_map(char::to_lowercase).all(|wanted| letters.any(|c| c == wanted))
}

/// Commands that match: those that contain the words as typed come first.
fn found<'a>(app: &'a App, query: &str) -> Vec<&'a Binding> {
    let typed = query.to_lowercase();
    let mut all: Vec<&Binding> =
        app.keymap.on(app.screen).filter(|b| matches(&format!("{} {}", b.id, b.help), query)).collect();
    all.sort_by_key(|b| !(b.id.contains(&typed) || b.help.to_lowercase().contains(&typed)));
    all
}

pub fn render(frame: &mut Frame, area: Rect, state: &State, app: &App, theme: &Theme) {
    let found = found(app, state.input.as_str());
    let window = window(frame, area, 66, 16);
    let inner = panel_in(frame, window, "Commands", Vec::new(), theme, theme.accent);
    if inner.height == 0 {
        return;
    }
    let prompt = Line::from(vec![
        Span::styled(" > ", theme.accent),
        Span::styled(state.input.as_str().to_string(), theme.bright),
        Span::styled(theme.glyphs.pick("▏", "_"), theme.accent),
    ]);
    frame.render_widget(prompt, Rect { height: 1, ..inner });
    let rows = usize::from(inner.height) - 1;
    let selected = state.selected.min(found.len().saturating_sub(1));
    let top = selected.saturating_sub(rows.saturating_sub(1));
    for (i, binding) in found.iter().enumerate().skip(top).take(rows) {
        let key = binding.keys.first().map(ToString::to_string).unwrap_or_default();
        let width = usize::from(inner.width).saturating_sub(14);
        let help = crate::ui::format::fit(binding.help, width, theme.glyphs.pick("…", "~"));
        let here = i == selected;
        let line = Line::from(vec![
            Span::styled(format!(" {help:<width$} "), if here { theme.selection } else { theme.text }),
            Span::styled(format!("{key:>11} "), if here { theme.selection } else { theme.muted }),
        ]);
        frame.render_widget(line, Rect { y: inner.y + 1 + (i - top) as u16, height: 1, ..inner });
    }
    if found.is_empty() {
        let row = Rect { y: inner.y + 1, height: 1.min(inner.height - 1), ..inner };
        frame.render_widget(Line::from(Span::styled(" no such command", theme.muted)), row);
    }
}

pub fn key(app: &mut App, key: &KeyEvent) -> Vec<Cmd> {
    let Some(Overlay::Palette(state)) = &app.overlay else { return Vec::new() };
    let mut state = state.clone();
    let count = found(app, state.input.as_str()).len();
    match key.code {
        KeyCode::Down => state.selected = (state.selected + 1).min(count.saturating_sub(1)),
        KeyCode::Up => state.selected = state.selected.min(count.saturating_sub(1)).saturating_sub(1),
        _ => match state.input.key(key) {
            Typed::Changed => state.selected = 0,
            Typed::Cancelled => {
                app.overlay = None;
                return Vec::new();
            }
            Typed::Accepted => {
                let action = found(app, state.input.as_str()).get(state.selected).map(|b| b.action);
                app.overlay = None;
                return action.map(|a| act(app, a)).unwrap_or_default();
            }
            Typed::Ignored => {}
        },
    }
    app.overlay = Some(Overlay::Palette(state));
    Vec::new()
}
