//! tcpdump at a port of the switch, and what its file says of TCP connections.

use std::collections::BTreeMap;
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
        read(&std::fs::read(&self.file).unwrap())
    }
}

/// Reads a pcap file of IPv4 and TCP with microseconds, as tcpdump writes it on this machine.
fn read(file: &[u8]) -> Seen {
    let word = |at: usize| u32::from_ne_bytes(file[at..at + 4].try_into().unwrap()) as usize;
    assert_eq!(word(0), 0xa1b2_c3d4, "a pcap file");
    let mut seen = Seen::default();
    let mut at = 24;
    while at < file.len() {
        let (kept, length) = (word(at + 8), word(at + 12));
        let frame = &file[at + 16..at + 16 + kept];
        at += 16 + kept;
        let tcp = &frame[14 + usize::from(frame[14] & 15) * 4..];
        let source = u16::from_be_bytes([tcp[0], tcp[1]]);
        let destination = u16::from_be_bytes([tcp[2], tcp[3]]);
        let from_client = frame[30..34] == [203, 0, 113, 80];
        let client_port = if from_client { source } else { destination };
        let tallies = seen.by_client_port.entry(client_port).or_default();
        let tally = if from_client {
            &mut tallies.0
        } else {
            &mut tallies.1
        };
        tally.packets += 1;
        tally.bytes += length as u64;
        let (syn, ack) = (tcp[13] & 2 != 0, tcp[13] & 16 != 0);
        if syn && !ack {
            *seen.syns.entry(client_port).or_default() += 1;
        }
    }
    seen
}
