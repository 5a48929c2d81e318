//! The shell: the server's state behind a lock, run on the switch's thread, and offered in process
//! as a [`Transport`]. Reads and writes run between two packets.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use futures::{StreamExt, stream::BoxStream};
use signalbox_p4runtime::{
    Capabilities, Code, Responses, RpcError, StreamSink, Transport,
    proto::p4::v1::{
        Entity, GetForwardingPipelineConfigRequest, GetForwardingPipelineConfigResponse,
        ReadRequest, ReadResponse, SetForwardingPipelineConfigRequest, StreamMessageRequest,
        WriteRequest,
    },
};
use tokio::sync::mpsc;

use super::{
    API_VERSION, Candidate, DeviceCounters, DeviceState, Options, arbitration::StreamId,
    read::Reading,
};
use crate::{
    Config, IdleNotice,
    runner::{Stopped, SwitchHandle},
};

/// Entities in one answer of a read.
const READ_CHUNK: usize = 256;

/// How often digest lists are looked at that wait for more samples.
const DIGEST_TICK: Duration = Duration::from_millis(10);

/// Nanoseconds since the epoch, for timestamps that the protocol wants.
pub(super) fn epoch_ns() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_nanos()).ok())
        .unwrap_or(0)
}

/// The P4Runtime server of one running switch. Clones are the same server.
#[derive(Clone, Debug)]
pub struct Device {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    handle: SwitchHandle,
    state: Arc<Mutex<DeviceState>>,
    config: Config,
}

/// A panic while the lock was held leaves nothing half-done that matters to the next caller.
fn locked(state: &Mutex<DeviceState>) -> MutexGuard<'_, DeviceState> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn stopped(_: Stopped) -> RpcError {
    RpcError::new(Code::Unavailable, "the switch has stopped")
}

impl Device {
    /// Puts a server before a switch: it takes the packets of the CPU port, the notices and the
    /// digests from now on. Needs a tokio runtime.
    ///
    /// # Errors
    /// The switch has stopped.
    pub async fn start(handle: SwitchHandle, options: Options) -> Result<Device, Stopped> {
        let config = handle.call(|switch, _| switch.config().clone()).await?;
        let state = Arc::new(Mutex::new(DeviceState::new(options, config.quirks)));

        let packets = Arc::clone(&state);
        handle.on_cpu_packet(Box::new(move |bytes| locked(&packets).packet_in(bytes)))?;

        let (idle, notices) = mpsc::unbounded_channel();
        handle.on_idle(Box::new(move |notices: Vec<IdleNotice>| {
            // The task that takes them ends with the device.
            let _ = idle.send(notices);
        }))?;
        let (samples, digests) = mpsc::unbounded_channel();
        handle.on_digest(Box::new(move |list: Vec<crate::Digest>| {
            let _ = samples.send(list);
        }))?;

        let inner = Arc::new(Inner {
            handle,
            state,
            config,
        });
        tokio::spawn(forward_idle(Arc::downgrade(&inner), notices));
        tokio::spawn(forward_digests(Arc::downgrade(&inner), digests));
        Ok(Device { inner })
    }

    /// What became of packets between switch and controllers.
    pub fn counters(&self) -> DeviceCounters {
        locked(&self.inner.state).counters()
    }

    /// The way to the switch itself.
    pub fn switch(&self) -> &SwitchHandle {
        &self.inner.handle
    }
}

async fn forward_idle(device: Weak<Inner>, mut notices: mpsc::UnboundedReceiver<Vec<IdleNotice>>) {
    while let Some(notices) = notices.recv().await {
        let Some(inner) = device.upgrade() else {
            return;
        };
        let state = Arc::clone(&inner.state);
        let timestamp = epoch_ns();
        let told = inner
            .handle
            .call(move |switch, _| locked(&state).idle(switch, &notices, timestamp))
            .await;
        if told.is_err() {
            return;
        }
    }
}

async fn forward_digests(
    device: Weak<Inner>,
    mut samples: mpsc::UnboundedReceiver<Vec<crate::Digest>>,
) {
    let mut active = false;
    loop {
        let list = if active {
            match tokio::time::timeout(DIGEST_TICK, samples.recv()).await {
                Ok(None) => return,
                Ok(list) => list,
                Err(_) => None,
            }
        } else {
            match samples.recv().await {
                None => return,
                list => list,
            }
        };
        let Some(inner) = device.upgrade() else {
            return;
        };
        let state = Arc::clone(&inner.state);
        let ticked = inner
            .handle
            .call(move |_, now| {
                let mut state = locked(&state);
                if let Some(list) = list {
                    state.digests(now, list);
                }
                state.tick(now)
            })
            .await;
        match ticked {
            Ok(still) => active = still,
            Err(Stopped) => return,
        }
    }
}

