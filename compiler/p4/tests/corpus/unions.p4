// Header unions, fields of variable width in copies, headers as variables.
#include <core.p4>
#include <v1model.p4>

header kind_t { bit<8> k; }
header small_t { bit<8> a; }
header big_t { bit<16> a; bit<16> b; }
header note_t { bit<8> which; bit<8> sum; }
header_union either_t { small_t small; big_t big; }
struct headers_t { kind_t kind; either_t either; note_t note; }
struct metadata_t { bit<8> x; small_t keep; }

parser P(packet_in b, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    state start {
        b.extract(hdr.kind);
        transition select(hdr.kind.k) { 0 .. 3: small; 4 .. 7: big; _: accept; }
    }
    state small { b.extract(hdr.either.small); transition accept; }
    state big { b.extract(hdr.either.big); transition accept; }
}
control V(inout headers_t hdr, inout metadata_t meta) { apply { } }
control I(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    apply {
        std.egress_spec = 1;
        note_t n;
        n.setValid();
        n.which = 0;
        n.sum = 0;
        if (hdr.either.isValid()) { n.which = n.which | 1; }
        if (hdr.either.small.isValid()) { n.which = n.which | 2; n.sum = hdr.either.small.a; meta.keep = hdr.either.small; }
        if (hdr.either.big.isValid()) { n.which = n.which | 4; n.sum = hdr.either.big.a[7:0]; }
        if (hdr.kind.k == 2) { hdr.either.big.setValid(); hdr.either.big = { 1, 2 }; }
        if (hdr.kind.k == 5) { hdr.either.big.setInvalid(); }
        if (hdr.kind.k == 6) { hdr.either.small.setValid(); hdr.either.small.a = 9; }
        if (meta.keep.isValid()) { n.which = n.which | 8; }
        hdr.note = n;
    }
}
control E(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) { apply { } }
control C(inout headers_t hdr, inout metadata_t meta) { apply { } }
control D(packet_out b, in headers_t hdr) { apply { b.emit(hdr.kind); b.emit(hdr.note); b.emit(hdr.either); } }
V1Switch(P(), V(), I(), E(), C(), D()) main;
