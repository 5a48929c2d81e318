//! The same programs through p4c, where `p4c-bm2-ss` is on PATH: it accepts them, and its P4Info is
//! ours.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use signalbox_p4runtime::text::parse_p4info;

use crate::corpus::{compiled, programs};

/// Programs of the corpus that p4c does not take, and what it says.
const REFUSED: &[(&str, &str)] = &[("signed", "Negative values not supported yet")];

fn on_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join("p4c-bm2-ss"))
        .find(|file| file.is_file())
}

#[test]
fn p4c_gives_controllers_the_same_view() {
    let Some(p4c) = on_path() else {
        println!("skipped: p4c-bm2-ss is not on PATH");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in programs() {
        let file = |ending: &str| folder.path().join(format!("{name}{ending}"));
        fs::write(file(".p4"), &text).unwrap();
        let output = Command::new(&p4c)
            .arg(file(".p4"))
            .arg("-o")
            .arg(file(".json"))
            .arg("--p4runtime-files")
            .arg(file(".txtpb"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        if let Some((_, reason)) = REFUSED.iter().find(|(one, _)| *one == name) {
            assert!(said.contains(reason), "{name}: {said}");
            continue;
        }
        assert!(output.status.success(), "{name}: {said}");
        let theirs = parse_p4info(&fs::read_to_string(file(".txtpb")).unwrap()).unwrap();
        assert_eq!(theirs, compiled(&name, &text).image.p4info, "{name}");
    }
}
