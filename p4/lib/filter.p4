// A filter: static rules, each packet by itself, in either direction.

control Filter(inout metadata_t meta)(bit<8> stage, bit<32> criteria_size) {
    counter(criteria_size + 1, CounterType.packets_and_bytes) stats;

    @noWarn("unused")
    action pass(bit<32> entry, bit<32> slot) {
        stats.count(slot);
    }

    @noWarn("unused")
    action discard(bit<32> entry, bit<32> slot) {
        meta.reason = SERVICE;
        meta.place = DROPPED;
        stats.count(slot);
    }

    table wildcard {
        key = CRITERIA_KEY
        actions = { pass; discard; @defaultonly NoAction; }
        const default_action = NoAction();
        size = criteria_size;
    }

    apply {
        if (meta.place <= MIDDLE + stage) {
            wildcard.apply();
        }
    }
}
