//! What lies over a screen: help, the command palette, the theme picker, evidence, alerts. At most one at a time.

mod alerts;
mod evidence;
pub mod help;
pub mod palette;
pub mod themes;

use ratatui::{Frame, crossterm::event::KeyEvent, layout::Rect, widgets::Clear};

use super::{App, Cmd, Theme, keymap::Action};

#[derive(Clone, Debug)]
pub enum Overlay {
    Help {
        scroll: u16,
    },
    Palette(palette::State),
    Themes(themes::State),
    /// What the verdict rests on, with the item under the cursor.
    Evidence {
        selected: usize,
    },
    Alerts {
        selected: usize,
    },
}

pub fn render(frame: &mut Frame, area: Rect, overlay: &Overlay, app: &App, theme: &Theme) {
    match overlay {
        Overlay::Help { scroll } => help::render(frame, area, *scroll, app, theme),
        Overlay::Palette(state) => palette::render(frame, area, state, app, theme),
        Overlay::Themes(state) => themes::render(frame, area, state, app, theme),
        Overlay::Evidence { selected } => evidence::render(frame, area, *selected, app, theme),
        Overlay::Alerts { selected } => alerts::render(frame, area, *selected, app, theme),
    }
}

/// A key while an overlay is open belongs to it.
pub fn key(app: &mut App, key: &KeyEvent) -> Vec<Cmd> {
    match app.overlay {
        Some(Overlay::Help { .. }) => help::key(app, key),
        Some(Overlay::Palette(_)) => palette::key(app, key),
        Some(Overlay::Themes(_)) => themes::key(app, key),
        Some(Overlay::Evidence { .. }) => evidence::key(app, key),
        Some(Overlay::Alerts { .. }) => alerts::key(app, key),
        None => Vec::new(),
    }
}

/// Where a key moves the cursor of a list of `count` items; `None`: it is no key of a list.
fn moved(app: &App, key: &KeyEvent, selected: usize, count: usize) -> Option<usize> {
    let last = count.saturating_sub(1);
    match app.keymap.action(super::Screen::Overview, key)? {
        Action::Down => Some((selected + 1).min(last)),
        Action::Up => Some(selected.min(last).saturating_sub(1)),
        Action::PageDown => Some((selected + 10).min(last)),
        Action::PageUp => Some(selected.saturating_sub(10)),
        Action::Top => Some(0),
        Action::Bottom => Some(last),
        _ => None,
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
