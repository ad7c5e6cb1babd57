//! PyTorch's memory snapshots: the pickles of `torch.cuda.memory._dump_snapshot`, read without running anything.
//!
//! The shape is documented at <https://docs.pytorch.org/docs/stable/torch_cuda_memory.html>. Older ones (a plain list
//! of segments, blocks with a `history`) are read as well. Every list is gone through once, whoever else refers to it,
//! so the time taken follows the size of the file.

mod stacks;

use std::{
    cell::Cell,
    collections::{BTreeMap, HashMap, HashSet},
    io::BufRead,
};

use crate::model::{
    Clean,
    snapshot::{
        Action, AllocatorSettings, Annotation, Block, BlockState, Segment, Snapshot, SnapshotDevice, StackFrame,
        TraceEvent,
    },
};

use super::pickle::{self, Node, PickleError, Tree, Val};

pub use stacks::{phase, python_frames};

/// No memory is larger: 16 TiB.
const MAX_SIZE: u64 = 1 << 44;
/// No recording's sizes add up to more: sums of them need no care.
const MAX_SUM: u64 = 1 << 61;
/// The most devices that one file may speak of.
const MAX_DEVICES: usize = 1024;

/// Why a file gave no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error(transparent)]
    Pickle(#[from] PickleError),
    #[error("a pickle, but no memory snapshot: {0}")]
    NoSnapshot(&'static str),
}

/// Whether a file begins like a pickle of protocol 2 or newer; `None` while there are too few bytes to say.
pub fn recognise(start: &[u8]) -> Option<bool> {
    match start {
        [] | [0x80] | [0x80, 2..=5] => None,
        // A frame, a dict, a list, or what a hostile one begins with.
        [0x80, 2..=5, next, ..] => Some(matches!(next, 0x95 | b'}' | b']' | b'(' | b'c' | 0x8c | b'X')),
        _ => Some(false),
    }
}

/// Reads a whole snapshot.
///
/// # Errors
/// When the pickle is refused, cut or damaged, or holds something else.
pub fn read(input: impl BufRead) -> Result<Snapshot, SnapshotError> {
    let tree = pickle::read(input)?;
    Reader::new(&tree).snapshot()
}

/// The keys that are read, as values of this pickle.
struct Keys {
    address: Option<Val>,
    addr: Option<Val>,
    size: Option<Val>,
    requested_size: Option<Val>,
    state: Option<Val>,
    frames: Option<Val>,
    stream: Option<Val>,
    action: Option<Val>,
    time_us: Option<Val>,
    device_free: Option<Val>,
    filename: Option<Val>,
    name: Option<Val>,
    line: Option<Val>,
    history: Option<Val>,
    real_size: Option<Val>,
}

struct Reader<'a> {
    tree: &'a Tree,
    keys: Keys,
    actions: HashMap<Val, Action>,
    out: Snapshot,
    devices: BTreeMap<u32, SnapshotDevice>,
    frames: HashMap<StackFrame, u32>,
    frame_of: HashMap<Val, u32>,
    stacks: HashMap<Box<[u32]>, u32>,
    stack_of: HashMap<Val, u32>,
    seen: HashSet<Val>,
    sum: Cell<u64>,
}

impl<'a> Reader<'a> {
    fn new(tree: &'a Tree) -> Self {
        let key = |name| tree.key(name);
        let keys = Keys {
            address: key("address"),
            addr: key("addr"),
            size: key("size"),
            requested_size: key("requested_size"),
            state: key("state"),
            frames: key("frames"),
            stream: key("stream"),
            action: key("action"),
            time_us: key("time_us"),
            device_free: key("device_free"),
            filename: key("filename"),
            name: key("name"),
            line: key("line"),
            history: key("history"),
            real_size: key("real_size"),
        };
        let actions = [
            ("alloc", Action::Alloc),
            ("free_requested", Action::FreeRequested),
            ("free", Action::FreeRequested),
            ("free_completed", Action::FreeCompleted),
            ("segment_alloc", Action::SegmentGrown),
            ("segment_map", Action::SegmentGrown),
            ("segment_free", Action::SegmentShrunk),
            ("segment_unmap", Action::SegmentShrunk),
            ("oom", Action::Oom),
        ];
        let mut out = Snapshot::default();
        out.stacks.push(crate::model::snapshot::Stack::default());
        Self {
            tree,
            keys,
            actions: actions.into_iter().filter_map(|(name, action)| Some((key(name)?, action))).collect(),
            out,
            devices: BTreeMap::new(),
            frames: HashMap::new(),
            frame_of: HashMap::new(),
            stacks: HashMap::from([(Box::default(), 0)]),
            stack_of: HashMap::new(),
            seen: HashSet::new(),
            sum: Cell::new(0),
        }
    }

