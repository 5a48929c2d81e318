// A balance service: its forward part, which sends new flows' packets to the manager and established
// ones to their server, and its reply part, which brings servers' packets back to the service's address.
//
// An entry's events are looked at first: a packet that its manager wants is diverted as the stage found
// it. Slot 0 of `stats` is nobody's.

// From the client: skipped when the reply part has translated the packet.
control Balance(inout metadata_t meta, inout standard_metadata_t std)
              (bit<8> stage, bit<32> fixed_size, bit<32> criteria_size) {
    counter(fixed_size + criteria_size + 1, CounterType.packets_and_bytes) stats;

    action interest(bit<32> entry) {
        meta.message = INTEREST;
        meta.part = FORWARD;
        meta.stage = stage[5:0];
        meta.entry = entry;
        std.egress_spec = CPU_PORT;
        exit;
    }

    action notice(bit<32> entry) {
        meta.notices = meta.notices | (32w1 << (stage - 1));
        meta.part = FORWARD;
        meta.stage = stage[5:0];
        meta.entry = entry;
    }

    action forward(bit<10> packet_events, bit<10> notice_events, bit<32> entry, bit<32> slot) {
        if ((meta.events & packet_events) != 0 && meta.answered_at != MIDDLE + stage) {
            interest(entry);
        } else {
            if ((meta.events & notice_events) != 0) {
                notice(entry);
            }
            stats.count(slot);
        }
    }

    action translate(addr_t src, addr_t dst, bit<16> sport, bit<16> dport,
                     bit<10> packet_events, bit<10> notice_events, bit<32> entry, bit<32> slot) {
        if ((meta.events & packet_events) != 0 && meta.answered_at != MIDDLE + stage) {
            interest(entry);
        } else {
            if ((meta.events & notice_events) != 0) {
                notice(entry);
            }
            meta.flow.src = src;
            meta.flow.dst = dst;
            meta.flow.sport = sport;
            meta.flow.dport = dport;
            meta.translated = 1;
            stats.count(slot);
        }
    }

    action dispatch(bit<16> next_hop, bit<16> tunnel,
                    bit<10> packet_events, bit<10> notice_events, bit<32> entry, bit<32> slot) {
        if ((meta.events & packet_events) != 0 && meta.answered_at != MIDDLE + stage) {
            interest(entry);
        } else {
            if ((meta.events & notice_events) != 0) {
                notice(entry);
            }
            meta.next_hop = next_hop;
            meta.hop = next_hop;
            meta.tunnel = tunnel;
            stats.count(slot);
        }
    }

    @noWarn("unused")
    action discard(bit<32> entry, bit<32> slot) {
        meta.reason = SERVICE;
        meta.place = DROPPED;
        stats.count(slot);
    }

    table fixed {
        key = {
            meta.flow.src : exact @name("src");
            meta.flow.dst : exact @name("dst");
            meta.flow.proto : exact @name("proto");
            meta.flow.sport : exact @name("sport");
            meta.flow.dport : exact @name("dport");
            meta.flow.kind : exact @name("kind");
        }
        actions = { forward; translate; dispatch; discard; @defaultonly NoAction; }
        const default_action = NoAction();
        size = fixed_size;
        support_timeout = true;
    }

    @noWarn("unused")
    action pass(bit<32> entry, bit<32> slot) {
        stats.count(slot);
    }

    action ask(bit<10> packet_events, bit<10> notice_events, bit<1> else_drop,
               bit<32> entry, bit<32> slot) {
        if ((meta.events & packet_events) != 0 && meta.answered_at != MIDDLE + stage) {
            interest(entry);
        } else {
            if ((meta.events & notice_events) != 0) {
                notice(entry);
            }
            if (else_drop == 1) {
                meta.reason = SERVICE;
                meta.place = DROPPED;
            }
            stats.count(slot);
        }
    }

    table wildcard {
        key = {
            meta.in_port : ternary @name("in_port");
            meta.flow.src : ternary @name("src");
            meta.flow.dst : ternary @name("dst");
            meta.flow.proto : ternary @name("proto");
            meta.flow.sport : ternary @name("sport");
            meta.flow.dport : ternary @name("dport");
            meta.flow.flags : ternary @name("flags");
            meta.flow.icmp : ternary @name("icmp");
            meta.flow.kind : ternary @name("kind");
        }
        actions = { pass; discard; dispatch; ask; @defaultonly NoAction; }
        const default_action = NoAction();
        size = criteria_size;
    }

    apply {
        if (meta.place <= MIDDLE + stage && meta.reply == 0) {
            if (fixed.apply().miss) {
                wildcard.apply();
            }
        }
    }
}

