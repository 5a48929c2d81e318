//! The fuzz targets on the inputs that are kept, and on seeded mutations of real images.

use bmv2_tests::differential::Draw;
use bmv2_tests::image::{Compiler, Image, example_names};
use serde_json::Value;

/// What the fuzz targets do, on the inputs that are kept.
#[path = "../../../fuzz/src/lib.rs"]
mod fuzz;

#[test]
fn the_fuzz_corpora_pass() {
    type Run = fn(&[u8]);
    let targets: [(&str, Run); 5] = [
        ("policy_parser", fuzz::policy_parser),
        ("p4_front", fuzz::p4_front),
        ("json_loader", fuzz::json_loader),
        ("packet_path", fuzz::packet_path),
        ("peer_messages", fuzz::peer_messages),
    ];
    for (name, run) in targets {
        let folder = format!("{}/../fuzz/corpus/{name}", env!("CARGO_MANIFEST_DIR"));
        let mut inputs = 0;
        for entry in std::fs::read_dir(&folder).unwrap() {
            run(&std::fs::read(entry.unwrap().path()).unwrap());
            inputs += 1;
        }
        assert!(inputs >= 3, "{name} has {inputs} inputs");
    }
}

fn corpus(target: &str, name: &str) -> Vec<u8> {
    let root = env!("CARGO_MANIFEST_DIR");
    std::fs::read(format!("{root}/../fuzz/corpus/{target}/{name}")).unwrap()
}

/// Else the fuzzer would look for its way past entries that are not there.
#[test]
fn the_packets_of_the_corpus_take_the_ways_that_their_names_say() {
    let agent = 510;
    for (name, ports) in [
        ("established", vec![2]),
        ("reply", vec![1]),
        ("new", vec![agent]),
        ("unknown_reply", vec![agent]),
        ("resumed", vec![2]),
        ("denied", vec![]),
    ] {
        assert_eq!(fuzz::goes_to(&corpus("packet_path", name)), ports, "{name}");
    }
}

/// Else the fuzzer would have to find out what a manager believes.
#[test]
fn the_messages_of_the_corpus_are_taken_in() {
    for (name, flows) in [
        ("told", 3),
        ("gone", 3),
        ("refused", 0),
        ("asked", 1),
        ("another_decides", 4),
        ("turned_away", 1),
        ("nonsense", 0),
    ] {
        let data = corpus("peer_messages", name);
        assert_eq!(fuzz::remembers(&data), flows, "{name}");
    }
}

/// What comes of a byte or two that are changed in what a manager is told: it never panics.
#[test]
fn changed_messages_of_another_manager_never_panic() {
    let often = if crate::soaks() { 100 } else { 1 };
    let (mut as_before, mut otherwise) = (0, 0);
    for (number, name) in (0..).zip(["told", "gone", "refused", "asked", "another_decides"]) {
        let whole = corpus("peer_messages", name);
        let flows = fuzz::remembers(&whole);
        for seed in 0..200 * often {
            let mut draw = Draw::new(number * 1_000_000 + seed);
            let mut data = whole.clone();
            for _ in 0..1 + draw.below(2) {
                // The first byte says who hears it.
                let at = 1 + draw.below(data.len() - 1);
                data[at] = match draw.below(3) {
                    0 => draw.pick(&[0, 1, 0x7f, 0x80, 0xff]),
                    _ => data[at] ^ 1 << draw.below(8),
                };
            }
            if fuzz::remembers(&data) == flows {
                as_before += 1;
            } else {
                otherwise += 1;
            }
        }
    }
    assert!(
        as_before > 50 && otherwise > 50,
        "{as_before} as before, {otherwise} otherwise"
    );
}

/// Real images load and run; what is made of them by a change may load or not, but never panics.
#[test]
fn changed_images_never_panic() {
    let often = if crate::soaks() { 8 } else { 1 };
    let small = ["externs", "parsing", "tables", "unions"];
    let mut images: Vec<(String, usize)> = small
        .iter()
        .map(|name| {
            (
                String::from_utf8(corpus("json_loader", name)).unwrap(),
                100 * often,
            )
        })
        .collect();
    for name in example_names() {
        images.push((Image::example(&name, Compiler::Ours).json, 3 * often));
    }
    let (mut loaded, mut refused) = (0, 0);
    for (number, (text, changes)) in (0..).zip(images) {
        assert!(fuzz::loads_and_runs(&text), "image {number} does not load");
        let whole: Value = serde_json::from_str(&text).unwrap();
        let places = count(&whole);
        for seed in 0..changes {
            let mut draw = Draw::new(number * 1000 + seed as u64);
            let mut image = whole.clone();
            for _ in 0..1 + draw.below(3) {
                let at = draw.below(places);
                change(&mut image, &mut at.clone(), &mut draw);
            }
            if fuzz::loads_and_runs(&image.to_string()) {
                loaded += 1;
            } else {
                refused += 1;
            }
        }
    }
    assert!(
        loaded > 50 && refused > 50,
        "{loaded} loaded, {refused} refused"
    );
}

/// The values in a value, itself included.
fn count(value: &Value) -> usize {
    let inner: usize = match value {
        Value::Array(list) => list.iter().map(count).sum(),
        Value::Object(fields) => fields.values().map(count).sum(),
        _ => 0,
    };
    1 + inner
}

/// Changes the value that is `at` places further on; true when it was reached.
fn change(value: &mut Value, at: &mut usize, draw: &mut Draw) -> bool {
    if *at == 0 {
        *value = changed(value, draw);
        return true;
    }
    *at -= 1;
    match value {
        Value::Array(list) => list.iter_mut().any(|one| change(one, at, draw)),
        Value::Object(fields) => fields.values_mut().any(|one| change(one, at, draw)),
        _ => false,
    }
}

/// Another value of the same kind, most of the time.
fn changed(value: &Value, draw: &mut Draw) -> Value {
    let other = [
        Value::Null,
        Value::from(-1),
        Value::from(""),
        Value::Array(Vec::new()),
    ];
    match value {
        Value::Number(_) if !draw.once_in(8) => {
            let numbers = [0, 1, 2, 3, 7, 31, 64, 255, 1 << 31, i64::MAX];
            Value::from(draw.pick(&numbers))
        }
        Value::String(text) if !draw.once_in(8) => {
            let words = [
                "0x00",
                "0xffffffffffffffffff",
                "header",
                "d2b",
                "==",
                "scalars",
                text,
            ];
            Value::from(draw.pick(&words))
        }
        Value::Bool(one) => Value::Bool(!one),
        Value::Array(list) if !list.is_empty() && !draw.once_in(8) => {
            let mut list = list.clone();
            let at = draw.below(list.len());
            match draw.below(3) {
                0 => drop(list.remove(at)),
                1 => list.push(list[at].clone()),
                _ => list.swap(0, at),
            }
            Value::Array(list)
        }
        Value::Object(fields) if !fields.is_empty() && !draw.once_in(8) => {
            let mut fields = fields.clone();
            let key = fields.keys().nth(draw.below(fields.len())).unwrap().clone();
            fields.shift_remove(&key);
            Value::Object(fields)
        }
        _ => draw.pick(&other),
    }
}
