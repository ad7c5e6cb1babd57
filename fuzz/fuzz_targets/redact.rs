//! A planted secret never survives the mask, however the text around it looks and wherever a read cuts it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oomph::model::redact::Mask;

fuzz_target!(|data: &[u8]| {
    let [cut, text @ ..] = data else { return };
    let secret = b"hf_Zx9Kq3LmT7vBn2Rw5Yp8Hd4Jf6Gs1Ac0";
    if text.windows(20).any(|w| w == &secret[3..23]) {
        // A part of it alone has no shape that anything could know it by.
        return;
    }
    let middle = text.len() / 2;
    let mut all = text[..middle].to_vec();
    all.extend_from_slice(b" ");
    all.extend_from_slice(secret);
    all.extend_from_slice(b" ");
    all.extend_from_slice(&text[middle..]);
    let mut mask = Mask::default();
    let mut out = Vec::new();
    for part in all.chunks(usize::from(*cut) + 1) {
        out.extend(mask.apply(part));
    }
    out.extend(mask.finish());
    assert_eq!(out.len(), all.len());
    assert!(!out.windows(20).any(|w| w == &secret[3..23]));
});
