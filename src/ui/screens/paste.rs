//! A pasted text and what is said of it.

use ratatui::{
    Frame,
    layout::Rect,
    text::{Line, Span},
    widgets::Paragraph,
};

use crate::{
    model::{Clean, failure::Diagnosis},
    ui::{
        App, Cmd, Screen, Theme, Tone,
        format::{count, fit},
        keymap::Action,
        log_text::Inked,
        widgets::panel::{explain, panel},
    },
};

/// Lines of a pasted text that are kept for showing.
const KEEP: usize = 20_000;

#[derive(Debug, Default)]
pub struct State {
    lines: Vec<Clean>,
    cut: usize,
    top: usize,
    /// 1-based line that an evidence pointed at.
    found: Option<u64>,
    pub diagnosis: Option<Diagnosis>,
}

impl State {
    /// The lines that are kept, with their numbers.
    pub fn lines(&self) -> impl Iterator<Item = (u64, &str)> {
        self.lines.iter().enumerate().map(|(i, text)| (i as u64 + 1, text.as_str()))
    }

    /// Shows a line of the pasted text.
    pub fn jump(&mut self, line: u64) {
        self.found = Some(line);
        self.top = (line as usize).saturating_sub(6).min(self.lines.len());
    }
}

/// Takes a pasted text in, judges it, and shows the answer.
pub fn take(app: &mut App, text: &str) {
    let Some(judge) = &app.judge else {
        app.say("this screen cannot diagnose pasted text", Tone::Warning);
        return;
    };
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    if text.trim().is_empty() {
        app.screen = Screen::Paste;
        app.say("the paste was empty", Tone::Warning);
        return;
    }
    let diagnosis = judge(&text);
    let found = !diagnosis.failures.is_empty();
    let lines = text.lines().count();
    app.paste = State {
        lines: text.lines().take(KEEP).map(Clean::new).collect(),
        cut: lines.saturating_sub(KEEP),
        top: 0,
        found: None,
        diagnosis: Some(diagnosis),
    };
    app.diagnosis.show_pasted(found);
    app.screen = if found { Screen::Diagnosis } else { Screen::Paste };
}

pub fn act(app: &mut App, action: Action) -> Vec<Cmd> {
    let page = usize::from(app.size.1).saturating_sub(6).max(1);
    let last = app.paste.lines.len().saturating_sub(1);
    let paste = &mut app.paste;
    match action {
        Action::Up => paste.top = paste.top.saturating_sub(1),
        Action::Down => paste.top = (paste.top + 1).min(last),
        Action::PageUp => paste.top = paste.top.saturating_sub(page),
        Action::PageDown => paste.top = (paste.top + page).min(last),
        Action::Top => paste.top = 0,
        Action::Bottom => paste.top = last.saturating_sub(page / 2),
        Action::Open if paste.diagnosis.as_ref().is_some_and(|d| !d.failures.is_empty()) => {
            app.diagnosis.show_pasted(true);
            app.screen = Screen::Diagnosis;
        }
        Action::Clear => {
            app.paste = State::default();
            app.diagnosis.show_pasted(false);
        }
        Action::Back => app.screen = Screen::Overview,
        _ => {}
    }
    Vec::new()
}

pub fn render(frame: &mut Frame, area: Rect, app: &App, theme: &Theme) {
    let paste = &app.paste;
    let Some(diagnosis) = &paste.diagnosis else {
        let inner = panel(frame, area, "paste", Vec::new(), theme);
        let advice = [
            "The traceback, the last part of the log, or one line of it:",
            "use the paste of your terminal, here or on any screen.",
            "Nothing leaves this machine.",
        ];
        explain(frame, inner, "Paste the text of a dead run", &advice, theme);
        return;
    };
    let total = paste.lines.len() + paste.cut;
    let right = vec![Span::styled(format!("{} lines", count(total as u64)), theme.muted)];
    let inner = panel(frame, area, "paste", right, theme);
    let width = usize::from(inner.width).saturating_sub(2);
    let style = if diagnosis.failures.is_empty() { theme.good } else { theme.critical };
    let summary = fit(diagnosis.summary.as_str(), width, theme.glyphs.pick("…", "~"));
    let mut lines = vec![Line::from(Span::styled(summary, style)), Line::default()];
    for (i, text) in paste.lines.iter().enumerate().skip(paste.top).take(usize::from(inner.height)) {
        let here = paste.found == Some(i as u64 + 1);
        let number = |n: Option<usize>| n.map(|n| count(n as u64 + 1)).unwrap_or_default();
        let room = width.saturating_sub(8);
        let mut inked = Inked::of(text.as_str(), theme);
        let rows = if here {
            // The line that was asked for is shown whole.
            inked = inked.overall(theme.selection);
            inked.rows(room, 12, theme)
        } else {
            vec![inked.fitted(room, theme)]
        };
        for (n, row) in rows.into_iter().enumerate() {
            let mut spans = vec![Span::styled(format!("{:>6}  ", number(Some(i).filter(|_| n == 0))), theme.muted)];
            spans.extend(row);
            lines.push(Line::from(spans));
        }
    }
    let inside = Rect { x: inner.x + 1, width: inner.width.saturating_sub(2), ..inner };
    frame.render_widget(Paragraph::new(lines), inside);
}
