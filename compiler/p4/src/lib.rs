//! P4_16 to bmv2 JSON and P4Info.
//!
//! `front` turns text into a syntax tree, `mid` checks it and makes the program of `ir`, and `back`
//! writes the image. Nothing here does I/O, reads a clock or draws random numbers: texts come in
//! through [`source::Sources`], and the same texts give the same bytes.

pub mod back;
mod compile;
pub mod diagnostics;
pub mod front;
pub mod ir;
pub mod mid;
pub mod source;

pub use compile::{Compiled, Failed, Image, Options, compile};
