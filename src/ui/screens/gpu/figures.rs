//! One GPU in figures: what is wrong in words, everything that the driver tells, and what it does not tell.

use std::collections::BTreeMap;

use ratatui::text::{Line, Span};

use crate::{
    model::{
        Bytes, Clean,
        gpu::{GpuSample, MigInstance},
    },
    session::gpus::Gpu,
    ui::{
        App, Theme,
        format::{duration, fit, gib, seconds_between},
        widgets::{bar, row},
    },
};

/// A group of spans that stays together.
type Group = Vec<Span<'static>>;

pub fn lines(gpu: &Gpu, app: &App, width: usize, theme: &Theme) -> Vec<Line<'static>> {
    let s = &gpu.latest;
    let mut lines = troubles(gpu, app, width, theme);
    if s.lost {
        let advice = "dmesg shows the Xid; a lost GPU usually needs a reset of the machine.";
        lines.push(Line::from(Span::styled(fit(advice, width, theme.glyphs.pick("…", "~")), theme.muted)));
        return lines;
    }
    lines.extend(parts(&s.mig, width, theme));
    for groups in [load(s, theme), heat(s, theme), memory(gpu, theme), links(s, theme), health(s, theme)] {
        lines.extend(row::flow(groups, width, 3));
    }
    lines.extend(untold(s, width, theme));
    lines
}

fn figure(label: &str, value: Option<String>, width: usize, theme: &Theme) -> Group {
    value.map(|v| row::figure(label, &v, width, theme.bright, theme)).unwrap_or_default()
}

fn percent(share: Option<f32>) -> Option<String> {
    share.map(|p| format!("{p:.0} %"))
}

fn load(s: &GpuSample, theme: &Theme) -> Vec<Group> {
    vec![
        figure("busy", s.utilization.map(|u| format!("{u} %")), 6, theme),
        figure("SM active", percent(s.sm_active_percent), 6, theme),
        figure("tensor cores", percent(s.tensor_active_percent), 6, theme),
        figure("memory bus", s.memory_utilization.map(|u| format!("{u} %")), 6, theme),
        figure("SM clock", s.sm_clock_mhz.map(|c| clock(c, s.max_sm_clock_mhz)), 15, theme),
        figure("memory clock", s.memory_clock_mhz.map(|c| format!("{c} MHz")), 9, theme),
        figure("P-state", s.performance_state.map(|p| format!("P{p}")), 4, theme),
    ]
}

fn heat(s: &GpuSample, theme: &Theme) -> Vec<Group> {
    vec![
        figure("temperature", s.temperature_c.map(|t| format!("{t} °C")), 7, theme),
        figure("of the memory", s.memory_temperature_c.map(|t| format!("{t} °C")), 7, theme),
        figure("power", s.power_w.filter(|w| w.is_finite()).map(|w| limited(w, s.power_limit_w)), 12, theme),
        figure("fan", s.fan_percent.map(|f| format!("{f} %")), 6, theme),
    ]
}

fn memory(gpu: &Gpu, theme: &Theme) -> Vec<Group> {
    let s = &gpu.latest;
    let size = |bytes: Option<Bytes>| bytes.map(|b| format!("{} GiB", gib(b)));
    vec![
        figure("used", size(s.memory_used), 10, theme),
        figure("free", size(s.memory_free), 10, theme),
        figure("reserved", size(s.memory_reserved), 10, theme),
        figure("peak", size(gpu.peak_used), 10, theme),
    ]
}

fn links(s: &GpuSample, theme: &Theme) -> Vec<Group> {
    let slots = s.pcie_generation.zip(s.pcie_width).map(|(g, w)| format!("gen{g} x{w}"));
    let links = s.nvlink_active.map(|up| match s.nvlink_count {
        Some(all) => format!("{up} of {all}"),
        None => up.to_string(),
    });
    let (into, out) = (theme.glyphs.pick("↓", "in "), theme.glyphs.pick("↑", "out "));
    let rate = |kib: Option<u32>, sign: &str| kib.map(|kib| format!("{sign}{}", traffic(kib)));
    vec![
        figure("PCIe", slots, 8, theme),
        figure("", rate(s.pcie_rx_kib_s, into), 13, theme),
        figure("", rate(s.pcie_tx_kib_s, out), 13, theme),
        figure("NVLink", links, 8, theme),
        figure("", rate(s.nvlink_rx_kib_s, into), 13, theme),
        figure("", rate(s.nvlink_tx_kib_s, out), 13, theme),
    ]
}

fn health(s: &GpuSample, theme: &Theme) -> Vec<Group> {
    let errors = s.ecc_uncorrected.map(|n| match s.ecc_corrected {
        Some(corrected) => format!("{n}, corrected {corrected}"),
        None => n.to_string(),
    });
    let errors = if s.ecc_enabled == Some(false) { Some("off".to_string()) } else { errors };
    vec![
        figure("ECC errors", errors, 14, theme),
        figure("rows replaced", s.remapped_rows.map(|n| n.to_string()), 3, theme),
        figure(
            "MIG",
            s.mig_enabled.map(|on| if on { format!("{} parts", s.mig.len()) } else { "off".into() }),
            7,
            theme,
        ),
    ]
}

