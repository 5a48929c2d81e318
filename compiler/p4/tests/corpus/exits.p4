// `exit` in the middle of calls: what they changed so far is copied out before the packet leaves.
#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> a; bit<8> b; bit<8> c; }
struct headers_t { h_t h; }
struct metadata_t { }

control Inner(inout bit<8> x, in bit<8> y) {
    action leave(inout bit<8> z) { z = 3; exit; }
    action quit() { x = x + 1; exit; }
    table t {
        key = { y: exact; }
        actions = { quit; NoAction; }
        const entries = { 2: quit(); }
    }
    apply {
        x = 9;
        t.apply();
        if (y == 1) { leave(x); }
        x = 7;
    }
}
parser P(packet_in b, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    state start { b.extract(hdr.h); transition accept; }
}
control V(inout headers_t hdr, inout metadata_t meta) { apply { } }
control I(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    Inner() inner;
    apply {
        std.egress_spec = 1;
        inner.apply(hdr.h.a, hdr.h.a);
        hdr.h.c = 5;
    }
}
control E(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) { apply { } }
control C(inout headers_t hdr, inout metadata_t meta) { apply { } }
control D(packet_out b, in headers_t hdr) { apply { b.emit(hdr); } }
V1Switch(P(), V(), I(), E(), C(), D()) main;
