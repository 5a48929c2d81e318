//! Mistakes that agents, managers or what lies between them could make, put on the ways between the real
//! machines: a simulator that finds none of them would prove nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use signalbox_agent::flow::{Part, events};
use signalbox_agent::message::{
    Action, AgentBody, Ended, FixedAffinity, ManagerBody, ToAgent, ToManager, Verdict, Which,
};

use crate::division::Division;
use crate::link::Sent;
use crate::random::Random;
use crate::site::{BALANCE, NAT, Role};
use crate::watch::Watch;

/// One mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// A dead manager's criteria stay for ever, as if its heartbeats went on.
    LeaseIgnored,
    /// Whatever a manager says is taken to be under the newest epoch.
    EpochsIgnored,
    /// A manager hears that a flow has ended, and the agent holds it yet.
    ExpiredInvented,
    /// What an agent lists has gaps.
    ListWithGaps,
    /// A verdict reaches another agent than the one that asked.
    VerdictElsewhere,
    /// A version of criteria that an agent has had comes again with others, namely none.
    VersionUsedAgain,
    /// A manager that has said goodbye once is taken to have said it for ever.
    GoodbyeForEver,
    /// Neither end of a broken way is told.
    SessionNotClosed,
    /// A verdict comes twice, with another server the second time.
    AnotherServer,
    /// A packet in mid-flow is taken for a first one.
    MidFlowDecided,
    /// The backup is asked, too.
    BackupAskedToo,
    /// Flows have no lease.
    LeasesEndless,
    /// A packet goes on before its affinities are in.
    ResumedUntranslated,
    /// A flow gets the neighbour of the outside port that was chosen for it.
    AnotherPort,
    /// The store says of others' blocks that they are whose asks.
    BlocksOfOthers,
    /// A decision counts as acknowledged by the backup before it is, so that its verdict does not wait.
    AckInvented,
    /// A question is another share's manager's, as if it were of its share.
    AnotherShareAsked,
    /// A manager of a part of a service gives out outside addresses of the other part.
    OutsideOfOthers,
    /// With another plan, the flows that an agent lists count as ended at once.
    MovedFreed,
    /// With another plan, a manager first ends what agents hold.
    MovedEnded,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 20] = [
        Self::LeaseIgnored,
        Self::EpochsIgnored,
        Self::ExpiredInvented,
        Self::ListWithGaps,
        Self::VerdictElsewhere,
        Self::VersionUsedAgain,
        Self::GoodbyeForEver,
        Self::SessionNotClosed,
        Self::AnotherServer,
        Self::MidFlowDecided,
        Self::BackupAskedToo,
        Self::LeasesEndless,
        Self::ResumedUntranslated,
        Self::AnotherPort,
        Self::BlocksOfOthers,
        Self::AckInvented,
        Self::AnotherShareAsked,
        Self::OutsideOfOthers,
        Self::MovedFreed,
        Self::MovedEnded,
    ];
}

/// A dead manager's heartbeats come this often.
const HAUNTS: Duration = Duration::from_millis(300);
/// The second verdict comes so much later.
const LATER: Duration = Duration::from_millis(200);

/// A mistake at work.
#[derive(Debug)]
pub struct Mischief {
    /// Which one.
    pub bug: Bug,
    random: Random,
    beats: BTreeMap<(usize, usize), ToAgent>,
    ghosts: Vec<(usize, u64, ToAgent)>,
    haunts: Duration,
    later: Vec<(Duration, usize, usize, Sent)>,
    /// Managers, or agents and managers, that it has happened to.
    marked: BTreeSet<(usize, usize)>,
    given: Vec<(usize, Ended)>,
    /// Services have been divided otherwise.
    pub divided: bool,
}

impl Mischief {
    /// It has not done anything yet.
    #[must_use]
    pub fn new(bug: Bug, seed: u64) -> Self {
        Self {
            bug,
            random: Random::new(seed ^ 0x5eed),
            beats: BTreeMap::new(),
            ghosts: Vec::new(),
            haunts: Duration::ZERO,
            later: Vec::new(),
            marked: BTreeSet::new(),
            given: Vec::new(),
            divided: false,
        }
    }

    /// Whether what a manager tells the other one is lost as well.
    pub fn loses(&mut self) -> bool {
        self.random.happens(30)
    }

    /// A session of a process that is dead goes on.
    pub fn haunts(&mut self, a: usize, m: usize, session: u64) {
        if let Some(beat) = self.beats.get(&(a, m)) {
            self.ghosts.push((a, session, beat.clone()));
        }
    }

