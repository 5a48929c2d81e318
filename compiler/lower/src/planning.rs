//! From a checked policy to its plan: tables, criteria, floors' actions, leases and bounds.

mod division;
mod gate_plan;

use std::net::IpAddr;
use std::time::Duration;

use signalbox_policy::model::{self, Families, FilterVerdict, Policy, ServiceKind};

use crate::LowerError;
use crate::cubes;
use crate::names::Names;
use crate::plan::{
    AddressRange, BalancePlan, CheckKind, CheckPlan, Criterion, CriterionAction, Cube, Fallback,
    Inbound, Kind, Limits, NatDestination, NatLeases, NatPlan, NatSource, NeighbourPlan,
    ObservePlan, OnDeath, Pair, PartPlan, Pick, Plan, PortPlan, RoutePlan, ServerPlan, ServicePlan,
    Way,
};

/// The port that leads to the agent, unless the target wants another.
pub const CPU_PORT: u16 = 510;
/// v1model's ports have nine bits, and the last one is where dropped packets go.
pub const LAST_PORT: u16 = 510;
/// The clone session of notices: p4/lib's NOTICE_SESSION.
const NOTICE_SESSION: u32 = 1;
/// Every packet has this event.
const EVENT_ALL: u16 = 512;
/// A manager decides about every packet without a fixed affinity.
const ASK: CriterionAction = CriterionAction::Ask {
    packet_events: EVENT_ALL,
    notice_events: 0,
};

/// Fixed affinities of one service and direction.
const FIXED_SIZE: u32 = 65_536;
/// Ternary entries of one service and direction, if its criteria do not need more.
const CRITERIA_SIZE: u32 = 4_096;
/// No ternary table is made larger.
const CRITERIA_LIMIT: usize = 1 << 20;

/// Priority of a service's floor.
pub const FLOOR_PRIORITY: i32 = 1;
/// Priority of what a gate keeps shut: above its floor, so that it counts by itself, and below what its
/// manager is asked about.
pub const SHUT_PRIORITY: i32 = 500;
/// Priority of criteria, a manager's and static ones.
pub const CRITERIA_PRIORITY: i32 = 1_000;

/// How long a diverted packet waits for its verdict.
const HOLD: Duration = Duration::from_millis(200);
/// Packets that a service may have waiting.
const HOLD_PACKETS: u32 = 4_096;
/// Bytes that a service may have waiting.
const HOLD_BYTES: u32 = 4 << 20;
/// Lease of criteria; a few heartbeats.
const CRITERIA_LEASE: Duration = Duration::from_secs(3);

/// The plan of a policy for a target with that CPU port; its `program_id` is still 0.
///
/// # Errors
/// See [`LowerError`].
pub fn plan(policy: &Policy, cpu_port: u16) -> Result<Plan, LowerError> {
    let taken = |port: &&model::Port| port.number == cpu_port;
    if let Some(port) = policy.network.ports.iter().find(taken) {
        return Err(LowerError::CpuPortTaken {
            port: cpu_port,
            name: port.name.clone(),
        });
    }
    if !(1..=LAST_PORT).contains(&cpu_port) {
        return Err(LowerError::CpuPortRange { port: cpu_port });
    }
    let mut names = Names::new();
    let services = policy
        .services
        .iter()
        .map(|s| service(policy, s, &names.service(&s.name)))
        .collect::<Result<_, _>>()?;
    let network = &policy.network;
    Ok(Plan {
        policy: policy.name.clone(),
        program_id: 0,
        address_bits: match policy.families {
            Families::V4 => 32,
            Families::Dual => 128,
        },
        cpu_port,
        notice_session: NOTICE_SESSION,
        ports: network
            .ports
            .iter()
            .map(|p| PortPlan {
                number: p.number,
                name: p.name.clone(),
                addresses: p.addresses.clone(),
                mtu: p.mtu,
                mac: p.mac().0,
            })
            .collect(),
        routes: network
            .routes
            .iter()
            .map(|r| RoutePlan {
                prefix: r.prefix,
                via: r.via,
                port: r.port,
            })
            .collect(),
        neighbours: network
            .neighbours
            .iter()
            .map(|n| NeighbourPlan {
                address: n.address,
                mac: n.mac.0,
                port: n.port,
            })
            .collect(),
        services,
        managers: division::managers(policy),
    })
}

fn service(policy: &Policy, service: &model::Service, id: &str) -> Result<ServicePlan, LowerError> {
    let tables = Tables {
        policy,
        service,
        id,
    };
    let mut plan = match &service.kind {
        ServiceKind::Filter(filter) => tables.filter(filter),
        ServiceKind::Balance(balance) => tables.balance(balance),
        ServiceKind::Gate(gate) => tables.gate(gate),
        ServiceKind::Nat(nat) => tables.nat(nat),
        ServiceKind::Observe(observe) => tables.observe(observe),
    }?;
    plan.shares = division::shares(policy, service.index, &plan);
    Ok(plan)
}

