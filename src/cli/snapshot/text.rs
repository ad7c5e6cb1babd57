//! A snapshot's report for people: who holds the memory, where it was asked for, the course, the pool, what to change.

use std::{collections::BTreeMap, fmt::Write};

use crate::{
    cli::report::{self, Paint, cut, wrap},
    diagnose::allocations::{DeviceReport, Held, Report},
    model::{
        Bytes,
        failure::{Diagnosis, Failure},
        knobs::Knobs,
        snapshot::Owner,
    },
    ui::{report::phase_words, theme::Glyphs},
};

/// How it is shown.
#[derive(Clone, Copy)]
pub struct Style {
    pub width: usize,
    pub paint: Paint,
    pub glyphs: Glyphs,
    /// Places of the code for each moment.
    pub top: usize,
}

/// Categories with a shade of their own; the rest share the last one.
const SHADES: [char; 5] = ['█', '▓', '▒', '░', '·'];
const ASCII_SHADES: [char; 5] = ['#', '%', '+', '-', '.'];
/// Colours of the same, as SGR codes.
const COLOURS: [&str; 5] = ["34", "33", "36", "35", "2"];

impl Style {
    fn shade(self, nth: usize) -> char {
        let shades = if self.glyphs.ascii() { ASCII_SHADES } else { SHADES };
        shades[nth.min(shades.len() - 1)]
    }

    fn painted(self, nth: usize, text: &str) -> String {
        if self.paint.0 { format!("\x1b[{}m{text}\x1b[0m", COLOURS[nth.min(COLOURS.len() - 1)]) } else { text.into() }
    }
}

pub fn text(report: &Report, diagnosis: &Diagnosis, knobs: &Knobs, style: Style) -> String {
    let mut out = String::new();
    let held = |d: &&DeviceReport| d.pool.reserved_bytes > 0 || d.events > 0;
    for (nth, device) in report.devices.iter().filter(held).enumerate() {
        if nth > 0 {
            out.push('\n');
        }
        let failure = diagnosis.failures.iter().find(|f| f.device == Some(device.device));
        one(&mut out, report, device, failure, knobs, style);
    }
    if out.is_empty() {
        let _ = writeln!(out, "{}: nothing was allocated on any GPU when it was taken.", report.source);
    }
    out
}

fn one(
    out: &mut String,
    report: &Report,
    device: &DeviceReport,
    failure: Option<&Failure>,
    knobs: &Knobs,
    style: Style,
) {
    let Style { width, paint, .. } = style;
    let gpu = format!("GPU {}", device.device);
    match &device.oom {
        Some(oom) => {
            let title = paint.bad(&format!("{gpu} ran out of memory"));
            let _ = writeln!(out, "{title} {}", phase_words(oom.found.id));
            let asked = format!(
                "{} were asked for; PyTorch had {} reserved with {} in use, and the driver had {} free",
                Bytes(oom.requested_bytes),
                Bytes(oom.held.reserved_bytes),
                Bytes(oom.held.bytes),
                Bytes(oom.device_free_bytes)
            );
            wrap(out, "  ", &asked, width, 2);
        }
        None => {
            let _ = writeln!(out, "{} no request was refused in this recording", paint.bold(&format!("{gpu}:")));
        }
    }
    let name = report.source.as_str();
    let mut about = vec![name.rsplit('/').next().unwrap_or(name).to_string()];
    if device.events > 0 {
        about.push(format!("{} events", grouped(device.events)));
        about.extend(device.seconds.map(|s| format!("{s:.1} s")));
        about.extend((device.steps > 1).then(|| format!("{} steps", device.steps)));
    } else {
        about.push("no history: the state at its end alone".into());
    }
    let _ = writeln!(out, "  {}", paint.dim(&cut(&about.join(", "), width - 2)));

    let (moment, main) = match &device.oom {
        Some(oom) => ("What held the memory when it ran out", &oom.held),
        None => ("What holds the memory at the end", &device.end),
    };
    let order = by_size([Some(main), device.peak.as_ref(), Some(&device.end)]);
    categories(out, moment, main, &order, style);
    if let Some(peak) = device.peak.as_ref().filter(|peak| peak.bytes > main.bytes + main.bytes / 100) {
        categories(out, "At the peak", peak, &order, style);
        sites(out, "Where the peak's was asked for", peak, style);
    }
    if device.oom.is_some() && device.end.bytes + device.end.bytes / 100 < main.bytes {
        categories(out, "At the end, after the failure", &device.end, &order, style);
    }
    sites(out, "Where it was asked for", main, style);
    course(out, device, &order, style);
    pool(out, report, device, style);
    grows(out, device, style);
    change(out, failure, knobs, style);
}

