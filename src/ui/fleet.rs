//! Many machines on one screen: a row each, its jobs below, and everything about the one under the cursor.

use std::fmt::Write as _;

use jiff::tz::TimeZone;
use ratatui::{
    Frame,
    crossterm::event::KeyEvent,
    layout::Rect,
    style::Style,
    text::{Line, Span},
    widgets::Paragraph,
};
use unicode_width::UnicodeWidthStr;

use crate::{
    model::{
        Bytes, Clean, Timestamp,
        fleet::{FleetGpu, FleetJob, HostReport},
    },
    session::fleet::{Fleet, Host, HostState},
};

use super::{
    App, Cmd, Screen, Theme, Tone,
    format::{clock, duration, fit, fit_end, folded, gib, seconds_between, sentence, short},
    keymap::Action,
    widgets::{bar, panel::panel_in, row},
};

/// Jobs that a machine's row is followed by.
const JOBS: usize = 3;
/// With fewer rows the one under the cursor has no part of the screen for itself.
const LEAST_FOR_BOTH: u16 = 20;

/// The machines, while they are on the screen.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub fleet: Fleet,
    selected: usize,
    /// The machine under the cursor has the whole screen.
    open: bool,
}

impl State {
    pub fn new(fleet: Fleet) -> Self {
        Self { fleet, selected: 0, open: false }
    }
}

/// A key while the machines are shown.
pub fn key(app: &mut App, key: &KeyEvent) -> Vec<Cmd> {
    let action = app.keymap.action(Screen::Diagnosis, key);
    let page = usize::from(app.size.1 / 2).max(1);
    let Some(state) = &mut app.fleet else { return Vec::new() };
    let last = state.fleet.hosts().len().saturating_sub(1);
    let to = |at: usize| at.min(last);
    match action {
        Some(Action::Back) if state.open => state.open = false,
        Some(Action::Quit | Action::Back) => return vec![Cmd::Quit],
        Some(Action::Suspend) => return vec![Cmd::Suspend],
        Some(Action::Redraw) => return vec![Cmd::Redraw],
        Some(Action::Down | Action::NextScreen) => state.selected = to(state.selected + 1),
        Some(Action::Up | Action::PreviousScreen) => state.selected = state.selected.saturating_sub(1),
        Some(Action::Top) => state.selected = 0,
        Some(Action::Bottom) => state.selected = last,
        Some(Action::PageDown) => state.selected = to(state.selected + page),
        Some(Action::PageUp) => state.selected = state.selected.saturating_sub(page),
        Some(Action::Open) => state.open = !state.open,
        Some(Action::Glyphs) => {
            let next = app.theme().glyphs.next();
            app.use_glyphs(next);
            app.chosen_glyphs = Some(next);
        }
        Some(Action::CopyCommand) => {
            let text = state.fleet.hosts().get(state.selected).and_then(closer);
            return match text {
                Some(text) => {
                    app.say(&format!("copied: {text}"), Tone::Good);
                    vec![Cmd::Copy(text)]
                }
                None => Vec::new(),
            };
        }
        _ => {}
    }
    Vec::new()
}

/// ```text
/// ╭ 3 of 4 machines answer ──────────────────────── 24 GPUs  2 jobs  14:05:09 ╮
/// │ > node1     8x H200  ██████▍··· 71.20/141.1   97 %   61 °C  host 41 %      │
/// │     train.py  training  120/1000  loss 1.234  3h 04m left                  │
/// │   node2     down 2m 05s: Connection refused                                │
/// ╰────────────────────────────────────────────────────────────────────────────╯
/// ╭ node1 ─────────────────────────────────────────────────────────────────────╮
/// │ GPU0 …  GPU1 …                                                              │
/// ╰────────────────────────────────────────────────────────────────────────────╯
///  enter more  up down choose  c copy the command  q quit
/// ```
pub fn render(frame: &mut Frame, area: Rect, app: &App, theme: &Theme) {
    let Some(state) = &app.fleet else { return };
    let hosts = state.fleet.hosts();
    let selected = state.selected.min(hosts.len().saturating_sub(1));
    let footer = Rect { y: area.y + area.height - 1, height: 1, ..area };
    let room = Rect { height: area.height - 1, ..area };
    if state.open {
        if let Some(host) = hosts.get(selected) {
            draw_details(frame, room, host, state.fleet.now, app, theme);
        }
    } else {
        let height = if area.height < LEAST_FOR_BOTH { room.height } else { room.height - room.height * 2 / 5 };
        draw_list(frame, Rect { height, ..room }, &hosts, selected, app, theme);
        let rest = Rect { y: room.y + height, height: room.height - height, ..room };
        if let Some(host) = hosts.get(selected).filter(|_| rest.height > 0) {
            draw_details(frame, rest, host, state.fleet.now, app, theme);
        }
    }
    draw_footer(frame, footer, app, theme, state.open);
}

