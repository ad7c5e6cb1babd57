//! Configurations of trainers and of oomph, and command lines: the first byte chooses the file's name.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oomph::parse::config;

const NAMES: &[&str] = &["train.yaml", "config.json", "args.toml", "train.py", "ds_config.json", "trainer_state.json", "adapter_config.json"];

fuzz_target!(|data: &[u8]| {
    let [name, text @ ..] = data else { return };
    let text = String::from_utf8_lossy(text);
    let _ = config::read(NAMES[usize::from(*name) % NAMES.len()], &text);
    let _ = config::command(&text);
    if let Ok(own) = oomph::ui::config::Config::parse(&text) {
        let _ = own.keymap();
        let _ = own.rules();
    }
});
