//! An upload through a GUE tunnel that is narrower than the client's link: the client finds out.

use std::time::Duration;

use super::capture::Capture;
use super::wired::{Wired, ip, printed, set};
use super::{alone, needs_of};
use crate::lab::Space;
use crate::needs::note_skip;
use crate::process::wait_until;

const NEEDS: [&str; 9] = [
    "root",
    "ip",
    "curl",
    "python3",
    "tcpdump",
    "ethtool",
    "sysctl",
    "kill",
    "sha256sum",
];

const POLICY: &str = "
network {
  port 1 clients { address 203.0.113.1/24 }
  port 2 servers { address 10.2.0.1/24 }
}

pool web {
  10.2.0.10:80
  check tcp every 1s
}

service web-lb : balance {
  match tcp.dst 203.0.113.80:80
  pick from @web by maglev(flow)
  way gue
}

managers {
  lb-1 serves web-lb
}
";

/// Takes uploads and answers with their SHA-256.
const UPLOADS: &str = "
import hashlib, http.server
class Upload(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers['Content-Length']))
        answer = hashlib.sha256(body).hexdigest().encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
http.server.ThreadingHTTPServer(('', 80), Upload).serve_forever()
";

/// Takes GUE packets (version 0, IPv4 inside) and puts what is in them on the cable gue0–gue1.
const UNPACK: &str = "
import socket, sys
out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
out.bind(('gue0', 0x0800))
to = bytes.fromhex(open('/sys/class/net/gue1/address').read().strip().replace(':', ''))
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(('10.2.0.10', 6080))
print('listening', flush=True)
while True:
    packet = udp.recv(65535)
    if packet[:4] == bytes([0, 4, 0, 0]):
        out.send(to + bytes(6) + bytes([8, 0]) + packet[4:])
    else:
        print('not version 0 with IPv4 inside:', packet[:4].hex(), flush=True)
";

/// Who takes the tunnel's headers off.
#[derive(Clone, Copy, PartialEq)]
enum End {
    /// The server's kernel, by `fou` and `ipip`.
    Kernel,
    /// A program beside the server.
    Program,
}

/// The kernel's end of the tunnel; false where the kernel has none.
fn kernel_unpacks(server: &Space) -> bool {
    ip(server, "fou add port 6080 gue")
        && ip(
            server,
            "link add gue1 type ipip local 10.2.0.10 remote 10.2.0.1 ttl 64",
        )
        && ip(server, "link set gue1 up")
}

fn program_unpacks(wired: &mut Wired, server: &Space) {
    wired.cable(server, "gue0", server, "gue1");
    // The sysctl and the files of /sys are the namespace's own.
    wired.program("unpack", server, &["python3", "-c", UNPACK]);
    let unpack = wired.started("unpack");
    wait_until("the tunnel's end", Duration::from_secs(10), || {
        unpack.printed().contains("listening")
    });
}

/// 2 MB go up through the tunnel, in packets of no more than the servers' link carries.
fn an_upload_finds_the_tunnels_mtu(test: &str, target: &str, end: End) {
    let mut wired = Wired::new(target, true);
    let (client, server) = (wired.host("client"), wired.host("server"));
    wired.port(1, &client);
    wired.port(2, &server);
    client.address("eth0", "203.0.113.9/24", Some("203.0.113.1"));
    server.address("eth0", "10.2.0.10/24", Some("10.2.0.1"));
    server.address("lo", "203.0.113.80/32", None);
    // What comes out of the tunnel comes from where answers do not go.
    set(&server, "net.ipv4.conf.all.rp_filter=0");
    set(&server, "net.ipv4.conf.default.rp_filter=0");
    match end {
        End::Kernel if !kernel_unpacks(&server) => {
            return note_skip(&format!("SKIPPED {test}: this kernel has no fou and ipip"));
        }
        End::Kernel => {}
        End::Program => program_unpacks(&mut wired, &server),
    }
    wired.program("uploads", &server, &["python3", "-c", UPLOADS]);
    wired.run("gue.policy", POLICY);
    let body: Vec<u8> = (0..2_000_000u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let file = wired.folder.write("body", body);
    let file = file.to_str().unwrap();
    let mut tunnel = Capture::start(&wired.at_switch, "port2", "udp port 6080", &wired.folder);
    let data = format!("@{file}");
    let upload = [
        "curl",
        "-sS",
        "-f",
        "-m",
        "20",
        "--retry",
        "5",
        "--retry-connrefused",
        "-H",
        "Expect:",
        "--data-binary",
        &data,
        "http://203.0.113.80/",
    ];
    let answer = printed(&client, &upload);
    let digest = printed(&client, &["sha256sum", file]);
    assert_eq!(
        answer,
        digest.split_whitespace().next().unwrap(),
        "it arrives whole"
    );

    let route = printed(&client, &["ip", "route", "get", "203.0.113.80"]);
    assert!(
        route.contains(" mtu 1468"),
        "1500 less 20, 8 and 4: {route}"
    );
    let tallies = tunnel.stop_by_ends();
    assert!(tallies.values().map(|tally| tally.bytes).sum::<u64>() > 2_000_000);
    assert_eq!(
        tunnel.longest(),
        14 + 1500,
        "full packets, and none too long"
    );
    let sent = wired.status()["agent"]["counters"]["errors_sent"]["too_big"].clone();
    assert!(sent.as_u64().is_some_and(|sent| sent > 0), "{sent}");
}

fn run(test: &str, target: &str, end: End) {
    if needs_of(test, target, &NEEDS) {
        let _alone = (target == "bmv2").then(alone);
        an_upload_finds_the_tunnels_mtu(test, target, end);
    }
}

// A6.20, A6.21, A6.22
#[test]
fn an_upload_through_gue_finds_the_paths_mtu() {
    run(
        "an_upload_through_gue_finds_the_paths_mtu",
        "switch",
        End::Program,
    );
}

#[test]
fn an_upload_through_gue_finds_the_paths_mtu_with_bmv2s_limits() {
    run(
        "an_upload_through_gue_finds_the_paths_mtu_with_bmv2s_limits",
        "quirks",
        End::Program,
    );
}

#[test]
fn an_upload_through_gue_finds_the_paths_mtu_on_bmv2() {
    run(
        "an_upload_through_gue_finds_the_paths_mtu_on_bmv2",
        "bmv2",
        End::Program,
    );
}

#[test]
fn linux_takes_the_tunnel_that_the_switch_makes() {
    run(
        "linux_takes_the_tunnel_that_the_switch_makes",
        "switch",
        End::Kernel,
    );
}
