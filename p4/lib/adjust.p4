    // What a gate does to a flow that it lets through: its numbers go on where the gate's own connections
    // ended. Deltas of several gates add up, and Deltas applies them. In the reply part the packet is a
    // reply, as a translated one is.
    action adjust(bit<32> sequence, bit<32> acknowledgement, bit<8> window_shift,
                  bit<10> packet_events, bit<10> notice_events, bit<32> entry, bit<32> slot) {
        if ((meta.events & packet_events) != 0 && meta.answered_at != PLACE) {
            interest(entry);
        } else {
            if ((meta.events & notice_events) != 0) {
                notice(entry);
            }
            meta.deltas.sequence = meta.deltas.sequence + sequence;
            meta.deltas.acknowledgement = meta.deltas.acknowledgement + acknowledgement;
            meta.deltas.window_shift = meta.deltas.window_shift + window_shift;
            meta.adjusted = 1;
            if (PART == REPLY) {
                meta.reply = 1;
            }
            stats.count(slot);
        }
    }
