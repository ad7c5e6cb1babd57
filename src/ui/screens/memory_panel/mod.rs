//! The panels of GPUs that several screens share: memory over time, and how each GPU is now.

mod over_time;

use std::fmt::Write as _;

use ratatui::{
    Frame,
    layout::Rect,
    text::{Line, Span},
    widgets::Paragraph,
};
use unicode_width::UnicodeWidthStr;

use crate::{
    model::Bytes,
    session::gpus::{Gpu, HOT_C, TOO_HOT_C},
    ui::{
        App, Theme,
        format::{fit, gib, sentence},
        standing::share_used,
        widgets::{
            bar,
            panel::{explain, panel},
            row,
        },
    },
};

pub use over_time::{over_time, over_time_of};

/// Columns of a GPU in the smallest grid.
const LEAST_CELL: usize = 10;

/// Rows that the GPU panel wants, border included, at most `most`.
pub fn rows_wanted(app: &App, most: u16) -> u16 {
    let gpus = app.session.gpus.len() as u16;
    let wanted = match gpus {
        0 => 5,
        1..=3 => gpus * 3 + 2,
        n => n + 3,
    };
    wanted.clamp(3, most.max(3))
}

/// Each GPU now: a card with much room, a row with some, a cell of a grid with little.
/// The one under the cursor, if there is a cursor, stands out.
pub fn gpus(frame: &mut Frame, area: Rect, app: &App, selected: Option<usize>, theme: &Theme) {
    let gpus: Vec<&Gpu> = app.session.gpus.iter().collect();
    let mut right = Vec::new();
    if gpus.len() > 1 {
        let answering = gpus.iter().filter(|g| g.latest.memory_used.is_some());
        let (used, total) = answering.fold((Bytes(0), Bytes(0)), |(used, total), g| {
            (used + g.latest.memory_used.unwrap_or_default(), total + g.latest.memory_total.unwrap_or_default())
        });
        right.push(Span::styled(gib(used), theme.bright));
        right.push(Span::styled(format!(" of {} GiB", gib(total)), theme.muted));
    }
    let title = match gpus.first() {
        Some(first) if gpus.len() == 1 => format!("GPU {}", first.latest.index),
        Some(first) if gpus.iter().all(|g| g.latest.name == first.latest.name) => {
            format!("{} {} {}", gpus.len(), theme.glyphs.pick("×", "x"), short_name(first.latest.name.as_str()))
        }
        Some(_) => format!("{} GPUs", gpus.len()),
        None => "GPUs".to_string(),
    };
    let inner = panel(frame, area, &title, right, theme);
    if gpus.is_empty() {
        explain_absence(frame, inner, app, theme);
        return;
    }
    let inside = Rect { x: inner.x + 1, width: inner.width.saturating_sub(2), ..inner };
    let (rows, width) = (usize::from(inside.height), usize::from(inside.width));
    let lines = match arrangement(gpus.len(), rows, width) {
        Arrangement::Cards { .. } => cards(&gpus, selected, width, rows, theme),
        Arrangement::Table { with_heading } => {
            let mut lines: Vec<Line> = Vec::new();
            if with_heading {
                lines.push(heading(width, theme));
            }
            lines.extend(gpus.iter().enumerate().map(|(i, g)| table_row(g, selected == Some(i), width, theme)));
            lines
        }
        Arrangement::Grid { .. } => grid(&gpus, selected, width, rows, theme),
    };
    frame.render_widget(Paragraph::new(lines), inside);
}

/// How many GPUs share a room.
enum Arrangement {
    /// Each in `each` rows.
    Cards {
        each: usize,
    },
    Table {
        with_heading: bool,
    },
    /// Down the columns of a grid.
    Grid {
        columns: usize,
    },
}

