//! Memory in detail: over time against the capacity, and each card as a picture of who holds what.

use ratatui::{
    Frame,
    layout::Rect,
    text::{Line, Span},
    widgets::Paragraph,
};

use crate::{
    model::Bytes,
    session::{gpus::Gpu, trends::time_to_full},
    ui::{
        App, Cmd, Theme,
        format::{duration, gib},
        keymap::Action,
        widgets::{bar, panel::panel, row},
    },
};

use super::memory_panel;

#[derive(Clone, Debug, Default)]
pub struct State {
    /// The first GPU that is shown.
    pub selected: usize,
}

pub fn act(app: &mut App, action: Action) -> Vec<Cmd> {
    let last = app.session.gpus.len().saturating_sub(1);
    match action {
        Action::Down => app.memory.selected = (app.memory.selected + 1).min(last),
        Action::Up => app.memory.selected = app.memory.selected.saturating_sub(1),
        _ => {}
    }
    Vec::new()
}

pub fn render(frame: &mut Frame, area: Rect, app: &App, theme: &Theme) {
    let gpus: Vec<&Gpu> = app.session.gpus.iter().collect();
    if gpus.is_empty() {
        return memory_panel::over_time(frame, area, app, theme);
    }
    let wanted = gpus.len() as u16 * if gpus.len() <= 4 { 3 } else { 1 } + 2;
    let cards = wanted.min(area.height * 3 / 5).max(4);
    let top = Rect { height: area.height.saturating_sub(cards), ..area };
    if top.height >= 4 {
        memory_panel::over_time(frame, top, app, theme);
    }
    let below = Rect { y: area.y + top.height, height: area.height - top.height, ..area };
    let inner = panel(frame, below, "who holds what", legend(theme), theme);
    let inside = Rect { x: inner.x + 1, width: inner.width.saturating_sub(2), ..inner };
    let width = usize::from(inside.width);
    let rows = usize::from(inside.height);
    let each = if rows >= gpus.len() * 3 - 1 { 3 } else { usize::from(rows >= gpus.len() * 2) + 1 };
    let shown = (rows / each).max(1);
    let from = app.memory.selected.min(gpus.len().saturating_sub(shown));
    let mut lines: Vec<Line> = Vec::new();
    for gpu in gpus.iter().skip(from).take(shown) {
        lines.extend(card(gpu, app, each == 1, width, theme));
        if each == 3 {
            lines.push(Line::default());
        }
    }
    let below = gpus.len().saturating_sub(from + shown);
    if below > 0 && rows > 1 {
        lines.truncate(rows - 1);
        let hidden = gpus.len() - from - (rows - 1) / each;
        lines.push(Line::from(Span::styled(format!("    {hidden} more below"), theme.muted)));
    }
    frame.render_widget(Paragraph::new(lines), inside);
}

fn legend(theme: &Theme) -> Vec<Span<'static>> {
    vec![
        Span::styled(theme.glyphs.pick("█ this job  ", "# this job  "), theme.accent),
        Span::styled(theme.glyphs.pick("▓ others  ", "% others  "), theme.warning),
        Span::styled(theme.glyphs.pick("▒ not told  ", "+ not told  "), theme.muted),
        Span::styled(theme.glyphs.pick("░ free", ". free"), theme.faint),
    ]
}

/// One card: a bar of its parts and the figures beside it.
fn card(gpu: &Gpu, app: &App, compact: bool, width: usize, theme: &Theme) -> Vec<Line<'static>> {
    let s = &gpu.latest;
    let head = Span::styled(format!("{:>2} ", s.index), theme.accent);
    if s.lost {
        return vec![Line::from(vec![head, Span::styled("lost: the driver does not answer", theme.critical)])];
    }
    let (Some(total), Some(used)) = (s.memory_total, s.memory_used) else {
        return vec![Line::from(vec![head, Span::styled("the driver does not tell this card's memory", theme.muted)])];
    };
    let own_pid = app.session.child.pid;
    let held: u64 = s.processes.iter().filter_map(|p| p.used).map(|b| b.0).sum();
    // Without a child of ours the largest process is taken for the job.
    let largest = s.processes.iter().filter_map(|p| Some((p.pid, p.used?))).max_by_key(|(_, used)| *used);
    let mine = own_pid
        .and_then(|pid| s.processes.iter().find(|p| p.pid == pid)?.used)
        .or(largest.map(|(_, used)| used))
        .unwrap_or_default();
    let others = Bytes(held).saturating_sub(mine);
    let untold = used.saturating_sub(Bytes(held));
    let free = total.saturating_sub(used);
    let parts = [
        (mine.as_f64(), theme.accent, theme.glyphs.pick("█", "#")),
        (others.as_f64(), theme.warning, theme.glyphs.pick("▓", "%")),
        (untold.as_f64(), theme.muted, theme.glyphs.pick("▒", "+")),
        (free.as_f64(), theme.faint, theme.glyphs.pick("░", ".")),
    ];
    let mut bar_line = vec![head];
    if compact {
        bar_line.extend(bar::parts(&parts, width.saturating_sub(4 + 18)));
        bar_line.push(Span::styled(format!(" {:>7}", gib(free)), theme.bright));
        bar_line.push(Span::styled(" GiB free", theme.muted));
        return vec![Line::from(bar_line)];
    }
    bar_line.extend(bar::parts(&parts, width.saturating_sub(4)));
    let figure =
        |label: &str, bytes: Bytes| row::figure(label, &format!("{} GiB", gib(bytes)), 10, theme.bright, theme);
    let mut groups = vec![figure("   job", mine)];
    if others.0 > 0 {
        groups.push(figure("others", others));
    }
    if untold.0 > 1 << 30 {
        groups.push(figure("not told", untold));
    }
    groups.push(figure("free", free));
    if let Some(peak) = gpu.peak_used {
        groups.push(figure("peak", peak));
    }
    if let Some(left) = time_to_full(gpu) {
        groups.push(row::figure("full in", &duration(left), 8, theme.warning, theme));
    }
    vec![Line::from(bar_line), row::groups(groups, width, 2)]
}
