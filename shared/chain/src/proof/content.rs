//! What a final transaction covers: a receipt, a record, a consent.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::certified::time;
use super::{Content, ProofError, TransactionProof};
use crate::certificate::{ConsentCertificate, DelegateCertificate, Limits};
use crate::consent::ConsentBody;
use crate::payload::Payload;
use crate::tx::Tx;
use crate::{json, merkle};
use hbc_types::digest::Digest;
use hbc_types::hash;
use hbc_types::ids::RecordId;
use hbc_types::keys::{PublicKey, SaltBytes};
use hbc_types::labels::Category;
use hbc_types::purpose::{Action, Purpose};
use hbc_types::time::Timestamp;
use hbc_types::wire::access::ReceiptBody;

/// A commitment opened: what was committed, and its salt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Opening {
    /// The committed document; its JCS form is what was hashed.
    pub body: Value,
    /// The salt.
    pub salt: SaltBytes,
}

/// A receipt was on the ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptProof<A = TransactionProof> {
    /// The final `access.receipts`.
    pub anchor: A,
    /// The receipt's place in the batch.
    pub index: u64,
    /// The path from there to the batch's root.
    pub path: Vec<Digest>,
    /// The receipt.
    pub receipt: Opening,
}

impl<A> ReceiptProof<A> {
    pub(super) fn verify(&self, payload: &Payload) -> Result<Content, ProofError> {
        let Payload::Receipts(receipts) = payload else { return Err(kind("access.receipts", payload)) };
        let body = json::encode(&self.receipt.body)?;
        let commitment = hash::receipt(self.receipt.salt.as_bytes(), &body);
        let leaf = merkle::leaf_hash(commitment.as_bytes());
        merkle::verify_inclusion(&leaf, self.index, receipts.count, &self.path, &receipts.root)
            .map_err(|error| ProofError::NotUnderRoot { what: "receipt", error })?;
        let body = json::decode::<ReceiptBody>(&body)
            .map_err(|_other| ProofError::Contradiction("the body is not that of a receipt"))?;
        match body.fault() {
            // FORMATS §2.
            Some(rule) => Err(ProofError::Contradiction(rule)),
            None => Ok(Content::Receipt(Box::new(body))),
        }
    }
}

/// What a record's commitment binds, with its salt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordFacts {
    /// The record.
    pub id: RecordId,
    /// Length of its encrypted slice.
    pub length: u64,
    /// Where the slice begins in the segment.
    pub offset: u64,
    /// SHA-256 of the bytes as they were received.
    pub received: Digest,
    /// The salt.
    pub salt: SaltBytes,
    /// SHA-256 of the encrypted slice.
    pub encrypted: Digest,
    /// Its version.
    pub version: u32,
}

impl RecordFacts {
    /// The record's commitment.
    #[must_use]
    pub fn commitment(&self) -> Digest {
        let facts = hash::RecordFacts {
            id: self.id.as_str(),
            version: self.version,
            received: self.received,
            encrypted: self.encrypted,
            offset: self.offset,
            length: self.length,
        };
        hash::record(self.salt.as_bytes(), &facts)
    }
}

/// A record was on the ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordProof<A = TransactionProof> {
    /// The final `record.anchor`.
    pub anchor: A,
    /// The record's place in its segment.
    pub index: u64,
    /// The path from there to the segment's root.
    pub path: Vec<Digest>,
    /// The record.
    pub record: RecordFacts,
    /// Which segment of the anchor, from 0.
    pub segment: u64,
}

impl<A> RecordProof<A> {
    pub(super) fn verify(&self, payload: &Payload) -> Result<Content, ProofError> {
        let Payload::Anchor(anchor) = payload else { return Err(kind("record.anchor", payload)) };
        let segment = usize::try_from(self.segment).ok().and_then(|at| anchor.segments.get(at));
        let segment = segment.ok_or(ProofError::Contradiction("the anchor has no such segment"))?;
        let end = self.record.offset.checked_add(self.record.length);
        if end.is_none_or(|end| end > segment.bytes) {
            return Err(ProofError::Contradiction("the record ends after its segment"));
        }
        let leaf = merkle::leaf_hash(self.record.commitment().as_bytes());
        merkle::verify_inclusion(&leaf, self.index, u64::from(segment.records), &self.path, &segment.root)
            .map_err(|error| ProofError::NotUnderRoot { what: "record", error })?;
        Ok(Content::Record(self.record.clone()))
    }
}

/// Who acted in a patient's place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delegation {
    /// The patient's root's certificate of the delegate's root.
    pub certificate: String,
    /// The delegate's root key.
    pub root: PublicKey,
}

