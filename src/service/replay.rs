//! Captures as a service's input: the packets of all files in the order of their time stamps, no
//! faster than they were captured, and no faster than the agent takes those that it is asked about.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use signalbox_switch::ports::{PcapInput, PcapPort, Port, PortCounters};
use tokio::time::Instant;

use super::View;
use crate::failure::Failure;
use crate::output;

/// A longer pause between two packets is cut to this: nobody wants to wait for nothing, and by then
/// every packet has got its answer.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Packets that are let in at most before the agent is waited for.
const STEP: u32 = 32;

/// How long the end may take: longer than any packet is held.
const END: Duration = Duration::from_secs(10);

/// A frame with its time since the epoch.
type Frame = (Duration, Vec<u8>);

/// What gives the frames of one input, or says why there are no more.
type Source = Box<dyn FnMut() -> Result<Option<Frame>, String> + Send>;

/// What a port has received from the replay.
#[derive(Debug, Default)]
struct Received {
    packets: AtomicU64,
    failed: AtomicU64,
}

struct Input {
    port: u16,
    source: Source,
    next: Option<Frame>,
    received: Arc<Received>,
}

/// All inputs of a service.
#[derive(Default)]
pub struct Replay {
    inputs: Vec<Input>,
    /// The time stamp of the latest packet so far.
    latest: Option<Duration>,
    /// Why inputs ended before their end.
    problems: Vec<String>,
}

impl Replay {
    /// Adds what arrives at `port`, and gives the port, which sends to `output`.
    pub fn add(&mut self, port: u16, mut input: PcapInput, output: PcapPort) -> Box<dyn Port> {
        let source = move || input.next_frame().map_err(|error| error.to_string());
        let received = self.add_source(port, Box::new(source));
        Box::new(ReplayPort { output, received })
    }

    fn add_source(&mut self, port: u16, source: Source) -> Arc<Received> {
        let received = Arc::<Received>::default();
        self.inputs.push(Input {
            port,
            source,
            next: None,
            received: Arc::clone(&received),
        });
        received
    }

    /// Whether there is nothing to replay.
    pub fn is_empty(&self) -> bool {
        self.inputs.is_empty()
    }

    /// Lets all packets arrive, and waits until nothing is held any more.
    ///
    /// # Errors
    /// One line: the service has ended, or an input could not be read to its end (of which a warning
    /// has told more).
    pub async fn run(mut self, view: View) -> Result<(), Failure> {
        let Some(switch) = view.switch().cloned() else {
            return Err(Failure::Failed(
                "only the embedded switch takes captures".to_owned(),
            ));
        };
        // Held packets have room for so many at least.
        let plan = view.plan();
        let services = plan.services.iter();
        let room = services.map(|service| service.limits.hold_packets).min();
        let step = (room.unwrap_or(STEP) / 2).clamp(1, STEP);
        let mut due = Instant::now();
        let mut since = 0;
        while let Some((pause, port, frame)) = self.next() {
            due += pause;
            if since == step || (since > 0 && due > Instant::now()) {
                since = 0;
                self.until_held(&view, u64::from(step)).await?;
            }
            tokio::time::sleep_until(due).await;
            switch.inject(port, frame).map_err(Failure::failed)?;
            since += 1;
        }
        self.until_settled(&view).await?;
        match self.problems.as_slice() {
            [] => Ok(()),
            [only] => Err(Failure::Failed(format!(
                "an input could not be read to its end: {only}"
            ))),
            several => Err(Failure::Failed(format!(
                "{} inputs could not be read to their end",
                several.len()
            ))),
        }
    }

