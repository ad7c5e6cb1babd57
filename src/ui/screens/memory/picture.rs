//! One card three times: as it is now, at its peak, and what the memory model expects the job to take, by component.

use std::fmt::Write;

use ratatui::{
    Frame,
    layout::Rect,
    style::{Modifier, Style},
    text::{Line, Span},
    widgets::Paragraph,
};

use crate::{
    memory,
    model::{
        Bytes,
        estimate::{Estimate, GpuCapacity},
        failure::Verdict,
        knobs::Knob,
    },
    session::{
        Session,
        gpus::Gpu,
        headroom,
        holders::{Owner, Shares},
    },
    ui::{
        App, Theme,
        format::{duration, fit, gib, seconds_between},
        report::phase_words,
        widgets::{bar, panel::panel, row},
    },
};

/// Columns before a bar, and behind it.
const LABEL: usize = 10;
const FIGURE: usize = 20;

/// After so many steps a job has had its peak.
const SETTLED: u64 = 10;

/// Rows of the panel, border included.
pub fn rows_wanted(app: &App, width: u16) -> u16 {
    let rows = match (estimate(&app.session, Bytes(0)).is_some(), width) {
        (true, 130..) => 9,
        (true, _) => 10,
        (false, _) => 7,
    };
    rows + u16::from(selected(app).is_some_and(|gpu| headroom::of(&app.session, gpu).is_some()))
}

/// What the memory model expects of the job, where its model is known. Of a job that failed, with what the failure proves.
fn estimate(session: &Session, card: Bytes) -> Option<Estimate> {
    let capacity = (card.0 > 0).then(|| GpuCapacity { capacity_bytes: card.0, from: "this card".into() });
    if let Some(basis) = session.open_failure().and_then(|failure| failure.basis.as_ref()) {
        return Some(memory::estimate(&basis.model, &basis.knobs, capacity));
    }
    let knobs = session.knobs();
    let model = memory::models::find(knobs.str(Knob::Model)?)?;
    Some(memory::estimate(&model, knobs, capacity))
}

/// The card under the cursor.
fn selected(app: &App) -> Option<&Gpu> {
    let last = app.session.gpus.iter().count().checked_sub(1)?;
    app.session.gpus.iter().nth(app.memory.selected.min(last))
}

pub fn render(frame: &mut Frame, area: Rect, app: &App, theme: &Theme) {
    let Some(gpu) = selected(app) else { return };
    let title = format!("GPU {}", gpu.latest.index);
    let owner = Owner::of(&app.session);
    let now = owner.shares(gpu);
    let peak = gpu.at_peak.as_ref().and_then(|peak| Some((peak, owner.shares_at(gpu, peak)?)));
    let both: Vec<Shares> = now.into_iter().chain(peak.map(|(_, shares)| shares)).collect();
    let legend = super::legend(&both, usize::from(area.width).saturating_sub(title.len() + 9), theme);
    let inner = panel(frame, area, &title, legend, theme);
    let inside = Rect { x: inner.x + 1, width: inner.width.saturating_sub(2), ..inner };
    let width = usize::from(inside.width);
    let mut lines = Vec::new();
    if let Some(shares) = &now {
        lines.push(shown("now", shares, width, theme));
        lines.push(row::groups(super::figures(gpu, shares, "          job", theme), width, 2));
    } else {
        let text =
            if gpu.latest.lost { "lost: the driver does not answer" } else { "the driver does not tell its memory" };
        lines.push(Line::from(Span::styled(text, if gpu.latest.lost { theme.critical } else { theme.muted })));
    }
    if let Some((peak, shares)) = &peak {
        let ago = app.now().map(|now| seconds_between(peak.at, now));
        lines.push(shown("peak", shares, width, theme));
        let mut groups =
            vec![row::figure("          job", &format!("{} GiB", gib(shares.job)), 10, theme.bright, theme)];
        let when = ago.map(|ago| if ago < 1.0 { "now".to_string() } else { format!("{} ago", duration(ago)) });
        groups.extend(when.map(|when| vec![Span::styled(when, theme.muted)]));
        lines.push(row::groups(groups, width, 2));
    }
    let total = gpu.latest.memory_total.unwrap_or_default();
    if let Some(estimate) = estimate(&app.session, total).filter(|_| total.0 > 0) {
        let parts = components(&estimate);
        lines.push(estimated(&parts, total, estimate.peak.device_bytes, width, theme));
        let measured = peak.as_ref().map(|(_, shares)| shares.job);
        let steps = app.session.step().unwrap_or(0);
        let room = headroom::of(&app.session, gpu);
        lines.push(beside(&estimate, measured, steps, room.is_some(), width, theme));
        if let Some(room) = room {
            let style = if room.is_short() { theme.warning } else { theme.good };
            let text = format!("{:LABEL$}{}", "", room.sentence());
            lines.push(Line::from(Span::styled(fit(&text, width, theme.glyphs.pick("…", "~")), style)));
        }
        let named = parts.iter().enumerate().map(|(n, (name, bytes))| {
            let mark = theme.glyphs.pick("■", "*");
            vec![
                Span::styled(format!("{mark} "), theme.series(n)),
                Span::styled(format!("{name} "), theme.muted),
                Span::styled(gib(Bytes(*bytes)), theme.bright),
            ]
        });
        lines.extend(row::flow(named.collect(), width, 2));
    } else {
        let why = match app.session.knobs().str(Knob::Model) {
            None => "no estimate: which model is it? Give --model NAME or --config FILE".to_string(),
            Some(name) => {
                format!("no estimate: {name} is not known here. Give --model with its folder")
            }
        };
        let why = crate::model::Clean::new(&why);
        lines.push(Line::from(Span::styled(fit(why.as_str(), width, theme.glyphs.pick("…", "~")), theme.muted)));
    }
    frame.render_widget(Paragraph::new(lines), inside);
}

