//! Every logged key as a chart.

pub mod events;
mod list;
mod runs;

use std::borrow::Cow;

use ratatui::{Frame, crossterm::event::KeyEvent, layout::Rect, text::Span};
use serde::{Deserialize, Serialize};

use crate::{
    model::{Clean, Timestamp},
    session::{
        moments::{self, Moment},
        series::{Bucket, Series, XAxis},
    },
    ui::{
        App, Cmd, Theme, Tone,
        curves::ordered_keys,
        format::{clock, count, short},
        input::{Input, Typed},
        keymap::Action,
        widgets::{
            chart::{Chart, Kind, Line as ChartLine, dots_across, plot_area},
            panel::{explain, panel, panel_in},
        },
    },
};

use runs::legend;

pub use runs::{attempts, run_style};

use super::{
    log::pattern,
    overview::{part, split_left},
};

/// Weights of the moving average, in their order.
const SMOOTHING: [f64; 4] = [0.0, 0.6, 0.9, 0.98];
/// Columns of the list of keys.
const LIST: u16 = 34;
/// Least size of a chart in the grid.
const CELL: (u16, u16) = (46, 8);

#[derive(Clone, Debug)]
pub struct State {
    selected: usize,
    pinned: Vec<Clean>,
    single: bool,
    filter: Input,
    typing: bool,
    smoothing: usize,
    log: bool,
    robust: bool,
    axis: XAxis,
    /// The part of the axis that is shown; `None` is all.
    window: Option<(f64, f64)>,
    cursor: Option<f64>,
    /// The event that was jumped to: the cursor stands on it.
    event: Option<Moment>,
    /// Where a drag of the mouse began, on the axis.
    drag: Option<f64>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            selected: 0,
            pinned: Vec::new(),
            single: false,
            filter: Input::default(),
            typing: false,
            smoothing: 2,
            log: false,
            robust: true,
            axis: XAxis::Step,
            window: None,
            cursor: None,
            event: None,
            drag: None,
        }
    }
}

/// What of the charts is kept from one time to the next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Kept {
    pub pinned: Vec<Clean>,
    pub smoothing: usize,
    pub log: bool,
    pub robust: bool,
    pub axis: XAxis,
}

impl Default for Kept {
    fn default() -> Self {
        State::default().kept()
    }
}

impl State {
    /// How the charts are arranged.
    pub fn kept(&self) -> Kept {
        let Self { pinned, smoothing, log, robust, axis, .. } = self.clone();
        Kept { pinned, smoothing, log, robust, axis }
    }

    /// Arranges the charts as they were.
    pub fn restore(&mut self, kept: &Kept) {
        let Kept { pinned, smoothing, log, robust, axis } = kept.clone();
        (self.pinned, self.log, self.robust, self.axis) = (pinned, log, robust, axis);
        self.smoothing = smoothing.min(SMOOTHING.len() - 1);
    }

    /// The filter while it is typed.
    pub fn typing(&self) -> Option<&str> {
        self.typing.then(|| self.filter.as_str())
    }
}

/// Keys that pass the filter.
fn keys(app: &App) -> Vec<Clean> {
    let mut keys = ordered_keys(&app.session);
    if let Some(filter) = pattern(app.charts.filter.as_str()) {
        keys.retain(|key| filter.is_match(key.as_str()));
    }
    keys
}

fn selected(app: &App, keys: &[Clean]) -> Option<Clean> {
    keys.get(app.charts.selected.min(keys.len().checked_sub(1)?)).cloned()
}

fn families<'a>(app: &'a App, key: &str) -> (Option<&'a Series>, Option<&'a Series>) {
    (app.session.metrics.train().get(key), app.session.metrics.eval().get(key))
}

/// The axis in force: the one that was chosen, or the points one by one where nothing stands on that.
fn axis_of(app: &App, key: &str) -> XAxis {
    let (train, eval) = families(app, key);
    let stands = |x: XAxis| train.or(eval).is_some_and(|s| s.extent(x).is_some());
    if stands(app.charts.axis) { app.charts.axis } else { XAxis::Points }
}

fn extent(app: &App, key: &str) -> Option<(f64, f64)> {
    let axis = axis_of(app, key);
    let (train, eval) = families(app, key);
    let all = train.into_iter().chain(eval).filter_map(|s| s.extent(axis));
    all.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
}

