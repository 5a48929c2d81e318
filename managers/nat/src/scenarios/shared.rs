//! A manager and its backup that share a store: blocks of outside ports, with the store there, away, wiped and
//! back.

use std::collections::BTreeSet;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use signalbox_agent::testing::with_backup;
use signalbox_manager::state::{self, MemoryStore, Round, StateError, StateStore};
use signalbox_manager::{BlockStatus, StoreStatus};

use super::*;

const HOLD_BACK: Duration = Duration::from_secs(20);
const STEP: Duration = Duration::from_millis(100);

/// One outside address with the ports 5000 to 5031: sixteen blocks of two, of which the last two are the backup's.
fn backed() -> Plan {
    let mut plan = site(Inbound::Answers);
    let nat = plan.services[0].nat.as_mut().unwrap();
    nat.source = ports("203.0.113.100", "203.0.113.100", 5000, 5031);
    nat.hold_back_ms = u64::try_from(HOLD_BACK.as_millis()).unwrap();
    nat.leases.udp_ms = 2_000;
    with_backup(plan, "nat-2", 1_000, None)
}

const OF_BACKUP: std::ops::RangeInclusive<u16> = 5028..=5031;

/// What a store in memory answers; one that is away answers nothing.
fn answer(store: Option<&MemoryStore>, round: &Round) -> Result<state::Found, StateError> {
    let Some(store) = store else {
        return Err(StateError::Unreachable {
            at: "127.0.0.1:2379".into(),
            why: "nobody listens".into(),
        });
    };
    let future = pin!(state::carry_out(store, round));
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("memory answers at once"),
    }
}

struct Process {
    manager: Manager,
    store: MemoryStore,
}

/// An agent, its managers by session, and their store.
struct Shared {
    plan: Plan,
    agent: World,
    managers: BTreeMap<u64, Process>,
    store: MemoryStore,
    away: bool,
    next: u64,
    /// What managers have said when they ended.
    ended: Vec<String>,
    logged: Vec<String>,
    sport: u16,
}

impl Shared {
    fn new() -> Self {
        let mut shared = Self {
            plan: backed(),
            agent: World::new(backed()),
            managers: BTreeMap::new(),
            store: MemoryStore::default(),
            away: false,
            next: 0,
            ended: Vec::new(),
            logged: Vec::new(),
            sport: 20_000,
        };
        shared.start("nat-1");
        shared.start("nat-2");
        shared.advance(SECOND);
        shared
    }

    /// A process starts; later ones are later.
    fn start(&mut self, name: &str) -> u64 {
        self.next += 1;
        let instance = self.next << 32;
        self.start_as(name, instance)
    }

    fn start_as(&mut self, name: &str, instance: u64) -> u64 {
        self.next += 1;
        let session = self.next;
        let nat = Nat::new(&self.plan.services[0]).unwrap().seeded(session);
        let served = vec![("egress".into(), 0, 0, Box::new(nat) as _)];
        let manager = Manager::new(name, &self.plan, served)
            .with_instance(instance)
            .with_store("memory");
        let store = self.store.another();
        self.managers.insert(session, Process { manager, store });
        self.agent.feed(ToTheAgent::SessionOpened(session));
        self.tell(session, Input::Connected(session));
        self.settle();
        session
    }

    /// A process goes on with the same policy, applied anew.
    fn apply(&mut self, name: &str) {
        let session = self.session(name);
        let nat = Nat::new(&self.plan.services[0]).unwrap();
        let served = vec![("egress".into(), 0, 0, Box::new(nat) as _)];
        let (now, plan) = (self.agent.now, self.plan.clone());
        let process = self.managers.get_mut(&session).unwrap();
        process.manager.replan(now, &plan, served);
        self.agent.feed(ToTheAgent::SessionClosed(session));
        self.agent.said.retain(|(to, _)| *to != session);
        self.agent.feed(ToTheAgent::SessionOpened(session));
        self.tell(session, Input::Connected(session));
        self.settle();
    }

    /// A process dies without a word.
    fn kill(&mut self, name: &str) {
        let session = self.session(name);
        self.managers.remove(&session);
        self.agent.feed(ToTheAgent::SessionClosed(session));
        self.agent.said.retain(|(to, _)| *to != session);
    }

    /// The later process of that name.
    fn session(&self, name: &str) -> u64 {
        let of_name = |(_, p): &(&u64, &Process)| p.manager.name() == name;
        *self.managers.iter().rfind(of_name).unwrap().0
    }

