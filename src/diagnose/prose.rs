//! Prose out of the headers of source files: what `oomph explain` prints stands once, beside the code.

/// The header of a file: its `//!` lines without their marks.
pub fn header(source: &str) -> String {
    let lines = source.lines().take_while(|l| l.starts_with("//!"));
    lines.map(|l| l.trim_start_matches("//!").strip_prefix(' ').unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The title: the line after `# `.
pub fn title(source: &str) -> String {
    let header = header(source);
    header.lines().find_map(|l| l.strip_prefix("# ")).unwrap_or_default().to_string()
}

/// What stands under `## heading`, its lines joined; `None` where there is no such heading.
pub fn section(source: &str, heading: &str) -> Option<String> {
    let header = header(source);
    let mut lines = header.lines().skip_while(|l| l.strip_prefix("## ") != Some(heading));
    lines.next()?;
    let own: Vec<&str> = lines.take_while(|l| !l.starts_with("## ")).map(str::trim).filter(|l| !l.is_empty()).collect();
    Some(own.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_are_found_and_lines_joined() {
        let source = "//! # A title\n//!\n//! ## One\n//! first\n//! second\n//!\n//! ## Two\n//! third\n\nfn x() {}\n";
        assert_eq!(title(source), "A title");
        assert_eq!(section(source, "One").as_deref(), Some("first second"));
        assert_eq!(section(source, "Two").as_deref(), Some("third"));
        assert_eq!(section(source, "Three"), None);
    }
}