    /// When it does something by itself.
    #[must_use]
    pub fn next(&self, now: Duration) -> Option<Duration> {
        let ghost = (!self.ghosts.is_empty()).then_some(self.haunts.max(now));
        let later = self.later.iter().map(|(at, ..)| *at);
        later.chain(ghost).min()
    }

    /// What it does by itself now: to agents' sessions, and on the way from managers.
    #[expect(
        clippy::type_complexity,
        reason = "two lists that are carried out at once"
    )]
    pub fn due(
        &mut self,
        now: Duration,
    ) -> (Vec<(usize, u64, ToAgent)>, Vec<(usize, usize, Sent)>) {
        let mut ghosts = Vec::new();
        if now >= self.haunts {
            self.haunts = now + HAUNTS;
            ghosts.clone_from(&self.ghosts);
        }
        let due = self.later.extract_if(.., |(at, ..)| *at <= now);
        (ghosts, due.map(|(_, a, m, sent)| (a, m, sent)).collect())
    }

    /// What becomes of a manager's word.
    pub fn down(
        &mut self,
        now: Duration,
        a: usize,
        m: usize,
        agents: usize,
        watch: &Watch,
        mut sent: Sent,
    ) -> Vec<(usize, Sent)> {
        let (service, share) = (sent.message.service.to_string(), sent.message.share);
        let epoch = &mut sent.message.epoch;
        match (self.bug, &mut sent.message.body) {
            (Bug::LeaseIgnored, ManagerBody::Heartbeat(_)) => {
                self.beats.insert((a, m), sent.message.clone());
            }
            (Bug::EpochsIgnored, body) if !matches!(body, ManagerBody::Hello(_)) => {
                *epoch = (*epoch).max(watch.epoch(a, &service, share));
            }
            (Bug::ExpiredInvented, ManagerBody::Verdict(verdict)) if service == NAT => {
                let forward = verdict.affinities.iter().find(|f| f.part == Part::Forward);
                self.given.extend(forward.map(|f| (a, ended(f))));
            }
            (Bug::VerdictElsewhere, ManagerBody::Verdict(_)) => {
                return vec![((a + 1) % agents, sent)];
            }
            (Bug::VersionUsedAgain, ManagerBody::Criteria(criteria))
                if !self.marked.insert((a, m)) =>
            {
                criteria.list.clear();
            }
            (Bug::GoodbyeForEver, ManagerBody::Goodbye) => {
                self.marked.insert((0, m));
            }
            (Bug::GoodbyeForEver, ManagerBody::Heartbeat(_)) if self.marked.contains(&(0, m)) => {
                let mut goodbye = sent.clone();
                goodbye.message.body = ManagerBody::Goodbye;
                return vec![(a, sent), (a, goodbye)];
            }
            (Bug::AnotherServer, ManagerBody::Verdict(verdict)) if service == BALANCE => {
                if let Some(affinities) = elsewhere(verdict) {
                    let mut again = sent.clone();
                    again.message.body = ManagerBody::Install {
                        request: 1 << 40,
                        affinities,
                    };
                    self.later.push((now + LATER, a, m, again));
                }
            }
            (Bug::LeasesEndless, ManagerBody::Verdict(verdict)) => {
                for affinity in &mut verdict.affinities {
                    let leases = &mut affinity.leases;
                    (leases.half_open_ms, leases.closed_ms) = (None, Some(3_600_000));
                    leases.idle_ms = Some(3_600_000);
                }
            }
            (Bug::ResumedUntranslated, ManagerBody::Verdict(verdict))
                if service == NAT && self.random.happens(20) =>
            {
                verdict.affinities.clear();
            }
            (Bug::AnotherPort, ManagerBody::Verdict(verdict))
                if service == NAT && self.random.happens(30) =>
            {
                another(&mut verdict.affinities, |end| end.1 += 1);
            }
            (Bug::OutsideOfOthers, ManagerBody::Verdict(verdict)) if service == NAT => {
                let (first, last) = Division::Whole(0).outside(0);
                let other = |address| if address == first { last } else { first };
                another(&mut verdict.affinities, |end| end.0 = other(end.0));
            }
            (Bug::MovedEnded, ManagerBody::ListAffinities { .. }) if self.divided => {
                let mut ends = sent.clone();
                ends.message.body = ManagerBody::Delete {
                    request: 1 << 41,
                    which: Which::All,
                };
                return vec![(a, sent), (a, ends)];
            }
            _ => {}
        }
        vec![(a, sent)]
    }

    /// What becomes of an agent's word to a manager, and whom it reaches.
    pub fn up(
        &mut self,
        roles: &[Role],
        a: usize,
        m: usize,
        mut message: ToManager,
    ) -> Vec<(usize, ToManager)> {
        let service = message.service.to_string();
        match (self.bug, &mut message.body) {
            (Bug::ExpiredInvented, AgentBody::HeartbeatAck(_)) if service == NAT => {
                let at = self.given.iter().position(|(of, _)| *of == a);
                let over = at.map(|at| self.given.swap_remove(at).1);
                let told = over.map(|over| ToManager {
                    body: AgentBody::Expired(over),
                    ..message.clone()
                });
                return [message].into_iter().chain(told).map(|t| (m, t)).collect();
            }
            (Bug::ListWithGaps, AgentBody::Affinities { list, .. }) => {
                list.retain(|_| self.random.happens(50));
            }
            (Bug::MidFlowDecided, AgentBody::Interest(interest)) => {
                interest.events |= events::SYN;
                interest.events &= !events::ACK;
            }
            (Bug::BackupAskedToo, AgentBody::Interest(_)) => {
                let backups = (roles.iter().enumerate())
                    .filter(|(at, r)| *at != m && r.backup && r.service == service)
                    .filter(|(_, r)| r.who == roles[m].who)
                    .map(|(at, _)| (at, message.clone()));
                return [(m, message.clone())].into_iter().chain(backups).collect();
            }
            (Bug::AnotherShareAsked, AgentBody::Interest(_)) => {
                let is_other = |r: &Role| r.service == service && r.who != roles[m].who;
                if let Some(other) = roles.iter().position(is_other) {
                    message.share ^= 1;
                    return vec![(other, message)];
                }
            }
            (Bug::MovedFreed, AgentBody::Affinities { list, .. }) if self.divided => {
                let flows = list.iter().map(|i| &i.affinity);
                let ends: Vec<AgentBody> = (flows.filter(|f| f.part == Part::Forward))
                    .map(|f| AgentBody::Expired(ended(f)))
                    .collect();
                let told = |body| ToManager {
                    body,
                    ..message.clone()
                };
                let ends: Vec<ToManager> = ends.into_iter().map(told).collect();
                let all = [message].into_iter().chain(ends);
                return all.map(|told| (m, told)).collect();
            }
            _ => {}
        }
        vec![(m, message)]
    }
}

