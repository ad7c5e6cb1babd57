//! Message families that are data: one TOML file each.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock, Mutex, OnceLock},
};

use aho_corasick::AhoCorasick;
use regex::Regex;
use serde::Deserialize;

use crate::{model::failure::Memory, parse::pattern};

/// Every built-in family; of two that match the same line the earlier names it.
const FILES: &[(&str, &str)] = &[
    ("memcg", include_str!("families/memcg.toml")),
    ("oom_killer", include_str!("families/oom_killer.toml")),
    ("slurm", include_str!("families/slurm.toml")),
    ("k8s", include_str!("families/k8s.toml")),
    ("ray_task", include_str!("families/ray_task.toml")),
    ("ray_raylet", include_str!("families/ray_raylet.toml")),
    ("elastic", include_str!("families/elastic.toml")),
    ("deepspeed", include_str!("families/deepspeed.toml")),
    ("shm_bus", include_str!("families/shm_bus.toml")),
    ("shm_write", include_str!("families/shm_write.toml")),
    ("shm_nccl", include_str!("families/shm_nccl.toml")),
    ("worker_killed", include_str!("families/worker_killed.toml")),
    ("vllm_cumem", include_str!("families/vllm_cumem.toml")),
    ("vllm_sampler", include_str!("families/vllm_sampler.toml")),
    ("habana", include_str!("families/habana.toml")),
    ("cuda_malloc_async", include_str!("families/cuda_malloc_async.toml")),
    ("onnxruntime", include_str!("families/onnxruntime.toml")),
    ("tpu_vmem", include_str!("families/tpu_vmem.toml")),
    ("bfc", include_str!("families/bfc.toml")),
    ("bnb", include_str!("families/bnb.toml")),
    ("cpu", include_str!("families/cpu.toml")),
    ("cublas", include_str!("families/cublas.toml")),
    ("cudnn", include_str!("families/cudnn.toml")),
    ("cupy", include_str!("families/cupy.toml")),
    ("device_assert", include_str!("families/device_assert.toml")),
    ("ascend", include_str!("families/ascend.toml")),
    ("pagefile", include_str!("families/pagefile.toml")),
    ("notebook", include_str!("families/notebook.toml")),
    ("metal", include_str!("families/metal.toml")),
    ("metal_busy", include_str!("families/metal_busy.toml")),
    ("ggml_vulkan", include_str!("families/ggml_vulkan.toml")),
    ("ggml_host", include_str!("families/ggml_host.toml")),
    ("ggml_old", include_str!("families/ggml_old.toml")),
    ("mxnet", include_str!("families/mxnet.toml")),
    ("ggml", include_str!("families/ggml.toml")),
    ("hip", include_str!("families/hip.toml")),
    ("illegal", include_str!("families/illegal.toml")),
    ("jax", include_str!("families/jax.toml")),
    ("mps", include_str!("families/mps.toml")),
    ("nccl", include_str!("families/nccl.toml")),
    ("nccl_timeout", include_str!("families/nccl_timeout.toml")),
    ("one_eb", include_str!("families/one_eb.toml")),
    ("paddle", include_str!("families/paddle.toml")),
    ("pinned", include_str!("families/pinned.toml")),
    ("sglang", include_str!("families/sglang.toml")),
    ("theano", include_str!("families/theano.toml")),
    ("tf_dst", include_str!("families/tf_dst.toml")),
    ("tf", include_str!("families/tf.toml")),
    ("triton", include_str!("families/triton.toml")),
    ("vllm_blocks", include_str!("families/vllm_blocks.toml")),
    ("vllm_free", include_str!("families/vllm_free.toml")),
    ("vllm_len", include_str!("families/vllm_len.toml")),
    ("vllm_need", include_str!("families/vllm_need.toml")),
    ("vllm_sgl_fi", include_str!("families/vllm_sgl_fi.toml")),
    ("xpu", include_str!("families/xpu.toml")),
    ("xpu_driver", include_str!("families/xpu_driver.toml")),
    ("comfyui", include_str!("families/comfyui.toml")),
    ("bus", include_str!("families/bus.toml")),
    ("bare", include_str!("families/bare.toml")),
    ("driver", include_str!("families/driver.toml")),
    ("python", include_str!("families/python.toml")),
    ("ray_died", include_str!("families/ray_died.toml")),
    ("killed", include_str!("families/killed.toml")),
    ("disk", include_str!("families/disk.toml")),
    ("segfault", include_str!("families/segfault.toml")),
];

/// Kinds that are told by more than one pattern.
const KINDS: &str = include_str!("kinds.toml");