/// The owners of several moments, the largest first: each keeps its shade throughout.
fn by_size<'a>(moments: impl IntoIterator<Item = Option<&'a Held>>) -> Vec<Owner> {
    let mut most: BTreeMap<Owner, u64> = BTreeMap::new();
    for category in moments.into_iter().flatten().flat_map(|held| &held.categories) {
        let bytes = most.entry(category.owner).or_default();
        *bytes = category.bytes.max(*bytes);
    }
    let mut all: Vec<_> = most.into_iter().collect();
    all.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    all.into_iter().map(|(owner, _)| owner).collect()
}

/// A place in few columns: of a path within a package its first and last part.
fn shorter(place: &str) -> String {
    let (path, rest) = place.split_once(':').unwrap_or((place, ""));
    match (path.split_once('/'), path.rsplit_once('/')) {
        (Some((first, _)), Some((before, last))) if before.contains('/') => format!("{first}/../{last}:{rest}"),
        _ => place.to_string(),
    }
}

/// The bar of one moment, and what its parts are.
fn categories(out: &mut String, title: &str, held: &Held, order: &[Owner], style: Style) {
    let Style { width, paint, .. } = style;
    let _ = writeln!(out, "\n{}: {}", paint.bold(title), Bytes(held.bytes));
    if held.bytes == 0 {
        return;
    }
    let whole = held.reserved_bytes.max(held.bytes);
    let columns = width.saturating_sub(24).clamp(16, 72);
    let place = |owner: Owner| order.iter().position(|o| *o == owner).unwrap_or(order.len());
    let mut bar = String::new();
    let mut drawn = 0;
    let mut sum = 0;
    for category in &held.categories {
        sum += category.bytes;
        let to = (sum as f64 / whole as f64 * columns as f64).round() as usize;
        let part: String = std::iter::repeat_n(style.shade(place(category.owner)), to.saturating_sub(drawn)).collect();
        bar += &style.painted(place(category.owner), &part);
        drawn = drawn.max(to);
    }
    bar += &" ".repeat(columns.saturating_sub(drawn));
    let _ = writeln!(out, "  {bar}  {} reserved", Bytes(held.reserved_bytes));
    for category in &held.categories {
        let part = category.bytes as f64 / held.bytes as f64 * 100.0;
        if part < 0.05 && held.categories.len() > 5 {
            continue;
        }
        let count = if category.allocations == 1 { "allocation" } else { "allocations" };
        let nth = place(category.owner);
        let _ = writeln!(
            out,
            "  {} {:>10} {part:>5.1} %  {:<24} {}",
            style.painted(nth, &style.shade(nth).to_string()),
            Bytes(category.bytes).to_string(),
            category.owner.words(),
            paint.dim(&cut(&format!("{} {count}", grouped(category.allocations)), width.saturating_sub(48)))
        );
    }
    if held.categories.iter().any(|c| c.owner == Owner::BeforeRecording && c.bytes * 20 > held.bytes) {
        let note = "What was made before _record_memory_history has no stack; usually it is the weights.";
        wrap(out, "  ", note, width, 2);
    }
}

