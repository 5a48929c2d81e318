use std::sync::Arc;
struct Disk;
impl signalbox_p4::source::Sources for Disk {
    fn read(&self, path: &str) -> Option<Arc<str>> {
        std::fs::read_to_string(path).ok().map(Into::into)
    }
}
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let mut options = signalbox_p4::Options::default();
    options.preprocess.include_paths = args[3..].to_vec();
    let start = std::time::Instant::now();
    match signalbox_p4::compile(&Disk, &args[1], &options) {
        Ok(c) => {
            eprint!("{}", c.diagnostics.render(&c.sources, false));
            eprintln!("{:?}", start.elapsed());
            std::fs::write(format!("{}.json", args[2]), &c.image.json).unwrap();
            std::fs::write(
                format!("{}.txtpb", args[2]),
                signalbox_p4runtime::text::print_p4info(&c.image.p4info),
            )
            .unwrap();
        }
        Err(f) => {
            eprint!("{}", f.diagnostics.render(&f.sources, false));
            std::process::exit(1)
        }
    }
}
