//! The programs of policies with all kinds of services: checked in, so that a change is a readable diff
//! (`UPDATE_GOLDEN=1 cargo test -p signalbox-lower` writes them anew); and the same to p4c, where
//! `p4c-bm2-ss` is on PATH.

use std::path::{Path, PathBuf};
use std::process::Command;

use signalbox_lower::{Lowered, lower};
use signalbox_p4runtime::text::parse_p4info;
use signalbox_policy::model::Policy;

use crate::kinds::{dispatching, dispatching6, everything, everything6};
use crate::rig::{Rig, checked, compiled};
use crate::{DUAL, WEB};

fn policies() -> [Policy; 4] {
    [everything(), everything6(), dispatching(), dispatching6()]
}

#[test]
fn programs_of_all_kinds_are_the_checked_in_ones() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for policy in policies() {
        let path = folder.join(format!("{}.p4", policy.name));
        let text = lower(&policy).unwrap().p4;
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&path, &text).unwrap();
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            text == expected,
            "{} differs; UPDATE_GOLDEN=1 writes it anew. It would be:\n{text}",
            path.display()
        );
    }
}

#[test]
fn programs_of_all_kinds_take_every_entry_of_their_plans() {
    for policy in policies() {
        Rig::load(&policy).started();
    }
}

fn on_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join("p4c-bm2-ss"))
        .find(|file| file.is_file())
}

#[test]
fn p4c_takes_the_same_programs_without_a_word_and_shows_controllers_the_same() {
    let Some(p4c) = on_path() else {
        println!("skipped: p4c-bm2-ss is not on PATH");
        return;
    };
    let more = [checked(WEB), checked(DUAL)].map(|p| lower(&p).unwrap());
    for lowered in policies().map(|p| lower(&p).unwrap()).iter().chain(&more) {
        let folder = tempfile::tempdir().unwrap();
        let main = write(folder.path(), lowered);
        let (json, p4info) = (
            folder.path().join("main.json"),
            folder.path().join("main.txtpb"),
        );
        let mut command = Command::new(&p4c);
        command.args(["--std", "p4-16", "--arch", "v1model", "-o"]);
        command.arg(&json).arg("--p4runtime-files").arg(&p4info);
        let output = command.arg(&main).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let name = &lowered.plan.policy;
        assert!(output.status.success() && said.is_empty(), "{name}: {said}");
        let theirs = parse_p4info(&std::fs::read_to_string(&p4info).unwrap()).unwrap();
        assert_eq!(theirs, compiled(lowered).p4info, "{name}");
    }
}

fn write(folder: &Path, lowered: &Lowered) -> PathBuf {
    for (name, text) in &lowered.sources {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let main = folder.join("main.p4");
    std::fs::write(&main, &lowered.p4).unwrap();
    main
}