/// What a chart of a key shows along the bottom.
fn window(app: &App, key: &str) -> Option<(f64, f64)> {
    let whole = extent(app, key)?;
    // A window of one axis says nothing on another.
    let nobody = || app.session.metrics.axes().all(|axis| axis != app.charts.axis);
    Some(match app.charts.window.filter(|_| axis_of(app, key) == app.charts.axis || nobody()) {
        Some((from, to)) => (from.max(whole.0).min(whole.1), to.min(whole.1).max(whole.0)),
        None => whole,
    })
}

fn place_words(app: &App, axis: XAxis, x: f64) -> String {
    match axis {
        XAxis::Step => count(x.max(0.0).round() as u64),
        XAxis::Epoch => format!("{x:.2}"),
        XAxis::Tokens => short(x),
        XAxis::Points => format!("point {}", count(x.max(0.0).round() as u64)),
        XAxis::Time => {
            Timestamp::from_millisecond((x * 1e3) as i64).map_or_else(|_| short(x), |at| clock(at, &app.zone))
        }
    }
}

/// Keys whose charts are drawn, with how many columns and rows of them fit.
fn shown(app: &App, keys: &[Clean], area: Rect) -> (Vec<Clean>, u16, u16) {
    if app.charts.single || area.width < CELL.0 * 2 && area.height < CELL.1 * 2 {
        return (selected(app, keys).into_iter().collect(), 1, 1);
    }
    let columns = (area.width / CELL.0).clamp(1, 4);
    let rows = (area.height / CELL.1).clamp(1, 6);
    let room = usize::from(columns * rows);
    let pinned: Vec<Clean> = app.charts.pinned.clone();
    let list = if pinned.is_empty() {
        let page = app.charts.selected.min(keys.len().saturating_sub(1)) / room * room;
        keys.iter().skip(page).take(room).cloned().collect()
    } else {
        pinned.into_iter().take(room).collect::<Vec<_>>()
    };
    let columns = columns.min(list.len().max(1) as u16);
    let rows = (list.len().max(1) as u16).div_ceil(columns);
    (list, columns, rows)
}

/// The list of keys and the area of the charts.
fn layout(area: Rect) -> (Option<Rect>, Rect) {
    if area.width >= 70 {
        let (list, rest) = split_left(area, LIST.min(area.width / 3));
        (Some(list), rest)
    } else {
        (None, area)
    }
}

/// ```text
/// ╭ keys ──────────╮╭ loss ──────────────── 0.42 ╮╭ reward ──────── 0.81 ╮
/// │ ● loss     0.42││                            ││                      │
/// │   reward   0.81│╰────────────────────────────╯╰──────────────────────╯
/// ╰────────────────╯
/// ```
pub fn render(frame: &mut Frame, area: Rect, app: &App, theme: &Theme) {
    let keys = keys(app);
    if ordered_keys(&app.session).is_empty() {
        let inner = panel(frame, area, "charts", Vec::new(), theme);
        let advice = ["Each key that the trainer logs becomes a chart here, from its first value on."];
        explain(frame, inner, "No value has been logged yet", &advice, theme);
        return;
    }
    let (list, rest) = layout(area);
    let moments = moments::all(&app.session, &app.alerts);
    if let Some(list) = list {
        list::render(frame, list, app, &keys, moments.len(), theme);
    }
    let (list, columns, rows) = shown(app, &keys, rest);
    if list.is_empty() {
        let inner = panel(frame, rest, "charts", Vec::new(), theme);
        explain(frame, inner, "No key matches the filter", &["/ and an empty line show every key again."], theme);
        return;
    }
    let here = selected(app, &keys);
    for (i, key) in list.iter().enumerate() {
        let (column, line) = (i as u16 % columns, i as u16 / columns);
        let in_line = if line + 1 == rows { (list.len() as u16 - line * columns).min(columns) } else { columns };
        let cell = part(rest, (column, in_line), (line, rows));
        draw_chart(frame, cell, app, (key, here.as_ref() == Some(key)), &moments, theme);
    }
    if let Some(caption) = events::caption(app, usize::from(rest.width).saturating_sub(4), theme)
        && rest.height > 2
    {
        let row = Rect { x: rest.x + 2, y: rest.y + rest.height - 1, width: caption.width() as u16, height: 1 };
        frame.render_widget(caption, row.intersection(rest));
    }
}

