//! Sessions to look at. The lines are made up in the words of real trainers (TRL 1, transformers 5), with even noise and
//! fixed times, so that a picture is the same on every machine.

use jiff::{SignedDuration, Timestamp};
use oomph::{
    model::{
        Bytes, Clean, Event, EventKind, SourceId,
        gpu::{GpuProcess, GpuReading, GpuSample, Listed, MigInstance},
        knobs::{Knob, Knobs, Origin, Value},
    },
    session::Session,
    store::demo,
};

const GIB: u64 = 1 << 30;
const SOURCE: SourceId = SourceId(0);

/// A session in the making: a clock, and how far its log is written.
pub struct Scene {
    pub session: Session,
    pub now: Timestamp,
    written: u64,
    dice: u64,
}

impl Scene {
    fn new() -> Self {
        Self::with(Knobs::default())
    }

    fn with(knobs: Knobs) -> Self {
        let now = "2026-11-24T01:00:00Z".parse().unwrap();
        Self { session: Session::new(knobs), now, written: 0, dice: 1 }
    }

    fn event(&mut self, kind: EventKind) {
        self.session.apply(Event { at: self.now, kind });
    }

    /// Opens the log as it is watched from its first line on.
    fn open(&mut self, name: &str) {
        self.event(EventKind::Opened { source: SOURCE, name: name.into(), path: None, size: None });
        self.event(EventKind::CaughtUp { source: SOURCE });
    }

    fn write(&mut self, text: &str) {
        let data = text.as_bytes().to_vec();
        let length = data.len() as u64;
        self.event(EventKind::Output { source: SOURCE, offset: self.written, data });
        self.written += length;
    }

    pub fn wait(&mut self, seconds: f64) {
        self.now += SignedDuration::from_secs_f64(seconds);
        self.session.tick(self.now);
    }

    /// One step of GRPO as tqdm and TRL print it: the bar, wiped away, the line, the bar again.
    fn step(&mut self, step: u64, total: u64) {
        let bar = bar(step, total, 11.6);
        let line = grpo_line(self, step, total);
        let wipe = " ".repeat(60);
        self.write(&format!("{bar}\r{wipe}\r{line}{bar}"));
    }

    /// Lines without a digit, for a test that looks for numbers.
    pub fn words(&mut self) {
        self.write("\n");
        for _ in 0..60 {
            self.write("the weights are being saved\n");
        }
    }

    /// Even noise from -1 to 1.
    fn noise(&mut self) -> f64 {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.dice >> 33) as f64 / f64::from(1u32 << 30) - 1.0
    }

    fn gpus(&mut self, samples: Vec<GpuSample>) {
        self.event(EventKind::Gpu { reading: GpuReading::Samples(samples) });
    }

    fn no_driver(&mut self) {
        let reading = GpuReading::Unavailable {
            why: "no NVIDIA driver on this machine (libnvidia-ml.so.1 was not found)".into(),
            advice: "on a GPU machine: install the driver; in a container: start it with --gpus all".into(),
        };
        self.event(EventKind::Gpu { reading });
    }
}