fn sites(out: &mut String, title: &str, held: &Held, style: Style) {
    let Style { width, paint, glyphs, .. } = style;
    let told: Vec<_> = held.sites.iter().filter(|s| s.place.is_some()).take(style.top).collect();
    if told.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n{}", paint.bold(title));
    for site in told {
        let count = if site.allocations > 1 { format!("{} x", grouped(site.allocations)) } else { String::new() };
        let mut place = site.place.as_ref().map_or(String::new(), |p| shorter(p.as_str()));
        if let Some(user) = &site.user {
            place = format!("{place} {} {user}", glyphs.pick("←", "<-"));
        }
        let head = format!("  {:>10} {count:>8}  {:<18} ", Bytes(site.bytes).to_string(), cut(site.owner.words(), 18));
        let room = width.saturating_sub(head.chars().count());
        if room >= 30 {
            let _ = writeln!(out, "{head}{}", cut(&place, room));
        } else {
            let _ = writeln!(out, "{}\n      {}", head.trim_end(), cut(&place, width.saturating_sub(6)));
        }
    }
}

/// Memory over time as a stack of the categories, the largest at the bottom.
fn course(out: &mut String, device: &DeviceReport, order: &[Owner], style: Style) {
    const ROWS: usize = 9;
    let Style { width, paint, .. } = style;
    if device.timeline.len() < 4 {
        return;
    }
    let _ = writeln!(out, "\n{}", paint.bold("Over time"));
    let columns = width.saturating_sub(16).clamp(20, 90);
    let top = device.timeline.iter().map(|m| m.reserved_bytes.max(m.bytes)).max().unwrap_or(1).max(1);
    // A stretch of time without events keeps what was there.
    let (first, last) = (&device.timeline[0], &device.timeline[device.timeline.len() - 1]);
    let span = first.time_us.zip(last.time_us).filter(|(a, b)| b > a);
    let column_of = |nth: usize| match (span, device.timeline[nth].time_us) {
        (Some((from, to)), Some(at)) => ((at - from) as f64 / (to - from) as f64 * (columns - 1) as f64) as usize,
        _ => nth * columns / device.timeline.len(),
    };
    let mut moments = vec![None; columns];
    for nth in 0..device.timeline.len() {
        let at = column_of(nth).min(columns - 1);
        let better = moments[at].is_none_or(|old: usize| device.timeline[old].bytes < device.timeline[nth].bytes);
        if better {
            moments[at] = Some(nth);
        }
    }
    let place = |owner: Owner| order.iter().position(|o| *o == owner).unwrap_or(order.len());
    let mut now = 0;
    let mut cells = vec![vec![None; columns]; ROWS];
    for (column, moment) in moments.iter().enumerate() {
        now = moment.unwrap_or(now);
        let mut owners = device.timeline[now].owners.clone();
        owners.sort_by_key(|(owner, _)| place(*owner));
        let mut sum = 0;
        let mut drawn = 0;
        for (owner, bytes) in owners {
            sum += bytes;
            let to = ((sum as f64 / top as f64 * ROWS as f64).round() as usize).min(ROWS);
            for row in cells.iter_mut().rev().skip(drawn).take(to.saturating_sub(drawn)) {
                row[column] = Some(place(owner));
            }
            drawn = drawn.max(to);
        }
        // Where the pool ends, above what is in use.
        let reserved = (device.timeline[now].reserved_bytes as f64 / top as f64 * ROWS as f64).ceil() as usize;
        if reserved > drawn
            && let Some(row) = cells.iter_mut().rev().nth(reserved.min(ROWS) - 1)
        {
            row[column] = Some(usize::MAX);
        }
    }
    let (axis, corner, line) = if style.glyphs.ascii() { ('|', '+', '-') } else { ('┤', '└', '─') };
    let edge = style.glyphs.pick("‾", "^").chars().next().unwrap_or('^');
    for (nth, row) in cells.iter().enumerate() {
        let label = match nth {
            0 => Bytes(top).to_string(),
            n if n == ROWS / 2 => Bytes(top / 2).to_string(),
            _ => String::new(),
        };
        let mut text = String::new();
        for cell in row {
            match cell {
                None => text.push(' '),
                Some(usize::MAX) => text += &paint.dim(&edge.to_string()),
                Some(owner) => text += &style.painted(*owner, &style.shade(*owner).to_string()),
            }
        }
        let _ = writeln!(out, "  {label:>10} {axis}{}", if style.paint.0 { text } else { text.trim_end().to_string() });
    }
    let _ = writeln!(out, "  {:>10} {corner}{}", "", line.to_string().repeat(columns));
    let end = match span {
        Some((from, to)) => format!("{:.1} s", (to - from) as f64 / 1e6),
        None => format!("event {}", grouped(device.events)),
    };
    let _ = writeln!(out, "  {:>10}  0{end:>room$}", "", room = columns - 1);
    let failed = moments.iter().flatten().any(|m| device.timeline[*m].oom);
    let legend = format!("{edge} the pool's size{}", if failed { "; it ends at the refused request" } else { "" });
    let at_end = device.timeline.last().is_some_and(|m| m.oom);
    let legend = if failed && !at_end { format!("{edge} the pool's size") } else { legend };
    let _ = writeln!(out, "  {:>10}  {}", "", paint.dim(&legend));
}

