//! The generated pipeline, packet by packet: policies are lowered, compiled, loaded into the embedded
//! switch with the plan's entries, and packets are sent through. Nothing but the P4 decides what happens.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that goes wrong panics"
)]

mod admission;
mod cascade;
mod frames;
mod gates;
mod interface;
mod ipv6;
mod kinds;
mod names;
mod nat;
mod observe;
mod programs;
mod rewriting;
mod rig;
mod stages;
mod tunnels;

/// Two services over IPv4 in front of two racks.
const WEB: &str = "
network {
  port 1 clients { address 203.0.113.1/24 }
  port 2 rack-a { address 10.0.1.1/24 }
  port 3 rack-b { address 10.0.2.1/24 }
}
pool web { 10.0.1.10:8080  10.0.2.10:8080 }
service guard : filter { deny ip.src in 198.51.100.0/24 }
service web-lb : balance { match tcp.dst 203.0.113.80:80 pick from @web by round-robin }
cascade guard > web-lb
managers { lb-1 serves web-lb }
";

/// The same in both families, with a service over UDP and IPv6.
const DUAL: &str = "
network {
  port 1 clients { address 203.0.113.1/24 address 2001:db8:1::1/64 }
  port 2 rack-a { address 10.0.1.1/24 address 2001:db8:2::1/64 }
  port 3 rack-b { address 10.0.2.1/24 }
}
pool web { 10.0.1.10:8080  10.0.2.10:8080 }
pool names { [2001:db8:2::10]:8080 }
service guard : filter { deny ip.src in 198.51.100.0/24 }
service web-lb : balance { match tcp.dst 203.0.113.80:80 pick from @web by round-robin }
service dns-lb : balance { match udp.dst [2001:db8:1::80]:53 pick from @names by round-robin }
cascade guard > web-lb > dns-lb
managers { lb-1 serves web-lb, dns-lb }
";
