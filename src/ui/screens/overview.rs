//! The run at a glance: how it stands, the curves that matter, memory, GPUs, the end of the log.

use ratatui::{
    Frame,
    layout::Rect,
    text::{Line, Span},
    widgets::Paragraph,
};
use unicode_width::UnicodeWidthStr;

use crate::{
    model::{Clean, knobs::Knob},
    session::{
        RunState, Session, Source,
        series::{Series, XAxis},
    },
    ui::{
        App, Screen, Theme, Tone,
        curves::{Curve, curves},
        format::{count, duration, fit, short},
        keymap::Action,
        standing::{self, Standing, Tempo, standing, tempo, trend_words},
        widgets::{
            bar,
            chart::{Chart, Kind, Line as ChartLine, Mark, Rule, dots_across},
            panel::{explain, panel, panel_in},
            row,
        },
    },
};

use super::{log::line_style, memory_panel};

/// How much there is room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    /// 120 x 30 and more: everything, in two columns.
    Wide,
    /// Down to 60 x 16: charts above, then GPUs, then the log.
    Medium,
    /// Down to 30 x 8: figures, one curve, one line of GPUs and of the log.
    Small,
}

fn size(area: Rect) -> Size {
    match (area.width, area.height) {
        (120.., 30..) => Size::Wide,
        (60.., 16..) => Size::Medium,
        _ => Size::Small,
    }
}

/// ```text
/// ╭ run ────────────────────────────────────────────────────────╮
/// │ ● training  step 1,240 / 2,000  ━━━━━━━━━━──────  62 %  ETA  │
/// │ 12 s/step   4,210 tokens/s   grpo   Qwen2.5-0.5B   8 ranks  │
/// │ verdict                                                     │
/// ├ reward ─────────╮╭ KL ─────────────╮╭ memory ───────────────┤
/// │                 ││                 ││                       │
/// ├ loss ───────────┤├ gradient norm ──┤├ GPUs ─────────────────┤
/// │                 ││                 ││                       │
/// ├ log ────────────┴┴─────────────────┴┴───────────────────────┤
/// ╰─────────────────────────────────────────────────────────────╯
/// ```
pub fn render(frame: &mut Frame, area: Rect, app: &App, theme: &Theme) {
    match size(area) {
        Size::Wide => wide(frame, area, app, theme),
        Size::Medium => medium(frame, area, app, theme),
        Size::Small => small(frame, area, app, theme),
    }
}

fn wide(frame: &mut Frame, area: Rect, app: &App, theme: &Theme) {
    let (head, rest) = split_top(area, 5);
    header(frame, head, app, theme);
    let log_rows = (rest.height / 5).clamp(5, 14);
    let (middle, tail) = split_top(rest, rest.height - log_rows);
    let right_width = (area.width * 36 / 100).clamp(48, 96);
    let (left, right) = split_left(middle, middle.width - right_width);
    if app.session.gpus.is_empty() {
        // Nothing to draw over time: the curves take the room, and one short panel says why there is no GPU.
        let (curves, gpus) = split_top(middle, middle.height.saturating_sub(4));
        curve_grid(frame, curves, app, theme);
        memory_panel::gpus(frame, gpus, app, None, theme);
        log_tail(frame, tail, app, theme);
        return;
    }
    curve_grid(frame, left, app, theme);
    let gpu_rows = memory_panel::rows_wanted(app, right.height / 2);
    let (memory, gpus) = split_top(right, right.height - gpu_rows);
    memory_panel::over_time(frame, memory, app, theme);
    memory_panel::gpus(frame, gpus, app, None, theme);
    log_tail(frame, tail, app, theme);
}

