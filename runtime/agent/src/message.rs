//! The affinity protocol as checked Rust values: what passes between an agent and a manager.
//!
//! `wire` turns these into the protobuf messages of proto/affinity.proto and back; in-memory
//! channels carry them as they are. Field meanings and units are those of the .proto file.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use signalbox_lower::plan::Cube;

pub use crate::adjust::Adjust;
use crate::flow::{PacketKind, Part, Tuple};

/// The version that this crate speaks.
pub const VERSION: u32 = 1;

/// Longest cookie of an affinity, in bytes.
pub const COOKIE_MAX: usize = 256;

/// Any message of a manager.
#[derive(Debug, Clone, PartialEq)]
pub struct ToAgent {
    /// The service it is about; empty for `Hello`.
    pub service: Arc<str>,
    /// The share of it; 0 if it is not divided among managers.
    pub share: u32,
    /// The sender's epoch for that share.
    pub epoch: u64,
    /// The message.
    pub body: ManagerBody,
}

/// What a manager can say.
#[derive(Debug, Clone, PartialEq)]
pub enum ManagerBody {
    /// Opens the session.
    Hello(Hello),
    /// Renews the lease of the service's criteria.
    Heartbeat(Heartbeat),
    /// Replaces the service's criteria.
    Criteria(Criteria),
    /// Answers an interest.
    Verdict(Verdict),
    /// Installs affinities unasked.
    Install {
        /// Names the request in a denial.
        request: u64,
        /// What to install.
        affinities: Vec<FixedAffinity>,
    },
    /// Ends affinities.
    Delete {
        /// Names the request in the answer.
        request: u64,
        /// Which ones.
        which: Which,
    },
    /// Sends a packet of the manager's own.
    Inject(Inject),
    /// Asks for all fixed affinities of the service.
    ListAffinities {
        /// Names the request in the answer.
        request: u64,
    },
    /// Decides no more: its criteria end at once.
    Goodbye,
}

impl ManagerBody {
    /// What a denial of this message names; `None` for a greeting, which is refused instead.
    #[must_use]
    pub fn subject(&self) -> Option<Subject> {
        Some(match self {
            Self::Hello(_) => return None,
            Self::Heartbeat(beat) => Subject::Heartbeat(beat.sequence),
            Self::Criteria(criteria) => Subject::Criteria(criteria.version),
            Self::Verdict(verdict) => Subject::Verdict(verdict.request),
            Self::Install { request, .. } => Subject::Install(*request),
            Self::Delete { request, .. } => Subject::Delete(*request),
            Self::Inject(inject) => Subject::Inject(inject.request),
            Self::ListAffinities { request } => Subject::List(*request),
            Self::Goodbye => Subject::Goodbye,
        })
    }
}

/// Any message of an agent.
#[derive(Debug, Clone, PartialEq)]
pub struct ToManager {
    /// The service it is about; empty for `Welcome` and `Refused`.
    pub service: Arc<str>,
    /// The share of it.
    pub share: u32,
    /// The highest epoch the agent has seen for that share.
    pub epoch: u64,
    /// The message.
    pub body: AgentBody,
}

/// What an agent can say.
#[derive(Debug, Clone, PartialEq)]
pub enum AgentBody {
    /// The session is open.
    Welcome(Welcome),
    /// The session is refused.
    Refused {
        /// Why.
        reason: Reason,
        /// The same for people.
        text: String,
    },
    /// A packet or a notice of one.
    Interest(Interest),
    /// Running totals of a flow.
    Report(Box<Report>),
    /// A request had no effect.
    Denied(Denied),
    /// A flow's lease has run out.
    Expired(Ended),
    /// A flow was deleted.
    Deleted(Ended),
    /// Answers a heartbeat.
    HeartbeatAck(Heartbeat),
    /// Asks for the criteria again.
    Resync {
        /// The version that is installed, 0 for none.
        have_version: u64,
    },
    /// A piece of the service's fixed affinities.
    Affinities {
        /// The request that it answers.
        request: u64,
        /// Its number within the answer, from 0.
        piece: u32,
        /// The piece.
        list: Vec<InstalledAffinity>,
        /// Whether it is the last piece.
        last: bool,
    },
    /// A packet that answers one that the manager injected.
    Arrived {
        /// From the IP header on.
        packet: Bytes,
        /// The port that it came in on.
        port: u16,
    },
    /// What a criterion has counted.
    CriterionReport(CriterionReport),
}

