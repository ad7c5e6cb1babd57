//! The tailer against a model: whatever a writer does to the file, nothing is lost, doubled or reordered.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use oomph::{
    model::{EventKind, SourceId},
    source::file::Tail,
};
use proptest::prelude::*;

/// What a writer may do between two looks.
#[derive(Clone, Debug)]
enum Action {
    /// Append whole lines.
    Lines(u8),
    /// Append a piece of a line; the next write goes on with it.
    Piece(u8),
    /// Move the file away and begin a new one under its name.
    Rotate,
    /// Write a new file beside it and move it over the name.
    Replace,
    /// Delete the file and begin a new one.
    Recreate,
    Poll,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let one = prop_oneof![
        4 => (1u8..6).prop_map(Action::Lines),
        2 => (1u8..40).prop_map(Action::Piece),
        1 => Just(Action::Rotate),
        1 => Just(Action::Replace),
        1 => Just(Action::Recreate),
        4 => Just(Action::Poll),
    ];
    prop::collection::vec(one, 1..40)
}

struct Writer {
    path: PathBuf,
    file: File,
    /// Everything ever written, file after file.
    written: Vec<u8>,
    generation: u32,
    line: u32,
}

impl Writer {
    fn new(path: &Path) -> Self {
        let file = File::create(path).unwrap();
        Self { path: path.to_path_buf(), file, written: Vec::new(), generation: 0, line: 0 }
    }

    fn write(&mut self, bytes: &[u8]) {
        self.file.write_all(bytes).unwrap();
        self.written.extend_from_slice(bytes);
    }

    fn lines(&mut self, count: u8) {
        for _ in 0..count {
            self.line += 1;
            let line = format!("file {} line {} многие языки\r\n", self.generation, self.line);
            self.write(line.as_bytes());
        }
    }

    fn begin_file(&mut self, how: &Action) {
        self.generation += 1;
        match how {
            Action::Rotate => fs::rename(&self.path, self.path.with_extension(self.generation.to_string())).unwrap(),
            Action::Recreate => fs::remove_file(&self.path).unwrap(),
            _ => {
                let beside = self.path.with_extension("new");
                self.file = File::create(&beside).unwrap();
                fs::rename(beside, &self.path).unwrap();
                return;
            }
        }
        self.file = File::create(&self.path).unwrap();
    }
}

/// Bytes sent so far, in the order of sending.
fn poll(tail: &mut Tail, read: &mut Vec<u8>) {
    while tail.poll(&mut |kind| {
        if let EventKind::Output { data, .. } = kind {
            read.extend_from_slice(&data);
        }
    }) {}
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// T1: without truncation, what is read equals what was written, byte for byte.
    #[test]
    fn nothing_is_lost_doubled_or_reordered(actions in actions()) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.log");
        let mut writer = Writer::new(&path);
        let mut tail = Tail::new(SourceId(0), path);
        let mut read = Vec::new();
        // A tailer sees each file at least once: it looks after each change of file, as one that polls more often than
        // files rotate does.
        poll(&mut tail, &mut read);
        for action in &actions {
            match action {
                Action::Lines(n) => writer.lines(*n),
                Action::Piece(n) => {
                    let piece = vec![b'a' + n % 26; *n as usize];
                    writer.write(&piece);
                }
                Action::Poll => poll(&mut tail, &mut read),
                change => {
                    writer.begin_file(change);
                    poll(&mut tail, &mut read);
                }
            }
        }
        poll(&mut tail, &mut read);
        prop_assert_eq!(String::from_utf8_lossy(&read), String::from_utf8_lossy(&writer.written));
    }

    /// T2: with truncation nothing is invented or doubled, and the last file's content is read whole.
    #[test]
    fn truncation_is_noticed(before in 1u8..20, after in 1u8..40, looked in any::<bool>()) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.log");
        let mut writer = Writer::new(&path);
        writer.lines(before);
        let mut tail = Tail::new(SourceId(0), path.clone());
        let mut read = Vec::new();
        poll(&mut tail, &mut read);
        writer.generation += 1;
        writer.file = OpenOptions::new().write(true).truncate(true).open(&path).unwrap();
        if looked {
            poll(&mut tail, &mut read);
        }
        let start = writer.written.len();
        writer.lines(after);
        let mut truncations = 0;
        while tail.poll(&mut |kind| match kind {
            EventKind::Output { data, .. } => read.extend_from_slice(&data),
            EventKind::Truncated { .. } => truncations += 1,
            _ => {}
        }) {}
        prop_assert_eq!(String::from_utf8_lossy(&read), String::from_utf8_lossy(&writer.written));
        prop_assert!(writer.written.len() > start);
        prop_assert_eq!(truncations, u32::from(!looked));
    }
}

#[test]
fn a_large_file_is_read_from_its_end_first_and_whole_in_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.log");
    let line = |n: u32| format!("line {n:08} {}\n", "x".repeat(80));
    let text: String = (0..120_000).map(line).collect();
    fs::write(&path, &text).unwrap();
    let mut tail = Tail::new(SourceId(0), path);
    let (mut chunks, mut filled) = (Vec::new(), 0);
    while tail.poll(&mut |kind| match kind {
        EventKind::Output { offset, data, .. } => chunks.push((offset, data)),
        EventKind::Filled { .. } => filled += 1,
        _ => {}
    }) {}
    let first = chunks[0].0;
    assert!(first > 0 && text.as_bytes()[first as usize - 1] == b'\n', "begins at {first}, not at a line's start");
    assert_eq!(filled, 1);
    chunks.sort_by_key(|(offset, _)| *offset);
    let all: Vec<u8> = chunks.into_iter().flat_map(|(_, data)| data).collect();
    assert!(all == text.as_bytes());
}

#[test]
fn a_hole_is_stepped_over_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sparse.log");
    let file = File::create(&path).unwrap();
    std::os::unix::fs::FileExt::write_at(&file, b"after the hole\n", 100 << 30).unwrap();
    let mut tail = Tail::new(SourceId(0), path);
    let (mut text, mut skipped) = (Vec::new(), 0);
    while tail.poll(&mut |kind| match kind {
        EventKind::Output { data, .. } => text.extend_from_slice(&data),
        EventKind::Skipped { bytes, .. } => skipped += bytes,
        _ => {}
    }) {}
    assert!(skipped > 99 << 30, "{skipped}");
    assert!(String::from_utf8_lossy(&text).ends_with("after the hole\n"));
}

#[test]
fn only_files_are_opened() {
    let folder = tempfile::tempdir().unwrap();
    let say = |path: &Path| oomph::source::file::check(path).unwrap_err().to_string();
    assert!(say(folder.path()).contains("a directory"));
    assert!(say(Path::new("/dev/zero")).contains("a device"));
    assert!(say(&folder.path().join("none.log")).contains("No such file"));
}
