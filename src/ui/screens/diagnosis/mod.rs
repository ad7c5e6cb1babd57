//! Why it failed and what to change: the card with the request that did not fit, causes with evidence, fixes.

mod card;
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
        failure::{Failure, Memory},
    },
    ui::{
        App, Cmd, Screen, Theme, Tone,
        format::{count, fit, folded, percent, sentence},
        keymap::Action,
        report::{self, cause_words, phase_words},
        widgets::{
            area::{split_left, split_top},
            panel::{explain, panel, panel_in},
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
}

impl Page {
    fn row(&mut self, line: Line<'static>) {
        self.rows.push(line);
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
/// ╰──────────────────────────────╯╰───────────────────────────────────────╯
/// ```
pub fn render(frame: &mut Frame, area: Rect, app: &App, theme: &Theme) {
    let Some(failure) = failure(app) else {
        nothing(frame, area, app, theme);
        return;
    };
    let border = if failure.is_oom { theme.critical } else { theme.warning };
    if area.width >= 110 {
        let (left, right) = split_left(area, area.width * 45 / 100);
        let inner = panel_in(frame, left, &what_title(app), which(app, theme), theme, border);
        let inside = inset(inner);
        let first = failure.fixes.len();
        let mut page = Page::default();
        story(&mut page, app, failure, first, usize::from(inside.width), theme);
        draw(frame, inside, app, page, first);
        let inner = panel(frame, right, "what to change", Vec::new(), theme);
        let inside = inset(inner);
        let (above, foot) = split_top(inside, inside.height - fixes::foot_rows(app, failure, inside.height));
        draw(frame, above, app, fixes::table(app, failure, usize::from(inside.width), theme), 0);
        fixes::foot(frame, foot, app, failure, theme);
    } else {
        let inner = panel_in(frame, area, &what_title(app), which(app, theme), theme, border);
        let inside = inset(inner);
        let page = whole(app, failure, inside.height >= 12, usize::from(inside.width), theme);
        let (above, foot) = split_top(inside, inside.height - fixes::foot_rows(app, failure, inside.height));
        draw(frame, above, app, page, 0);
        fixes::foot(frame, foot, app, failure, theme);
    }
}

fn inset(inner: Rect) -> Rect {
    Rect { x: inner.x + 1, width: inner.width.saturating_sub(2), ..inner }
}

fn what_title(app: &App) -> String {
    if app.diagnosis.pasted { "what happened (pasted text)".into() } else { "what happened".into() }
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

/// Shows the part of a page in which the cursor stands.
fn draw(frame: &mut Frame, area: Rect, app: &App, mut page: Page, first: usize) {
    let height = usize::from(area.height);
    let most = page.rows.len().saturating_sub(height);
    let selected = app.diagnosis.selected.and_then(|s| s.checked_sub(first)).and_then(|s| page.items.get(s));
    let top = match selected {
        Some((row, _)) if *row + 3 > height => (row + 3).saturating_sub(height).max(row.saturating_sub(height / 2)),
        Some(_) => 0,
        None => app.diagnosis.scroll,
    };
    let rows = page.rows.split_off(top.min(most));
    frame.render_widget(Paragraph::new(rows), area);
}

/// Everything in one column: what and why in short, what to change, then the evidence at length. Where only a few rows
/// are seen, the card comes after what to change.
fn whole(app: &App, failure: &Failure, card_first: bool, width: usize, theme: &Theme) -> Page {
    let mut page = Page::default();
    page.text(&sentence(failure.summary.as_str()), 0, width, theme.bright);
    page.blank();
    if card_first {
        card::picture(&mut page, failure, width, theme);
    }
    if failure.plan.as_ref().is_none_or(|plan| plan.changes.is_empty()) {
        page.heading("What to change", theme);
    }
    let rest = fixes::table(app, failure, width, theme);
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
    page.text(&sentence(failure.summary.as_str()), 0, width, theme.bright);
    page.blank();
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
        page.row(Line::from(vec![
            Span::styled(format!("  {:>4}  ", percent(cause.score)), theme.muted),
            Span::styled(fit(&sentence(cause_words(cause.id)), width.saturating_sub(8), ""), theme.bright),
        ]));
        if !cause.summary.is_empty() {
            page.text(&sentence(cause.summary.as_str()), 8, width, theme.text);
        }
        for line in &cause.evidence {
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

fn evidence(page: &mut Page, app: &App, line: Option<u64>, text: &str, first: usize, width: usize, theme: &Theme) {
    let number = line.map_or_else(|| "     ".to_string(), |l| format!("{:>5}", count(l)));
    let here = line.is_some() && app.diagnosis.selected == Some(first + page.items.len());
    if let Some(line) = line {
        page.items.push((page.rows.len(), Item::Evidence(line)));
    }
    let room = width.saturating_sub(10);
    let style = if here { theme.selection } else { theme.muted };
    let shown = fit(text.trim(), room, theme.glyphs.pick("…", "~"));
    page.row(Line::from(vec![
        Span::styled(format!("  {number} "), theme.accent),
        Span::styled(theme.glyphs.pick("│ ", "| "), theme.faint),
        Span::styled(shown, style),
    ]));
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
