//! The log itself: follow, scroll, search, filter.

use ratatui::{
    Frame,
    crossterm::event::KeyEvent,
    layout::Rect,
    text::{Line, Span},
    widgets::Paragraph,
};
use regex::{Regex, RegexBuilder};
use unicode_width::UnicodeWidthStr;

use crate::{
    model::{Clean, SourceId},
    session::{
        Source,
        level::{Level, level},
        log::LogLine,
    },
    ui::{
        App, Cmd, Screen, Theme, Tone,
        format::count,
        input::{Input, Typed},
        keymap::Action,
        log_text::Inked,
        names,
        widgets::panel::{explain, panel},
    },
};

/// Columns that one key press scrolls sideways.
const SIDEWAYS: usize = 16;
/// Rows that one wrapped line takes at most.
const MOST_ROWS: usize = 60;
/// What is shown, from everything to errors alone.
const LEVELS: [(Level, &str); 4] =
    [(Level::Bar, ""), (Level::Plain, "no bars"), (Level::Warning, "warnings and errors"), (Level::Error, "errors")];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Reading,
    Searching,
    Filtering,
}

#[derive(Clone, Debug)]
pub struct State {
    /// Which source, in their order; `None` is the one that spoke last.
    source: Option<usize>,
    /// Index of the first line shown; `None` follows the end.
    top: Option<usize>,
    left: usize,
    wrap: bool,
    mode: Mode,
    typed: Input,
    search: Option<Regex>,
    filter: Option<Regex>,
    /// Which of [`LEVELS`] is shown.
    level: usize,
    /// Only this rank's lines.
    rank: Option<u32>,
    /// Index of the line found or jumped to.
    found: Option<usize>,
    /// The screen from which it was jumped to: the way back.
    from: Option<Screen>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            source: None,
            top: None,
            left: 0,
            wrap: false,
            mode: Mode::Reading,
            typed: Input::default(),
            search: None,
            filter: None,
            level: 0,
            rank: None,
            found: None,
            from: None,
        }
    }
}

impl State {
    /// Whether a line is shown: oomph's own notes always are.
    fn passes(&self, line: &LogLine) -> bool {
        let least = LEVELS[self.level].0;
        line.number.is_none()
            || (self.rank.is_none_or(|rank| line.rank == Some(rank))
                && (least == Level::Bar || level(line.text.as_str()) >= least)
                && self.filter.as_ref().is_none_or(|f| f.is_match(line.text.as_str())))
    }

    /// What is left out, in words.
    fn only(&self) -> Option<String> {
        let mut words = Vec::new();
        words.extend(self.filter.as_ref().map(|f| format!("only {}", Clean::new(f.as_str()))));
        words.extend(Some(LEVELS[self.level].1.to_string()).filter(|w| !w.is_empty()));
        words.extend(self.rank.map(|r| format!("rank {r}")));
        (!words.is_empty()).then(|| words.join(", "))
    }

    /// The log was opened, or left, by its own key: Escape leads nowhere.
    pub fn forget_way_back(&mut self) {
        self.from = None;
    }

    /// The line that is being typed, with its prompt.
    pub fn typing(&self) -> Option<(&'static str, &str)> {
        match self.mode {
            Mode::Reading => None,
            Mode::Searching => Some(("search:", self.typed.as_str())),
            Mode::Filtering => Some(("show only:", self.typed.as_str())),
        }
    }
}

/// What people type as a pattern: a regular expression, or the plain words where it is none. Case counts only where a
/// capital is typed.
pub fn pattern(text: &str) -> Option<Regex> {
    if text.is_empty() {
        return None;
    }
    let build = |source: &str| {
        RegexBuilder::new(source).case_insensitive(!text.chars().any(char::is_uppercase)).size_limit(1 << 20).build()
    };
    build(text).or_else(|_| build(&regex::escape(text))).ok()
}

fn source(app: &App) -> Option<&Source> {
    match app.log.source {
        Some(n) => app.session.sources.values().nth(n),
        None => super::overview::main_source(&app.session),
    }
}

/// Rows of text on this screen.
fn page(app: &App) -> usize {
    // Tabs, footer and border; a recording has its own bar.
    usize::from(app.size.1).saturating_sub(if app.is_live() { 4 } else { 5 }).max(1)
}

