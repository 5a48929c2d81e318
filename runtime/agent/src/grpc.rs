//! The affinity protocol over gRPC: the agent's service, and a manager's way to it.
//!
//! Both ends look like any other [`crate::channel`]. A message that makes no sense ends the session with
//! INVALID_ARGUMENT and the field's name.

use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, StreamExt};
use signalbox_p4runtime::grpc::{CONNECTION_WINDOW, STREAM_WINDOW};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Endpoint;
use tonic::{Request, Response, Status, Streaming};

use crate::channel::{AgentChannel, Memory};
use crate::message::{ToAgent, ToManager};
use crate::wire::pb::affinity_client::AffinityClient;
use crate::wire::pb::affinity_server::{Affinity, AffinityServer};
use crate::wire::{pb, read_from_agent, read_from_manager, write_from_agent, write_from_manager};

/// Between two questions whether the agent still answers, and how long it may keep silent.
const ASK: Duration = Duration::from_secs(3);
const SILENCE: Duration = Duration::from_secs(10);

/// Why a manager could not reach an agent.
#[derive(Debug, thiserror::Error)]
pub enum GrpcError {
    /// No connection.
    #[error("no agent answers at `{address}`: {source}")]
    Connect {
        /// Where.
        address: String,
        /// Why.
        source: tonic::transport::Error,
    },
    /// It would not open the session.
    #[error("the agent at `{address}` refused the session: {message}")]
    Refused {
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
    sessions: mpsc::UnboundedSender<AgentChannel>,
}

#[tonic::async_trait]
impl Affinity for Service {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<pb::FromAgent, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<pb::FromManager>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let mut incoming = request.into_inner();
        let (to_agent, from_manager) = mpsc::unbounded_channel::<ToAgent>();
        let (to_manager, outgoing) = mpsc::unbounded_channel::<ToManager>();
        let (end, ended) = mpsc::unbounded_channel::<Status>();
        tokio::spawn(async move {
            while let Some(Ok(message)) = incoming.next().await {
                match read_from_manager(message) {
                    Ok(message) => {
                        if to_agent.send(message).is_err() {
                            return;
                        }
                    }
                    Err(error) => {
                        let _ = end.send(Status::invalid_argument(error.to_string()));
                        return;
                    }
                }
            }
        });
        self.sessions
            .send(Box::new(Memory::new(to_manager, from_manager)))
            .map_err(|_| Status::unavailable("the agent is going down"))?;
        let messages = UnboundedReceiverStream::new(outgoing).map(|m| Ok(write_from_agent(&m)));
        let errors = UnboundedReceiverStream::new(ended).map(Err);
        // The session ends when the agent drops its end; an error of the manager's ends it as well.
        let stream = messages.map(Some).chain(futures::stream::iter([None]));
        let stream = futures::stream::select(stream, errors.map(Some));
        let stream = stream.take_while(|m| futures::future::ready(m.is_some()));
        Ok(Response::new(Box::pin(
            stream.filter_map(futures::future::ready),
        )))
    }
}

/// Serves the protocol on an address, which should be a loopback one; each session that a manager opens
/// goes to `sessions`. Returns the address that it listens on.
///
/// # Errors
/// The address cannot be bound.
pub async fn serve(
    address: SocketAddr,
    sessions: mpsc::UnboundedSender<AgentChannel>,
) -> Result<(SocketAddr, tokio::task::JoinHandle<()>), GrpcError> {
    let listen = |source| GrpcError::Listen { address, source };
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .map_err(listen)?;
    let bound = listener.local_addr().map_err(listen)?;
    // Interests and verdicts are small and come in bursts.
    let server = tonic::transport::Server::builder()
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .add_service(AffinityServer::new(Service { sessions }))
        .serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener));
    let task = tokio::spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(%error, "the affinity server has stopped");
        }
    });
    Ok((bound, task))
}

