//! What PyTorch's caching allocator wrote down of itself: segments, blocks, and the events that led there.

use super::Clean;

/// Whose memory an allocation is, as far as the place that asked for it tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    Weights,
    Adapters,
    Gradients,
    OptimizerStates,
    /// What an optimizer's step, or the clipping of gradients, needs meanwhile.
    OptimizerStep,
    Activations,
    /// Activations that checkpointing computes once more, within the backward pass.
    Recomputed,
    Logits,
    /// What the backward pass needs meanwhile, gradients of activations above all.
    Backward,
    KvCache,
    Generation,
    Inputs,
    /// Gathered shards, buckets and buffers of collectives.
    Communication,
    /// cuBLAS, cuDNN and the like.
    Workspace,
    AutocastCache,
    Metrics,
    /// It stood before the recording began: nobody knows its origin. Usually the weights.
    BeforeRecording,
    /// A stack that tells nothing of the above.
    #[default]
    Other,
    /// No stack was recorded.
    Unknown,
}

impl Owner {
    pub const ALL: [Self; 19] = [
        Self::Weights,
        Self::Adapters,
        Self::Gradients,
        Self::OptimizerStates,
        Self::OptimizerStep,
        Self::Activations,
        Self::Recomputed,
        Self::Logits,
        Self::Backward,
        Self::KvCache,
        Self::Generation,
        Self::Inputs,
        Self::Communication,
        Self::Workspace,
        Self::AutocastCache,
        Self::Metrics,
        Self::BeforeRecording,
        Self::Other,
        Self::Unknown,
    ];

    /// Its id in JSON; where the memory model has a component of the kind, that one's name.
    pub fn id(self) -> &'static str {
        match self {
            Self::Weights => "weights",
            Self::Adapters => "adapters",
            Self::Gradients => "gradients",
            Self::OptimizerStates => "optimizer_states",
            Self::OptimizerStep => "optimizer_step",
            Self::Activations => "activations",
            Self::Recomputed => "recomputed_activations",
            Self::Logits => "logits",
            Self::Backward => "backward",
            Self::KvCache => "kv_cache",
            Self::Generation => "generation",
            Self::Inputs => "inputs",
            Self::Communication => "communication",
            Self::Workspace => "workspace",
            Self::AutocastCache => "autocast_cache",
            Self::Metrics => "metrics",
            Self::BeforeRecording => "before_recording",
            Self::Other => "other",
            Self::Unknown => "unknown",
        }
    }

    /// Its name for people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Weights => "weights",
            Self::Adapters => "adapters",
            Self::Gradients => "gradients",
            Self::OptimizerStates => "optimizer states",
            Self::OptimizerStep => "the optimizer's step",
            Self::Activations => "activations",
            Self::Recomputed => "recomputed activations",
            Self::Logits => "logits and loss",
            Self::Backward => "the backward pass",
            Self::KvCache => "KV cache",
            Self::Generation => "generation",
            Self::Inputs => "inputs",
            Self::Communication => "communication",
            Self::Workspace => "library workspaces",
            Self::AutocastCache => "autocast's copies",
            Self::Metrics => "metrics and evaluation",
            Self::BeforeRecording => "from before the recording",
            Self::Other => "other tensors",
            Self::Unknown => "no stack recorded",
        }
    }
}

/// One frame of a stack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct StackFrame {
    pub file: Clean,
    pub function: Clean,
    /// 1-based; 0 where it is not known, as in C++.
    pub line: u32,
}

/// Where an allocation was asked for.
#[derive(Clone, Debug, Default)]
pub struct Stack {
    /// Places in [`Snapshot::frames`], innermost first.
    pub frames: Vec<u32>,
    pub owner: Owner,
    /// Allocated by the autograd engine, or under a call of `backward`.
    pub in_backward: bool,
    /// The innermost frame that says something to a person, as a place in [`Snapshot::frames`].
    pub site: Option<u32>,
    /// The innermost frame of the user's own code, where that is another.
    pub user: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockState {
    Allocated,
    /// Freed by the program; another stream still uses it.
    Pending,
    Free,
}

#[derive(Clone, Copy, Debug)]
pub struct Block {
    pub address: u64,
    pub size: u64,
    /// What was asked for, before rounding.
    pub requested: u64,
    pub state: BlockState,
    /// A place in [`Snapshot::stacks`]; the first one is empty.
    pub stack: u32,
}

/// Memory that the allocator got from the driver in one piece.
#[derive(Clone, Debug)]
pub struct Segment {
    pub address: u64,
    pub size: u64,
    pub stream: u64,
    /// Serves requests of up to 1 MiB alone.
    pub small: bool,
    /// Of a pool of its own, such as a CUDA graph's.
    pub private: bool,
    pub expandable: bool,
    /// In the order of their addresses.
    pub blocks: Vec<Block>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Alloc,
    FreeRequested,
    FreeCompleted,
    /// The driver gave memory: a segment, or a part of an expandable one.
    SegmentGrown,
    SegmentShrunk,
    /// `size` bytes were refused; `address` is what the card had free.
    Oom,
    Other,
}

/// One thing that the allocator did.
#[derive(Clone, Copy, Debug)]
pub struct TraceEvent {
    pub action: Action,
    pub address: u64,
    pub size: u64,
    pub stream: u64,
    /// Microseconds since the epoch; 0 where it was not written.
    pub time_us: i64,
    pub stack: u32,
}

/// One GPU's part of a snapshot.
#[derive(Clone, Debug, Default)]
pub struct SnapshotDevice {
    pub index: u32,
    pub segments: Vec<Segment>,
    /// Oldest first. The recording keeps so many of them: older ones may be gone.
    pub events: Vec<TraceEvent>,
}

/// A span that the program marked, such as an optimizer's step.
#[derive(Clone, Debug)]
pub struct Annotation {
    pub begins: bool,
    pub name: Clean,
    pub time_us: i64,
}

/// The allocator's settings as the snapshot gives them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllocatorSettings {
    /// `PYTORCH_CUDA_ALLOC_CONF` (now `PYTORCH_ALLOC_CONF`) as it was set.
    pub alloc_conf: Clean,
    pub expandable_segments: Option<bool>,
    pub max_split_size: Option<u64>,
}

/// A memory snapshot of PyTorch, as `torch.cuda.memory._dump_snapshot` writes it.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub devices: Vec<SnapshotDevice>,
    pub frames: Vec<StackFrame>,
    /// The first one stands for no stack.
    pub stacks: Vec<Stack>,
    pub annotations: Vec<Annotation>,
    pub settings: Option<AllocatorSettings>,
    /// Entries that were no segment, block or event and were passed over.
    pub passed_over: u64,
}
