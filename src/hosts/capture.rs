//! A pcap file of the frames on a wire, with microseconds since the start of the run.

use std::io::Write;
use std::time::Duration;

use smoltcp::phy::{PcapLinkType, PcapSink};
use smoltcp::time::Instant;

struct Sink<W>(W);

impl<W: Write> PcapSink for Sink<W> {
    fn write(&mut self, data: &[u8]) {
        // A capture that cannot be written must not stop the traffic.
        let _ = self.0.write_all(data);
    }

    fn flush(&mut self) {
        let _ = self.0.flush();
    }
}

/// Where frames are written to.
pub struct Capture {
    sink: Box<dyn PcapSink + Send>,
}

impl Capture {
    /// A capture into `output`; a failed write is not reported, the traffic matters more.
    pub fn new(output: impl Write + Send + 'static) -> Self {
        let mut sink: Box<dyn PcapSink + Send> = Box::new(Sink(output));
        sink.global_header(PcapLinkType::Ethernet);
        Self { sink }
    }

    /// Writes one frame.
    pub fn frame(&mut self, now: Duration, frame: &[u8]) {
        let now = Instant::from_micros(i64::try_from(now.as_micros()).unwrap_or(i64::MAX));
        self.sink.packet(now, frame);
    }
}
