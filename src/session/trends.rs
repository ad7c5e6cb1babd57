//! Trends in series and in memory: flat, growing, standing out. Pure arithmetic.

use super::{
    gpus::Gpu,
    series::{Sample, Series},
};

/// Samples over which a plateau is looked for.
const FLAT_LOOKS_BACK: usize = 4000;

/// Median of the finite values.
pub fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.filter(|v| v.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// Median, and the usual distance from it (1.4826 times the median absolute deviation, which for normal noise is its
/// standard deviation).
pub fn middle_and_scatter(values: &[f64]) -> Option<(f64, f64)> {
    let middle = median(values.iter().copied())?;
    let scatter = median(values.iter().map(|v| (v - middle).abs()))?;
    Some((middle, scatter * 1.4826))
}

/// For how many steps a series has only wandered: the means of the thirds of its tail differ by less than the scatter
/// of those means allows (two standard errors), and by less than a third of the scatter itself.
pub fn flat_for(series: &Series) -> Option<u64> {
    let mut samples: Vec<Sample> = series.samples().rev().take(FLAT_LOOKS_BACK).collect();
    samples.reverse();
    let mut found = None;
    let mut n = 100;
    while n <= samples.len() {
        let tail = &samples[samples.len() - n..];
        if !is_flat(tail.iter().map(|s| s.value)) {
            break;
        }
        if let (Some(first), Some(last)) = (tail[0].step, tail[n - 1].step) {
            found = last.checked_sub(first).filter(|steps| *steps >= 100);
        }
        n += (n / 4).max(1);
    }
    found
}

fn is_flat(values: impl Iterator<Item = f64>) -> bool {
    let values: Vec<f64> = values.filter(|v| v.is_finite()).collect();
    if values.len() < 60 {
        return false;
    }
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    let third = values.len() / 3;
    let (early, late) = (mean(&values[..third]), mean(&values[values.len() - third..]));
    let middle = mean(&values);
    let spread = (values.iter().map(|v| (v - middle).powi(2)).sum::<f64>() / values.len() as f64).sqrt();
    let error = spread * (2.0 / third as f64).sqrt();
    (late - early).abs() <= (2.0 * error).min(spread / 3.0)
}

/// Seconds until a GPU is full at the slope of its high marks over the last ten minutes. A slope counts only when it
/// rises through each third of that time, so that a step's saw teeth and the first allocations say nothing.
pub fn time_to_full(gpu: &Gpu) -> Option<f64> {
    let total = gpu.latest.memory_total?.as_f64();
    let (newest, ..) = gpu.history.back()?;
    let recent: Vec<(f64, f64)> = gpu
        .history
        .iter()
        .rev()
        .map(|(at, used, _)| (newest.duration_since(*at).as_secs_f64(), *used))
        .take_while(|(ago, _)| *ago <= 600.0)
        .filter_map(|(ago, used)| used.map(|u| (-ago, u.as_f64())))
        .collect();
    let span = -recent.last()?.0;
    if span < 300.0 {
        return None;
    }
    let high = |from: f64, to: f64| {
        recent
            .iter()
            .filter(|(at, _)| *at >= -span + from * span && *at <= -span + to * span)
            .map(|(_, used)| *used)
            .fold(f64::NEG_INFINITY, f64::max)
    };
    let (a, b, c) = (high(0.0, 1.0 / 3.0), high(1.0 / 3.0, 2.0 / 3.0), high(2.0 / 3.0, 1.0));
    let least = total * 0.002;
    if b - a < least || c - b < least {
        return None;
    }
    let slope = (c - a) / (span * 2.0 / 3.0);
    Some((total - c).max(0.0) / slope)
}