fn medium(frame: &mut Frame, area: Rect, app: &App, theme: &Theme) {
    let (head, rest) = split_top(area, if area.height >= 20 { 5 } else { 3 });
    header(frame, head, app, theme);
    let log_rows = (rest.height / 4).clamp(3, 8);
    let most = if app.session.gpus.is_empty() { 5 } else { rest.height / 3 };
    let gpu_rows = memory_panel::rows_wanted(app, most);
    let charts = rest.height.saturating_sub(log_rows + gpu_rows);
    let (top, rest) = split_top(rest, charts);
    let (middle, tail) = split_top(rest, gpu_rows);
    curve_grid(frame, top, app, theme);
    memory_panel::gpus(frame, middle, app, None, theme);
    log_tail(frame, tail, app, theme);
}

fn small(frame: &mut Frame, area: Rect, app: &App, theme: &Theme) {
    let width = usize::from(area.width);
    let tempo = tempo(&app.session);
    let mut rows = Vec::new();
    let (state, style) = state_words(app, theme);
    let right = vec![Span::styled(tempo.share().map(crate::ui::format::percent).unwrap_or_default(), theme.bright)];
    rows.push(row::sides(vec![Span::styled(state, style), Span::raw(" "), steps(&tempo, theme)], right, width));
    rows.push(Line::from(bar::thin(tempo.share().unwrap_or(0.0), width, theme.accent, theme)));
    rows.push(row::groups(figures(app, &tempo, theme), width, 2));
    rows.push(verdict_line(&standing(&app.session, &app.alerts), app, width, theme));
    let gpus = memory_panel::one_line(app, width, theme);
    let tail_rows = usize::from(area.height >= 9);
    let head = rows.len() as u16;
    let chart = area.height.saturating_sub(head + gpus.iter().len() as u16 + tail_rows as u16);
    let (top, rest) = split_top(area, head);
    frame.render_widget(Paragraph::new(rows), top);
    let (middle, rest) = split_top(rest, chart);
    let best = curves(&app.session, 1);
    match best.first() {
        Some(curve) if chart >= 2 => {
            let (label, plot) = split_top(middle, 1);
            let mut left = vec![Span::styled(curve.title, theme.muted)];
            left.push(Span::raw(" "));
            left.extend(latest(app, curve, theme));
            frame.render_widget(Line::from(left), label);
            curve_chart(app, curve, plot, theme, false).render(plot, frame.buffer_mut(), theme);
        }
        _ if chart >= 1 => explain(frame, middle, nothing_yet(&app.session).0, &[], theme),
        _ => {}
    }
    let mut y = rest.y;
    if let Some(line) = gpus {
        frame.render_widget(line, Rect { y, height: 1.min(rest.height), ..rest });
        y += 1;
    }
    if let Some(line) = main_source(&app.session).and_then(|s| last_lines(s, 1).pop())
        && y < rest.y + rest.height
    {
        let text = fit(line.as_str(), width, theme.glyphs.pick("…", "~"));
        frame.render_widget(Span::styled(text, line_style(&line, theme)), Rect { y, height: 1, ..rest });
    }
}

/// How the run stands, in a box of three lines; on a failure the box is what the eye meets first.
fn header(frame: &mut Frame, area: Rect, app: &App, theme: &Theme) {
    let session = &app.session;
    let standing = standing(session, &app.alerts);
    let tempo = tempo(session);
    let border = match standing.tone {
        Tone::Critical => theme.critical,
        Tone::Warning => theme.warning,
        _ => theme.faint,
    };
    let inner = if area.height >= 5 {
        let word = match session.state() {
            RunState::Waiting => "watched for",
            RunState::Training | RunState::Silent => "running for",
            RunState::Finished | RunState::Failed => "ran for",
        };
        let right = standing::elapsed(session).filter(|s| *s >= 1.0).map(duration);
        let right = right.map(|r| row::figure(word, &r, 0, theme.text, theme)).unwrap_or_default();
        let inner = panel_in(frame, area, &run_name(session), right, theme, border);
        Rect { x: inner.x + 1, width: inner.width.saturating_sub(2), ..inner }
    } else {
        Rect { x: area.x + 1, width: area.width.saturating_sub(2), ..area }
    };
    let width = usize::from(inner.width);
    let mut lines = vec![progress_line(app, &tempo, width, theme)];
    lines.push(row::groups(figures(app, &tempo, theme), width, 3));
    lines.push(verdict_line(&standing, app, width, theme));
    frame.render_widget(Paragraph::new(lines), inner);
}

