// Every construct of the grammar at least once. It need not make sense.
#define WIDTH 8
#define FIELD(w, name) bit<w> name;
#if defined(WIDTH) && WIDTH >= 8
error { NoRoute, TooBig }
#else
#error never
#endif
match_kind { custom, other }
typedef bit<(WIDTH * 2)> half_t;
@p4runtime_translation("x", 32) type half_t Port;
typedef struct Inline { bit a; } Alias;
const bit<32> A = 32w0xdead_BEEF;
const int B = -3;
const string S = "a \"quoted\" \\ word";
enum Suit { Clubs, Hearts, }
enum bit<8> Proto { TCP = 6, UDP = 17 }
@annotated @one(two, (3), "four" + 5) @list[1, 2 + 3] @kv[a = 1, b = "c"]
header Eth { FIELD(48, dst) FIELD(48, src) @field_note bit<16> type; varbit<320> options; }
header Tag { bit<16> key; }
header_union U { Eth e; Tag t; }
struct Pair<T1, T2> { T1 first; T2 second; }
struct Headers { Eth eth; Tag[4] tags; U u; Pair<bit<8>, tuple<bit<8>, bool>> p; list<bit<8>> l; }
struct Meta { bit<8> x; int<16> y; bool z; error e; Proto proto; }
extern Thing<T> {
    Thing(bit<32> size, @optional T start);
    void set(in T value);
    T get<R>(inout R other, out T more);
    abstract void on_event(in bit<8> x);
}
extern packet_in { void extract<T>(out T h); T lookahead<T>(); }
extern packet_out { void emit<T>(in T h); }
extern bit<8> checksum<D>(in D data, bool seed = false);
extern void verify(in bool check, in error toSignal);
bit<8> max<T>(in bit<8> a, in bit<8> b) {
    if (a > b) return a;
    else if (a == b) { return a |+| 1; }
    else return (a << 1) >> 1;
}
@noop action nothing() {}
parser P<H>(packet_in pkt, out H hdr, inout Meta m);
control C<H>(inout H hdr, inout Meta m);
package Switch<H>(P<H> p, C<H> c, bit<8> n = 8);
parser MyParser(packet_in pkt, out Headers hdr, inout Meta m)(bool ctor, int n = 3) {
    value_set<bit<16>>(4) vs;
    bit<8> count = 0;
    const bit<8> LIMIT = 3;
    state start {
        pkt.extract(hdr.eth);
        bit<8> t = pkt.lookahead<bit<8>>();
        count = count + 1;
        transition select(hdr.eth.type, t) {
            (16w0x800, _): next;
            (0x0800 &&& 0xff00, 1 .. 5): next;
            (default, 3): accept;
            (vs, (1 + 2)): reject;
            default: more;
        }
    }
    @name("n") state next {
        pkt.extract(hdr.tags.next);
        { ; }
        if (count > LIMIT) { verify(false, error.TooBig); } else m.x = 3;
        transition select(hdr.tags.last.key) {
            0: accept;
            vs: next;
            (1): more;
            (bit<16>) 3: accept;
            _: reject;
        }
    }
    state more { transition accept; }
    state stuck { }
}
control Inner(inout Meta m) { apply { m.x = 1; } }
control MyControl(inout Headers hdr, inout Meta m) {
    Thing<bit<8>>(32w10, 1) thing = {
        void on_event(in bit<8> x) { this.set(x); }
        Thing<bit<8>>(1, 2) sub;
    };
    bit<16> v;
    Inner() inner;
    tuple<bit<8>, bool> pair = {1, true};
    @hidden action set(inout bit<8> target, bit<8> value) { target = value; }
    action drop() { exit; }
    table t {
        key = {
            hdr.eth.dst: exact @name("dst");
            hdr.eth.src[15:8]: ternary;
            m.z ? m.x : 8w0: lpm;
            hdr.tags[0].isValid(): exact;
        }
        actions = { set(m.x); @defaultonly drop; .nothing; }
        const default_action = set(m.x, 3);
        size = 1024;
        largest_priority_wins = false;
        @note const entries = {
            (0x1, _, 8w1 &&& 8w3, true): set(m.x, 1) @name("first");
            const priority = 10: (default, 1 .. 2, _, false): drop();
        }
        implementation = Thing<bit<8>>(5, 1);
    }
    table empty { actions = { nothing; } default_action = nothing(); }
    apply {
        if (t.apply().hit) { v = 1; } else if (!t.apply().miss) v = 2; else { v = 3; }
        switch (t.apply().action_run) {
            set: { m.x = 1; }
            drop:
            default: { return; }
        }
        switch (m.x) { 1: { } 2: { m.x = 2; } Proto.TCP: @a { } }
        v = hdr.eth.type ++ 8w3 & 0xff | v ^ 3 << 2;
        v[7:0] = (bit<8>) v + - 1;
        v[3+:4] = v[0+:4];
        m.y = (int<16>) (bit<16>) v;
        m.z = m.x > 3 && m.x < 5 || m.x >= 2 && m.x <= 9 && m.x != 4 && !m.z;
        v += 1; v -= 2; v *= 3; v /= 4; v %= 5; v <<= 1; v >>= 2; v &= 3; v |= 4; v ^= 5; v |+|= 6; v |-|= 7;
        v = v |-| 3 |+| 4 / 2 % 3 * 2;
        m.e = error.NoRoute;
        hdr.eth = {dst = 1, src = 2, ...};
        hdr.eth = (Eth) {1, 2, ...};
        hdr.u.e = {#};
        m = ...;
        hdr.tags.push_front(1);
        hdr.p = (Pair<bit<8>, tuple<bit<8>, bool>>) {first = 1, second = {1, true}};
        thing.set(value = max<bit<8>>(m.x, 3));
        m.x = thing.get<_>(v, _);
        m.x = pair[0];
        Inner.apply(m);
        inner.apply(m);
        { const bit<8> K = 1; bit<8> k = K; set(k, K); }
        @unroll for (bit<8> i = 0, k = 1; i < 8; i += 1, k = k + 2) { if (i == 3) continue; break; }
        for (bit<8> i in 1 .. 5) m.x = i;
        for (@x bit<8> i in hdr.l) { m.x = i; }
        for (v in hdr.l) { }
        v = (bit<16>) Eth.minSizeInBits() + .max(1, 2)[3:0] ++ 4w0;
        if (m.x < 3) { if (m.z) ; else m.x = 0; }
        Tag[2] local;
        Pair<bit<8>, bool> q = {1, true};
        log(m.x < m.x, m.x > (3));
        @pragma hello "world" 3
        bit<8> state = key + type + actions;
    }
}
Switch(MyParser(true), MyControl(), n = 3) main;
