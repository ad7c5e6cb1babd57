//! Memory in detail: over time against the capacity, each card as a picture of who holds what, and the card under the
//! cursor now, at its peak, and as the memory model estimates it.

mod picture;

use ratatui::{
    Frame,
    layout::Rect,
    text::{Line, Span},
    widgets::Paragraph,
};

use crate::{
    model::Bytes,
    session::{
        gpus::Gpu,
        holders::{Owner, Shares},
        trends::time_to_full,
    },
    ui::{
        App, Cmd, Theme,
        format::{duration, fit, gib},
        keymap::Action,
        widgets::{area::split_top, bar, panel::panel, row},
    },
};

use super::memory_panel;

#[derive(Clone, Debug, Default)]
pub struct State {
    /// The GPU under the cursor, by its place in the driver's order.
    pub selected: usize,
    /// Where there is no room for both, the card's picture instead of the curve.
    pub prefers_picture: bool,
}

pub fn act(app: &mut App, action: Action) -> Vec<Cmd> {
    let last = app.session.gpus.len().saturating_sub(1);
    let State { selected: at, prefers_picture } = &mut app.memory;
    match action {
        Action::Open => *prefers_picture = !*prefers_picture,
        Action::Down => *at = (*at + 1).min(last),
        Action::Up => *at = at.saturating_sub(1),
        Action::Top => *at = 0,
        Action::Bottom => *at = last,
        _ => {}
    }
    Vec::new()
}

/// Rows of the curve before anything else has more than it needs.
const CURVE: u16 = 8;

/// Where the three parts of the screen stand; a part without room has no height.
struct Places {
    over_time: Rect,
    picture: Rect,
    cards: Rect,
}

/// Rows of one card in the list.
fn rows_each(gpus: usize, room: u16) -> u16 {
    match room {
        r if usize::from(r) + 1 >= gpus * 3 => 3,
        r if usize::from(r) >= gpus * 2 => 2,
        _ => 1,
    }
}

fn places(app: &App, area: Rect) -> Places {
    let gpus = app.session.gpus.len() as u16;
    let picture_rows = picture::rows_wanted(app, area.width);
    // One card: the picture tells all that the list would. The curve has the room first, then the figures of each card.
    let each = if gpus <= 4 && area.height >= gpus * 3 + 2 + picture_rows + 2 * CURVE { 3 } else { 1 };
    let list = if gpus == 1 && area.height >= picture_rows + 3 { 0 } else { gpus * each + 2 };
    let most = area.height * 3 / 5;
    let cards = list.min(most).max(if list == 0 { 0 } else { 4.min(area.height) });
    let left = area.height.saturating_sub(cards);
    let both = left >= picture_rows + CURVE;
    let picture = if both || list == 0 || app.memory.prefers_picture { picture_rows.min(left) } else { 0 };
    let over_time = if left - picture >= 4 { left - picture } else { 0 };
    let (over_time, rest) = split_top(area, over_time);
    let (picture, cards) = split_top(rest, if list == 0 { rest.height } else { picture });
    Places { over_time, picture, cards }
}

/// ```text
/// ╭ memory, last 15 min ───────────────── peak 71.0 of 79.5 GiB ╮
/// │ ⣀⣤⣶⣿ …                                                       │
/// ╰──────────────────────────────────────────────────────────────╯
/// ╭ GPU 0 ───────────────────────────────────────────────────────╮
/// │ now      ████████████▓▓▓▓░░░░░░░░░░░░░░░░░  58.1 / 79.5 GiB  │
/// │ peak     ████████████████████▓▓▓▓░░░░░░░░░  71.0 / 79.5 GiB  │
/// │ estimate  weights  │ gradients │ optimizer  66.2 / 79.5 GiB  │
/// ╰──────────────────────────────────────────────────────────────╯
/// ╭ who holds what ──────────────────────────────────────────────╮
/// │ 0 ████████████████▓▓▓▓░░░░░░░░░░░░░░░░░░░░░░  21.4 GiB free  │
/// ╰──────────────────────────────────────────────────────────────╯
/// ```
pub fn render(frame: &mut Frame, area: Rect, app: &App, theme: &Theme) {
    if app.session.gpus.is_empty() {
        return memory_panel::over_time(frame, area, app, theme);
    }
    let Places { over_time, picture, cards } = places(app, area);
    if over_time.height > 0 {
        memory_panel::over_time(frame, over_time, app, theme);
    }
    if picture.height > 0 {
        picture::render(frame, picture, app, theme);
    }
    if cards.height > 0 {
        list(frame, cards, app, theme);
    }
}

/// A click selects the card that it hits.
pub fn press(app: &mut App, area: Rect, row: u16) {
    let cards = places(app, area).cards;
    let gpus = app.session.gpus.len();
    let Some(inside) = row.checked_sub(cards.y + 1).filter(|r| *r + 2 < cards.height.max(2)) else { return };
    let rows = cards.height.saturating_sub(2);
    let each = rows_each(gpus, rows);
    let hit = first_shown(app, usize::from(rows / each).max(1)) + usize::from(inside / each);
    if hit < gpus {
        app.memory.selected = hit;
    }
}

/// The first card of the list, so that the one under the cursor is seen.
fn first_shown(app: &App, shown: usize) -> usize {
    let selected = app.memory.selected.min(app.session.gpus.len().saturating_sub(1));
    selected.saturating_sub(shown.saturating_sub(1) / 2).min(app.session.gpus.len().saturating_sub(shown))
}

