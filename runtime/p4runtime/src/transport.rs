//! What a client needs of the way to a device: six calls on the protocol's messages. gRPC is one
//! implementation; a device in the same process is another, without HTTP/2 and without bytes.

use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;

use crate::{
    proto::p4::v1::{
        GetForwardingPipelineConfigRequest, GetForwardingPipelineConfigResponse, ReadRequest,
        ReadResponse, SetForwardingPipelineConfigRequest, StreamMessageRequest,
        StreamMessageResponse, WriteRequest,
    },
    rpc::RpcError,
};

/// What a stream channel brings from the device. It ends when the device closes the stream.
pub type Responses = BoxStream<'static, Result<StreamMessageResponse, RpcError>>;

/// The controller's end of a stream channel. Dropping it closes the stream.
#[async_trait]
pub trait StreamSink: Send + Sync {
    /// Sends, and waits while the way is full.
    ///
    /// # Errors
    /// The stream is closed.
    async fn send(&self, message: StreamMessageRequest) -> Result<(), RpcError>;

    /// Sends without waiting.
    ///
    /// # Errors
    /// UNAVAILABLE when the stream is closed, RESOURCE_EXHAUSTED when the way is full.
    fn try_send(&self, message: StreamMessageRequest) -> Result<(), RpcError>;
}

/// What a device says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// The version of P4Runtime that it speaks, as `1.5.0`.
    pub version: String,
    /// What it says that it is, as `signalbox/0.1.0`: over gRPC the header field `server` (RFC 9110,
    /// section 10.2.4), which many devices leave out.
    pub server: Option<String>,
}

/// The way to one device, or to the devices behind one address.
#[async_trait]
pub trait Transport: Send + Sync {
    /// The `Write` call; `updates` of the error has one result an update. The request is shared, so
    /// that a device in the same process works on it and its caller can still name what failed.
    async fn write(&self, request: Arc<WriteRequest>) -> Result<(), RpcError>;

    /// The `Read` call.
    async fn read(
        &self,
        request: ReadRequest,
    ) -> Result<BoxStream<'static, Result<ReadResponse, RpcError>>, RpcError>;

    /// The `SetForwardingPipelineConfig` call.
    async fn set_pipeline(
        &self,
        request: SetForwardingPipelineConfigRequest,
    ) -> Result<(), RpcError>;

    /// The `GetForwardingPipelineConfig` call.
    async fn get_pipeline(
        &self,
        request: GetForwardingPipelineConfigRequest,
    ) -> Result<GetForwardingPipelineConfigResponse, RpcError>;

    /// The `Capabilities` call, for one device id.
    async fn capabilities(&self, device_id: u64) -> Result<Capabilities, RpcError>;

    /// Opens a `StreamChannel`.
    async fn stream(&self) -> Result<(Box<dyn StreamSink>, Responses), RpcError>;
}
