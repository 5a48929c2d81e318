//! Random cascades of every kind of service, in every form that a policy can give them.

use std::fmt::Write;

use super::Draw;
use super::policies::{PREFIXES, condition, network};

/// A service's name and its text.
type Text = (String, String);

/// The text of a random policy that the checker takes: filter, balance (every way), nat (every form), gate
/// and observe, in any order.
///
/// # Panics
/// None of many is valid.
pub fn cascade(draw: &mut Draw) -> String {
    for _ in 0..200 {
        let text = attempt(draw);
        if signalbox_policy::check(&text, "random.policy")
            .policy
            .is_some()
        {
            return text;
        }
    }
    panic!("no valid policy in 200");
}

fn attempt(draw: &mut Draw) -> String {
    let dual = draw.once_in(3);
    let mut text = network(dual);
    let mut services = Vec::new();
    let mut serves = Vec::new();
    for number in 0..draw.below(3) {
        let v6 = dual && draw.once_in(2);
        let (pool, service) = balance(draw, number, v6);
        text.push_str(&pool);
        services.push(service);
    }
    services.extend(nats(draw, dual));
    for number in 0..draw.below(3) {
        services.push(gate(draw, number, dual));
    }
    for number in 0..draw.below(3) {
        services.push(observe(draw, number, dual));
    }
    serves.extend(services.iter().map(|(name, _)| name.clone()));
    for number in 0..draw.below(3) {
        services.push(filter(draw, number, dual));
    }
    let mut cascade: Vec<String> = Vec::new();
    for (name, service) in services {
        text.push_str(&service);
        cascade.insert(draw.below(cascade.len() + 1), name);
    }
    let _ = writeln!(text, "cascade {}", cascade.join(" > "));
    if !serves.is_empty() {
        let _ = writeln!(text, "managers {{ all serves {} }}", serves.join(", "));
    }
    text
}

fn fallback(draw: &mut Draw) -> &'static str {
    draw.pick(&["", "  fallback route\n", "  fallback drop\n"])
}

fn balance(draw: &mut Draw, number: usize, v6: bool) -> (String, Text) {
    let way = match draw.below(3) {
        0 | 1 => draw.pick(&["mac", "ipip", "gue"]),
        _ => "translate",
    };
    let listens = draw.pick(&[80, 443]);
    // A dispatched packet keeps its port: its server listens on the one that is matched.
    let port = match way {
        "translate" => 8000 + number * 10,
        _ => listens,
    };
    let mut pool = format!("pool pool-{number} {{\n");
    for server in 0..1 + draw.below(3) {
        let rack = 1 + draw.below(2);
        let _ = match v6 {
            true => writeln!(pool, "  [2001:db8:2::{}]:{port}", 10 + server),
            false => writeln!(pool, "  10.0.{rack}.{}:{port}", 10 + server),
        };
    }
    pool.push_str("}\n");
    let proto = draw.pick(&["tcp", "tcp", "udp"]);
    let endpoint = |port: usize| match v6 {
        true => format!("[2001:db8:1::8{number}]:{port}"),
        false => format!("203.0.113.8{number}:{port}"),
    };
    let endpoints = match way {
        "translate" if draw.once_in(2) => format!("{{ {}, {} }}", endpoint(80), endpoint(443)),
        _ => endpoint(listens),
    };
    let narrow = match draw.below(4) {
        0 if !v6 => format!(" and not ip.src in {}", draw.pick(&PREFIXES)),
        1 => " and port clients".to_owned(),
        _ => String::new(),
    };
    let fallback = fallback(draw);
    let name = format!("lb-{number}");
    let text = format!(
        "service {name} : balance {{\n  match {proto}.dst {endpoints}{narrow}\n  \
         pick from @pool-{number} by round-robin\n  way {way}\n{fallback}}}\n"
    );
    (pool, (name, text))
}