    fn tell(&mut self, session: u64, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let Some(process) = self.managers.get_mut(&session) else {
                return;
            };
            for output in process.manager.handle(self.agent.now, input) {
                match output {
                    Output::Message(to, message) => {
                        self.agent.feed(ToTheAgent::Message(to, message));
                    }
                    Output::Store(round) => {
                        let store = (!self.away).then_some(&process.store);
                        inputs.push(Input::Store(round.number, answer(store, &round)));
                    }
                    Output::End(text) => self.ended.push(text),
                    Output::Log(line) => self.logged.push(line),
                    _ => {}
                }
            }
        }
    }

    fn settle(&mut self) {
        while !self.agent.said.is_empty() {
            for (session, message) in std::mem::take(&mut self.agent.said) {
                self.tell(session, Input::Message(session, message));
            }
        }
    }

    fn advance(&mut self, by: Duration) {
        let end = self.agent.now + by;
        while self.agent.now < end {
            self.agent.advance(STEP);
            for session in self.managers.keys().copied().collect::<Vec<_>>() {
                self.tell(session, Input::Tick);
            }
            self.settle();
        }
    }

    /// A datagram of a new inside port; the outside port that it leaves with.
    fn open(&mut self) -> Option<u16> {
        self.sport += 1;
        self.go_on(self.sport)
    }

    /// The same of a certain inside port.
    fn go_on(&mut self, sport: u16) -> Option<u16> {
        let flow = flow(17, A, sport, REMOTE, 53);
        (self.agent).receive(port_of(flow.src), &tcp(port_of(flow.src), &flow, 0, b""));
        self.settle();
        let left = self.agent.take_left();
        left.first().map(|(_, to)| to.sport)
    }

    /// As many flows as find a port, at once.
    fn open_all(&mut self) -> BTreeSet<u16> {
        let mut all = BTreeSet::new();
        // The store is asked at most twenty times a second.
        let mut patience = 20;
        while patience > 0 {
            match self.open() {
                Some(port) => assert!(all.insert(port), "{port} is given out twice"),
                None => {
                    self.advance(STEP);
                    patience -= 1;
                }
            }
        }
        all
    }

    fn blocks(&self, name: &str) -> BlockStatus {
        self.status(name).services[0].blocks.unwrap()
    }

    fn store_of(&self, name: &str) -> StoreStatus {
        self.status(name).store.unwrap()
    }

    fn status(&self, name: &str) -> signalbox_manager::Status {
        self.managers[&self.session(name)].manager.status()
    }

    fn decides(&self, name: &str) -> bool {
        !self.status(name).services[0].stands_by
    }

    /// The keys of the store, with their values.
    fn keys(&self) -> Vec<(String, String)> {
        let list = pin!(self.store.list(""));
        match list.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(list) => (list.unwrap().into_iter())
                .map(|(key, value)| (key, String::from_utf8(value.to_vec()).unwrap()))
                .collect(),
            Poll::Pending => panic!("memory answers at once"),
        }
    }

    /// nat-1 dies, and its backup is asked.
    fn fail_over(&mut self) {
        self.kill("nat-1");
        self.advance(Duration::from_millis(1_500));
        self.open();
        assert!(self.decides("nat-2"));
    }
}

#[test]
fn a_manager_has_a_little_more_than_it_needs_and_its_backup_some_of_its_own() {
    let mut shared = Shared::new();
    let (first, backup) = (shared.blocks("nat-1"), shared.blocks("nat-2"));
    assert_eq!((first.all, first.held, first.others), (16, 2, 2));
    assert_eq!((backup.held, backup.spare), (2, 2));
    // More come before they are needed: nothing waits.
    for _ in 0..28 {
        let port = shared.open().expect("a port");
        assert!(!OF_BACKUP.contains(&port));
        shared.advance(STEP * 3);
    }
    assert_eq!(shared.blocks("nat-1").held, 14);
    // All but the backup's are given out.
    assert_eq!(shared.open(), None);
    // A2.17
    assert!(shared.status("nat-1").services[0].counted["exhausted"] > 0);
    assert!(shared.decides("nat-1") && !shared.decides("nat-2"));
}

