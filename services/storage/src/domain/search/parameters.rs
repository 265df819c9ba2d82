//! The one table of search parameters: HL7's own of FHIR R4, for every type. What a record is found by, how a query is read
//! and what the server says of itself are made of it.
//!
//! Composite and special parameters are not among them.

use std::collections::HashMap;
use std::sync::OnceLock;

use serde::Deserialize;

use crate::domain::definitions::{SchemaError, definitions};
use crate::domain::search::expression::Expression;

const TABLE: &str = include_str!("../../../data/search-parameters.json");
/// What every resource has stands under this name in the table.
const EVERY: &str = "Resource";

/// How a parameter is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Codes and identifiers.
    Token,
    /// Dates and periods.
    Date,
    /// What refers to a resource.
    Reference,
    /// Texts, names and addresses.
    String,
    /// Numbers with units.
    Quantity,
    /// Names of things on the web.
    Uri,
    /// Numbers.
    Number,
}

impl Kind {
    /// As FHIR calls it.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Date => "date",
            Self::Reference => "reference",
            Self::String => "string",
            Self::Quantity => "quantity",
            Self::Uri => "uri",
            Self::Number => "number",
        }
    }
}

/// A parameter of one type.
#[derive(Debug)]
pub struct Parameter {
    /// Its name in a query.
    pub name: String,
    /// How it is compared.
    pub kind: Kind,
    /// What it means in a resource.
    pub expression: Expression,
    /// The expression as HL7 writes it.
    pub path: String,
    /// HL7's definition of it.
    pub id: String,
    /// What it can refer to; `*`: anything.
    pub targets: Vec<String>,
}

impl Parameter {
    /// The canonical URL of its definition.
    #[must_use]
    pub fn definition(&self) -> String {
        format!("http://hl7.org/fhir/SearchParameter/{}", self.id)
    }

    /// Whether it can refer to a resource of a type.
    #[must_use]
    pub fn can_name(&self, kind: &str) -> bool {
        self.kind == Kind::Reference && self.targets.iter().any(|target| target == "*" || target == kind)
    }
}

#[derive(Deserialize)]
struct Row {
    name: String,
    #[serde(rename = "type")]
    kind: Kind,
    path: String,
    id: String,
    #[serde(default)]
    target: Vec<String>,
}

/// All parameters by type.
#[derive(Debug)]
pub struct Parameters(HashMap<String, Vec<Parameter>>);

/// The process's table, made at first use.
pub fn parameters() -> Result<&'static Parameters, SchemaError> {
    static SHARED: OnceLock<Result<Parameters, SchemaError>> = OnceLock::new();
    SHARED.get_or_init(Parameters::read).as_ref().map_err(|error| *error)
}

impl Parameters {
    fn read() -> Result<Self, SchemaError> {
        let rows: HashMap<String, Vec<Row>> = serde_json::from_str(TABLE).map_err(|_json| SchemaError)?;
        let all = definitions()?;
        let mut table = HashMap::new();
        for (kind, rows) in rows {
            // Every resource has what a Basic has, too.
            let of = if kind == EVERY { "Basic" } else { &kind };
            let mut parameters = Vec::with_capacity(rows.len());
            for Row { name, kind, path, id, target } in rows {
                let expression = Expression::compile(&path, all, of).map_err(|_shape| SchemaError)?;
                parameters.push(Parameter { name, kind, expression, path, id, targets: target });
            }
            table.insert(kind, parameters);
        }
        Ok(Self(table))
    }

    /// Those of a type, without those that every type has.
    #[must_use]
    pub fn own(&self, kind: &str) -> &[Parameter] {
        self.0.get(kind).map_or(&[], Vec::as_slice)
    }

    /// Those that every type has: `_id` and the like.
    #[must_use]
    pub fn common(&self) -> &[Parameter] {
        self.own(EVERY)
    }

    /// A parameter of a type by its name.
    #[must_use]
    pub fn find(&self, kind: &str, name: &str) -> Option<&Parameter> {
        self.own(kind).iter().chain(self.common()).find(|parameter| parameter.name == name)
    }

    /// All parameters of a type.
    pub fn of(&self, kind: &str) -> impl Iterator<Item = &Parameter> {
        self.own(kind).iter().chain(self.common())
    }
}

#[cfg(test)]
mod tests {
    use hbc_types::classify::TYPES;

    use super::*;

    #[test]
    fn every_expression_of_the_table_is_understood() {
        let rows: HashMap<String, Vec<Row>> = serde_json::from_str(TABLE).unwrap();
        let all = definitions().unwrap();
        let mut wrong = Vec::new();
        for (kind, rows) in &rows {
            let of = if kind == EVERY { "Basic" } else { kind };
            for row in rows {
                if let Err(error) = Expression::compile(&row.path, all, of) {
                    wrong.push(error.to_string());
                }
            }
        }
        assert_eq!(wrong, [] as [String; 0]);
    }

    #[test]
    fn the_table_has_hl7s_parameters_of_every_type() {
        let all = parameters().unwrap();
        let names: Vec<&str> = all.common().iter().map(|parameter| parameter.name.as_str()).collect();
        assert_eq!(names, ["_id", "_lastUpdated", "_profile", "_security", "_source", "_tag"]);
        assert!(all.0.keys().all(|kind| kind == EVERY || TYPES.iter().any(|(name, _)| name == kind)));
        let status = all.find("Observation", "value-quantity").unwrap();
        assert_eq!((status.kind, status.id.as_str()), (Kind::Quantity, "Observation-value-quantity"));
        assert!(all.find("Observation", "code-value-quantity").is_none(), "a composite");
        assert!(all.find("Location", "near").is_none(), "a special one");
        let subject = all.find("Observation", "subject").unwrap();
        assert!(subject.can_name("Patient") && !subject.can_name("Practitioner"));
        assert!(all.find("Provenance", "target").unwrap().can_name("Goal"));
    }
}
