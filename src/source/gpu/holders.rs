//! Who the processes are that hold memory on a card: program, user, rank, what started them, where they run.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use nvml_wrapper::{enums::device::UsedGpuMemory, struct_wrappers::device::ProcessInfo};

use crate::{
    model::{Bytes, Clean, gpu::GpuProcess},
    source::processes::{
        environment,
        table::{Stat, stat_of},
    },
};

/// Processes that are remembered.
const MOST: usize = 4096;
/// Parents that are followed.
const DEEPEST: usize = 32;
/// What starts a job and is no part of it: shells, sessions, the system.
const OUTSIDE: &[&str] = &[
    "sh",
    "bash",
    "zsh",
    "fish",
    "dash",
    "ksh",
    "csh",
    "tcsh",
    "tmux",
    "tmux: server",
    "screen",
    "sshd",
    "login",
    "su",
    "sudo",
    "systemd",
    "init",
    "cron",
    "crond",
    "atd",
    "tini",
    "docker-init",
    "dumb-init",
    "containerd-shim",
    "conmon",
    "slurmstepd",
    "slurmd",
    "supervisord",
    "oomph",
    "jupyter-lab",
    "jupyter-noteboo",
    "code",
    "node",
];

/// A process as it was when it was last asked after: one that holds memory on several cards is asked once.
struct Known {
    look: u64,
    start: u64,
    who: GpuProcess,
}

/// The processes of this machine, as far as they were asked after.
pub struct Holders {
    proc: PathBuf,
    /// The driver's pids are those of the host, and this is a container.
    foreign: bool,
    /// Under Windows the driver tells of memory, but not who holds it.
    under_windows: bool,
    known: BTreeMap<u32, Known>,
    /// Counts the looks at all cards.
    look: u64,
}

impl Holders {
    pub fn of_this_machine() -> Self {
        // The number of the first pid namespace of a Linux system, where the driver's pids are ours.
        let own = std::fs::read_link("/proc/self/ns/pid").is_ok_and(|l| l.to_string_lossy() == "pid:[4026531836]");
        let system = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let under_windows = system.to_ascii_lowercase().contains("microsoft");
        Self { proc: "/proc".into(), foreign: !own, under_windows, known: BTreeMap::new(), look: 0 }
    }

    /// Whether the driver lists every process here, and not only those of this container.
    pub fn sees_all(&self) -> bool {
        !self.foreign && !self.under_windows
    }

    /// A new look at all cards begins.
    pub fn look_again(&mut self) {
        self.look = self.look.wrapping_add(1);
    }

    /// One entry of the driver's list.
    pub fn process(&mut self, told: &ProcessInfo, graphics: bool) -> GpuProcess {
        let used = match told.used_gpu_memory {
            UsedGpuMemory::Used(bytes) => Some(Bytes(bytes)),
            UsedGpuMemory::Unavailable => None,
        };
        let pid = told.pid;
        let figures = GpuProcess { pid, used, graphics, instance: told.gpu_instance_id, ..GpuProcess::default() };
        if self.foreign {
            // A local process of the same number is another one.
            return GpuProcess { foreign: true, ..figures };
        }
        let who = self.who(pid);
        GpuProcess { pid, used, graphics, instance: figures.instance, ..who }
    }

    fn who(&mut self, pid: u32) -> GpuProcess {
        if let Some(known) = self.known.get(&pid).filter(|known| known.look == self.look) {
            return known.who.clone();
        }
        let Some(stat) = stat_of(&self.proc, pid).filter(|s| !matches!(s.state, 'Z' | 'X')) else {
            // Where others' processes are hidden, that one is not to be seen does not say that it is gone.
            let dead = stat_of(&self.proc, pid).is_some() || !is_there(pid);
            let before = self.known.remove(&pid).map(|known| known.who);
            return GpuProcess { gone: dead, ..before.unwrap_or_default() };
        };
        if let Some(known) = self.known.get_mut(&pid).filter(|known| known.start == stat.start) {
            known.look = self.look;
            return known.who.clone();
        }
        if self.known.len() >= MOST {
            self.known.clear();
        }
        let who = read(&self.proc, pid, &stat);
        self.known.insert(pid, Known { look: self.look, start: stat.start, who: who.clone() });
        who
    }
}

/// Whether the kernel knows it: asked by the signal that is none.
fn is_there(pid: u32) -> bool {
    use rustix::process::{Pid, test_kill_process};
    let asked = Pid::from_raw(pid.cast_signed()).map(test_kill_process);
    asked.is_some_and(|answer| matches!(answer, Ok(()) | Err(rustix::io::Errno::PERM)))
}

/// What `/proc` tells of a process.
fn read(proc: &Path, pid: u32, stat: &Stat) -> GpuProcess {
    use std::os::unix::fs::MetadataExt;
    let folder = proc.join(pid.to_string());
    let read = |name: &str| std::fs::read(folder.join(name)).ok();
    let command = read("cmdline").filter(|b| !b.is_empty()).map(|b| {
        let shown: Vec<u8> = b.iter().take(400).map(|c| if *c == 0 { b' ' } else { *c }).collect();
        Clean::from_bytes(shown.trim_ascii())
    });
    let uid = std::fs::metadata(&folder).ok().map(|m| m.uid());
    let user = uid.and_then(|uid| {
        let users = std::fs::read_to_string("/etc/passwd").ok()?;
        let found = users.lines().find(|l| l.split(':').nth(2) == Some(uid.to_string().as_str()))?;
        found.split(':').next().map(Clean::from)
    });
    let environment = read("environ").map(|bytes| environment::read(&bytes)).unwrap_or_default();
    let cgroup = read("cgroup").map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default();
    let namespace = |folder: &Path| std::fs::read_link(folder.join("ns/pid")).ok();
    let apart = namespace(&folder).zip(namespace(&proc.join("self"))).is_some_and(|(its, ours)| its != ours);
    let parents = parents(proc, stat);
    GpuProcess {
        pid,
        name: Some(Clean::new(&stat.name)),
        user: user.or_else(|| uid.map(|u| u.to_string().into())),
        command,
        rank: environment::rank(&|name| environment.get(name).map(String::as_str)),
        parents: parents.iter().map(|(pid, _)| *pid).collect(),
        launcher: parents.last().map(|(_, name)| Clean::new(name)),
        container: container(&cgroup).or_else(|| apart.then(|| "container".to_string())).map(|c| Clean::new(&c)),
        ..GpuProcess::default()
    }
}

