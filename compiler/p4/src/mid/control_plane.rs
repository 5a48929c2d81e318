//! The list of what the control plane sees, in the order of its declaration. No two things of a kind
//! may have the same name there: the target finds them by it.

use std::rc::Rc;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::diagnostics::Diagnostic;
use crate::ir::{Action, Block, ControlPlaneItem, Handle, Names};
use crate::source::Span;

use super::lower::Lower;
use super::operand::Object;
use super::scope::{ActionDef, BlockInstance, Declared};

/// What is listed so far.
#[derive(Default)]
struct Listing {
    items: Vec<ControlPlaneItem>,
    /// Where each name of each kind was declared first.
    places: FxHashMap<(&'static str, Arc<str>), Span>,
}

impl Listing {
    fn lists(&self, action: Handle<Action>) -> bool {
        self.items
            .iter()
            .any(|item| matches!(item, ControlPlaneItem::Action(a) if *a == action))
    }
}

impl<'a> Lower<'a> {
    /// Lists what the control plane sees.
    pub fn control_plane(&mut self, blocks: &[Rc<BlockInstance<'a>>]) {
        let mut all = Listing::default();
        let globals = self.declared.first().cloned().unwrap_or_default();
        self.list_declared(&globals, &mut all);
        for block in blocks {
            let mut own = Listing {
                items: Vec::new(),
                places: std::mem::take(&mut all.places),
            };
            self.list_declared(&block.declared.borrow(), &mut own);
            // Actions of the top level come first, as if the control had declared them.
            let mut shared: Vec<Handle<Action>> = Vec::new();
            for item in &own.items {
                if let ControlPlaneItem::Table(table) = item {
                    for action in self.ir.tables[*table].actions.iter().map(|a| a.action) {
                        if !own.lists(action) && !all.lists(action) && !shared.contains(&action) {
                            shared.push(action);
                        }
                    }
                }
            }
            all.places = own.places;
            for action in shared {
                // It has no instances, so what is declared at the same place is the same.
                let Action { names, span, .. } = &self.ir.actions[action];
                let (name, span) = (Arc::clone(&names.name), *span);
                if all.places.get(&("actions", Arc::clone(&name))) != Some(&span) {
                    self.unique(&mut all, "actions", &name, span);
                }
                all.items.push(ControlPlaneItem::Action(action));
            }
            all.items.extend(own.items);
        }
        let digests = self.ir.digests.handles().map(ControlPlaneItem::Digest);
        all.items.extend(digests);
        self.ir.control_plane = all.items;
        self.packet_headers();
    }

    fn list_declared(&mut self, declared: &[Declared<'a>], list: &mut Listing) {
        for item in declared {
            match item {
                Declared::Table(table) => {
                    if let Some(handle) = table.lowered.get() {
                        let name = Arc::clone(&self.ir.tables[handle].names.name);
                        self.unique(list, "tables", &name, table.table.name.span);
                        list.items.push(ControlPlaneItem::Table(handle));
                    }
                }
                Declared::Action(action) => {
                    let mut forms: Vec<Handle<Action>> = action
                        .lowered
                        .borrow()
                        .iter()
                        .map(|(_, handle)| *handle)
                        .collect();
                    if forms.is_empty() && action.used.get() {
                        // Called directly only: the control plane sees it all the same.
                        forms.push(self.describe_action(action));
                    }
                    if let Some(form) = forms.first() {
                        let name = Arc::clone(&self.ir.actions[*form].names.name);
                        self.unique(list, "actions", &name, action.action.name.span);
                    }
                    let forms = forms.into_iter().map(ControlPlaneItem::Action);
                    list.items.extend(forms);
                }
                Declared::Object(Object::Block(block)) => {
                    let inner = block.declared.borrow().clone();
                    self.list_declared(&inner, list);
                }
                Declared::Object(object) => self.list_object(object, list),
                Declared::ValueSet(set) => {
                    let set_of = &self.ir.value_sets[*set];
                    let (name, span) = (Arc::clone(&set_of.names.name), set_of.span);
                    self.unique(list, "value sets", &name, span);
                    list.items.push(ControlPlaneItem::ValueSet(*set));
                }
            }
        }
    }

    fn list_object(&mut self, object: &Object<'a>, list: &mut Listing) {
        let ir = &self.ir;
        let found = |names: &Names, span: Span| (Arc::clone(&names.name), span);
        // The target does not tell direct counters and meters from the others.
        let (item, kind, (name, span)) = match object {
            Object::Counter(h) => {
                let counter = &ir.counters[*h];
                let found = found(&counter.names, counter.span);
                (ControlPlaneItem::Counter(*h), "counters", found)
            }
            Object::DirectCounter(h) => {
                let counter = &ir.direct_counters[*h];
                let found = found(&counter.names, counter.span);
                (ControlPlaneItem::DirectCounter(*h), "counters", found)
            }
            Object::Meter(h) => {
                let meter = &ir.meters[*h];
                let found = found(&meter.names, meter.span);
                (ControlPlaneItem::Meter(*h), "meters", found)
            }
            Object::DirectMeter(h) => {
                let meter = &ir.direct_meters[*h];
                let found = found(&meter.names, meter.span);
                (ControlPlaneItem::DirectMeter(*h), "meters", found)
            }
            Object::Register(h) => {
                let register = &ir.registers[*h];
                let found = found(&register.names, register.span);
                (ControlPlaneItem::Register(*h), "registers", found)
            }
            Object::Profile(h) => {
                let profile = &ir.profiles[*h];
                let found = found(&profile.names, profile.span);
                (ControlPlaneItem::Profile(*h), "action profiles", found)
            }
            Object::Block(_) | Object::PacketIn | Object::PacketOut => return,
        };
        self.unique(list, kind, &name, span);
        list.items.push(item);
    }

    /// Says so if something of that kind has the name already.
    fn unique(&mut self, list: &mut Listing, kind: &'static str, name: &Arc<str>, span: Span) {
        let Some(first) = list.places.insert((kind, Arc::clone(name)), span) else {
            return;
        };
        let report = Diagnostic::error(span, format!("two {kind} have the name `{name}`"));
        self.report(if first == span {
            report.with_help(
                "what declares it is there twice under one name; declare instances with names of their own",
            )
        } else {
            report.with_label(first, "first here")
        });
    }

    /// An action for the control plane's eyes: its arguments are bound where it is called.
    fn describe_action(&mut self, def: &Rc<ActionDef<'a>>) -> Handle<Action> {
        let outer = std::mem::replace(&mut self.prefix, Arc::clone(&def.prefix));
        let annotations = self.annotations(&def.scope, &def.decl.annotations);
        let name = self.full_name(&annotations, def.action.name.as_str());
        self.prefix = outer;
        let hidden = annotations.iter().any(|a| a.name() == "hidden");
        let names = self.names_of(&name, annotations);
        self.ir.actions.append(Action {
            names,
            params: Vec::new(),
            body: Block::new(),
            hidden,
            unlisted: true,
            span: def.decl.span,
        })
    }
}
