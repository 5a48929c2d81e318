//! The protocol over gRPC: a transport to a remote device, and a service that offers any
//! transport (a device in this process) to remote controllers.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::{Stream, StreamExt, TryStreamExt, stream::BoxStream};
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Response, Status, Streaming,
    metadata::MetadataValue,
    transport::{Channel, ClientTlsConfig, Endpoint},
};

use crate::{
    proto::p4::v1::{self, p4_runtime_client::P4RuntimeClient, p4_runtime_server},
    rpc::{Code, RpcError},
    transport::{Capabilities, Responses, StreamSink, Transport},
};

/// The largest message either side takes, in bytes. The specification asks for 4 MB at least;
/// pipelines are larger.
pub const MAX_MESSAGE: usize = 256 << 20;

/// The largest trailers taken, in bytes: 8,192 and 100 for each update are the specification's
/// rule; this leaves room for long messages too.
pub const MAX_METADATA: u32 = 1 << 20;

/// What a stream may have on its way that nobody has taken yet, in bytes. Both ends of every
/// connection of ours say so instead of leaving it to HTTP/2's 64 kB.
pub const STREAM_WINDOW: u32 = 1 << 20;

/// The same for a connection. The HTTP/2 implementation closes a connection (ENHANCE_YOUR_CALM,
/// `too_many_data_frames`) when the small frames that wait to be taken lack more than half of this
/// to 256 bytes each. Packets and notices are small and come in bursts, so that it must be out of
/// reach: a full stream window of the smallest messages, 5 bytes, lacks 53 MB. An adaptive window
/// would start at 64 kB, and 130 packets could end the connection.
pub const CONNECTION_WINDOW: u32 = 1 << 30;

/// The header field in which a device says what it is.
const SERVER: &str = "server";

/// Messages that may wait for the network on a stream's way out.
const STREAM_QUEUE: usize = 4096;

/// The address that a `p4runtime://HOST:PORT`, `http://…` or `https://…` names is not reachable.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The address is not one.
    #[error("`{uri}` is not an address: expected `HOST:PORT` or `http://HOST:PORT`")]
    BadUri {
        /// As given.
        uri: String,
    },
    /// TLS could not be set up.
    #[error("TLS for `{uri}`: {message}")]
    Tls {
        /// As given.
        uri: String,
        /// What the TLS library said.
        message: String,
    },
    /// Nobody answers there.
    #[error("no P4Runtime server answers at `{uri}`: {message}")]
    Unreachable {
        /// As given.
        uri: String,
        /// The innermost cause.
        message: String,
    },
}

/// A transport over one HTTP/2 connection. It reconnects by itself for new calls; an open
/// stream breaks with its connection.
#[derive(Clone, Debug)]
pub struct Grpc {
    client: P4RuntimeClient<Channel>,
}

impl Grpc {
    /// Connects to `HOST:PORT`, `p4runtime://HOST:PORT`, `http://…` or, with `tls`, `https://…`.
    ///
    /// # Errors
    /// The address is none, or nobody answers within `timeout`.
    pub async fn connect(
        uri: &str,
        tls: Option<ClientTlsConfig>,
        timeout: Duration,
    ) -> Result<Grpc, ConnectError> {
        let address = match uri.split_once("://") {
            Some(("http" | "https", _)) => uri.to_owned(),
            Some(("p4runtime", rest)) if tls.is_some() => format!("https://{rest}"),
            Some(("p4runtime", rest)) => format!("http://{rest}"),
            Some(_) => String::new(),
            None => format!("http://{uri}"),
        };
        let bad = || ConnectError::BadUri {
            uri: uri.to_owned(),
        };
        let mut endpoint = Endpoint::from_shared(address).map_err(|_| bad())?;
        if endpoint.uri().host().is_none_or(str::is_empty) || endpoint.uri().port().is_none() {
            return Err(bad());
        }
        if let Some(tls) = tls {
            endpoint = endpoint
                .tls_config(tls)
                .map_err(|error| ConnectError::Tls {
                    uri: uri.to_owned(),
                    message: innermost(&error),
                })?;
        }
        let channel = endpoint
            .connect_timeout(timeout)
            .http2_max_header_list_size(MAX_METADATA)
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .connect()
            .await
            .map_err(|error| ConnectError::Unreachable {
                uri: uri.to_owned(),
                message: innermost(&error),
            })?;
        Ok(Grpc::over(channel))
    }

