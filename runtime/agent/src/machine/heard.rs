//! What clients of gates have said, so that one to whom nothing was said yet can be reset when its manager dies:
//! the number that it waits for is the one that its segment acknowledges (RFC 9293, section 3.10.7).
//!
//! Anybody can send an acknowledgement, and only the manager knows a true one: it consumes what belongs to a
//! connection that it carries on, and drops the rest. So a consumed segment begins a connection here, and neither
//! SYNs nor forged acknowledgements leave anything. Only those that nobody has answered are kept as they are, for
//! some seconds and few of them. Does not know how ends are reset; `legs` does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::accept::adjusts;
use super::interest::Question;
use super::legs::Said;
use super::shares::{Origin, Owner, Share};
use super::{Agent, SessionId};
use crate::entry::{Packet, PacketMeta, packet_out};
use crate::flow::{FlowKey, PacketKind, Part, Tuple};
use crate::packet::{self, proto};

/// Acknowledgements without an answer at once; of more, the oldest is forgotten.
const MOST: usize = 1024;
/// They are of use for so long: criteria of a manager that is dead end sooner.
const OPEN: Duration = Duration::from_secs(10);

const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// All of an agent.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// By the question's number, so that the oldest is the first.
    open: BTreeMap<u64, Open>,
    /// The process of each manager that was here last.
    processes: BTreeMap<Arc<str>, u64>,
}

/// An acknowledgement that nobody has answered.
#[derive(Debug)]
struct Open {
    owner: Owner,
    service: u8,
    client: Client,
    until: Duration,
}

/// What a client's segment tells.
#[derive(Debug, Clone, Copy)]
struct Client {
    forward: Tuple,
    /// The number that it waits for.
    waits_for: u32,
    /// It ends the connection.
    ends: bool,
}

impl Heard {
    /// A manager's process comes; says whether another one was here before.
    pub fn comes(&mut self, manager: &Arc<str>, instance: u64) -> bool {
        let former = self.processes.insert(manager.clone(), instance);
        former.is_some_and(|former| former != instance)
    }

    /// A question has its answer.
    pub fn answered(&mut self, request: u64) {
        self.open.remove(&request);
    }

    /// How many have none.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Services have other places; what was about those that are gone is forgotten.
    pub fn move_services(&mut self, to: impl Fn(u8) -> Option<u8>) {
        self.open.retain(|_, open| {
            let place = to(open.service);
            if let Some(service) = place {
                open.service = service;
                open.owner.share.service = service;
            }
            place.is_some()
        });
    }

    /// Those that are of no use any more.
    pub fn forget(&mut self, now: Duration) {
        self.open.retain(|_, open| open.until > now);
    }
}

impl Agent {
    /// A manager has taken a packet in.
    pub(super) fn consumed(&mut self, id: SessionId, share: Share, key: &FlowKey, packet: &Packet) {
        if let Some(client) = self.client_says(key, packet) {
            self.carries(id, share, &client);
        }
    }

    /// A manager has taken a packet in that was let go.
    pub(super) fn consumed_late(&mut self, id: SessionId, share: Share, request: u64) {
        if let Some(open) = self.heard.open.remove(&request) {
            self.carries(id, share, &open.client);
        }
    }

    fn carries(&mut self, id: SessionId, share: Share, client: &Client) {
        let (service, forward) = (share.service, client.forward);
        if client.ends {
            // Of a connection that the server knows, what the manager tells the server says whether it counts.
            return self.legs.abandoned(service, forward);
        }
        if let Some(said) = self.to_client(service, client) {
            self.leg_carries(id, share, forward, said);
        }
    }

    /// A packet is let go though nobody has answered.
    pub(super) fn unanswered(&mut self, request: u64, key: &FlowKey, packet: &Packet) {
        let (service, entry) = (key.service, packet.meta.entry);
        let Some(client) = self.client_says(key, packet).filter(|c| !c.ends) else {
            return;
        };
        if let Some(said) = self.to_client(service, &client)
            && self.legs.heard(service, client.forward, said)
        {
            return;
        }
        let Some(owner) = self.criteria_ids.get(&entry).map(|o| o.owner.clone()) else {
            return;
        };
        if self.heard.open.len() >= MOST {
            self.heard.open.pop_first();
        }
        let until = self.now + OPEN;
        let open = Open {
            owner,
            service,
            client,
            until,
        };
        self.heard.open.insert(request, open);
        self.look_at_legs();
    }

    /// What clients wait for who have said something that nobody has answered nor will, and who have no entries.
    pub(super) fn cut_heard(&mut self, is_lost: impl Fn(&Owner) -> bool) -> Vec<(Tuple, Said)> {
        let is_about_them = |question: &Question| {
            let entry = question.first().map(|packet| packet.meta.entry);
            let origin = entry.and_then(|entry| self.criteria_ids.get(&entry));
            // Another manager may have been asked instead.
            let asked = self.sessions.get(&question.session());
            origin.is_some_and(
                |Origin {
                     owner,
                     every_packet,
                     ..
                 }| {
                    // A question that stands for its whole flow is put again.
                    *every_packet
                        && is_lost(owner)
                        && asked.is_none_or(|s| s.manager.as_ref() == Some(&owner.manager))
                },
            )
        };
        let mut over: Vec<u64> = (self.questions.iter())
            .filter(|(_, question)| is_about_them(question))
            .map(|(request, _)| *request)
            .collect();
        over.sort_unstable();
        for request in over {
            self.question_over(request);
        }
        self.heard.forget(self.now);
        let lost = (self.heard.open).extract_if(.., |_, open| is_lost(&open.owner));
        let lost: BTreeMap<_, _> = lost
            .map(|(_, open)| ((open.service, open.client.forward), open.client))
            .collect();
        let has_entries = |service, tuple| {
            let key = FlowKey {
                service,
                part: Part::Forward,
                tuple,
                kind: PacketKind::Whole,
            };
            self.store.find(&key).is_some()
        };
        (lost.into_iter())
            .filter(|((service, forward), _)| {
                !self.legs.has(*service, *forward) && !has_entries(*service, *forward)
            })
            .filter_map(|((service, forward), client)| {
                Some((forward, self.to_client(service, &client)?))
            })
            .collect()
    }

    /// What a packet says if it is a client's to a gate, and its handshake may be complete.
    fn client_says(&self, key: &FlowKey, packet: &Packet) -> Option<Client> {
        let is_client = key.part == Part::Forward
            && key.kind == PacketKind::Whole
            && key.tuple.proto == proto::TCP
            && adjusts(&self.plan, key.service);
        let view = packet::view(&packet.bytes).filter(|_| is_client)?;
        let ends = view.flags & RST != 0;
        (ends || view.flags & (SYN | ACK) == ACK).then_some(Client {
            forward: key.tuple,
            waits_for: packet::u32_at(&packet.bytes, view.l4 + 8)?,
            ends,
        })
    }

    /// As if the gate had said something to the client, up to the number that this waits for.
    fn to_client(&self, service: u8, client: &Client) -> Option<Said> {
        let stage = self.plan.services.get(usize::from(service))?.stage;
        let (port, _) = self.next_hop(client.forward.dst)?;
        let meta = PacketMeta {
            kind: packet_out::RESUME,
            part: Part::Reply as u8,
            stage,
            port,
            reply: true,
            answered: true,
            ..PacketMeta::default()
        };
        Some(Said::up_to(client.waits_for, meta))
    }
}
