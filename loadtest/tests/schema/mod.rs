//! Holds reports to `report.schema.json`, by the part of JSON Schema that it uses.

use serde_json::Value;

const SCHEMA: &str = include_str!("../../report.schema.json");

/// Keywords that are checked, and those that only describe.
const KEYWORDS: [&str; 14] = [
    "$ref",
    "$defs",
    "$schema",
    "title",
    "description",
    "type",
    "enum",
    "minimum",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "anyOf",
    "const",
];

/// Fails with the first place at which a report differs.
pub fn assert_holds(report: &Value) {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let shape = usize::from(report.is_array());
    // The error of the shape that the report has says more than that of both.
    if let Err(error) = check(report, &schema["anyOf"][shape], &schema, "") {
        panic!("{error} in {report:#}");
    }
}

fn check(value: &Value, schema: &Value, root: &Value, at: &str) -> Result<(), String> {
    if let Some(allowed) = schema.as_bool() {
        return if allowed {
            Ok(())
        } else {
            Err(format!("{at} is not described"))
        };
    }
    let rules = schema.as_object().ok_or("a schema is an object")?;
    let unknown = rules.keys().find(|key| !KEYWORDS.contains(&key.as_str()));
    assert_eq!(unknown, None, "a keyword that this test does not check");
    if let Some(reference) = rules.get("$ref") {
        let pointer = reference.as_str().and_then(|text| text.strip_prefix('#'));
        let target = pointer.and_then(|pointer| root.pointer(pointer));
        check(value, target.ok_or("a dead $ref")?, root, at)?;
    }
    if let Some(kinds) = rules.get("type") {
        let one = std::slice::from_ref(kinds);
        let kinds = kinds.as_array().map_or(one, Vec::as_slice);
        if !kinds
            .iter()
            .any(|kind| is(value, kind.as_str().unwrap_or_default()))
        {
            return Err(format!("{at} is {value}, not {kinds:?}"));
        }
    }
    if let Some(values) = rules.get("enum").and_then(Value::as_array)
        && !values.contains(value)
    {
        return Err(format!("{at} is {value}, not one of {values:?}"));
    }
    if let Some(least) = rules.get("minimum").and_then(Value::as_f64)
        && value.as_f64().is_some_and(|number| number < least)
    {
        return Err(format!("{at} is {value}, below {least}"));
    }
    if let Some(choices) = rules.get("anyOf").and_then(Value::as_array) {
        let errors = choices
            .iter()
            .map(|choice| check(value, choice, root, at).err());
        let errors: Option<Vec<String>> = errors.collect();
        if let Some(errors) = errors {
            return Err(errors.join("; "));
        }
    }
    if let (Some(items), Some(values)) = (rules.get("items"), value.as_array()) {
        for (place, value) in values.iter().enumerate() {
            check(value, items, root, &format!("{at}/{place}"))?;
        }
    }
    let Some(members) = value.as_object() else {
        return Ok(());
    };
    for name in rules
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        if !members.contains_key(name.as_str().unwrap_or_default()) {
            return Err(format!("{at} lacks {name}"));
        }
    }
    for (name, value) in members {
        let own = rules
            .get("properties")
            .and_then(|properties| properties.get(name));
        if let Some(schema) = own.or(rules.get("additionalProperties")) {
            check(value, schema, root, &format!("{at}/{name}"))?;
        }
    }
    Ok(())
}

fn is(value: &Value, kind: &str) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => panic!("{kind} is no type"),
    }
}
