//! How a manager ends flows that agents hold: those of a target that has died, and those that another decision
//! has taken the place of. Which ones is the service's business.

use signalbox_agent::flow::{PacketKind, Part, Tuple};
use signalbox_agent::message::{CarriedState, Inject, Interest, ManagerBody, Place, Which};

use super::Manager;
use crate::memory::AgentId;
use crate::service::Reset;
use crate::session::SessionId;

impl Manager {
    /// Ends flows of targets that have died, and forgets what is over.
    pub(super) fn react(&mut self, index: usize) {
        let now = self.now;
        let Some(service) = self.services.get_mut(index) else {
            return;
        };
        service.memory.forget(now);
        if service.reactions.next().is_none_or(|at| at > now) {
            return;
        }
        let flows = service.react(now);
        if self.offers.get(index).is_some_and(|o| o.stands_by) {
            return;
        }
        for (agent, affinities) in flows {
            // One that is away is told when it is back.
            if let Some(id) = self.ways.to(agent) {
                self.unasked += 1;
                let request = self.unasked;
                let body = ManagerBody::Install {
                    request,
                    affinities,
                };
                self.say(id, index, body);
            }
        }
    }

    /// A flow was decided anew: an agent that it came to before would go on as it did then.
    pub(super) fn replaced(
        &mut self,
        index: usize,
        agent: AgentId,
        tuple: Tuple,
        kind: PacketKind,
    ) {
        let Some(id) = self.ways.to(agent) else {
            return;
        };
        self.unasked += 1;
        let which = Which::Match {
            part: Part::Forward,
            tuple,
            kind,
        };
        let request = self.unasked;
        self.say(id, index, ManagerBody::Delete { request, which });
    }

    /// Answers for a target that has died: the RST takes the way that the target's own packets take, from
    /// this service's reply part on, so that earlier services bring it back to what the client sees (A4.8).
    pub(super) fn reset(&mut self, id: SessionId, index: usize, interest: &Interest, reset: Reset) {
        let flow = (self.services.get(index)).and_then(|s| s.memory.get(reset.number));
        let port = flow.and_then(|f| self.ports.behind(&f.decided));
        if let Some(packet) = reset.packet {
            self.injected += 1;
            let state = CarriedState {
                ingress_port: port.unwrap_or(interest.state.ingress_port),
                reply: true,
                ..CarriedState::default()
            };
            let inject = Inject {
                request: self.injected,
                packet,
                place: Place::Stage {
                    stage: interest.stage,
                    part: Part::Reply,
                    state,
                    answered: true,
                },
            };
            self.say(id, index, ManagerBody::Inject(inject));
        }
        self.unasked += 1;
        let delete = ManagerBody::Delete {
            request: self.unasked,
            which: Which::Match {
                part: Part::Forward,
                tuple: interest.flow,
                kind: interest.kind,
            },
        };
        self.say(id, index, delete);
    }
}
