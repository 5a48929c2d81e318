//! What a test needs of the machine, and what happens where it is missing.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The needs whose lack is never a failure: these two are on no package registry.
const MAY_BE_MISSING: [&str; 2] = ["simple_switch_grpc", "p4c-bm2-ss"];

/// True when the machine has all that `test` needs: `root` (with network namespaces), or programs on
/// PATH. Otherwise the skip is printed and noted, or, with `SIGNALBOX_NO_SKIP=1`, a failure.
pub fn has(test: &str, needs: &[&str]) -> bool {
    let Some(missing) = needs.iter().find(|need| !is_here(need)) else {
        return true;
    };
    let line = format!("SKIPPED {test}: needs {missing}");
    let strict = std::env::var("SIGNALBOX_NO_SKIP").is_ok_and(|value| value == "1");
    assert!(!strict || MAY_BE_MISSING.contains(missing), "{line}");
    note_skip(&line);
    false
}

/// Prints what was skipped, past the test harness's capture, and adds it to the list that `ci/test`
/// prints at its end.
pub fn note_skip(line: &str) {
    // Not `eprintln`, which the harness keeps to itself when the test passes.
    let _ = writeln!(std::io::stderr(), "{line}");
    if let Some(path) = std::env::var_os("SIGNALBOX_SKIPS") {
        let mut skips = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .unwrap();
        writeln!(skips, "{line}").unwrap();
    }
}

fn is_here(need: &str) -> bool {
    match need {
        "root" => makes_namespaces(),
        program => find(program).is_some(),
    }
}

/// Where a program is on PATH.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    // Debian keeps ip, ethtool and the like where an ordinary user's PATH does not lead.
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// Whether network namespaces can be made; asked once.
fn makes_namespaces() -> bool {
    static CAN: OnceLock<bool> = OnceLock::new();
    *CAN.get_or_init(|| {
        let ip = |action: &str| {
            Command::new("ip")
                .args(["netns", action, &format!("sb{}-probe", std::process::id())])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
        };
        ip("add") && ip("del")
    })
}
