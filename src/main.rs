use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match oomph::cli::run(oomph::cli::Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}