/// Services whose outside and inside addresses have nothing in common, but for what a packet may meet on
/// its way through several of them.
fn nats(draw: &mut Draw, dual: bool) -> Vec<Text> {
    let rack = 1 + draw.below(2);
    let other = 3 - rack;
    let mut forms = Vec::new();
    if draw.once_in(2) {
        let but = draw.pick(&["10.0.0.0/8", "198.51.100.0/24", "10.0.1.0/24"]);
        let proto = draw.pick(&["", "", " and tcp", " and (udp or icmp)"]);
        let inbound = draw.pick(&["", "  inbound answers\n", "  inbound mapped\n"]);
        forms.push((
            "egress",
            format!(
                "  match ip.src in 10.0.{rack}.0/24 and not ip.dst in {but}{proto}\n  \
                 source 203.0.113.100..203.0.113.101 ports 40000..40007\n{inbound}"
            ),
        ));
    }
    if draw.once_in(3) {
        forms.push((
            "pairs",
            format!(
                "  match ip.src in 10.0.{other}.8/29 and not ip.dst in 10.0.0.0/8\n  \
                 one-to-one 10.0.{other}.8/29 = 203.0.113.160/29\n"
            ),
        ));
    }
    if draw.once_in(3) {
        let (condition, port) = draw.pick(&[
            ("tcp.dst 203.0.113.90:80", ":8000"),
            ("udp.dst 203.0.113.90:443", ""),
            ("ip.dst 203.0.113.90", ""),
            ("ip.dst 203.0.113.90 and (tcp or udp)", ":22"),
        ]);
        forms.push((
            "forwarded",
            format!("  match {condition}\n  destination 10.0.{rack}.20{port}\n"),
        ));
    }
    if draw.once_in(3) {
        let proto = draw.pick(&["tcp", "udp"]);
        forms.push((
            "twice",
            format!(
                "  match {proto}.dst 203.0.113.94:{{ 80, 443 }} and not ip.src in 10.0.0.0/8\n  \
                 source 10.0.{rack}.200 ports 40000..40003\n  destination 10.0.{rack}.9:8010\n"
            )
            .replace(
                "203.0.113.94:{ 80, 443 }",
                "{ 203.0.113.94:80, 203.0.113.94:443 }",
            ),
        ));
    }
    if dual && draw.once_in(2) {
        let inbound = draw.pick(&["", "  inbound mapped\n"]);
        forms.push((
            "egress6",
            format!(
                "  match ip.src in 2001:db8:2::/64 and not ip.dst in 2001:db8:2::/64\n  \
                 source 2001:db8:1::100 ports 40000..40007\n{inbound}"
            ),
        ));
    }
    let text = |(name, clauses): (&str, String)| {
        let fallback = fallback(draw);
        let text = format!("service {name} : nat {{\n{clauses}{fallback}}}\n");
        (name.to_owned(), text)
    };
    forms.into_iter().map(text).collect()
}

/// A gate before a service's address, or before servers.
fn gate(draw: &mut Draw, number: usize, dual: bool) -> Text {
    let v6 = dual && draw.once_in(3);
    let condition = if v6 {
        draw.pick(&[
            "tcp.dst [2001:db8:1::80]:80",
            "tcp.dst [2001:db8:2::10]:22",
            "tcp.dst { 80, 443 } and ip.dst in 2001:db8:1::80/124",
        ])
    } else {
        draw.pick(&[
            "tcp.dst { 203.0.113.80:80, 203.0.113.80:443 }",
            "tcp.dst 203.0.113.81:80 and not ip.src in 10.0.0.0/8",
            "tcp.dst 10.0.1.10:22",
            "tcp.dst 8000..8010 and ip.dst in 10.0.0.0/16",
            "tcp.dst 203.0.113.90:80",
            "tcp.dst 10.0.1.9:22",
        ])
    };
    let name = format!("gate-{number}");
    let mut text = format!("service {name} : gate {{\n  match {condition}\n");
    for _ in 0..1 + draw.below(2) {
        let who = match (draw.below(4), v6) {
            (0, _) => "ip".to_owned(),
            (1, _) => "port clients".to_owned(),
            (_, true) => "ip.src in 2001:db8::/33".to_owned(),
            (2, false) => format!("ip.src in {}", draw.pick(&PREFIXES)),
            (_, false) => format!(
                "tcp.src 40000..40003 and not ip.src in {}",
                draw.pick(&PREFIXES)
            ),
        };
        let when = draw.pick(&["", "", " from 22:00 to 06:00 on fri..sun"]);
        let _ = writeln!(text, "  allow {who}{when}");
    }
    text.push_str("}\n");
    (name, text)
}

fn observe(draw: &mut Draw, number: usize, dual: bool) -> Text {
    let condition = match draw.below(3) {
        0 => "ip".to_owned(),
        _ => condition(draw, dual, 2),
    };
    let count = match draw.below(3) {
        0 => "  count packets, bytes\n  report every 10s\n",
        1 => "  count packets, bytes, flags per flow\n",
        _ => "",
    };
    let fallback = match count.contains("every") {
        true => "",
        false => fallback(draw),
    };
    let name = format!("meter-{number}");
    let text = format!("service {name} : observe {{\n  match {condition}\n{count}{fallback}}}\n");
    (name, text)
}

fn filter(draw: &mut Draw, number: usize, dual: bool) -> Text {
    let (default, verb) = draw.pick(&[("allow", "deny"), ("allow", "deny"), ("deny", "allow")]);
    let name = format!("guard-{number}");
    let mut text = format!("service {name} : filter {{\n  default {default}\n");
    for _ in 0..1 + draw.below(3) {
        let _ = writeln!(text, "  {verb} {}", condition(draw, dual, 2));
    }
    text.push_str("}\n");
    (name, text)
}
