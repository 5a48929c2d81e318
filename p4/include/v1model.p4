// The v1model architecture: parser, checksum check, ingress, egress, checksum update, deparser.
// The names, types and orders here are the public interface of the architecture, to which bmv2's
// simple_switch gives the meaning; the descriptions say what a program sees of it.
//
// V1MODEL_VERSION decides between two dialects. From 20200408 on PortId_t exists, and the index of
// counters, meters and registers has a type parameter of its own; before, it is bit<32>.

#ifndef _V1_MODEL_P4_
#define _V1_MODEL_P4_

#include "core.p4"

#ifndef V1MODEL_VERSION
#define V1MODEL_VERSION 20180101
#endif

match_kind {
    range,     // between two bounds, both included
    optional,  // one value or any
    selector   // not matched: feeds the hash of an action_selector
}

const bit<32> __v1model_version = V1MODEL_VERSION;

#if V1MODEL_VERSION >= 20200408
typedef bit<9> PortId_t;
#endif

/// What the switch knows of a packet. The annotations give the names that bmv2 uses for the same fields.
@metadata
@name("standard_metadata")
struct standard_metadata_t {
#if V1MODEL_VERSION >= 20200408
    PortId_t ingress_port;
    PortId_t egress_spec;
    PortId_t egress_port;
#else
    bit<9>   ingress_port;  // where the packet came in
    bit<9>   egress_spec;   // where ingress wants it to go
    bit<9>   egress_port;   // where it goes; for egress to read
#endif
    bit<32>  instance_type; // 0 for a packet from a port; clones and the like have other numbers
    bit<32>  packet_length; // in bytes
    // Times are in microseconds, depths in packets.
    @alias("queueing_metadata.enq_timestamp")
    bit<32>  enq_timestamp;
    @alias("queueing_metadata.enq_qdepth")
    bit<19>  enq_qdepth;
    @alias("queueing_metadata.deq_timedelta")
    bit<32>  deq_timedelta;
    @alias("queueing_metadata.deq_qdepth")
    bit<19>  deq_qdepth;
    @alias("intrinsic_metadata.ingress_global_timestamp")
    bit<48>  ingress_global_timestamp;
    @alias("intrinsic_metadata.egress_global_timestamp")
    bit<48>  egress_global_timestamp;
    @alias("intrinsic_metadata.mcast_grp")
    bit<16>  mcast_grp;     // the multicast group to send to; 0 for none
    @alias("intrinsic_metadata.egress_rid")
    bit<16>  egress_rid;    // which of a multicast's copies this is
    bit<1>   checksum_error;  // 1 when a verify_checksum failed
    error    parser_error;  // what stopped the parser
    @alias("intrinsic_metadata.priority")
    bit<3>   priority;      // the queue
}

enum CounterType {
    packets,
    bytes,
    packets_and_bytes
}

enum MeterType {
    packets,
    bytes
}

/// An array of counters, read by the control plane only.
extern counter
#if V1MODEL_VERSION >= 20200408
<I>
#endif
{
    /// `size` counters, with indices from 0.
    counter(bit<32> size, CounterType type);
    /// Counts the packet. An index that is too large counts nothing.
#if V1MODEL_VERSION >= 20200408
    void count(in I index);
#else
    void count(in bit<32> index);
#endif
}

/// A counter for each entry of the one table whose property `counters` names it.
extern direct_counter {
    direct_counter(CounterType type);
    /// Has no effect of its own: a hit is counted once whether or not the action calls this.
    void count();
}

#define V1MODEL_METER_COLOR_GREEN  0
#define V1MODEL_METER_COLOR_YELLOW 1
#define V1MODEL_METER_COLOR_RED    2

/// An array of two-rate three-colour meters (RFC 2698).
extern meter
#if V1MODEL_VERSION >= 20200408
<I>
#endif
{
    /// `size` meters, with indices from 0.
    meter(bit<32> size, MeterType type);
    /// Meters the packet and gives its colour, one of the V1MODEL_METER_COLOR numbers. T is a bit type
    /// of at least two bits. With an index that is too large, the result is not defined.
#if V1MODEL_VERSION >= 20200408
    void execute_meter<T>(in I index, out T result);
#else
    void execute_meter<T>(in bit<32> index, out T result);
#endif
}

/// A meter for each entry of the one table whose property `meters` names it.
extern direct_meter<T> {
    direct_meter(MeterType type);
    /// The colour of the packet, which the hit has metered. For actions of that table only.
    void read(out T result);
}

/// An array of values that the program and the control plane can read and write.
#if V1MODEL_VERSION >= 20200408
extern register<T, I>
#else
extern register<T>
#endif
{
    /// `size` elements of type T, with indices from 0.
    register(bit<32> size);
    /// The element at `index`. With an index that is too large, the result is not defined.
    @noSideEffects
#if V1MODEL_VERSION >= 20200408
    void read(out T result, in I index);
#else
    void read(out T result, in bit<32> index);
#endif
    /// Sets the element at `index`; an index that is too large sets nothing. A read and a write are one
    /// step only inside a block marked @atomic or, on bmv2, inside one action.
#if V1MODEL_VERSION >= 20200408
    void write(in I index, in T value);
#else
    void write(in bit<32> index, in T value);
#endif
}

