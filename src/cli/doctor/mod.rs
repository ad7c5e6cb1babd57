//! `oomph doctor`: what this machine, terminal and configuration give oomph, and what to do where something is missing.
//!
//! Reads, asks and looks; changes nothing. Whatever may hang (a driver, a mount, a terminal) has a deadline.

mod driver;
mod files;
mod libraries;
mod machine;
mod own;
mod terminal;

use std::{fmt::Write, path::PathBuf, process::ExitCode, thread};

use anyhow::Result;
use clap::Args;
use serde_json::{Map, Value, json};

use super::report::{Paint, wrap};
use crate::{
    model::Clean,
    ui::theme::{Depth, Glyphs},
};

/// Check what this machine gives: driver, terminal, files, permissions, configuration.
///
/// Every line says what was found and, where something is missing, what to do. Name the logs or folders that you want
/// to watch to have their file systems looked at; without any, the present folder is.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  oomph doctor                        the machine, this terminal, the present folder
  oomph doctor /mnt/nfs/run1          and the file system of a run
  oomph doctor --json | jq '.checks[] | select(.state == \"off\")'

Exit status: 0 all well, 1 something is off.")]
pub struct DoctorArgs {
    /// Logs or folders that are to be watched
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// JSON (schema oomph.doctor/1)
    #[arg(long)]
    json: bool,
}

/// What one look found.
#[derive(Debug)]
struct Check {
    area: &'static str,
    /// Stable, for scripts.
    id: &'static str,
    state: State,
    says: Clean,
    /// What to do; a note may need nothing.
    advice: Option<Clean>,
    facts: Map<String, Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Well,
    /// Worth knowing; nothing is wrong with it.
    Note,
    /// Something does not work as it should.
    Off,
}

impl Check {
    fn new(area: &'static str, id: &'static str, state: State, says: impl AsRef<str>) -> Self {
        Self { area, id, state, says: Clean::new(says.as_ref()), advice: None, facts: Map::new() }
    }

    fn well(area: &'static str, id: &'static str, says: impl AsRef<str>) -> Self {
        Self::new(area, id, State::Well, says)
    }

    fn note(area: &'static str, id: &'static str, says: impl AsRef<str>) -> Self {
        Self::new(area, id, State::Note, says)
    }

    fn off(area: &'static str, id: &'static str, says: impl AsRef<str>) -> Self {
        Self::new(area, id, State::Off, says)
    }

    fn advise(mut self, advice: impl AsRef<str>) -> Self {
        self.advice = Some(Clean::new(advice.as_ref()));
        self
    }

    fn fact(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.facts.insert(name.into(), value.into());
        self
    }
}

/// # Errors
/// When standard output fails.
pub fn run(args: &DoctorArgs) -> Result<ExitCode> {
    // The slow ones beside each other; the terminal is asked from this thread.
    let driver = thread::spawn(driver::checks);
    let paths = args.paths.clone();
    let files = thread::spawn(move || files::checks(&paths));
    let screen = terminal::checks();
    let lost = |area| vec![Check::off(area, "doctor", "this check itself failed").advise("please report it")];
    let (driver, cuda) = driver.join().unwrap_or_else(|_| (lost(driver::AREA), None));
    let checks: Vec<Check> = [
        driver,
        libraries::checks(cuda),
        machine::checks(),
        files.join().unwrap_or_else(|_| lost(files::AREA)),
        screen,
        own::checks(),
    ]
    .into_iter()
    .flatten()
    .collect();
    let off = checks.iter().any(|check| check.state == State::Off);
    super::print(&if args.json { to_json(&checks) } else { to_text(&checks) })?;
    Ok(ExitCode::from(u8::from(off)))
}

/// Schema `oomph.doctor/1`.
fn to_json(checks: &[Check]) -> String {
    let words = |state| match state {
        State::Well => "well",
        State::Note => "note",
        State::Off => "off",
    };
    let all = json!({
        "schema": "oomph.doctor/1",
        "version": env!("CARGO_PKG_VERSION"),
        "well": checks.iter().all(|check| check.state != State::Off),
        "checks": checks.iter().map(|c| json!({
            "area": c.area,
            "id": c.id,
            "state": words(c.state),
            "says": c.says,
            "advice": c.advice,
            "facts": c.facts,
        })).collect::<Vec<_>>(),
    });
    serde_json::to_string_pretty(&all).unwrap_or_default() + "\n"
}

fn to_text(checks: &[Check]) -> String {
    use std::io::IsTerminal;
    let env = |name: &str| std::env::var(name).ok();
    let paint = Paint(std::io::stdout().is_terminal() && Depth::detect(&env) != Depth::None);
    let ascii = Glyphs::detect(&env).ascii();
    let width = usize::from(super::watch::terminal_size().0).clamp(40, 100);
    let mut out = String::new();
    let mut area = "";
    for check in checks {
        if check.area != area {
            area = check.area;
            let _ = writeln!(out, "{}{}", if out.is_empty() { "" } else { "\n" }, paint.bold(area));
        }
        let mark = match (check.state, ascii) {
            (State::Well, false) => paint.good("✓"),
            (State::Well, true) => paint.good("ok"),
            (State::Note, false) => paint.dim("·"),
            (State::Note, true) => paint.dim("- "),
            (State::Off, false) => paint.bad("✖"),
            (State::Off, true) => paint.bad("X "),
        };
        let indent = if ascii { 5 } else { 4 };
        wrap(&mut out, &format!("  {mark} "), check.says.as_str(), width, indent);
        if let Some(advice) = &check.advice {
            wrap(&mut out, &" ".repeat(indent), &paint.dim(advice.as_str()), width, indent);
        }
    }
    let off = checks.iter().filter(|check| check.state == State::Off).count();
    let end = match off {
        0 => paint.good("All well."),
        1 => paint.bad("One thing is off."),
        n => paint.bad(&format!("{n} things are off.")),
    };
    let _ = writeln!(out, "\n{end}");
    out
}
