//! GPUs in detail: all of them as a table, the one under the cursor with every figure, and who holds memory on it.

use ratatui::{
    Frame,
    layout::Rect,
    text::{Line, Span},
    widgets::Paragraph,
};

use crate::{
    model::gpu::{GpuProcess, GpuSample},
    session::gpus::Gpu,
    ui::{
        App, Cmd, Theme,
        format::{duration, fit, gib, seconds_between},
        keymap::Action,
        widgets::{panel::panel, row},
    },
};

use super::memory_panel;

#[derive(Clone, Debug, Default)]
pub struct State {
    /// The GPU under the cursor, by its place in the driver's order.
    pub selected: usize,
}

pub fn act(app: &mut App, action: Action) -> Vec<Cmd> {
    let last = app.session.gpus.len().saturating_sub(1);
    let at = &mut app.gpus.selected;
    match action {
        Action::Down => *at = (*at + 1).min(last),
        Action::Up => *at = at.saturating_sub(1),
        Action::Top => *at = 0,
        Action::Bottom => *at = last,
        _ => {}
    }
    Vec::new()
}

pub fn render(frame: &mut Frame, area: Rect, app: &App, theme: &Theme) {
    let gpus: Vec<&Gpu> = app.session.gpus.iter().collect();
    let selected = app.gpus.selected.min(gpus.len().saturating_sub(1));
    let Some(gpu) = gpus.get(selected) else {
        return memory_panel::gpus(frame, area, app, None, theme);
    };
    let wanted = memory_panel::rows_wanted(app, area.height / 2 + 1).max(4);
    let top = Rect { height: wanted.min(area.height), ..area };
    memory_panel::gpus(frame, top, app, Some(selected), theme);
    let below = Rect { y: area.y + top.height, height: area.height - top.height, ..area };
    if below.height < 3 {
        return;
    }
    let figures = figures(gpu, app, usize::from(below.width).saturating_sub(4), theme);
    let height = (figures.len() as u16 + 2).min(below.height);
    let upper = Rect { height, ..below };
    let title = format!("GPU {} {}", gpu.latest.index, gpu.latest.name);
    let inner = panel(frame, upper, &title, vec![Span::styled(gpu.latest.pci_bus_id.to_string(), theme.muted)], theme);
    frame.render_widget(Paragraph::new(figures), inset(inner));
    let lower = Rect { y: below.y + height, height: below.height - height, ..below };
    if lower.height >= 3 {
        processes(frame, lower, gpu, theme);
    }
}

fn inset(area: Rect) -> Rect {
    Rect { x: area.x + 1, width: area.width.saturating_sub(2), ..area }
}

/// Every figure of one GPU that is known, in groups of lines.
fn figures(gpu: &Gpu, app: &App, width: usize, theme: &Theme) -> Vec<Line<'static>> {
    let s = &gpu.latest;
    if s.lost {
        let since = match (gpu.lost_since, app.now()) {
            (Some(since), Some(now)) => format!(" for {}", duration(seconds_between(since, now))),
            _ => String::new(),
        };
        return vec![
            Line::from(Span::styled(format!("Lost{since}: the driver does not answer for this GPU."), theme.critical)),
            Line::from(Span::styled(
                "dmesg shows the Xid; a lost GPU usually needs a reset of the machine.",
                theme.muted,
            )),
        ];
    }
    let figure = |label: &str, value: Option<String>| {
        value.map(|v| row::figure(label, &v, 10, theme.bright, theme)).unwrap_or_default()
    };
    let first = vec![
        figure("busy", s.utilization.map(|u| format!("{u} %"))),
        figure("memory bus", s.memory_utilization.map(|u| format!("{u} %"))),
        figure("temperature", s.temperature_c.map(|t| format!("{t} °C"))),
        figure("power", s.power_w.map(|w| limited(w, s.power_limit_w))),
        figure("SM clock", s.sm_clock_mhz.map(|c| clock(c, s.max_sm_clock_mhz))),
        figure("memory clock", s.memory_clock_mhz.map(|c| format!("{c} MHz"))),
    ];
    let second = vec![
        figure("used", s.memory_used.map(|b| format!("{} GiB", gib(b)))),
        figure("free", s.memory_free.map(|b| format!("{} GiB", gib(b)))),
        figure("peak", gpu.peak_used.map(|b| format!("{} GiB", gib(b)))),
        figure("fan", s.fan_percent.map(|f| format!("{f} %"))),
        figure("PCIe", pcie(s)),
        figure("NVLinks", s.nvlink_active.map(|n| n.to_string())),
        figure("ECC errors", s.ecc_uncorrected.map(|n| n.to_string())),
    ];
    let mut lines = vec![row::groups(first, width, 3), row::groups(second, width, 3)];
    let slowed: Vec<&str> = s.held_back_by().collect();
    if !slowed.is_empty() {
        let text = fit(&format!("slowed down by {}", slowed.join(", ")), width, theme.glyphs.pick("…", "~"));
        lines.push(Line::from(Span::styled(text, theme.warning)));
    }
    if !s.refused.is_empty() {
        let refused: Vec<String> = s.refused.iter().take(4).map(|(what, why)| format!("{what}: {why}")).collect();
        let text = crate::model::Clean::new(&format!("not told by the driver: {}", refused.join("; ")));
        lines.push(Line::from(Span::styled(fit(text.as_str(), width, theme.glyphs.pick("…", "~")), theme.muted)));
    }
    lines.retain(|l| l.width() > 0);
    lines
}