/// Every card as a bar of who holds what; whole cards only, and how many are left out.
fn list(frame: &mut Frame, area: Rect, app: &App, theme: &Theme) {
    let gpus: Vec<&Gpu> = app.session.gpus.iter().collect();
    let owner = Owner::of(&app.session);
    let all: Vec<Shares> = gpus.iter().filter_map(|gpu| owner.shares(gpu)).collect();
    let title = "who holds what";
    let legend = legend(&all, usize::from(area.width).saturating_sub(title.len() + 9), theme);
    let inner = panel(frame, area, title, legend, theme);
    let inside = Rect { x: inner.x + 1, width: inner.width.saturating_sub(2), ..inner };
    let width = usize::from(inside.width);
    let each = rows_each(gpus.len(), inside.height);
    let mut shown = usize::from(inside.height / each).max(1);
    let is_cut = shown < gpus.len() && inside.height > 1;
    if is_cut {
        shown = usize::from((inside.height - 1) / each).max(1);
    }
    let from = first_shown(app, shown);
    let mut lines: Vec<Line> = Vec::new();
    for (n, gpu) in gpus.iter().enumerate().skip(from).take(shown) {
        let here = n == app.memory.selected && gpus.len() > 1;
        lines.extend(card(gpu, &owner, here, each == 1, width, theme));
        if each == 3 {
            lines.push(Line::default());
        }
    }
    if is_cut {
        let (above, below) = (from, gpus.len() - from - shown);
        let parts = [(above, "above"), (below, "below")].into_iter().filter(|(n, _)| *n > 0);
        let text: Vec<String> = parts.map(|(n, place)| format!("{n} more {place}")).collect();
        lines.push(Line::from(Span::styled(format!("    {}", text.join(", ")), theme.muted)));
    }
    frame.render_widget(Paragraph::new(lines), inside);
}

/// The signs of a bar's parts, in their order.
const SIGNS: [(&str, &str); 6] = [("█", "#"), ("▓", "%"), ("?", "?"), ("▒", "+"), ("╱", "/"), ("░", ".")];
const NAMES: [&str; 6] = ["this job", "others", "unexplained", "not told", "driver", "free"];

/// The parts of a card as a bar draws them.
fn parts(shares: &Shares, theme: &Theme) -> [(f64, ratatui::style::Style, &'static str); 6] {
    let (sizes, styles) = (sizes(shares), styles(theme));
    std::array::from_fn(|n| (sizes[n].as_f64(), styles[n], theme.glyphs.pick(SIGNS[n].0, SIGNS[n].1)))
}

fn sizes(shares: &Shares) -> [Bytes; 6] {
    [shares.job, shares.others, shares.unexplained, shares.untold, shares.reserved, shares.free]
}

fn styles(theme: &Theme) -> [ratatui::style::Style; 6] {
    [theme.accent, theme.warning, theme.critical, theme.muted, theme.muted, theme.faint]
}

/// What the signs of these cards' bars mean, in `width` columns.
fn legend(cards: &[Shares], width: usize, theme: &Theme) -> Vec<Span<'static>> {
    let mut spans = Vec::new();
    let mut used = 0;
    for n in (0..SIGNS.len()).filter(|n| cards.iter().any(|shares| sizes(shares)[*n].0 > 0)) {
        let sign = theme.glyphs.pick(SIGNS[n].0, SIGNS[n].1);
        let gap = if spans.is_empty() { "" } else { "  " };
        used += gap.len() + sign.chars().count() + 1 + NAMES[n].len();
        if used > width {
            break;
        }
        spans.push(Span::styled(format!("{gap}{sign} "), styles(theme)[n]));
        spans.push(Span::styled(NAMES[n], theme.muted));
    }
    spans
}

/// One card: a bar of its parts and the figures beside or below it.
fn card(gpu: &Gpu, owner: &Owner, here: bool, compact: bool, width: usize, theme: &Theme) -> Vec<Line<'static>> {
    let s = &gpu.latest;
    let head = Span::styled(format!("{:>2} ", s.index), if here { theme.selection } else { theme.accent });
    let said = |text: &str, style| {
        vec![Line::from(vec![head.clone(), Span::styled(fit(text, width.saturating_sub(3), ""), style)])]
    };
    if s.lost {
        return said("lost: the driver does not answer", theme.critical);
    }
    let Some(shares) = owner.shares(gpu) else {
        return said("the driver does not tell this card's memory", theme.muted);
    };
    let parts = parts(&shares, theme);
    let mut line = vec![head.clone()];
    if compact {
        line.extend(bar::parts(&parts, width.saturating_sub(4 + 18)));
        line.push(Span::styled(format!(" {:>7}", gib(shares.free)), theme.bright));
        line.push(Span::styled(" GiB free", theme.muted));
        return vec![Line::from(line)];
    }
    line.extend(bar::parts(&parts, width.saturating_sub(4)));
    vec![Line::from(line), row::groups(figures(gpu, &shares, "   job", theme), width, 2)]
}

/// The sizes of a card's parts, and what is to come.
fn figures(gpu: &Gpu, shares: &Shares, job: &str, theme: &Theme) -> Vec<Vec<Span<'static>>> {
    let figure =
        |label: &str, bytes: Bytes, style| row::figure(label, &format!("{} GiB", gib(bytes)), 10, style, theme);
    let mut groups = vec![figure(job, shares.job, theme.bright)];
    if shares.others.0 > 0 {
        groups.push(figure("others", shares.others, theme.bright));
    }
    if let Some(bytes) = shares.to_call_out() {
        groups.push(figure("unexplained", bytes, theme.warning));
    }
    if shares.untold.0 > 1 << 30 {
        groups.push(figure("not told", shares.untold, theme.bright));
    }
    groups.push(figure("free", shares.free, theme.bright));
    if let Some(peak) = gpu.peak_used {
        groups.push(figure("peak", peak, theme.bright));
    }
    if let Some(left) = time_to_full(gpu) {
        groups.push(row::figure("full in", &duration(left), 8, theme.warning, theme));
    }
    groups
}
