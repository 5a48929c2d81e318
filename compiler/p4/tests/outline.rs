//! bmv2 JSON as text that a person can read and compare: what each state, action, table and
//! condition does, without ids and places.

use std::fmt::Write;

use serde_json::Value;

/// The text of a value as it would be written in a program.
pub fn value(json: &Value) -> String {
    let inner = &json["value"];
    match json["type"].as_str() {
        Some("expression") => match inner["op"].as_str() {
            None => value(inner),
            Some("?") => {
                format!(
                    "({} ? {} : {})",
                    value(&inner["cond"]),
                    value(&inner["left"]),
                    value(&inner["right"])
                )
            }
            Some("access_field") => format!("{}.#{}", value(&inner["left"]), inner["right"]),
            Some("dereference_header_stack") => {
                format!("{}[{}]", value(&inner["left"]), value(&inner["right"]))
            }
            Some(op) if inner["left"].is_null() => format!("{op}({})", value(&inner["right"])),
            Some(op) => format!(
                "({} {op} {})",
                value(&inner["left"]),
                value(&inner["right"])
            ),
        },
        Some("field" | "stack_field") => {
            let parts: Vec<&str> = inner
                .as_array()
                .unwrap()
                .iter()
                .filter_map(Value::as_str)
                .collect();
            let last = if json["type"] == "stack_field" {
                ".last"
            } else {
                ""
            };
            format!("{}{last}.{}", parts[0], parts[1])
        }
        Some("local" | "runtime_data") => format!("${inner}"),
        Some("lookahead") => format!("lookahead({}, {})", inner[0], inner[1]),
        Some("parameters_vector") => list(inner),
        Some("hexstr") => {
            let text = inner.as_str().unwrap();
            let digits = text.trim_start_matches("0x").trim_start_matches('0');
            if text.starts_with('-') || digits.len() > 15 {
                return text.to_string();
            }
            i64::from_str_radix(if digits.is_empty() { "0" } else { digits }, 16)
                .unwrap()
                .to_string()
        }
        Some(_) => inner
            .as_str()
            .map_or_else(|| inner.to_string(), str::to_string),
        None => json.to_string(),
    }
}

fn list(json: &Value) -> String {
    json.as_array()
        .map(|all| all.iter().map(value).collect::<Vec<_>>().join(", "))
        .unwrap_or_default()
}

fn next(json: &Value) -> String {
    json.as_str().unwrap_or("end").to_string()
}

