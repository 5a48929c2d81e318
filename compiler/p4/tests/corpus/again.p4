// One control and one parser applied in two places with different arguments.
#include <core.p4>
#include <v1model.p4>

header pair_t { bit<8> a; bit<8> b; }
header sum_t { bit<8> x; bit<8> y; bit<32> seen; }
struct headers_t { pair_t first; pair_t second; sum_t sum; }
struct metadata_t { bit<8> depth; }

parser Pair(packet_in b, out pair_t pair, inout bit<8> depth) {
    bit<8> step;
    state start {
        b.extract(pair);
        step = pair.a;
        transition select(step) { 0: accept; default: deeper; }
    }
    state deeper { depth = depth + step; transition accept; }
}
parser P(packet_in b, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    Pair() pair;
    state start { pair.apply(b, hdr.first, meta.depth); transition next; }
    state next { pair.apply(b, hdr.second, meta.depth); transition accept; }
}
control V(inout headers_t hdr, inout metadata_t meta) { apply { } }
control Sum(in pair_t pair, inout bit<8> to, inout bit<32> seen) {
    register<bit<32>>(1) calls;
    bit<8> local = 1;
    action bump(bit<8> by) { local = local + by; to = to + local; }
    apply {
        if (!pair.isValid()) { return; }
        bump(pair.a);
        bump(pair.b);
        calls.read(seen, 0);
        seen = seen + 1;
        calls.write(0, seen);
    }
}
control I(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    Sum() sum;
    apply {
        std.egress_spec = 1;
        hdr.sum.setValid();
        hdr.sum = { meta.depth, 0, 0 };
        sum.apply(hdr.first, hdr.sum.x, hdr.sum.seen);
        sum.apply(hdr.second, hdr.sum.y, hdr.sum.seen);
        hdr.sum.seen = 0;
    }
}
control E(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) { apply { } }
control C(inout headers_t hdr, inout metadata_t meta) { apply { } }
control D(packet_out b, in headers_t hdr) { apply { b.emit(hdr); } }
V1Switch(P(), V(), I(), E(), C(), D()) main;