#[test]
fn blocks_that_are_used_no_more_are_given_back() {
    let mut shared = Shared::new();
    assert_eq!(shared.open_all().len(), 28);
    assert_eq!(shared.blocks("nat-1").held, 14);
    shared.advance(HOLD_BACK + 20 * SECOND);
    assert_eq!(shared.blocks("nat-1").held, 4);
    let owned = shared
        .keys()
        .iter()
        .filter(|(key, _)| key.starts_with("block/"))
        .count();
    assert_eq!(owned, 6);
    // And can be had again.
    assert_eq!(shared.open_all().len(), 28);
}

// A2.15
#[test]
fn what_rests_when_a_manager_dies_its_backup_does_not_give_out_before_the_hold_back_is_over() {
    let mut shared = Shared::new();
    let live = shared.open().unwrap();
    let resting: BTreeSet<u16> = (0..6).map(|_| shared.open().unwrap()).collect();
    // The others end with their leases, and rest from then on.
    for _ in 0..5 {
        assert_eq!(shared.go_on(20_001), Some(live));
        shared.advance(SECOND);
    }
    shared.away = true;
    shared.fail_over();
    let taken_over = shared.agent.now;
    assert_eq!(shared.go_on(20_001), Some(live), "A9.4");
    // Without the store it has what it kept for that.
    let spare = shared.open_all();
    assert!(
        spare.iter().all(|port| OF_BACKUP.contains(port)),
        "{spare:?}"
    );
    assert!(!shared.store_of("nat-2").reachable);
    // With it, what is nobody's.
    shared.away = false;
    shared.advance(3 * SECOND);
    let nobodys = shared.open_all();
    assert!(nobodys.len() > 8, "{nobodys:?}");
    assert!(nobodys.is_disjoint(&resting) && !nobodys.contains(&live));
    // And when all that rested is free, what the dead one had.
    while shared.agent.now < taken_over + HOLD_BACK + 6 * SECOND {
        assert_eq!(shared.go_on(20_001), Some(live));
        shared.advance(SECOND);
    }
    assert_eq!(shared.blocks("nat-2").others, 0);
    let all = shared.open_all();
    assert!(resting.is_subset(&all), "{all:?}");
    assert!(!all.contains(&live), "A2.14");
}

// A2.15: it may give out of them yet, at agents that its backup does not reach.
#[test]
fn what_a_manager_has_whose_process_lives_its_backup_does_not_take() {
    let mut shared = Shared::new();
    let of_first = shared.open().unwrap();
    let session = shared.session("nat-1");
    let held = shared.blocks("nat-1").held;
    shared.agent.feed(ToTheAgent::SessionClosed(session));
    shared.tell(session, Input::Disconnected(session));
    shared.advance(Duration::from_millis(1_500));
    shared.open();
    assert!(shared.decides("nat-1") && shared.decides("nat-2"));
    shared.advance(HOLD_BACK + 10 * SECOND);
    assert_eq!(shared.blocks("nat-1").held, held);
    assert_eq!(shared.blocks("nat-2").others, held);
    let all = shared.open_all();
    assert!(all.len() > 20 && !all.contains(&of_first), "{all:?}");
}

// A2.15
#[test]
fn a_backup_that_decides_keeps_what_it_has_used_by_another_policy() {
    let mut shared = Shared::new();
    shared.fail_over();
    let resting = shared.open_all();
    let used = shared.blocks("nat-2").held;
    shared.advance(HOLD_BACK + SECOND);
    let live = shared.open_all();
    assert!(live.len() > 8 && used > 8);
    shared.apply("nat-2");
    shared.advance(2 * SECOND);
    assert!(shared.blocks("nat-2").held >= used);
    assert_eq!(shared.blocks("nat-2").others, 0);
    // Whoever decides now knows what its agent holds, and nothing of what rests.
    shared.start("nat-1");
    shared.advance(SECOND);
    assert!(shared.open_all().is_disjoint(&live));
    assert!(!resting.is_empty());
}

// A2.15, A9.8
#[test]
fn a_backup_that_stands_by_again_gives_back_what_it_has_used_once_that_has_rested() {
    let mut shared = Shared::new();
    shared.fail_over();
    let resting = shared.open_all();
    let used = shared.blocks("nat-2").held;
    assert!(used > 8, "{used}");
    shared.start("nat-1");
    shared.advance(2 * SECOND);
    assert!(shared.decides("nat-1") && !shared.decides("nat-2"));
    shared.advance(HOLD_BACK / 2);
    assert_eq!(shared.blocks("nat-2").held, used);
    assert!(shared.open_all().is_disjoint(&resting));
    shared.advance(HOLD_BACK + 10 * SECOND);
    let backup = shared.blocks("nat-2");
    assert_eq!((backup.held, backup.spare), (2, 2));
    assert_eq!(shared.open_all().len(), 28);
}

