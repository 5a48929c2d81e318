// What controllers call things: keys without `@name`, objects made in their tables, generic structs,
// and annotations word for word.
#include <core.p4>
#include <v1model.p4>

const bit<8> high = 0xf0;
const int top = 15;
const string prefix = "edge";
@p4runtime_translation("example.org/port", 32)
type bit<9> port_t;
struct pair_t<A, B> { A first; B second; }
header h_t { @name("kind") bit<8> a; @name(".flags") bit<8> b; bit<8> c; bit<8> d; bit<32> w; }
struct headers_t { h_t h; h_t[2] more; }
struct metadata_t { bit<8> x; }

parser P(packet_in p, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    state start { p.extract(hdr.h); transition accept; }
}
control V(inout headers_t hdr, inout metadata_t meta) { apply { } }

// Applied where it stands, without an instance: one for each place, however often that is reached.
control Count(inout headers_t hdr) {
    @id(7) counter(4, CounterType.packets) seen;
    apply { seen.count(1); }
}
control Twice(inout headers_t hdr) { apply { Count.apply(hdr); } }

control I(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    @name(prefix ++ "_send")
    @raw(0xFF, 1_000, 8w3, "tab\tand \"quotes\"\n") @list[] @pair[a = "x", b = 0x10]
    action send(port_t port) { std.egress_spec = (bit<9>)port; }
    table keys {
        key = {
            hdr.h.a: exact;
            hdr.h.b: exact;
            hdr.h.c & high: ternary;
            hdr.h.c & 0b11: ternary;
            hdr.h.d & ~high: ternary;
            hdr.h.w[top:8]: exact;
            hdr.more[top - 14].c: exact;
        }
        actions = { send; NoAction; }
        default_action = send((port_t)9w3);
    }
    table chosen {
        key = { hdr.h.c: exact; hdr.h.w: selector; }
        actions = { send; NoAction; }
        @name("by_weight") implementation = action_selector(HashAlgorithm.crc16, 64, 14);
    }
    table counted {
        key = { hdr.h.d: exact; }
        actions = { NoAction; }
        @name("hits") counters = direct_counter(CounterType.packets_and_bytes);
    }
    table never { key = { hdr.h.d: exact; } actions = { NoAction; } }
    Twice() twice;
    apply {
        digest<pair_t<bit<8>, port_t>>(1, { hdr.h.a, (port_t)std.ingress_port });
        digest<pair_t<bit<8>, bool>>(1, { hdr.h.a, hdr.h.isValid() });
        digest(1, { hdr.h.a, hdr.h.w });
        twice.apply(hdr);
        twice.apply(hdr);
        keys.apply();
        chosen.apply();
        counted.apply();
        if (high == 0xf0) {
            return;
        }
        never.apply();
    }
}

control E(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) { apply { } }
control C(inout headers_t hdr, inout metadata_t meta) { apply { } }
control D(packet_out p, in headers_t hdr) { apply { p.emit(hdr); } }

@pkginfo[name = "names", version = "1"]
V1Switch(P(), V(), I(), E(), C(), D()) main;
