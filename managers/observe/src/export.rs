//! Where records go: a thread for each sink, which writes what managers were told. Managers never wait for it.
//!
//! A record that finds its sink's queue full, or that the sink cannot write, is lost and counted. That costs
//! nothing but the news itself: the next report of the flow has its totals.

use std::io::{self, Write};
use std::net::UdpSocket;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use signalbox_manager::Record;
use signalbox_manager::shell::Tap;

use crate::Stamped;
use crate::ipfix::Encoder;
use crate::json;

/// Records that wait for one sink at most.
const QUEUE: usize = 65_536;
/// Records that are written at once at most.
const BATCH: usize = 256;
/// Between two warnings of a sink.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// What a sink has done, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// What it is.
    pub sink: String,
    /// Records written.
    pub written: u64,
    /// Records lost: its queue was full, or it could not write them.
    pub lost: u64,
}

#[derive(Debug)]
struct Counters {
    sink: String,
    written: AtomicU64,
    lost: AtomicU64,
}

/// What writes records.
trait Sink: Send {
    /// Writes a batch. Returns how many of its records are lost, and the last reason.
    fn write(&mut self, now_ms: u64, batch: &[Arc<Stamped>]) -> (u64, Option<io::Error>);
}

/// All sinks of a process.
#[derive(Debug, Default)]
pub struct Reports {
    sinks: Vec<Running>,
}

#[derive(Debug)]
struct Running {
    queue: SyncSender<Arc<Stamped>>,
    counters: Arc<Counters>,
    /// Ends when the thread has written everything.
    done: Receiver<()>,
}

/// What can be asked of sinks after they were started. Clones see the same ones.
#[derive(Debug, Clone, Default)]
pub struct Watch(Vec<Arc<Counters>>);

impl Watch {
    /// What each sink has done.
    #[must_use]
    pub fn counts(&self) -> Vec<Counts> {
        (self.0.iter())
            .map(|c| Counts {
                sink: c.sink.clone(),
                written: c.written.load(Ordering::Relaxed),
                lost: c.lost.load(Ordering::Relaxed),
            })
            .collect()
    }
}

/// Where taps come from.
#[derive(Debug, Clone, Default)]
pub struct Taps(Vec<(SyncSender<Arc<Stamped>>, Arc<Counters>)>);

impl Taps {
    /// What a manager's records go into.
    #[must_use]
    pub fn tap(&self) -> Tap {
        let sinks = self.0.clone();
        Box::new(move |record| {
            if !sinks.is_empty() {
                put(&sinks, record);
            }
        })
    }
}

impl Reports {
    /// Adds a sink of JSON lines; `name` is for people.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn add_json(
        &mut self,
        name: &str,
        policy: &str,
        writer: Box<dyn Write + Send>,
    ) -> io::Result<()> {
        let sink = JsonLines {
            policy: policy.to_owned(),
            writer,
            torn: false,
            lines: Vec::new(),
        };
        self.add(name, Box::new(sink))
    }

    /// Adds a sink of IPFIX messages; the socket is connected to the collector.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn add_ipfix(&mut self, name: &str, policy: &str, socket: UdpSocket) -> io::Result<()> {
        let encoder = Encoder::new(policy);
        self.add(name, Box::new(Collector { encoder, socket }))
    }

    fn add(&mut self, name: &str, sink: Box<dyn Sink>) -> io::Result<()> {
        let (queue, records) = sync_channel(QUEUE);
        let (finished, done) = mpsc::channel();
        let counters = Arc::new(Counters {
            sink: name.to_owned(),
            written: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        });
        let counted = Arc::clone(&counters);
        std::thread::Builder::new()
            .name("reports".to_owned())
            .spawn(move || {
                run(&records, sink, &counted);
                drop(finished);
            })?;
        self.sinks.push(Running {
            queue,
            counters,
            done,
        });
        Ok(())
    }

    /// What a manager's records go into.
    #[must_use]
    pub fn tap(&self) -> Tap {
        self.taps().tap()
    }

    /// Where taps come from that are wanted later.
    #[must_use]
    pub fn taps(&self) -> Taps {
        Taps(
            (self.sinks.iter())
                .map(|s| (s.queue.clone(), Arc::clone(&s.counters)))
                .collect(),
        )
    }

    /// What shows their counts later.
    #[must_use]
    pub fn watch(&self) -> Watch {
        Watch(
            (self.sinks.iter())
                .map(|s| Arc::clone(&s.counters))
                .collect(),
        )
    }

    /// Waits until what the taps were given is written, as long as `patience`; the taps must be gone, and
    /// where they come from.
    pub fn finish(self, patience: Duration) {
        let until = Instant::now() + patience;
        for Running { queue, done, .. } in self.sinks {
            drop(queue);
            let left = until.saturating_duration_since(Instant::now());
            if done.recv_timeout(left) == Err(RecvTimeoutError::Timeout) {
                tracing::warn!("reports: not all were written at the end");
            }
        }
    }
}

