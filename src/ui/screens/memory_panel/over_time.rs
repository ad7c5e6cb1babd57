//! Memory in use over the last minutes against the capacity, with what others hold, what the trainer logs of its own, and
//! where the run failed.

use ratatui::{
    Frame,
    layout::Rect,
    style::Style,
    text::{Line, Span},
};

use crate::{
    model::{
        Bytes,
        failure::{Failure, PhaseId},
    },
    session::{Session, Source, gpus::Gpu, moments, trends::time_to_full},
    ui::{
        App, Theme,
        format::{clock, duration, fit, gib, round_span, unix},
        report::phase_words,
        screens::charts::events,
        widgets::{
            area::split_top,
            chart::{Chart, Kind, Line as ChartLine, Mark, Rule, Span as Place, dots_across},
            panel::panel,
            row,
        },
    },
};

use super::explain_absence;

/// Seconds of the past that are shown, at first and in the end.
const WINDOWS: [f64; 3] = [60.0, 180.0, 600.0];
const PAST: f64 = 900.0;
/// More GPUs than this are drawn as the fullest, and the span down to the emptiest.
const LINES: usize = 3;

/// Memory in use over the last minutes against the capacity.
pub fn over_time(frame: &mut Frame, area: Rect, app: &App, theme: &Theme) {
    draw(frame, area, app, &app.session.gpus.iter().collect::<Vec<_>>(), "memory", theme);
}

/// The same of one card.
pub fn over_time_of(frame: &mut Frame, area: Rect, app: &App, gpu: &Gpu, theme: &Theme) {
    draw(frame, area, app, &[gpu], &format!("memory of GPU {}", gpu.latest.index), theme);
}

fn draw(frame: &mut Frame, area: Rect, app: &App, gpus: &[&Gpu], name: &str, theme: &Theme) {
    let peak = gpus.iter().filter_map(|g| g.peak_used).max();
    let capacity = gpus.iter().filter_map(|g| g.latest.memory_total).max();
    let mut right = Vec::new();
    if let (Some(peak), Some(capacity)) = (peak, capacity) {
        right.extend(row::figure("peak", &gib(peak), 0, theme.bright, theme));
        right.push(Span::styled(format!(" of {} GiB", gib(capacity)), theme.muted));
    }
    let (Some(now), Some(capacity)) = (app.now(), capacity) else {
        let inner = panel(frame, area, name, right, theme);
        explain_absence(frame, inner, app, theme);
        return;
    };
    let oldest = gpus.iter().filter_map(|g| g.history.front()).map(|(at, ..)| *at).min();
    let (from, to) = window(oldest.map(unix), unix(now));
    let title = format!("{name}, last {}", round_span(to - from));
    let inner = panel(frame, area, if area.width >= 50 { &title } else { name }, right, theme);
    let dots = dots_across(inner, theme).max(2);
    let x = (from, to);
    let mut lines: Vec<ChartLine> = Vec::new();
    if gpus.len() <= LINES {
        for (i, gpu) in gpus.iter().enumerate() {
            let kind = if gpus.len() == 1 { Kind::Filled } else { Kind::Line };
            lines.push(ChartLine { spans: spans(gpu, x, dots), style: theme.series(i), kind });
        }
    } else {
        lines = envelope(gpus, x, dots, theme);
    }
    lines.extend(others(gpus, x, dots, theme));
    let logged = LOGGED.map(|(keys, words, series)| {
        let spans = keys.iter().find_map(|(key, unit)| logged(&app.session, key, *unit, x))?;
        let last = Bytes(spans.last()?.last as u64);
        let style = theme.series(series);
        lines.push(ChartLine { spans, style, kind: Kind::Line });
        Some((words, last, style))
    });
    let full = Rule { value: capacity.as_f64(), style: theme.critical };
    let mut rules: Vec<Rule> = Some(full).into_iter().filter(|full| full.value <= top(peak, capacity)).collect();
    rules.extend(peak.map(|p| Rule { value: p.as_f64(), style: theme.warning }));
    let end = End::of(&app.session);
    lines.extend(end.as_ref().and_then(|end| end.reserved(theme)));
    let foot = match (inner.height, &end) {
        (10.., Some(_)) => 2,
        (6.., _) => 1,
        _ => 0,
    };
    let (plot, legend) = split_top(inner, inner.height - foot);
    let chart = Chart {
        lines,
        x,
        y: Some((0.0, top(peak, capacity))),
        rules,
        marks: marks(app, theme),
        unit: Bytes::GIB as f64,
        y_label: Some(|bytes| format!("{:.0}G", bytes.max(0.0) / Bytes::GIB as f64)),
        ..Chart::default()
    };
    chart.render(plot, frame.buffer_mut(), theme);
    let (first, second) = split_top(legend, 1);
    if first.height > 0 {
        let logged: Vec<_> = logged.into_iter().flatten().collect();
        frame.render_widget(legend_line(gpus, &logged, end.is_some(), usize::from(first.width), theme), first);
    }
    if let Some(end) = end.filter(|_| second.height > 0) {
        frame.render_widget(end.line(app, usize::from(second.width), theme), second);
    }
}

