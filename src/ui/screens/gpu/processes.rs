//! Who holds memory on one GPU: each job's processes below what started them, the job that is watched first.

use std::fmt::Write;

use ratatui::{
    Frame,
    layout::Rect,
    text::{Line, Span},
    widgets::Paragraph,
};

use crate::{
    model::{
        Bytes,
        gpu::{GpuProcess, GpuSample},
    },
    session::{gpus::Gpu, holders::Owner},
    ui::{
        App, Theme,
        format::{fit, gib},
        log_text::Inked,
        widgets::panel::panel,
    },
};

/// What stands in one row.
enum Row<'a> {
    /// What started the processes below it.
    Launcher {
        pid: u32,
        name: String,
    },
    Process {
        process: &'a GpuProcess,
        is_below: bool,
        is_last: bool,
    },
}

pub fn render(frame: &mut Frame, area: Rect, gpu: &Gpu, app: &App, theme: &Theme) {
    let s = &gpu.latest;
    let mut right = Vec::new();
    if !s.processes.is_empty() {
        let held = s.processes.iter().filter_map(|p| p.used).sum::<Bytes>();
        right.push(Span::styled(
            {
                let verb = if s.processes.len() == 1 { "holds" } else { "hold" };
                format!("{} {verb} {} GiB", s.processes.len(), gib(held))
            },
            theme.muted,
        ));
    }
    let inner = super::inset(panel(frame, area, "processes", right, theme));
    let lines: Vec<Line> = laid_out(inner, gpu, app, theme).into_iter().map(|(_, line)| line).collect();
    frame.render_widget(Paragraph::new(lines), inner);
}

/// The process that stands in a row of the panel.
pub fn at(area: Rect, gpu: &Gpu, app: &App, theme: &Theme, row: u16) -> Option<u32> {
    let inner = super::inset(Rect {
        x: area.x + 1,
        y: area.y + 1,
        width: area.width.saturating_sub(2),
        height: area.height.saturating_sub(2),
    });
    let nth = row.checked_sub(inner.y)?;
    laid_out(inner, gpu, app, theme).into_iter().nth(usize::from(nth))?.0
}

/// The process after the chosen one, as they are shown.
pub fn next(gpu: &Gpu, app: &App) -> Option<u32> {
    let rows = rows(&gpu.latest, &Owner::of(&app.session));
    let pids: Vec<u32> = rows.iter().filter_map(Row::process).map(|p| p.pid).collect();
    let after = pids.iter().position(|pid| app.gpus.chosen == Some(*pid)).map_or(0, |at| at + 1);
    pids.get(after).copied()
}

impl<'a> Row<'a> {
    fn process(&self) -> Option<&'a GpuProcess> {
        match self {
            Row::Process { process, .. } => Some(process),
            Row::Launcher { .. } => None,
        }
    }
}

/// The lines of the panel, each with the process that it is of.
fn laid_out(inner: Rect, gpu: &Gpu, app: &App, theme: &Theme) -> Vec<(Option<u32>, Line<'static>)> {
    let s = &gpu.latest;
    let owner = Owner::of(&app.session);
    let (width, height) = (usize::from(inner.width), usize::from(inner.height));
    let mut rows = rows(s, &owner);
    let mut lines = Vec::new();
    let mut below = details(&rows, app.gpus.chosen, width, theme);
    below.extend(call_out(gpu, &owner, width, theme));
    // A process keeps its row.
    below.truncate(height.saturating_sub(1).max(1));
    if rows.is_empty() {
        let told = s.refused.iter().find(|(what, _)| what == "processes");
        let text = told.map_or("no process holds memory here".to_string(), |(_, why)| format!("processes: {why}"));
        lines.push((None, Line::from(Span::styled(fit(&text, width, theme.glyphs.pick("…", "~")), theme.muted))));
    } else {
        let room = height.saturating_sub(below.len());
        if room < 5 {
            // Whoever holds memory comes before what started it.
            rows.retain(|row| matches!(row, Row::Process { .. }));
        }
        // The heading goes first where there is hardly any room.
        let with_heading = room >= 3;
        let mut room = room.saturating_sub(usize::from(with_heading));
        if with_heading {
            lines.push((None, heading(width, theme)));
        }
        let chosen = rows.iter().position(|row| row.process().is_some_and(|p| app.gpus.chosen == Some(p.pid)));
        let mut first = app.gpus.first.min(rows.len().saturating_sub(1));
        let cut = first > 0 || rows.len() > room;
        if cut && room > 1 {
            room = room.saturating_sub(1);
        }
        if let Some(chosen) = chosen {
            first = first.clamp((chosen + 1).saturating_sub(room), chosen);
        }
        for (n, row) in rows.iter().enumerate().skip(first).take(room) {
            let mut line = line(row, s, &owner, width, theme);
            if chosen == Some(n) {
                line = line.patch_style(theme.selection);
            }
            lines.push((row.process().map(|p| p.pid), line));
        }
        if cut && lines.len() + below.len() < height {
            lines.push((None, rest(&rows, first, room, width, theme)));
        }
    }
    lines.extend(below.into_iter().map(|line| (None, line)));
    lines
}

