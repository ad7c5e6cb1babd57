//! Every log of `tests/catalogue` and what it truly holds, which stands beside it in `NAME.truth`: first the steps of the
//! whole run and the number of restarts, then each point with its printed names and its canonical ones.
//!
//! The truths were written with the logs, by what the trainers' own print statements say, and not read from any output of
//! oomph. `ORIGIN.md` says more.

use std::collections::BTreeMap;

use oomph::{
    model::metric::{Point, PointKind},
    parse::{files::AnyReader, metrics::points},
};
use serde_json::Value;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/catalogue");

/// The logs with their truths, by name.
pub fn logs() -> BTreeMap<String, (Vec<u8>, String)> {
    let files = std::fs::read_dir(FOLDER).unwrap().map(|e| e.unwrap().path());
    let logs = files.filter(|path| path.extension().is_some_and(|e| e == "log" || e == "csv"));
    logs.map(|path| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let truth = std::fs::read_to_string(path.with_extension("truth")).unwrap();
        (name, (std::fs::read(path).unwrap(), truth))
    })
    .collect()
}

fn number(value: &Value) -> f64 {
    match value.as_str() {
        Some("nan") => f64::NAN,
        Some("inf") => f64::INFINITY,
        Some(other) => panic!("{other}"),
        None => value.as_f64().unwrap(),
    }
}

fn is(got: Option<f64>, want: &Value) -> bool {
    let want = number(want);
    got.is_some_and(|got| got == want || got.is_nan() && want.is_nan() || (got - want).abs() <= 1e-6 * want.abs())
}

/// What differs between a point and its truth.
fn differs(point: &Point, want: &Value) -> Option<String> {
    let of = |names: &str, get: &dyn Fn(&str) -> Option<f64>| {
        let wrong = want[names].as_object().unwrap().iter().find(|(name, value)| !is(get(name), value));
        wrong.map(|(name, value)| format!("{names} {name}: {:?} for {value}", get(name)))
    };
    let raw = |name: &str| point.raw.iter().find(|(n, _)| n.as_str() == name).map(|(_, v)| *v);
    let canonical = |name: &str| point.canonical.iter().find(|(n, _)| *n == name).map(|(_, v)| *v);
    let kind = if want["kind"] == "eval" { PointKind::Eval } else { PointKind::Train };
    if point.kind != kind {
        return Some(format!("{:?} for {kind:?}", point.kind));
    }
    if !want["step"].is_null() && point.step != want["step"].as_u64() {
        return Some(format!("step {:?} for {}", point.step, want["step"]));
    }
    if !want["epoch"].is_null() && point.epoch != want["epoch"].as_f64() {
        return Some(format!("epoch {:?} for {}", point.epoch, want["epoch"]));
    }
    of("metrics", &raw).or_else(|| of("canonical", &canonical))
}

#[test]
fn every_log_gives_what_it_holds_and_no_more() {
    let mut wrong = Vec::new();
    let logs = logs();
    assert!(logs.len() > 150, "{}", logs.len());
    for (name, (log, truth)) in logs {
        let mut truth = truth.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let head = truth.next().unwrap();
        let (mut reader, mut records) = (AnyReader::default(), Vec::new());
        log.chunks(777).for_each(|part| reader.feed(part, &mut records));
        reader.finish(&mut records);
        let points = points(records);
        let (evals, trains): (Vec<_>, Vec<_>) =
            points.filter(|p| p.kind != PointKind::Final).partition(|p| p.kind == PointKind::Eval);
        let (want_evals, want_trains): (Vec<_>, Vec<_>) = truth.partition(|w| w["kind"] == "eval");
        for (points, want) in [(trains, want_trains), (evals, want_evals)] {
            let at = points.iter().zip(&want).find_map(|(p, w)| differs(p, w).map(|what| (p.line, what)));
            if let Some((line, what)) = at {
                wrong.push(format!("{name}:{line}: {what}"));
            } else if points.len() != want.len() {
                wrong.push(format!("{name}: {} points for {}", points.len(), want.len()));
            }
        }
        // A truth without a total says nothing of it: the format may have none.
        if !head["total_steps"].is_null() && reader.total_steps() != head["total_steps"].as_u64() {
            wrong.push(format!("{name}: total {:?} for {}", reader.total_steps(), head["total_steps"]));
        }
        let segments = head["resets"].as_u64().unwrap() + 1;
        if u64::from(reader.segments()) != segments {
            wrong.push(format!("{name}: {} runs for {segments}", reader.segments()));
        }
    }
    assert!(wrong.is_empty(), "{} differ\n{}", wrong.len(), wrong.join("\n"));
}
