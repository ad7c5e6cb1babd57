//! The host's memory: of the machine, of the cgroup that limits the trainer, of its processes, and `/dev/shm`.
//!
//! Reads `/proc` and the cgroup's files. One figure that cannot be read costs that figure alone.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::SyncSender,
    },
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use crate::model::{Event, EventKind, event::HostSample};

use super::{
    kernel_file,
    pace::Pace,
    processes::table::{family, stats},
};

/// Time between two whole looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long the last look after the trainer's end is waited for.
const LAST: Duration = Duration::from_millis(500);

/// Where the system shows itself; tests put other folders in place.
#[derive(Clone, Debug)]
pub struct Places {
    pub proc: PathBuf,
    pub cgroups: PathBuf,
    pub shm: PathBuf,
}

impl Places {
    pub fn of_this_machine(proc: PathBuf) -> Self {
        Self { proc, cgroups: "/sys/fs/cgroup".into(), shm: "/dev/shm".into() }
    }
}

/// The sampling; dropping it ends it without waiting.
#[derive(Debug)]
pub struct Watching {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Watching {
    /// Ends it after one last look: what the kernel counted at the trainer's end is in it.
    pub fn finish(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else { return };
        thread.thread().unpark();
        let start = Instant::now();
        while !thread.is_finished() && start.elapsed() < LAST {
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

/// Samples the host each second, more finely when memory is nearly full. `trainer` is the process whose family is
/// summed up and whose cgroup counts; without one, the machine and oomph's own cgroup.
pub fn spawn(places: Places, trainer: Option<u32>, events: SyncSender<Event>) -> Watching {
    let stop = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&stop);
    let run = move || {
        let mut host = Host::new(places, trainer);
        let mut pace = Pace::default();
        let mut shm_pace = Pace::default();
        let send = |sample| events.send(Event { at: Timestamp::now(), kind: EventKind::Host { sample } }).is_ok();
        loop {
            let started = Instant::now();
            let whole = host.look();
            let mut told = whole.clone();
            if !send(whole) || over.load(Ordering::Relaxed) {
                return;
            }
            let mut looked = told.clone();
            while started.elapsed() < INTERVAL && !over.load(Ordering::Relaxed) {
                let now = Instant::now();
                let memory =
                    looked.pressed().and_then(|(used, limit)| pace.next(now, limit.saturating_sub(used), limit));
                let shm = looked.shm_used_bytes.zip(looked.shm_total_bytes);
                let shm = shm.and_then(|(used, total)| shm_pace.next(now, total.saturating_sub(used), total));
                let fine = [memory, shm].into_iter().flatten().min();
                let left = INTERVAL.saturating_sub(started.elapsed());
                let Some(fine) = fine.filter(|fine| *fine < left) else {
                    thread::park_timeout(left);
                    continue;
                };
                thread::park_timeout(fine);
                looked = host.glance();
                if moved(&told, &looked) {
                    told = looked.clone();
                    if !send(looked.clone()) {
                        return;
                    }
                }
            }
        }
    };
    let thread = thread::Builder::new().name("host".into()).spawn(run).ok();
    Watching { stop, thread }
}

/// Whether two looks differ by more than a two-thousandth of the machine: less says nothing new.
fn moved(before: &HostSample, now: &HostSample) -> bool {
    let least = now.total_bytes.unwrap_or(1 << 30) / 2000;
    let differs = |a: Option<u64>, b: Option<u64>| match (a, b) {
        (Some(a), Some(b)) => a.abs_diff(b) > least,
        (a, b) => a.is_some() != b.is_some(),
    };
    differs(before.available_bytes, now.available_bytes)
        || differs(before.cgroup_used_bytes, now.cgroup_used_bytes)
        || differs(before.trainer_rss_bytes, now.trainer_rss_bytes)
        || before.shm_used_bytes != now.shm_used_bytes
        || before.cgroup_oom_kills != now.cgroup_oom_kills
}

/// Who goes when the host's memory runs out. Without the right to say so nothing changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worth {
    /// A dashboard: it is the first to go.
    Least,
    /// The supervisor: it goes before anything that takes less than half of the memory, but not before the process that
    /// fills it. Its own few MiB would save nobody, and somebody must be there to tell what happened.
    BelowTheCommand,
}

/// Makes this process one that the kernel ends rather than the command. Children started later inherit it: the command
/// must be there already.
pub fn stand_back(worth: Worth) {
    let path = Path::new("/proc/self/oom_score_adj");
    let least = match worth {
        Worth::Least => 1000,
        Worth::BelowTheCommand => 500,
    };
    let now = read(path).and_then(|text| text.trim().parse::<i32>().ok());
    if now.is_some_and(|now| now < least) {
        let _ = std::fs::write(path, least.to_string());
    }
}

/// Looks at the host.
#[derive(Debug)]
pub struct Host {
    places: Places,
    trainer: Option<u32>,
    cgroup: Option<Cgroup>,
    family: Vec<u32>,
    /// Busy and all ticks of the processors at the last look.
    ticks: Option<(u64, u64)>,
}

impl Host {
    pub fn new(places: Places, trainer: Option<u32>) -> Self {
        Self { places, trainer, cgroup: None, family: Vec::new(), ticks: None }
    }

