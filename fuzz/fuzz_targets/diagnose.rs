//! Finding and judging failures in any text. Whatever is said of it must be free of control characters.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oomph::{
    diagnose::diagnose,
    parse::{facts::Facts, oom::Scanner},
};

fuzz_target!(|data: &[u8]| {
    let mut scanner = Scanner::new("fuzz".into());
    let mut facts = Facts::default();
    scanner.feed(data);
    facts.feed(data);
    scanner.finish();
    let diagnosis = diagnose(scanner.incidents(), facts.knobs());
    for failure in &diagnosis.failures {
        for text in [&failure.message, &failure.summary] {
            assert!(!text.as_str().chars().any(char::is_control));
        }
    }
});
