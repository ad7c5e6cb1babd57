use super::*;
use crate::{
    model::{
        Bytes, Event, EventKind, SourceId,
        gpu::{GpuReading, GpuSample},
        knobs::Knobs,
        metric::Point,
    },
    session::Session,
};

const START: &str = "2026-11-24T01:00:00Z";

/// A session that can be told things, and the alerts beside it.
struct Watch {
    session: Session,
    alerts: Alerts,
    now: Timestamp,
    step: u64,
}

impl Watch {
    fn new() -> Self {
        let now = START.parse().unwrap();
        let mut watch = Self { session: Session::new(Knobs::default()), alerts: Alerts::default(), now, step: 0 };
        watch.event(EventKind::Opened { source: SourceId(0), name: "log".into(), path: None, size: None });
        watch.event(EventKind::CaughtUp { source: SourceId(0) });
        watch.after(1.0);
        watch
    }

    fn event(&mut self, kind: EventKind) {
        self.session.apply(Event { at: self.now, kind });
    }

    /// The clock goes on, and the alerts look; gives the rules that spoke.
    fn after(&mut self, seconds: f64) -> Vec<&'static str> {
        self.now += jiff::SignedDuration::from_secs_f64(seconds);
        self.session.tick(self.now);
        self.alerts.look(&self.session).iter().map(|a| a.rule).collect()
    }

    /// One step was logged, ten seconds after the last one.
    fn logged(&mut self, values: &[(&'static str, f64)]) -> Vec<&'static str> {
        self.step += 1;
        self.now += jiff::SignedDuration::from_secs(10);
        let known = crate::model::metric::CANONICAL;
        let (canonical, raw): (Vec<_>, Vec<_>) = values.iter().partition(|(key, _)| known.contains(key));
        let raw = raw.iter().map(|(key, value)| (Clean::new(key), *value)).collect();
        let point = Point { step: Some(self.step), canonical, raw, line: self.step, ..Point::default() };
        self.session.metrics.push(self.now, SourceId(0), point);
        self.session.tick(self.now);
        self.alerts.look(&self.session).iter().map(|a| a.rule).collect()
    }

    fn gpu(&mut self, sample: GpuSample, seconds: f64) -> Vec<&'static str> {
        self.event(EventKind::Gpu { reading: GpuReading::Samples(vec![sample]) });
        self.after(seconds)
    }

    fn stands(&self, rule: &str) -> bool {
        self.alerts.standing().iter().any(|a| a.rule == rule)
    }
}

fn gpu() -> GpuSample {
    GpuSample {
        uuid: "GPU-1".into(),
        memory_total: Some(Bytes(100 << 30)),
        memory_used: Some(Bytes(50 << 30)),
        temperature_c: Some(60),
        throttle: Some(0),
        ecc_uncorrected: Some(0),
        ..GpuSample::default()
    }
}

fn used(gib: u64) -> GpuSample {
    GpuSample { memory_used: Some(Bytes(gib << 30)), ..gpu() }
}

#[test]
fn nan_speaks_once_and_ends_with_the_next_number() {
    let mut watch = Watch::new();
    assert_eq!(watch.logged(&[("loss", 1.0), ("grad_norm", 1.0)]), [""; 0]);
    assert_eq!(watch.logged(&[("loss", f64::NAN), ("grad_norm", f64::INFINITY)]), ["not_finite", "not_finite"]);
    assert_eq!(watch.logged(&[("loss", f64::NAN), ("grad_norm", 1.0)]), [""; 0]);
    let stands: Vec<_> = watch.alerts.standing().iter().map(|a| a.text.to_string()).collect();
    assert_eq!(stands, ["the loss is not a number since step 2"]);
    watch.logged(&[("loss", 1.0), ("grad_norm", 1.0)]);
    assert!(!watch.stands("not_finite"));
    assert!(watch.alerts.history().all(|a| a.until.is_some()));
}

#[test]
fn a_spike_stands_out_and_noise_does_not() {
    let mut watch = Watch::new();
    let noise = |i: u64| 2.0 + f64::from((i * 7919 % 13) as u32) * 0.01;
    for i in 0..120 {
        assert_eq!(watch.logged(&[("loss", noise(i))]), [""; 0], "{i}");
    }
    assert_eq!(watch.logged(&[("loss", 9.0)]), ["loss_spike"]);
    for i in 0..10 {
        assert_eq!(watch.logged(&[("loss", noise(i))]), [""; 0]);
    }
    assert!(!watch.stands("loss_spike"));
}

#[test]
fn a_flat_reward_is_named_and_a_rising_one_is_not() {
    let mut watch = Watch::new();
    let wave = |i: u32| f64::from((i * 7919) % 17) * 0.01;
    for i in 0..400 {
        assert!(!watch.logged(&[("reward", f64::from(i) * 0.01 + wave(i))]).contains(&"plateau"));
    }
    let mut spoke = 0;
    for i in 0..900 {
        spoke += watch.logged(&[("reward", 4.0 + wave(i))]).iter().filter(|r| **r == "plateau").count();
    }
    assert_eq!(spoke, 1);
    assert!(watch.stands("plateau"));
}

#[test]
fn kl_trembling_around_its_threshold_speaks_once() {
    let mut watch = Watch::new();
    let mut spoke = 0;
    for i in 0..200 {
        let kl = if i % 2 == 0 { 0.52 } else { 0.45 };
        spoke += watch.logged(&[("kl", kl)]).len();
    }
    assert_eq!(spoke, 1);
    for _ in 0..20 {
        watch.logged(&[("kl", 0.1)]);
    }
    assert!(!watch.stands("kl_high"));
}

#[test]
fn lengths_at_the_cap_and_collapsed() {
    let mut watch = Watch::new();
    let mut spoke = Vec::new();
    for i in 0..120u32 {
        let (length, cut) = if i < 40 { (400.0, 0.1) } else { (60.0, 0.95) };
        spoke.extend(watch.logged(&[("completion_length", length), ("completions/clipped_ratio", cut)]));
    }
    spoke.sort_unstable();
    assert_eq!(spoke, ["length_at_cap", "length_collapse"]);
}

#[test]
fn slow_steps_must_stay_slow() {
    let mut watch = Watch::new();
    for _ in 0..80 {
        assert_eq!(watch.logged(&[("step_time_seconds", 10.0)]), [""; 0]);
    }
    let spoke: Vec<_> = (0..20).flat_map(|_| watch.logged(&[("step_time_seconds", 16.0)])).collect();
    assert_eq!(spoke, ["slower"]);
}

#[test]
fn a_stall_is_counted_in_steps_and_ends_with_the_next_one() {
    let mut watch = Watch::new();
    for _ in 0..5 {
        watch.logged(&[("loss", 1.0), ("step_time_seconds", 10.0)]);
    }
    assert_eq!(watch.after(95.0), [""; 0]);
    assert_eq!(watch.after(10.0), ["stall"]);
    assert_eq!(watch.after(500.0), [""; 0]);
    assert!(watch.alerts.standing()[0].text.as_str().contains("605 s"), "{:?}", watch.alerts.standing());
    watch.logged(&[("loss", 1.0), ("step_time_seconds", 10.0)]);
    assert!(!watch.stands("stall"));
}

#[test]
fn silence_counts_where_no_pace_is_known() {
    let mut watch = Watch::new();
    watch.event(EventKind::Output { source: SourceId(0), offset: 0, data: b"{'loss': 1.0, 'epoch': 0.1}\n".to_vec() });
    assert_eq!(watch.after(890.0), [""; 0]);
    assert_eq!(watch.after(20.0), ["silence"]);
}

#[test]
fn the_end_and_a_crash() {
    let mut watch = Watch::new();
    watch.event(EventKind::Started { command: vec!["python".into()], pid: 1 });
    watch.logged(&[("loss", 1.0)]);
    watch.event(EventKind::Exited { code: Some(0), signal: None });
    assert_eq!(watch.after(1.0), ["end"]);
    let mut watch = Watch::new();
    watch.event(EventKind::Started { command: vec!["python".into()], pid: 1 });
    watch.event(EventKind::Exited { code: None, signal: Some(9) });
    assert_eq!(watch.after(1.0), ["crash"]);
    assert_eq!(watch.alerts.standing()[0].text.as_str(), "the trainer was killed by signal 9");
}

#[test]
fn out_of_memory_points_at_its_line() {
    let mut watch = Watch::new();
    let data = b"step\ntorch.OutOfMemoryError: CUDA out of memory. Tried to allocate 892.00 MiB. GPU 0 has a total \
        capacity of 139.80 GiB of which 119.60 MiB is free.\n"
        .to_vec();
    watch.event(EventKind::Output { source: SourceId(0), offset: 0, data });
    watch.event(EventKind::Ended { source: SourceId(0) });
    assert_eq!(watch.after(1.0), ["crash"]);
    assert_eq!(watch.alerts.standing()[0].line, Some(2));
}

#[test]
fn headroom_holds_and_has_two_thresholds() {
    let mut watch = Watch::new();
    assert_eq!(watch.gpu(used(98), 1.0), [""; 0]);
    assert_eq!(watch.gpu(used(50), 1.0), [""; 0], "a tooth shorter than 30 s says nothing");
    assert_eq!(watch.gpu(used(98), 1.0), [""; 0]);
    assert_eq!(watch.gpu(used(98), 31.0), ["headroom"]);
    assert_eq!(watch.gpu(used(95), 60.0), [""; 0]);
    assert!(watch.stands("headroom"), "95 % is between the thresholds");
    assert_eq!(watch.gpu(used(98), 60.0), [""; 0], "it never ended, so it does not begin anew");
    watch.gpu(used(80), 1.0);
    watch.gpu(used(80), 31.0);
    assert!(!watch.stands("headroom"));
}

#[test]
fn memory_that_grows_is_foreseen() {
    let mut watch = Watch::new();
    let mut spoke = Vec::new();
    for minute in 0..14u64 {
        let sample = GpuSample { memory_used: Some(Bytes((40 << 30) + minute * (2 << 30))), ..gpu() };
        spoke.extend(watch.gpu(sample, 60.0));
    }
    assert_eq!(spoke, ["memory_grows"]);
    assert!(watch.alerts.standing()[0].text.as_str().contains("full in"));
}

#[test]
fn heat_and_throttling() {
    let mut watch = Watch::new();
    let hot = GpuSample { temperature_c: Some(90), throttle: Some(0x4), ..gpu() };
    assert_eq!(watch.gpu(hot.clone(), 1.0), [""; 0]);
    assert_eq!(watch.gpu(hot, 31.0), ["hot"], "the power cap is no trouble");
    let slowed = GpuSample { temperature_c: Some(84), throttle: Some(0x20), ..gpu() };
    watch.gpu(slowed.clone(), 1.0);
    assert_eq!(watch.gpu(slowed, 11.0), ["throttled"]);
    assert!(watch.stands("hot"), "84 °C is between the thresholds");
}

#[test]
fn memory_errors_xids_and_a_lost_gpu() {
    let mut watch = Watch::new();
    assert_eq!(watch.gpu(GpuSample { ecc_uncorrected: Some(2), ..gpu() }, 1.0), ["ecc"]);
    let text = "NVRM: Xid (PCI:0000:1b:00): 79, pid=4242, GPU has fallen off the bus.";
    watch.event(EventKind::Kernel { text: text.into() });
    assert_eq!(watch.after(1.0), ["xid"]);
    assert_eq!(watch.gpu(GpuSample { lost: true, ..gpu() }, 1.0), ["gpu_lost"]);
    watch.gpu(gpu(), 1.0);
    assert!(!watch.stands("gpu_lost"));
}

#[test]
fn what_was_so_before_anybody_looked_is_old() {
    let mut watch = Watch::new();
    watch.alerts = Alerts::default();
    watch.event(EventKind::Started { command: vec!["python".into()], pid: 1 });
    watch.event(EventKind::Exited { code: Some(1), signal: None });
    watch.after(1.0);
    assert!(watch.alerts.standing()[0].old);
    watch.event(EventKind::Kernel { text: "NVRM: Xid (PCI:0000:1b:00): 31".into() });
    watch.after(1.0);
    assert!(watch.alerts.history().any(|a| a.rule == "xid" && !a.old));
}

#[test]
fn a_rule_can_be_switched_off_and_moved() {
    let mut watch = Watch::new();
    let hot = watch.alerts.limits("hot").unwrap();
    assert!(watch.alerts.set("hot", Limits { raise: 50.0, clear: 40.0, hold: 0.0, ..hot }));
    assert_eq!(watch.gpu(gpu(), 1.0), ["hot"]);
    let mut watch = Watch::new();
    assert!(watch.alerts.set("ecc", Limits { on: false, ..hot }));
    assert_eq!(watch.gpu(GpuSample { ecc_uncorrected: Some(2), ..gpu() }, 1.0), [""; 0]);
    assert!(!watch.alerts.set("nonsense", hot));
}

#[test]
fn the_history_is_bounded_and_ends_are_still_written() {
    let mut watch = Watch::new();
    for _ in 0..(KEEP as u64 + 50) {
        watch.gpu(GpuSample { lost: true, ..gpu() }, 1.0);
        watch.gpu(gpu(), 1.0);
    }
    assert_eq!(watch.alerts.history().count(), KEEP);
    assert!(watch.alerts.history().all(|a| a.until.is_some()));
}

#[test]
fn every_rule_has_thresholds_in_order_and_a_name_of_its_own() {
    let mut ids: Vec<&str> = RULES.iter().map(|r| r.id).collect();
    for rule in RULES {
        assert!(rule.limits.raise >= rule.limits.clear && rule.limits.hold >= 0.0, "{}", rule.id);
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), RULES.len());
}

#[test]
fn playing_back_forgets_what_is_to_come() {
    let mut watch = Watch::new();
    watch.gpu(GpuSample { lost: true, ..gpu() }, 1.0);
    assert!(!watch.alerts.is_empty());
    let mut earlier = Session::new(Knobs::default());
    earlier.tick(START.parse().unwrap());
    watch.alerts.look(&earlier);
    assert!(watch.alerts.is_empty());
}
