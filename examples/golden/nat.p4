// The pipeline of the policy nat, for any P4_16 compiler with v1model.
// Made by `signalbox compile`: change the policy, not this file. Rules and criteria are table entries.
//
// 1. mail: nat
//      match port internet and tcp.dst 203.0.113.25:25
//      destination 10.2.0.25:2525
//
// 2. dmz: nat
//      match ip.src 10.2.0.30
//      one-to-one 10.2.0.30/32 = 203.0.113.30/32
//
// 3. egress: nat
//      match ip.src in 10.1.0.0/24 and not ip.dst in 10.0.0.0/8
//      source 203.0.113.100..203.0.113.101 ports 1024..65535

#include <core.p4>
#include <v1model.p4>

const bit<9> CPU_PORT = 510; // leads to the agent
const bit<32> PROGRAM_ID = 0xc9d519b3;

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

    // 1. mail
    Translate(1, 65536, 4096) mail;
    TranslateReply(1, 65536, 4096) mail_reply;

    // 2. dmz
    Translate(2, 65536, 4096) dmz;
    TranslateReply(2, 65536, 4096) dmz_reply;

    // 3. egress
    Translate(3, 65536, 4096) egress;
    TranslateReply(3, 65536, 4096) egress_reply;

    Routing() routing;
    Finish() finish;

    apply {
        admission.apply(hdr, meta, std);

        // Replies: the last service first.
        egress_reply.apply(meta, std);
        dmz_reply.apply(meta, std);
        mail_reply.apply(meta, std);

        // Forward: the first service first.
        mail.apply(meta, std);
        dmz.apply(meta, std);
        egress.apply(meta, std);

        routing.apply(hdr, meta, std);
        finish.apply(meta, std);
    }
}

V1Switch(PacketParser(), VerifyHeaders(), Cascade(), Departure(), NoUpdate(), PacketDeparser()) main;
