//! The metadata of packet-in and packet-out by name, or in the header's order.

use bytes::Bytes;

use crate::{
    catalog::{CatalogError, HeaderInfo, ParamInfo},
    proto::p4::v1::{PacketIn, PacketMetadata, PacketOut},
    value::{self, Value},
};

impl HeaderInfo {
    /// Metadata from values by name; every field must be given once, in any order.
    ///
    /// # Errors
    /// A field is not there or got no value, or a value does not fit.
    pub fn pack<'n>(
        &self,
        values: impl IntoIterator<Item = (&'n str, Value)>,
    ) -> Result<Vec<PacketMetadata>, CatalogError> {
        let mut metadata: Vec<PacketMetadata> = Vec::with_capacity(self.fields.len());
        for (name, value) in values {
            metadata.push(self.field(self.named(name)?, value)?);
        }
        for field in &self.fields {
            match metadata
                .iter()
                .filter(|m| m.metadata_id == field.id)
                .count()
            {
                1 => {}
                0 => return Err(self.missing(field)),
                _ => {
                    return Err(CatalogError::FieldTwice {
                        table: self.name.clone(),
                        field: field.name.clone(),
                    });
                }
            }
        }
        Ok(metadata)
    }

    /// Metadata from numbers, one a field in the header's order: the quick way.
    ///
    /// # Errors
    /// There are more or fewer numbers than fields, or one does not fit.
    pub fn pack_in_order(&self, values: &[u128]) -> Result<Vec<PacketMetadata>, CatalogError> {
        if values.len() != self.fields.len() {
            return Err(CatalogError::HeaderLength {
                header: self.name.clone(),
                expected: self.fields.len(),
                found: values.len(),
            });
        }
        self.fields
            .iter()
            .zip(values)
            .map(|(field, value)| self.field(field, Value::from(*value)))
            .collect()
    }

    /// The values of a packet, one a field in the header's order.
    ///
    /// # Errors
    /// The packet lacks a field, or one does not fit.
    pub fn unpack_in_order(&self, metadata: &[PacketMetadata]) -> Result<Vec<u128>, CatalogError> {
        self.fields
            .iter()
            .enumerate()
            .map(|(index, field)| {
                // Devices send the fields in order, as a rule.
                let found = metadata
                    .get(index)
                    .filter(|m| m.metadata_id == field.id)
                    .or_else(|| metadata.iter().find(|m| m.metadata_id == field.id))
                    .ok_or_else(|| self.missing(field))?;
                value::check(&found.value, field.width)
                    .ok()
                    .and_then(|()| value::to_u128(&found.value))
                    .ok_or_else(|| self.missing(field))
            })
            .collect()
    }

    /// The value of one field of a packet.
    ///
    /// # Errors
    /// The header or the packet lacks the field.
    pub fn get(&self, metadata: &[PacketMetadata], name: &str) -> Result<Value, CatalogError> {
        let field = self.named(name)?;
        metadata
            .iter()
            .find(|m| m.metadata_id == field.id)
            .map(|m| Value::from_be_bytes(&m.value))
            .ok_or_else(|| self.missing(field))
    }

    fn named(&self, name: &str) -> Result<&ParamInfo, CatalogError> {
        let found = self.fields.iter().find(|field| field.name == name);
        found.ok_or_else(|| CatalogError::UnknownField {
            table: self.name.clone(),
            field: name.to_owned(),
            fields: self.fields.iter().map(|f| f.name.clone()).collect(),
        })
    }

    fn field(&self, field: &ParamInfo, value: Value) -> Result<PacketMetadata, CatalogError> {
        match value.check(field.width) {
            Ok(()) => Ok(PacketMetadata {
                metadata_id: field.id,
                value: value.into_bytes(),
            }),
            Err(error) => Err(CatalogError::Value {
                owner: self.name.clone(),
                name: field.name.clone(),
                width: field.width,
                error,
            }),
        }
    }

    fn missing(&self, field: &ParamInfo) -> CatalogError {
        CatalogError::HeaderField {
            header: self.name.clone(),
            field: field.name.clone(),
        }
    }
}

/// A packet for the device.
pub fn packet_out(payload: impl Into<Bytes>, metadata: Vec<PacketMetadata>) -> PacketOut {
    PacketOut {
        payload: payload.into(),
        metadata,
    }
}

/// A packet for the controller.
pub fn packet_in(payload: impl Into<Bytes>, metadata: Vec<PacketMetadata>) -> PacketIn {
    PacketIn {
        payload: payload.into(),
        metadata,
    }
}