/// Indices of the lines of a page, from `top` on or up to the end.
fn visible(source: &Source, state: &State, rows: usize) -> Vec<usize> {
    let lines = source.log.lines();
    let wanted = |i: &usize| lines.get(*i).is_some_and(|l| state.passes(l));
    if let Some(top) = state.top {
        (top..lines.len()).filter(wanted).take(rows).collect()
    } else {
        let mut last: Vec<usize> = (0..lines.len()).rev().filter(wanted).take(rows).collect();
        last.reverse();
        last
    }
}

/// ```text
/// ╭ log · train.log ─────────────────────── following · 1,234 lines ╮
/// │  1233  {'loss': '2.6', …}                                       │
/// │  1234  …                                                        │
/// ╰─────────────────────────────────────────────────────────────────╯
/// ```
pub fn render(frame: &mut Frame, area: Rect, app: &App, theme: &Theme) {
    let state = &app.log;
    let Some(source) = source(app) else {
        let inner = panel(frame, area, "log", Vec::new(), theme);
        explain(frame, inner, "No log is watched", &["oomph train.log follows a log."], theme);
        return;
    };
    let dot = theme.glyphs.pick(" · ", " - ");
    let mut right = Vec::new();
    if let Some(only) = state.only() {
        right.push(Span::styled(format!("{only}{dot}"), theme.accent));
    }
    right.push(match (state.top, source.ended) {
        (Some(_), _) if state.from.is_some() => Span::styled(
            format!("{} back to {}", app.keymap.hint(Action::Back), state.from.map_or("", Screen::title)),
            theme.accent,
        ),
        (None, false) => Span::styled("following", theme.good),
        (None, true) => Span::styled("at the end", theme.muted),
        (Some(_), _) => Span::styled("held", theme.warning),
    });
    let lost: u64 = source.losses.iter().map(|(_, bytes, _)| bytes).sum();
    if lost > 0 {
        right.push(Span::styled(format!("{dot}{} bytes not read", count(lost)), theme.warning));
    }
    right.push(Span::styled(dot, theme.muted));
    right.push(Span::styled(format!("{} lines", count(source.log.last_number())), theme.muted));
    let title = match app.session.sources.len() {
        0 | 1 => format!("log{dot}{}", source.name),
        n => {
            let ids: Vec<SourceId> = app.session.sources.keys().copied().collect();
            let at = ids.iter().position(|id| *id == source.id).unwrap_or(0);
            let own = names::of(&app.session, &ids).swap_remove(at);
            let own = if own.contains(source.name.as_str()) { own } else { format!("{} {own}", source.name) };
            format!("log{dot}{own} ({} of {n})", at + 1)
        }
    };
    if let Some(dialects) = super::overview::dialect_words(source) {
        let words = format!("read as {dialects}{dot}");
        let taken: usize = right.iter().map(Span::width).sum::<usize>() + title.width() + words.width() + 10;
        if taken <= usize::from(area.width) {
            right.insert(right.len() - 1, Span::styled(words, theme.muted));
        }
    }
    let inner = panel(frame, area, &title, right, theme);
    let mut inside = Rect { x: inner.x + 1, width: inner.width.saturating_sub(2), ..inner };
    if let Some(trouble) = &source.trouble
        && inside.height > 1
    {
        let text = format!("cannot be read at present: {trouble}");
        let text = crate::ui::format::fit(&text, usize::from(inside.width), theme.glyphs.pick("…", "~"));
        frame.render_widget(Span::styled(text, theme.warning), Rect { height: 1, ..inside });
        inside = Rect { y: inside.y + 1, height: inside.height - 1, ..inside };
    }
    // The line that is being written stands last, while the end is followed.
    let partial = source.log.partial().filter(|l| state.top.is_none() && state.passes(l));
    if source.log.lines().is_empty() && partial.is_none() {
        let text = format!("waiting for the first line of {}", source.name);
        explain(frame, inside, &text, &["Lines appear here as they are written."], theme);
        return;
    }
    let rows = usize::from(inside.height);
    let indices = visible(source, state, rows);
    if indices.is_empty() && partial.is_none() {
        let advice = format!("{} shows everything again.", app.keymap.hint(Action::Back));
        explain(frame, inside, "No line matches", &[advice.as_str()], theme);
        return;
    }
    let digits = count(source.log.last_number()).len().max(3);
    let numbers = if inside.width >= 60 { digits + 2 } else { 0 };
    let width = usize::from(inside.width).saturating_sub(numbers);
    let mut out: Vec<Line> = Vec::new();
    // The row after the line that was jumped to.
    let mut found_end = 0;
    let complete = indices.into_iter().filter_map(|i| Some((Some(i), source.log.lines().get(i)?)));
    for (i, line) in complete.chain(partial.iter().map(|line| (None, line))) {
        let here = i.is_some() && state.found == i;
        let mut inked = Inked::line(line, theme);
        if here {
            inked = inked.overall(theme.selection);
        }
        // The line that was jumped to is shown whole.
        let pieces = if state.wrap || here {
            inked.wrapped(width.max(1), MOST_ROWS)
        } else {
            vec![inked.columns(state.left, width)]
        };
        for (n, piece) in pieces.into_iter().enumerate() {
            let mut spans = Vec::new();
            if numbers > 0 {
                let number = line.number.filter(|_| n == 0).map(count).unwrap_or_default();
                spans.push(Span::styled(format!("{number:>digits$}  "), theme.muted));
            }
            let is_cut = !state.wrap && !here && piece.end < line.text.as_str().len();
            spans.extend(inked.spans(piece, state.search.as_ref(), theme));
            if is_cut {
                spans.push(Span::styled(theme.glyphs.pick("›", ">"), theme.accent));
            }
            out.push(Line::from(spans));
        }
        if here {
            found_end = out.len();
        }
    }
    // At the end the last rows count; else the line that was jumped to, where it would end below the page.
    let skip = if state.top.is_none() { out.len() } else { found_end }.saturating_sub(rows);
    frame.render_widget(Paragraph::new(out.split_off(skip)), inside);
}

