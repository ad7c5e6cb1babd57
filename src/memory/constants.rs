//! Every constant of the memory model that was measured or fitted, in one place, with where it is from.
//!
//! Counted bytes (which tensors an operation keeps) stand where they are used; what no counting gives stands here.
//! The runs are those of `tests/measured`: one NVIDIA H200, driver 580, torch 2.11, transformers 5.17, TRL 1.16 (three on
//! transformers 4.48 and TRL 0.14). `cargo test --test it held_out -- --nocapture` fits the reserve anew and prints what the fit says of
//! models it has not seen.

pub const GIB: f64 = 1_073_741_824.0;
pub const MIB: f64 = 1_048_576.0;

/// cuBLAS workspaces inside the pool on Hopper: 32 MiB before the first backward, 80 MiB (two threads, small state)
/// after. Measured: the residue of every run's quiet moments.
pub const WORKSPACE_EARLY: f64 = 32.0 * MIB;
pub const WORKSPACE: f64 = 80.0 * MIB;

/// NF4 with double quantisation: half a byte, 1/64 for 8-bit scales, 4/(64*256) for theirs (bitsandbytes `quantize_4bit`).
pub const NF4_BYTES: f64 = 0.5159;
/// Two 8-bit states and a float32 scale for each block of 256 (bitsandbytes).
pub const ADAM_8BIT_BYTES: f64 = 2.03;

/// Context, kernels and libraries outside the pool: NVML's figure of the process less the reserved pool, 742 to 760 MiB
/// over 90 runs that do not generate.
pub const OUTSIDE: f64 = 758.0 * MIB;
/// Runs that generate: 772 MiB after 96 tokens, 850 after 1024, on a line (12 lengths); not seen past that.
pub const OUTSIDE_GENERATING: f64 = 764.0 * MIB;
pub const OUTSIDE_A_TOKEN: f64 = 0.085 * MIB;
pub const OUTSIDE_MOST: f64 = 1024.0 * MIB;
/// transformers 4.48 with TRL 0.14: three runs.
pub const OUTSIDE_EARLY: f64 = 830.0 * MIB;

/// What one layer's forward holds for a moment, in bytes a token and unit of the MLP's width: all weights trained,
/// float32 adapters, 16-bit adapters on a quantised base. Residues of the forward's peak, 20 runs, within 2 %.
pub const FORWARD_TRANSIENT: [f64; 3] = [5.4, 9.3, 7.8];
/// The same of its backward: for the MLP's width and for the hidden width. Residues of the backward's peak.
pub const BACKWARD_TRANSIENT: [(f64, f64); 3] = [(4.0, 4.0), (6.0, 6.0), (2.0, 4.0)];
/// The same of the prompt's forward before generation. Not extended past 32 sequences: there 6 % too high.
pub const PREFILL_TRANSIENT: [f64; 3] = [5.5, 12.0, 7.0];

/// Half the width of the interval that holds four of five runs, of the device's figure; and its least.
pub const SPREAD: f64 = 0.042;
pub const SPREAD_LEAST: f64 = 0.2 * GIB;
/// Where every layer's attention scores are tensors, the order of large blocks decides more.
pub const SPREAD_EAGER: f64 = 0.10;

/// Reserved and unusable at the peak, by what leaves the holes: coefficients of the features of
/// [`super::reserve::Group`], in GiB. Least squares over the runs of `tests/measured`, weighted by the device's figure.
pub const RESERVE: [[f64; 3]; 8] = [
    [0.14, 0.022, 0.0],  // not checkpointed: 1, allocated
    [0.06, 0.23, 0.017], // adapters: 1, layers, weights
    [0.09, 0.224, 0.02], // adapters on a quantised base: the same
    [0.52, 0.48, 0.0],   // foreach step of the optimizer: 1, billions of parameters
    [0.43, 0.2, 0.14],   // all weights trained, another peak: 1, billions, layers
    [0.02, 0.19, 0.0],   // the model's own loss, beside what the walk through the pool says: 1, layers
    [0.12, 0.26, 0.0],   // whole logits avoided by Liger, plain trainer: 1, billions
    [0.2, 0.75, 0.0],    // an evaluation's whole logits: 1, logits
];
/// Eager attention on top: of the scores of one layer in float32, and of whole logits where they are built.
pub const RESERVE_EAGER: (f64, f64) = (0.8, 1.0);
/// transformers 4.48 with TRL 0.14: of what is allocated.
pub const RESERVE_EARLY: f64 = 0.13;
