//! `oomph fleet`: many machines at once, over OpenSSH or from Prometheus.

mod here;

use std::{
    fmt::Write as _,
    io::{IsTerminal, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use jiff::{Timestamp, tz::TimeZone};
use serde_json::{Value, json};

use crate::{
    model::{
        Clean,
        fleet::{Heard, News},
    },
    parse::prometheus,
    session::{
        Session,
        fleet::{Fleet, Host},
    },
    source::fleet::{
        Asking,
        scrape::{self, Address, Reading},
        ssh,
    },
    ui::{self, App, Msg, fleet::State},
};

use super::{config, watch};

/// News that wait to be shown.
const WAITING: usize = 64;
/// Machines that may be named.
const MOST: usize = 1000;
/// Largest list of machines.
const LARGEST: u64 = 1 << 20;
/// A machine is stale after so many looks without news.
const MISSES: f64 = 3.0;

/// Watch many machines: their GPUs, and how their training jobs stand.
///
/// Each HOST is asked over OpenSSH, as `ssh HOST` would reach it: names, users, keys and jump hosts of ~/.ssh/config
/// hold. oomph must be installed there; nothing is left behind. No password is ever asked for: a machine that wants one
/// is shown as down, with what helps. A Prometheus server, or whatever serves metrics in its text format (dcgm-exporter,
/// nvidia_gpu_exporter, node_exporter), is asked with --prometheus.
///
/// Without any, the machines that the configuration names are watched ([fleet] hosts and prometheus; `oomph config`).
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  oomph fleet node1 node2 me@node3         three machines on one screen
  oomph fleet --hosts hostfile             a list; DeepSpeed's and MPI's hostfiles too
  oomph fleet --once node1 node2           one look as text; --json for a script
  oomph fleet --oomph ~/bin/oomph node1    where oomph is there
  oomph fleet --prometheus http://prom:9090
  oomph fleet --prometheus http://node1:9400/metrics

Exit status: 0; with --once 2 when no machine answered.")]
pub struct FleetArgs {
    /// Machines, as ssh knows them
    #[arg(value_name = "HOST")]
    hosts: Vec<String>,
    /// A file with a machine in each line
    #[arg(long = "hosts", value_name = "FILE")]
    list: Option<PathBuf>,
    /// A Prometheus server, or with a path that ends in /metrics a list of metrics (repeatable)
    #[arg(long, value_name = "URL")]
    prometheus: Vec<String>,
    /// This machine; with --json and no other machine, in the words that `oomph fleet` understands (oomph.host/1)
    #[arg(long)]
    here: bool,
    /// Look once and leave
    #[arg(long)]
    once: bool,
    /// JSON (schema oomph.fleet/1), a line at each look
    #[arg(long)]
    json: bool,
    /// Seconds between two looks; 2, or 15 for Prometheus
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    interval: Option<f64>,
    /// Seconds that a machine has to answer
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    timeout: f64,
    /// The command that is oomph on those machines
    #[arg(long, value_name = "COMMAND")]
    oomph: Option<String>,
    /// Colours: dark, light, … (the key t of the dashboard lists them)
    #[arg(long, value_name = "NAME")]
    theme: Option<String>,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_string())?;
    if (0.5..=3600.0).contains(&seconds) { Ok(seconds) } else { Err("between 0.5 and 3600 seconds".into()) }
}

/// Who is asked.
#[derive(Debug, Default)]
struct Targets {
    here: bool,
    hosts: Vec<String>,
    addresses: Vec<Address>,
}

impl Targets {
    fn names(&self) -> Vec<Clean> {
        let here = self.here.then(here::name);
        let hosts = self.hosts.iter().map(|host| Clean::new(host));
        here.into_iter().chain(hosts).chain(self.addresses.iter().map(Address::shown)).collect()
    }
}

/// # Errors
/// When no machine was named, or one of them cannot be one.
pub fn run(args: &FleetArgs) -> Result<ExitCode> {
    let interval = args.interval.map(Duration::from_secs_f64);
    let looks = interval.unwrap_or(Duration::from_secs(2));
    if args.here && args.json && args.hosts.is_empty() && args.list.is_none() && args.prometheus.is_empty() {
        return tell_of_this_machine(looks, args.once);
    }
    let targets = targets(args)?;
    let slowest = if targets.addresses.is_empty() { looks } else { interval.unwrap_or(Duration::from_secs(15)) };
    let fleet = Fleet::new(&targets.names(), slowest.as_secs_f64() * MISSES + 1.0);
    let screen = !args.once && !args.json;
    if screen && (ui::is_dumb() || !std::io::stdout().is_terminal()) {
        bail!(
            "the screen needs a terminal that can move its cursor; `oomph fleet --once` prints one look, --json the same as JSON"
        );
    }
    let (news, inbox) = sync_channel(WAITING);
    let asking = ask(&targets, args, looks, slowest, &news);
    drop(news);
    let code = if screen { show(fleet, inbox, args.theme.as_deref())? } else { print(fleet, &inbox, args, looks)? };
    drop(asking);
    Ok(code)
}

/// Who was named: in the command, in a file, or in the configuration.
fn targets(args: &FleetArgs) -> Result<Targets> {
    let mut targets = Targets { here: args.here, hosts: args.hosts.clone(), addresses: Vec::new() };
    let mut urls = args.prometheus.clone();
    if let Some(path) = &args.list {
        targets.hosts.extend(listed(path)?);
    }
    if !targets.here && targets.hosts.is_empty() && urls.is_empty() {
        let known = config::load()?.fleet;
        (targets.hosts, urls) = (known.hosts, known.prometheus);
    }
    if !targets.here && targets.hosts.is_empty() && urls.is_empty() {
        bail!(
            "name the machines: `oomph fleet HOST…`, a file of them (--hosts FILE), a Prometheus server (--prometheus URL), \
             or put them into [fleet] of the configuration (`oomph config --path`)"
        );
    }
    if let Some(bad) = targets.hosts.iter().find(|host| !ssh::is_host(host)) {
        bail!("'{}' is no machine's name", Clean::new(bad));
    }
    for url in &urls {
        let address = Address::parse(url).map_err(|why| anyhow::anyhow!("'{}': {why}", Clean::new(url)))?;
        targets.addresses.push(address);
    }
    let mut seen = std::collections::BTreeSet::new();
    targets.hosts.retain(|host| seen.insert(host.clone()));
    if targets.hosts.len() + targets.addresses.len() > MOST {
        bail!("more than {MOST} machines");
    }
    Ok(targets)
}

/// A machine in each line: its first word, as `node1 slots=8` has it. What follows on # is a remark.
fn listed(path: &Path) -> Result<Vec<String>> {
    let name = || Clean::new(&path.to_string_lossy()).to_string();
    let about = std::fs::metadata(path).with_context(name)?;
    if !about.is_file() || about.len() > LARGEST {
        bail!("{}: no list of machines", name());
    }
    let text = std::fs::read_to_string(path).with_context(name)?;
    let words = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let hosts: Vec<String> = words.filter_map(|line| line.split_whitespace().next()).map(str::to_string).collect();
    if hosts.is_empty() {
        bail!("{}: no machine is named in it", name());
    }
    Ok(hosts)
}

/// Starts to ask everybody.
fn ask(targets: &Targets, args: &FleetArgs, looks: Duration, slow: Duration, news: &SyncSender<News>) -> Asking {
    let asking = Asking::default();
    let mut places = 0..;
    let mut place = || places.next().unwrap_or_default();
    if targets.here {
        let (place, news) = (place(), news.clone());
        let _ = thread::Builder::new().name("here".into()).spawn(move || {
            here::watch(looks, |report| {
                news.send(News { at: Timestamp::now(), place, heard: Heard::Reports(vec![report]) }).is_ok()
            });
        });
    }
    let options =
        ssh::Options { oomph: args.oomph.clone(), interval: looks, patience: Duration::from_secs_f64(args.timeout) };
    for host in &targets.hosts {
        ssh::spawn(place(), host, options.clone(), &asking, news.clone());
    }
    let understand = |answer: &[u8], address: &Address| prometheus::hosts(answer, address.is_server, &address.host);
    for address in &targets.addresses {
        let reading = Reading { question: prometheus::QUESTION, understand };
        scrape::spawn(place(), address.clone(), slow, reading, &asking, news.clone());
    }
    asking
}

/// A line at each look, for whoever asked over ssh; until nobody reads them any more.
fn tell_of_this_machine(interval: Duration, once: bool) -> Result<ExitCode> {
    let mut failed = None;
    here::watch(interval, |report| {
        let line = match serde_json::to_string(&report) {
            Ok(line) => line + "\n",
            Err(error) => {
                failed = Some(error);
                return false;
            }
        };
        let mut out = std::io::stdout().lock();
        let written = out.write_all(line.as_bytes()).and_then(|()| out.flush());
        written.is_ok() && !once
    });
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// The screen, until the user leaves it.
fn show(fleet: Fleet, inbox: Receiver<News>, theme: Option<&str>) -> Result<ExitCode> {
    let (messages, inbox_of_screen) = sync_channel(watch::ON_THE_WAY);
    thread::spawn(move || {
        let mut ticked = Instant::now();
        loop {
            let message = match inbox.recv_timeout(Duration::from_secs(1).saturating_sub(ticked.elapsed())) {
                Ok(news) => Msg::Fleet(news),
                Err(RecvTimeoutError::Timeout) => {
                    ticked = Instant::now();
                    Msg::Tick(Timestamp::now())
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if messages.send(message).is_err() {
                return;
            }
        }
    });
    let look = watch::Look { theme, slow: false };
    let prepare = |app: &mut App| app.fleet = Some(State::new(fleet));
    let (end, _) = watch::show(Session::default(), inbox_of_screen, look, prepare, &mut |_, _| Ok(()))?;
    Ok(watch::exit_code(end))
}

/// Without a screen: one look when everybody has answered, or a line at each look.
fn print(mut fleet: Fleet, inbox: &Receiver<News>, args: &FleetArgs, looks: Duration) -> Result<ExitCode> {
    // Everybody has had the time it was given, and what ssh needs to say so.
    let patience = Duration::from_secs_f64(args.timeout) + Duration::from_secs(5);
    let (began, mut told) = (Instant::now(), Instant::now());
    loop {
        match inbox.recv_timeout(Duration::from_millis(100)) {
            Ok(news) => fleet.hear(news.at, news.place, news.heard),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(ExitCode::from(2)),
        }
        fleet.tick(Timestamp::now());
        if args.once && (fleet.is_complete() || began.elapsed() > patience) {
            let text = if args.json { pretty(&fleet)? } else { as_text(&fleet) };
            super::print(&text)?;
            let answered = fleet.hosts().iter().any(|host| host.report.is_some() && host.down.is_none());
            return Ok(ExitCode::from(if answered { 0 } else { 2 }));
        }
        if !args.once && told.elapsed() >= looks {
            told = Instant::now();
            let mut out = std::io::stdout().lock();
            let line = serde_json::to_string(&to_json(&fleet))? + "\n";
            if out.write_all(line.as_bytes()).and_then(|()| out.flush()).is_err() {
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
}

fn pretty(fleet: &Fleet) -> Result<String> {
    let mut text = serde_json::to_string_pretty(&to_json(fleet))?;
    text.push('\n');
    Ok(text)
}

fn as_text(fleet: &Fleet) -> String {
    let app = App::new(Session::default()).for_terminal(&|name| std::env::var(name).ok());
    let width = if std::io::stdout().is_terminal() { watch::terminal_size().0 } else { 120 };
    let mut text = ui::fleet::text(fleet, usize::from(width), app.theme(), &TimeZone::system());
    if fleet.hosts().iter().all(|host| host.report.is_none()) {
        let _ = writeln!(text, "nobody answered");
    }
    text
}

/// Schema `oomph.fleet/1`.
fn to_json(fleet: &Fleet) -> Value {
    let host = |host: &Host<'_>| {
        json!({
            "name": host.name,
            "state": host.state.as_str(),
            "severity": host.severity(),
            "why": host.down.map(|(_, why, _)| why),
            "advice": host.down.map(|(_, _, advice)| advice).filter(|advice| !advice.is_empty()),
            "down_since": host.down.map(|(since, ..)| since.to_string()),
            "heard_at": host.report.map(|(at, _)| at.to_string()),
            "report": host.report.map(|(_, report)| report),
        })
    };
    json!({
        "schema": "oomph.fleet/1",
        "at": fleet.now.map(|now| now.to_string()),
        "hosts": fleet.hosts().iter().map(host).collect::<Vec<_>>(),
    })
}
