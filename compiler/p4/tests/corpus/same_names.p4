// Different things of one name: header types by `@name` and by generics, a user's state `no_match`;
// lists of fields by constant and by enum; and a meter that two actions read.
#include <core.p4>
#include <v1model.p4>

const bit<8> AGAIN = 3;
enum bit<8> List { resubmit = 4 }

@name("n") header one_t { bit<8> x; }
@name("n") header two_t { bit<16> x; }
header generic_t<T> { T x; }
header standard_metadata { bit<8> x; }
struct headers_t { one_t one; two_t two; generic_t<bit<8>> short; generic_t<bit<16>> long; standard_metadata std; }
struct metadata_t {
    @field_list(AGAIN) bit<8> kept;
    @field_list(List.resubmit, 9) bit<8> other;
    bit<2> colour;
}

parser P(packet_in b, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    state start {
        b.extract(hdr.one);
        b.extract(hdr.two);
        b.extract(hdr.short);
        b.extract(hdr.long);
        transition select(hdr.one.x) { 1: no_match; 2: accept; }
    }
    state no_match { b.extract(hdr.std); transition accept; }
}
control V(inout headers_t hdr, inout metadata_t meta) { apply { } }
control I(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    direct_meter<bit<2>>(MeterType.bytes) colours;
    action first() { colours.read(meta.colour); hdr.one.x = (bit<8>) meta.colour; }
    action second() { colours.read(meta.colour); hdr.short.x = (bit<8>) meta.colour; }
    table t {
        key = { hdr.two.x: exact; }
        actions = { first; second; }
        default_action = first();
        meters = colours;
    }
    apply {
        std.egress_spec = 1;
        t.apply();
        if (hdr.long.x == 1) { resubmit_preserving_field_list(AGAIN); }
        if (hdr.long.x == 2) { resubmit_preserving_field_list(List.resubmit); }
    }
}
control E(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) { apply { } }
control C(inout headers_t hdr, inout metadata_t meta) { apply { } }
control D(packet_out b, in headers_t hdr) { apply { b.emit(hdr); } }
V1Switch(P(), V(), I(), E(), C(), D()) main;
