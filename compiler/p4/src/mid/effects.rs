//! What statements write and what expressions read: enough to tell whether an expression still
//! means the same behind some statements. When in doubt, the answer is that it does not.

use rustc_hash::FxHashSet;

use crate::ir::{
    After, Expr, Handle, Header, HeaderRef, Place, Primitive, Program, Stack, Stmt, StmtKind,
};

/// Part of a header: a field, its validity, or all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    Field(u32),
    Validity,
    All,
}

/// Parts of headers.
#[derive(Debug, Clone, Default)]
pub struct Footprint {
    parts: FxHashSet<(Handle<Header>, Part)>,
    headers: FxHashSet<Handle<Header>>,
    /// Anything at all: a table was applied.
    everything: bool,
}

impl Footprint {
    fn add(&mut self, header: Handle<Header>, part: Part) {
        self.parts.insert((header, part));
        self.headers.insert(header);
    }

    /// Whether the two have anything in common.
    pub fn overlaps(&self, other: &Footprint) -> bool {
        if self.everything || other.everything {
            return !(self.is_empty() || other.is_empty());
        }
        let (small, large) = if self.parts.len() < other.parts.len() {
            (self, other)
        } else {
            (other, self)
        };
        small.parts.iter().any(|(header, part)| {
            large.parts.contains(&(*header, *part))
                || large.parts.contains(&(*header, Part::All))
                || (*part == Part::All && large.headers.contains(header))
        })
    }

    pub fn is_empty(&self) -> bool {
        self.parts.is_empty() && !self.everything
    }

    fn stack(&mut self, program: &Program, stack: Handle<Stack>, part: Part) {
        for element in &program.stacks[stack].elements {
            self.add(*element, part);
        }
    }

    pub fn header(&mut self, program: &Program, header: HeaderRef, part: Part) {
        match header {
            HeaderRef::Instance(h) => self.add(h, part),
            HeaderRef::Last(s) | HeaderRef::Next(s) => self.stack(program, s, Part::All),
            HeaderRef::Element(s, _) => self.stack(program, s, part),
        }
    }

    pub fn place(&mut self, program: &Program, place: Place) {
        self.header(program, place.header, Part::Field(place.field));
    }

    /// Adds what an expression reads.
    pub fn reads(&mut self, program: &Program, expr: Handle<Expr>) {
        program.exprs.walk(expr, &mut |_, e| match e {
            Expr::Read(place) => self.place(program, *place),
            Expr::IsValid(header) => self.header(program, *header, Part::Validity),
            Expr::IsUnionValid(union) => {
                for member in &program.unions[*union].members {
                    self.add(*member, Part::Validity);
                }
            }
            Expr::LastIndex(stack) => self.stack(program, *stack, Part::All),
            _ => {}
        });
    }

    /// Adds what statements write.
    pub fn writes(&mut self, program: &Program, block: &[Stmt]) {
        for stmt in block {
            match &stmt.kind {
                StmtKind::Assign { to, .. } | StmtKind::Lookahead { to, .. } => {
                    self.place(program, *to)
                }
                StmtKind::CopyHeader { to, .. }
                | StmtKind::SetValid(to)
                | StmtKind::SetInvalid(to)
                | StmtKind::Extract { to, .. } => {
                    self.header(program, *to, Part::All);
                    self.siblings(program, *to);
                }
                StmtKind::CopyStack { to, .. } | StmtKind::Push(to, _) | StmtKind::Pop(to, _) => {
                    self.stack(program, *to, Part::All);
                }
                StmtKind::CopyUnion { to, .. } => {
                    for member in &program.unions[*to].members {
                        self.add(*member, Part::All);
                    }
                }
                StmtKind::Call(primitive) => {
                    if let Some(to) = primitive.target() {
                        self.place(program, to);
                    }
                    if matches!(primitive, Primitive::MarkToDrop) {
                        self.add(program.standard_metadata, Part::All);
                    }
                }
                StmtKind::If {
                    then, otherwise, ..
                } => {
                    self.writes(program, then);
                    self.writes(program, otherwise);
                }
                StmtKind::Apply { after, .. } => {
                    self.everything = true;
                    match after {
                        After::Nothing => {}
                        After::HitOrMiss { hit, miss } => {
                            self.writes(program, hit);
                            self.writes(program, miss);
                        }
                        After::ByAction { cases, otherwise } => {
                            for (_, block) in cases {
                                self.writes(program, block);
                            }
                            self.writes(program, otherwise);
                        }
                    }
                }
                StmtKind::Labelled(_, block) => self.writes(program, block),
                StmtKind::Break(_)
                | StmtKind::Exit
                | StmtKind::Advance(_)
                | StmtKind::Emit(_)
                | StmtKind::Checksum(_)
                | StmtKind::Verify { .. } => {}
            }
        }
    }

    /// A member of a union that becomes valid makes the others invalid.
    fn siblings(&mut self, program: &Program, header: HeaderRef) {
        let HeaderRef::Instance(header) = header else {
            return;
        };
        for (_, union) in program.unions.iter() {
            if union.members.contains(&header) {
                for member in &union.members {
                    self.add(*member, Part::All);
                }
            }
        }
    }
}
