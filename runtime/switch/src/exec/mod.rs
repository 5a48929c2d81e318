//! Running a program on a packet: the instructions, the parser, the control flow, the deparser.

pub(crate) mod alu;
pub(crate) mod bitio;
pub(crate) mod burst;
pub(crate) mod calc;
pub(crate) mod effects;
pub(crate) mod exact;
pub(crate) mod machine;
pub(crate) mod parse;
pub(crate) mod pipeline;
pub(crate) mod state;
pub(crate) mod step;

#[cfg(test)]
mod tests;