/// What started it, the nearest first, up to the first shell or session.
fn parents(proc: &Path, stat: &Stat) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    let mut next = stat.parent;
    while next > 1 && found.len() < DEEPEST {
        let Some(parent) = stat_of(proc, next) else { break };
        if OUTSIDE.iter().any(|name| *name == parent.name || parent.name.starts_with("containerd-shim")) {
            break;
        }
        found.push((next, parent.name));
        next = parent.parent;
    }
    found
}

/// The container or batch job that a process's cgroups name.
fn container(cgroups: &str) -> Option<String> {
    let mut found = None;
    for path in cgroups.lines().filter_map(|line| line.splitn(3, ':').nth(2)) {
        let mut before = "";
        for part in path.split('/') {
            let bare = part.strip_suffix(".scope").unwrap_or(part);
            let id = bare.rsplit(['-', ':']).next().unwrap_or(bare);
            if id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()) {
                let kind = match bare.strip_suffix(id).unwrap_or("").trim_end_matches(['-', ':']) {
                    "libpod" => "podman",
                    "cri-containerd" | "crio" => "pod",
                    "" if path.contains("kubepods") => "pod",
                    _ => "docker",
                };
                return Some(format!("{kind} {}", &id[..12]));
            }
            if let Some(job) = part.strip_prefix("job_").filter(|job| job.bytes().all(|b| b.is_ascii_digit())) {
                found = Some(format!("slurm {job}"));
            }
            if matches!(before, "lxc" | "lxc.payload") {
                found = Some(format!("lxc {part}"));
            }
            before = part;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_named_by_their_cgroups() {
        let id = "3f2a91c04b1e5d6f7a8b9c0d1e2f3a4b5c6d7e8f9a0b1c2d3e4f5a6b7c8d9e0f";
        let check = |text: &str, want: Option<&str>| assert_eq!(container(text).as_deref(), want, "{text}");
        check(&format!("0::/system.slice/docker-{id}.scope\n"), Some("docker 3f2a91c04b1e"));
        check(&format!("12:memory:/docker/{id}\n11:cpu:/docker/{id}\n"), Some("docker 3f2a91c04b1e"));
        check(&format!("0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope\n"), Some("pod 3f2a91c04b1e"));
        check(&format!("0::/machine.slice/libpod-{id}.scope/container\n"), Some("podman 3f2a91c04b1e"));
        check("5:freezer:/slurm/uid_1000/job_4711/step_0\n", Some("slurm 4711"));
        check("0::/lxc/web/init\n", Some("lxc web"));
        check("0::/user.slice/user-1000.slice/session-3.scope\n", None);
        check("junk", None);
    }

    /// A pretended `/proc`: a shell, torchrun, two ranks.
    #[test]
    fn a_rank_is_traced_to_the_launcher_and_no_further() {
        let folder = tempfile::tempdir().unwrap();
        let put = |pid: u32, name: &str, parent: u32, environment: &str| {
            let place = folder.path().join(pid.to_string());
            std::fs::create_dir_all(&place).unwrap();
            let rest = "0 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0";
            std::fs::write(place.join("stat"), format!("{pid} ({name}) S {parent} {pid} {rest} 77{pid} 0\n")).unwrap();
            std::fs::write(place.join("cmdline"), format!("/usr/bin/{name}\0train.py\0")).unwrap();
            std::fs::write(place.join("environ"), environment).unwrap();
        };
        put(10, "bash", 1, "");
        put(20, "torchrun", 10, "");
        put(31, "python", 20, "RANK=0\0LOCAL_RANK=0\0SECRET_TOKEN=x\0");
        put(32, "python", 20, "RANK=1\0");
        let mut holders = Holders {
            proc: folder.path().into(),
            foreign: false,
            under_windows: false,
            known: BTreeMap::new(),
            look: 0,
        };
        let first = holders.who(31);
        assert_eq!((first.rank, first.parents.as_slice(), first.job()), (Some(0), &[20][..], 20));
        assert_eq!(first.launcher.as_ref().unwrap().as_str(), "torchrun");
        assert_eq!(first.command.unwrap().as_str(), "/usr/bin/python train.py");
        assert_eq!(holders.who(32).job(), 20);
        holders.look_again();
        // Its number was given to another process meanwhile.
        put(31, "other", 1, "");
        std::fs::write(folder.path().join("31/stat"), "31 (other) S 1 31 0 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 999 0\n")
            .unwrap();
        assert_eq!((holders.who(31).rank, holders.who(31).name.unwrap().as_str()), (None, "other"));
        // Dead, and waiting for its parent to notice.
        std::fs::write(folder.path().join("32/stat"), "32 (python) Z 20 32 0 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 7732 0\n")
            .unwrap();
        let dead = holders.who(32);
        assert!(dead.gone && dead.rank == Some(1), "{dead:?}");
    }
}
