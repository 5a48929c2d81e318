//! Our switch in this process: without gRPC, with bmv2's limits, and over gRPC.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use signalbox_p4runtime::grpc::Grpc;
use signalbox_switch::dataplane::{Dataplane, DataplaneClient};
use signalbox_switch::ports::MemoryPort;
use signalbox_switch::runner::{RealClock, Runner};
use signalbox_switch::server::{Device, ListenOptions, Options, listen};
use signalbox_switch::{Config, Quirks, Switch};

use super::{Packets, Started};

const DEVICE: u64 = 1;
/// How long a switch may take to be there.
const LIMIT: Duration = Duration::from_secs(10);

fn runner(ports: &[u16], quirks: bool) -> Runner {
    let config = Config {
        ports: ports.to_vec(),
        cpu_port: Some(510),
        quirks: if quirks {
            Quirks::simple_switch_grpc()
        } else {
            Quirks::default()
        },
        ..Config::default()
    };
    Runner::start(Switch::new(config), Box::new(RealClock::start())).unwrap()
}

fn options() -> Options {
    Options {
        device_id: DEVICE,
        ..Options::default()
    }
}

/// P4Runtime and packets by function calls.
pub async fn in_process(ports: &[u16], quirks: bool) -> Started {
    let runner = runner(ports, quirks);
    let handle = runner.handle();
    let (queue, sent) = channel();
    for port in ports.iter().copied() {
        let queue = queue.clone();
        let sink = move |frame: &[u8]| {
            // The scenario may be over.
            let _ = queue.send((port, frame.to_vec()));
        };
        handle
            .add_port(port, Box::new(MemoryPort::new(sink)))
            .unwrap();
    }
    let device = Device::start(handle.clone(), options()).await.unwrap();
    let switch = Some(handle.clone());
    Started {
        transport: Arc::new(device),
        device_id: DEVICE,
        packets: Box::pin(std::future::ready(Packets {
            send: Box::new(move |port, frame| handle.inject(port, frame).unwrap()),
            sent,
        })),
        switch,
        keep: vec![Box::new(runner)],
    }
}

/// P4Runtime and packets over gRPC on loopback.
pub async fn over_grpc(ports: &[u16]) -> Started {
    let runner = runner(ports, false);
    let handle = runner.handle();
    let dataplane = Dataplane::attach(handle.clone(), DEVICE, ports.iter().copied()).unwrap();
    let device = Device::start(handle, options()).await.unwrap();
    let listening = listen(
        device,
        Some(dataplane),
        ListenOptions {
            address: ([127, 0, 0, 1], 0).into(),
            tls: None,
            exposed: false,
        },
    )
    .await
    .unwrap();
    let address = listening.address().to_string();
    let mut started = connect(&address, &address, DEVICE).await;
    started.keep.push(Box::new(listening));
    started.keep.push(Box::new(runner));
    started
}

/// Connects to a switch that listens for P4Runtime and for packets.
pub async fn connect(p4runtime: &str, dataplane: &str, device_id: u64) -> Started {
    let transport = Grpc::connect(p4runtime, None, LIMIT).await.unwrap();
    Started {
        transport: Arc::new(transport),
        device_id,
        packets: Box::pin(open_packets(dataplane.to_owned(), device_id)),
        switch: None,
        keep: Vec::new(),
    }
}

async fn open_packets(dataplane: String, device_id: u64) -> Packets {
    let client = DataplaneClient::connect(&dataplane, device_id, LIMIT)
        .await
        .unwrap();
    // bmv2 becomes ready shortly after it has got its pipeline.
    let end = Instant::now() + LIMIT;
    let (sender, mut receiver) = loop {
        match client.open().await {
            Ok(stream) => break stream,
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let (queue, sent) = channel();
    tokio::spawn(async move {
        while let Ok(Some((port, frame))) = receiver.next().await {
            if queue.send((port, frame.to_vec())).is_err() {
                break;
            }
        }
    });
    Packets {
        send: Box::new(move |port, frame| sender.send(port, frame).unwrap()),
        sent,
    }
}
