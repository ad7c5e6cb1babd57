//! Why it failed and what to change: the card with the request that did not fit, causes with evidence, fixes.

mod card;
mod excerpt;
mod fixes;

use std::{collections::BTreeSet, fmt::Write};

use ratatui::{
    Frame,
    layout::Rect,
    style::Style,
    text::{Line, Span},
    widgets::Paragraph,
};

use crate::{
    model::{
        Bytes, Clean,
        failure::{Evidence, Failure, Memory},
    },
    ui::{
        App, Cmd, Screen, Theme, Tone,
        format::{count, fit, folded, percent, sentence},
        keymap::Action,
        log_text::Inked,
        report::{self, cause_words, phase_words},
        widgets::{
            area::{split_left, split_top},
            panel::{explain, panel, panel_in},
            row,
        },
    },
};

#[derive(Clone, Debug, Default)]
pub struct State {
    failure: usize,
    /// The item under the cursor, in the order of the page.
    selected: Option<usize>,
    scroll: usize,
    /// Fixes that are tried, by their place.
    chosen: BTreeSet<usize>,
    /// The pasted text's judgement is shown, not the run's.
    pub(in crate::ui) pasted: bool,
}

impl State {
    pub fn show_pasted(&mut self, pasted: bool) {
        if self.pasted != pasted {
            *self = Self { pasted, ..Self::default() };
        }
    }
}

/// Rows that a line under the cursor takes at most.
const MOST_ROWS: usize = 8;

/// Something that the cursor can stand on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Item {
    Evidence(u64),
    Fix(usize),
}

/// Rows of a page, with the items that begin on them.
#[derive(Default)]
struct Page {
    rows: Vec<Line<'static>>,
    items: Vec<(usize, Item)>,
    /// What was said at the top and need not be said again.
    said: String,
}

impl Page {
    fn row(&mut self, line: Line<'static>) {
        self.rows.push(line);
    }

    /// Whether a line of the log stands here as evidence.
    fn shows(&self, line: u64) -> bool {
        self.items.iter().any(|(_, item)| *item == Item::Evidence(line))
    }

    /// What happened, in a sentence.
    fn summary(&mut self, failure: &Failure, width: usize, theme: &Theme) {
        self.said = failure.summary.to_string();
        self.text(&sentence(&self.said.clone()), 0, width, theme.bright);
        self.blank();
    }

    fn blank(&mut self) {
        self.rows.push(Line::default());
    }

    fn heading(&mut self, text: &str, theme: &Theme) {
        self.rows.push(Line::from(Span::styled(text.to_string(), theme.accent)));
    }

    /// Text in as many rows as it needs, after a margin.
    fn text(&mut self, text: &str, margin: usize, width: usize, style: Style) {
        for piece in folded(text, width.saturating_sub(margin).max(8)) {
            self.rows.push(Line::from(vec![Span::raw(" ".repeat(margin)), Span::styled(piece, style)]));
        }
    }
}

/// Whether there is anything on the page to choose or to take away.
pub fn is_empty(app: &App) -> bool {
    failure(app).is_none()
}

fn failure(app: &App) -> Option<&Failure> {
    let failures = &app.shown_diagnosis()?.failures;
    failures.get(app.diagnosis.failure.min(failures.len().checked_sub(1)?))
}

