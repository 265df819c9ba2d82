//! The FHIRPath expressions of R4's search parameters: of all of FHIRPath, the few shapes that occur in them.
//!
//! `A.b.c`, `(A.b as Type)`, `A.b.as(Type)`, `.where(resolve() is Type)`, `.where(name='value')`, several of them with bars
//! between, and the one `A.b.exists() and A.b != false`. They are compiled against HL7's schema: a step that the schema
//! does not have is an error, and an element of several types is told by the name of its member in JSON.
//!
//! Source: <https://hl7.org/fhir/R4/fhirpath.html>.

use serde_json::Value;

use crate::domain::definitions::{Definition, Definitions};
use crate::domain::reference::{Bases, Target};

/// An expression is of no shape that is known here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no expression that is understood")]
pub struct ExpressionError(pub String);

/// An expression, ready to be evaluated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expression(Vec<Path>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Path {
    steps: Vec<Step>,
    /// `exists() and … != false`: the answer is a boolean.
    is_true: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// Members of an object: of an element of several types, those of the types that are meant.
    Members(Vec<String>),
    /// `where(resolve() is Type)`
    Resolves(String),
    /// `where(name='value')`
    Where(String, String),
}

impl Expression {
    /// Compiles an expression for a type of resource.
    pub fn compile(text: &str, all: &Definitions, kind: &str) -> Result<Self, ExpressionError> {
        let refuse = || ExpressionError(text.to_owned());
        let paths = text.split(" | ").map(|path| Path::compile(path.trim(), all, kind).ok_or_else(refuse));
        paths.collect::<Result<_, _>>().map(Self)
    }

    /// What it names in a resource.
    #[must_use]
    pub fn evaluate<'v>(&self, resource: &'v Value) -> Vec<&'v Value> {
        let mut found = Vec::new();
        for path in &self.0 {
            let nodes = path.evaluate(resource);
            match path.is_true {
                true => found.push(truth(nodes.iter().any(|node| **node != Value::Bool(false)))),
                false => found.extend(nodes),
            }
        }
        found
    }
}

/// A boolean that lives on.
const fn truth(is_true: bool) -> &'static Value {
    match is_true {
        true => &Value::Bool(true),
        false => &Value::Bool(false),
    }
}

impl Path {
    fn compile(text: &str, all: &Definitions, kind: &str) -> Option<Self> {
        if let Some((exists, not_false)) = text.split_once(" and ") {
            let element = exists.strip_suffix(".exists()")?;
            (not_false == format!("{element} != false")).then_some(())?;
            return Some(Self { is_true: true, ..Self::compile(element, all, kind)? });
        }
        let mut compiler =
            Compiler { all, places: vec![all.resource(kind)?], names: Vec::new(), steps: Vec::new() };
        let rest = compiler.begin(text, kind)?;
        compiler.steps(rest)?;
        (!compiler.steps.is_empty()).then_some(())?;
        Some(Self { steps: compiler.steps, is_true: false })
    }

    fn evaluate<'v>(&self, resource: &'v Value) -> Vec<&'v Value> {
        self.steps.iter().fold(vec![resource], |nodes, step| step.take(nodes, resource))
    }
}

/// Where a path has come to.
struct Compiler<'d> {
    all: &'d Definitions,
    /// What the values consist of here.
    places: Vec<&'d Definition>,
    /// The places before the last step, and its name.
    names: Vec<(Vec<&'d Definition>, String)>,
    steps: Vec<Step>,
}

impl Compiler<'_> {
    /// Reads the beginning: `Type.` or `(Type.path as Type)`.
    fn begin<'t>(&mut self, text: &'t str, kind: &str) -> Option<&'t str> {
        let Some(inner) = text.strip_prefix('(') else {
            // What every resource has is defined once.
            let rest = text.strip_prefix(kind).or_else(|| text.strip_prefix("Resource"))?;
            return rest.strip_prefix('.');
        };
        let (inner, rest) = inner.split_once(')')?;
        let (path, class) = inner.split_once(" as ")?;
        self.steps(path.strip_prefix(kind)?.strip_prefix('.')?)?;
        self.only(class)?;
        Some(rest.strip_prefix('.').unwrap_or(rest))
    }

    fn steps(&mut self, text: &str) -> Option<()> {
        let (text, class) = match text.split_once(" as ") {
            Some((text, class)) => (text, Some(class)),
            None => (text, None),
        };
        let mut rest = text;
        while !rest.is_empty() {
            rest = self.step(rest)?;
        }
        class.map_or(Some(()), |class| self.only(class))
    }

    /// Reads one step and gives what follows it.
    fn step<'t>(&mut self, text: &'t str) -> Option<&'t str> {
        if let Some(rest) = text.strip_prefix("where(resolve() is ") {
            let (class, rest) = rest.split_once(')')?;
            self.steps.push(Step::Resolves(class.to_owned()));
            return after(rest);
        }
        if let Some(rest) = text.strip_prefix("where(") {
            let (name, rest) = rest.split_once("='")?;
            let (value, rest) = rest.split_once("')")?;
            self.places.iter().any(|place| place.elements.contains_key(name)).then_some(())?;
            self.steps.push(Step::Where(name.to_owned(), value.to_owned()));
            return after(rest);
        }
        if let Some(rest) = text.strip_prefix("as(") {
            let (class, rest) = rest.split_once(')')?;
            self.only(class)?;
            return after(rest);
        }
        let end = text.find('.').unwrap_or(text.len());
        let (name, rest) = text.split_at_checked(end)?;
        name.bytes().all(|byte| byte.is_ascii_alphanumeric()).then_some(())?;
        self.member(name, |_any| true)?;
        after(rest)
    }

    /// Of the last element, only what is of a type.
    fn only(&mut self, class: &str) -> Option<()> {
        let (places, name) = self.names.last()?.clone();
        let (first, rest) = class.split_at_checked(1)?;
        let wanted = format!("{name}{}{rest}", first.to_ascii_uppercase());
        self.steps.pop();
        self.places = places;
        // An element of one type is of that type.
        self.member(&name, |member| member == wanted || member == name)
    }

    fn member(&mut self, name: &str, wanted: impl Fn(&str) -> bool) -> Option<()> {
        let mut members: Vec<String> = Vec::new();
        let mut places = Vec::new();
        for (member, element) in self.places.iter().flat_map(|place| &place.elements) {
            if element.name == name && !member.starts_with('_') && wanted(member) {
                members.push(member.clone());
                places.extend(self.all.of(&element.shape));
            }
        }
        members.sort();
        members.dedup();
        (!members.is_empty()).then_some(())?;
        self.steps.push(Step::Members(members));
        self.names.push((std::mem::replace(&mut self.places, places), name.to_owned()));
        Some(())
    }
}

