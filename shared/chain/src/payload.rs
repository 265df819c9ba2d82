//! What a transaction says: one typed payload per kind, and the part of their validity that needs no state.
//!
//! Every payload carries `chain`, `type` and `iat` (Unix milliseconds). A key is named by its fingerprint; the kinds that
//! introduce a key also carry it raw as `pub`. Who may sign what, and when it acts, are the ledger's rules.
//!
//! Why: decision 0011.

use serde::{Deserialize, Serialize};

use super::json::{self, MAX_INTEGER};
use super::names::{PARAMETERS, is_name};
use hbc_types::account::{Custody, ServiceRole};
use hbc_types::codes::codes;
use hbc_types::digest::Digest;
use hbc_types::hash;
use hbc_types::ids::GrantId;
use hbc_types::keys::{Kid, PublicKey, SignatureBytes, Tag, possession_text};

/// Segments in one anchor at most.
const MAX_SEGMENTS: usize = 256;
/// Digests in one erasure at most.
const MAX_ERASED: usize = 1024;
/// Bytes of a free text (an organisation, a period, an event) at most.
pub const MAX_TEXT_BYTES: usize = 200;

/// Why a payload can never be part of any block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// A field is outside what its kind allows.
    #[error("field `{field}`: {problem}")]
    Field {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
}

fn refuse(field: &'static str, problem: &'static str) -> Result<(), PayloadError> {
    Err(PayloadError::Field { field, problem })
}

fn demand(holds: bool, field: &'static str, problem: &'static str) -> Result<(), PayloadError> {
    if holds { Ok(()) } else { refuse(field, problem) }
}

codes! {
    /// Whether a service's or a consent key is in use.
    KeyStatus {
        /// In use.
        Active = "active",
        /// Never again.
        Revoked = "revoked",
    }
}

codes! {
    /// How a staff profile stands.
    StaffStatus {
        /// Approved.
        Active = "active",
        /// Stopped for now.
        Suspended = "suspended",
        /// Ended.
        Revoked = "revoked",
    }
}

/// `member.vote`: a member's voice for a change of members, operators or parameters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberVote {
    /// The chain.
    pub chain: Digest,
    /// When it was signed.
    pub iat: u64,
    /// Changes of this subject that acted before.
    pub nonce: u64,
    /// `member:<name>`, `operator:<name>` or `parameter:<name>`.
    pub subject: String,
    /// A public key in hex, `none` to remove, or a parameter's number in decimal.
    pub value: String,
}

/// What a `member.vote` wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A member joins or changes its key; without a key it leaves.
    Member {
        /// Its name.
        name: String,
        /// Its key from the next height on.
        key: Option<PublicKey>,
    },
    /// An operator joins or changes its key; without a key it leaves.
    Operator {
        /// Its name.
        name: String,
        /// Its key from the next height on.
        key: Option<PublicKey>,
    },
    /// A parameter changes.
    Parameter {
        /// Its name.
        name: String,
        /// Its number from the next height on.
        value: u64,
    },
}

impl MemberVote {
    /// Reads subject and value together.
    ///
    /// # Errors
    /// When the subject is none of the three kinds or the value does not fit it.
    pub fn change(&self) -> Result<Change, PayloadError> {
        let wrong = |field, problem| PayloadError::Field { field, problem };
        let (kind, name) = self.subject.split_once(':').ok_or(wrong("subject", "names no kind"))?;
        let key = || match self.value.as_str() {
            "none" => Ok(None),
            hex => PublicKey::parse(hex)
                .map(Some)
                .map_err(|_not_hex| wrong("value", "not a public key or `none`")),
        };
        match kind {
            "member" | "operator" if !is_name(name) => Err(wrong("subject", "not a name")),
            "member" => Ok(Change::Member { name: name.to_owned(), key: key()? }),
            "operator" => Ok(Change::Operator { name: name.to_owned(), key: key()? }),
            "parameter" if !PARAMETERS.contains(&name) => Err(wrong("subject", "unknown parameter")),
            "parameter" => {
                let value: u64 = self.value.parse().map_err(|_no| wrong("value", "not a number"))?;
                if value > MAX_INTEGER || value.to_string() != self.value {
                    return Err(wrong("value", "not a plain decimal number up to 2^53-1"));
                }
                Ok(Change::Parameter { name: name.to_owned(), value })
            }
            _ => Err(wrong("subject", "unknown kind")),
        }
    }
}

