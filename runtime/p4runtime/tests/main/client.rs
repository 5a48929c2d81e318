//! The client against a device that answers by script.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use futures::{StreamExt, stream::BoxStream};
use signalbox_p4runtime::{
    Capabilities, Client, ClientError, Code, Event, Responses, RpcError, Session, Standing,
    StreamSink, Transport, WriteOptions,
    client::uint128,
    proto::{
        google::rpc::Status,
        p4::v1::{
            Entity, Error, GetForwardingPipelineConfigRequest, GetForwardingPipelineConfigResponse,
            MasterArbitrationUpdate, PacketIn, ReadRequest, ReadResponse,
            SetForwardingPipelineConfigRequest, StreamMessageRequest, StreamMessageResponse,
            Update, WriteRequest, stream_message_request, stream_message_response,
        },
    },
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

/// Fails updates of type MODIFY; answers arbitration as told; counts calls in flight.
#[derive(Default)]
struct Device {
    writes: Mutex<Vec<usize>>,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
    silent: bool,
    backup: bool,
}

struct Sink {
    responses: mpsc::UnboundedSender<Result<StreamMessageResponse, RpcError>>,
    silent: bool,
    backup: bool,
}

#[async_trait]
impl StreamSink for Sink {
    async fn send(&self, message: StreamMessageRequest) -> Result<(), RpcError> {
        self.try_send(message)
    }

    fn try_send(&self, message: StreamMessageRequest) -> Result<(), RpcError> {
        let Some(stream_message_request::Update::Arbitration(asked)) = message.update else {
            return Ok(());
        };
        if self.silent {
            return Ok(());
        }
        let answer = if self.backup {
            MasterArbitrationUpdate {
                election_id: Some(uint128(1 << 100)),
                status: Some(Status {
                    code: Code::AlreadyExists as i32,
                    ..Status::default()
                }),
                ..asked
            }
        } else {
            asked
        };
        for update in [
            stream_message_response::Update::Arbitration(answer),
            stream_message_response::Update::Packet(PacketIn::default()),
        ] {
            let _ = self.responses.send(Ok(StreamMessageResponse {
                update: Some(update),
            }));
        }
        let _ = self
            .responses
            .send(Err(RpcError::new(Code::Unavailable, "gone")));
        Ok(())
    }
}

#[async_trait]
impl Transport for Device {
    async fn write(&self, request: Arc<WriteRequest>) -> Result<(), RpcError> {
        let now = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_in_flight.fetch_max(now, Ordering::SeqCst);
        tokio::task::yield_now().await;
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        self.writes.lock().unwrap().push(request.updates.len());
        let results: Vec<Error> = request
            .updates
            .iter()
            .map(|update| match update.r#type {
                2 => Error {
                    canonical_code: Code::NotFound as i32,
                    message: "not there".to_owned(),
                    ..Error::default()
                },
                _ => Error::default(),
            })
            .collect();
        if request.updates.iter().any(|u| u.r#type == 3) {
            return Err(RpcError::new(Code::Unavailable, "restarting"));
        }
        if results.iter().all(|r| r.canonical_code == 0) {
            return Ok(());
        }
        Err(RpcError::of_updates(results))
    }

    async fn read(
        &self,
        request: ReadRequest,
    ) -> Result<BoxStream<'static, Result<ReadResponse, RpcError>>, RpcError> {
        let one = ReadResponse {
            entities: request.entities,
        };
        Ok(futures::stream::iter([Ok(one.clone()), Ok(one)]).boxed())
    }

    async fn set_pipeline(&self, _: SetForwardingPipelineConfigRequest) -> Result<(), RpcError> {
        Ok(())
    }

    async fn get_pipeline(
        &self,
        _: GetForwardingPipelineConfigRequest,
    ) -> Result<GetForwardingPipelineConfigResponse, RpcError> {
        Ok(GetForwardingPipelineConfigResponse {
            config: Some(Default::default()),
        })
    }

    async fn capabilities(&self, _: u64) -> Result<Capabilities, RpcError> {
        Ok(Capabilities {
            version: "1.4.1".to_owned(),
            server: Some("double/1".to_owned()),
        })
    }

    async fn stream(&self) -> Result<(Box<dyn StreamSink>, Responses), RpcError> {
        let (responses, receiver) = mpsc::unbounded_channel();
        let sink = Sink {
            responses,
            silent: self.silent,
            backup: self.backup,
        };
        Ok((
            Box::new(sink),
            UnboundedReceiverStream::new(receiver).boxed(),
        ))
    }
}