    /// The next packet of all inputs, with its port and the pause before it.
    fn next(&mut self) -> Option<(Duration, u16, Vec<u8>)> {
        let mut first: Option<(Duration, usize)> = None;
        let mut ended = Vec::new();
        for (index, input) in self.inputs.iter_mut().enumerate() {
            if input.next.is_none() {
                match (input.source)() {
                    Ok(next) => input.next = next,
                    Err(problem) => {
                        input.received.failed.fetch_add(1, Ordering::Relaxed);
                        output::warn(format_args!("{problem}; the rest of it is not read"));
                        self.problems.push(problem);
                    }
                }
            }
            match &input.next {
                None => ended.push(index),
                Some((time, _)) if first.is_none_or(|(earliest, _)| *time < earliest) => {
                    first = Some((*time, index));
                }
                Some(_) => {}
            }
        }
        let (time, index) = first?;
        let input = self.inputs.get_mut(index)?;
        let (_, frame) = input.next.take()?;
        input.received.packets.fetch_add(1, Ordering::Relaxed);
        let port = input.port;
        // From the back, so that the other places stay as they are.
        for index in ended.into_iter().rev() {
            self.inputs.remove(index);
        }
        // A capture's clock may go back; what was replayed then stays before what follows.
        let latest = self.latest.unwrap_or(time);
        self.latest = Some(latest.max(time));
        let pause = time.saturating_sub(latest).min(LONGEST_PAUSE);
        Some((pause, port, frame))
    }

    /// Waits until at most so many packets are held.
    async fn until_held(&self, view: &View, most: u64) -> Result<(), Failure> {
        if let Some(switch) = view.switch() {
            switch.call(|_, _| ()).await.map_err(Failure::failed)?;
        }
        loop {
            // What the switch has diverted needs a moment to reach the agent.
            tokio::time::sleep(Duration::from_millis(1)).await;
            let status = view.agent().status(false).await.map_err(Failure::failed)?;
            if status.counters.held.now <= most {
                return Ok(());
            }
        }
    }

    /// Waits until the agent has nothing to do any more.
    async fn until_settled(&self, view: &View) -> Result<(), Failure> {
        let end = Instant::now() + END;
        let mut calm = 0;
        while calm < 2 && Instant::now() < end {
            self.until_held(view, u64::MAX).await?;
            tokio::time::sleep(Duration::from_millis(50)).await;
            // A fresh status comes when no write is under way.
            let status = view.agent().status(true).await.map_err(Failure::failed)?;
            calm = if status.counters.held.now == 0 {
                calm + 1
            } else {
                0
            };
        }
        Ok(())
    }
}

/// A port whose packets the replay lets arrive; what it sends goes where `output` writes.
struct ReplayPort {
    output: PcapPort,
    received: Arc<Received>,
}

impl Port for ReplayPort {
    fn receive(&mut self, _: usize, _: &mut dyn FnMut(&[u8])) -> io::Result<usize> {
        Ok(0)
    }

    fn send(&mut self, packet: &[u8]) {
        self.output.send(packet);
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn flush(&mut self) {
        self.output.flush();
    }

    fn counters(&self) -> PortCounters {
        PortCounters {
            received: self.received.packets.load(Ordering::Relaxed),
            receive_failed: self.received.failed.load(Ordering::Relaxed),
            ..self.output.counters()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A source of one-byte frames at these milliseconds, which breaks off if `broken`.
    fn source(times: &'static [u64], broken: bool) -> Source {
        let mut times = times.iter();
        Box::new(move || match times.next() {
            Some(time) => Ok(Some((Duration::from_millis(*time), vec![*time as u8]))),
            None if broken => Err("it breaks off".to_owned()),
            None => Ok(None),
        })
    }

    #[test]
    fn packets_of_several_inputs_come_in_the_order_of_their_time_stamps() {
        let mut replay = Replay::default();
        replay.add_source(1, source(&[10, 30, 31], false));
        replay.add_source(2, source(&[20, 30, 250], false));
        let order: Vec<_> = std::iter::from_fn(|| {
            replay
                .next()
                .map(|(pause, port, _)| (port, pause.as_millis()))
        })
        .collect();
        assert_eq!(order, [(1, 0), (2, 10), (1, 10), (2, 0), (1, 1), (2, 100)]);
    }

    #[test]
    fn a_damaged_input_is_told_of_and_the_others_go_on() {
        let mut replay = Replay::default();
        let damaged = replay.add_source(1, source(&[10], true));
        replay.add_source(2, source(&[5, 20, 15], false));
        let ports: Vec<_> = std::iter::from_fn(|| replay.next().map(|(_, port, _)| port)).collect();
        assert_eq!(ports, [2, 1, 2, 2]);
        assert_eq!(replay.problems, ["it breaks off"]);
        assert_eq!(damaged.packets.load(Ordering::Relaxed), 1);
        assert_eq!(damaged.failed.load(Ordering::Relaxed), 1);
    }
}
