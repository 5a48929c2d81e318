//! What messages of both sides are made of: tuples, cubes, affinities.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::Bytes;
use signalbox_lower::plan::{Cube, Masked, MaskedAddr};

use super::WireError::{self, Missing, Range};
use super::pb;
use crate::flow::{PacketKind, Part, Tuple};
use crate::message::{
    Action, Adjust, CarriedState, FixedAffinity, InterestMask, Leases, Reason, Statistics, Totals,
    Tunnel,
};

pub(super) fn small<T: TryFrom<u32>>(n: u32, name: &'static str) -> Result<T, WireError> {
    T::try_from(n).map_err(|_| Range(name))
}

pub(super) fn write_address(a: IpAddr) -> Bytes {
    match a {
        IpAddr::V4(a) => Bytes::copy_from_slice(&a.octets()),
        IpAddr::V6(a) => Bytes::copy_from_slice(&a.octets()),
    }
}

pub(super) fn read_address(b: &[u8], name: &'static str) -> Result<IpAddr, WireError> {
    if let Ok(a) = <[u8; 4]>::try_from(b) {
        return Ok(Ipv4Addr::from(a).into());
    }
    <[u8; 16]>::try_from(b)
        .map(|a| Ipv6Addr::from(a).into())
        .map_err(|_| Range(name))
}

pub(super) fn write_tuple(t: &Tuple) -> pb::Tuple {
    pb::Tuple {
        src: write_address(t.src),
        dst: write_address(t.dst),
        protocol: t.proto.into(),
        source_port: t.sport.into(),
        destination_port: t.dport.into(),
    }
}

pub(super) fn read_tuple(t: &pb::Tuple) -> Result<Tuple, WireError> {
    let tuple = Tuple {
        src: read_address(&t.src, "src")?,
        dst: read_address(&t.dst, "dst")?,
        proto: small(t.protocol, "protocol")?,
        sport: small(t.source_port, "source_port")?,
        dport: small(t.destination_port, "destination_port")?,
    };
    if tuple.src.is_ipv4() != tuple.dst.is_ipv4() {
        return Err(Range("dst"));
    }
    Ok(tuple)
}

pub(super) fn read_some_tuple(t: Option<&pb::Tuple>) -> Result<Tuple, WireError> {
    read_tuple(t.ok_or(Missing("flow"))?)
}

pub(super) fn read_optional_tuple(t: Option<&pb::Tuple>) -> Result<Option<Tuple>, WireError> {
    t.map(read_tuple).transpose()
}

pub(super) fn write_part(p: Part) -> i32 {
    match p {
        Part::Reply => pb::Part::Reply as i32,
        Part::Forward => pb::Part::Forward as i32,
    }
}

pub(super) fn read_part(n: i32) -> Result<Part, WireError> {
    match pb::Part::try_from(n) {
        Ok(pb::Part::Reply) => Ok(Part::Reply),
        Ok(pb::Part::Forward) => Ok(Part::Forward),
        _ => Err(Range("part")),
    }
}

pub(super) fn write_kind(k: PacketKind) -> i32 {
    k as i32
}

pub(super) fn read_kind(n: i32) -> Result<PacketKind, WireError> {
    u8::try_from(n)
        .ok()
        .and_then(PacketKind::from_number)
        .ok_or(Range("kind"))
}

pub(super) fn write_mask(m: InterestMask) -> pb::InterestMask {
    pb::InterestMask {
        packet_events: m.packet_events.into(),
        notice_events: m.notice_events.into(),
    }
}

pub(super) fn read_events(n: u32) -> Result<u16, WireError> {
    let events: u16 = small(n, "events")?;
    (events < 1024).then_some(events).ok_or(Range("events"))
}

pub(super) fn read_mask(m: Option<&pb::InterestMask>) -> Result<InterestMask, WireError> {
    let Some(m) = m else {
        return Ok(InterestMask::default());
    };
    Ok(InterestMask {
        packet_events: read_events(m.packet_events)?,
        notice_events: read_events(m.notice_events)?,
    })
}

fn write_masked<T: Into<u64> + Copy>(m: Masked<T>) -> pb::Masked {
    let bytes = |n: T| Bytes::copy_from_slice(&Into::<u64>::into(n).to_be_bytes());
    pb::Masked {
        value: bytes(m.value),
        mask: bytes(m.mask),
    }
}

fn read_masked<T: TryFrom<u64>>(
    m: Option<&pb::Masked>,
    name: &'static str,
) -> Result<Option<Masked<T>>, WireError> {
    let number = |b: &Bytes| -> Result<u64, WireError> {
        if b.len() > 8 {
            return Err(Range(name));
        }
        Ok(b.iter().fold(0, |n, byte| (n << 8) | u64::from(*byte)))
    };
    m.map(|m| {
        let (value, mask) = (number(&m.value)?, number(&m.mask)?);
        if value & !mask != 0 {
            return Err(Range(name));
        }
        let narrow = |n| T::try_from(n).map_err(|_| Range(name));
        Ok(Masked {
            value: narrow(value)?,
            mask: narrow(mask)?,
        })
    })
    .transpose()
}

