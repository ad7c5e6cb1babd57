//! # The logits of the whole vocabulary
//!
//! ## What it is
//! A number for every token and every entry of the vocabulary, in several copies: at 150,000 entries one sequence of 4,096
//! tokens takes 2.3 GiB in float32, once for the logits and again for their softmax and gradient.
//!
//! ## What it looks for
//! A traceback that ends in the loss (cross_entropy, log_softmax, logsumexp, entropy, lm_head); a request that is tokens x
//! vocabulary x 2 or 4 bytes to the last printed digit.
//!
//! ## What would settle it
//! The traceback; or the model (`--model`) and the batch, for the arithmetic.
//!
//! ## What helps
//! `liger_or_chunked_loss`, `reduce_batch`, shorter sequences.

use crate::model::{failure::PhaseId, knobs::Knob};

use super::{Case, Verdict, found, message};

pub(super) fn check(case: &Case<'_>) -> Verdict {
    let n = &case.incident.numbers;
    let phase = case.incident.phase.id;
    if phase == PhaseId::LogitsLoss {
        return found(
            0.86,
            case.incident.phase.evidence.clone(),
            "it died in the loss: logits of every token and vocabulary entry",
        );
    }
    // tokens x vocabulary x 2 or 4 bytes, as near as the message prints it (two decimals, segments of 2 MiB).
    let Some(requested) = n.requested_bytes.filter(|r| *r > 64 << 20) else { return Verdict::Absent };
    let Some(model) = case.knobs.str(Knob::Model).and_then(crate::memory::models::find) else {
        return Verdict::Absent;
    };
    let vocab = model.vocab;
    // The optimizer asks for the embedding's size, which has the vocabulary in it as well.
    if !matches!(phase, PhaseId::Unknown | PhaseId::Forward | PhaseId::Backward | PhaseId::Scoring | PhaseId::Eval) {
        return Verdict::Absent;
    }
    let printed = if requested >= 1 << 30 { 5 << 20 } else { 5 << 10 };
    let matches = |tokens: u64, width: u64| {
        let exact = tokens * vocab * width;
        exact <= requested + printed && requested <= exact + printed + (2 << 20)
    };
    let k = case.knobs;
    let lengths = [
        k.u64(Knob::SequenceLength),
        k.u64(Knob::MaxCompletionLength),
        k.u64(Knob::MaxCompletionLength).map(|l| l + 1),
        k.u64(Knob::MaxCompletionLength).zip(k.u64(Knob::PromptLength)).map(|(a, b)| a + b),
    ];
    let batch = k.u64(Knob::PerDeviceTrainBatchSize);
    let of_the_job = batch.into_iter().flat_map(|b| lengths.into_iter().flatten().map(move |l| b * l));
    let proof = |score: f64, tokens: u64, width: u64| {
        let summary = format!("the request is {tokens} tokens x {vocab} vocabulary entries x {width} bytes: logits");
        found(score, vec![message(case)], summary)
    };
    for tokens in of_the_job {
        if let Some(width) = [4, 2].into_iter().find(|width| matches(tokens, *width)) {
            return proof(0.8, tokens, width);
        }
    }
    // A round number of tokens is a hint and no more.
    for width in [4, 2] {
        let near = requested / (vocab * width);
        let round = (near + 64) / 128 * 128;
        if round >= 256 && round != model.hidden && matches(round, width) {
            return proof(0.5, round, width);
        }
    }
    Verdict::Absent
}
