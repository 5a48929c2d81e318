//! `simple_switch_grpc`, a process of its own with packets over its DataplaneInterface.

use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use super::Started;
use super::embedded::connect;
use crate::process::{Folder, Process, wait_until};

const DEVICE: u64 = 1;

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
    let folder = Folder::new();
    let notifications = format!("ipc://{}", folder.file("notifications").display());
    let mut command = Command::new("simple_switch_grpc");
    command
        .args(["--no-p4", "--device-id", &DEVICE.to_string()])
        .args(["--thrift-port", &thrift_port, "--notifications-addr", &notifications])
        .args(["--log-level", "warn", "--log-console", "--"])
        .args(["--grpc-server-addr", &p4runtime, "--cpu-port", "510"])
        .args(["--dp-grpc-server-addr", &dataplane]);
    let process = Process::start("simple_switch_grpc", command, &folder);
    for address in [&p4runtime, &dataplane] {
        wait_until("simple_switch_grpc", Duration::from_secs(20), || {
            TcpStream::connect(address).is_ok()
        });
    }
    let mut started = connect(&p4runtime, &dataplane, DEVICE).await;
    started.keep.push(Box::new(process));
    started.keep.push(Box::new(folder));
    started
}
