//! A manager and the store that it shares with others: what it asks of it, and what it makes of the answers.
//!
//! The store is one more voice besides the agents': it tells of epochs, and is told of them, but nobody waits for
//! it. With the store away everything goes on as without one, but that a service with blocks gives out only what is
//! in those that it has. Which of them it may use when it takes a share over, before the store has answered: those
//! that nobody has ever used, since another one may have taken its others meanwhile.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::{Manager, Output};
use crate::session::Offer;
use crate::state::{Alive, BlockRound, Found, Round, ShareFound, ShareRound, StateError};

/// Between two rounds: as a rule, after one that has failed, and at least.
const PERIOD: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_secs(2);
const SOON: Duration = Duration::from_millis(50);
/// After so long a round is given up, whatever has become of it.
const LOST: Duration = Duration::from_secs(120);
/// How long what says that a later process is there must be there, if this one is new: longer than it would be
/// after that one's death, if the machine's clock has gone back since.
const LATER: Duration = Duration::from_secs(20);

/// What was counted of the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct StoreCounts {
    /// Rounds that it has answered.
    pub rounds: u64,
    /// Rounds that ended because it was out of reach.
    pub unreachable: u64,
    /// Because it was too slow.
    pub slow: u64,
    /// Because it was full.
    pub full: u64,
    /// Because it denied something.
    pub denied: u64,
    /// Because of anything else.
    pub failed: u64,
    /// Keys of this manager that were gone, as after a wipe, and were set again.
    pub refilled: u64,
    /// Managers found to work from another version of the policy.
    pub other_policy: u64,
    /// Times that another living process of this manager's name was found.
    pub twins: u64,
}

/// A manager that the store says is alive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AliveStatus {
    /// Its name.
    pub manager: String,
    /// When its process was started: seconds since 1970 by its own clock.
    pub started: u64,
    /// Whether it works from the same version of the policy as this one.
    pub same_policy: bool,
}

/// The store, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoreStatus {
    /// Where it is.
    pub place: String,
    /// Whether it has answered the last round.
    pub reachable: bool,
    /// Since how many seconds that is so.
    pub for_s: u64,
    /// What was the matter last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// What was counted.
    pub counts: StoreCounts,
    /// Who it says is alive.
    pub alive: Vec<AliveStatus>,
}

/// A share's blocks, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct BlockStatus {
    /// How many there are.
    pub all: u32,
    /// How many this manager has.
    pub held: u32,
    /// Of those, how many have never been used.
    pub spare: u32,
    /// How many others have.
    pub others: u32,
}

/// The store, as a manager knows it.
pub(super) struct Shared {
    place: String,
    number: u64,
    /// When the round that is under way was begun.
    pending: Option<Duration>,
    last: Option<Duration>,
    next: Duration,
    /// Something must be said or asked soon.
    urgent: bool,
    /// Whether it has answered the last round, once there was one, and since when that is so.
    reachable: Option<bool>,
    since: Duration,
    error: Option<String>,
    counts: StoreCounts,
    others: BTreeMap<String, Alive>,
    /// Others with another plan: which, and whether that was said.
    other_plans: BTreeMap<String, (String, bool)>,
    was_alive: bool,
    later_since: Option<Duration>,
    over: bool,
}

/// A share as the store has it.
#[derive(Debug, Default)]
pub(crate) struct Held {
    found: ShareFound,
    /// Being given back.
    release: u64,
    /// The round from which on the answer counts for its blocks.
    counts_from: u64,
    confirmed: bool,
    /// How many blocks there are.
    count: u32,
    /// It has asked for more, and there were none.
    none_left: bool,
    asked: bool,
    /// When what rested at the last change of who decides is over, and whether a look at the store is due then: who
    /// decides may take what others that are gone had, and who stands by gives back what it has used.
    rested_at: Duration,
    rested_due: bool,
}

impl Shared {
    pub(super) fn next(&self) -> Duration {
        match (self.pending, self.last) {
            _ if self.over => Duration::MAX,
            (Some(since), _) => since + LOST,
            (None, Some(last)) if self.urgent => self.next.min(last + SOON),
            (None, _) => self.next,
        }
    }

    fn failed(&mut self, error: &StateError) -> &mut u64 {
        match error {
            StateError::Unreachable { .. } => &mut self.counts.unreachable,
            StateError::Slow { .. } => &mut self.counts.slow,
            StateError::Full { .. } => &mut self.counts.full,
            StateError::Denied { .. } => &mut self.counts.denied,
            StateError::Failed { .. } => &mut self.counts.failed,
        }
    }
}

