//! The agent as a small host: echo replies, and the connections that managers make through the switch.

use std::net::IpAddr;

use signalbox_lower::entries::AGENT_PORTS;

use super::shares::Share;
use super::{Agent, SessionId};
use crate::counters::Drop;
use crate::entry::{Packet, PacketMeta, packet_out};
use crate::flow::{PacketKind, Part};
use crate::message::{AgentBody, Inject, Place, Reason, Subject};
use crate::packet::{self, ETHERNET, View, proto};

/// TTL or hop limit of what the agent sends.
pub(super) const TTL: u8 = 64;

type Refusal = (Reason, String);

/// An IP packet of the agent's own; `None` if the ends are not of one family. `class` is IPv4's type of
/// service or IPv6's traffic class.
pub(super) fn own_packet(
    (src, dst): (IpAddr, IpAddr),
    proto: u8,
    class: u8,
    payload: &[u8],
) -> Option<Vec<u8>> {
    let mut ip = match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let mut ip = vec![0x45, class];
            ip.extend_from_slice(&u16::try_from(20 + payload.len()).ok()?.to_be_bytes());
            // Not to be fragmented, so it needs no identification (RFC 6864, section 4.1).
            ip.extend_from_slice(&[0, 0, 0x40, 0, TTL, proto, 0, 0]);
            ip.extend_from_slice(&src.octets());
            ip.extend_from_slice(&dst.octets());
            let sum = packet::checksum(&[&ip]);
            packet::put(&mut ip, 10, &sum.to_be_bytes());
            ip
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let mut ip = vec![0x60 | class >> 4, class << 4, 0, 0];
            ip.extend_from_slice(&u16::try_from(payload.len()).ok()?.to_be_bytes());
            ip.extend_from_slice(&[proto, TTL]);
            ip.extend_from_slice(&src.octets());
            ip.extend_from_slice(&dst.octets());
            ip
        }
        _ => return None,
    };
    ip.extend_from_slice(payload);
    Some(ip)
}

impl Agent {
    /// A packet for an address of ours.
    pub(super) fn local(&mut self, packet: &Packet) {
        let Some(view) = packet::view(&packet.bytes) else {
            return self.counters.drop(Drop::Malformed, 1);
        };
        if view.kind != PacketKind::Whole {
            // The end of the datagram is in another fragment, and so is what its checksum covers.
            return self.fragment_local(packet);
        }
        if view.end > packet.bytes.len() {
            return self.counters.drop(Drop::Malformed, 1);
        }
        let echo = matches!(
            (view.tuple.proto, view.icmp),
            (proto::ICMP, 8) | (proto::ICMPV6, 128)
        );
        if echo {
            return match echo_reply(&packet.bytes, &view) {
                Some(frame) => self.send_frame(packet.meta.port, frame),
                None => self.counters.drop(Drop::Malformed, 1),
            };
        }
        let asker = (self.injected)
            .get(&(view.tuple.dst, view.tuple.proto, view.tuple.dport))
            .copied();
        let (Some(session), Some(ip)) = (asker, packet.bytes.get(ETHERNET..view.end)) else {
            self.counters.drop(Drop::NotWanted, 1);
            return self.nobody_listens(packet, view.tuple.proto);
        };
        let body = AgentBody::Arrived {
            packet: packet.bytes.slice_ref(ip),
            port: packet.meta.port,
        };
        // It belongs to a session rather than to a service; the sender's first service names it.
        let of = |service: u8| {
            let shares = &self.services.get(usize::from(service))?.shares;
            let (number, _) = shares.iter().find(|(_, t)| t.holder == Some(session))?;
            let number = *number;
            Some(Share { service, number })
        };
        let share = (0..u8::MAX).find_map(of).unwrap_or(Share {
            service: 0,
            number: 0,
        });
        self.send(session, share, body);
    }

    pub(super) fn inject(&mut self, id: SessionId, share: Share, manager: &str, inject: &Inject) {
        if let Err((reason, text)) = self.injected(id, share, manager, inject) {
            let subject = Subject::Inject(inject.request);
            self.deny(id, share, subject, reason, text);
        }
    }