fn draw_footer(frame: &mut Frame, row: Rect, app: &App, theme: &Theme, open: bool) {
    let width = usize::from(row.width).saturating_sub(2);
    if let Some(toast) = &app.toast {
        let text = fit(toast.text.as_str(), width, theme.glyphs.pick("…", "~"));
        return frame.render_widget(Line::from(Span::styled(format!(" {text}"), theme.tone(toast.tone))), row);
    }
    let keys = [
        ("enter", if open { "all machines" } else { "more" }),
        ("q", "quit"),
        ("up down", "choose"),
        ("c", "copy the command for a closer look"),
    ];
    let pairs = keys.iter().map(|(key, word)| {
        vec![Span::styled(format!(" {key}"), theme.accent), Span::styled(format!(" {word}"), theme.muted)]
    });
    frame.render_widget(row::groups(pairs.collect(), width, 1), row);
}

fn draw_list(frame: &mut Frame, area: Rect, hosts: &[Host<'_>], selected: usize, app: &App, theme: &Theme) {
    let up = hosts.iter().filter(|host| host.state == HostState::Up).count();
    let title = format!("{up} of {} machine{} answer", hosts.len(), if hosts.len() == 1 { "" } else { "s" });
    let reports = hosts.iter().filter_map(|host| host.report.map(|(_, report)| report));
    let (gpus, jobs) =
        reports.fold((0, 0), |(gpus, jobs), report| (gpus + report.gpus.len(), jobs + report.jobs.len()));
    let mut right = match area.width {
        ..60 => String::new(),
        _ => format!("{gpus} GPU{}  {jobs} job{}", plural(gpus), plural(jobs)),
    };
    if let Some(now) = app.fleet.as_ref().and_then(|state| state.fleet.now) {
        right.push_str(if right.is_empty() { "" } else { "  " });
        right.push_str(&clock(now, &app.zone));
    }
    let inner = panel_in(frame, area, &title, vec![Span::styled(right, theme.muted)], theme, theme.accent);
    let width = usize::from(inner.width);
    let name = name_width(hosts, width);
    let mut lines: Vec<Line> = Vec::new();
    let (mut first, mut end) = (0, 0);
    for (n, host) in hosts.iter().enumerate() {
        if n == selected {
            first = lines.len();
        }
        let mark = if n == selected { " > " } else { "   " };
        lines.extend(rows(host, app.fleet.as_ref().and_then(|s| s.fleet.now), mark, name, width, theme));
        if n == selected {
            end = lines.len();
        }
    }
    let height = usize::from(inner.height);
    // The one under the cursor is seen whole, where it fits at all.
    let top = end.saturating_sub(height).min(first);
    let shown: Vec<Line> = lines.into_iter().skip(top).take(height).collect();
    frame.render_widget(Paragraph::new(shown), inner);
}

fn plural(n: usize) -> &'static str {
    if n == 1 { "" } else { "s" }
}