fn arrangement(gpus: usize, rows: usize, width: usize) -> Arrangement {
    if rows + 1 >= gpus * 3 && width >= 44 {
        Arrangement::Cards { each: if rows + 1 >= gpus * 4 { 4 } else { 3 } }
    } else if rows >= gpus {
        Arrangement::Table { with_heading: rows > gpus && width >= 40 }
    } else {
        Arrangement::Grid { columns: gpus.div_ceil(rows.max(1)).clamp(1, (width / LEAST_CELL).max(1)) }
    }
}

/// The GPU at a place of the panel that [`gpus`] draws in `area`.
pub fn at(app: &App, area: Rect, column: u16, row: u16) -> Option<usize> {
    let inside = Rect {
        x: area.x + 2,
        y: area.y + 1,
        width: area.width.saturating_sub(4),
        height: area.height.saturating_sub(2),
    };
    let (x, y) = (column.saturating_sub(inside.x), row.checked_sub(inside.y)?);
    if !(area.x..area.right()).contains(&column) || y >= inside.height {
        return None;
    }
    let (gpus, rows, width) = (app.session.gpus.len(), usize::from(inside.height), usize::from(inside.width));
    let (x, y) = (usize::from(x), usize::from(y));
    let hit = match arrangement(gpus, rows, width) {
        Arrangement::Cards { each } => y / each,
        Arrangement::Table { with_heading } => y.checked_sub(usize::from(with_heading))?,
        Arrangement::Grid { columns } => {
            let (first, shown) = in_grid(gpus, columns * rows, Some(app.gpus.selected));
            let place = x / (width / columns).max(1) * rows + y;
            first + Some(place).filter(|place| *place < shown)?
        }
    };
    (hit < gpus).then_some(hit)
}

/// `NVIDIA H100 80GB HBM3` without the vendor.
fn short_name(name: &str) -> &str {
    name.strip_prefix("NVIDIA ").unwrap_or(name)
}

fn cards(gpus: &[&Gpu], selected: Option<usize>, width: usize, rows: usize, theme: &Theme) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    let blank = rows >= gpus.len() * 4 - 1;
    for (n, gpu) in gpus.iter().enumerate() {
        if !lines.is_empty() && blank {
            lines.push(Line::default());
        }
        let sample = &gpu.latest;
        let name = fit(short_name(sample.name.as_str()), width.saturating_sub(10), theme.glyphs.pick("…", "~"));
        let left = vec![
            label(gpu, selected == Some(n) && gpus.len() > 1, theme),
            Span::raw(" "),
            Span::styled(name, theme.text),
        ];
        if sample.lost {
            lines.push(row::sides(left, vec![Span::styled("lost: the driver does not answer", theme.critical)], width));
            lines.push(Line::default());
            lines.push(Line::default());
            continue;
        }
        let mut right = Vec::new();
        if let Some(celsius) = sample.temperature_c {
            let (style, mark) = heat(sample.temperature_c, theme);
            right.extend([Span::styled(format!("{mark}{celsius:>3}"), style), Span::styled(" °C  ", theme.muted)]);
        }
        if let Some(watts) = sample.power_w.filter(|w| w.is_finite()) {
            let limit = sample.power_limit_w.map(|l| format!(" / {l:.0}")).unwrap_or_default();
            right.extend([
                Span::styled(format!("{watts:>4.0}"), theme.text),
                Span::styled(format!("{limit} W"), theme.muted),
            ]);
        }
        lines.push(row::sides(left, right, width));
        let share = share_used(gpu);
        let bar_width = width.saturating_sub(34).max(8);
        let mut memory = vec![Span::styled("memory ", theme.muted)];
        let style = theme.fullness(share.unwrap_or(0.0));
        memory.extend(bar::marked(share.unwrap_or(0.0), peak_share(gpu), bar_width, style, theme));
        memory.push(Span::raw("  "));
        memory.extend(used_of_total(gpu, theme));
        lines.push(Line::from(memory));
        let busy = sample.utilization;
        let mut util = vec![Span::styled("busy   ", theme.muted)];
        util.extend(bar::full(f64::from(busy.unwrap_or(0)) / 100.0, bar_width, theme.accent, theme));
        util.push(Span::styled(busy.map_or("    -  ".to_string(), |u| format!("{u:>5} %")), theme.text));
        if let Some(peak) = gpu.peak_used {
            util.push(Span::styled("   peak ", theme.muted));
            util.push(Span::styled(format!("{:>6}", gib(peak)), theme.text));
        }
        lines.push(Line::from(util));
    }
    lines
}

