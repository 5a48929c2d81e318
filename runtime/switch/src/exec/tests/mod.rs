//! Programs of a few lines, one a feature.

mod arithmetic;
mod burst;
mod parser;
mod primitives;
mod tables;
mod traffic;