/// A consent was given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsentProof<A = TransactionProof> {
    /// The final `consent.grant` or `consent.alter`.
    pub anchor: A,
    /// The root's certificate of the consent key.
    pub certificate: String,
    /// The consent's body.
    pub consent: Opening,
    /// Who acted in the patient's place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegate: Option<Delegation>,
    /// The patient's root key. Compare its fingerprint with what the patient shows: no ledger names it.
    pub root: PublicKey,
}

impl<A> ConsentProof<A> {
    /// `at` is the time of the transaction's block.
    pub(super) fn verify(&self, tx: &Tx, at: Timestamp) -> Result<Content, ProofError> {
        let (Payload::Grant(consent) | Payload::Alter(consent)) = tx.payload() else {
            return Err(kind("consent.grant", tx.payload()));
        };
        if consent.key != tx.kid() {
            return Err(ProofError::Contradiction("the consent key is not the one that signed"));
        }
        let body = json::encode(&self.consent.body)?;
        if hash::consent_body(self.consent.salt.as_bytes(), &body) != consent.commitment {
            return Err(ProofError::Commitment("consent"));
        }
        let certifier = self.delegate.as_ref().map_or(&self.root, |delegate| &delegate.root);
        let certificate = ConsentCertificate::verify(&self.certificate, certifier, &consent.chain)?;
        if certificate.key != consent.key {
            return Err(ProofError::Contradiction("the certificate is of another consent key"));
        }
        let body = json::decode::<ConsentBody>(&body)
            .map_err(|_other| ProofError::Contradiction("the body is not that of a consent"))?;
        if body.grantee.as_str() != certificate.grantee {
            return Err(ProofError::Contradiction("the certificate is for another grantee"));
        }
        if body.grant != consent.grant {
            return Err(ProofError::Contradiction("the body is of another grant"));
        }
        if let Some(rule) = body.fault() {
            // FORMATS §2: any other body gives nothing.
            return Err(ProofError::Contradiction(rule));
        }
        certificate.limits.allow(&body.scope, at).map_err(ProofError::Limits)?;
        if let Some(Delegation { certificate: delegation, root }) = &self.delegate {
            let delegation = DelegateCertificate::verify(delegation, &self.root, &consent.chain)?;
            if delegation.delegate != root.kid() {
                return Err(ProofError::Contradiction("the delegation is to another key"));
            }
            delegation.allow(&body.scope, at).map_err(ProofError::Limits)?;
        }
        let (root, limits) = (self.root.kid(), certificate.limits);
        let delegate = self.delegate.as_ref().map(|delegate| delegate.root.kid());
        Ok(Content::Consent { root, delegate, limits, body: Box::new(body) })
    }
}

fn kind(expected: &'static str, payload: &Payload) -> ProofError {
    ProofError::Kind { expected, found: payload.kind() }
}

/// What the consent key may sign, in words.
fn limits_text(limits: &Limits) -> String {
    let codes = |codes: Vec<&str>| if codes.is_empty() { "nothing".to_owned() } else { codes.join(", ") };
    let Limits { actions, categories, from_ms, future_records, purposes, sensitivities, until_ms } = limits;
    let mut text = Vec::new();
    if let Some(actions) = actions {
        text.push(format!("actions {}", codes(actions.iter().map(|one| one.code()).collect())));
    }
    if let Some(categories) = categories {
        text.push(format!("categories {}", codes(categories.iter().map(|one| one.code()).collect())));
    }
    if let Some(sensitivities) = sensitivities {
        text.push(format!("sensitivities {}", codes(sensitivities.iter().map(|one| one.code()).collect())));
    }
    if let Some(purposes) = purposes {
        text.push(format!("purposes {}", codes(purposes.iter().map(|one| one.code()).collect())));
    }
    if *future_records == Some(false) {
        text.push("no later records".to_owned());
    }
    if let Some(from) = from_ms {
        text.push(format!("from {}", time(*from)));
    }
    if let Some(until) = until_ms {
        text.push(format!("before {}", time(*until)));
    }
    if text.is_empty() {
        "everything, for this grantee".to_owned()
    } else {
        format!("only {}", text.join("; "))
    }
}

/// The codes of a list, one after the other.
fn listed<T: Copy>(list: &[T], code: impl Fn(T) -> &'static str) -> String {
    list.iter().map(|one| code(*one)).collect::<Vec<_>>().join(", ")
}

