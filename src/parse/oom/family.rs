//! Message families that are data: one TOML file each.

use std::sync::LazyLock;

use regex::Regex;
use serde::Deserialize;

use crate::model::failure::Memory;

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
    ("tf", include_str!("families/tf.toml")),
    ("triton", include_str!("families/triton.toml")),
    ("vllm_blocks", include_str!("families/vllm_blocks.toml")),
    ("vllm_free", include_str!("families/vllm_free.toml")),
    ("vllm_len", include_str!("families/vllm_len.toml")),
    ("vllm_need", include_str!("families/vllm_need.toml")),
    ("vllm_sgl_fi", include_str!("families/vllm_sgl_fi.toml")),
    ("xpu", include_str!("families/xpu.toml")),
    ("comfyui", include_str!("families/comfyui.toml")),
    ("bus", include_str!("families/bus.toml")),
    ("bare", include_str!("families/bare.toml")),
    ("driver", include_str!("families/driver.toml")),
    ("python", include_str!("families/python.toml")),
    ("killed", include_str!("families/killed.toml")),
    ("disk", include_str!("families/disk.toml")),
    ("segfault", include_str!("families/segfault.toml")),
];

/// A family as its file says it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    id: String,
    memory: Memory,
    #[serde(default = "yes")]
    is_oom: bool,
    refusal: Option<String>,
    pattern: String,
    literals: Vec<String>,
}

fn yes() -> bool {
    true
}

/// A family, ready to be matched.
#[derive(Debug)]
pub struct Family {
    pub id: String,
    pub memory: Memory,
    pub is_oom: bool,
    /// For a look-alike: why it is not out of memory.
    pub refusal: Option<String>,
    /// What a message looks like. Groups give its figures.
    pub pattern: Regex,
    /// Lower-case words of which one stands in every such message.
    pub literals: Vec<String>,
}

/// The built-in families.
pub static FAMILIES: LazyLock<Vec<Family>> =
    LazyLock::new(|| FILES.iter().filter_map(|(_, text)| read(text).ok()).collect());

/// Reads a family's file.
///
/// # Errors
/// What is wrong with it, in words.
pub fn read(text: &str) -> Result<Family, String> {
    let file: File = toml::from_str(text).map_err(|e| e.to_string())?;
    // People retype messages; case means nothing unless the pattern says so.
    let pattern = Regex::new(&format!("(?i){}", file.pattern)).map_err(|e| e.to_string())?;
    Ok(Family {
        id: file.id,
        memory: file.memory,
        is_oom: file.is_oom,
        refusal: file.refusal,
        pattern,
        literals: file.literals.iter().map(|l| l.to_ascii_lowercase()).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_reads_and_is_listed() {
        for (name, text) in FILES {
            if let Err(error) = read(text) {
                panic!("{name}.toml: {error}");
            }
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
}
