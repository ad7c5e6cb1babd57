//! What this machine tells of itself: its GPUs, its memory, its training jobs and how they stand.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{RecvTimeoutError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use crate::{
    cli::{jobs, machine::Machine},
    model::{
        Clean, SourceId,
        fleet::{FleetGpu, FleetJob, HostReport, SCHEMA},
        gpu::GpuSample,
        knobs::Knobs,
    },
    session::{RunState, Session, alerts::Alerts, gpus::Gpu, series::Series},
    source::file,
    store::runs::{self, RECORDING, State},
    ui::{self, Tone},
};

/// Events that wait; each may hold a quarter of a mebibyte.
const WAITING: usize = 8;
/// Jobs are looked for so often, and recorded runs that failed.
const SURVEY: Duration = Duration::from_secs(5);
const HISTORY: Duration = Duration::from_mins(1);
/// Jobs that are followed at most.
const MOST: usize = 32;
/// The end of a job is told for so long, and a recorded failure.
const ENDED: Duration = Duration::from_mins(10);
const DAY: f64 = 86_400.0;
/// How long the first report waits for the driver and the logs.
const AT_FIRST: Duration = Duration::from_secs(3);

/// Looks at this machine each `interval` and hands over what it sees, until `tell` gives false.
pub fn watch(interval: Duration, mut tell: impl FnMut(HostReport) -> bool) {
    let (events, inbox) = sync_channel(WAITING);
    let _machine = Machine::watch(Some(interval.max(Duration::from_secs(1))), None, &events);
    let mut session = Session::new(Knobs::default());
    let mut jobs = Jobs::default();
    let began = Instant::now();
    let mut told = None::<Instant>;
    loop {
        let due = told.map_or(Duration::from_millis(50), |at| interval.saturating_sub(at.elapsed()));
        match inbox.recv_timeout(due) {
            Ok(event) => session.apply(event),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        session.tick(Timestamp::now());
        let samples: Vec<GpuSample> = session.gpus.iter().map(|gpu| gpu.latest.clone()).collect();
        let asked = !session.gpus.is_empty() || session.gpus.unavailable.is_some();
        if told.is_none() && !asked && began.elapsed() < AT_FIRST {
            continue;
        }
        jobs.look(&samples);
        let ready = jobs.are_read() || began.elapsed() > AT_FIRST;
        if told.map_or(ready, |at| at.elapsed() >= interval) {
            if !tell(report(&session, &jobs)) {
                return;
            }
            told = Some(Instant::now());
        }
    }
}

/// Name of this machine.
pub fn name() -> Clean {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    Clean::new(name.trim())
}

fn report(session: &Session, jobs: &Jobs) -> HostReport {
    let memory = session.host.as_ref().and_then(crate::model::event::HostSample::pressed);
    let unavailable = session.gpus.unavailable.as_ref().filter(|_| session.gpus.is_empty());
    HostReport {
        schema: SCHEMA.into(),
        oomph: env!("CARGO_PKG_VERSION").into(),
        at: Some(Timestamp::now()),
        host: name(),
        memory_used_bytes: memory.map(|(used, _)| used),
        memory_total_bytes: memory.map(|(_, total)| total),
        gpus: session.gpus.iter().map(gpu).collect(),
        gpus_unavailable: unavailable.map(|(why, _)| why.clone()),
        jobs: jobs.told(),
        notes: jobs.notes.clone(),
    }
}

fn gpu(gpu: &Gpu) -> FleetGpu {
    let s = &gpu.latest;
    FleetGpu {
        uuid: Clean::new(&s.uuid),
        index: s.index,
        name: s.name.clone(),
        memory_total_bytes: s.memory_total.map(|b| b.0),
        memory_used_bytes: s.memory_used.map(|b| b.0),
        utilization_percent: s.utilization.map(f64::from),
        temperature_c: s.temperature_c.map(f64::from),
        power_w: s.power_w.map(f64::from),
        lost: s.lost,
        trouble: gpu.troubles().first().map(|trouble| Clean::new(&trouble.text)),
    }
}

/// The jobs that are followed, and the runs that failed lately.
#[derive(Default)]
struct Jobs {
    followed: Vec<Follower>,
    /// Where each was recorded, and when it ended.
    failed: Vec<(PathBuf, Timestamp, FleetJob)>,
    notes: Vec<Clean>,
    surveyed: Option<Instant>,
    remembered: Option<Instant>,
}

impl Jobs {
    fn look(&mut self, samples: &[GpuSample]) {
        if self.surveyed.is_none_or(|at| at.elapsed() >= SURVEY) {
            self.surveyed = Some(Instant::now());
            self.survey(samples);
        }
        if self.remembered.is_none_or(|at| at.elapsed() >= HISTORY) {
            self.remembered = Some(Instant::now());
            self.failed = failed_lately();
        }
    }

    fn survey(&mut self, samples: &[GpuSample]) {
        let survey = jobs::survey_among(samples);
        self.notes = survey.notes().iter().map(|note| Clean::new(note)).collect();
        let index = |uuid: &String| samples.iter().find(|gpu| gpu.uuid == *uuid).map(|gpu| gpu.index);
        for found in &survey.jobs {
            let gpus = found.gpus.iter().flat_map(|(uuids, _)| uuids.iter().filter_map(index)).collect();
            match self.followed.iter().position(|f| f.is(found)) {
                Some(at) => self.followed[at].gpus = gpus,
                None if self.followed.len() < MOST => self.followed.push(Follower::start(found, gpus)),
                None => {}
            }
        }
        for follower in &mut self.followed {
            if follower.gone.is_none() && !survey.jobs.iter().any(|found| follower.is(found)) {
                follower.gone = Some(Instant::now());
            }
        }
        self.followed.retain(|follower| follower.gone.is_none_or(|at| at.elapsed() < ENDED));
    }

    /// Whether all that their logs held at the start has been read.
    fn are_read(&self) -> bool {
        self.followed.iter().all(|follower| follower.latest().1)
    }

    fn told(&self) -> Vec<FleetJob> {
        let mut all: Vec<FleetJob> = self.followed.iter().map(Follower::told).collect();
        // A run whose end was seen is not told twice.
        let is_followed =
            |folder: &PathBuf| self.followed.iter().any(|f| f.files.iter().any(|p| p.starts_with(folder)));
        let now = Timestamp::now();
        all.extend(self.failed.iter().filter(|(folder, ..)| !is_followed(folder)).map(|(_, ended, job)| {
            let ago = super::super::history::duration(now.duration_since(*ended).as_secs_f64());
            FleetJob { says: Clean::new(&format!("{ago} ago: {}", job.says)), ..job.clone() }
        }));
        all
    }
}

/// Recorded runs that failed within a day, the newest first.
fn failed_lately() -> Vec<(PathBuf, Timestamp, FleetJob)> {
    const LOOKED_AT: usize = 10;
    let now = Timestamp::now();
    let folders = runs::folders().unwrap_or_default();
    let mut failed = Vec::new();
    for folder in folders.into_iter().rev().take(LOOKED_AT) {
        let Ok(run) = runs::read(&folder.join(RECORDING)) else { continue };
        let Some(began) = runs::started(&run) else { continue };
        let lasted = jiff::SignedDuration::from_secs_f64(run.seconds.unwrap_or(0.0).clamp(0.0, 1e9));
        let Ok(ended) = began.checked_add(lasted) else { continue };
        if run.state != State::Failed || now.duration_since(ended).as_secs_f64() > DAY {
            continue;
        }
        let command = run.command.as_ref().map_or("", Clean::as_str);
        let title = command
            .split("\\n")
            .find(|word| Path::new(word).extension().is_some_and(|end| end == "py"))
            .or(command.split("\\n").next());
        let how = match (run.exit_code, run.signal) {
            (_, Some(signal)) => format!("killed by signal {signal}"),
            (Some(code), None) => format!("ended with exit code {code}"),
            _ => "failed".to_string(),
        };
        let says = run.failure.as_ref().map_or(how, |failure| failure.summary.to_string());
        let job = FleetJob {
            title: Clean::new(title.map_or("a run", |word| word.rsplit('/').next().unwrap_or(word))),
            run: Some(run.id.clone()),
            state: "failed".into(),
            ended: true,
            step: run.last_step,
            loss: run.last_loss,
            says: Clean::new(&says),
            severity: 2,
            ..FleetJob::default()
        };
        failed.push((folder, ended, job));
    }
    failed
}

/// A job whose logs are read.
struct Follower {
    pid: u32,
    start: u64,
    title: Clean,
    files: Vec<PathBuf>,
    gpus: Vec<u32>,
    /// Since when its processes are gone.
    gone: Option<Instant>,
    /// How it stands, and whether what its logs held at the start has been read.
    latest: Arc<Mutex<(FleetJob, bool)>>,
    _tails: Option<file::Tails>,
}

impl Follower {
    fn start(found: &jobs::Found, gpus: Vec<u32>) -> Self {
        let files = found.paths();
        let latest = Arc::new(Mutex::new((FleetJob::default(), files.is_empty())));
        let tails = (!files.is_empty()).then(|| follow(found, &files, Arc::clone(&latest)));
        let root = &found.job.root;
        if files.is_empty() {
            let mut latest = latest.lock().unwrap_or_else(PoisonError::into_inner);
            latest.0.state = RunState::Waiting.as_str().into();
            latest.0.says = Clean::new(&found.why_nothing());
        }
        Self {
            pid: root.pid,
            start: root.start,
            title: Clean::new(&found.title()),
            files,
            gpus,
            gone: None,
            latest,
            _tails: tails,
        }
    }

    fn is(&self, found: &jobs::Found) -> bool {
        (self.pid, self.start) == (found.job.root.pid, found.job.root.start)
    }

    fn latest(&self) -> (FleetJob, bool) {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn told(&self) -> FleetJob {
        let (mut job, _) = self.latest();
        job.title = self.title.clone();
        job.pid = Some(self.pid);
        job.gpus.clone_from(&self.gpus);
        job.ended = self.gone.is_some();
        let run = self.files.iter().find_map(|path| {
            let folder = path.parent().filter(|folder| folder.join(RECORDING).is_file())?;
            Some(Clean::new(&folder.file_name()?.to_string_lossy()))
        });
        job.run = run;
        if job.ended && job.severity < 2 && job.state.as_str() != RunState::Finished.as_str() {
            job.severity = 1;
            job.state = "gone".into();
            job.says = "its processes are gone, and its log does not say that it finished or why not".into();
        }
        job
    }
}

/// Reads a job's logs in a thread until they are closed.
fn follow(found: &jobs::Found, files: &[PathBuf], latest: Arc<Mutex<(FleetJob, bool)>>) -> file::Tails {
    let (events, inbox) = sync_channel(WAITING);
    let numbered: Vec<_> = files.iter().cloned().zip(0..).map(|(path, n)| (SourceId(n), path)).collect();
    let expected = numbered.len();
    let tails = file::spawn(numbered, &events);
    let mut session = Session::new(found.knobs(&Knobs::default()));
    let _ = thread::Builder::new().name("job".into()).spawn(move || {
        let mut alerts = Alerts::default();
        let mut looked = None::<Instant>;
        drop(events);
        loop {
            match inbox.recv_timeout(Duration::from_millis(200)) {
                Ok(event) => session.apply(event),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let read = session.sources.values().filter(|s| s.caught_up && s.filling().is_none()).count() >= expected;
            if looked.is_some_and(|at| at.elapsed() < Duration::from_secs(1)) && read {
                continue;
            }
            if looked.is_some_and(|at| at.elapsed() < Duration::from_millis(100)) {
                continue;
            }
            looked = Some(Instant::now());
            session.tick(Timestamp::now());
            alerts.look(&session);
            let job = summary(&session, &alerts);
            *latest.lock().unwrap_or_else(PoisonError::into_inner) = (job, read);
        }
    });
    tails
}

fn summary(session: &Session, alerts: &Alerts) -> FleetJob {
    let tempo = ui::tempo(session);
    let standing = ui::standing(session, alerts);
    let state = session.state();
    FleetJob {
        state: state.as_str().into(),
        step: tempo.step,
        total_steps: tempo.total,
        loss: session.metrics.series("loss").and_then(Series::last).map(|sample| sample.value),
        seconds_per_step: tempo.seconds_per_step,
        remaining_seconds: tempo.remaining_seconds,
        says: standing.text,
        severity: match standing.tone {
            Tone::Critical => 2,
            Tone::Warning => 1,
            _ => 0,
        },
        ..FleetJob::default()
    }
}
