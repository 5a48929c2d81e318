// What may enter the cascade: nothing before the agent is ready; then what the agent sends, where it
// says; and of all else, sound IP packets that are for us to route. What is for the agent itself
// (neighbour discovery, echo, fragments, ICMP errors, spent TTLs) leaves the pipeline here, unchanged.

control Admission(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    action refuse(bit<8> reason) {
        meta.reason = reason;
        meta.place = DROPPED;
    }

    action divert(bit<7> message) {
        meta.message = message;
        std.egress_spec = CPU_PORT;
        exit;
    }

    @name(".Ingress.go")
    action go() { }

    @name(".Ingress.hold")
    action hold() {
        refuse(NOT_READY);
    }

    // The agent writes its one entry last of all, so that no packet meets half a policy.
    @name(".Ingress.ready")
    table ready {
        key = { meta.program : exact @name("program"); }
        actions = { go; @defaultonly hold; }
        const default_action = hold();
        size = 1;
    }

    @name(".Ingress.own")
    action own(mac_t mac) {
        meta.mac = mac;
    }

    @name(".Ingress.unknown_port")
    action unknown_port() {
        refuse(UNKNOWN_PORT);
    }

    @name(".Ingress.port")
    table port {
        key = { std.ingress_port : exact @name("in_port"); }
        actions = { own; @defaultonly unknown_port; }
        const default_action = unknown_port();
        size = 512;
    }

    @name(".Ingress.divert_local")
    action divert_local() {
        divert(LOCAL);
    }

    // Packets that the agent answers itself: echo, and its own connections.
    @name(".Ingress.host")
    table host {
        key = {
            meta.flow.dst : ternary @name("dst");
            meta.flow.proto : ternary @name("proto");
            meta.flow.dport : ternary @name("dport");
            meta.flow.icmp : ternary @name("icmp");
        }
        actions = { divert_local; @defaultonly NoAction; }
        const default_action = NoAction();
        size = 1024;
    }

    action send() {
        std.egress_spec = hdr.packet_out.port[8:0];
        exit;
    }

    action restore(bit<8> place) {
        meta.place = place;
        meta.in_port = hdr.packet_out.port[8:0];
        meta.part = hdr.packet_out.part;
        meta.stage = hdr.packet_out.stage;
        meta.reply = hdr.packet_out.reply;
        meta.mark_set = hdr.packet_out.mark_set;
        meta.mark = hdr.packet_out.mark;
        meta.next_hop = hdr.packet_out.next_hop;
        meta.hop = hdr.packet_out.next_hop;
        meta.tunnel = hdr.packet_out.tunnel;
        meta.notices = hdr.packet_out.notices;
        meta.entry = hdr.packet_out.entry;
        if (hdr.packet_out.answered == 1) {
            meta.answered_at = place;
        }
    }

    apply {
        if (ready.apply().hit) {
            if (hdr.packet_out.isValid()) {
                if (hdr.packet_out.kind == SEND) {
                    send();
                } else if (meta.class != CLASS_IP || std.parser_error != error.NoError) {
                    refuse(BAD_PACKET_OUT);
                } else if (hdr.packet_out.kind == ROUTE) {
                    restore(ROUTING);
                } else if (hdr.packet_out.kind != RESUME) {
                    refuse(BAD_PACKET_OUT);
                } else if (hdr.packet_out.part == REPLY) {
                    restore(MIDDLE - (bit<8>) hdr.packet_out.stage);
                } else if (hdr.packet_out.part == FORWARD) {
                    restore(MIDDLE + (bit<8>) hdr.packet_out.stage);
                } else {
                    refuse(BAD_PACKET_OUT);
                }
            } else if (port.apply().hit) {
                // One test for the packets that have nothing wrong with them; the rest is sorted inside.
                if (meta.class != CLASS_IP || std.parser_error != error.NoError
                    || std.checksum_error != 0 || meta.rest > 65535
                    || meta.ip_end > std.packet_length || hdr.ethernet.dst != meta.mac) {
                    if (meta.class == CLASS_ARP) {
                        divert(ARP);
                    } else if (meta.class == CLASS_OTHER) {
                        refuse(NOT_IP);
                    } else if (std.parser_error != error.NoError || std.checksum_error != 0
                               || meta.rest > 65535 || meta.ip_end > std.packet_length) {
                        refuse(MALFORMED);
                    } else if (meta.class == CLASS_NDP) {
                        divert(NDP);
                    } else {
                        refuse(WRONG_MAC);
                    }
                } else {
                    host.apply();
                    if (meta.ttl <= 1 || meta.flow.kind != KIND_WHOLE) {
                        if (meta.ttl <= 1) {
                            divert(TTL);
                        } else if (meta.flow.kind == KIND_ICMP_ERROR) {
                            divert(ICMP_ERROR);
                        } else {
                            divert(FRAGMENT);
                        }
                    }
                }
            }
        }
    }
}
