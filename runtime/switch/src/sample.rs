//! Small programs for tests: a builder that fills in what every bmv2 JSON has.

use crate::{Config, Output, Pipeline, Switch};
use serde_json::{Value, json};

/// A program in the making. Every header in `order` is extracted by the start state, in turn, and
/// emitted by the deparser.
pub(crate) struct Sample {
    json: Value,
}

pub(crate) fn field(header: &str, name: &str) -> Value {
    json!({"type": "field", "value": [header, name]})
}

pub(crate) fn hex(value: u64) -> Value {
    json!({"type": "hexstr", "value": format!("{value:#x}")})
}

pub(crate) fn param(index: usize) -> Value {
    json!({"type": "runtime_data", "value": index})
}

pub(crate) fn expr(op: &str, left: Value, right: Value) -> Value {
    json!({"type": "expression", "value": {"op": op, "left": left, "right": right}})
}

pub(crate) fn primitive(op: &str, parameters: Value) -> Value {
    json!({"op": op, "parameters": parameters})
}

pub(crate) fn assign(target: Value, value: Value) -> Value {
    primitive("assign", json!([target, value]))
}

pub(crate) fn send(port: Value) -> Value {
    assign(field("standard_metadata", "egress_spec"), port)
}

impl Sample {
    pub(crate) fn new() -> Self {
        let standard = [
            ("ingress_port", 9),
            ("egress_spec", 9),
            ("egress_port", 9),
            ("instance_type", 32),
            ("packet_length", 32),
            ("enq_timestamp", 32),
            ("enq_qdepth", 19),
            ("deq_timedelta", 32),
            ("deq_qdepth", 19),
            ("ingress_global_timestamp", 48),
            ("egress_global_timestamp", 48),
            ("mcast_grp", 16),
            ("egress_rid", 16),
            ("checksum_error", 1),
            ("parser_error", 32),
            ("priority", 3),
            ("_padding", 3),
        ];
        let standard: Vec<Value> = standard.iter().map(|(n, w)| json!([n, w, false])).collect();
        let pipeline = |name: &str, id: u32| {
            json!({"name": name, "id": id, "init_table": null, "tables": [], "conditionals": [],
                "action_profiles": []})
        };
        let json = json!({
            "header_types": [
                {"name": "scalars_0", "id": 0, "fields": []},
                {"name": "standard_metadata", "id": 1, "fields": standard},
            ],
            "headers": [
                {"name": "scalars", "id": 0, "header_type": "scalars_0", "metadata": true},
                {"name": "standard_metadata", "id": 1, "header_type": "standard_metadata",
                    "metadata": true},
            ],
            "header_stacks": [], "header_union_types": [], "header_unions": [],
            "header_union_stacks": [], "field_lists": [], "enums": [], "parse_vsets": [],
            "errors": [["NoError", 0], ["PacketTooShort", 1], ["NoMatch", 2],
                ["StackOutOfBounds", 3], ["HeaderTooShort", 4], ["ParserTimeout", 5],
                ["ParserInvalidArgument", 6]],
            "parsers": [{"name": "parser", "id": 0, "init_state": "start", "parse_states": [
                {"name": "start", "id": 0, "parser_ops": [], "transition_key": [],
                    "transitions": [{"type": "default", "value": null, "mask": null,
                        "next_state": null}]}]}],
            "deparsers": [{"name": "deparser", "id": 0, "order": []}],
            "meter_arrays": [], "counter_arrays": [], "register_arrays": [], "calculations": [],
            "learn_lists": [], "actions": [],
            "pipelines": [pipeline("ingress", 0), pipeline("egress", 1)],
            "checksums": [], "force_arith": [], "extern_instances": [],
            "field_aliases": [
                ["queueing_metadata.enq_timestamp", ["standard_metadata", "enq_timestamp"]],
                ["intrinsic_metadata.ingress_global_timestamp",
                    ["standard_metadata", "ingress_global_timestamp"]],
                ["intrinsic_metadata.mcast_grp", ["standard_metadata", "mcast_grp"]],
                ["intrinsic_metadata.egress_rid", ["standard_metadata", "egress_rid"]],
                ["intrinsic_metadata.priority", ["standard_metadata", "priority"]]],
            "program": "sample", "__meta__": {"version": [2, 23]},
        });
        Sample { json }
    }

    /// The JSON itself, for what the builder has no word for.
    pub(crate) fn at(&mut self, pointer: &str) -> &mut Value {
        self.json
            .pointer_mut(pointer)
            .expect("a place of the sample")
    }

    pub(crate) fn push(&mut self, pointer: &str, value: Value) -> &mut Self {
        self.at(pointer)
            .as_array_mut()
            .expect("a list of the sample")
            .push(value);
        self
    }

    fn len(&mut self, pointer: &str) -> usize {
        self.at(pointer)
            .as_array()
            .expect("a list of the sample")
            .len()
    }

    pub(crate) fn scalar(&mut self, name: &str, width: u32) -> &mut Self {
        self.push("/header_types/0/fields", json!([name, width, false]))
    }

    pub(crate) fn signed_scalar(&mut self, name: &str, width: u32) -> &mut Self {
        self.push("/header_types/0/fields", json!([name, width, true]))
    }

