// Tables with entries of every kind of match, and what follows from hits and actions.
#include <core.p4>
#include <v1model.p4>

header data_t { bit<8> a; bit<8> b; bit<16> c; bit<32> d; bit<8> r; }
struct headers_t { data_t data; }
struct metadata_t { bit<8> class; bool special; }
const bit<8> LIMIT = 9;

parser P(packet_in b, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    state start { b.extract(hdr.data); transition accept; }
}
control V(inout headers_t hdr, inout metadata_t meta) { apply { } }
control Classify(in bit<8> x, out bit<8> class)(bit<32> slots) {
    action is(bit<8> v) { class = v; }
    action other() { class = 0xff; }
    table exact_one {
        key = { x : exact @name("x"); }
        actions = { is; other; }
        size = slots;
        default_action = other();
        const entries = { 1 : is(10); 2 : is(20); LIMIT : is(90); }
    }
    apply { exact_one.apply(); }
}
control I(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    Classify(16) low;
    Classify(32) high;
    action set(bit<8> v) { hdr.data.r = v; }
    action add(bit<8> v) { hdr.data.r = hdr.data.r + v; }
    action stop() { hdr.data.r = 0xee; exit; }
    table prefix {
        key = { hdr.data.d : lpm; }
        actions = { set; NoAction; }
        const entries = {
            0x0a000000 &&& 0xff000000 : set(1);
            0x0a010000 &&& 0xffff0000 : set(2);
            0x0a010203 : set(3);
            default : set(4);
        }
    }
    table pattern {
        key = { hdr.data.a : ternary; hdr.data.b : range; hdr.data.c : optional; meta.special : exact; }
        actions = { add; stop; @defaultonly NoAction; }
        const entries = {
            (0x10 &&& 0xf0, 0 .. 9, _, false) : add(16);
            (0x10 &&& 0xf0, _, 7, false) : add(32);
            (_, 20 .. 30, 8, true) : stop();
            (_, _, _, true) : add(1);
        }
    }
    table ranked {
        key = { hdr.data.a : ternary; }
        actions = { add; NoAction; }
        largest_priority_wins = false;
        entries = {
            const priority = 10: _ : add(64);
            priority = 5: 0x01 &&& 0x01 : add(128);
        }
    }
    @hidden table secret { key = { hdr.data.a : exact; } actions = { add; NoAction; } const entries = { 200 : add(3); } }
    @name(".top.level") table renamed { actions = { @name("x") add; NoAction; } default_action = add(2); }
    apply {
        std.egress_spec = 1;
        meta.special = hdr.data.c[8:8] == 1;
        low.apply(hdr.data.a, meta.class);
        high.apply(hdr.data.b, hdr.data.r);
        if (!prefix.apply().hit) { hdr.data.r = 0; }
        if (pattern.apply().miss && meta.class != 0xff) { hdr.data.r = hdr.data.r + meta.class; }
        switch (ranked.apply().action_run) { add: { hdr.data.c = hdr.data.c + 1; } NoAction: { hdr.data.c = 0; } }
        secret.apply();
        if (hdr.data.a > 100) { renamed.apply(); } else { hdr.data.b = hdr.data.b ^ 0xff; }
    }
}
control E(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) { apply { } }
control C(inout headers_t hdr, inout metadata_t meta) { apply { } }
control D(packet_out b, in headers_t hdr) { apply { b.emit(hdr); } }
V1Switch(P(), V(), I(), E(), C(), D()) main;
