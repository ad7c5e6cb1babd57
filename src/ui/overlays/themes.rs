//! The theme picker: the whole screen is the preview.

use ratatui::{
    Frame,
    crossterm::event::{KeyCode, KeyEvent},
    layout::Rect,
    text::{Line, Span},
};

use crate::ui::{App, Cmd, Theme, keymap::Action, widgets::panel::panel_in};

use super::{Overlay, window};

#[derive(Clone, Debug)]
pub struct State {
    /// The theme to go back to.
    pub before: usize,
}

pub fn render(frame: &mut Frame, area: Rect, _state: &State, app: &App, theme: &Theme) {
    let rows = app.themes().len() as u16;
    let corner = Rect { y: area.y + area.height / 3, height: area.height - area.height / 3, ..area };
    let window = window(frame, corner, 60, rows + 3);
    let right = vec![Span::styled("enter keeps, esc goes back", theme.muted)];
    let inner = panel_in(frame, window, "Theme", right, theme, theme.accent);
    for (i, other) in app.themes().iter().enumerate() {
        let y = inner.y + i as u16;
        if y >= inner.y + inner.height {
            break;
        }
        let here = i == app.theme_index();
        let style = if here { theme.selection } else { theme.text };
        let mut spans = vec![Span::styled(format!(" {:<14}", other.name), style), Span::raw(" ")];
        for n in 0..5 {
            spans.push(Span::styled(theme.glyphs.pick("━", "="), other.series(n)));
        }
        let room = usize::from(inner.width).saturating_sub(23);
        let about = crate::ui::format::fit(&other.about, room, theme.glyphs.pick("…", "~"));
        spans.push(Span::styled(format!("  {about}"), theme.muted));
        frame.render_widget(Line::from(spans), Rect { y, height: 1, ..inner });
    }
}

pub fn key(app: &mut App, key: &KeyEvent) -> Vec<Cmd> {
    let Some(Overlay::Themes(state)) = &app.overlay else { return Vec::new() };
    let before = state.before;
    let last = app.themes().len() - 1;
    match (key.code, app.keymap.action(crate::ui::Screen::Overview, key)) {
        (KeyCode::Enter, _) => {
            app.overlay = None;
            app.chosen = true;
            let name = app.theme().name.clone();
            app.say(&format!("theme: {name}"), crate::ui::Tone::Quiet);
        }
        (_, Some(Action::Down | Action::Themes)) => {
            let next = if app.theme_index() == last { 0 } else { app.theme_index() + 1 };
            app.set_theme_index(next);
        }
        (_, Some(Action::Up)) => {
            let next = if app.theme_index() == 0 { last } else { app.theme_index() - 1 };
            app.set_theme_index(next);
        }
        (_, Some(Action::Back | Action::Quit)) => {
            app.set_theme_index(before);
            app.overlay = None;
        }
        _ => {}
    }
    Vec::new()
}
