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

const SCHEMA: &[u8] = include_bytes!("../../data/fhir.schema.json.bz2");
const RULES: &str = include_str!("../../data/required-and-choice-rules.json");
/// More faults than this are not listed.
const MAX_ISSUES: usize = 20;

/// One fault of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// Where, as FHIRPath: `Observation.component[0].code`.
    pub expression: String,
    /// What is wrong, lowercase, without a full stop.
    pub message: String,
}

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
    elements: BTreeMap<String, String>,
}

/// The process's validators, unpacked at first use (about 50 ms).
pub fn validators() -> Result<&'static Validators, SchemaError> {
    static SHARED: OnceLock<Result<Validators, SchemaError>> = OnceLock::new();
    SHARED.get_or_init(Validators::unpack).as_ref().map_err(|error| *error)
}

/// The types of which most records are: compiled before the first upload comes.
const COMMON: [&str; 20] = [
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
        definitions.insert("ResourceList".to_owned(), json!({"type": "object"}));
        let rules = serde_json::from_str(RULES).map_err(|_json| SchemaError)?;
        Ok(Self { definitions, rules, types: Mutex::new(HashMap::new()) })
    }

    /// The faults of `resource`; none if it is valid.
    pub fn check(&self, resource: &Value) -> Result<Vec<Issue>, SchemaError> {
        let mut issues = Vec::new();
        self.check_at(resource, None, &mut issues)?;
        issues.truncate(MAX_ISSUES);
        Ok(issues)
    }

    fn check_at(
        &self,
        resource: &Value,
        at: Option<&str>,
        issues: &mut Vec<Issue>,
    ) -> Result<(), SchemaError> {
        let fhir_type = resource.get("resourceType").and_then(Value::as_str).unwrap_or_default();
        if hbc_types::classify::type_category(fhir_type).is_none() {
            let expression = format!("{}resourceType", at.map(|at| format!("{at}.")).unwrap_or_default());
            issues.push(Issue { expression, message: "is no resource type of FHIR R4".to_owned() });
            return Ok(());
        }
        let path = at.unwrap_or(fhir_type).to_owned();
        let validator = self.of_type(fhir_type)?;
        if !validator.schema.is_valid(resource) {
            for error in validator.schema.iter_errors(resource).take(MAX_ISSUES) {
                issues.push(issue(&path, error.instance_path().as_str(), error.kind()));
            }
        }
        let mut contained = Vec::new();
        validator.walk(resource, fhir_type, &path, issues, &mut contained);
        for (path, inner) in contained {
            self.check_at(inner, Some(&path), issues)?;
        }
        Ok(())
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
            for (element, target) in references(definition) {
                let complex = target == "ResourceList"
                    || self.definitions.get(&target).is_some_and(|found| found.get("properties").is_some());
                if complex {
                    shape.elements.insert(element.clone(), target.clone());
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

impl TypeValidator {
    /// Checks the required elements and choices of `value`, and gathers the resources inside it.
    fn walk<'v>(
        &self,
        value: &'v Value,
        definition: &str,
        path: &str,
        issues: &mut Vec<Issue>,
        contained: &mut Vec<(String, &'v Value)>,
    ) {
        let Value::Object(members) = value else { return };
        if definition == "ResourceList" {
            contained.push((path.to_owned(), value));
            return;
        }
        let Some(shape) = self.shapes.get(definition) else { return };
        if let Some(rule) = &shape.rule {
            rule.check(members, path, issues);
        }
        for (name, member) in members {
            let Some(target) = shape.elements.get(name) else { continue };
            match member {
                Value::Array(items) => {
                    for (index, item) in items.iter().enumerate() {
                        self.walk(item, target, &format!("{path}.{name}[{index}]"), issues, contained);
                    }
                }
                Value::Object(_) => self.walk(member, target, &format!("{path}.{name}"), issues, contained),
                _ => {}
            }
        }
    }
}

impl Rule {
    fn check(&self, members: &Map<String, Value>, path: &str, issues: &mut Vec<Issue>) {
        let has = |name: &str| members.contains_key(name) || members.contains_key(&format!("_{name}"));
        for name in self.req.iter().filter(|name| !has(name)) {
            issues.push(Issue { expression: format!("{path}.{name}"), message: "is required".to_owned() });
        }
        for (name, types, least) in &self.choice {
            let present = types.iter().filter(|kind| has(&format!("{name}{kind}"))).count();
            if present > 1 {
                let message = "only one of the choices may be given".to_owned();
                issues.push(Issue { expression: format!("{path}.{name}"), message });
            } else if present < usize::from(*least) {
                let message = "one of the choices is required".to_owned();
                issues.push(Issue { expression: format!("{path}.{name}"), message });
            }
        }
    }
}

/// The elements of a definition with the definitions they refer to.
fn references(definition: &Value) -> impl Iterator<Item = (String, String)> {
    let properties = definition.get("properties").and_then(Value::as_object);
    properties.into_iter().flatten().filter_map(|(name, element)| {
        let reference =
            element.get("$ref").or_else(|| element.get("items").and_then(|items| items.get("$ref")));
        let target = reference.and_then(Value::as_str)?.strip_prefix("#/definitions/")?;
        Some((name.clone(), target.to_owned()))
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