/// The parts of a card that MIG divides: a line each, or where they are many and lines are short, as many as fit in one.
fn parts(all: &[MigInstance], width: usize, theme: &Theme) -> Vec<Line<'static>> {
    if all.len() <= 3 || width >= 120 {
        return all.iter().map(|instance| part(instance, width, theme)).collect();
    }
    let group = |instance: &MigInstance| {
        let (Some(total), Some(used)) = (instance.memory_total, instance.memory_used) else {
            return vec![Span::styled(format!("{} not told  ", profile(instance)), theme.muted)];
        };
        let share = used.as_f64() / total.as_f64().max(1.0);
        vec![
            Span::styled(format!("{} ", profile(instance)), theme.accent),
            Span::styled(format!("{:>5}", gib(used)), theme.fullness(share)),
            Span::styled(format!("/{:<5}", gib(total)), theme.muted),
        ]
    };
    let heading = vec![Span::styled("MIG / GiB", theme.muted)];
    row::flow(std::iter::once(heading).chain(all.iter().map(group)).collect(), width, 2)
}

/// The end of its name, which tells one from the other: `1g.10gb`.
fn profile(instance: &MigInstance) -> &str {
    instance.name.as_str().rsplit_once("MIG ").map_or(instance.name.as_str(), |(_, profile)| profile)
}

fn part(instance: &MigInstance, width: usize, theme: &Theme) -> Line<'static> {
    let mut spans = vec![Span::styled(
        format!("MIG {:<12}", fit(profile(instance), 12, theme.glyphs.pick("…", "~"))),
        theme.accent,
    )];
    let (Some(total), Some(used)) = (instance.memory_total, instance.memory_used) else {
        spans.push(Span::styled("the driver does not tell its memory", theme.muted));
        return Line::from(spans);
    };
    let share = used.as_f64() / total.as_f64().max(1.0);
    let room = width.saturating_sub(16 + 20);
    spans.extend(bar::full(share, room.min(60), theme.fullness(share), theme));
    spans.push(Span::styled(format!("{:>7}", gib(used)), theme.bright));
    spans.push(Span::styled(format!(" / {} GiB", gib(total)), theme.muted));
    Line::from(spans)
}

/// What is wrong, the worst first.
fn troubles(gpu: &Gpu, app: &App, width: usize, theme: &Theme) -> Vec<Line<'static>> {
    let s = &gpu.latest;
    let mut lines = Vec::new();
    if s.lost {
        let since = match (gpu.lost_since, app.now()) {
            (Some(since), Some(now)) => format!(" for {}", duration(seconds_between(since, now))),
            _ => String::new(),
        };
        let why = s.refused.first().map_or("the driver does not answer for this GPU", |(_, why)| why.as_str());
        lines.push((true, format!("Lost{since}: {}.", Clean::new(why))));
    }
    lines.extend(gpu.troubles().into_iter().map(|t| (t.is_severe, t.text)));
    let held: Vec<&str> = s.held_back_by().filter(|reason| s.slowed_by().all(|bad| bad != *reason)).collect();
    let mut lines: Vec<Line> = lines
        .into_iter()
        .map(|(severe, text)| {
            let (mark, style) = if severe { ("✖", theme.critical) } else { ("▲", theme.warning) };
            let mark = if theme.glyphs.ascii() { "!" } else { mark };
            Line::from(Span::styled(fit(&format!("{mark} {text}"), width, theme.glyphs.pick("…", "~")), style))
        })
        .collect();
    if !held.is_empty() {
        let text = format!("clocks held back by {}", held.join(", "));
        lines.push(Line::from(Span::styled(fit(&text, width, theme.glyphs.pick("…", "~")), theme.muted)));
    }
    lines
}

/// What the driver refuses, by its reason.
fn untold(s: &GpuSample, width: usize, theme: &Theme) -> Vec<Line<'static>> {
    let mut by_reason: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (what, why) in &s.refused {
        by_reason.entry(why).or_default().push(what);
    }
    let line = |(why, what): (&str, Vec<&str>)| {
        let text = Clean::new(&format!("{why}: {}", what.join(", ")));
        Line::from(Span::styled(fit(text.as_str(), width, theme.glyphs.pick("…", "~")), theme.muted))
    };
    by_reason.into_iter().map(line).collect()
}

fn limited(watts: f32, limit: Option<f32>) -> String {
    limit.map_or_else(|| format!("{watts:.0} W"), |l| format!("{watts:.0} / {l:.0} W"))
}

fn clock(mhz: u32, most: Option<u32>) -> String {
    most.map_or_else(|| format!("{mhz} MHz"), |m| format!("{mhz} / {m} MHz"))
}

/// A rate of traffic in the unit that suits it.
fn traffic(kib: u32) -> String {
    match f64::from(kib) {
        k if k >= 1024.0 * 1024.0 => format!("{:.1} GiB/s", k / 1024.0 / 1024.0),
        k if k >= 1024.0 => format!("{:.0} MiB/s", k / 1024.0),
        k => format!("{k:.0} KiB/s"),
    }
}
