//! The protocol's messages and services, generated at build time from our own
//! .proto files. Nothing here is written by hand but the module tree.

#![allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "generated code"
)]

/// `google.*`: the error model that gRPC services share.
pub mod google {
    /// `google.rpc`.
    pub mod rpc {
        tonic::include_proto!("google.rpc");
    }
}

/// `p4.*`: P4Info and P4Runtime.
pub mod p4 {
    /// `p4.config.v1`: P4Info.
    pub mod config {
        /// Version 1.
        pub mod v1 {
            tonic::include_proto!("p4.config.v1");
        }
    }
    /// `p4.v1`: P4Runtime.
    pub mod v1 {
        tonic::include_proto!("p4.v1");
    }
}

/// The serialised `FileDescriptorSet` of everything above.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
