//! GPUs in detail: all of them as a table, the one under the cursor with every figure, and who holds memory on it.

mod figures;
mod processes;

use ratatui::{Frame, layout::Rect, text::Span, widgets::Paragraph};

use crate::{
    session::gpus::Gpu,
    ui::{App, Cmd, Theme, keymap::Action, widgets::panel::panel},
};

use super::memory_panel;

#[derive(Clone, Debug, Default)]
pub struct State {
    /// The GPU under the cursor, by its place in the driver's order.
    pub selected: usize,
    /// The first process that is shown.
    pub first: usize,
}

pub fn act(app: &mut App, action: Action) -> Vec<Cmd> {
    let last = app.session.gpus.len().saturating_sub(1);
    let processes = app.session.gpus.iter().nth(app.gpus.selected).map_or(0, |gpu| gpu.latest.processes.len());
    let State { selected, first } = &mut app.gpus;
    let before = *selected;
    match action {
        Action::Down => *selected = (*selected + 1).min(last),
        Action::Up => *selected = selected.saturating_sub(1),
        Action::Top => *selected = 0,
        Action::Bottom => *selected = last,
        Action::PageDown => *first = (*first + 5).min(processes.saturating_sub(1)),
        Action::PageUp => *first = first.saturating_sub(5),
        _ => {}
    }
    if *selected != before {
        *first = 0;
    }
    Vec::new()
}

/// A click selects the GPU that it hits.
pub fn press(app: &mut App, area: Rect, column: u16, row: u16) {
    let top = Rect { height: upper_rows(app, area), ..area };
    if let Some(hit) = memory_panel::at(app, top, column, row) {
        (app.gpus.selected, app.gpus.first) = (hit, 0);
    }
}

/// Rows of the panel of all GPUs. Where they are many it gives way to the one under the cursor.
fn upper_rows(app: &App, area: Rect) -> u16 {
    memory_panel::rows_wanted(app, area.height / 2 + 1).max(4).min(area.height)
}

/// ```text
/// ╭ 8 x H200 ──────────────────────────────────────────────────╮
/// │  0  ███████████████·····╷····   81.2 / 140.4    97 %  61 °C │
/// ╰────────────────────────────────────────────────────────────╯
/// ╭ GPU 0 NVIDIA H200 ─────────────────────────────── 1b:00.0 ─╮
/// │ every figure, then what is wrong in words                  │
/// ╰────────────────────────────────────────────────────────────╯
/// ╭ processes ─────────────────────────────────────────────────╮
/// │ who holds its memory, and what nobody explains             │
/// ╰────────────────────────────────────────────────────────────╯
/// ```
pub fn render(frame: &mut Frame, area: Rect, app: &App, theme: &Theme) {
    let gpus: Vec<&Gpu> = app.session.gpus.iter().collect();
    let selected = app.gpus.selected.min(gpus.len().saturating_sub(1));
    let Some(gpu) = gpus.get(selected) else {
        return memory_panel::gpus(frame, area, app, None, theme);
    };
    let top = Rect { height: upper_rows(app, area), ..area };
    memory_panel::gpus(frame, top, app, Some(selected), theme);
    let below = Rect { y: area.y + top.height, height: area.height - top.height, ..area };
    if below.height < 3 {
        return;
    }
    let width = usize::from(below.width).saturating_sub(4);
    let lines = figures::lines(gpu, app, width, theme);
    // The processes keep a place: their heading and two of them.
    let room = if below.height >= 10 { below.height - 5 } else { below.height };
    let height = (lines.len() as u16 + 2).min(room);
    let upper = Rect { height, ..below };
    let title = format!("GPU {} {}", gpu.latest.index, gpu.latest.name);
    let inner = panel(frame, upper, &title, vec![Span::styled(gpu.latest.pci_bus_id.to_string(), theme.muted)], theme);
    frame.render_widget(Paragraph::new(lines), inset(inner));
    let lower = Rect { y: below.y + height, height: below.height - height, ..below };
    if lower.height >= 3 {
        processes::render(frame, lower, gpu, app, theme);
    }
}

fn inset(area: Rect) -> Rect {
    Rect { x: area.x + 1, width: area.width.saturating_sub(2), ..area }
}
