//! What the demo found, as text for people and as JSON for programs.

use std::fmt::Write;

use serde::Serialize;

/// What the demo found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Connections that were made.
    pub connections: u64,
    /// Those that brought the whole answer and ended in order.
    pub completed: u64,
    /// First packets of flows that the manager was asked about.
    pub interest_packets: u64,
    /// Questions that were put again because the machine was slow to answer.
    pub repeated_interest_packets: u64,
    /// Packets of flows that had been decided on, and still reached the manager's side.
    pub established_packets_at_manager: u64,
    /// The servers, in the policy's order.
    pub servers: Vec<ServerShare>,
    /// First-packet latency.
    pub first_packet_us: FirstPacket,
    /// From the first connection to the end of the last.
    pub seconds: f64,
    /// The way of one connection's first packet; for people.
    #[serde(skip)]
    pub trace: Vec<TracedStep>,
}

/// What one server got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServerShare {
    /// Its name in the policy.
    pub name: String,
    /// Its weight.
    pub weight: u32,
    /// Connections that it answered.
    pub connections: u64,
    /// Payload bytes of these, both directions.
    pub bytes: u64,
}

/// From a SYN's entry into the switch to its exit to a server, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct FirstPacket {
    /// The median.
    pub p50: f64,
    /// The 99th percentile.
    pub p99: f64,
}

/// One pass of a packet through the switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TracedStep {
    /// What pass it was.
    pub title: String,
    /// What the switch says of it.
    pub text: String,
}

impl Report {
    /// The report as one JSON object.
    pub fn json(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// The report for people, without a line feed at the end.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = self.write(&mut text);
        text.truncate(text.trim_end().len());
        text
    }

    fn write(&self, to: &mut impl Write) -> std::fmt::Result {
        writeln!(
            to,
            "{} of {} connections completed in {:.2} s\n",
            self.completed, self.connections, self.seconds
        )?;
        let wide = self.servers.iter().map(|server| server.name.len());
        let wide = wide.max().unwrap_or(0).max("server".len());
        writeln!(
            to,
            "{:wide$}  {:>6}  {:>11}  {:>7}  {:>11}",
            "server", "weight", "connections", "share", "bytes"
        )?;
        let all = self
            .servers
            .iter()
            .map(|server| server.connections)
            .sum::<u64>();
        for server in &self.servers {
            let share = 100.0 * server.connections as f64 / all.max(1) as f64;
            writeln!(
                to,
                "{:wide$}  {:>6}  {:>11}  {share:>6.1}%  {:>11}",
                server.name, server.weight, server.connections, server.bytes
            )?;
        }
        writeln!(
            to,
            "\npackets that met the manager: {} first packets, {} of them again, {} of established flows",
            self.interest_packets,
            self.repeated_interest_packets,
            self.established_packets_at_manager
        )?;
        writeln!(
            to,
            "first packet, in at the client's port to out at the server's: median {} us, 99 % within {} us",
            self.first_packet_us.p50, self.first_packet_us.p99
        )?;
        for step in &self.trace {
            writeln!(to, "\n{}", step.title)?;
            for line in step.text.lines() {
                writeln!(to, "  {line}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            connections: 1000,
            completed: 1000,
            interest_packets: 1000,
            repeated_interest_packets: 3,
            established_packets_at_manager: 0,
            servers: vec![
                ServerShare {
                    name: "web-1".to_owned(),
                    weight: 2,
                    connections: 503,
                    bytes: 2_100_000,
                },
                ServerShare {
                    name: "web-2".to_owned(),
                    weight: 1,
                    connections: 497,
                    bytes: 2_000_000,
                },
            ],
            first_packet_us: FirstPacket {
                p50: 180.5,
                p99: 900.0,
            },
            seconds: 0.5,
            trace: vec![TracedStep {
                title: "the SYN of 203.0.113.10:40999 enters by port 1".to_owned(),
                text: "parser start\ntable Ingress.ready: hit".to_owned(),
            }],
        }
    }

    #[test]
    fn the_json_has_the_promised_names_in_their_order() {
        assert_eq!(
            report().json().to_string(),
            "{\"connections\":1000,\"completed\":1000,\"interest_packets\":1000,\"repeated_interest_packets\":3,\
             \"established_packets_at_manager\":0,\"servers\":[\
             {\"name\":\"web-1\",\"weight\":2,\"connections\":503,\"bytes\":2100000},\
             {\"name\":\"web-2\",\"weight\":1,\"connections\":497,\"bytes\":2000000}],\
             \"first_packet_us\":{\"p50\":180.5,\"p99\":900.0},\"seconds\":0.5}"
        );
    }

    #[test]
    fn the_text_shows_shares_and_the_trace() {
        let expected = "\
1000 of 1000 connections completed in 0.50 s

server  weight  connections    share        bytes
web-1        2          503    50.3%      2100000
web-2        1          497    49.7%      2000000

packets that met the manager: 1000 first packets, 3 of them again, 0 of established flows
first packet, in at the client's port to out at the server's: median 180.5 us, 99 % within 900 us

the SYN of 203.0.113.10:40999 enters by port 1
  parser start
  table Ingress.ready: hit";
        assert_eq!(report().text(), expected);
    }
}