/// ```text
/// ╭ what happened ───────────────╮╭ what to change ───────────────────────╮
/// │ the card, the request        ││ [x] checkpointing  ███████·· 10.2 GiB │
/// │ why: causes with evidence    ││ [ ] …                                 │
/// │ ── the log, line 122 ─────── ││ ───────────────────────────────────── │
/// │ what stands around it        ││ what was chosen, together             │
/// ╰──────────────────────────────╯╰───────────────────────────────────────╯
/// ```
pub fn render(frame: &mut Frame, area: Rect, app: &App, theme: &Theme) {
    let Some(failure) = failure(app) else {
        nothing(frame, area, app, theme);
        return;
    };
    let border = if failure.is_oom { theme.critical } else { theme.warning };
    let title = if app.diagnosis.pasted { "what happened (pasted text)" } else { "what happened" };
    let (left, right) = halves(area);
    panel_in(frame, left, title, which(app, theme), theme, border);
    if let Some(right) = right {
        panel(frame, right, "what to change", Vec::new(), theme);
    }
    let columns = columns(app, failure, area, theme);
    let room = columns.first().map(|left| left.area.height.saturating_sub(left.page.rows.len() as u16));
    for column in columns {
        column.draw(frame, app);
    }
    let inside = inside(right.unwrap_or(left));
    let (_, foot) = split_top(inside, inside.height - fixes::foot_rows(app, failure, inside.height));
    fixes::foot(frame, foot, app, failure, theme);
    if let (Some(_), Some(room @ LEAST_EXCERPT..)) = (right, room) {
        let inside = self::inside(left);
        // A blank row before it, where there is one to spare.
        let height = if room == LEAST_EXCERPT { room } else { room - 1 }.min(MOST_EXCERPT);
        let line = pointed_at(app, failure, inside, theme);
        excerpt::render(frame, Rect { y: inside.bottom() - height, height, ..inside }, app, failure, line, theme);
    }
}

/// Rows that an excerpt of the log takes under the story, its heading included.
const LEAST_EXCERPT: u16 = 6;
const MOST_EXCERPT: u16 = 24;

/// The area of what happened, and where there is room beside it, that of what to change.
fn halves(area: Rect) -> (Rect, Option<Rect>) {
    if area.width < 110 {
        return (area, None);
    }
    let (left, right) = split_left(area, area.width * 45 / 100);
    (left, Some(right))
}

/// What a panel leaves for text.
fn inside(panel: Rect) -> Rect {
    Rect {
        x: panel.x + 2,
        y: panel.y + 1,
        width: panel.width.saturating_sub(4),
        height: panel.height.saturating_sub(2),
    }
}

/// A page in its place; `first` items stand in other columns before its own.
struct Column {
    area: Rect,
    page: Page,
    first: usize,
}

/// The columns of an area, as they are drawn and as a click finds its item.
fn columns(app: &App, failure: &Failure, area: Rect, theme: &Theme) -> Vec<Column> {
    let (left, right) = halves(area);
    let without_foot =
        |inside: Rect| split_top(inside, inside.height - fixes::foot_rows(app, failure, inside.height)).0;
    let Some(right) = right else {
        let inside = inside(left);
        let page = whole(app, failure, inside.height >= 12, usize::from(inside.width), theme);
        return vec![Column { area: without_foot(inside), page, first: 0 }];
    };
    let (left, right) = (inside(left), without_foot(inside(right)));
    let first = failure.fixes.len();
    let mut page = Page::default();
    story(&mut page, app, failure, first, usize::from(left.width), theme);
    let mut table = fixes::table(app, failure, true, usize::from(right.width), theme);
    if table.rows.len() > usize::from(right.height) {
        table = fixes::table(app, failure, false, usize::from(right.width), theme);
    }
    vec![Column { area: left, page, first }, Column { area: right, page: table, first: 0 }]
}

impl Column {
    /// The first row that is shown: the item under the cursor is among them, and as much of it as fits.
    fn top(&self, app: &App) -> usize {
        let height = usize::from(self.area.height);
        let most = self.page.rows.len().saturating_sub(height);
        let at = app.diagnosis.selected.and_then(|s| s.checked_sub(self.first));
        let top = match at.and_then(|at| Some((at, self.page.items.get(at)?))) {
            Some((at, (row, _))) => {
                let next = self.page.items.get(at + 1).map_or(row + 3, |(next, _)| *next);
                let end = next.clamp(row + 3, row + 8);
                end.saturating_sub(height).min(*row)
            }
            None => app.diagnosis.scroll,
        };
        top.min(most)
    }

    fn draw(mut self, frame: &mut Frame, app: &App) {
        let rows = self.page.rows.split_off(self.top(app));
        frame.render_widget(Paragraph::new(rows), self.area);
    }
}

