//! FHIR R4's invariants: which hold of what, from HL7's own definitions.
//!
//! Those of severity `error` are checked; each is read once, when the definitions are. Some are checked by plain code, of
//! which this file has the words alone; those that cannot be checked here are named with the reason.
//!
//! Source: `data/SOURCE.txt`. Why: decision 0139.

use std::collections::HashMap;
use std::sync::Arc;

use hbc_fhirpath::{Choices, Expression};
use serde::Deserialize;

const STATED: &str = include_str!("../../data/invariants.json");

/// Checked by plain code, of Element, DomainResource, Extension, Reference and Narrative: what every resource has much
/// of, or what looks at the resource around it.
const IN_CODE: [&str; 6] = ["ele-1", "ext-1", "dom-3", "ref-1", "txt-1", "txt-2"];

/// Not checked, with the reason.
pub const NOT_CHECKED: [(&str, &str); 1] =
    [("ctm-1", "it needs the record that a reference names, which the sender need not be allowed to read")];

/// An invariant that an expression says.
#[derive(Debug)]
pub struct Invariant {
    /// `obs-7`
    pub key: String,
    /// Its key and what HL7 says in words.
    pub message: String,
    /// It holds of the values of this element, not of what has it: `address` of `Organization.address`.
    pub element: Option<String>,
    /// The expression that must be true.
    pub expression: Expression,
}

/// An invariant as `data/invariants.json` states it.
#[derive(Debug, Deserialize)]
pub struct Stated {
    /// The path of the element on which it holds: `Observation.component`.
    pub on: String,
    /// `obs-7`
    pub key: String,
    human: String,
    expression: String,
}

/// All invariants that are checked.
#[derive(Debug, Default)]
pub struct Invariants {
    by_path: HashMap<String, Vec<Arc<Invariant>>>,
    /// Of resources that contain others: all of DomainResource speak of what is contained.
    pub containing: Vec<Arc<Invariant>>,
    messages: HashMap<String, String>,
}

/// What is stated, in the file's order; nothing if the file is no such list.
#[must_use]
pub fn stated() -> Option<Vec<Stated>> {
    serde_json::from_str(STATED).ok()
}

impl Invariants {
    /// Reads them; nothing if one cannot be used. `is_definition` says whether a path has a definition of its own.
    pub fn read(choices: &Choices, is_definition: impl Fn(&str) -> bool) -> Option<Self> {
        let mut read = Self::default();
        for Stated { on, key, human, expression } in stated()? {
            let message = format!("{key}: {human}");
            if IN_CODE.contains(&key.as_str()) {
                read.messages.insert(key, message);
                continue;
            }
            if NOT_CHECKED.iter().any(|(name, _)| *name == key) {
                continue;
            }
            let (path, element) = match on.rsplit_once('.').filter(|_| !is_definition(&on)) {
                Some((parent, element)) => {
                    let name = element.strip_suffix("[x]").unwrap_or(element);
                    (parent.to_owned(), Some(name.to_owned()))
                }
                None => (on, None),
            };
            let expression = Expression::parse(&expression, choices).ok()?;
            let invariant = Invariant { key, message, element, expression };
            read.by_path.entry(path).or_default().push(Arc::new(invariant));
        }
        read.containing = read.of("DomainResource");
        Some(read)
    }

    /// Those of a definition.
    #[must_use]
    pub fn of(&self, path: &str) -> Vec<Arc<Invariant>> {
        self.by_path.get(path).cloned().unwrap_or_default()
    }

    /// The words of one that plain code checks.
    #[must_use]
    pub fn message(&self, key: &str) -> String {
        self.messages.get(key).cloned().unwrap_or_else(|| key.to_owned())
    }
}
