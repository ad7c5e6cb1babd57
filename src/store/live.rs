//! What a run's folder says of a run that goes on: who it is, and how it ended.

use std::{
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

const LIVE: &str = "live.json";
const ENDED: &str = "ended.json";

/// A process, for good: pids are used again, start times (in clock ticks since the machine started) tell them apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub pid: u32,
    pub start: Option<u64>,
}

/// A run that was started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    pub child: Identity,
    /// The oomph that waits for it.
    pub supervisor: Identity,
    /// Where its output goes: one file, or standard output and standard error.
    pub spool: Vec<PathBuf>,
}

impl Live {
    /// Writes it down, whole or not at all.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn write(&self, run: &Path) -> io::Result<()> {
        write(&run.join(LIVE), self)
    }

    /// `None` where no run was started in the folder (yet).
    pub fn read(run: &Path) -> Option<Self> {
        read(&run.join(LIVE))
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    pub code: Option<i32>,
    pub signal: Option<i32>,
}

impl Ended {
    /// # Errors
    /// When the folder cannot be written.
    pub fn write(&self, run: &Path) -> io::Result<()> {
        write(&run.join(ENDED), self)
    }

    /// `None` while it goes on, or when nobody was left to see its end.
    pub fn read(run: &Path) -> Option<Self> {
        read(&run.join(ENDED))
    }
}

fn write(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let beside = path.with_extension("new");
    let _ = std::fs::remove_file(&beside);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    file.write_all(&serde_json::to_vec(value)?)?;
    std::fs::rename(&beside, path)
}

fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_before_that() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!((Live::read(folder.path()), Ended::read(folder.path())), (None, None));
        let identity = Identity { pid: 7, start: Some(99) };
        let live = Live { child: identity, supervisor: identity, spool: vec!["output.log".into()] };
        live.write(folder.path()).unwrap();
        assert_eq!(Live::read(folder.path()), Some(live));
        let ended = Ended { code: None, signal: Some(9) };
        ended.write(folder.path()).unwrap();
        assert_eq!(Ended::read(folder.path()), Some(ended));
    }
}