/// Plans one service.
#[derive(Clone, Copy)]
struct Tables<'a> {
    policy: &'a Policy,
    service: &'a model::Service,
    /// The name of its forward control.
    id: &'a str,
}

impl Tables<'_> {
    fn filter(self, filter: &model::Filter) -> Result<ServicePlan, LowerError> {
        let table = format!("Cascade.{}.wildcard", self.id);
        let criteria = filter_criteria(self.policy, filter);
        let forward = part(self.service, criteria, (0, None), &table, 0)?;
        let fallback = match filter.default {
            FilterVerdict::Allow => Fallback::Route,
            FilterVerdict::Deny => Fallback::Drop,
        };
        let limits = limits(model::Keep::default(), model::Bounds::default());
        Ok(self.plan(Kind::Filter, forward, fallback, limits))
    }

    fn balance(self, balance: &model::Balance) -> Result<ServicePlan, LowerError> {
        let pool = self
            .policy
            .pool(balance.pool)
            .ok_or_else(|| LowerError::NoPool {
                service: self.service.name.clone(),
            })?;
        let forward = self.forward(vec![self.criterion(
            1,
            format!("match {}", balance.criteria.text),
            ASK,
            &balance.criteria.cubes,
        )])?;
        // Servers that packets are dispatched to answer the client themselves.
        let reply = if balance.way == model::Way::Translate {
            let label = format!("replies of @{}", pool.name);
            let from = self.criterion(1, label, ASK, &balance.reply_cubes(pool));
            Some(self.reply(vec![from])?)
        } else {
            None
        };
        let limits = limits(balance.keep, balance.bounds);
        Ok(ServicePlan {
            reply,
            balance: Some(balance_plan(balance, pool)),
            ..self.plan(Kind::Balance, forward, fallback(balance.fallback), limits)
        })
    }

    fn nat(self, nat: &model::Nat) -> Result<ServicePlan, LowerError> {
        let forward = self.forward(vec![self.criterion(
            1,
            format!("match {}", nat.criteria.text),
            ASK,
            &nat.criteria.cubes,
        )])?;
        let mut criteria = Vec::new();
        let hairpin = nat.hairpin_cubes();
        if !hairpin.is_empty() {
            // From inside to an outside tuple: the forward part translates both ends.
            criteria.push(Criterion {
                priority: CRITERIA_PRIORITY + 1,
                ..self.criterion(1, "hairpin".into(), CriterionAction::Pass, &hairpin)
            });
        }
        let (label, action) = match nat.source {
            // Nobody may come in who was not called.
            _ if !nat.asks_about_replies() => ("unasked from outside", CriterionAction::Discard),
            Some(_) => ("from outside", ASK),
            None => ("replies of the new destination", ASK),
        };
        let id = criteria.len() as u32 + 1;
        criteria.push(self.criterion(id, label.into(), action, &nat.reply_cubes()));
        let reply = self.reply(criteria)?;
        // A flow is half open, or closing, for a transitory time; its manager gives each its own lease.
        let keep = model::Keep {
            idle: nat.leases.tcp_established,
            closed: nat.leases.tcp_transitory,
            half_open: nat.leases.tcp_transitory,
        };
        Ok(ServicePlan {
            reply: Some(reply),
            nat: Some(nat_plan(nat)),
            ..self.plan(
                Kind::Nat,
                forward,
                fallback(nat.fallback),
                limits(keep, nat.bounds),
            )
        })
    }

    /// Above what is never let in: those that somebody may open.
    fn gate(self, gate: &model::Gate) -> Result<ServicePlan, LowerError> {
        let asked = |label: String, cubes: &[model::Cube]| self.criterion(1, label, ASK, cubes);
        let shut = |label: &str, cubes: &[model::Cube]| Criterion {
            priority: SHUT_PRIORITY,
            ..self.criterion(2, label.to_owned(), CriterionAction::Discard, cubes)
        };
        let forward = self.forward(vec![
            asked(
                format!("allowed of {}", gate.criteria.text),
                &gate.allowed_cubes(),
            ),
            shut("not allowed", &gate.criteria.cubes),
        ])?;
        let reply = self.reply(vec![
            asked("replies".to_owned(), &gate.reply_cubes()),
            shut("replies to those not allowed", &gate.all_reply_cubes()),
        ])?;
        Ok(ServicePlan {
            reply: Some(reply),
            gate: Some(gate_plan::gate_plan(self.policy, gate)),
            ..self.plan(
                Kind::Gate,
                forward,
                Fallback::Drop,
                limits(gate.keep, model::Bounds::default()),
            )
        })
    }

    fn observe(self, observe: &model::Observe) -> Result<ServicePlan, LowerError> {
        // Together they are counted by the criterion's own cell, and nobody is asked.
        let action = if observe.per_flow {
            ASK
        } else {
            CriterionAction::Pass
        };
        let label = format!("match {}", observe.criteria.text);
        let forward = self.forward(vec![self.criterion(
            1,
            label,
            action,
            &observe.criteria.cubes,
        )])?;
        let limits = limits(observe.keep, observe.bounds);
        Ok(ServicePlan {
            observe: Some(ObservePlan {
                per_flow: observe.per_flow,
                flags: observe.flags,
                every_ms: observe.every.map(millis),
                on_close: observe.on_close,
            }),
            ..self.plan(Kind::Observe, forward, fallback(observe.fallback), limits)
        })
    }

    /// What all kinds have in common.
    fn plan(
        self,
        kind: Kind,
        forward: PartPlan,
        fallback: Fallback,
        limits: Limits,
    ) -> ServicePlan {
        ServicePlan {
            name: self.service.name.clone(),
            kind,
            stage: self.service.precedence(),
            shares: Vec::new(),
            forward,
            reply: None,
            addresses: self.service.addresses(),
            fallback,
            limits,
            balance: None,
            nat: None,
            gate: None,
            observe: None,
        }
    }

    fn criterion(
        self,
        id: u32,
        label: String,
        action: CriterionAction,
        cubes: &[model::Cube],
    ) -> Criterion {
        Criterion {
            id,
            label,
            priority: CRITERIA_PRIORITY,
            action,
            cubes: cubes::entries(cubes, self.policy.families),
        }
    }

    /// How many fixed affinities of a direction there is room for.
    fn fixed_size(self) -> u32 {
        let bounds = match &self.service.kind {
            ServiceKind::Balance(balance) => balance.bounds,
            ServiceKind::Nat(nat) => nat.bounds,
            ServiceKind::Observe(observe) => observe.bounds,
            ServiceKind::Gate(gate) => {
                return gate.bounds.connections.unwrap_or(0).max(FIXED_SIZE);
            }
            ServiceKind::Filter(_) => model::Bounds::default(),
        };
        bounds.flows.unwrap_or(FIXED_SIZE)
    }

    fn forward(self, criteria: Vec<Criterion>) -> Result<PartPlan, LowerError> {
        self.part(self.id, "wildcard", criteria)
    }

    fn reply(self, criteria: Vec<Criterion>) -> Result<PartPlan, LowerError> {
        self.part(&format!("{}_reply", self.id), "criteria", criteria)
    }

    /// A part with fixed affinities.
    fn part(
        self,
        control: &str,
        criteria_table: &str,
        criteria: Vec<Criterion>,
    ) -> Result<PartPlan, LowerError> {
        let fixed = format!("Cascade.{control}.fixed");
        let reply = criteria_table == "criteria";
        let divided = division::cubes(self.policy, self.service.index, reply);
        let table = format!("Cascade.{control}.{criteria_table}");
        part(
            self.service,
            criteria,
            (self.fixed_size(), Some(fixed)),
            &table,
            divided,
        )
    }
}

