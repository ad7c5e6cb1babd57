//! What is oomph's own: the folder with its recordings, and its configuration.

use std::{
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use super::Check;
use crate::{
    cli::{config, dialects, messages},
    model::{Bytes, Clean},
    session::Session,
    store::{disk, folder, recorder, runs},
    ui::App,
};

const AREA: &str = "Recordings and configuration";

pub fn checks() -> Vec<Check> {
    let mut all = state();
    all.extend(configuration());
    all.extend(own_files("dialects", "dialects", &dialects::user()));
    all.extend(own_files("messages", "kinds of messages", &messages::user()));
    all
}

/// The user's own files in a folder beside the configuration: nothing is said where there are none.
fn own_files(folder: &'static str, what: &str, (good, bad): &(usize, Vec<String>)) -> Vec<Check> {
    let mut all: Vec<Check> = bad
        .iter()
        .map(|error| {
            Check::off(AREA, folder, format!("left out: {error}"))
                .advise("mend it; what it says is not read until then")
        })
        .collect();
    if *good > 0 {
        all.push(Check::well(AREA, folder, format!("{good} {what} of your own are read")).fact("files", *good));
    }
    all
}

fn state() -> Vec<Check> {
    let folder = match folder::state() {
        Ok(folder) => folder,
        Err(error) => return vec![Check::off(AREA, "state", error.to_string()).advise("export OOMPH_STATE=/a/folder")],
    };
    let shown = Clean::new(&folder.to_string_lossy());
    let set = "set OOMPH_STATE to a folder that you may write, on a disk of this machine";
    let Some(there) = nearest(&folder) else {
        return vec![Check::off(AREA, "state", format!("{shown}: no part of this path exists")).advise(set)];
    };
    if let Err(why) = writable(&folder, &there) {
        return vec![Check::off(AREA, "state", format!("recordings cannot be written to {shown}: {why}")).advise(set)];
    }
    let mut all = Vec::new();
    if let Ok(disk) = disk::look(&there) {
        let kind = disk.name.unwrap_or("an unknown file system");
        let says = format!("recordings go to {shown} on {kind}, {} free", Bytes(disk.free));
        let check = if recorder::is_short(&there) {
            Check::off(AREA, "state", format!("{says}: too little, nothing is recorded so that the trainer has it"))
                .advise(format!("make room, or {set}"))
        } else if disk.shared {
            Check::note(
                AREA,
                "state",
                format!("{says}; as other hosts may see it, each run is written with an exclusive lock"),
            )
            .advise("OOMPH_STATE on a local disk is faster")
        } else {
            Check::well(AREA, "state", says)
        };
        all.push(check.fact("folder", shown.as_str()).fact("file_system", disk.name).fact("free_bytes", disk.free));
    }
    if let Ok(about) = std::fs::metadata(&folder) {
        if about.permissions().mode() & 0o077 != 0 {
            let runs = folder.join("runs");
            let open = std::fs::metadata(&runs).is_ok_and(|m| m.permissions().mode() & 0o077 != 0);
            if open {
                let says = format!("others may look into {}", Clean::new(&runs.to_string_lossy()));
                all.push(
                    Check::off(AREA, "privacy", says)
                        .advise(format!("chmod 700 {}", Clean::new(&runs.to_string_lossy()))),
                );
            }
        }
        all.extend(recorded());
    }
    all
}

/// The part of a path that exists.
fn nearest(path: &Path) -> Option<PathBuf> {
    path.ancestors().find(|part| part.exists()).map(Path::to_path_buf)
}

/// Writes a file and takes it away again where the folder exists; else asks whether it could be made.
fn writable(folder: &Path, there: &Path) -> std::io::Result<()> {
    if !there.is_dir() {
        return Err(std::io::ErrorKind::NotADirectory.into());
    }
    if there != folder {
        return Ok(rustix::fs::access(there, rustix::fs::Access::WRITE_OK)?);
    }
    let path = folder.join(format!(".doctor-{}", std::process::id()));
    let written = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    let written = written.and_then(|mut file| {
        std::io::Write::write_all(&mut file, b"oomph doctor\n")?;
        file.sync_all()
    });
    let _ = std::fs::remove_file(&path);
    written
}

fn recorded() -> Option<Check> {
    let (good, bad) = runs::list().ok()?;
    let bytes: u64 = good.iter().filter_map(|run| std::fs::metadata(&run.path).ok()).map(|m| m.len()).sum();
    let says = match good.len() {
        0 => "no run is recorded yet".to_string(),
        1 => format!("1 recorded run, {}", Bytes(bytes)),
        n => format!("{n} recorded runs, {} together", Bytes(bytes)),
    };
    let check = match bad.as_slice() {
        [] => Check::well(AREA, "runs", says),
        bad => {
            let why: Vec<String> = bad.iter().take(3).map(ToString::to_string).collect();
            Check::off(AREA, "runs", format!("{says}; {} cannot be read: {}", bad.len(), why.join("; ")))
                .advise("nothing is deleted; move them away to be rid of this line")
        }
    };
    Some(check.fact("runs", good.len()).fact("unreadable", bad.len()).fact("bytes", bytes))
}

fn configuration() -> Vec<Check> {
    let Some(path) = config::path() else {
        return vec![
            Check::note(AREA, "config", "no home folder is known: every setting has its default")
                .advise("set XDG_CONFIG_HOME or OOMPH_CONFIG"),
        ];
    };
    let shown = Clean::new(&path.to_string_lossy());
    let config = match config::load() {
        Ok(config) => config,
        // The message begins with the file and names the place in it.
        Err(error) => {
            let words = format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ");
            return vec![
                Check::off(AREA, "config", words)
                    .advise("mend that line; `oomph config` prints every setting with its default")
                    .fact("path", shown.as_str()),
            ];
        }
    };
    let mut all = Vec::new();
    let mut app = App::new(Session::default()).for_terminal(&|name| std::env::var(name).ok());
    match config::apply(&config, &mut app) {
        Err(error) => {
            all.push(Check::off(AREA, "config", format!("{error:#}")).advise("mend it, or take the line out"));
        }
        Ok(()) if path.exists() => all.push(Check::well(AREA, "config", format!("{shown} is followed"))),
        Ok(()) => all.push(
            Check::well(AREA, "config", "no configuration file: every setting has its default").advise(begin(&path)),
        ),
    }
    if let Some(check) = all.pop() {
        all.push(check.fact("path", shown.as_str()));
    }
    all.extend(exposed(&path, config.alerts.command.is_some()));
    if config.alerts.webhook.is_some() && !on_path("curl") {
        all.push(Check::off(AREA, "webhook", "a webhook is configured, but there is no curl").advise("install curl"));
    }
    all
}

/// How to begin a configuration.
fn begin(path: &Path) -> String {
    let folder = path.parent().filter(|folder| !folder.exists());
    let make = folder.map_or(String::new(), |folder| format!("mkdir -p {} && ", folder.display()));
    format!("`{make}oomph config > {}` begins one", path.display())
}

/// A configuration with a command that somebody else may change runs what they want.
fn exposed(path: &Path, has_command: bool) -> Option<Check> {
    let about = std::fs::metadata(path).ok()?;
    let own = rustix::process::geteuid().as_raw();
    let strange = about.uid() != own && about.uid() != 0;
    let open = about.permissions().mode() & 0o022 != 0;
    let shown = Clean::new(&path.to_string_lossy());
    let says = if strange {
        format!("{shown} belongs to another user")
    } else if open {
        format!("{shown} may be written by others")
    } else {
        return None;
    };
    let says = if has_command { format!("{says}, and it names a command that is run for you") } else { says };
    Some(Check::off(AREA, "config_owner", says).advise(format!("chown and chmod 600 {shown}")))
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .any(|folder| rustix::fs::access(folder.join(program), rustix::fs::Access::EXEC_OK).is_ok())
}
