//! What changes from one plan to another: a pure function of both, and its inverse.
//!
//! [`PlanDiff`] holds all that it takes to make the new plan out of the old one ([`PlanDiff::apply`]), so
//! that nothing can change unsaid; [`PlanDiff::changes`] says the same to people, a line each. What the
//! switch's tables must change follows from [`Edits`] of both plans' static entries. Nothing here knows who
//! carries a change out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use crate::plan::{
    Criterion, ManagerPlan, NeighbourPlan, PartPlan, Plan, PortPlan, Replicate, RoutePlan,
    ServerPlan, ServicePlan,
};

/// How one list becomes another. Elements are told apart by a key; several of one key by their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edits<T> {
    /// Those that only the new list has.
    pub added: Vec<T>,
    /// Those that are in both and differ: old and new.
    pub changed: Vec<(T, T)>,
    /// Those that only the old list has.
    pub removed: Vec<T>,
    /// Where each of the changed ones is in the old list.
    places: Vec<usize>,
    /// Where each element of the new list is once the removed ones are gone, the changed ones are new and the
    /// added ones stand at the end; absent when they are in order.
    order: Option<Vec<usize>>,
}

impl<T: Clone + PartialEq> Edits<T> {
    /// From `before` to `after`.
    pub fn between<K: Ord + Clone>(before: &[T], after: &[T], key: impl Fn(&T) -> K) -> Self {
        let old = by_key(before, &key);
        let new = by_key(after, &key);
        let mut edits = Self {
            added: Vec::new(),
            changed: Vec::new(),
            removed: Vec::new(),
            places: Vec::new(),
            order: None,
        };
        // The keys as they stand when the edits are made one after the other.
        let mut stand = Vec::with_capacity(after.len());
        for (place, (name, element)) in old.list.iter().enumerate() {
            match new.at.get(name).and_then(|at| after.get(*at)) {
                None => edits.removed.push((*element).clone()),
                Some(now) => {
                    stand.push(name.clone());
                    if *now != **element {
                        edits.changed.push(((*element).clone(), now.clone()));
                        edits.places.push(place);
                    }
                }
            }
        }
        for (name, element) in &new.list {
            if !old.at.contains_key(name) {
                stand.push(name.clone());
                edits.added.push((*element).clone());
            }
        }
        let places: BTreeMap<_, usize> = stand.into_iter().zip(0..).collect();
        let order: Vec<usize> = (new.list.iter())
            .filter_map(|(name, _)| places.get(name).copied())
            .collect();
        if order.iter().copied().ne(0..order.len()) {
            edits.order = Some(order);
        }
        edits
    }

    /// Makes the new list out of the old one.
    pub fn apply<K: Ord + Clone>(&self, before: &[T], key: impl Fn(&T) -> K) -> Vec<T> {
        let gone: BTreeSet<_> = last_of_each(before, &self.removed, &key);
        let old = by_key(before, &key);
        let mut changed = self.changed.iter().zip(&self.places).peekable();
        let mut list = Vec::with_capacity(before.len() + self.added.len());
        for (place, (name, element)) in old.list.into_iter().enumerate() {
            if gone.contains(&name) {
                continue;
            }
            match changed.next_if(|(_, at)| **at == place) {
                Some(((_, to), _)) => list.push(to.clone()),
                None => list.push(element.clone()),
            }
        }
        list.extend(self.added.iter().cloned());
        match &self.order {
            None => list,
            Some(order) => (order.iter())
                .filter_map(|at| list.get(*at).cloned())
                .collect(),
        }
    }

    /// Whether both lists are the same.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty()
            && self.changed.is_empty()
            && self.removed.is_empty()
            && self.order.is_none()
    }

    /// Whether what stays changes its place.
    #[must_use]
    pub fn is_reordered(&self) -> bool {
        self.order.is_some()
    }
}

type Name<K> = (K, usize);

/// A list with a name for each element: its key, and how many of that key are before it.
struct Named<'a, T, K> {
    list: Vec<(Name<K>, &'a T)>,
    at: BTreeMap<Name<K>, usize>,
}

