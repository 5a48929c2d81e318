//! Checked policy to P4 text and plan.
