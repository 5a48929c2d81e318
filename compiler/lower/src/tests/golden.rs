//! Every example's program is checked in, so that a change in what is generated is a readable diff.
//! `UPDATE_GOLDEN=1 cargo test -p signalbox-lower` writes the files anew.

use std::path::{Path, PathBuf};

use crate::lower;

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

/// Compares with a checked-in file, or writes it.
fn golden(file: &str, text: &str) {
    let path = examples().join("golden").join(file);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(examples().join("golden")).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        text == expected,
        "{file} differs; UPDATE_GOLDEN=1 writes it anew. It would be:\n{text}"
    );
}

#[test]
fn every_examples_program_is_the_checked_in_one() {
    let mut seen = 0;
    for entry in std::fs::read_dir(examples()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "policy") {
            continue;
        }
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let checked = signalbox_policy::check(&text, &name);
        let policy = checked
            .policy
            .unwrap_or_else(|| panic!("{name}: {:#?}", checked.diagnostics));
        let lowered = lower(&policy).unwrap();
        golden(&name.replace(".policy", ".p4"), &lowered.p4);
        if name == "web.policy" {
            let plan = serde_json::to_string_pretty(&lowered.plan).unwrap();
            golden("web.plan.json", &(plan + "\n"));
        }
        seen += 1;
    }
    assert!(seen > 0, "no examples");
}
