//! The package: its parser, controls and deparser with the headers and metadata that they share.

use std::rc::Rc;
use std::sync::Arc;

use rustc_hash::FxHashSet;

use crate::diagnostics::Diagnostic;
use crate::front::ast;
use crate::ir::{
    Annotation, AnnotationArgument, Block, Expr, Handle, Header, HeaderRef, HeaderType,
    PackageInfo, Place, Primitive, Stmt, StmtKind,
};
use crate::source::Span;

use super::lower::{Lower, Part};
use super::operand::{Object, Operand, OperandKind};
use super::scope::{BlockInstance, BlockKind};
use super::types::{Ty, TyKind};

impl<'a> Lower<'a> {
    /// Lowers the package `main`.
    pub fn package(&mut self) {
        let Some((decl, main)) = self.names.main.clone() else {
            let report = Diagnostic::error_without_place("the program has no package `main`")
                .with_help("end it with `V1Switch(…) main;`");
            self.report(report);
            return;
        };
        self.package_info(decl);
        if main.kind.name() != "V1Switch" {
            self.unsupported(
                decl.span,
                format!(
                    "the package `{}` is not supported, only `V1Switch` of v1model.p4",
                    main.kind.name()
                ),
            );
            return;
        }
        let blocks: Vec<Rc<BlockInstance<'a>>> = main
            .arguments
            .iter()
            .filter_map(|arg| match &arg.kind {
                OperandKind::Object(Object::Block(block)) => Some(Rc::clone(block)),
                _ => None,
            })
            .collect();
        let [parser, verify, ingress, egress, compute, deparser] = blocks.as_slice() else {
            self.error(decl.span, "`V1Switch` needs a parser and five controls");
            return;
        };
        let Some([_, headers, metadata, standard]) = self.param_types(parser, 4) else {
            return;
        };
        let Some(standard) = self.standard_metadata(standard, parser.span) else {
            return;
        };
        let headers = self.top_struct(headers, "", parser.span);
        let metadata = self.top_struct(metadata, "meta.", parser.span);
        self.metadata = Some(metadata.clone());
        let unknown = self.types.unknown();
        let packet_in = Operand::new(unknown, OperandKind::Object(Object::PacketIn));
        let packet_out = Operand::new(unknown, OperandKind::Object(Object::PacketOut));

        self.part = Part::Parser;
        let values = vec![
            packet_in,
            headers.clone(),
            metadata.clone(),
            standard.clone(),
        ];
        if self.fits(parser, &values) {
            self.top_parser(|this| this.top_block(parser, values), parser.span);
        }

        let pair = vec![headers.clone(), metadata.clone()];
        let triple = vec![headers.clone(), metadata, standard];
        self.part = Part::Verify;
        let block = self.top_control(verify, pair.clone());
        self.checksums(block, None);
        for (part, control, index) in [(Part::Ingress, ingress, 0), (Part::Egress, egress, 1)] {
            self.part = part;
            let body = self.top_control(control, triple.clone());
            if let Some(slot) = self.ir.controls.get_mut(index) {
                slot.body = body;
                slot.span = block_span(control);
            }
        }
        self.part = Part::Compute;
        let block = self.top_control(compute, pair);
        self.checksums(block, None);
        self.part = Part::Deparser;
        let block = self.top_control(deparser, vec![packet_out, headers]);
        self.ir.deparser_span = block_span(deparser);
        self.deparse(block);
        self.control_plane(&blocks);
    }

    fn param_types(&mut self, block: &Rc<BlockInstance<'a>>, count: usize) -> Option<[Ty; 4]> {
        let BlockKind::Parser(_, parser) = block.kind else {
            self.error(
                block.span,
                "the first argument of `V1Switch` must be a parser",
            );
            return None;
        };
        if parser.params.len() != count {
            self.error(
                parser.name.span,
                format!(
                    "the parser needs {count} parameters, `{}` has {}",
                    parser.name,
                    parser.params.len()
                ),
            );
            return None;
        }
        let globals = self.globals.clone();
        let types: Vec<Ty> = parser
            .params
            .iter()
            .map(|p| self.resolve_type(&globals, &p.ty))
            .collect();
        for (position, what) in [(1, "the headers"), (2, "the metadata")] {
            if let (Some(ty), Some(param)) = (types.get(position), parser.params.get(position))
                && !matches!(self.types[*ty], TyKind::Struct(_) | TyKind::Unknown)
            {
                let name = self.types.name(*ty);
                self.error(
                    param.ty.span,
                    format!("{what} must be a struct, not `{name}`"),
                );
                return None;
            }
        }
        types.try_into().ok()
    }

