//! GPUs in detail.

use ratatui::{Frame, layout::Rect};

use crate::ui::{App, Cmd, Theme, keymap::Action, widgets::panel};

#[derive(Clone, Debug, Default)]
pub struct State {
    /// The row under the cursor.
    pub selected: usize,
}

pub fn act(app: &mut App, action: Action) -> Vec<Cmd> {
    let _ = (app, action);
    Vec::new()
}

pub fn render(frame: &mut Frame, area: Rect, app: &App, theme: &Theme) {
    let inner = panel::panel(frame, area, "GPUs", Vec::new(), theme);
    let text = format!("{} GPUs", app.session.gpus.len());
    panel::explain(frame, inner, &text, &[], theme);
}