/// What was recorded of an access, in a part of a sentence.
fn access_text(body: &ReceiptBody) -> String {
    let ReceiptBody {
        patient,
        kind,
        actor,
        purpose,
        records,
        at,
        n,
        emergency,
        on_behalf_of,
        count,
        folded,
        channel,
        case,
        // What led to it, and what it is called.
        id: _,
        prev: _,
        organisation: _,
        grant: _,
        rule: _,
        categories: _,
    } = body;
    let records = count.unwrap_or(records.len() as u64);
    let mut text = format!("`{}` by {actor}", kind.code());
    if let Some(account) = on_behalf_of {
        text.push_str(&format!(" on behalf of {account}"));
    }
    text.push_str(&format!(" to {records} records of {patient} at {at} for {}", purpose.code()));
    if let Some(more) = folded {
        text.push_str(&format!(", {more} times more since the first"));
    }
    if let Some(emergency) = emergency {
        text.push_str(&format!(", in the emergency {emergency}"));
    }
    if let Some(channel) = channel {
        text.push_str(&format!(", by way of `{}`", channel.code()));
    }
    if let Some(case) = case {
        text.push_str(&format!(", case `{case}`"));
    }
    text + &format!(", the patient's receipt number {n}")
}

/// What was consented to, in a part of a sentence.
fn consent_text(body: &ConsentBody) -> String {
    let ConsentBody { device, grant, grantee, offline, opens, patient, scope } = body;
    let mut terms = String::new();
    if let Some(device) = device {
        terms.push_str(&format!(", with the key {device}"));
    }
    if let Some(opens) = opens {
        terms.push_str(&format!(", at most {opens} times"));
    }
    if *offline == Some(true) {
        terms.push_str(", also without the patient");
    }
    format!(
        "{grant} from {patient} to {grantee}{terms}: {} of {} for {}, from {} until {}",
        listed(&scope.actions, Action::code),
        listed(&scope.categories, Category::code),
        listed(&scope.purposes, Purpose::code),
        scope.from,
        scope.until
    )
}

impl Content {
    /// What is proved and about what, in one sentence without its end: as of when, follows.
    pub(super) fn statement(&self) -> String {
        match self {
            Self::Transaction => "this transaction is final".to_owned(),
            Self::Receipt(body) => format!("this access was recorded: {}", access_text(body)),
            Self::Record(record) => format!(
                "this record existed when its block was made: {} version {}",
                record.id, record.version
            ),
            Self::Consent { body, .. } => {
                format!("this consent was given; that none revoked it is not shown: {}", consent_text(body))
            }
            Self::Opening(body) => body.statement(),
            Self::Bundle(bundle) => bundle.statement(),
            Self::Membership(membership) => membership.statement(),
            Self::Numbers(numbers) => numbers.statement(),
            Self::Consistency { from, to } => {
                let (first, last) = (from.height, to.height);
                format!("the log only grew from height {first} to height {last}: nothing was taken back")
            }
            Self::State(state) => state.statement(),
            Self::Anchors(anchors) => anchors.statement(),
        }
    }

    pub(super) fn facts(&self, facts: &mut Vec<(&'static str, String)>) {
        match self {
            Self::Transaction => {}
            Self::Receipt(body) => facts.push(("receipt", written(body))),
            Self::Record(record) => {
                facts.push(("record", format!("{} version {}", record.id, record.version)));
                facts.push(("received bytes", format!("SHA-256 {}", record.received)));
                facts.push((
                    "encrypted bytes",
                    format!("SHA-256 {}, {} bytes from {}", record.encrypted, record.length, record.offset),
                ));
            }
            Self::Opening(body) => facts.push(("body", body.written())),
            Self::Bundle(bundle) => bundle.facts(facts),
            Self::Membership(membership) => membership.facts(facts),
            Self::Numbers(numbers) => numbers.facts(facts),
            Self::Consent { root, delegate, limits, body } => {
                if let Some(delegate) = delegate {
                    facts.push(("given by", format!("a delegate, fingerprint of the root key {delegate}")));
                }
                facts.push(("consent", written(body)));
                facts.push(("key may sign", limits_text(limits)));
                facts.push((
                    "root key",
                    format!("fingerprint {root}: compare it with what the patient shows"),
                ));
            }
            Self::Consistency { from, to } => {
                for (name, end) in [("from", from), ("to", to)] {
                    facts.push((name, format!("height {}, hash {}", end.height, end.block)));
                    facts.push(("log", format!("{} leaves, root {}", end.log_size, end.log_root)));
                    facts.push(("certified", end.certified_by()));
                }
            }
            Self::State(state) => state.facts(facts),
            Self::Anchors(anchors) => anchors.facts(facts),
        }
    }
}

/// A body as it was committed.
pub(super) fn written(body: &impl Serialize) -> String {
    String::from_utf8(json::encode(body).unwrap_or_default()).unwrap_or_default()
}
