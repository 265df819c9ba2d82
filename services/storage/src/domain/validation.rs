//! Validation of FHIR R4 resources: HL7's JSON schema, and the required elements and choices that it cannot express.
//!
//! The schema is 3.4 MB for 146 resource types. It is cut into one small schema per type (the definitions that
//! the type reaches), compiled when the type is first met. Contained resources are validated by their own type
//! instead of the schema's `oneOf` over all 146.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::io::Read;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use jsonschema::Validator;
use jsonschema::error::ValidationErrorKind;
use serde_json::{Map, Value, json};

use crate::domain::issue::{Issue, Issues, MAX_ISSUES};
use crate::domain::json_form;

const SCHEMA: &[u8] = include_bytes!("../../data/fhir.schema.json.bz2");
const RULES: &str = include_str!("../../data/required-and-choice-rules.json");

/// The schema could not be used: a fault of the program, not of the resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the FHIR schema cannot be used")]
pub struct SchemaError;

/// Validates resources. Cheap to share; compiles a type once.
pub struct Validators {
    definitions: Map<String, Value>,
    rules: HashMap<String, Rule>,
    types: Mutex<HashMap<String, Arc<TypeValidator>>>,
}

impl std::fmt::Debug for Validators {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Validators")
    }
}

#[derive(Clone, Default, serde::Deserialize)]
struct Rule {
    req: Vec<String>,
    choice: Vec<(String, Vec<String>, u8)>,
}

struct TypeValidator {
    schema: Validator,
    /// Definition name → its rule and the definitions of its complex elements.
    shapes: HashMap<String, Shape>,
}

#[derive(Default)]
struct Shape {
    rule: Option<Rule>,
    elements: BTreeMap<String, Element>,
}

/// A complex element: the schema does not say that its values are objects.
struct Element {
    definition: String,
    /// Whether it is a list.
    many: bool,
}

/// The process's validators, unpacked at first use (about 50 ms).
pub fn validators() -> Result<&'static Validators, SchemaError> {
    static SHARED: OnceLock<Result<Validators, SchemaError>> = OnceLock::new();
    SHARED.get_or_init(Validators::unpack).as_ref().map_err(|error| *error)
}

/// The types of which most records are: compiled before the first upload comes.
const COMMON: [&str; 21] = [
    "Observation",
    "Patient",
    "Encounter",
    "Condition",
    "DiagnosticReport",
    "DocumentReference",
    "Claim",
    "ExplanationOfBenefit",
    "Procedure",
    "MedicationRequest",
    "Immunization",
    "Provenance",
    "CarePlan",
    "CareTeam",
    "AllergyIntolerance",
    "ImagingStudy",
    "Organization",
    "Practitioner",
    "PractitionerRole",
    "Location",
    "Bundle",
];

/// Compiles the schemas of the usual types, so that the first upload need not wait for them.
pub fn warm_up() -> Result<(), SchemaError> {
    let validators = validators()?;
    COMMON.iter().try_for_each(|name| validators.of_type(name).map(|_compiled| ()))
}

impl Validators {
    fn unpack() -> Result<Self, SchemaError> {
        let mut text = Vec::new();
        bzip2_rs::DecoderReader::new(SCHEMA).read_to_end(&mut text).map_err(|_packed| SchemaError)?;
        let mut schema: Value = serde_json::from_slice(&text).map_err(|_json| SchemaError)?;
        drop(text);
        let Some(Value::Object(mut definitions)) = schema.get_mut("definitions").map(Value::take) else {
            return Err(SchemaError);
        };
        definitions.values_mut().for_each(strip_descriptions);
        definitions.insert("ResourceList".to_owned(), json!({}));
        let rules = serde_json::from_str(RULES).map_err(|_json| SchemaError)?;
        Ok(Self { definitions, rules, types: Mutex::new(HashMap::new()) })
    }

    /// The faults of `resource`; none if it is valid.
    pub fn check(&self, resource: &Value) -> Result<Vec<Issue>, SchemaError> {
        let mut issues = Issues::default();
        self.check_at(resource, None, &mut issues)?;
        check_form(resource, &mut issues);
        Ok(issues.into_vec())
    }