/// The text of a whole image.
pub fn outline(json: &Value) -> String {
    let mut out = String::new();
    for parser in json["parsers"].as_array().unwrap() {
        writeln!(out, "parser from {}", next(&parser["init_state"])).unwrap();
        for state in parser["parse_states"].as_array().unwrap() {
            state_outline(state, &mut out);
        }
    }
    for action in json["actions"].as_array().unwrap() {
        let params: Vec<String> = action["runtime_data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| format!("{}: {}", p["name"].as_str().unwrap(), p["bitwidth"]))
            .collect();
        writeln!(
            out,
            "action {}({})",
            action["name"].as_str().unwrap(),
            params.join(", ")
        )
        .unwrap();
        for (at, primitive) in action["primitives"].as_array().unwrap().iter().enumerate() {
            writeln!(out, "  {at:2} {}", primitive_text(primitive)).unwrap();
        }
    }
    for pipeline in json["pipelines"].as_array().unwrap() {
        writeln!(
            out,
            "{} from {}",
            pipeline["name"].as_str().unwrap(),
            next(&pipeline["init_table"])
        )
        .unwrap();
        for condition in pipeline["conditionals"].as_array().unwrap() {
            let (yes, no) = (
                next(&condition["true_next"]),
                next(&condition["false_next"]),
            );
            let name = condition["name"].as_str().unwrap();
            writeln!(
                out,
                "  {name}: {} ? {yes} : {no}",
                value(&condition["expression"])
            )
            .unwrap();
        }
        for table in pipeline["tables"].as_array().unwrap() {
            table_outline(table, &mut out);
        }
    }
    for checksum in json["checksums"].as_array().unwrap() {
        let verb = if checksum["verify"] == true {
            "verify"
        } else {
            "update"
        };
        let target = checksum["target"].as_array().unwrap();
        writeln!(
            out,
            "{verb} {}.{} by {} if {}",
            target[0].as_str().unwrap(),
            target[1].as_str().unwrap(),
            checksum["calculation"].as_str().unwrap(),
            value(&checksum["if_cond"])
        )
        .unwrap();
    }
    for calculation in json["calculations"].as_array().unwrap() {
        let (name, algorithm) = (
            calculation["name"].as_str().unwrap(),
            calculation["algo"].as_str().unwrap(),
        );
        writeln!(
            out,
            "{name}: {algorithm} of {}",
            list(&calculation["input"])
        )
        .unwrap();
    }
    for key in ["field_lists", "learn_lists"] {
        for fields in json[key].as_array().unwrap() {
            writeln!(
                out,
                "{key} {}: {}",
                fields["name"].as_str().unwrap(),
                list(&fields["elements"])
            )
            .unwrap();
        }
    }
    writeln!(out, "deparser {}", json["deparsers"][0]["order"]).unwrap();
    out
}

fn primitive_text(primitive: &Value) -> String {
    format!(
        "{} {}",
        primitive["op"].as_str().unwrap(),
        list(&primitive["parameters"])
    )
    .trim_end()
    .to_string()
}

fn state_outline(state: &Value, out: &mut String) {
    writeln!(out, "  state {}", state["name"].as_str().unwrap()).unwrap();
    for op in state["parser_ops"].as_array().unwrap() {
        let text = if op["op"] == "primitive" {
            primitive_text(&op["parameters"][0])
        } else {
            primitive_text(op)
        };
        writeln!(out, "    {text}").unwrap();
    }
    let key = list(&state["transition_key"]);
    for transition in state["transitions"].as_array().unwrap() {
        let case = match (transition["type"].as_str(), &transition["mask"]) {
            (Some("default"), _) => "default".to_string(),
            (_, Value::Null) => format!("{key} = {}", transition["value"].as_str().unwrap()),
            (_, mask) => format!(
                "{key} = {} &&& {}",
                transition["value"].as_str().unwrap(),
                mask.as_str().unwrap()
            ),
        };
        writeln!(out, "    {case} -> {}", next(&transition["next_state"])).unwrap();
    }
}

fn table_outline(table: &Value, out: &mut String) {
    let keys: Vec<String> = table["key"]
        .as_array()
        .unwrap()
        .iter()
        .map(|k| {
            format!(
                "{}.{}: {}",
                k["target"][0].as_str().unwrap(),
                k["target"][1].as_str().unwrap(),
                k["match_type"].as_str().unwrap()
            )
        })
        .collect();
    writeln!(
        out,
        "  table {}({}) {} of {}",
        table["name"].as_str().unwrap(),
        keys.join(", "),
        table["type"].as_str().unwrap(),
        table["max_size"]
    )
    .unwrap();
    for (outcome, to) in table["next_tables"].as_object().unwrap() {
        writeln!(out, "    {outcome} -> {}", next(to)).unwrap();
    }
    if let Some(entries) = table["entries"].as_array() {
        for entry in entries {
            let keys: Vec<String> = entry["match_key"]
                .as_array()
                .unwrap()
                .iter()
                .map(|key| {
                    let mut parts = Vec::new();
                    for (name, value) in key.as_object().unwrap() {
                        if name != "match_type" {
                            parts.push(
                                value
                                    .as_str()
                                    .map_or_else(|| value.to_string(), str::to_string),
                            );
                        }
                    }
                    parts.join("/")
                })
                .collect();
            writeln!(
                out,
                "    entry {} ({}) -> {} {}",
                entry["priority"],
                keys.join(", "),
                entry["action_entry"]["action_id"],
                entry["action_entry"]["action_data"]
            )
            .unwrap();
        }
    }
}
