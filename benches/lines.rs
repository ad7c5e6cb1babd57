//! How fast logs are read: the generated GRPO log, and the captured ones.

#[path = "grpo/mod.rs"]
mod grpo;

use std::{hint::black_box, path::Path};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use oomph::{
    model::{SourceId, Timestamp},
    parse::{
        files::AnyReader,
        metrics::{self, Record},
    },
    session::series::Metrics,
};

/// Reads a whole file as `oomph metrics` does; gives the number of points.
fn read(bytes: &[u8], out: &mut Vec<Record>) -> usize {
    let mut reader = AnyReader::default();
    let mut points = 0;
    for chunk in bytes.chunks(256 << 10) {
        reader.feed(chunk, out);
        points += metrics::points(std::mem::take(out)).count();
    }
    reader.finish(out);
    points + metrics::points(std::mem::take(out)).count()
}

fn logs(c: &mut Criterion) {
    let mut grpo = Vec::new();
    grpo::write(&mut grpo, 16 << 20).expect("writing into memory");
    let mut files = vec![("grpo-16MiB".to_string(), grpo)];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/logs");
    for name in ["transformers5.tfevents", "transformers5.wandb", "lightning-tqdm.log"] {
        let bytes = std::fs::read(folder.join(name)).expect("a captured log");
        files.push((name.to_string(), bytes));
    }
    for (name, bytes) in &files {
        let mut group = c.benchmark_group(name);
        let lines = bytes.iter().filter(|b| matches!(b, b'\n' | b'\r')).count().max(1);
        group.throughput(Throughput::ElementsAndBytes { elements: lines as u64, bytes: bytes.len() as u64 });
        group.sample_size(10);
        group.bench_function("read", |b| {
            let mut out = Vec::new();
            b.iter(|| black_box(read(bytes, &mut out)));
        });
        group.finish();
    }
}

fn series(c: &mut Criterion) {
    let mut grpo = Vec::new();
    grpo::write(&mut grpo, 4 << 20).expect("writing into memory");
    let mut records = Vec::new();
    let mut reader = AnyReader::default();
    reader.feed(&grpo, &mut records);
    reader.finish(&mut records);
    let points: Vec<_> = metrics::points(records).collect();
    let mut group = c.benchmark_group("series");
    group.sample_size(10);
    group.throughput(Throughput::Elements(points.len().max(1) as u64));
    group.bench_function("push", |b| {
        b.iter(|| {
            let mut metrics = Metrics::default();
            for point in &points {
                metrics.push(Timestamp::UNIX_EPOCH, SourceId(0), point.clone());
            }
            black_box(metrics.points())
        });
    });
    group.finish();
}

criterion_group!(benches, logs, series);
criterion_main!(benches);
