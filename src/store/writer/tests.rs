use super::*;
use crate::model::metric::{Point, PointKind};

const START: i64 = 1_700_000_000_000_000;

fn at(n: i64) -> Timestamp {
    Timestamp::from_microsecond(START + n * 1000).unwrap()
}

fn writer(folder: &std::path::Path) -> Writer {
    let path = folder.join("run.sqlite");
    Writer::new(Database::create(&path).unwrap(), path, Arc::new(State::default()))
}

/// A line of output; gives the offset after it.
fn put(writer: &mut Writer, n: i64, offset: u64, bytes: usize) -> u64 {
    let data = vec![b'\n'; bytes];
    let kind = EventKind::Output { source: SourceId(0), offset, data };
    writer.state.waiting.fetch_add(bytes as u64, Ordering::Relaxed);
    writer.take(Item::Event(Event { at: at(n), kind }));
    offset + bytes as u64
}

fn point(step: u64) -> Point {
    Point { kind: PointKind::Train, step: Some(step), canonical: vec![("loss", 1.0)], ..Point::default() }
}

/// The next write finds no room.
fn fill_up(writer: &mut Writer) {
    let database = writer.database.as_ref().unwrap();
    let pages = database.number("PRAGMA page_count").unwrap().unwrap();
    assert!(database.number(&format!("PRAGMA max_page_count = {pages}")).unwrap().is_some());
}

/// Time for the next try.
fn later(writer: &mut Writer) {
    writer.failed.as_mut().unwrap().tried = Instant::now().checked_sub(RETRY * 2).unwrap();
}

fn count(writer: &Writer, table: &str) -> f64 {
    writer.database.as_ref().unwrap().number(&format!("SELECT count(*) FROM {table}")).unwrap().unwrap()
}

fn standing(writer: &Writer) -> crate::store::recorder::Standing {
    writer.state.standing.lock().unwrap().clone()
}

#[test]
fn what_a_full_disk_refuses_is_kept_told_and_written_later() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("run");
    std::fs::create_dir(&place).unwrap();
    let mut writer = writer(&place);
    let mut offset = 0;
    for n in 0..10 {
        offset = put(&mut writer, n, offset, 100);
    }
    writer.flush(false, false);
    assert_eq!((standing(&writer).trouble, count(&writer, "event")), (None, 10.0));

    fill_up(&mut writer);
    for n in 10..20 {
        offset = put(&mut writer, n, offset, 40_000);
        writer.take(Item::Points(vec![(at(n), point(n as u64))]));
    }
    writer.flush(false, false);
    let told = standing(&writer);
    assert!(told.trouble.unwrap().as_str().contains("full"), "the reason is told at once");
    assert_eq!(told.gaps.values().map(|gap| gap.events).collect::<Vec<_>>(), [0], "nothing is lost yet");
    // The disk is away for a while: nothing changes.
    let away = folder.path().join("away");
    std::fs::rename(&place, &away).unwrap();
    later(&mut writer);
    writer.flush(false, false);
    assert!(standing(&writer).trouble.is_some());
    std::fs::rename(&away, &place).unwrap();
    writer.flush(false, false);
    assert!(standing(&writer).trouble.is_some(), "it is not tried all the time");
    later(&mut writer);
    writer.flush(false, false);
    assert_eq!(standing(&writer).trouble, None);
    assert_eq!((count(&writer, "event"), count(&writer, "point"), count(&writer, "gap")), (20.0, 10.0, 1.0));

    let read = Database::open(&writer.path).unwrap();
    let gap = read.gaps().unwrap().pop().unwrap();
    assert!(gap.reason.as_str().starts_with("the disk did not take it for "), "{}", gap.reason);
    let events = read.events().unwrap();
    assert_eq!(events.iter().filter(|event| event.kind == gap.told()).count(), 1, "a replay comes by the gap");
    assert_eq!(events.len(), 21);
}

