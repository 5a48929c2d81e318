//! Names of services as P4 identifiers that collide with nothing in the program.

use std::collections::BTreeSet;

use crate::library;

/// Names that the main program uses besides the services', and words that P4 or its library own.
const RESERVED: &[&str] = &[
    // The program's own.
    "CPU_PORT",
    "Cascade",
    "DUAL_STACK",
    "PROGRAM_ID",
    "admission",
    "finish",
    "hdr",
    "main",
    "meta",
    "routing",
    "std",
    // P4_16's keywords.
    "abstract",
    "action",
    "actions",
    "apply",
    "bit",
    "bool",
    "break",
    "const",
    "continue",
    "control",
    "default",
    "else",
    "entries",
    "enum",
    "error",
    "exit",
    "extern",
    "false",
    "for",
    "header",
    "header_union",
    "if",
    "in",
    "inout",
    "int",
    "key",
    "list",
    "match_kind",
    "out",
    "package",
    "parser",
    "pragma",
    "priority",
    "return",
    "select",
    "state",
    "static_assert",
    "string",
    "struct",
    "switch",
    "table",
    "this",
    "transition",
    "true",
    "tuple",
    "type",
    "typedef",
    "value_set",
    "varbit",
    "void",
    "accept",
    "reject",
    "_",
    // core.p4 and v1model.p4.
    "NoAction",
    "NoError",
    "exact",
    "lpm",
    "ternary",
    "range",
    "optional",
    "selector",
    "packet_in",
    "packet_out",
    "verify",
    "static_assert",
    "standard_metadata_t",
    "CounterType",
    "MeterType",
    "counter",
    "direct_counter",
    "meter",
    "direct_meter",
    "register",
    "action_profile",
    "action_selector",
    "random",
    "digest",
    "mark_to_drop",
    "hash",
    "HashAlgorithm",
    "CloneType",
    "Checksum16",
    "verify_checksum",
    "update_checksum",
    "verify_checksum_with_payload",
    "update_checksum_with_payload",
    "resubmit",
    "recirculate",
    "clone",
    "clone3",
    "clone_preserving_field_list",
    "resubmit_preserving_field_list",
    "recirculate_preserving_field_list",
    "truncate",
    "assert",
    "assume",
    "log_msg",
    "Parser",
    "VerifyChecksum",
    "Ingress",
    "Egress",
    "ComputeChecksum",
    "Deparser",
    "V1Switch",
];

/// Gives out identifiers, each once.
#[derive(Debug)]
pub struct Names {
    taken: BTreeSet<String>,
}

impl Names {
    /// Nothing given out yet; what the language and the library own is taken.
    #[must_use]
    pub fn new() -> Self {
        let taken = RESERVED
            .iter()
            .copied()
            .chain(library::declared())
            .map(str::to_owned)
            .collect();
        Self { taken }
    }

    /// An identifier for a service: its name with `_` for `-`, and `_` appended until neither it nor
    /// its reply part's name (`…_reply`) is taken.
    pub fn service(&mut self, name: &str) -> String {
        let mut id: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
            .collect();
        if !id.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            id.insert(0, '_');
        }
        while self.taken.contains(&id) || self.taken.contains(&format!("{id}_reply")) {
            id.push('_');
        }
        self.taken.insert(format!("{id}_reply"));
        self.taken.insert(id.clone());
        id
    }
}

impl Default for Names {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_names_become_identifiers_that_collide_with_nothing() {
        let mut names = Names::new();
        for (given, expected) in [
            ("web-lb", "web_lb"),
            ("table", "table_"),
            ("hash", "hash_"),
            ("TTL", "TTL_"),
            ("Balance", "Balance_"),
            ("a", "a"),
            ("a-reply", "a_reply_"),
            ("b-reply", "b_reply"),
            ("b", "b_"),
        ] {
            assert_eq!(names.service(given), expected, "{given}");
        }
    }
}