/// The line of the log that the cursor is on, else that of the failure.
fn pointed_at(app: &App, failure: &Failure, left: Rect, theme: &Theme) -> u64 {
    let mut page = Page::default();
    let first = failure.fixes.len();
    story(&mut page, app, failure, first, usize::from(left.width), theme);
    let at = app.diagnosis.selected.and_then(|s| s.checked_sub(first));
    match at.and_then(|at| page.items.get(at)) {
        Some((_, Item::Evidence(line))) => *line,
        _ => failure.place.line,
    }
}

/// A click: the item there is under the cursor, and a fix that already was is tried.
pub fn press(app: &mut App, area: Rect, column: u16, row: u16) {
    let Some(shown) = failure(app) else { return };
    let all = columns(app, shown, area, app.theme());
    let Some(hit) = all.iter().find(|c| c.area.contains((column, row).into())) else { return };
    let row = usize::from(row - hit.area.y) + hit.top(app);
    let Some(at) = hit.page.items.iter().rposition(|(begins, _)| *begins <= row) else { return };
    // The blank rows and the headings that follow an item do not belong to it.
    if hit.page.rows[hit.page.items[at].0..=row.min(hit.page.rows.len() - 1)].iter().any(|r| r.width() == 0) {
        return;
    }
    let at = hit.first + at;
    let again = app.diagnosis.selected == Some(at);
    app.diagnosis.selected = Some(at);
    if again {
        act(app, Action::Choose);
    }
}

fn which(app: &App, theme: &Theme) -> Vec<Span<'static>> {
    let n = app.shown_diagnosis().map_or(0, |d| d.failures.len());
    if n < 2 {
        return Vec::new();
    }
    let at = app.diagnosis.failure.min(n - 1) + 1;
    vec![Span::styled(format!("failure {at} of {n}"), theme.warning), Span::styled("  n next", theme.muted)]
}

fn nothing(frame: &mut Frame, area: Rect, app: &App, theme: &Theme) {
    let inner = panel(frame, area, "diagnosis", Vec::new(), theme);
    let paste = app.keymap.hint(Action::Show(Screen::Paste));
    if let Some(crash) = app.session.crash() {
        let mut advice = vec![crash.text.as_str()];
        advice.extend(crash.frame.as_ref().map(Clean::as_str));
        let key = app.keymap.hint(Action::Open);
        let more = format!("{key} shows line {} of the log, where it ends.", count(crash.line));
        advice.push(more.as_str());
        explain(frame, inner, "The run failed, and not of memory", &advice, theme);
        return;
    }
    let advice = format!(
        "When the run dies of memory, this page says why and what to change. {paste} takes the text of another run."
    );
    explain(frame, inner, "Nothing has failed", &[advice.as_str()], theme);
}

/// Everything in one column: what and why in short, what to change, then the evidence at length. Where only a few rows
/// are seen, the card comes after what to change.
fn whole(app: &App, failure: &Failure, card_first: bool, width: usize, theme: &Theme) -> Page {
    let mut page = Page::default();
    if card_first {
        page.summary(failure, width, theme);
        card::picture(&mut page, failure, width, theme);
    } else {
        let summary = sentence(failure.summary.as_str());
        for row in Inked::plain(&summary, theme.bright).rows(width, 2, theme) {
            page.row(Line::from(row));
        }
    }
    let rest = fixes::table(app, failure, false, width, theme);
    let rows = page.rows.len();
    page.items.extend(rest.items.into_iter().map(|(row, item)| (row + rows, item)));
    page.rows.extend(rest.rows);
    page.blank();
    if !card_first {
        card::picture(&mut page, failure, width, theme);
    }
    evidences(&mut page, app, failure, 0, width, theme);
    page
}

/// What happened, where, and why.
fn story(page: &mut Page, app: &App, failure: &Failure, first: usize, width: usize, theme: &Theme) {
    page.summary(failure, width, theme);
    card::picture(page, failure, width, theme);
    evidences(page, app, failure, first, width, theme);
}

