// A service that counts and changes nothing. It sees every packet, replies too, which by then have the
// addresses that the client knows.

#define PART FORWARD
#define PLACE (MIDDLE + stage)
control Observe(inout metadata_t meta, inout standard_metadata_t std)
               (bit<8> stage, bit<32> fixed_size, bit<32> criteria_size) {
#include "stage.p4"

    table fixed {
        key = FLOW_KEY
        actions = { forward; @defaultonly NoAction; }
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
        if (meta.place <= PLACE) {
            if (fixed.apply().miss) {
                wildcard.apply();
            }
        }
    }
}
#undef PART
#undef PLACE
