//! Time: what is due when, and what happens then.

use std::time::Duration;

use signalbox_agent::Input as ToTheAgent;
use signalbox_manager::Input;

use super::Net;

/// Time passes in steps of at least so much.
const STEP: Duration = Duration::from_millis(1);

impl Net {
    /// When something is due.
    fn due(&self) -> Option<Duration> {
        let agents = self.agents.iter().filter_map(|w| w.agent.next_deadline());
        let awake = self.processes.iter().flatten().filter(|p| !p.hung);
        let managers = awake.filter_map(|p| p.machine.next_deadline());
        let lines = (self.links.iter()).flat_map(|((_, m), link)| {
            let hung = self.processes[*m].as_ref().is_some_and(|p| p.hung);
            let session = link.session.as_ref();
            let waits = session.is_none() && link.again > self.now;
            [
                session.filter(|_| !hung).and_then(|s| s.up.next()),
                session.and_then(|s| s.down.next()),
                waits.then_some(link.again),
            ]
        });
        let mischief = self.mischief.as_ref().and_then(|m| m.next(self.now));
        (agents.chain(managers).chain(lines.flatten()))
            .chain(mischief)
            .chain(self.next_across())
            .chain(self.next_change())
            .min()
    }

    /// Time passes, from one deadline to the next.
    pub fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        while self.now < end && self.watch.violation.is_none() {
            let due = self.due().unwrap_or(end);
            self.now = due.max(self.now + STEP).min(end);
            for world in &mut self.agents {
                world.now = self.now;
                if world.agent.next_deadline().is_some_and(|at| at <= self.now) {
                    world.feed(ToTheAgent::Tick);
                }
            }
            self.look(None);
            for m in 0..self.processes.len() {
                let process = self.processes[m].as_ref().filter(|p| !p.hung);
                let due = process.and_then(|p| p.machine.next_deadline());
                if due.is_some_and(|at| at <= self.now) {
                    self.tell(m, Input::Tick);
                }
            }
            self.take_over();
            self.misbehave();
            for (a, m) in self.links.keys().copied().collect::<Vec<_>>() {
                self.connect(a, m);
            }
            self.meet();
            self.settle();
        }
    }

    /// What a bug does by itself.
    fn misbehave(&mut self) {
        let Some(mischief) = &mut self.mischief else {
            return;
        };
        let (ghosts, later) = mischief.due(self.now);
        for (a, session, message) in ghosts {
            self.agents[a].feed(ToTheAgent::Message(session, message));
        }
        for (a, m, sent) in later {
            if let Some(session) = self.links.get_mut(&(a, m)).and_then(|l| l.session.as_mut()) {
                session.down.push(self.now, sent);
            }
        }
    }
}
