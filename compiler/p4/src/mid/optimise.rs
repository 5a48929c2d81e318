//! Makes the program smaller without changing what it does: a scalar that is known to hold a
//! constant, a parameter or another field is replaced by that, and variables that nobody reads are
//! no longer written. Works along the statements; it never guesses across tables or states.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::ir::{
    After, Block, CaseMatch, Expr, Exprs, Handle, HeaderRef, Input, KeyValue, Place, Program, Stmt,
    StmtKind, Table, Transition,
};

use super::effects::Footprint;

/// What scalars are known to hold: a constant, a parameter or one field each.
type Known = FxHashMap<Place, Handle<Expr>>;

/// How much is remembered at once. More is forgotten, so that the work grows evenly with the program.
const MOST_KNOWN: usize = 256;

/// Optimises a whole program. Scalars in `keep` belong to the user's metadata: they stay written.
pub fn optimise(program: &mut Program, keep: &FxHashSet<u32>) {
    let mut writes: FxHashMap<Handle<Table>, Footprint> = FxHashMap::default();
    for (handle, table) in program.tables.iter() {
        let mut footprint = Footprint::default();
        for action in &table.actions {
            footprint.writes(program, &program.actions[action.action].body);
        }
        if let Some(target) = table.meter.and_then(|m| program.direct_meters[m].target) {
            footprint.place(program, target);
        }
        writes.insert(handle, footprint);
    }
    for _ in 0..3 {
        forward_all(program, &writes);
        if !drop_unread(program, keep) {
            break;
        }
    }
}

/// Runs over every block of the program.
fn each_block(program: &mut Program, mut edit: impl FnMut(&mut Program, Block) -> Block) {
    for index in 0..program.controls.len() {
        let Some(body) = program
            .controls
            .get_mut(index)
            .map(|c| std::mem::take(&mut c.body))
        else {
            continue;
        };
        let body = edit(program, body);
        if let Some(control) = program.controls.get_mut(index) {
            control.body = body;
        }
    }
    for handle in program.actions.handles() {
        let body = std::mem::take(&mut program.actions[handle].body);
        program.actions[handle].body = edit(program, body);
    }
    for handle in program.parser.states.handles() {
        let body = std::mem::take(&mut program.parser.states[handle].body);
        program.parser.states[handle].body = edit(program, body);
    }
}

fn forward_all(program: &mut Program, writes: &FxHashMap<Handle<Table>, Footprint>) {
    each_block(program, |program, block| {
        let mut forward = Forward {
            program,
            writes,
            known: Known::default(),
        };
        forward.block(block)
    });
}

struct Forward<'p> {
    program: &'p mut Program,
    writes: &'p FxHashMap<Handle<Table>, Footprint>,
    known: Known,
}