    /// The faults of a bundle around its entries' resources, which are looked at one by one: each stands in `bundle` as
    /// an empty object.
    pub fn check_envelope(&self, bundle: &Value) -> Result<Vec<Issue>, SchemaError> {
        let mut issues = Issues::default();
        self.check_own(bundle, "Bundle", "Bundle", &mut issues)?;
        check_form(bundle, &mut issues);
        Ok(issues.into_vec())
    }

    fn check_at(&self, resource: &Value, at: Option<&str>, issues: &mut Issues) -> Result<(), SchemaError> {
        let fhir_type = resource.get("resourceType").and_then(Value::as_str).unwrap_or_default();
        if hbc_types::classify::type_category(fhir_type).is_none() {
            let expression = format!("{}resourceType", at.map(|at| format!("{at}.")).unwrap_or_default());
            issues.push(|| Issue { expression, message: "is no resource type of FHIR R4".to_owned() });
            return Ok(());
        }
        for (path, inner) in self.check_own(resource, fhir_type, at.unwrap_or(fhir_type), issues)? {
            self.check_at(inner, Some(&path), issues)?;
        }
        Ok(())
    }

    /// Checks a resource but for the resources inside it, which it answers with their places.
    fn check_own<'v>(
        &self,
        resource: &'v Value,
        fhir_type: &str,
        path: &str,
        issues: &mut Issues,
    ) -> Result<Vec<(String, &'v Value)>, SchemaError> {
        let validator = self.of_type(fhir_type)?;
        if !validator.schema.is_valid(resource) {
            // Where `null` may stand is not the schema's to say.
            let errors = validator.schema.iter_errors(resource).filter(|error| !error.instance().is_null());
            for error in errors.take(MAX_ISSUES) {
                issues.push(|| issue(path, error.instance_path().as_str(), error.kind()));
            }
        }
        let mut contained = Vec::new();
        validator.walk(resource, fhir_type, path, issues, &mut contained);
        Ok(contained)
    }

    fn of_type(&self, fhir_type: &str) -> Result<Arc<TypeValidator>, SchemaError> {
        let known = |types: &HashMap<String, Arc<TypeValidator>>| types.get(fhir_type).cloned();
        if let Some(validator) = known(&self.types.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(validator);
        }
        // Compiled outside the lock: two threads may do it twice, none waits.
        let validator = Arc::new(self.compile(fhir_type)?);
        self.types
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(fhir_type.to_owned(), Arc::clone(&validator));
        Ok(validator)
    }

    fn compile(&self, fhir_type: &str) -> Result<TypeValidator, SchemaError> {
        let mut definitions = Map::new();
        let mut shapes: HashMap<String, Shape> = HashMap::new();
        let mut seen = HashSet::from([fhir_type.to_owned()]);
        // Breadth first, so that an element that is used again deeper takes the rules of where it is defined.
        let mut queue = VecDeque::from([(fhir_type.to_owned(), fhir_type.to_owned())]);
        while let Some((name, path)) = queue.pop_front() {
            let definition = self.definitions.get(&name).ok_or(SchemaError)?;
            let mut shape = Shape { rule: self.rules.get(&path).cloned(), elements: BTreeMap::new() };
            for (element, target, many) in references(definition) {
                let complex = target == "ResourceList"
                    || self.definitions.get(&target).is_some_and(|found| found.get("properties").is_some());
                if complex {
                    shape.elements.insert(element.clone(), Element { definition: target.clone(), many });
                }
                if seen.insert(target.clone()) {
                    let inner =
                        if target.contains('_') { format!("{path}.{element}") } else { target.clone() };
                    queue.push_back((target, inner));
                }
            }
            definitions.insert(name.clone(), definition.clone());
            shapes.insert(name, shape);
        }
        let schema = json!({
            "$schema": "http://json-schema.org/draft-06/schema#",
            "$ref": format!("#/definitions/{fhir_type}"),
            "definitions": definitions,
        });
        let schema = jsonschema::draft6::new(&schema).map_err(|_schema| SchemaError)?;
        Ok(TypeValidator { schema, shapes })
    }
}