fn by_key<'a, T, K: Ord + Clone>(list: &'a [T], key: &impl Fn(&T) -> K) -> Named<'a, T, K> {
    let mut seen: BTreeMap<K, usize> = BTreeMap::new();
    let list: Vec<(Name<K>, &T)> = list
        .iter()
        .map(|element| {
            let key = key(element);
            let number = seen.entry(key.clone()).or_default();
            *number += 1;
            ((key, *number - 1), element)
        })
        .collect();
    let at = list.iter().map(|(name, _)| name.clone()).zip(0..).collect();
    Named { list, at }
}

/// The names of removed elements: of several of one key the last ones go.
fn last_of_each<T, K: Ord + Clone>(
    before: &[T],
    removed: &[T],
    key: &impl Fn(&T) -> K,
) -> BTreeSet<Name<K>> {
    let count = |list: &[T]| {
        let mut counts: BTreeMap<K, usize> = BTreeMap::new();
        for element in list {
            *counts.entry(key(element)).or_default() += 1;
        }
        counts
    };
    let all = count(before);
    let mut gone = BTreeSet::new();
    for (key, removed) in count(removed) {
        let total = all.get(&key).copied().unwrap_or(0);
        gone.extend((total.saturating_sub(removed)..total).map(|number| (key.clone(), number)));
    }
    gone
}

fn port_key(port: &PortPlan) -> u16 {
    port.number
}

fn route_key(route: &RoutePlan) -> IpNet {
    route.prefix
}

fn neighbour_key(neighbour: &NeighbourPlan) -> (IpAddr, u16) {
    (neighbour.address, neighbour.port)
}

fn manager_key(manager: &ManagerPlan) -> String {
    manager.name.clone()
}

fn service_key(service: &ServicePlan) -> (String, u8) {
    // A service of another kind is another service: nothing of the old one can stay.
    (service.name.clone(), service.kind as u8)
}

/// How one plan becomes another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanDiff {
    /// The new plan without its lists; absent when all that is the same.
    settings: Option<Box<Plan>>,
    /// Whether the P4 is another one: the switch needs another pipeline.
    pub program: bool,
    /// The ports.
    pub ports: Edits<PortPlan>,
    /// The static routes.
    pub routes: Edits<RoutePlan>,
    /// The static neighbours.
    pub neighbours: Edits<NeighbourPlan>,
    /// The services.
    pub services: Edits<ServicePlan>,
    /// The managers.
    pub managers: Edits<ManagerPlan>,
}

fn settings(plan: &Plan) -> Plan {
    Plan {
        ports: Vec::new(),
        routes: Vec::new(),
        neighbours: Vec::new(),
        services: Vec::new(),
        managers: Vec::new(),
        ..plan.clone()
    }
}

/// What changes from `before` to `after`.
#[must_use]
pub fn diff(before: &Plan, after: &Plan) -> PlanDiff {
    let (old, new) = (settings(before), settings(after));
    PlanDiff {
        settings: (old != new).then(|| Box::new(new)),
        program: before.program_id != after.program_id,
        ports: Edits::between(&before.ports, &after.ports, port_key),
        routes: Edits::between(&before.routes, &after.routes, route_key),
        neighbours: Edits::between(&before.neighbours, &after.neighbours, neighbour_key),
        services: Edits::between(&before.services, &after.services, service_key),
        managers: Edits::between(&before.managers, &after.managers, manager_key),
    }
}

/// What becomes of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It is new.
    Added,
    /// It is another one from now on.
    Changed,
    /// It goes.
    Removed,
}

/// One change, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What becomes of it.
    pub change: Fate,
    /// What it is: `port`, `route`, `neighbour`, `manager`, `service`, `server`, `criterion`, or a property
    /// of a service.
    pub what: &'static str,
    /// The service that it belongs to, if it is a part of one.
    pub service: Option<String>,
    /// Its name or text.
    pub name: String,
    /// What it was, if it is another one from now on and that can be said in a few words.
    pub from: Option<String>,
    /// What it will be.
    pub to: Option<String>,
}

