//! From readable lines to incidents: which lines are messages, what belongs to them, which of them are one failure.

use std::{collections::BTreeMap, sync::LazyLock};

use regex::Regex;

use crate::{
    model::{
        Clean,
        failure::{Evidence, Memory, Numbers, PhaseId, Place},
        incident::Incident,
    },
    parse::{pattern, phase, text::TextLine, traceback},
};

use super::{
    around,
    family::{Families, Family},
    size, torch,
};

/// Lines that a message may go on over.
const SPREAD: usize = 14;
/// A message that says no more than that memory ran out.
const BARE: &str = "torch.cuda.bare";
/// Name of the detail that says that the size asked for is exact to the byte.
pub(super) const EXACT: &str = "requested_bytes_exactly";
/// The head of a traceback.
const TRACEBACK: &str = "Traceback (most recent call last";
/// Lines of context kept on each side.
const CONTEXT: usize = 60;

/// Advice, configuration and healthy lines that speak of memory without a failure.
static MENTION: LazyLock<Regex> = LazyLock::new(|| {
    pattern::ascii(
        r"(?i)if out-of-memory error occurs|caller indicates that this is not a failure|exceeds 10% of (?:free )?system memory|retrying without pipeline|to avoid out of memory|in case of (?:an )?(?:oom|out of memory)|may (?:cause|run) out of memory|^[^K]*oom_score_adj\s*[=:]|auto_find_batch_size|catch(?:es|ing)? (?:cuda )?out of memory|^\s*#|on out of memory",
    )
    .expect("tested")
});
/// An error that somebody pasted behind the sign of a comment.
static COMMENTED: LazyLock<Regex> = LazyLock::new(|| {
    pattern::ascii(r"(?i)^\s*#+\s*(?:[\w.]*(?:Error|Exception): |.{0,200}(?:out of memory\. Tried to allocate \d|OOM when allocating tensor with shape\[))").expect("tested")
});
static ECHO: LazyLock<Regex> = LazyLock::new(|| {
    pattern::ascii(r"Connection closed by peer|Watchdog caught collective operation timeout|closing signal SIGTERM|Killing subprocess|ncclUnhandledCudaError|NCCL error|Broken pipe|failed \(exitcode: 1\)|RayActorError|ChildFailedError|exits with return code = 1\b")
        .expect("tested")
});
/// The run goes on after the message: it was recovered, or only a warning.
static GOES_ON: LazyLock<Regex> = LazyLock::new(|| {
    pattern::ascii(r"UserWarning: Failed to clone\(\)|after returning from state_dict\(\) call|memory allocation failed with OOM on device").expect("tested")
});
/// What a program prints when it tries again with less.
static RECOVERED: LazyLock<Regex> = LazyLock::new(|| {
    pattern::ascii(r"retrying without pipeline|falling back to|will retry with less").expect("tested")
});
/// What it prints when it drops one batch.
static GAVE_UP_A_BATCH: LazyLock<Regex> = LazyLock::new(|| {
    pattern::ascii(r"(?i)skipping (?:this |the )?(?:batch|update|step|sample)|retrying (?:the )?batch|attempting to recover|reducing (?:the )?batch|smaller batch")
        .expect("tested")
});
/// What a training prints while it goes on.
static PROGRESS: LazyLock<Regex> = LazyLock::new(|| {
    pattern::ascii(r"(?i)\bepoch:?\s*\[?\d+|\bloss['\x22]?\s*[=:]?\s*\d|\bstep:?\s*\d+|\biter(?:ation)?:?\s+\d+")
        .expect("tested")
});
/// Lines in which it says so.
const RECOVERY: usize = 5;
static SAVE: LazyLock<Regex> = LazyLock::new(|| {
    pattern::ascii(r"(?i)save|checkpoint|serialization|write_table|arrow|cache_file|to_csv|hf_hub|download")
        .expect("tested")
});
static MULTIPROCESSING: LazyLock<Regex> = LazyLock::new(|| {
    pattern::ascii(r"ctx\.Lock|SimpleQueue|_share_|/dev/shm|joblib|multiprocessing/|mp\.Queue|SemLock|resource_tracker|_new_shared|Loky").expect("tested")
});

