//! The agent as a small host: echo replies, and the connections that managers make through the switch.

use std::net::IpAddr;

use super::{Agent, SessionId};
use crate::counters::Drop;
use crate::entry::{Packet, PacketMeta, packet_out};
use crate::message::{AgentBody, Inject, Place, Reason};
use crate::packet::{self, ETHERNET, View, proto};

/// TTL or hop limit of what the agent sends.
const TTL: u8 = 64;

impl Agent {
    /// A packet for an address of ours.
    pub(super) fn local(&mut self, packet: &Packet) {
        let Some(view) = packet::view(&packet.bytes) else {
            return self.counters.drop(Drop::Malformed, 1);
        };
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
            return self.counters.drop(Drop::NotWanted, 1);
        };
        let body = AgentBody::Arrived {
            packet: packet.bytes.slice_ref(ip),
            port: packet.meta.port,
        };
        // It belongs to a session rather than to a service; the sender's first service names it.
        let service = (self.services.iter().position(|s| s.holder == Some(session)))
            .and_then(|i| u8::try_from(i).ok())
            .unwrap_or(0);
        self.send(session, service, body);
    }

    pub(super) fn inject(&mut self, id: SessionId, service: u8, inject: &Inject) {
        let ip = &inject.packet;
        let Some((src, _, ether_type)) = packet::addresses(ip) else {
            return self.deny(
                id,
                service,
                0,
                Reason::Malformed,
                "an injected packet begins with its IP header".into(),
            );
        };
        match inject.place {
            Place::Port(port) => {
                if self.port_mac(port).is_none() || !self.own_source(id, service, src, ip) {
                    return;
                }
                self.counters.injected += 1;
                self.send_ip(Some(port), ip.clone());
            }
            Place::Route => {
                if !self.own_source(id, service, src, ip) {
                    return;
                }
                self.counters.injected += 1;
                self.send_ip(None, ip.clone());
            }
            Place::Stage {
                stage,
                part,
                ingress_port,
            } => {
                let Some(mac) = self.port_mac(ingress_port) else {
                    return self.deny(
                        id,
                        service,
                        0,
                        Reason::Malformed,
                        format!("there is no port {ingress_port}"),
                    );
                };
                self.counters.injected += 1;
                let bytes = packet::frame(mac, mac, ether_type, ip).into();
                self.packet_out(Packet {
                    meta: PacketMeta {
                        kind: packet_out::RESUME,
                        part: part as u8,
                        stage,
                        port: ingress_port,
                        ..PacketMeta::default()
                    },
                    bytes,
                });
            }
        }
    }

    /// Notes whose connection this is. Only the switch's own addresses may be a source.
    fn own_source(&mut self, id: SessionId, service: u8, src: IpAddr, ip: &[u8]) -> bool {
        let frame = packet::frame([0; 6], [0; 6], ether_type_of(src), ip);
        let view = packet::view(&frame);
        let (Some(view), true) = (view, self.is_own(src)) else {
            self.deny(
                id,
                service,
                0,
                Reason::NotCovered,
                format!("`{src}` is no address of the switch"),
            );
            return false;
        };
        let port = view.tuple.sport;
        self.injected.insert((src, view.tuple.proto, port), id);
        true
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