/// `service.key`: the members give a service a key or take it away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceKeyChange {
    /// The chain.
    pub chain: Digest,
    /// When it was signed.
    pub iat: u64,
    /// Fingerprint of the service's key.
    pub key: Kid,
    /// Changes of this key that acted before.
    pub nonce: u64,
    /// The key itself.
    #[serde(rename = "pub")]
    pub public: PublicKey,
    /// Whose key.
    pub role: ServiceRole,
    /// In use or not.
    pub status: KeyStatus,
}

/// `identity.staff`: the public profile of somebody whom patients may trust with data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Staff {
    /// The chain.
    pub chain: Digest,
    /// `H("hbc/staff/v1", salt, JCS)` of what stays off the chain: the person's name.
    pub commitment: Digest,
    /// When it was signed.
    pub iat: u64,
    /// Fingerprint of the person's key.
    pub key: Kid,
    /// Changes of this profile that acted before.
    pub nonce: u64,
    /// The organisation, in public words.
    pub organisation: String,
    /// The key itself.
    #[serde(rename = "pub")]
    pub public: PublicKey,
    /// What they are: an agency type.
    pub role: String,
    /// How the profile stands.
    pub status: StaffStatus,
}

/// `identity.key`: a consent key is registered, or ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsentKey {
    /// The chain.
    pub chain: Digest,
    /// When it was signed.
    pub iat: u64,
    /// Fingerprint of the key.
    pub key: Kid,
    /// Proof of possession: the key's signature over [`possession_text`]. Only with status `active`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pop: Option<SignatureBytes>,
    /// The key itself. Only with status `active`.
    #[serde(rename = "pub", default, skip_serializing_if = "Option::is_none")]
    pub public: Option<PublicKey>,
    /// In use, or revoked for ever.
    pub status: KeyStatus,
}

/// A segment as an anchor names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// Bytes of the sealed segment.
    pub bytes: u64,
    /// Its content id in IPFS.
    pub cid: String,
    /// SHA-256 of the sealed segment.
    pub digest: Digest,
    /// Records in it.
    pub records: u32,
    /// RFC 6962 root over the records' commitments, in the order of their offsets.
    pub root: Digest,
    /// Tells those who hold the tag key whose it is.
    pub tag: Tag,
}

/// `record.anchor`: sealed segments exist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Anchor {
    /// The chain.
    pub chain: Digest,
    /// First clinical day, in days since 1970-01-01, rounded outward.
    pub day0: i32,
    /// Last clinical day.
    pub day1: i32,
    /// When it was signed.
    pub iat: u64,
    /// 1 to 256 segments.
    pub segments: Vec<Segment>,
}

/// `record.erase`: records or whole segments can never be read again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Erase {
    /// The chain.
    pub chain: Digest,
    /// `H("hbc/erase/v1", salt, JCS certificate)`.
    pub commitment: Digest,
    /// When it was signed.
    pub iat: u64,
    /// Record commitments.
    pub records: Vec<Digest>,
    /// Segment roots.
    pub roots: Vec<Digest>,
}

/// `consent.grant` and `consent.alter`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Consent {
    /// The chain.
    pub chain: Digest,
    /// `H("hbc/consent-body/v1", salt, JCS body)`.
    pub commitment: Digest,
    /// Who held the signing key.
    pub custody: Custody,
    /// The grant.
    pub grant: GrantId,
    /// When it was signed.
    pub iat: u64,
    /// The consent key, which signs.
    pub key: Kid,
    /// The key's event before this one; null for its first.
    pub prev: Option<Digest>,
    /// 1 for the key's first event, then one more each.
    pub seq: u64,
}

/// `consent.revoke`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revoke {
    /// The chain.
    pub chain: Digest,
    /// The grant that ends for ever.
    pub grant: GrantId,
    /// When it was signed.
    pub iat: u64,
    /// The consent key, which signs.
    pub key: Kid,
}

/// `access.receipts`: receipts were written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipts {
    /// The chain.
    pub chain: Digest,
    /// How many.
    pub count: u64,
    /// When it was signed.
    pub iat: u64,
    /// RFC 6962 root over the receipts' commitments.
    pub root: Digest,
}

/// `statistics.release`: a frozen set of statistics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// The chain.
    pub chain: Digest,
    /// SHA-256 of the release.
    pub digest: Digest,
    /// When it was signed.
    pub iat: u64,
    /// What time it covers.
    pub period: String,
}