/// Opens a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Protocol version.
    pub version: u32,
    /// The manager's name in the policy.
    pub manager: Arc<str>,
    /// Hash of its plan; 0 when it has none.
    pub plan_hash: u64,
    /// What it wants to decide for.
    pub claims: Vec<Claim>,
    /// Tells processes of one name apart: of two, the one with the higher number has the sessions.
    pub instance: u64,
}

/// A share of a service that a manager wants to decide for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The service.
    pub service: Arc<str>,
    /// The share of it.
    pub share: u32,
    /// The manager's epoch for it.
    pub epoch: u64,
    /// Whether it only stands by.
    pub standby: bool,
}

/// A share of a service and an epoch of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareEpoch {
    /// The service.
    pub service: Arc<str>,
    /// The share of it.
    pub share: u32,
    /// The epoch.
    pub epoch: u64,
}

/// Answers a `Hello`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// Protocol version.
    pub version: u32,
    /// The agent's name.
    pub agent: Arc<str>,
    /// Hash of its plan.
    pub plan_hash: u64,
    /// The shares that it knows, with the highest epoch seen of each.
    pub shares: Vec<ShareEpoch>,
}

/// A heartbeat, or its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// Counts up.
    pub sequence: u64,
    /// The criteria's version, 0 for none.
    pub criteria_version: u64,
}

/// Two independent event masks (see [`crate::flow::events`]).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InterestMask {
    /// The packet is sent and held.
    pub packet_events: u16,
    /// Only a notice is sent.
    pub notice_events: u16,
}

/// How often a criterion asks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Asking {
    /// Once a flow; its other packets are held with the first.
    #[default]
    OnceAFlow,
    /// Every packet is a question of its own.
    EveryPacket,
}

/// What happens to packets that a criterion matches outside its interest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StaticAction {
    /// On to the next stage.
    Pass,
    /// Dropped.
    Drop,
    /// To a next hop, addresses unchanged.
    Dispatch {
        /// The next hop's address.
        next_hop: IpAddr,
        /// How it gets there.
        tunnel: Tunnel,
    },
}

/// What affinities may need of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    /// New addresses and ports.
    Translate,
    /// New sequence and acknowledgement numbers.
    Adjust,
    /// A chosen next hop.
    Dispatch,
    /// IP in IP (RFC 2003).
    Ipip,
    /// Generic UDP encapsulation.
    Gue,
    /// A new DSCP.
    MarkDscp,
}

/// One wildcard affinity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Criterion {
    /// Unique within (service, part); below 2^31.
    pub id: u32,
    /// Direction.
    pub part: Part,
    /// The higher wins.
    pub priority: i32,
    /// What the manager wants of matching packets.
    pub interest: InterestMask,
    /// How often it asks.
    pub asking: Asking,
    /// What happens to packets outside the interest.
    pub action: StaticAction,
    /// What is counted and reported of matching packets.
    pub statistics: Statistics,
    /// The set of packets.
    pub cubes: Vec<Cube>,
    /// What affinities made under it will do.
    pub needs: Vec<Capability>,
}

/// All criteria of a manager for a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Criteria {
    /// Rises with every change; above 0.
    pub version: u64,
    /// The criteria.
    pub list: Vec<Criterion>,
}

/// What crossed the stages before a packet was diverted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CarriedState {
    /// The port it came in on.
    pub ingress_port: u16,
    /// Whether a reply entry has translated it.
    pub reply: bool,
    /// The next hop that a stage chose, 0 for none.
    pub next_hop: u16,
    /// The tunnel that a stage chose, 0 for none.
    pub tunnel: u16,
    /// The DSCP that a stage set.
    pub mark: Option<u8>,
    /// The notice bitmap.
    pub notices: u32,
    /// The last entry that matched.
    pub entry: u32,
}