// A2.15
#[test]
fn what_rests_when_a_manager_is_started_again_it_does_not_give_out_either() {
    let mut shared = Shared::new();
    let resting = shared.open().unwrap();
    shared.advance(5 * SECOND);
    shared.kill("nat-1");
    shared.start("nat-1");
    shared.advance(STEP);
    let all = shared.open_all();
    assert!(all.len() > 20 && !all.contains(&resting), "{all:?}");
    shared.advance(HOLD_BACK + 10 * SECOND);
    let all = shared.open_all();
    assert!(all.contains(&resting), "{all:?}");
}

#[test]
fn when_the_first_one_returns_each_has_blocks_and_none_is_lost_for_ever() {
    let mut shared = Shared::new();
    for _ in 0..4 {
        shared.open();
    }
    shared.fail_over();
    for _ in 0..4 {
        shared.open();
    }
    shared.start("nat-1");
    shared.advance(SECOND);
    assert!(shared.decides("nat-1") && !shared.decides("nat-2"));
    shared.advance(2 * HOLD_BACK + 30 * SECOND);
    let (first, backup) = (shared.blocks("nat-1"), shared.blocks("nat-2"));
    assert_eq!(
        (backup.held, backup.spare, backup.others),
        (2, 2, first.held)
    );
    assert_eq!(shared.open_all().len(), 28);
}

#[test]
fn processes_that_come_and_go_lose_no_block() {
    let mut shared = Shared::new();
    for _ in 0..4 {
        for name in ["nat-1", "nat-2"] {
            shared.open();
            shared.kill(name);
            shared.start(name);
            shared.advance(SECOND);
        }
    }
    shared.advance(HOLD_BACK + 30 * SECOND);
    let (first, backup) = (shared.blocks("nat-1"), shared.blocks("nat-2"));
    assert_eq!((backup.held, backup.spare), (2, 2));
    assert_eq!((backup.others, first.others), (first.held, 2));
    assert_eq!(shared.open_all().len(), 28);
}

#[test]
fn a_manager_that_starts_while_the_store_is_away_gives_out_nothing_until_it_is_back() {
    let mut shared = Shared::new();
    shared.kill("nat-1");
    shared.kill("nat-2");
    shared.away = true;
    shared.start("nat-1");
    shared.advance(SECOND);
    assert_eq!(shared.open(), None);
    assert!(shared.status("nat-1").services[0].counted["exhausted"] > 0);
    let store = shared.store_of("nat-1");
    assert!(!store.reachable && store.counts.unreachable > 0);
    let error = store.last_error.unwrap();
    assert!(
        error.starts_with("no etcd answers at 127.0.0.1:2379"),
        "{error}"
    );
    shared.away = false;
    shared.advance(3 * SECOND);
    assert!(shared.open().is_some());
    assert!(shared.store_of("nat-1").reachable);
}

#[test]
fn a_store_that_goes_away_and_comes_back_changes_nothing() {
    let mut shared = Shared::new();
    let port = shared.open().unwrap();
    let before = shared.keys();
    shared.away = true;
    for _ in 0..30 {
        assert_eq!(shared.go_on(20_001), Some(port));
        shared.advance(SECOND);
    }
    assert!(shared.open().is_some(), "it has blocks");
    shared.away = false;
    shared.advance(3 * SECOND);
    assert_eq!(shared.keys(), before);
}

#[test]
fn a_store_that_was_wiped_is_filled_again_with_what_managers_know() {
    let mut shared = Shared::new();
    let port = shared.open().unwrap();
    shared.fail_over();
    shared.advance(6 * SECOND);
    let before: Vec<_> = shared.keys();
    assert!(
        before
            .iter()
            .any(|(key, value)| key == "share/egress/0" && value.contains("\"epoch\":2"))
    );
    shared.store = MemoryStore::default();
    for process in shared.managers.values_mut() {
        process.store = shared.store.another();
    }
    assert!(shared.keys().is_empty());
    shared.advance(6 * SECOND);
    // What the dead one had, too.
    assert_eq!(shared.keys(), before);
    assert!(shared.store_of("nat-2").counts.refilled > 2);
    // An epoch never goes back, though its manager knows of it by the store alone.
    shared.start("nat-1");
    shared.advance(SECOND);
    assert_eq!(shared.status("nat-1").services[0].epoch, 3);
    assert_ne!(shared.open(), Some(port));
}

