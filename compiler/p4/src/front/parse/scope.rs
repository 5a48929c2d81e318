//! Which names are types at this point of the text.

use std::sync::Arc;

use rustc_hash::FxHashMap;

/// What has been declared so far, by block.
pub(super) struct Scopes {
    stack: Vec<FxHashMap<Arc<str>, bool>>,
}

impl Scopes {
    pub(super) fn new() -> Self {
        Self {
            stack: vec![FxHashMap::default()],
        }
    }

    pub(super) fn enter(&mut self) {
        self.stack.push(FxHashMap::default());
    }

    pub(super) fn leave(&mut self) {
        if self.stack.len() > 1 {
            self.stack.pop();
        }
    }

    pub(super) fn depth(&self) -> usize {
        self.stack.len()
    }

    pub(super) fn back_to(&mut self, depth: usize) {
        self.stack.truncate(depth.max(1));
    }

    pub(super) fn back_to_top(&mut self) {
        self.back_to(1);
    }

    pub(super) fn declare_type(&mut self, name: &Arc<str>) {
        self.declare(name, true);
    }

    pub(super) fn declare_value(&mut self, name: &Arc<str>) {
        self.declare(name, false);
    }

    fn declare(&mut self, name: &Arc<str>, is_type: bool) {
        if let Some(top) = self.stack.last_mut() {
            top.insert(Arc::clone(name), is_type);
        }
    }

    /// Whether the name, as seen from here, is a type; nothing if it is not declared.
    pub(super) fn is_type(&self, name: &str) -> Option<bool> {
        self.stack
            .iter()
            .rev()
            .find_map(|scope| scope.get(name))
            .copied()
    }
}
