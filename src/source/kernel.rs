//! Lines of the kernel's log that tell why a training died: Xid of the NVIDIA driver, and the OOM killer.
//!
//! Read from `/dev/kmsg`, each record once and from now on; nothing is ever written there.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use crate::model::{Clean, EventKind};

/// The kernel gives whole records, at most this long (`CONSOLE_EXT_LOG_MAX` in kernel/printk).
const RECORD: usize = 8192;
/// Records taken at one look, so that a flood does not hold up the rest.
const BURST: usize = 4096;
/// What makes a line worth keeping, in small letters.
const WORDS: &[&str] = &[
    "xid",
    "fallen off the bus",
    "gpu has been lost",
    "out of memory",
    "oom-kill",
    "oom_kill",
    "oom_reaper",
    "constraint_memcg",
    "hardware error",
];

/// The kernel's log, from the moment it was opened.
#[derive(Debug)]
pub struct KernelLog {
    file: Option<File>,
}

impl KernelLog {
    /// Opens the log behind its end; why it cannot be read is told through `send`.
    pub fn open(path: &Path, send: &mut dyn FnMut(EventKind)) -> Self {
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
            .open(path)
            .and_then(|file| {
                rustix::fs::seek(&file, rustix::fs::SeekFrom::End(0))?;
                Ok(file)
            });
        let trouble = opened.as_ref().err().map(|error| Clean::new(&why(error)));
        send(EventKind::KernelLog { trouble });
        Self { file: opened.ok() }
    }

    /// Whether there is anything to look at.
    pub fn is_open(&self) -> bool {
        self.file.is_some()
    }

    /// Tells what is new and worth keeping.
    pub fn poll(&mut self, send: &mut dyn FnMut(EventKind)) {
        let Some(file) = &mut self.file else { return };
        let mut record = [0; RECORD];
        for _ in 0..BURST {
            match file.read(&mut record) {
                Ok(0) => return,
                Ok(n) => {
                    if let Some(text) = record.get(..n).and_then(message).filter(|text| matters(text)) {
                        send(EventKind::Kernel { text: Clean::new(&text) });
                    }
                }
                // Records were overwritten before they were read: the next read goes on behind them.
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::PIPE.raw_os_error()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    send(EventKind::KernelLog { trouble: Some(Clean::new(&why(&error))) });
                    self.file = None;
                    return;
                }
            }
        }
    }
}

/// Why the log cannot be read, and what would help.
fn why(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "the kernel's log may be read by root alone here (kernel.dmesg_restrict); `sudo dmesg -T` shows it"
                .to_string()
        }
        io::ErrorKind::NotFound => {
            "there is no kernel log in this container; `dmesg -T` on its host shows it".to_string()
        }
        _ => format!("the kernel's log cannot be read: {error}"),
    }
}

/// The text of one record: `priority,sequence,microseconds,flags;text`, then lines that begin with a blank. Other bytes
/// than printable ones stand as `\x41` (Documentation/ABI/testing/dev-kmsg).
fn message(record: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(record);
    let (_, text) = text.split_once(';')?;
    let line = text.lines().next()?;
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("\\x") {
        out.push_str(before);
        if let Some(byte) = after.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            out.push(char::from(byte));
            rest = after.get(2..).unwrap_or_default();
        } else {
            out.push_str("\\x");
            rest = after;
        }
    }
    out.push_str(rest);
    Some(out)
}

fn matters(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    WORDS.iter().any(|word| text.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_as_the_kernel_writes_them() {
        let record = b"4,1207,98765432,-;NVRM: Xid (PCI:0000:1b:00): 79, pid=4711, GPU has fallen off the bus.\n SUBSYSTEM=pci\n";
        let text = message(record).unwrap();
        assert_eq!(text, "NVRM: Xid (PCI:0000:1b:00): 79, pid=4711, GPU has fallen off the bus.");
        assert!(matters(&text));
        assert_eq!(message(b"6,1,2,-;a\\x5cb\\x1b[31m\\xq").unwrap(), "a\\b\u{1b}[31m\\xq");
        assert!(matters("Memory cgroup out of memory: Killed process 77 (python) total-vm:1kB"));
        assert!(!matters("usb 1-1: new device"));
        assert!(message(b"junk").is_none());
    }

    #[test]
    fn a_log_that_cannot_be_read_says_why() {
        let mut told = Vec::new();
        let folder = tempfile::tempdir().unwrap();
        let mut log = KernelLog::open(&folder.path().join("kmsg"), &mut |kind| told.push(kind));
        log.poll(&mut |kind| told.push(kind));
        let [EventKind::KernelLog { trouble: Some(why) }] = told.as_slice() else { panic!("{told:?}") };
        assert!(why.as_str().contains("container"), "{why}");
        assert!(why_of(io::ErrorKind::PermissionDenied).contains("dmesg"));
    }

    fn why_of(kind: io::ErrorKind) -> String {
        why(&kind.into())
    }
}