fn run_name(session: &Session) -> String {
    match main_source(session) {
        Some(source) if session.sources.len() > 1 => {
            format!("{} and {} more", source.name, session.sources.len() - 1)
        }
        Some(source) => source.name.as_str().to_string(),
        None if !session.child.command.is_empty() => {
            session.child.command.iter().map(Clean::as_str).collect::<Vec<_>>().join(" ")
        }
        None => "no run".to_string(),
    }
}

/// The source that speaks: the one with output last.
pub fn main_source(session: &Session) -> Option<&Source> {
    session.sources.values().max_by_key(|s| (s.last_output, std::cmp::Reverse(s.id)))
}

fn state_words(app: &App, theme: &Theme) -> (String, ratatui::style::Style) {
    let glyphs = theme.glyphs;
    let (mark, word, style) = match app.session.state() {
        RunState::Waiting => (glyphs.pick("○", "o"), "waiting ", theme.muted),
        RunState::Training => (glyphs.pick("●", "*"), "training", theme.good),
        RunState::Silent => (glyphs.pick("◌", "?"), "silent  ", theme.warning),
        RunState::Finished => (glyphs.pick("✔", "+"), "finished", theme.good),
        RunState::Failed => (glyphs.pick("✖", "x"), "failed  ", theme.critical),
    };
    (format!("{mark} {word}"), style)
}

fn steps(tempo: &Tempo, theme: &Theme) -> Span<'static> {
    let text = match (tempo.step, tempo.total) {
        (Some(step), Some(total)) => {
            let total = count(total);
            format!("step {:>width$} / {total}", count(step), width = total.len())
        }
        (Some(step), None) => format!("step {}", count(step)),
        (None, _) => "no step yet".to_string(),
    };
    Span::styled(text, if tempo.step.is_some() { theme.bright } else { theme.muted })
}

fn progress_line(app: &App, tempo: &Tempo, width: usize, theme: &Theme) -> Line<'static> {
    let (state, style) = state_words(app, theme);
    let mut left = vec![Span::styled(state, style), Span::raw("   "), steps(tempo, theme), Span::raw("   ")];
    let mut right = Vec::new();
    if let Some(share) = tempo.share() {
        right.push(Span::styled(format!("{:>6.1} %", share * 100.0), theme.bright));
    }
    if app.session.state() == RunState::Training
        && let Some(rest) = tempo.remaining_seconds.filter(|s| *s > 0.0)
    {
        right.push(Span::raw("   "));
        right.extend(row::figure("ETA", &duration(rest), 7, theme.bright, theme));
    }
    let used: usize = left.iter().chain(&right).map(Span::width).sum();
    if tempo.share().is_some() && used + 10 < width {
        left.extend(bar::thin(tempo.share().unwrap_or(0.0), width - used - 1, theme.accent, theme));
    }
    row::sides(left, right, width)
}

