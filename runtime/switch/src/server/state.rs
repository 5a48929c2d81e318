//! What the server remembers of its device: who may write, the pipeline, and what of the controllers'
//! words the core does not keep. A pure value: the switch and the time are handed in.

use std::collections::BTreeMap;

use signalbox_p4runtime::{
    Catalog, Code, RpcError,
    proto::p4::v1::{
        ActionProfileActionSet, ActionProfileGroup, CloneSessionEntry, DigestListAckError,
        ForwardingPipelineConfig, IdleTimeoutNotification, MulticastGroupEntry, PacketIn,
        PacketOut, PacketOutError, StreamError, StreamMessageRequest, stream_error,
        stream_message_request, stream_message_response::Update,
    },
};

use super::{
    arbitration::{Arbiter, Notices, StreamId},
    binding::Binding,
    digests::{self, Digests},
    entry_messages,
    layout::Layout,
    refusal::Refusal,
    streams::Outbox,
};
use crate::{Digest, IdleNotice, Micros, Quirks, Switch};

/// What a server is told before it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The device's number. 0 is no device id since P4Runtime 1.5; simple_switch's is 0 by
    /// default, so it is accepted here.
    pub device_id: u64,
    /// Packets, digests and notices that may wait for a controller; the rest is dropped.
    pub stream_queue: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            device_id: 1,
            stream_queue: 16_384,
        }
    }
}

/// What became of packets between switch and controllers, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeviceCounters {
    /// Packets sent to controllers, one for each that got it.
    pub packet_ins: u64,
    /// Packets for the controller while there was no primary, or no pipeline.
    pub no_primary: u64,
    /// Packets for the controller that were shorter than the header `packet_in`.
    pub short_packet_ins: u64,
    /// Packets for a controller that had fallen behind.
    pub overrun: u64,
    /// Packets from controllers.
    pub packet_outs: u64,
    /// Packets from controllers that were refused.
    pub refused_packet_outs: u64,
}

/// What controllers wrote and the core does not keep.
#[derive(Debug, Clone, Default)]
pub(super) struct Notes {
    /// Metadata of the default entries that were written and not reset, by table id.
    pub defaults: BTreeMap<u32, Vec<u8>>,
    /// Groups as written, by profile and group id.
    pub groups: BTreeMap<(u32, u32), ActionProfileGroup>,
    /// One-shots as written, by profile id and the number of the group made for them.
    pub one_shots: BTreeMap<(u32, u32), ActionProfileActionSet>,
    pub multicast: BTreeMap<u32, MulticastGroupEntry>,
    pub clones: BTreeMap<u32, CloneSessionEntry>,
    pub digests: Digests,
}

/// A pipeline and all that belongs to it.
#[derive(Debug)]
pub(super) struct Loaded {
    pub config: ForwardingPipelineConfig,
    pub catalog: Catalog,
    pub binding: Binding,
    pub packet_in: Layout,
    pub packet_out: Layout,
    pub notes: Notes,
}

/// A pipeline that was verified and saved: a second switch that no packet passes yet.
#[derive(Debug)]
pub(super) struct Saved {
    pub loaded: Loaded,
    pub switch: Switch,
}

/// The server's whole state, beside the switch itself.
#[derive(Debug)]
pub struct DeviceState {
    options: Options,
    quirks: Quirks,
    pub(super) arbiter: Arbiter,
    pub(super) running: Option<Loaded>,
    pub(super) saved: Option<Box<Saved>>,
    outboxes: BTreeMap<StreamId, Outbox>,
    next_stream: u64,
    counters: DeviceCounters,
}

impl DeviceState {
    /// A server without streams and pipeline.
    pub fn new(options: Options, quirks: Quirks) -> DeviceState {
        DeviceState {
            arbiter: Arbiter::new(options.device_id, quirks.no_pi_extensions),
            options,
            quirks,
            running: None,
            saved: None,
            outboxes: BTreeMap::new(),
            next_stream: 1,
            counters: DeviceCounters::default(),
        }
    }

