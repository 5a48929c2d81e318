//! What the loader takes and what it refuses.

use crate::{LoadError, Pipeline};

#[test]
fn text_that_is_no_json_is_refused_with_its_line() {
    let error = Pipeline::parse("{\n \"actions\": [,]}").unwrap_err();
    assert!(
        matches!(error, LoadError::Syntax { line: 2, .. }),
        "{error}"
    );
}

#[test]
fn an_object_without_headers_is_refused_with_its_place() {
    let error = Pipeline::parse("{\"header_types\": [{\"name\": 3}]}").unwrap_err();
    let LoadError::Invalid { at, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(at, "/header_types/0");
}

#[test]
fn absurd_nesting_is_refused_and_not_followed() {
    let error = Pipeline::parse(&"[".repeat(100_000)).unwrap_err();
    assert!(matches!(error, LoadError::Unsupported { .. }), "{error}");
}