/// What the row of the chosen process has no room for: what started it, where it runs, and its whole command.
fn details(rows: &[Row], chosen: Option<u32>, width: usize, theme: &Theme) -> Vec<Line<'static>> {
    let Some(p) = rows.iter().filter_map(Row::process).find(|p| Some(p.pid) == chosen) else { return Vec::new() };
    let mut facts = vec![format!("pid {}", p.pid)];
    facts.extend(p.user.as_ref().map(|user| format!("user {user}")));
    facts.extend(p.launcher.as_ref().zip(p.parents.last()).map(|(name, pid)| format!("started by {name} ({pid})")));
    facts.extend(p.container.as_ref().map(|container| format!("in {container}")));
    facts.extend(p.instance.map(|instance| format!("MIG instance {instance}")));
    let facts = crate::model::Clean::new(&facts.join(", "));
    let mut lines =
        vec![Line::from(Span::styled(fit(facts.as_str(), width, theme.glyphs.pick("…", "~")), theme.muted))];
    if let Some(command) = p.command.as_ref() {
        let text = Inked::plain(command.as_str(), theme.text);
        lines.extend(text.rows(width, 3, theme).into_iter().map(Line::from));
    }
    lines
}

/// The processes as a tree: those of the watched job first, then the largest.
fn rows<'a>(s: &'a GpuSample, owner: &Owner) -> Vec<Row<'a>> {
    let mut jobs: Vec<(u32, Vec<&GpuProcess>)> = Vec::new();
    for p in &s.processes {
        match jobs.iter_mut().find(|(job, _)| *job == p.job()) {
            Some((_, processes)) => processes.push(p),
            None => jobs.push((p.job(), vec![p])),
        }
    }
    let held = |processes: &[&GpuProcess]| processes.iter().filter_map(|p| p.used).sum::<Bytes>();
    jobs.sort_by_key(|(_, processes)| {
        (!processes.iter().any(|p| owner.owns(s, p)), std::cmp::Reverse(held(processes)))
    });
    let mut rows = Vec::new();
    for (job, mut processes) in jobs {
        processes.sort_by_key(|p| (p.pid != job, p.rank, std::cmp::Reverse(p.used), p.pid));
        let last = processes.len() - 1;
        let is_here = processes.iter().any(|p| p.pid == job);
        if let Some(launcher) = processes.iter().find_map(|p| p.launcher.as_ref()).filter(|_| !is_here) {
            rows.push(Row::Launcher { pid: job, name: launcher.to_string() });
        }
        for (n, process) in processes.into_iter().enumerate() {
            let is_below = process.pid != job && (is_here || process.launcher.is_some());
            rows.push(Row::Process { process, is_below, is_last: n == last });
        }
    }
    rows
}

/// Columns of user and container, where there is room for them.
fn columns(width: usize) -> (usize, usize) {
    match width {
        110.. => (12, 20),
        80.. => (10, 0),
        56.. => (8, 0),
        _ => (0, 0),
    }
}

fn heading(width: usize, theme: &Theme) -> Line<'static> {
    let (user, container) = columns(width);
    let mut text = format!("{:>8} {:>4}  ", "pid", "rank");
    if user > 0 {
        let _ = write!(text, "{:<user$} ", "user");
    }
    let _ = write!(text, "{:>10}  ", "memory");
    if container > 0 {
        let _ = write!(text, "{:<container$} ", "runs in");
    }
    text.push_str("command");
    Line::from(Span::styled(fit(&text, width, ""), theme.muted))
}

