//! What a user of the policy language notices: diagnostics, formatting, the meaning of conditions,
//! what becomes of packets, and that the documentation's examples hold.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test may panic"
)]

mod conditions;
mod diagnostics;
mod division;
mod documents;
mod evaluator;
mod evaluator_kinds;
mod formatting;
mod frames;
mod gates;
mod kinds;
mod large;
mod nat_criteria;
mod policy_tests;
mod texts;
