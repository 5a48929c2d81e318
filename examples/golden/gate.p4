// The pipeline of the policy gate, for any P4_16 compiler with v1model.
// Made by `signalbox compile`: change the policy, not this file. Rules and criteria are table entries.
//
// 1. guard: filter
//      deny ip.src in @blocked
//      default allow
//
// 2. admin: gate
//      match tcp.dst 10.0.1.5:22
//      allow ip.src in @staff from 08:00 to 18:00 on mon, tue, wed, thu, fri
//      allow ip.src 203.0.113.22
//
// 3. door: gate
//      match tcp.dst 203.0.113.80:443
//      allow ip
//
// 4. meter: observe
//      match tcp.dst 203.0.113.80:443
//      count per flow
//
// 5. web-lb: balance
//      match tcp.dst 203.0.113.80:443
//      to @web

#include <core.p4>
#include <v1model.p4>

#define GATES
const bit<9> CPU_PORT = 510; // leads to the agent
const bit<32> PROGRAM_ID = 0xace6958e;

#include "signalbox/types.p4"
#include "signalbox/headers.p4"
#include "signalbox/parser.p4"
#include "signalbox/checksum.p4"
#include "signalbox/admission.p4"
#include "signalbox/keys.p4"
#include "signalbox/filter.p4"
#include "signalbox/translate.p4"
#include "signalbox/translate_reply.p4"
#include "signalbox/observe.p4"
#include "signalbox/gate.p4"
#include "signalbox/routing.p4"
#include "signalbox/finish.p4"
#include "signalbox/rewrite.p4"
#include "signalbox/deltas.p4"
#include "signalbox/departure.p4"

control Cascade(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    Admission() admission;

    // 1. guard
    Filter(1, 4096) guard;

    // 2. admin
    Gate(2, 65536, 4096) admin;
    GateReply(2, 65536, 4096) admin_reply;

    // 3. door
    Gate(3, 65536, 4096) door;
    GateReply(3, 65536, 4096) door_reply;

    // 4. meter
    Observe(4, 65536, 4096) meter_;

    // 5. web-lb
    Translate(5, 65536, 4096) web_lb;
    TranslateReply(5, 65536, 4096) web_lb_reply;

    Routing() routing;
    Finish() finish;

    apply {
        admission.apply(hdr, meta, std);

        // Replies: the last service first.
        web_lb_reply.apply(meta, std);
        door_reply.apply(meta, std);
        admin_reply.apply(meta, std);

        // Forward: the first service first.
        guard.apply(meta);
        admin.apply(meta, std);
        door.apply(meta, std);
        meter_.apply(meta, std);
        web_lb.apply(meta, std);

        routing.apply(hdr, meta, std);
        finish.apply(meta, std);
    }
}

V1Switch(PacketParser(), VerifyHeaders(), Cascade(), Departure(), NoUpdate(), PacketDeparser()) main;
