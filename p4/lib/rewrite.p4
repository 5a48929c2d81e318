// Brings headers in line with the flow, once, after the last stage that touched the packet. Checksums are
// updated by the difference (RFC 1624): the ones' complement sum of the old checksum's and fields'
// complements and of the new fields. The mapped prefix of IPv4 addresses cancels itself out.

control Rewrite(inout headers_t hdr, in flow_t flow) {
    bit<16> identifier;

    action tcp(in addr_t src, in addr_t dst) {
        hash(hdr.tcp.checksum, HashAlgorithm.csum16, 16w0,
            { ~hdr.tcp.checksum, ~src, ~dst, ~hdr.tcp.sport, ~hdr.tcp.dport,
              flow.src, flow.dst, flow.sport, flow.dport }, 32w65536);
        hdr.tcp.sport = flow.sport;
        hdr.tcp.dport = flow.dport;
    }

    // Zero means that the sender computed none; a sum that comes to zero is sent as its other form.
    action udp(in addr_t src, in addr_t dst) {
        if (hdr.udp.checksum != 0) {
            hash(hdr.udp.checksum, HashAlgorithm.csum16, 16w0,
                { ~hdr.udp.checksum, ~src, ~dst, ~hdr.udp.sport, ~hdr.udp.dport,
                  flow.src, flow.dst, flow.sport, flow.dport }, 32w65536);
            if (hdr.udp.checksum == 0) {
                hdr.udp.checksum = 0xffff;
            }
        }
        hdr.udp.sport = flow.sport;
        hdr.udp.dport = flow.dport;
    }

    // An echo's identifier is one of the flow's ports; the other is zero.
    action echo() {
        identifier = flow.sport | flow.dport;
        hash(hdr.icmp.checksum, HashAlgorithm.csum16, 16w0,
            { ~hdr.icmp.checksum, ~hdr.echo.identifier, identifier }, 32w65536);
        hdr.echo.identifier = identifier;
    }

#ifdef DUAL_STACK
    action echo6(in addr_t src, in addr_t dst) {
        identifier = flow.sport | flow.dport;
        hash(hdr.icmp6.checksum, HashAlgorithm.csum16, 16w0,
            { ~hdr.icmp6.checksum, ~src, ~dst, ~hdr.echo.identifier,
              flow.src, flow.dst, identifier }, 32w65536);
        hdr.echo.identifier = identifier;
    }

    // ICMPv6 sums a pseudo header; ICMP does not.
    action icmp6(in addr_t src, in addr_t dst) {
        hash(hdr.icmp6.checksum, HashAlgorithm.csum16, 16w0,
            { ~hdr.icmp6.checksum, ~src, ~dst, flow.src, flow.dst }, 32w65536);
    }
#endif

    action ipv4(in addr_t src, in addr_t dst) {
        hash(hdr.ipv4.checksum, HashAlgorithm.csum16, 16w0,
            { ~hdr.ipv4.checksum, ~src, ~dst, flow.src, flow.dst }, 32w65536);
        hdr.ipv4.src = flow.src[31:0];
        hdr.ipv4.dst = flow.dst[31:0];
    }

    apply {
#ifdef DUAL_STACK
        addr_t src;
        addr_t dst;
        if (hdr.ipv6.isValid()) {
            src = hdr.ipv6.src;
            dst = hdr.ipv6.dst;
        } else {
            src = MAPPED ++ hdr.ipv4.src;
            dst = MAPPED ++ hdr.ipv4.dst;
        }
        if (hdr.tcp.isValid()) {
            tcp(src, dst);
        } else if (hdr.udp.isValid()) {
            udp(src, dst);
        } else if (hdr.icmp6.isValid()) {
            if (hdr.echo.isValid()) {
                echo6(src, dst);
            } else {
                icmp6(src, dst);
            }
        } else if (hdr.echo.isValid()) {
            echo();
        }
        if (hdr.ipv6.isValid()) {
            hdr.ipv6.src = flow.src;
            hdr.ipv6.dst = flow.dst;
        } else {
            ipv4(src, dst);
        }
#else
        if (hdr.tcp.isValid()) {
            tcp(hdr.ipv4.src, hdr.ipv4.dst);
        } else if (hdr.udp.isValid()) {
            udp(hdr.ipv4.src, hdr.ipv4.dst);
        } else if (hdr.echo.isValid()) {
            echo();
        }
        ipv4(hdr.ipv4.src, hdr.ipv4.dst);
#endif
    }
}
