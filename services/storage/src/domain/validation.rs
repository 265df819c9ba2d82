//! Validation of FHIR R4 resources: FHIR's JSON form, the elements and codes of each type, the rules of the primitive types.
//!
//! What is present is never empty (no empty object, array or string), and `null` stands only in a list of primitives whose
//! place an extension fills. Every fault is told with its place in FHIRPath, in its restricted form: elements and
//! positions in lists.
//!
//! Where the form is right, FHIR's invariants are checked, each of the element on which it holds.
//!
//! Source: <https://hl7.org/fhir/R4/json.html>. Why: decision 0134.

mod local;

use hbc_fhirpath::{Budget, Item};
use serde_json::{Map, Value};

use crate::domain::definitions::{Definition, Definitions, Element, Role, SchemaError, Shape, definitions};
use crate::domain::invariants::Invariant;
use crate::domain::issue::{Issue, Issues};
use crate::domain::narrative;
use crate::domain::place::Place;
use crate::domain::primitive::{EMPTY, Primitive};
use local::Local;

/// What the invariants of a resource may cost: so much in any case, and so much more for each member in it. What HL7's
/// own examples need is far below.
const STEPS: u64 = 200_000;
const STEPS_PER_MEMBER: u64 = 64;

/// Invariants of a batch or transaction that look into its entries' resources, or that are told entry by entry.
const OF_ENTRIES: [&str; 2] = ["bdl-3", "bdl-7"];

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
struct Check<'v> {
    definitions: &'static Definitions,
    /// Whether resources inside are checked too.
    inner: bool,
    issues: Issues,
    /// The resource that is walked through now.
    resource: Option<&'v Map<String, Value>>,
    local: Local<'v>,
    /// Whether invariants can be asked: the form is right as far as it was seen, and the budget suffices.
    sound: bool,
    budget: Budget,
}

impl<'v> Check<'v> {
    fn of(inner: bool, walk: impl FnOnce(&mut Self)) -> Result<Vec<Issue>, SchemaError> {
        let mut check = Self {
            definitions: definitions()?,
            inner,
            issues: Issues::default(),
            resource: None,
            local: Local::default(),
            sound: true,
            budget: Budget::new(STEPS),
        };
        walk(&mut check);
        Ok(check.issues.into_vec())
    }

    fn fault(&mut self, place: &Place<'_>, message: impl Into<String>) {
        self.sound = false;
        self.issues.push(|| Issue::new(place.to_string(), message));
    }

    /// An invariant that plain code checks does not hold.
    fn breaks(&mut self, place: &Place<'_>, key: &str) {
        self.issues.push(|| Issue::new(place.to_string(), self.definitions.invariants.message(key)));
    }

    fn resource(&mut self, value: &'v Value, place: &Place<'_>) {
        let Value::Object(members) = value else { return self.fault(place, OBJECT) };
        let kind = members.get("resourceType").and_then(Value::as_str).unwrap_or_default();
        let Some(definition) = self.definitions.resource(kind) else {
            let message = "is no resource type of FHIR R4";
            return self.fault(&Place::Element(place, "resourceType"), message);
        };
        let around = self.resource.replace(members);
        if place.is_in("contained") {
            self.local.enter();
            self.object(members, definition, place);
            self.local.leave(members);
        } else {
            let around = std::mem::replace(&mut self.local, Local::of(members));
            self.object(members, definition, place);
            if self.sound && !self.local.is_connected() {
                self.breaks(place, "dom-3");
            }
            self.local = around;
        }
        self.resource = around;
    }

    fn object(&mut self, members: &'v Map<String, Value>, definition: &Definition, place: &Place<'_>) {
        if self.issues.is_full() {
            return;
        }
        if members.is_empty() {
            return self.fault(place, EMPTY);
        }
        if definition.role != Role::Resource && members.keys().all(|name| name == "id") {
            return self.breaks(place, "ele-1");
        }
        self.budget.add(STEPS_PER_MEMBER * members.len() as u64);
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
        if self.sound {
            self.invariants(members, definition, place);
        }
    }

