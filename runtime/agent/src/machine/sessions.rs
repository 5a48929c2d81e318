//! Who may speak: logins, epochs, heartbeats. A manager decides for a service while it holds the highest
//! epoch that any manager has shown for it.

use std::sync::Arc;

use super::{Agent, Output, SessionId};
use crate::message::{AgentBody, Hello, ManagerBody, Reason, ToAgent, ToManager, VERSION, Welcome};

/// A manager's connection.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// Set by its `Hello`.
    pub manager: Option<Arc<str>>,
}

impl Agent {
    pub(super) fn session_closed(&mut self, id: SessionId) {
        self.sessions.remove(&id);
        for service in &mut self.services {
            if service.holder == Some(id) {
                service.holder = None;
            }
        }
        self.injected.retain(|_, session| *session != id);
        // Criteria live on until their lease ends: a manager that comes back in time loses nothing.
    }

    pub(super) fn message(&mut self, id: SessionId, message: ToAgent) {
        let Some(session) = self.sessions.get(&id) else {
            return;
        };
        let body = match message.body {
            ManagerBody::Hello(hello) => return self.hello(id, &hello),
            body => body,
        };
        let manager = session.manager.clone();
        let Some(manager) = manager else {
            return self.refuse(
                id,
                Reason::Malformed,
                "the first message must be a hello".into(),
            );
        };
        let request = request_of(&body);
        let Some(service) = self.service_index(&message.service) else {
            self.denied(Reason::NotServing);
            self.out.push(Output::Message(
                id,
                ToManager {
                    service: message.service.clone(),
                    epoch: 0,
                    body: AgentBody::Denied(crate::message::Denied {
                        request,
                        reason: Reason::NotServing,
                        text: format!("there is no service `{}`", message.service),
                    }),
                },
            ));
            return;
        };
        if let Err((reason, text)) = self.admit(id, &manager, service, message.epoch) {
            return self.deny(id, service, request, reason, text);
        }
        match body {
            ManagerBody::Hello(_) => {}
            ManagerBody::Heartbeat(beat) => self.heartbeat(id, service, &manager, beat),
            ManagerBody::Criteria(criteria) => {
                self.criteria(id, service, &manager, &criteria);
            }
            ManagerBody::Verdict(verdict) => self.verdict(id, service, &manager, verdict),
            ManagerBody::Install {
                request,
                affinities,
            } => {
                self.install(id, service, &manager, request, &affinities);
            }
            ManagerBody::Delete { request, which } => self.delete(service, request, which),
            ManagerBody::Inject(inject) => self.inject(id, service, &manager, &inject),
            ManagerBody::ListAffinities { request } => self.list(id, service, request),
        }
    }

    fn service_index(&self, name: &str) -> Option<u8> {
        let index = self.services.iter().position(|s| &*s.name == name)?;
        u8::try_from(index).ok()
    }

    pub(super) fn serves(&self, manager: &str, service: u8) -> bool {
        self.plan
            .services
            .get(usize::from(service))
            .is_some_and(|s| {
                s.manager.as_deref() == Some(manager)
                    || self
                        .plan
                        .managers
                        .iter()
                        .any(|m| m.name == manager && m.serves.contains(&s.name))
            })
    }

    /// Checks the sender's right to speak for a service, and raises the epoch if its is newer.
    fn admit(
        &mut self,
        id: SessionId,
        manager: &str,
        service: u8,
        epoch: u64,
    ) -> Result<(), (Reason, String)> {
        if !self.serves(manager, service) {
            return Err((
                Reason::NotServing,
                format!("`{manager}` does not serve this service"),
            ));
        }
        let Some(state) = self.service(service) else {
            return Ok(());
        };
        if epoch < state.epoch {
            return Err((
                Reason::OldEpoch,
                format!("epoch {epoch} is over, {} has been seen", state.epoch),
            ));
        }
        if epoch > state.epoch || state.holder.is_none() {
            state.epoch = epoch;
            state.holder = Some(id);
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
        if !self.plan.managers.iter().any(|m| m.name == *hello.manager)
            && !(self.plan.services.iter()).any(|s| s.manager.as_deref() == Some(&*hello.manager))
        {
            let text = format!("the policy has no manager `{}`", hello.manager);
            return self.refuse(id, Reason::UnknownManager, text);
        }
        let mut wanted = Vec::new();
        for (name, epoch) in &hello.services {
            match self.service_index(name) {
                Some(service) if self.serves(&hello.manager, service) => {
                    wanted.push((service, *epoch));
                }
                _ => {
                    let text = format!("`{}` does not serve `{name}`", hello.manager);
                    return self.refuse(id, Reason::NotServing, text);
                }
            }
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
        }
        for (service, epoch) in wanted {
            if let Some(state) = self.service(service)
                && epoch >= state.epoch
            {
                state.epoch = epoch;
                state.holder = Some(id);
            }
        }
        let welcome = Welcome {
            version: VERSION,
            agent: self.name.clone(),
            plan_hash: self.plan_hash,
            services: (self.services.iter())
                .map(|s| (s.name.clone(), s.epoch))
                .collect(),
        };
        self.out.push(Output::Message(
            id,
            ToManager {
                service: "".into(),
                epoch: 0,
                body: AgentBody::Welcome(welcome),
            },
        ));
    }

    fn refuse(&mut self, id: SessionId, reason: Reason, text: String) {
        self.counters.refused_logins += 1;
        self.denied(reason);
        self.sessions.remove(&id);
        self.out.push(Output::Message(
            id,
            ToManager {
                service: "".into(),
                epoch: 0,
                body: AgentBody::Refused { reason, text },
            },
        ));
        self.out.push(Output::CloseSession(id));
    }
}

fn request_of(body: &ManagerBody) -> u64 {
    match body {
        ManagerBody::Hello(_) | ManagerBody::Heartbeat(_) | ManagerBody::Inject(_) => 0,
        ManagerBody::Criteria(c) => c.version,
        ManagerBody::Verdict(v) => v.request,
        ManagerBody::Install { request, .. }
        | ManagerBody::Delete { request, .. }
        | ManagerBody::ListAffinities { request } => *request,
    }
}
