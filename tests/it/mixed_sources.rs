//! Several files of one run in one session: each number once, the exact one where there is one.

use oomph::{
    model::{Clean, Event, EventKind, SourceId, Timestamp, knobs::Knobs},
    session::{Session, series::XAxis},
};

const LOGS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/logs");

struct Run {
    session: Session,
    offsets: Vec<u64>,
}

impl Run {
    fn new(files: &[&str]) -> Self {
        let mut run = Self { session: Session::new(Knobs::default()), offsets: vec![0; files.len()] };
        for (i, name) in files.iter().enumerate() {
            let path = Some(format!("{LOGS}/{name}").into());
            run.apply(EventKind::Opened { source: SourceId(i as u16), name: Clean::new(name), path, size: None });
        }
        run
    }

    fn apply(&mut self, kind: EventKind) {
        self.session.apply(Event { at: Timestamp::UNIX_EPOCH, kind });
    }

    fn write(&mut self, source: usize, data: &[u8]) {
        for part in data.chunks(1000) {
            let offset = self.offsets[source];
            self.apply(EventKind::Output { source: SourceId(source as u16), offset, data: part.to_vec() });
            self.offsets[source] += part.len() as u64;
        }
    }

    fn caught_up(&mut self, source: usize) {
        self.apply(EventKind::CaughtUp { source: SourceId(source as u16) });
    }

    /// Steps and values of a training key.
    fn values(&self, key: &str) -> Vec<(f64, f64)> {
        let series = self.session.metrics.series(key).unwrap();
        let (from, to) = series.extent(XAxis::Step).unwrap();
        let view = series.view(XAxis::Step, from..to, 1000);
        assert!(view.iter().all(|b| b.count == 1), "{view:?}");
        view.iter().map(|b| (b.x, b.last)).collect()
    }
}

fn log(name: &str) -> Vec<u8> {
    std::fs::read(format!("{LOGS}/{name}")).unwrap()
}

const OF_ONE_RUN: [&str; 4] =
    ["transformers5-trainer.log", "transformers5.tfevents", "transformers5.wandb", "transformers5-trainer_state.json"];

#[test]
fn any_order_of_the_files_of_one_run_gives_the_exact_numbers_once() {
    let mut state = Run::new(&["transformers5-trainer_state.json"]);
    state.write(0, &log("transformers5-trainer_state.json"));
    let want = state.values("loss");
    assert_eq!((want.len(), want[0]), (10, (2.0, 4.66105842590332)));
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1]] {
        let mut run = Run::new(&OF_ONE_RUN);
        for i in order {
            run.write(i, &log(OF_ONE_RUN[i]));
            run.caught_up(i);
        }
        assert_eq!(run.values("loss"), want, "{order:?}");
        assert_eq!(run.session.metrics.eval().get("eval_loss").unwrap().len(), 2);
        assert_eq!(run.session.total_steps(), Some(20));
    }
}

/// The event file lags behind, for it is flushed seldom: the log fills in until it comes.
#[test]
fn an_event_file_that_lags_is_filled_in() {
    let events = log("transformers5.tfevents");
    let mut run = Run::new(&["transformers5-trainer_state.json", "transformers5.tfevents"]);
    let half = events.len() * 4 / 5;
    run.write(1, &events[..half]);
    run.caught_up(1);
    let before = run.values("loss").len();
    assert!((3..8).contains(&before), "{before}");
    run.write(0, &log("transformers5-trainer_state.json"));
    assert_eq!(run.values("loss").len(), 10);
    run.write(1, &events[half..]);
    assert_eq!(run.values("loss").len(), 10);
}

#[test]
fn a_file_that_is_rewritten_replaces_what_it_gave() {
    let text = String::from_utf8(log("transformers5-trainer_state.json")).unwrap();
    let mut run = Run::new(&["transformers5-trainer_state.json"]);
    run.write(0, text.as_bytes());
    run.caught_up(0);
    run.apply(EventKind::Truncated { source: SourceId(0), unread: 0 });
    run.offsets[0] = 0;
    run.write(0, text.replace("4.66105842590332", "4.5").as_bytes());
    let values = run.values("loss");
    assert_eq!((values.len(), values[0]), (10, (2.0, 4.5)));
    assert_eq!(run.session.metrics.series("loss").unwrap().len(), 10);
}

/// A tracker keeps the console beside the numbers: it is shown, and read for failures.
#[test]
fn the_console_of_an_offline_run_is_shown() {
    let mut run = Run::new(&["wandb-nested.wandb"]);
    run.write(0, &log("wandb-nested.wandb"));
    let lines: Vec<_> =
        run.session.sources[&SourceId(0)].log.lines().iter().map(|l| l.text.as_str().to_string()).collect();
    assert!(lines.iter().any(|l| l.contains("step 3 loss 0.5000")), "{lines:?}");
    assert!(!lines.iter().any(|l| l.contains("\\x") || l.contains("\\u")), "{lines:?}");
    assert_eq!(run.values("loss").len(), 15);
}

