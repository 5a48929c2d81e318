//! Scratch.
fn main() {
    let path = std::env::args().nth(1).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let checked = signalbox_policy::check(&text, &path);
    print!(
        "{}",
        signalbox_policy::render::render(
            &checked.diagnostics,
            &text,
            &path,
            signalbox_policy::render::Format::Human { colour: false }
        )
    );
    if std::env::args().nth(2).is_some() {
        println!("{:#?}", checked.policy);
    }
    if let Some(p) = &checked.policy {
        for r in signalbox_policy::testing::run(p) {
            println!("{} {:?}", r.name, r.failures);
        }
    }
    let f = signalbox_policy::fmt(&text);
    if f != text {
        print!("--- fmt\n{f}");
    }
    assert_eq!(signalbox_policy::fmt(&f), f);
}
