//! The P4Runtime protocol: types, client, encoding, reconciliation.
