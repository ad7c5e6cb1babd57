//! The processes of this machine as `/proc` tells them. A process that ends while it is read is left out.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use jiff::Timestamp;

use crate::source::kernel_file;

use super::environment;

/// Units of a process's start time in `/proc/PID/stat`, a second. Linux shows user space 100 on every architecture.
const TICKS: u64 = 100;
/// Processes and open files of one process that are looked at.
const MAX_PROCESSES: usize = 65_536;
const MAX_FILES: usize = 4096;
/// Bytes of a command line or an environment that are read.
const MAX_TEXT: usize = 256 << 10;

/// One process.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Process {
    pub pid: u32,
    pub parent: u32,
    /// Clock ticks from boot to its start; with the pid it names a process for good, as pids are used again.
    pub start: u64,
    pub started_at: Option<Timestamp>,
    /// Name of the program, as the kernel has it.
    pub name: String,
    pub command: Vec<String>,
    pub uid: Option<u32>,
    pub folder: Option<PathBuf>,
    /// What is kept of its environment; `None` where that cannot be read.
    pub environment: Option<BTreeMap<String, String>>,
    /// Its open files by number; `None` where they cannot be read.
    pub files: Option<BTreeMap<u32, Open>>,
    /// Whether it is in another pid namespace than oomph: in a container, seen from outside.
    pub in_container: bool,
    /// In front of every path that it names: `/proc/PID/root` where it sees other mounts than oomph does.
    pub root: Option<PathBuf>,
}

/// An open file of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// As the process sees it: a path, `pipe:[1]`, `/dev/nvidia0`.
    pub target: String,
    /// Whether it may write it; `None` where the system does not tell.
    pub writes: Option<bool>,
}

impl Process {
    /// The program: the last part of the first word, `python3.12` as `python`.
    pub fn program(&self) -> &str {
        let word = self.command.first().map_or(self.name.as_str(), String::as_str);
        base(word)
    }

    /// Whether it has a GPU's device file open.
    pub fn holds_gpu(&self) -> bool {
        self.files.iter().flat_map(BTreeMap::values).any(|file| {
            file.target
                .strip_prefix("/dev/nvidia")
                .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
        })
    }

    /// A variable of its environment.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.environment.as_ref()?.get(name).map(String::as_str)
    }

    /// A path that the process names, as oomph reaches it.
    pub fn reach(&self, path: &Path) -> PathBuf {
        let whole = match &self.folder {
            Some(folder) if path.is_relative() => folder.join(path),
            _ => path.to_path_buf(),
        };
        match &self.root {
            Some(root) => root.join(whole.strip_prefix("/").unwrap_or(&whole)),
            None => whole,
        }
    }
}

/// The last part of a path, without a Python's version.
pub fn base(word: &str) -> &str {
    let name = word.rsplit('/').next().unwrap_or(word);
    if name.starts_with("python") { "python" } else { name }
}

/// Every process, and what could not be seen.
#[derive(Clone, Debug, Default)]
pub struct Table {
    pub processes: BTreeMap<u32, Process>,
    /// Processes of others whose files and environment may not be read.
    pub unreadable: usize,
    /// oomph itself is in a pid namespace of its own: it sees only the processes of its container.
    pub in_container: bool,
}

impl Table {
    /// Reads the table under `proc`, which is `/proc` but in tests.
    pub fn read(proc: &Path) -> Self {
        let own = Namespaces::of(&proc.join("self"));
        let boot = boot_time(proc);
        let mut table = Self { in_container: !own.is_first(), ..Self::default() };
        let Ok(entries) = std::fs::read_dir(proc) else { return table };
        let pids: BTreeSet<u32> =
            entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).take(MAX_PROCESSES).collect();
        for pid in pids {
            let Some(process) = read(proc, pid, &own, boot) else { continue };
            table.unreadable += usize::from(process.files.is_none());
            table.processes.insert(pid, process);
        }
        table
    }

    /// Its parents, the nearest first.
    pub fn parents(&self, pid: u32) -> impl Iterator<Item = &Process> {
        let mut seen = BTreeSet::from([pid]);
        let mut next = self.processes.get(&pid).map(|p| p.parent);
        std::iter::from_fn(move || {
            let parent = self.processes.get(&next?)?;
            next = seen.insert(parent.pid).then_some(parent.parent);
            Some(parent)
        })
    }
}

/// The start time of a process, for asking whether a pid still means the same one.
pub fn start_of(proc: &Path, pid: u32) -> Option<u64> {
    stat_of(proc, pid).map(|s| s.start)
}

