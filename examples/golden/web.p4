// The pipeline of the policy web, for any P4_16 compiler with v1model.
// Made by `signalbox compile`: change the policy, not this file. Rules and criteria are table entries.
//
// 1. guard: filter
//      deny ip.src in @blocked
//      default allow
//
// 2. web-lb: balance
//      match tcp.dst 203.0.113.80:80
//      to @web

#include <core.p4>
#include <v1model.p4>

const bit<9> CPU_PORT = 510; // leads to the agent
const bit<32> PROGRAM_ID = 0x10e74945;

#include "signalbox/types.p4"
#include "signalbox/headers.p4"
#include "signalbox/parser.p4"
#include "signalbox/checksum.p4"
#include "signalbox/admission.p4"
#include "signalbox/keys.p4"
#include "signalbox/filter.p4"
#include "signalbox/translate.p4"
#include "signalbox/translate_reply.p4"
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

    Routing() routing;
    Finish() finish;

    apply {
        admission.apply(hdr, meta, std);

        // Replies: the last service first.
        web_lb_reply.apply(meta, std);

        // Forward: the first service first.
        guard.apply(meta);
        web_lb.apply(meta, std);

        routing.apply(hdr, meta, std);
        finish.apply(meta, std);
    }
}

V1Switch(PacketParser(), VerifyHeaders(), Cascade(), Departure(), NoUpdate(), PacketDeparser()) main;
