//! The list of keys beside the charts, with the settings that hold for all of them.

use ratatui::{
    Frame,
    layout::Rect,
    text::{Line, Span},
    widgets::Paragraph,
};

use crate::{
    model::Clean,
    session::series::{Series, XAxis},
    ui::{
        App, Theme,
        format::{count, fit_end, short},
        widgets::panel::panel,
    },
};

use super::{SMOOTHING, axis_of, families};

/// Rows of the settings under the list, with their rule, and the least height with which they are shown.
const SETTINGS: u16 = 6;
const SETTINGS_FROM: u16 = 9;

pub(super) fn render(frame: &mut Frame, area: Rect, app: &App, keys: &[Clean], events: usize, theme: &Theme) {
    let state = &app.charts;
    let title = if state.filter.as_str().is_empty() {
        "keys".to_string()
    } else {
        format!("keys ~ {}", Clean::new(state.filter.as_str()))
    };
    let right = vec![Span::styled(count(keys.len() as u64), theme.muted)];
    let inner = panel(frame, area, &title, right, theme);
    let rows = rows(inner.height);
    let at = state.selected.min(keys.len().saturating_sub(1));
    let top = at.saturating_sub(rows / 2).min(keys.len().saturating_sub(rows));
    let width = usize::from(inner.width);
    let mut lines = Vec::new();
    for (i, key) in keys.iter().enumerate().skip(top).take(rows) {
        let (train, eval) = families(app, key.as_str());
        let last = train.or(eval).and_then(Series::last).map(|s| short(s.value)).unwrap_or_default();
        let room = width.saturating_sub(11);
        let name = fit_end(key.as_str(), room, theme.glyphs.pick("…", "~"));
        let pin = if state.pinned.contains(key) { theme.glyphs.pick("● ", "* ") } else { "  " };
        let style = if i == at { theme.selection } else { theme.text };
        lines.push(Line::from(vec![
            Span::styled(pin, theme.accent),
            Span::styled(pad(&name, room), style),
            Span::styled(format!(" {last:>7} "), if i == at { theme.selection } else { theme.muted }),
        ]));
    }
    frame.render_widget(Paragraph::new(lines), Rect { height: (rows as u16).min(inner.height), ..inner });
    if inner.height >= SETTINGS_FROM {
        let on = |on: bool| if on { theme.bright } else { theme.muted };
        let here = keys.get(at).map_or(state.axis, |key| axis_of(app, key.as_str()));
        let axis = format!("{here:?}").to_lowercase();
        let smoothing = if state.smoothing == 0 { "off".to_string() } else { SMOOTHING[state.smoothing].to_string() };
        let setting = |key: &'static str, name: &'static str, value: String, bright: bool| {
            Line::from(vec![
                Span::styled(format!(" {key} "), theme.accent),
                Span::styled(format!("{name:<11}"), theme.muted),
                Span::styled(value, on(bright)),
            ])
        };
        let settings = vec![
            Line::from(Span::styled(theme.glyphs.pick("─", "-").repeat(width), theme.faint)),
            setting("s", "smoothing", smoothing, state.smoothing > 0),
            setting("y", "scale", if state.log { "log".into() } else { "linear".into() }, state.log),
            setting("r", "range", if state.robust { "most values".into() } else { "all values".into() }, !state.robust),
            setting("x", "along", axis, here != XAxis::Step),
            setting("n", "events", count(events as u64), events > 0),
        ];
        let foot = Rect { y: inner.y + inner.height - SETTINGS, height: SETTINGS, ..inner };
        frame.render_widget(Paragraph::new(settings), foot);
    }
}

/// Rows that the keys have in a list of this height.
pub(super) fn rows(height: u16) -> usize {
    usize::from(if height >= SETTINGS_FROM { height - SETTINGS } else { height })
}

/// Blanks up to a number of columns.
fn pad(text: &str, width: usize) -> String {
    use unicode_width::UnicodeWidthStr;
    format!("{text}{}", " ".repeat(width.saturating_sub(text.width())))
}
