//! Action profiles: members, and the groups of action selectors.

use super::tables::pack_call;
use super::{ActionCall, GroupId, MemberId, Result};
use crate::exec::state::{Group, Member, ProfileState};
use crate::table::Run;
use crate::{ActionProfileId, ControlError, Switch};

impl Switch {
    fn profile(&self, profile: ActionProfileId) -> Result<&ProfileState> {
        self.program()?;
        let state = self.state.profiles.get(profile.index());
        state.ok_or(ControlError::NoSuchActionProfile(profile))
    }

    fn profile_mut(&mut self, profile: ActionProfileId) -> Result<&mut ProfileState> {
        self.program()?;
        let state = self.state.profiles.get_mut(profile.index());
        state.ok_or(ControlError::NoSuchActionProfile(profile))
    }

    fn new_member(&self, profile: ActionProfileId, call: ActionCall) -> Result<Member> {
        let program = self.program()?;
        let schema = program.schema.action_profiles.get(profile.index());
        let schema = schema.ok_or(ControlError::NoSuchActionProfile(profile))?;
        let data = pack_call(program, &call)?;
        let tables = schema
            .tables
            .iter()
            .filter_map(|t| program.schema.tables.get(t.index()));
        if tables.clone().next().is_some()
            && !tables
                .clone()
                .any(|table| table.actions.contains(&call.action))
        {
            let action = program.schema.actions.get(call.action.index());
            return Err(ControlError::ForeignAction {
                action: action.map(|a| a.name.clone()).unwrap_or_default(),
                table: schema.name.clone(),
            });
        }
        Ok(Member {
            action: call.action.0,
            call,
            data,
        })
    }

    /// Adds a member under a number of the caller's choice.
    ///
    /// # Errors
    /// When the number is taken, the action is not one of the tables that use the profile, or the
    /// profile is full.
    pub fn member_create(
        &mut self,
        profile: ActionProfileId,
        id: MemberId,
        action: ActionCall,
    ) -> Result<()> {
        let member = self.new_member(profile, action)?;
        let schema = self.program()?.schema.action_profiles.get(profile.index());
        let (size, name) = schema.map(|s| (s.size, s.name.clone())).unwrap_or_default();
        let state = self.profile_mut(profile)?;
        if state.members.contains_key(&id) {
            return Err(ControlError::AlreadyExists);
        }
        if size > 0 && state.members.len() >= size {
            return Err(ControlError::TableFull { name, size });
        }
        state.members.insert(id, member);
        Ok(())
    }

    /// Replaces a member's action.
    ///
    /// # Errors
    /// When there is no such member, or the action is not one of the tables that use the profile.
    pub fn member_modify(
        &mut self,
        profile: ActionProfileId,
        id: MemberId,
        action: ActionCall,
    ) -> Result<()> {
        let new = self.new_member(profile, action)?;
        match self.profile_mut(profile)?.members.get_mut(&id) {
            Some(member) => {
                *member = new;
                Ok(())
            }
            None => Err(ControlError::NoSuchMember(id)),
        }
    }

    /// Takes a member away.
    ///
    /// # Errors
    /// When there is no such member, or an entry or group names it.
    pub fn member_delete(&mut self, profile: ActionProfileId, id: MemberId) -> Result<()> {
        let state = self.profile(profile)?;
        if !state.members.contains_key(&id) {
            return Err(ControlError::NoSuchMember(id));
        }
        let in_group = state
            .groups
            .values()
            .any(|g| g.members.iter().any(|(m, _)| *m == id));
        if in_group || self.profile_used(profile, |run| run == Run::Member(id.0)) {
            return Err(ControlError::InUse);
        }
        self.profile_mut(profile)?.members.remove(&id);
        Ok(())
    }

    /// The members in order of number.
    ///
    /// # Errors
    /// When there is no such profile.
    pub fn members(&self, profile: ActionProfileId) -> Result<Vec<(MemberId, ActionCall)>> {
        let members = &self.profile(profile)?.members;
        Ok(members
            .iter()
            .map(|(id, member)| (*id, member.call.clone()))
            .collect())
    }

    fn new_group(&self, profile: ActionProfileId, members: &[(MemberId, u32)]) -> Result<Group> {
        let state = self.profile(profile)?;
        let schema = self.program()?.schema.action_profiles.get(profile.index());
        if let Some(schema) = schema
            && !schema.selector
        {
            return Err(ControlError::NoSelector(schema.name.clone()));
        }
        if let Some((id, _)) = members
            .iter()
            .find(|(id, _)| !state.members.contains_key(id))
        {
            return Err(ControlError::NoSuchMember(*id));
        }
        let mut sorted = members.to_vec();
        sorted.sort();
        if sorted
            .windows(2)
            .any(|pair| matches!(pair, [a, b] if a.0 == b.0))
        {
            return Err(ControlError::AlreadyExists);
        }
        let total: u64 = sorted.iter().map(|(_, weight)| u64::from(*weight)).sum();
        if total > 1 << 20 {
            let name = schema.map(|s| s.name.clone()).unwrap_or_default();
            return Err(ControlError::TableFull {
                name,
                size: 1 << 20,
            });
        }
        let choices = sorted
            .iter()
            .flat_map(|(id, weight)| std::iter::repeat_n(id.0, *weight as usize))
            .collect();
        Ok(Group {
            members: sorted,
            choices,
        })
    }

    /// Adds a group with its members and their weights; a member of weight n is chosen n times as
    /// often as one of weight 1.
    ///
    /// # Errors
    /// When the number is taken, a member is missing or named twice, the weights pass 2^20, or the
    /// profile has no selector.
    pub fn group_create(
        &mut self,
        profile: ActionProfileId,
        id: GroupId,
        members: &[(MemberId, u32)],
    ) -> Result<()> {
        let group = self.new_group(profile, members)?;
        let state = self.profile_mut(profile)?;
        if state.groups.contains_key(&id) {
            return Err(ControlError::AlreadyExists);
        }
        state.groups.insert(id, group);
        Ok(())
    }

    /// Replaces a group's members.
    ///
    /// # Errors
    /// As [`Switch::group_create`], and when there is no such group.
    pub fn group_modify(
        &mut self,
        profile: ActionProfileId,
        id: GroupId,
        members: &[(MemberId, u32)],
    ) -> Result<()> {
        let new = self.new_group(profile, members)?;
        match self.profile_mut(profile)?.groups.get_mut(&id) {
            Some(group) => {
                *group = new;
                Ok(())
            }
            None => Err(ControlError::NoSuchGroup(id)),
        }
    }

    /// Takes a group away.
    ///
    /// # Errors
    /// When there is no such group, or an entry names it.
    pub fn group_delete(&mut self, profile: ActionProfileId, id: GroupId) -> Result<()> {
        if !self.profile(profile)?.groups.contains_key(&id) {
            return Err(ControlError::NoSuchGroup(id));
        }
        if self.profile_used(profile, |run| run == Run::Group(id.0)) {
            return Err(ControlError::InUse);
        }
        self.profile_mut(profile)?.groups.remove(&id);
        Ok(())
    }

    /// The groups in order of number, with their members in order of number.
    ///
    /// # Errors
    /// When there is no such profile.
    #[expect(clippy::type_complexity, reason = "a list of groups is just that")]
    pub fn groups(&self, profile: ActionProfileId) -> Result<Vec<(GroupId, Vec<(MemberId, u32)>)>> {
        let groups = &self.profile(profile)?.groups;
        Ok(groups
            .iter()
            .map(|(id, group)| (*id, group.members.clone()))
            .collect())
    }
}