fn read(proc: &Path, pid: u32, own: &Namespaces, boot: Option<u64>) -> Option<Process> {
    let folder = proc.join(pid.to_string());
    let Stat { name, state, parent, start, .. } = stat(&kernel_file::text(&folder.join("stat")).ok()?)?;
    let command = text(&folder.join("cmdline")).unwrap_or_default();
    // Kernel threads and the dead have no command and write nothing.
    if command.is_empty() || matches!(state, 'Z' | 'X') {
        return None;
    }
    let command: Vec<String> = command
        .strip_suffix(&[0])
        .unwrap_or(&command)
        .split(|b| *b == 0)
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    let spaces = Namespaces::of(&folder);
    let differs = |own: &Option<PathBuf>, its: &Option<PathBuf>| own.is_some() && its.is_some() && own != its;
    let started_at = boot.and_then(|boot| {
        let microseconds = i64::try_from(boot * 1_000_000 + start * (1_000_000 / TICKS)).ok()?;
        Timestamp::from_microsecond(microseconds).ok()
    });
    Some(Process {
        pid,
        parent,
        start,
        started_at,
        name,
        command,
        uid: std::fs::metadata(&folder).ok().map(|m| m.uid()),
        folder: std::fs::read_link(folder.join("cwd")).ok(),
        environment: text(&folder.join("environ")).map(|bytes| environment::read(&bytes)),
        files: open_files(&folder),
        in_container: differs(&own.pid, &spaces.pid),
        root: differs(&own.mounts, &spaces.mounts).then(|| folder.join("root")),
    })
}

/// A file's first bytes; `None` where it cannot be read.
fn text(path: &Path) -> Option<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok()?.take(MAX_TEXT as u64).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// What `/proc/PID/stat` says of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    pub name: String,
    /// `R`, `S`, `Z`, … as in proc(5).
    pub state: char,
    pub parent: u32,
    /// Its session: `oomph run` gives the trainer one of its own, which its children keep when their parents die.
    pub session: u32,
    pub start: u64,
}

/// What the `stat` of one process says.
pub fn stat_of(proc: &Path, pid: u32) -> Option<Stat> {
    stat(&kernel_file::text(&proc.join(pid.to_string()).join("stat")).ok()?)
}

/// Every process with what its `stat` says, cheaply.
pub fn stats(proc: &Path) -> BTreeMap<u32, Stat> {
    let Ok(entries) = std::fs::read_dir(proc) else { return BTreeMap::new() };
    let pids = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).take(MAX_PROCESSES);
    pids.filter_map(|pid: u32| Some((pid, stat_of(proc, pid)?))).collect()
}

/// The processes below `root`, itself included, and those of the session that it leads. The dead are left out.
pub fn family(stats: &BTreeMap<u32, Stat>, root: u32) -> Vec<u32> {
    let mut found: BTreeSet<u32> = BTreeSet::new();
    for (pid, stat) in stats {
        let mut path = vec![*pid];
        let mut parent = stat.parent;
        let mut is_below = *pid == root || stat.session == root;
        while !is_below && parent > 0 && !path.contains(&parent) {
            is_below = parent == root || found.contains(&parent);
            path.push(parent);
            parent = stats.get(&parent).map_or(0, |s| s.parent);
        }
        if is_below {
            found.insert(*pid);
        }
    }
    found.into_iter().filter(|pid| stats.get(pid).is_some_and(|s| !matches!(s.state, 'Z' | 'X'))).collect()
}

/// proc(5): the second field is the name in brackets and may hold anything, brackets too.
fn stat(text: &str) -> Option<Stat> {
    let (_, rest) = text.split_once('(')?;
    let (name, rest) = rest.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    let session = fields.nth(1)?.parse().unwrap_or(0);
    let start = fields.nth(15)?.parse().ok()?;
    Some(Stat { name: name.to_string(), state, parent, session, start })
}

fn open_files(folder: &Path) -> Option<BTreeMap<u32, Open>> {
    let entries = std::fs::read_dir(folder.join("fd")).ok()?;
    let mut files = BTreeMap::new();
    for entry in entries.flatten().take(MAX_FILES) {
        let Some(number) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(target) = std::fs::read_link(entry.path()) else { continue };
        // A path that is not text is no log that anybody watches.
        let Some(target) = target.to_str().map(str::to_string) else { continue };
        let info = kernel_file::text(&folder.join("fdinfo").join(number.to_string())).ok();
        let flags = info.as_deref().and_then(|info| {
            let line = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
            u32::from_str_radix(line.trim(), 8).ok()
        });
        files.insert(number, Open { target, writes: flags.map(|flags| flags & 0o3 != 0) });
    }
    Some(files)
}

struct Namespaces {
    pid: Option<PathBuf>,
    mounts: Option<PathBuf>,
}

impl Namespaces {
    fn of(folder: &Path) -> Self {
        let link = |name: &str| std::fs::read_link(folder.join("ns").join(name)).ok();
        Self { pid: link("pid"), mounts: link("mnt") }
    }

    /// Whether these are the namespaces that the machine started with, as far as can be told: the kernel gives the first pid namespace this
    /// number (`PROC_PID_INIT_INO` in include/linux/proc_ns.h).
    fn is_first(&self) -> bool {
        self.pid.as_ref().is_none_or(|link| link.as_os_str() == "pid:[4026531836]")
    }
}

/// Seconds of the epoch at which the machine started.
fn boot_time(proc: &Path) -> Option<u64> {
    let text = kernel_file::text(&proc.join("stat")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}