/// A bar of who holds what.
fn shown(label: &str, shares: &Shares, width: usize, theme: &Theme) -> Line<'static> {
    let mut spans = vec![Span::styled(format!("{label:<LABEL$}"), theme.muted)];
    spans.extend(bar::parts(&super::parts(shares, theme), width.saturating_sub(LABEL + FIGURE)));
    spans.extend(of_total(shares.used, shares.total, theme));
    Line::from(spans)
}

fn of_total(used: Bytes, total: Bytes, theme: &Theme) -> [Span<'static>; 2] {
    [
        Span::styled(format!(" {:>6}", gib(used)), theme.bright),
        Span::styled(format!(" / {:>6} GiB", gib(total)), theme.muted),
    ]
}

/// The components of the estimated peak, each in the field's words, with what PyTorch and CUDA add.
fn components(estimate: &Estimate) -> Vec<(&'static str, u64)> {
    let peak = &estimate.peak;
    let largest = estimate.phases.iter().max_by_key(|phase| phase.bytes);
    let mut parts: Vec<(&'static str, u64)> = largest
        .map(|phase| phase.components.named().to_vec())
        .unwrap_or_default()
        .into_iter()
        .map(|(name, bytes)| match name {
            "optimizer_states" => ("optimizer", bytes),
            "kv_cache" => ("KV cache", bytes),
            "reference_model" => ("reference", bytes),
            "autocast_cache" => ("autocast", bytes),
            other => (other, bytes),
        })
        .collect();
    parts.push(("cached, unused", peak.reserved_bytes.saturating_sub(peak.allocated_bytes)));
    parts.push(("CUDA context", peak.device_bytes.saturating_sub(peak.reserved_bytes)));
    // Too small to be seen or to matter.
    parts.retain(|(_, bytes)| *bytes >= 50 << 20);
    parts
}

/// The estimate as one bar, each component's name in its place.
fn estimated(parts: &[(&'static str, u64)], total: Bytes, all: u64, width: usize, theme: &Theme) -> Line<'static> {
    let room = width.saturating_sub(LABEL + FIGURE);
    let whole = total.0.max(all) as f64;
    let mut spans = vec![Span::styled(format!("{:<LABEL$}", "estimate"), theme.muted)];
    let (mut sum, mut used) = (0, 0);
    for (n, (name, bytes)) in parts.iter().enumerate() {
        sum += bytes;
        let end = ((sum as f64 / whole * room as f64).round() as usize).min(room);
        let columns = end.saturating_sub(used);
        if columns == 0 {
            continue;
        }
        used = end;
        spans.push(Span::styled(segment(name, *bytes, columns, theme), ground(n, theme)));
    }
    spans.push(Span::styled(theme.glyphs.pick("░", ".").repeat(room.saturating_sub(used)), theme.faint));
    spans.extend(of_total(Bytes(all), total, theme));
    Line::from(spans)
}

/// As much of name and size as fits into the segment, which ends in a line where colours do not tell it from the next.
fn segment(name: &str, bytes: u64, columns: usize, theme: &Theme) -> String {
    let plain = theme.series(0).fg.is_none() || theme.glyphs.ascii();
    let room = columns.saturating_sub(usize::from(plain));
    let size = gib(Bytes(bytes));
    let candidates = [format!(" {name} {size} "), format!(" {name} "), name.to_string(), size];
    let text = candidates.into_iter().find(|text| text.len() <= room).unwrap_or_default();
    let fill = if theme.glyphs.ascii() { '=' } else { ' ' };
    let mut out = format!("{text}{}", fill.to_string().repeat(room - text.len()));
    if plain {
        out.push(if theme.glyphs.ascii() { '|' } else { '▏' });
    }
    out
}

/// The colour of a component as a ground.
fn ground(n: usize, theme: &Theme) -> Style {
    match theme.series(n) {
        style if style.fg.is_some() => style.add_modifier(Modifier::REVERSED),
        _ if n.is_multiple_of(2) => theme.text.add_modifier(Modifier::REVERSED),
        _ => theme.text,
    }
}

/// The estimate in words, beside what was measured in so many steps; `agrees` where a low peak is explained by lengths
/// that were not reached yet.
fn beside(
    estimate: &Estimate,
    measured: Option<Bytes>,
    steps: u64,
    agrees: bool,
    width: usize,
    theme: &Theme,
) -> Line<'static> {
    let peak = &estimate.peak;
    let range = format!("{} to {} GiB", gib(Bytes(peak.low_bytes)), gib(Bytes(peak.high_bytes)));
    let mut style = theme.muted;
    let mut text = if let Some(measured) = measured.filter(|m| m.0 > 0) {
        let place = match measured.0 {
            m if m < peak.low_bytes && (agrees || steps < SETTLED) => "below it so far",
            m if m < peak.low_bytes => "less: is it sharded or offloaded?",
            m if m > peak.high_bytes => {
                style = theme.warning;
                "more than expected"
            }
            _ => "as expected",
        };
        format!("{:LABEL$}{range} expected; the job's peak is {} GiB, {place}", "", gib(measured))
    } else {
        let fits = if estimate.verdict == Verdict::DoesNotFit { "; it does not fit" } else { "" };
        format!("{:LABEL$}{range} expected, most {}{fits}", "", phase_words(peak.phase))
    };
    if !estimate.assumed.is_empty() {
        let _ = write!(text, " ({} settings assumed)", estimate.assumed.len());
    }
    Line::from(Span::styled(fit(&text, width, theme.glyphs.pick("…", "~")), style))
}
