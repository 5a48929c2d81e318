//! How commands print JSON values for people: nested objects as lines, lists of objects as tables.

use serde_json::{Map, Value};

/// A value on one line, without quotes around text.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(" "),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| format!("{name}={}", plain(value)))
            .collect::<Vec<_>>()
            .join(" "),
        other => other.to_string(),
    }
}

/// A list of objects as a table; the columns are the fields of the first.
pub fn table(rows: &[Value]) -> String {
    let Some(first) = rows.first().and_then(Value::as_object) else {
        return String::new();
    };
    let names: Vec<&str> = first.keys().map(String::as_str).collect();
    let mut lines: Vec<Vec<String>> = vec![
        names
            .iter()
            .map(|name| name.to_uppercase().replace('_', " "))
            .collect(),
    ];
    for row in rows {
        lines.push(
            names
                .iter()
                .map(|name| row.get(name).map_or_else(|| "-".to_owned(), plain))
                .collect(),
        );
    }
    let widths: Vec<usize> = (0..names.len())
        .map(|column| {
            lines
                .iter()
                .filter_map(|line| line.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut out = String::new();
    for line in &lines {
        let cells: Vec<String> = line
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        out.push_str(cells.join("  ").trim_end());
        out.push('\n');
    }
    out
}

/// An object as lines of `path.to.field  value`; lists of objects within as tables below.
pub fn lines(value: &Value) -> String {
    let mut fields = Vec::new();
    let mut tables = Vec::new();
    if let Value::Object(map) = value {
        collect("", map, &mut fields, &mut tables);
    }
    let width = fields
        .iter()
        .map(|(name, _): &(String, String)| name.chars().count())
        .max()
        .unwrap_or(0);
    let mut out: String = fields
        .iter()
        .map(|(name, value)| format!("{name:width$}  {value}\n"))
        .collect();
    for (name, rows) in tables {
        out.push_str(&format!("\n{name}\n{}", table(&rows)));
    }
    out
}

fn collect(
    path: &str,
    map: &Map<String, Value>,
    fields: &mut Vec<(String, String)>,
    tables: &mut Vec<(String, Vec<Value>)>,
) {
    for (name, value) in map {
        let name = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        match value {
            Value::Object(inner) => collect(&name, inner, fields, tables),
            Value::Array(rows) if rows.first().is_some_and(Value::is_object) => {
                tables.push((name, rows.clone()))
            }
            other => fields.push((name, plain(other))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn objects_become_lines_and_lists_of_objects_tables() {
        let value = json!({"policy": "web", "agent": {"held": {"now": 1}}, "ports": [{"number": 1, "name": "clients"}, {"number": 20, "name": "a"}]});
        assert_eq!(
            lines(&value),
            "policy          web\nagent.held.now  1\n\nports\nNUMBER  NAME\n1       clients\n20      a\n"
        );
    }
}
