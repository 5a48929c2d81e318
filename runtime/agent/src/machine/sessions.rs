//! Who may speak: logins and epochs. A manager decides for a share of a service while it holds the
//! highest epoch that any manager has shown for it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::shares::{Owner, Share};
use super::{Agent, Output, SessionId};
use crate::message::{
    AgentBody, Denied, Hello, ManagerBody, Reason, ShareEpoch, ToAgent, ToManager, VERSION, Welcome,
};

/// A manager's connection.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// Set by its `Hello`.
    pub manager: Option<Arc<str>>,
    /// What it only stands by for.
    pub standby: BTreeSet<Share>,
    /// The number of its process.
    pub instance: u64,
}

impl Agent {
    pub(super) fn session_closed(&mut self, id: SessionId) {
        self.sessions.remove(&id);
        self.vacate(id);
        self.answers_nothing_more(id);
        self.injected.retain(|_, session| *session != id);
        // Criteria live on until their lease ends: a manager that comes back in time loses nothing.
    }

    pub(super) fn message(&mut self, id: SessionId, message: ToAgent) {
        let Some(session) = self.sessions.get(&id) else {
            return;
        };
        let (subject, body) = match message.body {
            ManagerBody::Hello(hello) => return self.hello(id, &hello),
            body => (body.subject(), body),
        };
        let manager = session.manager.clone();
        let Some(manager) = manager else {
            return self.refuse(
                id,
                Reason::Malformed,
                "the first message must be a hello".into(),
            );
        };
        let Some(subject) = subject else { return };
        let Some(service) = self.service_index(&message.service) else {
            self.denied(Reason::NotServing);
            self.out.push(Output::Message(
                id,
                ToManager {
                    service: message.service.clone(),
                    share: message.share,
                    epoch: 0,
                    body: AgentBody::Denied(Denied {
                        subject,
                        reason: Reason::NotServing,
                        text: format!("there is no service `{}`", message.service),
                    }),
                },
            ));
            return;
        };
        let share = Share {
            service,
            number: message.share,
        };
        if let Err((reason, text)) = self.admit(id, &manager, share, message.epoch) {
            return self.deny(id, share, subject, reason, text);
        }
        match body {
            ManagerBody::Hello(_) => {}
            ManagerBody::Heartbeat(beat) => {
                self.heartbeat(id, share, &manager, message.epoch, beat);
            }
            ManagerBody::Criteria(criteria) => {
                let owner = Owner { share, manager };
                self.criteria(id, &owner, message.epoch, &criteria);
            }
            ManagerBody::Verdict(verdict) => self.verdict(id, share, &manager, verdict),
            ManagerBody::Install { affinities, .. } => {
                self.install(id, share, &manager, subject, &affinities, None);
            }
            ManagerBody::Delete { request, which } => self.delete(share, request, which),
            ManagerBody::Inject(inject) => self.inject(id, share, &manager, &inject),
            ManagerBody::ListAffinities { request } => self.list(id, share, request),
            ManagerBody::Goodbye => self.goodbye(id, share, &manager),
        }
    }

    fn service_index(&self, name: &str) -> Option<u8> {
        let index = self.services.iter().position(|s| &*s.name == name)?;
        u8::try_from(index).ok()
    }

    /// Whether the plan has the manager decide for a share, or stand by for it.
    pub(super) fn serves(&self, manager: &str, share: Share) -> bool {
        (self.plan.services.get(usize::from(share.service)))
            .and_then(|service| service.share(share.number))
            .is_some_and(|share| share.manager == manager || share.is_backup(manager))
    }

    /// Whether it does so for any share of a service.
    pub(super) fn serves_some(&self, manager: &str, service: u8) -> bool {
        let shares = (self.plan.services.get(usize::from(service))).map_or(0, |s| s.shares.len());
        (0u32..)
            .take(shares)
            .any(|number| self.serves(manager, Share { service, number }))
    }

    /// Checks the sender's right to speak for a share, and raises the epoch if its is newer.
    fn admit(
        &mut self,
        id: SessionId,
        manager: &str,
        share: Share,
        epoch: u64,
    ) -> Result<(), (Reason, String)> {
        if !self.serves(manager, share) {
            return Err((
                Reason::NotServing,
                format!(
                    "`{manager}` does not serve share {} of this service",
                    share.number
                ),
            ));
        }
        let stands_by = (self.sessions.get(&id)).is_some_and(|s| s.standby.contains(&share));
        let Some(service) = self.service(share.service) else {
            return Ok(());
        };
        let tenure = service.shares.entry(share.number).or_default();
        if epoch < tenure.epoch {
            let text = format!("epoch {epoch} is over, {} has been seen", tenure.epoch);
            return Err((Reason::OldEpoch, text));
        }
        if epoch > tenure.epoch || (tenure.holder.is_none() && !stands_by) {
            tenure.epoch = epoch;
            tenure.holder = Some(id);
        }
        Ok(())
    }