/// What the pool holds, where it is free, and in how large pieces.
fn pool(out: &mut String, report: &Report, device: &DeviceReport, style: Style) {
    let Style { width, paint, .. } = style;
    let pool = &device.pool;
    if pool.segments == 0 {
        return;
    }
    let _ = writeln!(out, "\n{}", paint.bold("The pool at the end"));
    let kinds = match (pool.expandable_segments, pool.private_segments) {
        (0, 0) => String::new(),
        (n, 0) => format!(" ({n} expandable)"),
        (0, n) => format!(" ({n} of private pools, such as CUDA graphs')"),
        (n, m) => format!(" ({n} expandable, {m} of private pools)"),
    };
    let pending = if pool.pending_bytes > 0 {
        format!(", {} freed but still in use by a stream", Bytes(pool.pending_bytes))
    } else {
        String::new()
    };
    let first = format!(
        "{} reserved in {} {}{kinds}: {} in use{pending}, {} free in {} {}{}",
        Bytes(pool.reserved_bytes),
        grouped(pool.segments),
        if pool.segments == 1 { "segment" } else { "segments" },
        Bytes(pool.allocated_bytes),
        Bytes(pool.free_bytes),
        grouped(pool.free_blocks),
        if pool.free_blocks == 1 { "piece" } else { "pieces" },
        if pool.free_blocks > 0 { format!(", the largest {}", Bytes(pool.largest_free_bytes)) } else { String::new() },
    );
    wrap(out, "  ", &first, width, 2);
    let rounding = pool.allocated_bytes.saturating_sub(pool.requested_bytes);
    let mut notes = Vec::new();
    let mut note = |bytes: u64, text: &str| {
        if bytes > pool.reserved_bytes / 200 && bytes > 1 << 20 {
            notes.push(format!("{} {text}", Bytes(bytes)));
        }
    };
    note(pool.releasable_bytes, "of it in segments that nothing uses: empty_cache() would give them back");
    note(pool.free_small_pool_bytes, "of it only for requests of up to 1 MiB");
    note(pool.free_private_pool_bytes, "of it only for its CUDA graph or private pool");
    note(pool.free_other_streams_bytes, "of it only for other streams");
    note(rounding, "lost to rounding within what is in use");
    for note in notes {
        wrap(out, "  ", &note, width, 4);
    }
    if let Some(part) = pool.fragmentation().filter(|_| pool.usable_bytes > pool.reserved_bytes / 50) {
        let text = format!(
            "Fragmentation: {:.0} % of the {} that a large request could use lie outside the largest piece of {}",
            part * 100.0,
            Bytes(pool.usable_bytes),
            Bytes(pool.largest_usable_bytes)
        );
        wrap(out, "  ", &text, width, 4);
    }
    map(out, device, style);
    match (&report.settings.alloc_conf, report.settings.expandable_segments) {
        (Some(conf), _) => wrap(out, "  ", &format!("PYTORCH_ALLOC_CONF was {conf}"), width, 4),
        (None, Some(false)) if pool.free_bytes > pool.reserved_bytes / 20 => {
            wrap(out, "  ", "PYTORCH_ALLOC_CONF was not set: no expandable segments", width, 4);
        }
        _ => {}
    }
}

