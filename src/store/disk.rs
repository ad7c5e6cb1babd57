//! The file system that a path lies on: which one, whether other hosts see it too, and how much room it has.

use std::{io, path::Path};

/// Magic numbers of statfs(2), names, and whether several hosts may see one file there: write-ahead logs, shared locks and
/// notifications cannot be trusted then.
const KNOWN: &[(u64, &str, bool)] = &[
    (0x6969, "NFS", true),
    (0x517b, "SMB", true),
    (0xff53_4d42, "CIFS", true),
    (0xfe53_4d42, "SMB 2", true),
    (0x0bd0_0bd0, "Lustre", true),
    (0x4750_4653, "GPFS", true),
    (0x1983_0326, "BeeGFS", true),
    (0x00c3_6400, "Ceph", true),
    (0x6573_5546, "FUSE", true),
    (0x0102_1997, "9p", true),
    (0x5346_414f, "AFS", true),
    (0x7375_7245, "Coda", true),
    (0x7461_636f, "OCFS2", true),
    (0xef53, "ext4", false),
    (0x5846_5342, "XFS", false),
    (0x9123_683e, "Btrfs", false),
    (0x2fc1_2fc1, "ZFS", false),
    (0xf2f5_2010, "F2FS", false),
    (0x0102_1994, "tmpfs", false),
    (0x8584_58f6, "ramfs", false),
    (0x794c_7630, "overlayfs", false),
];

/// What is known of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// `None`: one that oomph does not know by name.
    pub name: Option<&'static str>,
    /// Other hosts may see the same files.
    pub shared: bool,
    /// Bytes that this user may still write, and all of them.
    pub free: u64,
    pub size: u64,
}

/// Looks at the file system of a path. On a mount that hangs this waits for ever: ask from a thread of its own.
///
/// # Errors
/// When the path cannot be looked at.
pub fn look(path: &Path) -> io::Result<Disk> {
    let answer = rustix::fs::statfs(path)?;
    let room = rustix::fs::statvfs(path)?;
    let magic = pretended().unwrap_or(answer.f_type as u64 & 0xffff_ffff);
    let known = KNOWN.iter().find(|(known, ..)| *known == magic);
    Ok(Disk {
        name: known.map(|(_, name, _)| *name),
        shared: known.is_some_and(|(.., shared)| *shared),
        free: room.f_bavail.saturating_mul(room.f_frsize),
        size: room.f_blocks.saturating_mul(room.f_frsize),
    })
}

/// Whether several hosts may see the file system.
pub fn is_shared(path: &Path) -> bool {
    look(path).is_ok_and(|disk| disk.shared)
}

/// What tests say that every file system is: `OOMPH_TEST_FILE_SYSTEM`, the hexadecimal number of statfs(2).
fn pretended() -> Option<u64> {
    u64::from_str_radix(std::env::var("OOMPH_TEST_FILE_SYSTEM").ok()?.trim_start_matches("0x"), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_system_is_named_once() {
        for (n, (magic, name, _)) in KNOWN.iter().enumerate() {
            assert!(KNOWN[..n].iter().all(|(other, known, _)| other != magic && known != name), "{name}");
        }
        assert!(look(Path::new("/proc/no/such")).is_err());
        assert!(!look(Path::new("/")).unwrap().shared || look(Path::new("/")).unwrap().name.is_some());
    }
}
