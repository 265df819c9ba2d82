//! What is wrong with a resource, and where.

/// More faults than this are not listed.
pub const MAX_ISSUES: usize = 20;

/// One fault of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// Where, as FHIRPath: `Observation.component[0].code`.
    pub expression: String,
    /// What is wrong, lowercase, without a full stop.
    pub message: String,
}
