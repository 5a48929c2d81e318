// Names and numbers that the whole pipeline shares, and the metadata that goes with a packet.
//
// The program that includes this file defines PROGRAM_ID and CPU_PORT before, and DUAL_STACK too if its
// policy speaks IPv6. In a dual-stack program an IPv4 address is its mapped form, ::ffff:a.b.c.d.

#ifdef DUAL_STACK
typedef bit<128> addr_t;
const bit<96> MAPPED = 96w0xffff;
#else
typedef bit<32> addr_t;
#endif
typedef bit<48> mac_t;
typedef bit<9> port_t;

// The clone session that copies notices to the agent.
const bit<32> NOTICE_SESSION = 1;
// A notice is cut to the packet-in header and the first 128 bytes of the frame.
const bit<32> NOTICE_BYTES = 145;

const bit<8> PROTO_ICMP = 1;
const bit<8> PROTO_TCP = 6;
const bit<8> PROTO_UDP = 17;

// What the parser took the frame for.
const bit<2> CLASS_OTHER = 0;
const bit<2> CLASS_IP = 1;
const bit<2> CLASS_ARP = 2;
const bit<2> CLASS_NDP = 3;

// The kind of an IP packet. Criteria and exact keys match it: a fragment has no ports, and the
// tuple that an ICMP error quotes is not its own.
const bit<2> KIND_WHOLE = 0;
const bit<2> KIND_FIRST_FRAGMENT = 1;
const bit<2> KIND_LATER_FRAGMENT = 2;
const bit<2> KIND_ICMP_ERROR = 3;

// Events. The lowest six bits are TCP's flags FIN, SYN, RST, PSH, ACK and URG.
const bit<10> EVENTS_DATA = 192; // DATA and FIRST_DATA; the agent turns the second one off
const bit<10> EVENT_FRAGMENT = 256;
const bit<10> EVENT_ALL = 512;

// packet_in.kind: why the agent gets this packet.
@noWarn("unused") const bit<7> INTEREST = 1; // a filter asks nobody
const bit<7> NOTICE = 2;
const bit<7> LOCAL = 3;
const bit<7> ARP = 4;
const bit<7> NDP = 5;
const bit<7> FRAGMENT = 6;
const bit<7> ICMP_ERROR = 7;
const bit<7> TTL = 8;
const bit<7> GLEAN = 9;
const bit<7> UNRESOLVED = 10;
const bit<7> TOO_BIG = 11;
const bit<7> UNDELIVERED = 12; // dropped and counted; the sender may be told

// packet_out.kind: what the agent wants. Zero is no order: a packet-out without metadata reads so.
const bit<7> RESUME = 1;
const bit<7> SEND = 2;
const bit<7> ROUTE = 3; // as RESUME, but past every stage; part and stage stay those of the notice

// The two parts of the cascade, as packet_in and packet_out say them.
const bit<2> REPLY = 1;
const bit<2> FORWARD = 2;

// Why a packet was dropped: the cell of the counter `drops`.
const bit<8> NOT_READY = 1;
const bit<8> BAD_PACKET_OUT = 2;
const bit<8> UNKNOWN_PORT = 3;
const bit<8> NOT_IP = 4;
const bit<8> MALFORMED = 5;
const bit<8> WRONG_MAC = 6;
const bit<8> NO_ROUTE = 7;
const bit<8> NO_NEXT_HOP = 8;
const bit<8> NOT_SERVED = 9; // for an address of ours, and nobody took it
const bit<8> SERVICE = 10;   // a stage dropped it

// How far along a packet is. The reply part runs from the last stage to the first, so stage s of it
// is at MIDDLE - s; stage s of the forward part is at MIDDLE + s. A control acts on packets that have
// not yet passed its place, which makes resuming, and skipping after a drop, one comparison.
const bit<8> MIDDLE = 64;
const bit<8> ROUTING = 128;
const bit<8> DROPPED = 255;

// What stages match and change. Headers change only in Rewrite.
struct flow_t {
    addr_t src;
    addr_t dst;
    bit<8> proto;
    bit<16> sport;
    bit<16> dport;
    bit<8> flags;
    bit<8> icmp;
    bit<2> kind;
}

#ifdef GATES
// What becomes of TCP's numbers.
struct deltas_t {
    bit<32> sequence;
    bit<32> acknowledgement;
    bit<8> window_shift; // to the left; in two's complement, so that 128 and more are to the right
}
#endif

struct metadata_t {
    flow_t flow;
    bit<32> program;
    bit<2> class;
    bit<8> ttl;
    bit<32> ip_end;     // where the IP packet ends in the frame, by its own account; with a tunnel's headers, if any
    bit<32> rest;       // bytes of the IP packet after the headers parsed so far
    bit<10> events;
    mac_t mac;          // our own address on the ingress port
    bit<8> place;
    bit<8> answered_at; // the place whose manager has answered for this packet
    bit<8> reason;
    bit<1> translated;
    bit<16> hop;        // the next hop to use, chosen by a stage or by the route
#ifdef DUAL_STACK
    bit<3> extensions;
#endif
#ifdef GATES
    bit<1> adjusted;
    deltas_t deltas;
#endif
    // What a packet-in carries. A notice is a clone, and takes these fields with it.
    @field_list(1) bit<7> message;
    @field_list(1) bit<2> part;
    @field_list(1) bit<6> stage;
    @field_list(1) bit<1> reply;
    @field_list(1) bit<1> mark_set;
    @field_list(1) bit<6> mark;
    @field_list(1) bit<16> next_hop;
    @field_list(1) bit<16> tunnel;
    @field_list(1) bit<32> notices;
    @field_list(1) bit<32> entry;
    @field_list(1) port_t in_port;
}
