//! What FHIR's types consist of, read once from HL7's JSON schema, and the required elements and choices that it cannot
//! express.
//!
//! The schema says which elements a type has, which are lists, which codes an element takes. What it says of primitives
//! is not used: see [`Primitive`].

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::Read;
use std::sync::{Arc, OnceLock};

use hbc_fhirpath::Choices;
use serde_json::{Map, Value};

use crate::domain::invariants::{Invariant, Invariants};
use crate::domain::primitive::Primitive;

const SCHEMA: &[u8] = include_bytes!("../../data/fhir.schema.json.bz2");
const RULES: &str = include_str!("../../data/required-and-choice-rules.json");

/// The schema could not be used: a fault of the program, not of the resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the FHIR schema cannot be used")]
pub struct SchemaError;

/// All types of FHIR R4.
pub struct Definitions {
    all: Vec<Definition>,
    resources: HashMap<String, usize>,
    element: usize,
    /// Their invariants.
    pub invariants: Invariants,
}

impl std::fmt::Debug for Definitions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Definitions")
    }
}

/// A type, or an element with elements of its own.
#[derive(Debug, Default)]
pub struct Definition {
    /// Its elements by the names of their JSON members.
    pub elements: HashMap<String, Element>,
    /// What must be there.
    pub required: Vec<Member>,
    /// Elements of several types.
    pub choices: Vec<Choice>,
    /// What else must hold of it.
    pub role: Role,
    /// Its invariants.
    pub invariants: Vec<Arc<Invariant>>,
}

/// What else must hold of a definition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// It is a resource: it may have an id alone.
    Resource,
    /// It has a url, and either a value or extensions.
    Extension,
    /// It refers to a resource.
    Reference,
    /// Nothing else.
    #[default]
    Other,
}

/// An element, as it may stand in JSON: with its value, or as what stands beside that of a primitive one.
#[derive(Debug)]
pub struct Member {
    /// `gender`
    pub name: String,
    /// `_gender`
    pub beside: String,
}

/// An element of several types, of which one may be given.
#[derive(Debug)]
pub struct Choice {
    /// `value`
    pub name: String,
    /// `valueString` and the like.
    pub members: Vec<Member>,
    /// Whether one must be given.
    pub required: bool,
}

/// A member of an object in FHIR's JSON.
#[derive(Debug)]
pub struct Element {
    /// The element's name in FHIRPath: `value` of `valueQuantity`, `gender` of `_gender`.
    pub name: String,
    /// The member beside it, if it is primitive: `_gender` of `gender` and the other way round.
    pub beside: Option<String>,
    /// Whether it is a list.
    pub many: bool,
    /// What its values are.
    pub shape: Shape,
}

/// What the values of a member are.
#[derive(Debug)]
pub enum Shape {
    /// Primitive values.
    Primitive(Primitive),
    /// One of these codes.
    Codes(Vec<String>),
    /// Ids and extensions of primitive values.
    Beside,
    /// Objects, by the index of their definition.
    Complex(usize),
    /// Any resource.
    Resource,
    /// The name of the type itself.
    Type,
}

#[derive(Clone, Default, serde::Deserialize)]
struct Rule {
    req: Vec<String>,
    choice: Vec<(String, Vec<String>, u8)>,
}

/// The process's definitions, made at first use (some 100 ms).
pub fn definitions() -> Result<&'static Definitions, SchemaError> {
    static SHARED: OnceLock<Result<Definitions, SchemaError>> = OnceLock::new();
    SHARED.get_or_init(Definitions::unpack).as_ref().map_err(|error| *error)
}

