//! What to change: every fix with its predicted peak, and those that were chosen, together.

use std::borrow::Cow;

use ratatui::{
    Frame,
    layout::Rect,
    style::Style,
    text::{Line, Span},
    widgets::Paragraph,
};
use unicode_width::UnicodeWidthStr;

use crate::{
    diagnose::{changes, fixes, together, told},
    model::{
        Bytes,
        failure::{Failure, Fix, Verdict},
        knobs::Knobs,
    },
    ui::{
        App, Theme,
        format::{fit, gib, sentence},
        keymap::Action,
        report::{changed_words, verdict_words, words_with_values},
        widgets::{bar, row},
    },
};

use super::{Item, Page};

/// The plan, then the fixes as a table, the words to type under each; those that are predicted to fit stand first.
/// `roomy`: with blank rows between them.
pub(super) fn table(app: &App, failure: &Failure, roomy: bool, width: usize, theme: &Theme) -> Page {
    let mut page = Page::default();
    let knobs = &*knobs_of(app, failure);
    if failure.fixes.is_empty() {
        page.text("No fix can be named from this text alone.", 0, width, theme.muted);
        page.text("Give more of the log, or the configuration: --config train.yaml", 0, width, theme.muted);
        return page;
    }
    if let Some(plan) = failure.plan.as_ref().filter(|p| !p.changes.is_empty()) {
        let known = !matches!(plan.verdict, Verdict::Unknown);
        let fits = !matches!(plan.verdict, Verdict::DoesNotFit | Verdict::Unknown);
        let words = if fits { "The least that is predicted to fit" } else { "The closest to fitting" };
        page.heading(if known { words } else { "To try first" }, theme);
        page.text(&changed_words(plan, failure), 2, width, theme.bright);
        let peak = plan.predicted_peak_bytes.map(|b| format!("peak {}: ", Bytes(b))).unwrap_or_default();
        if known {
            page.text(&format!("{peak}{}", verdict_words(plan.verdict)), 2, width, verdict_style(plan.verdict, theme));
        }
        if !plan.note.is_empty() {
            page.text(&sentence(plan.note.as_str()), 2, width, theme.muted);
        }
        page.blank();
    }
    let capacity = capacity(app, failure);
    let mut over = String::new();
    if let Some(capacity) = capacity
        && failure.fixes.iter().any(|f| f.predicted_peak_bytes.is_some())
    {
        let card = failure.numbers.allowed_bytes.or(failure.numbers.capacity_bytes);
        let left = if card.is_some_and(|card| capacity < card) { " that other processes leave" } else { "" };
        over = format!("predicted peak, of {} GiB{left}", gib(Bytes(capacity)));
    }
    let heading = if page.rows.is_empty() { "What to change" } else { "Each change alone" };
    let left = vec![Span::styled(heading, theme.accent)];
    page.row(row::sides(left, vec![Span::styled(over, theme.muted)], width));
    let mut order: Vec<(usize, &Fix)> = failure.fixes.iter().enumerate().collect();
    order.sort_by_key(|(_, fix)| match fix.verdict {
        Verdict::Fits => 0,
        Verdict::Tight => 1,
        Verdict::Unknown => 2,
        Verdict::DoesNotFit => 3,
    });
    for (n, fix) in order {
        let here = app.diagnosis.selected == Some(page.items.len());
        page.items.push((page.rows.len(), Item::Fix(n)));
        page.row(fix_row(app, fix, n, here, capacity, width, theme));
        let mut words: Vec<String> =
            words_with_values(fix, failure, knobs).into_iter().map(|w| w.as_str().to_string()).collect();
        let cost = cost_words(fix, theme);
        // What it costs stands beside what to type, where both fit.
        let beside = words.last().is_some_and(|last| last.width() + cost.width() + 7 <= width);
        let last = if beside { words.pop() } else { None };
        for words in words {
            page.text(&words, 4, width, theme.accent);
        }
        if let Some(last) = last {
            let left = vec![Span::raw("    "), Span::styled(last, theme.accent)];
            page.row(row::sides(left, vec![Span::styled(cost, theme.muted)], width));
        } else if !cost.is_empty() {
            page.text(&cost, 4, width, theme.muted);
        }
        if here && !fix.when_not.is_empty() {
            page.text(&format!("not when: {}", fix.when_not), 4, width, theme.warning);
        }
        if roomy {
            page.blank();
        }
    }
    page
}

/// What a fix gives back, and what it costs.
fn cost_words(fix: &Fix, theme: &Theme) -> String {
    let cost = match fix.cost.as_str() {
        none if none.starts_with("none") => format!("cost: {none}"),
        cost => cost.to_string(),
    };
    let saves = fix.saves_bytes.filter(|s| *s > 0).map(|s| format!("saves {}", Bytes(s)));
    let all: Vec<String> = saves.into_iter().chain(Some(cost)).filter(|words| !words.is_empty()).collect();
    all.join(theme.glyphs.pick(" · ", " - "))
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
    let style = if here { theme.selection } else { theme.bright };
    let mark = Span::styled(mark, if here { theme.selection } else { theme.accent });
    peak_row(mark, (fix.title.as_str(), style), (fix.predicted_peak_bytes, fix.verdict), capacity, width, theme)
}