    /// Everything.
    pub fn look(&mut self) -> HostSample {
        let who = self.trainer.map_or_else(|| "self".to_string(), |pid| pid.to_string());
        // The trainer's cgroup outlives it: its last counts are wanted.
        if let Some(cgroup) = Cgroup::of(&self.places, &who) {
            self.cgroup = Some(cgroup);
        }
        if let Some(trainer) = self.trainer {
            self.family = family(&stats(&self.places.proc), trainer);
        }
        let ticks = self.processor_ticks();
        let busy = self.ticks.zip(ticks).and_then(|((busy, all), (now_busy, now_all))| {
            let all = now_all.checked_sub(all).filter(|all| *all > 0)?;
            Some(100.0 * now_busy.saturating_sub(busy) as f32 / all as f32)
        });
        self.ticks = ticks;
        HostSample { cpu_percent: busy, fine: false, ..self.glance() }
    }

    /// Memory alone, of the processes known from the last look.
    pub fn glance(&self) -> HostSample {
        let (total, available) = self.machine();
        let cgroup = self.cgroup.as_ref().and_then(|cgroup| cgroup.tightest(total));
        let shm = rustix::fs::statvfs(&self.places.shm).ok().filter(|fs| fs.f_blocks > 0);
        let rss = self.trainer.and_then(|_| self.resident());
        HostSample {
            total_bytes: total,
            available_bytes: available,
            cgroup_limit_bytes: cgroup.map(|(limit, _)| limit),
            cgroup_used_bytes: cgroup.and_then(|(_, used)| used),
            cgroup_oom_kills: self.cgroup.as_ref().and_then(Cgroup::kills),
            shm_total_bytes: shm.as_ref().map(|fs| fs.f_blocks.saturating_mul(fs.f_frsize)),
            shm_used_bytes: shm.as_ref().map(|fs| fs.f_blocks.saturating_sub(fs.f_bfree).saturating_mul(fs.f_frsize)),
            trainer_rss_bytes: rss.map(|(bytes, _)| bytes),
            trainer_processes: rss.map(|(_, count)| count),
            trainer_pid: self.trainer,
            cpu_percent: None,
            fine: true,
        }
    }

    fn machine(&self) -> (Option<u64>, Option<u64>) {
        let text = kernel_file::text(&self.places.proc.join("meminfo")).unwrap_or_default();
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
        };
        (field("MemTotal"), field("MemAvailable"))
    }

    /// Resident memory of the family, and how many processes it was read of. Pages that several share are counted in
    /// the one that shares most: exact sums (`smaps_rollup`) would hold up the trainer's own memory calls.
    fn resident(&self) -> Option<(u64, u32)> {
        let page = rustix::param::page_size() as u64;
        let (mut own, mut shared, mut count) = (0_u64, 0_u64, 0);
        for pid in &self.family {
            let path = self.places.proc.join(pid.to_string()).join("statm");
            let Ok(text) = kernel_file::text(&path) else { continue };
            let mut fields = text.split_ascii_whitespace().skip(1).map_while(|field| field.parse::<u64>().ok());
            let (Some(resident), Some(its_shared)) = (fields.next(), fields.next()) else { continue };
            own += resident.saturating_sub(its_shared);
            shared = shared.max(its_shared);
            count += 1;
        }
        (count > 0).then(|| ((own + shared).saturating_mul(page), count))
    }