/// A key while a pattern is typed. `false`: nothing is being typed.
pub fn type_key(app: &mut App, key: &KeyEvent) -> bool {
    if app.log.mode == Mode::Reading {
        return false;
    }
    match app.log.typed.key(key) {
        Typed::Accepted => {
            let mode = app.log.mode;
            app.log.mode = Mode::Reading;
            if mode == Mode::Searching {
                search(app, true);
            }
        }
        Typed::Cancelled => {
            if app.log.mode == Mode::Filtering {
                app.log.filter = None;
            } else {
                app.log.search = None;
            }
            app.log.mode = Mode::Reading;
        }
        Typed::Changed => apply_typed(app),
        Typed::Ignored => {}
    }
    true
}

/// Pasted text while a pattern is typed. `false`: nothing is being typed.
pub fn type_text(app: &mut App, text: &str) -> bool {
    if app.log.mode == Mode::Reading {
        return false;
    }
    app.log.typed.push(text.lines().next().unwrap_or_default());
    apply_typed(app);
    true
}

fn apply_typed(app: &mut App) {
    let wanted = pattern(app.log.typed.as_str());
    match app.log.mode {
        Mode::Filtering => app.log.filter = wanted,
        Mode::Searching => app.log.search = wanted,
        Mode::Reading => {}
    }
}

pub fn act(app: &mut App, action: Action) -> Vec<Cmd> {
    let rows = page(app);
    match action {
        Action::Up => scroll(app, -1),
        Action::Down => scroll(app, 1),
        Action::PageUp => scroll(app, -(rows as isize)),
        Action::PageDown => scroll(app, rows as isize),
        Action::Top => app.log.top = Some(0),
        Action::Bottom => {
            app.log.top = None;
            app.log.found = None;
        }
        Action::Follow => app.log.top = if app.log.top.is_some() { None } else { top_now(app, rows) },
        Action::Left => app.log.left = app.log.left.saturating_sub(SIDEWAYS),
        Action::Right => app.log.left = (app.log.left + SIDEWAYS).min(100_000),
        Action::Wrap => app.log.wrap = !app.log.wrap,
        Action::Levels => {
            app.log.level = (app.log.level + 1) % LEVELS.len();
            (app.log.top, app.log.found) = (None, None);
        }
        Action::Ranks => next_rank(app),
        Action::Search | Action::Filter => {
            app.log.mode = if action == Action::Search { Mode::Searching } else { Mode::Filtering };
            app.log.typed.clear();
            apply_typed(app);
        }
        Action::NextMatch => search(app, false),
        Action::PreviousMatch => search(app, true),
        Action::NextSource => {
            let n = app.session.sources.len();
            if n > 1 {
                let now = source(app).map_or(0, |s| usize::from(s.id.0));
                app.log.source = Some((now + 1) % n);
                (app.log.top, app.log.found) = (None, None);
            }
        }
        Action::Back => {
            let all = (app.log.level, app.log.rank) == (0, None);
            if app.log.filter.take().is_none() && app.log.search.take().is_none() && all {
                app.log.top = None;
            }
            (app.log.level, app.log.rank, app.log.found) = (0, None, None);
            if let Some(from) = app.log.from.take() {
                app.log.top = None;
                app.screen = from;
            }
        }
        _ => {}
    }
    Vec::new()
}

