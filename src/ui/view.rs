//! From state to cells: the frame around the screens, and frames without a terminal.

use ratatui::{
    Frame, Terminal,
    backend::TestBackend,
    crossterm::event::KeyEvent,
    layout::Rect,
    style::{Modifier, Style},
    text::{Line, Span},
    widgets::Paragraph,
};
use unicode_width::UnicodeWidthStr;

use crate::session::alerts::Severity;

use super::{
    App, Screen, Theme, chooser, fleet,
    format::{clock, fit},
    keymap::{Action, Key, Scope},
    overlays, replay, screens,
    update::tone_of,
};

/// The least terminal in which anything can be read.
pub const LEAST: (u16, u16) = (30, 8);

/// Rows that the tabs and the footer take, by the height of the terminal.
pub fn body(area: Rect) -> (Option<Rect>, Rect, Option<Rect>) {
    let tabs = area.height >= 10;
    let footer = area.height >= 10;
    let top = u16::from(tabs);
    let bottom = u16::from(footer);
    let row = |y| Rect { y, height: 1, ..area };
    let middle = Rect { y: area.y + top, height: area.height - top - bottom, ..area };
    (tabs.then(|| row(area.y)), middle, footer.then(|| row(area.y + area.height - 1)))
}

/// ```text
///  oomph  1 Overview  2 Charts  3 Memory …                      14:05:09     tabs
/// ╭──────────────────────────────────────────────────────────────────────╮
/// │ the screen, or an overlay on it                                      │
/// ╰──────────────────────────────────────────────────────────────────────╯
///  d diagnosis  p paste  ? help  q quit                                      footer
/// ```
pub fn view(app: &App, theme: &Theme, frame: &mut Frame) {
    draw(app, theme, frame);
    if theme.glyphs.ascii() {
        plain(frame);
    }
}

/// Where only ASCII can be shown, that holds for the words and the log too: no cell keeps anything else.
fn plain(frame: &mut Frame) {
    for cell in &mut frame.buffer_mut().content {
        if !cell.symbol().is_ascii() {
            cell.set_symbol(match cell.symbol() {
                "°" => " ",
                "…" => "~",
                "·" => ".",
                "–" | "—" => "-",
                "→" => ">",
                "×" => "x",
                "█" | "▉" | "▊" | "▋" => "#",
                "▌" | "▍" | "▎" | "▏" => ":",
                _ => "?",
            });
        }
    }
}

fn draw(app: &App, theme: &Theme, frame: &mut Frame) {
    let area = frame.area();
    if area.width == 0 || area.height == 0 {
        return;
    }
    if area.width < LEAST.0 || area.height < LEAST.1 {
        let text = format!("too small: {}x{} of {}x{}", area.width, area.height, LEAST.0, LEAST.1);
        let text = if usize::from(area.width) < text.len() { "too small".to_string() } else { text };
        let row = Rect { y: area.y + area.height / 2, height: 1, ..area };
        frame.render_widget(Paragraph::new(text).centered(), row);
        return;
    }
    if app.chooser.is_some() {
        return chooser::render(frame, area, app, theme);
    }
    if app.fleet.is_some() {
        return fleet::render(frame, area, app, theme);
    }
    let (tabs, mut middle, footer) = body(area);
    if app.replay.is_some() && middle.height > 6 {
        middle.height -= 1;
        replay::render(frame, Rect { y: middle.y + middle.height, height: 1, ..middle }, app, theme);
    }
    if let Some(row) = tabs {
        draw_tabs(frame, row, app, theme);
    }
    match app.screen {
        Screen::Overview => screens::overview::render(frame, middle, app, theme),
        Screen::Charts => screens::charts::render(frame, middle, app, theme),
        Screen::Memory => screens::memory::render(frame, middle, app, theme),
        Screen::Gpus => screens::gpu::render(frame, middle, app, theme),
        Screen::Log => screens::log::render(frame, middle, app, theme),
        Screen::Diagnosis => screens::diagnosis::render(frame, middle, app, theme),
        Screen::Paste => screens::paste::render(frame, middle, app, theme),
    }
    if let Some(row) = footer {
        draw_footer(frame, row, app, theme);
    }
    if let Some(overlay) = &app.overlay {
        overlays::render(frame, area, overlay, app, theme);
    }
}

/// Where each tab stands: its first column and its text. With little room only the open screen keeps its name.
pub fn tabs(width: u16, here: Screen) -> Vec<(Screen, u16, String)> {
    let names: usize = Screen::ALL.iter().map(|s| s.title().len() + 2).sum();
    let others = Screen::ALL.len() - 1;
    // The clock and a badge stand at the right.
    let room = usize::from(width).saturating_sub(15);
    let (mut x, gap, long) = match room {
        r if r >= names + others * 3 + 18 => (8, 3, true),
        r if r >= names + others => (1, if r > names + 2 * others { 2 } else { 1 }, true),
        _ => (1, 1, false),
    };
    let mut out = Vec::new();
    for (i, screen) in Screen::ALL.into_iter().enumerate() {
        let text = if long || screen == here { format!("{} {}", i + 1, screen.title()) } else { format!("{}", i + 1) };
        let needed = text.width() as u16;
        out.push((screen, x, text));
        x += needed + gap;
    }
    out
}

