//! Writes the log of a long GRPO run: `cargo bench --bench trl_log -- SIZE FILE`, with a size such as `1GiB`.
//!
//! Shaped like real output of TRL 1.16 (`tests/logs/trl1-grpo.log`): 25 keys a point, six redraws of the bar between points.

#[path = "grpo/mod.rs"]
mod grpo;

use std::{
    fs::File,
    io::{BufWriter, Write},
    process::ExitCode,
};

use oomph::model::Bytes;

fn main() -> ExitCode {
    // Cargo adds `--bench`.
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let [size, path] = args.as_slice() else {
        eprintln!("usage: cargo bench --bench trl_log -- SIZE FILE");
        return ExitCode::SUCCESS;
    };
    let Ok(Bytes(size)) = size.parse() else {
        eprintln!("{size} is no size");
        return ExitCode::from(2);
    };
    let written = File::create(path).and_then(|file| {
        let mut out = BufWriter::with_capacity(1 << 20, file);
        grpo::write(&mut out, size).and_then(|points| out.flush().map(|()| points))
    });
    match written {
        Ok(points) => {
            eprintln!("{path}: {points} points");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{path}: {error}");
            ExitCode::from(2)
        }
    }
}