impl PlanDiff {
    /// Makes the new plan out of the old one.
    #[must_use]
    pub fn apply(&self, before: &Plan) -> Plan {
        let rest = match &self.settings {
            Some(new) => new.as_ref().clone(),
            None => settings(before),
        };
        Plan {
            ports: self.ports.apply(&before.ports, port_key),
            routes: self.routes.apply(&before.routes, route_key),
            neighbours: self.neighbours.apply(&before.neighbours, neighbour_key),
            services: self.services.apply(&before.services, service_key),
            managers: self.managers.apply(&before.managers, manager_key),
            ..rest
        }
    }

    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.settings.is_none()
            && self.ports.is_empty()
            && self.routes.is_empty()
            && self.neighbours.is_empty()
            && self.services.is_empty()
            && self.managers.is_empty()
    }

    /// What changes, for people, in the order of a policy: network, services, managers.
    #[must_use]
    pub fn changes(&self) -> Vec<Change> {
        let mut out = Listing::default();
        out.edits("port", &self.ports, |p| p.name.clone(), port_text);
        out.edits(
            "route",
            &self.routes,
            |r| r.prefix.to_string(),
            |r| format!("via {} on port {}", r.via, r.port),
        );
        out.edits(
            "neighbour",
            &self.neighbours,
            |n| n.address.to_string(),
            |n| format!("at {} on port {}", mac_text(n.mac), n.port),
        );
        let services = &self.services;
        for service in &services.removed {
            out.push(Fate::Removed, "service", service.name.clone());
        }
        for service in &services.added {
            out.push(Fate::Added, "service", service.name.clone());
        }
        for (old, new) in &services.changed {
            out.service(old, new);
        }
        out.service = None;
        out.edits("manager", &self.managers, |m| m.name.clone(), manager_text);
        out.list
    }
}

#[derive(Default)]
struct Listing {
    service: Option<String>,
    list: Vec<Change>,
}

impl Listing {
    fn push(&mut self, change: Fate, what: &'static str, name: String) {
        self.list.push(Change {
            change,
            what,
            service: self.service.clone(),
            name,
            from: None,
            to: None,
        });
    }

    fn changed(&mut self, what: &'static str, name: String, from: String, to: String) {
        self.list.push(Change {
            change: Fate::Changed,
            what,
            service: self.service.clone(),
            name,
            from: Some(from),
            to: Some(to),
        });
    }

    fn edits<T>(
        &mut self,
        what: &'static str,
        edits: &Edits<T>,
        name: impl Fn(&T) -> String,
        text: impl Fn(&T) -> String,
    ) {
        for one in &edits.removed {
            self.push(Fate::Removed, what, format!("{} {}", name(one), text(one)));
        }
        for one in &edits.added {
            self.push(Fate::Added, what, format!("{} {}", name(one), text(one)));
        }
        for (old, new) in &edits.changed {
            self.changed(what, name(new), text(old), text(new));
        }
    }

