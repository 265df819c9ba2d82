//! What a transaction commits to, opened: a profile, a membership, an order, an erasure, a release.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Content, ProofError, TransactionProof};
use crate::bodies::{Body, ErasureBody, MemberBody, OrderBody, ReleaseBody};
use crate::json;
use crate::payload::Payload;
use hbc_types::digest::Digest;
use hbc_types::hash;
use hbc_types::keys::SaltBytes;
use hbc_types::wire::access::StaffBody;

/// What a final transaction commits to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpeningProof<A = TransactionProof> {
    /// The final transaction.
    pub anchor: A,
    /// What it commits to.
    pub opened: Opened,
}

/// A commitment opened, or what a public digest is of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Opened {
    /// The document; its JCS form is what was hashed.
    pub body: Value,
    /// The salt; absent of what is public.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub salt: Option<SaltBytes>,
}

/// A body that was opened.
#[derive(Debug, Clone, PartialEq)]
pub enum OpenedBody {
    /// Who has a profile.
    Profile(StaffBody),
    /// Who acts for whom.
    Membership(MemberBody),
    /// What operators ordered, and why.
    Order(OrderBody),
    /// What was erased, and why.
    Erasure(ErasureBody),
    /// Statistics.
    Release(ReleaseBody),
}

impl<A> OpeningProof<A> {
    pub(super) fn verify(&self, payload: &Payload) -> Result<Content, ProofError> {
        let bytes = json::encode(&self.opened.body)?;
        let body = match payload {
            Payload::Staff(staff) => {
                OpenedBody::Profile(self.opened.read(&bytes, hash::staff, staff.commitment)?)
            }
            Payload::Affiliation(affiliation) => {
                OpenedBody::Membership(self.opened.read(&bytes, hash::member, affiliation.commitment)?)
            }
            Payload::Order(order) => {
                let body: OrderBody = self.opened.read(&bytes, hash::order, order.commitment)?;
                if (body.kind, body.subject) != (order.kind, order.subject) {
                    return Err(ProofError::Contradiction("the body is of another order"));
                }
                OpenedBody::Order(body)
            }
            Payload::Erase(erase) => {
                OpenedBody::Erasure(self.opened.read(&bytes, hash::erase, erase.commitment)?)
            }
            Payload::Release(release) => {
                if self.opened.salt.is_some() || Digest::of(&bytes) != release.digest {
                    return Err(ProofError::Commitment("release"));
                }
                let body = ReleaseBody::read(&bytes).map_err(ProofError::Contradiction)?;
                if body.period != release.period || body.chain != release.chain {
                    return Err(ProofError::Contradiction("the body is of another release"));
                }
                OpenedBody::Release(body)
            }
            Payload::MemberVote(_)
            | Payload::ServiceKey(_)
            | Payload::ConsentKey(_)
            | Payload::Anchor(_)
            | Payload::Grant(_)
            | Payload::Alter(_)
            | Payload::Revoke(_)
            | Payload::Receipts(_)
            | Payload::NodeEvent(_) => {
                let expected = "transaction that commits to a body";
                return Err(ProofError::Kind { expected, found: payload.kind() });
            }
        };
        Ok(Content::Opening(Box::new(body)))
    }
}

impl Opened {
    /// Reads the body whole, if it opens this commitment.
    pub(super) fn read<B: Body>(
        &self,
        bytes: &[u8],
        hash: fn(&hash::Salt, &[u8]) -> Digest,
        commitment: Digest,
    ) -> Result<B, ProofError> {
        match &self.salt {
            Some(salt) if hash(salt.as_bytes(), bytes) == commitment => {
                B::read(bytes).map_err(ProofError::Contradiction)
            }
            _ => Err(ProofError::Commitment("body")),
        }
    }
}

impl OpenedBody {
    /// What was committed to, in one sentence without its end.
    pub(super) fn statement(&self) -> String {
        match self {
            Self::Profile(body) => format!(
                "this profile was voted on: {} is the {} `{}`, licence {}",
                body.agency,
                body.agency_type.code(),
                body.name,
                body.licence_number
            ),
            Self::Membership(body) => format!(
                "this membership was stated: {} and {}, as `{}`; whether it holds is not shown",
                body.agency, body.organisation, body.function
            ),
            Self::Order(body) => {
                format!(
                    "an operator voted for `{}` about {}, because `{}`",
                    body.kind, body.subject, body.reason
                )
            }
            Self::Erasure(body) => format!(
                "{} record versions of {} were erased by {} at {}, ground `{}`",
                body.records.len(),
                body.patient,
                body.by,
                body.at,
                body.ground
            ),
            Self::Release(body) => {
                let cells: usize = body.cubes.iter().map(|cube| cube.cells.len()).sum();
                format!("these statistics of {} were released: {cells} counts", body.period)
            }
        }
    }

    /// The body as it was committed.
    pub(super) fn written(&self) -> String {
        match self {
            Self::Profile(body) => super::content::written(body),
            Self::Membership(body) => super::content::written(body),
            Self::Order(body) => super::content::written(body),
            Self::Erasure(body) => super::content::written(body),
            Self::Release(body) => super::content::written(body),
        }
    }
}
