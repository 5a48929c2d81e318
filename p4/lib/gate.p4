// A gate: its manager answers for a server until a client has shown that it may come in, and then joins
// the client's connection and the server's. Addresses stay; numbers are adjusted in both parts. All packets
// without a fixed affinity go to the manager.

#define PART FORWARD
#define PLACE (MIDDLE + stage)
control Gate(inout metadata_t meta, inout standard_metadata_t std)
            (bit<8> stage, bit<32> fixed_size, bit<32> criteria_size) {
#include "stage.p4"
#include "adjust.p4"

    table fixed {
        key = FLOW_KEY
        actions = { forward; adjust; discard; ask; @defaultonly NoAction; }
        const default_action = NoAction();
        size = fixed_size;
        support_timeout = true;
    }

    table wildcard {
        key = CRITERIA_KEY
        actions = { pass; discard; ask; @defaultonly NoAction; }
        const default_action = NoAction();
        size = criteria_size;
    }

    apply {
        if (meta.place <= PLACE && meta.reply == 0) {
            if (fixed.apply().miss) {
                wildcard.apply();
            }
        }
    }
}
#undef PART
#undef PLACE

// From the server.
#define PART REPLY
#define PLACE (MIDDLE - stage)
control GateReply(inout metadata_t meta, inout standard_metadata_t std)
                 (bit<8> stage, bit<32> fixed_size, bit<32> criteria_size) {
#include "stage.p4"
#include "adjust.p4"

    table fixed {
        key = FLOW_KEY
        actions = { forward; adjust; discard; ask; @defaultonly NoAction; }
        const default_action = NoAction();
        size = fixed_size;
        support_timeout = true;
    }

    table criteria {
        key = CRITERIA_KEY
        actions = { pass; discard; ask; @defaultonly NoAction; }
        const default_action = NoAction();
        size = criteria_size;
    }

    apply {
        if (meta.place <= PLACE) {
            if (fixed.apply().miss) {
                criteria.apply();
            }
        }
    }
}
#undef PART
#undef PLACE
