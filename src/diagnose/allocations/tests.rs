use super::*;
use crate::model::{
    failure::PhaseId,
    knobs::Knobs,
    snapshot::{Annotation, Block, BlockState, Segment, Stack, StackFrame, TraceEvent},
};

const MIB: u64 = 1 << 20;
/// Stacks of the made-up recordings, by their places.
const FORWARD: u32 = 1;
const BACKWARD: u32 = 2;
const STEP: u32 = 3;
const WEIGHTS: u32 = 4;

/// A recording that is written event by event.
#[derive(Default)]
struct Made {
    events: Vec<TraceEvent>,
    there: Vec<(u64, u64, u32)>,
    marks: Vec<Annotation>,
    next: u64,
}

impl Made {
    fn event(&mut self, action: Action, address: u64, size: u64, stack: u32) {
        let time_us = 1_000_000 + self.events.len() as i64 * 10;
        self.events.push(TraceEvent { action, address, size, stream: 0, time_us, stack });
    }

    fn alloc(&mut self, mib: u64, stack: u32) -> u64 {
        self.next += 1 << 30;
        let address = self.next;
        self.event(Action::Alloc, address, mib * MIB, stack);
        self.there.push((address, mib * MIB, stack));
        address
    }

    fn free(&mut self, address: u64) {
        let at = self.there.iter().position(|(a, ..)| *a == address).unwrap();
        let (_, size, _) = self.there.remove(at);
        self.event(Action::FreeRequested, address, size, 0);
        self.event(Action::FreeCompleted, address, size, 0);
    }

    fn oom(&mut self, mib: u64, free: u64, stack: u32) {
        self.event(Action::Oom, free * MIB, mib * MIB, stack);
    }

    fn mark(&mut self) {
        let time_us = self.events.last().map_or(0, |e| e.time_us + 1);
        self.marks.push(Annotation { begins: false, name: "Optimizer.step#AdamW.step".into(), time_us });
    }

    /// What is there at the end in one segment each, and free pieces beside it.
    fn snapshot(self, free: &[u64]) -> Snapshot {
        let block = |address, size, stack, state| Block { address, size, requested: size, state, stack };
        let used = self.there.iter().map(|(a, size, stack)| block(*a, *size, *stack, BlockState::Allocated));
        let free = (0u64..).zip(free).map(|(n, mib)| block((1 << 50) + (n << 40), mib * MIB, 0, BlockState::Free));
        let blocks: Vec<Block> = used.chain(free).collect();
        let size = blocks.iter().map(|b| b.size).sum();
        let segment = Segment { address: 1, size, stream: 0, small: false, private: false, expandable: false, blocks };
        let owners = [Owner::Unknown, Owner::Activations, Owner::Backward, Owner::OptimizerStep, Owner::Weights];
        let stack = |(n, owner): (usize, &Owner)| Stack {
            frames: if n == 0 { vec![] } else { vec![n as u32 - 1, 4] },
            owner: *owner,
            in_backward: *owner == Owner::Backward,
            site: (n > 0).then(|| n as u32 - 1),
            user: (n > 0).then_some(4),
        };
        let names = ["forward", "backward", "step", "load", "main"];
        let frames =
            names.map(|name| StackFrame { file: "/home/u/job/train.py".into(), function: name.into(), line: 3 });
        Snapshot {
            devices: vec![SnapshotDevice { index: 0, segments: vec![segment], events: self.events }],
            frames: frames.to_vec(),
            stacks: owners.iter().enumerate().map(stack).collect(),
            annotations: self.marks,
            ..Snapshot::default()
        }
    }
}

fn look(snapshot: &Snapshot) -> Report {
    report("x.pickle".into(), snapshot, &|stack| Phase {
        id: if stack == BACKWARD { PhaseId::Backward } else { PhaseId::Unknown },
        evidence: Vec::new(),
    })
}

fn parts(held: &Held) -> Vec<(&'static str, u64)> {
    held.categories.iter().map(|c| (c.id, c.bytes / MIB)).collect()
}

