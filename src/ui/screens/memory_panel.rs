//! The overview's panels of GPUs: memory over time, and how each GPU is now.

use ratatui::{
    Frame,
    layout::Rect,
    text::{Line, Span},
    widgets::Paragraph,
};
use unicode_width::UnicodeWidthStr;

use crate::{
    model::Bytes,
    session::gpus::Gpu,
    ui::{
        App, Theme,
        format::{duration, fit, gib, seconds_between, unix},
        standing::{share_used, time_to_full},
        widgets::{
            bar,
            chart::{Chart, Kind, Line as ChartLine, Rule, Span as Place, dots_across, tick},
            panel::{explain, panel},
            row,
        },
    },
};

/// Seconds of the past that the overview shows.
const PAST: f64 = 900.0;
/// More GPUs than this are drawn as the fullest, the middle and the emptiest.
const LINES: usize = 8;

/// Rows that the GPU panel wants, border included, at most `most`.
pub fn rows_wanted(app: &App, most: u16) -> u16 {
    let gpus = app.session.gpus.len() as u16;
    let wanted = match gpus {
        0 => 5,
        1..=3 => gpus * 3 + 1,
        n => n + 3,
    };
    wanted.clamp(3, most.max(3))
}

/// Memory in use over the last minutes against the capacity.
pub fn over_time(frame: &mut Frame, area: Rect, app: &App, theme: &Theme) {
    let gpus: Vec<&Gpu> = app.session.gpus.iter().collect();
    let peak = gpus.iter().filter_map(|g| g.peak_used).max();
    let capacity = gpus.iter().filter_map(|g| g.latest.memory_total).max();
    let mut right = Vec::new();
    if let (Some(peak), Some(capacity)) = (peak, capacity) {
        right.extend(row::figure("peak", &gib(peak), 0, theme.bright, theme));
        right.push(Span::styled(format!(" of {} GiB", gib(capacity)), theme.muted));
    }
    let (Some(now), Some(capacity)) = (app.now(), capacity) else {
        let inner = panel(frame, area, "memory", right, theme);
        explain_absence(frame, inner, app, theme);
        return;
    };
    let oldest = gpus.iter().filter_map(|g| g.history.front()).map(|(at, ..)| *at).min();
    let span = oldest.map_or(60.0, |at| seconds_between(at, now)).clamp(60.0, PAST);
    let inner = panel(frame, area, &format!("memory, last {}", duration(span)), right, theme);
    let dots = dots_across(inner, theme).max(2);
    let x = (unix(now) - span, unix(now));
    let mut lines: Vec<ChartLine> = Vec::new();
    if gpus.len() <= LINES {
        for (i, gpu) in gpus.iter().enumerate() {
            let kind = if gpus.len() == 1 { Kind::Filled } else { Kind::Line };
            lines.push(ChartLine { spans: spans(gpu, x, dots), style: theme.series(i), kind });
        }
    } else {
        lines = envelope(&gpus, x, dots, theme);
    }
    let mut rules = vec![Rule { value: capacity.as_f64(), style: theme.critical }];
    rules.extend(peak.map(|p| Rule { value: p.as_f64(), style: theme.warning }));
    let (plot, legend) = super::overview::split_top(inner, inner.height.saturating_sub(u16::from(inner.height >= 6)));
    let chart = Chart {
        lines,
        x,
        y: Some((0.0, capacity.as_f64() * 1.02)),
        rules,
        y_label: |bytes| format!("{} G", tick((bytes.max(0.0) / Bytes::GIB as f64 * 10.0).round() / 10.0)),
        ..Chart::default()
    };
    chart.render(plot, frame.buffer_mut(), theme);
    if legend.height > 0 {
        frame.render_widget(legend_line(&gpus, usize::from(legend.width), theme), legend);
    }
}

/// Which colour is which GPU, the room that is left, and when it will be gone.
fn legend_line(gpus: &[&Gpu], width: usize, theme: &Theme) -> Line<'static> {
    let mut groups = Vec::new();
    if gpus.len() > LINES {
        for (i, name) in ["fullest", "middle", "emptiest"].into_iter().enumerate() {
            groups.push(vec![Span::styled(format!("{} {name}", theme.glyphs.pick("━", "-")), theme.series(i))]);
        }
    } else if gpus.len() > 1 {
        for (i, gpu) in gpus.iter().enumerate() {
            groups.push(vec![Span::styled(
                format!("{}{}", theme.glyphs.pick("━", "-"), gpu.latest.index),
                theme.series(i),
            )]);
        }
    }
    let least = gpus.iter().filter_map(|g| Some(g.latest.memory_total?.saturating_sub(g.latest.memory_used?))).min();
    if let Some(least) = least {
        let words = if gpus.len() > 1 { "GiB free at least" } else { "GiB free" };
        groups.push(vec![
            Span::styled(format!("{:>6}", gib(least)), theme.bright),
            Span::styled(format!(" {words}"), theme.muted),
        ]);
    }
    if let Some(left) = gpus.iter().filter_map(|g| time_to_full(g)).min_by(f64::total_cmp) {
        groups.push(row::figure("full in", &duration(left), 7, theme.warning, theme));
    }
    let mut line = row::groups(groups, width.saturating_sub(1), 2);
    line.spans.insert(0, Span::raw(" "));
    line
}

