//! What is looked for in flows: parts of tuples, names and states.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use signalbox_agent::flow::Tuple;

use super::Connection;

/// One thing that is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// A protocol: `tcp`, `udp`, `icmp`, `icmpv6`.
    Protocol(u8),
    /// `203.0.113.9`: a source or destination.
    Address(IpAddr),
    /// `10.0.0.0/8`: a source or destination within.
    Net(IpNet),
    /// `:443`: a source or destination port.
    Port(u16),
    /// `10.0.1.10:8080`, `[2001:db8::1]:443`: a source or destination with its port.
    End(SocketAddr),
    /// Anything else: a part of a name (service, server, manager), of a state, or of a tuple's text.
    Text(String),
}

impl Part {
    /// Reads a word of the command line. Every word is a part of some kind.
    #[must_use]
    pub fn of(word: &str) -> Self {
        match word {
            "tcp" => return Self::Protocol(6),
            "udp" => return Self::Protocol(17),
            "icmp" => return Self::Protocol(1),
            "icmpv6" => return Self::Protocol(58),
            _ => {}
        }
        if let Ok(address) = word.parse() {
            return Self::Address(address);
        }
        if let Ok(net) = word.parse() {
            return Self::Net(net);
        }
        if let Ok(end) = word.parse() {
            return Self::End(end);
        }
        match word.strip_prefix(':').map(str::parse) {
            Some(Ok(port)) => Self::Port(port),
            _ => Self::Text(word.to_owned()),
        }
    }

    fn is_address(&self, address: IpAddr) -> bool {
        match self {
            Self::Address(wanted) => *wanted == address,
            Self::Net(net) => net.contains(&address),
            _ => false,
        }
    }

    fn is_in(&self, tuple: &Tuple) -> bool {
        let ends = [(tuple.src, tuple.sport), (tuple.dst, tuple.dport)];
        match self {
            Self::Protocol(proto) => tuple.proto == *proto,
            Self::Address(address) => ends.iter().any(|(a, _)| a == address),
            Self::Net(net) => ends.iter().any(|(a, _)| net.contains(a)),
            Self::Port(port) => ends.iter().any(|(_, p)| p == port),
            Self::End(end) => ends.contains(&(end.ip(), end.port())),
            Self::Text(text) => tuple.to_string().contains(text),
        }
    }
}

/// Whether a connection has all of the parts, each in whatever form a service sees it.
#[must_use]
pub fn matches(connection: &Connection, parts: &[Part]) -> bool {
    parts.iter().all(|part| {
        let steps = &connection.steps;
        let named = match part {
            Part::Text(text) => steps.iter().any(|step| {
                let flow = &step.flow;
                let names = [&flow.service, &flow.manager, &flow.decision];
                let state = flow.state.name();
                names.into_iter().any(|name| name.contains(text))
                    || state.contains(text)
                    || step.server.as_ref().is_some_and(|name| name.contains(text))
            }),
            _ => false,
        };
        let server =
            |step: &crate::flows::Step| (step.flow.next_hop).is_some_and(|to| part.is_address(to));
        named
            || steps.iter().any(server)
            || (steps.iter()).any(|step| step.tuples().any(|tuple| part.is_in(&tuple)))
    })
}

#[cfg(test)]
mod tests {
    use signalbox_agent::listing::{FlowState, FlowStatus};
    use signalbox_agent::message::Totals;

    use super::*;
    use crate::flows::{Step, connections};

    fn connection() -> Connection {
        let tuple = |src: &str, dst: &str| {
            let (src, dst): (SocketAddr, SocketAddr) = (src.parse().unwrap(), dst.parse().unwrap());
            Tuple {
                src: src.ip(),
                dst: dst.ip(),
                proto: 6,
                sport: src.port(),
                dport: dst.port(),
            }
        };
        let flow = tuple("203.0.113.9:40000", "203.0.113.80:443");
        let to = tuple("203.0.113.9:40000", "10.0.1.10:8080");
        let step = Step {
            flow: FlowStatus {
                service: "web-lb".into(),
                stage: 1,
                flow,
                text: flow.to_string(),
                decision: to.to_string(),
                translated: Some(to),
                next_hop: None,
                back: Some(to.reversed()),
                reply_only: false,
                forward: Totals::default(),
                reply: Totals::default(),
                manager: "lb-1".into(),
                epoch: 2,
                state: FlowState::HalfOpen,
                age_ms: 0,
            },
            server: Some("web-a".into()),
            way_back: false,
        };
        connections(vec![step]).remove(0)
    }

    #[test]
    fn a_flow_is_found_by_any_part_of_a_tuple_at_any_stage() {
        let connection = connection();
        let found = |words: &[&str]| {
            let parts: Vec<Part> = words.iter().map(|w| Part::of(w)).collect();
            matches(&connection, &parts)
        };
        for words in [
            &["203.0.113.9"][..],
            &[":40000"],
            &["tcp", "10.0.1.10:8080"],
            &[":8080", "203.0.113.80"],
            &["10.0.0.0/8"],
            &["web-lb"],
            &["web-a", "lb-1", "half"],
            &["0.113.8"],
            &[],
        ] {
            assert!(found(words), "{words:?}");
        }
        for words in [
            &["203.0.113.8"][..],
            &[":4000"],
            &["udp", "10.0.1.10:8080"],
            &["10.0.1.10:443"],
            &["192.0.2.0/24"],
            &["web-b"],
            &["packets"],
        ] {
            assert!(!found(words), "{words:?}");
        }
    }

    #[test]
    fn ipv6_ends_are_written_in_brackets() {
        assert_eq!(
            Part::of("[2001:db8::1]:443"),
            Part::End("[2001:db8::1]:443".parse().unwrap())
        );
        assert_eq!(
            Part::of("2001:db8::1"),
            Part::Address("2001:db8::1".parse().unwrap())
        );
        assert_eq!(Part::of(":70000"), Part::Text(":70000".into()));
    }
}