    fn processor_ticks(&self) -> Option<(u64, u64)> {
        let text = kernel_file::text(&self.places.proc.join("stat")).ok()?;
        let line = text.lines().next()?.strip_prefix("cpu ")?;
        // user nice system idle iowait irq softirq steal; guests are in user already.
        let ticks: Vec<u64> = line.split_ascii_whitespace().take(8).map_while(|t| t.parse().ok()).collect();
        let all: u64 = ticks.iter().sum();
        let idle = ticks.get(3)? + ticks.get(4).unwrap_or(&0);
        Some((all.saturating_sub(idle), all))
    }
}

/// The cgroup of a process and those above it, the innermost first.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cgroup {
    folders: Vec<PathBuf>,
    /// Of the second version, which has other names for the same files.
    unified: bool,
}

impl Cgroup {
    fn of(places: &Places, who: &str) -> Option<Self> {
        let text = kernel_file::text(&places.proc.join(who).join("cgroup")).ok()?;
        let lines = || text.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
        let first = lines().find(|(controllers, _)| controllers.split(',').any(|c| c == "memory"));
        let (unified, mount, path) = match first {
            Some((_, path)) => (false, places.cgroups.join("memory"), path),
            None => (true, places.cgroups.clone(), lines().find(|(controllers, _)| controllers.is_empty())?.1),
        };
        // A path from outside this container does not exist here: the container's own root stands for it.
        let inner = mount.join(path.trim_start_matches('/'));
        let inner = if inner.is_dir() && !path.contains("..") { inner } else { mount.clone() };
        let folders: Vec<PathBuf> =
            inner.ancestors().take_while(|f| f.starts_with(&mount)).map(Path::to_path_buf).collect();
        (!folders.is_empty()).then_some(Self { folders, unified })
    }

    /// The limit that will be met first, below that of the machine, and the bytes in use under it that the kernel
    /// cannot simply drop: file pages that nobody has used lately are not counted.
    fn tightest(&self, total: Option<u64>) -> Option<(u64, Option<u64>)> {
        let (limit_name, used_name, cold) = if self.unified {
            ("memory.max", "memory.current", "inactive_file ")
        } else {
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file ")
        };
        let number = |folder: &Path, name: &str| read(&folder.join(name))?.trim().parse::<u64>().ok();
        self.folders
            .iter()
            .filter_map(|folder| {
                let limit = number(folder, limit_name).filter(|limit| total.is_none_or(|total| *limit < total))?;
                let used = number(folder, used_name).map(|used| {
                    let stat = read(&folder.join("memory.stat")).unwrap_or_default();
                    let cold = stat.lines().find_map(|line| line.strip_prefix(cold)?.parse::<u64>().ok());
                    used.saturating_sub(cold.unwrap_or(0))
                });
                Some((limit, used))
            })
            .min_by_key(|(limit, used)| limit.saturating_sub(used.unwrap_or(0)))
    }

    /// Kills for want of memory in this cgroup, or in the ones below it.
    fn kills(&self) -> Option<u64> {
        let name = if self.unified { "memory.events" } else { "memory.oom_control" };
        let counts = self.folders.iter().filter_map(|folder| {
            let text = read(&folder.join(name))?;
            text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
        });
        // Counts of the second version include the groups below, those of the first do not.
        if self.unified { counts.max() } else { counts.reduce(|a: u64, b: u64| a.saturating_add(b)) }
    }
}

