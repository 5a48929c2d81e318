//! Hosts that talk to each other over a wire, without a switch or behind one that only repeats.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::*;

const CLIENT: &str = "10.0.0.1";
const SERVER: &str = "10.0.0.2";

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn host(name: &str, number: u8, ip: &str) -> Host {
    Host::new(name, [2, 0, 0, 0, 0, number], &[(address(ip), 24)], &[]).unwrap()
}

/// Two hosts on ports 1 and 2 of a "switch" that sends each frame out of the other port.
fn pair() -> (Network, HostIndex, HostIndex) {
    let (queue, frames) = std::sync::mpsc::channel();
    let (mut network, arrivals) =
        Network::new(move |port, frame| queue.send((port, frame)).unwrap());
    let mut sinks: BTreeMap<u16, _> = [1, 2].map(|port| (port, arrivals.sink(port))).into();
    std::thread::spawn(move || {
        for (port, frame) in frames {
            sinks.get_mut(&(3 - port)).unwrap()(&frame);
        }
    });
    let client = network.attach(1, host("client", 1, CLIENT));
    let server = network.attach(2, host("server", 2, SERVER));
    (network, client, server)
}

fn to(port: u16) -> SocketAddr {
    SocketAddr::new(address(SERVER), port)
}

#[test]
fn two_hundred_connections_get_the_page_of_a_named_server() {
    let (mut network, client, server) = pair();
    let web = network
        .host(server)
        .unwrap()
        .serve("web-a", 80, Speaks::Http(Page::Named(3_000)));
    for port in 0..200 {
        network
            .host(client)
            .unwrap()
            .get(40_000 + port, to(80))
            .unwrap();
        if port % 64 == 63 {
            network.run_until(Duration::from_secs(10), |network| {
                network.host(client).unwrap().open_connections() == 0
            });
        }
    }
    assert!(network.run_until(Duration::from_secs(20), |network| {
        network.host(client).unwrap().open_connections() == 0
    }));
    let finished = network.host(client).unwrap().take_finished();
    assert_eq!(finished.len(), 200);
    for one in &finished {
        assert!(one.is_good_http(), "{:?}", one.ending);
        assert_eq!(one.server(), Some("web-a"));
        assert_eq!(one.body().unwrap().len(), 3_000);
        assert!(one.body().unwrap().starts_with(b"web-a\n"));
    }
    let counters = network.host(server).unwrap().counters(web);
    assert_eq!(counters.connections, 200);
    assert_eq!(
        counters.sent,
        finished
            .iter()
            .map(|one| one.received.len() as u64)
            .sum::<u64>()
    );
}

#[test]
fn a_download_survives_loss_doubling_and_reordering() {
    let (mut network, client, server) = pair();
    let bytes: Arc<[u8]> = (0..300_000u32).map(|n| (n * 7 + n / 251) as u8).collect();
    network
        .host(server)
        .unwrap()
        .serve("web-a", 80, Speaks::Http(Page::Bytes(Arc::clone(&bytes))));
    network.set_faults(1, Faults::new(1, 10, 10, 10), Faults::new(2, 10, 10, 10));
    network.host(client).unwrap().get(40_000, to(80)).unwrap();
    network.run_until(Duration::from_secs(60), |network| {
        network.host(client).unwrap().open_connections() == 0
    });
    let finished = network.host(client).unwrap().take_finished();
    assert!(
        finished[0].body() == Some(&bytes),
        "{:?}",
        finished[0].ending
    );
}

#[test]
fn a_talk_stays_open_until_closed_and_a_stopped_server_resets_it() {
    let (mut network, client, server) = pair();
    let lines = network
        .host(server)
        .unwrap()
        .serve("echo", 7, Speaks::Lines);
    let start = |network: &mut Network, port| {
        let host = network.host(client).unwrap();
        host.connect(port, to(7), b"one\n").unwrap()
    };
    let (first, second) = (start(&mut network, 5_001), start(&mut network, 5_002));
    let heard = |network: &mut Network, id, text: &[u8]| {
        network.run_until(Duration::from_secs(5), |network| {
            network.host(client).unwrap().received(id) == Some(text)
        })
    };
    assert!(heard(&mut network, first, b"echo: one\n"));
    assert!(heard(&mut network, second, b"echo: one\n"));
    network.host(client).unwrap().send(first, b"two\n");
    assert!(heard(&mut network, first, b"echo: one\necho: two\n"));
    network.host(client).unwrap().close(first);
    network.run_until(Duration::from_secs(5), |network| {
        network.host(client).unwrap().open_connections() == 1
    });
    network.host(server).unwrap().stop(lines);
    network.run_until(Duration::from_secs(5), |network| {
        network.host(client).unwrap().open_connections() == 0
    });
    start(&mut network, 5_003);
    network.run_until(Duration::from_secs(5), |network| {
        network.host(client).unwrap().open_connections() == 0
    });
    let endings = network.host(client).unwrap().take_finished();
    let endings: Vec<Ending> = endings.iter().map(|one| one.ending).collect();
    assert_eq!(endings, [Ending::Completed, Ending::Reset, Ending::Reset]);
}

#[test]
fn datagrams_and_echo_requests_are_answered() {
    let (mut network, client, server) = pair();
    network.host(server).unwrap().serve_udp(53).unwrap();
    let host = network.host(client).unwrap();
    host.send_datagram(5_353, to(53), b"who").unwrap();
    host.ping(address(SERVER), 77, 3, b"abc").unwrap();
    let (mut datagrams, mut pongs) = (Vec::new(), Vec::new());
    network.run_until(Duration::from_secs(5), |network| {
        let host = network.host(client).unwrap();
        datagrams.extend(host.take_datagrams());
        pongs.extend(host.take_pongs());
        !datagrams.is_empty() && !pongs.is_empty()
    });
    assert_eq!(datagrams[0].data, b"server: who");
    assert_eq!(datagrams[0].from, to(53));
    let expected = Pong {
        from: address(SERVER),
        identifier: 77,
        sequence: 3,
        data: b"abc".to_vec(),
    };
    assert_eq!(pongs, [expected]);
}
