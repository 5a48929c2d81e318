//! What a nat service makes of a flow once its manager has said who has which outside address and port.
//! Which one a new flow gets is for whoever stands in for the manager; this knows only the policy.

use std::net::IpAddr;

use crate::eval::FlowKey;
use crate::model::{Nat, NatSource};

/// One end of a flow: address, and port or ICMP identifier.
pub type End = (IpAddr, u16);

/// What a flow from inside becomes; `None` if it cannot be translated. `host` is the inside host that the
/// flow's destination stands for, if it does, and `give` the outside end that the flow gets.
pub fn outward(
    nat: &Nat,
    flow: FlowKey,
    host: Option<End>,
    give: impl FnOnce() -> Option<End>,
) -> Option<FlowKey> {
    let mut to = flow;
    if let Some(destination) = &nat.destination {
        to.dst = destination.address;
        to.dport = destination.port.unwrap_or(flow.dport);
    } else if nat.owns(flow.dst) {
        // A hairpin: the outside tuple is another inside host's.
        (to.dst, to.dport) = host?;
    }
    match &nat.source {
        None => {}
        Some(source @ NatSource::OneToOne { .. }) => to.src = source.outside_of(flow.src)?,
        Some(NatSource::Ports { .. }) => (to.src, to.sport) = give()?,
    }
    Some(to)
}

/// What a flow from outside becomes; `None` if it may not come in. `host` is as for [`outward`].
pub fn inward(nat: &Nat, flow: FlowKey, host: Option<End>) -> Option<FlowKey> {
    if nat.destination.is_some() || !nat.asks_about_replies() {
        return None;
    }
    let (dst, dport) = host?;
    Some(FlowKey { dst, dport, ..flow })
}
