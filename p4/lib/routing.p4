// The next hop: the one a stage chose, else the route's. Then TTL, Ethernet addresses and egress port.

control Routing(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    action refuse(bit<8> reason) {
        meta.reason = reason;
        meta.place = DROPPED;
    }

    @name(".Ingress.to_next_hop")
    action to_next_hop(bit<16> id) {
        meta.hop = id;
    }

    // A connected subnet: the agent resolves the destination on that port.
    @name(".Ingress.glean")
    action glean(port_t port) {
        meta.message = GLEAN;
        meta.next_hop = (bit<16>) port;
        std.egress_spec = CPU_PORT;
        exit;
    }

    // Dropped, but the agent gets the packet at the end of ingress, to tell its sender.
    action undelivered(bit<8> reason) {
        refuse(reason);
        meta.message = UNDELIVERED;
    }

    // An address that a service serves, and it has not taken the packet: nobody is told.
    @name(".Ingress.local")
    action local() {
        refuse(NOT_SERVED);
    }

    // An address of the switch alone, where nobody listens.
    @name(".Ingress.closed")
    action closed() {
        undelivered(NOT_SERVED);
    }

    @name(".Ingress.unreachable")
    action unreachable() {
        undelivered(NO_ROUTE);
    }

    @name(".Ingress.route")
    table route {
        key = { meta.flow.dst : lpm @name("dst"); }
        actions = { to_next_hop; glean; local; closed; unreachable; }
        default_action = unreachable();
        size = 16384;
    }

    // RFC 1141: the TTL is one less, so the checksum is 0x100 more, with the carry brought round.
    action spend_ttl() {
        hdr.ipv4.ttl = hdr.ipv4.ttl - 1;
        hdr.ipv4.checksum = hdr.ipv4.checksum
            + (hdr.ipv4.checksum >= 0xfeff ? 16w0x101 : 16w0x100);
    }

    // Too long for the next hop's link, a tunnel's headers counted: the agent tells the sender. It gets the
    // packet without those headers.
    action too_big() {
        meta.message = TOO_BIG;
        meta.next_hop = meta.hop;
        std.egress_spec = CPU_PORT;
#ifdef TUNNELS
        hdr.outer4.setInvalid();
        hdr.outer_udp.setInvalid();
        hdr.gue.setInvalid();
        hdr.ethernet.ether_type = 0x0800;
#ifdef DUAL_STACK
        hdr.outer6.setInvalid();
        if (hdr.ipv6.isValid()) {
            hdr.ethernet.ether_type = 0x86dd;
        }
#endif
#endif
        exit;
    }

    // `mtu` is the longest IP packet that the link takes, in bytes.
    @name(".Ingress.send")
    action send(port_t port, mac_t src, mac_t dst, bit<16> mtu) {
        if (meta.ip_end > (bit<32>) mtu + 14) {
            too_big();
        } else {
            std.egress_spec = port;
            hdr.ethernet.src = src;
            hdr.ethernet.dst = dst;
#ifdef DUAL_STACK
            if (hdr.ipv6.isValid()) {
                hdr.ipv6.hop_limit = hdr.ipv6.hop_limit - 1;
            } else {
                spend_ttl();
            }
#else
            spend_ttl();
#endif
        }
    }

    // A next hop that a stage named must be there; one that a route named may await its neighbour. A
    // packet that the route has dropped misses too, with no next hop at all.
    @name(".Ingress.unresolved")
    action unresolved() {
        if (meta.next_hop != 0) {
            refuse(NO_NEXT_HOP);
        } else if (meta.place <= ROUTING) {
            meta.message = UNRESOLVED;
            meta.next_hop = meta.hop;
            std.egress_spec = CPU_PORT;
            exit;
        }
    }

    @name(".Ingress.next_hop")
    table next_hop {
        key = { meta.hop : exact @name("next_hop"); }
        actions = { send; @defaultonly unresolved; }
        const default_action = unresolved();
        size = 16384;
    }

    apply {
        if (meta.place <= ROUTING) {
            if (meta.next_hop == 0) {
                route.apply();
            }
            next_hop.apply();
        }
    }
}
