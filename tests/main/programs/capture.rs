//! tcpdump at a port of the switch, and what its file says of TCP connections.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::lab::Space;
use crate::process::{Folder, Process, wait_until};

/// Packets and layer-2 bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Packets.
    pub packets: u64,
    /// Bytes, Ethernet header included.
    pub bytes: u64,
}

/// A direction of a flow, as reports name it: of an echo request the source port is the identifier, of
/// an echo reply the destination port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ends {
    /// Source address.
    pub src: Ipv4Addr,
    /// Source port.
    pub sport: u16,
    /// Destination address.
    pub dst: Ipv4Addr,
    /// Destination port.
    pub dport: u16,
    /// Protocol.
    pub proto: u8,
}

impl Ends {
    /// The other direction.
    pub fn reversed(self) -> Self {
        Self {
            src: self.dst,
            sport: self.dport,
            dst: self.src,
            dport: self.sport,
            proto: self.proto,
        }
    }
}

/// A running tcpdump.
pub struct Capture {
    process: Process,
    file: PathBuf,
}

/// What was captured.
#[derive(Default)]
pub struct Seen {
    /// By the client's port: from the client, and to it.
    pub by_client_port: BTreeMap<u16, (Tally, Tally)>,
    syns: BTreeMap<u16, u64>,
}

impl Seen {
    /// Clients' ports of which a SYN was seen.
    pub fn distinct_syns(&self) -> usize {
        self.syns.len()
    }

    /// SYNs that were sent again.
    pub fn repeated_syns(&self) -> u64 {
        self.syns.values().map(|count| count - 1).sum()
    }
}

impl Capture {
    /// Starts it and waits until it listens.
    pub fn start(space: &Space, interface: &str, filter: &str, folder: &Folder) -> Self {
        let file = folder.file(&format!("{interface}.pcap"));
        let mut command = space.command("tcpdump");
        // As root tcpdump would give up its rights, and with them the test's folder.
        command
            .args([
                "-n", "-U", "-Z", "root", "-B", "16384", "-s", "128", "-i", interface, "-w",
            ])
            .arg(&file)
            .arg(filter);
        let process = Process::start("tcpdump", command, folder);
        wait_until("tcpdump", Duration::from_secs(10), || {
            process.printed().contains("listening on")
        });
        Self { process, file }
    }

    /// Ends it and reads its file.
    pub fn stop(&mut self) -> Seen {
        self.end();
        read(&self.file())
    }

    /// Ends it and counts by direction of a flow; all of it is IPv4.
    pub fn stop_by_ends(&mut self) -> BTreeMap<Ends, Tally> {
        self.end();
        let mut tallies: BTreeMap<Ends, Tally> = BTreeMap::new();
        for_each_frame(&self.file(), |frame, length| {
            let tally = tallies.entry(ends(frame)).or_default();
            tally.packets += 1;
            tally.bytes += length;
        });
        tallies
    }

    /// The longest frame's length in bytes, once it has ended.
    pub fn longest(&self) -> u64 {
        let mut longest = 0;
        for_each_frame(&self.file(), |_, length| longest = longest.max(length));
        longest
    }

    fn file(&self) -> Vec<u8> {
        std::fs::read(&self.file).unwrap()
    }

    fn end(&mut self) {
        // What the kernel has kept for tcpdump is handed over within a second, later on a busy machine.
        let length = || std::fs::metadata(&self.file).unwrap().len();
        let mut last = (length(), Instant::now());
        wait_until("the capture to be written", Duration::from_secs(30), || {
            if length() != last.0 {
                last = (length(), Instant::now());
            }
            last.1.elapsed() > Duration::from_secs(2)
        });
        self.process.interrupt();
        self.process.wait(Duration::from_secs(10));
        let printed = self.process.printed();
        assert!(printed.contains("0 packets dropped by kernel"), "{printed}");
    }
}

/// Goes through a pcap file with microseconds, as tcpdump writes it on this machine: what is kept of each
/// frame, and its length.
fn for_each_frame(file: &[u8], mut each: impl FnMut(&[u8], u64)) {
    let word = |at: usize| u32::from_ne_bytes(file[at..at + 4].try_into().unwrap()) as usize;
    assert_eq!(word(0), 0xa1b2_c3d4, "a pcap file");
    let mut at = 24;
    while at < file.len() {
        let (kept, length) = (word(at + 8), word(at + 12));
        each(&file[at + 16..at + 16 + kept], length as u64);
        at += 16 + kept;
    }
}

/// The ends of an IPv4 packet that is no fragment.
fn ends(frame: &[u8]) -> Ends {
    let address = |at: usize| <[u8; 4]>::try_from(&frame[at..at + 4]).unwrap().into();
    let payload = &frame[14 + usize::from(frame[14] & 15) * 4..];
    let word = |at: usize| u16::from_be_bytes([payload[at], payload[at + 1]]);
    let proto = frame[23];
    let (sport, dport) = match (proto, payload[0]) {
        (1, 8) => (word(4), 0),
        (1, 0) => (0, word(4)),
        (6 | 17, _) => (word(0), word(2)),
        _ => (0, 0),
    };
    Ends {
        src: address(26),
        sport,
        dst: address(30),
        dport,
        proto,
    }
}

/// What TCP's clients of the service did, of IPv4 and TCP.
fn read(file: &[u8]) -> Seen {
    let mut seen = Seen::default();
    for_each_frame(file, |frame, length| {
        let ends = ends(frame);
        let from_client = ends.dst == Ipv4Addr::new(203, 0, 113, 80);
        let client_port = if from_client { ends.sport } else { ends.dport };
        let tallies = seen.by_client_port.entry(client_port).or_default();
        let tally = if from_client {
            &mut tallies.0
        } else {
            &mut tallies.1
        };
        tally.packets += 1;
        tally.bytes += length;
        let tcp = &frame[14 + usize::from(frame[14] & 15) * 4..];
        let (syn, ack) = (tcp[13] & 2 != 0, tcp[13] & 16 != 0);
        if syn && !ack {
            *seen.syns.entry(client_port).or_default() += 1;
        }
    });
    seen
}
