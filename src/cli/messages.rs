//! The user's own kinds of out-of-memory messages: one file each in the folder `messages` beside config.toml.

use std::{fs::File, io::Read, path::Path};

use anyhow::{Context, Result, bail};

use crate::{
    model::Clean,
    parse::oom::{self, Family},
};

/// Where they lie, beside config.toml.
pub const FOLDER: &str = "messages";
/// Longest file.
const LONGEST: u64 = 1 << 20;

/// Reads the user's messages, for whatever reads texts. One that is none is told of and left out.
pub fn load() {
    let mut known = Vec::new();
    for path in super::config::files(FOLDER) {
        match read(&path) {
            Ok(family) => known.push(family),
            Err(error) => super::say(&format!("warning: this message is left out: {error:#}")),
        }
    }
    oom::add(known);
}

/// How many can be read, and what is wrong with the others.
pub fn user() -> (usize, Vec<String>) {
    let files = super::config::files(FOLDER);
    let (good, bad): (Vec<_>, Vec<_>) = files.iter().map(|path| read(path)).partition(Result::is_ok);
    (good.len(), bad.into_iter().filter_map(Result::err).map(|error| format!("{error:#}")).collect())
}

/// A message's file; its samples must be found and give what they say.
fn read(path: &Path) -> Result<Family> {
    let shown = Clean::new(&path.to_string_lossy());
    let mut text = String::new();
    let file = File::open(path).with_context(|| format!("cannot read {shown}"))?;
    file.take(LONGEST + 1).read_to_string(&mut text).with_context(|| format!("{shown} is not text"))?;
    if text.len() as u64 > LONGEST {
        bail!("{shown}: longer than a message's file is");
    }
    let read = || oom::read(&text).map_err(|e| anyhow::anyhow!("{shown}: {}", e.trim_end()));
    oom::check(read()?).map_err(|e| anyhow::anyhow!("{shown}: {e}"))?;
    read()
}
