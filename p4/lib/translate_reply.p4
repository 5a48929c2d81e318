// The reply part of a service that translates (balance, nat): to the client. It undoes what the forward part
// does.

#define PART REPLY
#define PLACE (MIDDLE - stage)
control TranslateReply(inout metadata_t meta, inout standard_metadata_t std)
                      (bit<8> stage, bit<32> fixed_size, bit<32> criteria_size) {
#include "stage.p4"

    table fixed {
        key = FLOW_KEY
        actions = { forward; translate; dispatch; discard; ask; @defaultonly NoAction; }
        const default_action = NoAction();
        size = fixed_size;
        support_timeout = true;
    }

    table criteria {
        key = CRITERIA_KEY
        actions = { pass; discard; dispatch; ask; @defaultonly NoAction; }
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
