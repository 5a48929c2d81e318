//! `ci/semantics` on a small tree: what it takes for a test of a statement, and what it complains about.

use std::process::{Command, Output};

use crate::process::Folder;

const STATEMENTS: &str = "\
# Statements

- **A1.1** The first one,
  which has two lines.
- **A1.2** The second one.
- **A5.1** One of a section that is not built.
- **A10.1** The last one.
";

/// What the script says of these statements and this test file.
fn semantics(tests: &str) -> Output {
    let tree = Folder::new();
    tree.write("docs/semantics.md", STATEMENTS);
    tree.write("part/src/tests.rs", tests);
    // What was built is not part of the tree.
    tree.write("target/copy.rs", "// A5.1\n#[test]\nfn built() {}\n");
    Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/ci/semantics"))
        .arg("--root")
        .arg(tree.file("."))
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn semantics_finds_statements_in_comments_ranges_and_names() {
    let output = semantics(
        "// A1.1-2\n#[test]\nfn a_range() {}\n\n\
         #[tokio::test(flavor = \"current_thread\")]\nasync fn a10_1_in_its_name() {}\n",
    );
    let said = said(&output);
    assert!(output.status.success(), "{said}");
    let wanted = "A1.1 The first one, which has two lines.\n    part/src/tests.rs:3 a_range\n\
                  A1.2 The second one.\n    part/src/tests.rs:3 a_range\n\
                  A5.1 One of a section that is not built.\n\
                  A10.1 The last one.\n    part/src/tests.rs:6 a10_1_in_its_name\n\n\
                  4 statements, 3 with a test; 3 of 3 of the sections that are built";
    assert!(said.starts_with(wanted), "{said}");
}

#[test]
fn semantics_fails_on_a_statement_without_a_test() {
    // Neither a function that is no test, nor an ignored test, nor a comment within one counts.
    let output = semantics(
        "/// A1.1\nfn no_test() {}\n\n\
         /// A1.2, A10.1\n#[test]\nfn a_test() {\n    // A1.1\n}\n\n\
         // A1.1\n#[test]\n#[ignore]\nfn never_run() {}\n",
    );
    assert_eq!(output.status.code(), Some(1));
    let said = said(&output);
    let end = "without a test, name them right above one (// A1.1):\n    \
               A1.1 The first one, which has two lines.\n";
    assert!(said.ends_with(end), "{said}");
}

#[test]
fn semantics_fails_on_a_test_that_names_what_is_not_there() {
    let output = semantics("// A1.1, A1.2, A10.1, A1.7\n#[test]\nfn a_test() {}\n");
    assert_eq!(output.status.code(), Some(1));
    let said = said(&output);
    let wanted = "part/src/tests.rs:3: names A1.7, which docs/semantics.md does not have";
    assert!(said.contains(wanted), "{said}");
}

#[test]
fn semantics_finds_statements_above_the_lines_of_a_macro_that_makes_tests() {
    let output = semantics(
        "macro_rules! all {\n    ($($name:ident: $what:ident;)*) => {$(\n        #[test]\n        \
         fn $name() {\n            $what();\n        }\n    )*};\n}\n\n\
         all! {\n    // A1.1-2\n    first: one;\n    // A10.1\n    second: two;\n    third: three;\n}\n",
    );
    let said = said(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("    part/src/tests.rs:12 first\n"), "{said}");
    assert!(said.contains("    part/src/tests.rs:14 second\n"), "{said}");
    assert!(!said.contains("third"), "{said}");
}
