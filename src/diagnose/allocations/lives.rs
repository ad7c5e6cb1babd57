//! From events and blocks to the lives of allocations: when each was made, when it went, and whose it was.

use std::collections::HashMap;

use crate::model::snapshot::{Action, BlockState, Owner, Snapshot, SnapshotDevice, TraceEvent};

/// An allocation made before the first event that was kept.
pub const BEFORE: u32 = u32::MAX;
/// An allocation that is there at the end.
pub const ALIVE: u32 = u32::MAX;

/// One allocation from its making to its end, as places in the device's events.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    pub size: u64,
    pub born: u32,
    pub died: u32,
    pub stack: u32,
    pub owner: Owner,
    /// At the end freed by the program, and still in use by another stream.
    pub pending: bool,
}

impl Life {
    pub fn lives_at(&self, event: u32) -> bool {
        (self.born == BEFORE || self.born <= event) && self.died > event
    }
}

/// Every allocation of a device, with the sizes that were asked for (a block's own, where it is there at the end).
pub fn lives(snapshot: &Snapshot, device: &SnapshotDevice) -> Vec<Life> {
    let mut all: Vec<Life> = Vec::new();
    // Address to the allocation that is there now, and to when its end was asked for.
    let mut open: HashMap<u64, (usize, Option<u32>)> = HashMap::new();
    let life = |event: &TraceEvent, born, died| Life {
        size: event.size,
        born,
        died,
        stack: if born == BEFORE { 0 } else { event.stack },
        owner: Owner::Unknown,
        pending: false,
    };
    for (at, event) in device.events.iter().enumerate() {
        let at = at as u32;
        match event.action {
            Action::Alloc => {
                all.push(life(event, at, ALIVE));
                if let Some((old, asked)) = open.insert(event.address, (all.len() - 1, None)) {
                    // Its end was not recorded.
                    all[old].died = asked.unwrap_or(at);
                }
            }
            Action::FreeRequested => {
                if let Some((_, asked)) = open.get_mut(&event.address) {
                    *asked = Some(at);
                } else {
                    all.push(life(event, BEFORE, ALIVE));
                    open.insert(event.address, (all.len() - 1, Some(at)));
                }
            }
            Action::FreeCompleted => match open.remove(&event.address) {
                Some((old, _)) => all[old].died = at,
                None => all.push(life(event, BEFORE, at)),
            },
            _ => {}
        }
    }
    let end = device.events.len() as u32;
    let has_blocks = device.segments.iter().any(|s| !s.blocks.is_empty());
    for block in device.segments.iter().flat_map(|s| &s.blocks).filter(|b| b.state != BlockState::Free) {
        let pending = block.state == BlockState::Pending;
        match open.remove(&block.address) {
            Some((old, _)) => {
                let life = &mut all[old];
                life.size = block.size;
                life.pending = pending;
                if life.stack == 0 {
                    life.stack = block.stack;
                }
            }
            None => all.push(Life {
                size: block.size,
                born: BEFORE,
                died: ALIVE,
                stack: block.stack,
                owner: Owner::Unknown,
                pending,
            }),
        }
    }
    if has_blocks {
        // What no block stands for went without a word.
        for (old, asked) in open.into_values() {
            all[old].died = asked.unwrap_or(end.saturating_sub(1));
        }
    }
    owners(snapshot, device, &mut all);
    all
}

/// Whose each allocation is: what its stack says, and how long it lived.
fn owners(snapshot: &Snapshot, device: &SnapshotDevice, all: &mut [Life]) {
    let stack = |id: u32| snapshot.stacks.get(id as usize);
    let with_python = snapshot.stacks.iter().any(|s| s.frames.len() > 1);
    // For each event the next one that is not of a backward pass, and the next that is not of an optimizer's step.
    let none = device.events.len() as u32;
    let (mut forward, mut elsewhere) = (none, none);
    let mut next = vec![(none, none); device.events.len() + 1];
    for (at, event) in device.events.iter().enumerate().rev() {
        if event.action == Action::Alloc
            && let Some(stack) = stack(event.stack).filter(|s| s.owner != Owner::Unknown)
        {
            let step = matches!(stack.owner, Owner::OptimizerStates | Owner::OptimizerStep);
            if !stack.in_backward && !matches!(stack.owner, Owner::Communication | Owner::Workspace | Owner::Gradients)
            {
                forward = at as u32;
            }
            if !step {
                elsewhere = at as u32;
            }
        }
        next[at] = (forward, elsewhere);
    }
    for life in all.iter_mut() {
        let known = stack(life.stack).map_or(Owner::Unknown, |s| s.owner);
        let (forward, elsewhere) = next.get(life.born as usize).copied().unwrap_or((none, none));
        let outlives = |event: u32| event < none && life.died > event;
        life.owner = match known {
            Owner::Unknown if life.born == BEFORE => Owner::BeforeRecording,
            // The autograd engine's threads have no Python stack.
            Owner::Unknown if with_python && outlives(forward) => Owner::Gradients,
            Owner::Unknown if with_python => Owner::Backward,
            Owner::Backward if outlives(forward) => Owner::Gradients,
            Owner::OptimizerStep if outlives(elsewhere) => Owner::OptimizerStates,
            other => other,
        };
    }
    // In a backward pass that did not end, what has a weight's size is most likely its gradient.
    let weights: std::collections::HashSet<u64> = all
        .iter()
        .filter(|l| matches!(l.owner, Owner::Weights | Owner::Adapters | Owner::BeforeRecording) && l.died == ALIVE)
        .map(|l| l.size)
        .filter(|size| *size >= 1 << 10)
        .collect();
    for life in all.iter_mut().filter(|l| l.owner == Owner::Backward && l.died == ALIVE) {
        if weights.contains(&life.size) {
            life.owner = Owner::Gradients;
        }
    }
}
