//! GPUs in detail: all of them as a table, the one under the cursor with every figure, and who holds memory on it.

mod figures;
mod processes;

use ratatui::{
    Frame,
    layout::Rect,
    text::{Line, Span},
    widgets::Paragraph,
};

use crate::{
    session::gpus::Gpu,
    ui::{
        App, Cmd, Theme,
        keymap::Action,
        widgets::{area::split_top, panel::panel},
    },
};

use super::memory_panel;

#[derive(Clone, Debug, Default)]
pub struct State {
    /// The GPU under the cursor, by its place in the driver's order.
    pub selected: usize,
    /// The first process that is shown.
    pub first: usize,
    /// The process whose whole command is shown.
    pub chosen: Option<u32>,
}

pub fn act(app: &mut App, action: Action) -> Vec<Cmd> {
    let last = app.session.gpus.len().saturating_sub(1);
    let processes = app.session.gpus.iter().nth(app.gpus.selected).map_or(0, |gpu| gpu.latest.processes.len());
    if action == Action::Open {
        app.gpus.chosen = app.session.gpus.iter().nth(app.gpus.selected).and_then(|gpu| processes::next(gpu, app));
    }
    let State { selected, first, chosen } = &mut app.gpus;
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
        (*first, *chosen) = (0, None);
    }
    Vec::new()
}

/// A click selects the GPU or the process that it hits; a process that is selected, not any more.
pub fn press(app: &mut App, area: Rect, column: u16, row: u16) {
    let theme = app.theme();
    let Places { top, processes, .. } = places(app, area, theme);
    let process = under_cursor(app).and_then(|gpu| processes::at(processes, gpu, app, theme, row));
    if let Some(hit) = memory_panel::at(app, top, column, row) {
        app.gpus = State { selected: hit, ..State::default() };
    } else if process.is_some() {
        app.gpus.chosen = process.filter(|pid| app.gpus.chosen != Some(*pid));
    }
}

fn under_cursor(app: &App) -> Option<&Gpu> {
    app.session.gpus.iter().nth(app.gpus.selected.min(app.session.gpus.len().saturating_sub(1)))
}

/// Where the parts of the screen stand, and the lines of the middle one. A part without room has no height.
struct Places {
    top: Rect,
    figures: Rect,
    lines: Vec<Line<'static>>,
    processes: Rect,
    /// The card's memory over time, where the others leave room.
    past: Rect,
}

/// Least rows of the card's past.
const PAST: u16 = 11;

fn places(app: &App, area: Rect, theme: &Theme) -> Places {
    let top = Rect { height: upper_rows(app, area), ..area };
    let below = Rect { y: area.y + top.height, height: area.height - top.height, ..area };
    let none = Rect { height: 0, ..below };
    let Some(gpu) = under_cursor(app).filter(|_| below.height >= 3) else {
        return Places { top, figures: none, lines: Vec::new(), processes: none, past: none };
    };
    let lines = figures::lines(gpu, app, usize::from(below.width).saturating_sub(4), theme);
    // The processes keep a place: their heading and two of them, and what is told of the chosen one.
    let least = if app.gpus.chosen.is_some() { 8 } else { 5 };
    let room = if below.height >= least + 5 { below.height - least } else { below.height };
    let figures = Rect { height: (lines.len() as u16 + 2).min(room), ..below };
    let processes = Rect { y: below.y + figures.height, height: below.height - figures.height, ..below };
    if processes.height < 3 {
        return Places { top, figures, lines, processes: none, past: none };
    }
    // Each process with what started it, what is told of the chosen one, and what nobody explains.
    let wanted = (gpu.latest.processes.len() as u16).saturating_mul(2).saturating_add(least + 4);
    let past = processes.height.saturating_sub(wanted);
    let (processes, past) = split_top(processes, processes.height - if past >= PAST { past } else { 0 });
    Places { top, figures, lines, processes, past }
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
/// ╭ memory of GPU 0, last 15 minutes ────── peak 81.2 of 140.4 ╮
/// ╰────────────────────────────────────────────────────────────╯
/// ```
pub fn render(frame: &mut Frame, area: Rect, app: &App, theme: &Theme) {
    let Some(gpu) = under_cursor(app) else {
        return memory_panel::gpus(frame, area, app, None, theme);
    };
    let Places { top, figures, lines, processes, past } = places(app, area, theme);
    memory_panel::gpus(frame, top, app, Some(app.gpus.selected.min(app.session.gpus.len() - 1)), theme);
    if figures.height > 0 {
        let title = format!("GPU {} {}", gpu.latest.index, gpu.latest.name);
        let address = vec![Span::styled(gpu.latest.pci_bus_id.to_string(), theme.muted)];
        let inner = panel(frame, figures, &title, address, theme);
        frame.render_widget(Paragraph::new(lines), inset(inner));
    }
    if processes.height > 0 {
        processes::render(frame, processes, gpu, app, theme);
    }
    if past.height > 0 {
        memory_panel::over_time_of(frame, past, app, gpu, theme);
    }
}

fn inset(area: Rect) -> Rect {
    Rect { x: area.x + 1, width: area.width.saturating_sub(2), ..area }
}