fn limited(watts: f32, limit: Option<f32>) -> String {
    limit.map_or_else(|| format!("{watts:.0} W"), |l| format!("{watts:.0} / {l:.0} W"))
}

fn clock(mhz: u32, most: Option<u32>) -> String {
    most.map_or_else(|| format!("{mhz} MHz"), |m| format!("{mhz} / {m} MHz"))
}

fn pcie(s: &GpuSample) -> Option<String> {
    Some(format!("gen {} x{}", s.pcie_generation?, s.pcie_width?))
}

/// Who holds memory on the GPU, the largest first, and what nobody explains.
fn processes(frame: &mut Frame, area: Rect, gpu: &Gpu, theme: &Theme) {
    let s = &gpu.latest;
    let inner = inset(panel(frame, area, "processes", Vec::new(), theme));
    let width = usize::from(inner.width);
    let mut all: Vec<&GpuProcess> = s.processes.iter().collect();
    all.sort_by_key(|p| std::cmp::Reverse(p.used));
    let mut lines = vec![Line::from(Span::styled(
        fit(&format!("{:>8}  {:<10} {:>10}  {}", "pid", "user", "memory", "command"), width, ""),
        theme.muted,
    ))];
    let room = usize::from(inner.height).saturating_sub(2);
    for p in all.iter().take(room) {
        let used = p.used.map_or_else(|| "not told".to_string(), |b| format!("{} GiB", gib(b)));
        let (user, what) = if p.foreign {
            ("-".to_string(), "outside this container: its pid is the host's".to_string())
        } else {
            let what = p
                .command
                .as_ref()
                .or(p.name.as_ref())
                .map_or_else(|| "gone, or not ours to see".into(), ToString::to_string);
            (p.user.as_ref().map_or_else(|| "-".to_string(), ToString::to_string), what)
        };
        let text = format!("{:>8}  {:<10} {used:>10}  {what}", p.pid, fit(&user, 10, ""));
        lines.push(Line::from(Span::styled(fit(&text, width, theme.glyphs.pick("…", "~")), theme.text)));
    }
    let known = s.processes.iter().filter_map(|p| p.used).sum::<crate::model::Bytes>().0;
    if let Some(used) = s.memory_used
        && s.processes.iter().all(|p| p.used.is_some())
        && used.0.saturating_sub(known) > 2 << 30
    {
        let text =
            format!("{} GiB are held by no process that the driver names", gib(crate::model::Bytes(used.0 - known)));
        lines.push(Line::from(Span::styled(fit(&text, width, ""), theme.warning)));
    }
    if s.processes.is_empty() && lines.len() == 1 {
        lines.push(Line::from(Span::styled("no process holds memory here", theme.muted)));
    }
    frame.render_widget(Paragraph::new(lines), inner);
}