impl Definitions {
    fn unpack() -> Result<Self, SchemaError> {
        let mut text = Vec::new();
        bzip2_rs::DecoderReader::new(SCHEMA).read_to_end(&mut text).map_err(|_packed| SchemaError)?;
        let mut schema: Value = serde_json::from_slice(&text).map_err(|_json| SchemaError)?;
        drop(text);
        let Some(Value::Object(definitions)) = schema.get_mut("definitions").map(Value::take) else {
            return Err(SchemaError);
        };
        let rules: HashMap<String, Rule> = serde_json::from_str(RULES).map_err(|_json| SchemaError)?;
        let paths = paths(&definitions);
        let complex =
            |name: &str| definitions.get(name).is_some_and(|found| found.get("properties").is_some());
        let indices: HashMap<&str, usize> = definitions
            .keys()
            .filter(|name| complex(name))
            .enumerate()
            .map(|(index, name)| (name.as_str(), index))
            .collect();
        let invariants = invariants(&rules, &paths)?;
        let mut all = Vec::with_capacity(indices.len());
        for (name, definition) in definitions.iter().filter(|(name, _)| complex(name)) {
            let path = paths.get(name.as_str()).map(String::as_str).unwrap_or_default();
            let rule = rules.get(path).cloned().unwrap_or_default();
            let mut known = Definition::of(name, definition, rule, &indices)?;
            known.invariants = invariants.of(path);
            all.push(known);
        }
        let resource = |(_, index): &(&&str, &usize)| {
            all.get(**index).is_some_and(|definition| definition.role == Role::Resource)
        };
        let resources = indices.iter().filter(resource).map(|(name, index)| ((*name).to_owned(), *index));
        let (resources, element) = (resources.collect(), *indices.get("Element").ok_or(SchemaError)?);
        Ok(Self { resources, element, all, invariants })
    }

    /// A type of resource.
    #[must_use]
    pub fn resource(&self, kind: &str) -> Option<&Definition> {
        self.all.get(*self.resources.get(kind)?)
    }

    /// What the values of a member consist of, if it is no resource and not primitive.
    #[must_use]
    pub fn of(&self, shape: &Shape) -> Option<&Definition> {
        match shape {
            Shape::Complex(index) => self.all.get(*index),
            Shape::Beside => self.all.get(self.element),
            Shape::Primitive(_) | Shape::Codes(_) | Shape::Resource | Shape::Type => None,
        }
    }
}

impl Definition {
    fn of(
        name: &str,
        definition: &Value,
        rule: Rule,
        indices: &HashMap<&str, usize>,
    ) -> Result<Self, SchemaError> {
        let mut known = Self::default();
        let mut chosen: HashMap<String, String> = HashMap::new();
        for (name, types, least) in rule.choice {
            let members: Vec<Member> =
                types.iter().map(|kind| Member::of(&format!("{name}{kind}"))).collect();
            chosen.extend(members.iter().map(|member| (member.name.clone(), name.clone())));
            known.choices.push(Choice { name, members, required: least > 0 });
        }
        let schema = definition.get("required").and_then(Value::as_array);
        let required =
            schema.into_iter().flatten().filter_map(Value::as_str).filter(|name| *name != "resourceType");
        let required: HashSet<&str> = required.chain(rule.req.iter().map(String::as_str)).collect();
        known.required = required.into_iter().map(Member::of).collect();
        known.required.sort_by(|one, other| one.name.cmp(&other.name));
        let properties = definition.get("properties").and_then(Value::as_object).ok_or(SchemaError)?;
        for (member, element) in properties {
            let (plain, is_beside) = match member.strip_prefix('_') {
                Some(plain) => (plain, true),
                None => (member.as_str(), false),
            };
            let shape = match is_beside {
                true => Shape::Beside,
                false => Shape::of(member, element.get("items").unwrap_or(element), indices)?,
            };
            let primitive = matches!(shape, Shape::Primitive(_) | Shape::Codes(_));
            let beside = match (is_beside, primitive) {
                (true, _) => Some(plain.to_owned()),
                (false, true) => Some(format!("_{plain}")),
                (false, false) => None,
            };
            let name = chosen.get(plain).map_or(plain, String::as_str).to_owned();
            let many = element.get("items").is_some();
            known.elements.insert(member.clone(), Element { name, beside, many, shape });
        }
        // The schema forgets what may stand beside a canonical.
        let plain = known.elements.iter().filter(|(member, element)| {
            let is_id = member.as_str() == "id" || (name == "Extension" && member.as_str() == "url");
            matches!(element.shape, Shape::Primitive(_) | Shape::Codes(_)) && !is_id
        });
        let missing: Vec<(String, String, bool)> = plain
            .filter(|(member, _)| !known.elements.contains_key(&format!("_{member}")))
            .map(|(member, element)| (member.clone(), element.name.clone(), element.many))
            .collect();
        for (member, name, many) in missing {
            let beside = Element { name, beside: Some(member.clone()), many, shape: Shape::Beside };
            known.elements.insert(format!("_{member}"), beside);
        }
        known.role = match name {
            "Extension" => Role::Extension,
            "Reference" => Role::Reference,
            _ if properties.contains_key("resourceType") => Role::Resource,
            _ => Role::Other,
        };
        Ok(known)
    }
}

