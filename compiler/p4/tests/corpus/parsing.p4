// Parsers in parsers, looking ahead, value sets, ranges, errors, fields of variable width.
#include <core.p4>
#include <v1model.p4>

error { TooMany }
header first_t { bit<8> kind; bit<8> len; }
header options_t { bit<8> n; varbit<320> data; }
header tail_t { bit<16> x; bit<16> y; }
header flag_t { bit<4> hi; bit<4> lo; }
struct inner_t { bit<4> hi; bit<12> lo; }
header note_t { bit<8> err; bit<8> peek; bit<16> peek2; bit<8> path; }
struct headers_t { note_t note; first_t first; options_t options; flag_t flag; tail_t tail; }
struct metadata_t { bit<8> peek; bit<16> peek2; bit<8> path; }

parser Tail(packet_in b, out tail_t tail, inout bit<8> path)(bit<8> mark) {
    bit<8> local = 1;
    state start {
        local = local + mark;
        transition select(b.lookahead<bit<16>>()) {
            0 &&& 0x8000: read;
            default: skip;
        }
    }
    state read { b.extract(tail); path = path + local; transition accept; }
    state skip { b.advance(16); path = path + 0x40; transition read_after; }
    state read_after { b.extract(tail); transition accept; }
}

parser P(packet_in b, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    Tail(2) low;
    Tail(4) high;
    value_set<bit<8>>(4) special;
    state start {
        b.extract(hdr.first);
        verify(hdr.first.kind != 0xff, error.TooMany);
        meta.peek = b.lookahead<bit<8>>();
        transition select(hdr.first.kind) {
            special: is_special;
            0 .. 9: options;
            10: flag;
            11 .. 14: tail;
            20: twice;
            30: reject;
            _: accept;
        }
    }
    state is_special { meta.path = 0x77; transition accept; }
    state options {
        verify(hdr.first.len <= 40, error.HeaderTooShort);
        b.extract(hdr.options, (bit<32>)hdr.first.len * 8);
        transition tail;
    }
    state flag {
        inner_t look = b.lookahead<inner_t>();
        meta.peek2 = (bit<16>)look.lo;
        b.extract(hdr.flag);
        bool odd = hdr.flag.lo[0:0] == 1;
        if (odd) { meta.path = 3; } else { meta.path = 4; if (hdr.flag.hi == 0) { meta.path = 5; } }
        transition select(hdr.flag.hi, hdr.flag.lo, odd) {
            (1, 2 .. 5, _): accept;
            (_, 0xf, true): tail;
            (3, _, false): tail;
            (_, _, _): accept;
        }
    }
    state tail { low.apply(b, hdr.tail, meta.path); transition accept; }
    state twice { high.apply(b, hdr.tail, meta.path); transition flag_after; }
    state flag_after { b.extract(hdr.flag); transition accept; }
}
control V(inout headers_t hdr, inout metadata_t meta) { apply { } }
control I(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    apply {
        std.egress_spec = 1;
        hdr.note.setValid();
        hdr.note.peek = meta.peek;
        hdr.note.peek2 = meta.peek2;
        hdr.note.path = meta.path;
        hdr.note.err = 0;
        if (std.parser_error == error.TooMany) { hdr.note.err = 1; }
        if (std.parser_error == error.HeaderTooShort) { hdr.note.err = 2; }
        if (std.parser_error == error.PacketTooShort) { hdr.note.err = 3; }
        if (std.parser_error == error.NoError) { hdr.note.err = 9; }
    }
}
control E(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) { apply { } }
control C(inout headers_t hdr, inout metadata_t meta) { apply { } }
control D(packet_out b, in headers_t hdr) { apply { b.emit(hdr); } }
V1Switch(P(), V(), I(), E(), C(), D()) main;