impl Held {
    /// The manager decides from now on: which of its blocks are still its own the store must say first.
    fn took(&mut self, rested_at: Duration, round: u64) {
        self.rests(rested_at);
        self.counts_from = round + 1;
        self.confirmed = false;
    }

    fn rests(&mut self, until: Duration) {
        self.rested_at = until;
        self.rested_due = true;
    }

    /// When a look at the store is due.
    pub(super) fn next(&self, now: Duration) -> Option<Duration> {
        (self.rested_due && self.count > 0 && self.rested_at > now).then_some(self.rested_at)
    }

    /// The highest epoch that the store has told of.
    pub(super) fn epoch(&self) -> u64 {
        self.found.epoch
    }

    /// What may be given out.
    fn usable(&self, offer: &Offer, count: u32) -> u64 {
        let held = if self.confirmed {
            self.found.held
        } else {
            self.found.spare
        };
        let kept_for_backup = if offer.backup {
            0
        } else {
            reserve(offer, count)
        };
        held & !self.release & !kept_for_backup
    }
}

/// How many blocks are claimed ahead.
fn ahead(count: u32) -> u32 {
    (count / 8).max(1)
}

/// So many blocks, from the first on.
fn first(count: u32) -> u64 {
    match count {
        0..64 => (1 << count) - 1,
        _ => u64::MAX,
    }
}

/// The blocks from which a backup takes its spare ones: the last ones.
fn reserve(offer: &Offer, count: u32) -> u64 {
    if offer.paired && count >= 2 {
        first(count) & !first(count - ahead(count))
    } else {
        0
    }
}

impl Manager {
    /// Shares a store, which is at `place`: rounds with it come out as [`Output::Store`], and their answers are
    /// expected as [`Input::Store`](super::Input::Store). Services with blocks give out nothing before they have
    /// some.
    #[must_use]
    pub fn with_store(mut self, place: &str) -> Self {
        self.shared = Some(Shared {
            place: place.to_owned(),
            number: 0,
            pending: None,
            last: None,
            next: self.now,
            urgent: false,
            reachable: None,
            since: self.now,
            error: None,
            counts: StoreCounts::default(),
            others: BTreeMap::new(),
            other_plans: BTreeMap::new(),
            was_alive: false,
            later_since: None,
            over: false,
        });
        for index in 0..self.services.len() {
            self.allow(index);
        }
        self
    }

    /// A share's decider is this manager from now on, or its blocks may be others' for another reason.
    pub(super) fn took(&mut self, index: usize) {
        let Some(shared) = &mut self.shared else {
            return;
        };
        shared.urgent = true;
        let number = shared.number;
        if let Some(service) = self.services.get_mut(index) {
            let rests = service.decide.hold_back().unwrap_or_default();
            service.held.took(self.now + rests, number);
        }
        self.allow(index);
    }

    /// Another one decides for a share: the blocks that this one has used it gives back once they have rested.
    pub(super) fn stepped_back(&mut self, index: usize) {
        if let Some(service) = self.services.get_mut(index) {
            let rests = service.decide.hold_back().unwrap_or_default();
            service.held.rests(self.now + rests);
        }
        self.hurry();
    }

    /// Something has changed that the store must know or tell.
    fn hurry(&mut self) {
        if let Some(shared) = &mut self.shared {
            shared.urgent = true;
        }
    }

    /// The answer of a round that is under way is of no use any more.
    pub(super) fn forget_round(&mut self) {
        if let Some(shared) = &mut self.shared {
            shared.number += 1;
            shared.pending = None;
            shared.urgent = true;
        }
    }

    /// Tells a service which blocks it may use.
    pub(super) fn allow(&mut self, index: usize) {
        let (Some(service), Some(offer)) = (self.services.get_mut(index), self.offers.get(index))
        else {
            return;
        };
        if self.shared.is_some()
            && let Some(blocks) = service.decide.blocks()
        {
            let usable = service.held.usable(offer, blocks.count());
            blocks.allow(usable);
        }
    }

    /// Begins a round if one is due.
    pub(super) fn share(&mut self) {
        let now = self.now;
        let wants = self
            .services
            .iter_mut()
            .zip(&self.offers)
            .any(|(s, offer)| {
                let rested = s.held.rested_due && s.held.rested_at <= now;
                let may_want = !offer.stands_by && !s.held.none_left;
                (s.decide.blocks()).is_some_and(|b| rested || may_want && b.wants_more())
            });
        let Some(shared) = &mut self.shared else {
            return;
        };
        shared.urgent |= wants;
        if now < shared.next() {
            return;
        }
        shared.number += 1;
        shared.pending = Some(now);
        shared.last = Some(now);
        shared.next = now + PERIOD;
        shared.urgent = false;
        let number = shared.number;
        let shares = (0..self.services.len())
            .filter_map(|index| self.share_round(index))
            .collect();
        self.out.push(Output::Store(Round {
            number,
            manager: self.name.to_string(),
            alive: self.alive(),
            shares,
        }));
    }