/// What happened to the run, at its time.
fn marks(app: &App, theme: &Theme) -> Vec<Mark> {
    let at = |moment: &moments::Moment| moments::time(&app.session, moment).map(unix);
    events::marks_at(&moments::all(&app.session, &app.alerts), at, false, theme)
}

/// The failure that ended the run, and when.
struct End<'a> {
    failure: &'a Failure,
    at: Option<crate::model::Timestamp>,
}

impl<'a> End<'a> {
    fn of(session: &'a Session) -> Option<Self> {
        let failure = session.open_failure()?;
        let source = session.sources.values().find(|s| s.name == failure.place.source);
        let at = source.and_then(|source| moments::time_of_line(source, failure.place.line));
        Some(Self { failure, at })
    }

    /// What PyTorch held and had not given out when the failure came, as a stretch above what was allocated.
    fn reserved(&self, theme: &Theme) -> Option<ChartLine> {
        let numbers = &self.failure.numbers;
        let (x, low) = (unix(self.at?), numbers.allocated_bytes? as f64);
        let high = low + numbers.reserved_unallocated_bytes.filter(|bytes| *bytes > 0)? as f64;
        let spans = [x, x + 1e-3].map(|x| Place { x, low, high, last: high, gap: true }).to_vec();
        Some(ChartLine { spans, style: theme.series(1), kind: Kind::Line })
    }

    /// `✖ 11:34:22  rank 3, GPU 0, in the forward pass   allocated 131.1   reserved, not allocated 7.73 GiB   line`
    fn line(&self, app: &App, width: usize, theme: &Theme) -> Line<'static> {
        let failure = self.failure;
        let mut place = Vec::new();
        place.extend(failure.rank.map(|rank| format!("rank {rank}")));
        place.extend(failure.device.map(|device| format!("GPU {device}")));
        if failure.phase.id != PhaseId::Unknown {
            place.push(phase_words(failure.phase.id).to_string());
        }
        let when = self.at.map(|at| format!(" {}", clock(at, &app.zone))).unwrap_or_default();
        let mark = theme.glyphs.pick("✖", "x");
        let mut groups = vec![vec![Span::styled(format!(" {mark}{when} {}", place.join(", ")), theme.critical)]];
        let numbers = &failure.numbers;
        for (label, bytes) in
            [("allocated", numbers.allocated_bytes), ("reserved, not allocated", numbers.reserved_unallocated_bytes)]
        {
            if let Some(bytes) = bytes {
                groups.push(row::figure(label, &format!("{} GiB", gib(Bytes(bytes))), 0, theme.bright, theme));
            }
        }
        let used: usize = groups.iter().flatten().map(Span::width).sum::<usize>() + groups.len() * 3;
        if let Some(frame) = failure.phase.evidence.first().filter(|_| used + 24 < width) {
            let text = fit(frame.text.as_str().trim(), width - used - 1, theme.glyphs.pick("…", "~"));
            groups.push(vec![Span::styled(text, theme.muted)]);
        }
        row::groups(groups, width.saturating_sub(1), 3)
    }
}

