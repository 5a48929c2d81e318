//! `simple_switch_grpc`, a process of its own with packets over its DataplaneInterface.

use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Started;
use super::embedded::connect;
use crate::process::{Folder, Process, wait_until};

/// bmv2 names its notification socket after the device id, so no two at one time may share it.
fn free_device_id() -> u64 {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    u64::from(std::process::id()) * 1000 + NUMBER.fetch_add(1, Ordering::Relaxed)
}

/// Loopback addresses that nobody listens at; another program may take one, but seldom does.
fn free_addresses<const N: usize>() -> [String; N] {
    let listeners: [TcpListener; N] =
        std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().to_string())
}

/// Starts the program and waits until both of its servers listen.
pub async fn start() -> Started {
    let [p4runtime, dataplane, thrift] = free_addresses();
    let thrift_port = thrift.rsplit_once(':').unwrap().1.to_owned();
    let device = free_device_id();
    let folder = Folder::new();
    let mut command = Command::new("simple_switch_grpc");
    command
        .args(["--no-p4", "--device-id", &device.to_string()])
        .args(["--thrift-port", &thrift_port])
        .args(["--log-level", "warn", "--log-console", "--"])
        .args(["--grpc-server-addr", &p4runtime, "--cpu-port", "510"])
        .args(["--dp-grpc-server-addr", &dataplane]);
    let mut process = Process::start("simple_switch_grpc", command, &folder);
    for address in [&p4runtime, &dataplane] {
        wait_until("simple_switch_grpc", Duration::from_secs(20), || {
            assert!(process.ended().is_none(), "simple_switch_grpc has ended");
            TcpStream::connect(address).is_ok()
        });
    }
    let mut started = connect(&p4runtime, &dataplane, device).await;
    started.keep.push(Box::new(process));
    started.keep.push(Box::new(folder));
    started
}
