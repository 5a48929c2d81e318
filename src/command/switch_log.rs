//! What `signalbox switch` tells of its packets: the log as simple_switch_grpc has it, and traces as text
//! or JSON.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use signalbox_switch::runner::{SwitchHandle, TracedPacket};
use signalbox_switch::trace::Trace;

use super::switch_flags::{Arguments, LogLevel, TraceFormat};
use crate::failure::Failure;

/// Where `--log-console` or `--log-file` writes.
#[derive(Clone)]
pub struct Log {
    to: Option<Arc<Mutex<Box<dyn Write + Send>>>>,
    flush: bool,
}

fn create(path: &Path) -> Result<Box<dyn Write + Send>, Failure> {
    match File::create(path) {
        Ok(file) => Ok(Box::new(file)),
        Err(error) => Err(Failure::Failed(format!(
            "cannot write `{}`: {error}",
            path.display()
        ))),
    }
}

impl Log {
    /// Opens what the flags name.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn open(arguments: &Arguments) -> Result<Self, Failure> {
        let to: Option<Box<dyn Write + Send>> = match &arguments.log_file {
            Some(path) => Some(create(path)?),
            None if arguments.log_console => Some(Box::new(std::io::stdout())),
            None => None,
        };
        Ok(Self {
            to: to.map(|to| Arc::new(Mutex::new(to))),
            flush: arguments.log_flush || arguments.log_console,
        })
    }

    /// Writes one line.
    pub fn line(&self, text: &str) {
        let Some(to) = &self.to else { return };
        let mut to = to.lock().unwrap_or_else(PoisonError::into_inner);
        // A log that cannot be written must not stop the switch.
        let _ = writeln!(to, "{text}");
        if self.flush {
            let _ = to.flush();
        }
    }

    /// This log, if it is to have each packet's way.
    pub fn traces(&self, level: LogLevel) -> Option<Log> {
        (self.to.is_some() && level >= LogLevel::Trace).then(|| self.clone())
    }
}

/// Where `--trace` writes.
pub struct TraceFile {
    to: Box<dyn Write + Send>,
    format: TraceFormat,
}

/// One packet's way, as a line of JSON.
#[derive(Serialize)]
struct Line<'a> {
    /// Microseconds since the switch started.
    time_us: u64,
    port: u16,
    /// In hexadecimal.
    packet: String,
    #[serde(flatten)]
    trace: &'a Trace,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text(packet: &TracedPacket) -> String {
    format!("[{:>12} us] {}", packet.time, packet.trace)
}

impl TraceFile {
    /// Opens what the flags name, if traces are wanted.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn open(arguments: &Arguments) -> Result<Option<Self>, Failure> {
        let Some(format) = arguments.trace else {
            return Ok(None);
        };
        let to = match &arguments.trace_file {
            Some(path) => create(path)?,
            None => Box::new(std::io::stdout()),
        };
        Ok(Some(Self { to, format }))
    }

    fn write(&mut self, packet: &TracedPacket) {
        let line = match self.format {
            TraceFormat::Text => text(packet),
            TraceFormat::Json => serde_json::to_string(&Line {
                time_us: packet.time,
                port: packet.port,
                packet: hex(&packet.bytes),
                trace: &packet.trace,
            })
            .unwrap_or_default(),
        };
        // As with the log: the switch goes on. Whoever reads along wants whole lines at once.
        let _ = writeln!(self.to, "{line}").and_then(|()| self.to.flush());
    }
}

/// Writes each packet's way from now on, where anybody asked for it.
///
/// # Errors
/// The switch has stopped.
pub fn watch(
    handle: &SwitchHandle,
    log: Option<Log>,
    trace: Option<TraceFile>,
) -> Result<(), Failure> {
    if log.is_none() && trace.is_none() {
        return Ok(());
    }
    let mut trace = trace;
    handle
        .on_trace(Some(Box::new(move |packet| {
            if let Some(log) = &log {
                log.line(&text(&packet));
            }
            if let Some(trace) = &mut trace {
                trace.write(&packet);
            }
        })))
        .map_err(Failure::failed)
}