/// The pool in the order of its addresses: how full each part of it is.
fn map(out: &mut String, device: &DeviceReport, style: Style) {
    let Style { width, paint, .. } = style;
    let total: u64 = device.pool.map.iter().map(|part| part.bytes).sum();
    if total == 0 || device.pool.free_bytes * 200 < total {
        return;
    }
    let columns = width.saturating_sub(6).clamp(20, 90);
    let cells = if total > 16 << 30 { columns * 2 } else { columns };
    let mut used = vec![0.0; cells];
    let mut from = 0u64;
    for part in &device.pool.map {
        let to = from + part.bytes;
        let at = |bytes: u64| bytes as f64 / total as f64 * cells as f64;
        if !part.free {
            let (start, end) = (at(from), at(to));
            let last = (end.ceil() as usize).min(cells);
            for (cell, used) in used.iter_mut().enumerate().take(last).skip(start as usize) {
                *used += (end.min(cell as f64 + 1.0) - start.max(cell as f64)).max(0.0);
            }
        }
        from = to;
    }
    let steps: &[char] = if style.glyphs.ascii() { &['.', '-', '+', '#'] } else { &['·', '░', '▒', '▓', '█'] };
    let glyph = |used: &f64| steps[((used * (steps.len() - 1) as f64).round() as usize).min(steps.len() - 1)];
    for row in used.chunks(columns) {
        let _ = writeln!(out, "  {}", row.iter().map(glyph).collect::<String>());
    }
    let legend = format!(
        "the pool by address, {} a cell: {} full to {} free",
        Bytes(total / cells as u64),
        steps[steps.len() - 1],
        steps[0]
    );
    let _ = writeln!(out, "  {}", paint.dim(&cut(&legend, width - 2)));
}

fn grows(out: &mut String, device: &DeviceReport, style: Style) {
    let Style { width, paint, .. } = style;
    if device.growth.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n{}", paint.bold("What grows from step to step"));
    for growth in device.growth.iter().take(style.top.max(1)) {
        let place = growth.user.as_ref().or(growth.place.as_ref()).map_or(String::new(), |p| format!(": {p}"));
        let text = format!(
            "{:>10}  about {} a step in {} of {} steps, {}{place}",
            Bytes(growth.bytes).to_string(),
            Bytes(growth.bytes_per_step),
            growth.steps,
            growth.of_steps,
            growth.owner.words()
        );
        wrap(out, "  ", &text, width, 14);
    }
}

fn change(out: &mut String, failure: Option<&Failure>, knobs: &Knobs, style: Style) {
    let Style { width, paint, .. } = style;
    let Some(failure) = failure else { return };
    let _ = writeln!(out, "\n{}", paint.bold("Why"));
    for cause in failure.causes.iter().take(3) {
        let sure = match cause.score {
            s if s >= 0.8 => "",
            s if s >= 0.5 => "likely: ",
            _ => "perhaps: ",
        };
        wrap(out, "  ", &format!("{sure}{}", cause.summary), width, 4);
    }
    report::plan(out, failure, knobs, width, paint);
    let _ = writeln!(out, "\n{}", paint.bold("What to change"));
    let told = failure.fixes.iter().filter(|fix| fix.id != "other" || !fix.commands.is_empty());
    for (nth, fix) in told.take(5).enumerate() {
        report::list(out, nth + 1, fix, knobs, width, paint);
    }
}

/// A count with its thousands apart.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (nth, digit) in digits.chars().enumerate() {
        if nth > 0 && (digits.len() - nth).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
