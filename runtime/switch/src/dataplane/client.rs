//! The client: what a harness has in hand. It works with our switch and with bmv2's.

use std::time::Duration;

use bytes::Bytes;
use signalbox_p4runtime::grpc::{CONNECTION_WINDOW, STREAM_WINDOW};
use thiserror::Error;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{
    Streaming,
    transport::{Channel, Endpoint},
};

use super::proto::{
    PacketStreamRequest, PacketStreamResponse, PortOperStatus, SetPortOperStatusRequest,
    dataplane_interface_client::DataplaneInterfaceClient,
};

/// The harness's way to a switch broke, or never came about.
#[derive(Debug, Error)]
pub enum DataplaneError {
    /// The address is none.
    #[error("`{0}` is not an address: expected `HOST:PORT`")]
    BadAddress(String),
    /// Nobody answers there.
    #[error("no DataplaneInterface answers at `{address}`: {error}")]
    Unreachable {
        /// As given.
        address: String,
        /// What went wrong.
        error: tonic::transport::Error,
    },
    /// The switch refuses.
    #[error("the switch refuses: {}", .0.message())]
    Refused(#[from] tonic::Status),
    /// The stream is over.
    #[error("the packet stream is closed")]
    Closed,
}

/// A connection to one switch.
#[derive(Clone, Debug)]
pub struct DataplaneClient {
    client: DataplaneInterfaceClient<Channel>,
    device_id: u64,
}

/// Puts packets into the switch. When all clones are dropped, the switch finishes what it has and
/// ends the stream.
#[derive(Clone, Debug)]
pub struct DataplaneSender {
    requests: mpsc::UnboundedSender<PacketStreamRequest>,
    device_id: u64,
}

type Call = JoinHandle<Result<Streaming<PacketStreamResponse>, tonic::Status>>;

/// Takes packets out of the switch.
#[derive(Debug)]
pub struct DataplaneReceiver {
    /// bmv2 answers the call only with its first packet.
    unanswered: Option<Call>,
    responses: Option<Streaming<PacketStreamResponse>>,
}

/// How long a refusal of the stream is waited for before the first packet.
const REFUSAL: Duration = Duration::from_millis(50);

impl DataplaneClient {
    /// Connects to `HOST:PORT`.
    ///
    /// # Errors
    /// The address is none, or nobody answers in time.
    pub async fn connect(
        address: &str,
        device_id: u64,
        timeout: Duration,
    ) -> Result<DataplaneClient, DataplaneError> {
        let channel = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|_| DataplaneError::BadAddress(address.to_owned()))?
            .connect_timeout(timeout)
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .connect()
            .await
            .map_err(|error| DataplaneError::Unreachable {
                address: address.to_owned(),
                error,
            })?;
        Ok(DataplaneClient {
            client: DataplaneInterfaceClient::new(channel),
            device_id,
        })
    }

    /// Opens the packet stream; a switch has one at a time.
    ///
    /// # Errors
    /// Another harness has it; bmv2 may say so only with the first packet that is waited for.
    pub async fn open(&self) -> Result<(DataplaneSender, DataplaneReceiver), DataplaneError> {
        let (requests, receiver) = mpsc::unbounded_channel();
        let mut client = self.client.clone();
        // In a task, so that packets go out before the switch answers and without anybody waiting.
        let mut call: Call = tokio::spawn(async move {
            let response = client
                .packet_stream(UnboundedReceiverStream::new(receiver))
                .await?;
            Ok(response.into_inner())
        });
        let sender = DataplaneSender {
            requests,
            device_id: self.device_id,
        };
        let receiver = match tokio::time::timeout(REFUSAL, &mut call).await {
            Ok(answer) => DataplaneReceiver {
                unanswered: None,
                responses: Some(answer.map_err(|_| DataplaneError::Closed)??),
            },
            Err(_) => DataplaneReceiver {
                unanswered: Some(call),
                responses: None,
            },
        };
        Ok((sender, receiver))
    }

    /// Takes a port down or up.
    ///
    /// # Errors
    /// The switch refuses, or was not reached.
    pub async fn set_port(&self, port: u16, up: bool) -> Result<(), DataplaneError> {
        let status = if up {
            PortOperStatus::OperStatusUp
        } else {
            PortOperStatus::OperStatusDown
        };
        self.client
            .clone()
            .set_port_oper_status(SetPortOperStatusRequest {
                device_id: self.device_id,
                port: u32::from(port),
                oper_status: status as i32,
            })
            .await?;
        Ok(())
    }
}

impl DataplaneSender {
    /// Lets a packet arrive at a port.
    ///
    /// # Errors
    /// The stream is closed.
    pub fn send(&self, port: u16, packet: impl Into<Bytes>) -> Result<(), DataplaneError> {
        self.requests
            .send(PacketStreamRequest {
                id: 0,
                device_id: self.device_id,
                port: u32::from(port),
                packet: packet.into(),
            })
            .map_err(|_| DataplaneError::Closed)
    }
}

impl DataplaneReceiver {
    /// The next packet and the port it leaves by; `None` when the stream has ended.
    ///
    /// # Errors
    /// The stream broke.
    pub async fn next(&mut self) -> Result<Option<(u16, Bytes)>, DataplaneError> {
        if let Some(call) = &mut self.unanswered {
            let answer = call.await.map_err(|_| DataplaneError::Closed)?;
            self.unanswered = None;
            self.responses = Some(answer?);
        }
        let Some(responses) = &mut self.responses else {
            return Ok(None);
        };
        while let Some(response) = responses.message().await? {
            if let Ok(port) = u16::try_from(response.port) {
                return Ok(Some((port, response.packet)));
            }
        }
        Ok(None)
    }
}
