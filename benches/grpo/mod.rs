//! A made-up GRPO log of any length, the same at each call.

use std::io::{self, Write};

/// A xorshift generator: the numbers need only differ.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// A number as Python's `f"{x:.4g}"` writes it.
fn four_digits(value: f64) -> String {
    if value == 0.0 {
        return "0".to_string();
    }
    let mut exponent = value.abs().log10().floor() as i32;
    if value.abs() / 10f64.powi(exponent) >= 9.9995 {
        exponent += 1;
    }
    if (-4..4).contains(&exponent) {
        let text = format!("{value:.*}", (3 - exponent).max(0) as usize);
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_string() } else { text }
    } else {
        let digits = format!("{:.3}", value / 10f64.powi(exponent));
        let digits = digits.trim_end_matches('0').trim_end_matches('.');
        format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
    }
}

fn clock(seconds: u64) -> String {
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes:02}:{seconds:02}") }
}

fn bar(out: &mut impl Write, done: u64, total: u64, rate: f64) -> io::Result<()> {
    let part = done as f64 / total as f64;
    let full = (part * 10.0) as usize;
    let edge = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][(part * 80.0) as usize % 8];
    let bar = format!("{}{edge}", "█".repeat(full));
    let elapsed = done as f64 / rate;
    let left = (total - done) as f64 / rate;
    write!(
        out,
        "\r{:3.0}%|{bar}{}| {done}/{total} [{}<{}, {:5.2}s/it]",
        part * 100.0,
        " ".repeat(10 - bar.chars().count().min(10)),
        clock(elapsed as u64),
        clock(left as u64),
        1.0 / rate
    )
}

/// Writes at least `size` bytes and gives the number of points.
pub fn write(out: &mut impl Write, size: u64) -> io::Result<u64> {
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    // A point with its redraws is a little longer than this: the file ends before the run does.
    let total = (size / 1300).max(1) * 6;
    let (mut written, mut points, mut step) = (0u64, 0, 0u64);
    let mut text = Vec::with_capacity(4096);
    while written < size && step < total {
        text.clear();
        for _ in 0..6 {
            step += 1;
            bar(&mut text, step, total, 0.35 + noise.next() / 50.0)?;
        }
        let progress = step as f64 / total as f64;
        let spike = if points % 1000 == 777 { 40.0 } else { 1.0 };
        let length = 180.0 + 200.0 * progress + 10.0 * noise.next();
        let reward = progress + noise.next() / 4.0;
        let values: [(&str, f64); 25] = [
            ("loss", (noise.next() - 0.5) / 100.0),
            ("grad_norm", (0.2 + noise.next()) * spike),
            ("learning_rate", 1e-6 * (1.0 - progress)),
            ("num_tokens", (step * 4096) as f64),
            ("completions/mean_length", length),
            ("completions/min_length", (length / 2.0).floor()),
            ("completions/max_length", 512.0),
            ("completions/clipped_ratio", noise.next() / 8.0),
            ("completions/mean_terminated_length", length - 3.0),
            ("completions/min_terminated_length", (length / 2.0).floor()),
            ("completions/max_terminated_length", 498.0),
            ("rewards/accuracy_reward/mean", reward * 0.7),
            ("rewards/accuracy_reward/std", noise.next() / 2.0),
            ("rewards/format_reward/mean", reward * 0.3),
            ("rewards/format_reward/std", noise.next() / 2.0),
            ("reward", reward),
            ("reward_std", noise.next() / 3.0),
            ("frac_reward_zero_std", noise.next() / 10.0),
            ("kl", noise.next() * progress / 10.0),
            ("entropy", 2.0 - progress + noise.next() / 10.0),
            ("clip_ratio/low_mean", 0.0),
            ("clip_ratio/high_mean", noise.next() / 1000.0),
            ("clip_ratio/region_mean", noise.next() / 1000.0),
            ("step_time", 2.5 + noise.next()),
            ("epoch", progress * 3.0),
        ];
        // tqdm.write: the bar is blanked, the text printed, the bar drawn again.
        write!(text, "\r{}\r{{", " ".repeat(78))?;
        for (i, (key, value)) in values.iter().enumerate() {
            write!(text, "{}'{key}': '{}'", if i > 0 { ", " } else { "" }, four_digits(*value))?;
        }
        text.extend_from_slice(b"}\n");
        out.write_all(&text)?;
        written += text.len() as u64;
        points += 1;
    }
    Ok(points)
}
