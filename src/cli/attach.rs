//! `oomph attach RUN`: the dashboard on a run that `oomph run` started. `oomph run` on a terminal is one of these too.

use std::{
    collections::BTreeMap,
    io::IsTerminal,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use clap::Args;
use jiff::Timestamp;

use crate::{
    model::{Clean, Event, EventKind, SourceId, knobs::Knobs},
    session::Session,
    source::{file::Tail, processes::table::start_of},
    store::{
        database::{Database, Gap},
        live::{Ended, Identity, Live},
        runs::{self, RECORDING},
    },
    ui::End,
};

use super::{jobs::proc_folder, machine::Machine, replay, watch};

/// How often the output and the run's end are looked for.
const LOOK: Duration = Duration::from_millis(50);
/// Time between two looks at the GPUs.
const SAMPLES: Duration = Duration::from_secs(1);
const WAITING: usize = 32;

/// Open the dashboard on a run that goes on.
///
/// The run was started by `oomph run`, on this machine. What happened before is there too, with its times.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  oomph attach                        the newest run that goes on
  oomph attach 20261124-113150-1472   this one (`oomph history` lists them)")]
pub struct AttachArgs {
    /// Name of a run; without it the newest that goes on
    #[arg(value_name = "RUN")]
    run: Option<PathBuf>,
    /// Colours: dark, light, … (the key t lists them)
    #[arg(long, value_name = "NAME")]
    theme: Option<String>,
    /// Do not look at GPUs
    #[arg(long)]
    no_gpu: bool,
}

/// # Errors
/// When there is no such run, or no terminal.
pub fn run(args: &AttachArgs) -> Result<ExitCode> {
    let place = find(args.run.as_deref())?;
    let (end, _) = attach(&place, args.theme.as_deref(), args.no_gpu)?;
    Ok(watch::exit_code(end))
}

/// Whether the run in this folder goes on.
pub fn goes_on(place: &Path) -> bool {
    Ended::read(place).is_none() && Live::read(place).is_some_and(|live| is_there(live.child))
}

/// Whether a process is still the one that it was.
pub fn is_there(process: Identity) -> bool {
    let start = start_of(&proc_folder(), process.pid);
    start.is_some() && (process.start.is_none() || start == process.start)
}

fn find(named: Option<&Path>) -> Result<PathBuf> {
    let Some(named) = named else {
        let newest = runs::folders()?.into_iter().rev().find(|place| goes_on(place));
        let Some(place) = newest else {
            bail!("no run that `oomph run` started goes on; `oomph history` lists the recorded ones");
        };
        return Ok(place);
    };
    let name = named.to_string_lossy();
    let shown = Clean::new(&name);
    let Some(place) = runs::folder_of(&name)? else {
        bail!("there is no run '{shown}'; `oomph history` lists them");
    };
    if Live::read(&place).is_none() {
        bail!("{shown} was watched, not started by `oomph run`: `oomph replay {shown}` shows its recording");
    }
    if !goes_on(&place) {
        bail!("{shown} has ended: `oomph replay {shown}` shows it again");
    }
    Ok(place)
}

/// The dashboard on a run, until the user leaves it; and what is known then.
///
/// # Errors
/// When there is no terminal, or the folder holds no run.
pub fn attach(place: &Path, theme: Option<&str>, no_gpu: bool) -> Result<(End, Session)> {
    let Some(live) = Live::read(place) else { bail!("{}: no run was started here", place.display()) };
    if !std::io::stdout().is_terminal() {
        bail!("the dashboard needs a terminal; `oomph replay RUN --once` prints a frame of a recording");
    }
    // What was recorded so far, with its times; then the output from where the recording stands.
    let (past, given) = replay::read(&place.join(RECORDING)).unwrap_or_else(|_| (Vec::new(), Knobs::default()));
    let mut session = Session::new(given);
    let next = next_bytes(&past);
    for event in past {
        session.apply(event);
    }
    if session.child.started.is_none() {
        session.apply(Event {
            at: Timestamp::now(),
            kind: EventKind::Started { command: Vec::new(), pid: live.child.pid },
        });
    }
    let (events, inbox) = sync_channel(WAITING);
    let stop = Arc::new(AtomicBool::new(false));
    let machine = Machine::watch((!no_gpu).then_some(SAMPLES), Some(live.child.pid), &events);
    follow(place.to_path_buf(), live, next, events, Arc::clone(&stop));
    let (messages, inbox_of_screen) = sync_channel(watch::ON_THE_WAY);
    watch::pump(inbox, None, messages);
    let shown = watch::show(session, inbox_of_screen, watch::Look { theme, slow: false }, |_| {}, &mut |_, _| Ok(()));
    stop.store(true, Ordering::Relaxed);
    drop(machine);
    shown
}

/// Of each source the byte that follows on what was recorded.
fn next_bytes(events: &[Event]) -> BTreeMap<SourceId, u64> {
    let mut next = BTreeMap::new();
    for event in events {
        if let EventKind::Output { source, offset, data } = &event.kind {
            next.insert(*source, offset + data.len() as u64);
        }
    }
    next
}

/// Reads the run's output in a thread until its end, and tells the end after the last byte.
fn follow(place: PathBuf, live: Live, next: BTreeMap<SourceId, u64>, events: SyncSender<Event>, stop: Arc<AtomicBool>) {
    let _ = thread::Builder::new().name("follow".into()).spawn(move || {
        let sources: Vec<SourceId> =
            (0..live.spool.len()).filter_map(|n| u16::try_from(n).ok()).map(SourceId).collect();
        let mut tails: Vec<Tail> = live
            .spool
            .iter()
            .zip(&sources)
            .map(|(path, source)| match next.get(source) {
                Some(offset) => Tail::resume(*source, path.clone(), *offset),
                None => Tail::new(*source, path.clone()),
            })
            .collect();
        let send = |kind| events.send(Event { at: Timestamp::now(), kind }).is_ok();
        let mut record = Record { path: place.join(RECORDING), supervisor: live.supervisor, ..Record::default() };
        while !stop.load(Ordering::Relaxed) {
            // Asked before the output is read: what is read afterwards is all there is.
            let ended = Ended::read(&place).or_else(|| (!is_there(live.child)).then_some(UNSEEN));
            let mut gone = false;
            while tails.iter_mut().any(|tail| tail.poll(&mut |kind| gone |= !send(kind))) && !gone {}
            if gone {
                return;
            }
            if let Some(Ended { code, signal }) = ended {
                for source in sources {
                    send(EventKind::Ended { source });
                }
                send(EventKind::Exited { code, signal });
                return;
            }
            for kind in record.look() {
                send(kind);
            }
            thread::sleep(LOOK);
        }
    });
}

/// The end of a run whose supervisor is gone as well.
const UNSEEN: Ended = Ended { code: None, signal: None };

/// How often the recording is looked at, and how long it may be without a new event: there is a sample a second.
const RECORD: Duration = Duration::from_secs(5);
const LATE: i64 = 20;

/// The recording that another oomph writes, seen from outside.
#[derive(Debug, Default)]
struct Record {
    path: PathBuf,
    supervisor: Identity,
    looked: Option<Instant>,
    gaps: Vec<Gap>,
    late: bool,
}

impl Record {
    /// What changed: gaps, and whether anything is written at all.
    fn look(&mut self) -> Vec<EventKind> {
        if self.looked.is_some_and(|at| at.elapsed() < RECORD) {
            return Vec::new();
        }
        self.looked = Some(Instant::now());
        // Without a recording there is nothing to miss; one that is locked for its writer alone tells at the end.
        let Ok(database) = Database::open(&self.path) else { return Vec::new() };
        let gaps = database.gaps().unwrap_or_default();
        let mut news: Vec<EventKind> = gaps.iter().filter(|gap| !self.gaps.contains(gap)).map(Gap::told).collect();
        let newest = database.number("SELECT at FROM event ORDER BY seq DESC LIMIT 1").ok().flatten();
        let silent = newest.map_or(0, |at| Timestamp::now().as_second() - (at / 1e6) as i64);
        if (silent > LATE) != self.late {
            self.late = silent > LATE;
            let newest = Timestamp::from_second(Timestamp::now().as_second() - silent).unwrap_or_default();
            let why = match gaps.last().filter(|gap| gap.at >= newest) {
                Some(gap) => gap.reason.to_string(),
                None if is_there(self.supervisor) => format!("nothing was written for {silent} s"),
                None => "the oomph that wrote it is gone".to_string(),
            };
            news.push(EventKind::Recording { trouble: self.late.then(|| Clean::new(&why)) });
        }
        self.gaps = gaps;
        news
    }
}
