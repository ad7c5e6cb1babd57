//! What a stack tells: whose memory it is, and which frame to show to a person.

use std::{collections::HashMap, sync::LazyLock};

use regex::{Regex, RegexSet};
use serde::Deserialize;

use crate::{
    model::{
        Clean,
        failure::{Evidence, Phase, PhaseId},
        incident::Frame,
        snapshot::{Owner, Snapshot, Stack, StackFrame},
    },
    parse::phase,
};

const OWNERS: &str = include_str!("owners.toml");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    rule: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    owner: String,
    pattern: String,
    #[cfg_attr(not(test), expect(dead_code, reason = "the tests read them"))]
    samples: Vec<String>,
}

struct Rules {
    owners: Vec<Owner>,
    patterns: RegexSet,
}

static FILE: LazyLock<File> = LazyLock::new(|| toml::from_str(OWNERS).expect("the file is tested"));
static RULES: LazyLock<Rules> = LazyLock::new(|| Rules {
    owners: FILE.rule.iter().map(|rule| owner(&rule.owner).expect("the file is tested")).collect(),
    patterns: RegexSet::new(FILE.rule.iter().map(|rule| &rule.pattern)).expect("the file is tested"),
});
/// A node of the autograd graph in the name of a C++ function.
static NODE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"torch::autograd::(?:generated::)?(\w+?)(?:_apply_functional|::apply)\b").expect("tested")
});
static MODEL: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"modeling_\w+\.py forward$").expect("tested"));

fn owner(id: &str) -> Option<Owner> {
    Owner::ALL.into_iter().find(|owner| owner.id() == id)
}

/// What one frame is.
#[derive(Clone, Copy)]
struct Sign {
    /// A bit for each rule that it matches.
    rules: u32,
    model_forward: bool,
    linear: bool,
    part: Part,
}

/// Whose code a frame is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// C++, or what Python's own machinery calls itself.
    Native,
    /// PyTorch, and the wrappers around every call.
    Torch,
    Library,
    User,
}

/// Judges every stack of a snapshot.
pub fn judge(snapshot: &mut Snapshot) {
    let signs: Vec<Sign> = snapshot.frames.iter().map(sign).collect();
    let mut stacks = std::mem::take(&mut snapshot.stacks);
    let mut nodes = HashMap::new();
    for stack in &mut stacks {
        one(stack, &signs, &mut snapshot.frames, &mut nodes);
    }
    snapshot.stacks = stacks;
}

fn sign(frame: &StackFrame) -> Sign {
    let text = format!("{} {}", frame.file, frame.function);
    let rules = RULES.patterns.matches(&text).into_iter().fold(0, |bits, nth| bits | 1 << nth);
    let linear = text.ends_with("torch/nn/modules/linear.py forward");
    Sign { rules, model_forward: MODEL.is_match(&text), linear, part: part(frame.file.as_str()) }
}

#[expect(clippy::case_sensitive_file_extension_comparisons, reason = "Python's own are in small letters")]
fn part(file: &str) -> Part {
    const WRAPPERS: &[&str] =
        &["transformers/utils/generic.py", "accelerate/utils/operations.py", "accelerate/hooks.py", "contextlib.py"];
    // A file of a Python program, a notebook's cell, or a program given by -c.
    if !file.ends_with(".py")
        && !file.starts_with("<stdin>")
        && !file.starts_with("<string>")
        && !file.contains("ipython-input")
    {
        return Part::Native;
    }
    if file.contains("-packages/torch/") || file.starts_with("torch/") || WRAPPERS.iter().any(|w| file.ends_with(w)) {
        return Part::Torch;
    }
    if file.contains("-packages/") || file.contains("/lib/python3") || file.contains("/runpy.py") {
        return Part::Library;
    }
    Part::User
}