#[async_trait]
impl Transport for Device {
    async fn write(&self, request: Arc<WriteRequest>) -> Result<(), RpcError> {
        let state = Arc::clone(&self.inner.state);
        self.inner
            .handle
            .call(move |switch, now| locked(&state).write(switch, now, &request))
            .await
            .map_err(stopped)?
    }

    async fn read(
        &self,
        request: ReadRequest,
    ) -> Result<BoxStream<'static, Result<ReadResponse, RpcError>>, RpcError> {
        let request = Arc::new(request);
        let mut reading = Reading::default();
        loop {
            let (state, request) = (Arc::clone(&self.inner.state), Arc::clone(&request));
            let turn = self.inner.handle.call(move |switch, now| {
                let is_last = locked(&state).read(switch, now, &request, &mut reading);
                is_last.map(|is_last| (is_last, reading))
            });
            let is_last;
            (is_last, reading) = turn.await.map_err(stopped)??;
            if is_last {
                break;
            }
        }
        let (found, error) = reading.end(self.inner.config.quirks);
        Ok(futures::stream::iter(chunks(found).chain(error.map(Err))).boxed())
    }

    async fn set_pipeline(
        &self,
        request: SetForwardingPipelineConfigRequest,
    ) -> Result<(), RpcError> {
        locked(&self.inner.state).check_set_pipeline(&request)?;
        let candidate = match request.config.clone() {
            // Parsing takes long: neither the switch nor this runtime's other tasks wait for it.
            Some(config) => Some(
                tokio::task::spawn_blocking(move || Candidate::prepare(config))
                    .await
                    .map_err(|error| RpcError::new(Code::Internal, error.to_string()))??,
            ),
            None => None,
        };
        let state = Arc::clone(&self.inner.state);
        self.inner
            .handle
            .call(move |switch, now| locked(&state).set_pipeline(switch, now, &request, candidate))
            .await
            .map_err(stopped)?
    }

    async fn get_pipeline(
        &self,
        request: GetForwardingPipelineConfigRequest,
    ) -> Result<GetForwardingPipelineConfigResponse, RpcError> {
        locked(&self.inner.state).get_pipeline(&request)
    }

    async fn capabilities(&self, device_id: u64) -> Result<Capabilities, RpcError> {
        // 0 is what clients of older versions send, whose request has no device.
        let state = locked(&self.inner.state);
        if device_id != 0 {
            state.check_device(device_id)?;
        }
        Ok(Capabilities {
            version: API_VERSION.to_owned(),
            // What stands in for simple_switch_grpc says no more than that does.
            server: (!state.quirks().no_pi_extensions)
                .then(|| concat!("signalbox/", env!("CARGO_PKG_VERSION")).to_owned()),
        })
    }

    async fn stream(&self) -> Result<(Box<dyn StreamSink>, Responses), RpcError> {
        let (id, responses) = locked(&self.inner.state).open_stream();
        let sink = DirectSink {
            inner: Arc::clone(&self.inner),
            id,
        };
        Ok((Box::new(sink), responses.boxed()))
    }
}

fn chunks(found: Vec<Entity>) -> impl Iterator<Item = Result<ReadResponse, RpcError>> {
    let mut rest = found.into_iter();
    std::iter::from_fn(move || {
        let entities: Vec<Entity> = rest.by_ref().take(READ_CHUNK).collect();
        (!entities.is_empty()).then_some(Ok(ReadResponse { entities }))
    })
}

/// The controller's end of a stream in the same process.
struct DirectSink {
    inner: Arc<Inner>,
    id: StreamId,
}

#[async_trait]
impl StreamSink for DirectSink {
    async fn send(&self, message: StreamMessageRequest) -> Result<(), RpcError> {
        self.try_send(message)
    }

    fn try_send(&self, message: StreamMessageRequest) -> Result<(), RpcError> {
        let packet = locked(&self.inner.state).stream_message(self.id, message);
        let Some((bytes, header)) = packet else {
            return Ok(());
        };
        // Without CPU port there is no packet I/O, as with simple_switch_grpc.
        let Some(cpu_port) = self.inner.config.cpu_port else {
            return Ok(());
        };
        self.inner
            .handle
            .packet_out(cpu_port, bytes, header)
            .map_err(stopped)
    }
}

impl Drop for DirectSink {
    fn drop(&mut self) {
        locked(&self.inner.state).close_stream(self.id);
    }
}
