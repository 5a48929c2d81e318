//! The policy reference's table of what happens when: each row has a test that names it, in a comment
//! `// When ROW` right above the test, and no test names a row that is not there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The first column of the table.
fn rows() -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join("docs/policy.md")).unwrap();
    let (_, section) = text.split_once("\n## What happens when\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let cells = section.lines().filter_map(|line| line.strip_prefix("| "));
    let cells = cells.filter_map(|line| line.split_once(" | "));
    let rows = cells.map(|(first, _)| first.to_owned());
    rows.filter(|first| first != "what" && !first.starts_with("---"))
        .collect()
}

/// The files of Rust below a folder.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            sources(&path, found);
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
}

/// The rows that tests name, each with the file of one.
fn named() -> BTreeMap<String, PathBuf> {
    let mut files = Vec::new();
    sources(&root(), &mut files);
    let mut named = BTreeMap::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let mut above: Vec<&str> = Vec::new();
        for line in text.lines().map(str::trim) {
            if let Some(row) = line.strip_prefix("// When ") {
                above.push(row);
            } else if line.starts_with("//") {
                // Other comments may stand between.
            } else {
                // A test, or a line of a macro that makes tests.
                let is_test =
                    line.contains("test]") || line.contains("test(") || line.contains(": ");
                for row in above.drain(..).filter(|_| is_test) {
                    named.insert(row.to_owned(), file.clone());
                }
            }
        }
    }
    named
}

#[test]
fn every_row_of_what_happens_when_has_a_test_that_names_it() {
    let (rows, named) = (rows(), named());
    assert!(rows.len() > 20, "{rows:?}");
    let untested: Vec<&String> = rows
        .iter()
        .filter(|row| !named.contains_key(*row))
        .collect();
    assert!(untested.is_empty(), "rows without a test: {untested:#?}");
    // Only tests that mean this table.
    let unknown: Vec<_> = named
        .iter()
        .filter(|(row, _)| !rows.contains(*row))
        .collect();
    assert!(unknown.is_empty(), "not in the table: {unknown:#?}");
}
