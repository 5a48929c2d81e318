//! The controller's side of one device: arbitration, the pipeline, reads, packet I/O. It speaks
//! over any [`Transport`]; when to come back after a break is the caller's to decide.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};
use thiserror::Error;

use crate::{
    proto::p4::{
        config::v1::P4Info,
        v1::{
            DigestList, DigestListAck, Entity, ForwardingPipelineConfig,
            GetForwardingPipelineConfigRequest, MasterArbitrationUpdate, PacketIn, PacketMetadata,
            PacketOut, ReadRequest, Role, SetForwardingPipelineConfigRequest, StreamError,
            StreamMessageRequest, TableEntry, Uint128, forwarding_pipeline_config::Cookie,
            get_forwarding_pipeline_config_request::ResponseType,
            set_forwarding_pipeline_config_request::Action, stream_message_request,
            stream_message_response,
        },
    },
    rpc::{Code, RpcError, code_of},
    transport::{Capabilities, Responses, StreamSink, Transport},
};

/// Who this controller is to the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The device behind the address.
    pub device_id: u64,
    /// The role's name; empty for the role that may do everything.
    pub role: String,
    /// The highest one that a device has seen for a role is its primary.
    pub election_id: u128,
    /// How long a call may take.
    pub timeout: Duration,
}

impl Session {
    /// The default role, with 10 seconds for a call.
    pub fn new(device_id: u64, election_id: u128) -> Session {
        Session {
            device_id,
            role: String::new(),
            election_id,
            timeout: Duration::from_secs(10),
        }
    }

    pub(crate) fn election_id(&self) -> Uint128 {
        uint128(self.election_id)
    }
}

/// An election id as the protocol has it.
pub fn uint128(id: u128) -> Uint128 {
    Uint128 {
        high: u64::try_from(id >> 64).unwrap_or(u64::MAX),
        low: u64::try_from(id & u128::from(u64::MAX)).unwrap_or(u64::MAX),
    }
}

/// An election id as a number.
pub fn election_number(id: &Uint128) -> u128 {
    (u128::from(id.high) << 64) | u128::from(id.low)
}

/// A session that did not come about, or a stream that broke.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum ClientError {
    /// The device refused, or was not reached.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// The stream ended without a reason.
    #[error("the device closed the stream")]
    Closed,
}

/// Whether this controller is the one that may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is.
    Primary,
    /// Another is, with the higher election id.
    Backup {
        /// The primary's election id.
        primary: u128,
    },
    /// Nobody is: the one with the highest election id ever seen has left.
    NoPrimary {
        /// The highest election id ever seen.
        highest: u128,
    },
}

/// What a device tells of its own accord.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Who is primary has changed, or was asked for.
    Standing(Standing),
    /// A packet for the controller.
    Packet(PacketIn),
    /// Entries that were not hit for their idle time-out.
    Idle(Vec<TableEntry>),
    /// Samples of a digest; to be acknowledged with [`Client::acknowledge`].
    Digest(DigestList),
    /// The device could not do what a message of ours asked.
    Refused(StreamError),
}

/// The events of one session, in the device's order.
pub struct Events {
    responses: Responses,
    standing: Standing,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events")
            .field("standing", &self.standing)
            .finish_non_exhaustive()
    }
}

impl Events {
    /// The next event. After an error there are no more.
    ///
    /// # Errors
    /// The stream broke or ended; the session is over.
    pub async fn next(&mut self) -> Result<Event, ClientError> {
        loop {
            let message = self.responses.next().await.ok_or(ClientError::Closed)??;
            if let Some(event) = self.event(message.update) {
                return Ok(event);
            }
        }
    }

