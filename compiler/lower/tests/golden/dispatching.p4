// The pipeline of the policy dispatching, for any P4_16 compiler with v1model.
// Made by `signalbox compile`: change the policy, not this file. Rules and criteria are table entries.
//
// 1. by-mac: balance
//      match tcp.dst 203.0.113.80:80
//      to @web
//      way mac
//
// 2. by-ipip: balance
//      match tcp.dst 203.0.113.81:80
//      to @more
//      way ipip
//
// 3. by-gue: balance
//      match udp.dst 203.0.113.82:53
//      to @names
//      way gue

#include <core.p4>
#include <v1model.p4>

#define TUNNELS
const bit<9> CPU_PORT = 510; // leads to the agent
const bit<32> PROGRAM_ID = 0x8c693007;

#include "signalbox/types.p4"
#include "signalbox/headers.p4"
#include "signalbox/parser.p4"
#include "signalbox/checksum.p4"
#include "signalbox/admission.p4"
#include "signalbox/keys.p4"
#include "signalbox/translate.p4"
#include "signalbox/tunnel.p4"
#include "signalbox/routing.p4"
#include "signalbox/finish.p4"
#include "signalbox/rewrite.p4"
#include "signalbox/departure.p4"

control Cascade(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    Admission() admission;

    // 1. by-mac
    Translate(1, 65536, 4096) by_mac;

    // 2. by-ipip
    Translate(2, 65536, 4096) by_ipip;

    // 3. by-gue
    Translate(3, 65536, 4096) by_gue;

    Tunnels() tunnels;
    Routing() routing;
    Finish() finish;

    apply {
        admission.apply(hdr, meta, std);

        // Forward: the first service first.
        by_mac.apply(meta, std);
        by_ipip.apply(meta, std);
        by_gue.apply(meta, std);

        tunnels.apply(hdr, meta);
        routing.apply(hdr, meta, std);
        finish.apply(meta, std);
    }
}

V1Switch(PacketParser(), VerifyHeaders(), Cascade(), Departure(), NoUpdate(), PacketDeparser()) main;