/// What a pattern's groups may be called; a pattern with several shapes has them again with a 2, 3 or 4.
const GROUPS: &[&str] = &[
    "device",
    "requested",
    "requested_bytes",
    "capacity",
    "capacity_bytes",
    "capacity_gib",
    "in_use",
    "in_use_gib",
    "free",
    "free_bytes",
    "free_gib",
    "allocated",
    "allocated_bytes",
    "allowed",
    "allowed_bytes",
    "other",
    "contiguous",
    "shape",
    "dtype",
    "fraction",
    "tokens_needed",
    "tokens_available",
];

/// A kind of message, for people.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    pub id: String,
    pub title: String,
    pub about: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Kinds {
    kind: Vec<About>,
}

/// A family as its file says it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    id: String,
    title: String,
    about: String,
    memory: Memory,
    #[serde(default = "yes")]
    is_oom: bool,
    refusal: Option<String>,
    pattern: String,
    literals: Vec<String>,
    #[serde(default)]
    sample: Vec<Sample>,
}

fn yes() -> bool {
    true
}

/// A text of the family, and the figures that it must give.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    pub text: String,
    /// Names of [`crate::model::failure::Numbers`] and their bytes.
    #[serde(default)]
    pub gives: BTreeMap<String, u64>,
}

/// A family, ready to be matched.
#[derive(Debug)]
pub struct Family {
    pub about: About,
    pub memory: Memory,
    pub is_oom: bool,
    /// For a look-alike: why it is not out of memory.
    pub refusal: Option<String>,
    /// What a message looks like. Groups give its figures.
    source: String,
    /// Made when it is first asked for: most are never, and all of them together hold megabytes.
    pattern: OnceLock<Option<Regex>>,
    /// Lower-case words of which one stands in every such message.
    pub literals: Vec<String>,
    pub samples: Vec<Sample>,
}

impl Family {
    pub fn id(&self) -> &str {
        &self.about.id
    }

    /// The pattern, made when it is first wanted: most texts want few.
    pub(super) fn pattern(&self) -> Option<&Regex> {
        self.pattern.get_or_init(|| compile(&self.source).ok()).as_ref()
    }
}

/// The families that a text is read by: the user's own first.
#[derive(Debug)]
pub struct Families {
    own: Vec<Family>,
    built_in: &'static [Family],
    /// Finds the bytes at which one may stand.
    pub(super) search: AhoCorasick,
}

static BUILT_IN: LazyLock<Vec<Family>> =
    LazyLock::new(|| FILES.iter().filter_map(|(_, text)| parse(text).ok()).collect());

impl Families {
    /// The user's families before the built-in ones.
    pub fn new(own: Vec<Family>) -> Self {
        let general = ["out of memory", "outofmemory", "tried to allocate", "of memory", "\u{a0}"].map(str::to_string);
        let families = BUILT_IN.iter().chain(&own).flat_map(|f| f.literals.iter());
        let all: Vec<String> = families.flat_map(|literal| with_halves(literal)).chain(general).collect();
        let search = AhoCorasick::builder().ascii_case_insensitive(true).build(all).expect("the literals are short");
        Self { own, built_in: &BUILT_IN, search }
    }

    pub fn own(&self) -> &[Family] {
        &self.own
    }

    pub fn built_in(&self) -> &[Family] {
        self.built_in
    }

    /// Every kind that a diagnosis may name, with its prose.
    pub fn kinds(&self) -> Vec<About> {
        let coded = toml::from_str::<Kinds>(KINDS).map(|k| k.kind).unwrap_or_default();
        let all = self.own.iter().chain(self.built_in).map(|f| f.about.clone());
        all.chain(coded).collect()
    }
}

/// A literal, and the halves of a long one: a wrapped line cuts at most one of them.
fn with_halves(literal: &str) -> Vec<String> {
    let words: Vec<&str> = literal.split(' ').collect();
    let mut all = vec![literal.to_string()];
    if words.len() >= 3 {
        let (first, second) = words.split_at(words.len() / 2);
        all.extend([first.join(" "), second.join(" ")].into_iter().filter(|half| half.len() >= 8));
    }
    all
}

static OWN: Mutex<Vec<Family>> = Mutex::new(Vec::new());
static KNOWN: LazyLock<Arc<Families>> = LazyLock::new(|| {
    let own = OWN.lock().map(|mut own| std::mem::take(&mut *own)).unwrap_or_default();
    Arc::new(Families::new(own))
});

