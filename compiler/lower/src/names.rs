//! Names of services as P4 identifiers that collide with nothing in the program.

use std::collections::BTreeSet;

use crate::library;

/// Names that the main program uses besides the services', and words that P4 or its library own.
const RESERVED: &[&str] = &[
    // The program's own.
    "CPU_PORT",
    "Cascade",
    "DUAL_STACK",
    "TUNNELS",
    "PROGRAM_ID",
    "admission",
    "finish",
    "hdr",
    "main",
    "meta",
    "routing",
    "std",
    "tunnels",
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
    // Macros, which are replaced wherever they stand: of the preprocessor (C's predefined ones too, as
    // p4c runs cpp), of core.p4 and of v1model.p4.
    "defined",
    "__FILE__",
    "__LINE__",
    "__DATE__",
    "__TIME__",
    "__TIMESTAMP__",
    "__STDC__",
    "__STDC_VERSION__",
    "__STDC_HOSTED__",
    "__COUNTER__",
    "__BASE_FILE__",
    "__INCLUDE_LEVEL__",
    "__VA_ARGS__",
    "__p4c__",
    "_CORE_P4_",
    "_V1_MODEL_P4_",
    "V1MODEL_VERSION",
    "V1MODEL_METER_COLOR_GREEN",
    "V1MODEL_METER_COLOR_YELLOW",
    "V1MODEL_METER_COLOR_RED",
    // core.p4 and v1model.p4.
    "__v1model_version",
    "PortId_t",
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
    fn no_name_of_the_included_files_is_given_out() {
        let texts = [
            include_str!("../../../p4/include/core.p4"),
            include_str!("../../../p4/include/v1model.p4"),
        ];
        let mut seen = 0;
        for line in texts.iter().flat_map(|text| text.lines()) {
            let mut words = line
                .split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '#' | '<' | '>')))
                .filter(|w| !w.is_empty());
            let name = match words.next() {
                Some("#define" | "struct" | "enum" | "action" | "control" | "parser") => {
                    words.next()
                }
                Some("const" | "typedef") => words.nth(1),
                // `extern NAME {`, `extern TYPE NAME(`, the first perhaps over two lines
                Some("extern") if line.contains('(') => words.nth(1),
                Some("extern" | "package") => words.next(),
                _ => continue,
            };
            let name = name.map(|n| n.split('<').next().unwrap_or(n)).unwrap();
            seen += 1;
            assert_ne!(Names::new().service(name), name, "{line}");
        }
        assert!(seen > 40, "only {seen} names were found");
    }

    #[test]
    fn service_names_become_identifiers_that_collide_with_nothing() {
        let mut names = Names::new();
        for (given, expected) in [
            ("web-lb", "web_lb"),
            ("table", "table_"),
            ("hash", "hash_"),
            ("TTL", "TTL_"),
            ("Translate", "Translate_"),
            ("a", "a"),
            ("a-reply", "a_reply_"),
            ("b-reply", "b_reply"),
            ("b", "b_"),
        ] {
            assert_eq!(names.service(given), expected, "{given}");
        }
    }
}
