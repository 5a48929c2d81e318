//! What the documentation and the examples say is so.

use std::path::Path;

use signalbox_policy::{check, fmt, testing};

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    std::fs::read_to_string(root.join(path)).unwrap()
}

#[test]
fn every_example_is_sound_formatted_and_passes_its_own_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut seen = 0;
    for entry in std::fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "policy") {
            continue;
        }
        seen += 1;
        let text = std::fs::read_to_string(&path).unwrap();
        let checked = check(&text, &path.display().to_string());
        assert!(
            checked.diagnostics.is_empty(),
            "{}: {:#?}",
            path.display(),
            checked.diagnostics
        );
        assert_eq!(fmt(&text), text, "{} is not formatted", path.display());
        let results = testing::run(&checked.policy.unwrap());
        assert!(!results.is_empty(), "{} has no tests", path.display());
        for result in results {
            assert!(
                result.passed(),
                "{}: {}: {:?}",
                path.display(),
                result.name,
                result.failures
            );
        }
    }
    assert!(seen >= 3);
}

/// The fenced blocks of the reference, each with what stands after the backquotes. A `policy` is whole;
/// a `policy in=NAME` takes the place of `# …` in the `policy frame=NAME`.
fn blocks(text: &str) -> Vec<(String, String)> {
    let mut out = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(kind) = line.strip_prefix("```").filter(|k| !k.is_empty()) {
            let body: Vec<&str> = lines.by_ref().take_while(|l| *l != "```").collect();
            out.push((kind.to_owned(), body.join("\n") + "\n"));
        }
    }
    out
}

#[test]
fn every_example_of_the_reference_is_a_sound_policy() {
    let text = read("docs/policy.md");
    let blocks = blocks(&text);
    let frames: Vec<(&str, &str)> = blocks
        .iter()
        .filter_map(|(kind, body)| Some((kind.strip_prefix("policy frame=")?, body.as_str())))
        .collect();
    let mut seen = 0;
    for (kind, body) in &blocks {
        let whole = match kind.strip_prefix("policy in=") {
            Some(name) => {
                let (_, frame) = frames.iter().find(|(n, _)| *n == name).unwrap();
                frame.replace("# …\n", body)
            }
            None if kind == "policy" => body.clone(),
            None => continue,
        };
        seen += 1;
        let checked = check(&whole, "policy.md");
        let errors: Vec<_> = checked
            .diagnostics
            .iter()
            .map(|d| (&d.message, &whole[d.span.start..d.span.end]))
            .collect();
        assert!(errors.is_empty(), "{errors:#?} in\n{whole}");
        assert_eq!(fmt(body), *body, "an example is not formatted");
        for result in testing::run(&checked.policy.unwrap()) {
            assert!(result.passed(), "{}: {:?}", result.name, result.failures);
        }
    }
    assert!(seen >= 10, "only {seen} examples were found");
}

#[test]
fn the_reference_tells_of_every_field() {
    let text = read("docs/policy.md");
    for (name, _) in signalbox_policy::tree::FIELDS {
        assert!(
            text.contains(&format!("`{name}`")),
            "`{name}` is not in docs/policy.md"
        );
    }
}
