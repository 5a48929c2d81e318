// Types in all their forms, and what the control plane sees of them.
#include <core.p4>
#include <v1model.p4>

@brief("a port as the controller names it")
@p4runtime_translation("example.org/port", string)
type bit<9> named_port_t;
@p4runtime_translation("example.org/vrf", 32)
type bit<12> vrf_t;
type bit<16> handle_t;
typedef handle_t id_t;
enum bit<4> color_t { red = 1, green = 2, blue = 4w4 }
enum mode_t { off, on, auto }
struct point_t { bit<4> x; bit<4> y; }
struct box_t<T> { T inner; bit<8> n; }
header h_t { color_t color; point_t p; bool flag; bit<3> pad; int<16> level; handle_t id; }
@controller_header("packet_in")
header packet_in_t { @id(4) named_port_t port; bit<7> pad; vrf_t vrf; @hidden bit<4> pad2; point_t where; }
struct headers_t { packet_in_t pin; h_t h; }
struct metadata_t { box_t<bit<16>> b; box_t<point_t> c; mode_t mode; vrf_t vrf; tuple<bit<8>, bool> t; error e; }

parser P(packet_in b, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    state start {
        b.extract(hdr.h);
        transition select(hdr.h.color, hdr.h.p.x, hdr.h.flag) {
            (color_t.red, 1, true): one;
            (color_t.green, _, _): two;
            default: accept;
        }
    }
    state one { meta.mode = mode_t.on; transition accept; }
    state two { meta.mode = mode_t.auto; transition accept; }
}
control V(inout headers_t hdr, inout metadata_t meta) { apply { } }

T first<T>(in T a, in T b) { return a; }

control I(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    action set(@id(3) vrf_t vrf, named_port_t port, id_t id, color_t color, @brief("how bright") int<16> level) {
        meta.vrf = vrf;
        std.egress_spec = (bit<9>)port;
        hdr.h.id = id;
        hdr.h.color = color;
        hdr.h.level = level;
    }
    @description("by everything there is")
    @proto_package("x")
    @list[1, "two", true]
    @pairs[a = 3, b = "four"]
    table everything {
        key = {
            meta.vrf : exact;
            hdr.h.id : ternary @name("id") @format(HEX);
            hdr.h.color : exact;
            hdr.h.flag : exact;
            hdr.h.level : ternary;
            hdr.h.p.y : exact;
            std.parser_error : exact @name("error");
        }
        actions = { set; NoAction; }
        const default_action = NoAction();
    }
    apply {
        std.egress_spec = 1;
        meta.b = { inner = (bit<16>)hdr.h.id, n = 1 };
        meta.c.inner = hdr.h.p;
        meta.c.inner.x = first(meta.c.inner.y, 4w2);
        meta.t = { 8w5, hdr.h.flag };
        if (meta.t[1]) { meta.b.n = meta.t[0]; }
        hdr.h.p = meta.c.inner;
        hdr.h.flag = !hdr.h.flag;
        if (meta.mode == mode_t.on) { hdr.h.level = hdr.h.level - 1; }
        hdr.h.id = (handle_t)(meta.b.inner + (bit<16>)meta.b.n);
        everything.apply();
    }
}
control E(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    apply { if (hdr.h.color == color_t.blue) { hdr.pin = { (named_port_t)std.ingress_port, 0, meta.vrf, 0, { 1, 2 } }; } }
}
control C(inout headers_t hdr, inout metadata_t meta) { apply { } }
control D(packet_out b, in headers_t hdr) { apply { b.emit(hdr); } }
@pkginfo(name = "types", version = "1.2")
@brief("an example")
V1Switch(P(), V(), I(), E(), C(), D()) main;