/// One GPU as NVML tells of it in the middle of a training step.
pub fn gpu(index: u32, total: u64, used: u64) -> GpuSample {
    let own = used.saturating_sub(GIB / 10);
    GpuSample {
        uuid: format!("GPU-{index:08x}"),
        index,
        name: "NVIDIA H100 80GB HBM3".into(),
        pci_bus_id: format!("00000000:{:02X}:00.0", 0x1b + index).as_str().into(),
        memory_total: Some(Bytes(total)),
        memory_used: Some(Bytes(used)),
        memory_free: Some(Bytes(total.saturating_sub(used).saturating_sub(GIB / 2))),
        memory_reserved: Some(Bytes(GIB / 2)),
        utilization: Some(97 - index % 4),
        memory_utilization: Some(54),
        temperature_c: Some(61 + index % 7),
        power_w: Some(642.0 + (index % 5) as f32 * 11.0),
        power_limit_w: Some(700.0),
        sm_clock_mhz: Some(1755),
        memory_clock_mhz: Some(2619),
        max_sm_clock_mhz: Some(1980),
        throttle: Some(0),
        performance_state: Some(0),
        pcie_generation: Some(5),
        pcie_width: Some(16),
        max_pcie_generation: Some(5),
        max_pcie_width: Some(16),
        pcie_rx_kib_s: Some(1_830_000 + index * 9_000),
        pcie_tx_kib_s: Some(410_000),
        nvlink_active: Some(18),
        nvlink_count: Some(18),
        nvlink_rx_kib_s: Some(97_000_000),
        nvlink_tx_kib_s: Some(96_000_000),
        sm_active_percent: Some(88.4),
        tensor_active_percent: Some(41.7),
        memory_temperature_c: Some(74 + index % 7),
        ecc_enabled: Some(true),
        ecc_corrected: Some(0),
        ecc_uncorrected: Some(0),
        remapped_rows: Some(0),
        remap_pending: Some(false),
        mig_enabled: Some(false),
        listed: Listed::Wholly,
        refused: vec![("fan".into(), "not supported".into())],
        processes: vec![GpuProcess {
            pid: 41_200 + index,
            rank: Some(index),
            parents: vec![41_100],
            launcher: Some("torchrun".into()),
            used: Some(Bytes(own)),
            name: Some("python".into()),
            user: Some("ada".into()),
            command: Some("python -u train_grpo.py --config grpo.yaml".into()),
            ..GpuProcess::default()
        }],
        ..GpuSample::default()
    }
}

const CARD: u64 = 80 * GIB - GIB / 2;

/// A step's line as TRL 1 prints it.
fn grpo_line(scene: &mut Scene, step: u64, total: u64) -> String {
    let part = step as f64 / total as f64;
    let reward = 0.42 + 1.1 * (1.0 - (-4.0 * part).exp()) + 0.05 * scene.noise();
    let deviation = 0.34 - 0.15 * part + 0.02 * scene.noise();
    let kl = 0.002 + 0.06 * part + 0.006 * scene.noise().abs();
    let length = 380.0 + 260.0 * part + 18.0 * scene.noise();
    let clipped = (0.04 + 0.1 * part + 0.02 * scene.noise()).max(0.0);
    let loss = 0.004 + 0.012 * part + 0.003 * scene.noise();
    let norm = 0.31 + 0.07 * scene.noise();
    let seconds = 11.6 + 0.5 * scene.noise();
    let rate = 1e-6 * (1.0 - part);
    let tokens = step * 48_213;
    format!(
        "{{'loss': '{loss:.4}', 'grad_norm': '{norm:.4}', 'learning_rate': '{rate:.3e}', 'num_tokens': '{tokens}', \
         'completions/mean_length': '{length:.1}', 'completions/clipped_ratio': '{clipped:.4}', \
         'rewards/format/mean': '{:.4}', 'rewards/correct/mean': '{:.4}', 'reward': '{reward:.4}', \
         'reward_std': '{deviation:.4}', 'kl': '{kl:.5}', 'entropy': '{:.4}', 'step_time': '{seconds:.2}', \
         'epoch': '{:.3}'}}\n",
        reward * 0.4,
        reward * 0.6,
        1.9 - 0.8 * part,
        part * 2.0,
    )
}

