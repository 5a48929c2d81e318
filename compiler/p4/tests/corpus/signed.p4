// Signed numbers where plain bits come in: casts, data of entries, registers, and what lies ahead.
#include <core.p4>
#include <v1model.p4>

header h_t { int<8> a; int<8> b; bit<8> c; bit<64> far; }
header answer_t { bit<8> negative; int<8> read; }
struct headers_t { h_t h; answer_t answer; }
struct metadata_t { int<8> ahead; }

parser P(packet_in b, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    state start {
        meta.ahead = b.lookahead<int<8>>();
        b.extract(hdr.h);
        transition accept;
    }
}
control V(inout headers_t hdr, inout metadata_t meta) { apply { } }
control I(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    register<int<8>>(4) last;
    action set(int<8> v) {
        hdr.h.b = v;
        if (v < 0) { hdr.answer.negative = 1; }
    }
    table t {
        key = { hdr.h.c: exact; }
        actions = { set; NoAction; }
        const entries = { 1: set(-4); 2: set(4); }
    }
    apply {
        std.egress_spec = 1;
        hdr.answer.setValid();
        hdr.answer.negative = 0;
        // 0x80 and above must become negative in the field, not only in what is sent.
        hdr.h.a = (int<8>) hdr.h.c;
        hdr.h.a = hdr.h.a + meta.ahead;
        t.apply();
        last.read(hdr.answer.read, 0);
        last.write(0, hdr.h.a);
        // Whatever the amount, no more than the whole number is shifted out.
        hdr.h.a = hdr.h.a >> hdr.h.far;
    }
}
control E(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) { apply { } }
control C(inout headers_t hdr, inout metadata_t meta) { apply { } }
control D(packet_out b, in headers_t hdr) { apply { b.emit(hdr); } }
V1Switch(P(), V(), I(), E(), C(), D()) main;
