//! A coarse, fast look for what deserves the scanner's attention in a long log.
//!
//! Every literal of the families holds one of a few short cores in small or capital letters; a search for those goes at the
//! speed of memory. Only around a core the literals themselves are looked for.

use std::sync::Arc;

use aho_corasick::packed;

use super::Families;

/// Parts of words of which one stands in every literal, without the word's first letter where it may be a capital one.
/// The search is fast up to 64 of them.
#[rustfmt::skip]
const CORES: &[&str] = &[
    "emory", "lloca", "illed", "xitcod", "ode 137", "ode: 137", "de = -9", "oom-k", "oom_k", "oom w", "sigki", "sigbu",
    "esour", "uda er", "uda_er", "udaerr", "uda ru", "uda fa", "ublas_", "udnn", "evice-s", "llegal", "ault by", "egmentat",
    "atchdo", "uota e", "pace l", "/torch_", "hm/nccl-", "mem-fr", "ache bl", "erve at", "arming up", "han the max",
    "han 1eb", "devmem", "etry fa", "would ex", "ostalloc", "uda c", "int_memcg", "d_alloc",
];
/// How programs print those that have capital letters within.
#[rustfmt::skip]
const PRINTED: &[&str] = &[
    "UDA er", "UDA_ER", "udaErr", "UDA fa", "UDA c", "UBLAS_", "UDNN", "uDNN", "OOM w", "SIGKI", "SIGBU", "ESOUR", "han 1EB",
    "DEVMEM", "ostAlloc", "INT_MEMCG", "EMORY",
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
        let mut patterns: Vec<String> = CORES.iter().chain(PRINTED).map(ToString::to_string).collect();
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
    fn every_literal_holds_a_core() {
        let families = Families::new(Vec::new());
        for literal in families.built_in().iter().flat_map(|f| &f.literals) {
            assert!(CORES.iter().any(|core| literal.contains(core)), "{literal}");
        }
        assert!(Sieve::new(Arc::new(families)).cores.is_some() || !cfg!(target_arch = "x86_64"));
    }

    #[test]
    fn every_sample_is_found_in_a_long_text() {
        let families = Arc::new(Families::new(Vec::new()));
        let sieve = Sieve::new(families.clone());
        let noise = "{'loss': 1.25, 'rewards/format': 0.5, 'num_tokens': 12.0}\n".repeat(40);
        assert_eq!(sieve.look(noise.as_bytes(), 0), Found::default());
        for sample in families.built_in().iter().flat_map(|f| &f.samples) {
            for text in [sample.text.clone(), sample.text.to_ascii_lowercase()] {
                let text = format!("{noise}{text}\n{noise}");
                assert!(sieve.look(text.as_bytes(), 0).message.is_some(), "{text}");
            }
        }
        // Words that are near it and say nothing.
        let near = "memory/max_allocated (GiB): 21.5\n".repeat(20);
        assert!(sieve.look(near.as_bytes(), 0).message.is_none());
        assert!(sieve.look(b"***** Running training *****\n", 0).banner);
    }
}
