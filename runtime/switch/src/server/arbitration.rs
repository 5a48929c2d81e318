//! Who may write: the highest election id ever seen for a role. A pure state machine over the
//! streams' messages (P4Runtime 1.5, "Client Arbitration and Controller Replication").

use std::collections::BTreeMap;

use signalbox_p4runtime::{
    Code, RpcError,
    client::{election_number, uint128},
    proto::{
        google::rpc::Status,
        p4::v1::{MasterArbitrationUpdate, Role, Uint128},
    },
};

/// Streams that one role may have open.
const MAX_STREAMS: usize = 64;

/// A stream channel, for as long as it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u64);

/// What to send to whom.
pub(super) type Notices = Vec<(StreamId, MasterArbitrationUpdate)>;

#[derive(Debug)]
struct Member {
    role: String,
    election_id: Option<u128>,
}

/// The streams that have announced themselves, and what each role remembers.
#[derive(Debug)]
pub(super) struct Arbiter {
    device_id: u64,
    /// simple_switch_grpc promotes the highest of those that live, and knows no roles.
    live_wins: bool,
    members: BTreeMap<StreamId, Member>,
    /// The highest election id ever seen, by role. A role is here from its first stream on.
    highest: BTreeMap<String, Option<u128>>,
}

impl Arbiter {
    pub fn new(device_id: u64, live_wins: bool) -> Arbiter {
        Arbiter {
            device_id,
            live_wins,
            members: BTreeMap::new(),
            highest: BTreeMap::new(),
        }
    }

    /// Takes a stream's announcement. An error ends the stream.
    pub fn update(
        &mut self,
        stream: StreamId,
        update: &MasterArbitrationUpdate,
    ) -> Result<Notices, RpcError> {
        if update.device_id != self.device_id {
            return Err(match self.members.get(&stream) {
                None => self.no_such_device(update.device_id),
                Some(_) => RpcError::new(
                    Code::FailedPrecondition,
                    format!(
                        "this stream is for device {}, not {}",
                        self.device_id, update.device_id
                    ),
                ),
            });
        }
        let role = self.role(update.role.as_ref())?;
        let election_id = update.election_id.as_ref().map(election_number);
        match self.members.get(&stream) {
            Some(member) if member.role != role => {
                return Err(RpcError::new(
                    Code::FailedPrecondition,
                    format!(
                        "this stream has role `{}`: open another for role `{role}`",
                        member.role
                    ),
                ));
            }
            None if self.of_role(&role).count() >= MAX_STREAMS => {
                return Err(RpcError::new(
                    Code::ResourceExhausted,
                    format!("{MAX_STREAMS} streams are open for role `{role}` already"),
                ));
            }
            _ => {}
        }
        let taken = election_id.is_some()
            && self
                .of_role(&role)
                .any(|(other, member)| other != stream && member.election_id == election_id);
        if taken {
            return Err(RpcError::new(
                Code::InvalidArgument,
                format!(
                    "election id {} is in use by another controller",
                    election_id.unwrap_or_default()
                ),
            ));
        }

        let before = self.primary(&role);
        self.members.insert(
            stream,
            Member {
                role: role.clone(),
                election_id,
            },
        );
        let highest = self.highest.entry(role.clone()).or_default();
        *highest = (*highest).max(election_id);
        let after = self.primary(&role);
        if after == Some(stream) || before != after {
            Ok(self.tell_all(&role))
        } else {
            Ok(vec![(stream, self.notice(stream, &role))])
        }
    }

    /// Takes note that a stream has ended.
    pub fn leave(&mut self, stream: StreamId) -> Notices {
        let Some(role) = self.members.get(&stream).map(|m| m.role.clone()) else {
            return Vec::new();
        };
        let was_primary = self.primary(&role) == Some(stream);
        self.members.remove(&stream);
        if was_primary {
            self.tell_all(&role)
        } else {
            Vec::new()
        }
    }

    /// The primary's stream, if the role has one.
    pub fn primary(&self, role: &str) -> Option<StreamId> {
        let wanted = if self.live_wins {
            self.of_role(role).filter_map(|(_, m)| m.election_id).max()
        } else {
            self.highest.get(role).copied().flatten()
        }?;
        self.of_role(role)
            .find(|(_, member)| member.election_id == Some(wanted))
            .map(|(stream, _)| stream)
    }