/// `node.event`: something happened to a node that others should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeEvent {
    /// The chain.
    pub chain: Digest,
    /// What happened: a short code such as `attacked`.
    pub event: String,
    /// SHA-256 of the evidence.
    pub evidence: Digest,
    /// The height that it is about.
    pub height: u64,
    /// When it was signed.
    pub iat: u64,
    /// The member it is about.
    pub node: String,
}

/// Everything that a transaction can say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
#[expect(missing_docs, reason = "each variant is documented at its payload")]
pub enum Payload {
    #[serde(rename = "member.vote")]
    MemberVote(MemberVote),
    #[serde(rename = "service.key")]
    ServiceKey(ServiceKeyChange),
    #[serde(rename = "identity.staff")]
    Staff(Staff),
    #[serde(rename = "identity.key")]
    ConsentKey(ConsentKey),
    #[serde(rename = "record.anchor")]
    Anchor(Anchor),
    #[serde(rename = "record.erase")]
    Erase(Erase),
    #[serde(rename = "consent.grant")]
    Grant(Consent),
    #[serde(rename = "consent.alter")]
    Alter(Consent),
    #[serde(rename = "consent.revoke")]
    Revoke(Revoke),
    #[serde(rename = "access.receipts")]
    Receipts(Receipts),
    #[serde(rename = "statistics.release")]
    Release(Release),
    #[serde(rename = "node.event")]
    NodeEvent(NodeEvent),
}

/// Runs the same expression on whichever payload it is.
macro_rules! each {
    ($payload:expr, $inner:ident => $body:expr) => {
        match $payload {
            Payload::MemberVote($inner) => $body,
            Payload::ServiceKey($inner) => $body,
            Payload::Staff($inner) => $body,
            Payload::ConsentKey($inner) => $body,
            Payload::Anchor($inner) => $body,
            Payload::Erase($inner) => $body,
            Payload::Grant($inner) | Payload::Alter($inner) => $body,
            Payload::Revoke($inner) => $body,
            Payload::Receipts($inner) => $body,
            Payload::Release($inner) => $body,
            Payload::NodeEvent($inner) => $body,
        }
    };
}

impl Payload {
    /// The names of all types.
    pub const KINDS: [&'static str; 12] = [
        "access.receipts",
        "consent.alter",
        "consent.grant",
        "consent.revoke",
        "identity.key",
        "identity.staff",
        "member.vote",
        "node.event",
        "record.anchor",
        "record.erase",
        "service.key",
        "statistics.release",
    ];

    /// The chain that it is for.
    #[must_use]
    pub const fn chain(&self) -> Digest {
        each!(self, payload => payload.chain)
    }

    /// When it was signed, in Unix milliseconds.
    #[must_use]
    pub const fn iat(&self) -> u64 {
        each!(self, payload => payload.iat)
    }

    /// Its `type`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        // A name that is added here stands in `KINDS` too.
        match self {
            Self::MemberVote(_) => "member.vote",
            Self::ServiceKey(_) => "service.key",
            Self::Staff(_) => "identity.staff",
            Self::ConsentKey(_) => "identity.key",
            Self::Anchor(_) => "record.anchor",
            Self::Erase(_) => "record.erase",
            Self::Grant(_) => "consent.grant",
            Self::Alter(_) => "consent.alter",
            Self::Revoke(_) => "consent.revoke",
            Self::Receipts(_) => "access.receipts",
            Self::Release(_) => "statistics.release",
            Self::NodeEvent(_) => "node.event",
        }
    }

    /// The key that it introduces, if it does.
    #[must_use]
    pub const fn introduces(&self) -> Option<PublicKey> {
        match self {
            Self::ServiceKey(payload) => Some(payload.public),
            Self::Staff(payload) => Some(payload.public),
            Self::ConsentKey(payload) => payload.public,
            _ => None,
        }
    }

    /// What several signers agree upon: `H("hbc/ballot/v1", JCS payload with iat 0)`, equal for equal fields but `iat`.
    #[must_use]
    pub fn ballot(&self) -> Digest {
        let mut same = self.clone();
        each!(&mut same, payload => payload.iat = 0);
        // A payload that has no canonical form was never parsed; its ballot would match no other's.
        let bytes = json::encode(&same).unwrap_or_default();
        hash::domain_hash("hbc/ballot/v1", &[&bytes])
    }

    /// What holds or fails whatever the state is.
    ///
    /// # Errors
    /// The first field that can never be right.
    pub fn check(&self) -> Result<(), PayloadError> {
        demand(self.iat() <= MAX_INTEGER, "iat", "too large")?;
        match self {
            Self::MemberVote(vote) => vote.change().map(|_| ()),
            Self::ServiceKey(change) => {
                demand(change.public.kid() == change.key, "pub", "its fingerprint is not `key`")
            }
            Self::Staff(staff) => check_staff(staff),
            Self::ConsentKey(key) => check_consent_key(key),
            Self::Anchor(anchor) => check_anchor(anchor),
            Self::Erase(erase) => check_erase(erase),
            Self::Grant(consent) | Self::Alter(consent) => {
                demand(consent.seq >= 1, "seq", "begins at 1")?;
                demand((consent.seq == 1) == consent.prev.is_none(), "prev", "null for the first event only")
            }
            Self::Revoke(_) => Ok(()),
            Self::Receipts(receipts) => demand(receipts.count >= 1, "count", "at least 1"),
            Self::Release(release) => check_text("period", &release.period),
            Self::NodeEvent(event) => {
                demand(is_name(&event.node), "node", "not a member's name")?;
                demand(is_name(&event.event), "event", "not a short code")
            }
        }
    }
}

