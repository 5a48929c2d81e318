//! A service in this process for benches: switch, agent and managers of a policy, ports that are in memory,
//! and connections through it.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use signalbox::control::Request;
use signalbox::image::{self, Compiled};
use signalbox::service::{Pipeline, RunningTarget, Service};
use signalbox_policy::model::{Policy, SendPacket, Transport};
use signalbox_policy::testing;
use signalbox_switch::ports::MemoryPort;
use tokio::runtime::Runtime;

/// The program's own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// SYNs on their way at once; a busy service sees many.
const OUTSTANDING: usize = 512;
/// Longer than any packet of a running service takes.
const PATIENCE: Duration = Duration::from_secs(5);

/// The policy of that file below this package.
pub fn policy(path: &str) -> Policy {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let text = std::fs::read_to_string(path).expect("the policy");
    signalbox_policy::check(&text, "bench.policy")
        .policy
        .expect("a policy without errors")
}

/// A service whose hosts are all known, without health checks, whose agent waits for its managers.
pub struct Running {
    /// The service.
    pub service: Service,
    /// What leaves, with its port.
    left: Receiver<(u16, Vec<u8>)>,
}

impl Running {
    /// Starts it.
    pub fn start(runtime: &Runtime, compiled: &Compiled) -> Self {
        let mut plan = compiled.lowered.plan.clone();
        for service in &mut plan.services {
            if let Some(balance) = &mut service.balance {
                balance.check = None;
            }
            // Nobody sends anything again here, whatever else the machine does meanwhile.
            service.limits.hold_ms = 5_000;
        }
        let numbers: Vec<u16> = plan.ports.iter().map(|port| port.number).collect();
        let service = runtime.block_on(async {
            let target = RunningTarget::embedded(numbers.clone(), plan.cpu_port, None)
                .await
                .expect("a target");
            let pipeline = Pipeline::Push {
                device_config: compiled.image.json.clone().into_bytes(),
            };
            Service::start_plan(Arc::new(plan), compiled, target, pipeline)
                .await
                .expect("a service")
        });
        let (tell, left) = channel();
        let ports = numbers
            .into_iter()
            .map(|number| {
                let tell = tell.clone();
                let sink = move |packet: &[u8]| {
                    let _ = tell.send((number, packet.to_vec()));
                };
                (number, Box::new(MemoryPort::new(sink)) as _)
            })
            .collect();
        service.attach(ports).expect("the ports");
        Self { service, left }
    }

    /// Sends what opens connections in at port 1 and waits until all of it has left, answered with a
    /// SYN-ACK where `answered` says so; the time from the first packet to the last.
    pub fn open(&self, runtime: &Runtime, syns: &[Vec<u8>], answered: bool) -> Duration {
        let view = self.service.view();
        let switch = view.switch().expect("the embedded switch");
        let mut syns = syns.iter();
        let begin = Instant::now();
        let mut under_way = 0usize;
        loop {
            while under_way < OUTSTANDING
                && let Some(syn) = syns.next()
            {
                switch.inject(1, syn.clone()).expect("a running switch");
                under_way += 1;
            }
            if under_way == 0 {
                return begin.elapsed();
            }
            let Ok((port, packet)) = self.left.recv_timeout(PATIENCE) else {
                let status = runtime.block_on(view.answer(Request::Status));
                panic!("{under_way} of {OUTSTANDING} packets have not left: {status:?}");
            };
            if answered && port != 1 {
                let answer = syn_ack(packet);
                switch.inject(port, answer).expect("a running switch");
            } else {
                under_way -= 1;
            }
        }
    }
}

/// A TCP segment of IPv4 without payload, from 10.64.0.0/10 or a client of web.policy to that address,
/// of connection `flow`.
pub fn segment(
    policy: &Policy,
    (network, hosts): (u32, u64),
    to: [u8; 4],
    flow: u64,
    flags: u8,
) -> Vec<u8> {
    let send = SendPacket {
        port: 1,
        src: std::net::Ipv4Addr::from(network + (flow % hosts) as u32).into(),
        dst: to.into(),
        transport: Transport::Tcp {
            src: 10_000 + (flow / hosts) as u16,
            dst: 80,
            flags,
        },
        ttl: 64,
        payload: if flags & 2 == 0 { 20 } else { 0 },
    };
    testing::packet(policy, &send)
}

/// What a server answers a SYN with.
fn syn_ack(mut packet: Vec<u8>) -> Vec<u8> {
    let mut swap = |a: usize, b: usize, n: usize| {
        for i in 0..n {
            packet.swap(a + i, b + i);
        }
    };
    swap(0, 6, 6);
    swap(26, 30, 4);
    swap(34, 36, 2);
    packet[47] |= 0x10;
    // RFC 1624: the one's complement sum grows by the flag.
    let sum = !u16::from_be_bytes([packet[50], packet[51]]);
    let (sum, carry) = sum.overflowing_add(0x10);
    packet[50..52].copy_from_slice(&(!(sum + u16::from(carry))).to_be_bytes());
    packet
}

/// The program and plan of a policy.
pub fn compiled(policy: &Policy) -> Compiled {
    image::compile(policy.clone()).expect("an image")
}
