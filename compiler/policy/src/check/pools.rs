//! Pools: servers, weights, health checks.

use std::net::IpAddr;
use std::time::Duration;

use super::Checker;
use super::network::{connected, usable_unicast};
use crate::diagnostic::{Diagnostic, did_you_mean};
use crate::model::{Check, CheckKind, Network, Pool, Server, Span};
use crate::tree::{Item, Name, PoolClause, Quantity, Spanned};

const MAX_WEIGHT: u64 = 65_535;
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(3_600);

impl Checker<'_> {
    pub(super) fn pools(&mut self, network: &Network) -> Vec<Pool> {
        let mut pools: Vec<Pool> = Vec::new();
        for item in self.items() {
            let Item::Pool(item) = item else { continue };
            let name = &item.name;
            if let Some(other) = pools.iter().find(|p| p.name == name.value) {
                self.duplicate("pool", name, other.span);
                continue;
            }
            let mut pool = Pool {
                name: name.value.clone(),
                servers: vec![],
                check: None,
                span: name.span,
            };
            let mut check: Option<Span> = None;
            for clause in &item.clauses {
                match clause {
                    PoolClause::Server {
                        name,
                        endpoint,
                        weight,
                    } => {
                        self.server(network, &mut pool, name.as_ref(), endpoint, weight.as_ref());
                    }
                    PoolClause::Check {
                        kind,
                        path,
                        options,
                        span,
                    } => {
                        if let Some(first) = check {
                            self.repeated("check", *span, first);
                        }
                        check = Some(*span);
                        pool.check = self.health_check(kind, path.as_ref(), options);
                    }
                }
            }
            let servers = item.clauses.iter();
            let written = servers
                .filter(|c| matches!(c, PoolClause::Server { .. }))
                .count();
            self.whole_pool(&pool, written);
            pools.push(pool);
        }
        pools
    }

    /// What is wrong with a pool as a whole, unless servers were `written` that have been refused.
    fn whole_pool(&mut self, pool: &Pool, written: usize) {
        if pool.servers.len() < written {
            return;
        }
        if pool.servers.is_empty() {
            if self.parse.errors.is_empty() {
                self.report(
                    Diagnostic::error(
                        "empty-pool",
                        pool.span,
                        format!("pool `{}` has no server", pool.name),
                    )
                    .help("write servers as `10.0.1.10:8080 weight 2`"),
                );
            }
        } else if pool.servers.iter().all(|s| s.weight == 0) {
            self.report(
                Diagnostic::error(
                    "no-weight",
                    pool.span,
                    format!("every server of pool `{}` has weight 0", pool.name),
                )
                .note("weight 0 drains a server: it gets no new flow")
                .help("give at least one server a weight above 0"),
            );
        }
    }

    fn server(
        &mut self,
        network: &Network,
        pool: &mut Pool,
        name: Option<&Name>,
        endpoint: &Spanned<(IpAddr, Option<u16>)>,
        weight: Option<&Spanned<u64>>,
    ) {
        let (address, port) = endpoint.value;
        let Some(port) = port.filter(|p| *p != 0) else {
            self.report(
                Diagnostic::error(
                    "no-port",
                    endpoint.span,
                    format!("the server `{address}` needs a port"),
                )
                .label("expected ADDRESS:PORT, the port from 1 to 65535")
                .help(if address.is_ipv4() {
                    format!("write `{address}:80`")
                } else {
                    format!("write `[{address}]:80`")
                }),
            );
            return;
        };
        if !self.reachable_host(network, endpoint.span, address, "server") {
            return;
        }
        if let Some(other) = pool.servers.first()
            && other.address.is_ipv4() != address.is_ipv4()
        {
            self.report(
                Diagnostic::error(
                    "family",
                    endpoint.span,
                    "a pool's servers are all of one family",
                )
                .related(other.span, "the first is of the other"),
            );
            return;
        }
        let weight_value = weight.map_or(1, |w| w.value);
        if weight_value > MAX_WEIGHT {
            let at = weight.map_or(endpoint.span, |w| w.span);
            self.report(
                Diagnostic::error(
                    "out-of-range",
                    at,
                    format!("`{weight_value}` is too big a weight"),
                )
                .label(format!("expected 0 to {MAX_WEIGHT}")),
            );
        }
        let same = pool
            .servers
            .iter()
            .find(|s| (s.address, s.port) == (address, port));
        if let Some(other) = same {
            self.report(
                Diagnostic::error(
                    "duplicate-server",
                    endpoint.span,
                    format!("the pool has `{}` twice", self.slice(endpoint.span)),
                )
                .related(other.span, "first here")
                .help("to give it a bigger share, raise its `weight`"),
            );
            return;
        }
        let shown = std::net::SocketAddr::new(address, port).to_string();
        let full_name = name.map_or(shown, |n| n.value.clone());
        if let (Some(name), Some(other)) = (name, pool.servers.iter().find(|s| s.name == full_name))
        {
            self.duplicate("server", name, other.span);
            return;
        }
        pool.servers.push(Server {
            name: full_name,
            address,
            port,
            weight: weight_value.min(MAX_WEIGHT) as u32,
            span: endpoint.span,
        });
    }

    /// Whether packets can be sent to the host; reports why not.
    pub(super) fn reachable_host(
        &mut self,
        network: &Network,
        span: Span,
        address: IpAddr,
        what: &str,
    ) -> bool {
        if !usable_unicast(address) {
            self.error(
                "bad-address",
                span,
                format!("`{address}` is no host's address"),
            );
            return false;
        }
        if network
            .ports
            .iter()
            .any(|p| p.addresses.iter().any(|a| a.addr() == address))
        {
            self.error(
                "own-address",
                span,
                format!("`{address}` is the switch's own address"),
            );
            return false;
        }
        if self.reserved_address(network, span, address) {
            return false;
        }
        let known = !network.ports.is_empty() && !self.subnets_unknown;
        if network.next_hop(address).is_none() && known {
            self.report(
                Diagnostic::error(
                    "unreachable",
                    span,
                    format!("there is no way to the {what} `{address}`"),
                )
                .label("in no connected subnet, and no route leads there")
                .help(format!("add a route; {}", connected(network))),
            );
            return false;
        }
        true
    }

    pub(super) fn slice(&self, span: Span) -> &str {
        self.text.get(span.start..span.end).unwrap_or("")
    }

    fn health_check(
        &mut self,
        kind: &Name,
        path: Option<&Spanned<String>>,
        options: &[(Name, Spanned<Quantity>)],
    ) -> Option<Check> {
        let kind = match (kind.value.as_str(), path) {
            ("tcp", None) => CheckKind::Tcp,
            ("tcp", Some(path)) => {
                self.error("no-value", path.span, "`check tcp` takes no path");
                CheckKind::Tcp
            }
            ("http", None) => CheckKind::Http {
                path: "/".to_owned(),
            },
            ("http", Some(path)) => CheckKind::Http {
                path: self.path(path),
            },
            ("load", Some(path)) => CheckKind::Load {
                path: self.path(path),
            },
            ("load", None) => {
                self.report(
                    Diagnostic::error(
                        "missing-argument",
                        kind.span,
                        "it is not said where a server tells its load",
                    )
                    .help("write the path: `check load \"/load\"`"),
                );
                return None;
            }
            (other, _) => {
                let mut d = Diagnostic::error(
                    "unknown-word",
                    kind.span,
                    format!("`{other}` is not a kind of health check"),
                )
                .label("expected `tcp`, `http` or `load`");
                if let Some(meant) = did_you_mean(other, ["tcp", "http", "load"]) {
                    d = d.help(format!("did you mean `{meant}`?"));
                }
                self.report(d);
                return None;
            }
        };
        let mut check = Check {
            kind,
            every: Duration::from_secs(2),
            timeout: Duration::from_secs(1),
            rise: 2,
            fall: 3,
        };
        let mut timeout_at = None;
        let mut seen: Vec<&Name> = Vec::new();
        for (name, value) in options {
            if let Some(first) = seen.iter().find(|n| n.value == name.value) {
                self.repeated(&name.value, name.span, first.span);
            }
            seen.push(name);
            match (name.value.as_str(), value.value) {
                ("every", Quantity::Time(t)) => {
                    check.every = self.time(value.span, t, SHORTEST, LONGEST)
                }
                ("timeout", Quantity::Time(t)) => {
                    timeout_at = Some(value.span);
                    check.timeout = self.time(value.span, t, SHORTEST, LONGEST);
                }
                ("rise", Quantity::Number(n)) => check.rise = self.count(value.span, n, 100),
                ("fall", Quantity::Number(n)) => check.fall = self.count(value.span, n, 100),
                (word, _) => {
                    let wanted = if matches!(word, "every" | "timeout") {
                        "a time such as `2s`"
                    } else {
                        "a number"
                    };
                    self.report(
                        Diagnostic::error(
                            "wrong-unit",
                            value.span,
                            format!("`{}` does not fit `{word}`", self.slice(value.span)),
                        )
                        .label(format!("expected {wanted}")),
                    );
                }
            }
        }
        match timeout_at {
            None => check.timeout = check.timeout.min(check.every),
            Some(span) if check.timeout > check.every => {
                self.report(
                    Diagnostic::error(
                        "out-of-range",
                        span,
                        "a check's `timeout` is longer than its `every`",
                    )
                    .help("an answer must be there before the next check: lower it"),
                );
            }
            Some(_) => {}
        }
        Some(check)
    }

    fn path(&mut self, path: &Spanned<String>) -> String {
        let printable = path.value.bytes().all(|b| b.is_ascii_graphic());
        if !path.value.starts_with('/') || !printable {
            self.report(
                Diagnostic::error("bad-path", path.span, "this is not a path")
                    .label("expected `/` first, then printable characters without blanks"),
            );
        }
        path.value.clone()
    }

    /// A time within bounds; reports if it is not.
    pub(super) fn time(
        &mut self,
        span: Span,
        t: Duration,
        low: Duration,
        high: Duration,
    ) -> Duration {
        if t < low || t > high {
            self.report(
                Diagnostic::error(
                    "out-of-range",
                    span,
                    format!("`{}` is out of range", self.slice(span)),
                )
                .label(format!("expected {} to {}", written(low), written(high))),
            );
        }
        t
    }

    pub(super) fn count(&mut self, span: Span, n: u64, most: u32) -> u32 {
        match u32::try_from(n) {
            Ok(n) if (1..=most).contains(&n) => n,
            _ => {
                self.report(
                    Diagnostic::error("out-of-range", span, format!("`{n}` is out of range"))
                        .label(format!("expected 1 to {most}")),
                );
                1
            }
        }
    }
}

/// A time as policies write it.
pub(super) fn written(t: Duration) -> String {
    let ms = t.as_millis();
    match () {
        () if ms.is_multiple_of(3_600_000) => format!("{}h", ms / 3_600_000),
        () if ms.is_multiple_of(60_000) => format!("{}m", ms / 60_000),
        () if ms.is_multiple_of(1_000) => format!("{}s", ms / 1_000),
        () => format!("{ms}ms"),
    }
}
