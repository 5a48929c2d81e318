//! Sets of addresses.

use std::collections::{BTreeSet, HashSet};

use ipnet::IpNet;
use signalbox_proofs::{Family, range_to_ternary};

use super::Checker;
use crate::diagnostic::Diagnostic;
use crate::model::{AddressSet, address_bits};
use crate::tree::{Item, Spanned, Value};

impl Checker<'_> {
    pub(super) fn sets(&mut self) -> Vec<AddressSet> {
        let mut sets: Vec<AddressSet> = Vec::new();
        for item in self.items() {
            let Item::Set(item) = item else { continue };
            if let Some(other) = sets.iter().find(|s| s.name == item.name.value) {
                self.duplicate("set", &item.name, other.span);
                continue;
            }
            let mut prefixes: Vec<IpNet> = Vec::new();
            let mut seen = Seen::default();
            for element in &item.elements {
                let Some(nets) = self.set_element(element) else {
                    self.broken_sets.insert(item.name.value.clone());
                    continue;
                };
                for net in nets {
                    if let Some(wider) = seen.wider(net) {
                        let message = format!("`{net}` is already in the set");
                        self.report(
                            Diagnostic::warning("redundant", element.span, message)
                                .label(format!("covered by `{wider}`")),
                        );
                    } else {
                        seen.insert(net);
                        prefixes.push(net);
                    }
                }
            }
            sets.push(AddressSet {
                name: item.name.value.clone(),
                prefixes,
                span: item.name.span,
            });
        }
        sets
    }

    /// The prefixes of an element; `None` after reporting that it is none.
    fn set_element(&mut self, element: &Spanned<Value>) -> Option<Vec<IpNet>> {
        Some(match &element.value {
            Value::Address(a) => vec![IpNet::from(*a)],
            Value::Prefix(a, length) => match IpNet::new(*a, *length) {
                Ok(net) if net.trunc() == net => vec![net],
                Ok(net) => {
                    self.host_bits(element, net);
                    return None;
                }
                Err(_) => return None,
            },
            Value::AddressRange(low, high) => {
                let family = Family::of(*low);
                if family != Family::of(*high) || low > high {
                    self.error(
                        "bad-range",
                        element.span,
                        format!("`{low}..{high}` is not a range of addresses from low to high"),
                    );
                    return None;
                }
                range_to_ternary(family.bits(), address_bits(*low), address_bits(*high))
                    .iter()
                    .filter_map(|t| {
                        IpNet::new(family.address(t.value), t.mask.count_ones() as u8).ok()
                    })
                    .collect()
            }
            _ => {
                self.report(
                    Diagnostic::error("bad-element", element.span, "a set holds addresses only")
                        .label("expected an address, a prefix or a range"),
                );
                return None;
            }
        })
    }

    pub(super) fn host_bits(&mut self, at: &Spanned<Value>, net: IpNet) {
        self.report(
            Diagnostic::error(
                "host-bits",
                at.span,
                format!("`{net}` has bits outside its length"),
            )
            .help(format!("write `{}`", net.trunc())),
        );
    }
}

/// The prefixes of a set so far. A prefix is looked up once for each length that is there, so that a
/// long list costs no more than its length.
#[derive(Default)]
struct Seen {
    prefixes: HashSet<IpNet>,
    /// By family, IPv4 first, the lengths among them.
    lengths: [BTreeSet<u8>; 2],
}

impl Seen {
    fn insert(&mut self, net: IpNet) {
        let [v4, v6] = &mut self.lengths;
        let lengths = if net.addr().is_ipv4() { v4 } else { v6 };
        lengths.insert(net.prefix_len());
        self.prefixes.insert(net);
    }

    /// The widest of the prefixes that holds all of this one.
    fn wider(&self, net: IpNet) -> Option<IpNet> {
        let [v4, v6] = &self.lengths;
        let lengths = if net.addr().is_ipv4() { v4 } else { v6 };
        lengths
            .range(..=net.prefix_len())
            .filter_map(|length| IpNet::new(net.addr(), *length).ok())
            .map(|wider| wider.trunc())
            .find(|wider| self.prefixes.contains(wider))
    }
}