/// Adds the user's own families. To be called before anything is read.
pub fn add(own: Vec<Family>) {
    if let Ok(mut all) = OWN.lock() {
        all.extend(own);
    }
}

/// The families of this process.
pub fn known() -> Arc<Families> {
    KNOWN.clone()
}

/// The least length of a literal: a shorter one stands everywhere and slows the search down.
const SHORTEST: usize = 4;

/// Reads a family's file.
///
/// # Errors
/// What is wrong with it, in words.
pub fn read(text: &str) -> Result<Family, String> {
    let family = parse(text)?;
    for name in compile(&family.source)?.capture_names().flatten() {
        if !GROUPS.contains(&name) && !GROUPS.contains(&name.trim_end_matches(['2', '3', '4'])) {
            return Err(format!("pattern: no figure is called {name}; known are {}", GROUPS.join(", ")));
        }
    }
    if family.is_oom == (family.memory == Memory::None) || family.is_oom == family.refusal.is_some() {
        return Err("is_oom = false goes with memory = \"none\" and a refusal, and only then".into());
    }
    if family.literals.is_empty() || family.literals.iter().any(|l| l.trim().len() < SHORTEST) {
        return Err(format!(
            "literals: words of at least {SHORTEST} letters, of which one stands in every such message"
        ));
    }
    Ok(family)
}

fn parse(text: &str) -> Result<Family, String> {
    let file: File = toml::from_str(text).map_err(|e| e.to_string())?;
    Ok(Family {
        about: About { id: file.id, title: file.title, about: file.about },
        memory: file.memory,
        is_oom: file.is_oom,
        refusal: file.refusal,
        source: file.pattern,
        pattern: OnceLock::new(),
        literals: file.literals.iter().map(|l| l.to_ascii_lowercase()).collect(),
        samples: file.sample,
    })
}

/// People retype messages; case means nothing unless the pattern says so.
fn compile(source: &str) -> Result<Regex, String> {
    pattern::ascii(&format!("(?i){source}")).map_err(|e| format!("pattern: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_reads_finds_its_samples_and_is_listed() {
        for (name, text) in FILES {
            let family = read(text).unwrap_or_else(|error| panic!("{name}.toml: {error}"));
            assert!(family.about.title.len() > 5 && family.about.about.len() > 20, "{name}.toml says nothing");
            super::super::check(family).unwrap_or_else(|error| panic!("{name}.toml: {error}"));
        }
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/parse/oom/families");
        let mut there: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|e| e.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        let mut listed: Vec<_> = FILES.iter().map(|(n, _)| (*n).to_string()).collect();
        there.sort();
        listed.sort();
        assert_eq!(there, listed);
    }

    /// The samples of the built-in families are found by the built-in search too, as their kind or one that says more.
    #[test]
    fn the_built_in_families_find_their_samples_together() {
        for family in BUILT_IN.iter() {
            for sample in &family.samples {
                let mut scanner = super::super::Scanner::with(Arc::new(Families::new(Vec::new())), "x".into());
                scanner.feed(sample.text.as_bytes());
                scanner.finish();
                let kinds: Vec<&str> = scanner.incidents().iter().map(|i| i.kind.as_str()).collect();
                assert_eq!(kinds.first(), Some(&family.id()), "{}", sample.text);
            }
        }
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said() {
        let check = |change: (&str, &str), want: &str| {
            let good = "id = \"a.b\"\ntitle = \"A card\"\nabout = \"What it is\"\nmemory = \"gpu\"\nliterals = [\"card full\"]\npattern = 'card full: (?<requested>\\d+ MiB)'\n[[sample]]\ntext = 'card full: 12 MiB'\ngives = { requested_bytes = 12582912 }\n";
            assert!(good.contains(change.0), "{change:?}");
            let got = read(&good.replace(change.0, change.1)).and_then(super::super::check);
            match want {
                "" => assert_eq!(got, Ok(())),
                want => assert!(got.as_ref().is_err_and(|error| error.contains(want)), "{change:?}: {got:?}"),
            }
        };
        check(("card", "card"), "");
        check(("<requested>", "<asked>"), "no figure is called asked");
        check(("12582912", "13"), "requested_bytes is 12582912, not 13");
        check(("text = 'card full: 12 MiB'", "text = 'cart fool'"), "nothing is found in it");
        check(("[\"card full\"]", "[]"), "literals");
        check(("memory = \"gpu\"", "memory = \"none\""), "is_oom");
        check(("(?<requested>", "("), "requested_bytes is nothing");
        check(("title", "titel"), "titel");
        check(("\\d+ MiB)", "\\d+ MiB"), "pattern");
    }
}
