// After the traffic manager: the one rewrite, and the header for what goes to the agent, whether it was
// diverted or is the clone of a packet that somebody is to be told of. Then the headers go out again.

control Departure(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    Rewrite() rewrite;
#ifdef GATES
    Deltas() deltas;
#endif

    action to_agent() {
        hdr.packet_in.setValid();
        hdr.packet_in.kind = meta.message;
        hdr.packet_in.part = meta.part;
        hdr.packet_in.reply = meta.reply;
        hdr.packet_in.answered = 0;
        hdr.packet_in.mark_set = meta.mark_set;
        hdr.packet_in.mark = meta.mark;
        hdr.packet_in.stage = meta.stage;
        hdr.packet_in.port = (bit<16>) meta.in_port;
        hdr.packet_in.next_hop = meta.next_hop;
        hdr.packet_in.tunnel = meta.tunnel;
        hdr.packet_in.notices = meta.notices;
        hdr.packet_in.entry = meta.entry;
    }

    apply {
        if (meta.translated == 1) {
            rewrite.apply(hdr, meta.flow);
        }
#ifdef GATES
        if (meta.adjusted == 1) {
            deltas.apply(hdr, meta.deltas);
        }
#endif
        if (std.egress_port == CPU_PORT) {
            to_agent();
            if (meta.message == NOTICE) {
                truncate(NOTICE_BYTES);
            }
        }
    }
}

// The packet-out header ends here: it is not emitted.
control PacketDeparser(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr.packet_in);
        packet.emit(hdr.ethernet);
#ifdef TUNNELS
        packet.emit(hdr.outer4);
#ifdef DUAL_STACK
        packet.emit(hdr.outer6);
#endif
        packet.emit(hdr.outer_udp);
        packet.emit(hdr.gue);
#endif
        packet.emit(hdr.ipv4);
        packet.emit(hdr.options);
#ifdef DUAL_STACK
        packet.emit(hdr.ipv6);
        packet.emit(hdr.extensions);
        packet.emit(hdr.icmp6);
#endif
        packet.emit(hdr.tcp);
        packet.emit(hdr.udp);
        packet.emit(hdr.icmp);
        packet.emit(hdr.echo);
    }
}