fn used_of_total(gpu: &Gpu, theme: &Theme) -> Vec<Span<'static>> {
    let figure = |bytes: Option<Bytes>| bytes.map_or_else(|| "-".to_string(), gib);
    vec![
        Span::styled(format!("{:>6}", figure(gpu.latest.memory_used)), theme.bright),
        Span::styled(format!(" / {:>6} GiB", figure(gpu.latest.memory_total)), theme.muted),
    ]
}

/// Figures of the table behind memory and load, and from which width on each has its place.
const FIGURES: [(usize, &str, usize); 6] = [
    (50, "temp", 7),
    (60, "power", 8),
    (104, "limit", 8),
    (112, "SM clock", 10),
    (124, "memory bus", 12),
    (138, "PCIe", 10),
];
/// Columns of the load's recent past.
const PAST_LOAD: usize = 24;

/// Columns of the memory bar, and whether the load's past has a place.
fn columns(width: usize) -> (usize, bool) {
    let taken: usize = FIGURES.iter().filter(|(from, ..)| width >= *from).map(|(.., w)| w).sum();
    let rest = width.saturating_sub(4 + 2 + 15 + 6 + taken);
    let past = rest >= 48 + PAST_LOAD;
    (if past { rest - PAST_LOAD - 2 } else { rest }, past)
}

fn heading(width: usize, theme: &Theme) -> Line<'static> {
    let (bar, past) = columns(width);
    let mut text = format!("    {:<bar$}  {:>15}{:>6}", "memory", "used / GiB  ", "busy");
    for (_, name, w) in FIGURES.iter().filter(|(from, ..)| width >= *from) {
        let _ = write!(text, "{name:>w$}");
    }
    if past {
        text.push_str("  busy, last minutes");
    }
    Line::from(Span::styled(fit(&text, width, ""), theme.muted))
}

/// The index, with a mark where something is wrong with the GPU.
fn label(gpu: &Gpu, here: bool, theme: &Theme) -> Span<'static> {
    let worst = gpu.troubles().first().map(|trouble| trouble.is_severe);
    let (mark, style) = match worst {
        Some(true) => (theme.glyphs.pick("✖", "!"), theme.critical),
        Some(false) => (theme.glyphs.pick("▲", "^"), theme.warning),
        None => (" ", theme.accent),
    };
    Span::styled(format!("{:>2}{mark}", gpu.latest.index), if here { theme.selection } else { style })
}

