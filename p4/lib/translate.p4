// The forward part of a service that translates or dispatches (balance, nat): from the client. It sends
// new flows' packets to the manager and established ones where the manager said, and leaves out packets
// that a reply part has translated.

#define PART FORWARD
#define PLACE (MIDDLE + stage)
control Translate(inout metadata_t meta, inout standard_metadata_t std)
                 (bit<8> stage, bit<32> fixed_size, bit<32> criteria_size) {
#include "stage.p4"

    table fixed {
        key = FLOW_KEY
        actions = { forward; translate; dispatch; discard; ask; @defaultonly NoAction; }
        const default_action = NoAction();
        size = fixed_size;
        support_timeout = true;
    }

    table wildcard {
        key = CRITERIA_KEY
        actions = { pass; discard; dispatch; ask; @defaultonly NoAction; }
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