impl Member {
    fn of(name: &str) -> Self {
        Self { name: name.to_owned(), beside: format!("_{name}") }
    }

    /// Whether an object has it.
    #[must_use]
    pub fn is_in(&self, members: &Map<String, Value>) -> bool {
        members.contains_key(&self.name) || members.contains_key(&self.beside)
    }
}

impl Shape {
    fn of(member: &str, schema: &Value, indices: &HashMap<&str, usize>) -> Result<Self, SchemaError> {
        if schema.get("const").is_some() {
            return Ok(Self::Type);
        }
        if let Some(codes) = schema.get("enum").and_then(Value::as_array) {
            let codes = codes.iter().filter_map(Value::as_str).map(str::to_owned);
            return Ok(Self::Codes(codes.collect()));
        }
        // An element of several types says its primitive ones by the pattern alone.
        let Some(reference) = schema.get("$ref").and_then(Value::as_str) else {
            return Primitive::of_choice(member).map(Self::Primitive).ok_or(SchemaError);
        };
        let name = reference.strip_prefix("#/definitions/").ok_or(SchemaError)?;
        if name == "ResourceList" {
            return Ok(Self::Resource);
        }
        let primitive = || Primitive::parse(name).map(Self::Primitive);
        indices.get(name).map(|index| Self::Complex(*index)).or_else(primitive).ok_or(SchemaError)
    }
}

/// The invariants, whose expressions are read with what is known of choices.
fn invariants(
    rules: &HashMap<String, Rule>,
    paths: &HashMap<&str, String>,
) -> Result<Invariants, SchemaError> {
    let choices = rules.values().flat_map(|rule| &rule.choice);
    let pairs = choices.flat_map(|(name, kinds, _)| kinds.iter().map(|kind| (name.as_str(), kind.as_str())));
    let known: HashSet<&str> = paths.values().map(String::as_str).collect();
    Invariants::read(&Choices::of(pairs), |path| known.contains(path)).ok_or(SchemaError)
}

/// The path under which the rules name each definition: `Observation.component` is `Observation_Component`. Breadth first,
/// so that an element that is used again deeper has the path of where it is defined.
fn paths(definitions: &Map<String, Value>) -> HashMap<&str, String> {
    let mut paths: HashMap<&str, String> = HashMap::new();
    let mut queue: VecDeque<&str> = VecDeque::new();
    for name in definitions.keys().filter(|name| !name.contains('_')) {
        paths.insert(name, name.clone());
        queue.push_back(name);
    }
    while let Some(name) = queue.pop_front() {
        let path = paths.get(name).cloned().unwrap_or_default();
        let properties = definitions.get(name).and_then(|found| found.get("properties"));
        for (element, schema) in properties.and_then(Value::as_object).into_iter().flatten() {
            let reference = schema.get("items").unwrap_or(schema).get("$ref").and_then(Value::as_str);
            let target = reference.and_then(|reference| reference.strip_prefix("#/definitions/"));
            let Some(target) = target.filter(|target| target.contains('_')) else { continue };
            if !paths.contains_key(target) {
                paths.insert(target, format!("{path}.{element}"));
                queue.push_back(target);
            }
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_named_as_fhirpath_names_them() {
        let all = definitions().unwrap();
        let of = |kind: &str, member: &str| &all.resource(kind).unwrap().elements[member];
        assert_eq!(of("Observation", "valueQuantity").name, "value");
        assert_eq!(of("Observation", "_valueString").name, "value");
        assert_eq!(of("Observation", "valueString").beside.as_deref(), Some("_valueString"));
        assert_eq!(of("Patient", "_gender").name, "gender");
        assert!(of("Questionnaire", "_derivedFrom").many, "which the schema forgets");
        assert!(of("Patient", "name").many);
        let component = all.of(&of("Observation", "component").shape).unwrap();
        assert_eq!(component.elements["valueTime"].name, "value");
        assert!(component.required.iter().any(|member| member.name == "code"));
        let item = all.of(&of("Questionnaire", "item").shape).unwrap();
        assert_eq!(
            item.required.iter().map(|member| member.name.as_str()).collect::<Vec<_>>(),
            ["linkId", "type"]
        );
        assert!(all.resource("HumanName").is_none() && all.resource("Dog").is_none());
    }
}
