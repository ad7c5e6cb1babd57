//! The run as single lines of text, for a terminal that cannot move its cursor.

use crate::session::{RunState, series::Series};

use super::{
    App,
    format::{clock, duration, gib, percent, short},
    standing::{standing, tempo},
};

/// Curves that a line names, where the run logs them.
const NAMED: [&str; 4] = ["loss", "eval_loss", "reward", "grad_norm"];

/// How it stands now.
pub fn line(app: &App) -> String {
    let session = &app.session;
    let tempo = tempo(session);
    let mut parts = Vec::new();
    parts.extend(app.now().map(|now| clock(now, &app.zone)));
    parts.push(session.state().as_str().to_string());
    match (tempo.step, tempo.total) {
        (Some(step), Some(total)) => parts.push(format!("step {step}/{total}")),
        (Some(step), None) => parts.push(format!("step {step}")),
        _ => {}
    }
    parts.extend(tempo.share().map(percent));
    parts.extend(tempo.seconds_per_step.map(|s| format!("{}/step", duration_of_step(s))));
    if session.state() == RunState::Training {
        parts.extend(tempo.remaining_seconds.map(|s| format!("ETA {}", duration(s))));
    }
    for name in NAMED {
        let last = session.metrics.series(name).and_then(Series::last);
        parts.extend(last.map(|sample| format!("{name} {}", short(sample.value))));
    }
    let fullest = session.gpus.iter().filter_map(|gpu| Some((gpu.latest.memory_used?, gpu)));
    if let Some((used, gpu)) = fullest.max_by_key(|(used, _)| *used) {
        let total = gpu.latest.memory_total.map(|total| format!("/{}", gib(total))).unwrap_or_default();
        let busy = gpu.latest.utilization.map(|u| format!(" {u} % busy")).unwrap_or_default();
        parts.push(format!("GPU{} {}{total} GiB{busy}", gpu.latest.index, gib(used)));
    }
    parts.push(standing(session, &app.alerts).text.to_string());
    plain(app, &parts.join("  "))
}

/// A text with nothing but what the terminal shows.
pub fn plain(app: &App, text: &str) -> String {
    if app.theme().glyphs.ascii() {
        text.chars()
            .map(|c| if c.is_ascii() { c } else { '?' })
            .collect::<String>()
            .replace("? C", " C")
            .replace("?C", "C")
    } else {
        text.to_string()
    }
}

fn duration_of_step(seconds: f64) -> String {
    if seconds < 100.0 { format!("{seconds:.1} s") } else { duration(seconds) }
}
