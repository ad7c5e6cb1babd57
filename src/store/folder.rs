//! Where oomph keeps what it records: `$XDG_STATE_HOME/oomph`, or `$OOMPH_STATE` where that is set.

use std::{
    fs::DirBuilder,
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use etcetera::BaseStrategy;
use jiff::Timestamp;

/// Why there is no place to record.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error("no home folder is known: set XDG_STATE_HOME or OOMPH_STATE to a folder that oomph may write")]
    NoHome,
    #[error("{path}: {source} (set OOMPH_STATE to a folder that oomph may write)")]
    Io { path: String, source: io::Error },
}

/// The state folder; it need not exist yet.
///
/// # Errors
/// When no home folder is known.
pub fn state() -> Result<PathBuf, FolderError> {
    if let Some(folder) = std::env::var_os("OOMPH_STATE").filter(|f| !f.is_empty()) {
        return Ok(folder.into());
    }
    let base = etcetera::choose_base_strategy().map_err(|_| FolderError::NoHome)?;
    Ok(base.state_dir().unwrap_or_else(|| base.data_dir()).join("oomph"))
}

/// Makes a new folder for one run, readable by its owner alone. Its name is the run's id.
///
/// # Errors
/// When the state folder cannot be written.
pub fn new_run(now: Timestamp, pid: u32) -> Result<PathBuf, FolderError> {
    let runs = state()?.join("runs");
    make(&runs, true)?;
    let stamp = now.to_zoned_datetime(jiff::tz::TimeZone::system()).strftime("%Y%m%d-%H%M%S").to_string();
    for attempt in 0..100 {
        let name = if attempt == 0 { format!("{stamp}-{pid}") } else { format!("{stamp}-{pid}-{attempt}") };
        match make(&runs.join(&name), false) {
            Err(FolderError::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            Ok(()) => return Ok(runs.join(name)),
        }
    }
    let source = io::Error::from(io::ErrorKind::AlreadyExists);
    Err(FolderError::Io { path: runs.display().to_string(), source })
}

/// Bytes of the files in a folder.
pub fn size(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    // Blocks, not lengths: a spool whose beginning was given back has a hole.
    entries.filter_map(|entry| entry.metadata().ok()).map(|m| m.blocks() * 512).sum()
}

fn make(path: &Path, parents: bool) -> Result<(), FolderError> {
    DirBuilder::new()
        .mode(0o700)
        .recursive(parents)
        .create(path)
        .map_err(|source| FolderError::Io { path: path.display().to_string(), source })
}
