//! What an agent lets a manager install: only what the plan gives its service, what the target can do, and
//! what there is room for. Nothing here changes anything.

use std::net::IpAddr;

use rustc_hash::FxHashSet;
use signalbox_lower::plan::{Kind, Plan};

use super::flow_record::Progress;
use super::store::{FlowRef, MAX_FLOWS};
use super::{Agent, Link, tunnels};
use crate::adjust::{Adjust, WINDOW_SHIFT_MAX};
use crate::cover::covers_flow;
use crate::flow::{FlowKey, Part, Tuple};
use crate::message::{Action, COOKIE_MAX, Capability, FixedAffinity, Reason, Statistics, Tunnel};
use crate::packet::proto;

pub(super) type Refusal = (Reason, String);

/// The shortest period of reports.
const SHORTEST_PERIOD_MS: u64 = 100;

/// What an accepted affinity does. A next hop gets its id only when the whole request is accepted.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wish {
    Forward,
    Discard,
    Translate(Tuple),
    Dispatch(IpAddr, Tunnel),
    Adjust(Adjust),
}

/// The directions of one flow in a request, checked.
pub(super) struct Wanted<'a> {
    pub first: &'a FixedAffinity,
    pub forward: Option<(&'a FixedAffinity, Wish)>,
    pub reply: Option<(&'a FixedAffinity, Wish)>,
}

impl Wanted<'_> {
    pub fn directions(&self) -> impl Iterator<Item = (&FixedAffinity, Wish)> {
        self.forward.iter().chain(&self.reply).copied()
    }

    /// The forward match that says which flow it is, also where only the reply is wanted.
    pub fn forward_tuple(&self) -> Option<Tuple> {
        (self.forward.map(|(a, _)| a.tuple)).or_else(|| self.reply.and_then(|(a, _)| a.partner))
    }
}

/// What becomes of one flow of a request.
pub(super) enum Step {
    /// It is there already.
    Renew(FlowRef),
    /// It goes in; the dead ones in its place, or its own former self, go before.
    Install { instead_of: Vec<FlowRef> },
}

pub(super) fn is_counted(a: &FixedAffinity) -> bool {
    a.statistics.count || a.leases.idle_ms.is_some() || a.actions.contains(&Action::Count)
}

/// Whether reports come at a sensible pace.
pub(super) fn check_period(s: &Statistics) -> Result<(), Refusal> {
    if s.every_ms.is_some_and(|ms| ms < SHORTEST_PERIOD_MS) {
        let text = format!("reports come every {SHORTEST_PERIOD_MS} ms at most");
        return Err((Reason::Malformed, text));
    }
    Ok(())
}

