//! The same server over TCP: trailers, streams, large messages, and the dataplane service.

use std::net::SocketAddr;

use signalbox_p4runtime::{grpc::Grpc, proto::p4::v1::entity::Entity as E};

use super::*;
use crate::{
    dataplane::{Dataplane, DataplaneClient},
    server::{ListenError, ListenOptions, listen},
};

fn options(address: &str) -> ListenOptions {
    ListenOptions {
        address: address.parse().unwrap(),
        tls: None,
        exposed: false,
    }
}

async fn connect(address: SocketAddr, election_id: u128) -> (Client, Events) {
    let grpc = Grpc::connect(
        &format!("p4runtime://{address}"),
        None,
        Duration::from_secs(5),
    )
    .await
    .unwrap();
    Client::open(Arc::new(grpc), Session::new(1, election_id))
        .await
        .unwrap()
}

#[tokio::test]
async fn a_controller_works_over_tcp_as_in_process() {
    let lab = Lab::bare(Quirks::default()).await;
    let server = listen(lab.device.clone(), None, options("127.0.0.1:0"))
        .await
        .unwrap();
    let (client, mut events) = connect(server.address(), 20).await;
    assert_eq!(events.standing(), Standing::Primary);
    client
        .set_pipeline(
            Action::VerifyAndCommit,
            lab.catalog.p4info().clone(),
            JSON.into(),
            1,
        )
        .await
        .unwrap();
    let to_us = lab
        .catalog
        .entry("l2")
        .default_action()
        .action("to_controller", [("reason", value(3))])
        .modify()
        .unwrap();
    client.write(vec![to_us]).await.unwrap();
    let sent = frame(9, 9, 0x800);
    lab.packet(4, &sent).await;
    let Event::Packet(packet) = events.next().await.unwrap() else {
        panic!("no packet");
    };
    assert_eq!(packet.payload, sent);
    let header = lab.catalog.header("packet_out").unwrap();
    let metadata = header.pack_in_order(&[6, 0]).unwrap();
    client.packet_out(sent.clone(), metadata).await.unwrap();
    let mut left = Vec::new();
    for _ in 0..100 {
        left = lab.settle().await;
        if !left.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(left, [(6, sent)]);
    let read = client
        .read_all(vec![entity_of(E::CounterEntry(Default::default()))])
        .await
        .unwrap();
    assert_eq!(read.len(), 16);
}

#[tokio::test]
async fn the_results_of_five_hundred_failed_updates_arrive() {
    let lab = Lab::start().await;
    let server = listen(lab.device.clone(), None, options("127.0.0.1:0"))
        .await
        .unwrap();
    let (client, _events) = connect(server.address(), 20).await;
    let updates: Vec<Update> = (0..500).map(|n| delete(lab.l2(n, 1))).collect();
    let whole = signalbox_p4runtime::WriteOptions {
        chunk: 500,
        ..Default::default()
    };
    let error = client.write_with(updates, whole).await.unwrap_err();
    assert_eq!(error.failures.len(), 500);
    assert!(error.all_are(Code::NotFound));
    assert!(
        error
            .explain(&lab.catalog, 1)
            .contains("delete l2 hdr.ethernet.dst=0"),
        "{}",
        error.explain(&lab.catalog, 1)
    );
}

#[tokio::test]
async fn a_controller_that_breaks_off_loses_its_standing() {
    let mut lab = Lab::start().await;
    let server = listen(lab.device.clone(), None, options("127.0.0.1:0"))
        .await
        .unwrap();
    let (client, events) = connect(server.address(), 20).await;
    assert_eq!(
        lab.event().await,
        Event::Standing(Standing::Backup { primary: 20 })
    );
    drop((client, events));
    assert_eq!(
        lab.event().await,
        Event::Standing(Standing::NoPrimary { highest: 20 })
    );
}

#[tokio::test]
async fn a_server_that_stops_ends_the_session() {
    let lab = Lab::start().await;
    let server = listen(lab.device.clone(), None, options("127.0.0.1:0"))
        .await
        .unwrap();
    let (client, mut events) = connect(server.address(), 20).await;
    server.stop().await.unwrap();
    let end = tokio::time::timeout(Duration::from_secs(5), events.next()).await;
    assert!(matches!(end, Ok(Err(_))), "{end:?}");
    let error = client.capabilities().await.unwrap_err();
    assert_eq!(error.code, Code::Unavailable, "{error}");
}

#[tokio::test]
async fn nothing_listens_beyond_loopback_without_keys() {
    let lab = Lab::start().await;
    let error = listen(lab.device.clone(), None, options("0.0.0.0:0"))
        .await
        .unwrap_err();
    assert!(matches!(error, ListenError::Exposed(_)), "{error}");
    let first = listen(lab.device.clone(), None, options("127.0.0.1:0"))
        .await
        .unwrap();
    let taken = options(&first.address().to_string());
    let error = listen(lab.device.clone(), None, taken).await.unwrap_err();
    assert!(
        error.to_string().starts_with("cannot listen on 127.0.0.1:"),
        "{error}"
    );
}

#[tokio::test]
async fn packets_pass_through_the_dataplane_interface() {
    let lab = Lab::start().await;
    lab.write(vec![insert(lab.l2(0x0a, 3))]).await.unwrap();
    let dataplane = Dataplane::attach(lab.runner.handle(), 1, 0..16).unwrap();
    let server = listen(lab.device.clone(), Some(dataplane), options("127.0.0.1:0"))
        .await
        .unwrap();
    let address = server.address().to_string();
    let harness = DataplaneClient::connect(&address, 1, Duration::from_secs(5))
        .await
        .unwrap();
    let (sender, mut receiver) = harness.open().await.unwrap();
    assert!(harness.open().await.is_err(), "one harness at a time");
    let packet = frame(0x0a, 1, 0x800);
    for _ in 0..100 {
        sender.send(1, packet.clone()).unwrap();
    }
    for _ in 0..100 {
        assert_eq!(
            receiver.next().await.unwrap(),
            Some((3, bytes::Bytes::from(packet.clone())))
        );
    }
    harness.set_port(3, false).await.unwrap();
    sender.send(1, packet.clone()).unwrap();
    // The switch finishes what it has before it ends the stream.
    drop(sender);
    assert_eq!(receiver.next().await.unwrap(), None);
    harness.set_port(3, true).await.unwrap();
    let (sender, mut receiver) = harness.open().await.unwrap();
    sender.send(1, packet.clone()).unwrap();
    assert_eq!(receiver.next().await.unwrap().unwrap().0, 3);
}

/// Far more than a connection's budget for small frames in HTTP/2's own window.
const BURST: usize = 8_000;

/// How long one end does nothing, so that what the other one sends piles up before it.
const ASLEEP: Duration = Duration::from_millis(500);

/// Runs one end on a thread of its own, so that the other may sleep meanwhile.
fn apart<F: Future<Output = ()>>(
    end: impl FnOnce() -> F + Send + 'static,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(end())
    })
}

