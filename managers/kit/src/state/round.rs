//! One round of a manager with the store: it says that it is alive, raises the epochs of what it decides to its own,
//! and takes, keeps and gives back blocks; it hears who else is there and what they have.
//!
//! A round can be repeated: it writes what is not there, so that a store that was wiped is filled again, and takes
//! what it finds for the truth. It knows neither flows nor agents.
//!
//! | key | value |
//! | --- | --- |
//! | `alive/MANAGER` | its process and plan; bound to the process |
//! | `share/SERVICE/SHARE` | the highest epoch, who has it, and by which plan |
//! | `block/SERVICE/SHARE/FIRST-LAST` | whose it is, and since which epoch |

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Life, StateError, StateStore};

/// Tries to raise an epoch, where others raise it, too.
const TRIES: usize = 4;

/// A manager that is alive, as it says itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alive {
    /// Its process: the later one has the higher number.
    pub instance: u64,
    /// When that was started: seconds since 1970 by its own clock.
    pub started: u64,
    /// The plan's hash, in hexadecimal.
    pub plan: String,
}

/// Who decides for a share, as the store has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Decider {
    epoch: u64,
    manager: String,
    /// The manager's process.
    #[serde(default)]
    instance: u64,
    plan: String,
}

impl Decider {
    fn lives(&self, round: &Round, others: &BTreeMap<String, Alive>) -> bool {
        let alive = match self.manager == round.manager {
            true => Some(&round.alive),
            false => others.get(&self.manager),
        };
        alive.is_some_and(|alive| alive.instance == self.instance)
    }
}

/// Who has a block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Owner {
    manager: String,
    instance: u64,
    /// The share's epoch under which it is used; 0 while it is spare.
    epoch: u64,
}

/// What a manager wants of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    /// Tells it from others.
    pub number: u64,
    /// The manager's name.
    pub manager: String,
    /// What it says of itself.
    pub alive: Alive,
    /// What it serves.
    pub shares: Vec<ShareRound>,
}

/// The same for a share of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareRound {
    /// The service.
    pub service: String,
    /// The number of the share.
    pub share: u32,
    /// The manager's epoch for it; 0 if it knows none.
    pub epoch: u64,
    /// Whether it decides for it.
    pub decides: bool,
    /// Its blocks, if it has such.
    pub blocks: Option<BlockRound>,
}

/// What a manager wants of a share's blocks. Sets of blocks are bits, the first block's the lowest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockRound {
    /// The blocks' names.
    pub names: Vec<String>,
    /// Managers that give out of them by the policy.
    pub users: Vec<String>,
    /// Those that it takes for its own.
    pub held: u64,
    /// Those of them that it is done with.
    pub release: u64,
    /// How many more it wants, of those that are nobody's and among `among`, in their order.
    pub want: u32,
    /// Which it may have.
    pub among: u64,
    /// Blocks of others that it has heard of, as it has: they are put back into a store that was wiped.
    pub known: Vec<(String, Bytes)>,
    /// Whether it takes what others that are gone had under older epochs: their flows are all known, and what rested
    /// is over.
    pub take_old: bool,
}

/// What a round has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Who is alive, by name; without this manager.
    pub others: BTreeMap<String, Alive>,
    /// A later process of this manager's name is there.
    pub later: Option<Alive>,
    /// An earlier one was, and hears now that it is not the last.
    pub earlier: bool,
    /// Keys of this manager that were gone and are there again.
    pub refilled: u64,
    /// By share, in the round's order.
    pub shares: Vec<ShareFound>,
}

/// The same for a share.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShareFound {
    /// Its highest epoch; 0 if there was none.
    pub epoch: u64,
    /// Whether the process that took it is there no more.
    pub is_orphan: bool,
    /// The manager's blocks.
    pub held: u64,
    /// Of those, the ones that have not been used.
    pub spare: u64,
    /// Blocks of others.
    pub others: u64,
    /// The same, as they stand in the store.
    pub known: Vec<(String, Bytes)>,
}

