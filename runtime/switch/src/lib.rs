//! bmv2 JSON to a running switch.