/// What follows a step, without its dot.
fn after(rest: &str) -> Option<&str> {
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('.').filter(|rest| !rest.is_empty()) }
}

impl Step {
    fn take<'v>(&self, nodes: Vec<&'v Value>, resource: &'v Value) -> Vec<&'v Value> {
        match self {
            Self::Members(names) => {
                let members = nodes.iter().flat_map(|node| names.iter().filter_map(|name| node.get(name)));
                members.flat_map(one_or_many).filter(|node| !node.is_null()).collect()
            }
            Self::Where(name, value) => nodes
                .into_iter()
                .filter(|node| node.get(name).and_then(Value::as_str) == Some(value.as_str()))
                .collect(),
            Self::Resolves(kind) => {
                nodes.into_iter().filter(|node| refers_to(node, kind, resource)).collect()
            }
        }
    }
}

/// The values of a member.
fn one_or_many(value: &Value) -> &[Value] {
    match value {
        Value::Array(items) => items.as_slice(),
        one => std::slice::from_ref(one),
    }
}

/// Whether a reference, as far as it says, names a resource of a type.
fn refers_to(node: &Value, kind: &str, resource: &Value) -> bool {
    let Some(text) = node.get("reference").and_then(Value::as_str) else {
        return node.get("type").and_then(Value::as_str) == Some(kind);
    };
    match Target::parse(text, &Bases::default()) {
        Target::Fragment(id) => {
            let contained = resource.get("contained").and_then(Value::as_array);
            let found = contained.into_iter().flatten().find(|inner| inner["id"] == id.as_str());
            found.is_some_and(|inner| inner["resourceType"] == kind)
        }
        target => target.kind().or_else(|| node.get("type")?.as_str()) == Some(kind),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::definitions::definitions;

    fn found(kind: &str, expression: &str, resource: &Value) -> Vec<Value> {
        let all = definitions().unwrap();
        let compiled = Expression::compile(expression, all, kind).unwrap();
        compiled.evaluate(resource).into_iter().cloned().collect()
    }

    #[test]
    fn every_shape_is_evaluated() {
        let observation = json!({"resourceType": "Observation",
            "subject": {"reference": "Patient/1"}, "valueQuantity": {"value": 1},
            "contained": [{"resourceType": "Practitioner", "id": "p"}],
            "performer": [{"reference": "#p"}, {"reference": "Organization/2"}, {"type": "Practitioner"}],
            "component": [{"code": {"text": "a"}, "valueString": "x"}, {"code": {"text": "b"}}]});
        let of = |expression: &str| found("Observation", expression, &observation);
        assert_eq!(of("Observation.component.code.text"), [json!("a"), json!("b")]);
        assert_eq!(of("(Observation.value as Quantity)"), [json!({"value": 1})]);
        assert_eq!(of("Observation.value.as(Quantity)"), [json!({"value": 1})]);
        assert_eq!(of("Observation.value as Quantity"), [json!({"value": 1})]);
        assert_eq!(of("(Observation.value as CodeableConcept).text"), [] as [Value; 0]);
        assert_eq!(of("Observation.subject.where(resolve() is Patient)").len(), 1);
        assert_eq!(of("Observation.subject.where(resolve() is Device)").len(), 0);
        assert_eq!(of("Observation.performer.where(resolve() is Practitioner)").len(), 2);
        let either = "(Observation.value as Quantity) | (Observation.component.value as string)";
        assert_eq!(of(either), [json!({"value": 1}), json!("x")]);
        let patient =
            json!({"telecom": [{"system": "phone", "value": "1"}, {"system": "email", "value": "2"}]});
        let phone = found("Patient", "Patient.telecom.where(system='phone')", &patient);
        assert_eq!(phone, [json!({"system": "phone", "value": "1"})]);
        let dead = "Patient.deceased.exists() and Patient.deceased != false";
        for (value, is_dead) in [
            (json!({}), false),
            (json!({"deceasedBoolean": false}), false),
            (json!({"deceasedDateTime": "2020"}), true),
        ] {
            assert_eq!(found("Patient", dead, &value), [json!(is_dead)]);
        }
    }

    #[test]
    fn what_is_no_such_shape_is_refused() {
        let all = definitions().unwrap();
        for wrong in [
            "",
            "Patient",
            "Patient.",
            "Patient.nam",
            "Patient.name.",
            "Observation.code",
            "Patient.name.first()",
            "Patient.where(name='x'",
            "(Patient.deceased as Quantity)",
            "Patient.deceased.exists()",
        ] {
            assert!(Expression::compile(wrong, all, "Patient").is_err(), "{wrong}");
        }
    }
}
