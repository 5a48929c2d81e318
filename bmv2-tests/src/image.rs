//! A policy as an image: lowered to P4, and compiled by our compiler or by p4c.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use signalbox_lower::Lowered;
use signalbox_lower::plan::Plan;
use signalbox_p4::Options;
use signalbox_p4::source::MapSources;
use signalbox_p4runtime::proto::p4::config::v1::P4Info;
use signalbox_p4runtime::text;
use signalbox_policy::model::Policy;

use crate::process::{Folder, run};

/// Who compiles the P4 program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compiler {
    /// Ours.
    Ours,
    /// `p4c-bm2-ss`.
    P4c,
}

/// A policy and what a target needs to run it.
#[derive(Debug, Clone)]
pub struct Image {
    /// The checked policy.
    pub policy: Policy,
    /// What it needs installed.
    pub plan: Plan,
    /// The P4 program's interface.
    pub p4info: P4Info,
    /// The bmv2 JSON.
    pub json: String,
    /// What the compiler had to say, empty if all is well.
    pub warnings: String,
}

impl Image {
    /// The policy of this text.
    pub fn of(name: &str, text: &str, compiler: Compiler) -> Image {
        let checked = signalbox_policy::check(text, name);
        let policy = checked
            .policy
            .unwrap_or_else(|| panic!("{name}: {:?}", checked.diagnostics));
        let lowered = signalbox_lower::lower(&policy).unwrap();
        let (p4info, json, warnings) = match compiler {
            Compiler::Ours => ours(&lowered),
            Compiler::P4c => p4c(&lowered),
        };
        Image {
            policy,
            plan: lowered.plan,
            p4info,
            json,
            warnings,
        }
    }

    /// A policy of the folder `examples`, by its file's stem.
    pub fn example(name: &str, compiler: Compiler) -> Image {
        let path = examples().join(format!("{name}.policy"));
        let text = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Image::of(&format!("{name}.policy"), &text, compiler)
    }
}

fn examples() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples"))
}

/// The stems of all example policies, in alphabetical order.
pub fn example_names() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(examples())
        .unwrap()
        .filter_map(|entry| {
            let path = entry.unwrap().path();
            let is_policy = path.extension().is_some_and(|ending| ending == "policy");
            is_policy.then(|| path.file_stem().unwrap().to_str().unwrap().to_owned())
        })
        .collect();
    names.sort();
    assert!(!names.is_empty(), "no examples");
    names
}

fn ours(lowered: &Lowered) -> (P4Info, String, String) {
    let mut sources = MapSources::new().with("main.p4", lowered.p4.as_str());
    for (name, text) in &lowered.sources {
        sources.insert(name.as_str(), text.as_str());
    }
    match signalbox_p4::compile(&sources, "main.p4", &Options::default()) {
        Ok(compiled) => {
            let image = compiled.image;
            (
                image.p4info,
                image.json,
                compiled.diagnostics.render_short(&compiled.sources),
            )
        }
        Err(failed) => panic!("{}", failed.diagnostics.render_short(&failed.sources)),
    }
}

fn p4c(lowered: &Lowered) -> (P4Info, String, String) {
    let folder = Folder::new();
    let main = folder.write("main.p4", &lowered.p4);
    for (name, text) in &lowered.sources {
        folder.write(name, text);
    }
    let (json, p4info) = (folder.file("main.json"), folder.file("main.p4info.txtpb"));
    let mut command = Command::new("p4c-bm2-ss");
    command
        .args(["--std", "p4-16", "--arch", "v1model", "-o"])
        .arg(&json)
        .arg("--p4runtime-files")
        .arg(&p4info)
        .arg(&main);
    let output = run(&mut command, Duration::from_secs(60));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "p4c-bm2-ss: {said}");
    let p4info = std::fs::read_to_string(p4info).unwrap();
    (
        text::parse_p4info(&p4info).unwrap(),
        std::fs::read_to_string(json).unwrap(),
        said,
    )
}