fn ended(f: &FixedAffinity) -> Ended {
    Ended {
        flow: f.flow,
        forward: Some(f.tuple),
        reply: f.partner,
        cookie: f.cookie.clone(),
        request: 0,
    }
}

/// The same decision for the next server.
fn elsewhere(verdict: &Verdict) -> Option<Vec<FixedAffinity>> {
    let servers = [[10, 0, 1, 10], [10, 0, 2, 10], [10, 0, 2, 11]].map(IpAddr::from);
    let mut list = verdict.affinities.clone();
    let forward = list.iter().find(|f| f.part == Part::Forward)?;
    let [Action::Translate(to)] = forward.actions.as_slice() else {
        return None;
    };
    let at = servers.iter().position(|s| *s == to.dst)?;
    let to = signalbox_agent::flow::Tuple {
        dst: servers[(at + 1) % servers.len()],
        ..*to
    };
    for affinity in &mut list {
        affinity.flow += 1 << 30;
        match affinity.part {
            Part::Forward => {
                affinity.actions = vec![Action::Translate(to)];
                affinity.partner = Some(to.reversed());
            }
            Part::Reply => affinity.tuple = to.reversed(),
        }
    }
    Some(list)
}

/// The same decision with another outside end.
fn another(list: &mut [FixedAffinity], change: impl Fn(&mut (IpAddr, u16))) {
    for affinity in list {
        match (affinity.part, affinity.actions.as_mut_slice()) {
            (Part::Forward, [Action::Translate(to)]) => {
                let mut end = (to.src, to.sport);
                change(&mut end);
                (to.src, to.sport) = end;
                affinity.partner = Some(to.reversed());
            }
            _ => {
                let to = &mut affinity.tuple;
                let mut end = (to.dst, to.dport);
                change(&mut end);
                (to.dst, to.dport) = end;
            }
        }
    }
}