type Logged = (&'static [(&'static str, f64)], &'static str, usize);
/// Keys under which trainers log memory with the unit of each, what it is, and its colour. Where a trainer logs both, what
/// PyTorch holds is told apart from what it has given out.
const LOGGED: [Logged; 2] = [
    (&[("gpu_memory_bytes", 1.0)], "as logged", 2),
    (
        &[
            ("memory/max_reserved(GiB)", GIB),
            ("memory/max_reserved (GiB)", GIB),
            ("peak_memory_reserved", GIB),
            ("max_memory_reserved_gb", GIB),
            ("memory_reserved_gb", GIB),
        ],
        "reserved, as logged",
        1,
    ),
];
const GIB: f64 = Bytes::GIB as f64;

/// What the trainer itself logs of memory, from the time on when it was watched.
fn logged(session: &Session, key: &str, unit: f64, x: (f64, f64)) -> Option<Vec<Place>> {
    let since = session.sources.values().filter_map(Source::live_since).min()?;
    let series = session.metrics.series(key)?;
    let recent = series.samples().rev().take_while(|s| s.at > since && unix(s.at) >= x.0);
    let mut spans: Vec<Place> = recent
        .filter(|s| s.value.is_finite() && s.value > 0.0)
        .map(|s| (unix(s.at), s.value * unit))
        .map(|(x, held)| Place { x, low: held, high: held, last: held, gap: false })
        .collect();
    spans.reverse();
    spans.first_mut()?.gap = true;
    Some(spans)
}

/// The upper end of memory's axis: the capacity, or twice the peak where most of that would stay empty.
fn top(peak: Option<Bytes>, capacity: Bytes) -> f64 {
    let gib = Bytes::GIB as f64;
    match peak {
        Some(peak) if peak.as_f64() < capacity.as_f64() * 0.4 => (peak.as_f64() * 2.0 / gib).ceil().max(1.0) * gib,
        _ => capacity.as_f64() * 1.02,
    }
}

