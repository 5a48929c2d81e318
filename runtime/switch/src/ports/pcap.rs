//! Ports on pcap files: packets read from one, packets sent written to another.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pcap_file::pcap::{PcapHeader, PcapPacket, PcapReader, PcapWriter};
use pcap_file::{DataLink, PcapError as FormatError};

use super::{Port, PortCounters};

/// The longest frame a written file announces, as tcpdump's.
const SNAP_LENGTH: u32 = 262_144;

/// Why a capture file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PcapError {
    /// It could not be opened or created.
    #[error("cannot open `{path}`: {error}")]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// Its content is no capture of Ethernet frames.
    #[error("`{path}`, packet {packet}: {problem}")]
    Format {
        /// The file.
        path: PathBuf,
        /// The packet's number, from 1; 0 is the file's head.
        packet: u64,
        /// What is wrong.
        problem: String,
    },
}

/// Reads Ethernet frames from a pcap file.
pub struct PcapInput {
    path: PathBuf,
    reader: PcapReader<BufReader<File>>,
    packet: u64,
}

impl PcapInput {
    /// Opens `path`.
    ///
    /// # Errors
    /// [`PcapError`] when it is not there or is no pcap file of Ethernet frames.
    pub fn open(path: &Path) -> Result<Self, PcapError> {
        let file = File::open(path).map_err(|error| PcapError::Open {
            path: path.to_owned(),
            error,
        })?;
        let head = |problem: String| PcapError::Format {
            path: path.to_owned(),
            packet: 0,
            problem,
        };
        let reader =
            PcapReader::new(BufReader::new(file)).map_err(|error| head(describe(&error)))?;
        if reader.header().datalink != DataLink::ETHERNET {
            return Err(head(format!(
                "expected link type Ethernet, found {:?}",
                reader.header().datalink
            )));
        }
        Ok(Self {
            path: path.to_owned(),
            reader,
            packet: 0,
        })
    }

    /// The next frame and its time since the epoch; `None` at the end.
    ///
    /// # Errors
    /// [`PcapError::Format`] where the file breaks off or is damaged.
    pub fn next_frame(&mut self) -> Result<Option<(Duration, Vec<u8>)>, PcapError> {
        self.packet += 1;
        match self.reader.next_packet() {
            None => Ok(None),
            Some(Ok(packet)) => Ok(Some((packet.timestamp, packet.data.into_owned()))),
            Some(Err(error)) => Err(PcapError::Format {
                path: self.path.clone(),
                packet: self.packet,
                problem: describe(&error),
            }),
        }
    }
}

fn describe(error: &FormatError) -> String {
    match error {
        FormatError::IncompleteBuffer => "the file breaks off".to_owned(),
        other => other.to_string().to_lowercase(),
    }
}

/// Writes Ethernet frames to a pcap file.
pub struct CaptureFile {
    writer: PcapWriter<SharedFile>,
    file: SharedFile,
}

/// The file beneath a pcap writer, which does not let its own flush be asked for.
#[derive(Clone)]
struct SharedFile(Arc<Mutex<BufWriter<File>>>);

impl Write for SharedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .flush()
    }
}

impl CaptureFile {
    /// Creates `path`, replacing what is there.
    ///
    /// # Errors
    /// [`PcapError::Open`].
    pub fn create(path: &Path) -> Result<Self, PcapError> {
        let open = |error: io::Error| PcapError::Open {
            path: path.to_owned(),
            error,
        };
        let file = File::create(path).map_err(open)?;
        let header = PcapHeader {
            datalink: DataLink::ETHERNET,
            snaplen: SNAP_LENGTH,
            ..PcapHeader::default()
        };
        let file = SharedFile(Arc::new(Mutex::new(BufWriter::new(file))));
        let writer = PcapWriter::with_header(file.clone(), header)
            .map_err(|error| open(io::Error::other(error.to_string())))?;
        Ok(Self { writer, file })
    }

    /// Appends one frame.
    ///
    /// # Errors
    /// The system's error, a full disk for example.
    pub fn write(&mut self, time: Duration, frame: &[u8]) -> io::Result<()> {
        let packet = PcapPacket::new(time, frame.len() as u32, frame);
        self.writer
            .write_packet(&packet)
            .map(|_| ())
            .map_err(|error| io::Error::other(error.to_string()))
    }

    /// Writes out what is buffered.
    ///
    /// # Errors
    /// The system's error.
    pub fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A port that reads its packets from one file and writes what it sends to another; either may be absent.
pub struct PcapPort {
    input: Option<PcapInput>,
    output: Option<CaptureFile>,
    now: Box<dyn Fn() -> Duration + Send>,
    counters: PortCounters,
}

impl PcapPort {
    /// A port on these files; `now` gives the time stamp of sent packets, since the epoch.
    pub fn new(
        input: Option<PcapInput>,
        output: Option<CaptureFile>,
        now: Box<dyn Fn() -> Duration + Send>,
    ) -> Self {
        Self {
            input,
            output,
            now,
            counters: PortCounters::default(),
        }
    }
}

impl Port for PcapPort {
    fn receive(&mut self, limit: usize, sink: &mut dyn FnMut(&[u8])) -> io::Result<usize> {
        let Some(input) = &mut self.input else {
            return Ok(0);
        };
        for count in 0..limit {
            match input.next_frame() {
                Ok(Some((_, frame))) => {
                    self.counters.received += 1;
                    sink(&frame);
                }
                Ok(None) => {
                    self.input = None;
                    return Ok(count);
                }
                Err(error) => {
                    self.input = None;
                    self.counters.receive_failed += 1;
                    return Err(io::Error::other(error.to_string()));
                }
            }
        }
        Ok(limit)
    }

    fn send(&mut self, packet: &[u8]) {
        let Some(output) = &mut self.output else {
            self.counters.sent += 1;
            return;
        };
        match output.write((self.now)(), packet) {
            Ok(()) => self.counters.sent += 1,
            Err(_) => self.counters.send_failed += 1,
        }
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn flush(&mut self) {
        if let Some(output) = &mut self.output
            && output.flush().is_err()
        {
            self.counters.send_failed += 1;
        }
    }

    fn counters(&self) -> PortCounters {
        self.counters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_port_sends_can_be_read_back() {
        let folder = std::env::temp_dir().join(format!("signalbox-pcap-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("out.pcap");
        let mut port = PcapPort::new(
            None,
            Some(CaptureFile::create(&path).unwrap()),
            Box::new(|| Duration::new(7, 9_000)),
        );
        port.send(&[1, 2, 3]);
        port.flush();
        let mut input = PcapInput::open(&path).unwrap();
        assert_eq!(
            input.next_frame().unwrap(),
            Some((Duration::new(7, 9_000), vec![1, 2, 3]))
        );
        assert_eq!(input.next_frame().unwrap(), None);
        std::fs::write(&path, b"not a capture").unwrap();
        assert!(
            PcapInput::open(&path)
                .err()
                .unwrap()
                .to_string()
                .contains("packet 0")
        );
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