/// Opens a session with the agent at an address such as `http://127.0.0.1:9560`.
///
/// # Errors
/// It does not answer, or refuses.
pub async fn connect(address: &str) -> Result<Memory<ToAgent, ToManager>, GrpcError> {
    let unreachable = |source| GrpcError::Connect {
        address: address.to_owned(),
        source,
    };
    let channel = Endpoint::from_shared(address.to_owned())
        .map_err(unreachable)?
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        // An agent whose machine is gone does not close its end.
        .http2_keep_alive_interval(ASK)
        .keep_alive_timeout(SILENCE)
        .keep_alive_while_idle(true)
        .connect()
        .await
        .map_err(unreachable)?;
    let mut client = AffinityClient::new(channel);
    let (to_agent, outgoing) = mpsc::unbounded_channel::<ToAgent>();
    let (to_manager, from_agent) = mpsc::unbounded_channel::<ToManager>();
    let outgoing = UnboundedReceiverStream::new(outgoing).map(|m| write_from_manager(&m));
    let response = (client.session(outgoing).await).map_err(|status| GrpcError::Refused {
        address: address.to_owned(),
        message: status.message().to_owned(),
    })?;
    let mut incoming = response.into_inner();
    tokio::spawn(async move {
        loop {
            match incoming.next().await {
                Some(Ok(message)) => match read_from_agent(message) {
                    Ok(message) => {
                        if to_manager.send(message).is_err() {
                            return;
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the agent sent a message that makes no sense");
                        return;
                    }
                },
                Some(Err(status)) => {
                    tracing::debug!(message = status.message(), "the agent ended the session");
                    return;
                }
                None => return,
            }
        }
    });
    Ok(Memory::new(to_agent, from_agent))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::Channel;
    use crate::message::{AgentBody, Hello, ManagerBody, VERSION};

    fn hello() -> ToAgent {
        ToAgent {
            service: "".into(),
            share: 0,
            epoch: 0,
            body: ManagerBody::Hello(Hello {
                version: VERSION,
                manager: "lb-1".into(),
                plan_hash: 0,
                instance: 0,
                claims: Vec::new(),
            }),
        }
    }

    #[tokio::test]
    async fn a_session_carries_messages_both_ways_and_ends_with_either_end() {
        let (sessions, mut opened) = mpsc::unbounded_channel();
        let (address, _task) = serve(([127, 0, 0, 1], 0).into(), sessions).await.unwrap();
        let url = format!("http://{address}");
        let (to_agent, mut from_agent) = Box::new(connect(&url).await.unwrap()).split();
        to_agent.send(hello()).unwrap();
        let (to_manager, mut from_manager) = opened.recv().await.unwrap().split();
        assert_eq!(from_manager.recv().await, Some(hello()));
        let answer = ToManager {
            service: "web-lb".into(),
            share: 0,
            epoch: 2,
            body: AgentBody::Resync { have_version: 1 },
        };
        to_manager.send(answer.clone()).unwrap();
        assert_eq!(from_agent.recv().await, Some(answer));
        // A refusal goes out before the agent's end of the session closes.
        drop(to_manager);
        let end = tokio::time::timeout(Duration::from_secs(5), from_agent.recv());
        assert_eq!(end.await.unwrap(), None);

        let (to_agent, from_agent) = Box::new(connect(&url).await.unwrap()).split();
        let (_to_manager, mut from_manager) = opened.recv().await.unwrap().split();
        drop((to_agent, from_agent));
        let end = tokio::time::timeout(Duration::from_secs(5), from_manager.recv());
        assert_eq!(end.await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_burst_of_thousands_of_small_messages_arrives_whole_either_way() {
        const BURST: usize = 8_000;
        // How long one end does nothing, so that what the other one sends piles up before it.
        const ASLEEP: Duration = Duration::from_secs(1);
        // Lets a message go out by itself: those that wait together go out as one large frame.
        async fn alone() {
            for _ in 0..8 {
                tokio::task::yield_now().await;
            }
        }
        let (sessions, mut opened) = mpsc::unbounded_channel();
        let (address, _task) = serve(([127, 0, 0, 1], 0).into(), sessions).await.unwrap();
        let manager = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(async {
                let session = connect(&format!("http://{address}")).await.unwrap();
                let (to_agent, mut from_agent) = Box::new(session).split();
                for _ in 0..BURST {
                    to_agent.send(hello()).unwrap();
                    alone().await;
                }
                std::thread::sleep(2 * ASLEEP);
                for taken in 0..BURST {
                    let message = from_agent.recv().await;
                    assert!(message.is_some(), "the agent's end after {taken}");
                }
            });
        });
        let (to_manager, mut from_manager) = opened.recv().await.unwrap().split();
        std::thread::sleep(ASLEEP);
        for taken in 0..BURST {
            let message = from_manager.recv().await;
            assert!(message.is_some(), "the manager's end after {taken}");
        }
        for _ in 0..BURST {
            let message = ToManager {
                service: "web-lb".into(),
                share: 0,
                epoch: 2,
                body: AgentBody::Resync { have_version: 1 },
            };
            to_manager.send(message).unwrap();
            alone().await;
        }
        let ended = tokio::task::spawn_blocking(|| manager.join());
        ended.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn an_agent_that_is_not_there_is_one_clear_line() {
        let error = connect("http://127.0.0.1:1").await.unwrap_err();
        assert!(error.to_string().starts_with("no agent answers at"));
    }
}
