//! What becomes of the flows of a target that has died: told to the agents that hold them, at a bounded
//! rate, and the RST that answers a client's next packet.
//!
//! An agent does not acknowledge what is installed unasked, so each flow is told of three times. What comes
//! to agents with a packet of the flow itself, or on their return, is `service`'s and `manager`'s business.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use ipnet::IpNet;
use signalbox_agent::flow::Tuple;
use signalbox_agent::message::Action;
use signalbox_lower::plan::Plan;

use crate::decide::Decided;
use crate::segment::Segment;

/// Flows that are told of at once.
const BATCH: usize = 256;
/// From one batch to the next.
const PACE: Duration = Duration::from_millis(10);
/// From one time that a flow is told of to the next.
const AGAIN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];
/// RSTs in a tenth of a second; a client that gets none asks again.
const RESETS: u32 = 1000;
const WINDOW: Duration = Duration::from_millis(100);

/// Numbers of flows that agents are yet to be told of, by how often they have been: at most those that are
/// remembered, and once more those that an agent lists on its return.
#[derive(Debug, Default)]
pub(crate) struct Reactions {
    queues: [VecDeque<(Duration, u64)>; 3],
    /// Not before.
    pace: Duration,
    window: Duration,
    resets: u32,
}

impl Reactions {
    /// This flow is to end.
    pub fn add(&mut self, now: Duration, number: u64) {
        let [first, ..] = &mut self.queues;
        first.push_back((now, number));
    }

    /// When a batch is due.
    pub fn next(&self) -> Option<Duration> {
        let due = self.queues.iter().filter_map(|q| q.front()).map(|f| f.0);
        due.min().map(|at| at.max(self.pace))
    }

    /// The flows that agents are told of now.
    pub fn due(&mut self, now: Duration) -> Vec<u64> {
        let mut due = Vec::new();
        if now < self.pace {
            return due;
        }
        for times in 0..self.queues.len() {
            while due.len() < BATCH
                && let Some(queue) = self.queues.get_mut(times)
                && let Some((_, number)) = queue.pop_front_if(|(at, _)| *at <= now)
            {
                due.push(number);
                let after = AGAIN.get(times).copied();
                if let Some((after, later)) = after.zip(self.queues.get_mut(times + 1)) {
                    later.push_back((now + after, number));
                }
            }
        }
        if !due.is_empty() {
            self.pace = now + PACE;
        }
        due
    }

    /// Whether there is room for one more RST now.
    pub fn may_reset(&mut self, now: Duration) -> bool {
        if now >= self.window + WINDOW {
            self.window = now;
            self.resets = 0;
        }
        self.resets += 1;
        self.resets <= RESETS
    }
}

/// The RST that a closed connection answers a segment with (RFC 9293, section 3.10.7.1), as an IP packet
/// from the flow's destination. Nothing answers a RST, or what is no whole segment.
pub(crate) fn reset(flow: &Tuple, frame: &Bytes) -> Option<Bytes> {
    let (segment, _) = Segment::parse_frame(frame)?;
    let answer = Segment {
        src: (flow.dst, flow.dport),
        dst: (flow.src, flow.sport),
        ..segment.refusal()?
    };
    Some(answer.emit())
}

/// Which port leads where, longest prefix first.
#[derive(Debug)]
pub(crate) struct Ports(Vec<(IpNet, u16)>);

impl Ports {
    pub fn new(plan: &Plan) -> Self {
        let connected = (plan.ports.iter())
            .flat_map(|p| p.addresses.iter().map(move |net| (net.trunc(), p.number)));
        let routes = plan.routes.iter().map(|r| (r.prefix, r.port));
        let mut all: Vec<_> = connected.chain(routes).collect();
        all.sort_by_key(|(net, _)| std::cmp::Reverse(net.prefix_len()));
        Self(all)
    }

    /// The port that a flow's packets leave by, as far as its decision says where to.
    pub fn behind(&self, decided: &Decided) -> Option<u16> {
        let to: IpAddr = decided.forward.1.iter().find_map(|a| match a {
            Action::Translate(to) => Some(to.dst),
            Action::Dispatch { next_hop, .. } => Some(*next_hop),
            _ => None,
        })?;
        self.towards(to)
    }

    /// The port that an address is behind.
    pub fn towards(&self, to: IpAddr) -> Option<u16> {
        let (_, port) = self.0.iter().find(|(net, _)| net.contains(&to))?;
        Some(*port)
    }
}

#[cfg(test)]
mod tests {
    use signalbox_agent::testing::{client, tcp};

    use crate::segment::{ACK, FIN, RST, SYN};

    use super::*;

    fn numbered(flags: u8, payload: &[u8]) -> Bytes {
        let mut frame = tcp(1, &client(9, 2000), flags, payload).to_vec();
        frame[38..42].copy_from_slice(&0xffff_fffe_u32.to_be_bytes());
        frame[42..46].copy_from_slice(&7000u32.to_be_bytes());
        frame.into()
    }

    // A6.16
    #[test]
    fn the_reset_is_one_that_the_sender_of_the_segment_accepts() {
        let flow = client(9, 2000);
        for (flags, payload, wanted) in [
            (ACK, &b""[..], Some((7000, 0, RST))),
            (ACK | FIN, b"more", Some((7000, 0, RST))),
            (SYN, b"", Some((0, 0xffff_ffff, RST | ACK))),
            // The sequence wraps.
            (FIN, b"four", Some((0, 3, RST | ACK))),
            (RST, b"", None),
            (RST | ACK, b"", None),
        ] {
            let ip = reset(&flow, &numbered(flags, payload));
            let got = ip.as_ref().and_then(Segment::parse);
            let said = got.as_ref().map(|s| (s.seq, s.ack, s.flags));
            assert_eq!(said, wanted, "{flags:#x}");
            if let Some(s) = got {
                assert_eq!(s.src, (flow.dst, 443));
                assert_eq!(s.dst, (flow.src, 2000));
            }
        }
        let whole = numbered(ACK, b"payload");
        for n in 0..whole.len() {
            assert_eq!(reset(&flow, &whole.slice(..n)), None, "{n} bytes of it");
        }
    }

    #[test]
    fn many_flows_are_told_of_at_a_bounded_rate_and_three_times_each() {
        let mut r = Reactions::default();
        for number in 0..1000 {
            r.add(Duration::ZERO, number);
        }
        let mut now = Duration::ZERO;
        let mut told = [0u8; 1000];
        while let Some(next) = r.next() {
            assert!(next >= now);
            now = next;
            let due = r.due(now);
            assert!(!due.is_empty() && due.len() <= BATCH);
            assert!(r.due(now).is_empty(), "not before the next batch");
            for number in due {
                told[number as usize] += 1;
            }
        }
        assert!(told.iter().all(|n| *n == 3));
        assert!(now >= Duration::from_secs(5) && now < Duration::from_secs(6));
    }

    #[test]
    fn resets_are_bounded_and_there_is_room_again_later() {
        let mut r = Reactions::default();
        let at = |ms| Duration::from_millis(ms);
        assert_eq!((0..2000).filter(|_| r.may_reset(at(1000))).count(), 1000);
        assert!(!r.may_reset(at(1099)));
        assert!(r.may_reset(at(1100)));
    }
}