/// Every message among `lines`, in order, each with its traceback and context.
pub fn incidents(families: &Families, source: &Clean, lines: &[TextLine]) -> Vec<Incident> {
    let mut found: Vec<(usize, Incident)> = Vec::new();
    let mut nth = 0;
    while nth < lines.len() {
        let (incident, used) = at(families, source, lines, nth);
        found.extend(incident.map(|incident| (nth, incident)));
        nth += used.max(1);
    }
    let mut found = chain(found, lines);
    for line in lines.iter().filter(|l| ECHO.is_match(&l.text)) {
        if let Some(owner) = found.iter_mut().rev().find(|i| i.is_oom && i.place.line < line.number) {
            owner.echoes.push(Evidence { line: Some(line.number), text: Clean::new(line.text.trim()) });
        }
    }
    found
}

/// What Python prints between an exception and the one that its handling, or `raise … from`, led to.
const CHAINED: [&str; 2] =
    ["During handling of the above exception", "The above exception was the direct cause of the following"];

/// An exception that came of the handling of another one is the same failure: the first is the root. Each incident has
/// the number of its line among `lines`.
fn chain(mut found: Vec<(usize, Incident)>, lines: &[TextLine]) -> Vec<Incident> {
    let links = lines.iter().enumerate().filter(|(_, l)| CHAINED.iter().any(|c| l.text.contains(c)));
    let links: Vec<(usize, Option<u32>)> = links.map(|(at, l)| (at, l.rank)).collect();
    for (link, rank) in links.into_iter().rev() {
        let own = |i: &Incident| i.is_oom && (i.rank == rank || i.rank.is_none() || rank.is_none());
        let next = found.iter().position(|(at, i)| own(i) && *at > link);
        let last = found.iter().rposition(|(at, i)| own(i) && *at <= link);
        let (Some(last), Some(next)) = (last, next) else { continue };
        // Between the two messages lies the traceback of the second, and nothing else.
        let of_rank = |from: usize, to: usize| {
            lines.iter().skip(from).take(to.saturating_sub(from)).filter(move |l| l.rank == rank)
        };
        let (from, to) = (found.get(last).map_or(0, |f| f.0), found.get(next).map_or(0, |f| f.0));
        if of_rank(link, to).filter(|l| l.text.contains(TRACEBACK)).count() > 1
            || of_rank(from + 1, link).any(|l| PROGRESS.is_match(&l.text))
        {
            continue;
        }
        let (_, later) = found.remove(next);
        if let Some((_, first)) = found.get_mut(last) {
            first.echoes.push(Evidence { line: Some(later.place.line), text: later.message });
            first.echoes.extend(later.echoes);
        }
    }
    found.into_iter().map(|(_, incident)| incident).collect()
}

/// The message that begins in line `nth`, if one does, and the lines that it takes.
fn at(families: &Families, source: &Clean, lines: &[TextLine], nth: usize) -> (Option<Incident>, usize) {
    let Some(line) = lines.get(nth) else { return (None, 1) };
    // The user's own come first: what they say of a line is so.
    if let Some(found) = by_family(families.own().iter(), source, lines, nth) {
        return found;
    }
    if MENTION.is_match(&line.text) && !COMMENTED.is_match(&line.text) {
        return (None, 1);
    }
    let lower = line.text.to_ascii_lowercase();
    let torch_word = lower.contains("memory")
        || lower.contains("tried to all")
        || lower.contains("out of")
        || lower.contains("outofmemory");
    let torch = if torch_word { from_torch(lines, nth) } else { None };
    // A bare "out of memory" may be the head of another family's message.
    if let Some((mut incident, used)) = torch.as_ref().filter(|(i, _)| i.kind.as_str() != BARE).cloned() {
        if recovered(lines, nth, incident.kind.as_str()) {
            return (None, 1);
        }
        surround(&mut incident, source, lines, nth, used);
        return (Some(incident), used);
    }
    let all = families.built_in().iter().filter(|f| torch.is_none() || f.id() != BARE);
    if let Some(found) = by_family(all, source, lines, nth) {
        return found;
    }
    match torch {
        Some((mut incident, used)) => {
            surround(&mut incident, source, lines, nth, used);
            (Some(incident), used)
        }
        None => (None, 1),
    }
}