impl Forward<'_> {
    fn block(&mut self, block: Block) -> Block {
        let mut out = Block::new();
        for stmt in block {
            self.stmt(stmt, &mut out);
        }
        out
    }

    fn expr(&mut self, expr: Handle<Expr>) -> Handle<Expr> {
        if self.known.is_empty() {
            expr
        } else {
            replace(&mut self.program.exprs, expr, &self.known)
        }
    }

    fn header(&mut self, header: HeaderRef) -> HeaderRef {
        match header {
            HeaderRef::Element(stack, index) => {
                let index = self.expr(index);
                HeaderRef::Element(stack, index)
            }
            other => other,
        }
    }

    /// Forgets what no longer holds once these parts are written.
    fn forget(&mut self, written: &Footprint) {
        let program = &*self.program;
        self.known.retain(|place, value| {
            let mut about = Footprint::default();
            about.place(program, *place);
            about.reads(program, *value);
            !about.overlaps(written)
        });
    }

    fn stmt(&mut self, stmt: Stmt, out: &mut Block) {
        let span = stmt.span;
        let kind = match stmt.kind {
            StmtKind::Assign { to, value } => {
                let value = self.expr(value);
                let to = Place {
                    header: self.header(to.header),
                    field: to.field,
                };
                if self.program.exprs[value] == Expr::Read(to) {
                    return;
                }
                let stmt = Stmt {
                    span,
                    kind: StmtKind::Assign { to, value },
                };
                let mut written = Footprint::default();
                written.place(self.program, to);
                self.forget(&written);
                if to.header == HeaderRef::Instance(self.program.scalars) && self.is_simple(value) {
                    let mut reads = Footprint::default();
                    reads.reads(self.program, value);
                    if !reads.overlaps(&written) {
                        if self.known.len() >= MOST_KNOWN {
                            self.known.clear();
                        }
                        self.known.insert(to, value);
                    }
                }
                out.push(stmt);
                return;
            }
            StmtKind::If {
                condition,
                then,
                otherwise,
            } => {
                let condition = self.expr(condition);
                let before = self.known.clone();
                match self.program.exprs.constant_bool(condition) {
                    Some(truth) => {
                        let chosen = self.block(if truth { then } else { otherwise });
                        out.extend(chosen);
                        return;
                    }
                    None => {
                        let then = self.block(then);
                        let after_then = std::mem::replace(&mut self.known, before);
                        let otherwise = self.block(otherwise);
                        // A side that leaves says nothing about what follows.
                        if leaves(&otherwise) {
                            self.known = after_then;
                        } else if !leaves(&then) {
                            self.known
                                .retain(|place, value| after_then.get(place) == Some(value));
                        }
                        let (condition, then, otherwise) = if then.is_empty() {
                            (self.program.exprs.not(condition), otherwise, then)
                        } else {
                            (condition, then, otherwise)
                        };
                        if then.is_empty() && otherwise.is_empty() {
                            return;
                        }
                        StmtKind::If {
                            condition,
                            then,
                            otherwise,
                        }
                    }
                }
            }
            StmtKind::Labelled(label, inner) => {
                let before = self.known.clone();
                let inner = self.block(inner);
                let mut written = Footprint::default();
                written.writes(self.program, &inner);
                self.known = before;
                self.forget(&written);
                StmtKind::Labelled(label, inner)
            }
            StmtKind::Apply { table, after } => {
                if let Some(written) = self.writes.get(&table) {
                    self.forget(written);
                }
                StmtKind::Apply {
                    table,
                    after: self.after(after),
                }
            }
            StmtKind::Verify { condition, error } => StmtKind::Verify {
                condition: self.expr(condition),
                error: self.expr(error),
            },
            StmtKind::Advance(bits) => StmtKind::Advance(self.expr(bits)),
            StmtKind::Extract { to, length } => {
                let length = length.map(|length| self.expr(length));
                StmtKind::Extract { to, length }
            }
            StmtKind::Call(primitive) => StmtKind::Call(primitive.map(|expr| self.expr(expr))),
            other => other,
        };
        let stmt = Stmt { span, kind };
        if !matches!(
            stmt.kind,
            StmtKind::If { .. } | StmtKind::Labelled(..) | StmtKind::Apply { .. }
        ) {
            let mut written = Footprint::default();
            written.writes(self.program, std::slice::from_ref(&stmt));
            self.forget(&written);
        }
        out.push(stmt);
    }

    fn after(&mut self, after: After) -> After {
        let before = self.known.clone();
        match after {
            After::Nothing => After::Nothing,
            After::HitOrMiss { hit, miss } => {
                let hit = self.block(hit);
                let first = std::mem::replace(&mut self.known, before);
                let miss = self.block(miss);
                if leaves(&miss) {
                    self.known = first;
                } else if !leaves(&hit) {
                    self.known
                        .retain(|place, value| first.get(place) == Some(value));
                }
                After::HitOrMiss { hit, miss }
            }
            After::ByAction { cases, otherwise } => {
                let mut common: Option<Known> = None;
                let mut meet = |known: &Known, block: &Block| {
                    if leaves(block) {
                        return;
                    }
                    match &mut common {
                        None => common = Some(known.clone()),
                        Some(common) => {
                            common.retain(|place, value| known.get(place) == Some(value))
                        }
                    }
                };
                let mut out = Vec::new();
                for (actions, block) in cases {
                    self.known.clone_from(&before);
                    let block = self.block(block);
                    meet(&self.known, &block);
                    out.push((actions, block));
                }
                self.known.clone_from(&before);
                let otherwise = self.block(otherwise);
                meet(&self.known, &otherwise);
                self.known = common.unwrap_or_default();
                After::ByAction {
                    cases: out,
                    otherwise,
                }
            }
        }
    }

    /// Whether using the value costs no more than reading the scalar.
    fn is_simple(&self, value: Handle<Expr>) -> bool {
        match self.program.exprs[value] {
            Expr::Const { .. } | Expr::Bool(_) | Expr::Param(..) => true,
            Expr::Read(place) => matches!(place.header, HeaderRef::Instance(_)),
            _ => false,
        }
    }
}

