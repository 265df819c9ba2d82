//! The one table of problems: slug, HTTP status, title and whether trying again makes sense (RFC 9457).
//!
//! A slug is stable and crosses service hops unchanged; a contract test walks the table.

use serde::{Deserialize, Serialize};

/// What every problem's `type` begins with.
pub const TYPE_PREFIX: &str = "urn:hbc:problem:";

macro_rules! problems {
    ($($(#[$doc:meta])* $variant:ident = $slug:literal, $status:literal, $title:literal, $retry:expr;)+) => {
        /// A kind of problem.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Slug { $($(#[$doc])* $variant),+ }

        impl Slug {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The stable name, without [`TYPE_PREFIX`].
            #[must_use]
            pub const fn as_str(self) -> &'static str { match self { $(Self::$variant => $slug),+ } }

            /// The HTTP status it is answered with.
            #[must_use]
            pub const fn status(self) -> u16 { match self { $(Self::$variant => $status),+ } }

            /// A short sentence that is the same for every occurrence.
            #[must_use]
            pub const fn title(self) -> &'static str { match self { $(Self::$variant => $title),+ } }

            /// Whether the same request may succeed later without being changed.
            #[must_use]
            pub const fn retry(self) -> bool { match self { $(Self::$variant => $retry),+ } }

            /// The kind with this name.
            #[must_use]
            pub fn parse(slug: &str) -> Option<Self> {
                match slug { $($slug => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

problems! {
    /// The request cannot be read at all.
    MalformedRequest = "malformed_request", 400, "The request cannot be read", false;
    /// An agency did not say why it reads.
    PurposeRequired = "purpose_required", 400, "Say the purpose of use in HBC-Purpose", false;
    /// A signed text is for another chain.
    OtherChain = "other_chain", 400, "Signed for another chain", false;
    /// A signed text is dated in the future or too long ago.
    BadTime = "bad_time", 400, "The time in the signed text is not acceptable", false;
    /// The token endpoint gives no tokens for this grant type (RFC 6749 §5.2).
    UnsupportedGrantType = "unsupported_grant_type", 400, "No tokens are given for this grant type", false;
    /// A client did not prove who it is (RFC 6749 §5.2).
    InvalidClient = "invalid_client", 400, "The client is not known, or did not prove who it is", false;
    /// More is asked for than the client may have, or what is given to none (RFC 6749 §5.2).
    InvalidScope = "invalid_scope", 400, "The scope is not open to this client", false;
    /// No valid credentials.
    Unauthenticated = "unauthenticated", 401, "Valid credentials are needed", false;
    /// Unknown user or wrong password: deliberately one answer.
    BadCredentials = "bad_credentials", 401, "Username or password is wrong", false;
    /// A second factor is needed or wrong.
    SecondFactor = "second_factor", 401, "A second factor is needed", false;
    /// The credentials must be shown again, second factor included (RFC 9470).
    StepUp = "step_up", 401, "Show password and code again", false;
    /// A refresh token was used twice: its whole family is dead.
    TokenReused = "token_reused", 401, "The refresh token was used before", false;
    /// A signature does not verify, or its key is not registered.
    BadSignature = "bad_signature", 401, "The signature is not valid here", false;
    /// The caller may know of it but may not do it.
    Forbidden = "forbidden", 403, "Not allowed", false;
    /// The token's scope does not name this (RFC 6750 §3.1).
    InsufficientScope = "insufficient_scope", 403, "The token's scope does not allow this", false;
    /// The policy denies: the detail names the rule.
    Denied = "denied", 403, "The patient's consent does not allow this", false;
    /// The agency has not been approved yet.
    AgencyUnverified = "agency_unverified", 403, "The agency is not approved", false;
    /// The account or session is suspended or ended.
    Suspended = "suspended", 403, "The account or session is suspended", false;
    /// There is nothing here, or the caller may not even know.
    NotFound = "not_found", 404, "Not found", false;
    /// The resource exists but not this method.
    MethodNotAllowed = "method_not_allowed", 405, "Method not allowed", false;
    /// None of the representations that the client takes is given here.
    NotAcceptable = "not_acceptable", 406, "Not given in a form that is accepted", false;
    /// The state does not allow it.
    Conflict = "conflict", 409, "Conflicts with the present state", false;
    /// The same was accepted before.
    Duplicate = "duplicate", 409, "Already there", false;
    /// A final transaction excludes this one.
    Excluded = "excluded", 409, "Excluded by a final transaction", false;
    /// A ledger transaction that may become valid: an earlier one is missing or still waits.
    NotYet = "not_yet", 409, "The ledger's rules do not allow this transaction yet", true;
    /// The first request with this Idempotency-Key is still being worked on.
    InFlight = "in_flight", 409, "The same request is still under way", true;
    /// The record was deleted: earlier versions may still be there.
    Deleted = "deleted", 410, "Deleted", false;
    /// The record was erased.
    Erased = "erased", 410, "Erased", false;
    /// An If-Match or similar did not hold.
    PreconditionFailed = "precondition_failed", 412, "Precondition failed", false;
    /// The body is too large.
    TooLarge = "too_large", 413, "The body is too large", false;
    /// The media type is not taken here.
    UnsupportedMediaType = "unsupported_media_type", 415, "Media type not supported", false;
    /// The request reads well but its values do not hold; `errors` names the fields.
    InvalidInput = "invalid_input", 422, "Some values are not acceptable", false;
    /// The Idempotency-Key was used with another body.
    IdempotencyMismatch = "idempotency_mismatch", 422, "Idempotency-Key was used with another body", false;
    /// A ledger transaction breaks a rule of the ledger and never becomes valid.
    RuleViolation = "rule_violation", 422, "The ledger's rules refuse this transaction for good", false;
    /// A precondition header is required.
    PreconditionRequired = "precondition_required", 428, "A precondition is required", false;
    /// Too many requests or failures.
    TooManyRequests = "too_many_requests", 429, "Too many requests", true;
    /// Something failed that the caller cannot change.
    Internal = "internal", 500, "Internal error", false;
    /// Stored bytes do not match their hashes.
    Integrity = "integrity", 502, "Stored data failed verification", true;
    /// A service this one needs does not answer.
    DependencyUnavailable = "dependency_unavailable", 503, "A needed service is not available", true;
    /// The service is overloaded or starting.
    Unavailable = "unavailable", 503, "Not available now", true;
    /// This ledger node found its store changed: use another.
    NodeAttacked = "node_attacked", 503, "This ledger node is attacked", true;
}

/// A problem document, as it crosses the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ProblemDocument {
    /// [`TYPE_PREFIX`] and the slug.
    #[serde(rename = "type")]
    pub kind: String,
    /// The title of the slug.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened this time, safe to show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The request's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The fields that are not acceptable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// For `excluded`: the final transaction; for `node_attacked`: the healthy peers; for `denied`: the rule.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<String>,
}

/// One field that is not acceptable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FieldError {
    /// JSON path or parameter name.
    pub field: String,
    /// What is wrong with it, lowercase, without a full stop.
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_are_unique_and_parse_back() {
        for slug in Slug::ALL {
            assert_eq!(Slug::parse(slug.as_str()), Some(*slug));
            assert!((400..600).contains(&slug.status()));
        }
    }
}
