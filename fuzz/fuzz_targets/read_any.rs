//! Every metrics reader, text and binary: the first byte chooses the file name, the second the size of the chunks.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oomph::parse::files::AnyReader;

const NAMES: &[&str] = &["train.log", "events.out.tfevents.1", "run.wandb", "trainer_state.json", "log.jsonl", "metrics.csv"];

fuzz_target!(|data: &[u8]| {
    let [name, chunk, text @ ..] = data else { return };
    let mut reader = AnyReader::for_path(NAMES[usize::from(*name) % NAMES.len()]);
    let mut out = Vec::new();
    for part in text.chunks(usize::from(*chunk) + 1) {
        reader.feed(part, &mut out);
    }
    reader.finish(&mut out);
});
