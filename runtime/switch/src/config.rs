//! What a switch is told before it gets a pipeline.

/// The settings of a switch; none of them can change while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The ports that exist, for the control plane to list; the core takes packets of any port.
    pub ports: Vec<u16>,
    /// The value of `egress_spec` that means drop; 511 as in simple_switch.
    pub drop_port: u16,
    /// The port of packet-in and packet-out. To the core it is a port as any other, except that
    /// [`crate::Switch::step`] with a counted length exists for it.
    pub cpu_port: Option<u16>,
    /// Priority queues of a port; 1 as in simple_switch. The core has no queues: it only bounds
    /// `priority`.
    pub priority_queues: u16,
    /// Entries that a table holds when the JSON does not say (`max_size` missing or 0).
    pub default_table_size: usize,
    /// How often one arrived packet may pass the pipelines by resubmit, recirculate and clones
    /// before the rest is dropped as [`crate::DropReason::PassLimit`].
    pub max_passes: u32,
    /// Seed of `modify_field_rng_uniform` and `random`.
    pub seed: u64,
    /// Behaviour of other switches that is reproduced on demand.
    pub quirks: Quirks,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            ports: Vec::new(),
            drop_port: 511,
            cpu_port: None,
            priority_queues: 1,
            default_table_size: 1024,
            max_passes: 256,
            seed: 0x5167_6e61_6c62_6f78,
            quirks: Quirks::default(),
        }
    }
}

/// Limits of other targets. Those of the core act in it; the others are read by the servers and
/// the runner that stand around it. The default is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quirks {
    /// Byte counters and `packet_length` count a packet-out with its header.
    pub count_packet_out_header: bool,
    /// [`crate::Switch::idle_sweep`] acts once a second; without it as often as it is called.
    pub idle_sweep_each_second: bool,
    /// Entries of the program have priorities from 2^31 - 1 downwards instead of N … 1.
    pub initial_priorities_from_top: bool,
    /// Packets of a `priority` for which a port has no queue are dropped; without it they take the
    /// highest queue there is.
    pub drop_high_priorities: bool,
    /// The CPU port's queue holds this many packets (64 on bmv2); for the runner.
    pub cpu_queue: Option<usize>,
    /// P4Runtime writes are not atomic, only CONTINUE_ON_ERROR is taken; for the server.
    pub continue_on_error_only: bool,
    /// No registers, value sets and roles over P4Runtime; for the server.
    pub no_pi_extensions: bool,
    /// `time_since_last_hit` and idle notices carry no more than bmv2 gives; for the server.
    pub bare_idle_notices: bool,
}

impl Quirks {
    /// What `--quirks simple_switch_grpc` switches on.
    pub fn simple_switch_grpc() -> Self {
        Quirks {
            count_packet_out_header: true,
            idle_sweep_each_second: true,
            drop_high_priorities: true,
            initial_priorities_from_top: true,
            cpu_queue: Some(64),
            continue_on_error_only: true,
            no_pi_extensions: true,
            bare_idle_notices: true,
        }
    }
}
