//! A coarse, fast look for what deserves the scanner's attention in a long log.
//!
//! Every message holds one of a few short cores; a search for those goes at the speed of memory. Only around a core the literals themselves are looked for.

use std::sync::Arc;

use aho_corasick::packed;

use super::Families;

/// Parts of words of which one stands in every message, without the word's first letter where it may be a capital one. The
/// search is twice as fast up to 32 of them.
#[rustfmt::skip]
const CORES: &[&str] = &[
    "emory", "EMORY", "lloc", "LLOC", "illed", "xitcod", "xit code", "ith code", "on-zero ex", "de = -9", "kill",
    "OOM w", "SIGKI", "esour", "UBLAS_", "uDNN", "evice-s", "llegal", "ault by", "egmentat", "atchdo", "uota e", "pace l",
    "/torch_", "hm/nccl-", "ror 1455", "ble RAM", "F_RESO", "kIOGPU", "Dst te",
];
/// What a banner of settings holds that may stand anywhere in a log, such as after a restart.
const BANNERS: &[&str] = &["unning training", "ize per device"];
/// Bytes on both sides of a core in which a literal may stand.
const AROUND: usize = 160;

/// What a stretch of text may hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Where something like the first message begins.
    pub message: Option<usize>,
    /// A trainer's banner with settings.
    pub banner: bool,
}

/// The coarse search.
#[derive(Debug)]
pub struct Sieve {
    families: Arc<Families>,
    cores: Option<packed::Searcher>,
    /// Patterns from this one on are banners.
    banners: usize,
}

impl Sieve {
    pub fn new(families: Arc<Families>) -> Self {
        let mut patterns: Vec<String> = CORES.iter().map(ToString::to_string).collect();
        for literal in families.own().iter().flat_map(|f| &f.literals).filter(|l| !CORES.iter().any(|c| l.contains(c)))
        {
            let longest = literal.split(' ').max_by_key(|word| word.len()).unwrap_or(literal);
            let core = longest.get(1..).unwrap_or(longest);
            patterns.extend([core.to_string(), core.to_ascii_uppercase()]);
        }
        patterns.sort();
        patterns.dedup();
        let banners = patterns.len();
        patterns.extend(BANNERS.iter().map(ToString::to_string));
        let cores = packed::Config::new().builder().extend(&patterns).build();
        Self { families, cores, banners }
    }

    /// Looks through `bytes` from `from` on; what stands before it belongs to the context.
    pub fn look(&self, bytes: &[u8], from: usize) -> Found {
        let mut found = Found::default();
        let rest = bytes.get(from..).unwrap_or_default();
        let Some(cores) = &self.cores else {
            return Found { message: self.families.search.is_match(bytes).then_some(from), banner: true };
        };
        let mut seen = 0;
        for core in cores.find_iter(rest) {
            if core.pattern().as_usize() >= self.banners {
                found.banner = true;
                continue;
            }
            if found.message.is_some() || from + core.end() <= seen {
                continue;
            }
            let begin = (from + core.start()).saturating_sub(AROUND).max(seen.saturating_sub(AROUND));
            seen = (from + core.end() + AROUND).min(bytes.len());
            found.message = self.families.search.is_match(&bytes[begin..seen]).then_some(begin);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_is_found_in_a_long_text() {
        let families = Arc::new(Families::new(Vec::new()));
        let sieve = Sieve::new(families.clone());
        let noise = "{'loss': 1.25, 'rewards/format': 0.5, 'num_tokens': 12.0}\n".repeat(40);
        assert_eq!(sieve.look(noise.as_bytes(), 0), Found::default());
        for sample in families.built_in().iter().flat_map(|f| &f.samples) {
            let text = format!("{noise}{}\n{noise}", sample.text);
            assert!(sieve.look(text.as_bytes(), 0).message.is_some(), "{text}");
        }
        assert!(sieve.cores.is_some() || !cfg!(target_arch = "x86_64"));
        assert!(CORES.len() + BANNERS.len() <= 32);
        // Words that are near it and say nothing.
        let near = "memory/max_allocated (GiB): 21.5\n".repeat(20);
        assert!(sieve.look(near.as_bytes(), 0).message.is_none());
        assert!(sieve.look(b"***** Running training *****\n", 0).banner);
    }
}
