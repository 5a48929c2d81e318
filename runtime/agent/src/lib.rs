//! The forwarding agent: the one controller of one switch.