/// Pace, throughput and what is known of the job.
fn figures(app: &App, tempo: &Tempo, theme: &Theme) -> Vec<Vec<Span<'static>>> {
    let session = &app.session;
    let mut groups = Vec::new();
    let unit = |value: String, unit: &'static str| {
        let pad = " ".repeat(6usize.saturating_sub(value.width()));
        vec![Span::styled(value, theme.bright), Span::styled(format!(" {unit}{pad}"), theme.muted)]
    };
    if let Some(pace) = tempo.seconds_per_step {
        let mut group = if pace >= 0.995 || pace <= 0.0 {
            unit(if pace < 99.95 { format!("{pace:.1}") } else { format!("{pace:.0}") }, "s/step")
        } else {
            unit(format!("{:.1}", 1.0 / pace), "steps/s")
        };
        if let Some(words) = tempo.trend.and_then(trend_words) {
            let style = if tempo.trend.is_some_and(|t| t > 0.25) { theme.warning } else { theme.muted };
            group.push(Span::styled(format!(" {words}"), style));
        }
        groups.push(group);
    }
    if let Some(rate) = tempo.tokens_per_second {
        groups.push(unit(short(rate), "tokens/s"));
    }
    if let Some(epoch) = session.last_point().and_then(|p| p.epoch) {
        groups.push(row::figure("epoch", &format!("{epoch:.2}"), 5, theme.text, theme));
    }
    let knobs = session.knobs();
    for (label, knob) in [("", Knob::Method), ("", Knob::Model)] {
        if let Some(value) = knobs.str(knob) {
            let value = value.rsplit('/').next().unwrap_or(value);
            groups.push(row::figure(label, &fit(value, 36, theme.glyphs.pick("…", "~")), 0, theme.text, theme));
        }
    }
    if let Some(world) = knobs.u64(Knob::WorldSize).filter(|n| *n > 1) {
        groups.push(vec![Span::styled(world.to_string(), theme.text), Span::styled(" ranks", theme.muted)]);
    }
    if let Some(segment) = session.last_point().map(|p| p.segment).filter(|s| *s > 0) {
        groups.push(row::figure("attempt", &(segment + 1).to_string(), 0, theme.warning, theme));
    }
    for source in session.sources.values() {
        if let Some(share) = source.filling() {
            groups.push(row::figure("reading the past", &format!("{:>3.0} %", share * 100.0), 0, theme.accent, theme));
        }
    }
    groups
}

/// The verdict in one line. A failure fills the line.
fn verdict_line(standing: &Standing, app: &App, width: usize, theme: &Theme) -> Line<'static> {
    let glyphs = theme.glyphs;
    let key = match standing.more {
        Some(Screen::Diagnosis) => {
            let key = app.keymap.hint(Action::Show(Screen::Diagnosis));
            format!(" {key}: why, and what to change ")
        }
        _ if standing.tone == Tone::Quiet => String::new(),
        _ => format!(" {}: why ", app.keymap.hint(Action::Evidence)),
    };
    let mark = match standing.tone {
        Tone::Good => glyphs.pick("✔", "+"),
        Tone::Warning => glyphs.pick("▲", "!"),
        Tone::Critical => glyphs.pick("✖", "x"),
        Tone::Quiet => glyphs.pick("…", "~"),
    };
    let key = if key.width() + 24 > width { String::new() } else { key };
    let room = width.saturating_sub(key.width() + 3);
    let text = format!("{mark} {}", fit(standing.text.as_str(), room, glyphs.pick("…", "~")));
    if standing.tone == Tone::Critical {
        let pad = width.saturating_sub(text.width() + key.width() + 1);
        return Line::from(vec![
            Span::styled(format!(" {text}{}", " ".repeat(pad)), theme.alarm),
            Span::styled(key, theme.alarm),
        ]);
    }
    row::sides(
        vec![Span::styled(text, theme.tone(standing.tone))],
        vec![Span::styled(key.trim().to_string(), theme.muted)],
        width,
    )
}

/// What to say where the curves will be.
fn nothing_yet(session: &Session) -> (&'static str, Vec<&'static str>) {
    if session.sources.is_empty() && session.child.pid.is_none() {
        return (
            "No log is watched",
            vec![
                "oomph train.log follows a log.",
                "oomph run -- python train.py starts a run.",
                "oomph demo shows a recorded run.",
                "Or paste the text of a dead run right here.",
            ],
        );
    }
    if session.sources.values().all(|s| s.bytes_read == 0) {
        return ("No line has been read yet", vec!["The curves appear with the first step that is logged."]);
    }
    ("No step has been logged yet", vec!["The trainer's lines are read as they come; the log below shows them."])
}

