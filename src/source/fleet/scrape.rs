//! A Prometheus server, or a program that serves metrics in its text format: asked with curl, as nothing else here
//! speaks HTTP and TLS. Whatever answers is foreign: time, size and redirects have limits.

use std::{
    io::{Read, Write},
    process::{Command, Stdio},
    sync::mpsc::SyncSender,
    thread,
    time::{Duration, Instant},
};

use crate::model::{
    Clean,
    fleet::{Heard, HostReport, News},
};

use super::{Asking, Desk, complaints};

/// The whole answer must be there within this.
const DEADLINE: Duration = Duration::from_secs(2);
/// Largest answer.
const LARGEST: u64 = 16 << 20;

/// Whoever is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    url: String,
    /// A server that is asked a question, not a list of metrics that is read.
    pub is_server: bool,
    /// The machine in the address, for metrics that do not say whose they are.
    pub host: Clean,
}

impl Address {
    /// `http://host:9090` is a Prometheus server, `http://host:9400/metrics` a list of metrics.
    ///
    /// # Errors
    /// When it is no address of either.
    pub fn parse(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
        let Some(rest) = rest.filter(|rest| !rest.is_empty() && !rest.starts_with('/')) else {
            return Err("an address begins with http:// or https://".into());
        };
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err("an address has no blanks".into());
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let host = authority.rsplit('@').next().unwrap_or(authority);
        let host = if host.starts_with('[') { host } else { host.split(':').next().unwrap_or(host) };
        let is_server = !path.trim_end_matches('/').ends_with("metrics") && !path.contains('?');
        Ok(Self { url: text.to_string(), is_server, host: Clean::new(host) })
    }

    /// As it is shown: without the user and the password that it may hold.
    pub fn shown(&self) -> Clean {
        let (scheme, rest) = self.url.split_once("://").unwrap_or(("", &self.url));
        let (authority, path) = rest.split_once('/').map_or((rest, String::new()), |(a, p)| (a, format!("/{p}")));
        let authority = authority.rsplit('@').next().unwrap_or(authority);
        Clean::new(&format!("{scheme}://{authority}{}", path.split('?').next().unwrap_or_default()))
    }
}

/// How an answer is understood.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// What a server is asked for.
    pub question: &'static str,
    pub understand: fn(&[u8], &Address) -> Result<Vec<HostReport>, Clean>,
}

/// Asks in a thread of its own, each `interval`, until `asking` ends.
pub fn spawn(
    place: usize,
    address: Address,
    interval: Duration,
    reading: Reading,
    asking: &Asking,
    news: SyncSender<News>,
) {
    let (desk, shared) = (Desk { place, news }, asking.share());
    let _ = thread::Builder::new().name("scrape".into()).spawn(move || {
        while !shared.is_over() {
            let start = Instant::now();
            let heard = fetch(&address, reading.question)
                .map_err(|why| Clean::new(&why))
                .and_then(|answer| (reading.understand)(&answer, &address));
            let heard = match heard {
                Ok(reports) => Heard::Reports(reports),
                Err(why) => Heard::Down { why, advice: Clean::default() },
            };
            if !desk.tell(heard) {
                return;
            }
            shared.rest(interval.saturating_sub(start.elapsed()));
        }
    });
}

/// One answer, whole.
fn fetch(address: &Address, question: &str) -> Result<Vec<u8>, String> {
    let mut curl = Command::new("curl");
    // First -q: the user's .curlrc could lead elsewhere, or print what is no metric.
    curl.args(["-q", "--silent", "--show-error", "--globoff", "--proto", "=http,https", "--max-redirs", "0"]);
    curl.arg("--max-time").arg(DEADLINE.as_secs().to_string());
    curl.args(["--write-out", "%{stderr}%{http_code}\n", "--config", "-"]);
    let started = curl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = started.map_err(|error| format!("curl cannot be started: {error}"))?;
    // The address may hold a password: other users see the words of a command.
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    let mut asked = if address.is_server {
        format!(
            "url = \"{}/api/v1/query\"\nget\ndata-urlencode = \"query={}\"\n",
            quoted(address.url.trim_end_matches('/')),
            quoted(question)
        )
    } else {
        format!("url = \"{}\"\n", quoted(&address.url))
    };
    asked.push_str("header = \"accept: text/plain, application/json\"\n");
    if let Some(mut input) = child.stdin.take() {
        let _ = input.write_all(asked.as_bytes());
    }
    let said = complaints(&mut child);
    let mut answer = Vec::new();
    let read = child.stdout.take().map_or(Ok(0), |out| out.take(LARGEST + 1).read_to_end(&mut answer));
    let too_large = answer.len() as u64 > LARGEST;
    if too_large {
        let _ = child.kill();
    }
    let status = child.wait();
    let said = said.join().unwrap_or_default();
    if too_large {
        return Err(format!("it answers with more than {} MiB", LARGEST >> 20));
    }
    read.map_err(|error| error.to_string())?;
    let code = said.rsplit("; ").next().and_then(|word| word.parse::<u16>().ok());
    match (status.ok().and_then(|status| status.code()), code) {
        (Some(0), Some(200..=299)) if answer.starts_with(&[0x1f, 0x8b]) => {
            Err("it answers with compressed bytes, which nobody asked for".into())
        }
        (Some(0), Some(200..=299)) => Ok(answer),
        (Some(0), Some(300..=399)) => Err("it sends elsewhere, which is not followed: name the right address".into()),
        (Some(0), Some(code)) => Err(format!("it answers with HTTP status {code}")),
        (Some(28), _) => Err(format!("no whole answer within {} s", DEADLINE.as_secs())),
        _ => {
            let why = said.split("; ").find(|line| line.starts_with("curl:")).unwrap_or("curl failed");
            Err(why.trim_start_matches("curl: ").to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_apart() {
        let check = |text: &str, is_server, host: &str, shown: &str| {
            let address = Address::parse(text).unwrap();
            assert_eq!((address.is_server, address.host.as_str(), address.shown().as_str()), (is_server, host, shown));
        };
        check("http://prom:9090", true, "prom", "http://prom:9090");
        check("https://prom.example.org/prometheus/", true, "prom.example.org", "https://prom.example.org/prometheus/");
        check("http://gpu1:9400/metrics", false, "gpu1", "http://gpu1:9400/metrics");
        check("http://me:geheim@gpu1:9400/metrics", false, "gpu1", "http://gpu1:9400/metrics");
        check("http://[::1]:9400/federate?match[]=x", false, "[::1]:9400", "http://[::1]:9400/federate");
        for text in ["", "prom:9090", "ftp://x", "http://", "http:///x", "http://a b", "file:///etc/passwd"] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
    }
}
