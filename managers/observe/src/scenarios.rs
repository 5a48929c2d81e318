//! The observe manager with an agent on a stand-in switch: what is counted, and what reports say of it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use signalbox_agent::Input as ToTheAgent;
use signalbox_agent::flow::{PacketKind, Part, Tuple, events};
use signalbox_agent::message::{
    AgentBody, CriterionReport, FixedAffinity, ManagerBody, Report, ReportCause, ToAgent,
    ToManager, Totals, Which,
};
use signalbox_agent::testing::{World, flags, plan, tcp};
use signalbox_lower::plan::{
    Criterion, CriterionAction, Cube, Fallback, Kind, Masked, ObservePlan, Plan, SharePlan,
};
use signalbox_manager::{Counts, Input, Manager, Output, Record, Reported};

use crate::Observe;

const STEP: Duration = Duration::from_millis(5);
const MANAGER: u64 = 7;

/// All TCP is observed, each flow by itself, reported when it ends; idle after a minute.
pub(crate) fn observed() -> Plan {
    let mut plan = plan();
    let service = &mut plan.services[0];
    service.name = "meter".into();
    service.kind = Kind::Observe;
    service.shares = vec![SharePlan::whole("meters")];
    service.reply = None;
    service.addresses.clear();
    service.balance = None;
    service.fallback = Fallback::Route;
    service.observe = Some(ObservePlan {
        per_flow: true,
        flags: false,
        every_ms: None,
        on_close: true,
    });
    service.limits.idle_ms = 60_000;
    service.limits.closed_ms = 5_000;
    service.forward.criteria = vec![Criterion {
        id: 1,
        label: "match".into(),
        priority: 1000,
        action: CriterionAction::Ask {
            packet_events: events::ALL,
            notice_events: 0,
        },
        cubes: vec![Cube {
            proto: Some(Masked {
                value: 6,
                mask: 0xff,
            }),
            kind: Some(Masked { value: 0, mask: 3 }),
            ..Cube::default()
        }],
    }];
    plan.managers[0].name = "meters".into();
    plan.managers[0].serves = vec!["meter".into()];
    plan
}

/// The same with reports every ten seconds.
fn periodic() -> Plan {
    let mut plan = observed();
    plan.services[0].observe.as_mut().unwrap().every_ms = Some(10_000);
    plan
}

fn manager(plan: &Plan, epoch: u64) -> Manager {
    let observe = Observe::new(&plan.services[0]).unwrap();
    let services = vec![("meter".to_owned(), 0, epoch, Box::new(observe) as _)];
    Manager::new("meters", plan, services)
}

/// A client's flow to a server; `reversed` is the way back, a flow of its own.
fn client(port: u16) -> Tuple {
    Tuple {
        src: IpAddr::from([203, 0, 113, 9]),
        dst: IpAddr::from([10, 0, 1, 10]),
        proto: 6,
        sport: port,
        dport: 8080,
    }
}

/// An agent, the manager, and what has passed.
struct Site {
    world: World,
    manager: Manager,
    records: Vec<(Duration, Record)>,
    installed: Vec<FixedAffinity>,
    /// What a capture in front of the switch holds, by flow.
    capture: BTreeMap<Tuple, Totals>,
}

impl Site {
    fn new(plan: &Plan) -> Self {
        let mut site = Self {
            world: World::new(plan.clone()),
            manager: manager(plan, 1),
            records: Vec::new(),
            installed: Vec::new(),
            capture: BTreeMap::new(),
        };
        site.connect();
        site
    }

    fn connect(&mut self) {
        self.world.feed(ToTheAgent::SessionOpened(MANAGER));
        let out = self.manager.handle(self.world.now, Input::Connected(0));
        self.carry(out);
        self.settle();
    }

    /// The manager dies; another one takes over.
    fn replace_manager(&mut self, plan: &Plan) {
        self.world.feed(ToTheAgent::SessionClosed(MANAGER));
        self.world.said.clear();
        self.manager = manager(plan, 2);
        self.connect();
    }

