//! P4_16 to bmv2 JSON and P4Info.
