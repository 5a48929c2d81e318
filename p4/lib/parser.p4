// From bytes to headers and flow. A transport header is parsed only where there is one: at fragment
// offset 0. What is wrong with a packet is left for Admission to see.

parser PacketParser(packet_in packet,
                    out headers_t hdr,
                    inout metadata_t meta,
                    inout standard_metadata_t std) {
    state start {
        meta.program = PROGRAM_ID;
        meta.in_port = std.ingress_port;
        transition select(std.ingress_port) {
            CPU_PORT: parse_packet_out;
            default: parse_ethernet;
        }
    }

    state parse_packet_out {
        packet.extract(hdr.packet_out);
        transition parse_ethernet;
    }

    state parse_ethernet {
        packet.extract(hdr.ethernet);
        transition select(hdr.ethernet.ether_type) {
            0x0800: parse_ipv4;
            0x0806: arp;
#ifdef DUAL_STACK
            0x86dd: parse_ipv6;
#endif
            default: accept;
        }
    }

    state arp {
        meta.class = CLASS_ARP;
        transition accept;
    }

    // A length that no packet has: Admission drops it.
    state malformed {
        meta.rest = 0xffffffff;
        transition accept;
    }

    state parse_ipv4 {
        meta.class = CLASS_IP;
        packet.extract(hdr.ipv4);
#ifdef DUAL_STACK
        meta.flow.src = MAPPED ++ hdr.ipv4.src;
        meta.flow.dst = MAPPED ++ hdr.ipv4.dst;
#else
        meta.flow.src = hdr.ipv4.src;
        meta.flow.dst = hdr.ipv4.dst;
#endif
        meta.flow.proto = hdr.ipv4.protocol;
        meta.ttl = hdr.ipv4.ttl;
        meta.events = EVENT_ALL;
        meta.ip_end = (bit<32>) hdr.ipv4.total_len + 14;
        meta.rest = (bit<32>) hdr.ipv4.total_len - 20;
        transition select(hdr.ipv4.version, hdr.ipv4.ihl, hdr.ipv4.more_fragments,
                          hdr.ipv4.fragment_offset, hdr.ipv4.protocol) {
            (4, 5, 0, 0, PROTO_TCP): parse_tcp;
            (4, 5, 0, 0, PROTO_UDP): parse_udp;
            (4, 5, 0, 0, PROTO_ICMP): parse_icmp;
            (4, 5, 0, 0, _): accept;
            (4, 5, _, _, _): ipv4_fragment;
            (4, 6 &&& 14, _, _, _): parse_ipv4_options;
            (4, 8 &&& 8, _, _, _): parse_ipv4_options;
            default: malformed;
        }
    }

    state parse_ipv4_options {
        packet.extract(hdr.options, ((bit<32>) hdr.ipv4.ihl - 5) << 5);
        meta.rest = meta.rest - (((bit<32>) hdr.ipv4.ihl - 5) << 2);
        transition select(hdr.ipv4.more_fragments, hdr.ipv4.fragment_offset) {
            (0, 0): ipv4_payload;
            default: ipv4_fragment;
        }
    }

    state ipv4_fragment {
        meta.events = meta.events | EVENT_FRAGMENT;
        meta.flow.kind = KIND_LATER_FRAGMENT;
        transition select(hdr.ipv4.fragment_offset) {
            0: ipv4_first_fragment;
            default: accept;
        }
    }

    state ipv4_first_fragment {
        meta.flow.kind = KIND_FIRST_FRAGMENT;
        transition ipv4_payload;
    }

    state ipv4_payload {
        transition select(hdr.ipv4.protocol) {
            PROTO_TCP: parse_tcp;
            PROTO_UDP: parse_udp;
            PROTO_ICMP: parse_icmp;
            default: accept;
        }
    }

    state parse_icmp {
        packet.extract(hdr.icmp);
        meta.flow.icmp = hdr.icmp.type;
        meta.rest = meta.rest - 4;
        transition select(hdr.icmp.type, meta.flow.kind) {
            (8, _): echo_request;
            (0, _): echo_reply;
            (3, KIND_WHOLE): icmp_error;
            (4, KIND_WHOLE): icmp_error;
            (5, KIND_WHOLE): icmp_error;
            (11, KIND_WHOLE): icmp_error;
            (12, KIND_WHOLE): icmp_error;
            default: accept;
        }
    }

#ifdef DUAL_STACK
    state parse_ipv6 {
        meta.class = CLASS_IP;
        packet.extract(hdr.ipv6);
        meta.flow.src = hdr.ipv6.src;
        meta.flow.dst = hdr.ipv6.dst;
        meta.flow.proto = hdr.ipv6.next_header;
        meta.ttl = hdr.ipv6.hop_limit;
        meta.events = EVENT_ALL;
        meta.ip_end = (bit<32>) hdr.ipv6.payload_len + 54;
        meta.rest = (bit<32>) hdr.ipv6.payload_len;
        // A mapped address has no business on the wire, and would look like IPv4 to every stage.
        transition select(hdr.ipv6.version, hdr.ipv6.src[127:32], hdr.ipv6.dst[127:32]) {
            (6, MAPPED, _): malformed;
            (6, _, MAPPED): malformed;
            (6, _, _): ipv6_next;
            default: malformed;
        }
    }

    // At most four extension headers; what has more is matched by its addresses only.
    state ipv6_next {
        transition select(meta.flow.proto, meta.extensions) {
            (PROTO_TCP, _): parse_tcp;
            (PROTO_UDP, _): parse_udp;
            (58, _): parse_icmp6;
            (_, 4): accept;
            (0, _): ipv6_extension;
            (43, _): ipv6_extension;
            (51, _): ipv6_extension;
            (60, _): ipv6_extension;
            (44, _): parse_ipv6_fragment;
            default: accept;
        }
    }

    // So is what has one that is longer than any in use: a length of 32 or more.
    state ipv6_extension {
        bit<16> head = packet.lookahead<bit<16>>();
        transition select(head[7:5], meta.flow.proto) {
            (0, 51): parse_ipv6_authentication;
            (0, _): parse_ipv6_options;
            default: accept;
        }
    }

    // Hop-by-hop and destination options, and routing: length in 8-byte units, the first not counted.
    state parse_ipv6_options {
        bit<16> head = packet.lookahead<bit<16>>();
        packet.extract(hdr.extensions.next, ((bit<32>) head[7:0] << 6) + 48);
        meta.rest = meta.rest - (((bit<32>) head[7:0] << 3) + 8);
        meta.flow.proto = head[15:8];
        meta.extensions = meta.extensions + 1;
        transition ipv6_next;
    }

    // Authentication: length in 4-byte units, the first two not counted.
    state parse_ipv6_authentication {
        bit<16> head = packet.lookahead<bit<16>>();
        packet.extract(hdr.extensions.next, ((bit<32>) head[7:0] << 5) + 48);
        meta.rest = meta.rest - (((bit<32>) head[7:0] << 2) + 8);
        meta.flow.proto = head[15:8];
        meta.extensions = meta.extensions + 1;
        transition ipv6_next;
    }

    // Next header, reserved, 13 bits of offset, 2 reserved, more fragments, identification.
    state parse_ipv6_fragment {
        bit<64> head = packet.lookahead<bit<64>>();
        packet.extract(hdr.extensions.next, 48);
        meta.rest = meta.rest - 8;
        meta.flow.proto = head[63:56];
        meta.extensions = meta.extensions + 1;
        transition select(head[47:35], head[32:32]) {
            (0, 0): ipv6_next;
            (0, 1): ipv6_first_fragment;
            default: ipv6_later_fragment;
        }
    }

    state ipv6_first_fragment {
        meta.events = meta.events | EVENT_FRAGMENT;
        meta.flow.kind = KIND_FIRST_FRAGMENT;
        transition ipv6_next;
    }

    state ipv6_later_fragment {
        meta.events = meta.events | EVENT_FRAGMENT;
        meta.flow.kind = KIND_LATER_FRAGMENT;
        transition accept;
    }

    state parse_icmp6 {
        packet.extract(hdr.icmp6);
        meta.flow.icmp = hdr.icmp6.type;
        meta.rest = meta.rest - 4;
        transition select(hdr.icmp6.type, meta.flow.kind, meta.ttl) {
            (128, _, _): echo_request;
            (129, _, _): echo_reply;
            (133, KIND_WHOLE, 255): ndp;
            (134, KIND_WHOLE, 255): ndp;
            (135, KIND_WHOLE, 255): ndp;
            (136, KIND_WHOLE, 255): ndp;
            (137, KIND_WHOLE, 255): ndp;
            (1, KIND_WHOLE, _): icmp_error;
            (2, KIND_WHOLE, _): icmp_error;
            (3, KIND_WHOLE, _): icmp_error;
            (4, KIND_WHOLE, _): icmp_error;
            default: accept;
        }
    }

    state ndp {
        meta.class = CLASS_NDP;
        transition accept;
    }
#endif

    state echo_request {
        packet.extract(hdr.echo);
        meta.flow.sport = hdr.echo.identifier;
        meta.rest = meta.rest - 4;
        transition accept;
    }

    state echo_reply {
        packet.extract(hdr.echo);
        meta.flow.dport = hdr.echo.identifier;
        meta.rest = meta.rest - 4;
        transition accept;
    }

    state icmp_error {
        meta.flow.kind = KIND_ICMP_ERROR;
        transition accept;
    }

    state parse_udp {
        packet.extract(hdr.udp);
        meta.flow.sport = hdr.udp.sport;
        meta.flow.dport = hdr.udp.dport;
        meta.events = meta.events | EVENTS_DATA;
        meta.rest = meta.rest - 8;
        transition accept;
    }

    state parse_tcp {
        packet.extract(hdr.tcp);
        meta.flow.sport = hdr.tcp.sport;
        meta.flow.dport = hdr.tcp.dport;
        meta.flow.flags = hdr.tcp.flags;
        meta.events = meta.events | (4w0 ++ hdr.tcp.flags[5:0]);
        meta.rest = meta.rest - ((bit<32>) hdr.tcp.data_offset << 2);
        transition select(hdr.tcp.data_offset, meta.rest) {
            (0 &&& 12, _): malformed;
            (4, _): malformed;
            (_, 0): accept;
            default: tcp_data;
        }
    }

    state tcp_data {
        meta.events = meta.events | EVENTS_DATA;
        transition accept;
    }
}
