//! What is written from the program of [`crate::ir`]: bmv2 JSON and P4Info. Both only read it.

pub mod json;
pub mod p4info;
