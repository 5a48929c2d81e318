//! The way between two managers over gRPC: what one listens on, and how the other gets there. Both ends look like
//! those of a way in memory.

use std::net::SocketAddr;
use std::time::Duration;

use signalbox_agent::channel::Memory;
use signalbox_agent::grpc::stream::{self, Answers, Far, GrpcError};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::{Request, Response, Status, Streaming};

use super::wire::pb::replication_client::ReplicationClient;
use super::wire::pb::replication_server::{Replication, ReplicationServer};
use super::wire::{self, pb};
use super::{PeerChannel, PeerMessage};

/// Between two questions whether the other still answers, and how long it may keep silent.
const ASK: Duration = Duration::from_secs(1);
const SILENCE: Duration = Duration::from_secs(3);

struct Service {
    ways: mpsc::UnboundedSender<PeerChannel>,
}

#[tonic::async_trait]
impl Replication for Service {
    type LinkStream = Answers<pb::Message>;

    async fn link(
        &self,
        request: Request<Streaming<pb::Message>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        stream::answer(request, wire::read, wire::write, &self.ways)
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
    let router = stream::server()
        .http2_keepalive_interval(Some(ASK))
        .http2_keepalive_timeout(Some(SILENCE))
        .add_service(ReplicationServer::new(Service { ways }));
    stream::listen(address, router, "replication").await
}

/// Opens a way to the manager at an address such as `http://127.0.0.1:9580`.
///
/// # Errors
/// It does not answer, or refuses.
pub async fn connect(address: &str) -> Result<Memory<PeerMessage, PeerMessage>, GrpcError> {
    let manager = Far {
        who: "manager",
        address,
        ask: ASK,
        silence: SILENCE,
    };
    let mut client = ReplicationClient::new(manager.connect().await?);
    let (to_peer, outgoing) = stream::outgoing(wire::write);
    let answer = client.link(outgoing).await;
    manager.session(to_peer, answer, wire::read)
}

#[cfg(test)]
mod tests {
    use signalbox_agent::channel::Channel;
    use tokio_stream::StreamExt;
    use tonic::transport::Endpoint;

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
    async fn a_burst_waits_for_a_manager_that_is_busy() {
        let (ways, mut opened) = mpsc::unbounded_channel();
        let (address, _task) = serve(([127, 0, 0, 1], 0).into(), ways).await.unwrap();
        let peer = std::thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().build().unwrap();
            runtime.block_on(async {
                let way = connect(&format!("http://{address}")).await.unwrap();
                let (there, mut here) = Box::new(way).split();
                for n in 0..4_000 {
                    there.send(ack(n)).unwrap();
                    // By itself: those that wait together go out as one large frame.
                    for _ in 0..8 {
                        tokio::task::yield_now().await;
                    }
                }
                assert_eq!(here.recv().await, Some(ack(4_000)));
            });
        });
        let (back, mut at_peer) = opened.recv().await.unwrap().split();
        std::thread::sleep(Duration::from_secs(1));
        for n in 0..4_000 {
            assert_eq!(at_peer.recv().await, Some(ack(n)));
        }
        back.send(ack(4_000)).unwrap();
        let ended = tokio::task::spawn_blocking(|| peer.join());
        ended.await.unwrap().unwrap();
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