    fn alive(&self) -> Alive {
        Alive {
            instance: self.instance,
            // Milliseconds stand above the process's id.
            started: (self.instance >> 16) / 1000,
            plan: format!("{:016x}", self.plan_hash),
        }
    }

    fn share_round(&mut self, index: usize) -> Option<ShareRound> {
        let lists_are_whole = self.may_decide(index);
        let now = self.now;
        let offer = self.offers.get(index)?;
        let plan = (self.plan.services.iter()).find(|s| s.name == *offer.service);
        let users = plan
            .and_then(|s| s.share(offer.share))
            .map_or_else(Vec::new, |share| {
                let backup = share.backup.as_ref().map(|b| b.manager.clone());
                std::iter::once(share.manager.clone())
                    .chain(backup)
                    .collect()
            });
        let service = self.services.get_mut(index)?;
        let held = &mut service.held;
        let decides = !offer.stands_by;
        let blocks = service.decide.blocks().map(|blocks| {
            let count = blocks.count().min(64);
            held.count = count;
            let kept = reserve(offer, count);
            let among = match (offer.backup, decides) {
                (true, false) => kept,
                (true, true) => first(count),
                (false, _) => first(count) & !kept,
            };
            let enough = ahead(count);
            let want = if !decides {
                enough.saturating_sub((held.found.spare & among).count_ones())
            } else if blocks.wants_more() || held.found.held & among == 0 {
                // Twice as many each time: whoever needs some may soon need many.
                enough.max((held.found.held & among).count_ones())
            } else {
                0
            };
            held.asked = want > 0;
            held.rested_due &= now < held.rested_at;
            held.release = if !decides && now >= held.rested_at {
                held.found.held & !held.found.spare
            } else if decides && held.confirmed && want == 0 {
                surplus(
                    blocks.unused() & held.found.held,
                    kept,
                    offer.backup,
                    2 * enough,
                )
            } else {
                0
            };
            BlockRound {
                names: (0..count).map(|n| blocks.name(n)).collect(),
                users,
                held: held.found.held,
                release: held.release,
                known: held.found.known.clone(),
                want,
                among,
                take_old: decides && offer.epoch != 0 && lists_are_whole && now >= held.rested_at,
            }
        });
        let round = ShareRound {
            service: offer.service.to_string(),
            share: offer.share,
            epoch: offer.epoch,
            decides,
            blocks,
        };
        // What is given back is not given out meanwhile.
        self.allow(index);
        Some(round)
    }

    /// The store has answered a round.
    pub(super) fn answered(&mut self, number: u64, result: Result<Found, StateError>) {
        let now = self.now;
        let Some(shared) = self.shared.as_mut().filter(|s| s.number == number) else {
            return;
        };
        shared.pending = None;
        let reachable = Some(result.is_ok());
        if shared.reachable != reachable {
            shared.reachable = reachable;
            shared.since = now;
            let line = match &result {
                Ok(_) => format!("the store at {} answers", shared.place),
                Err(error) => format!("{error}; going on without the store"),
            };
            self.out.push(Output::Log(line));
        }
        let mut found = match result {
            Ok(found) => found,
            Err(error) => {
                *shared.failed(&error) += 1;
                shared.error = Some(error.to_string());
                shared.next = now + RETRY;
                for index in 0..self.services.len() {
                    if let Some(service) = self.services.get_mut(index) {
                        service.held.release = 0;
                    }
                    self.allow(index);
                }
                return;
            }
        };
        shared.counts.rounds += 1;
        shared.counts.refilled += found.refilled;
        shared.counts.twins += u64::from(found.earlier);
        shared.others = std::mem::take(&mut found.others);
        match found.later {
            Some(later) => return self.later(&later),
            None => {
                shared.was_alive = true;
                shared.later_since = None;
            }
        }
        self.compare_plans();
        for (index, of_share) in found.shares.into_iter().enumerate() {
            self.answered_for(index, number, of_share);
        }
    }

