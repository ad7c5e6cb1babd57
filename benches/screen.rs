//! One full draw of each view at 200x50, and one update: a sample of eight GPUs, a line of the log, a tick of the clock.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use jiff::{SignedDuration, Timestamp};
use oomph::{
    model::{
        Bytes, Event, EventKind, SourceId,
        gpu::{GpuProcess, GpuReading, GpuSample},
    },
    session::Session,
    ui::{self, App, Msg, Screen},
};
use ratatui::{Terminal, backend::TestBackend};

const GIB: u64 = 1 << 30;
const STEPS: u64 = 1500;

fn at(second: u64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_800_000_000 + second.cast_signed())
}

fn gpus(second: u64) -> Event {
    let sample = |index: u32| GpuSample {
        uuid: format!("GPU-{index}"),
        index,
        name: "NVIDIA H200".into(),
        memory_total: Some(Bytes(140 * GIB)),
        memory_used: Some(Bytes((60 + (second + u64::from(index)) % 40) * GIB)),
        memory_free: Some(Bytes(40 * GIB)),
        utilization: Some((second % 100) as u32),
        temperature_c: Some(60),
        power_w: Some(600.0),
        power_limit_w: Some(700.0),
        processes: vec![GpuProcess { pid: 100 + index, used: Some(Bytes(60 * GIB)), ..GpuProcess::default() }],
        ..GpuSample::default()
    };
    Event { at: at(second), kind: EventKind::Gpu { reading: GpuReading::Samples((0..8).map(sample).collect()) } }
}

fn line(second: u64) -> Vec<u8> {
    let loss = 2.0 / (1.0 + second as f64 / 50.0);
    format!(
        "{{'loss': '{loss:.4}', 'grad_norm': '0.3', 'reward': '0.5', 'kl': '0.01', 'epoch': '{}'}}\n",
        second as f64 / 1e3
    )
    .into_bytes()
}

/// A run of an hour and a half in the making, and where its log ends.
fn app() -> (App, u64) {
    let source = SourceId(0);
    let mut session = Session::default();
    session.apply(Event {
        at: at(0),
        kind: EventKind::Opened { source, name: "train.log".into(), path: None, size: None },
    });
    session.apply(Event { at: at(0), kind: EventKind::CaughtUp { source } });
    let mut offset = 0;
    for second in 0..STEPS {
        let data = line(second);
        let length = data.len() as u64;
        session.apply(Event { at: at(second), kind: EventKind::Output { source, offset, data } });
        session.apply(gpus(second));
        offset += length;
    }
    let mut app = App::new(session);
    app.size = (200, 50);
    (app, offset)
}

fn draw(c: &mut Criterion) {
    let (mut app, _) = app();
    let mut group = c.benchmark_group("draw 200x50");
    for screen in [Screen::Overview, Screen::Charts, Screen::Memory, Screen::Gpus, Screen::Log] {
        app.screen = screen;
        let mut terminal = Terminal::new(TestBackend::new(200, 50)).expect("a terminal in memory");
        group.bench_function(screen.title(), |b| {
            b.iter(|| {
                terminal.draw(|frame| ui::view(&app, app.theme(), frame)).expect("a terminal in memory");
                black_box(terminal.backend());
            });
        });
    }
}

fn update(c: &mut Criterion) {
    let (mut app, mut offset) = app();
    let mut second = STEPS;
    let mut group = c.benchmark_group("update");
    group.bench_function("eight GPUs", |b| {
        b.iter(|| {
            second += 1;
            ui::update(&mut app, Msg::Event(gpus(second)))
        });
    });
    group.bench_function("a line of the log", |b| {
        b.iter(|| {
            second += 1;
            let data = line(second);
            let length = data.len() as u64;
            let kind = EventKind::Output { source: SourceId(0), offset, data };
            offset += length;
            ui::update(&mut app, Msg::Event(Event { at: at(second), kind }))
        });
    });
    group.bench_function("a tick", |b| {
        b.iter(|| {
            second += 1;
            ui::update(&mut app, Msg::Tick(at(second)))
        });
    });
}

criterion_group!(benches, draw, update);
criterion_main!(benches);
