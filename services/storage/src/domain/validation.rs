//! Validation of FHIR R4 resources: FHIR's JSON form, the elements and codes of each type, the rules of the primitive types.
//!
//! What is present is never empty (no empty object, array or string), and `null` stands only in a list of primitives whose
//! place an extension fills. Every fault is told with its place in FHIRPath, in its restricted form: elements and
//! positions in lists.
//!
//! Source: <https://hl7.org/fhir/R4/json.html>. Why: decision 0134.

use serde_json::{Map, Value};

use crate::domain::definitions::{Definition, Definitions, Element, Role, SchemaError, Shape, definitions};
use crate::domain::issue::{Issue, Issues};
use crate::domain::place::Place;
use crate::domain::primitive::EMPTY;

/// The faults of `resource`, which stands at `place`; none if it is valid.
pub fn check(resource: &Value, place: &str) -> Result<Vec<Issue>, SchemaError> {
    Check::of(true, |check| check.resource(resource, &Place::Root(place)))
}

/// The faults of a bundle around its entries' resources, which are looked at one by one: each stands in `bundle` as an
/// empty object.
pub fn check_envelope(bundle: &Value) -> Result<Vec<Issue>, SchemaError> {
    Check::of(false, |check| check.resource(bundle, &Place::Root("Bundle")))
}

/// A walk through one resource.
struct Check {
    definitions: &'static Definitions,
    /// Whether resources inside are checked too.
    inner: bool,
    issues: Issues,
}

impl Check {
    fn of(inner: bool, walk: impl FnOnce(&mut Self)) -> Result<Vec<Issue>, SchemaError> {
        let mut check = Self { definitions: definitions()?, inner, issues: Issues::default() };
        walk(&mut check);
        Ok(check.issues.into_vec())
    }

    fn fault(&mut self, place: &Place<'_>, message: impl Into<String>) {
        self.issues.push(|| Issue::new(place.to_string(), message));
    }

    fn resource(&mut self, value: &Value, place: &Place<'_>) {
        let Value::Object(members) = value else { return self.fault(place, OBJECT) };
        let kind = members.get("resourceType").and_then(Value::as_str).unwrap_or_default();
        match self.definitions.resource(kind) {
            Some(definition) => self.object(members, definition, place),
            None => {
                let message = "is no resource type of FHIR R4";
                self.fault(&Place::Element(place, "resourceType"), message);
            }
        }
    }

    fn object(&mut self, members: &Map<String, Value>, definition: &Definition, place: &Place<'_>) {
        if self.issues.is_full() {
            return;
        }
        if members.is_empty() {
            return self.fault(place, EMPTY);
        }
        // ele-1: "All FHIR elements must have a @value or children".
        if definition.role != Role::Resource && members.keys().all(|name| name == "id") {
            return self.fault(place, "must have more than an id");
        }
        self.presence(members, definition, place);
        for (name, member) in members {
            match definition.elements.get(name) {
                Some(element) => self.member(members, element, member, &Place::Element(place, &element.name)),
                None if is_name(name) => {
                    self.fault(&Place::Element(place, name), "is no element of this type");
                }
                None => self.fault(place, format!("has a member that is no element of this type: `{name}`")),
            }
        }
    }

    /// Required elements, choices, and what an extension has.
    fn presence(&mut self, members: &Map<String, Value>, definition: &Definition, place: &Place<'_>) {
        for required in definition.required.iter().filter(|required| !required.is_in(members)) {
            self.fault(&Place::Element(place, &required.name), "is required");
        }
        for choice in &definition.choices {
            let present = choice.members.iter().filter(|member| member.is_in(members)).count();
            let at = Place::Element(place, &choice.name);
            if present > 1 {
                self.fault(&at, "only one of the choices may be given");
            } else if present == 0 && choice.required {
                self.fault(&at, "one of the choices is required");
            }
            // ext-1: "Must have either extensions or value[x], not both".
            if definition.role == Role::Extension && (present > 0) == members.contains_key("extension") {
                self.fault(place, "must have either a value or extensions");
            }
        }
        if definition.role == Role::Extension && !members.contains_key("url") {
            self.fault(&Place::Element(place, "url"), "is required");
        }
    }

    fn member(&mut self, members: &Map<String, Value>, element: &Element, value: &Value, place: &Place<'_>) {
        let beside = element.beside.as_deref().and_then(|beside| members.get(beside));
        match (element.many, value) {
            (true, Value::Array(items)) if items.is_empty() => self.fault(place, EMPTY),
            (true, Value::Array(items)) => {
                let beside = beside.and_then(Value::as_array);
                for (index, item) in items.iter().enumerate() {
                    let beside = beside.and_then(|beside| beside.get(index)).filter(|other| !other.is_null());
                    // What fills the place of a `null` is a value, or an extension.
                    if !(item.is_null() && beside.is_some()) {
                        self.value(element, item, beside.is_some(), &Place::Item(place, index));
                    }
                }
            }
            (true, Value::Null) | (false, _) => self.value(element, value, beside.is_some(), place),
            (true, _) => self.fault(place, "must be a JSON array"),
        }
    }

    fn value(&mut self, element: &Element, value: &Value, has_beside: bool, place: &Place<'_>) {
        if value.is_null() {
            let message = "must not be null: leave it out, or give a value or extension in its place";
            return self.fault(place, message);
        }
        match (&element.shape, value) {
            (Shape::Primitive(primitive), _) => {
                if let Err(message) = primitive.check(value) {
                    self.fault(place, message);
                }
            }
            (Shape::Codes(codes), Value::String(code)) if codes.contains(code) => {}
            (Shape::Codes(codes), Value::String(_)) => {
                let codes: Vec<String> = codes.iter().map(|code| format!("`{code}`")).collect();
                self.fault(place, format!("is none of the codes {}", codes.join(", ")));
            }
            (Shape::Codes(_), _) => self.fault(place, "must be a JSON string"),
            (Shape::Type, _) => {}
            (Shape::Resource, Value::Object(_)) if !self.inner => {}
            (Shape::Resource, _) => self.resource(value, place),
            (Shape::Beside, Value::Object(members)) if has_beside && !members.is_empty() => {
                self.beside(members, place);
            }
            (Shape::Beside | Shape::Complex(_), Value::Object(members)) => {
                if let Some(definition) = self.definitions.of(&element.shape) {
                    self.object(members, definition, place);
                }
            }
            (Shape::Beside | Shape::Complex(_), _) => self.fault(place, OBJECT),
        }
    }

    /// What stands beside a value: an id alone is enough.
    fn beside(&mut self, members: &Map<String, Value>, place: &Place<'_>) {
        let Some(definition) = self.definitions.of(&Shape::Beside) else { return };
        for (name, member) in members {
            match definition.elements.get(name) {
                Some(element) => self.member(members, element, member, &Place::Element(place, &element.name)),
                None => self.fault(place, "has a member beside `id` and `extension`"),
            }
        }
    }
}

const OBJECT: &str = "must be a JSON object";

/// Whether a text can stand in FHIRPath as a name.
fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    first && text.len() <= 64 && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests;