/// For a table's property `implementation`: entries name members, and members hold actions.
extern action_profile {
    action_profile(bit<32> size);
}

/// A number between `lo` and `hi`, both included; not defined when lo > hi.
extern void random<T>(out T result, in T lo, in T hi);

/// In ingress: sends the values that `data` has now to the control plane. A struct's name becomes the
/// digest's. bmv2 pays no attention to `receiver`.
extern void digest<T>(in bit<32> receiver, in T data);

enum HashAlgorithm {
    crc32,
    crc32_custom,
    crc16,
    crc16_custom,
    random,
    identity,
    csum16,
    xor16
}

@deprecated("name the argument: mark_to_drop(standard_metadata)")
extern void mark_to_drop();

/// Sets egress_spec to the drop port and mcast_grp to 0. What is assigned to them later counts.
@pure
extern void mark_to_drop(inout standard_metadata_t standard_metadata);

/// base + (H(data) modulo max), where H is the algorithm; base when max is 0.
@pure
extern void hash<O, T, D, M>(out O result, in HashAlgorithm algo, in T base, in D data, in M max);

/// An action_profile with groups, of which a hash over the selector keys picks a member.
extern action_selector {
    action_selector(HashAlgorithm algorithm, bit<32> size, bit<32> outputWidth);
}

enum CloneType {
    I2E,  // from ingress to egress
    E2E   // from egress to egress
}

@deprecated("use verify_checksum and update_checksum")
extern Checksum16 {
    Checksum16();
    bit<16> get<D>(in D data);
}

/// In VerifyChecksum: when `condition` holds and `checksum` is not that of `data`, checksum_error is 1
/// in ingress.
extern void verify_checksum<T, O>(in bool condition, in T data, in O checksum, HashAlgorithm algo);

/// In ComputeChecksum: when `condition` holds, sets `checksum` to that of `data`.
@pure
extern void update_checksum<T, O>(in bool condition, in T data, inout O checksum, HashAlgorithm algo);

/// verify_checksum over `data` and then all bytes that the parser did not extract.
extern void verify_checksum_with_payload<T, O>(in bool condition, in T data, in O checksum, HashAlgorithm algo);

/// update_checksum over `data` and then all bytes that the parser did not extract.
@noSideEffects
extern void update_checksum_with_payload<T, O>(in bool condition, in T data, inout O checksum, HashAlgorithm algo);

/// clone_preserving_field_list that preserves no metadata.
extern void clone(in CloneType type, in bit<32> session);

@deprecated("use resubmit_preserving_field_list")
extern void resubmit<T>(in T data);

/// In ingress: at its end the packet as it came in goes to the parser again, with instance_type changed.
/// User metadata marked @field_list with this number keep their values. The last call counts.
extern void resubmit_preserving_field_list(bit<8> index);

@deprecated("use recirculate_preserving_field_list")
extern void recirculate<T>(in T data);

/// In egress: the packet as the deparser makes it goes to the parser again, with instance_type changed.
/// User metadata marked @field_list with this number keep their values. The last call counts.
extern void recirculate_preserving_field_list(bit<8> index);

@deprecated("use clone_preserving_field_list")
extern void clone3<T>(in CloneType type, in bit<32> session, in T data);

/// Sends copies of the packet to egress, as the clone session says that the control plane has set up;
/// the packet itself goes on. In ingress the type is I2E, in egress E2E. User metadata marked @field_list
/// with this number keep their values. The last call counts.
extern void clone_preserving_field_list(in CloneType type, in bit<32> session, bit<8> index);

/// Cuts the packet to that many bytes when it leaves.
extern void truncate(in bit<32> length);

/// Logs and stops the switch when `check` is false.
extern void assert(in bool check);

/// As assert, for what is known of the network and not of the program.
extern void assume(in bool check);

/// Writes to the switch's log. Each {} stands for the next of `data`.
extern void log_msg(string msg);
extern void log_msg<T>(string msg, in T data);

// H is a struct of headers, header stacks and header unions; M is a struct.

parser Parser<H, M>(packet_in b, out H parsedHdr, inout M meta, inout standard_metadata_t standard_metadata);

/// Only calls of verify_checksum and verify_checksum_with_payload.
control VerifyChecksum<H, M>(inout H hdr, inout M meta);

@pipeline
control Ingress<H, M>(inout H hdr, inout M meta, inout standard_metadata_t standard_metadata);

@pipeline
control Egress<H, M>(inout H hdr, inout M meta, inout standard_metadata_t standard_metadata);

/// Only calls of update_checksum and update_checksum_with_payload.
control ComputeChecksum<H, M>(inout H hdr, inout M meta);

/// Only calls of packet_out.emit.
@deparser
control Deparser<H>(packet_out b, in H hdr);

package V1Switch<H, M>(
    Parser<H, M> p,
    VerifyChecksum<H, M> vr,
    Ingress<H, M> ig,
    Egress<H, M> eg,
    ComputeChecksum<H, M> ck,
    Deparser<H> dep
);

#endif  // _V1_MODEL_P4_
