//! What the verdict rests on: the findings of a failure, the alerts that stand, or what was checked and found well.

use crate::{
    model::{Clean, failure::Failure},
    session::{
        RunState, Session,
        series::Series,
        trends::{flat_for, median, time_to_full},
    },
};

use super::{
    App, Screen,
    format::{count, duration, gib, percent, sentence, short},
    report::{cause_words, phase_words},
    standing::{open_failure, share_used, silence, tempo, trend_words},
    theme::Tone,
    update::tone_of,
};

/// Where an item can be seen.
#[derive(Clone, Debug, PartialEq)]
pub enum Leads {
    Nowhere,
    Line(u64),
    Screen(Screen),
    Chart(Clean),
}

/// One item.
#[derive(Clone, Debug, PartialEq)]
pub struct Proof {
    pub tone: Tone,
    pub text: Clean,
    pub leads: Leads,
}

fn proof(tone: Tone, text: &str, leads: Leads) -> Proof {
    Proof { tone, text: Clean::new(&sentence(text)), leads }
}

/// Everything that speaks for the verdict, the weightiest first.
pub fn evidence(app: &App) -> Vec<Proof> {
    let session = &app.session;
    if let Some(failure) = open_failure(session) {
        return of_failure(failure);
    }
    let mut all: Vec<Proof> = Vec::new();
    if let Some(crash) = session.crash() {
        all.push(proof(Tone::Critical, crash.text.as_str(), Leads::Line(crash.line)));
        all.extend(
            crash.frame.as_ref().map(|f| proof(Tone::Quiet, &format!("raised in {f}"), Leads::Line(crash.line))),
        );
    }
    for alert in app.alerts.standing() {
        let leads = alert.line.map_or(Leads::Nowhere, Leads::Line);
        all.push(proof(tone_of(alert.severity), alert.text.as_str(), leads));
    }
    for source in session.sources.values() {
        if let Some(trouble) = &source.trouble {
            let text = format!("{} cannot be read: {trouble}", source.name);
            all.push(proof(Tone::Warning, &text, Leads::Screen(Screen::Log)));
        }
    }
    of_learning(session, &mut all);
    of_pace(session, &mut all);
    of_gpus(session, &mut all);
    // An alert may have said it already.
    let mut said = std::collections::BTreeSet::new();
    all.retain(|proof| said.insert(proof.text.as_str().to_string()));
    all
}

fn of_failure(failure: &Failure) -> Vec<Proof> {
    let line = |n: Option<u64>| n.filter(|l| *l > 0).map_or(Leads::Screen(Screen::Diagnosis), Leads::Line);
    let mut all = vec![proof(Tone::Critical, failure.message.as_str(), line(Some(failure.place.line)))];
    all.push(proof(
        Tone::Quiet,
        &format!("it happened {}", phase_words(failure.phase.id)),
        Leads::Screen(Screen::Diagnosis),
    ));
    for cause in &failure.causes {
        if let Some(settled_by) = &cause.settled_by {
            let text = format!("not enough data for {}: {settled_by} would settle it", cause_words(cause.id));
            all.push(proof(Tone::Quiet, &text, Leads::Screen(Screen::Diagnosis)));
            continue;
        }
        let text = format!("{} {}: {}", percent(cause.score), cause_words(cause.id), cause.summary);
        all.push(proof(Tone::Warning, &text, Leads::Screen(Screen::Diagnosis)));
        for evidence in &cause.evidence {
            all.push(Proof { tone: Tone::Quiet, text: evidence.text.clone(), leads: line(evidence.line) });
        }
    }
    all
}

/// The curves: how they moved, and whether they are numbers at all.
fn of_learning(session: &Session, all: &mut Vec<Proof>) {
    let metrics = &session.metrics;
    // The loss of reinforcement learning says little: it may stay flat while the reward rises.
    let keys: &[&str] = if metrics.series("reward").is_some() { &["reward"] } else { &["loss"] };
    for key in keys.iter().copied() {
        let Some(series) = metrics.series(key).filter(|s| s.len() >= 40) else { continue };
        let leads = Leads::Chart(Clean::new(key));
        if let Some(steps) = flat_for(series) {
            let tone = if key == "reward" { Tone::Warning } else { Tone::Quiet };
            all.push(proof(tone, &format!("{key} has only wandered for {} steps", count(steps)), leads));
        } else if let Some((change, steps)) = moved(series) {
            let sign = if change >= 0.0 { "+" } else { "-" };
            let text = format!("{key} {sign}{} over the last {} steps", short(change.abs()), count(steps));
            all.push(proof(Tone::Good, &text, leads));
        }
    }
    for (key, name) in [("kl", "KL"), ("completions/clipped_ratio", "share of completions cut at the cap")] {
        if let Some(now) = metrics.series(key).and_then(|s| median(s.samples().rev().take(10).map(|s| s.value))) {
            all.push(proof(Tone::Good, &format!("{name} {}", short(now)), Leads::Chart(Clean::new(key))));
        }
    }
    let bad: u64 = ["loss", "grad_norm"].iter().filter_map(|k| metrics.series(k)).map(Series::nonfinite).sum();
    if metrics.points() > 0 {
        let text = match bad {
            0 => format!("no NaN and no infinity in {} points", count(metrics.points())),
            n => format!("{} values of loss or gradient norm are not finite", count(n)),
        };
        all.push(proof(if bad == 0 { Tone::Good } else { Tone::Critical }, &text, Leads::Screen(Screen::Charts)));
    }
}

