//! The forwarding agent: the one controller of one switch.
//!
//! [`Agent`] is the whole of it as a deterministic state machine; [`shell`] drives it over P4Runtime and
//! manager [`channel`]s. [`message`] is the affinity protocol, [`wire`] its protobuf form (proto/affinity.proto)
//! and [`grpc`] its transport. Nothing here knows which kinds of manager exist, nor the policy's syntax:
//! all that the agent knows of a policy is its plan.

pub mod adjust;
pub mod channel;
pub mod counters;
pub mod cover;
pub mod encode;
pub mod entry;
pub mod flow;
pub mod grpc;
pub mod listing;
pub mod machine;
pub mod message;
pub mod packet;
pub mod shell;
pub mod target;
pub mod testing;
pub mod wire;

pub use machine::{Agent, Found, Input, Output, PlanChange, SessionId, WriteError};
pub use target::Target;

/// A number that differs between plans, to tell managers of another policy apart: FNV-1a of the plan's
/// JSON form, without what is the target's and no manager's business: the program and the CPU port.
#[must_use]
pub fn plan_hash(plan: &signalbox_lower::plan::Plan) -> u64 {
    struct Fnv(u64);
    impl std::io::Write for Fnv {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            for byte in bytes {
                self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            }
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
    let plan = signalbox_lower::plan::Plan {
        program_id: 0,
        cpu_port: 0,
        ..plan.clone()
    };
    // Writing to a number cannot fail, and a plan's keys are strings.
    let _ = serde_json::to_writer(&mut hash, &plan);
    hash.0
}