    fn answered_for(&mut self, index: usize, number: u64, found: ShareFound) {
        let (Some(service), Some(offer)) = (self.services.get_mut(index), self.offers.get(index))
        else {
            return;
        };
        let held = &mut service.held;
        let (told, is_orphan) = (found.epoch, found.is_orphan);
        let lost = held.found.held & !found.held & !held.release;
        held.none_left = held.asked && found.held & !held.found.held == 0;
        let confirms = number >= held.counts_from;
        let first = confirms && !held.confirmed;
        held.found = found;
        held.release = 0;
        held.confirmed = confirms;
        if lost != 0 && !offer.stands_by {
            let text = format!(
                "{}: {} blocks of outside ports are another manager's by now",
                offer.service,
                lost.count_ones()
            );
            self.out.push(Output::Log(text));
        }
        let behind = offer.epoch != 0 && told > offer.epoch && !offer.stands_by;
        self.allow(index);
        // It took the share over before the store could say so, or whoever had the newer epoch is gone. Else only
        // agents can say so: what is newer there may be so for those that this manager does not reach.
        if behind && (first || is_orphan) {
            self.take(index, told, "the store knows a newer epoch");
        }
    }

    /// A later process of this manager's name is there: this one ends.
    fn later(&mut self, later: &Alive) {
        let now = self.now;
        let Some(shared) = &mut self.shared else {
            return;
        };
        let since = *shared.later_since.get_or_insert(now);
        if !shared.was_alive && now < since + LATER {
            return;
        }
        shared.counts.twins += 1;
        shared.over = true;
        let text = format!(
            "the store at {} knows a later process of manager `{}`, started {} s after this one; this one ends",
            shared.place,
            self.name,
            later.started.saturating_sub((self.instance >> 16) / 1000)
        );
        self.out.push(Output::End(text));
    }

    /// Others that work from another plan, for two rounds on end: between, a policy may be being applied.
    fn compare_plans(&mut self) {
        let own = self.alive().plan;
        let Some(shared) = &mut self.shared else {
            return;
        };
        let differs = |name: &String| shared.others.get(name).is_some_and(|a| a.plan != own);
        shared.other_plans.retain(|name, _| differs(name));
        for (name, alive) in shared.others.iter().filter(|(_, a)| a.plan != own) {
            let known = shared.other_plans.get(name).cloned();
            let again = known.as_ref().is_some_and(|(plan, _)| *plan == alive.plan);
            let said = again && known.is_some_and(|(_, said)| said);
            if again && !said {
                shared.counts.other_policy += 1;
                self.out.push(Output::Log(format!(
                    "manager `{name}` works from another version of the policy; `signalbox apply POLICY` with the \
                     control sockets of both brings them to one"
                )));
            }
            shared
                .other_plans
                .insert(name.clone(), (alive.plan.clone(), again));
        }
    }

    /// The store, for people.
    pub(super) fn store_status(&self) -> Option<StoreStatus> {
        let shared = self.shared.as_ref()?;
        let own = self.alive();
        let plan = own.plan.clone();
        let mut alive = shared.others.clone();
        if shared.was_alive {
            alive.insert(self.name.to_string(), own);
        }
        Some(StoreStatus {
            place: shared.place.clone(),
            reachable: shared.reachable == Some(true),
            for_s: self.now.saturating_sub(shared.since).as_secs(),
            last_error: shared.error.clone(),
            counts: shared.counts,
            alive: (alive.into_iter())
                .map(|(manager, alive)| AliveStatus {
                    manager,
                    started: alive.started,
                    same_policy: alive.plan == plan,
                })
                .collect(),
        })
    }

    /// A share's blocks, for people.
    pub(super) fn block_status(&self, index: usize) -> Option<BlockStatus> {
        self.shared.as_ref()?;
        let service = self.services.get(index)?;
        let found = &service.held.found;
        (service.held.count > 0).then_some(BlockStatus {
            all: service.held.count,
            held: found.held.count_ones(),
            spare: found.spare.count_ones(),
            others: found.others.count_ones(),
        })
    }
}

/// Of the blocks of which nothing is given out, those that are given back: all of a backup's, and of the others what
/// goes beyond `keep`.
fn surplus(unused: u64, kept_for_backup: u64, is_backup: bool, keep: u32) -> u64 {
    if is_backup {
        return top(unused & !kept_for_backup, keep);
    }
    (unused & kept_for_backup) | top(unused & !kept_for_backup, keep)
}

/// All but the lowest `keep` of the set.
fn top(mut set: u64, keep: u32) -> u64 {
    for _ in 0..keep {
        set &= set.wrapping_sub(1);
    }
    set
}
