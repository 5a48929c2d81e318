//! Policy text to a checked policy.
