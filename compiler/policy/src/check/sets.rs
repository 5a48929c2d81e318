//! Sets of addresses.

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
            for element in &item.elements {
                for net in self.set_element(element) {
                    if let Some(wider) = prefixes.iter().find(|p| p.contains(&net)) {
                        let message = format!("`{net}` is already in the set");
                        self.report(
                            Diagnostic::warning("redundant", element.span, message)
                                .label(format!("covered by `{wider}`")),
                        );
                    } else {
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

    fn set_element(&mut self, element: &Spanned<Value>) -> Vec<IpNet> {
        match &element.value {
            Value::Address(a) => vec![IpNet::from(*a)],
            Value::Prefix(a, length) => match IpNet::new(*a, *length) {
                Ok(net) if net.trunc() == net => vec![net],
                Ok(net) => {
                    self.host_bits(element, net);
                    Vec::new()
                }
                Err(_) => Vec::new(),
            },
            Value::AddressRange(low, high) => {
                let family = Family::of(*low);
                if family != Family::of(*high) || low > high {
                    self.error(
                        "bad-range",
                        element.span,
                        format!("`{low}..{high}` is not a range of addresses from low to high"),
                    );
                    return Vec::new();
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
                Vec::new()
            }
        }
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
