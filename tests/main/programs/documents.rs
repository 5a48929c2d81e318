//! The commands of docs/examples.md, as a reader would type them, and what stands under them.

use std::process::Command;
use std::time::Duration;

use super::wired::ip;
use crate::SIGNALBOX;
use crate::lab::Lab;
use crate::needs::{has, note_skip};
use crate::process::{Folder, run};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The fenced blocks below the heading that begins so (or, without one, of the whole page): what stands after
/// the backquotes, and the block.
fn blocks(page: &str, heading: &str) -> Vec<(String, String)> {
    let mut lines = page.lines().skip_while(|line| !line.starts_with(heading));
    let mut out = Vec::new();
    lines.next();
    while let Some(line) = lines.next() {
        if line.starts_with("## ") {
            break;
        }
        if let Some(kind) = line.strip_prefix("```") {
            let body: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            out.push((kind.to_owned(), body.join("\n") + "\n"));
        }
    }
    out
}

/// Whether a line has these parts in their order; `…` stands between them.
fn has_parts(line: &str, parts: &str) -> bool {
    let mut rest = Some(line);
    for part in parts.split('…') {
        rest = rest.and_then(|rest| Some(rest.split_once(part.trim())?.1));
    }
    rest.is_some()
}

fn can_unpack_gue() -> bool {
    let lab = Lab::new();
    ip(&lab.space("probe"), "fou add port 6080 gue")
}

/// Runs the commands below this heading in a network of their own, and looks for what they should print.
fn shows_what_the_page_says(test: &str, heading: &str, tools: &[&str]) {
    let mut needs = vec![
        "root", "ip", "unshare", "mount", "sysctl", "curl", "python3",
    ];
    needs.extend(tools);
    if !has(test, &needs) {
        return;
    }
    let page = std::fs::read_to_string(format!("{ROOT}/docs/examples.md")).unwrap();
    let setup = &blocks(&page, "# ")[..];
    let setup = setup.iter().find(|(kind, _)| kind == "sh setup").unwrap();
    let below = blocks(&page, &format!("## {heading}:"));
    let (kind, commands) = below
        .iter()
        .find(|(kind, _)| kind.starts_with("sh"))
        .unwrap();
    if kind.ends_with("needs=fou") && !can_unpack_gue() {
        return note_skip(&format!("SKIPPED {test}: this kernel has no fou"));
    }
    let folder = Folder::new();
    let examples = format!("{ROOT}/examples");
    std::os::unix::fs::symlink(examples, folder.file("examples")).unwrap();
    let script = format!(
        "mkdir -p /run/netns; mount -t tmpfs tmpfs /run/netns
        sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
        signalbox() {{ {SIGNALBOX} \"$@\"; }}
        {}{commands}",
        setup.1
    );
    // All processes end with the shell, and all of the network with them.
    let mut command = Command::new("unshare");
    command
        .args([
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ])
        .args([
            "timeout",
            "60",
            "bash",
            "-c",
            &format!("{{ {script}\n}} 2>&1"),
        ])
        .env("XDG_RUNTIME_DIR", folder.file(""))
        .env("PYTHONUNBUFFERED", "1")
        .current_dir(folder.file(""));
    let output = run(&mut command, Duration::from_secs(90));
    let printed = String::from_utf8_lossy(&output.stdout);
    let (_, promised) = below.iter().find(|(kind, _)| kind == "text").unwrap();
    for promise in promised.lines() {
        let kept = printed.lines().any(|line| has_parts(line, promise));
        assert!(kept, "no line with `{promise}` in\n{printed}");
    }
}

macro_rules! pages {
    ($($test:ident: $heading:literal $(, $tool:literal)*;)*) => {$(
        #[test]
        fn $test() {
            shows_what_the_page_says(stringify!($test), $heading, &[$($tool),*]);
        }
    )*};
}

pages! {
    the_office_example_shows_what_its_page_says: "office", "ping";
    the_web_example_shows_what_its_page_says: "web", "ping";
    the_dispatch_example_shows_what_its_page_says: "dispatch";
    the_nat_example_shows_what_its_page_says: "nat", "ping";
    the_gate_example_shows_what_its_page_says: "gate", "openssl";
    the_observe_example_shows_what_its_page_says: "observe";
    the_divided_example_shows_what_its_page_says: "divided";
    the_cascade_example_shows_what_its_page_says: "cascade", "dig", "dnsmasq";
}

#[test]
fn every_example_has_a_place_on_the_page() {
    let page = std::fs::read_to_string(format!("{ROOT}/docs/examples.md")).unwrap();
    for entry in std::fs::read_dir(format!("{ROOT}/examples")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".policy") {
            assert!(page.contains(&format!("examples/{name}")), "{name}");
        }
    }
}
