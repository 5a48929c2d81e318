// The end of ingress: a drop is counted by its reason, and notices leave as one clone, also of a packet
// that is dropped. A diverted packet does not come here; it carries its notices with it, and so does one
// that could not be delivered, which goes to the agent instead of nowhere.

control Finish(inout metadata_t meta, inout standard_metadata_t std) {
    @name(".Ingress.drops")
    counter(16, CounterType.packets_and_bytes) drops;

    action drop() {
        drops.count((bit<32>) meta.reason);
        mark_to_drop(std);
    }

    action drop_aloud() {
        drops.count((bit<32>) meta.reason);
        std.egress_spec = CPU_PORT;
    }

    action notify() {
        meta.message = NOTICE;
        clone_preserving_field_list(CloneType.I2E, NOTICE_SESSION, 1);
    }

    apply {
        if (meta.place == DROPPED || meta.notices != 0) {
            if (meta.message == UNDELIVERED) {
                drop_aloud();
            } else {
                if (meta.place == DROPPED) {
                    drop();
                }
                if (meta.notices != 0) {
                    notify();
                }
            }
        }
    }
}
