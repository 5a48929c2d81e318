//! The P4Runtime protocol: types, client, encoding, reconciliation.
//!
//! Everything here knows P4Info and the wire, and nothing of policies. The generated messages are
//! in [`proto`]; [`text`] reads and prints P4Info; a [`catalog::Catalog`] turns names into ids;
//! a [`client::Client`] drives a device over any [`transport::Transport`].

pub mod catalog;
pub mod client;
mod describe;
pub mod entry;
pub mod grpc;
mod packet;
pub mod proto;
pub mod reconcile;
pub mod rpc;
pub mod text;
pub mod transport;
pub mod value;
pub mod write;

pub use catalog::{Catalog, CatalogError};
pub use client::{Client, ClientError, Event, Events, Session, Standing};
pub use packet::{packet_in, packet_out};
pub use reconcile::reconcile;
pub use rpc::{Code, RpcError};
pub use transport::{Capabilities, Responses, StreamSink, Transport};
pub use value::Value;
pub use write::{Failure, WriteError, WriteOptions};
