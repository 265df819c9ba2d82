//! FHIRPath over FHIR's JSON, as far as the invariants of FHIR R4 use it.
//!
//! An [`Expression`] is read once. What this crate does not know (a function, a variable, a type operation) is refused
//! then, never while a resource is looked at. Looking at a resource cannot fail, cannot panic and does no more than a
//! [`Budget`] allows. It knows no types beyond what the JSON itself says: the name of a resource, and the type at the end
//! of a choice's member (`valueQuantity`).
//!
//! Sources: <https://hl7.org/fhirpath/N1/>, <https://hl7.org/fhir/R4/fhirpath.html>. Why: decision 0139.

mod budget;
mod error;
mod evaluate;
mod expression;
mod item;
mod moment;
mod order;
mod parse;
mod token;

pub use budget::{Budget, Exhausted};
pub use error::ParseError;
pub use expression::Choices;
pub use item::Item;

use evaluate::Evaluation;
use expression::Node;

/// An expression that was read.
#[derive(Debug)]
pub struct Expression(Node);

impl Expression {
    /// Reads an expression. Names that are choices (`value`) reach each of their members (`valueQuantity`).
    ///
    /// # Errors
    /// It is no FHIRPath, or uses what this crate does not know.
    pub fn parse(text: &str, choices: &Choices) -> Result<Self, ParseError> {
        parse::parse(text, choices).map(Self)
    }

    /// Whether the expression is true of `context`, an element of `resource`. A result that is empty is not true, as in
    /// the standard's own reference implementation.
    ///
    /// # Errors
    /// The budget does not suffice.
    pub fn holds<'v>(
        &self,
        context: &Item<'v>,
        resource: Item<'v>,
        budget: &Budget,
    ) -> Result<bool, Exhausted> {
        let evaluation = Evaluation { resource, context: context.clone(), budget };
        Ok(evaluation.truth(&self.0, context)?.unwrap_or(false))
    }
}

#[cfg(test)]
mod tests;
