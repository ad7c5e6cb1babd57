//! NVIDIA's library at its worst (G1 to G5, G7; G6 is the table at the foot of `source/processes/visible.rs`): it costs figures, never the screen, the record or the exit. The library here is the
//! pretended one of `tests/fake-nvml`.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use oomph::model::gpu::{GpuReading, GpuSample, Listed};

use super::{
    count, has, oomph,
    seat::{Log, Seat},
    tell, until,
};

/// The folder of the pretended library; `None` where there is no C compiler.
pub fn library() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        if !has("cc", &["--version"]) {
            return None;
        }
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake-nvml/fake_nvml.c");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fake-nvml");
        fs::create_dir_all(&folder).unwrap();
        // Beside it first: another run of the tests may be using it.
        let fresh = folder.join(format!("{}.so", std::process::id()));
        let output = Command::new("cc")
            .args([
                "-O1",
                "-std=gnu11",
                "-fPIC",
                "-shared",
                "-fvisibility=hidden",
                "-Wl,-soname,libnvidia-ml.so.1",
                "-o",
            ])
            .arg(&fresh)
            .arg(source)
            .args(["-lm", "-lpthread"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::rename(&fresh, folder.join("libnvidia-ml.so.1")).unwrap();
        Some(folder)
    });
    built.as_deref()
}

