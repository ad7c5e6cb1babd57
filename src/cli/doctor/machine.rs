//! Permissions and limits of this machine: the kernel's log, other people's processes, /dev/shm, memory, the clock.

use std::{os::unix::fs::MetadataExt, path::Path};

use jiff::{Timestamp, tz::TimeZone};

use super::{
    super::{jobs::proc_folder, machine::KERNEL},
    Check,
};
use crate::{
    model::{Bytes, EventKind},
    source::{
        host::{Host, Places},
        kernel::KernelLog,
        processes::Table,
    },
};

const AREA: &str = "Machine";
/// PyTorch's workers pass batches through /dev/shm; Docker gives 64 MiB of it.
const SMALL_SHM: u64 = 1 << 30;

pub fn checks() -> Vec<Check> {
    let limits = [cgroup(), shm(), descriptors()].into_iter().flatten();
    [kernel_log(), processes()].into_iter().chain(limits).chain([clock()]).collect()
}

fn kernel_log() -> Check {
    let mut trouble = None;
    KernelLog::open(Path::new(KERNEL), &mut |kind| {
        if let EventKind::KernelLog { trouble: why } = kind {
            trouble = why;
        }
    });
    match trouble {
        None => Check::well(AREA, "kernel_log", "the kernel's log can be read: Xid errors and the OOM killer are seen"),
        Some(why) => Check::note(AREA, "kernel_log", format!("the kernel's log cannot be read ({why}): Xid errors and the OOM killer are known only from what the trainer prints"))
            .advise("`sudo sysctl kernel.dmesg_restrict=0` opens it to users; in a container add --privileged or mount /dev/kmsg"),
    }
}

fn processes() -> Check {
    let table = Table::read(&proc_folder());
    let seen = table.processes.len();
    if table.in_container {
        return Check::note(
            AREA,
            "processes",
            format!("oomph is in a container: it sees the {seen} processes of it, not the host's"),
        )
        .advise("to watch jobs of the host, start the container with --pid=host")
        .fact("seen", seen);
    }
    let hidden = table.processes.values().any(|p| p.pid == 1);
    let check = if !hidden {
        Check::note(AREA, "processes", format!("only your own {seen} processes can be seen (hidepid)"))
            .advise("jobs of others are not found; name their logs instead")
    } else if table.unreadable > 0 {
        Check::note(
            AREA,
            "processes",
            format!("{seen} processes; the open files of {} belong to others and cannot be read", table.unreadable),
        )
        .advise("jobs of others are found by their command line alone; name their logs, or run oomph as their user")
    } else {
        Check::well(AREA, "processes", format!("all {seen} processes can be looked at"))
    };
    check.fact("seen", seen).fact("unreadable", table.unreadable)
}

fn cgroup() -> Option<Check> {
    let sample = Host::new(Places::of_this_machine(proc_folder()), None).look();
    let (total, available) = (sample.total_bytes?, sample.available_bytes?);
    let limit = sample.cgroup_limit_bytes.filter(|limit| *limit < total);
    let says = match limit {
        Some(limit) => format!(
            "host memory {}, but this cgroup may use {} (docker --memory, Slurm --mem, Kubernetes limits)",
            Bytes(total),
            Bytes(limit)
        ),
        None => format!("host memory {}, {} available, no lower limit of a cgroup", Bytes(total), Bytes(available)),
    };
    Some(Check::well(AREA, "memory", says).fact("total_bytes", total).fact("cgroup_limit_bytes", limit))
}

fn shm() -> Option<Check> {
    let disk = crate::store::disk::look(Path::new("/dev/shm")).ok()?;
    let says = format!("/dev/shm holds {}", Bytes(disk.size));
    let check = if disk.size < SMALL_SHM {
        Check::off(AREA, "shm", says + ": data loaders with workers and NCCL will run out of it")
            .advise("docker run --shm-size=16g (or --ipc=host); in Kubernetes mount an emptyDir with medium: Memory")
    } else {
        Check::well(AREA, "shm", says)
    };
    Some(check.fact("size_bytes", disk.size).fact("free_bytes", disk.free))
}

fn descriptors() -> Option<Check> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current?;
    // A hundred or so for itself, one a watched file.
    (limit < 256).then(|| {
        Check::off(AREA, "open_files", format!("only {limit} files may be open at once"))
            .advise("`ulimit -n 4096` before oomph is started")
            .fact("limit", limit)
    })
}

fn clock() -> Check {
    let now = Timestamp::now();
    let zone = TimeZone::system();
    let name = zone.iana_name().unwrap_or("a zone without a name").to_string();
    let shown = now.to_zoned_datetime(zone).strftime("%Y-%m-%d %H:%M:%S").to_string();
    let built = std::env::current_exe().ok().and_then(|exe| Some(std::fs::metadata(exe).ok()?.mtime()));
    let behind = built.is_some_and(|built| now.as_second() + 86_400 < built);
    let check = if behind {
        Check::off(AREA, "clock", format!("the clock says {shown}: that is before oomph was installed"))
            .advise("set it (`timedatectl set-ntp true`): times in recordings would be wrong")
    } else {
        Check::well(AREA, "clock", format!("the clock says {shown} ({name})"))
    };
    check.fact("now", now.to_string()).fact("zone", name)
}
