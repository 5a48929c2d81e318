//! Standard metadata, aliases and parser errors: what v1model and simple_switch agree on.

use super::Loader;
use super::at::{At, Result};
use crate::code::layout::Place;
use crate::code::program::{CoreErrors, Standard};

impl Loader {
    pub(super) fn read_errors(&mut self, root: &At) -> Result<()> {
        for at in root.list_of("errors")? {
            self.schema
                .errors
                .insert(at.at(0)?.str()?.to_owned(), at.at(1)?.u64()?);
        }
        // Core errors that the program does not name get the next free values, as in bmv2.
        let mut next = self.schema.errors.values().max().map_or(0, |max| max + 1);
        let mut core = |name: &str| match self.schema.errors.get(name) {
            Some(value) => *value,
            None => {
                self.schema.errors.insert(name.to_owned(), next);
                next += 1;
                next - 1
            }
        };
        let no_error = core("NoError");
        let packet_too_short = core("PacketTooShort");
        core("NoMatch");
        let stack_out_of_bounds = core("StackOutOfBounds");
        let header_too_short = core("HeaderTooShort");
        let parser_timeout = core("ParserTimeout");
        let parser_invalid_argument = core("ParserInvalidArgument");
        self.errors = CoreErrors {
            no_error,
            packet_too_short,
            stack_out_of_bounds,
            header_too_short,
            parser_invalid_argument,
            parser_timeout,
        };
        Ok(())
    }

    pub(super) fn read_aliases(&mut self, root: &At) -> Result<()> {
        for at in root.list_of("field_aliases")? {
            let to = at.at(1)?;
            let (header, field) = (to.at(0)?, to.at(1)?);
            let id = self.header(&header)?;
            if self.layout.field(id, field.str()?).is_none() {
                return Err(field.invalid("the name of a field"));
            }
            let to = (header.str()?.to_owned(), field.str()?.to_owned());
            self.aliases.push((at.at(0)?.str()?.to_owned(), to));
        }
        Ok(())
    }

    pub(super) fn read_standard(&mut self) -> Result<Standard> {
        let nobody = Place::unsigned(self.emitter.reserve(1), 64);
        let find = |header: &str, field: &str| {
            let full = format!("{header}.{field}");
            let alias = self.aliases.iter().find(|(from, _)| *from == full);
            let (header, field) = match alias {
                Some((_, (header, field))) => (header.as_str(), field.as_str()),
                None => (header, field),
            };
            let in_header = |header: &str| {
                let id = *self.layout.header_names.get(header)?;
                self.layout.field(id, field).map(|f| f.place)
            };
            let found = in_header(header).or_else(|| in_header("standard_metadata"));
            found
                .filter(|place| place.width <= 64 && place.width > 0)
                .unwrap_or(nobody)
        };
        Ok(Standard {
            ingress_port: find("standard_metadata", "ingress_port"),
            egress_spec: find("standard_metadata", "egress_spec"),
            egress_port: find("standard_metadata", "egress_port"),
            packet_length: find("standard_metadata", "packet_length"),
            instance_type: find("standard_metadata", "instance_type"),
            mcast_grp: find("intrinsic_metadata", "mcast_grp"),
            egress_rid: find("intrinsic_metadata", "egress_rid"),
            ingress_global_timestamp: find("intrinsic_metadata", "ingress_global_timestamp"),
            egress_global_timestamp: find("intrinsic_metadata", "egress_global_timestamp"),
            enq_timestamp: find("queueing_metadata", "enq_timestamp"),
            enq_qdepth: find("queueing_metadata", "enq_qdepth"),
            deq_timedelta: find("queueing_metadata", "deq_timedelta"),
            deq_qdepth: find("queueing_metadata", "deq_qdepth"),
            qid: find("queueing_metadata", "qid"),
            priority: find("intrinsic_metadata", "priority"),
            parser_error: find("standard_metadata", "parser_error"),
            checksum_error: find("standard_metadata", "checksum_error"),
        })
    }
}
