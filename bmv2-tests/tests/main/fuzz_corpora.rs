//! The fuzz targets on the inputs that are kept, and on seeded mutations of real images.

/// What the fuzz targets do, on the inputs that are kept.
#[path = "../../../fuzz/src/lib.rs"]
mod fuzz;

#[test]
fn the_fuzz_corpora_pass() {
    type Run = fn(&[u8]);
    let targets: [(&str, Run); 4] = [
        ("policy_parser", fuzz::policy_parser),
        ("p4_front", fuzz::p4_front),
        ("json_loader", fuzz::json_loader),
        ("packet_path", fuzz::packet_path),
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
