//! The card at the failure as a bar, and the request that did not fit to the same scale.

use std::fmt::Write;

use ratatui::{
    style::Style,
    text::{Line, Span},
};
use unicode_width::UnicodeWidthStr;

use crate::{
    model::{
        Bytes,
        failure::{Failure, Memory, Numbers},
    },
    ui::{
        Theme,
        format::{gib, sentence},
        widgets::bar,
    },
};

use super::Page;

/// The card as a bar, what each part is, and the request that did not fit.
pub(super) fn picture(page: &mut Page, failure: &Failure, width: usize, theme: &Theme) {
    let numbers = &failure.numbers;
    let parts = parts_of(numbers);
    let known: u64 = parts.iter().map(|(_, bytes)| bytes).sum();
    let Some(whole) = capped(numbers).or(numbers.capacity_bytes).or(Some(known)).filter(|w| *w > 0 && known > 0) else {
        if let Some(asked) = numbers.requested_bytes {
            page.text(&format!("{} asked", Bytes(asked)), 0, width, theme.critical);
            page.blank();
        }
        return;
    };
    let style = |name: &str| match name {
        ALLOCATED => theme.series(0),
        RESERVED => theme.series(1),
        OVERHEAD => theme.series(3),
        OTHERS => theme.series(4),
        FREE => theme.faint,
        _ => theme.muted,
    };
    let symbol = |name: &str| match name {
        ALLOCATED => theme.glyphs.pick("█", "#"),
        RESERVED => theme.glyphs.pick("▓", "="),
        OVERHEAD => theme.glyphs.pick("▒", "%"),
        OTHERS => theme.glyphs.pick("▚", "o"),
        FREE => theme.glyphs.pick("░", "."),
        _ => theme.glyphs.pick("▒", ":"),
    };
    let bar_width = width.min(100);
    let segments: Vec<(f64, Style, &'static str)> =
        parts.iter().map(|(name, bytes)| (*bytes as f64, style(name), symbol(name))).collect();
    let name = match (failure.memory, failure.device) {
        (Memory::Gpu, Some(device)) => format!("GPU {device}, {} GiB", gib(Bytes(whole))),
        (Memory::Gpu, None) => format!("the GPU, {} GiB", gib(Bytes(whole))),
        (Memory::Host, _) => format!("the host, {} GiB", gib(Bytes(whole))),
        (Memory::Shm, _) => format!("/dev/shm, {} GiB", gib(Bytes(whole))),
        (Memory::None, _) => format!("{} GiB", gib(Bytes(whole))),
    };
    let name = match (capped(numbers), numbers.capacity_bytes) {
        (Some(cap), Some(card)) => {
            let card = gib(Bytes(card));
            format!("{}: {} GiB of the card's {card} are allowed", device_words(failure), gib(Bytes(cap)))
        }
        _ => name,
    };
    page.row(Line::from(Span::styled(sentence(&name), theme.text)));
    let bar = bar::parts(&segments, bar_width);
    page.row(Line::from(bar.clone()));
    if width >= 84 {
        page.row(Line::from(bar));
    }
    if let Some(asked) = numbers.requested_bytes {
        request(page, asked, numbers, whole, bar_width, width, theme);
    }
    // In one narrow column two entries share a row, so that the fixes come into sight.
    let across = if (72..84).contains(&width) { 2 } else { 1 };
    let entry = |(name, bytes): &(&'static str, u64)| {
        vec![
            Span::styled(format!("{} ", symbol(name)), style(name)),
            Span::styled(format!("{name:<26}"), theme.text),
            Span::styled(format!("{:>6}", gib(Bytes(*bytes))), theme.bright),
            Span::styled(if across == 1 { " GiB" } else { "" }, theme.muted),
        ]
    };
    for pair in parts.chunks(across) {
        let mut row = Vec::new();
        for part in pair {
            if !row.is_empty() {
                row.push(Span::raw("  "));
            }
            row.extend(entry(part));
        }
        page.row(Line::from(row));
    }
    page.blank();
}

/// What the process may use, where that is less than the card has.
fn capped(numbers: &Numbers) -> Option<u64> {
    let allowed = numbers.allowed_bytes?;
    numbers.capacity_bytes.is_none_or(|card| allowed < card).then_some(allowed)
}

fn device_words(failure: &Failure) -> String {
    failure.device.map_or_else(|| "the GPU".to_string(), |device| format!("GPU {device}"))
}

/// The request to the scale of the card, from where free memory begins, with what it lacks.
fn request(page: &mut Page, asked: u64, numbers: &Numbers, whole: u64, bar: usize, width: usize, theme: &Theme) {
    let free = room_left(numbers).unwrap_or(0);
    let columns = |bytes: u64| (bytes as f64 / whole as f64 * bar as f64).round() as usize;
    let start = bar.saturating_sub(columns(free));
    let length = columns(asked).clamp(1, (width.saturating_sub(1)).max(1));
    let start = start.min(width.saturating_sub(length));
    let edge = theme.glyphs.pick("▲", "^").repeat(length);
    page.row(Line::from(vec![Span::raw(" ".repeat(start)), Span::styled(edge, theme.critical)]));
    let short = asked.saturating_sub(free);
    let mut text = format!("{} asked", Bytes(asked));
    if room_left(numbers).is_some() {
        if short > 0 {
            let _ = write!(text, ", {} too much", Bytes(short));
        } else {
            text.push_str(", and as much was free: not in one piece, or not for this process");
        }
    }
    let pad = start.saturating_sub(text.width() / 2).min(width.saturating_sub(text.width()));
    page.text(&text, pad, width, theme.critical);
}

/// What the process could still have had: of the card, or under its limit.
fn room_left(numbers: &Numbers) -> Option<u64> {
    match (capped(numbers), numbers.in_use_bytes) {
        (Some(cap), Some(used)) => Some(cap.saturating_sub(used)),
        _ => numbers.free_bytes,
    }
}

const ALLOCATED: &str = "allocated by PyTorch";
const RESERVED: &str = "reserved, not allocated";
const OVERHEAD: &str = "CUDA context and libraries";
const OTHERS: &str = "other processes";
const FREE: &str = "free";
const USED: &str = "in use";

/// The parts of the card that the message tells apart; together never more than the card.
fn parts_of(numbers: &Numbers) -> Vec<(&'static str, u64)> {
    let mut parts = Vec::new();
    let allocated = numbers.allocated_bytes;
    let reserved = numbers.reserved_unallocated_bytes;
    if let Some(bytes) = allocated {
        parts.push((ALLOCATED, bytes));
    }
    if let Some(bytes) = reserved {
        parts.push((RESERVED, bytes));
    }
    let torch = allocated.unwrap_or(0).saturating_add(reserved.unwrap_or(0));
    if let Some(used) = numbers.in_use_bytes {
        let name = if torch == 0 { USED } else { OVERHEAD };
        parts.push((name, used.saturating_sub(torch)));
    }
    if capped(numbers).is_some() {
        parts.extend(room_left(numbers).map(|free| (FREE, free)));
    } else if let (Some(capacity), Some(free)) = (numbers.capacity_bytes, numbers.free_bytes) {
        let own = numbers.in_use_bytes.unwrap_or(torch).max(torch);
        let name = if numbers.in_use_bytes.is_some() { OTHERS } else { "everything else" };
        parts.push((name, capacity.saturating_sub(free).saturating_sub(own)));
    }
    if let Some(free) = numbers.free_bytes.filter(|_| capped(numbers).is_none()) {
        parts.push((FREE, free));
    }
    // A hair of difference is rounding in the message, not a part of the card.
    let hair = numbers.capacity_bytes.unwrap_or(0) / 500;
    parts.retain(|(_, bytes)| *bytes > hair);
    parts
}