/// Lightning's CSVLogger writes the file again when a key appears.
#[test]
fn a_table_that_is_rewritten_replaces_what_it_gave() {
    let mut run = Run::new(&["metrics.csv"]);
    run.write(0, b"epoch,step,train_loss\n0,49,2.5\n0,99,2.25\n");
    run.caught_up(0);
    assert_eq!(run.values("loss"), [(49.0, 2.5), (99.0, 2.25)]);
    run.apply(EventKind::Truncated { source: SourceId(0), unread: 0 });
    run.offsets[0] = 0;
    run.write(0, b"epoch,step,train_loss,val_loss\n0,49,2.5,\n0,99,2.25,\n0,99,,2.4\n1,149,2.0,\n");
    assert_eq!(run.values("loss"), [(49.0, 2.5), (99.0, 2.25), (149.0, 2.0)]);
    assert_eq!(run.session.metrics.eval().get("eval_loss").unwrap().len(), 1);
}

/// A step that several lines tell of is shown when the log says no more, not with the next step.
#[test]
fn a_quiet_log_has_told_its_last_step() {
    let mut run = Run::new(&["train.log"]);
    run.caught_up(0);
    let later = |seconds| Timestamp::UNIX_EPOCH + std::time::Duration::from_millis(seconds);
    run.write(0, b"[2024-03-07 15:27:02,646] [INFO] [logging.py:96:log_dist] [Rank 0] step=10, skipped=0, lr=[5e-05], mom=[(0.9, 0.95)]\n");
    run.session.tick(later(500));
    assert!(run.session.metrics.series("learning_rate").is_none(), "its second line may come");
    run.session.tick(later(1500));
    assert_eq!(run.values("learning_rate"), [(10.0, 5e-5)]);
    run.write(0, b"\rEpoch 0:  50%|# | 5/10 [00:01<00:01,  5.00it/s, loss=2.50]");
    run.write(0, b"\rEpoch 0:  50%|# | 5/10 [00:01<00:01,  5.00it/s, loss=2.25]");
    run.session.tick(later(3000));
    assert_eq!(run.values("loss"), [(5.0, 2.25)]);
    run.write(0, b"\rEpoch 0:  50%|# | 5/10 [00:01<00:01,  5.00it/s, loss=2.25]\n");
    run.session.tick(later(5000));
    assert_eq!(run.values("loss"), [(5.0, 2.25)]);
}

/// trackio's database is followed while it is written; of several runs in it the newest one is.
#[test]
fn a_database_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("project.db");
    let writer = rusqlite::Connection::open(&path).unwrap();
    writer
        .execute_batch(
            "PRAGMA journal_mode = WAL; CREATE TABLE metrics (id INTEGER PRIMARY KEY, timestamp TEXT, run_name TEXT, step INTEGER, metrics TEXT)",
        )
        .unwrap();
    let put = |run: &str, step: i64, metrics: &str| {
        let row = (run, step, metrics);
        writer
            .execute("INSERT INTO metrics (timestamp, run_name, step, metrics) VALUES ('', ?1, ?2, ?3)", row)
            .unwrap();
    };
    put("first", 0, "{\"loss\": 9.5}");
    put("second", 0, "{\"train/loss\": 2.5, \"train/global_step\": 10}");
    put("first", 1, "{\"loss\": 9.25}");
    assert!(oomph::source::database::is_one(&path));
    let mut run = Run::new(&[]);
    let mut followed = oomph::source::database::Followed::new(SourceId(0), path);
    let mut poll = |run: &mut Run| while followed.poll(&mut |kind| run.apply(kind)) {};
    poll(&mut run);
    assert_eq!(run.values("loss"), [(10.0, 2.5)]);
    put("second", 1, "{\"train/loss\": \"NaN\", \"train/global_step\": 20}");
    put("first", 2, "{\"loss\": 9.0}");
    put("second", 2, "{\"train/loss\": 2.25, \"train/global_step\": 30}");
    poll(&mut run);
    let values = run.values("loss");
    assert_eq!((values.first(), values.last()), (Some(&(10.0, 2.5)), Some(&(30.0, 2.25))));
    assert!(run.session.sources[&SourceId(0)].trouble.is_none() && run.session.sources[&SourceId(0)].caught_up);
    writer.execute("DROP TABLE metrics", []).unwrap();
    poll(&mut run);
    assert!(run.session.sources[&SourceId(0)].trouble.as_ref().unwrap().as_str().contains("trackio"));
}