    fn invariants(&mut self, members: &'v Map<String, Value>, definition: &Definition, place: &Place<'_>) {
        if definition.role == Role::Reference {
            let reference = members.get("reference").and_then(Value::as_str).unwrap_or_default();
            self.local.see(reference);
            if self.local.is_dangling(reference) {
                self.breaks(place, "ref-1");
            }
        }
        let contains = definition.role == Role::Resource && members.contains_key("contained");
        let containing = contains.then_some(&self.definitions.invariants.containing);
        for invariant in definition.invariants.iter().chain(containing.into_iter().flatten()) {
            if !self.sound {
                return;
            }
            if !self.inner && OF_ENTRIES.contains(&invariant.key.as_str()) {
                continue;
            }
            match &invariant.element {
                None => self.invariant(invariant, &Item::Object(members, None), place),
                Some(element) => {
                    let value = definition.elements.iter().find(|(member, known)| {
                        known.name == *element && !member.starts_with('_') && members.contains_key(*member)
                    });
                    let Some(value) = value.and_then(|(member, _)| members.get(member)) else { continue };
                    let place = Place::Element(place, element);
                    match value {
                        Value::Array(items) => {
                            for (index, item) in items.iter().enumerate() {
                                self.invariant(invariant, &Item::of(item), &Place::Item(&place, index));
                            }
                        }
                        value => self.invariant(invariant, &Item::of(value), &place),
                    }
                }
            }
        }
    }

    fn invariant(&mut self, invariant: &Invariant, context: &Item<'v>, place: &Place<'_>) {
        let resource = self.resource.map_or_else(|| context.clone(), |members| Item::Object(members, None));
        match invariant.expression.holds(context, resource, &self.budget) {
            Ok(true) => {}
            Ok(false) => self.issues.push(|| Issue::new(place.to_string(), invariant.message.clone())),
            // The budget is spent: nothing more is asked.
            Err(_exhausted) => {
                self.fault(place, format!("is too large to be checked: {}", invariant.message));
            }
        }
    }

    /// Required elements, choices, and what an extension has.
    fn presence(&mut self, members: &'v Map<String, Value>, definition: &Definition, place: &Place<'_>) {
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
            if definition.role == Role::Extension && (present > 0) == members.contains_key("extension") {
                self.breaks(place, "ext-1");
            }
        }
        if definition.role == Role::Extension && !members.contains_key("url") {
            self.fault(&Place::Element(place, "url"), "is required");
        }
    }

    fn member(
        &mut self,
        members: &'v Map<String, Value>,
        element: &Element,
        value: &'v Value,
        place: &Place<'_>,
    ) {
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

    fn value(&mut self, element: &Element, value: &'v Value, has_beside: bool, place: &Place<'_>) {
        if value.is_null() {
            let message = "must not be null: leave it out, or give a value or extension in its place";
            return self.fault(place, message);
        }
        match (&element.shape, value) {
            (Shape::Primitive(primitive), _) => {
                if let Err(message) = primitive.check(value) {
                    self.fault(place, message);
                }
                self.text(*primitive, value, place);
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

    /// What more is known of a primitive's text.
    fn text(&mut self, primitive: Primitive, value: &'v Value, place: &Place<'_>) {
        let Value::String(text) = value else { return };
        match primitive {
            Primitive::Canonical | Primitive::Uri | Primitive::Url => self.local.see(text),
            Primitive::Xhtml if self.sound => {
                if let Some(key) = narrative::broken(text) {
                    self.breaks(place, key);
                }
            }
            _ => {}
        }
    }

    /// What stands beside a value: an id alone is enough.
    fn beside(&mut self, members: &'v Map<String, Value>, place: &Place<'_>) {
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
mod invariants_tests;
#[cfg(test)]
mod tests;
