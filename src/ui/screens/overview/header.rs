//! How the run stands: the box at the top of the overview.

use ratatui::{
    Frame,
    layout::Rect,
    style::Style,
    text::{Line, Span},
    widgets::Paragraph,
};
use unicode_width::UnicodeWidthStr;

use crate::{
    model::{Bytes, Clean, failure::Verdict, knobs::Knob},
    session::{
        RunState, Session,
        level::{Level, level},
        trends::median,
    },
    ui::{
        App, Screen, Theme, Tone,
        format::{count, duration, fit, percent, sentence, short},
        keymap::Action,
        report::{cause_words, changed_words, verdict_words},
        standing::{self, Standing, Tempo, open_failure, standing, tempo},
        theme::Glyphs,
        widgets::{
            bar,
            canvas::{Canvas, LINE},
            panel::panel_in,
            row,
        },
    },
};

use super::log_tail::main_source;

/// Columns of the curve of the last steps' times.
const PACE: usize = 12;
/// Lines of a log in which the error that ended a run is looked for.
const LOOKS_BACK: usize = 400;

/// Rows that the box takes where there is room: with what went wrong it is larger.
pub fn rows_wanted(app: &App) -> u16 {
    5 + reasons(app, app.theme()).len() as u16
}

/// Three lines and, after a failure, why it failed and what to try; then the box is what the eye meets first.
pub fn render(frame: &mut Frame, area: Rect, app: &App, theme: &Theme) {
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
        let word = if standing::began(session) { word } else { "watched for" };
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
    for (label, text, style) in reasons(app, theme) {
        let room = width.saturating_sub(5);
        lines.push(Line::from(vec![
            Span::styled(format!("{label:<5}"), theme.muted),
            Span::styled(fit(&text, room, theme.glyphs.pick("…", "~")), style),
        ]));
    }
    frame.render_widget(Paragraph::new(lines), inner);
}