fn read_masked_address(
    m: Option<&pb::Masked>,
    name: &'static str,
) -> Result<Option<MaskedAddr>, WireError> {
    m.map(|m| {
        let value = read_address(&m.value, name)?;
        let mask = read_address(&m.mask, name)?;
        let inside = m.value.iter().zip(&m.mask).all(|(v, m)| v & !m == 0);
        if value.is_ipv4() != mask.is_ipv4() || !inside {
            return Err(Range(name));
        }
        Ok(MaskedAddr { value, mask })
    })
    .transpose()
}

pub(super) fn write_cube(c: &Cube) -> pb::Cube {
    let address = |m: MaskedAddr| pb::Masked {
        value: write_address(m.value),
        mask: write_address(m.mask),
    };
    pb::Cube {
        ingress_port: c.in_port.map(u32::from),
        src: c.src.map(address),
        dst: c.dst.map(address),
        protocol: c.proto.map(write_masked),
        source_port: c.sport.map(write_masked),
        destination_port: c.dport.map(write_masked),
        tcp_flags: c.flags.map(write_masked),
        icmp_type: c.icmp.map(write_masked),
        kind: c.kind.map(write_masked),
    }
}

pub(super) fn read_cube(c: &pb::Cube) -> Result<Cube, WireError> {
    Ok(Cube {
        in_port: (c.ingress_port)
            .map(|p| small(p, "ingress_port"))
            .transpose()?,
        src: read_masked_address(c.src.as_ref(), "src")?,
        dst: read_masked_address(c.dst.as_ref(), "dst")?,
        proto: read_masked(c.protocol.as_ref(), "protocol")?,
        sport: read_masked(c.source_port.as_ref(), "source_port")?,
        dport: read_masked(c.destination_port.as_ref(), "destination_port")?,
        flags: read_masked(c.tcp_flags.as_ref(), "tcp_flags")?,
        icmp: read_masked(c.icmp_type.as_ref(), "icmp_type")?,
        kind: read_masked(c.kind.as_ref(), "kind")?,
    })
}

pub(super) fn write_dispatch(next_hop: IpAddr, tunnel: Tunnel) -> pb::Dispatch {
    pb::Dispatch {
        next_hop: write_address(next_hop),
        tunnel: match tunnel {
            Tunnel::None => pb::Tunnel::None,
            Tunnel::Ipip => pb::Tunnel::Ipip,
            Tunnel::Gue => pb::Tunnel::Gue,
        } as i32,
    }
}

pub(super) fn read_dispatch(d: &pb::Dispatch) -> Result<(IpAddr, Tunnel), WireError> {
    let tunnel = match pb::Tunnel::try_from(d.tunnel) {
        Ok(pb::Tunnel::None) => Tunnel::None,
        Ok(pb::Tunnel::Ipip) => Tunnel::Ipip,
        Ok(pb::Tunnel::Gue) => Tunnel::Gue,
        Err(_) => return Err(Range("tunnel")),
    };
    Ok((read_address(&d.next_hop, "next_hop")?, tunnel))
}

pub(super) fn write_statistics(s: Statistics) -> pb::Statistics {
    pb::Statistics {
        count: s.count,
        every_ms: s.every_ms.unwrap_or(0),
        on_close: s.on_close,
        flags: s.flags,
    }
}

pub(super) fn read_statistics(s: Option<&pb::Statistics>) -> Statistics {
    s.map_or_else(Statistics::default, |s| Statistics {
        count: s.count,
        every_ms: some(s.every_ms),
        on_close: s.on_close,
        flags: s.flags,
    })
}

/// Absent times are written as 0.
fn some(ms: u64) -> Option<u64> {
    (ms != 0).then_some(ms)
}

fn write_action(a: &Action) -> pb::Action {
    use pb::action::Action as A;
    let action = match a {
        Action::Forward => A::Forward(pb::Forward {}),
        Action::Drop => A::Drop(pb::Drop {}),
        Action::Dispatch { next_hop, tunnel } => A::Dispatch(write_dispatch(*next_hop, *tunnel)),
        Action::Translate(to) => A::Translate(write_tuple(to)),
        Action::Adjust(by) => A::Adjust(pb::Adjust {
            sequence: by.sequence,
            acknowledgement: by.acknowledgement,
            window_shift: by.window_shift.into(),
        }),
        Action::Count => A::Count(pb::Count {}),
        Action::MarkDscp(n) => A::MarkDscp((*n).into()),
    };
    pb::Action {
        action: Some(action),
    }
}

fn read_action(a: &pb::Action) -> Result<Action, WireError> {
    use pb::action::Action as A;
    Ok(match a.action.as_ref().ok_or(Missing("action"))? {
        A::Forward(_) => Action::Forward,
        A::Drop(_) => Action::Drop,
        A::Dispatch(d) => {
            let (next_hop, tunnel) = read_dispatch(d)?;
            Action::Dispatch { next_hop, tunnel }
        }
        A::Translate(to) => Action::Translate(read_tuple(to)?),
        A::Adjust(d) => Action::Adjust(Adjust {
            sequence: d.sequence,
            acknowledgement: d.acknowledgement,
            window_shift: i8::try_from(d.window_shift).map_err(|_| Range("window_shift"))?,
        }),
        A::Count(_) => Action::Count,
        A::MarkDscp(n) if *n < 64 => Action::MarkDscp(small(*n, "mark_dscp")?),
        A::MarkDscp(_) => return Err(Range("mark_dscp")),
    })
}

