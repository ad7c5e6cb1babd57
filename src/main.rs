use std::process::ExitCode;

use oomph::cli::{self, Cli};

fn main() -> ExitCode {
    match Cli::read().map(cli::run) {
        Ok(Ok(code)) | Err(code) => code,
        Ok(Err(error)) => {
            cli::say(&format!("error: {error:#}"));
            ExitCode::from(2)
        }
    }
}
