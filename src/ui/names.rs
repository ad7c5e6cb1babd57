//! What the sources are called beside each other.

use crate::{
    model::{Clean, SourceId},
    session::Session,
};

/// The names of sources: those under which they were opened, or where two of these are the same, what of their paths
/// tells them apart.
pub fn of(session: &Session, sources: &[SourceId]) -> Vec<String> {
    let names: Vec<String> =
        sources.iter().map(|id| session.sources.get(id).map(|s| s.name.to_string()).unwrap_or_default()).collect();
    let mut different = names.clone();
    different.sort();
    different.dedup();
    if different.len() == names.len() {
        return told_apart(names);
    }
    let path = |(id, name): (&SourceId, String)| match session.sources.get(id).and_then(|s| s.path.as_ref()) {
        Some(path) => Clean::new(&path.to_string_lossy()).to_string(),
        None => name,
    };
    told_apart(sources.iter().zip(names).map(path).collect())
}

/// Names without the folders and files that all of them share.
fn told_apart(names: Vec<String>) -> Vec<String> {
    let parts: Vec<Vec<&str>> = names.iter().map(|name| name.split('/').collect()).collect();
    let shared = |nth: usize| parts.iter().all(|p| p.len() == parts[0].len() && p[nth] == parts[0][nth]);
    let own = |p: &Vec<&str>| -> String {
        let kept: Vec<&str> = p.iter().enumerate().filter(|(nth, _)| !shared(*nth)).map(|(_, part)| *part).collect();
        kept.join("/")
    };
    let short: Vec<String> = parts.iter().map(own).collect();
    if short.iter().any(String::is_empty) { names } else { short }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_what_differs() {
        let check = |names: &[&str], want: &[&str]| {
            assert_eq!(told_apart(names.iter().map(ToString::to_string).collect()), want);
        };
        check(&["runs/a/train.log", "runs/b/train.log"], &["a", "b"]);
        check(&["a.log", "b.log"], &["a.log", "b.log"]);
        check(&["x/a.log", "b.log"], &["x/a.log", "b.log"]);
        check(&["a.log", "a.log"], &["a.log", "a.log"]);
        check(&["ä/1", "ä/2"], &["1", "2"]);
        check(&["/srv/one/train.log", "/srv/two/train.log"], &["one", "two"]);
    }
}
