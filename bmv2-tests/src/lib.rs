//! Scenarios that run on every target.