fn bar(done: u64, total: u64, seconds: f64) -> String {
    let clock = |s: f64| {
        let s = s as u64;
        format!("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
    };
    let percent = done * 100 / total.max(1);
    let left = (total - done) as f64 * seconds;
    format!(
        "\r {percent}%|██████▏   | {done}/{total} [{}<{}, {seconds:5.2}s/it]",
        clock(done as f64 * seconds),
        clock(left)
    )
}

fn grpo_knobs() -> Knobs {
    let mut knobs = Knobs::default();
    for (knob, value) in [
        (Knob::Method, Value::Text("grpo".into())),
        (Knob::Model, Value::Text("Qwen/Qwen2.5-7B".into())),
        (Knob::MaxCompletionLength, Value::Int(1024)),
        (Knob::WorldSize, Value::Int(8)),
    ] {
        knobs.put(knob, value, Origin::Config("grpo.yaml".into()));
    }
    knobs
}

/// GRPO on `gpus` cards, `steps` of 2,000 done, the last quarter of an hour with figures of the cards.
pub fn grpo_on(gpus: u32, steps: u64) -> Scene {
    let mut scene = Scene::with(grpo_knobs());
    scene.open("runs/grpo-7b/train.log");
    scene.write("[INFO] Loading checkpoint shards\n[WARNING] tokenizer has no pad token: eos is used\n");
    for step in 1..=steps {
        scene.now += SignedDuration::from_millis(11_600);
        scene.step(step, 2000);
        if steps - step < 78 {
            let wave = [0.62, 0.74, 0.81, 0.66][step as usize % 4];
            let samples =
                (0..gpus).map(|i| gpu(i, CARD, (CARD as f64 * (wave + f64::from(i % 5) * 0.012)) as u64)).collect();
            scene.gpus(samples);
        }
    }
    scene.wait(3.0);
    scene
}

/// Nothing given, nothing found.
pub fn empty() -> Scene {
    let mut scene = Scene::new();
    scene.wait(1.0);
    scene
}

/// A file without a line, on a machine without a driver.
pub fn no_driver() -> Scene {
    let mut scene = Scene::new();
    scene.open("train.log");
    scene.no_driver();
    scene.wait(4.0);
    scene
}

/// The model is being loaded: lines, no step.
pub fn loading() -> Scene {
    let mut scene = Scene::new();
    scene.open("train.log");
    for shard in 0..4u64 {
        scene.now += SignedDuration::from_secs(4);
        scene.write(&format!(
            "\rLoading checkpoint shards:  {}%|##   | {shard}/4 [00:0{shard}<00:12,  4.0s/it]",
            shard * 25
        ));
        scene.gpus((0..2).map(|i| gpu(i, CARD, GIB * (1 + shard * 3))).collect());
    }
    scene.wait(1.0);
    scene
}

pub fn grpo() -> Scene {
    grpo_on(8, 1240)
}

/// Supervised fine-tuning with an evaluation each fifty steps, on one card, to its end.
pub fn sft() -> Scene {
    let mut scene = Scene::new();
    scene.open("sft.log");
    for step in 1..=400u64 {
        scene.now += SignedDuration::from_millis(900);
        let part = step as f64 / 400.0;
        let loss = 2.6 * (-2.0 * part).exp() + 0.9 + 0.06 * scene.noise();
        let norm = 1.4 + 0.3 * scene.noise();
        scene.write(&format!(
            "{{'loss': '{loss:.4}', 'grad_norm': '{norm:.4}', 'learning_rate': '{:.3e}', 'mean_token_accuracy': '{:.4}', 'epoch': '{:.3}'}}\n",
            2e-5 * (1.0 - part),
            0.5 + 0.2 * part,
            part * 3.0
        ));
        let bar = bar(step, 400, 0.9);
        scene.write(&bar);
        if step % 50 == 0 {
            let held = loss + 0.08 + if part > 0.7 { 0.3 * (part - 0.7) } else { 0.0 };
            scene.write(&format!(
                "\n{{'eval_loss': '{held:.4}', 'eval_runtime': '8.1', 'eval_samples_per_second': '61.7', 'epoch': '{:.3}'}}\n",
                part * 3.0
            ));
        }
        scene.gpus(vec![gpu(0, 24 * GIB, GIB * 17 + GIB / 10 * (step % 7))]);
    }
    scene.wait(1.0);
    scene
}

/// The same, over and summed up.
pub fn finished() -> Scene {
    let mut scene = sft();
    scene.write(
        "\n{'train_runtime': '360.2', 'train_samples_per_second': '35.5', 'train_steps_per_second': '1.11', 'train_loss': '1.37', 'epoch': '3.0'}\n",
    );
    scene.event(EventKind::Ended { source: SOURCE });
    scene.wait(1800.0);
    scene
}

/// The recorded run that filled an H200, to its end.
pub fn died() -> Scene {
    let mut scene = Scene::new();
    for event in demo::events() {
        scene.now = event.at;
        scene.session.apply(event);
    }
    scene.wait(5.0);
    scene
}

/// A real run that was allowed 16 GiB and died in its first optimizer step, on a machine without a GPU.
pub fn died_by_a_cap() -> Scene {
    let mut knobs = Knobs::default();
    for (knob, value) in [
        (Knob::Method, Value::Text("grpo".into())),
        (Knob::Model, Value::Text("Qwen/Qwen2.5-1.5B".into())),
        (Knob::PerDeviceTrainBatchSize, Value::Int(8)),
        (Knob::NumGenerations, Value::Int(8)),
        (Knob::MaxCompletionLength, Value::Int(256)),
        (Knob::Dtype, Value::Text("bfloat16".into())),
    ] {
        knobs.put(knob, value, Origin::Set);
    }
    let mut scene = Scene::with(knobs);
    scene.open("grpo-1.5b-16gib.log");
    scene.write(include_str!("../../diagnosis/grpo-1.5b-16gib.log"));
    scene.event(EventKind::Ended { source: SOURCE });
    scene.no_driver();
    scene.wait(2.0);
    scene
}

/// The kernel killed a data loader.
pub fn killed() -> Scene {
    let mut scene = sft();
    scene.write(
        "\nTraceback (most recent call last):\n  File \"train.py\", line 88, in <module>\n    trainer.train()\nRuntimeError: DataLoader worker (pid 3021) is killed by signal: Bus error. It is possible that dataloader's workers are out of shared memory. Please try to raise your shared memory limit.\n",
    );
    scene.event(EventKind::Ended { source: SOURCE });
    scene.wait(2.0);
    scene
}

/// The trainer failed, and not of memory.
pub fn crashed() -> Scene {
    let mut scene = grpo_on(2, 300);
    scene.event(EventKind::Started { command: ["python", "train.py"].map(Clean::from).to_vec(), pid: 4000 });
    scene
        .write("\nTraceback (most recent call last):\n  File \"train.py\", line 12, in <module>\nKeyError: 'answer'\n");
    scene.event(EventKind::Exited { code: Some(1), signal: None });
    scene.wait(40.0);
    scene
}

/// The log ends in an error, and nobody says how the trainer exited.
pub fn ended_in_an_error() -> Scene {
    let mut scene = grpo_on(2, 300);
    scene.write(
        "\nTraceback (most recent call last):\n  File \"/home/ada/train_grpo.py\", line 88, in <module>\n    trainer.train()\n  \
         File \"/opt/venv/lib/python3.12/site-packages/transformers/trainer.py\", line 2325, in train\n    return inner_training_loop(\n  \
         File \"/home/ada/rewards.py\", line 12, in correct\n    gold = row['answer']\nKeyError: 'answer'\n",
    );
    scene.wait(40.0);
    scene
}

/// Checkpoints, evaluations, a restart, heat and an error of a GPU.
pub fn eventful() -> Scene {
    let mut scene = grpo_on(2, 150);
    let total = 2000;
    let run = |scene: &mut Scene, from: u64, to: u64| {
        for step in from..=to {
            scene.now += SignedDuration::from_millis(11_600);
            scene.step(step, total);
            if step % 50 == 0 {
                let part = step as f64 / total as f64;
                scene.write(&format!(
                    "\n{{'eval_loss': '{:.4}', 'eval_reward': '0.9', 'eval_runtime': '8.1', 'epoch': '{:.3}'}}\n",
                    0.02 + part,
                    part * 2.0
                ));
                scene.write(&format!("Saving model checkpoint to runs/grpo-7b/checkpoint-{step}\n"));
            }
        }
    };
    run(&mut scene, 151, 330);
    scene.write("\nTraceback (most recent call last):\n  File \"train.py\", line 12, in <module>\nConnectionError: the reward server is gone\n");
    scene.now += SignedDuration::from_secs(90);
    scene.write("[INFO] Loading checkpoint shards\n");
    run(&mut scene, 301, 420);
    let mut hot: Vec<GpuSample> = (0..2).map(|i| gpu(i, CARD, CARD / 2)).collect();
    hot[1].throttle = Some(0x20);
    hot[1].temperature_c = Some(92);
    scene.gpus(hot);
    scene.wait(1.0);
    scene
}

/// No line for twenty minutes.
pub fn silent() -> Scene {
    let mut scene = grpo();
    scene.wait(1200.0);
    scene
}

/// One of eight cards fell off the bus; another is slowed down by heat.
pub fn lost_gpu() -> Scene {
    let mut scene = grpo_on(8, 600);
    let mut samples: Vec<GpuSample> = (0..8).map(|i| gpu(i, CARD, CARD / 2 + u64::from(i) * GIB)).collect();
    samples[3] =
        GpuSample { lost: true, refused: vec![("GPU".into(), "the GPU is lost".into())], ..samples[3].clone() };
    samples[5].throttle = Some(0x20 | 0x4);
    samples[5].temperature_c = Some(91);
    samples[6].ecc_uncorrected = Some(2);
    samples[6].refused.push(("power".into(), "not supported".into()));
    scene.gpus(samples);
    scene.wait(75.0);
    scene
}

/// The loss is no number any more.
pub fn not_a_number() -> Scene {
    let mut scene = grpo_on(1, 200);
    for step in 201..=240u64 {
        scene.now += SignedDuration::from_millis(11_600);
        let bar = bar(step, 2000, 11.6);
        scene.write(&format!(
            "{bar}\r{}\r{{'loss': 'nan', 'grad_norm': 'nan', 'reward': '0.1', 'step_time': '11.6', 'epoch': '{:.3}'}}\n{bar}",
            " ".repeat(60),
            step as f64 / 1000.0
        ));
    }
    scene.wait(2.0);
    scene
}

/// Memory grows by a little each step.
pub fn growing() -> Scene {
    let mut scene = grpo_on(2, 100);
    for step in 101..=190u64 {
        scene.now += SignedDuration::from_millis(11_600);
        scene.step(step, 2000);
        let used = CARD / 10 * 6 + (step - 100) * 310 * (1 << 20);
        scene.gpus((0..2).map(|i| gpu(i, CARD, used - u64::from(i) * GIB)).collect());
    }
    scene.wait(2.0);
    scene
}

/// Somebody else's notebook sits on the card, and a part of it nobody explains.
pub fn shared_card() -> Scene {
    let mut scene = sft();
    let mut sample = gpu(0, 24 * GIB, 23 * GIB + GIB / 5);
    sample.name = "NVIDIA GeForce RTX 4090".into();
    sample.nvlink_active = None;
    sample.fan_percent = Some(64);
    sample.listed = Listed::Partly;
    sample.processes = vec![
        GpuProcess {
            pid: 3021,
            used: Some(Bytes(12 * GIB)),
            name: Some("python".into()),
            user: Some("ada".into()),
            command: Some("python sft.py".into()),
            ..GpuProcess::default()
        },
        GpuProcess {
            pid: 812,
            used: Some(Bytes(6 * GIB + GIB / 4)),
            name: Some("python3".into()),
            user: Some("多言語".into()),
            command: Some("/usr/bin/python3 -m ipykernel_launcher -f /home/x/.local/share/jupyter/kernel.json".into()),
            ..GpuProcess::default()
        },
        GpuProcess { pid: 77, used: Some(Bytes(GIB / 3)), foreign: true, ..GpuProcess::default() },
    ];
    scene.gpus(vec![sample]);
    scene.wait(1.0);
    scene
}

/// The same run three times: each attempt goes on from a checkpoint.
pub fn resumed() -> Scene {
    let mut scene = Scene::new();
    scene.open("resume.log");
    scene.write(include_str!("../../logs/transformers5-resume.log"));
    scene.no_driver();
    scene.wait(1.0);
    scene
}

/// Two runs of one script, watched together.
pub fn two_runs() -> Scene {
    let mut scene = Scene::new();
    for (n, name) in ["runs/rate-1e-5/train.log", "runs/rate-3e-5/train.log"].into_iter().enumerate() {
        let source = SourceId(n as u16);
        scene.event(EventKind::Opened { source, name: name.into(), path: None, size: None });
        scene.event(EventKind::CaughtUp { source });
        let mut text = String::new();
        for step in 1..=120u64 {
            let loss = 3.0 * (-0.01 * (n + 1) as f64 * step as f64).exp() + 0.05 * scene.noise();
            text += &format!("step: {step}  loss: {loss:.4}  grad_norm: {:.4}\n", 1.0 + 0.1 * scene.noise());
        }
        scene.event(EventKind::Output { source, offset: 0, data: text.into_bytes() });
    }
    scene.no_driver();
    scene.wait(1.0);
    scene
}

/// One thing is wrong with each of eight cards.
pub fn troubled() -> Scene {
    let mut scene = grpo_on(8, 300);
    let mut all: Vec<GpuSample> = (0..8).map(|i| gpu(i, CARD, CARD / 2 + u64::from(i) * GIB)).collect();
    let part = |n: u64| MigInstance {
        uuid: format!("MIG-{n}"),
        name: "NVIDIA H100 80GB HBM3 MIG 2g.20gb".into(),
        memory_total: Some(Bytes(20 * GIB)),
        memory_used: (n < 2).then_some(Bytes((5 + 14 * n) * GIB)),
    };
    all[1].mig_enabled = Some(true);
    all[1].listed = Listed::Partly;
    all[1].mig = (0..3).map(part).collect();
    all[1].utilization = None;
    all[1].refused.push(("utilization".into(), "not supported".into()));
    all[1].processes[0].instance = Some(3);
    all[2].temperature_c = Some(91);
    all[2].throttle = Some(0x20 | 0x4);
    all[3].ecc_uncorrected = Some(2);
    all[3].ecc_corrected = Some(140);
    all[3].remap_pending = Some(true);
    all[3].xids = vec![48];
    all[4].processes[0].gone = true;
    all[5]
        .refused
        .extend(["processes", "throttle reasons", "ECC"].map(|what| (what.into(), "no permission".to_string())));
    all[5].listed = Listed::Partly;
    (all[5].processes, all[5].throttle, all[5].ecc_enabled) = (Vec::new(), None, None);
    (all[5].ecc_corrected, all[5].ecc_uncorrected) = (None, None);
    all[6].pcie_width = Some(8);
    all[6].nvlink_active = Some(12);
    all[6].temperature_c = Some(84);
    for n in 0..14 {
        all[7].processes.push(GpuProcess {
            pid: 50_000 + n,
            used: Some(Bytes(GIB / 2)),
            name: Some("python3".into()),
            user: Some("grace".into()),
            command: Some(Clean::new(&format!("python3 -m vllm.entrypoints.openai.api_server --port {}", 8000 + n))),
            container: Some("docker 3f2a91c04b1e".into()),
            parents: if n < 3 { vec![49_999] } else { Vec::new() },
            launcher: (n < 3).then(|| "ray".into()),
            ..GpuProcess::default()
        });
    }
    all[7].memory_used = all[7].memory_used.map(|used| used + Bytes(7 * GIB));
    all[7].processes.push(GpuProcess {
        pid: 900,
        used: Some(Bytes(GIB / 8)),
        name: Some("Xorg".into()),
        user: Some("root".into()),
        command: Some("/usr/lib/xorg/Xorg :0".into()),
        graphics: true,
        ..GpuProcess::default()
    });
    for _ in 0..6 {
        scene.gpus(all.clone());
        scene.wait(2.0);
    }
    scene.gpus(all);
    scene.event(EventKind::Kernel { text: "NVRM: Xid (PCI:0000:1e:00): 48, DBE (double bit error)".into() });
    scene.wait(2.0);
    scene
}

/// Sixty-four cards, one of them gone.
pub fn many() -> Scene {
    let mut scene = grpo_on(64, 120);
    let mut samples: Vec<GpuSample> = (0..64).map(|i| gpu(i, CARD, CARD / 100 * (40 + u64::from(i) % 58))).collect();
    samples[41].lost = true;
    scene.gpus(samples);
    scene.wait(1.0);
    scene
}

/// A log that tries to break out of its panel, and a file that cannot be read any more.
pub fn hostile() -> Scene {
    let mut scene = Scene::new();
    scene.open("\x1b]0;owned\x07train\u{202e}gol.\n");
    scene.write("\x1b[2J\x1b[31mred\x1b[0m \u{202e}reversed\u{200b} a\u{301}\u{301}\u{301}\n");
    scene.write(&format!("{}\n", "多言語".repeat(120)));
    scene.write(&format!("{{'loss': '1e308', '{}': '3', 'grad_norm': 'inf'}}\n", "k".repeat(300)));
    scene.write("{'loss': '-1e308', 'grad_norm': 'nan', 'learning_rate': '1e-300'}\n");
    scene.event(EventKind::Trouble { source: SOURCE, what: Some("permission denied".into()) });
    let mut sample = gpu(0, u64::MAX, u64::MAX);
    sample.name = "\x1b[31mNVIDIA\u{202e} ".into();
    sample.power_w = Some(f32::NAN);
    scene.gpus(vec![sample]);
    scene.wait(1.0);
    scene
}

/// GRPO with adapters on one card of 12 GiB, completions far from their limit so far.
pub fn roomy() -> Scene {
    let mut knobs = Knobs::default();
    for (knob, value) in [
        (Knob::Method, Value::Text("grpo".into())),
        (Knob::Model, Value::Text("Qwen/Qwen2.5-1.5B".into())),
        (Knob::Dtype, Value::Text("bfloat16".into())),
        (Knob::LoraRank, Value::Int(16)),
        (Knob::PerDeviceTrainBatchSize, Value::Int(16)),
        (Knob::NumGenerations, Value::Int(8)),
        (Knob::PromptLength, Value::Int(256)),
        (Knob::MaxCompletionLength, Value::Int(768)),
    ] {
        knobs.put(knob, value, Origin::Config("grpo.yaml".into()));
    }
    let mut scene = Scene::with(knobs);
    scene.open("runs/grpo-lora/train.log");
    for step in 1..=40u64 {
        scene.now += SignedDuration::from_secs(6);
        let longest = 300 + 3 * step;
        scene.write(&format!(
            "{{'loss': '0.01', 'grad_norm': '0.3', 'learning_rate': '1e-06', 'completions/mean_length': '{}', \
             'completions/max_length': '{longest}', 'reward': '0.5', 'reward_std': '0.2', 'epoch': '{:.2}'}}\n",
            longest - 90,
            step as f64 / 40.0
        ));
        let bar = bar(step, 400, 6.0);
        scene.write(&bar);
        scene.gpus(vec![gpu(0, 12 * GIB, GIB * 26 / 4 + GIB / 100 * step.min(30))]);
    }
    scene.wait(1.0);
    scene
}
