//! The internal program: what the loader makes of the JSON and the executor runs.
//!
//! All of a packet's values live in one array of 64-bit words: metadata first, then headers with
//! their validity bits, stack counters, action parameters, temporaries and constants. A value of
//! more than 64 bits is several words, the lowest first. Arithmetic of bmv2 is unbounded; `emit`
//! proves per expression that 64 or 128 wrapping bits give the same result and else leaves it to
//! the exact evaluator in `exec::exact`.

pub(crate) mod emit;
pub(crate) mod expr;
pub(crate) mod interval;
pub(crate) mod layout;
pub(crate) mod op;
pub(crate) mod program;
