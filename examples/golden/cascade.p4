// The pipeline of the policy cascade, for any P4_16 compiler with v1model.
// Made by `signalbox compile`: change the policy, not this file. Rules and criteria are table entries.
//
// 1. guard: filter
//      deny ip.src in @blocked or ip.dst in @blocked
//      deny port office and not ip.src in 10.1.0.0/24
//      default allow
//
// 2. meter: observe
//      match tcp or udp or icmp
//      count per flow
//
// 3. web-lb: balance
//      match tcp.dst 203.0.113.80:80
//      to @web
//
// 4. dns-lb: balance
//      match port office and udp.dst 10.1.0.53:53
//      to @resolvers
//
// 5. egress: nat
//      match ip.src in 10.1.0.0/24 and not ip.dst in 10.0.0.0/8
//      source 203.0.113.100..203.0.113.101 ports 1024..65535

#include <core.p4>
#include <v1model.p4>

const bit<9> CPU_PORT = 510; // leads to the agent
const bit<32> PROGRAM_ID = 0xd917f35e;

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

    // 2. meter
    Observe(2, 65536, 4096) meter_;

    // 3. web-lb
    Translate(3, 65536, 4096) web_lb;
    TranslateReply(3, 65536, 4096) web_lb_reply;

    // 4. dns-lb
    Translate(4, 65536, 4096) dns_lb;
    TranslateReply(4, 65536, 4096) dns_lb_reply;

    // 5. egress
    Translate(5, 65536, 4096) egress;
    TranslateReply(5, 65536, 4096) egress_reply;

    Routing() routing;
    Finish() finish;

    apply {
        admission.apply(hdr, meta, std);

        // Replies: the last service first.
        egress_reply.apply(meta, std);
        dns_lb_reply.apply(meta, std);
        web_lb_reply.apply(meta, std);

        // Forward: the first service first.
        guard.apply(meta);
        meter_.apply(meta, std);
        web_lb.apply(meta, std);
        dns_lb.apply(meta, std);
        egress.apply(meta, std);

        routing.apply(hdr, meta, std);
        finish.apply(meta, std);
    }
}

V1Switch(PacketParser(), VerifyHeaders(), Cascade(), Departure(), NoUpdate(), PacketDeparser()) main;
