//! A machine over OpenSSH: `ssh HOST oomph fleet --here --json`, which tells a line at each interval.
//!
//! ssh is asked to do without a person: no password, no question about a host's key. The user's own configuration of
//! ssh holds otherwise (names, users, keys, jump hosts, a shared connection).

use std::{
    io::BufReader,
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::model::fleet::{Heard, HostReport, News, SCHEMA};

use super::{Asking, Desk, Shared, complaints, line};

/// Longest line that a machine may tell.
const LONGEST: usize = 1 << 20;
/// Lines that wait to be read.
const WAITING: usize = 4;
/// A machine that cannot be asked is asked again after so long, each time twice as long.
const AGAIN: Duration = Duration::from_secs(2);
const LATEST: Duration = Duration::from_mins(1);
/// What ssh needs to say that it failed, beyond the time it was given.
const GRACE: Duration = Duration::from_secs(2);

/// How machines are asked.
#[derive(Clone, Debug)]
pub struct Options {
    /// What runs oomph there.
    pub oomph: Option<String>,
    /// Between two lines.
    pub interval: Duration,
    /// For the first line.
    pub patience: Duration,
}

/// Whether a word may be a host: ssh must not take it for an option.
pub fn is_host(word: &str) -> bool {
    !word.is_empty() && !word.starts_with('-') && !word.chars().any(|c| c.is_whitespace() || c.is_control())
}

/// Asks a machine in a thread of its own, over and over, until `asking` ends.
pub fn spawn(place: usize, host: &str, options: Options, asking: &Asking, news: SyncSender<News>) {
    let (host, desk, shared) = (host.to_string(), Desk { place, news }, asking.share());
    let _ = thread::Builder::new().name("ssh".into()).spawn(move || {
        let mut pause = AGAIN;
        while !shared.is_over() && desk.tell(Heard::Asking) {
            let (heard, end) = ask(&host, &options, &desk, &shared);
            if heard {
                pause = AGAIN;
            }
            let Some((why, advice)) = end else { return };
            if !desk.down(&why, &advice) {
                return;
            }
            shared.rest(pause);
            pause = (pause * 2).min(LATEST);
        }
    });
}

/// The words of the question.
fn question(host: &str, options: &Options) -> Command {
    let mut ssh = Command::new("ssh");
    let patience = options.patience.as_secs().max(1);
    ssh.args(["-T", "-n", "-oBatchMode=yes", "-oClearAllForwardings=yes", "-oForwardX11=no", "-oForwardAgent=no"]);
    ssh.args(["-oPermitLocalCommand=no", "-oServerAliveInterval=5", "-oServerAliveCountMax=3", "-oLogLevel=ERROR"]);
    ssh.arg(format!("-oConnectTimeout={patience}")).arg("--").arg(host);
    // A shell that is not a login's finds nothing that cargo or pip put into the home folder. `sh -c` because the user's
    // own shell there may speak another language.
    let name = options.oomph.as_deref().unwrap_or("oomph");
    let ask = format!("fleet --here --json --interval {}", options.interval.as_secs_f64());
    let script = format!(
        "PATH=\"$PATH:$HOME/.cargo/bin:$HOME/.local/bin:/usr/local/bin\"; \
         command -v {name} >/dev/null 2>&1 || exit 127; \
         {name} {ask}; code=$?; [ $code -ne 2 ] || {name} --version; exit $code"
    );
    ssh.arg(format!("sh -c '{}'", script.replace('\'', "'\\''")));
    // Nobody is there to type anything.
    ssh.env_remove("SSH_ASKPASS").env("SSH_ASKPASS_REQUIRE", "never");
    ssh.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    ssh
}

/// Asks once and listens until it ends: whether anything was heard, and why it ended; `None` when nobody listens.
fn ask(host: &str, options: &Options, desk: &Desk, shared: &Shared) -> (bool, Option<(String, String)>) {
    let mut child = match question(host, options).spawn() {
        Ok(child) => child,
        Err(error) => {
            let why = format!("ssh cannot be started: {error}");
            return (false, Some((why, "install an OpenSSH client on this machine".into())));
        }
    };
    let said = complaints(&mut child);
    let (lines, inbox) = sync_channel(WAITING);
    let out = child.stdout.take();
    let reader = thread::spawn(move || {
        let Some(out) = out else { return };
        let mut out = BufReader::new(out);
        loop {
            let next = line(&mut out, LONGEST);
            let is_over = !matches!(next, Ok(Some(_)));
            if lines.send(next).is_err() || is_over {
                return;
            }
        }
    });
    let (began, mut last, mut version) = (Instant::now(), None::<Instant>, None);
    let told = loop {
        if shared.is_over() {
            put_an_end(&mut child);
            return (last.is_some(), None);
        }
        let (since, limit) = match last {
            None => (began, options.patience + GRACE),
            Some(last) => (last, options.interval * 3 + options.patience),
        };
        if since.elapsed() > limit {
            break Some((format!("no answer for {} s", since.elapsed().as_secs()), String::new()));
        }
        match inbox.recv_timeout(Duration::from_millis(50)) {
            Ok(Ok(Some(text))) => match understand(&text) {
                Told::Report(report) => {
                    last = Some(Instant::now());
                    if !desk.tell(Heard::Reports(vec![*report])) {
                        put_an_end(&mut child);
                        return (true, None);
                    }
                }
                Told::Newer(oomph) => {
                    let why = format!("the oomph there ({oomph}) is newer and answers in other words");
                    break Some((why, "update the oomph on this machine".into()));
                }
                Told::Version(told) => version = Some(told),
                Told::Noise => {}
            },
            Ok(Err(error)) => break Some((format!("what it answers cannot be read: {error}"), String::new())),
            Ok(Ok(None)) | Err(RecvTimeoutError::Disconnected) => break None,
            Err(RecvTimeoutError::Timeout) => {}
        }
    };
    let status = put_an_end(&mut child);
    drop(inbox);
    let _ = reader.join();
    let said = said.join().unwrap_or_default();
    (last.is_some(), Some(told.unwrap_or_else(|| reason(host, status, &said, version))))
}

/// What one line says.
enum Told {
    Report(Box<HostReport>),
    /// An oomph of this version that has another schema.
    Newer(String),
    /// `oomph 0.1.0`: one that does not know the question says who it is.
    Version(String),
    /// What a shell prints at its start.
    Noise,
}

fn understand(text: &[u8]) -> Told {
    let text = String::from_utf8_lossy(text);
    if let Some(version) = text.trim().strip_prefix("oomph ") {
        return Told::Version(version.chars().take(40).collect());
    }
    match serde_json::from_str::<HostReport>(&text) {
        Ok(report) if report.schema.as_str() == SCHEMA => Told::Report(Box::new(report)),
        Ok(report) if report.schema.as_str().starts_with("oomph.host/") => Told::Newer(report.oomph.to_string()),
        _ => Told::Noise,
    }
}

/// Lets the process end by itself for a moment, then makes it; its exit code, where it had one.
fn put_an_end(child: &mut Child) -> Option<i32> {
    let start = Instant::now();
    let group = Pid::from_child(child);
    let mut asked = false;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.code().filter(|_| !asked),
            Ok(None) if start.elapsed() < Duration::from_millis(300) => {}
            Ok(None) if !asked => {
                let _ = kill_process_group(group, Signal::TERM);
                asked = true;
            }
            Ok(None) if start.elapsed() < Duration::from_secs(1) => {}
            _ => {
                let _ = kill_process_group(group, Signal::KILL);
                let _ = child.wait();
                return None;
            }
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Why a machine stopped to tell, from how ssh ended and what it said; and what helps.
fn reason(host: &str, status: Option<i32>, said: &str, version: Option<String>) -> (String, String) {
    let advice = |needle: &str, text: String| said.contains(needle).then_some(text);
    match (status, version) {
        (Some(255), _) => {
            let why = if said.is_empty() { "ssh could not connect".to_string() } else { said.to_string() };
            let advice = advice("Permission denied", format!("oomph never asks for a password: give that machine a key of yours (`ssh-copy-id {host}`) or load it (`ssh-add`)"))
                .or_else(|| advice("Host key verification failed", format!("connect once by hand and compare its key: `ssh {host}`")))
                .or_else(|| advice("Could not resolve", "is its name right? ~/.ssh/config gives names of your own".into()))
                .or_else(|| advice("REMOTE HOST IDENTIFICATION HAS CHANGED", format!("compare its key before you connect: `ssh {host}`")))
                .unwrap_or_default();
            (why, advice)
        }
        (Some(127), _) => {
            ("there is no oomph there".into(), "install it there, or say where it is: --oomph PATH".into())
        }
        (Some(2), Some(version)) => {
            (format!("the oomph there ({version}) is older and does not know this question"), "update it there".into())
        }
        (code, _) => {
            let how = code.map_or_else(String::new, |code| format!(" with status {code}"));
            let said = if said.is_empty() { String::new() } else { format!(": {said}") };
            (format!("the oomph there ended{how}{said}"), String::new())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_host_is_taken_for_an_option() {
        for word in ["node1", "me@node1", "ssh://me@node1:2222", "::1", "node_1.example.org"] {
            assert!(is_host(word), "{word}");
        }
        for word in ["", "-oProxyCommand=touch /tmp/x", "-v", "a b", "a\nb", "\u{1b}[31m"] {
            assert!(!is_host(word), "{word}");
        }
    }

    #[test]
    fn each_end_has_its_reason() {
        let check = |status, said: &str, version: Option<&str>, why: &str, advice: &str| {
            let (told, help) = reason("n1", status, said, version.map(str::to_string));
            assert!(told.contains(why) && help.contains(advice), "{told} / {help}");
        };
        check(Some(255), "me@n1: Permission denied (publickey,password).", None, "Permission denied", "never asks");
        check(Some(255), "Host key verification failed.", None, "verification failed", "ssh n1");
        check(Some(255), "ssh: Could not resolve hostname n1", None, "resolve", "~/.ssh/config");
        check(Some(255), "", None, "could not connect", "");
        check(Some(127), "", None, "no oomph", "--oomph");
        check(Some(2), "error: unexpected argument '--here'", Some("0.0.9"), "0.0.9) is older", "update it there");
        check(Some(3), "panicked", None, "with status 3: panicked", "");
        check(None, "", None, "the oomph there ended", "");
    }

    #[test]
    fn lines_are_told_apart() {
        assert!(matches!(understand(b"{\"schema\":\"oomph.host/1\",\"new\":1}"), Told::Report(_)));
        assert!(matches!(understand(b"{\"schema\":\"oomph.host/2\",\"oomph\":\"9\"}"), Told::Newer(v) if v == "9"));
        assert!(matches!(understand(b"oomph 0.0.9\n"), Told::Version(v) if v == "0.0.9"));
        for noise in [b"Welcome!".as_slice(), b"{}", b"\xff\x1b[2J", b"[1,2]", b"{\"schema\":3}"] {
            assert!(matches!(understand(noise), Told::Noise));
        }
    }
}
