//! Who is called when something deserves a look: the user's command and webhook, on a thread of their own.

use std::{
    io::Write,
    process::{Child, Command, Stdio},
    sync::mpsc::{SyncSender, sync_channel},
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{session::alerts::Alert, ui::config::AlertConfig};

/// Calls that may wait for the one before; more are dropped, as a call that hangs must not hold anything up.
const WAITING: usize = 16;
/// A call that takes longer is ended.
const PATIENCE: Duration = Duration::from_secs(30);

/// The thread that calls; dropping it lets the calls under way end by themselves.
#[derive(Debug)]
pub struct Calls {
    queue: Option<SyncSender<String>>,
    config: AlertConfig,
}

impl Calls {
    /// Nobody is called where the configuration names nobody.
    pub fn new(config: &AlertConfig) -> Self {
        let (command, webhook) = (config.command.clone(), config.webhook.clone());
        let queue = (command.is_some() || webhook.is_some()).then(|| {
            let (queue, alerts) = sync_channel::<String>(WAITING);
            let _ = thread::Builder::new().name("calls".into()).spawn(move || {
                for alert in alerts {
                    if let Some(command) = &command {
                        call(Command::new("sh").args(["-c", command]), &alert);
                    }
                    if let Some(address) = &webhook {
                        let mut curl = Command::new("curl");
                        // Only what was written in the configuration is called: no other protocol, no redirect, no pattern.
                        curl.args([
                            "--silent",
                            "--fail",
                            "--globoff",
                            "--proto",
                            "=http,https",
                            "--max-redirs",
                            "0",
                            "--max-time",
                            "20",
                            "--header",
                            "content-type: application/json",
                        ]);
                        curl.args(["--data-binary", "@-", "--url", address]);
                        call(&mut curl, &alert);
                    }
                }
            });
            queue
        });
        Self { queue, config: config.clone() }
    }

    /// Passes an alert on, if it is bad enough. Never waits.
    pub fn alert(&self, alert: &Alert) {
        if let Some(queue) = self.queue.as_ref().filter(|_| self.config.from.takes(alert.severity)) {
            let _ = queue.try_send(to_json(alert));
        }
    }
}

/// Schema `oomph.alert/1`.
fn to_json(alert: &Alert) -> String {
    let Alert { rule, severity, subject, text, since, line, step, .. } = alert;
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    json!({
        "schema": "oomph.alert/1",
        "rule": rule,
        "severity": severity.as_str(),
        "subject": Some(subject.as_str()).filter(|s| !s.is_empty()),
        "text": text.as_str(),
        "at": since.to_string(),
        "line": line,
        "step": step,
        "host": crate::model::Clean::new(host.trim()).as_str(),
    })
    .to_string()
}

/// Runs a command with a text on its standard input; its output goes nowhere, as the screen is ours.
fn call(command: &mut Command, text: &str) {
    let started = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let Ok(mut child) = started else { return };
    if let Some(mut input) = child.stdin.take() {
        let _ = input.write_all(text.as_bytes());
    }
    wait(&mut child);
}

fn wait(child: &mut Child) {
    let started = Instant::now();
    while matches!(child.try_wait(), Ok(None)) {
        if started.elapsed() > PATIENCE {
            let _ = child.kill();
            let _ = child.wait();
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{session::alerts::Severity, ui::config::From};

    fn alert(severity: Severity) -> Alert {
        Alert {
            rule: "crash",
            severity,
            subject: "".into(),
            text: "it's $(gone); \"now\"".into(),
            since: jiff::Timestamp::UNIX_EPOCH,
            until: None,
            line: Some(3),
            step: None,
            old: false,
        }
    }

    #[test]
    fn the_command_gets_the_alert_as_json() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alert.json");
        let command = Some(format!("cat >> {p}.part; mv {p}.part {p}", p = path.display()));
        let calls = Calls::new(&AlertConfig { command, from: From::Warning, ..AlertConfig::default() });
        calls.alert(&alert(Severity::Info));
        calls.alert(&alert(Severity::Critical));
        let started = Instant::now();
        while !path.exists() && started.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(5));
        }
        let value: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!(value["schema"], "oomph.alert/1");
        assert_eq!(value["text"], "it's $(gone); \"now\"");
        assert_eq!(value["subject"], serde_json::Value::Null);
        assert_eq!(value["severity"], "critical");
    }

    #[test]
    fn nobody_is_called_by_default() {
        let calls = Calls::new(&AlertConfig::default());
        assert!(calls.queue.is_none());
        calls.alert(&alert(Severity::Critical));
    }
}
