// The keys of stages' tables: one direction of one flow, and criteria. The words are those of P4Info.

#define FLOW_KEY { \
    meta.flow.src : exact @name("src"); \
    meta.flow.dst : exact @name("dst"); \
    meta.flow.proto : exact @name("proto"); \
    meta.flow.sport : exact @name("sport"); \
    meta.flow.dport : exact @name("dport"); \
    meta.flow.kind : exact @name("kind"); \
}

#define CRITERIA_KEY { \
    meta.in_port : ternary @name("in_port"); \
    meta.flow.src : ternary @name("src"); \
    meta.flow.dst : ternary @name("dst"); \
    meta.flow.proto : ternary @name("proto"); \
    meta.flow.sport : ternary @name("sport"); \
    meta.flow.dport : ternary @name("dport"); \
    meta.flow.flags : ternary @name("flags"); \
    meta.flow.icmp : ternary @name("icmp"); \
    meta.flow.kind : ternary @name("kind"); \
}