fn read(path: &Path) -> Option<String> {
    kernel_file::text(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine in a folder: `put("proc/meminfo", "…")`.
    struct Machine(tempfile::TempDir);

    impl Machine {
        fn new(files: &[(&str, &str)]) -> Self {
            let machine = Self(tempfile::tempdir().unwrap());
            for (name, text) in files {
                let path = machine.0.path().join(name);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
            machine
        }

        fn host(&self, trainer: u32) -> Host {
            let at = |name: &str| self.0.path().join(name);
            Host::new(Places { proc: at("proc"), cgroups: at("cgroup"), shm: at("proc") }, Some(trainer))
        }
    }

    const MEMINFO: (&str, &str) =
        ("proc/meminfo", "MemTotal:       8000000 kB\nMemFree:   1 kB\nMemAvailable:    6000000 kB\n");

    fn stat(parent: u32, session: u32) -> String {
        format!("1 (a) b) S {parent} 0 {session} {}1\n", "0 ".repeat(15))
    }

    #[test]
    fn the_tightest_limit_above_the_trainer_counts() {
        let machine = Machine::new(&[
            MEMINFO,
            ("proc/7/cgroup", "0::/slurm/job_1/step_0\n"),
            ("proc/7/stat", &stat(1, 7)),
            ("proc/8/stat", &stat(7, 7)),
            // Its parent died; its session tells whose it is.
            ("proc/9/stat", &stat(1, 7)),
            ("proc/10/stat", &stat(1, 1)),
            ("proc/7/statm", "900 300 100 0 0 0 0\n"),
            ("proc/8/statm", "900 250 200 0 0 0 0\n"),
            ("proc/9/statm", "900 10 0 0 0 0 0\n"),
            ("proc/10/statm", "900 9999 0 0 0 0 0\n"),
            ("cgroup/slurm/job_1/step_0/memory.max", "max\n"),
            ("cgroup/slurm/job_1/memory.max", "4000000000\n"),
            ("cgroup/slurm/job_1/memory.current", "3000000000\n"),
            ("cgroup/slurm/job_1/memory.stat", "anon 1\ninactive_file 500000000\n"),
            ("cgroup/slurm/job_1/memory.events", "low 0\nmax 12\noom 2\noom_kill 1\n"),
        ]);
        let mut host = machine.host(7);
        let sample = host.look();
        assert_eq!(sample.cgroup_limit_bytes, Some(4_000_000_000));
        assert_eq!(sample.cgroup_used_bytes, Some(2_500_000_000));
        assert_eq!(sample.cgroup_oom_kills, Some(1));
        let page = rustix::param::page_size() as u64;
        assert_eq!((sample.trainer_rss_bytes, sample.trainer_processes), (Some((200 + 50 + 10 + 200) * page), Some(3)));
        assert_eq!(sample.pressed(), Some((2_500_000_000, 4_000_000_000)));
        // The trainer is gone; what its cgroup counted is still there.
        std::fs::remove_dir_all(machine.0.path().join("proc/7")).unwrap();
        let last = host.look();
        assert_eq!((last.cgroup_oom_kills, last.trainer_processes), (Some(1), Some(2)));
    }

    #[test]
    fn the_first_version_of_cgroups_and_paths_from_outside_are_read() {
        let machine = Machine::new(&[
            MEMINFO,
            ("proc/7/cgroup", "9:name=systemd:/\n4:cpu,memory:/kubepods/pod1/c1\n0::/\n"),
            ("cgroup/memory/memory.limit_in_bytes", "2000000000\n"),
            ("cgroup/memory/memory.usage_in_bytes", "1900000000\n"),
            ("cgroup/memory/memory.stat", "inactive_file 5\ntotal_inactive_file 100000000\n"),
            ("cgroup/memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"),
        ]);
        let sample = machine.host(7).look();
        assert_eq!((sample.cgroup_limit_bytes, sample.cgroup_used_bytes), (Some(2_000_000_000), Some(1_800_000_000)));
        assert_eq!(sample.cgroup_oom_kills, Some(3));
    }

    #[test]
    fn what_cannot_be_read_is_unknown() {
        let machine = Machine::new(&[("proc/7/cgroup", "junk\n")]);
        let sample = machine.host(7).look();
        assert_eq!((sample.total_bytes, sample.cgroup_used_bytes, sample.trainer_rss_bytes), (None, None, None));
        assert_eq!(sample.pressed(), None);
        // No limit below the machine's: none at all.
        let machine =
            Machine::new(&[MEMINFO, ("proc/7/cgroup", "0::/\n"), ("cgroup/memory.max", "9223372036854771712\n")]);
        let sample = machine.host(7).look();
        assert_eq!(sample.cgroup_limit_bytes, None);
        assert_eq!(sample.pressed(), Some((2_000_000 * 1024, 8_000_000 * 1024)));
    }
}