fn line(row: &Row, s: &GpuSample, owner: &Owner, width: usize, theme: &Theme) -> Line<'static> {
    let ellipsis = theme.glyphs.pick("…", "~");
    let (user_width, container_width) = columns(width);
    let (pid, rank, user, used, container, what, style) = match row {
        Row::Launcher { pid, name } => {
            let what = format!("{name}, which started");
            (*pid, String::new(), String::new(), String::new(), String::new(), what, theme.muted)
        }
        Row::Process { process: p, is_below, is_last } => {
            let used = p.used.map_or_else(|| "not told".to_string(), |b| format!("{} GiB", gib(b)));
            let text = |clean: &Option<crate::model::Clean>| clean.as_ref().map(ToString::to_string);
            let mut what = if p.foreign {
                "outside this container: its pid is the host's".to_string()
            } else if p.gone {
                let was = text(&p.name).map(|name| format!(" ({name})")).unwrap_or_default();
                format!("ended{was}, and the driver still counts its memory")
            } else {
                text(&p.command).or_else(|| text(&p.name)).unwrap_or_else(|| "not ours to see".into())
            };
            if *is_below {
                let branch = if *is_last { theme.glyphs.pick("└ ", "`- ") } else { theme.glyphs.pick("├ ", "|- ") };
                what.insert_str(0, branch);
            }
            if p.graphics {
                what.push_str("  (graphics)");
            }
            if let Some(instance) = p.instance {
                let _ = write!(what, "  (MIG {instance})");
            }
            let container = text(&p.container).unwrap_or_default();
            // Without a column of its own the container stands behind the command.
            if container_width == 0 && !container.is_empty() {
                let _ = write!(what, "  ({container})");
            }
            let style = match () {
                () if p.gone => theme.warning,
                () if owner.owns(s, p) => theme.bright,
                () => theme.text,
            };
            let rank = p.rank.map_or_else(|| "-".to_string(), |r| r.to_string());
            (p.pid, rank, text(&p.user).unwrap_or_else(|| "-".into()), used, container, what, style)
        }
    };
    let mut text = format!("{pid:>8} {rank:>4}  ");
    let mut column = |value: &str, width: usize| {
        if width > 0 {
            let shown = fit(value, width, ellipsis);
            let blank = width.saturating_sub(unicode_width::UnicodeWidthStr::width(shown.as_str()));
            let _ = write!(text, "{shown}{} ", " ".repeat(blank));
        }
    };
    column(&user, user_width);
    column(&format!("{used:>10}"), 11);
    column(&container, container_width);
    text.push_str(&what);
    Line::from(Span::styled(fit(&text, width, ellipsis), style))
}

/// What the list leaves out, and what that holds.
fn rest(rows: &[Row], first: usize, shown: usize, width: usize, theme: &Theme) -> Line<'static> {
    let held = |rows: &[Row]| {
        let used = rows.iter().filter_map(|row| match row {
            Row::Process { process, .. } => Some(process.used.unwrap_or_default()),
            Row::Launcher { .. } => None,
        });
        let (count, sum) = used.fold((0, Bytes(0)), |(count, sum), b| (count + 1, sum + b));
        (count, gib(sum))
    };
    let mut parts = Vec::new();
    for (rows, where_) in [(&rows[..first], "above"), (&rows[(first + shown).min(rows.len())..], "below")] {
        let (count, size) = held(rows);
        if count > 0 {
            parts.push(format!("{count} more {where_} ({size} GiB)"));
        }
    }
    let keys = if width >= 60 { "   pgup, pgdn" } else { "" };
    Line::from(Span::styled(fit(&format!("{:>8} {}{keys}", "", parts.join(", ")), width, ""), theme.muted))
}

/// Memory in use that no living process explains, and what to do about it.
fn call_out(gpu: &Gpu, owner: &Owner, width: usize, theme: &Theme) -> Vec<Line<'static>> {
    let Some(unexplained) = owner.shares(gpu).and_then(|shares| shares.to_call_out()) else { return Vec::new() };
    let mark = theme.glyphs.pick("▲", "!");
    let what = format!("{mark} {} GiB are in use that no living process explains", gib(unexplained));
    let advice =
        "left behind by a process that ended: `sudo fuser -v /dev/nvidia*` names who still keeps the card open";
    let ellipsis = theme.glyphs.pick("…", "~");
    vec![
        Line::from(Span::styled(fit(&what, width, ellipsis), theme.warning)),
        Line::from(Span::styled(fit(&format!("  {advice}"), width, ellipsis), theme.muted)),
    ]
}