/// The change between the medians of the first and the last quarter of the last samples, and over how many steps.
fn moved(series: &Series) -> Option<(f64, u64)> {
    let recent: Vec<_> = series.samples().rev().take(300).collect();
    let quarter = recent.len() / 4;
    let value = |part: &[crate::session::series::Sample]| median(part.iter().map(|s| s.value));
    let steps = recent.first()?.step?.checked_sub(recent.last()?.step?)?;
    Some((value(&recent[..quarter])? - value(&recent[recent.len() - quarter..])?, steps))
}

fn of_pace(session: &Session, all: &mut Vec<Proof>) {
    let tempo = tempo(session);
    if let Some(pace) = tempo.seconds_per_step {
        let trend = tempo.trend.map(|t| trend_words(t).map_or("steady".to_string(), |w| format!("{w} against before")));
        let trend = trend.map(|t| format!(", {t}")).unwrap_or_default();
        let tone = if tempo.trend.is_some_and(|t| t > 0.25) { Tone::Warning } else { Tone::Good };
        all.push(proof(
            tone,
            &format!("a step takes {}{trend}", duration(pace)),
            Leads::Chart("step_time_seconds".into()),
        ));
    }
    let going = matches!(session.state(), RunState::Training | RunState::Silent);
    if let Some(quiet) = silence(session).filter(|_| going) {
        let tone = if session.state() == RunState::Silent { Tone::Warning } else { Tone::Good };
        let ago = if quiet < 1.0 { "just now".to_string() } else { format!("{} ago", duration(quiet)) };
        all.push(proof(tone, &format!("the last output came {ago}"), Leads::Screen(Screen::Log)));
    }
}

fn of_gpus(session: &Session, all: &mut Vec<Proof>) {
    let n = session.gpus.len();
    if n == 0 {
        return;
    }
    let on = Leads::Screen(Screen::Gpus);
    let lost = session.gpus.iter().filter(|g| g.latest.lost).count();
    if lost > 0 {
        all.push(proof(Tone::Critical, &format!("{lost} of {n} GPUs no longer answer"), on.clone()));
    }
    let answering = || session.gpus.iter().filter(|g| !g.latest.lost);
    let memory = Leads::Screen(Screen::Memory);
    let fullest = answering().filter_map(|g| Some((share_used(g)?, g))).max_by(|a, b| a.0.total_cmp(&b.0));
    if let Some((share, gpu)) = fullest {
        let left =
            gpu.latest.memory_total.unwrap_or_default().saturating_sub(gpu.latest.memory_used.unwrap_or_default());
        let tone = if share > 0.97 { Tone::Warning } else { Tone::Good };
        let text = format!("GPU {} is the fullest: {}, {} GiB free", gpu.latest.index, percent(share), gib(left));
        all.push(proof(tone, &text, memory.clone()));
    }
    match answering().filter_map(|g| Some((time_to_full(g)?, g))).min_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((left, gpu)) => {
            let text = format!("memory of GPU {} grows: full in {} at this slope", gpu.latest.index, duration(left));
            all.push(proof(Tone::Warning, &text, memory));
        }
        None => all.push(proof(Tone::Good, "memory does not grow from step to step", memory)),
    }
    if let Some((celsius, gpu)) = answering().filter_map(|g| Some((g.latest.temperature_c?, g))).max_by_key(|(c, _)| *c)
    {
        let tone = if celsius >= 87 { Tone::Warning } else { Tone::Good };
        all.push(proof(tone, &format!("the hottest is GPU {} with {celsius} °C", gpu.latest.index), on.clone()));
    }
    for gpu in answering() {
        let slowed: Vec<&str> = gpu.latest.slowed_by().collect();
        if !slowed.is_empty() {
            let text = format!("GPU {} is slowed down by {}", gpu.latest.index, slowed.join(" and "));
            all.push(proof(Tone::Warning, &text, on.clone()));
        }
    }
}