    fn snapshot(mut self) -> Result<Snapshot, SnapshotError> {
        let root = self.tree.root();
        let (segments, traces) = match self.tree.node(root) {
            Node::Dict => {
                (self.tree.get(root, self.tree.key("segments")), self.tree.get(root, self.tree.key("device_traces")))
            }
            Node::List(_) => (Some(root), None),
            _ => return Err(SnapshotError::NoSnapshot("it holds neither a dict nor a list")),
        };
        if segments.is_none() && traces.is_none() {
            return Err(SnapshotError::NoSnapshot("it has neither segments nor device_traces"));
        }
        let segments = self.list(segments)?;
        let of_blocks = (self.tree.key("blocks"), self.tree.key("total_size"), self.tree.key("device"));
        for segment in segments {
            self.segment(*segment, of_blocks)?;
        }
        for (index, trace) in self.list(traces)?.iter().enumerate() {
            let events = self.list(Some(*trace))?;
            if events.is_empty() {
                continue;
            }
            if index >= MAX_DEVICES {
                return Err(SnapshotError::NoSnapshot("it speaks of more than 1024 devices"));
            }
            let events = events.iter().filter_map(|event| self.event(*event)).collect();
            self.device(index as u32).events = events;
        }
        if segments.is_empty() && self.devices.is_empty() && matches!(self.tree.node(root), Node::List(_)) {
            return Err(SnapshotError::NoSnapshot("it is an empty list"));
        }
        if self.devices.is_empty() && self.out.passed_over > 0 {
            return Err(SnapshotError::NoSnapshot("its entries are neither segments nor events"));
        }
        if self.sum.get() > MAX_SUM {
            return Err(SnapshotError::NoSnapshot("its sizes add up to more than any machine has"));
        }
        self.annotations(root)?;
        self.settings(root);
        self.out.devices = std::mem::take(&mut self.devices).into_values().collect();
        stacks::judge(&mut self.out);
        Ok(self.out)
    }

    fn device(&mut self, index: u32) -> &mut SnapshotDevice {
        self.devices.entry(index).or_insert_with(|| SnapshotDevice { index, ..SnapshotDevice::default() })
    }