/// The chart of a key, which may be the chosen one.
fn draw_chart(
    frame: &mut Frame,
    area: Rect,
    app: &App,
    (key, here): (&Clean, bool),
    moments: &[Cow<'_, Moment>],
    theme: &Theme,
) {
    let state = &app.charts;
    let axis = axis_of(app, key.as_str());
    let (train, eval) = families(app, key.as_str());
    let border = if here { theme.accent } else { theme.faint };
    let Some(x) = window(app, key.as_str()) else {
        panel_in(frame, area, key.as_str(), Vec::new(), theme, border);
        return;
    };
    let inside = Rect { x: area.x + 1, width: area.width.saturating_sub(2), ..area };
    let dots = dots_across(inside, theme).max(2);
    let view = |series: Option<&Series>| series.map(|s| s.view(axis, x.0..x.1, dots)).unwrap_or_default();
    let (train_view, eval_view) = (view(train), view(eval));
    let runs = train.map(|s| s.runs(&app.session.metrics.apart(), axis, x.0..x.1, dots)).unwrap_or_default();
    let mut right = Vec::new();
    if !runs.is_empty() {
        right = legend(app, &runs, state.cursor, usize::from(area.width) * 2 / 3, theme);
    } else if let Some(cursor) = state.cursor {
        right.push(Span::styled(format!("{} ", place_words(app, axis, cursor)), theme.muted));
        for (buckets, style) in [(&train_view, theme.bright), (&eval_view, theme.series(1))] {
            if let Some(bucket) = nearest(buckets, cursor) {
                right.push(Span::styled(value_words(bucket, theme), style));
            }
        }
    } else {
        if let Some(last) = train.and_then(Series::last) {
            let style = if last.value.is_finite() { theme.bright } else { theme.critical };
            right.push(Span::styled(short(last.value), style));
        }
        if let Some(last) = eval.and_then(Series::last) {
            let gap = if right.is_empty() { "" } else { "  " };
            right.push(Span::styled(format!("{gap}eval {}", short(last.value)), theme.series(1)));
        }
    }
    let bad: u64 = train.map_or(0, Series::nonfinite);
    if bad > 0 {
        right.push(Span::styled(format!("  {bad} not finite"), theme.critical));
    }
    let inner = panel_in(frame, area, key.as_str(), right, theme, border);
    let mut lines = Vec::new();
    let weight = SMOOTHING[state.smoothing];
    let smooth = weight > 0.0 && train.is_some_and(|s| s.len() >= 20);
    if runs.is_empty() {
        let (earlier, last) = attempts(&train_view);
        for (part, style) in [(earlier, theme.muted), (last, theme.series(0))] {
            if smooth {
                lines.push(ChartLine::of(part, theme.faint).kind(Kind::Faded));
                lines.push(ChartLine::smoothed(part, weight, style));
            } else {
                lines.push(ChartLine::of(part, style));
            }
        }
    }
    for (nth, (_, buckets)) in runs.iter().enumerate() {
        lines.push(if smooth {
            ChartLine::smoothed(buckets, weight, run_style(nth, theme))
        } else {
            ChartLine::of(buckets, run_style(nth, theme))
        });
    }
    lines.push(ChartLine::of(&eval_view, theme.series(1)));
    let marks = events::marks(moments, axis, true, theme);
    let zone = app.zone.clone();
    let label: Box<dyn Fn(f64) -> String> = match axis {
        XAxis::Step | XAxis::Points => Box::new(|x| count(x.max(0.0).round() as u64)),
        XAxis::Epoch => Box::new(|x| format!("{x:.2}")),
        XAxis::Tokens => Box::new(short),
        XAxis::Time => Box::new(move |x| {
            Timestamp::from_millisecond((x * 1e3) as i64).map_or_else(|_| short(x), |at| clock(at, &zone))
        }),
    };
    let chart = Chart {
        lines,
        x,
        log: state.log,
        robust: state.robust,
        marks,
        cursor: state.cursor,
        x_label: (inner.height >= 5).then_some(label),
        ..Chart::default()
    };
    chart.render(inner, frame.buffer_mut(), theme);
}

fn nearest(buckets: &[Bucket], x: f64) -> Option<&Bucket> {
    buckets.iter().min_by(|a, b| (a.x - x).abs().total_cmp(&(b.x - x).abs()))
}

fn value_words(bucket: &Bucket, theme: &Theme) -> String {
    if bucket.count > 1 && bucket.min < bucket.max {
        format!(" {} {} {}", short(bucket.min), theme.glyphs.pick("…", ".."), short(bucket.max))
    } else {
        format!(" {}", short(bucket.last))
    }
}

/// Opens one key's chart alone.
pub fn open(app: &mut App, key: &str) {
    app.screen = crate::ui::Screen::Charts;
    app.charts.filter.clear();
    if let Some(at) = keys(app).iter().position(|k| k.as_str() == key) {
        (app.charts.selected, app.charts.single) = (at, true);
        (app.charts.window, app.charts.cursor, app.charts.event) = (None, None, None);
    }
}

/// A key while the filter is typed. `false`: nothing is being typed.
pub fn type_key(app: &mut App, key: &KeyEvent) -> bool {
    if !app.charts.typing {
        return false;
    }
    match app.charts.filter.key(key) {
        Typed::Accepted => app.charts.typing = false,
        Typed::Cancelled => {
            app.charts.typing = false;
            app.charts.filter.clear();
        }
        Typed::Changed => app.charts.selected = 0,
        Typed::Ignored => {}
    }
    true
}

/// Pasted text while the filter is typed. `false`: nothing is being typed.
pub fn type_text(app: &mut App, text: &str) -> bool {
    if app.charts.typing {
        app.charts.filter.push(text.lines().next().unwrap_or_default());
    }
    app.charts.typing
}

pub fn act(app: &mut App, action: Action) -> Vec<Cmd> {
    let keys = keys(app);
    let last = keys.len().saturating_sub(1);
    let here = selected(app, &keys);
    app.charts.selected = app.charts.selected.min(last);
    match action {
        Action::Up => app.charts.selected = app.charts.selected.saturating_sub(1),
        Action::Down => app.charts.selected = (app.charts.selected + 1).min(last),
        Action::PageUp => app.charts.selected = app.charts.selected.saturating_sub(10),
        Action::PageDown => app.charts.selected = (app.charts.selected + 10).min(last),
        Action::Top => app.charts.selected = 0,
        Action::Bottom => app.charts.selected = last,
        Action::Pin => {
            if let Some(key) = here {
                match app.charts.pinned.iter().position(|k| *k == key) {
                    Some(at) => {
                        app.charts.pinned.remove(at);
                    }
                    None => app.charts.pinned.push(key),
                }
            }
        }
        Action::MoveUp | Action::MoveDown => reorder(app, here.as_ref(), action == Action::MoveDown),
        Action::Filter => {
            app.charts.typing = true;
            app.charts.filter.clear();
            app.charts.selected = 0;
        }
        Action::NextEvent => events::go(app, true),
        Action::PreviousEvent => events::go(app, false),
        Action::Single if events::open(app) => {}
        Action::Single => app.charts.single = !app.charts.single,
        Action::Smooth => app.charts.smoothing = (app.charts.smoothing + 1) % SMOOTHING.len(),
        Action::LogScale => app.charts.log = !app.charts.log,
        Action::Robust => app.charts.robust = !app.charts.robust,
        Action::Axis => next_axis(app),
        Action::ZoomIn => zoom(app, here.as_ref(), 0.5),
        Action::ZoomOut => zoom(app, here.as_ref(), 2.0),
        Action::ZoomReset => app.charts.window = None,
        Action::PanLeft => pan(app, here.as_ref(), -0.25),
        Action::PanRight => pan(app, here.as_ref(), 0.25),
        Action::Left => move_cursor(app, here.as_ref(), -1.0),
        Action::Right => move_cursor(app, here.as_ref(), 1.0),
        Action::Back => back(app),
        _ => {}
    }
    Vec::new()
}

/// Moves a pinned key to another place in the grid.
fn reorder(app: &mut App, key: Option<&Clean>, down: bool) {
    let pinned = &mut app.charts.pinned;
    let Some(at) = key.and_then(|key| pinned.iter().position(|k| k == key)) else {
        app.say("pinned keys can be moved: space pins this one", Tone::Quiet);
        return;
    };
    let to = if down { at + 1 } else { at.wrapping_sub(1) };
    if to < pinned.len() {
        pinned.swap(at, to);
    }
}

/// Undoes what was done last, one thing a press.
fn back(app: &mut App) {
    let state = &mut app.charts;
    state.event = None;
    if state.cursor.take().is_none() && state.window.take().is_none() {
        if state.single {
            state.single = false;
        } else {
            state.filter.clear();
        }
    }
}

fn next_axis(app: &mut App) {
    let axes: Vec<XAxis> = app.session.metrics.axes().collect();
    let at = axes.iter().position(|x| *x == app.charts.axis).map_or(0, |i| i + 1);
    if let Some(next) = axes.get(at % axes.len().max(1)) {
        app.charts.axis = *next;
        (app.charts.window, app.charts.cursor, app.charts.event) = (None, None, None);
        app.say(&format!("along the bottom: {}", format!("{next:?}").to_lowercase()), Tone::Quiet);
    }
}

/// Makes the window `by` times as wide, around the cursor or at the newest end.
fn zoom(app: &mut App, key: Option<&Clean>, by: f64) {
    let Some((whole, now)) = key.and_then(|k| Some((extent(app, k.as_str())?, window(app, k.as_str())?))) else {
        return;
    };
    let width = ((now.1 - now.0) * by).max((whole.1 - whole.0) / 1e6);
    if width >= whole.1 - whole.0 {
        app.charts.window = None;
        return;
    }
    let middle = app.charts.cursor.unwrap_or(now.1 - width / 2.0);
    app.charts.window = Some(within((middle - width / 2.0, middle + width / 2.0), whole));
}

fn pan(app: &mut App, key: Option<&Clean>, by: f64) {
    let Some((whole, now)) = key.and_then(|k| Some((extent(app, k.as_str())?, window(app, k.as_str())?))) else {
        return;
    };
    let step = (now.1 - now.0) * by;
    if app.charts.window.is_some() {
        app.charts.window = Some(within((now.0 + step, now.1 + step), whole));
    }
}

/// The same width, pushed inside.
fn within(window: (f64, f64), whole: (f64, f64)) -> (f64, f64) {
    let width = window.1 - window.0;
    let from = window.0.min(whole.1 - width).max(whole.0);
    (from, from + width)
}

fn move_cursor(app: &mut App, key: Option<&Clean>, by: f64) {
    let Some(now) = key.and_then(|k| window(app, k.as_str())) else { return };
    let step = (now.1 - now.0) / 100.0;
    let at = app.charts.cursor.unwrap_or(now.1) + by * step;
    app.charts.cursor = Some(at.clamp(now.0, now.1));
    app.charts.event = None;
}

/// Where on the axis a column of the screen is, if it is on a chart; and the chart's key.
fn pointed(app: &App, area: Rect, column: u16, row: Option<u16>) -> Option<(usize, f64)> {
    let keys = keys(app);
    let (_, rest) = layout(area);
    let (list, columns, rows) = shown(app, &keys, rest);
    for (i, key) in list.iter().enumerate() {
        let (across, line) = (i as u16 % columns, i as u16 / columns);
        let in_line = if line + 1 == rows { (list.len() as u16 - line * columns).min(columns) } else { columns };
        let cell = part(rest, (across, in_line), (line, rows));
        let inside = Rect { x: cell.x + 1, width: cell.width.saturating_sub(2), ..cell };
        let plot = plot_area(inside, false);
        let on_row = row.is_none_or(|r| r >= cell.y && r < cell.y + cell.height);
        if on_row && column >= plot.x && column < plot.x + plot.width {
            let x = window(app, key.as_str())?;
            let share = f64::from(column - plot.x) / f64::from(plot.width.max(2) - 1);
            let at = keys.iter().position(|k| k == key)?;
            return Some((at, x.0 + share * (x.1 - x.0)));
        }
    }
    None
}

/// The mouse's button went down: a key of the list is chosen, or a place on a chart.
pub fn press(app: &mut App, area: Rect, column: u16, row: u16) {
    let n = keys(app).len();
    if let (Some(list), _) = layout(area)
        && column < list.x + list.width
    {
        let rows = list::rows(list.height.saturating_sub(2));
        let at = app.charts.selected.min(n.saturating_sub(1));
        let top = at.saturating_sub(rows / 2).min(n.saturating_sub(rows));
        if row > list.y && usize::from(row - list.y - 1) < rows {
            app.charts.selected = (top + usize::from(row - list.y - 1)).min(n.saturating_sub(1));
        }
        return;
    }
    if let Some((key, x)) = pointed(app, area, column, Some(row)) {
        app.charts.selected = key;
        app.charts.cursor = Some(x);
        app.charts.event = None;
        app.charts.drag = Some(x);
    }
}

/// The mouse's button came up: what was dragged over becomes the window.
pub fn release(app: &mut App, area: Rect, column: u16) {
    let Some(from) = app.charts.drag.take() else { return };
    let Some((_, to)) = pointed(app, area, column, None) else { return };
    let keys = keys(app);
    let Some(now) = selected(app, &keys).and_then(|k| window(app, k.as_str())) else { return };
    if (to - from).abs() > (now.1 - now.0) / 50.0 {
        app.charts.window = Some((from.min(to), from.max(to)));
        app.charts.cursor = None;
    }
}