fn one(stack: &mut Stack, signs: &[Sign], frames: &mut Vec<StackFrame>, nodes: &mut HashMap<Clean, u32>) {
    if stack.frames.is_empty() {
        stack.owner = Owner::Unknown;
        return;
    }
    let of = |id: &u32| signs.get(*id as usize).copied();
    let all: u32 = stack.frames.iter().filter_map(of).fold(0, |bits, sign| bits | sign.rules);
    let first = |owner: Owner| {
        let nth = RULES.owners.iter().position(|o| *o == owner)?;
        stack.frames.iter().position(|id| of(id).is_some_and(|sign| sign.rules & 1 << nth != 0))
    };
    let backward = first(Owner::Backward);
    let recomputed = first(Owner::Recomputed);
    stack.in_backward = backward.is_some() || recomputed.is_some();
    let told = RULES.owners.iter().enumerate().find(|(nth, _)| all & 1 << nth != 0).map_or(Owner::Other, |(_, o)| *o);
    stack.owner = match told {
        // Checkpointing recomputes within the engine, and may run the engine within itself: the nearer one counts.
        Owner::Recomputed if backward.is_some_and(|b| recomputed.is_some_and(|r| b < r)) => Owner::Backward,
        Owner::Activations if is_head(stack, signs) => Owner::Logits,
        other => other,
    };
    let python =
        |parts: &[Part]| stack.frames.iter().copied().find(|id| of(id).is_some_and(|sign| parts.contains(&sign.part)));
    let user = python(&[Part::User]);
    stack.site = python(&[Part::User, Part::Library]);
    if stack.site.is_none() {
        let node = stack.frames.iter().find_map(|id| {
            let name = NODE.captures(frames.get(*id as usize)?.function.as_str())?.get(1)?.as_str();
            (!matches!(name, "Engine" | "VariableType" | "Node")).then(|| Clean::new(name))
        });
        stack.site = match node {
            Some(node) => Some(*nodes.entry(node).or_insert_with_key(|node| {
                frames.push(StackFrame { file: "autograd".into(), function: node.clone(), line: 0 });
                frames.len() as u32 - 1
            })),
            None => python(&[Part::Torch]),
        };
    }
    stack.user = user.filter(|_| stack.site != user);
}

/// A linear layer called by the outermost `forward` of a model file, with no layer of that file between: the head.
fn is_head(stack: &Stack, signs: &[Sign]) -> bool {
    let mut python =
        stack.frames.iter().filter_map(|id| signs.get(*id as usize)).filter(|sign| sign.part != Part::Native);
    python.next().is_some_and(|innermost| innermost.linear) && python.filter(|sign| sign.model_forward).count() == 1
}

/// The Python part of a stack as a traceback has it: the outermost frame first.
pub fn python_frames(snapshot: &Snapshot, stack: u32) -> Vec<Frame> {
    let Some(stack) = snapshot.stacks.get(stack as usize) else { return Vec::new() };
    let frames = stack.frames.iter().rev().filter_map(|id| snapshot.frames.get(*id as usize));
    frames
        .filter(|frame| part(frame.file.as_str()) != Part::Native)
        .map(|f| Frame {
            line: u64::from(f.line),
            file: f.file.clone(),
            function: f.function.clone(),
            code: Clean::default(),
        })
        .collect()
}

/// What the program was doing at a stack: what its Python frames say, else where in C++ it was.
pub fn phase(snapshot: &Snapshot, stack: u32) -> Phase {
    let frames = python_frames(snapshot, stack);
    let mut phase = phase::phase(&frames);
    for evidence in &mut phase.evidence {
        // The line of a frame is one of the program, not of a log.
        evidence.line = None;
    }
    let Some(stack) = snapshot.stacks.get(stack as usize) else { return phase };
    // The engine's threads carry no Python frames, or those of what is computed once more.
    let within_optimizer = matches!(stack.owner, Owner::OptimizerStates | Owner::OptimizerStep);
    if stack.in_backward && !within_optimizer && phase.id != PhaseId::Backward {
        let native = stack.frames.iter().filter_map(|id| snapshot.frames.get(*id as usize));
        let engine = native.map(|f| &f.function).find(|f| f.as_str().contains("torch::autograd::Engine"));
        let evidence = engine.map(|text| Evidence { line: None, text: text.clone() });
        phase = Phase { id: PhaseId::Backward, evidence: evidence.into_iter().collect() };
    }
    phase
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_matches_its_samples_first() {
        for (nth, rule) in FILE.rule.iter().enumerate() {
            assert!(owner(&rule.owner).is_some(), "{}", rule.owner);
            assert!(!rule.samples.is_empty(), "{}", rule.owner);
            for sample in &rule.samples {
                let first = RULES.patterns.matches(sample).into_iter().next();
                assert_eq!(first, Some(nth), "{} and not {first:?}: {sample}", rule.owner);
            }
        }
        assert!(FILE.rule.len() <= 32);
    }
}