/// Whether the end of the block can't be reached.
fn leaves(block: &[Stmt]) -> bool {
    block.last().is_some_and(|stmt| match &stmt.kind {
        StmtKind::Break(_) | StmtKind::Exit => true,
        StmtKind::If {
            then, otherwise, ..
        } => leaves(then) && leaves(otherwise),
        _ => false,
    })
}

/// The expression with places replaced by what they hold.
fn replace(exprs: &mut Exprs, expr: Handle<Expr>, known: &Known) -> Handle<Expr> {
    let again = |exprs: &mut Exprs, e: Handle<Expr>| replace(exprs, e, known);
    match exprs[expr].clone() {
        Expr::Read(place) => match (known.get(&place), place.header) {
            (Some(value), _) if exprs.ty(*value) == exprs.ty(expr) => *value,
            (_, HeaderRef::Element(stack, index)) => {
                let ty = exprs.ty(expr);
                let index = again(exprs, index);
                exprs.read(
                    Place {
                        header: HeaderRef::Element(stack, index),
                        field: place.field,
                    },
                    ty,
                )
            }
            _ => expr,
        },
        Expr::IsValid(HeaderRef::Element(stack, index)) => {
            let index = again(exprs, index);
            exprs.is_valid(HeaderRef::Element(stack, index))
        }
        Expr::Unary { op, operand } => {
            let operand = again(exprs, operand);
            exprs.unary(op, operand)
        }
        Expr::Binary { op, left, right } => {
            let left = again(exprs, left);
            let right = again(exprs, right);
            exprs.binary(op, left, right)
        }
        Expr::Cast(to, operand) => {
            let operand = again(exprs, operand);
            exprs.cast(to, operand)
        }
        Expr::Slice { base, hi, lo } => {
            let base = again(exprs, base);
            exprs.slice(base, hi, lo)
        }
        Expr::Concat(left, right) => {
            let left = again(exprs, left);
            let right = again(exprs, right);
            exprs.concat(left, right)
        }
        Expr::Select {
            condition,
            then,
            otherwise,
        } => {
            let condition = again(exprs, condition);
            let then = again(exprs, then);
            let otherwise = again(exprs, otherwise);
            exprs.select(condition, then, otherwise)
        }
        _ => expr,
    }
}

/// Removes writes to scalars that nothing reads; whether there were any.
fn drop_unread(program: &mut Program, keep: &FxHashSet<u32>) -> bool {
    let mut read = Reads {
        scalars: keep.clone(),
    };
    read.program(program);
    let scalars = program.scalars;
    let mut dropped = false;
    each_block(program, |_, block| {
        prune(block, &mut |stmt| match &stmt.kind {
            StmtKind::Assign { to, .. } if to.header == HeaderRef::Instance(scalars) => {
                let useless = !read.scalars.contains(&to.field);
                dropped |= useless;
                !useless
            }
            _ => true,
        })
    });
    dropped
}

fn prune(block: Block, keep: &mut impl FnMut(&Stmt) -> bool) -> Block {
    let mut out = Block::new();
    for mut stmt in block {
        if !keep(&stmt) {
            continue;
        }
        match &mut stmt.kind {
            StmtKind::If {
                then, otherwise, ..
            } => {
                *then = prune(std::mem::take(then), keep);
                *otherwise = prune(std::mem::take(otherwise), keep);
                if then.is_empty() && otherwise.is_empty() {
                    continue;
                }
            }
            StmtKind::Labelled(_, inner) => *inner = prune(std::mem::take(inner), keep),
            StmtKind::Apply {
                after: After::HitOrMiss { hit, miss },
                ..
            } => {
                *hit = prune(std::mem::take(hit), keep);
                *miss = prune(std::mem::take(miss), keep);
            }
            StmtKind::Apply {
                after: After::ByAction { cases, otherwise },
                ..
            } => {
                for (_, block) in cases {
                    *block = prune(std::mem::take(block), keep);
                }
                *otherwise = prune(std::mem::take(otherwise), keep);
            }
            _ => {}
        }
        out.push(stmt);
    }
    out
}