/// A fixed affinity for the wire.
#[must_use]
pub fn write_affinity(a: &FixedAffinity) -> pb::FixedAffinity {
    pb::FixedAffinity {
        part: write_part(a.part),
        r#match: Some(write_tuple(&a.tuple)),
        kind: write_kind(a.kind),
        actions: a.actions.iter().map(write_action).collect(),
        flow: a.flow,
        partner: a.partner.as_ref().map(write_tuple),
        cookie: a.cookie.clone(),
        leases: Some(pb::Leases {
            half_open_ms: a.leases.half_open_ms.unwrap_or(0),
            idle_ms: a.leases.idle_ms.unwrap_or(0),
            closed_ms: a.leases.closed_ms.unwrap_or(0),
            hard_ms: a.leases.hard_ms.unwrap_or(0),
        }),
        interest: Some(write_mask(a.interest)),
        track_close: a.track_close,
        statistics: Some(write_statistics(a.statistics)),
    }
}

/// A fixed affinity from the wire.
///
/// # Errors
/// A field is missing or out of its range.
pub fn read_affinity(a: &pb::FixedAffinity) -> Result<FixedAffinity, WireError> {
    let leases = a.leases.unwrap_or_default();
    Ok(FixedAffinity {
        part: read_part(a.part)?,
        tuple: read_some_tuple(a.r#match.as_ref())?,
        kind: read_kind(a.kind)?,
        actions: a
            .actions
            .iter()
            .map(read_action)
            .collect::<Result<_, _>>()?,
        flow: a.flow,
        partner: read_optional_tuple(a.partner.as_ref())?,
        cookie: a.cookie.clone(),
        leases: Leases {
            half_open_ms: some(leases.half_open_ms),
            idle_ms: some(leases.idle_ms),
            closed_ms: some(leases.closed_ms),
            hard_ms: some(leases.hard_ms),
        },
        interest: read_mask(a.interest.as_ref())?,
        track_close: a.track_close,
        statistics: read_statistics(a.statistics.as_ref()),
    })
}

pub(super) fn write_state(s: &CarriedState) -> pb::CarriedState {
    pb::CarriedState {
        ingress_port: s.ingress_port.into(),
        reply: s.reply,
        next_hop: s.next_hop.into(),
        tunnel: s.tunnel.into(),
        mark: s.mark.map(u32::from),
        notices: s.notices,
        entry: s.entry,
    }
}

pub(super) fn read_state(s: &pb::CarriedState) -> Result<CarriedState, WireError> {
    Ok(CarriedState {
        ingress_port: small(s.ingress_port, "ingress_port")?,
        reply: s.reply,
        next_hop: small(s.next_hop, "next_hop")?,
        tunnel: small(s.tunnel, "tunnel")?,
        mark: s.mark.map(|m| small(m, "mark")).transpose()?,
        notices: s.notices,
        entry: s.entry,
    })
}

pub(super) fn write_totals(t: Totals) -> pb::Totals {
    pb::Totals {
        packets: t.packets,
        bytes: t.bytes,
    }
}

pub(super) fn read_totals(t: Option<&pb::Totals>) -> Totals {
    t.map_or_else(Totals::default, |t| Totals {
        packets: t.packets,
        bytes: t.bytes,
    })
}

const REASONS: &[(Reason, pb::Reason)] = &[
    (Reason::NotCovered, pb::Reason::NotCovered),
    (Reason::Unsupported, pb::Reason::Unsupported),
    (Reason::TableFull, pb::Reason::TableFull),
    (Reason::NotServing, pb::Reason::NotServing),
    (Reason::OldEpoch, pb::Reason::OldEpoch),
    (Reason::Malformed, pb::Reason::Malformed),
    (Reason::TargetRefused, pb::Reason::TargetRefused),
    (Reason::NoSwitch, pb::Reason::NoSwitch),
    (Reason::WrongVersion, pb::Reason::WrongVersion),
    (Reason::WrongPlan, pb::Reason::WrongPlan),
    (Reason::UnknownManager, pb::Reason::UnknownManager),
    (Reason::Conflict, pb::Reason::Conflict),
    (Reason::Limited, pb::Reason::Limited),
    (Reason::Superseded, pb::Reason::Superseded),
];

pub(super) fn write_reason(r: Reason) -> i32 {
    (REASONS.iter().find(|(ours, _)| *ours == r)).map_or(0, |(_, theirs)| *theirs as i32)
}

pub(super) fn read_reason(n: i32) -> Result<Reason, WireError> {
    (REASONS.iter().find(|(_, theirs)| *theirs as i32 == n))
        .map(|(ours, _)| *ours)
        .ok_or(Range("reason"))
}
