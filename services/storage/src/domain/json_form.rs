//! Where FHIR's JSON form allows `null`: only inside an array of primitives, beside an extension of the same place.
//!
//! `"given": [null, "Ana"]` with `"_given": [{"extension": …}, null]` is FHIR; every other `null` says nothing and breaks
//! whoever expects a value. The JSON schema knows neither.
//!
//! Source: <https://hl7.org/fhir/R4/json.html#null>.

use serde_json::{Map, Value};

use crate::domain::issue::{Issue, Issues};

/// Gathers the places at or below `path` where `null` stands and may not.
pub fn check(value: &Value, path: &str, issues: &mut Issues) {
    match value {
        Value::Null => issues.push(|| misplaced(path)),
        Value::Object(members) => {
            for (name, member) in members {
                let path = format!("{path}.{name}");
                match member {
                    Value::Array(items) => check_items(items, counterpart(members, name), &path, issues),
                    other => check(other, &path, issues),
                }
            }
        }
        Value::Array(items) => check_items(items, None, path, issues),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The array that stands beside the array `name`: `_given` beside `given`, and the other way round.
fn counterpart<'v>(members: &'v Map<String, Value>, name: &str) -> Option<&'v Vec<Value>> {
    let beside = match name.strip_prefix('_') {
        Some(plain) => members.get(plain),
        None => members.get(&format!("_{name}")),
    };
    beside.and_then(Value::as_array)
}

fn check_items(items: &[Value], beside: Option<&Vec<Value>>, path: &str, issues: &mut Issues) {
    for (index, item) in items.iter().enumerate() {
        let filled = || beside.and_then(|beside| beside.get(index)).is_some_and(|other| !other.is_null());
        if !(item.is_null() && filled()) {
            check(item, &format!("{path}[{index}]"), issues);
        }
    }
}

fn misplaced(path: &str) -> Issue {
    let message = "must not be null: leave it out, or give a value or extension in its place";
    Issue { expression: path.to_owned(), message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn places(value: &Value) -> Vec<String> {
        let mut issues = Issues::default();
        check(value, "X", &mut issues);
        let mut places: Vec<String> = issues.into_vec().into_iter().map(|issue| issue.expression).collect();
        places.sort();
        places
    }

    #[test]
    fn null_stands_only_beside_what_fills_its_place() {
        assert_eq!(
            places(&json!({"meta": null, "a": [null], "b": {"c": [1, {"d": null}]}})),
            ["X.a[0]", "X.b.c[1].d", "X.meta"]
        );
        assert!(places(&json!({"given": [null, "A"], "_given": [{"id": "1"}, null]})).is_empty());
        assert_eq!(
            places(&json!({"given": [null, "A"], "_given": [null, {"id": "1"}]})),
            ["X._given[0]", "X.given[0]"]
        );
        assert_eq!(places(&json!({"given": null, "_given": null})), ["X._given", "X.given"]);
        assert_eq!(places(&json!({"_given": [null, {"id": "1"}]})), ["X._given[0]"]);
    }
}