/// One span for each column of dots that has samples.
fn spans(gpu: &Gpu, x: (f64, f64), dots: usize) -> Vec<Place> {
    let mut out: Vec<Place> = Vec::new();
    let width = ((x.1 - x.0) / dots as f64).max(1e-3);
    let first = gpu.history.partition_point(|(at, ..)| unix(*at) < x.0);
    let mut column = usize::MAX;
    let mut gap = true;
    let mut before = f64::NEG_INFINITY;
    for (at, used, _) in gpu.history.range(first..) {
        let at = unix(*at);
        let Some(used) = used else {
            gap = true;
            continue;
        };
        let used = used.as_f64();
        // Samples come about once a second; nothing for long is a hole, not a slow slope.
        gap |= at - before > 30.0;
        let here = ((at - x.0) / width) as usize;
        match out.last_mut() {
            Some(span) if here == column && !gap => {
                span.low = span.low.min(used);
                span.high = span.high.max(used);
                span.last = used;
            }
            _ => out.push(Place { x: at, low: used, high: used, last: used, gap }),
        }
        (column, gap, before) = (here, false, at);
    }
    out
}

/// The fullest, the middle and the emptiest GPU in each column.
fn envelope(gpus: &[&Gpu], x: (f64, f64), dots: usize, theme: &Theme) -> Vec<ChartLine> {
    let width = ((x.1 - x.0) / dots as f64).max(1e-3);
    let mut columns: Vec<Vec<f64>> = vec![Vec::new(); dots + 1];
    for gpu in gpus {
        for span in spans(gpu, x, dots) {
            columns[(((span.x - x.0) / width) as usize).min(dots)].push(span.high);
        }
    }
    let mut lines = vec![Vec::new(), Vec::new(), Vec::new()];
    for (i, values) in columns.iter_mut().enumerate().filter(|(_, v)| v.len() * 2 > gpus.len()) {
        values.sort_by(f64::total_cmp);
        let at = x.0 + (i as f64 + 0.5) * width;
        for (line, value) in lines.iter_mut().zip([values[values.len() - 1], values[values.len() / 2], values[0]]) {
            line.push(Place { x: at.min(x.1), low: value, high: value, last: value, gap: line.is_empty() });
        }
    }
    lines
        .into_iter()
        .enumerate()
        .map(|(i, spans)| ChartLine { spans, style: theme.series(i), kind: Kind::Line })
        .collect()
}