fn fallback(fallback: model::Fallback) -> Fallback {
    match fallback {
        model::Fallback::Drop => Fallback::Drop,
        model::Fallback::Route => Fallback::Route,
    }
}

/// A filter's rules in the order of the text, each one criterion with its own id; then its default,
/// which is its floor.
fn filter_criteria(policy: &Policy, filter: &model::Filter) -> Vec<Criterion> {
    let says = |verdict| match verdict {
        FilterVerdict::Allow => ("allow", CriterionAction::Pass),
        FilterVerdict::Deny => ("deny", CriterionAction::Discard),
    };
    let mut criteria = Vec::with_capacity(filter.rules.len() + 1);
    for (rule, id) in filter.rules.iter().zip(1..) {
        let (word, action) = says(rule.verdict);
        criteria.push(Criterion {
            id,
            label: format!("{word} {}", rule.criteria.text),
            priority: CRITERIA_PRIORITY,
            action,
            cubes: cubes::entries(&rule.criteria.cubes, policy.families),
        });
    }
    let (word, action) = says(filter.default);
    criteria.push(Criterion {
        id: criteria.len() as u32 + 1,
        label: format!("default {word}"),
        priority: FLOOR_PRIORITY,
        action,
        cubes: vec![Cube::default()],
    });
    criteria
}

