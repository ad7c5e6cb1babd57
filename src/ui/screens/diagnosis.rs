//! Why it failed and what to change: the card with the request that did not fit, causes with evidence, fixes.

use std::fmt::Write;

use std::collections::BTreeSet;

use ratatui::{
    Frame,
    layout::Rect,
    style::Style,
    text::{Line, Span},
    widgets::Paragraph,
};
use unicode_width::UnicodeWidthStr;

use crate::{
    model::{
        Bytes, Clean,
        failure::{Failure, Fix, Memory, Numbers, Verdict},
    },
    ui::{
        App, Cmd, Screen, Theme, Tone,
        format::{count, fit, gib, percent, sentence},
        keymap::Action,
        report::{self, cause_words, phase_words, verdict_words, words_of},
        widgets::{
            bar,
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

/// Breaks at blanks where it can.
fn folded(text: &str, width: usize) -> Vec<String> {
    let mut rows = vec![String::new()];
    for word in text.split(' ') {
        let mut word = word.to_string();
        loop {
            let used = rows.last().map_or(0, |r| r.width());
            let space = usize::from(used > 0);
            if used + space + word.width() <= width {
                if let Some(row) = rows.last_mut() {
                    if space > 0 {
                        row.push(' ');
                    }
                    row.push_str(&word);
                }
                break;
            }
            if used == 0 {
                let head = fit(&word, width, "");
                let rest = word[head.len()..].to_string();
                if head.is_empty() {
                    break;
                }
                if let Some(row) = rows.last_mut() {
                    *row = head;
                }
                word = rest;
            }
            rows.push(String::new());
        }
    }
    rows
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
        let (left, right) = super::overview::split_left(area, area.width * 45 / 100);
        let inner = panel_in(frame, left, &what_title(app), which(app, theme), theme, border);
        let inside = inset(inner);
        let first = failure.fixes.len();
        let mut page = Page::default();
        story(&mut page, app, failure, first, usize::from(inside.width), theme);
        draw(frame, inside, app, page, first);
        let inner = panel(frame, right, "what to change", tried_total(app, failure, theme), theme);
        let inside = inset(inner);
        draw(frame, inside, app, fixes(app, failure, usize::from(inside.width), theme), 0);
    } else {
        let inner = panel_in(frame, area, &what_title(app), which(app, theme), theme, border);
        let inside = inset(inner);
        let page = whole(app, failure, usize::from(inside.width), theme);
        draw(frame, inside, app, page, 0);
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

/// Everything in one column: what and why in short, what to change, then the evidence at length.
fn whole(app: &App, failure: &Failure, width: usize, theme: &Theme) -> Page {
    let mut page = Page::default();
    page.text(&sentence(failure.summary.as_str()), 0, width, theme.bright);
    page.blank();
    picture(&mut page, failure, width, theme);
    page.heading("What to change", theme);
    let rest = fixes(app, failure, width, theme);
    let rows = page.rows.len();
    page.items.extend(rest.items.into_iter().map(|(row, item)| (row + rows, item)));
    page.rows.extend(rest.rows);
    page.blank();
    evidences(&mut page, app, failure, 0, width, theme);
    page
}

/// What happened, where, and why.
fn story(page: &mut Page, app: &App, failure: &Failure, first: usize, width: usize, theme: &Theme) {
    page.text(&sentence(failure.summary.as_str()), 0, width, theme.bright);
    page.blank();
    picture(page, failure, width, theme);
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

/// The card as a bar, what each part is, and the request that did not fit.
fn picture(page: &mut Page, failure: &Failure, width: usize, theme: &Theme) {
    let numbers = &failure.numbers;
    let parts = parts_of(numbers);
    let known: u64 = parts.iter().map(|(_, bytes)| bytes).sum();
    let Some(whole) = capped(numbers).or(numbers.capacity_bytes).or(Some(known)).filter(|w| *w > 0 && known > 0) else {
        if let Some(asked) = numbers.requested_bytes {
            page.text(&format!("{} asked", Bytes(asked)), 0, width, theme.critical);
            page.blank();
        }
        return;
    };
    let style = |name: &str| match name {
        ALLOCATED => theme.series(0),
        RESERVED => theme.series(1),
        OVERHEAD => theme.series(3),
        OTHERS => theme.series(4),
        FREE => theme.faint,
        _ => theme.muted,
    };
    let symbol = |name: &str| match name {
        ALLOCATED => theme.glyphs.pick("█", "#"),
        RESERVED => theme.glyphs.pick("▓", "="),
        OVERHEAD => theme.glyphs.pick("▒", "%"),
        OTHERS => theme.glyphs.pick("▚", "o"),
        FREE => theme.glyphs.pick("░", "."),
        _ => theme.glyphs.pick("▒", ":"),
    };
    let bar_width = width.min(100);
    let segments: Vec<(f64, Style, &'static str)> =
        parts.iter().map(|(name, bytes)| (*bytes as f64, style(name), symbol(name))).collect();
    let name = match (failure.memory, failure.device) {
        (Memory::Gpu, Some(device)) => format!("GPU {device}, {} GiB", gib(Bytes(whole))),
        (Memory::Gpu, None) => format!("the GPU, {} GiB", gib(Bytes(whole))),
        (Memory::Host, _) => format!("the host, {} GiB", gib(Bytes(whole))),
        (Memory::Shm, _) => format!("/dev/shm, {} GiB", gib(Bytes(whole))),
        (Memory::None, _) => format!("{} GiB", gib(Bytes(whole))),
    };
    let name = match (capped(numbers), numbers.capacity_bytes) {
        (Some(cap), Some(card)) => {
            let card = gib(Bytes(card));
            format!("{}: {} GiB of the card's {card} are allowed", device_words(failure), gib(Bytes(cap)))
        }
        _ => name,
    };
    page.row(Line::from(Span::styled(sentence(&name), theme.text)));
    let bar = bar::parts(&segments, bar_width);
    page.row(Line::from(bar.clone()));
    if width >= 84 {
        page.row(Line::from(bar));
    }
    if let Some(asked) = numbers.requested_bytes {
        request(page, asked, numbers, whole, bar_width, width, theme);
    }
    // In one narrow column two entries share a row, so that the fixes come into sight.
    let across = if (72..84).contains(&width) { 2 } else { 1 };
    let entry = |(name, bytes): &(&'static str, u64)| {
        vec![
            Span::styled(format!("{} ", symbol(name)), style(name)),
            Span::styled(format!("{name:<26}"), theme.text),
            Span::styled(format!("{:>6}", gib(Bytes(*bytes))), theme.bright),
            Span::styled(if across == 1 { " GiB" } else { "" }, theme.muted),
        ]
    };
    for pair in parts.chunks(across) {
        let mut row = Vec::new();
        for part in pair {
            if !row.is_empty() {
                row.push(Span::raw("  "));
            }
            row.extend(entry(part));
        }
        page.row(Line::from(row));
    }
    page.blank();
}

/// What the process may use, where that is less than the card has.
fn capped(numbers: &Numbers) -> Option<u64> {
    let allowed = numbers.allowed_bytes?;
    numbers.capacity_bytes.is_none_or(|card| allowed < card).then_some(allowed)
}

fn device_words(failure: &Failure) -> String {
    failure.device.map_or_else(|| "the GPU".to_string(), |device| format!("GPU {device}"))
}

/// The request to the scale of the card, from where free memory begins, with what it lacks.
fn request(page: &mut Page, asked: u64, numbers: &Numbers, whole: u64, bar: usize, width: usize, theme: &Theme) {
    let free = room_left(numbers).unwrap_or(0);
    let columns = |bytes: u64| (bytes as f64 / whole as f64 * bar as f64).round() as usize;
    let start = bar.saturating_sub(columns(free));
    let length = columns(asked).clamp(1, (width.saturating_sub(1)).max(1));
    let start = start.min(width.saturating_sub(length));
    let edge = theme.glyphs.pick("▲", "^").repeat(length);
    page.row(Line::from(vec![Span::raw(" ".repeat(start)), Span::styled(edge, theme.critical)]));
    let short = asked.saturating_sub(free);
    let mut text = format!("{} asked", Bytes(asked));
    if room_left(numbers).is_some() {
        if short > 0 {
            let _ = write!(text, ", {} too much", Bytes(short));
        } else {
            text.push_str(", and as much was free: not in one piece, or not for this process");
        }
    }
    let pad = start.saturating_sub(text.width() / 2).min(width.saturating_sub(text.width()));
    page.text(&text, pad, width, theme.critical);
}

/// What the process could still have had: of the card, or under its limit.
fn room_left(numbers: &Numbers) -> Option<u64> {
    match (capped(numbers), numbers.in_use_bytes) {
        (Some(cap), Some(used)) => Some(cap.saturating_sub(used)),
        _ => numbers.free_bytes,
    }
}

const ALLOCATED: &str = "allocated by PyTorch";
const RESERVED: &str = "reserved, not allocated";
const OVERHEAD: &str = "CUDA context and libraries";
const OTHERS: &str = "other processes";
const FREE: &str = "free";
const USED: &str = "in use";

/// The parts of the card that the message tells apart; together never more than the card.
fn parts_of(numbers: &Numbers) -> Vec<(&'static str, u64)> {
    let mut parts = Vec::new();
    let allocated = numbers.allocated_bytes;
    let reserved = numbers.reserved_unallocated_bytes;
    if let Some(bytes) = allocated {
        parts.push((ALLOCATED, bytes));
    }
    if let Some(bytes) = reserved {
        parts.push((RESERVED, bytes));
    }
    let torch = allocated.unwrap_or(0).saturating_add(reserved.unwrap_or(0));
    if let Some(used) = numbers.in_use_bytes {
        let name = if torch == 0 { USED } else { OVERHEAD };
        parts.push((name, used.saturating_sub(torch)));
    }
    if capped(numbers).is_some() {
        parts.extend(room_left(numbers).map(|free| (FREE, free)));
    } else if let (Some(capacity), Some(free)) = (numbers.capacity_bytes, numbers.free_bytes) {
        let own = numbers.in_use_bytes.unwrap_or(torch).max(torch);
        let name = if numbers.in_use_bytes.is_some() { OTHERS } else { "everything else" };
        parts.push((name, capacity.saturating_sub(free).saturating_sub(own)));
    }
    if let Some(free) = numbers.free_bytes.filter(|_| capped(numbers).is_none()) {
        parts.push((FREE, free));
    }
    // A hair of difference is rounding in the message, not a part of the card.
    let hair = numbers.capacity_bytes.unwrap_or(0) / 500;
    parts.retain(|(_, bytes)| *bytes > hair);
    parts
}

/// The fixes as a table, the words to type under each.
fn fixes(app: &App, failure: &Failure, width: usize, theme: &Theme) -> Page {
    let mut page = Page::default();
    let knobs = app.session.knobs();
    if failure.fixes.is_empty() {
        page.text("No fix can be named from this text alone.", 0, width, theme.muted);
        page.text("Give more of the log, or the configuration: --config train.yaml", 0, width, theme.muted);
        return page;
    }
    let capacity =
        failure.numbers.allowed_bytes.or(failure.numbers.capacity_bytes).or_else(|| card_capacity(app, failure));
    if let Some(capacity) = capacity
        && failure.fixes.iter().any(|f| f.predicted_peak_bytes.is_some())
    {
        let text = format!("predicted peak, of {} GiB", gib(Bytes(capacity)));
        page.row(Line::from(Span::styled(format!("{text:>width$}"), theme.muted)));
    }
    for (n, fix) in failure.fixes.iter().enumerate() {
        let here = app.diagnosis.selected == Some(n);
        page.items.push((page.rows.len(), Item::Fix(n)));
        page.row(fix_row(app, fix, n, here, capacity, width, theme));
        for words in words_of(fix, knobs) {
            page.text(&Clean::new(&words).to_string(), 4, width, theme.accent);
        }
        let mut cost = fix.cost.as_str().to_string();
        if let Some(saves) = fix.saves_bytes.filter(|s| *s > 0) {
            cost = format!("saves {} {} {cost}", Bytes(saves), theme.glyphs.pick("·", "-"));
        }
        if !cost.is_empty() {
            let cost = if cost.starts_with("none") { format!("cost: {cost}") } else { cost };
            page.text(&cost, 4, width, theme.muted);
        }
        if here && !fix.when_not.is_empty() {
            page.text(&format!("not when: {}", fix.when_not), 4, width, theme.warning);
        }
        page.blank();
    }
    if let Some(plan) = &failure.plan {
        let known = !matches!(plan.verdict, Verdict::Unknown);
        page.heading(if known { "The least that is predicted to fit" } else { "To try first" }, theme);
        let changes: Vec<String> = plan.changes.iter().map(|(knob, value)| format!("{knob}: {value}")).collect();
        page.text(&changes.join(", "), 2, width, theme.bright);
        let peak = plan.predicted_peak_bytes.map(|b| format!("peak {}: ", Bytes(b))).unwrap_or_default();
        if known {
            page.text(&format!("{peak}{}", verdict_words(plan.verdict)), 2, width, verdict_style(plan.verdict, theme));
        }
        if !plan.note.is_empty() {
            page.text(&sentence(plan.note.as_str()), 2, width, theme.muted);
        }
    }
    page
}

fn fix_row(
    app: &App,
    fix: &Fix,
    n: usize,
    here: bool,
    capacity: Option<u64>,
    width: usize,
    theme: &Theme,
) -> Line<'static> {
    let mark = match (app.diagnosis.chosen.contains(&n), theme.glyphs.ascii()) {
        (true, false) => "◉ ",
        (false, false) => "○ ",
        (true, true) => "x ",
        (false, true) => "- ",
    };
    let mut right = Vec::new();
    if let (Some(peak), Some(capacity)) = (fix.predicted_peak_bytes, capacity) {
        let share = peak as f64 / capacity.max(1) as f64;
        let style = verdict_style(fix.verdict, theme);
        if width >= 64 {
            right.extend(bar::full(share, 14, style, theme));
            right.push(Span::raw(" "));
        }
        right.push(Span::styled(format!("{:>6} GiB", gib(Bytes(peak))), theme.text));
    }
    if fix.verdict != Verdict::Unknown || fix.predicted_peak_bytes.is_some() {
        right.push(Span::styled(format!("  {:<9}", verdict_words(fix.verdict)), verdict_style(fix.verdict, theme)));
    }
    let taken: usize = right.iter().map(Span::width).sum();
    let room = width.saturating_sub(taken + 4);
    let title = fit(fix.title.as_str(), room, theme.glyphs.pick("…", "~"));
    let style = if here { theme.selection } else { theme.bright };
    let left = vec![
        Span::styled(mark, if here { theme.selection } else { theme.accent }),
        Span::styled(format!("{title:<room$}"), style),
    ];
    crate::ui::widgets::row::sides(left, right, width)
}

fn verdict_style(verdict: Verdict, theme: &Theme) -> Style {
    match verdict {
        Verdict::Fits => theme.good,
        Verdict::Tight => theme.warning,
        Verdict::DoesNotFit => theme.critical,
        Verdict::Unknown => theme.muted,
    }
}

/// The card's capacity where the message does not give it but the driver does.
fn card_capacity(app: &App, failure: &Failure) -> Option<u64> {
    let device = failure.device.unwrap_or(0);
    let gpu = app.session.gpus.iter().find(|g| g.latest.index == device)?;
    gpu.latest.memory_total.filter(|_| !app.diagnosis.pasted).map(|b| b.0)
}

/// The peak with all tried fixes, by adding up what each saves alone: their savings overlap, so it is an outline.
fn tried_total(app: &App, failure: &Failure, theme: &Theme) -> Vec<Span<'static>> {
    let tried: Vec<&Fix> = chosen(app, failure);
    if tried.is_empty() {
        return Vec::new();
    }
    let before = failure.fixes.iter().find_map(|f| Some(f.predicted_peak_bytes? + f.saves_bytes?));
    let saved: u64 = tried.iter().filter_map(|f| f.saves_bytes).sum();
    let peak = match tried.as_slice() {
        [one] => one.predicted_peak_bytes,
        _ => before.map(|b| b.saturating_sub(saved)),
    };
    let Some(peak) = peak else { return vec![Span::styled(format!("{} tried", tried.len()), theme.accent)] };
    let capacity =
        failure.numbers.allowed_bytes.or(failure.numbers.capacity_bytes).or_else(|| card_capacity(app, failure));
    let style = capacity.map_or(theme.text, |c| theme.fullness(peak as f64 / c.max(1) as f64));
    let about = if tried.len() > 1 { "about " } else { "" };
    vec![
        Span::styled(format!("{} tried: peak {about}", tried.len()), theme.muted),
        Span::styled(format!("{} GiB", gib(Bytes(peak))), style),
    ]
}

fn chosen<'a>(app: &App, failure: &'a Failure) -> Vec<&'a Fix> {
    app.diagnosis.chosen.iter().filter_map(|n| failure.fixes.get(*n)).collect()
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
    let items = whole(app, shown, width, app.theme()).items;
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
    let knobs = app.session.knobs();
    let chosen = chosen(app, shown);
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
