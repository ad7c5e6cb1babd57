//! The history of alerts: what stands, and what was.

use ratatui::{
    Frame,
    crossterm::event::{KeyCode, KeyEvent},
    layout::Rect,
    text::{Line, Span},
    widgets::Paragraph,
};

use unicode_width::UnicodeWidthStr;

use crate::{
    session::alerts::{Alert, Severity},
    ui::{
        App, Cmd, Screen, Theme,
        format::{clock, duration, folded, seconds_between, sentence},
        screens,
        update::{show, tone_of},
        widgets::panel::{explain, panel_in},
    },
};

use super::{Overlay, moved, window};

/// What stands first, the worst before the rest; then what was, newest first.
fn ordered(app: &App) -> Vec<&Alert> {
    let mut all = app.alerts.standing();
    all.extend(app.alerts.history().filter(|a| a.until.is_some()));
    all
}

pub fn render(frame: &mut Frame, area: Rect, selected: usize, app: &App, theme: &Theme) {
    let all = ordered(app);
    let height = (all.len() as u16 * 2 + 2).clamp(8, area.height.saturating_sub(4).max(8));
    let window = window(frame, area, 110.min(area.width.saturating_sub(4).max(30)), height);
    let stand = match all.iter().filter(|a| a.until.is_none()).count() {
        _ if all.is_empty() => String::new(),
        0 => "none stands, enter shows where, ".to_string(),
        1 => "1 stands, enter shows where, ".to_string(),
        n => format!("{n} stand, enter shows where, "),
    };
    let right = vec![Span::styled(format!("{stand}esc closes"), theme.muted)];
    let inner = panel_in(frame, window, "Alerts", right, theme, theme.accent);
    if all.is_empty() {
        let advice = ["Rules watch the loss, the pace, memory, heat and more; `oomph config` lists them."];
        explain(frame, inner, "Nothing has deserved an alert", &advice, theme);
        return;
    }
    let rows = usize::from(inner.height);
    let selected = selected.min(all.len() - 1);
    let width = usize::from(inner.width).saturating_sub(2);
    // From the one under the cursor upwards, as many as there is room for; then what follows.
    let entry = |(i, alert): (usize, &&Alert)| entry(alert, i == selected, width, app, theme);
    let mut above: Vec<Vec<Line>> = Vec::new();
    let mut used = 0;
    for one in all.iter().enumerate().take(selected + 1).rev() {
        let lines = entry(one);
        used += lines.len();
        if used > rows && !above.is_empty() {
            break;
        }
        above.push(lines);
    }
    let below = all.iter().enumerate().skip(selected + 1).take(rows).flat_map(entry);
    let lines: Vec<Line> = above.into_iter().rev().flatten().chain(below).take(rows).collect();
    frame.render_widget(Paragraph::new(lines), Rect { x: inner.x + 1, width: width as u16, ..inner });
}

/// An alert: since when, how long, at which step, and what, in as many rows as that needs.
fn entry(alert: &Alert, here: bool, width: usize, app: &App, theme: &Theme) -> Vec<Line<'static>> {
    let stands = alert.until.is_none();
    let style = if stands { theme.tone(tone_of(alert.severity)) } else { theme.muted };
    let mark = match alert.severity {
        Severity::Critical => theme.glyphs.pick("✖", "x"),
        Severity::Warning => theme.glyphs.pick("▲", "!"),
        Severity::Info => theme.glyphs.pick("•", "-"),
    };
    let lasted = alert.until.or(app.now()).map_or(0.0, |end| seconds_between(alert.since, end));
    let how_long = if lasted < 1.0 { format!("{:>7}", "now") } else { format!("{:>7}", duration(lasted)) };
    let step = alert.step.filter(|_| width >= 100).map(|s| format!("step {s:<8}")).unwrap_or_default();
    let head = format!("{mark} {}  {how_long}  {step}", clock(alert.since, &app.zone));
    let used = head.width();
    let rest = if here {
        theme.selection
    } else if stands {
        theme.text
    } else {
        theme.muted
    };
    // With little room what happened stands below when it was.
    let margin = if used + 24 <= width { used } else { 2 };
    let mut lines = Vec::new();
    let mut head = Some(Span::styled(head, style));
    if margin < used {
        lines.extend(head.take().map(Line::from));
    }
    for text in folded(&sentence(alert.text.as_str()), width.saturating_sub(margin).max(8)) {
        let before = head.take().unwrap_or_else(|| Span::raw(" ".repeat(margin)));
        lines.push(Line::from(vec![before, Span::styled(text, rest)]));
    }
    lines
}

/// The screen that shows more of what a rule speaks of.
fn screen_of(rule: &str) -> Screen {
    match rule {
        "crash" => Screen::Diagnosis,
        "headroom" | "memory_grows" => Screen::Memory,
        "hot" | "throttled" | "ecc" | "xid" | "gpu_lost" => Screen::Gpus,
        "stall" | "silence" | "end" => Screen::Log,
        _ => Screen::Charts,
    }
}

pub fn key(app: &mut App, key: &KeyEvent) -> Vec<Cmd> {
    let Some(Overlay::Alerts { selected }) = app.overlay else { return Vec::new() };
    if let Some(selected) = moved(app, key, selected, ordered(app).len()) {
        app.overlay = Some(Overlay::Alerts { selected });
        return Vec::new();
    }
    app.overlay = None;
    let chosen = ordered(app).get(selected).map(|a| (a.rule, a.line));
    if let (KeyCode::Enter, Some((rule, line))) = (key.code, chosen) {
        match (screen_of(rule), line) {
            (Screen::Diagnosis, Some(line)) if app.session.open_failure().is_none() => screens::log::jump(app, line),
            (Screen::Charts | Screen::Log, Some(line)) => screens::log::jump(app, line),
            (screen, _) => show(app, screen),
        }
    }
    Vec::new()
}
