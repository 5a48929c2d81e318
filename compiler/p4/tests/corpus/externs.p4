// What v1model offers besides tables: state, hashes, copies of packets, messages.
#include <core.p4>
#include <v1model.p4>

header data_t { bit<8> a; bit<8> b; bit<16> c; bit<32> d; }
header sums_t { bit<16> csum; bit<32> crc32; bit<16> crc16; bit<16> xor16; bit<16> ident; bit<32> reg; bit<8> color; bit<16> based; }
struct headers_t { data_t data; sums_t sums; }
struct inner_t { bit<8> x; @field_list(2) bit<16> y; }
struct metadata_t { @field_list(1) bit<8> mark; @field_list(1, 2) bit<16> seq; @field_list(1) inner_t inner; bit<2> color; bit<32> r; }
struct seen_t { bit<8> a; bit<16> c; bool big; }

parser P(packet_in b, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    state start { b.extract(hdr.data); transition accept; }
}
control V(inout headers_t hdr, inout metadata_t meta) { apply { } }
control I(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    counter(256, CounterType.packets) packets;
    counter(256, CounterType.bytes) bytes;
    meter(256, MeterType.packets) colors;
    direct_counter(CounterType.packets_and_bytes) hits;
    direct_meter<bit<2>>(MeterType.bytes) speed;
    register<bit<32>>(16) cells;
    register<int<8>>(4) signed_cells;
    action_profile(32) members;
    @max_group_size(8) action_selector(HashAlgorithm.crc16, 64, 16) group;
    action mark(bit<8> m) { meta.mark = m; hits.count(); speed.read(meta.color); }
    action go(bit<9> port) { std.egress_spec = port; }
    table marks {
        key = { hdr.data.a : ternary; hdr.data.b : range; hdr.data.c : optional; }
        actions = { mark; NoAction; }
        counters = hits;
        meters = speed;
        size = 64;
        support_timeout = true;
        default_action = NoAction();
    }
    table profile { key = { hdr.data.a : exact; } actions = { go; NoAction; } implementation = members; }
    table selected { key = { hdr.data.a : lpm; hdr.data.b : selector; hdr.data.c : selector; } actions = { go; NoAction; } implementation = group; }
    apply {
        std.egress_spec = 1;
        hdr.sums.setValid();
        packets.count((bit<32>)hdr.data.a);
        bytes.count((bit<32>)(hdr.data.a + hdr.data.b));
        colors.execute_meter((bit<32>)hdr.data.a, meta.color);
        hdr.sums.color = (bit<8>)meta.color;
        cells.read(meta.r, (bit<32>)hdr.data.a & 0xf);
        meta.r = meta.r + 1;
        cells.write((bit<32>)(hdr.data.a & 0xf), meta.r);
        hdr.sums.reg = meta.r;
        hash(hdr.sums.csum, HashAlgorithm.csum16, 16w0, { ~hdr.data.c, hdr.data.d, 16w0xff00 }, 32w65536);
        hash(hdr.sums.crc32, HashAlgorithm.crc32, 32w0, hdr.data, 64w0x100000000);
        hash(hdr.sums.crc16, HashAlgorithm.crc16, 16w0, { hdr.data.a, 4w3, hdr.data.c[3:0], hdr.data.a + 1 }, 32w65536);
        hash(hdr.sums.xor16, HashAlgorithm.xor16, 16w0, { hdr.data.c, hdr.data.d }, 32w65536);
        hash(hdr.sums.ident, HashAlgorithm.identity, 16w0, { hdr.data.c }, 32w65536);
        hash(hdr.sums.based, HashAlgorithm.crc16, 16w100, { hdr.data.d }, 16w10);
        marks.apply();
        if (hdr.data.a == 0xf0) { profile.apply(); }
        if (hdr.data.a == 0xf1) { selected.apply(); }
        meta.seq = hdr.data.c;
        meta.inner.y = 7;
        if (hdr.data.a == 1) { clone_preserving_field_list(CloneType.I2E, 5, 1); }
        if (hdr.data.a == 2) { clone(CloneType.I2E, (bit<32>)hdr.data.b); }
        if (hdr.data.a == 3) { digest<seen_t>(1, { hdr.data.a, hdr.data.c + 1, hdr.data.d > 1000 }); }
        if (hdr.data.a == 4 && std.instance_type == 0) { meta.mark = 9; resubmit_preserving_field_list(1); }
        if (hdr.data.a == 6) { log_msg("a is {} and c is {}", { hdr.data.a, hdr.data.c }); }
        if (hdr.data.a == 7) { bit<8> r; random(r, 3, 3); hdr.data.b = r; }
        if (hdr.data.a == 8) { truncate(10); }
        if (hdr.data.a == 9) { mark_to_drop(std); }
        assert(hdr.data.a != 0xaa || hdr.data.b != 0x55);
        if (std.instance_type == 6) { hdr.data.b = meta.mark; }
    }
}
control E(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    apply {
        if (std.instance_type == 1) { hdr.data.b = meta.mark; hdr.data.c = meta.seq; hdr.data.d = (bit<32>)meta.inner.y; }
        else if (hdr.data.a == 5 && std.instance_type == 0) { hdr.data.d = hdr.data.d + 1; recirculate_preserving_field_list(2); }
    }
}
control C(inout headers_t hdr, inout metadata_t meta) {
    apply { update_checksum(hdr.data.a == 10 && hdr.data.b == 1, { hdr.data.a, hdr.data.b, 16w0x1234, hdr.data.d }, hdr.data.c, HashAlgorithm.csum16); }
}
control D(packet_out b, in headers_t hdr) { apply { b.emit(hdr.sums); b.emit(hdr.data); } }
V1Switch(P(), V(), I(), E(), C(), D()) main;
