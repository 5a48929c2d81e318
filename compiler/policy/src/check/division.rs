//! Services that are divided among managers: by what they can be, and the proof that each packet is asked
//! about in exactly one part, and the answers to it in the same.

use signalbox_proofs::PacketSets;

use super::Checker;
use super::conflicts::Proofs;
use super::managers::Claim;
use crate::diagnostic::Diagnostic;
use crate::model::{
    Balance, Cube, MAX_CUBES, MAX_SHARES, NatSource, Part, Policy, Pool, Service, ServiceKind,
    backwards,
};
use crate::tree::{Expr, Field, Test};

impl Checker<'_> {
    /// The part of each manager that claims one, by the manager's place; none if something is wrong.
    pub(super) fn divide(
        &mut self,
        pools: &[Pool],
        service: &Service,
        claims: &[&Claim<'_>],
    ) -> Vec<(usize, Part)> {
        if claims.iter().all(|claim| claim.part.is_none()) {
            return Vec::new();
        }
        if let Some(extra) = claims.get(MAX_SHARES) {
            let message = format!(
                "`{}` has {} parts, and may have {MAX_SHARES}",
                service.name,
                claims.len()
            );
            self.error("too-many-parts", extra.span, message);
            return Vec::new();
        }
        if let (ServiceKind::Observe(observe), Some(first)) = (&service.kind, claims.first())
            && !observe.per_flow
        {
            self.report(
                Diagnostic::error(
                    "needs-no-manager",
                    first.span,
                    format!(
                        "`{}` does not count flows, and asks no manager",
                        service.name
                    ),
                )
                .help("let one manager serve all of it, without `where`"),
            );
            return Vec::new();
        }
        let slices = match &service.kind {
            ServiceKind::Nat(nat) => nat.slices(claims.len()),
            _ => None,
        };
        if let (Some([]), Some(first)) = (slices.as_deref(), claims.first()) {
            let message = format!(
                "`{}` has too few outside ports for {} parts",
                service.name,
                claims.len()
            );
            self.report(
                Diagnostic::error("too-few-ports", first.span, message)
                    .note("each part has outside addresses, or two ports and more, for itself"),
            );
            return Vec::new();
        }
        let mut parts = Vec::new();
        for (place, claim) in claims.iter().enumerate() {
            let Some((expr, criteria)) = &claim.part else {
                continue;
            };
            let divides = self.divides(service, expr);
            let Some(criteria) = criteria.clone().filter(|_| divides) else {
                continue;
            };
            let outside = slices.as_ref().and_then(|s| s.get(place).cloned());
            let part = service.part(pools, criteria, outside);
            let most = part.forward.len().max(part.reply.len());
            if most > MAX_CUBES {
                self.too_many(part.criteria.span, Some(most));
                continue;
            }
            parts.push((claim.manager, part));
        }
        if parts.len() < claims.len() {
            // What is wrong has been said.
            parts.clear();
        }
        parts
    }

    /// Whether a service can be divided by all that a condition is about; reports what it cannot be.
    fn divides(&mut self, service: &Service, expr: &Expr) -> bool {
        match expr {
            Expr::Or(parts) | Expr::And(parts) => {
                // All are looked at, so that all errors are found.
                let bad = parts.iter().filter(|e| !self.divides(service, e)).count();
                bad == 0
            }
            Expr::Not(inner, _) => self.divides(service, inner),
            Expr::Test(test) => self.divides_by(service, test),
        }
    }

    fn divides_by(&mut self, service: &Service, test: &Test) -> bool {
        let Some(why) = obstacle(service, test.field) else {
            return true;
        };
        self.report(
            Diagnostic::error(
                "cannot-divide",
                test.field_span,
                format!("`{}` cannot divide `{}`", test.field.name(), service.name),
            )
            .label(why)
            .help("every packet of a flow must be asked about in one part, both ways: divide by `ip.src`"),
        );
        false
    }

    /// Proves of every divided service that its parts fit together.
    pub(super) fn divisions(&mut self, proofs: &Proofs<'_>, policy: &Policy) {
        for service in &policy.services {
            let parts: Vec<(&str, &Part)> = (policy.shares_of(service.index))
                .filter_map(|(_, manager, part)| Some((manager.name.as_str(), part?)))
                .collect();
            if parts.is_empty() {
                continue;
            }
            let (forward, reply) = service.asks(&policy.pools);
            let mut fits = true;
            for (manager, part) in &parts {
                fits &= self.is_asked_about(proofs, service, manager, part);
            }
            if !fits {
                continue;
            }
            // What is left out one way is left out the other way, too.
            if self.complete(proofs, service, &parts, &forward, |p| &p.forward) {
                self.complete(proofs, service, &parts, &reply, |p| &p.reply);
            }
            for (place, two) in parts.iter().enumerate() {
                for one in parts.iter().take(place) {
                    self.disjoint(proofs, service, *one, *two);
                }
            }
        }
    }

    fn is_asked_about(
        &mut self,
        proofs: &Proofs<'_>,
        service: &Service,
        manager: &str,
        part: &Part,
    ) -> bool {
        let sets = &proofs.sets;
        let some = sets.intersect(&sets.union_of(&part.forward), &proofs.possible);
        let met = !sets.is_empty(&some);
        if !met {
            self.report(
                Diagnostic::error(
                    "empty-part",
                    part.criteria.span,
                    format!("`{}` asks `{manager}` about nothing", service.name),
                )
                .label("no packet that it asks about is of this part")
                .related(service.span, "the service"),
            );
        }
        met
    }

    /// That no packet is left out of all parts; says whether none is.
    fn complete<'p>(
        &mut self,
        proofs: &Proofs<'_>,
        service: &Service,
        parts: &[(&str, &'p Part)],
        asked: &[Cube],
        of: impl Fn(&'p Part) -> &'p [Cube],
    ) -> bool {
        let all: Vec<Cube> = (parts.iter())
            .flat_map(|(_, part)| of(part).iter().copied())
            .collect();
        let (Some(packet), Some((_, last))) = (proofs.left_out(asked, &all), parts.last()) else {
            return true;
        };
        self.report(
            Diagnostic::error(
                "unasked-packets",
                last.criteria.span,
                format!("the parts of `{}` leave packets out", service.name),
            )
            .related(service.span, "the service")
            .note(format!("nobody is asked about {packet}"))
            .help("widen a part; the last one may be all that the others are not: `where not (…)`"),
        );
        false
    }

    /// That no packet is in two parts, and no answer in another part than what it answers.
    fn disjoint(
        &mut self,
        proofs: &Proofs<'_>,
        service: &Service,
        (one_name, one): (&str, &Part),
        (two_name, two): (&str, &Part),
    ) {
        let shared = (proofs.overlap(&one.forward, &two.forward))
            .or_else(|| proofs.overlap(&one.reply, &two.reply));
        if let Some(packet) = shared {
            self.report(
                Diagnostic::error(
                    "overlapping-parts",
                    two.criteria.span,
                    format!(
                        "`{one_name}` and `{two_name}` would both be asked by `{}`",
                        service.name
                    ),
                )
                .related(one.criteria.span, format!("the part of `{one_name}`"))
                .note(format!("both parts have {packet}"))
                .help("take the overlap out of one, with `and not …`"),
            );
            return;
        }
        if !matches!(service.kind, ServiceKind::Observe(_)) {
            return;
        }
        // A meter sees both directions in one part of the cascade.
        if let Some(packet) = proofs.overlap(&backwards(&one.forward), &two.forward) {
            self.report(
                Diagnostic::error(
                    "divided-flow",
                    two.criteria.span,
                    format!(
                        "`{one_name}` would be asked by `{}` about one direction of a flow, and `{two_name}` about the other",
                        service.name
                    ),
                )
                .related(one.criteria.span, format!("the part of `{one_name}`"))
                .note(format!("of this part is {packet}, and what it answers is of the other"))
                .help("name both ends in each part: `where ip.src in X or ip.dst in X`"),
            );
        }
    }
}

/// Why a field cannot divide a service; `None` if it can.
fn obstacle(service: &Service, field: Field) -> Option<&'static str> {
    match field {
        Field::InPort => return Some("answers come in by another port"),
        Field::TcpFlags | Field::TcpFlag(_) => {
            return Some("a flow's packets differ in their flags");
        }
        Field::IcmpType => return Some("an answer has another type"),
        Field::Ip | Field::Ipv4 | Field::Ipv6 | Field::IpSrc => return None,
        _ => {}
    }
    let to = matches!(field, Field::IpDst | Field::TcpDst | Field::UdpDst);
    match &service.kind {
        ServiceKind::Nat(nat) => match (&nat.source, &nat.destination) {
            (Some(NatSource::Ports { .. }), _) => {
                Some("a host inside keeps its outside address, whatever it sends, and to whom")
            }
            (_, Some(_)) if to => Some("answers come from the new destination"),
            _ => None,
        },
        ServiceKind::Balance(Balance { stick: Some(_), .. }) => {
            Some("a source sticks to its server, whatever it sends")
        }
        ServiceKind::Balance(_) if to && service.translates() => {
            Some("answers come from the server's address and port")
        }
        _ => None,
    }
}