/// The process that reads the GPUs, as oomph starts it.
struct Helper {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Helper {
    fn start(library: &Path, variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_oomph"));
        command.args(["nvml-helper", "--interval-ms", "20"]).env("LD_LIBRARY_PATH", library);
        command.envs(variables.iter().copied()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The next reading. `None`: it ended.
    fn next(&mut self) -> Option<GpuReading> {
        loop {
            let line = self.lines.next()?.ok()?;
            if !line.is_empty() {
                return Some(serde_json::from_str(&line).unwrap());
            }
        }
    }

    fn samples(&mut self) -> Vec<GpuSample> {
        match self.next() {
            Some(GpuReading::Samples(samples)) => samples,
            other => panic!("no samples: {other:?}"),
        }
    }

    fn why(&mut self) -> String {
        match self.next() {
            Some(GpuReading::Unavailable { why, advice }) => format!("{why} / {advice}"),
            other => panic!("GPUs where none should be: {other:?}"),
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// G1: whatever keeps the driver from being asked is told with what to do about it.
#[test]
fn a_driver_that_cannot_be_asked_is_explained() {
    let Some(library) = library() else { return };
    let nothing = tempfile::tempdir().unwrap();
    let mut cases = 0;
    let mut slowest = Duration::ZERO;
    let mut check = |folder: &Path, variables: &[(&str, &str)], word: &str| {
        let start = Instant::now();
        let why = Helper::start(folder, variables).why();
        slowest = slowest.max(start.elapsed());
        assert!(why.contains(word), "{variables:?}: {why}");
        cases += 1;
    };
    check(nothing.path(), &[], "not found");
    for (fault, word) in [
        ("init_fail", "nvidia-smi"),
        ("driver_not_loaded", "not loaded"),
        ("lib_mismatch", "different versions"),
        ("init_no_permission", "permission"),
        ("slow_init:300,init_fail", "nvidia-smi"),
    ] {
        check(library, &[("FAKE_NVML_FAULT", fault)], word);
    }
    check(library, &[("FAKE_NVML_GPUS", "0")], "no GPU");
    // A library that is none, is cut, or lacks what is asked of it.
    let broken = |name: &str, bytes: &[u8]| {
        let folder = nothing.path().join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("libnvidia-ml.so.1"), bytes).unwrap();
        folder
    };
    let whole = fs::read(library.join("libnvidia-ml.so.1")).unwrap();
    check(&broken("text", b"no library"), &[], "not found");
    check(&broken("empty", b""), &[], "not found");
    check(&broken("cut", &whole[..200]), &[], "not found");
    let folder = nothing.path().join("stripped");
    fs::create_dir_all(&folder).unwrap();
    let source = folder.join("old.c");
    fs::write(&source, "int nvmlInit(void){return 0;} int nvmlShutdown(void){return 0;}").unwrap();
    let built =
        Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(folder.join("libnvidia-ml.so.1")).arg(&source).status();
    assert!(built.unwrap().success());
    check(&folder, &[], "too old");
    // And the whole of oomph starts as if nothing were wrong.
    let start = Instant::now();
    let log = nothing.path().join("train.log");
    fs::write(&log, "{'loss': 1.0, 'epoch': 0.1}\n").unwrap();
    let frame = oomph(nothing.path())
        .env("LD_LIBRARY_PATH", library)
        .env("FAKE_NVML_FAULT", "lib_mismatch")
        .args(["--once", "--json"])
        .arg(&log)
        .output()
        .unwrap();
    let json: serde_json::Value = serde_json::from_slice(&frame.stdout).unwrap();
    assert!(json["gpus_unavailable"]["why"].as_str().unwrap().contains("different versions"), "{json}");
    tell(&format!(
        "G1: {cases} drivers that cannot be asked, explained within {slowest:.0?}; a frame in {:.0?}",
        start.elapsed()
    ));
}

/// One figure of a sample, where it is known.
type Figure = fn(&GpuSample) -> Option<f64>;

/// G2: each kind of call failing in each way, from the start and later: that figure is unknown with a reason, never 0, and the
/// others go on.
#[test]
fn a_refused_figure_is_unknown_and_the_others_stay() {
    let Some(library) = library() else { return };
    let figures: &[(&str, Figure)] = &[
        ("mem", |s| s.memory_used.map(|b| b.0 as f64)),
        ("util", |s| s.utilization.map(f64::from)),
        ("temp", |s| s.temperature_c.map(f64::from)),
        ("power", |s| s.power_w.map(f64::from)),
        ("clock", |s| s.sm_clock_mhz.map(f64::from)),
        ("throttle", |s| s.throttle.map(|t| t as f64)),
        ("power_limit", |s| s.power_limit_w.map(f64::from)),
        ("name", |s| (!s.name.is_empty()).then_some(1.0)),
        ("pci", |s| (!s.pci_bus_id.is_empty()).then_some(1.0)),
        ("procs", |s| (!s.processes.is_empty()).then_some(1.0)),
        ("fan", |s| s.fan_percent.map(f64::from)),
        ("pcie", |s| s.pcie_width.map(f64::from)),
        ("uuid", |s| s.uuid.starts_with("GPU-").then_some(1.0)),
        ("pstate", |s| s.performance_state.map(f64::from)),
        ("ecc", |s| s.ecc_uncorrected.and(s.remapped_rows).map(f64::from)),
        ("mig", |s| s.mig_enabled.map(|on| f64::from(u8::from(on)))),
        ("nvlink", |s| s.nvlink_active.map(f64::from)),
    ];
    // NOT_SUPPORTED, NO_PERMISSION, UNKNOWN, TIMEOUT, UNINITIALIZED, INSUFFICIENT_SIZE for ever, INVALID_ARGUMENT,
    // IRQ_ISSUE, MEMORY, IN_USE, a number that no version ever had.
    let faults = [3, 4, 999, 10, 1, 7, 2, 11, 20, 19, 12345];
    let mut cases = 0;
    let step = count(7, 1);
    let all = figures
        .iter()
        .flat_map(|figure| faults.iter().flat_map(move |fault| ["", "@0.1"].map(|when| (figure, fault, when))));
    for ((what, figure), fault, when) in all.step_by(step) {
        // "Too small" is how a driver tells a number of processes; where that is 0, nothing says that it is a refusal.
        if (*what, *fault) == ("procs", 7) {
            continue;
        }
        let fault = format!("error:{fault}:{what}{when}");
        let mut helper = Helper::start(
            library,
            &[("FAKE_NVML_FAULT", &fault), ("FAKE_NVML_GPUS", "2"), ("FAKE_NVML_TIMESCALE", "1")],
        );
        let mut samples = helper.samples();
        // Slow figures are asked again only every fifteen seconds, so a later fault may not show in them; fast ones must.
        let slow =
            ["power_limit", "name", "pci", "fan", "pcie", "uuid", "pstate", "ecc", "mig", "nvlink"].contains(what);
        if when.is_empty() {
            assert_eq!(figure(&samples[0]), None, "{fault}: {:?}", samples[0]);
        } else {
            let start = Instant::now();
            while !slow && figure(&samples[0]).is_some() {
                assert!(start.elapsed() < Duration::from_secs(20), "{fault}: still told");
                samples = helper.samples();
            }
        }
        assert_eq!(samples.len(), 2, "{fault}");
        for (other, figure) in
            figures.iter().filter(|(other, _)| other != what && !(*what == "power" && *other == "power_limit"))
        {
            for sample in &samples {
                assert!(figure(sample).is_some(), "{fault}: {other} is gone too: {sample:?}");
            }
        }
        let later = !when.is_empty() && slow;
        assert!(later || !samples[0].refused.is_empty(), "{fault}: no reason: {:?}", samples[0]);
        cases += 1;
    }
    // Garbage: figures that cannot be are not shown.
    let folder = tempfile::tempdir().unwrap();
    for (nth, (script, figure)) in [
        ("0 * mem 999999999\n", figures[0].1),
        ("0 * util 4000000000\n", figures[1].1),
        ("0 * temp 70000\n", figures[2].1),
    ]
    .into_iter()
    .enumerate()
    {
        let path = folder.path().join(format!("script{nth}"));
        fs::write(&path, script).unwrap();
        let mut helper =
            Helper::start(library, &[("FAKE_NVML_SCRIPT", path.to_str().unwrap()), ("FAKE_NVML_GPUS", "1")]);
        let sample = helper.samples().remove(0);
        // The pretended library caps some figures itself: what counts is that nothing impossible is told.
        let possible = |x: f64| match nth {
            0 => sample.memory_total.is_none_or(|total| x <= total.0 as f64),
            1 => x <= 100.0,
            _ => x < 200.0,
        };
        assert!(figure(&sample).is_none_or(possible), "{script}: {sample:?}");
        cases += 1;
    }
    tell(&format!("G2: {cases} refusals and impossible figures: unknown with a reason, the others told"));
}

/// G3: a lost GPU is lost, is asked seldom, and the others keep their pace.
#[test]
fn a_lost_gpu_costs_itself() {
    let Some(library) = library() else { return };
    let folder = tempfile::tempdir().unwrap();
    for fault in ["gpu_lost:2@0.2", "gpu_lost:2", "error:15/2@0.2"] {
        let stats = folder.path().join(format!("stats-{}", fault.len()));
        let mut helper =
            Helper::start(library, &[("FAKE_NVML_FAULT", fault), ("FAKE_NVML_STATS", stats.to_str().unwrap())]);
        let mut longest = Duration::ZERO;
        let mut last = Instant::now();
        let mut lost = 0;
        let start = Instant::now();
        while lost < 20 {
            let samples = helper.samples();
            assert_eq!(samples.len(), 8, "{fault}");
            longest = longest.max(last.elapsed());
            last = Instant::now();
            if samples[2].lost {
                lost += 1;
                assert_eq!((samples[2].memory_used, samples[2].utilization), (None, None), "{fault}");
                assert!(!samples[2].refused.is_empty());
            }
            assert!(samples.iter().enumerate().all(|(n, s)| n == 2 || !s.lost && s.memory_used.is_some()), "{fault}");
            assert!(start.elapsed() < Duration::from_secs(30), "{fault}: never lost");
        }
        tell(&format!("G3: {fault}: seven GPUs go on, {longest:.0?} between two looks at the most"));
    }
    // How often it is asked: the library counts the refusals it gave.
    let stats = folder.path().join("stats");
    let variables =
        [("FAKE_NVML_FAULT", "gpu_lost:0"), ("FAKE_NVML_GPUS", "1"), ("FAKE_NVML_STATS", stats.to_str().unwrap())];
    let mut helper = Helper::start(library, &variables);
    for _ in 0..60 {
        assert!(helper.samples()[0].lost);
    }
    let asked = || {
        let text = fs::read_to_string(&stats).unwrap_or_default();
        text.lines().find_map(|l| l.strip_prefix("nvmlDeviceGetHandleByIndex_v2 ")?.trim().parse::<u32>().ok())
    };
    until("the calls are counted", || {
        helper.samples();
        asked().is_some()
    });
    assert!(asked().unwrap() <= 3, "a lost GPU was asked {:?} times in 60 looks", asked());
}

/// oomph in front of a terminal, with the pretended library.
fn watch(library: &Path, folder: &Path, fault: &str) -> (Seat, Log) {
    let mut log = Log::new(folder);
    log.say("{'loss': 1.25, 'epoch': 0.1}\n");
    let variables =
        [("LD_LIBRARY_PATH", library.to_str().unwrap()), ("FAKE_NVML_FAULT", fault), ("FAKE_NVML_GPUS", "2")];
    let seat = Seat::oomph(folder, &["--interval", "0.2", log.name()], &variables);
    (seat, log)
}

/// G4: a call that never returns, and one that crashes, at each call of the first ones: the screen answers, figures that are
/// old go, and the exit waits for nobody.
#[test]
fn a_hung_or_crashed_driver_costs_the_figures() {
    let Some(library) = library() else { return };
    let calls: Vec<usize> = if count(0, 1) == 1 { (1..=50).collect() } else { vec![1, 9, 33, 60] };
    let (mut cases, mut slowest, mut answer) = (0, Duration::ZERO, Duration::ZERO);
    for kind in ["hang_at", "crash_at"] {
        for call in &calls {
            let folder = tempfile::tempdir().unwrap();
            let (mut seat, mut log) = watch(library, folder.path(), &format!("{kind}:{call}"));
            seat.shows("1.25");
            // A hung driver is told; one that crashes is asked again at once, so that its figures stand there. The log goes on meanwhile.
            seat.press("4");
            match (kind, call) {
                ("hang_at", _) => seat.shows("answer"),
                // It crashes before it answers anything, each time.
                ("crash_at", 1) => seat.shows("crashed"),
                _ => {}
            }
            let said = Instant::now();
            seat.press("5");
            log.say("still reading\n");
            seat.shows("still reading");
            answer = answer.max(said.elapsed());
            let left = Instant::now();
            seat.press("q");
            assert!(seat.end().0.success());
            slowest = slowest.max(left.elapsed());
            cases += 1;
        }
    }
    assert!(slowest < Duration::from_secs(5), "the exit waited for the driver: {slowest:?}");
    tell(&format!(
        "G4: {cases} hung or crashed drivers: a new line shown within {answer:.0?}, gone within {slowest:.0?}"
    ));
}

/// G4: what was read before the driver hung does not stand there as if it were of now.
#[test]
fn figures_of_a_hung_driver_go_from_the_screen() {
    let Some(library) = library() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (mut seat, _log) = watch(library, folder.path(), "hang:600s@1.5");
    seat.shows("°C");
    until("old figures are gone", || !seat.contents().contains("°C"));
    seat.signal("TERM");
    seat.end();
}

/// G5: the driver goes and comes back, again and again: one GPU stays one GPU.
#[test]
fn a_reloaded_driver_is_found_again() {
    let Some(library) = library() else { return };
    let rounds = count(2, 20);
    // Every two and a half seconds the driver is another: no card answers until it is asked anew from the beginning.
    let faults: Vec<String> = (0..rounds).map(|n| format!("reload@{}", 0.8 + 2.5 * n as f64)).collect();
    let epoch = jiff::Timestamp::now().as_millisecond() as f64 / 1000.0;
    let variables =
        [("FAKE_NVML_FAULT", &*faults.join(",")), ("FAKE_NVML_GPUS", "2"), ("FAKE_NVML_EPOCH", &*epoch.to_string())];
    let mut helper = Helper::start(library, &variables);
    let mut session = oomph::session::Session::default();
    let (mut flips, mut was_well) = (0, true);
    let start = Instant::now();
    while flips < rounds {
        let Some(reading) = helper.next() else { panic!("the helper ended") };
        let well = matches!(&reading, GpuReading::Samples(s) if s.iter().all(|s| s.memory_used.is_some()));
        flips += usize::from(well && !was_well);
        was_well = well;
        session
            .apply(oomph::model::Event { at: jiff::Timestamp::now(), kind: oomph::model::EventKind::Gpu { reading } });
        assert!(start.elapsed() < Duration::from_secs(30 + 4 * rounds as u64), "{flips} of {rounds}");
    }
    let uuids: BTreeSet<&str> = session.gpus.iter().map(|g| g.latest.uuid.as_str()).collect();
    assert_eq!((session.gpus.len(), uuids.len()), (2, 2), "{uuids:?}");
    assert!(session.gpus.iter().all(|g| g.history.len() > 5));
    tell(&format!("G5: {flips} reloads: two GPUs stay two, their history joined"));
}

/// G7: inside a container the driver's pids are those of the host: they are never matched with a process here.
#[test]
fn pids_of_the_host_are_no_pids_of_a_container() {
    let Some(library) = library() else { return };
    if !has("unshare", &["-pf", "--mount-proc", "true"]) {
        return;
    }
    // Pid 1 exists in every namespace, and here it is oomph's own shell.
    let mut command = Command::new("unshare");
    command.args(["-pf", "--mount-proc", "sh", "-c"]);
    command.arg(format!("{} nvml-helper --interval-ms 50 | head -n 2", env!("CARGO_BIN_EXE_oomph")));
    command.env("LD_LIBRARY_PATH", library).env("FAKE_NVML_GPUS", "1");
    command.env("FAKE_NVML_PROCS", "0:1:1000,0:2:500,0:99999:7");
    // Its standard input stays open, or it would leave at once.
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let input = child.stdin.take();
    let output = child.wait_with_output().unwrap();
    drop(input);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut seen = 0;
    for line in text.lines().filter(|l| !l.is_empty()) {
        let Ok(GpuReading::Samples(samples)) = serde_json::from_str::<GpuReading>(line) else { continue };
        for process in &samples[0].processes {
            seen += 1;
            assert_eq!(samples[0].listed, Listed::Partly);
            assert!(
                process.foreign && process.name.is_none() && process.command.is_none() && process.user.is_none(),
                "{process:?}"
            );
        }
    }
    assert!(seen >= 3, "{text}");
    tell(&format!("G7: {seen} processes outside of a pid namespace, none given a local name"));
}

/// Memory is called nobody's only where the driver lists every process, with its figure, at the moment of the memory.
#[test]
fn processes_explain_memory_only_where_all_are_told() {
    let Some(library) = library() else { return };
    let own = fs::read_link("/proc/self/ns/pid").is_ok_and(|l| l.to_string_lossy() == "pid:[4026531836]");
    let mut cases = 0;
    let mut check = |variables: &[(&str, &str)], want: Listed| {
        let sample = Helper::start(library, variables).samples().remove(0);
        let want = if own { want } else { Listed::Partly };
        assert_eq!(sample.listed, want, "{variables:?}: {sample:?}");
        cases += 1;
    };
    check(&[], Listed::Wholly);
    check(&[("FAKE_NVML_PROCS", "0:99999999:40000")], Listed::Wholly);
    check(&[("FAKE_NVML_PROCS", "1:self:1")], Listed::Wholly);
    check(&[("FAKE_NVML_PROCS", "0:self:na")], Listed::Partly);
    check(&[("FAKE_NVML_PROCS", "0:self:40000,0:parent:na:G")], Listed::Partly);
    check(&[("FAKE_NVML_NAME", "NVIDIA GH200 480GB")], Listed::Partly);
    check(&[("FAKE_NVML_MIG", "0:2")], Listed::Partly);
    for fault in ["no_permission:procs", "not_supported:nvmlDeviceGetGraphicsRunningProcesses_v3"] {
        check(&[("FAKE_NVML_FAULT", fault)], Listed::Partly);
    }
    // Between two questions, the list is of an earlier moment.
    if own {
        let mut helper = Helper::start(library, &[]);
        let seen: Vec<Listed> = (0..5).map(|_| helper.samples()[0].listed).collect();
        assert_eq!((seen[0], seen[1]), (Listed::Wholly, Listed::Earlier));
    }
    tell(&format!("{cases} lists of processes, whole or not"));
}

/// Near the limit, memory alone is looked at between two whole looks, and with no other call.
#[test]
fn a_card_that_fills_is_looked_at_more_finely() {
    let Some(library) = library() else { return };
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("script");
    // Full within seconds from the start on; the other card is half empty and moves too.
    fs::write(&script, "0 0 mem 9000\n3 0 mem ~9950\n0 1 mem 1000\n8 1 mem ~2000\n").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_oomph"));
    command.args(["nvml-helper", "--interval-ms", "400"]).env("LD_LIBRARY_PATH", library);
    command.env("FAKE_NVML_GPUS", "2").env("FAKE_NVML_MEM_MIB", "10000").env("FAKE_NVML_SCRIPT", &script);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (mut whole, mut fine) = (0, Vec::new());
    while fine.len() < 8 {
        let line = lines.next().unwrap().unwrap();
        match serde_json::from_str(&line) {
            Ok(GpuReading::Samples(samples)) => {
                assert_eq!(samples.len(), 2);
                whole += 1;
                assert!(whole < 20, "{} fine looks beside {whole} whole ones", fine.len());
            }
            Ok(GpuReading::Memory(looks)) => fine.extend(looks),
            _ => {}
        }
    }
    drop(child.stdin.take());
    let _ = child.wait();
    let of_full = fine.iter().filter(|(_, used)| used.0 > 8000 << 20).collect::<Vec<_>>();
    assert!(of_full.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{of_full:?}");
}