fn draw_tabs(frame: &mut Frame, row: Rect, app: &App, theme: &Theme) {
    let tabs = tabs(row.width, app.screen);
    let buffer = frame.buffer_mut();
    if tabs.first().is_some_and(|(_, x, _)| *x > 2) {
        buffer.set_string(row.x + 1, row.y, "oomph", theme.accent.add_modifier(Modifier::BOLD));
    }
    let mut end = row.x;
    for (screen, x, text) in &tabs {
        let here = *screen == app.screen;
        let bell = *screen == Screen::Diagnosis && app.session.open_failure().is_some();
        let style = match (here, bell) {
            (true, _) => theme.selection,
            (false, true) => theme.critical,
            (false, false) => theme.muted,
        };
        let room = usize::from(row.width.saturating_sub(*x + 1));
        let shown = fit(text, room, "");
        buffer.set_string(row.x + x, row.y, &shown, style);
        end = row.x + x + shown.width() as u16;
    }
    let mut right = Vec::new();
    if let Some(label) = &app.label {
        right.push((format!("{label} "), theme.warning));
    }
    let standing = app.alerts.standing();
    if let Some(worst) = standing.first() {
        let mark = theme.glyphs.pick("▲", "!");
        let style = theme.tone(tone_of(worst.severity));
        let style = if worst.severity == Severity::Info { theme.muted } else { style };
        right.push((format!("{}{mark}{} ", app.keymap.hint(Action::Alerts), standing.len()), style));
    }
    if let Some(now) = app.now() {
        right.push((clock(now, &app.zone), theme.muted));
    }
    // Where there is no room for all, alerts come before the clock, and the clock before the label.
    let room = usize::from(row.width).saturating_sub(usize::from(end - row.x) + 2);
    let width = |right: &[(String, Style)]| right.iter().map(|(text, _)| text.width()).sum::<usize>();
    if app.label.is_some() && width(&right) > room {
        right.remove(0);
    }
    if width(&right) > room {
        right.pop();
    }
    let needed = width(&right);
    let from = usize::from(row.width).saturating_sub(needed + 1);
    if needed > 0 && from > usize::from(end - row.x) + 1 {
        let mut x = row.x + from as u16;
        for (text, style) in right {
            buffer.set_string(x, row.y, &text, style);
            x += text.width() as u16;
        }
    }
}

fn draw_footer(frame: &mut Frame, row: Rect, app: &App, theme: &Theme) {
    if let Some(toast) = &app.toast {
        let text = fit(toast.text.as_str(), usize::from(row.width).saturating_sub(2), theme.glyphs.pick("…", "~"));
        frame.render_widget(Line::from(Span::styled(format!(" {text}"), theme.tone(toast.tone))), row);
        return;
    }
    if let Some((prompt, text)) = prompt(app) {
        let line = Line::from(vec![
            Span::styled(format!(" {prompt} "), theme.accent),
            Span::styled(text.to_string(), theme.bright),
            Span::styled(theme.glyphs.pick("▏", "_"), theme.accent),
        ]);
        frame.render_widget(line, row);
        return;
    }
    let mut spans = vec![Span::raw(" ")];
    let mut used = 1;
    // Keys of a page that has nothing yet are no help.
    let idle = app.screen == Screen::Diagnosis && screens::diagnosis::is_empty(app) && app.session.crash().is_none();
    let own = app.keymap.on(app.screen).filter(|b| matches!(b.scope, Scope::On(_)) && !idle);
    let everywhere = app.keymap.on(app.screen).filter(|b| !matches!(b.scope, Scope::On(_)));
    // Help and the way out are always worth their place; the rest is cut from the end.
    let always = |a: Action| matches!(a, Action::Help | Action::Quit);
    let kept: usize = app
        .keymap
        .bindings()
        .iter()
        .filter(|b| always(b.action))
        .map(|b| hint(app, b).map_or(0, |(key, word)| key.width() + word.width() + 3))
        .sum();
    let room = usize::from(row.width).saturating_sub(1);
    let mut last = Vec::new();
    for binding in own.chain(everywhere) {
        let Some((key, word)) = hint(app, binding) else { continue };
        if binding.action == Action::Show(app.screen) {
            continue;
        }
        let needed = key.width() + word.width() + 3;
        let pair = [Span::styled(key, theme.accent), Span::styled(format!(" {word}  "), theme.muted)];
        if always(binding.action) {
            last.extend(pair);
        } else if used + needed + kept <= room {
            used += needed;
            spans.extend(pair);
        }
    }
    spans.extend(last);
    frame.render_widget(Line::from(spans), row);
}

/// The key and the word of a binding: the first key that has this meaning here, where another binding took its own.
fn hint(app: &App, binding: &super::keymap::Binding) -> Option<(String, &'static str)> {
    let means = |key: &&Key| {
        let event = KeyEvent::new(key.code, key.modifiers);
        app.keymap.action(app.screen, &event) == Some(binding.action)
    };
    Some((binding.keys.iter().find(means)?.to_string(), binding.footer?))
}

/// The line that is being typed at the bottom, with its prompt.
fn prompt(app: &App) -> Option<(&'static str, &str)> {
    match app.screen {
        Screen::Charts => app.charts.typing().map(|text| ("filter:", text)),
        Screen::Log => app.log.typing(),
        _ => None,
    }
}

/// One frame of `app` as plain text, for a pipe or a file. Lines have no blanks at their ends.
pub fn frame_text(app: &App, width: u16, height: u16) -> String {
    let (width, height) = (width.clamp(1, 500), height.clamp(1, 200));
    let Ok(mut terminal) = Terminal::new(TestBackend::new(width, height));
    let Ok(_) = terminal.draw(|frame| view(app, app.theme(), frame));
    let buffer = terminal.backend().buffer();
    let mut out = String::new();
    for y in 0..height {
        let mut line = String::new();
        let mut x = 0;
        while x < width {
            let symbol = buffer[(x, y)].symbol();
            line.push_str(symbol);
            x += (symbol.width() as u16).max(1);
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}