/// Three steps of training: activations come and go, gradients last until the next step, states stay.
fn training() -> Made {
    let mut made = Made::default();
    made.alloc(100, WEIGHTS);
    let mut gradients = None;
    for step in 0..3 {
        let activations: Vec<u64> = (0..4).map(|_| made.alloc(50, FORWARD)).collect();
        if let Some(gradient) = gradients {
            made.free(gradient);
        }
        let between = made.alloc(30, BACKWARD);
        let gradient = made.alloc(100, BACKWARD);
        for activation in activations {
            made.free(activation);
        }
        made.free(between);
        if step == 0 {
            made.alloc(200, STEP);
        }
        let meanwhile = made.alloc(60, STEP);
        made.free(meanwhile);
        made.mark();
        gradients = Some(gradient);
    }
    made
}

#[test]
fn who_holds_the_memory_by_stack_and_lifetime() {
    let mut made = training();
    made.alloc(50, FORWARD);
    let report = look(&made.snapshot(&[10, 20]));
    let device = &report.devices[0];
    let want = [("optimizer_states", 200), ("weights", 100), ("gradients", 100), ("activations", 50)];
    assert_eq!(parts(&device.end), want);
    let peak = device.peak.as_ref().unwrap();
    // States and weights, four activations, the gradient and what the pass needs.
    assert_eq!(peak.bytes / MIB, 200 + 100 + 200 + 100 + 30);
    let want =
        [("optimizer_states", 200), ("activations", 200), ("weights", 100), ("gradients", 100), ("backward", 30)];
    assert_eq!(parts(peak), want);
    assert_eq!((device.pool.free_bytes / MIB, device.pool.largest_free_bytes / MIB), (30, 20));
    assert_eq!((device.steps, device.growth.len()), (3, 0), "{:?}", device.growth);
    let site = &device.end.sites[0];
    assert_eq!(site.place.as_ref().unwrap().as_str(), "job/train.py:3 in step");
    assert_eq!(site.user.as_ref().unwrap().as_str(), "job/train.py:3 in main");
    assert!(diagnose(&report, &Knobs::default(), None, &|_| Vec::new()).failures.is_empty());
}

#[test]
fn a_refused_request_is_diagnosed_from_what_was_there() {
    let mut made = training();
    for _ in 0..10 {
        made.alloc(100, FORWARD);
    }
    made.oom(64, 3, BACKWARD);
    let snapshot = made.snapshot(&[]);
    let report = look(&snapshot);
    let oom = report.devices[0].oom.as_ref().unwrap();
    assert_eq!((oom.requested_bytes / MIB, oom.device_free_bytes / MIB, oom.phase), (64, 3, "backward"));
    assert_eq!(parts(&oom.held)[0], ("activations", 1000));
    let diagnosis = diagnose(&report, &Knobs::default(), Some(1500 * MIB), &|_| Vec::new());
    let failure = &diagnosis.failures[0];
    assert_eq!(failure.causes[0].id, "activations", "{:?}", failure.causes);
    assert_eq!((failure.numbers.requested_bytes, failure.numbers.capacity_bytes), (Some(64 * MIB), Some(1500 * MIB)));
    assert!(failure.fixes.iter().take(3).any(|f| f.id == "grad_checkpointing"), "{:?}", failure.fixes);
}

#[test]
fn free_pieces_that_are_too_small_are_fragmentation() {
    let mut made = training();
    made.oom(400, 3, FORWARD);
    let report = look(&made.snapshot(&[300; 4]));
    assert!((report.devices[0].pool.fragmentation().unwrap() - 0.75).abs() < 1e-9);
    let diagnosis = diagnose(&report, &Knobs::default(), None, &|_| Vec::new());
    let first = &diagnosis.failures[0].causes[0];
    assert_eq!(first.id, "fragmentation");
    assert!(
        first.summary.as_str().contains("1.17 GiB lie free in the pool, in pieces of at most 300 MiB"),
        "{}",
        first.summary
    );
    // One piece that is large enough is no fragmentation.
    let mut made = training();
    made.oom(400, 3, FORWARD);
    let diagnosis = diagnose(&look(&made.snapshot(&[300, 500])), &Knobs::default(), None, &|_| Vec::new());
    assert!(diagnosis.failures[0].causes.iter().all(|c| c.id != "fragmentation"));
}

