//! What the compiler makes of whole programs: images of the corpus, what single constructs mean,
//! what it says of wrong programs, and that damaged ones never make it panic.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test fails by panicking"
)]

mod corpus;
mod damaged;
mod diagnostics;
mod meaning;
mod outline;
mod p4c;

use signalbox_p4::source::MapSources;
use signalbox_p4::{Compiled, Failed, Options, compile};

/// Compiles one text.
fn compile_text(text: &str) -> Result<Compiled, Failed> {
    compile(
        &MapSources::new().with("test.p4", text),
        "test.p4",
        &Options::default(),
    )
}

/// A program whose ingress is `ingress`: a header `h` of eight fields `a` to `h` of 8 bits and one
/// `w` of 32, and metadata `m` with `x` of 8 bits, `y` of 16 and the truth value `t`.
fn program(locals: &str, ingress: &str) -> String {
    format!(
        r#"#include <core.p4>
#include <v1model.p4>
header h_t {{ bit<8> a; bit<8> b; bit<8> c; bit<8> d; bit<8> e; bit<8> f; bit<8> g; bit<8> h; bit<32> w; }}
struct headers_t {{ h_t h; h_t k; }}
struct meta_t {{ bit<8> x; bit<16> y; bool t; }}
parser P(packet_in p, out headers_t hdr, inout meta_t m, inout standard_metadata_t s) {{
    state start {{ p.extract(hdr.h); transition accept; }}
}}
control V(inout headers_t hdr, inout meta_t m) {{ apply {{ }} }}
control I(inout headers_t hdr, inout meta_t m, inout standard_metadata_t s) {{
{locals}
    apply {{
{ingress}
    }}
}}
control E(inout headers_t hdr, inout meta_t m, inout standard_metadata_t s) {{ apply {{ }} }}
control C(inout headers_t hdr, inout meta_t m) {{ apply {{ }} }}
control D(packet_out p, in headers_t hdr) {{ apply {{ p.emit(hdr); }} }}
V1Switch(P(), V(), I(), E(), C(), D()) main;
"#
    )
}

/// The image of a program, as text a person can read.
fn outline_of(text: &str) -> String {
    match compile_text(text) {
        Ok(compiled) => {
            let json = serde_json::from_str(&compiled.image.json).expect("the image is JSON");
            outline::outline(&json)
        }
        Err(failed) => panic!("{}", failed.diagnostics.render(&failed.sources, false)),
    }
}