    /// Whether a block of the package takes these values.
    fn fits(&mut self, block: &Rc<BlockInstance<'a>>, values: &[Operand<'a>]) -> bool {
        let (params, name): (&[ast::Param], _) = match block.kind {
            BlockKind::Parser(_, p) => (&p.params, &p.name),
            BlockKind::Control(_, c) => (&c.params, &c.name),
            BlockKind::Package(..) => return false,
        };
        if matches!(block.kind, BlockKind::Parser(..)) != (self.part == Part::Parser) {
            self.error(
                block.span,
                format!("`{name}` can't be {}", self.part.describe()),
            );
            return false;
        }
        if params.len() != values.len() {
            self.error(
                name.span,
                format!(
                    "`{name}` as {} needs {} parameters, it has {}",
                    self.part.describe(),
                    values.len(),
                    params.len()
                ),
            );
            return false;
        }
        let globals = self.globals.clone();
        let params: Vec<&'a ast::Param> = match block.kind {
            BlockKind::Parser(_, p) => p.params.iter().collect(),
            BlockKind::Control(_, c) => c.params.iter().collect(),
            BlockKind::Package(..) => return false,
        };
        let mut fits = true;
        for (param, value) in params.into_iter().zip(values) {
            let ty = self.resolve_type(&globals, &param.ty);
            let wanted = match (&value.kind, &self.types[ty]) {
                (OperandKind::Object(Object::PacketIn), TyKind::Extern(name, _)) => {
                    &**name == "packet_in"
                }
                (OperandKind::Object(Object::PacketOut), TyKind::Extern(name, _)) => {
                    &**name == "packet_out"
                }
                (OperandKind::Object(_), _) => false,
                (_, TyKind::Unknown) => return false,
                _ => ty == value.ty,
            };
            if !wanted {
                let found = self.types.name(ty);
                let expected = match value.kind {
                    OperandKind::Object(Object::PacketIn) => "packet_in".to_string(),
                    OperandKind::Object(_) => "packet_out".to_string(),
                    _ => self.types.name(value.ty),
                };
                let report = Diagnostic::error(
                    param.ty.span,
                    format!(
                        "`{name}` as {} takes `{expected}` here",
                        self.part.describe()
                    ),
                )
                .with_code("type")
                .with_note_here(format!("found `{found}`"));
                self.report(report);
                fits = false;
            }
        }
        fits
    }

    fn top_block(&mut self, block: &Rc<BlockInstance<'a>>, values: Vec<Operand<'a>>) {
        let outer = std::mem::replace(&mut self.prefix, Arc::clone(&block.prefix));
        self.enter_block(block, values, block.span);
        self.prefix = outer;
    }

    fn top_control(&mut self, block: &Rc<BlockInstance<'a>>, values: Vec<Operand<'a>>) -> Block {
        if !self.fits(block, &values) {
            return Block::new();
        }
        self.collect(|this| this.top_block(block, values)).1
    }

    /// The headers or metadata, whose parts are named after the fields.
    fn top_struct(&mut self, ty: Ty, prefix: &str, span: Span) -> Operand<'a> {
        let fields = self.types.fields(ty).map(<[_]>::to_vec).unwrap_or_default();
        let parts = fields
            .iter()
            .map(|f| {
                let is_header = matches!(
                    self.types[f.ty],
                    TyKind::Header(_) | TyKind::Stack(..) | TyKind::Union(_)
                );
                let name = if is_header && prefix.is_empty() {
                    f.name.to_string()
                } else {
                    format!("{prefix}{}", f.name)
                };
                self.variable(f.ty, &name, f.span)
            })
            .collect();
        let _ = span;
        Operand::new(ty, OperandKind::Parts(parts))
    }

    fn standard_metadata(&mut self, ty: Ty, span: Span) -> Option<Operand<'a>> {
        let def = self.types.structure(ty).cloned();
        let Some(def) = def.filter(|d| &*d.name == "standard_metadata_t") else {
            let name = self.types.name(ty);
            self.error(span, format!("the last parameter of the parser must be of type `standard_metadata_t`, not `{name}`"));
            return None;
        };
        let mut fields = Vec::new();
        let mut parts = Vec::new();
        for field in &def.fields {
            let Some(scalar) = self.types.scalar(field.ty) else {
                continue;
            };
            fields.push(crate::ir::Field {
                name: Arc::clone(&field.name),
                ty: scalar,
                alias: super::annotation::string_annotation(&field.annotations, "alias"),
            });
            parts.push(field.ty);
        }
        let header_type = self.ir.header_types.append(HeaderType {
            name: "standard_metadata".into(),
            fields,
        });
        let header = self.ir.headers.append(Header {
            name: "standard_metadata".into(),
            ty: header_type,
            metadata: true,
        });
        self.ir.standard_metadata = header;
        let parts = parts
            .into_iter()
            .zip(0..)
            .map(|(ty, field)| {
                let place = Place {
                    header: HeaderRef::Instance(header),
                    field,
                };
                Operand::new(ty, OperandKind::Place(place))
            })
            .collect();
        Some(Operand::new(ty, OperandKind::Parts(parts)))
    }

    /// The checksums in the body of a checksum control; conditions around them become theirs.
    fn checksums(&mut self, block: Block, outer: Option<Handle<Expr>>) {
        for stmt in block {
            match stmt.kind {
                StmtKind::Checksum(mut checksum) => {
                    if let Some(outer) = outer {
                        checksum.condition = self.ir.exprs.binary(
                            crate::ir::BinaryOp::LogicalAnd,
                            outer,
                            checksum.condition,
                        );
                    }
                    self.ir.checksums.push(checksum);
                }
                StmtKind::If {
                    condition,
                    then,
                    otherwise,
                } => {
                    let not = self.ir.exprs.not(condition);
                    for (condition, block) in [(condition, then), (not, otherwise)] {
                        let all = match outer {
                            Some(outer) => self.ir.exprs.binary(
                                crate::ir::BinaryOp::LogicalAnd,
                                outer,
                                condition,
                            ),
                            None => condition,
                        };
                        self.checksums(block, Some(all));
                    }
                }
                _ => {
                    let verb = if self.part == Part::Verify {
                        "verify_checksum"
                    } else {
                        "update_checksum"
                    };
                    self.unsupported(
                        stmt.span,
                        format!(
                            "only calls of `{verb}` and conditions around them are supported here"
                        ),
                    );
                }
            }
        }
    }

    /// The headers that the deparser emits.
    fn deparse(&mut self, block: Block) {
        for stmt in block {
            match stmt.kind {
                StmtKind::Emit(header) => self.ir.deparser.push(header),
                StmtKind::If {
                    condition,
                    then,
                    otherwise,
                } if otherwise.is_empty() => {
                    // Emitting a header only if it is valid is what emitting does.
                    let valid = match self.ir.exprs[condition] {
                        Expr::IsValid(HeaderRef::Instance(header)) => Some(header),
                        _ => None,
                    };
                    match (valid, then.as_slice()) {
                        (Some(valid), [Stmt { kind: StmtKind::Emit(header), .. }]) if valid == *header => {
                            self.ir.deparser.push(valid);
                        }
                        (_, []) => {}
                        _ => self.unsupported(stmt.span, "the deparser can't decide what to emit; make headers invalid in egress instead"),
                    }
                }
                StmtKind::Call(Primitive::LogMessage { .. }) => {
                    self.unsupported(stmt.span, "`log_msg` in the deparser is not supported");
                }
                _ => self.unsupported(
                    stmt.span,
                    "only `emit` is supported in the deparser; do everything else in egress",
                ),
            }
        }
    }

    /// The scalars that belong to the user's metadata.
    pub fn metadata_scalars(&self) -> FxHashSet<u32> {
        let mut out = FxHashSet::default();
        if let Some(metadata) = &self.metadata {
            metadata.leaves(&mut |leaf| {
                if let OperandKind::Place(place) = leaf.kind {
                    out.insert(place.field);
                }
            });
        }
        out
    }

    fn package_info(&mut self, decl: &'a ast::Decl) {
        let globals = self.globals.clone();
        let annotations = self.annotations(&globals, &decl.annotations);
        let mut info = PackageInfo::default();
        for annotation in annotations {
            // Those in brackets are listed as well, as any other.
            if matches!(annotation.name(), "pkginfo" | "platform_property")
                && matches!(annotation, Annotation::Pairs { .. })
            {
                info.annotations.push(annotation.clone());
            }
            match (annotation.name(), &annotation) {
                ("pkginfo", Annotation::Pairs { .. } | Annotation::Unstructured { .. }) => {
                    for (key, value) in pairs(&annotation) {
                        if let AnnotationArgument::String(value) = value {
                            info.info.push((key, value));
                        }
                    }
                }
                ("platform_property", _) => {
                    for (key, value) in pairs(&annotation) {
                        if let AnnotationArgument::Number(value) = value {
                            info.platform.push((key, value));
                        }
                    }
                }
                _ => info.annotations.push(annotation),
            }
        }
        self.ir.package = info;
    }
}

/// Where a block is declared.
fn block_span(block: &BlockInstance<'_>) -> Span {
    match block.kind {
        BlockKind::Parser(decl, _) | BlockKind::Control(decl, _) | BlockKind::Package(decl, _) => {
            decl.span
        }
    }
}

/// Keys and values of `@name(key = value, …)` in either form.
fn pairs(annotation: &Annotation) -> Vec<(Arc<str>, AnnotationArgument)> {
    match annotation {
        Annotation::Pairs { arguments, .. } => arguments.clone(),
        Annotation::Unstructured {
            body: Some(body), ..
        } => {
            let mut out = Vec::new();
            for part in body.split(" , ") {
                let Some((key, value)) = part.split_once(" = ") else {
                    continue;
                };
                let value = match value.strip_prefix('"').and_then(|v| v.strip_suffix('"')) {
                    Some(text) => AnnotationArgument::String(text.into()),
                    None => match value.parse() {
                        Ok(number) => AnnotationArgument::Number(number),
                        Err(_) => continue,
                    },
                };
                out.push((key.into(), value));
            }
            out
        }
        _ => Vec::new(),
    }
}
