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

use crate::properties;

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
    /// Let the name be a link that leads to a new file from now on.
    Symlink,
    Poll,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let one = prop_oneof![
        4 => (1u8..6).prop_map(Action::Lines),
        2 => (1u8..40).prop_map(Action::Piece),
        1 => Just(Action::Rotate),
        1 => Just(Action::Replace),
        1 => Just(Action::Recreate),
        1 => Just(Action::Symlink),
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
            Action::Symlink => {
                let (target, beside) =
                    (self.path.with_extension(format!("to{}", self.generation)), self.path.with_extension("link"));
                self.file = File::create(&target).unwrap();
                std::os::unix::fs::symlink(target, &beside).unwrap();
                fs::rename(beside, &self.path).unwrap();
                return;
            }
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

/// Bytes sent so far, in the order of sending; and whether it was said that the file became shorter.
fn poll(tail: &mut Tail, read: &mut Vec<u8>) -> bool {
    let mut truncated = false;
    while tail.poll(&mut |kind| match kind {
        EventKind::Output { data, .. } => read.extend_from_slice(&data),
        EventKind::Truncated { .. } => truncated = true,
        _ => {}
    }) {}
    truncated
}

/// Sequences of actions: few in CI, ten thousand when everything is asked for.
fn cases(few: u32) -> ProptestConfig {
    properties::config(if properties::full() { 10_000 } else { few })
}

proptest! {
    #![proptest_config(cases(500))]

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
                Action::Poll => prop_assert!(!poll(&mut tail, &mut read), "a false truncation"),
                change => {
                    writer.begin_file(change);
                    prop_assert!(!poll(&mut tail, &mut read), "a false truncation");
                }
            }
        }
        prop_assert!(!poll(&mut tail, &mut read), "a false truncation");
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

proptest! {
    #![proptest_config(cases(300))]

    /// T2: truncations at any time: nothing is invented, nothing comes twice, and what stands in the file at the end is read.
    #[test]
    fn truncations_lose_no_more_than_they_must(actions in actions(), truncate in prop::collection::vec(any::<bool>(), 40)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.log");
        let mut writer = Writer::new(&path);
        let mut tail = Tail::new(SourceId(0), path.clone());
        let mut read = Vec::new();
        let mut in_file = Vec::new();
        for (action, truncate) in actions.iter().zip(truncate) {
            let Action::Lines(n) = action else {
                poll(&mut tail, &mut read);
                continue;
            };
            if truncate {
                // Not appending: like a logger that opens anew.
                writer.file = OpenOptions::new().write(true).truncate(true).open(&path).unwrap();
                writer.generation += 1;
                in_file.clear();
            }
            let before = writer.written.len();
            writer.lines(*n);
            in_file.extend_from_slice(&writer.written[before..]);
        }
        poll(&mut tail, &mut read);
        let lines = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap().lines().map(str::to_string).collect::<Vec<_>>();
        let (read, written) = (lines(&read), lines(&writer.written));
        let mut left = written.iter();
        for line in &read {
            prop_assert!(left.any(|w| w == line), "read twice, out of order or never written: {line}");
        }
        prop_assert!(read.ends_with(&lines(&in_file)), "what stands in the file was not read");
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

/// T3: a name that is deleted and made again at once, as a rule with the same inode, whatever the size.
#[test]
fn a_file_made_anew_is_another_one_from_its_first_byte() {
    let loops = if properties::full() { 1000 } else { 200 };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.log");
    let (mut written, mut read, mut inodes) = (Vec::new(), Vec::new(), std::collections::BTreeSet::new());
    let mut tail = Tail::new(SourceId(0), path.clone());
    for n in 0..loops {
        let _ = fs::remove_file(&path);
        let text = format!("{n}:{}\n", "x".repeat(n * 7 % 2000));
        fs::write(&path, &text).unwrap();
        written.extend_from_slice(text.as_bytes());
        inodes.insert(std::os::unix::fs::MetadataExt::ino(&fs::metadata(&path).unwrap()));
        poll(&mut tail, &mut read);
    }
    assert!(read == written, "{} bytes of {}", read.len(), written.len());
    assert!(inodes.len() < loops, "no inode came twice: this showed nothing");
}

/// T3: the same, with a reader that comes back to a file of the same inode whose beginning is another.
#[test]
fn the_same_inode_with_another_beginning_is_read_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.log");
    for size in [1, 2, 63, 64, 65, 1023, 1024, 1025, 2000] {
        fs::write(&path, "a".repeat(size)).unwrap();
        let mut tail = Tail::new(SourceId(0), path.clone());
        let mut read = Vec::new();
        poll(&mut tail, &mut read);
        // As long as before or longer: only its bytes tell.
        let second = "b".repeat(size + size / 2);
        fs::write(&path, &second).unwrap();
        assert!(poll(&mut tail, &mut read), "size {size}: not noticed");
        assert_eq!(String::from_utf8_lossy(&read), "a".repeat(size) + &second);
    }
}

/// T1: what a writer still says to the old file of a rotation is read, once, and between the new one's lines.
#[test]
fn the_old_file_of_a_rotation_is_listened_to() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.log");
    let mut old = File::create(&path).unwrap();
    old.write_all(b"one\n").unwrap();
    let mut tail = Tail::new(SourceId(0), path.clone());
    let mut read = Vec::new();
    poll(&mut tail, &mut read);
    fs::rename(&path, folder.path().join("train.log.1")).unwrap();
    let mut new = File::create(&path).unwrap();
    poll(&mut tail, &mut read);
    new.write_all(b"two, half").unwrap();
    poll(&mut tail, &mut read);
    old.write_all(b"late\n").unwrap();
    poll(&mut tail, &mut read);
    new.write_all(b" and whole\n").unwrap();
    poll(&mut tail, &mut read);
    poll(&mut tail, &mut read);
    assert_eq!(String::from_utf8_lossy(&read), "one\ntwo, half and whole\nlate\n");
}

#[test]
fn only_files_are_opened() {
    let folder = tempfile::tempdir().unwrap();
    let say = |path: &Path| oomph::source::file::check(path).unwrap_err().to_string();
    assert!(say(folder.path()).contains("a directory"));
    assert!(say(Path::new("/dev/zero")).contains("a device"));
    assert!(say(&folder.path().join("none.log")).contains("No such file"));
}