/// The curves in a grid of equal cells.
fn curve_grid(frame: &mut Frame, area: Rect, app: &App, theme: &Theme) {
    if area.height < 3 {
        return;
    }
    let columns = (area.width / 56).clamp(1, 4).max(if area.width >= 70 { 2 } else { 1 });
    let most_rows = (area.height / 6).clamp(1, 4);
    let found = curves(&app.session, usize::from(columns * most_rows));
    if found.is_empty() {
        let inner = panel(frame, area, "curves", Vec::new(), theme);
        let (headline, advice) = nothing_yet(&app.session);
        explain(frame, inner, headline, &advice, theme);
        return;
    }
    let rows = (found.len() as u16).div_ceil(columns).min(most_rows);
    for (i, curve) in found.iter().enumerate() {
        let (column, line) = (i as u16 % columns, i as u16 / columns);
        let in_line = if line + 1 == rows { (found.len() as u16 - line * columns).min(columns) } else { columns };
        let cell = part(area, (column, in_line), (line, rows));
        let inner = panel(frame, cell, curve.title, latest(app, curve, theme), theme);
        let chart = curve_chart(app, curve, inner, theme, cell.height >= 9);
        chart.render(inner, frame.buffer_mut(), theme);
    }
}

/// The last value, and the way it goes.
fn latest(app: &App, curve: &Curve, theme: &Theme) -> Vec<Span<'static>> {
    let Some(series) = app.session.metrics.series(curve.key.as_str()) else { return Vec::new() };
    let Some(last) = series.last() else { return Vec::new() };
    let style = if last.value.is_finite() { theme.bright } else { theme.critical };
    let mut spans = vec![Span::styled(short(last.value), style)];
    if let Some(cap) = curve.cap {
        spans.push(Span::styled(format!(" of {}", short(cap)), theme.muted));
    } else if let Some(band) = curve.band.and_then(|b| app.session.metrics.series(b)).and_then(Series::last) {
        spans.push(Span::styled(format!(" {} {}", theme.glyphs.pick("±", "+-"), short(band.value)), theme.muted));
    } else if let Some(eval) = curve.eval.and_then(|k| app.session.metrics.eval().get(k)).and_then(Series::last) {
        spans.push(Span::styled(format!("  eval {}", short(eval.value)), theme.series(1)));
    }
    spans
}

/// One curve with what belongs to it.
fn curve_chart(app: &App, curve: &Curve, area: Rect, theme: &Theme, with_x: bool) -> Chart {
    let metrics = &app.session.metrics;
    let Some(series) = metrics.series(curve.key.as_str()) else { return Chart::default() };
    let axis = if series.extent(XAxis::Step).is_some() { XAxis::Step } else { XAxis::Time };
    let Some(x) = series.extent(axis) else { return Chart::default() };
    let dots = dots_across(area, theme).max(2);
    let buckets = series.view(axis, x.0..x.1, dots);
    let many = series.len() >= 40;
    let mut lines = Vec::new();
    if let Some(band) = curve.band.and_then(|key| metrics.series(key)) {
        let spread = band.view(axis, x.0..x.1, dots);
        let mut line = ChartLine::of(&buckets, theme.faint).kind(Kind::Band);
        for span in &mut line.spans {
            let near = spread.iter().min_by(|a, b| (a.x - span.x).abs().total_cmp(&(b.x - span.x).abs()));
            let half = near.map_or(0.0, |b| b.mean).abs();
            let middle = f64::midpoint(span.low, span.high);
            if half.is_finite() {
                (span.low, span.high) = (middle - half, middle + half);
            }
        }
        lines.push(line);
    }
    if many {
        lines.push(ChartLine::of(&buckets, theme.faint).kind(Kind::Faded));
        lines.push(ChartLine::smoothed(&buckets, 0.9, theme.series(0)));
    } else {
        lines.push(ChartLine::of(&buckets, theme.series(0)));
    }
    if let Some(eval) = curve.eval.and_then(|key| metrics.eval().get(key)) {
        lines.push(ChartLine::of(&eval.view(axis, x.0..x.1, dots), theme.series(1)));
    }
    let rules = curve.cap.map(|value| Rule { value, style: theme.warning }).into_iter().collect();
    let marks = restarts(&buckets).into_iter().map(|x| Mark { x, style: theme.muted }).collect();
    let x_label: Option<Box<dyn Fn(f64) -> String>> =
        if with_x && axis == XAxis::Step { Some(Box::new(|x| count(x.max(0.0).round() as u64))) } else { None };
    Chart { lines, x, rules, marks, x_label, ..Chart::default() }
}

