// Every header that the pipeline reads or writes, in the order of the wire.

// All that crosses stages. The agent gives back in packet_out what packet_in brought it.
@controller_header("packet_in")
header packet_in_t {
    bit<7> kind;
    bit<2> part;
    bit<1> reply;
    bit<1> answered;
    bit<1> mark_set;
    bit<6> mark;
    bit<6> stage;
    bit<16> port;
    bit<16> next_hop;
    bit<16> tunnel;
    bit<32> notices;
    bit<32> entry;
}

@controller_header("packet_out")
header packet_out_t {
    bit<7> kind;
    bit<2> part;
    bit<1> reply;
    bit<1> answered;
    bit<1> mark_set;
    bit<6> mark;
    bit<6> stage;
    bit<16> port;
    bit<16> next_hop;
    bit<16> tunnel;
    bit<32> notices;
    bit<32> entry;
}

header ethernet_t {
    mac_t dst;
    mac_t src;
    bit<16> ether_type;
}

header ipv4_t {
    bit<4> version;
    bit<4> ihl;
    bit<8> tos;
    bit<16> total_len;
    bit<16> identification;
    bit<1> reserved;
    bit<1> dont_fragment;
    bit<1> more_fragments;
    bit<13> fragment_offset;
    bit<8> ttl;
    bit<8> protocol;
    bit<16> checksum;
    bit<32> src;
    bit<32> dst;
}

header ipv4_options_t {
    varbit<320> bytes;
}

#ifdef DUAL_STACK
header ipv6_t {
    bit<4> version;
    bit<8> traffic_class;
    bit<20> flow_label;
    bit<16> payload_len;
    bit<8> next_header;
    bit<8> hop_limit;
    bit<128> src;
    bit<128> dst;
}

// At most 256 bytes; the parser leaves longer ones alone.
header ipv6_extension_t {
    bit<8> next_header;
    bit<8> length;
    varbit<2032> body;
}
#endif

header tcp_t {
    bit<16> sport;
    bit<16> dport;
    bit<32> sequence;
    bit<32> acknowledgement;
    bit<4> data_offset;
    bit<4> reserved;
    bit<8> flags;
    bit<16> window;
    bit<16> checksum;
    bit<16> urgent;
}

header udp_t {
    bit<16> sport;
    bit<16> dport;
    bit<16> length;
    bit<16> checksum;
}

header icmp_t {
    bit<8> type;
    bit<8> code;
    bit<16> checksum;
}

// The rest of an echo request or reply of either family.
header echo_t {
    bit<16> identifier;
    bit<16> sequence;
}

#ifdef TUNNELS
// Generic UDP Encapsulation, version 0, without optional fields.
header gue_t {
    bit<8> head; // version, C and length: all zero
    bit<8> protocol;
    bit<16> flags;
}
#endif

struct headers_t {
    packet_in_t packet_in;
    packet_out_t packet_out;
    ethernet_t ethernet;
#ifdef TUNNELS
    ipv4_t outer4;
#ifdef DUAL_STACK
    ipv6_t outer6;
#endif
    udp_t outer_udp;
    gue_t gue;
#endif
    ipv4_t ipv4;
    ipv4_options_t options;
#ifdef DUAL_STACK
    ipv6_t ipv6;
    ipv6_extension_t[4] extensions;
    icmp_t icmp6;
#endif
    tcp_t tcp;
    udp_t udp;
    icmp_t icmp;
    echo_t echo;
}