#[test]
fn of_two_processes_of_one_name_the_earlier_one_ends() {
    let mut shared = Shared::new();
    assert_eq!(shared.ended.len(), 0);
    let earlier = shared.session("nat-2");
    shared.start("nat-2");
    shared.advance(6 * SECOND);
    assert_eq!(shared.ended.len(), 1, "{:?}", shared.ended);
    assert!(
        shared.ended[0].contains("a later process of manager `nat-2`"),
        "{:?}",
        shared.ended
    );
    assert_eq!(shared.store_of("nat-2").counts.twins, 1);
    let twins = shared.managers[&earlier]
        .manager
        .status()
        .store
        .unwrap()
        .counts
        .twins;
    assert_eq!(twins, 1);
    // It has said so once, and asks no more.
    shared.advance(30 * SECOND);
    assert_eq!(shared.ended.len(), 1);
}

#[test]
fn a_process_whose_clock_has_gone_back_waits_for_the_dead_one_before_it_to_be_forgotten() {
    let mut shared = Shared::new();
    // The dead one's key goes with its lease, some seconds later.
    let dead = shared.managers.remove(&shared.session("nat-2")).unwrap();
    shared.start_as("nat-2", 1);
    shared.advance(8 * SECOND);
    assert!(shared.ended.is_empty());
    assert!(
        shared
            .store_of("nat-2")
            .alive
            .iter()
            .all(|a| a.manager != "nat-2")
    );
    drop(dead);
    shared.advance(6 * SECOND);
    assert!(
        shared
            .store_of("nat-2")
            .alive
            .iter()
            .any(|a| a.manager == "nat-2")
    );
    shared.advance(30 * SECOND);
    assert!(shared.ended.is_empty(), "{:?}", shared.ended);
}

#[test]
fn a_process_whose_clock_is_behind_a_living_ones_ends() {
    let mut shared = Shared::new();
    let living = shared.session("nat-2");
    let late = shared.start_as("nat-2", 1);
    shared.advance(30 * SECOND);
    assert_eq!(shared.ended.len(), 1, "{:?}", shared.ended);
    assert!(
        shared.managers[&late]
            .manager
            .status()
            .store
            .unwrap()
            .counts
            .twins
            > 0
    );
    let of_living = shared.managers[&living].manager.status().store.unwrap();
    assert_eq!(of_living.counts.twins, 0);
}

#[test]
fn a_manager_with_another_version_of_the_policy_is_told_of_and_counted() {
    let mut shared = Shared::new();
    assert!(shared.store_of("nat-1").alive.iter().all(|a| a.same_policy));
    shared.kill("nat-2");
    let mut other = shared.plan.clone();
    other.services[0].limits.hold_ms += 1;
    let plan = std::mem::replace(&mut shared.plan, other);
    shared.start("nat-2");
    shared.plan = plan;
    shared.advance(15 * SECOND);
    let store = shared.store_of("nat-1");
    assert_eq!(store.counts.other_policy, 1);
    let other: Vec<_> = store.alive.iter().filter(|a| !a.same_policy).collect();
    assert_eq!((other.len(), &*other[0].manager), (1, "nat-2"));
    let said = |l: &&String| l.contains("manager `nat-2` works from another version of the policy");
    assert_eq!(shared.logged.iter().filter(said).count(), 1);
}

#[test]
fn a_clock_that_goes_back_or_leaps_by_hours_ends_nothing_that_is_in_use() {
    let mut shared = Shared::new();
    let port = shared.open().unwrap();
    // The manager is told of an earlier time: for it, none has passed.
    let now = shared.agent.now;
    let session = shared.session("nat-1");
    shared.agent.now = Duration::from_millis(1);
    shared.tell(session, Input::Tick);
    shared.agent.now = now;
    assert_eq!(shared.go_on(20_001), Some(port));
    // And of one hours later, of which the agent knows nothing.
    shared.agent.now = now + 5 * 3600 * SECOND;
    shared.tell(session, Input::Tick);
    shared.agent.now = now;
    shared.settle();
    assert_eq!(
        shared.go_on(20_001),
        Some(port),
        "the agent's lease is its own"
    );
    let others: BTreeSet<u16> = (0..8).filter_map(|_| shared.open()).collect();
    assert!(!others.contains(&port), "A2.14");
    assert!(shared.ended.is_empty());
    assert_eq!(shared.blocks("nat-2").held, 2);
}