/// The first of these families whose message begins in line `nth`.
fn by_family<'a>(
    families: impl Iterator<Item = &'a Family>,
    source: &Clean,
    lines: &[TextLine],
    nth: usize,
) -> Option<(Option<Incident>, usize)> {
    let line = lines.get(nth)?;
    // A literal may be cut by the end of the line, or stand in the next one of a message that begins here.
    let near = near(lines, nth);
    let stands_near = |literal: &str| near.iter().any(|text| text.contains(literal));
    for family in families.filter(|f| f.literals.iter().any(|l| stands_near(l))) {
        // The reading that gives the most figures; of two that give as many, the shorter one.
        let readings = joined(lines, nth);
        let matches = readings.iter().filter_map(|(text, used)| {
            let c = family.pattern()?.captures(text)?;
            let begins = c.get(0).is_some_and(|m| m.start() < line.text.len().max(1));
            let rest = c.get(0).and_then(|m| text.get(m.start()..)).unwrap_or_default();
            begins.then(|| (c.iter().flatten().count(), std::cmp::Reverse(*used), c, *used, rest))
        });
        if let Some((_, _, c, used, rest)) = matches.max_by_key(|(groups, short, ..)| (*groups, *short)) {
            if recovered(lines, nth, family.id()) {
                return Some((None, 1));
            }
            let open = nth + used >= lines.len() && lines.last().is_some_and(|l| l.open);
            let mut incident = from_family(family, &c, rest, open);
            surround(&mut incident, source, lines, nth, used);
            refine(&mut incident, lines, nth);
            return Some((Some(incident), 1));
        }
    }
    None
}

/// The program says that it tries again with less; or it gave up a batch, or only warned, and the training went on.
fn recovered(lines: &[TextLine], nth: usize, kind: &str) -> bool {
    let near = || lines.iter().skip(nth.saturating_sub(1)).take(RECOVERY + 1);
    if lines.iter().skip(nth).take(RECOVERY).any(|l| RECOVERED.is_match(&l.text)) {
        return true;
    }
    // TensorFlow asks for less when it was refused; what it did not get over ends the text.
    let warned = kind == "tf.bfc" || near().any(|l| GAVE_UP_A_BATCH.is_match(&l.text));
    warned && lines.iter().skip(nth + 1).filter(|l| PROGRESS.is_match(&l.text)).count() >= 2
}

/// PyTorch's own message beginning in line `nth`, and the lines that it takes.
fn from_torch(lines: &[TextLine], nth: usize) -> Option<(Incident, usize)> {
    let line = lines.get(nth)?;
    for (text, used) in joined(lines, nth) {
        let Some(start) = torch::find(&text).filter(|s| *s < line.text.len().max(1)) else { continue };
        let message = torch::read(&text[start..]);
        let mut incident = Incident {
            is_oom: true,
            memory: Memory::Gpu,
            kind: message.kind.into(),
            device: message.device,
            numbers: message.numbers,
            other_processes: message.others,
            message: torch::shown(text[start..].get(..700).unwrap_or(&text[start..])),
            ..Incident::default()
        };
        if let Some(reserved) = message.reserved {
            incident.details.insert("reserved_total_bytes", reserved as f64);
        }
        // The warning around it may begin in the row before.
        let before = nth.checked_sub(1).and_then(|n| lines.get(n)).map_or("", |l| l.text.as_str());
        if GOES_ON.is_match(&format!("{before}{text}")) {
            incident.phase.id = PhaseId::CheckpointSave;
        }
        return Some((incident, used));
    }
    None
}

/// The line with the two after it, in small letters, joined as a wrap may have parted them.
fn near(lines: &[TextLine], nth: usize) -> [String; 2] {
    let some = lines.iter().skip(nth).take(3);
    let tight: String = some.clone().map(|l| l.text.trim_end()).collect();
    let loose: Vec<&str> = some.map(|l| l.text.trim()).collect();
    [tight.to_ascii_lowercase(), loose.join(" ").to_ascii_lowercase()]
}