    pub(crate) fn header_type(&mut self, name: &str, fields: &[(&str, u32)]) -> &mut Self {
        let fields: Vec<Value> = fields
            .iter()
            .map(|(name, width)| match width {
                0 => json!([name, "*"]),
                width => json!([name, width, false]),
            })
            .collect();
        let id = self.len("/header_types");
        self.push(
            "/header_types",
            json!({"name": name, "id": id, "fields": fields, "max_length": 256}),
        )
    }

    /// A header that is not extracted, but emitted when valid.
    pub(crate) fn header_of(&mut self, name: &str, header_type: &str) -> &mut Self {
        let id = self.len("/headers");
        let header = json!({"name": name, "id": id, "header_type": header_type, "metadata": false});
        self.push("/headers", header)
            .push("/deparsers/0/order", json!(name))
    }

    /// A header of its own type that the start state extracts.
    pub(crate) fn header(&mut self, name: &str, fields: &[(&str, u32)]) -> &mut Self {
        self.header_type(&format!("{name}_t"), fields)
            .header_of(name, &format!("{name}_t"));
        let extract = json!({"op": "extract", "parameters": [{"type": "regular", "value": name}]});
        self.parser_op(extract)
    }

    pub(crate) fn parser_op(&mut self, op: Value) -> &mut Self {
        self.push("/parsers/0/parse_states/0/parser_ops", op)
    }

    pub(crate) fn action(&mut self, name: &str, params: &[(&str, u32)], code: Value) -> &mut Self {
        let id = self.len("/actions");
        let params: Vec<Value> = params
            .iter()
            .map(|(name, width)| json!({"name": name, "bitwidth": width}))
            .collect();
        self.push(
            "/actions",
            json!({"name": name, "id": id, "runtime_data": params, "primitives": code}),
        )
    }

    /// A table at the end of a pipeline (0 is ingress), whose default is its first action.
    pub(crate) fn table(
        &mut self,
        pipeline: usize,
        name: &str,
        match_type: &str,
        key: &[(&str, [&str; 2])],
        actions: &[&str],
    ) -> &mut Self {
        let key: Vec<Value> = key
            .iter()
            .map(|(kind, [header, field])| {
                json!({"match_type": kind, "name": format!("{header}.{field}"),
                    "target": [header, field], "mask": null})
            })
            .collect();
        let all = self.at("/actions").as_array().expect("the actions").clone();
        let id = |name: &str| {
            all.iter()
                .position(|a| a["name"] == name)
                .expect("a known action")
        };
        let ids: Vec<usize> = actions.iter().map(|a| id(a)).collect();
        let data: Vec<Value> = actions.first().map_or(Vec::new(), |a| {
            let params = all[id(a)]["runtime_data"]
                .as_array()
                .expect("its parameters")
                .len();
            vec![json!("0x0"); params]
        });
        let tables = format!("/pipelines/{pipeline}/tables");
        let nexts: serde_json::Map<String, Value> = actions
            .iter()
            .map(|a| ((*a).to_owned(), Value::Null))
            .collect();
        let number = self.len(&tables);
        let table = json!({"name": name, "id": number, "key": key, "match_type": match_type,
            "type": "simple", "max_size": 65536, "with_counters": false, "support_timeout": false,
            "direct_meters": null, "action_ids": ids, "actions": actions,
            "base_default_next": null, "next_tables": nexts,
            "default_entry": {"action_id": ids.first(), "action_const": false,
                "action_data": data, "action_entry_const": false}});
        // Tables follow one another.
        match number.checked_sub(1) {
            None => *self.at(&format!("/pipelines/{pipeline}/init_table")) = json!(name),
            Some(last) => {
                let next = self.at(&format!("{tables}/{last}/next_tables"));
                for target in next.as_object_mut().expect("next tables").values_mut() {
                    *target = json!(name);
                }
                *self.at(&format!("{tables}/{last}/base_default_next")) = json!(name);
            }
        }
        self.push(&tables, table)
    }

    /// Code that runs unconditionally at the end of a pipeline.
    pub(crate) fn run(&mut self, pipeline: usize, code: Value) -> &mut Self {
        let name = format!("run{}", self.len("/actions"));
        self.action(&name, &[], code);
        self.table(pipeline, &format!("tbl_{name}"), "exact", &[], &[&name])
    }

    pub(crate) fn text(&self) -> String {
        self.json.to_string()
    }

    pub(crate) fn pipeline(&self) -> Pipeline {
        Pipeline::parse(&self.text()).expect("a right sample")
    }

    pub(crate) fn switch(&self) -> Switch {
        self.switch_with(Config::default())
    }

    pub(crate) fn switch_with(&self, config: Config) -> Switch {
        let mut switch = Switch::new(config);
        switch.swap(self.pipeline());
        switch
    }
}

/// Sends one packet at time 0 and gives all that comes out.
pub(crate) fn once(switch: &mut Switch, port: u16, packet: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let mut out = Output::new();
    switch.step(0, port, packet, &mut out);
    out.packets().map(|p| (p.port, p.bytes.to_vec())).collect()
}
