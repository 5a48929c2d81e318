// The pipeline of the policy everything, for any P4_16 compiler with v1model.
// Made by `signalbox compile`: change the policy, not this file. Rules and criteria are table entries.
//
// 1. guard: filter
//      deny ip.src in 198.51.100.0/24
//      default allow
//
// 2. web-lb: balance
//      match tcp.dst 203.0.113.80:80
//      to @web
//
// 3. egress: nat
//      match ip.src in 10.0.1.0/24
//      source 203.0.113.100 ports 1024..65535
//
// 4. flows: observe
//      match ip.src in 0.0.0.0/0
//      count per flow

#include <core.p4>
#include <v1model.p4>

const bit<9> CPU_PORT = 510; // leads to the agent
const bit<32> PROGRAM_ID = 0x66e84cb3;

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
#include "signalbox/routing.p4"
#include "signalbox/finish.p4"
#include "signalbox/rewrite.p4"
#include "signalbox/departure.p4"

control Cascade(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    Admission() admission;

    // 1. guard
    Filter(1, 4096) guard;

    // 2. web-lb
    Translate(2, 65536, 4096) web_lb;
    TranslateReply(2, 65536, 4096) web_lb_reply;

    // 3. egress
    Translate(3, 65536, 4096) egress;
    TranslateReply(3, 65536, 4096) egress_reply;

    // 4. flows
    Observe(4, 65536, 4096) flows;

    Routing() routing;
    Finish() finish;

    apply {
        admission.apply(hdr, meta, std);

        // Replies: the last service first.
        egress_reply.apply(meta, std);
        web_lb_reply.apply(meta, std);

        // Forward: the first service first.
        guard.apply(meta);
        web_lb.apply(meta, std);
        egress.apply(meta, std);
        flows.apply(meta, std);

        routing.apply(hdr, meta, std);
        finish.apply(meta, std);
    }
}

V1Switch(PacketParser(), VerifyHeaders(), Cascade(), Departure(), NoUpdate(), PacketDeparser()) main;
