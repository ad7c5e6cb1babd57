//! Where logs lie: file notifications, network mounts, and the paths that were named.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::mpsc::sync_channel,
    thread,
    time::Duration,
};

use jiff::Timestamp;

use super::Check;
use crate::{
    model::{Bytes, Clean},
    source::file::{self, Found},
    store::disk::{self, Disk},
};

pub const AREA: &str = "Files";
/// A mount that needs longer is taken for hung.
const PATIENCE: Duration = Duration::from_millis(1500);
/// Mounts that are looked at.
const MOUNTS: usize = 64;
/// A file that was written so far in the future tells of two clocks.
const SKEW: i64 = 5;

/// Types of mounts that lie on other machines, as `/proc/mounts` names them.
const NETWORK: &[&str] = &[
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "lustre",
    "gpfs",
    "beegfs",
    "ceph",
    "afs",
    "9p",
    "glusterfs",
    "ocfs2",
    "wekafs",
    "panfs",
    "pvfs2",
    "fuse.sshfs",
    "fuse.glusterfs",
    "fuse.s3fs",
    "fuse.gcsfuse",
    "fuse.goofys",
    "fuse.rclone",
    "fuse.juicefs",
    "fuse.ceph",
    "fuse.mount-s3",
    "fuse.seaweedfs",
    "fuse.alluxio-fuse",
];

pub fn checks(paths: &[PathBuf]) -> Vec<Check> {
    let here = [PathBuf::from(".")];
    let paths = if paths.is_empty() { &here[..] } else { paths };
    let mut all = vec![notifications(paths)];
    all.extend(mounts());
    all.extend(paths.iter().map(|path| place(path)));
    all
}

/// Runs something that may never return; `None` after [`PATIENCE`].
fn soon<T: Send + 'static>(ask: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (send, answer) = sync_channel(1);
    thread::spawn(move || send.send(ask()));
    answer.recv_timeout(PATIENCE).ok()
}

fn notifications(paths: &[PathBuf]) -> Check {
    use notify::Watcher;
    let folder = paths.first().map_or_else(
        || PathBuf::from("."),
        |path| match path.parent() {
            Some(parent) if !path.is_dir() && !parent.as_os_str().is_empty() => parent.to_path_buf(),
            _ if path.is_dir() => path.clone(),
            _ => PathBuf::from("."),
        },
    );
    let tried = soon(move || {
        let mut watcher = notify::recommended_watcher(|_| {})?;
        watcher.watch(&folder, notify::RecursiveMode::NonRecursive)
    });
    let limit = |name: &str| {
        std::fs::read_to_string(format!("/proc/sys/fs/inotify/{name}")).ok().and_then(|n| n.trim().parse::<u64>().ok())
    };
    let (watches, instances) = (limit("max_user_watches"), limit("max_user_instances"));
    let check = match tried {
        Some(Ok(())) => Check::well(AREA, "notifications", "file notifications work: new lines are shown at once"),
        Some(Err(error)) => Check::note(
            AREA,
            "notifications",
            format!("no file notifications ({error}): oomph polls, and shows new lines within a second"),
        )
        .advise("raise the limits: sudo sysctl fs.inotify.max_user_instances=1024 fs.inotify.max_user_watches=524288"),
        None => Check::note(AREA, "notifications", "setting up file notifications takes too long: oomph polls"),
    };
    check.fact("max_user_watches", watches).fact("max_user_instances", instances)
}

