//! The programs of tests/corpus: what their images do, as golden files, and that every name in an
//! image means something. `UPDATE_GOLDEN=1 cargo test -p signalbox-p4` writes the golden files anew.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use signalbox_p4::source::MapSources;
use signalbox_p4::{Compiled, Options, compile};
use signalbox_p4runtime::text::{parse_p4info, print_p4info};

use crate::outline::outline;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(name)
}

/// Names and texts of all programs.
pub fn programs() -> Vec<(String, String)> {
    let mut out: Vec<(String, String)> = fs::read_dir(folder("corpus"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "p4"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect();
    out.sort();
    out
}

/// Compiles a program of the corpus, which has no errors.
pub fn compiled(name: &str, text: &str) -> Compiled {
    let file = format!("{name}.p4");
    let sources = MapSources::new().with(file.as_str(), text);
    match compile(&sources, &file, &Options::default()) {
        Ok(compiled) => compiled,
        Err(failed) => panic!("{}", failed.diagnostics.render(&failed.sources, false)),
    }
}

fn check_golden(file: &str, text: &str) {
    let path = folder("golden").join(file);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(folder("golden")).unwrap();
        fs::write(&path, text).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    if golden != text {
        let line = golden.lines().zip(text.lines()).position(|(a, b)| a != b);
        let line = line.unwrap_or_else(|| golden.lines().count().min(text.lines().count()));
        panic!(
            "{file}, line {}: expected\n  {}\nfound\n  {}\n(UPDATE_GOLDEN=1 accepts what is found)",
            line + 1,
            golden.lines().nth(line).unwrap_or("nothing"),
            text.lines().nth(line).unwrap_or("nothing"),
        );
    }
}

#[test]
fn images_do_what_they_did() {
    for (name, text) in programs() {
        let json: Value = serde_json::from_str(&compiled(&name, &text).image.json).unwrap();
        check_golden(&format!("{name}.outline"), &outline(&json));
    }
}

#[test]
fn controllers_see_what_they_saw() {
    for name in ["types", "controls", "names"] {
        let text = fs::read_to_string(folder("corpus").join(format!("{name}.p4"))).unwrap();
        let info = compiled(name, &text).image.p4info;
        let printed = print_p4info(&info);
        assert_eq!(parse_p4info(&printed).unwrap(), info);
        check_golden(&format!("{name}.p4info.txtpb"), &printed);
    }
}

#[test]
fn the_same_text_gives_the_same_bytes() {
    for (name, text) in programs() {
        let (first, second) = (compiled(&name, &text), compiled(&name, &text));
        assert_eq!(first.image, second.image, "{name}");
    }
}

#[test]
fn every_name_in_an_image_means_something() {
    for (name, text) in programs() {
        let json: Value = serde_json::from_str(&compiled(&name, &text).image.json).unwrap();
        check_references(&name, &json);
    }
}

fn names(json: &Value, key: &str) -> BTreeSet<String> {
    json[key]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["name"].as_str().unwrap().to_string())
        .collect()
}

/// Checks names of headers, fields, nodes and objects, ids of actions, and that ids count from 0.
fn check_references(name: &str, json: &Value) {
    let mut fields = BTreeSet::new();
    for header in json["headers"].as_array().unwrap() {
        let ty = &header["header_type"];
        let ty = json["header_types"]
            .as_array()
            .unwrap()
            .iter()
            .find(|t| t["name"] == *ty)
            .unwrap();
        let own = header["name"].as_str().unwrap();
        for field in ty["fields"].as_array().unwrap() {
            fields.insert(format!("{own}.{}", field[0].as_str().unwrap()));
        }
        fields.insert(format!("{own}.$valid$"));
        let bits: u64 = ty["fields"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|f| f[1].as_u64())
            .sum();
        assert_eq!(bits % 8, 0, "{name}: {own} has whole bytes");
    }
    let objects: BTreeSet<String> = [
        "headers",
        "header_stacks",
        "header_unions",
        "counter_arrays",
        "meter_arrays",
        "register_arrays",
        "calculations",
    ]
    .iter()
    .flat_map(|key| names(json, key))
    .collect();
    walk(json, &mut |item| {
        let value = &item["value"];
        match item["type"].as_str() {
            Some("field") if value.is_array() => {
                let field = format!(
                    "{}.{}",
                    value[0].as_str().unwrap(),
                    value[1].as_str().unwrap()
                );
                assert!(fields.contains(&field), "{name}: {field}");
            }
            Some(
                "header" | "header_stack" | "header_union" | "counter_array" | "meter_array"
                | "register_array" | "calculation",
            ) => {
                assert!(objects.contains(value.as_str().unwrap()), "{name}: {value}");
            }
            _ => {}
        }
    });
    let actions = json["actions"].as_array().unwrap();
    for (id, action) in actions.iter().enumerate() {
        assert_eq!(action["id"], id, "{name}");
        let count = action["primitives"].as_array().unwrap().len();
        for primitive in action["primitives"].as_array().unwrap() {
            if primitive["op"].as_str().unwrap().starts_with("_jump") {
                let target = primitive["parameters"].as_array().unwrap().last().unwrap();
                let target =
                    usize::from_str_radix(&target["value"].as_str().unwrap()[2..], 16).unwrap();
                assert!(target <= count, "{name}: a jump leaves {}", action["name"]);
            }
        }
    }
    let mut table_ids = BTreeSet::new();
    for pipeline in json["pipelines"].as_array().unwrap() {
        let nodes: BTreeSet<String> = names(pipeline, "tables")
            .union(&names(pipeline, "conditionals"))
            .cloned()
            .collect();
        let known = |node: &Value| node.is_null() || nodes.contains(node.as_str().unwrap());
        assert!(known(&pipeline["init_table"]), "{name}");
        for condition in pipeline["conditionals"].as_array().unwrap() {
            assert!(
                known(&condition["true_next"]) && known(&condition["false_next"]),
                "{name}: {condition}"
            );
        }
        for table in pipeline["tables"].as_array().unwrap() {
            assert!(
                table_ids.insert(table["id"].as_u64().unwrap()),
                "{name}: an id is used twice"
            );
            for (outcome, node) in table["next_tables"].as_object().unwrap() {
                assert!(known(node), "{name}: {outcome} of {}", table["name"]);
            }
            let ids = table["action_ids"].as_array().unwrap();
            for (id, action) in ids.iter().zip(table["actions"].as_array().unwrap()) {
                let id = usize::try_from(id.as_u64().unwrap()).unwrap();
                assert_eq!(actions[id]["name"], *action, "{name}");
            }
        }
    }
}

fn walk(json: &Value, visit: &mut impl FnMut(&Value)) {
    match json {
        Value::Object(members) => {
            visit(json);
            members.values().for_each(|member| walk(member, visit));
        }
        Value::Array(items) => items.iter().for_each(|item| walk(item, visit)),
        _ => {}
    }
}
