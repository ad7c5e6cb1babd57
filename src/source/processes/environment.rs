//! The environment variables that matter to memory and ranks. No other is ever kept, shown or written down.

use std::{collections::BTreeMap, path::Path};

/// Beginnings of the names that are kept.
const KEPT: &[&str] = &[
    "CUDA_",
    "NCCL_",
    "PYTORCH_",
    "TORCH_",
    "TORCHELASTIC_",
    "SLURM_",
    "OMPI_COMM_WORLD_",
    "PMI_",
    "RANK",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "GROUP_RANK",
    "NODE_RANK",
    "WORLD_SIZE",
    "MASTER_",
    "NPROC",
    "OMP_NUM_THREADS",
    "XLA_",
    "ACCELERATE_",
    "DS_",
    "RAY_ADDRESS",
    "RAY_JOB_ID",
    "VLLM_",
    "UNSLOTH_",
    "TOKENIZERS_PARALLELISM",
    "ROCR_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
];

/// Names that say secret are not kept, whatever they begin with.
const SECRET: &[&str] = &["KEY", "TOKEN", "SECRET", "PASSW", "CREDENTIAL", "JWT", "AUTH"];

/// Whether a variable of this name may be kept.
pub fn is_kept(name: &str) -> bool {
    KEPT.iter().any(|known| name.starts_with(known)) && !is_secret(name)
}

/// Whether the name says that the value is a secret.
fn is_secret(name: &str) -> bool {
    name != "TOKENIZERS_PARALLELISM" && SECRET.iter().any(|word| name.to_ascii_uppercase().contains(word))
}

/// The values of this process's variables whose names say secret: what it starts inherits them.
pub fn own_secrets() -> Vec<String> {
    let all = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    all.filter(|(name, _)| is_secret(name)).filter_map(|(_, value)| value.into_string().ok()).collect()
}

/// The same of another process; nothing where it may not be read.
pub fn secrets_of(proc: &Path, pid: u32) -> Vec<String> {
    let bytes = std::fs::read(proc.join(pid.to_string()).join("environ")).unwrap_or_default();
    let entries = bytes.split(|b| *b == 0).filter_map(|entry| std::str::from_utf8(entry).ok()?.split_once('='));
    entries.filter(|(name, _)| is_secret(name)).map(|(_, value)| value.to_string()).collect()
}

/// The rank among all processes of the job, by whoever gave it one: torchrun and its like, Slurm, MPI.
pub fn rank<'a>(variable: &dyn Fn(&str) -> Option<&'a str>) -> Option<u32> {
    ["RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK"].iter().find_map(|name| variable(name)?.parse().ok())
}

/// The kept variables of `/proc/PID/environ`.
pub fn read(bytes: &[u8]) -> BTreeMap<String, String> {
    bytes
        .split(|b| *b == 0)
        .filter_map(|entry| std::str::from_utf8(entry).ok()?.split_once('='))
        .filter(|(name, _)| is_kept(name))
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_matters_is_kept() {
        let read = read(b"RANK=3\0HF_TOKEN=hf_x\0CUDA_VISIBLE_DEVICES=0,1\0PATH=/bin\0SLURM_JWT=ey\0VLLM_API_KEY=k\0AWS_SECRET_ACCESS_KEY=x\0NCCL_DEBUG=INFO\0=x\0junk\0");
        assert_eq!(read.keys().collect::<Vec<_>>(), ["CUDA_VISIBLE_DEVICES", "NCCL_DEBUG", "RANK"]);
        assert!(is_kept("TOKENIZERS_PARALLELISM"));
    }
}
