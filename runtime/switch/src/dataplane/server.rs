//! The server: every port of the switch ends in one stream. One harness at a time, as with bmv2.

use std::{
    collections::BTreeSet,
    io,
    os::fd::BorrowedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::proto::{
    PacketStreamRequest, PacketStreamResponse, PortOperStatus, SetPortOperStatusRequest,
    SetPortOperStatusResponse,
    dataplane_interface_server::{DataplaneInterface, DataplaneInterfaceServer},
};
use crate::{
    ports::{Port, PortCounters},
    runner::{Stopped, SwitchHandle},
};

type Item = Result<PacketStreamResponse, Status>;

/// The DataplaneInterface of one switch. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Dataplane {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    handle: SwitchHandle,
    device_id: u64,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    harness: Option<mpsc::UnboundedSender<Item>>,
    /// A harness has announced itself and is not served out yet.
    taken: bool,
    down: BTreeSet<u16>,
}

fn locked(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Dataplane {
    /// Gives the switch these ports, whose packets go to whoever opens the stream.
    ///
    /// # Errors
    /// The switch has stopped.
    pub fn attach(
        handle: SwitchHandle,
        device_id: u64,
        ports: impl IntoIterator<Item = u16>,
    ) -> Result<Dataplane, Stopped> {
        let shared = Arc::new(Mutex::new(Shared::default()));
        for number in ports {
            let port = StreamPort {
                number,
                device_id,
                shared: Arc::clone(&shared),
                counters: PortCounters::default(),
            };
            handle.add_port(number, Box::new(port))?;
        }
        Ok(Dataplane {
            inner: Arc::new(Inner {
                handle,
                device_id,
                shared,
            }),
        })
    }

    /// The tonic service.
    pub fn into_service(self) -> DataplaneInterfaceServer<Dataplane> {
        DataplaneInterfaceServer::new(self)
    }
}

/// A port whose other end is the harness's stream.
struct StreamPort {
    number: u16,
    device_id: u64,
    shared: Arc<Mutex<Shared>>,
    counters: PortCounters,
}

impl Port for StreamPort {
    fn receive(&mut self, _limit: usize, _sink: &mut dyn FnMut(&[u8])) -> io::Result<usize> {
        // What arrives comes by the switch's handle.
        Ok(0)
    }

    fn send(&mut self, packet: &[u8]) {
        self.send_tagged(packet, 0);
    }

    fn send_tagged(&mut self, packet: &[u8], tag: u64) {
        let shared = locked(&self.shared);
        if shared.down.contains(&self.number) {
            self.counters.send_failed += 1;
            return;
        }
        self.counters.sent += 1;
        if let Some(harness) = &shared.harness {
            // A harness that has gone gets nothing more.
            let _ = harness.send(Ok(PacketStreamResponse {
                id: tag,
                device_id: self.device_id,
                port: u32::from(self.number),
                packet: Bytes::copy_from_slice(packet),
            }));
        }
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn counters(&self) -> PortCounters {
        self.counters
    }
}

impl Inner {
    /// Lets a packet arrive; false when the switch has stopped.
    fn arrive(&self, request: PacketStreamRequest) -> bool {
        let Ok(port) = u16::try_from(request.port) else {
            return true;
        };
        if request.device_id != self.device_id
            || request.packet.is_empty()
            || locked(&self.shared).down.contains(&port)
        {
            return true;
        }
        self.handle
            .inject_tagged(port, request.packet.to_vec(), request.id)
            .is_ok()
    }
}

#[tonic::async_trait]
impl DataplaneInterface for Dataplane {
    type PacketStreamStream = BoxStream<'static, Item>;

    async fn packet_stream(
        &self,
        request: Request<Streaming<PacketStreamRequest>>,
    ) -> Result<Response<Self::PacketStreamStream>, Status> {
        let (sender, receiver) = mpsc::unbounded_channel();
        {
            let mut shared = locked(&self.inner.shared);
            if shared.taken {
                return Err(Status::resource_exhausted(
                    "only one client authorized at a time",
                ));
            }
            shared.taken = true;
            shared.harness = Some(sender);
        }
        let inner = Arc::clone(&self.inner);
        let mut requests = request.into_inner();
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                if !inner.arrive(request) {
                    break;
                }
            }
            // What has arrived is processed before the stream ends.
            let _ = inner.handle.call(|_, _| ()).await;
            let mut shared = locked(&inner.shared);
            shared.harness = None;
            shared.taken = false;
        });
        Ok(Response::new(
            UnboundedReceiverStream::new(receiver).boxed(),
        ))
    }

    async fn set_port_oper_status(
        &self,
        request: Request<SetPortOperStatusRequest>,
    ) -> Result<Response<SetPortOperStatusResponse>, Status> {
        let request = request.into_inner();
        if request.device_id != self.inner.device_id {
            return Err(Status::invalid_argument("Invalid device id"));
        }
        let port = u16::try_from(request.port)
            .map_err(|_| Status::invalid_argument(format!("there is no port {}", request.port)))?;
        let mut shared = locked(&self.inner.shared);
        match request.oper_status() {
            PortOperStatus::OperStatusDown => {
                shared.down.insert(port);
            }
            PortOperStatus::OperStatusUp => {
                shared.down.remove(&port);
            }
            PortOperStatus::OperStatusUnknown => {
                return Err(Status::invalid_argument("Invalid oper status"));
            }
        }
        Ok(Response::new(SetPortOperStatusResponse {}))
    }
}