/// A diverted packet, or with `request` 0 a notice.
#[derive(Debug, Clone, PartialEq)]
pub struct Interest {
    /// Names the question; 0 for a notice.
    pub request: u64,
    /// The service's place in the cascade.
    pub stage: u8,
    /// Direction.
    pub part: Part,
    /// The packet's flow, as this stage saw it.
    pub flow: Tuple,
    /// The packet's kind.
    pub kind: PacketKind,
    /// The packet's events.
    pub events: u16,
    /// From the Ethernet header on.
    pub packet: Bytes,
    /// What crossed the stages.
    pub state: CarriedState,
}

/// What happens to held packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Go on at the diverting stage, once the affinities are in.
    Resume,
    /// The manager has taken them over.
    Consume,
    /// Dropped.
    Drop,
    /// The service's floor.
    Fallback,
}

/// Answers an interest.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// The interest's number.
    pub request: u64,
    /// What happens to the packets.
    pub decision: Decision,
    /// What to install.
    pub affinities: Vec<FixedAffinity>,
}

/// How a dispatched packet is wrapped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tunnel {
    /// Not at all.
    #[default]
    None,
    /// IP in IP (RFC 2003).
    Ipip,
    /// Generic UDP encapsulation.
    Gue,
}

/// What an affinity does to a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// On to the next stage.
    Forward,
    /// Dropped.
    Drop,
    /// To a next hop, addresses unchanged.
    Dispatch {
        /// The next hop's address.
        next_hop: IpAddr,
        /// How it gets there.
        tunnel: Tunnel,
    },
    /// The whole new tuple.
    Translate(Tuple),
    /// Sequence and acknowledgement deltas, and a shift of the window. TCP only.
    Adjust(Adjust),
    /// Counted in a slot of its own.
    Count,
    /// Sets DSCP, 0 to 63.
    MarkDscp(u8),
}

/// How long a flow lives, in milliseconds; `None` means without that lease.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Leases {
    /// Until the other side has answered; a TCP flow's is not renewed by the asker's packets.
    pub half_open_ms: Option<u64>,
    /// Idle lease of an established flow.
    pub idle_ms: Option<u64>,
    /// Idle lease of a closed flow.
    pub closed_ms: Option<u64>,
    /// Ends the flow even if it is busy.
    pub hard_ms: Option<u64>,
}

/// What is reported of a flow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Totals are kept and reported at the end.
    pub count: bool,
    /// Period of reports in milliseconds.
    pub every_ms: Option<u64>,
    /// A report when the flow closes.
    pub on_close: bool,
    /// Reports tell TCP flags.
    pub flags: bool,
}

/// One direction of a flow, exactly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FixedAffinity {
    /// Direction.
    pub part: Part,
    /// The match.
    pub tuple: Tuple,
    /// The kind of packet that it matches.
    pub kind: PacketKind,
    /// What happens to matching packets.
    pub actions: Vec<Action>,
    /// The manager's number for the flow.
    pub flow: u64,
    /// The match of the other direction.
    pub partner: Option<Tuple>,
    /// What rebuilds the decision; at most [`COOKIE_MAX`] bytes.
    pub cookie: Bytes,
    /// How long it lives.
    pub leases: Leases,
    /// What the manager still wants to see of the flow.
    pub interest: InterestMask,
    /// Whether the agent watches FIN and RST itself.
    pub track_close: bool,
    /// What is reported.
    pub statistics: Statistics,
}

/// Which affinities to delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Both directions of the flow that this direction belongs to.
    Match {
        /// Direction of `tuple`.
        part: Part,
        /// One direction's match.
        tuple: Tuple,
        /// Its packet kind.
        kind: PacketKind,
    },
    /// By the manager's number.
    Flow(u64),
    /// Every one of the service.
    All,
}

/// A packet of the manager's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inject {
    /// Names it in a denial.
    pub request: u64,
    /// From the IP header on.
    pub packet: Bytes,
    /// Where it goes in.
    pub place: Place,
}

/// Where an injected packet goes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Straight out of a port, to the neighbour that the routes name.
    Port(u16),
    /// By the agent's routes, without passing a stage.
    Route,
    /// Into the pipeline at a stage.
    Stage {
        /// The stage.
        stage: u8,
        /// Its part.
        part: Part,
        /// What crossed the stages before; at least the port that it pretends to have come in on.
        state: CarriedState,
        /// Whether that stage must not divert it.
        answered: bool,
    },
}