fn name_width(hosts: &[Host<'_>], width: usize) -> usize {
    let longest = hosts.iter().map(|host| host.name.as_str().width()).max().unwrap_or(0);
    longest.clamp(6, (width / 4).max(6))
}

/// Every machine as text, a line for each row, for a pipe or a file.
pub fn text(fleet: &Fleet, width: usize, theme: &Theme, zone: &TimeZone) -> String {
    let hosts = fleet.hosts();
    let name = name_width(&hosts, width);
    let mut out = String::new();
    for host in &hosts {
        for line in rows(host, fleet.now, "", name, width, theme) {
            let line: String = line.spans.iter().map(|span| span.content.as_ref()).collect();
            out.push_str(line.trim_end());
            out.push('\n');
        }
        // On paper there is no cursor: what helps stands where it is needed.
        if let Some((_, _, advice)) = host.down.filter(|(_, _, advice)| !advice.is_empty()) {
            for line in folded(&sentence(advice.as_str()), width.saturating_sub(4).max(20)) {
                out.push_str("    ");
                out.push_str(&line);
                out.push('\n');
            }
        }
    }
    if let Some(now) = fleet.now {
        let _ = writeln!(out, "as of {}", clock(now, zone));
    }
    out
}

/// A machine and its jobs.
fn rows(
    host: &Host<'_>,
    now: Option<Timestamp>,
    mark: &str,
    name: usize,
    width: usize,
    theme: &Theme,
) -> Vec<Line<'static>> {
    let dots = theme.glyphs.pick("…", "~");
    let tone = tone(host.severity());
    let style = if mark.trim().is_empty() { theme.bright } else { theme.selection };
    let shown = fit(host.name.as_str(), name, dots);
    let pad = " ".repeat(name.saturating_sub(shown.width()));
    let begin = vec![Span::styled(mark.to_string(), theme.accent), Span::styled(shown, style), Span::raw(pad + "  ")];
    let left = width.saturating_sub(mark.width() + name + 2);
    let mut lines = Vec::new();
    let mut first = begin;
    match (host.state, host.report) {
        (HostState::Down, _) => {
            let text = why(host, now);
            first.push(Span::styled(fit(&text, left, dots), theme.tone(Tone::Critical)));
        }
        (HostState::Asking, _) | (_, None) => first.push(Span::styled("is being asked", theme.muted)),
        (state, Some((at, report))) => {
            let mut groups = Vec::new();
            if state == HostState::Stale {
                let age = now.map_or(0.0, |now| seconds_between(at, now));
                groups.push(vec![Span::styled(format!("silent for {}", duration(age)), theme.warning)]);
            }
            groups.extend(figures(report, theme));
            first.extend(row::groups(groups, left, 2).spans);
        }
    }
    lines.push(Line::from(first));
    let indent = " ".repeat(mark.width() + 2);
    let Some((_, report)) = host.report.filter(|_| matches!(host.state, HostState::Up | HostState::Stale)) else {
        return lines;
    };
    for gpu in report.gpus.iter().filter(|gpu| gpu.lost || gpu.trouble.is_some()).take(JOBS) {
        let what = if gpu.lost { "lost" } else { gpu.trouble.as_ref().map_or("", Clean::as_str) };
        let text = fit(&format!("GPU{} {what}", gpu.index), width.saturating_sub(indent.len()), dots);
        lines.push(Line::from(vec![Span::raw(indent.clone()), Span::styled(text, theme.tone(tone))]));
    }
    for job in report.jobs.iter().take(JOBS) {
        let mut line = vec![Span::raw(indent.clone())];
        line.extend(job_spans(job, width.saturating_sub(indent.len()), theme));
        lines.push(Line::from(line));
    }
    if report.jobs.len() > JOBS {
        let text = format!("{indent}and {} more jobs", report.jobs.len() - JOBS);
        lines.push(Line::from(Span::styled(text, theme.muted)));
    }
    lines
}

fn tone(severity: u8) -> Tone {
    match severity {
        0 => Tone::Good,
        1 => Tone::Warning,
        _ => Tone::Critical,
    }
}

/// Since when a machine is down, and why.
fn why(host: &Host<'_>, now: Option<Timestamp>) -> String {
    let Some((since, why, _)) = host.down else { return String::new() };
    let age = now.map_or(0.0, |now| seconds_between(since, now));
    // The clock of a first look says nothing.
    let age = if age < 2.0 { String::new() } else { format!(" for {}", duration(age)) };
    format!("down{age}: {why}")
}