/// Carries a round out. What has been done before an error stays, and is found the next time.
///
/// # Errors
/// The first thing that the store did not do.
pub async fn carry_out(store: &dyn StateStore, round: &Round) -> Result<Found, StateError> {
    let mut found = Found::default();
    say_alive(store, round, &mut found).await?;
    if found.later.is_some() {
        // Whatever this one has is that one's now.
        found.shares = vec![ShareFound::default(); round.shares.len()];
        return Ok(found);
    }
    for share in &round.shares {
        let decider = raise(store, round, share, &mut found).await?;
        let mut of_share = ShareFound {
            epoch: decider.as_ref().map_or(0, |d| d.epoch),
            is_orphan: decider.is_some_and(|d| !d.lives(round, &found.others)),
            ..ShareFound::default()
        };
        if let Some(blocks) = &share.blocks {
            let mut turn = Blocks {
                store,
                round,
                share,
                wanted: blocks,
                prefix: format!("block/{}/{}/", share.service, share.share),
                found: &mut of_share,
                refilled: &mut found.refilled,
            };
            turn.settle(&found.others).await?;
        }
        found.shares.push(of_share);
    }
    Ok(found)
}

async fn say_alive(
    store: &dyn StateStore,
    round: &Round,
    found: &mut Found,
) -> Result<(), StateError> {
    let mut own = None;
    for (key, value) in store.list("alive/").await? {
        let name = key.strip_prefix("alive/").unwrap_or_default();
        if name == round.manager {
            own = Some(value);
        } else if let Some(alive) = read(&value) {
            found.others.insert(name.to_owned(), alive);
        }
    }
    let said = own.as_deref().and_then(read::<Alive>);
    if let Some(said) = &said
        && said.instance > round.alive.instance
    {
        found.later = Some(said.clone());
        return Ok(());
    }
    if said.as_ref() != Some(&round.alive) {
        let key = format!("alive/{}", round.manager);
        // Who loses against another process hears of it in the next round.
        let set = store.swap(&key, own.as_deref(), Some(write(&round.alive)), Life::Bound);
        let is_set = set.await?;
        found.refilled += u64::from(is_set && own.is_none() && round.number > 1);
        found.earlier = is_set && said.is_some_and(|said| said.instance < round.alive.instance);
    }
    Ok(())
}

/// Raises a share's epoch to the manager's own, if it decides; says whose it is then.
async fn raise(
    store: &dyn StateStore,
    round: &Round,
    share: &ShareRound,
    found: &mut Found,
) -> Result<Option<Decider>, StateError> {
    let key = format!("share/{}/{}", share.service, share.share);
    let own = Decider {
        epoch: share.epoch,
        manager: round.manager.clone(),
        instance: round.alive.instance,
        plan: round.alive.plan.clone(),
    };
    let mut said = None;
    for _ in 0..TRIES {
        let value = store.get(&key).await?;
        said = value.as_deref().and_then(read::<Decider>);
        let known = said.as_ref().map_or(0, |d| d.epoch);
        let behind = known < share.epoch || (known == share.epoch && said.as_ref() != Some(&own));
        if !share.decides || share.epoch == 0 || !behind {
            return Ok(said);
        }
        let set = store.swap(&key, value.as_deref(), Some(write(&own)), Life::Lasting);
        if set.await? {
            found.refilled += u64::from(value.is_none() && share.epoch > 2);
            return Ok(Some(own));
        }
    }
    Ok(said)
}

/// The blocks of a share, in a round.
struct Blocks<'a> {
    store: &'a dyn StateStore,
    round: &'a Round,
    share: &'a ShareRound,
    wanted: &'a BlockRound,
    prefix: String,
    found: &'a mut ShareFound,
    refilled: &'a mut u64,
}