    fn service(&mut self, old: &ServicePlan, new: &ServicePlan) {
        self.service = Some(new.name.clone());
        if old.stage != new.stage {
            let (from, to) = (old.stage.to_string(), new.stage.to_string());
            self.changed("place in the cascade", String::new(), from, to);
        }
        self.part("criterion", &old.forward, &new.forward);
        match (&old.reply, &new.reply) {
            (Some(old), Some(new)) => self.part("reply criterion", old, new),
            (old, new) if old != new => {
                self.changed("reply part", String::new(), is(old), is(new));
            }
            _ => {}
        }
        self.servers(old, new);
        let (a, b) = (old, new);
        let properties: [(&'static str, String, String); 8] = [
            ("fallback", json(&a.fallback), json(&b.fallback)),
            ("managers", managers(a), managers(b)),
            ("division", division(a), division(b)),
            ("addresses", list(&a.addresses), list(&b.addresses)),
            ("limits", json(&a.limits), json(&b.limits)),
            ("nat", json(&a.nat), json(&b.nat)),
            ("gate", json(&a.gate), json(&b.gate)),
            ("observe", json(&a.observe), json(&b.observe)),
        ];
        for (what, from, to) in properties {
            if from != to {
                self.changed(what, String::new(), from, to);
            }
        }
        let sizes = |p: &PartPlan| (p.fixed_size, p.criteria_size, p.criteria_table.clone());
        if sizes(&old.forward) != sizes(&new.forward)
            || old.reply.as_ref().map(sizes) != new.reply.as_ref().map(sizes)
        {
            self.push(Fate::Changed, "tables", String::new());
        }
    }

    fn part(&mut self, what: &'static str, old: &PartPlan, new: &PartPlan) {
        // By what it says: a criterion's number is only its place in the text.
        let key = |c: &Criterion| c.label.clone();
        let edits = Edits::between(&old.criteria, &new.criteria, key);
        for criterion in &edits.removed {
            self.push(Fate::Removed, what, criterion.label.clone());
        }
        for criterion in &edits.added {
            self.push(Fate::Added, what, criterion.label.clone());
        }
        for (old, new) in &edits.changed {
            let same = (&old.cubes, &old.action, old.priority);
            if same != (&new.cubes, &new.action, new.priority) {
                let text = |c: &Criterion| format!("{} entries", c.cubes.len());
                self.changed(what, new.label.clone(), text(old), text(new));
            }
        }
    }

    fn servers(&mut self, old: &ServicePlan, new: &ServicePlan) {
        let servers = |s: &ServicePlan| -> Vec<ServerPlan> {
            s.balance
                .as_ref()
                .map_or_else(Vec::new, |b| b.servers.clone())
        };
        let key = |s: &ServerPlan| (s.address, s.port);
        let edits = Edits::between(&servers(old), &servers(new), key);
        let name = |s: &ServerPlan| s.name.clone();
        self.edits("server", &edits, name, |s| format!("weight {}", s.weight));
        let rest = |s: &ServicePlan| {
            s.balance.clone().map(|b| crate::plan::BalancePlan {
                servers: Vec::new(),
                ..b
            })
        };
        let (from, to) = (json(&rest(old)), json(&rest(new)));
        if from != to {
            self.changed("pool", String::new(), from, to);
        } else if edits.is_reordered() {
            self.push(Fate::Changed, "order of the servers", String::new());
        }
    }
}

/// Who decides for a service: `lb-1`, or `lb-1 (backup lb-2 after 3000 ms)`; of a divided one all.
fn managers(service: &ServicePlan) -> String {
    let texts: Vec<String> = (service.shares.iter())
        .map(|share| match &share.backup {
            None => share.manager.clone(),
            Some(b) => format!(
                "{} (backup {} after {} ms{})",
                share.manager,
                b.manager,
                b.after_ms,
                match b.replicate {
                    None => "",
                    Some(Replicate::Sync) => ", replicate sync",
                    Some(Replicate::Async) => ", replicate async",
                }
            ),
        })
        .collect();
    texts.join(", ")
}

/// What the parts of a divided service are, by their managers.
fn division(service: &ServicePlan) -> String {
    let texts: Vec<String> = (service.shares.iter())
        .filter_map(|share| {
            let asks = share.asks.as_ref()?;
            let entries = |list: &[Criterion]| list.iter().map(|c| c.cubes.len()).sum::<usize>();
            let outside = (share.outside.as_ref()).map_or(String::new(), |o| {
                let of: Vec<String> = (o.addresses.iter())
                    .map(|r| format!("{}..{}", r.first, r.last))
                    .collect();
                format!(", {} ports {}-{}", of.join(", "), o.first_port, o.last_port)
            });
            let text = share.part.as_deref().unwrap_or_default();
            Some(format!(
                "{} where {text} ({} entries{outside})",
                share.manager,
                entries(&asks.forward) + entries(&asks.reply)
            ))
        })
        .collect();
    texts.join("; ")
}

fn manager_text(manager: &ManagerPlan) -> String {
    let does = [
        ("serves", &manager.serves),
        ("stands by for", &manager.backs),
    ];
    let texts: Vec<String> = (does.iter())
        .filter(|(_, services)| !services.is_empty())
        .map(|(does, services)| format!("{does} {}", services.join(", ")))
        .collect();
    texts.join(", ")
}

fn is(part: &Option<PartPlan>) -> String {
    if part.is_some() { "there" } else { "not there" }.to_owned()
}

fn json(value: &impl Serialize) -> String {
    // A plan's values are plain: they have a JSON form.
    let text = serde_json::to_string(value).unwrap_or_default();
    text.trim_matches('"').to_owned()
}

fn list(addresses: &[IpAddr]) -> String {
    let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

fn mac_text(mac: [u8; 6]) -> String {
    let [a, b, c, d, e, f] = mac;
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
}

fn port_text(port: &PortPlan) -> String {
    let addresses: Vec<String> = port.addresses.iter().map(ToString::to_string).collect();
    format!(
        "(port {}) {} mac {} mtu {}",
        port.number,
        addresses.join(", "),
        mac_text(port.mac),
        port.mtu
    )
}

#[cfg(test)]
mod tests;