    pub(super) fn quirks(&self) -> Quirks {
        self.quirks
    }

    /// What became of packets between switch and controllers.
    pub fn counters(&self) -> DeviceCounters {
        self.counters
    }

    /// Checks that a call is for this device.
    ///
    /// # Errors
    /// NOT_FOUND.
    pub fn check_device(&self, device_id: u64) -> Result<(), RpcError> {
        self.arbiter.check_device(device_id)
    }

    pub(super) fn open_stream(
        &mut self,
    ) -> (
        StreamId,
        impl futures::Stream<
            Item = Result<signalbox_p4runtime::proto::p4::v1::StreamMessageResponse, RpcError>,
        > + Send
        + 'static,
    ) {
        let id = StreamId(self.next_stream);
        self.next_stream += 1;
        let limit = self.quirks.cpu_queue.unwrap_or(self.options.stream_queue);
        let (outbox, responses) = super::streams::queue(limit);
        self.outboxes.insert(id, outbox);
        (id, responses)
    }

    /// Takes note that a stream has ended.
    pub fn close_stream(&mut self, stream: StreamId) {
        self.outboxes.remove(&stream);
        let notices = self.arbiter.leave(stream);
        self.tell(notices);
    }

    fn tell(&mut self, notices: Notices) {
        for (stream, notice) in notices {
            if let Some(outbox) = self.outboxes.get(&stream) {
                outbox.send(Update::Arbitration(notice));
            }
        }
    }

    /// Takes a message of a stream. A packet-out that is right comes back as what is to arrive at the
    /// CPU port, with the length of its header.
    pub(super) fn stream_message(
        &mut self,
        stream: StreamId,
        message: StreamMessageRequest,
    ) -> Option<(Vec<u8>, usize)> {
        use stream_message_request::Update as U;
        match message.update {
            Some(U::Arbitration(update)) => {
                match self.arbiter.update(stream, &update) {
                    Ok(notices) => self.tell(notices),
                    Err(error) => {
                        if let Some(outbox) = self.outboxes.remove(&stream) {
                            outbox.fail(error);
                        }
                        let notices = self.arbiter.leave(stream);
                        self.tell(notices);
                    }
                }
                None
            }
            Some(U::Packet(packet)) => match self.packet_out(stream, &packet) {
                Ok(bytes) => {
                    self.counters.packet_outs += 1;
                    Some(bytes)
                }
                Err(refusal) => {
                    self.counters.refused_packet_outs += 1;
                    let details = stream_error::Details::PacketOut(PacketOutError {
                        packet_out: Some(packet),
                    });
                    self.stream_error(stream, refusal, details);
                    None
                }
            },
            Some(U::DigestAck(ack)) => {
                let outcome = match &mut self.running {
                    Some(loaded) if self.arbiter.is_primary(stream) => {
                        digests::acknowledge(loaded, &ack)
                    }
                    Some(_) => Err(Refusal::denied("only the primary acknowledges digests")),
                    None => Err(Refusal::new(Code::FailedPrecondition, "no pipeline is set")),
                };
                if let Err(refusal) = outcome {
                    let details = stream_error::Details::DigestListAck(DigestListAckError {
                        digest_list_ack: Some(ack),
                    });
                    self.stream_error(stream, refusal, details);
                }
                None
            }
            Some(U::Other(other)) => {
                let refusal = Refusal::unimplemented("this message is unknown here");
                let details = stream_error::Details::Other(
                    signalbox_p4runtime::proto::p4::v1::StreamOtherError { other: Some(other) },
                );
                self.stream_error(stream, refusal, details);
                None
            }
            None => None,
        }
    }

