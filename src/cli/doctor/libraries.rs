//! The training libraries of the Python that is in use: their versions from the names of folders, nothing is run.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::Check;
use crate::model::Clean;

const AREA: &str = "Python libraries";
/// The ones that diagnosis and estimates depend on.
const KNOWN: &[&str] = &[
    "torch",
    "transformers",
    "trl",
    "accelerate",
    "peft",
    "bitsandbytes",
    "deepspeed",
    "vllm",
    "flash_attn",
    "liger_kernel",
    "unsloth",
    "lightning",
    "jax",
    "tensorflow",
];

/// `driver`: the newest CUDA that it runs.
pub fn checks(driver: Option<(i32, i32)>) -> Vec<Check> {
    let Some(packages) = packages() else { return Vec::new() };
    let versions = versions(&packages);
    if versions.is_empty() {
        return Vec::new();
    }
    let shown: Vec<String> = versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    let mut check = Check::well(AREA, "versions", format!("{} in {}", shown.join(", "), packages.display()));
    for (name, version) in &versions {
        check = check.fact(name, version.as_str());
    }
    let mut all = vec![check];
    if let (Some(built), Some((major, minor))) = (cuda_of_torch(&packages), driver) {
        let wanted = built.split('.').next().and_then(|n| n.parse::<i32>().ok());
        if wanted.is_some_and(|wanted| wanted > major) {
            let says = format!("PyTorch is built for CUDA {built}, the driver runs CUDA up to {major}.{minor}");
            let advice = format!("update the driver, or install a PyTorch that is built for CUDA {major}");
            all.push(Check::off(AREA, "cuda", says).advise(advice));
        }
    }
    all
}

/// The packages' folder of the active environment, or of the first python3 on the path.
fn packages() -> Option<PathBuf> {
    let active = ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter().filter_map(std::env::var_os).map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join("python3")).find(|python| python.is_file());
    // A virtual environment's python is a link to another folder's: its own packages come first.
    let linked = found.iter().filter_map(|python| Some(python.parent()?.parent()?.to_path_buf()));
    let real = found.iter().filter_map(|python| Some(python.canonicalize().ok()?.parent()?.parent()?.to_path_buf()));
    active.chain(linked).chain(real).find_map(|prefix| {
        let mut libraries: Vec<PathBuf> =
            std::fs::read_dir(prefix.join("lib")).ok()?.flatten().map(|entry| entry.path()).collect();
        libraries.retain(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("python3")));
        libraries.sort();
        ["site-packages", "dist-packages"]
            .iter()
            .flat_map(|name| libraries.iter().rev().map(move |library| library.join(name)))
            .find(|folder| !versions(folder).is_empty())
    })
}

/// Versions of the known packages: `torch-2.9.0.dist-info` is torch 2.9.0.
fn versions(packages: &Path) -> BTreeMap<&'static str, Clean> {
    let Ok(entries) = std::fs::read_dir(packages) else { return BTreeMap::new() };
    let mut found = BTreeMap::new();
    for entry in entries.flatten().take(20_000) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some((package, version)) = name.strip_suffix(".dist-info").and_then(|n| n.split_once('-')) else {
            continue;
        };
        let package = package.to_lowercase().replace('-', "_");
        if let Some(known) = KNOWN.iter().find(|known| **known == package) {
            found.insert(*known, Clean::new(version));
        }
    }
    found
}

/// The CUDA that PyTorch was built for: `cuda = '12.8'` in its `version.py`.
fn cuda_of_torch(packages: &Path) -> Option<String> {
    let text = std::fs::read_to_string(packages.join("torch/version.py")).ok()?;
    let line = text.lines().find(|line| line.starts_with("cuda"))?;
    let version = line.split(['\'', '"']).nth(1)?;
    version.bytes().all(|b| b.is_ascii_digit() || b == b'.').then(|| version.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_come_from_names_of_folders() {
        let folder = tempfile::tempdir().unwrap();
        for name in
            ["torch-2.9.0+cu128.dist-info", "trl-0.25.1.dist-info", "Flask-3.0.dist-info", "flash_attn-2.8.dist-info"]
        {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        std::fs::create_dir(folder.path().join("torch")).unwrap();
        let text = "__version__ = '2.9.0+cu128'\ncuda: Optional[str] = '12.8'\nhip = None\n";
        std::fs::write(folder.path().join("torch/version.py"), text).unwrap();
        let found = versions(folder.path());
        assert_eq!(
            found.iter().map(|(n, v)| format!("{n} {v}")).collect::<Vec<_>>(),
            ["flash_attn 2.8", "torch 2.9.0+cu128", "trl 0.25.1"]
        );
        assert_eq!(cuda_of_torch(folder.path()).as_deref(), Some("12.8"));
    }
}
