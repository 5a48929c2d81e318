//! What every service manager needs.