    /// The latest standing that the device has told.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    fn event(&mut self, update: Option<stream_message_response::Update>) -> Option<Event> {
        use stream_message_response::Update as U;
        match update? {
            U::Arbitration(update) => {
                self.standing = standing(&update);
                Some(Event::Standing(self.standing))
            }
            U::Packet(packet) => Some(Event::Packet(packet)),
            U::Digest(list) => Some(Event::Digest(list)),
            U::IdleTimeoutNotification(notice) => Some(Event::Idle(notice.table_entry)),
            U::Error(error) => Some(Event::Refused(error)),
            U::Other(_) => None,
        }
    }
}

fn standing(update: &MasterArbitrationUpdate) -> Standing {
    let highest = update.election_id.as_ref().map_or(0, election_number);
    match update.status.as_ref().map_or(Code::Ok, |s| code_of(s.code)) {
        Code::Ok => Standing::Primary,
        Code::NotFound => Standing::NoPrimary { highest },
        _ => Standing::Backup { primary: highest },
    }
}

/// A controller's session with one device. Clones share it; it ends when all are gone.
#[derive(Clone)]
pub struct Client {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) session: Arc<Session>,
    sink: Arc<dyn StreamSink>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Opens the stream, announces the election id, and waits for the device's answer, which
    /// [`Events::standing`] tells. Being a backup is no error.
    ///
    /// # Errors
    /// The device was not reached in time, or refuses: no such device, election id in use.
    pub async fn open(
        transport: Arc<dyn Transport>,
        session: Session,
    ) -> Result<(Client, Events), ClientError> {
        let timeout = session.timeout;
        in_time(timeout, async {
            let (sink, responses) = transport.stream().await?;
            let client = Client {
                transport,
                session: Arc::new(session),
                sink: Arc::from(sink),
            };
            let mut events = Events {
                responses,
                standing: Standing::NoPrimary { highest: 0 },
            };
            client
                .send(client.arbitration(client.session.election_id))
                .await?;
            loop {
                // Whatever comes before the answer is not for this session.
                if let Event::Standing(_) = events.next().await? {
                    return Ok((client, events));
                }
            }
        })
        .await
    }

    /// Who this controller is.
    pub fn session(&self) -> &Session {
        &self.session
    }

    fn arbitration(&self, election_id: u128) -> stream_message_request::Update {
        stream_message_request::Update::Arbitration(MasterArbitrationUpdate {
            device_id: self.session.device_id,
            role: (!self.session.role.is_empty()).then(|| Role {
                name: self.session.role.clone(),
                ..Role::default()
            }),
            election_id: Some(uint128(election_id)),
            status: None,
        })
    }

    async fn send(&self, update: stream_message_request::Update) -> Result<(), RpcError> {
        let message = StreamMessageRequest {
            update: Some(update),
        };
        self.sink.send(message).await
    }

    /// Sends a packet, and waits while the way to the device is full.
    ///
    /// # Errors
    /// The stream is closed. What the device refuses comes as [`Event::Refused`].
    pub async fn packet_out(
        &self,
        payload: impl Into<Bytes>,
        metadata: Vec<PacketMetadata>,
    ) -> Result<(), RpcError> {
        self.send(stream_message_request::Update::Packet(PacketOut {
            payload: payload.into(),
            metadata,
        }))
        .await
    }

    /// Sends a packet without waiting.
    ///
    /// # Errors
    /// The stream is closed (UNAVAILABLE), or the way is full (RESOURCE_EXHAUSTED).
    pub fn try_packet_out(&self, packet: PacketOut) -> Result<(), RpcError> {
        self.sink.try_send(StreamMessageRequest {
            update: Some(stream_message_request::Update::Packet(packet)),
        })
    }

    /// Acknowledges a digest list, so that the device may send its samples again.
    ///
    /// # Errors
    /// The stream is closed.
    pub async fn acknowledge(&self, list: &DigestList) -> Result<(), RpcError> {
        self.send(stream_message_request::Update::DigestAck(DigestListAck {
            digest_id: list.digest_id,
            list_id: list.list_id,
        }))
        .await
    }

    /// Gives the device a pipeline. VERIFY_AND_COMMIT replaces the old one and all its entries.
    ///
    /// # Errors
    /// This controller is not primary, or the device refuses the pipeline, and says why.
    pub async fn set_pipeline(
        &self,
        action: Action,
        p4info: P4Info,
        device_config: Vec<u8>,
        cookie: u64,
    ) -> Result<(), RpcError> {
        self.set_pipeline_config(
            action,
            Some(ForwardingPipelineConfig {
                p4info: Some(p4info),
                p4_device_config: device_config,
                cookie: Some(Cookie { cookie }),
            }),
        )
        .await
    }

    /// COMMIT: makes what was saved with VERIFY_AND_SAVE the running pipeline.
    ///
    /// # Errors
    /// Nothing was saved, or this controller is not primary.
    pub async fn commit_pipeline(&self) -> Result<(), RpcError> {
        self.set_pipeline_config(Action::Commit, None).await
    }

    async fn set_pipeline_config(
        &self,
        action: Action,
        config: Option<ForwardingPipelineConfig>,
    ) -> Result<(), RpcError> {
        #[allow(deprecated, reason = "the field must be left at its default")]
        let request = SetForwardingPipelineConfigRequest {
            device_id: self.session.device_id,
            role_id: 0,
            role: self.session.role.clone(),
            election_id: Some(self.session.election_id()),
            action: action as i32,
            config,
        };
        // Loading a pipeline takes longer than a write; hardware takes minutes.
        in_time(
            self.session.timeout * 12,
            self.transport.set_pipeline(request),
        )
        .await
    }

    /// The pipeline that runs, or the parts of it that are asked for; `None` before any was set.
    ///
    /// # Errors
    /// The device was not reached.
    pub async fn get_pipeline(
        &self,
        parts: ResponseType,
    ) -> Result<Option<ForwardingPipelineConfig>, RpcError> {
        let request = GetForwardingPipelineConfigRequest {
            device_id: self.session.device_id,
            response_type: parts as i32,
        };
        let config = in_time(self.session.timeout, self.transport.get_pipeline(request))
            .await?
            .config;
        Ok(config.filter(|config| *config != ForwardingPipelineConfig::default()))
    }

    /// The protocol version that the device speaks, and what it says that it is.
    ///
    /// # Errors
    /// The device was not reached, or does not know the call.
    pub async fn capabilities(&self) -> Result<Capabilities, RpcError> {
        let device_id = self.session.device_id;
        in_time(self.session.timeout, self.transport.capabilities(device_id)).await
    }

    /// Reads what matches any of the filters, as it comes.
    ///
    /// # Errors
    /// A filter is wrong, or the device was not reached.
    pub async fn read(
        &self,
        filters: Vec<Entity>,
    ) -> Result<impl Stream<Item = Result<Entity, RpcError>> + use<>, RpcError> {
        let request = ReadRequest {
            device_id: self.session.device_id,
            role: self.session.role.clone(),
            entities: filters,
        };
        let responses = in_time(self.session.timeout, self.transport.read(request)).await?;
        Ok(responses
            .map_ok(|response| futures::stream::iter(response.entities.into_iter().map(Ok)))
            .try_flatten())
    }

    /// Reads all that matches any of the filters.
    ///
    /// # Errors
    /// A filter is wrong, or the device was not reached.
    pub async fn read_all(&self, filters: Vec<Entity>) -> Result<Vec<Entity>, RpcError> {
        self.read(filters).await?.try_collect().await
    }
}

/// Gives a call its deadline.
pub(crate) async fn in_time<T, E: From<RpcError>>(
    timeout: Duration,
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    match tokio::time::timeout(timeout, call).await {
        Ok(result) => result,
        Err(_) => Err(RpcError::new(
            Code::DeadlineExceeded,
            format!("no answer within {timeout:?}"),
        )
        .into()),
    }
}