fn check_form(resource: &Value, issues: &mut Issues) {
    let kind = resource.get("resourceType").and_then(Value::as_str);
    json_form::check(resource, kind.unwrap_or("Resource"), issues);
}

impl TypeValidator {
    /// Checks the required elements and choices of `value`, that its complex elements are objects, and gathers the
    /// resources inside it.
    fn walk<'v>(
        &self,
        value: &'v Value,
        definition: &str,
        path: &str,
        issues: &mut Issues,
        contained: &mut Vec<(String, &'v Value)>,
    ) {
        let Value::Object(members) = value else {
            // Nothing is said of `null` here: see `json_form`.
            if !value.is_null() {
                issues
                    .push(|| Issue { expression: path.to_owned(), message: "must be an object".to_owned() });
            }
            return;
        };
        if definition == "ResourceList" {
            contained.push((path.to_owned(), value));
            return;
        }
        let Some(shape) = self.shapes.get(definition) else { return };
        if let Some(rule) = &shape.rule {
            rule.check(members, path, issues);
        }
        for (name, member) in members {
            let Some(Element { definition, many }) = shape.elements.get(name) else { continue };
            match member {
                Value::Array(items) if *many => {
                    for (index, item) in items.iter().enumerate() {
                        self.walk(item, definition, &format!("{path}.{name}[{index}]"), issues, contained);
                    }
                }
                // That a list is a list is said by the schema.
                _ if *many => {}
                _ => self.walk(member, definition, &format!("{path}.{name}"), issues, contained),
            }
        }
    }
}

impl Rule {
    fn check(&self, members: &Map<String, Value>, path: &str, issues: &mut Issues) {
        let has = |name: &str| members.contains_key(name) || members.contains_key(&format!("_{name}"));
        for name in self.req.iter().filter(|name| !has(name)) {
            issues.push(|| Issue { expression: format!("{path}.{name}"), message: "is required".to_owned() });
        }
        for (name, types, least) in &self.choice {
            let present = types.iter().filter(|kind| has(&format!("{name}{kind}"))).count();
            if present > 1 {
                let message = "only one of the choices may be given".to_owned();
                issues.push(|| Issue { expression: format!("{path}.{name}"), message });
            } else if present < usize::from(*least) {
                let message = "one of the choices is required".to_owned();
                issues.push(|| Issue { expression: format!("{path}.{name}"), message });
            }
        }
    }
}

/// The elements of a definition with the definitions they refer to, and whether they are lists.
fn references(definition: &Value) -> impl Iterator<Item = (String, String, bool)> {
    let properties = definition.get("properties").and_then(Value::as_object);
    properties.into_iter().flatten().filter_map(|(name, element)| {
        let reference =
            element.get("$ref").or_else(|| element.get("items").and_then(|items| items.get("$ref")));
        let target = reference.and_then(Value::as_str)?.strip_prefix("#/definitions/")?;
        Some((name.clone(), target.to_owned(), element.get("items").is_some()))
    })
}

fn strip_descriptions(value: &mut Value) {
    let Value::Object(members) = value else { return };
    members.remove("description");
    for (name, member) in members.iter_mut() {
        if name == "properties" {
            // An element may itself be named `description`.
            let elements = member.as_object_mut().into_iter().flat_map(Map::values_mut);
            elements.for_each(strip_descriptions);
        } else {
            strip_descriptions(member);
        }
    }
}