impl Agent {
    /// Says what each flow of a request needs, and that there is room for all of it. Changes nothing.
    pub(super) fn steps(
        &mut self,
        service: u8,
        wanted: &[Wanted<'_>],
    ) -> Result<Vec<Step>, Refusal> {
        let mut seen: FxHashSet<FlowKey> = FxHashSet::default();
        let mut steps = Vec::with_capacity(wanted.len());
        for flow in wanted {
            let mut there: Vec<FlowRef> = Vec::new();
            for (a, _) in flow.directions() {
                let key = FlowKey {
                    service,
                    part: a.part,
                    tuple: a.tuple,
                    kind: a.kind,
                };
                if !seen.insert(key) {
                    return Err((
                        Reason::Malformed,
                        format!("two flows of the request want `{}`", a.tuple),
                    ));
                }
                let Some(at) = self.store.find(&key) else {
                    continue;
                };
                if let Some(holder) = self.store.get(at)
                    && holder.progress != Progress::Closed
                    && let Some(forward) = holder.forward.as_ref().map(|d| d.tuple)
                    && Some(forward) != flow.forward_tuple()
                {
                    return Err((
                        Reason::Conflict,
                        format!("`{}` belongs to `{forward}`, which is alive", a.tuple),
                    ));
                }
                if !there.contains(&at) {
                    there.push(at);
                }
            }
            steps.push(match there.as_slice() {
                [at] if self.is_same(*at, flow) => Step::Renew(*at),
                _ => Step::Install { instead_of: there },
            });
        }
        self.room(service, wanted.iter().zip(&steps))?;
        Ok(steps)
    }

    /// Whether tables, slots, store and neighbours have room for what goes in.
    fn room<'a, 'b: 'a>(
        &mut self,
        service: u8,
        flows: impl Iterator<Item = (&'a Wanted<'b>, &'a Step)>,
    ) -> Result<(), Refusal> {
        let full = |text: String| Err((Reason::TableFull, text));
        let mut installs = 0;
        let mut entries = [(Part::Forward, 0u32, 0usize), (Part::Reply, 0, 0)];
        let mut hops = Vec::new();
        for (flow, step) in flows {
            let install = matches!(step, Step::Install { .. });
            installs += usize::from(install);
            for (a, act) in flow.directions() {
                if let Wish::Dispatch(to, tunnel) = act
                    && !hops.contains(&(to, tunnel))
                {
                    hops.push((to, tunnel));
                }
                for (part, fixed, slots) in &mut entries {
                    if install && *part == a.part {
                        *fixed += 1;
                        *slots += usize::from(is_counted(a));
                    }
                }
            }
        }
        for (part, fixed, slots) in entries {
            let size = self.part_plan(service, part).map_or(0, |p| p.fixed_size);
            let Some(s) = self.service(service) else {
                continue;
            };
            if fixed > 0 && s.fixed(part).saturating_add(fixed) > size {
                return full(format!("the table holds {size} fixed affinities"));
            }
            if slots > s.slots(part).room() {
                return full("no counter slot is free".to_owned());
            }
        }
        if self.store.len() + installs > MAX_FLOWS {
            return full("the agent holds no more flows".to_owned());
        }
        self.hops_have_room(&hops)
    }

    pub(super) fn accept<'a>(
        &self,
        affinities: &'a [FixedAffinity],
        service: u8,
    ) -> Result<Vec<Wanted<'a>>, Refusal> {
        if !affinities.is_empty() && !matches!(self.link, Link::Ready | Link::Opening) {
            return Err((Reason::NoSwitch, "the switch is away".into()));
        }
        let mut wanted: Vec<Wanted<'a>> = Vec::new();
        for affinity in affinities {
            let act = self.accept_one(service, affinity)?;
            let at = match wanted.iter().position(|w| w.first.flow == affinity.flow) {
                Some(at) => at,
                None => {
                    wanted.push(Wanted {
                        first: affinity,
                        forward: None,
                        reply: None,
                    });
                    wanted.len() - 1
                }
            };
            let Some(flow) = wanted.get_mut(at) else {
                continue;
            };
            let place = match affinity.part {
                Part::Forward => &mut flow.forward,
                Part::Reply => &mut flow.reply,
            };
            if place.replace((affinity, act)).is_some() {
                return Err((
                    Reason::Malformed,
                    format!("flow {} has two of one direction", affinity.flow),
                ));
            }
        }
        for flow in &wanted {
            if let (Some((f, _)), Some((r, _))) = (&flow.forward, &flow.reply)
                && (f.partner.is_some_and(|p| p != r.tuple)
                    || r.partner.is_some_and(|p| p != f.tuple))
            {
                return Err((
                    Reason::Malformed,
                    format!("the directions of flow {} are not partners", f.flow),
                ));
            }
        }
        Ok(wanted)
    }

    /// Checks one affinity against the target and the plan: an agent installs only what the policy lets that
    /// service install.
    fn accept_one(&self, service: u8, a: &FixedAffinity) -> Result<Wish, Refusal> {
        let not_covered = || {
            (
                Reason::NotCovered,
                format!("the policy gives this service no say over `{}`", a.tuple),
            )
        };
        let part = self.part_plan(service, a.part).ok_or_else(not_covered)?;
        if part.fixed.is_none() || !covers_flow(&part.criteria, &a.tuple, a.kind) {
            return Err(not_covered());
        }
        check_period(&a.statistics)?;
        if a.cookie.len() > COOKIE_MAX {
            return Err((
                Reason::Malformed,
                format!("a cookie has at most {COOKIE_MAX} bytes"),
            ));
        }
        let act = self.accept_actions(service, a)?;
        if let Wish::Translate(to) = act {
            // Where it leads, the other direction must be the service's own to bring back.
            let covered = self
                .part_plan(service, a.part.other())
                .is_some_and(|p| covers_flow(&p.criteria, &to.reversed(), a.kind));
            if !covered || to.proto != a.tuple.proto {
                return Err((
                    Reason::NotCovered,
                    format!("the policy does not let this service translate to `{to}`"),
                ));
            }
        }
        Ok(act)
    }

    fn accept_actions(&self, service: u8, a: &FixedAffinity) -> Result<Wish, Refusal> {
        let mut result = None;
        for action in &a.actions {
            let next = match action {
                Action::Count => continue,
                Action::Forward => Wish::Forward,
                Action::Drop => Wish::Discard,
                Action::Translate(to) => {
                    self.can(Capability::Translate)?;
                    Wish::Translate(*to)
                }
                Action::Dispatch { next_hop, tunnel } => {
                    self.can_dispatch(service, *next_hop, *tunnel)?;
                    Wish::Dispatch(*next_hop, *tunnel)
                }
                Action::Adjust(by) => {
                    self.can_adjust(service)?;
                    check_adjust(a, *by)?;
                    Wish::Adjust(*by)
                }
                Action::MarkDscp(_) => {
                    self.can(Capability::MarkDscp)?;
                    return Err(unsupported(Capability::MarkDscp));
                }
            };
            result = Some(match (result, next) {
                (None, only) => only,
                // What is adjusted goes on.
                (Some(by @ Wish::Adjust(_)), Wish::Forward)
                | (Some(Wish::Forward), by @ Wish::Adjust(_)) => by,
                _ => {
                    return Err((
                        Reason::Malformed,
                        "an affinity does one of forward, drop, dispatch, translate and adjust"
                            .into(),
                    ));
                }
            });
        }
        Ok(result.unwrap_or(Wish::Forward))
    }

    /// Whether the target can do something.
    pub(super) fn can(&self, what: Capability) -> Result<(), Refusal> {
        if self.target.can(what) {
            return Ok(());
        }
        Err(unsupported(what))
    }

    /// Whether a service's packets may have other numbers: only gates have such connections, and stages that
    /// can do it.
    pub(super) fn can_adjust(&self, service: u8) -> Result<(), Refusal> {
        self.can(Capability::Adjust)?;
        if adjusts(&self.plan, service) {
            return Ok(());
        }
        let text = "the service's stages cannot adjust sequence numbers: it is no gate".to_owned();
        Err((Reason::Unsupported, text))
    }

    /// Whether a service's packets may be sent to that next hop, so wrapped: it is one of the servers that
    /// the policy gives the service, if it gives it any, and a port leads there.
    pub(super) fn can_dispatch(
        &self,
        service: u8,
        to: IpAddr,
        tunnel: Tunnel,
    ) -> Result<(), Refusal> {
        self.can(Capability::Dispatch)?;
        match tunnel {
            Tunnel::None => {}
            Tunnel::Ipip => self.can(Capability::Ipip)?,
            Tunnel::Gue => self.can(Capability::Gue)?,
        }
        let pool = (self.plan.services.get(usize::from(service))).and_then(|s| s.balance.as_ref());
        if pool.is_some_and(|b| b.servers.iter().all(|s| s.address != to)) {
            let text = format!("the policy gives this service no server {to}");
            return Err((Reason::NotCovered, text));
        }
        let Some((_, via)) = self.next_hop(to) else {
            let text = format!("no port leads to next hop {to}");
            return Err((Reason::NotCovered, text));
        };
        if tunnel == Tunnel::None && via != to {
            let text = format!("{to} is behind router {via}: only a tunnel leads there");
            return Err((Reason::NotCovered, text));
        }
        if tunnel != Tunnel::None && self.tunnel_source(to).is_none() {
            let text =
                format!("the port that leads to {to} has no address that a tunnel could come from");
            return Err((Reason::NotCovered, text));
        }
        Ok(())
    }

    /// Whether all of these ways to servers can have ids.
    pub(super) fn hops_have_room(&self, hops: &[(IpAddr, Tunnel)]) -> Result<(), Refusal> {
        let servers: Vec<IpAddr> = hops.iter().map(|(to, _)| *to).collect();
        if !self.neighbours_have_room(&servers) {
            let text = "the agent knows no more neighbours".to_owned();
            return Err((Reason::TableFull, text));
        }
        let new = hops
            .iter()
            .filter(|(to, tunnel)| !self.tunnels.has(*to, *tunnel));
        if self.tunnels.len() + new.count() > tunnels::MAX {
            let text = "the agent knows no more tunnels".to_owned();
            return Err((Reason::TableFull, text));
        }
        Ok(())
    }
}

