//! Memory snapshots: the pickle reader, what is made of its values, and the report with every figure in it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oomph::{
    diagnose::allocations,
    model::knobs::Knobs,
    parse::snapshot::{self, phase, python_frames},
};

fuzz_target!(|data: &[u8]| {
    let Ok(read) = snapshot::read(data) else { return };
    let report = allocations::report("fuzz".into(), &read, &|stack| phase(&read, stack));
    let diagnosis = allocations::diagnose(&report, &Knobs::default(), None, &|stack| python_frames(&read, stack));
    let _ = (serde_json::to_string(&report), serde_json::to_string(&diagnosis));
});