fn check_text(field: &'static str, text: &str) -> Result<(), PayloadError> {
    demand(!text.is_empty() && text.len() <= MAX_TEXT_BYTES, field, "1 to 200 bytes")?;
    demand(!text.chars().any(char::is_control), field, "no control characters")
}

fn check_staff(staff: &Staff) -> Result<(), PayloadError> {
    demand(staff.public.kid() == staff.key, "pub", "its fingerprint is not `key`")?;
    check_text("organisation", &staff.organisation)?;
    demand(is_name(&staff.role), "role", "not a short code")
}

fn check_consent_key(key: &ConsentKey) -> Result<(), PayloadError> {
    match (key.status, &key.public, &key.pop) {
        (KeyStatus::Active, Some(public), Some(pop)) => {
            demand(public.kid() == key.key, "pub", "its fingerprint is not `key`")?;
            let text = possession_text(&key.chain, &key.key);
            demand(
                public.verify(&text, pop).is_ok(),
                "pop",
                "not the key's signature over the possession text",
            )
        }
        (KeyStatus::Revoked, None, None) => Ok(()),
        (KeyStatus::Active, ..) => refuse("pop", "a registration carries `pub` and `pop`"),
        (KeyStatus::Revoked, ..) => refuse("pop", "a revocation carries neither `pub` nor `pop`"),
    }
}

/// The first day number of a year before any patient's birth (1800-01-01), and the last of 9999.
const DAYS: std::ops::RangeInclusive<i32> = -62_091..=2_932_896;

fn check_anchor(anchor: &Anchor) -> Result<(), PayloadError> {
    demand(
        DAYS.contains(&anchor.day0) && DAYS.contains(&anchor.day1),
        "day0",
        "outside the years 1800 to 9999",
    )?;
    demand(anchor.day0 <= anchor.day1, "day1", "before day0")?;
    demand((1..=MAX_SEGMENTS).contains(&anchor.segments.len()), "segments", "1 to 256")?;
    for segment in &anchor.segments {
        demand(is_cid(&segment.cid), "cid", "not a lowercase base32 CIDv1")?;
        demand((1..=MAX_INTEGER).contains(&segment.bytes), "bytes", "at least 1")?;
        demand(segment.records >= 1, "records", "at least 1")?;
    }
    demand(all_distinct(anchor.segments.iter().map(|segment| segment.root)), "root", "twice in one anchor")
}

fn check_erase(erase: &Erase) -> Result<(), PayloadError> {
    let count = erase.roots.len().saturating_add(erase.records.len());
    demand((1..=MAX_ERASED).contains(&count), "roots", "1 to 1024 roots and records together")?;
    demand(all_distinct(erase.roots.iter().copied()), "roots", "one stands there twice")?;
    demand(all_distinct(erase.records.iter().copied()), "records", "one stands there twice")
}

fn all_distinct(digests: impl Iterator<Item = Digest>) -> bool {
    let mut digests: Vec<Digest> = digests.collect();
    let count = digests.len();
    digests.sort_unstable();
    digests.dedup();
    digests.len() == count
}

/// CIDv1 in multibase base32 (`b` and lowercase letters or 2 to 7).
fn is_cid(text: &str) -> bool {
    (10..=128).contains(&text.len())
        && text.starts_with('b')
        && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'2'..=b'7'))
}

#[cfg(test)]
mod tests;
