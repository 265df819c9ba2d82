//! What a transaction says: one typed payload per kind, and the part of their validity that needs no state.
//!
//! Every payload carries `chain`, `type` and `iat` (Unix milliseconds). A key is named by its fingerprint; the kinds that
//! introduce a key also carry it raw as `pub`. Who may sign what, and when it takes effect, are the ledger's rules.
//!
//! A new kind is one entry of `payloads!` below; the compiler then asks for its `check`, and leads to each match that must
//! say what the kind means: [`Payload::introduces`], the ledger's rules, and what the services make of final ones.
//!
//! Why: decision 0011.

mod declare;

use serde::{Deserialize, Serialize};

use super::json::{self, MAX_INTEGER};
use super::names::{PARAMETERS, is_name};
use declare::payloads;
use hbc_types::account::{Custody, ServiceRole};
use hbc_types::codes::codes;
use hbc_types::digest::Digest;
use hbc_types::hash;
use hbc_types::ids::GrantId;
use hbc_types::keys::{Kid, PublicKey, SignatureBytes, Tag, possession_text};

/// Segments in one anchor at most.
const MAX_SEGMENTS: usize = 64;
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

codes! {
    /// Whether somebody acts for an organisation.
    AffiliationStatus {
        /// They do.
        Active = "active",
        /// They do no longer. It may begin anew.
        Ended = "ended",
    }
}

codes! {
    /// What operators order.
    OrderKind {
        /// An app may not ask patients for access any more; subject: the SHA-256 of its client id.
        AppEnded = "app-ended",
        /// An app may ask patients for access; subject: the SHA-256 of its client id.
        AppRegistered = "app-registered",
        /// A suspension for misuse is over; subject: the commitment of the suspension.
        MisuseLifted = "misuse-lifted",
        /// A patient whose rights were restored from an older backup is unlocked; subject: the patient's root kid.
        RestoreLifted = "restore-lifted",
        /// A root key that neither the one before nor the recovery key vouches for; subject: the hash of the patient's claim.
        RootReplaced = "root-replaced",
    }
}

/// A segment as an anchor names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// Bytes of the encrypted segment.
    pub bytes: u64,
    /// Its content id in IPFS.
    pub cid: String,
    /// First clinical day of its records, in days since 1970-01-01, rounded outward.
    pub day0: i32,
    /// Last clinical day.
    pub day1: i32,
    /// SHA-256 of the encrypted segment.
    pub digest: Digest,
    /// Records in it.
    pub records: u32,
    /// RFC 6962 root over the records' commitments, in the order of their offsets.
    pub root: Digest,
    /// Tells those who hold the tag key whose it is.
    pub tag: Tag,
}

