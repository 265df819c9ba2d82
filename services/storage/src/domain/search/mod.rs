//! FHIR's search without any I/O: which parameters there are, what a resource says of them, what a query asks and whether
//! both meet.
//!
//! Source: <https://hl7.org/fhir/R4/search.html>. Why: decision 0137.

pub mod decimal;
pub mod expression;
pub mod facts;
pub mod matching;
pub mod parameters;
pub mod query;
pub mod results;
pub mod sorting;
pub mod text;
pub mod values;