    /// The primaries of all roles.
    pub fn primaries(&self) -> impl Iterator<Item = StreamId> + '_ {
        self.highest.keys().filter_map(|role| self.primary(role))
    }

    /// Whether the stream is its role's primary.
    pub fn is_primary(&self, stream: StreamId) -> bool {
        self.members
            .get(&stream)
            .is_some_and(|member| self.primary(&member.role) == Some(stream))
    }

    /// Whether a call with these three may write, in the specification's order of checks.
    pub fn check_writer(
        &self,
        device_id: u64,
        role: &str,
        election_id: Option<&Uint128>,
    ) -> Result<(), RpcError> {
        self.check_device(device_id)?;
        if self.live_wins && self.members.is_empty() && election_id.is_none() {
            return Ok(());
        }
        if !self.highest.contains_key(role) && !role.is_empty() {
            return Err(RpcError::new(
                Code::NotFound,
                format!("no controller has announced role `{role}`"),
            ));
        }
        let given = election_id.map(election_number);
        let primary = self
            .primary(role)
            .and_then(|stream| self.members.get(&stream))
            .and_then(|member| member.election_id);
        if primary.is_some() && given == primary {
            return Ok(());
        }
        let own = match given {
            Some(id) => format!("election id {id} is not the primary's"),
            None => "a call without election id is not the primary's".to_owned(),
        };
        let other = match primary {
            Some(primary) => format!("the primary has election id {primary}"),
            None => "there is no primary".to_owned(),
        };
        Err(RpcError::new(
            Code::PermissionDenied,
            format!("{own}: {other}"),
        ))
    }

    pub fn check_device(&self, device_id: u64) -> Result<(), RpcError> {
        if device_id == self.device_id {
            Ok(())
        } else {
            Err(self.no_such_device(device_id))
        }
    }

    fn no_such_device(&self, device_id: u64) -> RpcError {
        RpcError::new(
            Code::NotFound,
            format!(
                "there is no device {device_id} here: this is device {}",
                self.device_id
            ),
        )
    }

    #[allow(deprecated, reason = "to refuse what is deprecated")]
    fn role(&self, role: Option<&Role>) -> Result<String, RpcError> {
        let Some(role) = role else {
            return Ok(String::new());
        };
        if role.id != 0 {
            return Err(RpcError::new(
                Code::InvalidArgument,
                "roles are known by name, not by id",
            ));
        }
        if role.config.is_some() {
            return Err(RpcError::new(
                Code::InvalidArgument,
                "no scheme for `role.config` was agreed upon: leave it out",
            ));
        }
        if self.live_wins && !role.name.is_empty() {
            return Err(RpcError::new(
                Code::Unimplemented,
                "there are no roles with the quirks of simple_switch_grpc",
            ));
        }
        Ok(role.name.clone())
    }

    fn of_role<'a>(&'a self, role: &'a str) -> impl Iterator<Item = (StreamId, &'a Member)> {
        self.members
            .iter()
            .filter(move |(_, member)| member.role == role)
            .map(|(stream, member)| (*stream, member))
    }

    /// The backups first, the primary last.
    fn tell_all(&self, role: &str) -> Notices {
        let primary = self.primary(role);
        let (first, last): (Vec<_>, Vec<_>) = self
            .of_role(role)
            .map(|(stream, _)| stream)
            .partition(|stream| Some(*stream) != primary);
        first
            .into_iter()
            .chain(last)
            .map(|stream| (stream, self.notice(stream, role)))
            .collect()
    }

    fn notice(&self, stream: StreamId, role: &str) -> MasterArbitrationUpdate {
        let primary = self.primary(role);
        let (code, message) = match primary {
            Some(primary) if primary == stream => (Code::Ok, "you are primary"),
            Some(_) => (Code::AlreadyExists, "another controller is primary"),
            None => (Code::NotFound, "there is no primary"),
        };
        let shown = if self.live_wins {
            primary
                .and_then(|stream| self.members.get(&stream))
                .and_then(|member| member.election_id)
        } else {
            self.highest.get(role).copied().flatten()
        };
        MasterArbitrationUpdate {
            device_id: self.device_id,
            role: (!role.is_empty()).then(|| Role {
                name: role.to_owned(),
                ..Role::default()
            }),
            election_id: shown.map(uint128),
            status: Some(Status {
                code: code as i32,
                message: message.to_owned(),
                details: Vec::new(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announce(election_id: Option<u128>) -> MasterArbitrationUpdate {
        MasterArbitrationUpdate {
            device_id: 1,
            election_id: election_id.map(uint128),
            ..MasterArbitrationUpdate::default()
        }
    }

    fn codes(notices: &Notices) -> Vec<(u64, i32)> {
        notices
            .iter()
            .map(|(stream, n)| (stream.0, n.status.as_ref().unwrap().code))
            .collect()
    }

    const OK: i32 = Code::Ok as i32;
    const BACKUP: i32 = Code::AlreadyExists as i32;
    const NOBODY: i32 = Code::NotFound as i32;

    #[test]
    fn a_higher_id_takes_over_and_the_old_primary_is_told_first() {
        let mut arbiter = Arbiter::new(1, false);
        assert_eq!(
            codes(&arbiter.update(StreamId(1), &announce(Some(5))).unwrap()),
            [(1, OK)]
        );
        let notices = arbiter.update(StreamId(2), &announce(Some(6))).unwrap();
        assert_eq!(codes(&notices), [(1, BACKUP), (2, OK)]);
        assert!(arbiter.check_writer(1, "", Some(&uint128(6))).is_ok());
        let error = arbiter.check_writer(1, "", Some(&uint128(5))).unwrap_err();
        assert_eq!(error.code, Code::PermissionDenied);
    }

    #[test]
    fn when_the_primary_leaves_nobody_is_promoted() {
        let mut arbiter = Arbiter::new(1, false);
        arbiter.update(StreamId(1), &announce(Some(5))).unwrap();
        arbiter.update(StreamId(2), &announce(Some(6))).unwrap();
        assert_eq!(codes(&arbiter.leave(StreamId(2))), [(1, NOBODY)]);
        assert_eq!(arbiter.primary(""), None);
        // Lower than the highest ever seen: still a backup without primary.
        assert_eq!(
            codes(&arbiter.update(StreamId(3), &announce(Some(4))).unwrap()),
            [(3, NOBODY)]
        );
        assert_eq!(
            codes(&arbiter.update(StreamId(1), &announce(Some(6))).unwrap()),
            [(3, BACKUP), (1, OK)]
        );
    }

    #[test]
    fn with_the_quirk_the_highest_live_one_is_promoted() {
        let mut arbiter = Arbiter::new(1, true);
        arbiter.update(StreamId(1), &announce(Some(5))).unwrap();
        arbiter.update(StreamId(2), &announce(Some(6))).unwrap();
        assert_eq!(codes(&arbiter.leave(StreamId(2))), [(1, OK)]);
    }

    #[test]
    fn a_primary_that_steps_down_leaves_no_primary_and_everyone_hears() {
        let mut arbiter = Arbiter::new(1, false);
        arbiter.update(StreamId(1), &announce(Some(5))).unwrap();
        arbiter.update(StreamId(2), &announce(Some(6))).unwrap();
        let notices = arbiter.update(StreamId(2), &announce(Some(2))).unwrap();
        assert_eq!(codes(&notices), [(1, NOBODY), (2, NOBODY)]);
    }

    #[test]
    fn an_election_id_in_use_ends_the_newcomer_and_not_its_owner() {
        let mut arbiter = Arbiter::new(1, false);
        arbiter.update(StreamId(1), &announce(Some(5))).unwrap();
        let error = arbiter.update(StreamId(2), &announce(Some(5))).unwrap_err();
        assert_eq!(error.code, Code::InvalidArgument);
        arbiter.leave(StreamId(2));
        assert_eq!(arbiter.primary(""), Some(StreamId(1)));
    }

    #[test]
    fn without_election_id_one_never_becomes_primary() {
        let mut arbiter = Arbiter::new(1, false);
        let notices = arbiter.update(StreamId(1), &announce(None)).unwrap();
        assert_eq!(codes(&notices), [(1, NOBODY)]);
        assert_eq!(notices[0].1.election_id, None);
        // 0 is an election id like any other.
        let notices = arbiter.update(StreamId(2), &announce(Some(0))).unwrap();
        assert_eq!(codes(&notices), [(1, BACKUP), (2, OK)]);
    }

    #[test]
    fn each_role_has_its_own_primary() {
        let mut arbiter = Arbiter::new(1, false);
        arbiter.update(StreamId(1), &announce(Some(5))).unwrap();
        let mut other = announce(Some(1));
        other.role = Some(Role {
            name: "stats".to_owned(),
            ..Role::default()
        });
        assert_eq!(
            codes(&arbiter.update(StreamId(2), &other).unwrap()),
            [(2, OK)]
        );
        assert!(arbiter.check_writer(1, "stats", Some(&uint128(1))).is_ok());
        let error = arbiter
            .check_writer(1, "nobody", Some(&uint128(1)))
            .unwrap_err();
        assert_eq!(error.code, Code::NotFound);
        let error = arbiter.update(StreamId(2), &announce(Some(1))).unwrap_err();
        assert_eq!(error.code, Code::FailedPrecondition);
    }

    #[test]
    fn another_device_is_not_found_at_first_and_a_contradiction_later() {
        let mut arbiter = Arbiter::new(1, false);
        let mut update = announce(Some(5));
        update.device_id = 2;
        assert_eq!(
            arbiter.update(StreamId(1), &update).unwrap_err().code,
            Code::NotFound
        );
        arbiter.update(StreamId(1), &announce(Some(5))).unwrap();
        assert_eq!(
            arbiter.update(StreamId(1), &update).unwrap_err().code,
            Code::FailedPrecondition
        );
    }
}
