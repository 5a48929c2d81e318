//! The targets: each loads images by P4Runtime and moves packets in and out of its ports.

mod bmv2;
mod embedded;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use signalbox_p4runtime::Transport;
use signalbox_switch::runner::SwitchHandle;

/// Where a scenario runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// Our switch in this process, its P4Runtime server without gRPC.
    Embedded,
    /// The same with `--quirks simple_switch_grpc`.
    Quirks,
    /// Our switch in this process, P4Runtime and packets over gRPC on loopback.
    Grpc,
    /// `simple_switch_grpc`, packets by its DataplaneInterface.
    Bmv2,
}

/// What a scenario needs of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// A packet that the agent sends is counted with its own length, not with the header before it.
    ExactPacketOutBytes,
    /// A batch of writes is carried out as a whole or not at all.
    AtomicWrites,
    /// More than 64 packets may wait for the controller.
    DeepCpuQueue,
}

impl Target {
    /// Whether it has what a scenario needs.
    pub fn has(self, need: Need) -> bool {
        match need {
            Need::ExactPacketOutBytes | Need::AtomicWrites | Need::DeepCpuQueue => {
                matches!(self, Target::Embedded | Target::Grpc)
            }
        }
    }

    /// What an agent must know of it.
    pub fn habits(self) -> signalbox_agent::Target {
        match self {
            Target::Embedded | Target::Grpc => signalbox_agent::Target::switch(),
            Target::Quirks | Target::Bmv2 => signalbox_agent::Target::simple_switch_grpc(),
        }
    }

    /// A program that must be on PATH.
    pub fn program(self) -> Option<&'static str> {
        (self == Target::Bmv2).then_some("simple_switch_grpc")
    }

    /// Starts it without a pipeline, with these ports.
    pub async fn start(self, ports: &[u16]) -> Started {
        match self {
            Target::Embedded => embedded::in_process(ports, false).await,
            Target::Quirks => embedded::in_process(ports, true).await,
            Target::Grpc => embedded::over_grpc(ports).await,
            Target::Bmv2 => bmv2::start().await,
        }
    }
}

/// A running target.
pub struct Started {
    /// Its P4Runtime.
    pub transport: Arc<dyn Transport>,
    /// Its device id.
    pub device_id: u64,
    /// Its ports, once it has a pipeline: bmv2 takes no packets before.
    pub packets: Pin<Box<dyn Future<Output = Packets> + Send>>,
    /// The switch itself, if it runs in this process.
    pub switch: Option<SwitchHandle>,
    /// What must live as long as the target is used.
    pub keep: Vec<Box<dyn std::any::Any + Send>>,
}

/// The ports of a target.
pub struct Packets {
    /// Lets a packet arrive at a port.
    pub send: Box<dyn Fn(u16, Vec<u8>) + Send>,
    /// What leaves by its ports.
    pub sent: Receiver<(u16, Vec<u8>)>,
}
