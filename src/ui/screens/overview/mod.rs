//! The run at a glance: how it stands, the curves that matter, memory, GPUs, the end of the log.

mod curve_grid;
mod header;
mod log_tail;

use ratatui::{
    Frame,
    layout::Rect,
    text::{Line, Span},
    widgets::Paragraph,
};

use crate::{
    session::{RunState, moments},
    ui::{
        App, Theme,
        curves::curves,
        log_text::Inked,
        standing::{open_failure, standing, tempo},
        widgets::{bar, panel::explain, row},
    },
};

use super::{diagnosis, memory_panel};

pub use crate::ui::widgets::area::{part, split_left, split_top};
pub use log_tail::{dialect_words, main_source};

/// How much there is room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    /// 120 x 30 and more: everything, in two columns.
    Wide,
    /// Down to 60 x 16: charts above, then GPUs, then the log.
    Medium,
    /// Down to 30 x 8: figures, one curve, one line of GPUs and of the log.
    Small,
}

fn size(area: Rect) -> Size {
    match (area.width, area.height) {
        (120.., 30..) => Size::Wide,
        (60.., 16..) => Size::Medium,
        _ => Size::Small,
    }
}

/// ```text
/// ╭ run ────────────────────────────────────────────────────────╮
/// │ ● training  step 1,240 / 2,000  ━━━━━━━━━━──────  62 %  ETA  │
/// │ 12 s/step   4,210 tokens/s   grpo   Qwen2.5-0.5B   8 ranks  │
/// │ verdict                                                     │
/// ├ reward ─────────╮╭ KL ─────────────╮╭ memory ───────────────┤
/// │                 ││                 ││                       │
/// ├ loss ───────────┤├ gradient norm ──┤├ GPUs ─────────────────┤
/// │                 ││                 ││                       │
/// ├ log ────────────┴┴─────────────────┴┴───────────────────────┤
/// ╰─────────────────────────────────────────────────────────────╯
/// ```
pub fn render(frame: &mut Frame, area: Rect, app: &App, theme: &Theme) {
    match size(area) {
        Size::Wide => wide(frame, area, app, theme),
        Size::Medium => medium(frame, area, app, theme),
        Size::Small => small(frame, area, app, theme),
    }
}

fn wide(frame: &mut Frame, area: Rect, app: &App, theme: &Theme) {
    let (head, rest) = split_top(area, header::rows_wanted(app));
    header::render(frame, head, app, theme);
    let log_rows = (rest.height / 5).clamp(5, 14);
    let (middle, tail) = split_top(rest, rest.height - log_rows);
    let right_width = (area.width * 36 / 100).clamp(48, 96);
    let (left, right) = split_left(middle, middle.width - right_width);
    if app.session.gpus.is_empty() {
        // Nothing to draw over time: the curves take the room, and one short panel says why there is no GPU.
        let (top, gpus) = split_top(middle, middle.height.saturating_sub(4));
        learning(frame, top, app, theme);
        memory_panel::gpus(frame, gpus, app, None, theme);
        log_tail::render(frame, tail, app, theme);
        return;
    }
    learning(frame, left, app, theme);
    let gpu_rows = memory_panel::rows_wanted(app, right.height / 2);
    let (memory, gpus) = split_top(right, right.height - gpu_rows);
    memory_panel::over_time(frame, memory, app, theme);
    memory_panel::gpus(frame, gpus, app, None, theme);
    log_tail::render(frame, tail, app, theme);
}

fn medium(frame: &mut Frame, area: Rect, app: &App, theme: &Theme) {
    let (head, rest) = split_top(area, if area.height >= 20 { header::rows_wanted(app) } else { 3 });
    header::render(frame, head, app, theme);
    let log_rows = (rest.height / 4).clamp(3, 8);
    let most = if app.session.gpus.is_empty() { 5 } else { rest.height / 3 };
    let gpu_rows = memory_panel::rows_wanted(app, most);
    let charts = rest.height.saturating_sub(log_rows + gpu_rows);
    let (top, rest) = split_top(rest, charts);
    let (middle, tail) = split_top(rest, gpu_rows);
    learning(frame, top, app, theme);
    memory_panel::gpus(frame, middle, app, None, theme);
    log_tail::render(frame, tail, app, theme);
}

/// The curves. Of a run that died before its first step there are none: the diagnosis takes their place.
fn learning(frame: &mut Frame, area: Rect, app: &App, theme: &Theme) {
    let nothing = app.session.state() == RunState::Failed && curves(&app.session, 1).is_empty();
    if nothing && open_failure(&app.session).is_some() && area.height >= 6 {
        diagnosis::render(frame, area, app, theme);
    } else {
        curve_grid::render(frame, area, app, theme);
    }
}

fn small(frame: &mut Frame, area: Rect, app: &App, theme: &Theme) {
    let width = usize::from(area.width);
    let tempo = tempo(&app.session);
    let mut rows = Vec::new();
    let (state, style) = header::state_words(app, theme);
    let right = vec![Span::styled(tempo.share().map(crate::ui::format::percent).unwrap_or_default(), theme.bright)];
    rows.push(row::sides(
        vec![Span::styled(state, style), Span::raw(" "), header::steps(&app.session, &tempo, theme)],
        right,
        width,
    ));
    rows.push(Line::from(bar::thin(tempo.share().unwrap_or(0.0), width, theme.accent, theme)));
    rows.push(row::groups(header::figures(app, &tempo, theme), width, 2));
    rows.push(header::verdict_line(&standing(&app.session, &app.alerts), app, width, theme));
    let gpus = memory_panel::one_line(app, width, theme);
    let tail_rows = usize::from(area.height >= 9);
    let head = rows.len() as u16;
    let chart = area.height.saturating_sub(head + gpus.iter().len() as u16 + tail_rows as u16);
    let (top, rest) = split_top(area, head);
    frame.render_widget(Paragraph::new(rows), top);
    let (middle, rest) = split_top(rest, chart);
    let best = curves(&app.session, 1);
    match best.first() {
        Some(curve) if chart >= 2 => {
            let (label, plot) = split_top(middle, 1);
            let mut left = vec![Span::styled(curve.title, theme.muted)];
            left.push(Span::raw(" "));
            left.extend(curve_grid::latest(app, curve, theme));
            frame.render_widget(Line::from(left), label);
            let moments = moments::all(&app.session, &app.alerts);
            let chart = curve_grid::curve_chart(app, curve, &moments, plot, theme, false);
            chart.render(plot, frame.buffer_mut(), theme);
        }
        _ if chart >= 1 => explain(frame, middle, curve_grid::nothing_yet(&app.session).0, &[], theme),
        _ => {}
    }
    let mut y = rest.y;
    if let Some(line) = gpus {
        frame.render_widget(line, Rect { y, height: 1.min(rest.height), ..rest });
        y += 1;
    }
    if let Some(line) = log_tail::last_line(&app.session)
        && y < rest.y + rest.height
    {
        let shown = Inked::of(line.as_str(), theme).fitted(width, theme);
        frame.render_widget(Line::from(shown), Rect { y, height: 1, ..rest });
    }
}
