//! The memory model against runs that were measured on a GPU.

use std::process::Command;

use serde_json::Value;

struct Run {
    id: String,
    allocated: f64,
    device: f64,
    estimate: Value,
}

fn runs() -> Vec<Run> {
    let folder = tempfile::tempdir().unwrap();
    include_str!("../measured/runs.jsonl")
        .lines()
        .map(|line| {
            let run: Value = serde_json::from_str(line).unwrap();
            let config = folder.path().join("config.yaml");
            std::fs::write(&config, run["config"].as_str().unwrap()).unwrap();
            let args = run["args"].as_array().unwrap().iter().map(|a| a.as_str().unwrap());
            let output = Command::new(env!("CARGO_BIN_EXE_oomph"))
                .args(["estimate", "--json", "--config"])
                .arg(&config)
                .args(args)
                .output()
                .unwrap();
            let estimate = serde_json::from_slice(&output.stdout)
                .unwrap_or_else(|e| panic!("{}: {e}: {}", run["id"], String::from_utf8_lossy(&output.stderr)));
            Run {
                id: run["id"].as_str().unwrap().to_string(),
                allocated: run["allocated"].as_f64().unwrap(),
                device: run["device"].as_f64().unwrap(),
                estimate,
            }
        })
        .collect()
}

/// An evaluation that keeps its logits grows with the data set, which no configuration names.
const NOT_MODELLED: &[&str] = &["h-q05-eval"];

#[test]
fn predictions_stay_near_what_was_measured() {
    let (mut allocated, mut device, mut inside, mut worst) = (Vec::new(), Vec::new(), 0, Vec::new());
    for run in runs().iter().filter(|r| !NOT_MODELLED.contains(&r.id.as_str())) {
        let peak = &run.estimate["peak"];
        let of = |name: &str| peak[name].as_f64().unwrap();
        let error = (of("allocated_bytes") / run.allocated - 1.0).abs();
        allocated.push(error);
        device.push((of("device_bytes") / run.device - 1.0).abs());
        inside += usize::from(of("low_bytes") <= run.device && run.device <= of("high_bytes"));
        if error > 0.10 {
            worst.push(format!("{} {error:.3}", run.id));
        }
        let parts: f64 = run.estimate["phases"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| {
                let sum: f64 = p["components"].as_object().unwrap().values().map(|v| v.as_f64().unwrap()).sum();
                (sum - p["bytes"].as_f64().unwrap()).abs()
            })
            .sum();
        assert!(parts < 1.0, "{}: components do not sum to their phase", run.id);
    }
    let mean = |all: &[f64]| all.iter().sum::<f64>() / all.len() as f64;
    println!("allocated {:.4}, device {:.4}, inside {inside} of {}", mean(&allocated), mean(&device), device.len());
    assert!(worst.is_empty(), "{worst:?}");
    assert!(mean(&allocated) <= 0.02, "allocated {:.4}", mean(&allocated));
    assert!(mean(&device) <= 0.03, "device {:.4}", mean(&device));
    let share = inside as f64 / device.len() as f64;
    assert!((0.75..=0.95).contains(&share), "{share:.2} of the runs lie in the interval of four in five");
}