fn updates(types: impl IntoIterator<Item = i32>) -> Vec<Update> {
    types
        .into_iter()
        .map(|r#type| Update {
            r#type,
            entity: Some(Entity::default()),
        })
        .collect()
}

#[tokio::test]
async fn the_first_answer_tells_the_standing_and_the_rest_are_events() {
    let (_client, mut events) = Client::open(Arc::new(Device::default()), Session::new(1, 5))
        .await
        .unwrap();
    assert_eq!(events.standing(), Standing::Primary);
    assert!(matches!(events.next().await, Ok(Event::Packet(_))));
    let end = events.next().await.unwrap_err();
    assert_eq!(
        end,
        ClientError::Rpc(RpcError::new(Code::Unavailable, "gone"))
    );

    let device = Device {
        backup: true,
        ..Device::default()
    };
    let (_client, events) = Client::open(Arc::new(device), Session::new(1, 5))
        .await
        .unwrap();
    assert_eq!(events.standing(), Standing::Backup { primary: 1 << 100 });
}

#[tokio::test(start_paused = true)]
async fn a_silent_device_is_given_up_in_time() {
    let device = Device {
        silent: true,
        ..Device::default()
    };
    let error = Client::open(Arc::new(device), Session::new(1, 5))
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "DEADLINE_EXCEEDED: no answer within 10s");
}

#[tokio::test]
async fn updates_go_in_chunks_and_failures_keep_their_places() {
    let device = Arc::new(Device::default());
    let (client, _events) = Client::open(device.clone(), Session::new(1, 5))
        .await
        .unwrap();
    let types = (0..250).map(|n| if n % 100 == 7 { 2 } else { 1 });
    let error = client.write(updates(types)).await.unwrap_err();
    assert_eq!(*device.writes.lock().unwrap(), [100, 100, 50]);
    assert_eq!(device.most_in_flight.load(Ordering::SeqCst), 1);
    let failed: Vec<usize> = error.failures.iter().map(|f| f.index).collect();
    assert_eq!(failed, [7, 107, 207]);
    assert_eq!(
        error.to_string(),
        "3 of 250 updates failed; the first is number 8: NOT_FOUND: not there"
    );
}

#[tokio::test]
async fn a_call_that_fails_as_a_whole_fails_its_updates_and_no_others() {
    let device = Arc::new(Device::default());
    let (client, _events) = Client::open(device.clone(), Session::new(1, 5))
        .await
        .unwrap();
    let types = (0..25).map(|n| if n == 12 { 3 } else { 1 });
    let options = WriteOptions {
        chunk: 10,
        ..WriteOptions::default()
    };
    let error = client
        .write_with(updates(types), options)
        .await
        .unwrap_err();
    let failed: Vec<usize> = error.failures.iter().map(|f| f.index).collect();
    assert_eq!(failed, (10..20).collect::<Vec<_>>());
    assert!(error.all_are(Code::Unavailable));
}

#[tokio::test]
async fn independent_updates_are_in_flight_together() {
    let device = Arc::new(Device::default());
    let (client, _events) = Client::open(device.clone(), Session::new(1, 5))
        .await
        .unwrap();
    client
        .write_unordered(updates((0..2000).map(|_| 1)))
        .await
        .unwrap();
    assert_eq!(device.most_in_flight.load(Ordering::SeqCst), 8);
    client.write(vec![]).await.unwrap();
}

#[tokio::test]
async fn a_read_joins_its_answers() {
    let (client, _events) = Client::open(Arc::new(Device::default()), Session::new(1, 5))
        .await
        .unwrap();
    let read = client.read_all(vec![Entity::default(); 3]).await.unwrap();
    assert_eq!(read.len(), 6);
    // An empty config is how some devices say that none was set.
    assert_eq!(client.get_pipeline(Default::default()).await.unwrap(), None);
    let capabilities = client.capabilities().await.unwrap();
    assert_eq!(capabilities.version, "1.4.1");
    assert_eq!(capabilities.server.as_deref(), Some("double/1"));
}