    fn carry(&mut self, out: Vec<Output>) {
        for output in out {
            match output {
                Output::Message(_, message) => {
                    if let ManagerBody::Verdict(verdict) = &message.body {
                        self.installed.extend(verdict.affinities.iter().cloned());
                    }
                    self.world.feed(ToTheAgent::Message(MANAGER, message));
                }
                Output::Record(record) => self.records.push((self.world.now, record)),
                Output::Opened { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn settle(&mut self) {
        loop {
            let said = std::mem::take(&mut self.world.said);
            if said.is_empty() {
                return;
            }
            for (_, message) in said {
                let input = Input::Message(0, message);
                let out = self.manager.handle(self.world.now, input);
                self.carry(out);
            }
        }
    }

    fn say(&mut self, body: ManagerBody) {
        let message = ToAgent {
            service: "meter".into(),
            share: 0,
            epoch: 1,
            body,
        };
        self.world.feed(ToTheAgent::Message(MANAGER, message));
        self.settle();
    }

    fn advance(&mut self, by: Duration) {
        let end = self.world.now + by;
        while self.world.now < end {
            self.world.advance(STEP);
            let now = self.world.now;
            if self.manager.next_deadline().is_some_and(|d| d <= now) {
                let out = self.manager.handle(now, Input::Tick);
                self.carry(out);
            }
            self.settle();
        }
    }

    fn send(&mut self, flow: &Tuple, flags: u8, payload: &[u8]) {
        let port = if flow.src == IpAddr::from([203, 0, 113, 9]) {
            1
        } else {
            2
        };
        let frame = tcp(port, flow, flags, payload);
        let seen = self.capture.entry(*flow).or_default();
        seen.packets += 1;
        seen.bytes += frame.len() as u64;
        self.world.receive(port, &frame);
        self.settle();
    }

    /// Packets of several sizes in both directions.
    fn talk(&mut self, flow: &Tuple) {
        self.send(flow, flags::SYN, b"");
        self.send(&flow.reversed(), flags::SYN | flags::ACK, b"");
        for n in 0..7 {
            self.send(flow, flags::ACK, &vec![0; 100 * n]);
            self.send(&flow.reversed(), flags::ACK, &vec![0; 13 * n]);
        }
        self.send(flow, flags::ACK, b"");
    }

    fn reports(&self) -> Vec<&Report> {
        (self.records.iter())
            .filter_map(|(_, r)| match &r.of {
                Reported::Flow { report, .. } => Some(&**report),
                Reported::Criterion(_) => None,
            })
            .collect()
    }

    /// The last report of each flow, with its cause.
    fn finals(&self) -> Vec<(Tuple, Totals, ReportCause)> {
        (self.reports().iter())
            .filter(|r| r.last)
            .map(|r| {
                let forward = r.forward.unwrap();
                assert!(r.reply.is_none(), "a direction is a flow of its own");
                (forward.tuple, forward.totals, r.cause)
            })
            .collect()
    }

    /// Every flow of the capture was reported for the last time once, as the capture has it.
    #[track_caller]
    fn finals_equal_the_capture(&self, cause: ReportCause) {
        let mut finals = self.finals();
        finals.sort_by_key(|(tuple, ..)| *tuple);
        let wanted: Vec<_> = (self.capture.iter())
            .map(|(tuple, totals)| (*tuple, *totals, cause))
            .collect();
        assert_eq!(finals, wanted);
    }

    fn counts(&self) -> Counts {
        self.manager.status().services[0].counts
    }
}

#[test]
fn a1_1_packets_that_the_policy_does_not_match_are_not_counted() {
    let mut plan = observed();
    let cube = &mut plan.services[0].forward.criteria[0].cubes[0];
    cube.dport = Some(Masked {
        value: 8080,
        mask: 0xffff,
    });
    let mut site = Site::new(&plan);
    let flow = client(2000);
    site.talk(&flow);
    assert_eq!(site.counts().decided, 1);
    site.say(ManagerBody::Delete {
        request: 1,
        which: Which::All,
    });
    site.advance(Duration::from_secs(1));
    let finals = site.finals();
    assert_eq!(finals.len(), 1, "the way back is not the policy's");
    assert_eq!(finals[0].0, flow);
    assert_eq!(site.world.switch.cells.len(), 1);
}

#[test]
fn a1_2_a1_4_counts_of_deleted_flows_equal_a_captures_to_the_packet_and_the_byte() {
    let mut site = Site::new(&observed());
    for port in 2000..2010 {
        site.talk(&client(port));
    }
    assert!(site.reports().is_empty());
    site.say(ManagerBody::Delete {
        request: 1,
        which: Which::All,
    });
    site.advance(Duration::from_secs(1));
    site.finals_equal_the_capture(ReportCause::Deleted);
    assert_eq!(site.finals().len(), 20);
}

#[test]
fn a1_2_a1_5_counts_of_expired_flows_equal_a_captures() {
    let mut site = Site::new(&observed());
    site.talk(&client(2000));
    site.talk(&client(2001));
    site.advance(Duration::from_secs(29));
    assert!(site.reports().is_empty());
    site.advance(Duration::from_secs(70));
    site.finals_equal_the_capture(ReportCause::Expired);
    assert!(site.world.switch.fixed.is_empty());
    assert_eq!(site.world.agent.counters().half_open.now, 0);
}

#[test]
fn a1_6_a_fin_or_a_rst_is_reported_at_once_and_the_rest_when_the_lease_has_run_out() {
    for closing in [flags::FIN | flags::ACK, flags::RST] {
        let mut site = Site::new(&observed());
        let flow = client(2000);
        site.talk(&flow);
        site.send(&flow, closing, b"bye");
        site.advance(Duration::from_millis(10));
        let reports = site.reports();
        assert_eq!(reports.len(), 1, "only this direction has closed");
        assert_eq!(
            (reports[0].cause, reports[0].last),
            (ReportCause::Closed, false)
        );
        assert_eq!(reports[0].forward.unwrap().totals, site.capture[&flow]);
        // What still comes is counted too.
        site.send(&flow, flags::ACK, b"late");
        site.advance(Duration::from_secs(9));
        let finals = site.finals();
        assert_eq!(finals, [(flow, site.capture[&flow], ReportCause::Expired)]);
        let (_, last) = site.records.last().unwrap();
        let Reported::Flow { closed, .. } = &last.of else {
            panic!("a flow's record");
        };
        assert!(closed, "an end of flow, not an idle one");
    }
}

#[test]
fn a1_6_a_new_connection_on_a_closed_tuple_is_a_flow_with_totals_of_its_own() {
    let mut site = Site::new(&observed());
    let flow = client(2000);
    for _ in 0..3 {
        site.send(&flow, flags::SYN, b"");
        site.send(&flow, flags::ACK, b"hello");
        site.send(&flow, flags::FIN | flags::ACK, b"");
    }
    site.advance(Duration::from_secs(20));
    let finals = site.finals();
    let three: Vec<u64> = finals.iter().map(|(_, t, _)| t.packets).collect();
    assert_eq!(three, [3, 3, 3]);
    let mut numbers: Vec<u64> = (site.reports().iter()).map(|r| r.flow).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 3);
}

#[test]
fn a1_7_installing_a_flow_again_loses_and_doubles_nothing() {
    let plan = observed();
    let mut site = Site::new(&plan);
    let flow = client(2000);
    site.talk(&flow);
    let again = site.installed.clone();
    assert_eq!(again.len(), 2);
    for request in 1..4 {
        let affinities = again.clone();
        site.say(ManagerBody::Install {
            request,
            affinities,
        });
        site.send(&flow, flags::ACK, b"more");
    }
    // Another manager takes over, and learns of the flow from the agent.
    site.replace_manager(&plan);
    site.send(&flow, flags::ACK, b"and more");
    site.advance(Duration::from_secs(100));
    site.finals_equal_the_capture(ReportCause::Expired);
    assert_eq!(site.counts().decided, 0);
}

#[test]
fn a1_8_a_lost_report_costs_nothing_for_the_next_one_has_the_totals() {
    let mut site = Site::new(&periodic());
    let flow = client(2000);
    for _ in 0..40 {
        site.send(&flow, flags::ACK, &[0; 500]);
        site.advance(Duration::from_secs(1));
    }
    let reports = site.reports();
    assert!(reports.len() >= 3);
    for (report, sequence) in reports.iter().zip(1..) {
        assert_eq!(report.sequence, sequence);
    }
    let packets: Vec<u64> = (reports.iter())
        .map(|r| r.forward.unwrap().totals.packets)
        .collect();
    assert!(packets.is_sorted(), "{packets:?}");
    site.advance(Duration::from_secs(100));
    // Whatever was lost before it, the last one says it all.
    site.finals_equal_the_capture(ReportCause::Expired);
}

#[test]
fn a1_9_reports_of_a_flow_keep_their_period_within_a_tenth() {
    let mut site = Site::new(&periodic());
    let flow = client(2000);
    site.send(&flow, flags::ACK, b"");
    for _ in 0..100 {
        site.advance(Duration::from_secs(1));
        site.send(&flow, flags::ACK, b"");
    }
    let at: Vec<Duration> = site.records.iter().map(|(at, _)| *at).collect();
    assert!((9..=11).contains(&at.len()), "{at:?}");
    for pair in at.windows(2) {
        let period = (pair[1] - pair[0]).as_millis();
        assert!((9_000..=11_000).contains(&period), "{at:?}");
    }
}

#[test]
fn a1_10_the_same_packets_leave_with_and_without_counting() {
    let left = |plan: &Plan| -> Vec<(u16, Bytes)> {
        let mut site = Site::new(plan);
        site.talk(&client(2000));
        site.talk(&client(2001));
        site.send(&client(2000), flags::FIN | flags::ACK, b"");
        site.advance(Duration::from_secs(1));
        site.send(&client(2000), flags::SYN, b"");
        site.world.left
    };
    let with = left(&periodic());
    let mut plan = observed();
    plan.services[0].forward.criteria.clear();
    assert_eq!(with, left(&plan));
    assert_eq!(with.len(), 36);
}

#[test]
fn a_flow_that_began_before_the_service_is_counted_like_any_other() {
    let mut site = Site::new(&observed());
    let flow = client(2000);
    for flags in [flags::ACK, flags::SYN | flags::ACK, flags::FIN] {
        site.send(&flow, flags, b"data");
    }
    let counts = site.counts();
    assert_eq!((counts.decided, counts.mid_flow_unknown), (1, 0));
    assert_eq!(site.reports()[0].forward.unwrap().totals.packets, 3);
}

#[test]
fn a_flow_that_goes_on_after_its_lease_is_another_one() {
    let mut site = Site::new(&observed());
    let flow = client(2000);
    for _ in 0..2 {
        site.send(&flow, flags::ACK, b"");
        site.advance(Duration::from_secs(100));
    }
    let numbers: Vec<u64> = site.reports().iter().map(|r| r.flow).collect();
    assert_eq!(numbers.len(), 2);
    assert_ne!(numbers[0], numbers[1]);
    let finals = site.finals();
    assert!(finals.iter().all(|(_, totals, _)| totals.packets == 1));
}

#[test]
fn a_flow_is_asked_about_once_however_many_packets_it_has() {
    let mut site = Site::new(&observed());
    site.talk(&client(2000));
    assert_eq!(site.counts().interest_packets, 2, "one a direction");
    for affinity in &site.installed {
        assert_eq!(affinity.part, Part::Forward);
        assert_eq!(affinity.kind, PacketKind::Whole);
        assert_eq!(affinity.partner, None);
        assert_eq!(affinity.leases.half_open_ms, None);
        assert!(affinity.track_close);
    }
}

// A1.11
#[test]
fn what_a_criterion_has_counted_is_recorded_with_who_counted_it() {
    let mut site = Site::new(&observed());
    let report = CriterionReport {
        id: 1,
        part: Part::Forward,
        sequence: 4,
        last: false,
        totals: Totals {
            packets: 10,
            bytes: 1000,
        },
        age_ms: 40_000,
    };
    let message = ToManager {
        service: "meter".into(),
        share: 0,
        epoch: 1,
        body: AgentBody::CriterionReport(report.clone()),
    };
    let now = site.world.now;
    let out = site.manager.handle(now, Input::Message(0, message));
    site.carry(out);
    let (_, record) = site.records.last().unwrap();
    assert_eq!((&*record.agent, &*record.service), ("agent-1", "meter"));
    assert_eq!(
        (record.stage, &record.of),
        (1, &Reported::Criterion(report))
    );
}
