    // What stages have in common that a manager decides for: their counter and their actions. Each one's
    // control includes it, with PART and PLACE defined as its own. An entry's events are looked at first:
    // a packet that its manager wants is diverted as the stage found it. Slot 0 of `stats` is nobody's.

    counter(fixed_size + criteria_size + 1, CounterType.packets_and_bytes) stats;

    action interest(bit<32> entry) {
        meta.message = INTEREST;
        meta.part = PART;
        meta.stage = stage[5:0];
        meta.entry = entry;
        std.egress_spec = CPU_PORT;
        exit;
    }

    action notice(bit<32> entry) {
        meta.notices = meta.notices | (32w1 << (stage - 1));
        meta.part = PART;
        meta.stage = stage[5:0];
        meta.entry = entry;
    }

    action forward(bit<10> packet_events, bit<10> notice_events, bit<32> entry, bit<32> slot) {
        if ((meta.events & packet_events) != 0 && meta.answered_at != PLACE) {
            interest(entry);
        } else {
            if ((meta.events & notice_events) != 0) {
                notice(entry);
            }
            stats.count(slot);
        }
    }

    // In the reply part, what is translated is a reply, and leaves out the forward part's translations.
    @noWarn("unused")
    action translate(addr_t src, addr_t dst, bit<16> sport, bit<16> dport,
                     bit<10> packet_events, bit<10> notice_events, bit<32> entry, bit<32> slot) {
        if ((meta.events & packet_events) != 0 && meta.answered_at != PLACE) {
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
            if (PART == REPLY) {
                meta.reply = 1;
            }
            stats.count(slot);
        }
    }

    @noWarn("unused")
    action dispatch(bit<16> next_hop, bit<16> tunnel,
                    bit<10> packet_events, bit<10> notice_events, bit<32> entry, bit<32> slot) {
        if ((meta.events & packet_events) != 0 && meta.answered_at != PLACE) {
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

    @noWarn("unused")
    action pass(bit<32> entry, bit<32> slot) {
        stats.count(slot);
    }

    action ask(bit<10> packet_events, bit<10> notice_events, bit<1> else_drop,
               bit<32> entry, bit<32> slot) {
        if ((meta.events & packet_events) != 0 && meta.answered_at != PLACE) {
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