/// Mounts from other machines, and whether each answers.
fn mounts() -> Vec<Check> {
    let Ok(text) = std::fs::read_to_string("/proc/self/mounts") else { return Vec::new() };
    let asked: Vec<_> = network_mounts(&text)
        .into_iter()
        .take(MOUNTS)
        .map(|(folder, kind)| {
            let (send, answer) = sync_channel(1);
            let path = PathBuf::from(&folder);
            thread::spawn(move || send.send(disk::look(&path).map(|disk| disk.free)));
            (folder, kind, answer)
        })
        .collect();
    let mut all = Vec::new();
    for (folder, kind, answer) in asked {
        let check = match answer.recv_timeout(PATIENCE) {
            Ok(Ok(free)) => Check::well(
                AREA,
                "mount",
                format!(
                    "{folder} ({kind}) answers, {} free; it is polled, as notifications do not tell what other hosts write",
                    Bytes(free)
                ),
            ),
            Ok(Err(error)) => Check::off(AREA, "mount", format!("{folder} ({kind}) answers with an error: {error}"))
                .advise("mount it again: `umount -l` and `mount`"),
            Err(_) => Check::off(AREA, "mount", format!("{folder} ({kind}) does not answer")).advise(
                "its server or the network is away. oomph goes on; files there are shown when it answers again",
            ),
        };
        all.push(check.fact("folder", Clean::new(&folder).as_str()).fact("type", Clean::new(&kind).as_str()));
    }
    all
}

/// Folder and type of each network mount in the text of `/proc/mounts`.
fn network_mounts(text: &str) -> Vec<(String, String)> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let (folder, kind) = (fields.nth(1)?, fields.next()?);
            // Blanks and their like stand in it as octal escapes.
            let folder =
                folder.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\");
            NETWORK.contains(&kind).then(|| (folder, kind.to_string()))
        })
        .collect()
}

/// One path that is to be watched.
fn place(path: &Path) -> Check {
    let shown = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let name = Clean::new(&shown.to_string_lossy());
    let check = match file::find(path) {
        Err(error) => {
            return Check::off(AREA, "path", error.to_string())
                .advise("name a log, or a folder with logs, that you may read");
        }
        Ok(Found::NoAnswer) => {
            return Check::off(AREA, "path", format!("{name}: its file system does not answer"))
                .advise("oomph shows it when it answers again; other files go on meanwhile");
        }
        Ok(Found::File | Found::Folder) => {
            let asked = path.to_path_buf();
            let looked = soon(move || (disk::look(&asked), std::fs::metadata(&asked).map(|m| m.mtime())));
            let Some((Ok(disk), written)) = looked else {
                return Check::off(AREA, "path", format!("{name}: its file system does not answer"));
            };
            let ahead = written.map_or(0, |at| at - Timestamp::now().as_second());
            on(disk, &name, ahead)
        }
    };
    check.fact("path", name.as_str())
}

fn on(disk: Disk, name: &Clean, ahead: i64) -> Check {
    let kind = disk.name.unwrap_or("a file system that oomph does not know");
    let polled = if disk.shared { ", seen by other hosts too: it is polled" } else { "" };
    let says = format!("{name} is on {kind}{polled}; {} free", Bytes(disk.free));
    let check = if ahead > SKEW {
        Check::off(
            AREA,
            "path",
            format!("{says}. It was written {ahead} s in the future: the clock of its server and the one here differ"),
        )
        .advise("set the clocks (NTP): ages of logs are wrong by that much")
    } else {
        Check::well(AREA, "path", says)
    };
    check.fact("file_system", disk.name).fact("shared", disk.shared).fact("free_bytes", disk.free)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_mounts_are_told_from_others() {
        let text = "/dev/vda / ext4 rw 0 0\nhome:/export /home\\040of/all nfs4 rw,vers=4.2 0 0\n\
                    tmpfs /dev/shm tmpfs rw 0 0\nportal /run/user/1/doc fuse.portal rw 0 0\nu@h: /mnt/x fuse.sshfs rw 0 0\nshort\n";
        let want = [("/home of/all", "nfs4"), ("/mnt/x", "fuse.sshfs")].map(|(a, b)| (a.to_string(), b.to_string()));
        assert_eq!(network_mounts(text), want);
    }

    #[test]
    fn a_clock_that_is_ahead_is_told() {
        let disk = Disk { name: Some("NFS"), shared: true, free: 1 << 30, size: 1 << 40 };
        assert_eq!(on(disk, &"a.log".into(), 3).state, super::super::State::Well);
        let told = on(disk, &"a.log".into(), 90);
        assert_eq!(told.state, super::super::State::Off);
        assert!(told.says.as_str().contains("90 s in the future"), "{}", told.says);
        assert!(told.says.as_str().contains("polled"));
    }
}
