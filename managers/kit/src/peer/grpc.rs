//! The way between two managers over gRPC: what one listens on, and how the other gets there. Both ends look like
//! those of a way in memory. A message that makes no sense ends it with INVALID_ARGUMENT and the field's name.

use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use signalbox_agent::channel::Memory;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tokio_stream::{Stream, StreamExt};
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};

use super::wire::pb::replication_client::ReplicationClient;
use super::wire::pb::replication_server::{Replication, ReplicationServer};
use super::wire::{self, pb};
use super::{PeerChannel, PeerMessage};

/// Between two questions whether the other still answers, and how long it may keep silent.
const ASK: Duration = Duration::from_secs(1);
const SILENCE: Duration = Duration::from_secs(3);

/// Why there is no way to another manager.
#[derive(Debug, thiserror::Error)]
pub enum GrpcError {
    /// No connection, or the other would not have it.
    #[error("no manager answers at `{address}`: {message}")]
    Connect {
        /// Where.
        address: String,
        /// Why.
        message: String,
    },
    /// The port could not be served.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

struct Service {
    ways: mpsc::UnboundedSender<PeerChannel>,
}

/// Carries what comes in to a manager. Ends when the manager has let go of its end, or what comes makes no sense;
/// then that is returned.
async fn take_in(
    mut incoming: Streaming<pb::Message>,
    manager: mpsc::UnboundedSender<PeerMessage>,
) -> Option<Status> {
    loop {
        let message = tokio::select! {
            message = incoming.next() => message,
            () = manager.closed() => return None,
        };
        let Some(Ok(message)) = message else {
            return None;
        };
        match wire::read(message) {
            Ok(message) => manager.send(message).ok()?,
            Err(error) => return Some(Status::invalid_argument(error.to_string())),
        }
    }
}

#[tonic::async_trait]
impl Replication for Service {
    type LinkStream = Pin<Box<dyn Stream<Item = Result<pb::Message, Status>> + Send>>;

    async fn link(
        &self,
        request: Request<Streaming<pb::Message>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        let (to_manager, from_peer) = mpsc::unbounded_channel();
        let (to_peer, mut outgoing) = mpsc::unbounded_channel::<PeerMessage>();
        let (written, stream) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut taken = std::pin::pin!(take_in(request.into_inner(), to_manager));
            loop {
                let message = tokio::select! {
                    biased;
                    message = outgoing.recv() => message.map(|m| Ok(wire::write(&m))),
                    error = &mut taken => error.map(Err),
                };
                let Some(message) = message else { return };
                let is_last = message.is_err();
                if written.send(message).is_err() || is_last {
                    return;
                }
            }
        });
        self.ways
            .send(Box::new(Memory::new(to_peer, from_peer)))
            .map_err(|_| Status::unavailable("the manager is going down"))?;
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(
            stream,
        ))))
    }
}

/// Listens on an address, which should be a loopback one; each way that another manager opens goes to `ways`.
/// Returns the address that it listens on.
///
/// # Errors
/// The address cannot be bound.
pub async fn serve(
    address: SocketAddr,
    ways: mpsc::UnboundedSender<PeerChannel>,
) -> Result<(SocketAddr, JoinHandle<()>), GrpcError> {
    let listen = |source| GrpcError::Listen { address, source };
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .map_err(listen)?;
    let bound = listener.local_addr().map_err(listen)?;
    let server = Server::builder()
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(ASK))
        .http2_keepalive_timeout(Some(SILENCE))
        .add_service(ReplicationServer::new(Service { ways }))
        .serve_with_incoming(TcpListenerStream::new(listener));
    let task = tokio::spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(%error, "the server for other managers has stopped");
        }
    });
    Ok((bound, task))
}

/// Opens a way to the manager at an address such as `http://127.0.0.1:9580`.
///
/// # Errors
/// It does not answer.
pub async fn connect(address: &str) -> Result<Memory<PeerMessage, PeerMessage>, GrpcError> {
    let unreachable = |message: String| GrpcError::Connect {
        address: address.to_owned(),
        message,
    };
    let channel = Endpoint::from_shared(address.to_owned())
        .map_err(|error| unreachable(error.to_string()))?
        .tcp_nodelay(true)
        .http2_keep_alive_interval(ASK)
        .keep_alive_timeout(SILENCE)
        .keep_alive_while_idle(true)
        .connect()
        .await
        .map_err(|error| unreachable(error.to_string()))?;
    let mut client = ReplicationClient::new(channel);
    let (to_peer, outgoing) = mpsc::unbounded_channel();
    let (to_manager, from_peer) = mpsc::unbounded_channel();
    let outgoing = UnboundedReceiverStream::new(outgoing).map(|m| wire::write(&m));
    let response =
        (client.link(outgoing).await).map_err(|status| unreachable(status.message().to_owned()))?;
    tokio::spawn(async move {
        if let Some(status) = take_in(response.into_inner(), to_manager).await {
            let error = status.message();
            tracing::warn!(error, "another manager sent a message that makes no sense");
        }
    });
    Ok(Memory::new(to_peer, from_peer))
}

#[cfg(test)]
mod tests {
    use signalbox_agent::channel::Channel;

    use super::*;

    fn ack(sequence: u64) -> PeerMessage {
        PeerMessage::Ack {
            stream: 1,
            sequence,
        }
    }

    #[tokio::test]
    async fn a_way_carries_messages_both_ways_and_ends_with_either_end() {
        let (ways, mut opened) = mpsc::unbounded_channel();
        let (address, _task) = serve(([127, 0, 0, 1], 0).into(), ways).await.unwrap();
        let url = format!("http://{address}");
        let (there, mut here) = Box::new(connect(&url).await.unwrap()).split();
        let (back, mut at_peer) = opened.recv().await.unwrap().split();
        for n in 0..2_000 {
            there.send(ack(n)).unwrap();
            back.send(ack(n + 1)).unwrap();
        }
        for n in 0..2_000 {
            assert_eq!(at_peer.recv().await, Some(ack(n)));
            assert_eq!(here.recv().await, Some(ack(n + 1)));
        }
        // The last word goes out before the end.
        back.send(ack(7)).unwrap();
        drop((back, at_peer));
        assert_eq!(here.recv().await, Some(ack(7)));
        let end = tokio::time::timeout(Duration::from_secs(5), here.recv());
        assert_eq!(end.await.unwrap(), None);

        let (there, here) = Box::new(connect(&url).await.unwrap()).split();
        let (_back, mut at_peer) = opened.recv().await.unwrap().split();
        drop((there, here));
        let end = tokio::time::timeout(Duration::from_secs(5), at_peer.recv());
        assert_eq!(end.await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_message_that_makes_no_sense_ends_the_way() {
        let (ways, mut opened) = mpsc::unbounded_channel();
        let (address, _task) = serve(([127, 0, 0, 1], 0).into(), ways).await.unwrap();
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        let mut client = ReplicationClient::new(endpoint.connect().await.unwrap());
        let nonsense = tokio_stream::iter([pb::Message { body: None }]);
        let response = client.link(nonsense.chain(tokio_stream::pending())).await;
        let _way = opened.recv().await.unwrap();
        let error = response.unwrap().into_inner().next().await.unwrap();
        assert_eq!(error.unwrap_err().message(), "`body` is missing");
    }

    #[tokio::test]
    async fn a_manager_that_is_not_there_is_one_clear_line() {
        let error = connect("http://127.0.0.1:1").await.unwrap_err();
        assert!(error.to_string().starts_with("no manager answers at"));
    }
}
