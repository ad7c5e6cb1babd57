//! What happened to the run, as marks on the charts that can be jumped to, and from there to the log.

use std::borrow::Cow;

use ratatui::{
    style::Style,
    text::{Line, Span},
};
use unicode_width::UnicodeWidthStr;

use crate::{
    session::{
        moments::{self, Kind, Moment},
        series::XAxis,
    },
    ui::{
        App, Theme, Tone,
        format::{count, fit, sentence},
        screens::log,
        widgets::chart::Mark,
    },
};

use super::{axis_of, extent, keys, selected, window, within};

/// How a kind of event looks: its sign, and whether it is worth a line over the whole height.
fn look(kind: Kind, theme: &Theme) -> (&'static str, Style, bool) {
    let pick = |unicode, plain| theme.glyphs.pick(unicode, plain);
    match kind {
        Kind::Evaluation => (pick("◇", "E"), theme.series(1), false),
        Kind::Checkpoint => (pick("◆", "C"), theme.accent, false),
        Kind::Throttle => (pick("≈", "T"), theme.warning, true),
        Kind::Restart => (pick("↻", "R"), theme.bright, true),
        Kind::Gpu => (pick("✖", "G"), theme.critical, true),
        Kind::Error | Kind::OutOfMemory => (pick("✖", "X"), theme.critical, true),
    }
}

/// The marks of a chart along `axis`: everything that happened, or what is worth a line.
pub fn marks(all: &[Cow<'_, Moment>], axis: XAxis, everything: bool, theme: &Theme) -> Vec<Mark> {
    marks_at(all, |moment| moment.x(axis), everything, theme)
}

/// The same, where `at` places a moment.
pub fn marks_at(
    all: &[Cow<'_, Moment>],
    at: impl Fn(&Moment) -> Option<f64>,
    everything: bool,
    theme: &Theme,
) -> Vec<Mark> {
    let mut marks: Vec<(Kind, Mark)> = all
        .iter()
        .filter_map(|moment| {
            let (symbol, style, tall) = look(moment.kind, theme);
            let x = at(moment).filter(|_| tall || everything)?;
            Some((moment.kind, Mark { x, style, symbol, tall }))
        })
        .collect();
    // Where several fall into one column the loudest is seen.
    marks.sort_by_key(|(kind, _)| *kind);
    marks.into_iter().map(|(_, mark)| mark).collect()
}

/// Moves the cursor to the event after this place, or before it.
pub fn go(app: &mut App, forwards: bool) {
    let keys = keys(app);
    let Some(key) = selected(app, &keys) else { return };
    let axis = axis_of(app, key.as_str());
    let all: Vec<Moment> = moments::all(&app.session, &app.alerts).into_iter().map(Cow::into_owned).collect();
    let placed: Vec<(f64, &Moment)> = all.iter().filter_map(|m| Some((m.x(axis)?, m))).collect();
    let here = app.charts.event.as_ref().and_then(|e| placed.iter().position(|(_, m)| *m == e));
    let found = match (here, app.charts.cursor, forwards) {
        (Some(at), _, true) => placed.get(at + 1),
        (Some(at), _, false) => at.checked_sub(1).and_then(|at| placed.get(at)),
        (None, Some(cursor), true) => placed.iter().find(|(x, _)| *x > cursor),
        (None, Some(cursor), false) => placed.iter().rev().find(|(x, _)| *x < cursor),
        (None, None, true) => placed.first(),
        (None, None, false) => placed.last(),
    };
    let Some((x, moment)) = found else {
        let text = match (placed.is_empty(), forwards) {
            (true, _) => "no restart, evaluation, checkpoint or error so far",
            (false, true) => "that was the last event",
            (false, false) => "that was the first event",
        };
        app.say(text, Tone::Quiet);
        return;
    };
    let (x, moment) = (*x, (*moment).clone());
    if let (Some(whole), Some(now)) = (extent(app, key.as_str()), window(app, key.as_str())) {
        let x = x.clamp(whole.0, whole.1);
        if x < now.0 || x > now.1 {
            let half = (now.1 - now.0) / 2.0;
            app.charts.window = Some(within((x - half, x + half), whole));
        }
        app.charts.cursor = Some(x);
    }
    app.charts.event = Some(moment);
}

/// Opens the log at the event that was jumped to, or at the point under the cursor. False without either.
pub fn open(app: &mut App) -> bool {
    let Some((source, line)) = leads(app) else {
        if app.charts.cursor.is_some() {
            app.say("that stands in no log that is watched", Tone::Quiet);
        }
        return app.charts.cursor.is_some();
    };
    log::jump_in(app, source, line);
    true
}

fn leads(app: &App) -> Option<(Option<crate::model::SourceId>, u64)> {
    if let Some(event) = &app.charts.event {
        return Some((event.source, event.line?));
    }
    let keys = keys(app);
    let key = selected(app, &keys)?;
    let near = app.session.metrics.moments.line_near(axis_of(app, key.as_str()), app.charts.cursor?)?;
    Some((Some(near.0), near.1))
}

/// What is under the cursor, and where Enter leads: for the lower edge of the charts.
pub fn caption(app: &App, width: usize, theme: &Theme) -> Option<Line<'static>> {
    app.charts.cursor?;
    let to = leads(app).map(|(_, line)| format!(" enter: line {} ", count(line))).unwrap_or_default();
    let mut spans = Vec::new();
    let mut room = width;
    if to.width() + 12 <= width {
        room -= to.width() + 1;
    }
    if let Some(event) = &app.charts.event {
        let (symbol, style, _) = look(event.kind, theme);
        let text = match event.kind {
            Kind::Checkpoint => format!("checkpoint: {}", event.text),
            _ => event.text.to_string(),
        };
        let text = fit(&sentence(&text), room.saturating_sub(symbol.width() + 3), theme.glyphs.pick("…", "~"));
        spans.push(Span::styled(format!(" {symbol} "), style));
        spans.push(Span::styled(format!("{text} "), theme.bright));
    }
    if room < width {
        spans.push(Span::styled(to, theme.muted));
    }
    (!spans.is_empty()).then(|| Line::from(spans))
}
