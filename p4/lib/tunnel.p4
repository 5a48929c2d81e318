// Dispatch through a tunnel: the outer headers of IP in IP (RFC 2003, RFC 2473, RFC 4213) or of Generic UDP
// Encapsulation, version 0. They stand before the packet from here on, so that the next hop's MTU is
// compared with what leaves; the inner headers stay everybody's `ipv4` and `ipv6`.

const bit<16> GUE_BYTES = 12; // UDP and GUE
const bit<16> GUE_PORT = 6080;

control Tunnels(inout headers_t hdr, inout metadata_t meta) {
    bit<8> inner;
    bit<8> traffic_class;
    bit<16> port;

    action refuse() {
        meta.reason = NO_NEXT_HOP;
        meta.place = DROPPED;
    }

    // What the outer headers take from the inner ones: DSCP and ECN too (RFC 6040, normal mode).
    action look_inside() {
        inner = 4;
        traffic_class = hdr.ipv4.tos;
#ifdef DUAL_STACK
        if (hdr.ipv6.isValid()) {
            inner = 41;
            traffic_class = hdr.ipv6.traffic_class;
        }
#endif
    }

    action outer4(in bit<8> protocol, in bit<32> src, in bit<32> dst) {
        meta.ip_end = meta.ip_end + 20;
        hdr.ethernet.ether_type = 0x0800;
        hdr.outer4.setValid();
        hdr.outer4.version = 4;
        hdr.outer4.ihl = 5;
        hdr.outer4.tos = traffic_class;
        hdr.outer4.total_len = (bit<16>) (meta.ip_end - 14);
        hdr.outer4.identification = 0;
        hdr.outer4.reserved = 0;
        hdr.outer4.dont_fragment = 1;
        hdr.outer4.more_fragments = 0;
        hdr.outer4.fragment_offset = 0;
        hdr.outer4.ttl = 64;
        hdr.outer4.protocol = protocol;
        hdr.outer4.src = src;
        hdr.outer4.dst = dst;
        hash(hdr.outer4.checksum, HashAlgorithm.csum16, 16w0,
            { 8w0x45, traffic_class, hdr.outer4.total_len, 32w0x4000, 8w64, protocol, src, dst },
            32w65536);
    }

    // The source port spreads flows over links and queues; the server looks at the flow inside.
    action gue() {
        hash(port, HashAlgorithm.crc16, 16w49152,
            { meta.flow.src, meta.flow.dst, meta.flow.proto, meta.flow.sport, meta.flow.dport },
            32w16384);
        hdr.outer_udp.setValid();
        hdr.outer_udp.sport = port;
        hdr.outer_udp.dport = GUE_PORT;
        hdr.outer_udp.length = (bit<16>) (meta.ip_end - 14) + GUE_BYTES;
        hdr.outer_udp.checksum = 0;
        hdr.gue.setValid();
        hdr.gue.head = 0;
        hdr.gue.protocol = inner;
        hdr.gue.flags = 0;
        meta.ip_end = meta.ip_end + 12;
    }

    @name(".Ingress.ipip4")
    action ipip4(bit<32> src, bit<32> dst) {
        look_inside();
        outer4(inner, src, dst);
    }

    @name(".Ingress.gue4")
    action gue4(bit<32> src, bit<32> dst) {
        look_inside();
        gue();
        outer4(PROTO_UDP, src, dst);
    }

#ifdef DUAL_STACK
    action outer6(in bit<8> next_header, in bit<128> src, in bit<128> dst) {
        hdr.ethernet.ether_type = 0x86dd;
        hdr.outer6.setValid();
        hdr.outer6.version = 6;
        hdr.outer6.traffic_class = traffic_class;
        hdr.outer6.flow_label = 0;
        hdr.outer6.payload_len = (bit<16>) (meta.ip_end - 14);
        hdr.outer6.next_header = next_header;
        hdr.outer6.hop_limit = 64;
        hdr.outer6.src = src;
        hdr.outer6.dst = dst;
        meta.ip_end = meta.ip_end + 40;
    }

    @name(".Ingress.ipip6")
    action ipip6(bit<128> src, bit<128> dst) {
        look_inside();
        outer6(inner, src, dst);
    }

    @name(".Ingress.gue6")
    action gue6(bit<128> src, bit<128> dst) {
        look_inside();
        gue();
        outer6(PROTO_UDP, src, dst);
    }
#endif

    @name(".Ingress.tunnel")
    table tunnel {
        key = { meta.tunnel : exact @name("tunnel"); }
#ifdef DUAL_STACK
        actions = { ipip4; gue4; ipip6; gue6; @defaultonly refuse; }
#else
        actions = { ipip4; gue4; @defaultonly refuse; }
#endif
        const default_action = refuse();
        size = 16384;
    }

    apply {
        if (meta.tunnel != 0 && meta.place <= ROUTING) {
            if (meta.next_hop == 0) {
                refuse();
            } else {
                tunnel.apply();
            }
        }
    }
}