/// The lines of the next rank alone; after the last rank those of all.
fn next_rank(app: &mut App) {
    let Some(ranks) = source(app).map(|s| s.log.ranks().clone()) else { return };
    if ranks.is_empty() {
        app.say("no line names a rank", Tone::Quiet);
        return;
    }
    app.log.rank = match app.log.rank {
        None => ranks.first().copied(),
        Some(rank) => ranks.range(rank + 1..).next().copied(),
    };
    (app.log.top, app.log.found) = (None, None);
}

fn top_now(app: &App, rows: usize) -> Option<usize> {
    visible(source(app)?, &app.log, rows).first().copied()
}

/// Moves by lines that pass the filter; the end of the log follows again.
fn scroll(app: &mut App, by: isize) {
    let rows = page(app);
    let Some(top) = top_now(app, rows) else { return };
    let Some(source) = source(app) else { return };
    let lines = source.log.lines();
    let wanted = |i: &usize| lines.get(*i).is_some_and(|l| app.log.passes(l));
    let next = if by < 0 {
        let back = by.unsigned_abs();
        let above: Vec<usize> = (0..top).rev().filter(wanted).take(back).collect();
        Some(above.last().copied().unwrap_or(top))
    } else {
        let below: Vec<usize> = (top..lines.len()).filter(wanted).take(by as usize + rows).collect();
        // What is left fills less than a page: follow.
        if below.len() < by as usize + rows || app.log.top.is_none() { None } else { below.get(by as usize).copied() }
    };
    app.log.top = next;
}

/// Goes to the next or the previous line that matches, round and round.
fn search(app: &mut App, backwards: bool) {
    let Some(pattern) = app.log.search.clone() else { return };
    let rows = page(app);
    let Some(source) = source(app) else { return };
    let lines = source.log.lines();
    let n = lines.len();
    if n == 0 {
        return;
    }
    let from = app.log.found.or_else(|| app.log.top.map(|t| t.saturating_sub(1))).unwrap_or(n).min(n);
    let hit = |i: &usize| lines.get(*i).is_some_and(|l| app.log.passes(l) && pattern.is_match(l.text.as_str()));
    let found = if backwards {
        (0..from).rev().chain((from..n).rev()).find(hit)
    } else {
        (from + 1..n).chain(0..(from + 1).min(n)).find(hit)
    };
    match found {
        Some(i) => {
            app.log.found = Some(i);
            app.log.top = Some(i.saturating_sub(rows / 3).min(n.saturating_sub(rows)));
        }
        None => app.say("no line matches", Tone::Warning),
    }
}

/// Opens the log at a line of any source, by its number.
pub fn jump(app: &mut App, line: u64) {
    jump_in(app, None, line);
}

/// Opens the log at a line of a source.
pub fn jump_in(app: &mut App, source: Option<SourceId>, line: u64) {
    let rows = page(app);
    let mut sources = app.session.sources.values().enumerate().filter(|(_, s)| source.is_none_or(|id| s.id == id));
    let at = sources.find_map(|(n, source)| {
        // Lines are kept in order, with notes without a number between them.
        let at = source.log.lines().iter().position(|l| l.number == Some(line))?;
        Some((n, at))
    });
    match at {
        Some((source, i)) => {
            app.log.from = Some(app.screen).filter(|s| *s != Screen::Log).or(app.log.from);
            app.screen = Screen::Log;
            app.log.source = Some(source);
            (app.log.filter, app.log.level, app.log.rank) = (None, 0, None);
            app.log.found = Some(i);
            let last = app.session.sources.values().nth(source).map_or(0, |s| s.log.lines().len());
            app.log.top = Some(i.saturating_sub(rows / 3).min(last.saturating_sub(rows)));
        }
        None => app.say(&format!("line {line} is not in the part of the log that is kept"), Tone::Warning),
    }
}