payloads! {
    /// `access.receipts`: receipts were written.
    Receipts [Receipts = "access.receipts"] {
        /// How many.
        count: u64,
        /// Head of access-policy's journal of rights, where it keeps one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rights: Option<Digest>,
        /// RFC 6962 root over the receipts' commitments.
        root: Digest,
    }

    /// `consent.grant` and `consent.alter`.
    Consent [Alter = "consent.alter", Grant = "consent.grant"] {
        /// `H("hbc/consent-body/v1", salt, JCS body)`.
        commitment: Digest,
        /// Who held the signing key.
        custody: Custody,
        /// The grant.
        grant: GrantId,
        /// The consent key, which signs.
        key: Kid,
        /// The key's event before this one; null for its first.
        prev: Option<Digest>,
        /// 1 for the key's first event, then one more each.
        seq: u64,
    }

    /// `consent.revoke`.
    Revoke [Revoke = "consent.revoke"] {
        /// The grant that ends for ever.
        grant: GrantId,
        /// The consent key, which signs.
        key: Kid,
    }

    /// `identity.key`: a consent key is registered, or ends.
    ConsentKey [ConsentKey = "identity.key"] {
        /// Fingerprint of the key.
        key: Kid,
        /// Proof of possession: the key's signature over [`possession_text`]. Only with status `active`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pop: Option<SignatureBytes>,
        /// The key itself. Only with status `active`.
        #[serde(rename = "pub", default, skip_serializing_if = "Option::is_none")]
        public: Option<PublicKey>,
        /// In use, or revoked for ever.
        status: KeyStatus,
    }

    /// `identity.member`: somebody acts for an organisation, or does so no longer.
    Affiliation [Affiliation = "identity.member"] {
        /// `H("hbc/member/v1", salt, JCS)` of what stays off the chain: who it is and in what function.
        commitment: Digest,
        /// Key of the person's staff profile.
        key: Kid,
        /// Changes of this pair before.
        nonce: u64,
        /// Key of the organisation's staff profile.
        organisation: Kid,
        /// Whether they do.
        status: AffiliationStatus,
    }

    /// `identity.staff`: the public profile of somebody whom patients may trust with data.
    Staff [Staff = "identity.staff"] {
        /// `H("hbc/staff/v1", salt, JCS)` of what stays off the chain: the person's name.
        commitment: Digest,
        /// Fingerprint of the person's key.
        key: Kid,
        /// Changes of this profile that took effect before.
        nonce: u64,
        /// The organisation, in public words.
        organisation: String,
        /// The key itself.
        #[serde(rename = "pub")]
        public: PublicKey,
        /// What they are: an agency type.
        role: String,
        /// How the profile stands.
        status: StaffStatus,
    }

    /// `member.vote`: a member's vote for a change of members, operators or parameters.
    MemberVote [MemberVote = "member.vote"] {
        /// Changes of this subject that took effect before.
        nonce: u64,
        /// `member:<name>`, `operator:<name>` or `parameter:<name>`.
        subject: String,
        /// A public key in hex, `none` to remove, or a parameter's number in decimal.
        value: String,
    }

    /// `node.event`: something happened to a node that others should know.
    NodeEvent [NodeEvent = "node.event"] {
        /// What happened: a short code such as `attacked`.
        event: String,
        /// SHA-256 of the evidence.
        evidence: Digest,
        /// The height that it is about.
        height: u64,
        /// The member it is about.
        node: String,
    }

    /// `operator.order`: operators decide what nobody else may.
    Order [Order = "operator.order"] {
        /// `H("hbc/order/v1", salt, JCS)` of what stays off the chain: the reason.
        commitment: Digest,
        /// What they decide.
        kind: OrderKind,
        /// Orders of this kind about this subject that took effect before.
        nonce: u64,
        /// What it is about, as its kind says: a digest that tells strangers nothing.
        subject: Digest,
    }

    /// `record.anchor`: encrypted segments exist.
    Anchor [Anchor = "record.anchor"] {
        /// 1 to 64 segments, ascending by root: their order tells nothing.
        segments: Vec<Segment>,
    }

    /// `record.erase`: records or whole segments can never be read again.
    Erase [Erase = "record.erase"] {
        /// `H("hbc/erase/v1", salt, JCS certificate)`.
        commitment: Digest,
        /// Record commitments.
        records: Vec<Digest>,
        /// Segment roots.
        roots: Vec<Digest>,
    }

    /// `service.key`: the members give a service a key or take it away.
    ServiceKeyChange [ServiceKey = "service.key"] {
        /// Fingerprint of the service's key.
        key: Kid,
        /// Changes of this key that took effect before.
        nonce: u64,
        /// The key itself.
        #[serde(rename = "pub")]
        public: PublicKey,
        /// Whose key.
        role: ServiceRole,
        /// In use or not.
        status: KeyStatus,
    }

    /// `statistics.release`: a frozen set of statistics.
    Release [Release = "statistics.release"] {
        /// SHA-256 of the release.
        digest: Digest,
        /// What time it covers.
        period: String,
    }
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
    fn check(&self) -> Result<(), PayloadError> {
        self.change().map(|_| ())
    }

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

impl Payload {
    /// The key that it introduces, if it does.
    #[must_use]
    pub const fn introduces(&self) -> Option<PublicKey> {
        match self {
            Self::ServiceKey(payload) => Some(payload.public),
            Self::Staff(payload) => Some(payload.public),
            Self::ConsentKey(payload) => payload.public,
            Self::MemberVote(_)
            | Self::Affiliation(_)
            | Self::Order(_)
            | Self::Anchor(_)
            | Self::Erase(_)
            | Self::Grant(_)
            | Self::Alter(_)
            | Self::Revoke(_)
            | Self::Receipts(_)
            | Self::Release(_)
            | Self::NodeEvent(_) => None,
        }
    }

    /// What several signers agree upon: `H("hbc/ballot/v1", JCS payload with iat 0)`, equal for equal fields but `iat`.
    #[must_use]
    pub fn ballot(&self) -> Digest {
        let mut same = self.clone();
        *same.iat_mut() = 0;
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
        self.check_fields()
    }
}

impl Receipts {
    fn check(&self) -> Result<(), PayloadError> {
        demand(self.count >= 1, "count", "at least 1")
    }
}

impl Consent {
    fn check(&self) -> Result<(), PayloadError> {
        demand(self.seq >= 1, "seq", "begins at 1")?;
        demand((self.seq == 1) == self.prev.is_none(), "prev", "null for the first event only")
    }
}

impl Revoke {
    /// Its types say all.
    #[expect(clippy::unused_self, reason = "each payload has this method")]
    const fn check(&self) -> Result<(), PayloadError> {
        Ok(())
    }
}

impl Affiliation {
    fn check(&self) -> Result<(), PayloadError> {
        demand(self.key != self.organisation, "organisation", "nobody is a member of themselves")
    }
}

impl Order {
    /// What votes about it, and earlier orders, are counted under.
    #[must_use]
    pub fn about(&self) -> String {
        format!("order:{}:{}", self.kind, self.subject)
    }

    /// Its types say all.
    #[expect(clippy::unused_self, reason = "each payload has this method")]
    const fn check(&self) -> Result<(), PayloadError> {
        Ok(())
    }
}

impl NodeEvent {
    fn check(&self) -> Result<(), PayloadError> {
        demand(is_name(&self.node), "node", "not a member's name")?;
        demand(is_name(&self.event), "event", "not a short code")
    }
}

impl ServiceKeyChange {
    fn check(&self) -> Result<(), PayloadError> {
        demand(self.public.kid() == self.key, "pub", "its fingerprint is not `key`")
    }
}

impl Release {
    fn check(&self) -> Result<(), PayloadError> {
        check_text("period", &self.period)
    }
}

fn check_text(field: &'static str, text: &str) -> Result<(), PayloadError> {
    demand(!text.is_empty() && text.len() <= MAX_TEXT_BYTES, field, "1 to 200 bytes")?;
    demand(!text.chars().any(char::is_control), field, "no control characters")
}

impl Staff {
    fn check(&self) -> Result<(), PayloadError> {
        demand(self.public.kid() == self.key, "pub", "its fingerprint is not `key`")?;
        check_text("organisation", &self.organisation)?;
        demand(is_name(&self.role), "role", "not a short code")
    }
}

impl ConsentKey {
    fn check(&self) -> Result<(), PayloadError> {
        match (self.status, &self.public, &self.pop) {
            (KeyStatus::Active, Some(public), Some(pop)) => {
                demand(public.kid() == self.key, "pub", "its fingerprint is not `key`")?;
                let text = possession_text(&self.chain, &self.key);
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
}

/// The first day number of a year before any patient's birth (1800-01-01), and the last of 9999.
const DAYS: std::ops::RangeInclusive<i32> = -62_091..=2_932_896;

impl Anchor {
    fn check(&self) -> Result<(), PayloadError> {
        demand((1..=MAX_SEGMENTS).contains(&self.segments.len()), "segments", "1 to 64")?;
        for segment in &self.segments {
            demand(is_cid(&segment.cid), "cid", "not a lowercase base32 CIDv1")?;
            demand((1..=MAX_INTEGER).contains(&segment.bytes), "bytes", "at least 1")?;
            demand(segment.records >= 1, "records", "at least 1")?;
            let known = DAYS.contains(&segment.day0) && DAYS.contains(&segment.day1);
            demand(known, "day0", "outside the years 1800 to 9999")?;
            demand(segment.day0 <= segment.day1, "day1", "before day0")?;
        }
        let ascending = self.segments.is_sorted_by(|one, next| one.root < next.root);
        demand(ascending, "root", "not ascending, or twice in one anchor")
    }
}

impl Erase {
    fn check(&self) -> Result<(), PayloadError> {
        let count = self.roots.len().saturating_add(self.records.len());
        demand((1..=MAX_ERASED).contains(&count), "roots", "1 to 1024 roots and records together")?;
        demand(all_distinct(self.roots.iter().copied()), "roots", "one stands there twice")?;
        demand(all_distinct(self.records.iter().copied()), "records", "one stands there twice")
    }
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