    /// Uses a channel that somebody else has made.
    pub fn over(channel: Channel) -> Grpc {
        Grpc {
            client: P4RuntimeClient::new(channel)
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE),
        }
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[async_trait]
impl Transport for Grpc {
    async fn write(&self, request: Arc<v1::WriteRequest>) -> Result<(), RpcError> {
        let request = Arc::unwrap_or_clone(request);
        self.client.clone().write(request).await?;
        Ok(())
    }

    async fn read(
        &self,
        request: v1::ReadRequest,
    ) -> Result<BoxStream<'static, Result<v1::ReadResponse, RpcError>>, RpcError> {
        let stream = self.client.clone().read(request).await?.into_inner();
        Ok(stream.map_err(RpcError::from).boxed())
    }

    async fn set_pipeline(
        &self,
        request: v1::SetForwardingPipelineConfigRequest,
    ) -> Result<(), RpcError> {
        self.client
            .clone()
            .set_forwarding_pipeline_config(request)
            .await?;
        Ok(())
    }

    async fn get_pipeline(
        &self,
        request: v1::GetForwardingPipelineConfigRequest,
    ) -> Result<v1::GetForwardingPipelineConfigResponse, RpcError> {
        Ok(self
            .client
            .clone()
            .get_forwarding_pipeline_config(request)
            .await?
            .into_inner())
    }

    async fn capabilities(&self, device_id: u64) -> Result<Capabilities, RpcError> {
        let request = v1::CapabilitiesRequest { device_id };
        let response = self.client.clone().capabilities(request).await?;
        let server = response.metadata().get(SERVER);
        Ok(Capabilities {
            server: server
                .and_then(|name| name.to_str().ok())
                .map(str::to_owned),
            version: response.into_inner().p4runtime_api_version,
        })
    }

    async fn stream(&self) -> Result<(Box<dyn StreamSink>, Responses), RpcError> {
        let (sender, receiver) = mpsc::channel(STREAM_QUEUE);
        let mut client = self.client.clone();
        // Some servers send their headers only with the first message, which is the answer to the
        // first request: so the call must not be waited for before that request is sent.
        let responses = futures::stream::once(async move {
            client
                .stream_channel(ReceiverStream::new(receiver))
                .await
                .map(|response| response.into_inner())
        })
        .try_flatten()
        .map_err(RpcError::from)
        .boxed();
        Ok((Box::new(ChannelSink { sender }), responses))
    }
}

/// A sink into a channel that somebody forwards.
struct ChannelSink {
    sender: mpsc::Sender<v1::StreamMessageRequest>,
}

fn closed() -> RpcError {
    RpcError::new(Code::Unavailable, "the stream to the device is closed")
}

#[async_trait]
impl StreamSink for ChannelSink {
    async fn send(&self, message: v1::StreamMessageRequest) -> Result<(), RpcError> {
        self.sender.send(message).await.map_err(|_| closed())
    }

    fn try_send(&self, message: v1::StreamMessageRequest) -> Result<(), RpcError> {
        self.sender.try_send(message).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => RpcError::new(
                Code::ResourceExhausted,
                format!("{STREAM_QUEUE} messages wait for the device already"),
            ),
            mpsc::error::TrySendError::Closed(_) => closed(),
        })
    }
}

/// Offers a transport as a gRPC service.
#[derive(Clone)]
pub struct Service {
    device: Arc<dyn Transport>,
    running: watch::Receiver<()>,
}