    fn injected(
        &mut self,
        id: SessionId,
        share: Share,
        manager: &str,
        inject: &Inject,
    ) -> Result<(), Refusal> {
        let ip = &inject.packet;
        let Some((src, _, ether_type)) = packet::addresses(ip) else {
            return Err((
                Reason::Malformed,
                "an injected packet begins with its IP header".into(),
            ));
        };
        let port_mac = |port| {
            (self.port_mac(port))
                .ok_or_else(|| (Reason::Malformed, format!("there is no port {port}")))
        };
        match inject.place {
            Place::Port(port) => {
                port_mac(port)?;
                self.own_source(id, src, ip)?;
                self.counters.injected += 1;
                self.send_ip(Some(port), ip.clone());
            }
            Place::Route => {
                self.own_source(id, src, ip)?;
                self.counters.injected += 1;
                self.send_ip(None, ip.clone());
            }
            Place::Stage {
                stage,
                part,
                state,
                answered,
            } => {
                let ingress_port = state.ingress_port;
                let mac = port_mac(ingress_port)?;
                let at = (self.plan.services.iter().position(|s| s.stage == stage))
                    .and_then(|at| u8::try_from(at).ok())
                    // Where a reply part would be, one may answer for a server that answers directly.
                    .filter(|at| part == Part::Reply || self.part_plan(*at, part).is_some());
                let Some(at) = at else {
                    let text = format!("no service has that part at stage {stage}");
                    return Err((Reason::Malformed, text));
                };
                if !self.serves_some(manager, at) {
                    let text = format!("`{manager}` does not serve the service at stage {stage}");
                    return Err((Reason::NotServing, text));
                }
                self.counters.injected += 1;
                let bytes = packet::frame(mac, mac, ether_type, ip).into();
                let packet = Packet {
                    meta: PacketMeta {
                        kind: packet_out::RESUME,
                        part: part as u8,
                        stage,
                        port: ingress_port,
                        reply: state.reply,
                        answered,
                        mark_set: state.mark.is_some(),
                        mark: state.mark.unwrap_or(0),
                        next_hop: state.next_hop,
                        tunnel: state.tunnel,
                        notices: state.notices,
                        entry: state.entry,
                    },
                    bytes,
                };
                self.leg_said(id, share, at, &packet);
                self.packet_out(packet);
            }
        }
        Ok(())
    }

    /// Notes whose connection this is. Only the switch's own addresses may be a source, and only the ports
    /// whose answers the pipeline brings to the agent.
    fn own_source(&mut self, id: SessionId, src: IpAddr, ip: &[u8]) -> Result<(), Refusal> {
        let frame = packet::frame([0; 6], [0; 6], ether_type_of(src), ip);
        let Some(view) = packet::view(&frame).filter(|_| self.is_own(src)) else {
            let text = format!("`{src}` is no address of the switch");
            return Err((Reason::NotCovered, text));
        };
        let (proto, port) = (view.tuple.proto, view.tuple.sport);
        if matches!(proto, proto::TCP | proto::UDP) && port < AGENT_PORTS {
            let text = format!(
                "answers to port {port} would not come back: injected packets have {AGENT_PORTS} or above"
            );
            return Err((Reason::NotCovered, text));
        }
        self.injected.insert((src, proto, port), id);
        Ok(())
    }
}

fn ether_type_of(address: IpAddr) -> u16 {
    match address {
        IpAddr::V4(_) => packet::TYPE_IPV4,
        IpAddr::V6(_) => packet::TYPE_IPV6,
    }
}

/// The answer to an echo request (RFC 792, RFC 4443), back to where the frame came from.
fn echo_reply(request: &[u8], view: &View) -> Option<Vec<u8>> {
    let mut f = request.get(..view.end)?.to_vec();
    let (to, from) = (packet::mac_at(request, 6)?, packet::mac_at(request, 0)?);
    packet::put(&mut f, 0, &to);
    packet::put(&mut f, 6, &from);
    packet::put(&mut f, view.l4 + 2, &[0, 0]);
    match (view.tuple.src, view.tuple.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            packet::put(&mut f, ETHERNET + 12, &dst.octets());
            packet::put(&mut f, ETHERNET + 16, &src.octets());
            packet::put(&mut f, ETHERNET + 8, &[TTL]);
            packet::put(&mut f, ETHERNET + 10, &[0, 0]);
            let sum = packet::checksum(&[f.get(ETHERNET..view.l4)?]);
            packet::put(&mut f, ETHERNET + 10, &sum.to_be_bytes());
            packet::put(&mut f, view.l4, &[0, 0]);
            let sum = packet::checksum(&[f.get(view.l4..)?]);
            packet::put(&mut f, view.l4 + 2, &sum.to_be_bytes());
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            packet::put(&mut f, ETHERNET + 8, &dst.octets());
            packet::put(&mut f, ETHERNET + 24, &src.octets());
            packet::put(&mut f, ETHERNET + 7, &[TTL]);
            packet::put(&mut f, view.l4, &[129]);
            let body = f.get(view.l4..)?;
            let pseudo = packet::pseudo_v6(dst, src, proto::ICMPV6, body.len());
            let sum = packet::checksum(&[&pseudo, body]);
            packet::put(&mut f, view.l4 + 2, &sum.to_be_bytes());
        }
        _ => return None,
    }
    Some(f)
}
