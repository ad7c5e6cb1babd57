//! `oomph explain`: what an id of a diagnosis means, from the headers and data files beside the code.

use std::{fmt::Write, process::ExitCode};

use anyhow::Result;
use clap::Args;

use crate::{
    diagnose::fixes::{self, Spec},
    model::Clean,
};

/// Explain a fix in prose; without an id, list them
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// Id of a fix, such as fused_optimizer
    id: Option<String>,
}

/// # Errors
/// When nothing has that id.
pub fn run(args: &ExplainArgs) -> Result<ExitCode> {
    let Some(id) = &args.id else {
        let all: Vec<String> = fixes::SPECS.iter().map(|s| format!("{:<30} {}", s.id, s.title())).collect();
        return super::print(&(all.join("\n") + "\n"));
    };
    match fixes::spec(id) {
        Some(spec) => super::print(&of_fix(spec)),
        None => anyhow::bail!("nothing is known by the id '{}'; `oomph explain` lists the ids", Clean::new(id)),
    }
}

fn of_fix(spec: &Spec) -> String {
    let mut out = format!("{} ({})\n", spec.title(), spec.id);
    for heading in ["What it changes", "Why it helps", "Cost", "When not"] {
        let _ = write!(out, "\n{heading}\n  {}\n", spec.says(heading));
    }
    if !spec.conflicts.is_empty() {
        out += "\nNot beside\n";
        for conflict in spec.conflicts {
            let with =
                if conflict.fixes.is_empty() { String::new() } else { format!("{}: ", conflict.fixes.join(", ")) };
            let _ = writeln!(out, "  {with}{}", conflict.why);
        }
    }
    out += "\nHow\n";
    for row in spec.how {
        let all = row.frameworks == fixes::TORCH;
        let names = if all { "all on PyTorch".to_string() } else { row.frameworks.join(", ") };
        let range = row.frameworks.first().map(|f| row.range(f)).unwrap_or_default();
        let range = if range.is_empty() { range } else { format!(" ({range})") };
        let none = if row.has { "" } else { "no such setting: " };
        let _ = writeln!(out, "  {names}{range}\n    {none}{}", row.shown());
    }
    for command in spec.commands {
        let _ = writeln!(out, "  {command}");
    }
    if spec.id == "other" {
        out += "  as the message's kind wants it; `oomph diagnose` says it\n";
    }
    out
}
