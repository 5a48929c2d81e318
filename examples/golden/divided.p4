// The pipeline of the policy divided, for any P4_16 compiler with v1model.
// Made by `signalbox compile`: change the policy, not this file. Rules and criteria are table entries.
//
// 1. shop: balance
//      match tcp.dst 203.0.113.80:80
//      to @web
//
// 2. egress: nat
//      match ip.src in 10.1.0.0/24 and not ip.dst in 10.0.0.0/8
//      source 203.0.113.100..203.0.113.101 ports 1024..65535

#include <core.p4>
#include <v1model.p4>

const bit<9> CPU_PORT = 510; // leads to the agent
const bit<32> PROGRAM_ID = 0x9d8075bc;

#include "signalbox/types.p4"
#include "signalbox/headers.p4"
#include "signalbox/parser.p4"
#include "signalbox/checksum.p4"
#include "signalbox/admission.p4"
#include "signalbox/keys.p4"
#include "signalbox/translate.p4"
#include "signalbox/translate_reply.p4"
#include "signalbox/routing.p4"
#include "signalbox/finish.p4"
#include "signalbox/rewrite.p4"
#include "signalbox/departure.p4"

control Cascade(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    Admission() admission;

    // 1. shop
    Translate(1, 65536, 4096) shop;
    TranslateReply(1, 65536, 4096) shop_reply;

    // 2. egress
    Translate(2, 65536, 4096) egress;
    TranslateReply(2, 65536, 4096) egress_reply;

    Routing() routing;
    Finish() finish;

    apply {
        admission.apply(hdr, meta, std);

        // Replies: the last service first.
        egress_reply.apply(meta, std);
        shop_reply.apply(meta, std);

        // Forward: the first service first.
        shop.apply(meta, std);
        egress.apply(meta, std);

        routing.apply(hdr, meta, std);
        finish.apply(meta, std);
    }
}

V1Switch(PacketParser(), VerifyHeaders(), Cascade(), Departure(), NoUpdate(), PacketDeparser()) main;