/// The scalars that are read anywhere.
struct Reads {
    scalars: FxHashSet<u32>,
}

impl Reads {
    fn place(&mut self, program: &Program, place: Place) {
        match place.header {
            HeaderRef::Instance(header) if header == program.scalars => {
                self.scalars.insert(place.field);
            }
            other => self.header(program, other),
        }
    }

    fn header(&mut self, program: &Program, header: HeaderRef) {
        if let HeaderRef::Element(_, index) = header {
            self.expr(program, index);
        }
    }

    fn expr(&mut self, program: &Program, expr: Handle<Expr>) {
        let mut places = Vec::new();
        program.exprs.walk(expr, &mut |_, e| {
            if let Expr::Read(place) = e {
                places.push(*place);
            }
        });
        for place in places {
            if place.header == HeaderRef::Instance(program.scalars) {
                self.scalars.insert(place.field);
            }
        }
    }

    fn program(&mut self, program: &Program) {
        for control in &program.controls {
            self.block(program, &control.body);
        }
        for (_, action) in program.actions.iter() {
            self.block(program, &action.body);
        }
        for (_, state) in program.parser.states.iter() {
            self.block(program, &state.body);
            if let Transition::Select { keys, cases } = &state.transition {
                for key in keys {
                    self.place(program, *key);
                }
                debug_assert!(
                    cases
                        .iter()
                        .any(|c| matches!(c.matches, CaseMatch::Default)),
                    "a select covers everything"
                );
            }
        }
        for (_, table) in program.tables.iter() {
            for key in &table.keys {
                if let KeyValue::Field(place) = key.value {
                    self.place(program, place);
                }
            }
        }
        for (_, calculation) in program.calculations.iter() {
            for input in &calculation.input {
                if let Input::Field(place) = input {
                    self.place(program, *place);
                }
            }
        }
        for checksum in &program.checksums {
            self.place(program, checksum.target);
            self.expr(program, checksum.condition);
        }
        let lists = program
            .field_lists
            .iter()
            .map(|(_, l)| &l.fields)
            .chain(program.digests.iter().map(|(_, l)| &l.fields));
        for place in lists.flatten() {
            self.place(program, *place);
        }
    }

    fn block(&mut self, program: &Program, block: &[Stmt]) {
        for stmt in block {
            match &stmt.kind {
                StmtKind::Assign { to, value } => {
                    self.header(program, to.header);
                    self.expr(program, *value);
                }
                StmtKind::CopyHeader { to, from } => {
                    self.header(program, *to);
                    self.header(program, *from);
                }
                StmtKind::SetValid(header) | StmtKind::SetInvalid(header) => {
                    self.header(program, *header)
                }
                StmtKind::Call(primitive) => {
                    for expr in primitive.operands() {
                        self.expr(program, expr);
                    }
                }
                StmtKind::If {
                    condition,
                    then,
                    otherwise,
                } => {
                    self.expr(program, *condition);
                    self.block(program, then);
                    self.block(program, otherwise);
                }
                StmtKind::Apply { after, .. } => match after {
                    After::Nothing => {}
                    After::HitOrMiss { hit, miss } => {
                        self.block(program, hit);
                        self.block(program, miss);
                    }
                    After::ByAction { cases, otherwise } => {
                        for (_, block) in cases {
                            self.block(program, block);
                        }
                        self.block(program, otherwise);
                    }
                },
                StmtKind::Labelled(_, inner) => self.block(program, inner),
                StmtKind::Extract {
                    length: Some(expr), ..
                }
                | StmtKind::Advance(expr) => self.expr(program, *expr),
                StmtKind::Verify { condition, error } => {
                    self.expr(program, *condition);
                    self.expr(program, *error);
                }
                _ => {}
            }
        }
    }
}
