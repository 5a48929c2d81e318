//! The affinity protocol over gRPC: the agent's service, and a manager's way to it.

pub mod stream;

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

use self::stream::{Answers, Far, GrpcError};
use crate::channel::{AgentChannel, Memory};
use crate::message::{ToAgent, ToManager};
use crate::wire::pb::affinity_client::AffinityClient;
use crate::wire::pb::affinity_server::{Affinity, AffinityServer};
use crate::wire::{pb, read_from_agent, read_from_manager, write_from_agent, write_from_manager};

/// Between two questions whether the agent still answers, and how long it may keep silent.
const ASK: Duration = Duration::from_secs(3);
const SILENCE: Duration = Duration::from_secs(10);

struct Service {
    sessions: mpsc::UnboundedSender<AgentChannel>,
}

#[tonic::async_trait]
impl Affinity for Service {
    type SessionStream = Answers<pb::FromAgent>;

    async fn session(
        &self,
        request: Request<Streaming<pb::FromManager>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        stream::answer(request, read_from_manager, write_from_agent, &self.sessions)
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
    let service = AffinityServer::new(Service { sessions });
    stream::listen(address, stream::server().add_service(service), "affinity").await
}

/// Opens a session with the agent at an address such as `http://127.0.0.1:9560`.
///
/// # Errors
/// It does not answer, or refuses.
pub async fn connect(address: &str) -> Result<Memory<ToAgent, ToManager>, GrpcError> {
    let agent = Far {
        who: "agent",
        address,
        ask: ASK,
        silence: SILENCE,
    };
    let mut client = AffinityClient::new(agent.connect().await?);
    let (to_agent, outgoing) = stream::outgoing(write_from_manager);
    let answer = client.session(outgoing).await;
    agent.session(to_agent, answer, read_from_agent)
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
