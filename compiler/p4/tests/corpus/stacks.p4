// Header stacks: loops in the parser, next and last, push and pop, indices known only at run time.
#include <core.p4>
#include <v1model.p4>

header count_t { bit<8> n; bit<8> index; bit<8> op; }
header label_t { bit<20> value; bit<3> tc; bit<1> bos; bit<8> ttl; }
header note_t { bit<8> last; bit<8> first; bit<8> valid; bit<8> sum; }
struct headers_t { count_t count; note_t note; label_t[4] labels; label_t[2] copy; }
struct metadata_t { bit<8> seen; bit<32> last; }

parser P(packet_in b, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    state start {
        b.extract(hdr.count);
        transition select(hdr.count.n) { 0: accept; default: labels; }
    }
    state labels {
        b.extract(hdr.labels.next);
        meta.seen = meta.seen + 1;
        meta.last = (bit<32>)hdr.labels.last.value;
        transition select(hdr.labels.last.bos, hdr.labels.last.tc) {
            (0, _): labels;
            (1, 1 .. 6): more;
            (1, _): accept;
        }
    }
    state more { meta.seen = meta.seen + (bit<8>)hdr.labels.lastIndex; transition accept; }
}
control V(inout headers_t hdr, inout metadata_t meta) { apply { } }
control I(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    apply {
        std.egress_spec = 1;
        hdr.note.setValid();
        hdr.note.last = meta.seen;
        hdr.note.first = (bit<8>)(bit<1>)hdr.labels[0].isValid() + (bit<8>)(bit<1>)(std.parser_error == error.StackOutOfBounds) * 16;
        hdr.note.valid = 0;
        hdr.note.sum = 0;
        for (bit<8> i = 0; i < 4; i = i + 1) {
            if (hdr.labels[i].isValid()) {
                hdr.note.valid = hdr.note.valid | (8w1 << i);
                if (hdr.labels[i].ttl == 0) { break; }
                hdr.note.sum = hdr.note.sum + hdr.labels[i].ttl;
            }
        }
        switch (hdr.count.op) {
            1: { hdr.labels.push_front(1); hdr.labels[0].setValid(); hdr.labels[0] = { 20w77, 3w2, 1w0, 8w64 }; }
            2: { hdr.labels.pop_front(1); }
            3: { hdr.labels.pop_front(2); }
            4: { if (hdr.count.index < 4) { hdr.labels[hdr.count.index].ttl = hdr.labels[hdr.count.index].ttl - 1; } }
            5: { if (hdr.count.index < 4) { hdr.note.sum = hdr.labels[hdr.count.index].ttl; } }
            6:
            7: { hdr.copy[0] = hdr.labels[1]; hdr.copy[1] = hdr.labels[0]; hdr.labels[1].setInvalid(); }
            8: { if (hdr.labels[0] == hdr.labels[1]) { hdr.note.sum = 0xee; } }
            default: { hdr.note.first = hdr.note.first | 0x80; }
        }
    }
}
control E(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) { apply { } }
control C(inout headers_t hdr, inout metadata_t meta) { apply { } }
control D(packet_out b, in headers_t hdr) { apply { b.emit(hdr); } }
V1Switch(P(), V(), I(), E(), C(), D()) main;