/// Which colour is which GPU, the room that is left, and when it will be gone.
fn legend_line(
    gpus: &[&Gpu],
    logged: &[(&'static str, Bytes, Style)],
    over: bool,
    width: usize,
    theme: &Theme,
) -> Line<'static> {
    let mut groups = Vec::new();
    if gpus.len() > LINES {
        groups.push(vec![Span::styled(theme.glyphs.pick("━ fullest", "- fullest"), theme.series(0))]);
        groups.push(vec![Span::styled(theme.glyphs.pick("░ the others", ". the others"), theme.muted)]);
    } else if gpus.len() > 1 {
        for (i, gpu) in gpus.iter().enumerate() {
            groups.push(vec![Span::styled(
                format!("{}{}", theme.glyphs.pick("━", "-"), gpu.latest.index),
                theme.series(i),
            )]);
        }
    }
    if let Some(held) = gpus.iter().filter_map(|g| Some(g.others.back()?.1)).max().filter(|held| held.0 > 0) {
        groups.push(vec![
            Span::styled(theme.glyphs.pick("━ others ", "- others "), theme.series(4)),
            Span::styled(format!("{:>5}", gib(held)), theme.bright),
            Span::styled(" GiB", theme.muted),
        ]);
    }
    for (words, held, style) in logged {
        groups.push(vec![
            Span::styled(format!("{} {words} ", theme.glyphs.pick("━", "-")), *style),
            Span::styled(format!("{:>5}", gib(*held)), theme.bright),
            Span::styled(" GiB", theme.muted),
        ]);
    }
    let least = gpus.iter().filter_map(|g| g.free()).min();
    if let Some(least) = least {
        let words = if gpus.len() > 1 { "GiB free at least" } else { "GiB free" };
        groups.push(vec![
            Span::styled(format!("{:>6}", gib(least)), theme.bright),
            Span::styled(format!(" {words}"), theme.muted),
        ]);
    }
    if let Some(left) = gpus.iter().filter_map(|g| time_to_full(g)).min_by(f64::total_cmp).filter(|_| !over) {
        groups.push(row::figure("full in", &duration(left), 7, theme.warning, theme));
    }
    let mut line = row::groups(groups, width.saturating_sub(1), 2);
    line.spans.insert(0, Span::raw(" "));
    line
}

/// The time that is shown. It moves on by a twentieth of its length at once, so that between two such steps only what is
/// new is drawn: a chart that slides at every look cannot be read, and costs a slow link dearly.
fn window(oldest: Option<f64>, now: f64) -> (f64, f64) {
    let known = oldest.map_or(0.0, |at| now - at);
    let span = WINDOWS.into_iter().find(|span| known <= span * 0.95).unwrap_or(PAST);
    let step = span / 20.0;
    let to = ((now / step).floor() + 1.0) * step;
    (to - span, to)
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

/// What others than the job hold, on the GPU where that is most; nothing where nobody is beside the job.
fn others(gpus: &[&Gpu], x: (f64, f64), dots: usize, theme: &Theme) -> Option<ChartLine> {
    let width = ((x.1 - x.0) / dots as f64).max(1e-3);
    let mut columns: Vec<Option<f64>> = vec![None; dots + 1];
    let all = gpus.iter().flat_map(|gpu| &gpu.others).map(|(at, held)| (unix(*at), held.as_f64()));
    for (at, held) in all.filter(|(at, _)| *at >= x.0 && *at <= x.1) {
        let column = &mut columns[((at - x.0) / width) as usize];
        *column = Some(column.map_or(held, |known| known.max(held)));
    }
    let least = gpus.iter().filter_map(|g| g.latest.memory_total).max()?.as_f64() / 100.0;
    columns.iter().flatten().any(|held| *held > least).then_some(())?;
    let place = |(i, held): (usize, &Option<f64>)| {
        let at = (x.0 + (i as f64 + 0.5) * width).min(x.1);
        held.map(|held| Place { x: at, low: held, high: held, last: held, gap: false })
    };
    let mut spans: Vec<Place> = columns.iter().enumerate().filter_map(place).collect();
    if let Some(first) = spans.first_mut() {
        first.gap = true;
    }
    Some(ChartLine { spans, style: theme.series(4), kind: Kind::Line })
}

/// The fullest GPU in each column, before the span of all of them.
fn envelope(gpus: &[&Gpu], x: (f64, f64), dots: usize, theme: &Theme) -> Vec<ChartLine> {
    let width = ((x.1 - x.0) / dots as f64).max(1e-3);
    let mut columns: Vec<Option<(f64, f64)>> = vec![None; dots + 1];
    for gpu in gpus {
        for span in spans(gpu, x, dots) {
            let column = &mut columns[(((span.x - x.0) / width) as usize).min(dots)];
            let (low, high) = column.unwrap_or((f64::INFINITY, f64::NEG_INFINITY));
            *column = Some((low.min(span.low), high.max(span.high)));
        }
    }
    let (mut band, mut fullest) = (Vec::new(), Vec::new());
    for (i, (low, high)) in columns.iter().enumerate().filter_map(|(i, c)| c.map(|c| (i, c))) {
        let at = (x.0 + (i as f64 + 0.5) * width).min(x.1);
        band.push(Place { x: at, low, high, last: high, gap: band.is_empty() });
        fullest.push(Place { x: at, low: high, high, last: high, gap: fullest.is_empty() });
    }
    vec![
        ChartLine { spans: band, style: theme.muted, kind: Kind::Band },
        ChartLine { spans: fullest, style: theme.series(0), kind: Kind::Line },
    ]
}