/// What a machine's row says, the most telling first: what does not fit is left out from the end.
fn figures(report: &HostReport, theme: &Theme) -> Vec<Vec<Span<'static>>> {
    const BAR: usize = 8;
    let mut groups = Vec::new();
    let fullest = report.gpus.iter().filter_map(|gpu| Some((gpu.share()?, gpu)));
    let fullest = fullest.max_by(|(a, _), (b, _)| a.total_cmp(b));
    if let Some((share, gpu)) = fullest {
        let style = theme.fullness(share);
        let mut spans = bar::full(share, BAR, style, theme);
        let used = gpu.memory_used_bytes.map_or_else(|| "-".into(), |b| gib(Bytes(b)));
        let total = gpu.memory_total_bytes.map_or_else(|| "-".into(), |b| gib(Bytes(b)));
        spans.push(Span::styled(format!(" {:>11} GiB", format!("{used}/{total}")), theme.bright));
        groups.push(spans);
    }
    if let Some(first) = report.gpus.first() {
        let name = first.name.as_str().trim_start_matches("NVIDIA ");
        let name = fit_end(name, 12, "");
        groups.push(vec![Span::styled(format!("{:<16}", format!("{}x {name}", report.gpus.len())), theme.muted)]);
    } else if let Some(why) = &report.gpus_unavailable {
        groups.push(vec![Span::styled(fit(&format!("no GPUs: {why}"), 40, theme.glyphs.pick("…", "~")), theme.muted)]);
    }
    let busy: Vec<f64> = report.gpus.iter().filter_map(|gpu| gpu.utilization_percent).collect();
    if !busy.is_empty() {
        let mean = busy.iter().sum::<f64>() / busy.len() as f64;
        groups.push(row::figure("busy", &format!("{:>5}", format!("{mean:.0} %")), 5, theme.bright, theme));
    }
    if let Some(hottest) = report.gpus.iter().filter_map(|gpu| gpu.temperature_c).max_by(f64::total_cmp) {
        groups.push(vec![Span::styled(format!("{:>6}", format!("{hottest:.0} °C")), theme.text)]);
    }
    if let Some((used, total)) = report.memory_used_bytes.zip(report.memory_total_bytes.filter(|t| *t > 0)) {
        let share = used as f64 / total as f64;
        let style = if share >= 0.85 { theme.fullness(share) } else { theme.text };
        groups.push(row::figure("host", &format!("{:>5}", format!("{:.0} %", share * 100.0)), 5, style, theme));
    }
    groups
}

/// A job in one line.
fn job_spans(job: &FleetJob, width: usize, theme: &Theme) -> Vec<Span<'static>> {
    let dots = theme.glyphs.pick("…", "~");
    let style = theme.tone(tone(job.severity));
    let name = fit(job.title.as_str(), (width / 3).max(8), dots);
    let mut groups = vec![vec![Span::styled(name, theme.text)], vec![Span::styled(job.state.to_string(), style)]];
    match (job.step, job.total_steps) {
        (Some(step), Some(total)) => groups.push(vec![Span::styled(format!("{step}/{total}"), theme.bright)]),
        (Some(step), None) => groups.push(row::figure("step", &step.to_string(), 0, theme.bright, theme)),
        _ => {}
    }
    groups.extend(job.loss.map(|loss| row::figure("loss", &short(loss), 0, theme.bright, theme)));
    if let Some(left) = job.remaining_seconds.filter(|_| !job.ended && job.state.as_str() == "training") {
        groups.push(vec![Span::styled(format!("{} left", duration(left)), theme.text)]);
    }
    let mut spans = row::groups(groups, width, 2).spans;
    let used: usize = spans.iter().map(Span::width).sum();
    if job.severity > 0 && width > used + 12 {
        spans.push(Span::raw("  "));
        spans.push(Span::styled(fit(job.says.as_str(), width - used - 2, dots), style));
    }
    spans
}

