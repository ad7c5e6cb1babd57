//! The end of the log: its last lines, and after a failure the error in full.

use ratatui::{
    Frame,
    layout::Rect,
    text::{Line, Span},
    widgets::Paragraph,
};

use crate::{
    model::Clean,
    session::{
        RunState, Session, Source,
        level::{Level, level},
    },
    ui::{
        App, Theme,
        format::count,
        log_text::{Inked, is_underline},
        widgets::panel::{explain, panel},
    },
};

/// Rows that one error may take.
const ERROR_ROWS: usize = 4;

/// The source that speaks: the one with output last.
pub fn main_source(session: &Session) -> Option<&Source> {
    session.sources.values().max_by_key(|s| (s.last_output, std::cmp::Reverse(s.id)))
}

/// The formats as which a log's lines are read: the main one first, two at most.
pub fn dialect_words(source: &Source) -> Option<String> {
    let names = source.dialects();
    (!names.is_empty()).then(|| names.iter().take(2).copied().collect::<Vec<_>>().join(" and "))
}

/// The last lines of the log.
pub fn render(frame: &mut Frame, area: Rect, app: &App, theme: &Theme) {
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
    if let Some(dialects) = dialect_words(source)
        && area.width >= 60
    {
        let dot = if right.is_empty() { "" } else { theme.glyphs.pick(" · ", " - ") };
        right.insert(0, Span::styled(format!("read as {dialects}{dot}"), theme.muted));
    }
    let inner = panel(frame, area, &format!("log {} {}", theme.glyphs.pick("·", "-"), source.name), right, theme);
    let width = usize::from(inner.width).saturating_sub(2);
    let over = matches!(app.session.state(), RunState::Failed | RunState::Finished);
    let rows = tail_rows(source, usize::from(inner.height), width, over, theme);
    if rows.is_empty() {
        let text = format!("waiting for the first line of {}", source.name);
        explain(frame, inner, &text, &[], theme);
        return;
    }
    let inside = Rect { x: inner.x + 1, width: width as u16, ..inner };
    frame.render_widget(Paragraph::new(rows), inside);
}

/// The newest lines from the bottom up: errors wrapped, the marks under a traceback's code left out, and no bar of a
/// run that is over.
fn tail_rows(source: &Source, most: usize, width: usize, over: bool, theme: &Theme) -> Vec<Line<'static>> {
    let mut rows: Vec<Line<'static>> = Vec::new();
    for text in newest(source) {
        let shown = text.as_str();
        let kind = level(shown);
        if is_underline(shown.trim()) || (over && kind == Level::Bar) {
            continue;
        }
        if rows.len() >= most {
            break;
        }
        let inked = Inked::of(shown, theme);
        if kind == Level::Error {
            let shown = inked.rows(width, ERROR_ROWS.min(most - rows.len()), theme);
            rows.extend(shown.into_iter().rev().map(Line::from));
        } else {
            rows.push(Line::from(inked.fitted(width, theme)));
        }
    }
    rows.reverse();
    rows
}

/// Lines that say something, the newest first, the one that is being written included.
fn newest(source: &Source) -> impl Iterator<Item = Clean> + '_ {
    let partial = source.log.partial().map(|l| l.text);
    let complete = source.log.lines().iter().rev().map(|l| l.text.clone());
    partial.into_iter().chain(complete).filter(|t| !t.as_str().trim().is_empty())
}

/// The newest line that says something; of a run that failed the newest error.
pub fn last_line(session: &Session) -> Option<Clean> {
    let source = main_source(session)?;
    let failed = session.state() == RunState::Failed;
    let error = || newest(source).take(400).find(|t| level(t.as_str()) == Level::Error);
    if failed { error().or_else(|| newest(source).next()) } else { newest(source).next() }
}