impl Blocks<'_> {
    async fn settle(&mut self, alive: &BTreeMap<String, Alive>) -> Result<(), StateError> {
        let wanted = self.wanted;
        if *self.refilled > 0 {
            for (name, value) in &wanted.known {
                let key = format!("{}{name}", self.prefix);
                let value = Some(value.clone());
                let put = self.store.swap(&key, None, value, Life::Lasting);
                *self.refilled += u64::from(put.await?);
            }
        }
        let mut there = BTreeMap::new();
        for (key, value) in self.store.list(&self.prefix).await? {
            let name = key.strip_prefix(&self.prefix).unwrap_or_default();
            there.insert(name.to_owned(), value);
        }
        let named =
            || (wanted.names.iter().take(64).enumerate()).map(|(n, name)| (1u64 << n, name));
        let epoch = if self.share.decides {
            self.share.epoch
        } else {
            0
        };
        let mut free = 0u64;
        for (bit, name) in named() {
            let value = there.get(name).map(|value| &**value);
            let owner = value.and_then(read::<Owner>);
            match (value, owner) {
                (Some(value), Some(owner)) if self.is_own(&owner) => {
                    if wanted.release & bit != 0 {
                        self.set(name, Some(value), None).await?;
                    } else if owner.epoch == 0 && epoch != 0 {
                        if self.set(name, Some(value), Some(epoch)).await? {
                            self.have(bit, epoch);
                        }
                    } else {
                        self.have(bit, owner.epoch);
                    }
                }
                (Some(value), Some(owner)) if wanted.take_old && self.is_old(&owner, alive) => {
                    if self.set(name, Some(value), Some(epoch)).await? {
                        self.have(bit, epoch);
                    }
                }
                (Some(value), _) => {
                    self.found.others |= bit;
                    let value = Bytes::copy_from_slice(value);
                    self.found.known.push((name.clone(), value));
                }
                (None, _) if wanted.held & !wanted.release & bit != 0 => {
                    if self.set(name, None, Some(epoch)).await? {
                        *self.refilled += 1;
                        self.have(bit, epoch);
                    }
                }
                (None, _) => free |= bit & wanted.among,
            }
        }
        // All at once: each of them waits for etcd's disk.
        let claims: Vec<(u64, &String)> = (named().filter(|(bit, _)| free & bit != 0))
            .take(wanted.want as usize)
            .collect();
        let claimed = claims
            .iter()
            .map(|(_, name)| self.set(name, None, Some(epoch)));
        let claimed = futures::future::try_join_all(claimed).await?;
        for ((bit, _), is_claimed) in claims.into_iter().zip(claimed) {
            if is_claimed {
                self.have(bit, epoch);
            }
        }
        // Blocks of another plan.
        for (name, value) in there
            .iter()
            .filter(|(name, _)| !wanted.names.contains(name))
        {
            if read::<Owner>(value).is_some_and(|owner| self.is_own(&owner)) {
                self.set(name, Some(value), None).await?;
            }
        }
        Ok(())
    }

    fn is_own(&self, owner: &Owner) -> bool {
        owner.manager == self.round.manager && owner.instance == self.round.alive.instance
    }

    /// Whether a block that is another's may be taken. Who lives, and has the share by the policy, may give out of it
    /// yet where this one is not heard; and a spare one is kept for who may yet come back as the same process.
    fn is_old(&self, owner: &Owner, alive: &BTreeMap<String, Alive>) -> bool {
        let last = if owner.manager == self.round.manager {
            Some(self.round.alive.instance)
        } else {
            alive.get(&owner.manager).map(|alive| alive.instance)
        };
        let has_share = self.wanted.users.contains(&owner.manager);
        let lives = last == Some(owner.instance);
        match owner.epoch {
            0 => !has_share || last.is_some_and(|instance| instance > owner.instance),
            epoch => epoch < self.share.epoch && !(has_share && lives),
        }
    }

    fn have(&mut self, bit: u64, epoch: u64) {
        self.found.held |= bit;
        if epoch == 0 {
            self.found.spare |= bit;
        }
    }

    /// Makes a block this manager's under an epoch, or nobody's.
    async fn set(
        &self,
        name: &str,
        old: Option<&[u8]>,
        epoch: Option<u64>,
    ) -> Result<bool, StateError> {
        let new = epoch.map(|epoch| {
            write(&Owner {
                manager: self.round.manager.clone(),
                instance: self.round.alive.instance,
                epoch,
            })
        });
        let key = format!("{}{name}", self.prefix);
        self.store.swap(&key, old, new, Life::Lasting).await
    }
}

fn read<T: DeserializeOwned>(value: &[u8]) -> Option<T> {
    serde_json::from_slice(value).ok()
}

fn write<T: Serialize>(value: &T) -> Bytes {
    // These have no value that JSON has not.
    serde_json::to_vec(value).unwrap_or_default().into()
}
