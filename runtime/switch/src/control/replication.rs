//! Packet replication: multicast groups and clone sessions. They are part of a pipeline's state:
//! `load` and `swap` empty them.

use super::{CloneSession, Replica, Result};
use crate::{ControlError, Switch};

/// The highest clone session id.
const MAX_SESSION: u16 = 32_767;

fn check(id: u16, max: u16) -> Result<()> {
    match id == 0 || id > max {
        true => Err(ControlError::BadId {
            id: id.into(),
            max: max.into(),
        }),
        false => Ok(()),
    }
}

impl Switch {
    /// Adds a multicast group (1 to 65535).
    ///
    /// # Errors
    /// When it exists or the id is 0.
    pub fn multicast_create(&mut self, group: u16, replicas: Vec<Replica>) -> Result<()> {
        check(group, u16::MAX)?;
        if self.state.multicast.contains_key(&group) {
            return Err(ControlError::AlreadyExists);
        }
        self.state.multicast.insert(group, replicas);
        Ok(())
    }

    /// Replaces a multicast group's replicas.
    ///
    /// # Errors
    /// When there is no such group.
    pub fn multicast_modify(&mut self, group: u16, replicas: Vec<Replica>) -> Result<()> {
        match self.state.multicast.get_mut(&group) {
            Some(known) => {
                *known = replicas;
                Ok(())
            }
            None => Err(ControlError::NotFound),
        }
    }

    /// Takes a multicast group away.
    ///
    /// # Errors
    /// When there is no such group.
    pub fn multicast_delete(&mut self, group: u16) -> Result<()> {
        self.state
            .multicast
            .remove(&group)
            .map(|_| ())
            .ok_or(ControlError::NotFound)
    }

    /// A multicast group's replicas.
    pub fn multicast_group(&self, group: u16) -> Option<&[Replica]> {
        self.state.multicast.get(&group).map(Vec::as_slice)
    }

    /// The multicast groups in order of id.
    pub fn multicast_groups(&self) -> Vec<u16> {
        self.state.multicast.keys().copied().collect()
    }

    /// Adds a clone session (1 to 32767).
    ///
    /// # Errors
    /// When it exists or the id is outside of the range.
    pub fn clone_session_create(&mut self, id: u16, session: CloneSession) -> Result<()> {
        check(id, MAX_SESSION)?;
        if self.state.sessions.contains_key(&id) {
            return Err(ControlError::AlreadyExists);
        }
        self.state.sessions.insert(id, session);
        Ok(())
    }

    /// Replaces a clone session.
    ///
    /// # Errors
    /// When there is no such session.
    pub fn clone_session_modify(&mut self, id: u16, session: CloneSession) -> Result<()> {
        match self.state.sessions.get_mut(&id) {
            Some(known) => {
                *known = session;
                Ok(())
            }
            None => Err(ControlError::NotFound),
        }
    }

    /// Takes a clone session away.
    ///
    /// # Errors
    /// When there is no such session.
    pub fn clone_session_delete(&mut self, id: u16) -> Result<()> {
        self.state
            .sessions
            .remove(&id)
            .map(|_| ())
            .ok_or(ControlError::NotFound)
    }

    /// A clone session.
    pub fn clone_session(&self, id: u16) -> Option<&CloneSession> {
        self.state.sessions.get(&id)
    }

    /// The clone sessions in order of id.
    pub fn clone_sessions(&self) -> Vec<u16> {
        self.state.sessions.keys().copied().collect()
    }
}
