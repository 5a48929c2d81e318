//! The traffic manager: what happens to a packet before, between and after the two pipelines, in
//! simple_switch's order.

use super::calc::emit_header;
use super::machine::{Machine, Registers, Waiting, instance};
use crate::code::program::Checksum;
use crate::output::{Digest, PacketSpan};
use crate::trace::{Event, Tracer};
use crate::{Bits, DigestId, DropReason, Replica};

/// The highest clone session id; bmv2 uses the bit above as a flag.
const SESSION_MASK: u64 = 0x7fff;

impl<T: Tracer> Machine<'_, T> {
    /// Takes an arriving packet, and all that comes of it, through the switch.
    pub(crate) fn packet(&mut self, port: u16, packet: &[u8]) {
        self.arrive(port, packet);
        self.ingress(port, packet);
        self.later();
    }

    /// The words of a packet that arrives.
    pub(crate) fn arrive(&mut self, port: u16, packet: &[u8]) {
        let standard = self.program.standard;
        self.reset();
        self.set(standard.ingress_port, u64::from(port));
        // Ingress sees a packet-out without its header; it is part of the packet until it is removed.
        self.set(standard.packet_length, self.regs.counted);
        self.set(standard.instance_type, instance::NORMAL);
        self.set(standard.ingress_global_timestamp, self.now);
        self.tracer.event(|| Event::Packet {
            port,
            bytes: packet.len(),
        });
    }

    /// Takes what has come of a packet through the switch, until nothing is left.
    pub(crate) fn later(&mut self) {
        while let Some(mut waiting) = self.scratch.waiting.pop_front() {
            if self.passes == 0 {
                self.drop(DropReason::PassLimit);
                self.scratch.spare.push(waiting);
                continue;
            }
            self.passes -= 1;
            if let Some(words) = self.scratch.words.get_mut(..waiting.words.len()) {
                words.copy_from_slice(&waiting.words);
            }
            self.regs = Registers::new(waiting.counted, waiting.length);
            self.regs.truncate = waiting.truncate;
            let bytes = std::mem::take(&mut waiting.bytes);
            if waiting.ingress {
                self.ingress(waiting.port, &bytes);
            } else {
                self.egress(waiting.port, &bytes);
            }
            waiting.bytes = bytes;
            self.scratch.spare.push(waiting);
        }
    }

    fn drop(&mut self, reason: DropReason) {
        self.out.drops.count(reason);
        self.total.count(reason);
        self.tracer.event(|| Event::Drop { reason });
    }

    fn ingress(&mut self, port: u16, packet: &[u8]) {
        let length = self.regs.length;
        let payload = self.admit(packet);
        self.pipeline(self.program.ingress);
        self.leave_ingress(port, packet, payload, length);
    }

    /// What comes before the ingress pipeline. The payload is what the parser has left.
    pub(crate) fn admit<'p>(&mut self, packet: &'p [u8]) -> &'p [u8] {
        let offset = self.parse(packet);
        let payload = packet.get(offset..).unwrap_or_default();
        self.verify_checksums(payload);
        self.tracer.event(|| Event::Pipeline { name: "ingress" });
        payload
    }

    /// What comes after the ingress pipeline, of a packet that had `length` when it was admitted.
    pub(crate) fn leave_ingress(&mut self, port: u16, packet: &[u8], payload: &[u8], length: u64) {
        let standard = self.program.standard;
        self.regs.exit = false;
        if self.regs.failed {
            return self.drop(DropReason::Assertion);
        }
        if let Some((session, list)) = self.regs.clone.take() {
            self.clone_ingress(port, packet, length, session, list);
        }
        if let Some(digest) = self.regs.digest.take() {
            self.digest(digest);
        }
        if self.regs.resubmit != 0 {
            self.tracer.event(|| Event::Resubmit);
            let list = self.regs.resubmit;
            let mut again = self.wait(packet, port, true);
            again.length = length;
            self.restart(&mut again, list, instance::RESUBMITTED);
            return self.scratch.waiting.push_back(again);
        }
        let group = self.get(standard.mcast_grp);
        if group != 0 {
            self.tracer.event(|| Event::Multicast {
                group: group as u16,
            });
            self.set(standard.instance_type, instance::REPLICATED);
            return self.multicast(group as u16, payload);
        }
        let egress_spec = self.get(standard.egress_spec);
        if egress_spec == self.drop_port {
            return self.drop(DropReason::Ingress);
        }
        self.set(standard.instance_type, instance::NORMAL);
        if !self.has_queue() {
            return;
        }
        let egress_port = egress_spec as u16;
        if self.scratch.waiting.is_empty() {
            // The usual packet goes on where it stands.
            self.enqueue_metadata();
            self.egress(egress_port, payload);
        } else {
            let waiting = self.wait(payload, egress_port, false);
            self.scratch.waiting.push_back(waiting);
        }
    }

    /// A copy of the packet as it is now, to run later.
    fn wait(&mut self, bytes: &[u8], port: u16, ingress: bool) -> Waiting {
        if !ingress {
            self.enqueue_metadata();
        }
        let mut waiting = self.scratch.spare.pop().unwrap_or_default();
        waiting.words.clear();
        let end = self.program.layout.reset_end as usize;
        waiting
            .words
            .extend_from_slice(self.scratch.words.get(..end).unwrap_or_default());
        waiting.bytes.clear();
        waiting.bytes.extend_from_slice(bytes);
        waiting.port = port;
        waiting.counted = self.regs.counted;
        waiting.length = self.regs.length;
        waiting.truncate = self.regs.truncate;
        waiting.ingress = ingress;
        waiting
    }

    /// Whether a queue takes a packet of this priority; simple_switch drops it where none does.
    fn has_queue(&mut self) -> bool {
        let priority = self.get(self.program.standard.priority);
        if self.drop_high_priorities && priority >= self.priority_queues {
            self.drop(DropReason::NoQueue);
            return false;
        }
        true
    }

    fn enqueue_metadata(&mut self) {
        let standard = self.program.standard;
        let priority = self
            .get(standard.priority)
            .min(self.priority_queues.saturating_sub(1));
        self.set(standard.enq_timestamp, self.now);
        self.set(standard.enq_qdepth, 0);
        self.set(standard.qid, priority);
    }

    /// Makes the words of `again` those of a packet that enters anew: nothing but the metadata that
    /// the field list keeps.
    fn restart(&mut self, again: &mut Waiting, list: u64, instance_type: u64) {
        let kept = std::mem::take(&mut again.words);
        self.reset();
        self.keep(&kept, list);
        let standard = self.program.standard;
        self.set(standard.instance_type, instance_type);
        self.set(standard.packet_length, again.counted);
        again.words = kept;
        let end = again.words.len();
        again
            .words
            .copy_from_slice(self.scratch.words.get(..end).unwrap_or_default());
        again.truncate = usize::MAX;
    }

    /// Copies the fields of a field list from other words.
    fn keep(&mut self, from: &[u64], list: u64) {
        let lists = &self.program.field_lists;
        let Some((_, list)) = lists.iter().find(|(id, _)| *id == list) else {
            return;
        };
        for place in &list.places {
            let first = place.slot as usize;
            let range = first..first + place.words() as usize;
            if let (Some(to), Some(from)) =
                (self.scratch.words.get_mut(range.clone()), from.get(range))
            {
                to.copy_from_slice(from);
            }
        }
    }

    fn clone_ingress(&mut self, port: u16, packet: &[u8], length: u64, session: u64, list: u64) {
        let kind = instance::INGRESS_CLONE;
        self.clone_packet((session, list), kind, length, |machine| {
            // The clone is the packet as it arrived: it is parsed again.
            machine.reset();
            machine.set(machine.program.standard.ingress_port, u64::from(port));
            let errors = (machine.out.drops.parser_errors, machine.total.parser_errors);
            let offset = machine.parse(packet);
            (machine.out.drops.parser_errors, machine.total.parser_errors) = errors;
            packet.get(offset..).unwrap_or_default()
        });
    }

    fn clone_egress(&mut self, payload: &[u8], session: u64, list: u64) {
        let kind = instance::EGRESS_CLONE;
        let length = self.regs.length;
        self.clone_packet((session, list), kind, length, |_| payload);
    }

    /// Sends copies to a session's ports, and goes on as if nothing had been. `enter` leaves the headers that they
    /// have, and gives the payload.
    fn clone_packet<'p>(
        &mut self,
        (session, list): (u64, u64),
        kind: u64,
        length: u64,
        enter: impl FnOnce(&mut Self) -> &'p [u8],
    ) {
        let session = (session & SESSION_MASK) as u16;
        self.tracer.event(|| Event::Clone {
            session,
            egress: kind == instance::EGRESS_CLONE,
        });
        let Some(copies) = self.state.sessions.get(&session).cloned() else {
            return self.drop(DropReason::NoCloneSession);
        };
        if copies.replicas.is_empty() {
            return self.drop(DropReason::NoCloneSession);
        }
        let end = self.program.layout.reset_end as usize;
        let mut saved = std::mem::take(&mut self.scratch.saved);
        saved.clear();
        saved.extend_from_slice(self.scratch.words.get(..end).unwrap_or_default());
        let regs = self.regs;
        self.regs = Registers::new(regs.counted, length);
        let payload = enter(self);
        self.reset_metadata();
        self.keep(&saved, list);
        self.set(self.program.standard.instance_type, kind);
        self.replicate(&copies.replicas, copies.truncate, payload);
        if let Some(words) = self.scratch.words.get_mut(..end) {
            words.copy_from_slice(&saved);
        }
        self.scratch.saved = saved;
        self.regs = regs;
    }

    fn multicast(&mut self, group: u16, payload: &[u8]) {
        match self.state.multicast.get(&group) {
            Some(replicas) if !replicas.is_empty() => {
                let replicas = replicas.clone();
                let counted = self.regs.counted;
                self.regs = Registers::new(counted, self.regs.length);
                self.replicate(&replicas, None, payload);
            }
            _ => self.drop(DropReason::EmptyMulticastGroup),
        }
    }

    /// Queues a copy of the packet for each replica.
    fn replicate(&mut self, replicas: &[Replica], truncate: Option<u32>, payload: &[u8]) {
        if !self.has_queue() {
            return;
        }
        for replica in replicas {
            self.set(
                self.program.standard.egress_rid,
                u64::from(replica.instance),
            );
            let mut waiting = self.wait(payload, replica.port, false);
            waiting.truncate = truncate.map_or(usize::MAX, |n| n as usize);
            self.scratch.waiting.push_back(waiting);
        }
    }

    fn digest(&mut self, digest: u32) {
        let Some(list) = self.program.digests.get(digest as usize) else {
            return;
        };
        let words = &self.scratch.words;
        let value = |place: &crate::code::layout::Place| {
            let first = place.slot as usize;
            let range = first..first + place.words() as usize;
            Bits::from_words(words.get(range).unwrap_or_default())
        };
        let values: Vec<Bits> = list.places.iter().map(value).collect();
        self.tracer.event(|| Event::Digest {
            name: self
                .program
                .schema
                .digests
                .get(digest as usize)
                .map(|d| d.name.clone())
                .unwrap_or_default(),
            values: values.clone(),
        });
        self.out.digests.push(Digest {
            digest: DigestId(digest),
            values,
        });
    }

    fn egress(&mut self, port: u16, payload: &[u8]) {
        let program = self.program;
        let standard = program.standard;
        self.set(standard.egress_global_timestamp, self.now);
        self.set(standard.deq_timedelta, 0);
        self.set(standard.deq_qdepth, 0);
        self.set(standard.egress_port, u64::from(port));
        // Anything but the drop port, so that only egress itself can drop.
        self.set(standard.egress_spec, self.drop_port + 1);
        self.set(standard.packet_length, self.regs.length);
        self.tracer.event(|| Event::Pipeline { name: "egress" });
        self.pipeline(program.egress);
        self.regs.exit = false;
        if self.regs.failed {
            return self.drop(DropReason::Assertion);
        }
        if let Some((session, list)) = self.regs.clone.take() {
            self.clone_egress(payload, session, list);
        }
        if self.get(standard.egress_spec) == self.drop_port {
            return self.drop(DropReason::Egress);
        }
        if self.regs.recirculate != 0 {
            self.recirculate(port, payload);
            return;
        }
        let start = self.out.bytes.len();
        let mut bytes = std::mem::take(&mut self.out.bytes);
        self.deparse(payload, &mut bytes);
        self.out.bytes = bytes;
        let end = self.out.bytes.len();
        self.out.packets.push(PacketSpan { port, start, end });
        self.tracer.event(|| Event::Output {
            port,
            bytes: end - start,
        });
    }

    fn recirculate(&mut self, port: u16, payload: &[u8]) {
        self.tracer.event(|| Event::Recirculate);
        let list = self.regs.recirculate;
        let mut again = self.wait(&[], port, true);
        let mut bytes = std::mem::take(&mut again.bytes);
        self.deparse(payload, &mut bytes);
        again.length = bytes.len() as u64;
        again.counted = again.length;
        again.bytes = bytes;
        // As in bmv2, the packet comes in on port 0 unless the field list keeps the port.
        self.restart(&mut again, list, instance::RECIRCULATED);
        self.scratch.waiting.push_back(again);
    }

    fn deparse(&mut self, payload: &[u8], bytes: &mut Vec<u8>) {
        let program = self.program;
        for checksum in &program.update {
            if self.holds(checksum) {
                let value = self.calculate(checksum.calculation, payload);
                self.set(checksum.target, value);
            }
        }
        for entry in &program.deparse_code {
            self.run(*entry);
        }
        let start = bytes.len();
        for id in &program.deparse {
            let header = program.layout.header(*id);
            if self.word(header.valid) != 0 {
                emit_header(header, &self.scratch.words, bytes);
            }
        }
        bytes.extend_from_slice(payload);
        bytes.truncate(start.saturating_add(self.regs.truncate).max(start));
        self.tracer.event(|| Event::Deparse {
            headers: program
                .deparse
                .iter()
                .map(|id| program.layout.header(*id))
                .filter(|header| {
                    self.scratch
                        .words
                        .get(header.valid as usize)
                        .is_some_and(|v| *v != 0)
                })
                .map(|header| header.name.clone())
                .collect(),
        });
    }

    /// Whether a checksum's condition holds.
    fn holds(&mut self, checksum: &Checksum) -> bool {
        checksum
            .condition
            .is_none_or(|condition| self.check(condition))
    }

    fn verify_checksums(&mut self, payload: &[u8]) {
        let program = self.program;
        let mut wrong = false;
        for checksum in &program.verify {
            if checksum
                .target_valid
                .is_some_and(|valid| self.word(valid) == 0)
            {
                continue;
            }
            if self.holds(checksum) {
                let value = self.calculate(checksum.calculation, payload);
                let right = value == self.get(checksum.target);
                wrong |= !right;
                self.tracer.event(|| Event::Checksum {
                    name: checksum.name.clone(),
                    right,
                });
            }
        }
        if wrong {
            self.out.drops.checksum_errors += 1;
            self.total.checksum_errors += 1;
        }
        self.set(program.standard.checksum_error, u64::from(wrong));
    }
}