/// Lets what was just sent go out by itself: messages that wait together go out as one large frame.
async fn alone() {
    for _ in 0..8 {
        tokio::task::yield_now().await;
    }
}

async fn joined(thread: std::thread::JoinHandle<()>) {
    let joined = tokio::task::spawn_blocking(|| thread.join());
    joined.await.unwrap().unwrap();
}

/// How many packets have left once `count` have, or nothing has come for long.
async fn left(lab: &Lab, count: usize) -> usize {
    let mut left = 0;
    for _ in 0..2_000 {
        left += lab.settle().await.len();
        if left >= count {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    left
}

#[tokio::test]
async fn a_burst_of_thousands_of_small_packets_passes_each_way_of_a_controller() {
    let lab = Lab::start().await;
    let server = listen(lab.device.clone(), None, options("127.0.0.1:0"))
        .await
        .unwrap();
    let address = server.address();
    let to_us = lab
        .catalog
        .entry("l2")
        .default_action()
        .action("to_controller", [("reason", value(3))])
        .modify()
        .unwrap();
    let metadata = lab.catalog.header("packet_out").unwrap();
    let metadata = metadata.pack_in_order(&[6, 0]).unwrap();
    let packet = frame(9, 9, 0x800)[..20].to_vec();
    let sent = packet.clone();
    let (sending, begun) = tokio::sync::oneshot::channel();
    let (taking, waiting) = tokio::sync::oneshot::channel();
    let controller = apart(move || async move {
        let (client, mut events) = connect(address, 20).await;
        client.write(vec![to_us]).await.unwrap();
        sending.send(()).unwrap();
        for _ in 0..BURST {
            client
                .packet_out(sent.clone(), metadata.clone())
                .await
                .unwrap();
            alone().await;
        }
        taking.send(()).unwrap();
        std::thread::sleep(4 * ASLEEP);
        for taken in 0..BURST {
            let event = tokio::time::timeout(Duration::from_secs(20), events.next());
            let event = event.await.expect("more packet-ins");
            assert!(
                matches!(event, Ok(Event::Packet(_))),
                "after {taken}: {event:?}"
            );
        }
    });
    begun.await.unwrap();
    std::thread::sleep(ASLEEP);
    assert_eq!(left(&lab, BURST).await, BURST);
    waiting.await.unwrap();
    for _ in 0..BURST {
        lab.packet(4, &packet).await;
        alone().await;
    }
    joined(controller).await;
}

#[tokio::test]
async fn a_burst_of_thousands_of_small_packets_passes_the_dataplane_interface() {
    let lab = Lab::start().await;
    lab.write(vec![insert(lab.l2(0x0a, 3))]).await.unwrap();
    let dataplane = Dataplane::attach(lab.runner.handle(), 1, 0..16).unwrap();
    let server = listen(lab.device.clone(), Some(dataplane), options("127.0.0.1:0"))
        .await
        .unwrap();
    let address = server.address().to_string();
    let (sending, begun) = tokio::sync::oneshot::channel();
    let harness = apart(move || async move {
        let harness = DataplaneClient::connect(&address, 1, Duration::from_secs(5))
            .await
            .unwrap();
        let (sender, mut receiver) = harness.open().await.unwrap();
        sending.send(()).unwrap();
        for _ in 0..BURST {
            sender
                .send(1, frame(0x0a, 1, 0x800)[..20].to_vec())
                .unwrap();
            alone().await;
        }
        // Nothing is taken while the switch answers.
        std::thread::sleep(4 * ASLEEP);
        for taken in 0..BURST {
            let next = tokio::time::timeout(Duration::from_secs(20), receiver.next());
            let next = next.await.expect("more packets");
            assert!(matches!(next, Ok(Some((3, _)))), "after {taken}: {next:?}");
        }
    });
    begun.await.unwrap();
    std::thread::sleep(2 * ASLEEP);
    joined(harness).await;
}

#[tokio::test]
async fn the_dataplane_interface_gives_back_the_id_of_the_packet_that_caused_another() {
    use crate::dataplane::proto::{
        PacketStreamRequest, dataplane_interface_client::DataplaneInterfaceClient,
    };
    let lab = Lab::start().await;
    lab.write(vec![insert(lab.l2(0x0a, 3))]).await.unwrap();
    let dataplane = Dataplane::attach(lab.runner.handle(), 1, 0..16).unwrap();
    let server = listen(lab.device.clone(), Some(dataplane), options("127.0.0.1:0"))
        .await
        .unwrap();
    let mut client = DataplaneInterfaceClient::connect(format!("http://{}", server.address()))
        .await
        .unwrap();
    let requests = [42, 0, u64::MAX].map(|id| PacketStreamRequest {
        id,
        device_id: 1,
        port: 1,
        packet: frame(0x0a, 1, 0x800).into(),
    });
    let mut answers = client
        .packet_stream(futures::stream::iter(requests))
        .await
        .unwrap()
        .into_inner();
    for id in [42, 0, u64::MAX] {
        assert_eq!(answers.message().await.unwrap().unwrap().id, id);
    }
}

#[tokio::test]
async fn only_a_switch_without_quirks_says_what_it_is() {
    for (quirks, says) in [
        (Quirks::default(), true),
        (Quirks::simple_switch_grpc(), false),
    ] {
        let lab = Lab::bare(quirks).await;
        let server = listen(lab.device.clone(), None, options("127.0.0.1:0"))
            .await
            .unwrap();
        let (client, _events) = connect(server.address(), 20).await;
        let name = client.capabilities().await.unwrap().server;
        assert_eq!(
            name.is_some_and(|name| name.starts_with("signalbox/")),
            says
        );
    }
}