/// Where it happened and why, with the lines that prove it. `first` items stand on another page before these.
fn evidences(page: &mut Page, app: &App, failure: &Failure, first: usize, width: usize, theme: &Theme) {
    page.heading("Where", theme);
    let place = &failure.place;
    let mut what = String::new();
    if let Some(rank) = failure.rank {
        let _ = write!(what, "rank {rank}, ");
    }
    if let Some(device) = failure.device.filter(|_| failure.memory == Memory::Gpu) {
        let _ = write!(what, "GPU {device}, ");
    }
    what.push_str(phase_words(failure.phase.id));
    page.text(&sentence(&what), 2, width, theme.text);
    if place.line > 0 {
        evidence(page, app, Some(place.line), failure.message.as_str(), first, width, theme);
    }
    for line in &failure.phase.evidence {
        evidence(page, app, line.line, line.text.as_str(), first, width, theme);
    }
    let (found, open): (Vec<_>, Vec<_>) = failure.causes.iter().partition(|cause| cause.settled_by.is_none());
    if !found.is_empty() {
        page.blank();
        page.heading("Why", theme);
    }
    for cause in found {
        let said = |line: &&Evidence| line.line.is_some_and(|n| page.shows(n));
        let (above, new): (Vec<_>, Vec<_>) = cause.evidence.iter().partition(said);
        let mut lines: Vec<String> = above.iter().filter_map(|line| line.line).map(count).collect();
        lines.dedup();
        let right = match lines.len() {
            0 => String::new(),
            1 => format!("line {}", lines[0]),
            _ => format!("lines {}", lines.join(", ")),
        };
        let name = fit(&sentence(cause_words(cause.id)), width.saturating_sub(8), "");
        let left = vec![
            Span::styled(format!("  {:>4}  ", percent(cause.score)), theme.muted),
            Span::styled(name, theme.bright),
        ];
        page.row(row::sides(left, vec![Span::styled(right, theme.muted)], width));
        // What the heading says already is not said again.
        if !cause.summary.is_empty() && !page.said.ends_with(cause.summary.as_str()) {
            page.text(&sentence(cause.summary.as_str()), 8, width, theme.text);
        }
        for line in new {
            evidence(page, app, line.line, line.text.as_str(), first, width, theme);
        }
    }
    if !open.is_empty() {
        page.blank();
        page.heading("Not enough data to tell", theme);
    }
    for cause in open {
        page.text(&sentence(cause_words(cause.id)), 2, width, theme.bright);
        page.text(&sentence(cause.summary.as_str()), 8, width, theme.text);
        if let Some(settled_by) = &cause.settled_by {
            page.text(&format!("What would settle it: {settled_by}"), 8, width, theme.muted);
        }
    }
    if !failure.other_processes.is_empty() {
        page.blank();
        page.heading("Other processes on the card", theme);
        for process in failure.other_processes.iter().take(8) {
            let size = process.bytes.map_or_else(|| "size not known".to_string(), |b| Bytes(b).to_string());
            let name = process.name.as_ref().map(|n| format!("  {n}")).unwrap_or_default();
            page.text(&format!("pid {}  {size}{name}", process.pid), 2, width, theme.text);
        }
    }
    if !failure.echoes.is_empty() {
        page.blank();
        page.heading("What only echoes it", theme);
        for line in failure.echoes.iter().take(8) {
            evidence(page, app, line.line, line.text.as_str(), first, width, theme);
        }
    }
}

/// A line that proves something: cut to one row, or whole while the cursor is on it.
fn evidence(page: &mut Page, app: &App, line: Option<u64>, text: &str, first: usize, width: usize, theme: &Theme) {
    if line.is_some_and(|line| page.shows(line)) {
        return;
    }
    let number = line.map_or_else(|| "     ".to_string(), |l| format!("{:>5}", count(l)));
    let here = line.is_some() && app.diagnosis.selected == Some(first + page.items.len());
    if let Some(line) = line {
        page.items.push((page.rows.len(), Item::Evidence(line)));
    }
    let room = width.saturating_sub(10);
    let style = if here { theme.selection } else { theme.muted };
    let rows = if here {
        Inked::plain(text.trim(), style).rows(room, MOST_ROWS, theme)
    } else {
        vec![Inked::plain(text.trim(), style).fitted(room, theme)]
    };
    for (n, row) in rows.into_iter().enumerate() {
        let number = if n == 0 { number.as_str() } else { "     " };
        let mut spans = vec![
            Span::styled(format!("  {number} "), theme.accent),
            Span::styled(theme.glyphs.pick("│ ", "| "), theme.faint),
        ];
        spans.extend(row);
        page.row(Line::from(spans));
    }
}

