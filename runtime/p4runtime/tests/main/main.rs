//! The crate as its users see it: the protocol's names and numbers, names to entries, a client
//! against a scripted device, reconciliation.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that goes wrong panics"
)]

mod client;
mod entries;
mod interface;
mod reconciliation;

use signalbox_p4runtime::{Catalog, text};

/// Two tables, an action with a parameter, and the packet headers.
const INFO: &str = r#"
tables {
  preamble { id: 0x02000001 name: "Ingress.web_lb.fixed" alias: "web_lb.fixed" }
  match_fields { id: 1 name: "src" bitwidth: 32 match_type: EXACT }
  match_fields { id: 2 name: "sport" bitwidth: 16 match_type: EXACT }
  action_refs { id: 0x01000001 }
  action_refs { id: 0x01000002 scope: DEFAULT_ONLY }
  size: 1024
  idle_timeout_behavior: NOTIFY_CONTROL
}
tables {
  preamble { id: 0x02000002 name: "Ingress.web_lb.wildcard" alias: "web_lb.wildcard" }
  match_fields { id: 1 name: "src" bitwidth: 32 match_type: TERNARY }
  match_fields { id: 2 name: "sport" bitwidth: 16 match_type: RANGE }
  match_fields { id: 3 name: "port" bitwidth: 9 match_type: OPTIONAL }
  action_refs { id: 0x01000001 }
  action_refs { id: 0x01000002 }
  size: 64
}
tables {
  preamble { id: 0x02000003 name: "Ingress.guard.wildcard" alias: "guard.wildcard" }
  match_fields { id: 1 name: "dst" bitwidth: 32 match_type: LPM }
  action_refs { id: 0x01000002 }
  size: 64
}
actions {
  preamble { id: 0x01000001 name: "Ingress.web_lb.to_server" alias: "to_server" }
  params { id: 1 name: "dst" bitwidth: 32 }
  params { id: 2 name: "next_hop" bitwidth: 16 }
}
actions { preamble { id: 0x01000002 name: "Ingress.web_lb.discard" alias: "discard" } }
controller_packet_metadata {
  preamble { id: 0x04000001 name: "packet_in" alias: "packet_in" }
  metadata { id: 1 name: "kind" bitwidth: 7 }
  metadata { id: 2 name: "port" bitwidth: 9 }
}
"#;

fn catalog() -> Catalog {
    Catalog::new(text::parse_p4info(INFO).unwrap()).unwrap()
}