    /// The items of a list that is met for the first time.
    fn list(&mut self, val: Option<Val>) -> Result<&'a [Val], SnapshotError> {
        let Some((val, items)) = val.and_then(|val| Some((val, self.tree.items(val)?))) else { return Ok(&[]) };
        if !items.is_empty() && !self.seen.insert(val) {
            return Err(SnapshotError::NoSnapshot("one list stands in several places"));
        }
        Ok(items)
    }

    fn segment(
        &mut self,
        val: Val,
        (blocks, total_size, device): (Option<Val>, Option<Val>, Option<Val>),
    ) -> Result<(), SnapshotError> {
        let tree = self.tree;
        let size = self.size(val, total_size);
        let (Some(size), Some(address)) = (size, self.whole(val, self.keys.address)) else {
            self.out.passed_over += 1;
            return Ok(());
        };
        let items = self.list(tree.get(val, blocks))?;
        let mut next = address;
        let mut all = Vec::with_capacity(items.len());
        for block in items {
            if let Some(block) = self.block(*block, next) {
                next = block.address.saturating_add(block.size);
                all.push(block);
            } else {
                self.out.passed_over += 1;
            }
        }
        let pool = tree.get(val, tree.key("segment_pool_id")).and_then(|pool| tree.items(pool));
        let text = |key: &str| tree.get(val, tree.key(key)).and_then(|v| tree.text(v));
        let segment = Segment {
            address,
            size,
            stream: self.whole(val, self.keys.stream).unwrap_or(0),
            small: text("segment_type").as_deref() == Some("small"),
            private: pool.is_some_and(|ids| ids.iter().any(|id| tree.node(*id) != Node::Int(0))),
            expandable: tree.get(val, tree.key("is_expandable")) == Some(Val::TRUE),
            blocks: all,
        };
        let index = self.whole(val, device).and_then(|d| u32::try_from(d).ok()).unwrap_or(0);
        if self.devices.len() >= MAX_DEVICES && !self.devices.contains_key(&index) {
            return Err(SnapshotError::NoSnapshot("it speaks of more than 1024 devices"));
        }
        self.device(index).segments.push(segment);
        Ok(())
    }

    fn block(&mut self, val: Val, next: u64) -> Option<Block> {
        let size = self.size(val, self.keys.size)?;
        let state = match self.tree.get(val, self.keys.state).and_then(|s| self.tree.text(s))?.as_ref() {
            "active_allocated" => BlockState::Allocated,
            "inactive" => BlockState::Free,
            // active_pending_free, which the documentation calls active_awaiting_free.
            _ => BlockState::Pending,
        };
        let mut frames = self.tree.get(val, self.keys.frames);
        let mut requested = self.size(val, self.keys.requested_size);
        // Up to PyTorch 2.0 a block had its latest allocation first in a history.
        if let Some(latest) =
            self.tree.get(val, self.keys.history).and_then(|h| self.tree.items(h)).and_then(|items| items.first())
        {
            frames = frames.or(self.tree.get(*latest, self.keys.frames));
            requested = requested.or(self.size(*latest, self.keys.real_size));
        }
        Some(Block {
            address: self.whole(val, self.keys.address).unwrap_or(next),
            size,
            // A free block may carry what it was asked for last.
            requested: requested.unwrap_or(size).min(size),
            state,
            stack: self.stack(frames),
        })
    }

    fn event(&mut self, val: Val) -> Option<TraceEvent> {
        let Some(action) = self.tree.get(val, self.keys.action) else {
            self.out.passed_over += 1;
            return None;
        };
        let action = self.actions.get(&action).copied().unwrap_or(Action::Other);
        let address = match action {
            Action::Oom => self.size(val, self.keys.device_free),
            _ => self.whole(val, self.keys.addr),
        };
        Some(TraceEvent {
            action,
            address: address.unwrap_or(0),
            size: self.size(val, self.keys.size).unwrap_or(0),
            stream: self.whole(val, self.keys.stream).unwrap_or(0),
            time_us: self.int(val, self.keys.time_us).unwrap_or(0),
            stack: self.stack(self.tree.get(val, self.keys.frames)),
        })
    }

    fn int(&self, dict: Val, key: Option<Val>) -> Option<i64> {
        match self.tree.node(self.tree.get(dict, key)?) {
            Node::Int(number) => Some(number),
            _ => None,
        }
    }

    /// A size; what is negative or beyond any card is none.
    fn size(&self, dict: Val, key: Option<Val>) -> Option<u64> {
        let size = self.whole(dict, key).filter(|size| *size <= MAX_SIZE)?;
        self.sum.set(self.sum.get().saturating_add(size));
        Some(size)
    }

    /// An address, a stream, a number of a device; a negative number is none.
    fn whole(&self, dict: Val, key: Option<Val>) -> Option<u64> {
        self.int(dict, key).and_then(|n| u64::try_from(n).ok())
    }

    fn stack(&mut self, list: Option<Val>) -> u32 {
        let Some(list) = list else { return 0 };
        if let Some(known) = self.stack_of.get(&list) {
            return *known;
        }
        let items = self.tree.items(list).unwrap_or_default();
        let frames: Box<[u32]> = items.iter().map(|frame| self.frame(*frame)).collect();
        let next = self.out.stacks.len() as u32;
        let id = *self.stacks.entry(frames).or_insert_with_key(|frames| {
            let frames = frames.to_vec();
            self.out.stacks.push(crate::model::snapshot::Stack { frames, ..Default::default() });
            next
        });
        self.stack_of.insert(list, id);
        id
    }

    fn frame(&mut self, val: Val) -> u32 {
        if let Some(known) = self.frame_of.get(&val) {
            return *known;
        }
        let text = |key| {
            let text = self.tree.get(val, key).and_then(|v| self.tree.text(v)).unwrap_or_default();
            Clean::new(&text.chars().take(4096).collect::<String>())
        };
        let frame = StackFrame {
            file: text(self.keys.filename),
            function: text(self.keys.name),
            line: self.whole(val, self.keys.line).and_then(|l| u32::try_from(l).ok()).unwrap_or(0),
        };
        let next = self.out.frames.len() as u32;
        let id = *self.frames.entry(frame).or_insert_with_key(|frame| {
            self.out.frames.push(frame.clone());
            next
        });
        self.frame_of.insert(val, id);
        id
    }

    fn annotations(&mut self, root: Val) -> Result<(), SnapshotError> {
        let tree = self.tree;
        let stage = tree.key("stage");
        for val in self.list(tree.get(root, tree.key("external_annotations")))? {
            let text = |key| tree.get(*val, key).and_then(|v| tree.text(v));
            let Some((stage, name)) = text(stage).zip(text(self.keys.name)) else { continue };
            let time_us = self.int(*val, self.keys.time_us).unwrap_or(0);
            let annotation = Annotation { begins: stage == "START", name: Clean::new(&name), time_us };
            self.out.annotations.push(annotation);
        }
        Ok(())
    }

    fn settings(&mut self, root: Val) {
        let tree = self.tree;
        let Some(settings) = tree.get(root, tree.key("allocator_settings")) else { return };
        let value = |key: &str| tree.get(settings, tree.key(key));
        let conf = ["PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"].into_iter().find_map(value);
        self.out.settings = Some(AllocatorSettings {
            alloc_conf: conf.and_then(|v| tree.text(v)).map_or(Clean::default(), |text| Clean::new(&text)),
            expandable_segments: value("expandable_segments").map(|v| v == Val::TRUE),
            max_split_size: self.size(settings, tree.key("max_split_size")),
        });
    }
}

#[cfg(test)]
mod tests;