/// Why a report was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportCause {
    /// Its period has come.
    Period,
    /// Both FINs or a RST were seen.
    Closed,
    /// It was idle for longer than its lease.
    Expired,
    /// Somebody deleted it.
    Deleted,
    /// Its hard lease is over.
    HardLease,
}

/// Running totals of one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Packets.
    pub packets: u64,
    /// Layer-2 bytes.
    pub bytes: u64,
}

/// One direction of a flow in a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirectionReport {
    /// Its match.
    pub tuple: Tuple,
    /// What it is translated to.
    pub translated: Option<Tuple>,
    /// Running totals.
    pub totals: Totals,
    /// TCP flags of diverted packets and notices, if asked for.
    pub tcp_flags: u8,
}

/// Running totals of a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The manager's number for the flow.
    pub flow: u64,
    /// Its way out, if that direction is installed.
    pub forward: Option<DirectionReport>,
    /// Its way back.
    pub reply: Option<DirectionReport>,
    /// Its cookie.
    pub cookie: Bytes,
    /// Counts up within the flow, from 1.
    pub sequence: u64,
    /// Why now.
    pub cause: ReportCause,
    /// Whether the entries are gone.
    pub last: bool,
    /// Since it was installed, in milliseconds.
    pub age_ms: u64,
    /// Since it was last seen busy, in milliseconds.
    pub idle_ms: u64,
}

/// What a criterion has counted, with the affinities made under it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CriterionReport {
    /// The manager's number for it.
    pub id: u32,
    /// Its direction.
    pub part: Part,
    /// Counts up, from 1.
    pub sequence: u64,
    /// Whether it is gone.
    pub last: bool,
    /// Running totals.
    pub totals: Totals,
    /// Since it was installed, in milliseconds.
    pub age_ms: u64,
}

/// A flow is gone from the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The manager's number for the flow.
    pub flow: u64,
    /// Its forward match.
    pub forward: Option<Tuple>,
    /// Its reply match.
    pub reply: Option<Tuple>,
    /// Its cookie.
    pub cookie: Bytes,
    /// The deletion that this answers, 0 if none.
    pub request: u64,
}

/// Why something was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The plan does not let the service install this.
    NotCovered,
    /// The target cannot do that action.
    Unsupported,
    /// A table has no room.
    TableFull,
    /// This manager does not serve that service.
    NotServing,
    /// A newer epoch has been seen.
    OldEpoch,
    /// The message makes no sense.
    Malformed,
    /// The switch refused the entry.
    TargetRefused,
    /// The switch is away.
    NoSwitch,
    /// Another protocol version.
    WrongVersion,
    /// Another plan.
    WrongPlan,
    /// The policy has no such manager.
    UnknownManager,
    /// Another flow that is alive has one of the tuples.
    Conflict,
    /// A limit on set-up rate or half-open flows.
    Limited,
    /// A manager of that name which was started later is there.
    Superseded,
}

/// What was refused, by the number that its sender gave it; each kind has its own numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// A verdict or what it installs, by its interest's number.
    Verdict(u64),
    /// An unasked installation.
    Install(u64),
    /// A deletion.
    Delete(u64),
    /// A packet of the manager's own.
    Inject(u64),
    /// A question for all affinities.
    List(u64),
    /// Criteria, by their version.
    Criteria(u64),
    /// A heartbeat, by its sequence number.
    Heartbeat(u64),
    /// A goodbye.
    Goodbye,
}

/// A request had no effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// What was refused.
    pub subject: Subject,
    /// Why.
    pub reason: Reason,
    /// The same for people.
    pub text: String,
}

/// A fixed affinity as the agent holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstalledAffinity {
    /// What was installed.
    pub affinity: FixedAffinity,
    /// The share of the service under which it was.
    pub share: u32,
    /// Since when, in milliseconds.
    pub age_ms: u64,
    /// What it has counted, as last read.
    pub totals: Totals,
    /// Whether the other side has answered.
    pub established: bool,
    /// Whether it has closed.
    pub closed: bool,
}