#[test]
fn while_the_disk_fails_memory_is_bounded_and_every_loss_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("run");
    let away = folder.path().join("away");
    std::fs::create_dir(&place).unwrap();
    let mut writer = writer(&place);
    fill_up(&mut writer);
    std::fs::rename(&place, &away).unwrap();
    let keys: Vec<(Clean, f64)> = (0..200).map(|n| (Clean::new(&format!("key{n}")), 1.0)).collect();
    let (mut rows, mut points, mut bytes) = (0, 0, 0);
    for n in 0..100 {
        for _ in 0..3 {
            let data = vec![b'x'; 500_000];
            bytes += data.len() as u64;
            writer.batch.events.push(Row::output(rows * 2, at(n), SourceId(0), 0, data));
            rows += 1;
        }
        for _ in 0..60 {
            writer.batch.points.push((at(n), Point { raw: keys.clone(), ..point(n as u64) }));
            points += 1;
        }
        if n == 0 {
            writer.flush(false, false);
        } else {
            writer.shed();
        }
        assert!(writer.batch.weigh() <= KEEP, "{} bytes at {n}", writer.batch.weigh());
    }
    assert!(writer.batch.events.len() < rows as usize && writer.batch.points.len() < points, "both have lost some");
    let kept: u64 = writer.batch.events.iter().map(|row| row.data.as_ref().unwrap().len() as u64).sum();
    let left = (writer.batch.events.len(), writer.batch.points.len());
    std::fs::rename(&away, &place).unwrap();
    later(&mut writer);
    writer.flush(false, true);
    let gaps = Database::open(&writer.path).unwrap().gaps().unwrap();
    let lost: (u64, u64) = gaps.iter().fold((0, 0), |sum, gap| (sum.0 + gap.events, sum.1 + gap.bytes));
    assert_eq!(lost, ((rows as usize - left.0 + points - left.1) as u64, bytes - kept));
    assert_eq!(count(&writer, "event") as usize, left.0);
}

#[test]
fn what_reached_the_disk_although_it_failed_is_not_written_twice() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(folder.path());
    let mut offset = put(&mut writer, 0, 0, 10);
    writer.take(Item::Points(vec![(at(0), point(0))]));
    // A sync that fails after the last byte: the transaction is there, and told to have failed.
    let mut database = writer.database.take().unwrap();
    database.write(&writer.batch, true).unwrap();
    drop(database);
    let extent = writer.batch.extent();
    writer.fail("disk I/O error", Some(extent));
    offset = put(&mut writer, 1, offset, 10);
    writer.take(Item::Points(vec![(at(1), point(1))]));
    later(&mut writer);
    writer.flush(false, false);
    assert_eq!(standing(&writer).trouble, None);
    assert_eq!((count(&writer, "event"), count(&writer, "point")), (2.0, 2.0));
    put(&mut writer, 2, offset, 10);
    writer.flush(false, true);
    assert_eq!(count(&writer, "event"), 3.0);
}

#[test]
fn a_full_recording_counts_what_it_leaves_out_in_one_row() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(folder.path());
    let reason = "the recording has reached its largest size";
    (writer.full, writer.looked) = (Some(reason), Some(Instant::now() + Duration::from_mins(1)));
    let mut offset = 0;
    for n in 0..50 {
        offset = put(&mut writer, n, offset, 7);
        writer.take(Item::Points(vec![(at(n), point(n as u64)); 2]));
        writer.flush(false, false);
    }
    writer.flush(false, true);
    let gaps = Database::open(&writer.path).unwrap().gaps().unwrap();
    let told: Vec<_> = gaps.iter().map(|gap| (gap.events, gap.bytes, gap.reason.as_str())).collect();
    assert_eq!(told, [(150, 350, reason)]);
    assert_eq!((count(&writer, "event"), count(&writer, "point")), (0.0, 0.0));
    assert_eq!(standing(&writer).trouble.as_ref().map(Clean::as_str), Some(reason));
}

#[test]
fn what_the_recorder_cannot_take_in_is_counted_points_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.sqlite");
    let recorder = crate::store::recorder::Recorder::start(&path).unwrap();
    let sent = 30_000;
    for step in 0..sent {
        recorder.points(vec![(at(0), point(step))]);
    }
    let lacks = recorder.finish();
    let read = Database::open(&path).unwrap();
    let kept = read.number("SELECT count(*) FROM point").unwrap().unwrap() as u64;
    let gaps = read.gaps().unwrap();
    let lost: u64 = gaps.iter().map(|gap| gap.events).sum();
    assert_eq!(kept + lost, sent);
    assert!(lost > 0, "this test needs a queue that fills up");
    assert!(lacks.concat().contains(&format!("{lost} events: {BEHIND}")), "{lacks:?}");
    assert!(recorder.news().contains(&gaps[0].told()));
}
