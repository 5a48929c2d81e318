// A program with one of everything that P4Runtime reaches, for the server's tests.
#include <core.p4>
#include <v1model.p4>

@controller_header("packet_in")
header packet_in_t { bit<9> ingress_port; bit<7> reason; }

@controller_header("packet_out")
header packet_out_t { bit<9> egress_port; bit<7> unused; }

header ethernet_t { bit<48> dst; bit<48> src; bit<16> type; }

struct headers_t { packet_out_t packet_out; packet_in_t packet_in; ethernet_t ethernet; }
struct metadata_t { bit<16> hash; bool special; bit<2> color; }
struct learned_t { bit<48> src; bit<9> port; }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    value_set<bit<16>>(4) special_types;
    state start {
        transition select(std.ingress_port) {
            510: from_controller;
            default: ethernet;
        }
    }
    state from_controller { packet.extract(hdr.packet_out); transition ethernet; }
    state ethernet {
        packet.extract(hdr.ethernet);
        transition select(hdr.ethernet.type) {
            special_types: special;
            default: accept;
        }
    }
    state special { meta.special = true; transition accept; }
}

control Verify(inout headers_t hdr, inout metadata_t meta) { apply { } }
control Compute(inout headers_t hdr, inout metadata_t meta) { apply { } }

control In(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) {
    direct_counter(CounterType.packets_and_bytes) hits;
    direct_counter(CounterType.packets) fixed_hits;
    direct_counter(CounterType.packets) initial_hits;
    direct_meter<bit<2>>(MeterType.bytes) rate;
    counter(16, CounterType.packets_and_bytes) seen;
    meter(8, MeterType.packets) limit;
    register<bit<32>>(8) last;
    register<int<12>>(4) signed_cells;
    action_selector(HashAlgorithm.crc16, 32w64, 32w16) choice;

    action drop() { mark_to_drop(std); }
    action forward(bit<9> port) { std.egress_spec = port; }
    action to_controller(bit<7> reason) {
        std.egress_spec = 510;
        hdr.packet_in.setValid();
        hdr.packet_in.ingress_port = std.ingress_port;
        hdr.packet_in.reason = reason;
    }
    action flood(bit<16> group) { std.mcast_grp = group; }
    action rewrite(bit<48> dst, bit<9> port) { hdr.ethernet.dst = dst; std.egress_spec = port; }
    action metered_rewrite(bit<48> dst, bit<9> port) { rate.read(meta.color); hdr.ethernet.dst = dst; std.egress_spec = port; }
    action metered_forward(bit<9> port) { rate.read(meta.color); std.egress_spec = port; }
    action metered_drop() { rate.read(meta.color); mark_to_drop(std); }

    table l2 {
        key = { hdr.ethernet.dst : exact; }
        actions = { forward; to_controller; flood; drop; @defaultonly NoAction; }
        default_action = NoAction();
        counters = hits;
        support_timeout = true;
        size = 8;
    }
    table filter {
        key = {
            hdr.ethernet.src : ternary;
            hdr.ethernet.type : range;
            std.ingress_port : optional;
        }
        actions = { drop; to_controller; NoAction; }
        default_action = NoAction();
        size = 64;
    }
    table prefixes {
        key = { hdr.ethernet.dst : lpm; }
        actions = { metered_rewrite; @tableonly metered_forward; @defaultonly metered_drop; NoAction; }
        default_action = NoAction();
        meters = rate;
        size = 64;
    }
    table fixed_ports {
        key = { std.ingress_port : exact; }
        actions = { drop; NoAction; }
        const default_action = NoAction();
        const entries = { 9 : drop(); }
        counters = fixed_hits;
    }
    table ordered {
        key = { std.ingress_port : ternary; }
        actions = { drop; NoAction; }
        default_action = NoAction();
        const entries = { 100 : drop(); 101 : drop(); 128 &&& 0x180 : NoAction(); }
    }
    table initial {
        key = { std.ingress_port : ternary; }
        actions = { drop; forward; NoAction; }
        default_action = NoAction();
        entries = { 20 : drop(); 21 : drop(); }
        counters = initial_hits;
        size = 16;
    }
    table spread {
        key = { std.egress_spec : exact; hdr.ethernet.dst : selector; }
        actions = { rewrite; forward; NoAction; }
        implementation = choice;
        size = 16;
    }
    apply {
        if (hdr.packet_out.isValid()) {
            std.egress_spec = hdr.packet_out.egress_port;
            hdr.packet_out.setInvalid();
        } else {
            seen.count((bit<32>)(bit<4>)std.ingress_port);
            last.write(0, (bit<32>)hdr.ethernet.type);
            signed_cells.write(0, -1);
            limit.execute_meter((bit<32>)(bit<3>)std.ingress_port, meta.hash);
            filter.apply();
            fixed_ports.apply();
            ordered.apply();
            initial.apply();
            if (l2.apply().hit) { } else { prefixes.apply(); }
            // Yellow and red are marked by their port.
            if (meta.color != 0) { std.egress_spec = 6; }
            spread.apply();
            if (hdr.ethernet.type == 0x88b5) {
                digest<learned_t>(1, { hdr.ethernet.src, std.ingress_port });
            }
            if (meta.special) { std.egress_spec = 7; }
        }
    }
}

control Out(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t std) { apply { } }

control Deparse(packet_out packet, in headers_t hdr) {
    apply { packet.emit(hdr.packet_in); packet.emit(hdr.ethernet); }
}

V1Switch(P(), Verify(), In(), Out(), Compute(), Deparse()) main;
