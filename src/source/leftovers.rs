//! What a command leaves behind: processes that go on after its end, and dead ones that nobody waits for.

use std::path::Path;

use rustix::process::{Pid, WaitOptions};

use crate::model::{Clean, redact};

use super::processes::table;

/// The variable by which the processes of a run are known, whatever becomes of their parents and sessions: the run's id.
pub const RUN: &str = "OOMPH_RUN";

/// A process that outlived the command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survivor {
    pub pid: u32,
    /// Its command line, secrets taken out.
    pub command: Clean,
}

/// The processes of a run that go on: of the session that `leader` led, or with the run's id in their environment.
pub fn survivors(proc: &Path, leader: u32, run: &str) -> Vec<Survivor> {
    let own = std::process::id();
    let mark = format!("{RUN}={run}");
    let carries = |pid: u32| {
        let environment = std::fs::read(proc.join(pid.to_string()).join("environ")).unwrap_or_default();
        environment.split(|b| *b == 0).any(|entry| entry == mark.as_bytes())
    };
    table::stats(proc)
        .into_iter()
        .filter(|(pid, stat)| *pid != own && !matches!(stat.state, 'Z' | 'X'))
        .filter(|(pid, stat)| stat.session == leader || carries(*pid))
        .map(|(pid, stat)| {
            let words = std::fs::read(proc.join(pid.to_string()).join("cmdline")).unwrap_or_default();
            let words: Vec<Clean> =
                words.split(|b| *b == 0).filter(|word| !word.is_empty()).map(Clean::from_bytes).collect();
            let words = redact::words(&words);
            let line: Vec<&str> = words.iter().map(Clean::as_str).collect();
            let line = if line.is_empty() { stat.name } else { line.join(" ") };
            Survivor { pid, command: Clean::new(&line.chars().take(120).collect::<String>()) }
        })
        .collect()
}

/// Lets the dead of the command's session go where oomph is the first process of a container: nobody else would.
pub fn reap(proc: &Path, leader: u32) {
    let own = std::process::id();
    if own != 1 {
        return;
    }
    for (pid, stat) in table::stats(proc) {
        // oomph's own helpers are waited for where they were started; they are not of the command's session.
        if stat.parent == own && stat.state == 'Z' && pid != leader && stat.session == leader {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            let _ = rustix::process::waitpid(pid, WaitOptions::NOHANG);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survivors_are_known_by_session_or_by_the_runs_id() {
        let proc = tempfile::tempdir().unwrap();
        let put = |pid: u32, session: u32, state: char, environ: &str| {
            let folder = proc.path().join(pid.to_string());
            std::fs::create_dir(&folder).unwrap();
            let stat = format!("{pid} (python) {state} 1 0 {session} {}1\n", "0 ".repeat(15));
            std::fs::write(folder.join("stat"), stat).unwrap();
            std::fs::write(folder.join("environ"), environ).unwrap();
            std::fs::write(folder.join("cmdline"), "python\0serve.py\0--token\0Zx9Kq3LmT7vBn2Rw5Yp8Hd4Jf6Gs1Ac0\0")
                .unwrap();
        };
        put(11, 10, 'S', "");
        put(12, 12, 'S', "A=1\0OOMPH_RUN=20261124-1\0");
        put(13, 13, 'S', "OOMPH_RUN=20261124-11\0");
        put(14, 10, 'Z', "");
        let left = survivors(proc.path(), 10, "20261124-1");
        assert_eq!(left.iter().map(|s| s.pid).collect::<Vec<_>>(), [11, 12]);
        assert_eq!(left[0].command.as_str(), "python serve.py --token ***");
    }
}