/// A title at the left, a predicted peak against the capacity at the right, in the columns of the table.
fn peak_row(
    mark: Span<'static>,
    (title, style): (&str, Style),
    (peak, verdict): (Option<u64>, Verdict),
    capacity: Option<u64>,
    width: usize,
    theme: &Theme,
) -> Line<'static> {
    let mut right = Vec::new();
    let own = verdict_style(verdict, theme);
    if let (Some(peak), Some(capacity)) = (peak, capacity) {
        let share = peak as f64 / capacity.max(1) as f64;
        if width >= 64 {
            // What does not help is told in a word; a wall of red would hide what does.
            let bar = if verdict == Verdict::DoesNotFit { theme.muted } else { own };
            right.extend(bar::full(share, 14, bar, theme));
            right.push(Span::raw(" "));
        }
        right.push(Span::styled(format!("{:>6} GiB", gib(Bytes(peak))), theme.text));
    }
    if verdict != Verdict::Unknown || peak.is_some() {
        right.push(Span::styled(format!("  {:<9}", verdict_words(verdict)), own));
    }
    let taken: usize = right.iter().map(Span::width).sum();
    let room = width.saturating_sub(taken + 4);
    let title = fit(title, room, theme.glyphs.pick("…", "~"));
    let left = vec![mark, Span::styled(format!("{title:<room$}"), style)];
    row::sides(left, right, width)
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

/// What the process may use: of its own limit, of what other processes leave, or of the card.
fn capacity(app: &App, failure: &Failure) -> Option<u64> {
    if let Some(basis) = &failure.basis {
        return Some(basis.limit.bytes as u64);
    }
    failure.numbers.allowed_bytes.or(failure.numbers.capacity_bytes).or_else(|| card_capacity(app, failure))
}

/// Settings in whose framework's words a failure's fixes are typed.
pub(super) fn knobs_of<'a>(app: &'a App, failure: &Failure) -> Cow<'a, Knobs> {
    match &failure.basis {
        Some(basis) => Cow::Owned(told(&basis.knobs)),
        None if app.diagnosis.pasted => Cow::Owned(Knobs::default()),
        None => Cow::Borrowed(app.session.knobs()),
    }
}

pub(super) fn chosen<'a>(app: &App, failure: &'a Failure) -> Vec<&'a Fix> {
    app.diagnosis.chosen.iter().filter_map(|n| failure.fixes.get(*n)).collect()
}

/// Rows that the foot of the fixes takes in an area of this height: always the same once it has something to tell.
pub(super) fn foot_rows(app: &App, failure: &Failure, height: u16) -> u16 {
    match height {
        _ if failure.fixes.is_empty() || failure.basis.is_none() && app.diagnosis.chosen.is_empty() => 0,
        0..=6 => 0,
        7..=13 => u16::from(!app.diagnosis.chosen.is_empty()),
        14..=29 => 4,
        _ => 6,
    }
}

/// The predicted peak of everything that was chosen, at once; before that of the settings as they were.
///
/// ```text
/// ──────────────────────────────────────────────────────
///   2 together            ███████·······  10.23 GiB  fits
///     per_device_train_batch_size: 8 → 4, …
/// ```
pub(super) fn foot(frame: &mut Frame, area: Rect, app: &App, failure: &Failure, theme: &Theme) {
    let width = usize::from(area.width);
    let chosen = chosen(app, failure);
    let knobs = &*knobs_of(app, failure);
    let mut page = Page::default();
    if area.height > 1 {
        page.row(Line::from(Span::styled(theme.glyphs.pick("─", "-").repeat(width), theme.faint)));
    }
    let predicted = failure.basis.as_ref().map(|basis| together(basis, &chosen));
    let title = match chosen.len() {
        0 => "As it was".to_string(),
        1 => "1 chosen".to_string(),
        n => format!("{n} together"),
    };
    let (peak, verdict) = predicted.map_or((None, Verdict::Unknown), |(peak, verdict)| (Some(peak), verdict));
    let style = if chosen.is_empty() { theme.text } else { theme.bright };
    page.row(peak_row(Span::raw("  "), (&title, style), (peak, verdict), capacity(app, failure), width, theme));
    if chosen.is_empty() {
        let key = app.keymap.hint(Action::Choose);
        page.text(&format!("{key} tries a fix, and more of them together"), 4, width, theme.muted);
    } else {
        if predicted.is_none() {
            page.text(
                "not predicted: that wants the model and its settings (--model, --config)",
                4,
                width,
                theme.muted,
            );
        }
        for why in clashes(&chosen) {
            page.text(&why, 4, width, theme.warning);
        }
        let in_force = changes(&chosen);
        let counts = |fix: &&&Fix| {
            let mut all = fix.changes.iter();
            fix.changes.is_empty() || all.any(|c| in_force.iter().any(|(knob, to)| *knob == c.knob && *to == c.to))
        };
        let words = chosen.iter().filter(counts).flat_map(|fix| words_with_values(fix, failure, knobs));
        page.text(&words.map(|w| w.to_string()).collect::<Vec<_>>().join(", "), 4, width, theme.accent);
        let uncounted: Vec<&str> = chosen.iter().filter(|f| f.changes.is_empty()).map(|f| f.title.as_str()).collect();
        if predicted.is_some() && !uncounted.is_empty() {
            page.text(&format!("not counted: {}", uncounted.join(", ")), 4, width, theme.muted);
        }
    }
    frame.render_widget(Paragraph::new(page.rows), area);
}

/// Chosen fixes that cannot stand beside each other, or of which only one word counts.
fn clashes(chosen: &[&Fix]) -> Vec<String> {
    let mut all = Vec::new();
    for (nth, one) in chosen.iter().enumerate() {
        for other in &chosen[nth + 1..] {
            let same = one.changes.iter().find(|a| other.changes.iter().any(|b| a.knob == b.knob && a.to != b.to));
            if let Some(why) = fixes::clash(one.id, other.id) {
                all.push(format!("{} and {} exclude each other: {why}", one.title, other.title));
            } else if let Some(change) = same {
                all.push(format!(
                    "{} and {} both set {}: the lower one counts",
                    one.title,
                    other.title,
                    change.knob.as_str()
                ));
            }
        }
    }
    all
}
