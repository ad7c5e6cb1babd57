//! The messages of PyTorch's caching allocators, in all their generations, whole or cut.

use std::sync::LazyLock;

use regex::Regex;

use crate::model::{
    Clean,
    failure::{Numbers, OtherProcess},
};

use super::size;
use crate::parse::pattern;

/// A size; the unit is wanted, so that a number cut before it is never taken.
const SIZE: &str = r"(\d[\d.,]*\s*(?:[KMGT]iB|bytes|[KMGT]B))";

fn regex(pattern: &str) -> Regex {
    pattern::ascii(&format!("(?i){}", pattern.replace("SIZE", SIZE))).expect("the pattern is tested")
}

static START: LazyLock<Regex> =
    LazyLock::new(|| regex(r"(?:\b(?<backend>[A-Z]{2,6})\s+)?out\s+of\s+memory\.\s*Tried\s+to\s+allocate(?:\s|$)"));
static REQUESTED: LazyLock<Regex> = LazyLock::new(|| regex(r"Tried\s+to\s+allocate\s*SIZE"));
/// The older generations put their figures in one parenthesis.
static PARENTHESIS: LazyLock<Regex> = LazyLock::new(|| regex(r"SIZE\s*\((?:GPU|Device|[A-Z]{2,5})\s*\d"));
static DEVICE: LazyLock<Regex> =
    LazyLock::new(|| regex(r"(?:GPU|Device|\((?:NPU|MLU|XPU|GCU|SUPA|DCU|MUSA))\s*(\d+)\s*(?:;|has\b)"));
static CAPACITY: LazyLock<Regex> =
    LazyLock::new(|| regex(r"total\s*capac(?:i)?ty\s*of\s*SIZE|SIZE\s*total\s*capacity"));
static FREE: LazyLock<Regex> = LazyLock::new(|| regex(r"of\s*which\s*SIZE\s*is\s*free|(?:;|,)\s*SIZE\s*free"));
static MINE: LazyLock<Regex> = LazyLock::new(|| regex(r"this\s*process\s*has\s*SIZE\s*memory\s*in\s*use"));
static OTHERS: LazyLock<Regex> =
    LazyLock::new(|| regex(r"(?:^|[^s]\s)Process\s*(?<pid>\d+)\s*has\s*SIZE\s*memory\s*in\s*use"));
static ALLOWED: LazyLock<Regex> = LazyLock::new(|| regex(r"SIZE\s*allowed"));
static ALLOCATED: LazyLock<Regex> =
    LazyLock::new(|| regex(r"allocated\s*memory\s*SIZE\s*is\s*allocated|SIZE\s*already\s*allocated"));
static UNALLOCATED: LazyLock<Regex> =
    LazyLock::new(|| regex(r"SIZE\s*is\s*reserved\s*by\s*PyTorch\s*but\s*unallocated"));
static POOLS: LazyLock<Regex> = LazyLock::new(|| regex(r"with\s*SIZE\s*allocated\s*in\s*private\s*pools"));
static RESERVED: LazyLock<Regex> = LazyLock::new(|| regex(r"SIZE\s*reserved\s*in\s*total"));
static CACHED: LazyLock<Regex> = LazyLock::new(|| regex(r"SIZE\s*cached"));

/// What a message says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    pub kind: &'static str,
    pub device: Option<u32>,
    pub numbers: Numbers,
    pub others: Vec<OtherProcess>,
    /// What older messages call reserved in total: in use and unused together.
    pub reserved: Option<u64>,
}

/// Where a message of this kind begins in `text`.
pub fn find(text: &str) -> Option<usize> {
    // No card has an exabyte: that size is a broken collective's, and a family of its own.
    let exabyte = |m: &regex::Match<'_>| text[m.end()..].trim_start().to_ascii_lowercase().starts_with("more than 1eb");
    START.find(text).filter(|m| !exabyte(m)).map(|m| m.start())
}