/// Whether a plan's service may adjust: its stages are a gate's.
pub(super) fn adjusts(plan: &Plan, service: u8) -> bool {
    (plan.services.get(usize::from(service))).is_some_and(|s| s.kind == Kind::Gate)
}

/// Numbers are TCP's, and a window's shift is the difference of two scales (RFC 7323, section 2.3).
fn check_adjust(a: &FixedAffinity, by: Adjust) -> Result<(), Refusal> {
    if a.tuple.proto != proto::TCP {
        let text = format!(
            "`{}` has no sequence numbers to adjust: it is not tcp",
            a.tuple
        );
        return Err((Reason::Malformed, text));
    }
    if by.window_shift.unsigned_abs() > WINDOW_SHIFT_MAX.unsigned_abs() {
        let text = format!(
            "a window is shifted by {WINDOW_SHIFT_MAX} bits at most, not by {}",
            by.window_shift
        );
        return Err((Reason::Malformed, text));
    }
    Ok(())
}

fn unsupported(what: Capability) -> Refusal {
    let text = match what {
        Capability::Translate => "translate packets",
        Capability::Adjust => "adjust sequence numbers",
        Capability::Dispatch => "send packets to a chosen next hop",
        Capability::Ipip | Capability::Gue => "wrap packets in tunnels",
        Capability::MarkDscp => "mark packets",
    };
    (Reason::Unsupported, format!("the target cannot {text}"))
}
