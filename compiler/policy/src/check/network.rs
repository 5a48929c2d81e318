//! Ports, routes and neighbours: numbers, addresses, and that every next hop can be reached.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Checker;
use crate::diagnostic::Diagnostic;
use crate::model::{Families, MAX_PORT, Mac, Neighbour, Network, Port, Route, Span, reserved_in};
use crate::tree::{Item, Name, NetworkClause, PortClause, Spanned};

impl Checker<'_> {
    pub(super) fn network(&mut self) -> Network {
        let mut network = Network::default();
        let mut first: Option<Span> = None;
        let mut later = Vec::new();
        for item in self.items() {
            let Item::Network(item) = item else { continue };
            self.subnets_unknown |= self.misread(item.span);
            if let Some(first) = first {
                self.repeated("network", item.span, first);
            }
            first.get_or_insert(item.span);
            for clause in &item.clauses {
                match clause {
                    NetworkClause::Port {
                        number,
                        name,
                        clauses,
                    } => {
                        let port = self.port(&network, number, name, clauses);
                        network.ports.push(port);
                    }
                    other => later.push(other),
                }
            }
        }
        // Routes and neighbours may stand before the ports they need.
        for clause in later {
            match clause {
                NetworkClause::Route { prefix, via } => self.route(&mut network, prefix, via),
                NetworkClause::Neighbour { address, mac, on } => {
                    self.neighbour(&mut network, address, mac, on.as_ref());
                }
                NetworkClause::Port { .. } => {}
            }
        }
        if network.ports.is_empty() && self.parse.errors.is_empty() {
            let end = Span {
                start: 0,
                end: self.text.len().min(1),
            };
            self.report(
                Diagnostic::error("no-ports", first.unwrap_or(end), "the policy has no port")
                    .help("declare ports: `network { port 1 clients { address 203.0.113.1/24 } }`"),
            );
        }
        network
    }

    fn port(
        &mut self,
        network: &Network,
        number: &Spanned<u64>,
        name: &Name,
        clauses: &[PortClause],
    ) -> Port {
        let in_range = (1..=u64::from(MAX_PORT)).contains(&number.value);
        if !in_range {
            self.report(
                Diagnostic::error(
                    "port-number",
                    number.span,
                    format!("`{}` is not a port's number", number.value),
                )
                .label(format!("expected 1 to {MAX_PORT}"))
                .note(
                    "510 leads to the agent, 511 drops, and 0 is where a forgotten packet leaves",
                ),
            );
        }
        let span = Span {
            start: number.span.start,
            end: name.span.end,
        };
        let value = u16::try_from(number.value).unwrap_or(u16::MAX);
        let same = network.ports.iter().find(|p| p.number == value);
        if let (Some(other), true) = (same, in_range) {
            self.report(
                Diagnostic::error(
                    "duplicate-port",
                    number.span,
                    format!("port {value} is declared twice"),
                )
                .related(other.span, "first declared here"),
            );
        }
        if let Some(other) = network.port_named(&name.value) {
            self.duplicate("port", name, other.span);
        }
        let mut port = Port {
            number: value,
            name: name.value.clone(),
            addresses: vec![],
            mtu: 1500,
            mac_given: None,
            span,
        };
        let mut refused = false;
        let mut mtu: Option<Span> = None;
        for clause in clauses {
            match clause {
                PortClause::Address(address) => match self.interface(network, &port, address) {
                    Some(net) => port.addresses.push(net),
                    None => refused = true,
                },
                PortClause::Mac(mac) => {
                    self.unicast_mac(mac);
                    if port.mac_given.is_some() {
                        self.repeated("mac", mac.span, span);
                    }
                    port.mac_given = Some(mac.value);
                }
                PortClause::Mtu(bytes) => {
                    if let Some(first) = mtu {
                        self.repeated("mtu", bytes.span, first);
                    }
                    mtu = Some(bytes.span);
                    port.mtu = self.mtu(bytes);
                }
                PortClause::Vlan(span) => self.report(
                    Diagnostic::error("unsupported", *span, "this version cannot do VLANs")
                        .label("not supported yet")
                        .note("frames with a VLAN tag are dropped and counted"),
                ),
            }
        }
        self.subnets_unknown |= refused;
        if port.addresses.is_empty() && !refused {
            self.report(
                Diagnostic::warning(
                    "no-address",
                    span,
                    format!(
                        "port `{}` has no address, so nothing is sent out of it",
                        port.name
                    ),
                )
                .help("give it one: `address 10.0.1.1/24`"),
            );
        }
        port
    }

    /// The switch's own address on a port.
    fn interface(
        &mut self,
        network: &Network,
        port: &Port,
        address: &Spanned<(IpAddr, u8)>,
    ) -> Option<IpNet> {
        let (ip, length) = address.value;
        let net = IpNet::new(ip, length).ok()?;
        if !usable_unicast(ip) {
            self.report(
                Diagnostic::error(
                    "bad-address",
                    address.span,
                    format!("`{ip}` is no host's address"),
                )
                .label("expected a unicast address"),
            );
            return None;
        }
        if length == 0 {
            self.error(
                "bad-address",
                address.span,
                "a connected subnet cannot be everything",
            );
            return None;
        }
        if let Some(which) = reserved_in(net, ip) {
            self.report(
                Diagnostic::error("bad-address", address.span, format!("`{ip}` is {which}"))
                    .label("expected a host's address in it"),
            );
            return None;
        }
        let taken = network.ports.iter().chain([port]);
        let overlap = taken
            .flat_map(|p| p.addresses.iter().map(move |a| (p, *a)))
            .find(|(_, a)| a.contains(&net.trunc()) || net.contains(&a.trunc()));
        if let Some((other, subnet)) = overlap {
            let message = format!("the subnets `{net}` and `{subnet}` overlap");
            self.report(
                Diagnostic::error("overlapping-subnets", address.span, message)
                    .related(other.span, format!("`{subnet}` is connected here"))
                    .help("a packet's way out must be one port: make the subnets disjoint"),
            );
            return None;
        }
        Some(net)
    }

    /// The longest IP packet of a link: RFC 791 asks for 68 bytes, RFC 8200, section 5, for 1280.
    fn mtu(&mut self, bytes: &Spanned<u64>) -> u16 {
        let (low, why) = match self.families {
            Families::V4 => (68, "every IPv4 link carries that"),
            Families::Dual => (
                1_280,
                "the policy speaks IPv6, and every IPv6 link carries that",
            ),
        };
        match u16::try_from(bytes.value) {
            Ok(n) if n >= low => n,
            _ => {
                self.report(
                    Diagnostic::error(
                        "out-of-range",
                        bytes.span,
                        format!("`{}` is no MTU", bytes.value),
                    )
                    .label(format!("expected {low} to 65535 bytes"))
                    .note(why),
                );
                1_500
            }
        }
    }

    fn unicast_mac(&mut self, mac: &Spanned<Mac>) {
        let [first, ..] = mac.value.0;
        if first & 1 == 1 || mac.value.0 == [0; 6] {
            self.report(
                Diagnostic::error(
                    "bad-mac",
                    mac.span,
                    format!("`{}` is no station's address", mac.value),
                )
                .label("expected a unicast Ethernet address"),
            );
        }
    }

    fn route(
        &mut self,
        network: &mut Network,
        prefix: &Spanned<(IpAddr, u8)>,
        via: &Spanned<IpAddr>,
    ) {
        let (address, length) = prefix.value;
        let Ok(net) = IpNet::new(address, length) else {
            return;
        };
        let span = Span {
            start: prefix.span.start,
            end: via.span.end,
        };
        if net.trunc() != net {
            self.report(
                Diagnostic::error(
                    "host-bits",
                    prefix.span,
                    format!("`{net}` has bits outside its length"),
                )
                .help(format!("write `{}`", net.trunc())),
            );
            return;
        }
        if address.is_ipv4() != via.value.is_ipv4() {
            self.error(
                "family",
                via.span,
                "a route and its next hop are of one family",
            );
            return;
        }
        if let Some(other) = network.routes.iter().find(|r| r.prefix == net) {
            self.report(
                Diagnostic::error(
                    "duplicate-route",
                    prefix.span,
                    format!("there are two routes to `{net}`"),
                )
                .related(other.span, "the first one"),
            );
            return;
        }
        let connected = network
            .ports
            .iter()
            .find(|p| p.addresses.iter().any(|a| a.trunc() == net));
        if let Some(port) = connected {
            self.report(
                Diagnostic::error(
                    "duplicate-route",
                    prefix.span,
                    format!("`{net}` is connected"),
                )
                .related(port.span, "to this port"),
            );
            return;
        }
        if let Some(port) = self.on_link(network, via, "next hop") {
            network.routes.push(Route {
                prefix: net,
                via: via.value,
                port,
                span,
            });
        }
    }

    /// The port of the connected subnet in which an address lies; reports if there is none.
    fn on_link(&mut self, network: &Network, address: &Spanned<IpAddr>, what: &str) -> Option<u16> {
        let ip = address.value;
        let own = network
            .ports
            .iter()
            .any(|p| p.addresses.iter().any(|a| a.addr() == ip));
        if own {
            self.error(
                "own-address",
                address.span,
                format!("`{ip}` is the switch's own address"),
            );
            return None;
        }
        if self.reserved_address(network, address.span, ip) {
            return None;
        }
        let Some(port) = network.port_of(ip) else {
            if self.subnets_unknown {
                return None;
            }
            self.report(
                Diagnostic::error(
                    "unreachable",
                    address.span,
                    format!("the {what} `{ip}` is in no connected subnet"),
                )
                .help(connected(network)),
            );
            return None;
        };
        Some(port.number)
    }

    /// Whether a connected subnet keeps the address from being a host's; reports it.
    pub(super) fn reserved_address(&mut self, network: &Network, span: Span, ip: IpAddr) -> bool {
        let Some((subnet, which)) = network.reserved(ip) else {
            return false;
        };
        self.report(
            Diagnostic::error("bad-address", span, format!("`{ip}` is no host's address"))
                .label(format!("of the connected subnet `{subnet}` it is {which}")),
        );
        true
    }

    fn neighbour(
        &mut self,
        network: &mut Network,
        address: &Spanned<IpAddr>,
        mac: &Spanned<Mac>,
        on: Option<&Name>,
    ) {
        self.unicast_mac(mac);
        let Some(mut port) = self.on_link(network, address, "neighbour") else {
            return;
        };
        if let Some(name) = on {
            match network.port_named(&name.value) {
                None => self.unknown("port", name, network.ports.iter().map(|p| p.name.as_str())),
                Some(named) if named.number != port => {
                    let holder = network.port(port).map_or("", |p| p.name.as_str());
                    let message =
                        format!("`{}` is in the subnet of port `{holder}`", address.value);
                    self.error("wrong-port", name.span, message);
                }
                Some(named) => port = named.number,
            }
        }
        if let Some(other) = network
            .neighbours
            .iter()
            .find(|n| n.address == address.value)
        {
            self.report(
                Diagnostic::error(
                    "duplicate-neighbour",
                    address.span,
                    format!("the neighbour `{}` is declared twice", address.value),
                )
                .related(other.span, "first declared here"),
            );
            return;
        }
        let span = Span {
            start: address.span.start,
            end: mac.span.end,
        };
        network.neighbours.push(Neighbour {
            address: address.value,
            mac: mac.value,
            port,
            span,
        });
    }
}

/// What is connected, for help texts.
pub(super) fn connected(network: &Network) -> String {
    let subnets: Vec<String> = network
        .ports
        .iter()
        .flat_map(|p| {
            p.addresses
                .iter()
                .map(|a| format!("`{}` ({})", a.trunc(), p.name))
        })
        .collect();
    match subnets.as_slice() {
        [] => "no subnet is connected".to_owned(),
        _ => format!("connected: {}", subnets.join(", ")),
    }
}

/// Whether a host may have the address.
pub(super) fn usable_unicast(ip: IpAddr) -> bool {
    let reserved = match ip {
        IpAddr::V4(a) => a.is_broadcast() || a.octets().first() == Some(&0),
        IpAddr::V6(a) => a.to_ipv4_mapped().is_some(),
    };
    !(reserved || ip.is_unspecified() || ip.is_multicast() || ip.is_loopback())
}
