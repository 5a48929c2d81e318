//! Random policies of filters and balance services, which are simple enough for every target.

use std::fmt::Write;

use super::Draw;

pub(super) const PREFIXES: [&str; 6] = [
    "203.0.113.0/28",
    "203.0.113.8/29",
    "10.0.1.0/24",
    "10.0.0.0/8",
    "198.51.100.0/24",
    "203.0.113.9",
];

/// Three ports, of which the first two have IPv6 as well if `dual`.
pub(super) fn network(dual: bool) -> String {
    let six = |text: &'static str| if dual { text } else { "" };
    format!(
        "network {{\n  port 1 clients {{ address 203.0.113.1/24 {} }}\n  \
         port 2 rack-a {{ address 10.0.1.1/24 {} }}\n  port 3 rack-b {{ address 10.0.2.1/24 }}\n  \
         route 198.51.0.0/16 via 203.0.113.254\n}}\n",
        six("address 2001:db8:1::1/64"),
        six("address 2001:db8:2::1/64"),
    )
}

/// The text of a random policy: filters and balance services on three ports. Some are not valid; the
/// caller lets the checker decide.
pub fn policy(draw: &mut Draw) -> String {
    let dual = draw.once_in(4);
    let mut text = network(dual);
    let mut cascade = Vec::new();
    let mut serves = Vec::new();
    for number in 0..1 + draw.below(2) {
        let _ = writeln!(text, "pool pool-{number} {{");
        let proto = draw.pick(&["tcp", "tcp", "udp"]);
        for server in 0..1 + draw.below(3) {
            let rack = 1 + draw.below(2);
            let port = 8000 + number * 10;
            let _ = writeln!(text, "  10.0.{rack}.{}:{port}", 10 + server);
        }
        let narrow = match draw.below(3) {
            0 => format!(" and not ip.src in {}", draw.pick(&PREFIXES)),
            1 => " and port clients".to_owned(),
            _ => String::new(),
        };
        let endpoint = |port: u16| format!("203.0.113.8{number}:{port}");
        let endpoints = match draw.below(3) {
            0 => endpoint(80),
            1 => endpoint(443),
            _ => format!("{{ {}, {} }}", endpoint(80), endpoint(443)),
        };
        let fallback = draw.pick(&["", "  fallback route\n", "  fallback drop\n"]);
        let _ = write!(
            text,
            "}}\nservice lb-{number} : balance {{\n  match {proto}.dst {}{narrow}\n  \
             pick from @pool-{number} by round-robin\n{fallback}}}\n",
            endpoints,
        );
        cascade.push(format!("lb-{number}"));
        serves.push(format!("lb-{number}"));
    }
    for number in 0..draw.below(4) {
        let (default, verb) = draw.pick(&[("allow", "deny"), ("allow", "deny"), ("deny", "allow")]);
        let _ = writeln!(
            text,
            "service guard-{number} : filter {{\n  default {default}"
        );
        for _ in 0..1 + draw.below(3) {
            let _ = writeln!(text, "  {verb} {}", condition(draw, dual, 2));
        }
        text.push_str("}\n");
        cascade.insert(draw.below(cascade.len() + 1), format!("guard-{number}"));
    }
    let _ = writeln!(
        text,
        "cascade {}\nmanagers {{\n  lb serves {}\n}}",
        cascade.join(" > "),
        serves.join(", ")
    );
    text
}

pub(super) fn condition(draw: &mut Draw, dual: bool, depth: usize) -> String {
    if depth > 0 && draw.once_in(3) {
        let joint = draw.pick(&["and", "or", "and not"]);
        let (left, right) = (
            condition(draw, dual, depth - 1),
            condition(draw, dual, depth - 1),
        );
        return format!("({left} {joint} {right})");
    }
    let six = if dual && draw.once_in(3) {
        return draw
            .pick(&["ipv6", "ip.src in 2001:db8:1::/64", "ip.dst 2001:db8:2::10"])
            .to_owned();
    } else {
        ""
    };
    let test = match draw.below(9) {
        0 => format!("ip.src in {}", draw.pick(&PREFIXES)),
        1 => format!("ip.dst in {}", draw.pick(&PREFIXES)),
        2 => "tcp.dst in { 22, 80..443 }".to_owned(),
        3 => "udp".to_owned(),
        4 => format!(
            "tcp.flags {}",
            draw.pick(&["syn/syn+ack", "fin+ack", "rst", "none/syn"])
        ),
        5 => "icmp.type echo-request".to_owned(),
        6 => format!("port {}", draw.pick(&["clients", "rack-a"])),
        7 => format!("tcp.src {}", draw.pick(&["8000", "8010", "1024..40000"])),
        _ => format!("ip.proto {}", draw.pick(&["udp", "47", "6"])),
    };
    format!("{six}{test}")
}
