// Arithmetic at several widths, with and without signs, on values that come in the packet.
#include <core.p4>
#include <v1model.p4>

enum bit<8> kind_t { one = 1, two = 2, other = 7 }
type bit<16> port_t;
typedef int<8> small_t;

header in_t {
    bit<8>  a;
    bit<8>  b;
    int<8>  c;
    int<8>  d;
    bit<16> e;
    bit<3>  f;
    bit<13> g;
    bit<48> h;
    kind_t  k;
    bit<72> w;
}

header out_t {
    bit<8>  add;
    bit<8>  sub;
    bit<8>  mul;
    bit<8>  inv;
    bit<8>  neg;
    bit<8>  sat_add;
    bit<8>  sat_sub;
    int<8>  s_add;
    int<8>  s_sub;
    int<8>  s_mul;
    int<8>  s_neg;
    int<8>  s_sat;
    int<8>  s_shr;
    bit<8>  shl;
    bit<8>  shr;
    bit<8>  shl_c;
    bit<16> concat;
    bit<16> slices;
    bit<8>  mask;
    bit<16> wide;
    int<16> s_wide;
    bit<8>  cut;
    bit<8>  flags;
    bit<8>  more_flags;
    bit<8>  mux;
    bit<8>  member;
    bit<16> newtype;
    bit<72> big;
    bit<48> mac;
    bit<16> nested;
    bit<8>  compound;
    bit<16> set_slice;
    bit<8>  sizes;
}

struct headers_t { in_t i; out_t o; }
struct pair_t { bit<8> x; bit<8> y; }
struct metadata_t { pair_t p; pair_t q; bool flag; bit<1> one; }

const bit<8> LIMIT = 100 + 2 * 3;
const int ANY = (1 << 40) / 3;

parser P(packet_in b, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    state start { b.extract(hdr.i); transition accept; }
}
control V(inout headers_t hdr, inout metadata_t meta) { apply { } }

bit<8> twice(in bit<8> x) { return x + x; }
bit<8> clamp(in bit<8> x) {
    if (x > LIMIT) {
        return LIMIT;
    } else if (x == 0) {
        return 1;
    }
    return twice(x);
}
void swap(inout bit<8> x, inout bit<8> y) { bit<8> t = x; x = y; y = t; }

control I(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    apply {
        bit<8> flags = 0;
        hdr.o.setValid();
        hdr.o.add = hdr.i.a + hdr.i.b;
        hdr.o.sub = hdr.i.a - hdr.i.b;
        hdr.o.mul = hdr.i.a * hdr.i.b + 3;
        hdr.o.inv = ~hdr.i.a;
        hdr.o.neg = -hdr.i.a;
        hdr.o.sat_add = hdr.i.a |+| hdr.i.b;
        hdr.o.sat_sub = hdr.i.a |-| hdr.i.b;
        hdr.o.s_add = hdr.i.c + hdr.i.d;
        hdr.o.s_sub = hdr.i.c - hdr.i.d;
        hdr.o.s_mul = hdr.i.c * hdr.i.d;
        hdr.o.s_neg = -hdr.i.c;
        hdr.o.s_sat = hdr.i.c |+| hdr.i.d;
        hdr.o.s_shr = hdr.i.c >> 2;
        hdr.o.shl = hdr.i.a << hdr.i.f;
        hdr.o.shr = (hdr.i.a + hdr.i.b) >> hdr.i.f;
        hdr.o.shl_c = (hdr.i.a << 3) | (hdr.i.b >> 5);
        hdr.o.concat = hdr.i.a ++ hdr.i.b;
        hdr.o.slices = hdr.i.e[3:0] ++ hdr.i.e[15:12] ++ (hdr.i.a + 1)[7:4] ++ hdr.i.b[0:0] ++ 3w5;
        hdr.o.mask = (hdr.i.a - hdr.i.b) & 0x3c ^ 8w0x11;
        hdr.o.wide = (bit<16>)(hdr.i.a + hdr.i.b) + (bit<16>)hdr.i.a;
        hdr.o.s_wide = (int<16>)hdr.i.c - 300;
        hdr.o.cut = (bit<8>)(hdr.i.e + 0x1234);
        if (hdr.i.a < hdr.i.b) { flags = flags | 1; }
        if (hdr.i.c < hdr.i.d) { flags = flags | 2; }
        if (hdr.i.c <= -5) { flags = flags | 4; }
        if (hdr.i.a - hdr.i.b == 255 || (hdr.i.a == 7 && !(hdr.i.b == 9))) { flags = flags | 8; }
        meta.flag = hdr.i.a != hdr.i.b;
        meta.one = (bit<1>)(hdr.i.f > 3);
        if (meta.flag) { flags[4:4] = 1; }
        if ((bool)meta.one) { flags = flags | 0x20; }
        if (hdr.i.k == kind_t.two) { flags = flags | 0x40; }
        if (hdr.i.k == (kind_t)8w1 || hdr.i.k == kind_t.other) { flags = flags | 0x80; }
        hdr.o.flags = flags;
        hdr.o.more_flags = (bit<8>)((bit<1>)meta.flag) + (meta.one == 1 ? 8w16 : 8w32);
        hdr.o.mux = hdr.i.a > 128 ? hdr.i.b : (hdr.i.a > 64 ? hdr.i.b + 1 : clamp(hdr.i.b));
        hdr.o.member = hdr.i.k + 1;
        port_t np = (port_t)hdr.i.e;
        hdr.o.newtype = (bit<16>)np;
        hdr.o.big = (hdr.i.w + 1) ^ (bit<72>)hdr.i.h << 20;
        hdr.o.mac = hdr.i.h - (bit<48>)hdr.i.g * 0x10001;
        hdr.o.nested = (((bit<16>)hdr.i.a << 8) + (bit<16>)(hdr.i.a + hdr.i.b)) * 3;
        meta.p = { hdr.i.a, hdr.i.b };
        meta.q = { y = hdr.i.a, x = hdr.i.b };
        meta.p = { meta.p.y, meta.p.x };
        if (meta.p == meta.q) { hdr.o.compound = 1; } else { hdr.o.compound = 2; }
        swap(meta.p.x, meta.q.x);
        swap(meta.p.y, meta.p.y);
        hdr.o.compound += meta.p.x;
        hdr.o.compound <<= 1;
        hdr.o.set_slice = 0xffff;
        hdr.o.set_slice[11:4] = hdr.i.a + hdr.i.b;
        hdr.o.sizes = (bit<8>)hdr.i.minSizeInBytes() + (bit<8>)ANY[7:0];
        std.egress_spec = 1;
    }
}
control E(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) { apply { } }
control C(inout headers_t hdr, inout metadata_t meta) { apply { } }
control D(packet_out b, in headers_t hdr) { apply { b.emit(hdr.o); b.emit(hdr.i); } }
V1Switch(P(), V(), I(), E(), C(), D()) main;