    fn hello(&mut self, id: SessionId, hello: &Hello) {
        if hello.version != VERSION {
            let text = format!(
                "the manager speaks version {}, this agent version {VERSION}",
                hello.version
            );
            return self.refuse(id, Reason::WrongVersion, text);
        }
        if hello.plan_hash != 0 && hello.plan_hash != self.plan_hash {
            return self.refuse(
                id,
                Reason::WrongPlan,
                "the manager works from another plan".into(),
            );
        }
        if !self.plan.managers.iter().any(|m| m.name == *hello.manager) {
            let text = format!("the policy has no manager `{}`", hello.manager);
            return self.refuse(id, Reason::UnknownManager, text);
        }
        let mut wanted = Vec::new();
        for claim in &hello.claims {
            let number = claim.share;
            let share = (self.service_index(&claim.service))
                .map(|service| Share { service, number })
                .filter(|share| self.serves(&hello.manager, *share));
            match share {
                Some(share) => wanted.push((share, claim)),
                None => {
                    let text = format!(
                        "`{}` does not serve share {number} of `{}`",
                        hello.manager, claim.service
                    );
                    return self.refuse(id, Reason::NotServing, text);
                }
            }
        }
        // Of two processes of one name the later one stays, wherever they meet: they would take the
        // sessions from each other for ever.
        let later = (self.sessions.values())
            .any(|s| s.manager.as_ref() == Some(&hello.manager) && s.instance > hello.instance);
        if later {
            let text = format!(
                "a manager `{}` that was started later is here",
                hello.manager
            );
            return self.refuse(id, Reason::Superseded, text);
        }
        // A manager that connects again speaks for itself: its former session may hang yet.
        let former: Vec<SessionId> = self
            .sessions
            .iter()
            .filter(|(other, s)| **other != id && s.manager.as_ref() == Some(&hello.manager))
            .map(|(other, _)| *other)
            .collect();
        for other in former {
            self.session_closed(other);
            self.out.push(Output::CloseSession(other));
        }
        if let Some(session) = self.sessions.get_mut(&id) {
            session.manager = Some(hello.manager.clone());
            session.instance = hello.instance;
            session.standby = (wanted.iter())
                .filter(|(_, claim)| claim.standby)
                .map(|(share, _)| *share)
                .collect();
        }
        // What another process of that name carried on nobody knows any more.
        let another = self.heard.comes(&hello.manager, hello.instance);
        let is_its = |owner: &Owner| owner.manager == hello.manager;
        self.cut_legs(
            |owner, instance| is_its(owner) && instance != hello.instance,
            |owner| is_its(owner) && another,
        );
        for (share, claim) in wanted {
            let Some(service) = self.service(share.service) else {
                continue;
            };
            let tenure = service.shares.entry(share.number).or_default();
            if claim.epoch >= tenure.epoch && !claim.standby {
                tenure.epoch = claim.epoch;
                tenure.holder = Some(id);
            }
        }
        let welcome = Welcome {
            version: VERSION,
            agent: self.name.clone(),
            plan_hash: self.plan_hash,
            shares: (self.services.iter())
                .flat_map(|s| {
                    s.shares.iter().map(|(share, tenure)| ShareEpoch {
                        service: s.name.clone(),
                        share: *share,
                        epoch: tenure.epoch,
                    })
                })
                .collect(),
        };
        self.tell_session(id, AgentBody::Welcome(welcome));
    }

    /// Says what concerns no service.
    fn tell_session(&mut self, id: SessionId, body: AgentBody) {
        let message = ToManager {
            service: "".into(),
            share: 0,
            epoch: 0,
            body,
        };
        self.out.push(Output::Message(id, message));
    }

    /// Ends a session, and says why.
    pub(super) fn send_away(&mut self, id: SessionId, reason: Reason, text: String) {
        self.tell_session(id, AgentBody::Refused { reason, text });
        self.out.push(Output::CloseSession(id));
    }

    fn refuse(&mut self, id: SessionId, reason: Reason, text: String) {
        self.counters.refused_logins += 1;
        self.denied(reason);
        self.sessions.remove(&id);
        self.send_away(id, reason, text);
    }
}