pub fn act(app: &mut App, action: Action) -> Vec<Cmd> {
    let Some(shown) = failure(app) else {
        match (action, app.session.crash().map(|crash| (crash.source, crash.line))) {
            (Action::Back, _) => app.screen = Screen::Overview,
            (Action::Open, Some((source, line))) => super::log::jump_in(app, Some(source), line),
            _ => {}
        }
        return Vec::new();
    };
    let width = usize::from(app.size.0).saturating_sub(4);
    let items = whole(app, shown, true, width, app.theme()).items;
    let first_fix = items.iter().position(|(_, item)| matches!(item, Item::Fix(_)));
    let page = usize::from(app.size.1).saturating_sub(6).max(1);
    let at = app.diagnosis.selected;
    let last = items.len().saturating_sub(1);
    match action {
        Action::Down => app.diagnosis.selected = Some(at.map_or(first_fix.unwrap_or(0), |s| (s + 1).min(last))),
        Action::Up => app.diagnosis.selected = at.and_then(|s| s.checked_sub(1)),
        Action::PageDown => {
            app.diagnosis.selected = None;
            app.diagnosis.scroll += page;
        }
        Action::PageUp => {
            app.diagnosis.selected = None;
            app.diagnosis.scroll = app.diagnosis.scroll.saturating_sub(page);
        }
        Action::Top => (app.diagnosis.selected, app.diagnosis.scroll) = (None, 0),
        Action::Bottom => app.diagnosis.selected = Some(last),
        Action::Choose => {
            let at = at.or(first_fix).unwrap_or(0);
            app.diagnosis.selected = Some(at);
            if let Some((_, Item::Fix(n))) = items.get(at)
                && !app.diagnosis.chosen.remove(n)
            {
                app.diagnosis.chosen.insert(*n);
            }
        }
        Action::Open => {
            let target = match at.and_then(|s| items.get(s)) {
                Some((_, Item::Evidence(line))) => Some(*line),
                _ => Some(shown.place.line).filter(|l| *l > 0),
            };
            if let Some(line) = target {
                if app.diagnosis.pasted {
                    app.paste.jump(line);
                    app.screen = Screen::Paste;
                } else {
                    super::log::jump(app, line);
                }
            }
        }
        Action::NextFailure => {
            let n = app.shown_diagnosis().map_or(1, |d| d.failures.len()).max(1);
            let next = (app.diagnosis.failure + 1) % n;
            app.diagnosis = State { failure: next, pasted: app.diagnosis.pasted, ..State::default() };
        }
        Action::CopyCommand | Action::CopyPatch | Action::CopyReport | Action::SaveReport => {
            return take_away(app, action);
        }
        Action::Back => app.screen = Screen::Overview,
        _ => {}
    }
    Vec::new()
}

fn take_away(app: &mut App, action: Action) -> Vec<Cmd> {
    let Some(shown) = failure(app) else { return Vec::new() };
    let knobs = &*fixes::knobs_of(app, shown);
    let chosen = fixes::chosen(app, shown);
    let text = match action {
        Action::CopyCommand => report::command(shown, &chosen, knobs),
        Action::CopyPatch => report::patch(shown, &chosen, knobs),
        _ => app.shown_diagnosis().map(|d| report::markdown(d, knobs)).unwrap_or_default(),
    };
    if text.trim().is_empty() {
        app.say("there is nothing to type for this failure", Tone::Warning);
        return Vec::new();
    }
    match action {
        Action::SaveReport => vec![Cmd::Save { name: "oomph-report.md".into(), text }],
        _ => vec![Cmd::Copy(text)],
    }
}
