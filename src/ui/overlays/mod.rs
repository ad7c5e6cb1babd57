//! What lies over a screen: help, the command palette, the theme picker. At most one at a time.

pub mod help;
pub mod palette;
pub mod themes;

use ratatui::{Frame, crossterm::event::KeyEvent, layout::Rect, widgets::Clear};

use super::{App, Cmd, Theme};

#[derive(Clone, Debug)]
pub enum Overlay {
    Help { scroll: u16 },
    Palette(palette::State),
    Themes(themes::State),
}

pub fn render(frame: &mut Frame, area: Rect, overlay: &Overlay, app: &App, theme: &Theme) {
    match overlay {
        Overlay::Help { scroll } => help::render(frame, area, *scroll, app, theme),
        Overlay::Palette(state) => palette::render(frame, area, state, app, theme),
        Overlay::Themes(state) => themes::render(frame, area, state, app, theme),
    }
}

/// A key while an overlay is open belongs to it.
pub fn key(app: &mut App, key: &KeyEvent) -> Vec<Cmd> {
    match app.overlay {
        Some(Overlay::Help { .. }) => help::key(app, key),
        Some(Overlay::Palette(_)) => palette::key(app, key),
        Some(Overlay::Themes(_)) => themes::key(app, key),
        None => Vec::new(),
    }
}

/// An area in the middle, emptied.
fn window(frame: &mut Frame, area: Rect, width: u16, height: u16) -> Rect {
    let width = width.min(area.width);
    let height = height.min(area.height);
    let window = Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 3, width, height };
    frame.render_widget(Clear, window);
    window
}