fn table_row(gpu: &Gpu, here: bool, width: usize, theme: &Theme) -> Line<'static> {
    let s = &gpu.latest;
    let mut spans = vec![label(gpu, here, theme), Span::raw(" ")];
    if s.lost {
        spans.push(Span::styled(fit("lost: the driver does not answer", width.saturating_sub(4), ""), theme.critical));
        return Line::from(spans);
    }
    let (bar_width, past) = columns(width);
    let share = share_used(gpu).unwrap_or(0.0);
    if bar_width >= 4 {
        spans.extend(bar::marked(share, peak_share(gpu), bar_width, theme.fullness(share), theme));
        spans.push(Span::raw("  "));
    }
    let figure = |bytes: Option<Bytes>| bytes.map_or_else(|| "-".to_string(), gib);
    if width >= 26 {
        spans.push(Span::styled(format!("{:>6}", figure(s.memory_used)), theme.bright));
        spans.push(Span::styled(format!(" / {:<6}", figure(s.memory_total)), theme.muted));
    }
    spans.push(Span::styled(s.utilization.map_or("     -".into(), |u| format!("{u:>4} %")), theme.text));
    for (_, name, w) in FIGURES.iter().filter(|(from, ..)| width >= *from) {
        let (value, style) = match *name {
            "temp" => {
                let (style, mark) = heat(s.temperature_c, theme);
                (s.temperature_c.map(|t| format!("{mark}{t} °C")), style)
            }
            "power" => (s.power_w.filter(|w| w.is_finite()).map(|w| format!("{w:.0} W")), theme.text),
            "limit" => (s.power_limit_w.map(|w| format!("/ {w:.0} W")), theme.muted),
            "SM clock" => (s.sm_clock_mhz.map(|c| format!("{c} MHz")), theme.text),
            "memory bus" => (s.memory_utilization.map(|u| format!("{u} %")), theme.text),
            _ => (s.pcie_generation.zip(s.pcie_width).map(|(g, w)| format!("gen{g} x{w}")), theme.muted),
        };
        let value = value.unwrap_or_else(|| "-".into());
        spans.push(Span::styled(format!("{value:>w$}"), style));
    }
    if past {
        spans.push(Span::raw("  "));
        spans.push(Span::styled(load(gpu, PAST_LOAD, theme), theme.accent));
    }
    Line::from(spans)
}

/// How a temperature looks, and a sign before one that is too high.
fn heat(celsius: Option<u32>, theme: &Theme) -> (ratatui::style::Style, &'static str) {
    match celsius {
        Some(TOO_HOT_C..) => (theme.critical, theme.glyphs.pick("✖", "!")),
        Some(HOT_C..) => (theme.warning, theme.glyphs.pick("▲", "^")),
        _ => (theme.text, ""),
    }
}

/// The highest use ever seen, as a share.
fn peak_share(gpu: &Gpu) -> Option<f64> {
    let (peak, total) = (gpu.peak_used?, gpu.latest.memory_total?);
    (total.0 > 0).then(|| peak.as_f64() / total.as_f64())
}

/// The load of the last samples as a row of small columns, the newest at the right.
fn load(gpu: &Gpu, width: usize, theme: &Theme) -> String {
    let steps: &[char] = if theme.glyphs.ascii() {
        &['_', '.', '-', '=', '#']
    } else {
        // Never a whole cell: the columns of the card above would run into it.
        &['▁', '▂', '▃', '▄', '▅', '▆', '▇']
    };
    let last: Vec<Option<u32>> = gpu.history.iter().rev().take(width).map(|(_, _, busy)| *busy).collect();
    let column = |busy: &Option<u32>| match busy {
        Some(percent) => steps[(*percent.min(&100) as usize * (steps.len() - 1)).div_ceil(100)],
        None => ' ',
    };
    let text: String = last.iter().rev().map(column).collect();
    format!("{text:>width$}")
}

/// The first GPU of a grid and how many stand in it, so that the one under the cursor is among them: the last place tells
/// how many are left out.
fn in_grid(gpus: usize, room: usize, selected: Option<usize>) -> (usize, usize) {
    if gpus <= room {
        return (0, gpus);
    }
    let page = room.saturating_sub(1).max(1);
    let first = selected.unwrap_or(0).min(gpus - 1) / page * page;
    (first, page.min(gpus - first))
}