fn part(
    service: &model::Service,
    criteria: Vec<Criterion>,
    (fixed_size, fixed): (u32, Option<String>),
    criteria_table: &str,
    divided: usize,
) -> Result<PartPlan, LowerError> {
    let cubes: usize = criteria.iter().map(|c| c.cubes.len()).sum();
    let cubes = cubes.max(divided);
    // Twice: criteria change by installing the new ones before the old ones go; and the floor.
    let needed = cubes.saturating_mul(3);
    if needed > CRITERIA_LIMIT {
        return Err(LowerError::TooManyEntries {
            service: service.name.clone(),
            needed,
            limit: CRITERIA_LIMIT,
        });
    }
    let control = criteria_table
        .rsplit_once('.')
        .map_or(criteria_table, |(control, _)| control);
    Ok(PartPlan {
        fixed,
        fixed_size,
        criteria_table: criteria_table.to_owned(),
        criteria_size: CRITERIA_SIZE.max((needed as u32).next_power_of_two()),
        stats: format!("{control}.stats"),
        criteria,
    })
}

fn balance_plan(balance: &model::Balance, pool: &model::Pool) -> BalancePlan {
    BalancePlan {
        pool: pool.name.clone(),
        pick: match balance.pick {
            model::Pick::RoundRobin => Pick::RoundRobin,
            model::Pick::Weighted => Pick::Weighted,
            model::Pick::LeastConnections => Pick::LeastConnections,
            model::Pick::Maglev {
                by: model::HashBy::Flow,
            } => Pick::MaglevFlow,
            model::Pick::Maglev {
                by: model::HashBy::Source,
            } => Pick::MaglevSource,
        },
        servers: pool
            .servers
            .iter()
            .map(|s| ServerPlan {
                name: s.name.clone(),
                address: s.address,
                port: s.port,
                weight: s.weight,
            })
            .collect(),
        check: pool.check.as_ref().map(|c| CheckPlan {
            kind: match &c.kind {
                model::CheckKind::Tcp => CheckKind::Tcp,
                model::CheckKind::Http { path } => CheckKind::Http { path: path.clone() },
                model::CheckKind::Load { path } => CheckKind::Load { path: path.clone() },
            },
            every_ms: millis(c.every),
            timeout_ms: millis(c.timeout),
            rise: c.rise,
            fall: c.fall,
        }),
        stick_ms: balance.stick.map(millis),
        slow_start_ms: millis(balance.slow_start),
        way: match balance.way {
            model::Way::Translate => Way::Translate,
            model::Way::Mac => Way::Mac,
            model::Way::Ipip => Way::Ipip,
            model::Way::Gue => Way::Gue,
        },
        on_death: match balance.on_death {
            model::OnDeath::Keep => OnDeath::Keep,
            model::OnDeath::Drop => OnDeath::Drop,
            model::OnDeath::Reset => OnDeath::Reset,
        },
    }
}

fn nat_plan(nat: &model::Nat) -> NatPlan {
    NatPlan {
        source: nat.source.as_ref().map(|source| match source {
            model::NatSource::Ports {
                addresses,
                first_port,
                last_port,
            } => NatSource::Ports {
                addresses: ranges(addresses),
                first_port: *first_port,
                last_port: *last_port,
            },
            model::NatSource::OneToOne { pairs } => NatSource::OneToOne {
                pairs: pairs
                    .iter()
                    .map(|(inside, outside)| Pair {
                        inside: *inside,
                        outside: *outside,
                    })
                    .collect(),
            },
        }),
        destination: nat.destination.map(|to| NatDestination {
            address: to.address,
            port: to.port,
        }),
        leases: NatLeases {
            tcp_established_ms: millis(nat.leases.tcp_established),
            tcp_transitory_ms: millis(nat.leases.tcp_transitory),
            udp_ms: millis(nat.leases.udp),
            icmp_ms: millis(nat.leases.icmp),
        },
        hold_back_ms: millis(nat.hold_back),
        per_source: nat.per_source,
        inbound: match nat.inbound {
            model::Inbound::Answers => Inbound::Answers,
            model::Inbound::Mapped => Inbound::Mapped,
        },
    }
}

fn ranges(addresses: &[(IpAddr, IpAddr)]) -> Vec<AddressRange> {
    let range = |(first, last): &(IpAddr, IpAddr)| AddressRange {
        first: *first,
        last: *last,
    };
    addresses.iter().map(range).collect()
}

fn limits(keep: model::Keep, bounds: model::Bounds) -> Limits {
    Limits {
        idle_ms: millis(keep.idle),
        closed_ms: millis(keep.closed),
        half_open_ms: millis(keep.half_open),
        hold_ms: millis(HOLD),
        hold_packets: HOLD_PACKETS,
        hold_bytes: HOLD_BYTES,
        criteria_lease_ms: millis(CRITERIA_LEASE),
        half_open: bounds.half_open,
        half_open_per_source: bounds.half_open_per_source,
        new_per_second: bounds.new_per_second,
        new_per_second_per_source: bounds.new_per_second_per_source,
    }
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}