fn issue(root: &str, pointer: &str, kind: &ValidationErrorKind) -> Issue {
    let mut expression = root.to_owned();
    for step in pointer.split('/').skip(1) {
        if step.bytes().all(|byte| byte.is_ascii_digit()) {
            expression.push_str(&format!("[{step}]"));
        } else {
            expression.push('.');
            expression.push_str(&step.replace("~1", "/").replace("~0", "~"));
        }
    }
    let message = match kind {
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            if let [name] = unexpected.as_slice() {
                expression.push('.');
                expression.push_str(name);
                "is no element of this type".to_owned()
            } else {
                format!("these are no elements of this type: `{}`", unexpected.join("`, `"))
            }
        }
        ValidationErrorKind::Required { property } => {
            expression.push('.');
            expression.push_str(property.as_str().unwrap_or_default());
            "is required".to_owned()
        }
        ValidationErrorKind::Enum { options } => {
            let codes = options.as_array().into_iter().flatten().filter_map(Value::as_str);
            format!(
                "is none of the codes {}",
                codes.map(|code| format!("`{code}`")).collect::<Vec<_>>().join(", ")
            )
        }
        ValidationErrorKind::Pattern { .. } => "is not of the form that its type demands".to_owned(),
        ValidationErrorKind::Type { kind } => match kind {
            jsonschema::error::TypeKind::Single(one) => format!("must be of JSON type {one}"),
            jsonschema::error::TypeKind::Multiple(_) => "is of the wrong JSON type".to_owned(),
        },
        other => format!("does not hold to `{}` of the FHIR schema", other.keyword()),
    };
    Issue { expression, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issues(resource: &Value) -> Vec<(String, String)> {
        let found = validators().unwrap().check(resource).unwrap();
        found.into_iter().map(|issue| (issue.expression, issue.message)).collect()
    }

    fn expressions(resource: &Value) -> Vec<String> {
        issues(resource).into_iter().map(|(expression, _)| expression).collect()
    }

    #[test]
    fn a_good_observation_passes() {
        let good = json!({"resourceType": "Observation", "status": "final", "code": {"text": "pulse"},
            "valueQuantity": {"value": 0.10}});
        assert_eq!(issues(&good), []);
    }

    #[test]
    fn the_field_is_named() {
        let wrong = json!({"resourceType": "Patient", "gender": "m", "birthDate": "1.2.1990", "colour": 1});
        let mut found = expressions(&wrong);
        found.sort();
        assert_eq!(found, ["Patient.birthDate", "Patient.colour", "Patient.gender"]);
        let message = issues(&json!({"resourceType": "Patient", "gender": "m"}))[0].1.clone();
        assert_eq!(message, "is none of the codes `male`, `female`, `other`, `unknown`");
    }

    #[test]
    fn what_the_schema_cannot_say_is_checked_too() {
        let wrong = json!({"resourceType": "Observation", "code": {"text": "x"}, "valueString": "a",
            "valueBoolean": true, "component": [{"code": {}, "valueTime": "10:00:00", "valueInteger": 1}]});
        let mut found = expressions(&wrong);
        found.sort();
        assert_eq!(found, ["Observation.component[0].value", "Observation.status", "Observation.value"]);
        let absent = json!({"resourceType": "Observation", "code": {"text": "x"},
            "_status": {"extension": [{"url": "http://example.org/absent", "valueCode": "unknown"}]}});
        assert_eq!(issues(&absent), []);
    }

    /// The schema has no `type` for complex elements: whatever is no object there is found here.
    #[test]
    fn a_complex_element_is_an_object_and_null_is_nothing() {
        let of = |name: &str, value: Value| {
            let mut resource =
                json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"}});
            resource[name] = value;
            expressions(&resource)
        };
        for name in ["meta", "code", "subject", "text", "valueQuantity", "_status"] {
            for wrong in [json!(null), json!(1), json!("x"), json!(true), json!([]), json!([{}])] {
                assert_eq!(of(name, wrong.clone()), [format!("Observation.{name}")], "{name}: {wrong}");
            }
        }
        for name in ["contained", "identifier", "component", "extension"] {
            for wrong in [json!(null), json!(1), json!({"x": 1})] {
                assert_eq!(of(name, wrong.clone()), [format!("Observation.{name}")], "{name}: {wrong}");
            }
            for wrong in [json!([null]), json!([1]), json!([[]])] {
                assert_eq!(of(name, wrong.clone()), [format!("Observation.{name}[0]")], "{name}: {wrong}");
            }
        }
        assert_eq!(of("status", json!(null)), ["Observation.status"]);
        assert_eq!(of("subject", json!({"identifier": null})), ["Observation.subject.identifier"]);
    }

    #[test]
    fn null_is_taken_where_fhir_writes_it() {
        let named = |given: Value, beside: Value| {
            let name = json!({"given": given, "_given": beside});
            expressions(&json!({"resourceType": "Patient", "name": [name]}))
        };
        let absent = json!({"extension": [{"url": "http://example.org/absent", "valueCode": "unknown"}]});
        assert!(named(json!([null, "A"]), json!([absent, null])).is_empty());
        assert_eq!(
            named(json!([null, "A"]), json!([null, null])),
            ["Patient.name[0].given[0]", "Patient.name[0]._given[0]"]
        );
    }

    #[test]
    fn an_envelope_is_checked_without_what_is_in_it() {
        let checked = |bundle: &Value| {
            let found = validators().unwrap().check_envelope(bundle).unwrap();
            found.into_iter().map(|issue| issue.expression).collect::<Vec<_>>()
        };
        let entry = json!({"resource": {}, "request": {"method": "POST", "url": "Patient"}});
        assert!(checked(&json!({"resourceType": "Bundle", "type": "batch", "entry": [entry]})).is_empty());
        for (wrong, place) in [
            (json!({"type": "batch", "entry": entry}), "Bundle.entry"),
            (json!({"type": "batch", "entry": null}), "Bundle.entry"),
            (json!({"type": "batch", "entry": [null]}), "Bundle.entry[0]"),
            (json!({"type": "batch", "entry": [1]}), "Bundle.entry[0]"),
            (json!({"type": "batch", "entries": [entry]}), "Bundle.entries"),
            (json!({"type": "batch", "entry": [{"resources": {}}]}), "Bundle.entry[0].resources"),
            (
                json!({"type": "batch", "entry": [{"request": {"method": "POST"}}]}),
                "Bundle.entry[0].request.url",
            ),
            (json!({"type": "batch", "entry": [{"resource": null}]}), "Bundle.entry[0].resource"),
            (json!({"type": "batch", "entry": [{"resource": []}]}), "Bundle.entry[0].resource"),
            (json!({"type": "heap"}), "Bundle.type"),
            (json!({}), "Bundle.type"),
        ] {
            let mut bundle = wrong;
            bundle["resourceType"] = json!("Bundle");
            assert_eq!(checked(&bundle), [place], "{bundle}");
        }
    }

    #[test]
    fn contained_resources_are_checked_as_their_own_type() {
        let wrong = json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"},
            "contained": [{"resourceType": "Patient", "gender": "m"}, {"resourceType": "Dog"}]});
        assert_eq!(
            expressions(&wrong),
            ["Observation.contained[0].gender", "Observation.contained[1].resourceType"]
        );
        assert_eq!(expressions(&json!({"a": 1})), ["resourceType"]);
    }

    /// Everything under `HBC_TEST_FHIR_DIR` (HL7's examples as JSON, Synthea bundles as bzip2) is valid.
    #[test]
    #[ignore = "needs HBC_TEST_FHIR_DIR"]
    fn the_reference_data_is_valid() {
        #[expect(clippy::disallowed_methods, reason = "names the data of this test only")]
        let folder = std::env::var("HBC_TEST_FHIR_DIR").unwrap();
        let (mut seen, mut wrong) = (0, Vec::new());
        let started = std::time::Instant::now();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let mut text = Vec::new();
            let file = std::fs::File::open(&path).unwrap();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("bz2") => bzip2_rs::DecoderReader::new(file).read_to_end(&mut text).unwrap(),
                Some("json") => std::io::BufReader::new(file).read_to_end(&mut text).unwrap(),
                _ => continue,
            };
            hbc_types::json::parse(&text).unwrap();
            let value: Value = serde_json::from_slice(&text).unwrap();
            let resources: Vec<&Value> = match value.get("entry").and_then(Value::as_array) {
                Some(entries) => entries.iter().filter_map(|entry| entry.get("resource")).collect(),
                None => vec![&value],
            };
            for resource in resources {
                seen += 1;
                let found = issues(resource);
                if !found.is_empty() {
                    wrong.push(format!("{}: {found:?}", path.display()));
                }
            }
        }
        println!("{seen} resources, {} wrong, {:?}", wrong.len(), started.elapsed());
        assert_eq!(wrong, Vec::<String>::new());
        assert!(seen > 0);
    }
}