/// Many GPUs in little room: index, a bar of memory, and as many figures as fit.
fn grid(gpus: &[&Gpu], selected: Option<usize>, width: usize, rows: usize, theme: &Theme) -> Vec<Line<'static>> {
    if rows == 0 {
        return Vec::new();
    }
    let columns = gpus.len().div_ceil(rows).clamp(1, (width / LEAST_CELL).max(1));
    let cell = width / columns;
    // With room: GiB in use and load; else the share of memory alone.
    let full = cell >= 25;
    let bar_width = cell.saturating_sub(if full { 18 } else { 10 }).clamp(1, if full { 24 } else { 16 });
    let room = columns * rows;
    let (first, shown) = in_grid(gpus.len(), room, selected);
    let mut lines = Vec::new();
    for line in 0..rows {
        let mut spans = Vec::new();
        for column in 0..columns {
            // Down the columns, as people read indices.
            let place = column * rows + line;
            let at = first + place;
            if place < shown {
                let gpu = gpus[at];
                let share = share_used(gpu);
                spans.push(label(gpu, selected == Some(at), theme));
                if gpu.latest.lost {
                    spans.push(Span::styled(format!(" {:<width$}", "lost", width = cell - 4), theme.critical));
                    continue;
                }
                let style = theme.fullness(share.unwrap_or(0.0));
                if cell > 10 || full {
                    spans.push(Span::raw(" "));
                }
                spans.extend(bar::marked(share.unwrap_or(0.0), peak_share(gpu), bar_width, style, theme));
                let mut figures = match (full, share) {
                    (true, _) => format!("{:>6}G", gpu.latest.memory_used.map_or_else(|| "-".into(), gib)),
                    (false, Some(share)) => format!("{:>4.0}%", share * 100.0),
                    (false, None) => "    -".to_string(),
                };
                if full {
                    figures.push_str(&gpu.latest.utilization.map_or("    -".into(), |u| format!("{u:>4}%")));
                }
                let used = 3 + usize::from(cell > 10 || full) + bar_width;
                spans.push(Span::styled(format!("{figures:<width$}", width = cell.saturating_sub(used)), theme.text));
            } else if place + 1 == room && shown < gpus.len() {
                let hidden = gpus[..first].iter().chain(&gpus[first + shown..]);
                let worst = hidden.filter(|g| g.troubles().iter().any(|t| t.is_severe) || g.latest.lost).count();
                let (text, style) = match worst {
                    0 => (format!(" +{} more", gpus.len() - shown), theme.muted),
                    n => (format!(" +{} {}{n}", gpus.len() - shown, theme.glyphs.pick("✖", "!")), theme.critical),
                };
                spans.push(Span::styled(fit(&text, cell, ""), style));
            }
        }
        lines.push(Line::from(spans));
    }
    lines
}

/// All GPUs in one line; nothing where there are none.
pub fn one_line(app: &App, width: usize, theme: &Theme) -> Option<Line<'static>> {
    let gpus: Vec<&Gpu> = app.session.gpus.iter().collect();
    let fullest = gpus.iter().max_by(|a, b| share_used(a).unwrap_or(0.0).total_cmp(&share_used(b).unwrap_or(0.0)))?;
    if let Some(lost) = gpus.iter().find(|g| g.latest.lost) {
        return Some(Line::from(Span::styled(format!("GPU {} lost", lost.latest.index), theme.critical)));
    }
    let share = share_used(fullest)?;
    let mut figures = used_of_total(fullest, theme);
    if let Some(busy) = fullest.latest.utilization {
        figures.push(Span::styled(format!("{busy:>4} %"), theme.text));
    }
    let label = format!("GPU{} ", fullest.latest.index);
    let used: usize = label.width() + figures.iter().map(Span::width).sum::<usize>() + 1;
    let mut spans = vec![Span::styled(label, theme.accent)];
    if used + 4 <= width {
        spans.extend(bar::full(share, width - used, theme.fullness(share), theme));
        spans.push(Span::raw(" "));
    }
    spans.extend(figures);
    Some(Line::from(spans))
}

/// Why there is no GPU, and what to do.
fn explain_absence(frame: &mut Frame, area: Rect, app: &App, theme: &Theme) {
    match &app.session.gpus.unavailable {
        Some((why, advice)) => explain(frame, area, why.as_str(), &[sentence(advice.as_str()).as_str()], theme),
        None => explain(frame, area, "No GPU has been asked yet", &[], theme),
    }
}