/// The line and what follows it, as wrapping may have parted them: with nothing between, and with a blank. The reading
/// that gives the most figures comes first.
fn joined(lines: &[TextLine], nth: usize) -> Vec<(String, usize)> {
    let Some(first) = lines.get(nth) else { return Vec::new() };
    let mut used = 1;
    let begin = first.text.trim_end().to_string();
    let (mut tight, mut loose, mut bare) = (begin.clone(), begin.clone(), begin);
    for line in lines.iter().skip(nth + 1).take(SPREAD) {
        let stops = line.rank.is_some() && line.rank != first.rank
            || line.text.contains("Traceback (most recent")
            || line.text.trim_start().starts_with("File \"")
            || tight.contains("See documentation") && tight.contains("http")
            || torch::find(&line.text).is_some() && torch::find(&tight).is_some()
            || tight.len() > 4000;
        if stops {
            break;
        }
        tight.push_str(line.text.trim_end());
        bare.push_str(line.text.trim());
        // No message has two numbers side by side: a number was cut.
        let next = line.text.trim();
        let cut = loose.ends_with(|c: char| c.is_ascii_digit() || c == '.')
            && next.starts_with(|c: char| c.is_ascii_digit())
            || loose.ends_with(|c: char| c.is_ascii_digit()) && next.starts_with('.');
        if !cut {
            loose.push(' ');
        }
        loose.push_str(next);
        used += 1;
    }
    let single = (first.text.clone(), 1);
    let score = |text: &str| {
        let m = torch::find(text).map(|s| torch::read(&text[s..])).unwrap_or_default();
        let n = &m.numbers;
        [
            n.requested_bytes,
            n.capacity_bytes,
            n.free_bytes,
            n.in_use_bytes,
            n.allocated_bytes,
            n.reserved_unallocated_bytes,
        ]
        .iter()
        .flatten()
        .count()
            + usize::from(m.device.is_some())
            + usize::from(text.contains("avoid fragmentation"))
            + m.others.len()
    };
    let mut all = vec![single, (loose, used), (tight, used), (bare, used)];
    all.sort_by_key(|(text, used)| (std::cmp::Reverse(score(text)), *used));
    all
}

/// `rest` is the text from the match on; it is `open` where nothing tells that its last number is whole.
fn from_family(family: &Family, c: &regex::Captures<'_>, rest: &str, open: bool) -> Incident {
    let end = c.get(0).map_or(0, |m| m.start()) + rest.trim_end().len();
    let whole = |m: &regex::Match<'_>| !(open && m.end() == end && m.as_str().ends_with(|c: char| c.is_ascii_digit()));
    // A pattern with several shapes has its groups again: `device` and `device2`.
    let either = |name: &str| c.name(name).or_else(|| (2..=4).find_map(|nth| c.name(&format!("{name}{nth}"))));
    let text = |name: &str| either(name).filter(whole).map(|m| m.as_str());
    let sized = |name: &str| text(name).and_then(size::read);
    let plain = |name: &str| text(name).and_then(size::plain);
    let gib = |name: &str| text(name).and_then(|t| t.parse::<f64>().ok()).map(|g| (g * 1_073_741_824.0).round() as u64);
    let mut details = BTreeMap::new();
    for name in ["tokens_needed", "tokens_available"] {
        if let Some(value) = text(name).and_then(|t| t.parse::<f64>().ok()) {
            details.insert(name, value);
        }
    }
    if let Some(bytes) = sized("contiguous") {
        details.insert("largest_free_bytes", bytes as f64);
    }
    if let Some(bytes) = plain("requested_bytes") {
        details.insert(EXACT, bytes as f64);
    }
    let shape = text("shape")
        .and_then(|s| s.split(',').map(|n| n.trim().parse::<u64>().ok()).try_fold(1u64, |a, n| a.checked_mul(n?)));
    if let Some(elements) = shape {
        details.insert("shape_elements", elements as f64);
    }
    let whole = c.get(0).map_or("", |m| m.as_str());
    let mut incident = Incident {
        is_oom: family.is_oom,
        memory: family.memory,
        kind: Clean::new(family.id()),
        refusal: family.refusal.as_deref().map(Clean::new),
        device: text("device").and_then(|d| d.parse().ok()),
        numbers: Numbers {
            requested_bytes: plain("requested_bytes").or(sized("requested")),
            capacity_bytes: sized("capacity").or(gib("capacity_gib")).or(plain("capacity_bytes")),
            in_use_bytes: sized("in_use").or(gib("in_use_gib")),
            free_bytes: sized("free").or(gib("free_gib")).or(plain("free_bytes")),
            allocated_bytes: sized("allocated").or(plain("allocated_bytes")),
            allowed_bytes: sized("allowed").or(plain("allowed_bytes")),
            ..Numbers::default()
        },
        message: Clean::new(whole.trim()),
        details,
        ..Incident::default()
    };
    if family.id().starts_with("torch.") && incident.numbers == Numbers::default() {
        // PyTorch's other back ends end as its CUDA messages do.
        let message = torch::read(rest);
        incident.numbers = message.numbers;
        incident.device = incident.device.or(message.device);
    }
    incident
}

