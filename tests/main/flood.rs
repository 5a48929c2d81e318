//! What a flood of new connections must not do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use signalbox::control::Request;
use signalbox::image;
use signalbox::service::Service;
use signalbox_agent::packet::{TYPE_IPV4, checksum, frame};
use tokio::runtime::Runtime;

use crate::programs::site::POLICY;

/// A SYN to the service from the `n`th of many clients.
fn syn(mac: [u8; 6], n: u32) -> Vec<u8> {
    let [_, a, b, c] = n.to_be_bytes();
    let mut ip = vec![0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0];
    ip.extend_from_slice(&[198, 51, 100, a, 203, 0, 113, 80, b, c, 0, 80]);
    ip.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
    let sum = checksum(&[&ip[..20]]).to_be_bytes();
    ip[10..12].copy_from_slice(&sum);
    frame(mac, [2, 9, 9, 9, 9, 9], TYPE_IPV4, &ip)
}

#[test]
fn status_answers_while_a_flood_of_new_connections_goes_on() {
    let policy = signalbox_policy::check(POLICY, "site.policy")
        .policy
        .unwrap();
    let compiled = image::compile(policy).unwrap();
    let plan = &compiled.lowered.plan;
    let runtime = Runtime::new().unwrap();
    let service = runtime.block_on(Service::start_embedded(&compiled));
    let service = service.unwrap();
    service.attach(Vec::new()).unwrap();
    let view = service.view();
    let switch = view.switch().cloned().unwrap();
    let mac = plan.ports[0].mac;
    let over = Arc::new(AtomicBool::new(false));
    let flood = {
        let over = Arc::clone(&over);
        runtime.spawn(async move {
            let mut n = 0;
            while !over.load(Ordering::Relaxed) {
                for _ in 0..256 {
                    switch.inject(1, syn(mac, n)).unwrap();
                    n += 1;
                }
                // As fast as the switch goes, and no faster: its own queue is not what is tested.
                switch.call(|_, _| ()).await.unwrap();
            }
        })
    };
    std::thread::sleep(Duration::from_secs(2));
    let mut counters = serde_json::Value::Null;
    for _ in 0..3 {
        let answer = view.answer(Request::Status);
        let answer =
            runtime.block_on(async { tokio::time::timeout(Duration::from_secs(5), answer).await });
        let status = answer.expect("status answers within five seconds").unwrap();
        counters = status["agent"]["counters"].clone();
    }
    over.store(true, Ordering::Relaxed);
    runtime.block_on(flood).unwrap();
    assert!(counters["interests"].as_u64().unwrap() > 0);
}