#[test]
fn what_each_step_leaves_behind_grows() {
    let mut made = Made::default();
    made.alloc(100, WEIGHTS);
    for _ in 0..6 {
        let kept = made.alloc(40, FORWARD);
        let gone = made.alloc(70, FORWARD);
        let gradient = made.alloc(100, BACKWARD);
        made.free(gone);
        made.free(gradient);
        made.mark();
        let _ = kept;
    }
    made.oom(40, 5000, FORWARD);
    let report = look(&made.snapshot(&[]));
    let growth = &report.devices[0].growth;
    assert_eq!(growth.len(), 1);
    // The first step's may be what is made once.
    assert_eq!(
        (growth[0].category, growth[0].bytes / MIB, growth[0].steps, growth[0].bytes_per_step / MIB),
        ("activations", 200, 5, 40)
    );
    let diagnosis = diagnose(&report, &Knobs::default(), None, &|_| Vec::new());
    let causes: Vec<_> = diagnosis.failures[0].causes.iter().map(|c| c.id).collect();
    assert_eq!(causes[0], "leak_growth");
    // 5 GB were free on the card: something of the process's own refused.
    assert!(causes.contains(&"cap_limit"), "{causes:?}");
    assert_eq!(diagnosis.failures[0].fixes[0].id, "stop_leak");
}

#[test]
fn a_forward_pass_that_fills_up_is_no_growth() {
    let mut made = Made::default();
    made.alloc(100, WEIGHTS);
    for _ in 0..40 {
        made.alloc(40, FORWARD);
    }
    made.oom(40, 5, FORWARD);
    assert!(look(&made.snapshot(&[])).devices[0].growth.is_empty());
}

#[test]
fn what_stood_before_the_recording_and_frees_without_an_allocation() {
    let mut made = Made::default();
    // A recording that begins in the middle: the first thing it saw was a free.
    made.there.push((77, 500 * MIB, 0));
    made.there.push((78, 300 * MIB, 0));
    made.free(77);
    made.alloc(10, FORWARD);
    let report = look(&made.snapshot(&[]));
    assert_eq!(parts(&report.devices[0].end), [("before_recording", 300), ("activations", 10)]);
    let timeline = &report.devices[0].timeline;
    assert_eq!(timeline[0].bytes / MIB, 800);
    assert_eq!(report.devices[0].peak.as_ref().unwrap().bytes / MIB, 800);
    // Nothing but the state at the end is an answer as well.
    let made = Made { there: vec![(1, MIB, WEIGHTS)], ..Made::default() };
    let report = look(&made.snapshot(&[]));
    assert_eq!(parts(&report.devices[0].end), [("weights", 1)]);
    assert!(report.devices[0].peak.is_none() && report.devices[0].timeline.is_empty());
}

/// Adding up every allocation anew at the peak gives what the curve says, and the peak is the highest moment.
#[test]
fn the_curve_and_the_lives_agree() {
    let mut made = training();
    made.oom(64, 3, BACKWARD);
    let snapshot = made.snapshot(&[]);
    let device = &snapshot.devices[0];
    let all = lives::lives(&snapshot, device);
    let curve = timeline::Curve::new(device, &all);
    let sum = |at: u32| all.iter().filter(|l| l.lives_at(at)).map(|l| l.size).sum::<u64>();
    let sums: Vec<u64> = (0..device.events.len() as u32).map(sum).collect();
    let moments = timeline::timeline(device, &all, &curve);
    for moment in &moments {
        assert_eq!(moment.bytes, sums[moment.event as usize], "{moment:?}");
        assert_eq!(moment.owners.iter().map(|(_, b)| b).sum::<u64>(), moment.bytes, "{moment:?}");
    }
    assert_eq!(curve.peak().map(|at| sums[at as usize]), sums.iter().max().copied());
    assert!(moments.last().unwrap().oom);
}