/// Adds place, rank, traceback, phase and context.
fn surround(incident: &mut Incident, source: &Clean, lines: &[TextLine], nth: usize, used: usize) {
    let Some(line) = lines.get(nth) else { return };
    incident.place = Place { source: source.clone(), line: line.number, byte: line.byte };
    let before = lines.get(..nth).unwrap_or_default();
    let after = lines.get(nth + used..).unwrap_or_default();
    // What a wrap cut off has no prefix of its own; a launcher's line never had one.
    let continues = incident.kind.as_str().starts_with("torch.");
    incident.rank = line.rank.or_else(|| before.iter().rev().take(3).filter(|_| continues).find_map(|l| l.rank));
    incident.ranks = incident.rank.into_iter().collect();
    let own = |l: &&TextLine| l.rank == line.rank || l.rank.is_none();
    // The traceback before the message, back to its head; else the one right after it.
    let mut block: Vec<TextLine> = Vec::new();
    for l in before.iter().rev().filter(own).take(400) {
        block.push(l.clone());
        if l.text.contains(TRACEBACK) {
            break;
        }
    }
    block.reverse();
    let headed = block.first().is_some_and(|l| l.text.contains("Traceback (most recent"));
    let mut frames = if headed || block.len() < 400 { traceback::frames(&block) } else { Vec::new() };
    if frames.is_empty() {
        let following: Vec<TextLine> = after.iter().filter(own).take(120).cloned().collect();
        if following.iter().take(4).any(|l| l.text.contains("Traceback (most recent"))
            || incident.message.as_str().len() > 40
        {
            frames = traceback::frames(&following);
        }
    }
    if frames.is_empty() && continues {
        // Often only the line that failed is pasted, without its frame.
        frames = traceback::bare(before.get(before.len().saturating_sub(2)..).unwrap_or_default());
    }
    if incident.phase.id == PhaseId::Unknown {
        incident.phase = phase::phase(&frames);
    }
    incident.frames = frames;
    // A line that a wrap put to another family's message may still be one of its own.
    let after = if continues { after } else { lines.get(nth + 1..).unwrap_or_default() };
    let around =
        before.iter().rev().take(CONTEXT).collect::<Vec<_>>().into_iter().rev().chain(after.iter().take(CONTEXT));
    incident.context = around.map(|l| Evidence { line: Some(l.number), text: Clean::new(l.text.trim()) }).collect();
    if incident.phase.id == PhaseId::Unknown {
        incident.phase = around::phase(incident, &line.text);
    }
}

/// What the lines around make of a message: errno 28 is shared memory beside multiprocessing and a disk beside a save; the
/// driver's refusal in the thread that pins memory is the host's.
fn refine(incident: &mut Incident, lines: &[TextLine], nth: usize) {
    if incident.kind.as_str() == BARE
        && (incident.frames.iter().any(|f| f.file.as_str().contains("pin_memory"))
            || lines.iter().take(nth).rev().take(12).any(|l| l.text.contains("in pin memory thread")))
    {
        incident.kind = "tf.pinned_host".into();
        incident.memory = Memory::Host;
    }
    if incident.kind.as_str() == "tf.resource_exhausted"
        && incident.message.as_str().to_ascii_uppercase().contains("DEVICE:CPU")
    {
        incident.memory = Memory::Host;
    }
    if incident.kind.as_str() == "notoom.disk_full" {
        let near = lines.get(nth.saturating_sub(14)..(nth + 4).min(lines.len())).unwrap_or_default();
        let shm = near.iter().any(|l| MULTIPROCESSING.is_match(&l.text));
        let save = near.iter().any(|l| SAVE.is_match(&l.text));
        if shm && !save || near.iter().any(|l| l.text.contains("/dev/shm")) {
            incident.is_oom = true;
            incident.memory = Memory::Shm;
            incident.kind = "shm.errno28".into();
            incident.refusal = None;
            if incident.phase.id == PhaseId::Unknown {
                incident.phase.id = PhaseId::Dataloader;
            }
        }
    }
}