    fn stream_error(&self, stream: StreamId, refusal: Refusal, details: stream_error::Details) {
        // simple_switch_grpc drops what it does not understand without a word.
        if self.quirks.no_pi_extensions {
            return;
        }
        if let Some(outbox) = self.outboxes.get(&stream) {
            outbox.send(Update::Error(StreamError {
                canonical_code: refusal.code as i32,
                message: refusal.message,
                details: Some(details),
                ..StreamError::default()
            }));
        }
    }

    fn packet_out(
        &self,
        stream: StreamId,
        packet: &PacketOut,
    ) -> Result<(Vec<u8>, usize), Refusal> {
        if !self.arbiter.is_primary(stream) {
            return Err(Refusal::denied("only the primary sends packets"));
        }
        let Some(loaded) = &self.running else {
            return Err(Refusal::new(Code::FailedPrecondition, "no pipeline is set"));
        };
        let layout = &loaded.packet_out;
        let mut bytes = Vec::with_capacity(layout.length + packet.payload.len());
        layout.pack(&packet.metadata, &mut bytes)?;
        bytes.extend_from_slice(&packet.payload);
        Ok((bytes, layout.length))
    }

    /// Gives a packet that left by the CPU port to the primaries.
    pub fn packet_in(&mut self, bytes: Vec<u8>) {
        let Some(loaded) = &self.running else {
            self.counters.no_primary += 1;
            return;
        };
        let layout = &loaded.packet_in;
        let Some(metadata) = layout.unpack(&bytes) else {
            self.counters.short_packet_ins += 1;
            return;
        };
        let packet = PacketIn {
            payload: bytes::Bytes::from(bytes).slice(layout.length..),
            metadata,
        };
        let (sent, missed) = self.to_primaries(Update::Packet(packet));
        self.counters.packet_ins += sent;
        self.counters.overrun += missed;
        if sent + missed == 0 {
            self.counters.no_primary += 1;
        }
    }

    /// How many primaries got it, and how many had fallen behind.
    fn to_primaries(&self, update: Update) -> (u64, u64) {
        let mut outboxes = self
            .arbiter
            .primaries()
            .filter_map(|stream| self.outboxes.get(&stream))
            .peekable();
        let (mut sent, mut missed) = (0, 0);
        let mut update = Some(update);
        while let Some(outbox) = outboxes.next() {
            // The last one gets the message itself, and as a rule there is only one.
            let message = if outboxes.peek().is_some() {
                update.clone()
            } else {
                update.take()
            };
            if message.is_some_and(|message| outbox.send(message)) {
                sent += 1;
            } else {
                missed += 1;
            }
        }
        (sent, missed)
    }

    /// Tells the primaries of idle entries.
    pub fn idle(&mut self, switch: &Switch, notices: &[IdleNotice], timestamp_ns: i64) {
        let Some(loaded) = &self.running else {
            return;
        };
        let bare = self.quirks.bare_idle_notices;
        let entries: Vec<_> = notices
            .iter()
            .filter_map(|n| entry_messages::of_notice(switch, loaded, n.table, n.entry, bare))
            .collect();
        for chunk in entries.chunks(100) {
            self.to_primaries(Update::IdleTimeoutNotification(IdleTimeoutNotification {
                table_entry: chunk.to_vec(),
                timestamp: timestamp_ns,
            }));
        }
    }

    /// Takes digest samples; sends the lists that are full.
    pub fn digests(&mut self, now: Micros, samples: Vec<Digest>) {
        let lists = match &mut self.running {
            Some(loaded) => digests::take(loaded, now, samples),
            None => return,
        };
        for list in lists {
            self.to_primaries(Update::Digest(list));
        }
    }

    /// Sends the digest lists that are overdue. False when no digest is switched on, so that there
    /// is nothing to wait for.
    pub fn tick(&mut self, now: Micros) -> bool {
        let Some(loaded) = &mut self.running else {
            return false;
        };
        let active = !loaded.notes.digests.is_empty();
        for list in digests::tick(loaded, now) {
            self.to_primaries(Update::Digest(list));
        }
        active
    }
}
