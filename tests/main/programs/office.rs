//! An office with two hosts behind the switch, and two servers of the Internet behind a router.
//!
//! ```text
//! a 10.1.0.10, .20 ── port 1 ┐                              ┌ server-1 198.51.100.10, .11
//!                            switch ── port 3 ── router ────┤
//! b 10.2.0.10, .20 ── port 2 ┘           203.0.113.254      └ server-2 192.0.2.10, .11
//! ```

use std::time::Duration;

use serde_json::Value;

use super::wired::{Wired, printed, set};
use crate::lab::Space;
use crate::process::wait_until;

/// The servers' names and own addresses; `.11` beside each is the pools'.
pub const SERVERS: [(&str, &str); 2] = [("server-1", "198.51.100.10"), ("server-2", "192.0.2.10")];

/// The office's one address for both servers.
pub const SERVICE: &str = "10.1.0.80";

const POLICY: &str = include_str!("office.policy");

/// All that runs.
pub struct Office {
    /// Switch, cables and programs.
    pub wired: Wired,
    /// The host at port 1.
    pub a: Space,
    /// The host at port 2.
    pub b: Space,
}

impl Office {
    /// Builds it and waits until the servers are up.
    pub fn start(target: &str, keeps_offloads: bool) -> Self {
        let mut wired = Wired::new(target, keeps_offloads);
        let [a, b, router] = ["a", "b", "router"].map(|name| wired.host(name));
        for (number, host, subnet) in [(1, &a, "10.1.0"), (2, &b, "10.2.0")] {
            wired.port(number, host);
            host.address(
                "eth0",
                &format!("{subnet}.10/24"),
                Some(&format!("{subnet}.1")),
            );
            host.address("eth0", &format!("{subnet}.20/24"), None);
        }
        wired.port(3, &router);
        router.address("eth0", "203.0.113.254/24", None);
        set(&router, "net.ipv4.ip_forward=1");
        // Its errors are what traceroute lives on.
        set(&router, "net.ipv4.icmp_ratelimit=0");
        for (index, (name, address)) in SERVERS.into_iter().enumerate() {
            let server = wired.host(name);
            let at_router = format!("eth{}", index + 1);
            wired.cable(&server, "eth0", &router, &at_router);
            let (subnet, _) = address.rsplit_once('.').unwrap();
            router.address(&at_router, &format!("{subnet}.1/24"), None);
            server.address(
                "eth0",
                &format!("{address}/24"),
                Some(&format!("{subnet}.1")),
            );
            server.address("eth0", &format!("{subnet}.11/24"), None);
            serve(&mut wired, name, &server);
            for address in [format!("{subnet}.10"), format!("{subnet}.11")] {
                // Of a socket for all addresses its UDP would come from the first one.
                let speed = ["iperf3", "-s", "-B", &address];
                wired.program(&format!("speed-{address}"), &server, &speed);
            }
        }
        wired.run("office.policy", POLICY);
        let office = Self { wired, a, b };
        wait_until("the servers' first checks", Duration::from_secs(20), || {
            // Names of themselves: both answer, and the switch knows all neighbours.
            office.curl(&office.a, &format!("http://{SERVICE}/name")) == "server-1\n"
                || office.curl(&office.a, &format!("http://{SERVICE}/name")) == "server-2\n"
        });
        office
    }

    /// What curl brings, or nothing.
    pub fn curl(&self, host: &Space, url: &str) -> String {
        self.curl_with(host, url, &[])
    }

    /// As [`Office::curl`], with further flags.
    pub fn curl_with(&self, host: &Space, url: &str, flags: &[&str]) -> String {
        let mut words = vec!["curl", "-sS", "-m", "5"];
        words.extend(flags);
        words.push(url);
        String::from_utf8_lossy(&host.run(&words).stdout).into_owned()
    }
}

/// A web server and a name server; each of them tells the server's name.
fn serve(wired: &mut Wired, name: &str, server: &Space) {
    let name_file = wired
        .folder
        .write(&format!("{name}/name"), format!("{name}\n"));
    let folder = name_file.parent().unwrap().to_str().unwrap().to_owned();
    let web = [
        "python3",
        "-u",
        "-m",
        "http.server",
        "8080",
        "--directory",
        &folder,
    ];
    wired.program(&format!("web-{name}"), server, &web);
    wired.program(&format!("dns-{name}"), server, &name_server(name, &[]));
}

/// dnsmasq that knows one name, `who.test`, with a text.
pub fn name_server<'a>(name: &str, flags: &[&'a str]) -> Vec<&'a str> {
    let text: &'static str = match name {
        "server-1" => "--txt-record=who.test,server-1",
        "server-2" => "--txt-record=who.test,server-2",
        _ => "--txt-record=who.test,inside",
    };
    let mut words = vec![
        "dnsmasq",
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--no-resolv",
    ];
    words.extend([
        "--no-hosts",
        "--user=root",
        "--pid-file=",
        "--log-facility=-",
        "--log-queries",
    ]);
    words.push(text);
    words.extend(flags);
    words
}

/// How iperf3 sends: `-u` or nothing, `-R` or nothing.
pub const WAYS_TO_SEND: [(bool, bool); 4] =
    [(false, false), (false, true), (true, false), (true, true)];

/// iperf3 from a host; fails unless nearly all arrives in its second (of UDP 98 %).
pub fn iperf3(host: &Space, server: &str, (is_udp, is_reverse): (bool, bool)) {
    let mut words = vec!["iperf3", "-c", server, "-J", "--connect-timeout", "3000"];
    if is_udp {
        words.extend(["-u", "-b", "2M", "-l", "1000", "-n", "200K"]);
    } else {
        // Paced, since what is on its way at the end counts as sent and not as received.
        words.extend(["-b", "8M", "-l", "16K", "-t", "1"]);
    }
    if is_reverse {
        words.push("-R");
    }
    let output = host.run(&words);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{words:?}: {text}");
    let end = serde_json::from_slice::<Value>(&output.stdout).unwrap()["end"].take();
    let number = |path: &str| {
        let found = end.pointer(path).and_then(Value::as_u64);
        found.unwrap_or_else(|| panic!("{words:?}: no {path} in {end}"))
    };
    if is_udp {
        let (sent, lost) = (number("/sum/packets"), number("/sum/lost_packets"));
        assert!(
            sent >= 190 && lost * 50 <= sent,
            "{words:?}: {lost} of {sent} lost"
        );
    } else {
        let (sent, received) = (number("/sum_sent/bytes"), number("/sum_received/bytes"));
        assert!(
            sent >= 500_000 && received * 100 >= sent * 80,
            "{words:?}: {received} of {sent}"
        );
    }
}

/// The hops that traceroute prints, `*` where nobody answered.
pub fn traceroute(host: &Space, flags: &[&str], to: &str) -> Vec<String> {
    let mut words = vec![
        "traceroute",
        "-n",
        "-q",
        "1",
        "-w",
        "2",
        "-m",
        "6",
        "-N",
        "1",
    ];
    words.extend(flags);
    words.push(to);
    let text = printed(host, &words);
    let hops = text.lines().skip(1);
    hops.map(|line| line.split_whitespace().nth(1).unwrap_or("*").to_owned())
        .collect()
}

/// What dig says of `who.test`.
pub fn dig(host: &Space, server: &str, flags: &[&str]) -> String {
    let at = format!("@{server}");
    let mut words = vec!["dig", "+short", "+timeout=2", "+tries=2"];
    words.extend(flags);
    words.extend([at.as_str(), "who.test", "TXT"]);
    printed(host, &words).trim().trim_matches('"').to_owned()
}
