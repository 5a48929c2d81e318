//! The policy reference's table of what happens when: each row has tests that name it, in a comment
//! `// When ROW` right above the test, and that look at its counters; no test names a row that is not there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The table's rows: what happens, and the counters that tell it.
fn rows() -> BTreeMap<String, Vec<String>> {
    let text = std::fs::read_to_string(root().join("docs/policy.md")).unwrap();
    let (_, section) = text.split_once("\n## What happens when\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let cells = section.lines().filter_map(|line| line.strip_prefix("| "));
    let rows = cells.map(|line| line.split(" | ").collect::<Vec<_>>());
    rows.filter(|cells| cells[0] != "what" && !cells[0].starts_with("---"))
        .map(|cells| {
            let counters = cells[2].split('`').skip(1).step_by(2);
            (cells[0].to_owned(), counters.map(str::to_owned).collect())
        })
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

/// The rows that tests name, each with the text of all of its tests.
fn named() -> BTreeMap<String, String> {
    let mut files = Vec::new();
    sources(&root(), &mut files);
    let mut named: BTreeMap<String, String> = BTreeMap::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let mut above: Vec<&str> = Vec::new();
        let mut at = 0;
        for line in text.split_inclusive('\n') {
            at += line.len();
            let line = line.trim();
            if let Some(row) = line.strip_prefix("// When ") {
                above.push(row);
            } else if line.starts_with("//") {
                // Other comments may stand between.
            } else {
                // A test, or a line of a macro that makes tests.
                let is_test =
                    line.contains("test]") || line.contains("test(") || line.contains(": ");
                let rest = text.get(at..).unwrap_or("");
                let body = rest.split_once("\n}\n").map_or(rest, |(body, _)| body);
                for row in above.drain(..).filter(|_| is_test) {
                    named.entry(row.to_owned()).or_default().push_str(body);
                }
            }
        }
    }
    named
}

/// Whether a test looks at a counter: by its name, or by that of the variant or field that it is in the code.
fn looks_at(tests: &str, counter: &str) -> bool {
    let name = counter.rsplit('.').next().unwrap_or(counter);
    let words = name.split('_').map(|word| {
        let (first, rest) = word.split_at(1);
        first.to_uppercase() + rest
    });
    let variant: String = words.collect();
    let mut words = tests.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.any(|word| word == name || word == variant)
}

#[test]
fn every_row_of_what_happens_when_has_a_counter_and_tests_that_name_the_row_and_look_at_the_counter()
 {
    let (rows, named) = (rows(), named());
    assert!(rows.len() > 20, "{rows:?}");
    let mut missing = Vec::new();
    for (row, counters) in &rows {
        let tests = named.get(row).map_or("", String::as_str);
        if tests.is_empty() {
            missing.push(format!("no test names `{row}`"));
        }
        if counters.is_empty() {
            missing.push(format!("`{row}` has no counter"));
        }
        let unseen = counters.iter().filter(|one| !looks_at(tests, one));
        missing.extend(unseen.map(|one| format!("no test of `{row}` looks at `{one}`")));
    }
    assert!(missing.is_empty(), "{missing:#?}");
    // Only tests that mean this table.
    let unknown: Vec<_> = named
        .keys()
        .filter(|row| !rows.contains_key(*row))
        .collect();
    assert!(unknown.is_empty(), "not in the table: {unknown:#?}");
}
