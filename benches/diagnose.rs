//! Finding and diagnosing the failure at the end of a long log, beside `rg -c OutOfMemoryError` on the same file.
//!
//! `cargo bench --bench diagnose -- [MEBIBYTES]` (1024 is what the promise is about; 128 by default). The file is made in
//! the folder for temporary files, and taken away. Prints the best of some runs of each, and their ratio.

#[path = "grpo/mod.rs"]
mod grpo;

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

const RUNS: usize = 7;

const FAILURE: &str = r#"Traceback (most recent call last):
  File "/home/u/train.py", line 61, in <module>
    trainer.train()
  File "/usr/lib/python3.12/site-packages/transformers/trainer.py", line 3736, in training_step
    self.accelerator.backward(loss, **kwargs)
  File "/usr/lib/python3.12/site-packages/torch/autograd/__init__.py", line 347, in backward
    _engine_run_backward(
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.16 GiB. GPU 0 has a total capacity of 79.19 GiB of which 512.00 MiB is free. Process 4711 has 78.60 GiB memory in use. Of the allocated memory 75.02 GiB is allocated by PyTorch, and 2.91 GiB is reserved by PyTorch but unallocated.
"#;

fn main() {
    // Cargo passes `--bench`.
    let mebibytes = std::env::args().skip(1).find_map(|arg| arg.parse::<u64>().ok()).unwrap_or(128);
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let log = folder.path().join("train.log");
    let mut file = BufWriter::new(File::create(&log).expect("a temporary file"));
    grpo::write(&mut file, mebibytes << 20).expect("room for the file");
    file.write_all(FAILURE.as_bytes()).and_then(|()| file.flush()).expect("room for the file");
    drop(file);

    let oomph = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_oomph"));
        command.args(["diagnose", "--json"]).arg(&log);
        command
    };
    let found = oomph().output().expect("oomph runs");
    let text = String::from_utf8_lossy(&found.stdout);
    assert!(text.contains("torch.cuda.v2_capacity") && text.contains("\"backward\""), "not found: {text}");
    let rg = || {
        let mut command = Command::new("rg");
        command.args(["-c", "OutOfMemoryError"]).arg(&log);
        command
    };
    let size = std::fs::metadata(&log).map_or(0, |about| about.len());
    if rg().stdout(Stdio::null()).status().is_err() {
        println!("no rg here: oomph alone {:?}", (0..RUNS).map(|_| time(oomph())).min());
        return;
    }
    // In turns, so that both see the same machine.
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        theirs.push(time(rg()));
        ours.push(time(oomph()));
    }
    let (ours, theirs) = (least(&ours), least(&theirs));
    println!("{} of {} MiB, best of {RUNS}", shown(&log), size >> 20);
    for (name, took) in [("rg -c", theirs), ("oomph diagnose", ours)] {
        println!("  {name:<15} {:>8.1} ms  {:.2} GiB/s", took * 1e3, size as f64 / took / f64::from(1 << 30));
    }
    println!("  ratio           {:.2}", ours / theirs);
}

fn time(mut command: Command) -> Duration {
    let begun = Instant::now();
    let done = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(done.is_ok());
    begun.elapsed()
}

fn least(all: &[Duration]) -> f64 {
    all.iter().min().map_or(0.0, Duration::as_secs_f64)
}

fn shown(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