/// After a failure: why it happened and what to try first, or the exception and the last line of one's own code.
fn reasons(app: &App, theme: &Theme) -> Vec<(&'static str, String, Style)> {
    let session = &app.session;
    let mut all = Vec::new();
    if let Some(failure) = open_failure(session) {
        if let Some(cause) = failure.causes.first() {
            let words = if cause.summary.is_empty() { cause_words(cause.id) } else { cause.summary.as_str() };
            all.push(("why", format!("{} ({})", sentence(words), percent(cause.score)), theme.text));
        }
        let plan = failure.plan.as_ref().filter(|p| !p.changes.is_empty());
        if let Some(plan) = plan {
            let mut text = changed_words(plan, failure);
            if plan.verdict != Verdict::Unknown {
                let peak = plan.predicted_peak_bytes.map(|b| format!(", peak {}", Bytes(b))).unwrap_or_default();
                text = format!("{text}   {}{peak}", verdict_words(plan.verdict));
            }
            all.push(("try", text, theme.good));
        } else if let Some(fix) = failure.fixes.first() {
            all.push(("try", fix.title.as_str().to_string(), theme.good));
        }
    } else if let Some(crash) = session.crash() {
        // What the verdict's line cannot hold.
        if crash.text.as_str().width() > 48 || session.child.exited.is_some() {
            all.push(("why", crash.text.as_str().to_string(), theme.text));
        }
        all.extend(crash.frame.as_ref().map(|frame| ("in", frame.as_str().to_string(), theme.text)));
    } else if session.state() == RunState::Failed
        && let Some(source) = main_source(session)
    {
        let lines = || source.log.lines().iter().rev().take(LOOKS_BACK).map(|l| l.text.as_str());
        let raised = lines().find(|text| level(text) == Level::Error && !text.contains("Traceback (most"));
        all.extend(raised.map(|text| ("why", text.trim().to_string(), theme.text)));
        let installed = ["site-packages", "dist-packages", "/lib/python", "<frozen"];
        let own = lines()
            .find(|text| text.trim_start().starts_with("File \"") && !installed.iter().any(|part| text.contains(part)));
        all.extend(own.map(|text| ("in", text.trim().to_string(), theme.text)));
    }
    all
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

pub fn state_words(app: &App, theme: &Theme) -> (String, Style) {
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

/// How far the run is: by its steps, or by what it tells instead of them.
pub fn steps(session: &Session, tempo: &Tempo, theme: &Theme) -> Span<'static> {
    let points = session.metrics.points();
    let epoch = session.last_point().and_then(|p| p.epoch);
    let text = match (tempo.step, tempo.total) {
        (Some(step), Some(total)) => {
            let total = count(total);
            format!("step {:>width$} / {total}", count(step), width = total.len())
        }
        (Some(step), None) => format!("step {}", count(step)),
        (None, _) if points > 0 => {
            let epoch = epoch.map(|epoch| format!("epoch {epoch:.2}, ")).unwrap_or_default();
            format!("{epoch}{} points logged", count(points))
        }
        (None, _) => "no step yet".to_string(),
    };
    let some = tempo.step.is_some() || points > 0;
    Span::styled(text, if some { theme.bright } else { theme.muted })
}

fn progress_line(app: &App, tempo: &Tempo, width: usize, theme: &Theme) -> Line<'static> {
    let (state, style) = state_words(app, theme);
    let mut left =
        vec![Span::styled(state, style), Span::raw("   "), steps(&app.session, tempo, theme), Span::raw("   ")];
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
pub fn figures(app: &App, tempo: &Tempo, theme: &Theme) -> Vec<Vec<Span<'static>>> {
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
        if let Some(trend) = tempo.trend.filter(|t| t.abs() >= 0.05) {
            let style = if trend > 0.25 { theme.warning } else { theme.muted };
            let way = if trend > 0.0 { "slower" } else { "faster" };
            group.push(Span::styled(format!(" {} {way}", percent(trend.abs())), style));
        }
        group.extend(pace_line(session, theme));
        groups.push(group);
    }
    if let Some(rate) = tempo.tokens_per_second {
        groups.push(unit(short(rate), "tokens/s"));
    }
    // Without a step it stands in the line above.
    if let Some(epoch) = session.last_point().and_then(|p| p.epoch).filter(|_| tempo.step.is_some()) {
        groups.push(row::figure("epoch", &format!("{epoch:.2}"), 5, theme.text, theme));
    }
    let knobs = session.knobs();
    for (label, knob) in [("", Knob::Method), ("", Knob::Model)] {
        if let Some(value) = knobs.str(knob) {
            let value = value.rsplit('/').next().unwrap_or(value);
            groups.push(row::figure(label, &fit(value, 36, theme.glyphs.pick("…", "~")), 0, theme.text, theme));
        }
    }
    let named = session.sources.values().filter_map(|s| s.log.ranks().last()).max().map(|r| u64::from(*r) + 1);
    if let Some(world) = knobs.u64(Knob::WorldSize).max(named).filter(|n| *n > 1) {
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

/// The times of the last steps as a small curve; nothing where that cannot be drawn.
fn pace_line(session: &Session, theme: &Theme) -> Option<Span<'static>> {
    let dots = PACE * 2;
    let series = session.metrics.series("step_time_seconds").filter(|s| s.len() >= dots)?;
    let mut recent: Vec<f64> = series.samples().rev().take(dots * 4).map(|s| s.value).collect();
    recent.reverse();
    // The slowest step of each stretch: a stall must not vanish in a mean.
    let slowest = |part: &[f64]| part.iter().copied().filter(|v| v.is_finite()).fold(f64::NAN, f64::max);
    let shown: Vec<f64> = recent.chunks((recent.len() / dots).max(1)).take(dots).map(slowest).collect();
    let middle = median(shown.iter().copied()).filter(|m| *m > 0.0 && theme.glyphs == Glyphs::Braille)?;
    let (low, high) = shown.iter().fold((middle * 0.8, middle * 1.25), |(a, b), v| (a.min(*v), b.max(*v)));
    let mut canvas = Canvas::new(PACE as u16, 1, theme.glyphs);
    let mut before: Option<(usize, usize)> = None;
    for (x, value) in shown.iter().enumerate() {
        let y = ((high - value) / (high - low) * 3.0).round().clamp(0.0, 3.0) as usize;
        before = value.is_finite().then(|| {
            canvas.line(before.unwrap_or((x, y)), (x, y), theme.muted, LINE);
            (x, y)
        });
    }
    Some(Span::styled(format!("  {}", canvas.text()), theme.muted))
}

/// The verdict in one line. A failure fills the line.
pub fn verdict_line(standing: &Standing, app: &App, width: usize, theme: &Theme) -> Line<'static> {
    let glyphs = theme.glyphs;
    let key = match standing.more {
        Some(Screen::Diagnosis) => {
            let key = app.keymap.hint(Action::Show(Screen::Diagnosis));
            let long = format!(" {key}: why, and what to change ");
            if standing.text.as_str().width() + long.width() + 3 <= width { long } else { format!(" {key}: fixes ") }
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
    // What happened is worth more than the key where there is no room for both.
    let cut = width < 60 && key.width() + 3 + standing.text.as_str().width() > width;
    let key = if cut || key.width() + 24 > width { String::new() } else { key };
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
