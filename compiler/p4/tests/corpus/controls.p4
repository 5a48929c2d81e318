// Controls in controls, arguments that overlap, early returns, exits, actions with directions.
#include <core.p4>
#include <v1model.p4>

header data_t { bit<8> a; bit<8> b; bit<8> c; bit<8> d; bit<8> e; bit<8> f; }
struct headers_t { data_t data; data_t extra; }
struct metadata_t { bit<8> x; bit<8> y; data_t saved; }

parser P(packet_in b, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    state start { b.extract(hdr.data); transition accept; }
}
control V(inout headers_t hdr, inout metadata_t meta) { apply { } }

control Add(inout bit<8> to, in bit<8> what)(bit<8> bias, bool twice) {
    bit<8> local = bias;
    apply {
        to = to + local;
        to = to + what;
        if (twice) {
            if (to > 200) { return; }
            to = to + what;
        }
        local = local + 1;
    }
}
control Maybe(inout data_t h, inout bit<8> result) {
    Add(3, true) inner;
    apply {
        if (h.a == 1) { result = 1; return; }
        if (h.a == 2) { result = 2; exit; }
        inner.apply(h.b, h.c);
        if (h.b > 100) {
            result = 3;
            if (h.c > 100) { return; }
            result = 4;
        }
        h.d = h.d + result;
    }
}
control Clear(out data_t h, out bit<8> y) { apply { y = 5; } }

control I(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    Add(1, false) first;
    Add(2, true) second;
    Maybe() maybe;
    Clear() clear;
    action set(in bit<8> v, inout bit<8> w, bit<8> n) { w = w + v; hdr.data.f = hdr.data.f + n; w = w + hdr.data.f; }
    action none() { }
    action early(in bit<8> v) {
        if (v == 0) { return; }
        hdr.data.e = v;
        if (v > 10) { hdr.data.f = 1; return; }
        hdr.data.f = 2;
    }
    table t {
        key = { hdr.data.a : exact; }
        actions = { set(hdr.data.b, hdr.data.f); none; early(hdr.data.c); }
        const default_action = none;
        const entries = {
            3 : set(hdr.data.b, hdr.data.f, 7);
            4 : set(hdr.data.b, hdr.data.f, 200);
            5 : early(hdr.data.c);
        }
    }
    table u {
        key = { hdr.data.b & 0x0f : exact @name("low"); hdr.data.isValid() : exact; hdr.data.c[7:4] : exact @name("high"); }
        actions = { none; @defaultonly NoAction; }
        entries = { (3, true, 2) : none(); }
    }
    apply {
        std.egress_spec = 1;
        first.apply(hdr.data.d, hdr.data.d);
        second.apply(meta.x, hdr.data.c);
        maybe.apply(hdr.data, meta.y);
        early(hdr.data.b - 1);
        bit<8> k = 9;
        set(k, hdr.data.d, 1);
        switch (t.apply().action_run) {
            set: { hdr.data.d = hdr.data.d + 1; }
            none: { if (hdr.data.b == 0) { return; } hdr.data.d = hdr.data.d + 2; }
            default: { hdr.data.d = hdr.data.d + 4; }
        }
        bool hit = u.apply().hit;
        if (hit && hdr.data.a != 9) { hdr.data.e = hdr.data.e | 0x80; }
        if (hdr.data.a == 11) { clear.apply(hdr.extra, meta.y); hdr.data.e = meta.y; }
        if (hdr.data.a == 12) { meta.saved = hdr.data; hdr.extra = meta.saved; hdr.extra.a = meta.x; }
        hdr.data.c = meta.y;
        hdr.data.b = meta.x;
    }
}
control E(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    apply { if (hdr.data.a == 20) { mark_to_drop(std); } }
}
control C(inout headers_t hdr, inout metadata_t meta) { apply { } }
control D(packet_out b, in headers_t hdr) { apply { b.emit(hdr.data); b.emit(hdr.extra); } }
V1Switch(P(), V(), I(), E(), C(), D()) main;