// From a server. A hit that translates marks the packet as a reply.
control BalanceReply(inout metadata_t meta, inout standard_metadata_t std)
              (bit<8> stage, bit<32> fixed_size, bit<32> criteria_size) {
    counter(fixed_size + criteria_size + 1, CounterType.packets_and_bytes) stats;

    action interest(bit<32> entry) {
        meta.message = INTEREST;
        meta.part = REPLY;
        meta.stage = stage[5:0];
        meta.entry = entry;
        std.egress_spec = CPU_PORT;
        exit;
    }

    action notice(bit<32> entry) {
        meta.notices = meta.notices | (32w1 << (stage - 1));
        meta.part = REPLY;
        meta.stage = stage[5:0];
        meta.entry = entry;
    }

    action forward(bit<10> packet_events, bit<10> notice_events, bit<32> entry, bit<32> slot) {
        if ((meta.events & packet_events) != 0 && meta.answered_at != MIDDLE - stage) {
            interest(entry);
        } else {
            if ((meta.events & notice_events) != 0) {
                notice(entry);
            }
            stats.count(slot);
        }
    }

    action translate(addr_t src, addr_t dst, bit<16> sport, bit<16> dport,
                     bit<10> packet_events, bit<10> notice_events, bit<32> entry, bit<32> slot) {
        if ((meta.events & packet_events) != 0 && meta.answered_at != MIDDLE - stage) {
            interest(entry);
        } else {
            if ((meta.events & notice_events) != 0) {
                notice(entry);
            }
            meta.flow.src = src;
            meta.flow.dst = dst;
            meta.flow.sport = sport;
            meta.flow.dport = dport;
            meta.translated = 1;
            meta.reply = 1;
            stats.count(slot);
        }
    }

    action dispatch(bit<16> next_hop, bit<16> tunnel,
                    bit<10> packet_events, bit<10> notice_events, bit<32> entry, bit<32> slot) {
        if ((meta.events & packet_events) != 0 && meta.answered_at != MIDDLE - stage) {
            interest(entry);
        } else {
            if ((meta.events & notice_events) != 0) {
                notice(entry);
            }
            meta.next_hop = next_hop;
            meta.hop = next_hop;
            meta.tunnel = tunnel;
            stats.count(slot);
        }
    }

    @noWarn("unused")
    action discard(bit<32> entry, bit<32> slot) {
        meta.reason = SERVICE;
        meta.place = DROPPED;
        stats.count(slot);
    }

    table fixed {
        key = {
            meta.flow.src : exact @name("src");
            meta.flow.dst : exact @name("dst");
            meta.flow.proto : exact @name("proto");
            meta.flow.sport : exact @name("sport");
            meta.flow.dport : exact @name("dport");
            meta.flow.kind : exact @name("kind");
        }
        actions = { forward; translate; dispatch; discard; @defaultonly NoAction; }
        const default_action = NoAction();
        size = fixed_size;
        support_timeout = true;
    }

    @noWarn("unused")
    action pass(bit<32> entry, bit<32> slot) {
        stats.count(slot);
    }

    action ask(bit<10> packet_events, bit<10> notice_events, bit<1> else_drop,
               bit<32> entry, bit<32> slot) {
        if ((meta.events & packet_events) != 0 && meta.answered_at != MIDDLE - stage) {
            interest(entry);
        } else {
            if ((meta.events & notice_events) != 0) {
                notice(entry);
            }
            if (else_drop == 1) {
                meta.reason = SERVICE;
                meta.place = DROPPED;
            }
            stats.count(slot);
        }
    }

    table criteria {
        key = {
            meta.in_port : ternary @name("in_port");
            meta.flow.src : ternary @name("src");
            meta.flow.dst : ternary @name("dst");
            meta.flow.proto : ternary @name("proto");
            meta.flow.sport : ternary @name("sport");
            meta.flow.dport : ternary @name("dport");
            meta.flow.flags : ternary @name("flags");
            meta.flow.icmp : ternary @name("icmp");
            meta.flow.kind : ternary @name("kind");
        }
        actions = { pass; discard; dispatch; ask; @defaultonly NoAction; }
        const default_action = NoAction();
        size = criteria_size;
    }

    apply {
        if (meta.place <= MIDDLE - stage) {
            if (fixed.apply().miss) {
                criteria.apply();
            }
        }
    }
}