/// Where a new attempt of the run begins.
pub fn restarts(buckets: &[crate::session::series::Bucket]) -> Vec<f64> {
    buckets.windows(2).filter(|w| w[0].segment != w[1].segment).map(|w| w[1].x).collect()
}

/// The last lines of the log.
fn log_tail(frame: &mut Frame, area: Rect, app: &App, theme: &Theme) {
    let Some(source) = main_source(&app.session) else {
        let inner = panel(frame, area, "log", Vec::new(), theme);
        explain(frame, inner, "No log", &[], theme);
        return;
    };
    let mut right = Vec::new();
    if let Some(trouble) = &source.trouble {
        right.push(Span::styled(trouble.as_str().to_string(), theme.warning));
    } else if source.log.last_number() > 0 {
        right.push(Span::styled(format!("{} lines", count(source.log.last_number())), theme.muted));
    }
    let inner = panel(frame, area, &format!("log {} {}", theme.glyphs.pick("·", "-"), source.name), right, theme);
    let lines = last_lines(source, usize::from(inner.height));
    if lines.is_empty() {
        let text = format!("waiting for the first line of {}", source.name);
        explain(frame, inner, &text, &[], theme);
        return;
    }
    let width = usize::from(inner.width).saturating_sub(2);
    for (i, text) in lines.iter().enumerate() {
        let shown = fit(text.as_str(), width, theme.glyphs.pick("…", "~"));
        let row = Rect { x: inner.x + 1, y: inner.y + i as u16, height: 1, width: width as u16 };
        frame.render_widget(Span::styled(shown, line_style(text, theme)), row);
    }
}

/// The last lines that say something, the one that is being written included.
fn last_lines(source: &Source, rows: usize) -> Vec<Clean> {
    let partial = source.log.partial().map(|l| l.text);
    let complete = source.log.lines().iter().rev().map(|l| l.text.clone());
    let mut lines: Vec<Clean> =
        partial.into_iter().chain(complete).filter(|t| !t.as_str().trim().is_empty()).take(rows).collect();
    lines.reverse();
    lines
}

pub fn split_top(area: Rect, rows: u16) -> (Rect, Rect) {
    let rows = rows.min(area.height);
    (Rect { height: rows, ..area }, Rect { y: area.y + rows, height: area.height - rows, ..area })
}

pub fn split_left(area: Rect, columns: u16) -> (Rect, Rect) {
    let columns = columns.min(area.width);
    (Rect { width: columns, ..area }, Rect { x: area.x + columns, width: area.width - columns, ..area })
}

/// The cell of a grid: (which, of how many) across and down. The cells fill the area exactly.
pub fn part(area: Rect, across: (u16, u16), down: (u16, u16)) -> Rect {
    let edge = |n: u16, of: u16, size: u16| (u32::from(n) * u32::from(size) / u32::from(of.max(1))) as u16;
    let (left, right) = (edge(across.0, across.1, area.width), edge(across.0 + 1, across.1, area.width));
    let (top, bottom) = (edge(down.0, down.1, area.height), edge(down.0 + 1, down.1, area.height));
    Rect { x: area.x + left, y: area.y + top, width: right - left, height: bottom - top }
}
