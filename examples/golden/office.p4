// The pipeline of the policy office, for any P4_16 compiler with v1model.
// Made by `signalbox compile`: change the policy, not this file. Rules and criteria are table entries.
//
// 1. guard: filter
//      allow port office and ip.src in 10.1.0.0/24 and tcp.dst in { 80, 443 }
//      allow port servers and ip.src in 10.2.0.0/24 and tcp.src in { 80, 443 } and not tcp.flags syn/syn+ack
//      allow port office and ip.src in @admins and tcp.dst 22
//      allow port servers and ip.dst in @admins and tcp.src 22 and not tcp.flags syn/syn+ack
//      allow icmp.type in { echo-request, echo-reply }
//      default deny

#include <core.p4>
#include <v1model.p4>

const bit<9> CPU_PORT = 510; // leads to the agent
const bit<32> PROGRAM_ID = 0x18b896ec;

#include "signalbox/types.p4"
#include "signalbox/headers.p4"
#include "signalbox/parser.p4"
#include "signalbox/checksum.p4"
#include "signalbox/admission.p4"
#include "signalbox/keys.p4"
#include "signalbox/filter.p4"
#include "signalbox/routing.p4"
#include "signalbox/finish.p4"
#include "signalbox/rewrite.p4"
#include "signalbox/departure.p4"

control Cascade(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    Admission() admission;

    // 1. guard
    Filter(1, 4096) guard;

    Routing() routing;
    Finish() finish;

    apply {
        admission.apply(hdr, meta, std);

        // Forward: the first service first.
        guard.apply(meta);

        routing.apply(hdr, meta, std);
        finish.apply(meta, std);
    }
}

V1Switch(PacketParser(), VerifyHeaders(), Cascade(), Departure(), NoUpdate(), PacketDeparser()) main;