/// What opens the dashboard on a machine.
fn closer(host: &Host<'_>) -> Option<String> {
    let (_, report) = host.report?;
    if report.oomph.is_empty() {
        return None;
    }
    let job = report.jobs.iter().max_by_key(|job| (job.severity, !job.ended));
    let what = match job {
        Some(FleetJob { run: Some(run), ended: true, .. }) => format!("oomph replay {run}"),
        Some(FleetJob { pid: Some(pid), ended: false, .. }) => format!("oomph watch --pid {pid}"),
        _ => "oomph".to_string(),
    };
    Some(format!("ssh -t {} {what}", host.name))
}

/// Everything about one machine.
fn draw_details(frame: &mut Frame, area: Rect, host: &Host<'_>, now: Option<Timestamp>, app: &App, theme: &Theme) {
    let right = host.report.map(|(at, _)| Span::styled(format!("heard {}", clock(at, &app.zone)), theme.muted));
    let inner = panel_in(frame, area, host.name.as_str(), right.into_iter().collect(), theme, theme.faint);
    let width = usize::from(inner.width).saturating_sub(2);
    let mut lines: Vec<Line> = Vec::new();
    let mut put = |text: &str, style: Style| {
        lines.extend(folded(text, width).into_iter().map(|row| Line::from(Span::styled(format!(" {row}"), style))));
    };
    if let Some((_, _, advice)) = host.down {
        put(&sentence(&why(host, now)), theme.critical);
        if !advice.is_empty() {
            put(&sentence(advice.as_str()), theme.text);
        }
        put("It is asked again by itself.", theme.muted);
    }
    let Some((_, report)) = host.report else {
        if host.down.is_none() {
            put("Nothing has been heard of it yet.", theme.muted);
        }
        return frame.render_widget(Paragraph::new(lines), inner);
    };
    for job in &report.jobs {
        if job.severity > 0 || report.jobs.len() == 1 {
            let on: Vec<String> = job.gpus.iter().map(|index| format!("GPU{index}")).collect();
            let on = if on.is_empty() { String::new() } else { format!(" on {}", on.join(", ")) };
            put(&format!("{}{on}: {}", job.title, job.says), theme.tone(tone(job.severity)));
        }
    }
    if let Some(command) = closer(host) {
        put(&command, theme.muted);
    }
    if let Some(why) = &report.gpus_unavailable {
        put(&format!("No GPUs: {why}"), theme.muted);
    }
    for note in &report.notes {
        put(note.as_str(), theme.muted);
    }
    let groups = report.gpus.iter().map(|gpu| gpu_spans(gpu, width, theme)).collect();
    for line in row::flow(groups, width, 3) {
        let mut spans = vec![Span::raw(" ")];
        spans.extend(line.spans);
        lines.push(Line::from(spans));
    }
    frame.render_widget(Paragraph::new(lines), inner);
}

/// One GPU, in columns that stay in their places.
fn gpu_spans(gpu: &FleetGpu, width: usize, theme: &Theme) -> Vec<Span<'static>> {
    let mut groups = vec![vec![Span::styled(format!("GPU{:<2}", gpu.index), theme.muted)]];
    if gpu.lost {
        groups.push(vec![Span::styled("lost", theme.critical)]);
        return row::groups(groups, width, 1).spans;
    }
    if let Some(share) = gpu.share() {
        groups.push(bar::full(share, 8, theme.fullness(share), theme));
    }
    let size = |bytes: Option<u64>| bytes.map_or_else(|| "n/a".into(), |bytes| gib(Bytes(bytes)));
    let memory = format!("{:>11}", format!("{}/{}", size(gpu.memory_used_bytes), size(gpu.memory_total_bytes)));
    groups.push(vec![Span::styled(memory, theme.bright)]);
    let figure = |value: Option<f64>, unit: &str| {
        let text = value.map_or_else(|| "n/a".into(), |value| format!("{value:.0} {unit}"));
        vec![Span::styled(format!("{text:>6}"), theme.text)]
    };
    groups.push(figure(gpu.utilization_percent, "%"));
    groups.push(figure(gpu.temperature_c, "°C"));
    groups.push(figure(gpu.power_w, "W"));
    row::groups(groups, width, 1).spans
}

#[cfg(test)]
mod tests {
    use ratatui::crossterm::event::{Event as TerminalEvent, KeyCode, KeyModifiers};

