//! The curves that matter for the method, each in its cell; those that never move share one line.

use std::borrow::Cow;

use ratatui::{
    Frame,
    layout::Rect,
    text::{Line, Span},
};

use crate::{
    session::{
        Session,
        moments::{self, Moment},
        series::{Series, XAxis},
    },
    ui::{
        App, Theme,
        curves::{Curve, curves, is_constant},
        format::{count, short},
        screens::charts::{attempts, events, run_style},
        widgets::{
            area::{part, split_top},
            chart::{Chart, Kind, Line as ChartLine, Rule, dots_across},
            panel::{explain, panel},
            row,
        },
    },
};

/// What to say where the curves will be.
pub fn nothing_yet(session: &Session) -> (&'static str, Vec<&'static str>) {
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
    ("No value has been logged yet", vec!["The curves begin with the first values that the trainer logs."])
}

/// The curves in a grid of equal cells.
pub fn render(frame: &mut Frame, area: Rect, app: &App, theme: &Theme) {
    if area.height < 3 {
        return;
    }
    let columns = (area.width / 56).clamp(1, 4).max(if area.width >= 70 { 2 } else { 1 });
    let most_rows = (area.height / 6).clamp(1, 4);
    let room = usize::from(columns * most_rows);
    let mut found = curves(&app.session, room + 8);
    if found.is_empty() {
        let inner = panel(frame, area, "curves", Vec::new(), theme);
        let (headline, advice) = nothing_yet(&app.session);
        explain(frame, inner, headline, &advice, theme);
        return;
    }
    // What never moves needs no chart. One line of them, unless nothing moves at all.
    let still: Vec<Curve> = found.iter().filter(|c| is_constant(&app.session, c.key.as_str())).cloned().collect();
    let mut area = area;
    if still.len() < found.len() && !still.is_empty() && area.height >= 7 {
        found.retain(|c| !still.contains(c));
        let (above, line) = split_top(area, area.height - 1);
        area = above;
        frame.render_widget(still_line(app, &still, usize::from(line.width), theme), line);
    }
    found.truncate(room);
    let rows = (found.len() as u16).div_ceil(columns).min(most_rows);
    let moments = moments::all(&app.session, &app.alerts);
    for (i, curve) in found.iter().enumerate() {
        let (column, line) = (i as u16 % columns, i as u16 / columns);
        let in_line = if line + 1 == rows { (found.len() as u16 - line * columns).min(columns) } else { columns };
        let cell = part(area, (column, in_line), (line, rows));
        let inner = panel(frame, cell, curve.title, latest(app, curve, theme), theme);
        let chart = curve_chart(app, curve, &moments, inner, theme, cell.height >= 9);
        chart.render(inner, frame.buffer_mut(), theme);
    }
}

/// `unchanged  completion length 48   entropy 11.62`
fn still_line(app: &App, still: &[Curve], width: usize, theme: &Theme) -> Line<'static> {
    let mut groups = vec![vec![Span::styled("  unchanged", theme.muted)]];
    for curve in still {
        let mut group = vec![Span::styled(format!("{} ", curve.title), theme.muted)];
        group.extend(latest(app, curve, theme));
        groups.push(group);
    }
    row::groups(groups, width, 3)
}

/// The last value, and the way it goes.
pub fn latest(app: &App, curve: &Curve, theme: &Theme) -> Vec<Span<'static>> {
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
pub fn curve_chart(
    app: &App,
    curve: &Curve,
    moments: &[Cow<'_, Moment>],
    area: Rect,
    theme: &Theme,
    with_x: bool,
) -> Chart {
    let metrics = &app.session.metrics;
    let Some(series) = metrics.series(curve.key.as_str()) else { return Chart::default() };
    let axis = if series.extent(XAxis::Step).is_some() { XAxis::Step } else { XAxis::Points };
    let Some(x) = series.extent(axis) else { return Chart::default() };
    let dots = dots_across(area, theme).max(2);
    let buckets = series.view(axis, x.0..x.1, dots);
    let many = series.len() >= 40;
    let mut lines = Vec::new();
    if let Some(band) = curve.band.and_then(|key| metrics.series(key)).filter(|_| metrics.apart().is_empty()) {
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
    let runs = series.runs(&metrics.apart(), axis, x.0..x.1, dots);
    for (nth, (_, buckets)) in runs.iter().enumerate() {
        let style = run_style(nth, theme);
        lines.push(if many { ChartLine::smoothed(buckets, 0.9, style) } else { ChartLine::of(buckets, style) });
    }
    let (earlier, last) = attempts(if runs.is_empty() { &buckets } else { &[] });
    for (part, style) in [(earlier, theme.muted), (last, theme.series(0))] {
        if many {
            lines.push(ChartLine::of(part, theme.faint).kind(Kind::Faded));
            lines.push(ChartLine::smoothed(part, 0.9, style));
        } else {
            lines.push(ChartLine::of(part, style));
        }
    }
    if let Some(eval) = curve.eval.and_then(|key| metrics.eval().get(key)) {
        lines.push(ChartLine::of(&eval.view(axis, x.0..x.1, dots), theme.series(1)));
    }
    let rules = curve.cap.map(|value| Rule { value, style: theme.warning }).into_iter().collect();
    let marks = events::marks(moments, axis, false, theme);
    let x_label: Option<Box<dyn Fn(f64) -> String>> =
        if with_x { Some(Box::new(|x| count(x.max(0.0).round() as u64))) } else { None };
    Chart { lines, x, rules, marks, x_label, ..Chart::default() }
}
