//! A story in words.

use std::fmt;

use signalbox_lower::plan::Replicate;

use crate::division::Division;
use crate::site::{NAT, roles};
use crate::story::{Event, Setup, Story};

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = roles(&self.setup).iter().map(|r| r.name).collect();
        let lines = &self.setup.lines;
        writeln!(
            f,
            "{} agent(s); managers {}{}; of 1000 messages {} are lost, {} doubled, {} late by up to {:?}",
            self.setup.agents,
            names.join(", "),
            match self.setup.replicate {
                None => "",
                Some(Replicate::Sync) => ", who replicate sync",
                Some(Replicate::Async) => ", who replicate async",
            },
            lines.lose,
            lines.double,
            lines.delay,
            lines.by
        )?;
        if let Some(goes_away) = self.setup.shared {
            let how = if goes_away {
                ", which is away now and then"
            } else {
                ""
            };
            writeln!(f, "  managers share a store{how}")?;
        }
        if let Some(division) = self.setup.division {
            writeln!(f, "  {}", divided(&self.setup, division))?;
        }
        let mut at = std::time::Duration::from_millis(20);
        for step in &self.steps {
            at += step.wait;
            writeln!(f, "  {at:>10.3?}  {}", told(&self.setup, step.event))?;
        }
        Ok(())
    }
}

/// Who has which share of what.
fn divided(setup: &Setup, division: Division) -> String {
    let told = roles(setup).into_iter().filter(|r| !r.backup).map(|role| {
        let (name, service) = (role.name, role.service);
        let Some(share) = division.share(role.who) else {
            return format!("{name} has nothing of {service}");
        };
        match division.addresses(service == NAT, share) {
            Some(a) => format!(
                "{name} has {service} where ip.src & {} is {}",
                a.mask, a.value
            ),
            None => format!("{name} has all of {service}"),
        }
    });
    told.collect::<Vec<_>>().join(", ")
}

fn told(setup: &Setup, event: Event) -> String {
    let roles = roles(setup);
    let name = |m: usize| roles.get(m).map_or("nobody", |r| r.name);
    match event {
        Event::Open { flow, agent, nat } => {
            let who = if nat { "a host inside" } else { "a client" };
            format!("{who} opens flow {flow} at agent {agent}")
        }
        Event::Again(flow) => format!("flow {flow}'s client opens it again"),
        Event::Send(flow) => format!("flow {flow}'s opener sends"),
        Event::Answer(flow) => format!("flow {flow}'s other end answers"),
        Event::End { flow, reset: true } => format!("flow {flow} is reset"),
        Event::End { flow, .. } => format!("flow {flow} ends by two FINs"),
        Event::Move { flow, agent } => format!("flow {flow} comes to agent {agent} from now on"),
        Event::Elsewhere { flow, agent } => {
            format!("flow {flow}'s SYN comes to agent {agent}, too")
        }
        Event::Stranger { agent, port } => {
            format!("a packet in mid-flow from port {port}, of no flow, comes to agent {agent}")
        }
        Event::Cut {
            agent,
            manager,
            noticed,
        } => {
            let how = if noticed { "" } else { ", and neither notices" };
            format!(
                "the way between agent {agent} and {} breaks{how}",
                name(manager)
            )
        }
        Event::Mend { agent, manager } => {
            format!(
                "the way between agent {agent} and {} is whole again",
                name(manager)
            )
        }
        Event::Kill(m) => format!("{} dies", name(m)),
        Event::Stop(m) => format!("{} says goodbye and ends", name(m)),
        Event::Start(m) => format!("{} starts", name(m)),
        Event::Hang(m) => format!("{} hangs", name(m)),
        Event::GoOn(m) => format!("{} goes on", name(m)),
        Event::Restart(a) => format!("agent {a} starts anew, on its switch as it was"),
        Event::Wipe(a) => format!("agent {a} and its switch start anew, with nothing"),
        Event::Part { manager, stays } => {
            let how = if stays { ", and stays so" } else { "" };
            format!(
                "the way between {} and the other one breaks{how}",
                name(manager)
            )
        }
        Event::Divide { division, pace } => {
            let how = divided(setup, division);
            format!("from now on {how}; everybody hears of it {pace:?} after the one before")
        }
        Event::Rejoin(m) => {
            format!(
                "the way between {} and the other one may be whole again",
                name(m)
            )
        }
    }
}
