//! Data flows one way: no module imports one that stands after it.

use std::{fs, path::Path};

/// What each module may import (`crate::NAME`), itself aside.
const MAY_USE: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("source", &["model"]),
    ("parse", &["model"]),
    ("memory", &["model"]),
    ("diagnose", &["model", "memory"]),
    ("session", &["model", "parse", "memory", "diagnose"]),
    ("store", &["model"]),
    ("ui", &["model", "session", "memory", "diagnose"]),
];

#[test]
fn imports_follow_the_flow_of_data() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut broken = Vec::new();
    for (module, allowed) in MAY_USE {
        let mut files = Vec::new();
        collect(&src.join(module), &mut files);
        assert!(!files.is_empty(), "no files in src/{module}");
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            for name in imported(&text) {
                // How properties are tried is the tests' own, and in no build.
                if name != *module && name != "properties" && !allowed.contains(&name.as_str()) {
                    broken.push(format!("{} uses crate::{name}", file.strip_prefix(&src).unwrap().display()));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

fn collect(dir: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()) {
        if entry.is_dir() {
            collect(&entry, files);
        } else if entry.extension().is_some_and(|e| e == "rs") {
            files.push(entry);
        }
    }
}

/// Top-level names after `crate::`, groups included.
fn imported(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let (mut depth, mut item) = (0, String::new());
            for c in group.chars() {
                match c {
                    '}' if depth == 0 => break,
                    ',' if depth == 0 => names.extend(leading_name(&std::mem::take(&mut item))),
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    _ => {}
                }
                item.push(c);
            }
            names.extend(leading_name(&item));
        } else {
            names.extend(leading_name(rest));
        }
    }
    names
}

fn leading_name(item: &str) -> Option<String> {
    let item = item.trim_start_matches(|c: char| c == ',' || c.is_whitespace());
    let name: String = item.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!name.is_empty()).then_some(name)
}

#[test]
fn the_reader_of_imports_sees_groups() {
    assert_eq!(imported("use crate::model::Bytes;"), ["model"]);
    assert_eq!(
        imported("use crate::{\n diagnose,\n model::{A, b::C},\n parse::x::Y,\n};"),
        ["diagnose", "model", "parse"]
    );
}