/// Reads a message, of which `text` is the beginning and as much as there is.
pub fn read(text: &str) -> Message {
    let first =
        |r: &Regex| r.captures(text).and_then(|c| c.iter().skip(1).flatten().find_map(|m| size::read(m.as_str())));
    let backend = START.captures(text).and_then(|c| Some(c.name("backend")?.as_str().to_ascii_uppercase()));
    let mut numbers = Numbers {
        requested_bytes: first(&REQUESTED),
        capacity_bytes: first(&CAPACITY),
        free_bytes: first(&FREE),
        in_use_bytes: first(&MINE).filter(|b| *b > 0),
        allocated_bytes: first(&ALLOCATED),
        reserved_unallocated_bytes: first(&UNALLOCATED),
        allowed_bytes: first(&ALLOWED),
        private_pools_bytes: first(&POOLS),
    };
    // `cached` is what is held and unused; `reserved in total` counts what is in use as well.
    let cached = first(&CACHED);
    numbers.reserved_unallocated_bytes = numbers.reserved_unallocated_bytes.or(cached);
    let lower = text.to_ascii_lowercase();
    let kind = match backend.as_deref() {
        Some("HIP") => "torch.hip.v2",
        Some("XPU") => "torch.xpu",
        _ if cached.is_some() && !lower.contains("reserved") => "torch.cuda.v1_cached",
        _ if lower.contains("total capacity;") || lower.contains("already allocated") || PARENTHESIS.is_match(text) => {
            if lower.contains("max_split_size") {
                "torch.cuda.v1_hint"
            } else {
                "torch.cuda.v1_reserved"
            }
        }
        _ if lower.contains("capacty") => "torch.cuda.v2_capacty",
        _ if lower.contains(" pytorch_alloc_conf") || lower.contains("setting pytorch_alloc_conf") => {
            "torch.cuda.v3_alloc_conf"
        }
        _ => "torch.cuda.v2_capacity",
    };
    let mut others: Vec<OtherProcess> = OTHERS
        .captures_iter(text)
        .filter_map(|c| Some((c.name("pid")?.as_str().parse().ok()?, c.get(2).and_then(|m| size::read(m.as_str())))))
        .map(|(pid, bytes)| OtherProcess { pid, bytes: bytes.filter(|b| *b > 0), name: None })
        .collect();
    if numbers.in_use_bytes.is_none()
        && let Some(own) = own_entry(&others, &numbers)
    {
        // Inside a container the job itself is listed under its pid on the host.
        numbers.in_use_bytes = others.get(own).and_then(|p| p.bytes);
        others.remove(own);
    }
    let device = DEVICE.captures(text).and_then(|c| c.get(1)?.as_str().parse().ok());
    Message { kind, device, numbers, others, reserved: first(&RESERVED) }
}

/// The entry that is the failing job: a little more than what PyTorch holds.
fn own_entry(others: &[OtherProcess], numbers: &Numbers) -> Option<usize> {
    const MOST_OUTSIDE: u64 = 3 << 30;
    let held = numbers.allocated_bytes? + numbers.reserved_unallocated_bytes?;
    // Rounding to two decimals of a GiB can hide five MiB.
    let slack = 12 << 20;
    // What is in use at most: an entry that has no room beside what this process holds is this process.
    let in_use = numbers.capacity_bytes.map(|c| c.saturating_sub(numbers.free_bytes.unwrap_or(0)) + slack);
    others.iter().position(|p| {
        p.bytes.is_some_and(|b| {
            let no_room = in_use.is_some_and(|in_use| b + held > in_use && b <= in_use);
            b + slack >= held && (b - held.min(b) <= MOST_OUTSIDE || no_room)
        })
    })
}

/// The message as it can be shown.
pub fn shown(text: &str) -> Clean {
    let end = text.find("See documentation").unwrap_or(text.len());
    Clean::new(text[..end].trim())
}
