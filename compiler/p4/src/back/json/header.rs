//! Types of headers, headers, stacks, unions, and the names that bmv2 gives some fields.

use serde_json::{Value, json};

use crate::ir::{Handle, HeaderType, Type};

use super::Writer;

impl Writer<'_> {
    pub(super) fn header_types(&self) -> Value {
        let program = self.program;
        let scalars = program.headers[program.scalars].ty;
        let types = program.header_types.iter().map(|(handle, ty)| {
            let metadata = program
                .headers
                .iter()
                .any(|(_, h)| h.ty == handle && h.metadata);
            let mut fields: Vec<Value> = Vec::new();
            let mut bits: u32 = 0;
            for (field, position) in ty.fields.iter().zip(0..) {
                if handle == scalars && !self.used.borrow().contains(&position) {
                    continue;
                }
                bits += field.ty.width();
                fields.push(match field.ty {
                    Type::Varbit(_) => json!([&*field.name, "*"]),
                    _ => json!([&*field.name, field.ty.width(), field.ty.is_signed()]),
                });
            }
            if handle == scalars {
                for (name, width) in &self.extra_scalars {
                    bits += width;
                    fields.push(json!([&**name, width, false]));
                }
            }
            if metadata && !bits.is_multiple_of(8) {
                fields.push(json!(["_padding", 8 - bits % 8, false]));
            }
            let mut out = json!({ "name": &*ty.name, "id": handle.index(), "fields": fields });
            if let (Some(object), true) = (out.as_object_mut(), self.has_varbit(handle)) {
                object.insert("max_length".into(), json!(bits.div_ceil(8)));
            }
            out
        });
        Value::Array(types.collect())
    }

    fn has_varbit(&self, ty: Handle<HeaderType>) -> bool {
        self.program.header_types[ty]
            .fields
            .iter()
            .any(|f| matches!(f.ty, Type::Varbit(_)))
    }

    pub(super) fn headers(&self) -> Value {
        let program = self.program;
        let headers = program.headers.iter().map(|(handle, header)| {
            json!({
                "name": &*header.name,
                "id": handle.index(),
                "header_type": &*program.header_types[header.ty].name,
                "metadata": header.metadata,
                "pi_omit": true,
            })
        });
        Value::Array(headers.collect())
    }

    pub(super) fn header_stacks(&self) -> Value {
        let program = self.program;
        let stacks = program.stacks.iter().map(|(handle, stack)| {
            json!({
                "name": &*stack.name,
                "id": handle.index(),
                "header_type": &*program.header_types[stack.ty].name,
                "size": stack.elements.len(),
                "header_ids": stack.elements.iter().map(|h| h.index()).collect::<Vec<_>>(),
            })
        });
        Value::Array(stacks.collect())
    }

    pub(super) fn union_types(&self) -> Value {
        let program = self.program;
        let types = program.union_types.iter().map(|(handle, ty)| {
            let headers: Vec<Value> = ty
                .members
                .iter()
                .map(|(name, ty)| json!([&**name, &*program.header_types[*ty].name]))
                .collect();
            json!({ "name": &*ty.name, "id": handle.index(), "headers": headers })
        });
        Value::Array(types.collect())
    }

    pub(super) fn unions(&self) -> Value {
        let program = self.program;
        let unions = program.unions.iter().map(|(handle, union)| {
            json!({
                "name": &*union.name,
                "id": handle.index(),
                "union_type": &*program.union_types[union.ty].name,
                "header_ids": union.members.iter().map(|h| h.index()).collect::<Vec<_>>(),
                "pi_omit": true,
            })
        });
        Value::Array(unions.collect())
    }

    pub(super) fn field_aliases(&self) -> Value {
        let program = self.program;
        let mut out = Vec::new();
        for (_, header) in program.headers.iter().filter(|(_, h)| h.metadata) {
            for field in &program.header_types[header.ty].fields {
                if let Some(alias) = &field.alias {
                    out.push(json!([&**alias, [&*header.name, &*field.name]]));
                }
            }
        }
        Value::Array(out)
    }

    pub(super) fn errors(&self) -> Value {
        Value::Array(
            self.program
                .errors
                .iter()
                .enumerate()
                .map(|(n, name)| json!([&**name, n]))
                .collect(),
        )
    }

    pub(super) fn enums(&self) -> Value {
        let enums = self.program.enums.iter().map(|(name, members)| {
            let entries: Vec<Value> = members
                .iter()
                .enumerate()
                .map(|(n, member)| json!([&**member, n]))
                .collect();
            json!({ "name": &**name, "entries": entries })
        });
        Value::Array(enums.collect())
    }
}