fn put(sinks: &[(SyncSender<Arc<Stamped>>, Arc<Counters>)], record: Record) {
    let stamped = Arc::new(Stamped {
        received_ms: unix_ms(),
        record,
    });
    for (queue, counters) in sinks {
        if queue.try_send(Arc::clone(&stamped)).is_err() {
            counters.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

/// A sink's thread: batches, until every sender is gone.
fn run(records: &Receiver<Arc<Stamped>>, mut sink: Box<dyn Sink>, counters: &Counters) {
    let mut batch = Vec::with_capacity(BATCH);
    let (mut warned, mut said) = (None::<Instant>, 0);
    while let Ok(first) = records.recv() {
        batch.push(first);
        batch.extend(records.try_iter().take(BATCH - 1));
        let (lost, error) = sink.write(unix_ms(), &batch);
        let written = (batch.len() as u64).saturating_sub(lost);
        counters.written.fetch_add(written, Ordering::Relaxed);
        let lost = lost + counters.lost.fetch_add(lost, Ordering::Relaxed);
        let due = warned.is_none_or(|at| at.elapsed() >= WARN_EVERY);
        if lost > said && due {
            let why = error.map_or_else(|| "too many at once".to_owned(), |e| e.to_string());
            tracing::warn!("{}: {lost} reports lost so far: {why}", counters.sink);
            (warned, said) = (Some(Instant::now()), lost);
        }
        batch.clear();
    }
}

struct JsonLines {
    policy: String,
    writer: Box<dyn Write + Send>,
    /// The last attempt may have left part of a line.
    torn: bool,
    lines: Vec<u8>,
}

impl Sink for JsonLines {
    fn write(&mut self, _now_ms: u64, batch: &[Arc<Stamped>]) -> (u64, Option<io::Error>) {
        self.lines.clear();
        if self.torn {
            self.lines.push(b'\n');
        }
        for stamped in batch {
            json::line(&self.policy, stamped, &mut self.lines);
        }
        let result = self
            .writer
            .write_all(&self.lines)
            .and_then(|()| self.writer.flush());
        self.torn = result.is_err();
        match result {
            Ok(()) => (0, None),
            // How many of them are there nobody knows.
            Err(error) => (batch.len() as u64, Some(error)),
        }
    }
}

struct Collector {
    encoder: Encoder,
    socket: UdpSocket,
}

impl Sink for Collector {
    fn write(&mut self, now_ms: u64, batch: &[Arc<Stamped>]) -> (u64, Option<io::Error>) {
        let (mut lost, mut last) = (0, None);
        let records = batch.iter().map(|stamped| &**stamped);
        for message in self.encoder.encode(now_ms, records) {
            if let Err(error) = self.socket.send(&message.bytes) {
                lost += u64::from(message.records);
                last = Some(error);
            }
        }
        if last.is_some() {
            // A collector that was away knows no template.
            self.encoder.resend_templates();
        }
        // A report with two directions is two data records.
        (lost.min(batch.len() as u64), last)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::tests::{criterion_record, flow_record};

    /// A writer that fails as long as it is told to, after half of what it is given.
    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<(bool, Vec<u8>)>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut paper = self.0.lock().unwrap();
            if paper.0 {
                if paper.1.ends_with(b"\n") || paper.1.is_empty() {
                    paper.1.extend_from_slice(&bytes[..bytes.len() / 2]);
                    return Ok(bytes.len() / 2);
                }
                return Err(io::Error::other("out of paper"));
            }
            paper.1.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn wait_for(watch: &Watch, done: u64) {
        let until = Instant::now() + Duration::from_secs(10);
        while watch.counts().iter().any(|c| c.written + c.lost < done) {
            assert!(Instant::now() < until, "{:?}", watch.counts());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    // A1.11
    #[test]
    fn a_full_disk_loses_counted_lines_and_leaves_the_later_ones_whole() {
        let paper = Paper::default();
        let mut reports = Reports::default();
        reports
            .add_json("paper", "web", Box::new(paper.clone()))
            .unwrap();
        let (mut tap, watch) = (reports.tap(), reports.watch());
        paper.0.lock().unwrap().0 = true;
        tap(flow_record());
        wait_for(&watch, 1);
        paper.0.lock().unwrap().0 = false;
        tap(flow_record());
        tap(criterion_record());
        drop(tap);
        reports.finish(Duration::from_secs(10));
        let [counts] = &watch.counts()[..] else {
            panic!("one sink");
        };
        assert_eq!((counts.written, counts.lost), (2, 1));
        let text = String::from_utf8(paper.0.lock().unwrap().1.clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        for line in &lines[1..] {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(value["policy"], "web");
        }
    }

    // A1.12
    #[test]
    fn a_collector_that_comes_late_gets_templates_before_the_first_record_that_reaches_it() {
        let port = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = port.local_addr().unwrap();
        drop(port);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(address).unwrap();
        let mut reports = Reports::default();
        reports.add_ipfix("collector", "web", socket).unwrap();
        let (mut tap, watch) = (reports.tap(), reports.watch());
        // Nobody listens; the second one hears of it.
        for _ in 0..50 {
            tap(flow_record());
            wait_for(&watch, 1);
            std::thread::sleep(Duration::from_millis(1));
            if watch.counts()[0].lost > 0 {
                break;
            }
        }
        assert!(watch.counts()[0].lost > 0, "nobody listened");
        let collector = UdpSocket::bind(address).unwrap();
        collector
            .set_read_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        let mut buffer = [0; 2048];
        // The news of the last failure may take one more record away.
        let length = (0..50)
            .find_map(|_| {
                tap(flow_record());
                collector.recv(&mut buffer).ok()
            })
            .expect("a message arrives");
        assert_eq!(buffer[..2], [0, 10], "IPFIX");
        assert_eq!(buffer[16..18], [0, 2], "a template set first");
        assert!(length > 16);
    }
}
