//! Why an expression is not taken.

/// Why an expression cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// It ends too early.
    #[error("the expression ends too early")]
    Ended,
    /// Something stands where it cannot.
    #[error("`{0}` cannot stand there")]
    Unexpected(String),
    /// A number that is none.
    #[error("`{0}` is no number")]
    Number(String),
    /// What this crate does not know.
    #[error("`{0}` is not known")]
    Unknown(String),
    /// A pattern that is none.
    #[error("`{0}` is no pattern")]
    Pattern(String),
    /// It is nested too deeply.
    #[error("the expression is nested too deeply")]
    Deep,
}