/// Each GPU now: a card with much room, a row with some, a cell of a grid with little.
pub fn gpus(frame: &mut Frame, area: Rect, app: &App, theme: &Theme) {
    let gpus: Vec<&Gpu> = app.session.gpus.iter().collect();
    let mut right = Vec::new();
    if gpus.len() > 1 {
        let (used, total) = gpus.iter().fold((Bytes(0), Bytes(0)), |(used, total), g| {
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
    let rows = usize::from(inner.height);
    let inside = Rect { x: inner.x + 1, width: inner.width.saturating_sub(2), ..inner };
    let width = usize::from(inside.width);
    let lines = if rows >= gpus.len() * 3 - 1 && width >= 44 {
        cards(&gpus, width, rows, theme)
    } else if rows >= gpus.len() {
        let mut lines: Vec<Line> = Vec::new();
        if rows > gpus.len() && width >= 40 {
            lines.push(heading(width, theme));
        }
        lines.extend(gpus.iter().map(|g| table_row(g, width, theme)));
        lines
    } else {
        grid(&gpus, width, rows, theme)
    };
    frame.render_widget(Paragraph::new(lines), inside);
}

/// `NVIDIA H100 80GB HBM3` without the vendor.
fn short_name(name: &str) -> &str {
    name.strip_prefix("NVIDIA ").unwrap_or(name)
}

fn cards(gpus: &[&Gpu], width: usize, rows: usize, theme: &Theme) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    let blank = rows >= gpus.len() * 4 - 1;
    for gpu in gpus {
        if !lines.is_empty() && blank {
            lines.push(Line::default());
        }
        let sample = &gpu.latest;
        let name = fit(short_name(sample.name.as_str()), width.saturating_sub(10), theme.glyphs.pick("…", "~"));
        let left = vec![Span::styled(format!("{} ", sample.index), theme.accent), Span::styled(name, theme.text)];
        if sample.lost {
            lines.push(row::sides(left, vec![Span::styled("lost: the driver does not answer", theme.critical)], width));
            lines.push(Line::default());
            lines.push(Line::default());
            continue;
        }
        let mut right = Vec::new();
        if let Some(celsius) = sample.temperature_c {
            right.extend([Span::styled(format!("{celsius:>3}"), theme.text), Span::styled(" °C  ", theme.muted)]);
        }
        if let Some(watts) = sample.power_w {
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
        memory.extend(bar::full(share.unwrap_or(0.0), bar_width, theme.fullness(share.unwrap_or(0.0)), theme));
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

/// Columns of the table: which figures there is room for.
fn columns(width: usize) -> (bool, bool, usize) {
    let temperature = width >= 50;
    let power = width >= 60;
    let taken = 3 + 2 + 6 + 15 + if temperature { 7 } else { 0 } + if power { 8 } else { 0 };
    (temperature, power, width.saturating_sub(taken))
}

fn heading(width: usize, theme: &Theme) -> Line<'static> {
    let (temperature, power, bar) = columns(width);
    let mut text = format!("   {:<bar$}  {:>15}{:>6}", "memory", "used / GiB", "busy");
    if temperature {
        text.push_str("   temp");
    }
    if power {
        text.push_str("   power");
    }
    Line::from(Span::styled(fit(&text, width, ""), theme.muted))
}

fn table_row(gpu: &Gpu, width: usize, theme: &Theme) -> Line<'static> {
    let sample = &gpu.latest;
    let mut spans = vec![Span::styled(format!("{:>2} ", sample.index), theme.accent)];
    if sample.lost {
        spans.push(Span::styled(fit("lost: the driver does not answer", width.saturating_sub(3), ""), theme.critical));
        return Line::from(spans);
    }
    let (temperature, power, bar_width) = columns(width);
    let share = share_used(gpu).unwrap_or(0.0);
    if bar_width >= 4 {
        spans.extend(bar::full(share, bar_width, theme.fullness(share), theme));
        spans.push(Span::raw("  "));
    }
    let figure = |bytes: Option<Bytes>| bytes.map_or_else(|| "-".to_string(), gib);
    if width >= 26 {
        spans.push(Span::styled(format!("{:>6}", figure(sample.memory_used)), theme.bright));
        spans.push(Span::styled(format!(" / {:<6}", figure(sample.memory_total)), theme.muted));
    }
    spans.push(Span::styled(sample.utilization.map_or("     -".into(), |u| format!("{u:>4} %")), theme.text));
    if temperature {
        spans.push(Span::styled(sample.temperature_c.map_or("      -".into(), |t| format!("{t:>4} °C")), theme.text));
    }
    if power {
        spans.push(Span::styled(sample.power_w.map_or("       -".into(), |w| format!("{w:>6.0} W")), theme.text));
    }
    Line::from(spans)
}

/// Many GPUs in little room: index, a bar of memory, percent.
fn grid(gpus: &[&Gpu], width: usize, rows: usize, theme: &Theme) -> Vec<Line<'static>> {
    if rows == 0 {
        return Vec::new();
    }
    let least = 12;
    let columns = gpus.len().div_ceil(rows).clamp(1, (width / least).max(1));
    let cell = width / columns;
    let bar_width = cell.saturating_sub(10).clamp(1, 16);
    let room = columns * rows;
    let shown = if gpus.len() > room { room - 1 } else { gpus.len() };
    let mut lines = Vec::new();
    for line in 0..rows {
        let mut spans = Vec::new();
        for column in 0..columns {
            // Down the columns, as people read indices.
            let at = column * rows + line;
            if at < shown {
                let gpu = gpus[at];
                let share = share_used(gpu);
                spans.push(Span::styled(format!("{:>3} ", gpu.latest.index), theme.accent));
                if gpu.latest.lost {
                    spans.push(Span::styled(format!("{:<width$}", "lost", width = cell - 4), theme.critical));
                    continue;
                }
                spans.extend(bar::full(share.unwrap_or(0.0), bar_width, theme.fullness(share.unwrap_or(0.0)), theme));
                let figure = share.map_or_else(|| "   -".to_string(), |s| format!("{:>4.0}%", s * 100.0));
                spans.push(Span::styled(
                    format!("{figure:<width$}", width = cell.saturating_sub(bar_width + 4)),
                    theme.text,
                ));
            } else if at == shown && shown < gpus.len() {
                spans.push(Span::styled(fit(&format!(" +{} more", gpus.len() - shown), cell, ""), theme.muted));
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
        Some((why, advice)) => explain(frame, area, why.as_str(), &[advice.as_str()], theme),
        None => explain(frame, area, "No GPU has been asked yet", &[], theme),
    }
}