    use super::*;
    use crate::{
        model::fleet::{Heard, News, SCHEMA},
        session::Session,
        ui::{Msg, frame_text, update},
    };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn report(gpus: u32, says: &str, severity: u8) -> HostReport {
        let gpu = |index| FleetGpu {
            index,
            name: "NVIDIA H200".into(),
            memory_used_bytes: Some((60 + u64::from(index)) << 30),
            memory_total_bytes: Some(141 << 30),
            utilization_percent: Some(90.0),
            ..FleetGpu::default()
        };
        let job = FleetJob {
            title: "train.py".into(),
            pid: Some(4711),
            state: "training".into(),
            step: Some(120),
            total_steps: Some(1000),
            says: says.into(),
            severity,
            ..FleetJob::default()
        };
        let (schema, oomph) = (SCHEMA.into(), "0.1.0".into());
        HostReport { schema, oomph, gpus: (0..gpus).map(gpu).collect(), jobs: vec![job], ..HostReport::default() }
    }

    fn app() -> App {
        let mut app = App::new(Session::default());
        let names: Vec<Clean> = ["node1", "node2", "node3"].map(Clean::from).to_vec();
        app.fleet = Some(State::new(Fleet::new(&names, 10.0)));
        let mut hear = |place, heard| drop(update(&mut app, Msg::Fleet(News { at: at(0), place, heard })));
        hear(0, Heard::Reports(vec![report(8, "all well", 0)]));
        hear(1, Heard::Down { why: "Connection refused".into(), advice: "is it up?".into() });
        app
    }

    fn press(app: &mut App, code: KeyCode) -> Vec<Cmd> {
        update(app, Msg::Terminal(TerminalEvent::Key(KeyEvent::new(code, KeyModifiers::NONE))))
    }

    #[test]
    fn machines_are_told_apart_at_every_size() {
        for size in [(200, 50), (80, 24), (40, 12)] {
            let mut app = app();
            let text = frame_text(&app, size.0, size.1);
            for word in ["1 of 3 machines", "node1", "node2", "down: Connection", "node3", "train.py", "67.00/141.0"] {
                assert!(text.contains(word), "{size:?} {word}:\n{text}");
            }
            update(&mut app, Msg::Tick(at(30)));
            let text = frame_text(&app, size.0, size.1);
            assert!(text.contains("0 of 3 machines") && text.contains("silent for 30 s"), "{text}");
            assert!(text.contains("down for 30 s"), "{text}");
        }
        for size in [(30, 8), (31, 9), (500, 200)] {
            let _ = frame_text(&app(), size.0, size.1);
        }
    }

    #[test]
    fn a_closer_look_is_a_key_away() {
        let mut app = app();
        press(&mut app, KeyCode::Enter);
        assert!(frame_text(&app, 40, 12).contains("GPU0"));
        assert_eq!(press(&mut app, KeyCode::Char('c')), [Cmd::Copy("ssh -t node1 oomph watch --pid 4711".into())]);
        press(&mut app, KeyCode::Down);
        let text = frame_text(&app, 40, 12);
        assert!(text.contains("Is it up?") && text.contains("asked again"), "{text}");
        assert_eq!(press(&mut app, KeyCode::Esc), []);
        assert_eq!(press(&mut app, KeyCode::Char('q')), [Cmd::Quit]);
    }

    #[test]
    fn text_holds_every_machine_and_what_helps() {
        let app = app();
        let text = text(&app.fleet.as_ref().unwrap().fleet, 80, app.theme(), &TimeZone::UTC);
        for word in ["node1", "8x H200", "node2", "Is it up?", "node3", "is being asked", "120/1000"] {
            assert!(text.contains(word), "{word}:\n{text}");
        }
    }

    #[test]
    fn a_hundred_machines_scroll() {
        let mut app = App::new(Session::default());
        let names: Vec<Clean> = (0..100).map(|n| format!("node{n}").into()).collect();
        app.fleet = Some(State::new(Fleet::new(&names, 10.0)));
        for n in 0..100 {
            assert!(frame_text(&app, 80, 24).contains(&format!(" > node{n}")), "{n}");
            press(&mut app, KeyCode::Down);
        }
    }
}