impl Service {
    /// A tonic service with the message sizes that pipelines need. Its streams end when the sender
    /// of `running` is dropped: a server could not stop while controllers keep them open.
    pub fn new(
        device: Arc<dyn Transport>,
        running: watch::Receiver<()>,
    ) -> p4_runtime_server::P4RuntimeServer<Service> {
        p4_runtime_server::P4RuntimeServer::new(Service { device, running })
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
    }
}

#[tonic::async_trait]
impl p4_runtime_server::P4Runtime for Service {
    async fn write(
        &self,
        request: Request<v1::WriteRequest>,
    ) -> Result<Response<v1::WriteResponse>, Status> {
        self.device.write(Arc::new(request.into_inner())).await?;
        Ok(Response::new(v1::WriteResponse {}))
    }

    type ReadStream = BoxStream<'static, Result<v1::ReadResponse, Status>>;

    async fn read(
        &self,
        request: Request<v1::ReadRequest>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        let stream = self.device.read(request.into_inner()).await?;
        Ok(Response::new(stream.map_err(Status::from).boxed()))
    }

    async fn set_forwarding_pipeline_config(
        &self,
        request: Request<v1::SetForwardingPipelineConfigRequest>,
    ) -> Result<Response<v1::SetForwardingPipelineConfigResponse>, Status> {
        self.device.set_pipeline(request.into_inner()).await?;
        Ok(Response::new(v1::SetForwardingPipelineConfigResponse {}))
    }

    async fn get_forwarding_pipeline_config(
        &self,
        request: Request<v1::GetForwardingPipelineConfigRequest>,
    ) -> Result<Response<v1::GetForwardingPipelineConfigResponse>, Status> {
        let response = self.device.get_pipeline(request.into_inner()).await?;
        Ok(Response::new(response))
    }

    async fn capabilities(
        &self,
        request: Request<v1::CapabilitiesRequest>,
    ) -> Result<Response<v1::CapabilitiesResponse>, Status> {
        let device = request.into_inner().device_id;
        let capabilities = self.device.capabilities(device).await?;
        let mut response = Response::new(v1::CapabilitiesResponse {
            p4runtime_api_version: capabilities.version,
            experimental: None,
        });
        if let Some(name) = capabilities
            .server
            .and_then(|name| MetadataValue::try_from(name).ok())
        {
            response.metadata_mut().insert(SERVER, name);
        }
        Ok(response)
    }

    type StreamChannelStream = BoxStream<'static, Result<v1::StreamMessageResponse, Status>>;

    async fn stream_channel(
        &self,
        request: Request<Streaming<v1::StreamMessageRequest>>,
    ) -> Result<Response<Self::StreamChannelStream>, Status> {
        let (sink, responses) = self.device.stream().await?;
        let requests = request.into_inner();
        Ok(Response::new(
            with_requests(requests, sink, responses)
                .take_until(stopped(self.running.clone()))
                .boxed(),
        ))
    }
}

async fn stopped(mut running: watch::Receiver<()>) {
    while running.changed().await.is_ok() {}
}

/// The device's responses, while the controller's requests are forwarded to it. When the
/// controller closes its end, so do we; when it goes away, the stream is dropped and its sink too.
fn with_requests(
    requests: Streaming<v1::StreamMessageRequest>,
    sink: Box<dyn StreamSink>,
    responses: Responses,
) -> impl Stream<Item = Result<v1::StreamMessageResponse, Status>> {
    let forward = futures::stream::once(async move {
        let mut requests = requests;
        while let Ok(Some(message)) = requests.message().await {
            if sink.send(message).await.is_err() {
                break;
            }
        }
        None
    });
    // `forward` yields one `None` when the requests end, and that ends the whole.
    futures::stream::select(forward, responses.map(Some))
        .take_while(|item| futures::future::ready(item.is_some()))
        .filter_map(|item| futures::future::ready(item.map(|r| r.map_err(Status::from))))
}
