//! What stands in the state map: one typed value per kind of entry, and its place.
//!
//! | kind | id | value |
//! |---|---|---|
//! | `members`, `operators` | empty | list of `{key, name}` by name: those of the next height |
//! | `parameters` | empty | the parameters of the next height |
//! | `service` | kid | [`ServiceEntry`] |
//! | `staff` | kid | [`StaffEntry`] |
//! | `affiliation` | `<organisation>/<kid>` | [`AffiliationEntry`] |
//! | `order` | `<kind>/<subject>` | [`OrderEntry`] |
//! | `key` | kid of a consent key | [`KeyEntry`] |
//! | `grant` | `<kid>/<grant>` | [`GrantEntry`] |
//! | `segment` | segment root | [`SeenEntry`] |
//! | `receipts` | receipts root | [`ReceiptsEntry`] |
//! | `erased` | segment root or record commitment | [`ErasedEntry`] |
//! | `release` | digest | [`ReleaseEntry`] |
//! | `changes` | subject | [`ChangesEntry`] |
//! | `ballots` | subject, or `event:<node>` | list of [`Vote`] by key |
//! | `event` | ballot | [`SeenEntry`] |
//!
//! A grant is in force when its entry *and* its key's entry say `active`. Ids are text: digests in lowercase hex.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::genesis::{MAX_MEMBERS, MAX_OPERATORS, Named, Parameters, ServiceEntry, check_named};
use super::json::{self, JsonError};
use super::map::MapValue;
use super::names::{PARAMETERS, is_name};
use super::payload::{AffiliationStatus, KeyStatus, OrderKind, StaffStatus};
use hbc_types::account::Custody;
use hbc_types::codes::codes;
use hbc_types::digest::Digest;
use hbc_types::hash;
use hbc_types::ids::GrantId;
use hbc_types::keys::{Kid, PublicKey};

codes! {
    /// The kinds of entries.
    Kind {
        /// The members of the next height.
        Members = "members",
        /// The operators of the next height.
        Operators = "operators",
        /// The parameters of the next height.
        Parameters = "parameters",
        /// A service's key.
        Service = "service",
        /// A staff profile.
        Staff = "staff",
        /// Somebody who acts for an organisation.
        Affiliation = "affiliation",
        /// What operators ordered.
        Order = "order",
        /// A consent key.
        Key = "key",
        /// A grant.
        Grant = "grant",
        /// An anchored segment.
        Segment = "segment",
        /// A batch of receipts.
        Receipts = "receipts",
        /// An erased segment or record.
        Erased = "erased",
        /// A release of statistics.
        Release = "release",
        /// How often a subject changed.
        Changes = "changes",
        /// Votes that have not reached their threshold.
        Ballots = "ballots",
        /// A node's event.
        Event = "event",
    }
}

impl Kind {
    /// Where the entry of this kind and id stands.
    #[must_use]
    pub fn key(self, id: &str) -> Digest {
        hash::state_key(self.code(), id)
    }

    /// Where the entry of this kind under a digest stands.
    #[must_use]
    pub fn digest_key(self, id: &Digest) -> Digest {
        let hex = hex_digits(id.as_bytes());
        hash::domain_hash("hbc/state-key/v1", &[self.code().as_bytes(), &hex])
    }

    /// Whether an entry of this kind can stand under this id. Of any other id the map says "absent", which would be true
    /// and mean nothing: `KID` in capitals is no other key than `kid`, it is none.
    #[must_use]
    pub fn id_fits(self, id: &str) -> bool {
        match self {
            Self::Members | Self::Operators | Self::Parameters => id.is_empty(),
            Self::Service
            | Self::Staff
            | Self::Key
            | Self::Segment
            | Self::Receipts
            | Self::Erased
            | Self::Release
            | Self::Event => is_digest(id),
            Self::Grant => {
                id.split_once('/').is_some_and(|(key, grant)| is_digest(key) && GrantId::parse(grant).is_ok())
            }
            Self::Affiliation => {
                id.split_once('/').is_some_and(|(one, other)| is_digest(one) && is_digest(other))
            }
            Self::Order => id.split_once('/').is_some_and(|(kind, subject)| is_order(kind, subject)),
            Self::Changes => is_subject(id),
            Self::Ballots => is_subject(id) || id.strip_prefix("event:").is_some_and(is_name),
        }
    }
}

/// Grants that were never seen and that one key may revoke.
pub const MAX_UNSEEN: u64 = 64;

/// Reads a value whole.
fn read<T: Serialize + serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, JsonError> {
    json::decode(bytes)
}

impl Kind {
    /// Whether the canonical bytes are the value of an entry of this kind under this id: all its fields and no others, each
    /// within its limits. A state that a quorum certified holds no other; one that does says nothing that can be read.
    #[must_use]
    pub fn value_fits(self, id: &str, bytes: &[u8]) -> bool {
        let of_key = |key: &PublicKey| key.check().is_ok() && key.kid().to_string() == id;
        let listed = |most: usize| {
            read::<Vec<Named>>(bytes)
                .is_ok_and(|list| (1..=most).contains(&list.len()) && check_named(&list).is_ok())
        };
        match self {
            Self::Members => listed(MAX_MEMBERS),
            Self::Operators => listed(MAX_OPERATORS),
            Self::Parameters => read::<Parameters>(bytes).is_ok_and(|value| value.check().is_ok()),
            Self::Service => read::<ServiceEntry>(bytes).is_ok_and(|value| of_key(&value.public)),
            Self::Staff => read::<StaffEntry>(bytes).is_ok_and(|value| of_key(&value.public)),
            Self::Key => read::<KeyEntry>(bytes).is_ok_and(|value| {
                of_key(&value.public)
                    && value.prev.is_none() == (value.seq == 0)
                    && value.unseen <= MAX_UNSEEN
            }),
            Self::Affiliation => read::<AffiliationEntry>(bytes).is_ok_and(|value| value.count >= 1),
            Self::Order => read::<OrderEntry>(bytes).is_ok(),
            Self::Grant => read::<GrantEntry>(bytes).is_ok_and(|value| value.is_whole()),
            Self::Segment | Self::Event => read::<SeenEntry>(bytes).is_ok(),
            Self::Receipts => read::<ReceiptsEntry>(bytes).is_ok_and(|value| value.count >= 1),
            Self::Erased => read::<ErasedEntry>(bytes).is_ok(),
            Self::Release => read::<ReleaseEntry>(bytes).is_ok(),
            Self::Changes => read::<ChangesEntry>(bytes).is_ok_and(|value| value.count >= 1),
            Self::Ballots => read::<Vec<Vote>>(bytes)
                .is_ok_and(|votes| !votes.is_empty() && votes.is_sorted_by(|one, next| one.key < next.key)),
        }
    }
}

fn is_digest(text: &str) -> bool {
    Digest::parse(text).is_ok()
}

fn is_order(kind: &str, subject: &str) -> bool {
    OrderKind::parse(kind).is_some() && is_digest(subject)
}

/// What several decide about: `member:<name>`, `operator:<name>`, `parameter:<name>`, `service:<kid>`, `staff:<kid>`,
/// `order:<kind>:<subject>`.
fn is_subject(text: &str) -> bool {
    match text.split_once(':') {
        Some(("member" | "operator", name)) => is_name(name),
        Some(("parameter", name)) => PARAMETERS.contains(&name),
        Some(("service" | "staff", kid)) => is_digest(kid),
        Some(("order", order)) => {
            order.split_once(':').is_some_and(|(kind, subject)| is_order(kind, subject))
        }
        _ => false,
    }
}

/// The id of a grant's entry.
#[must_use]
pub fn grant_id(key: &Kid, grant: &GrantId) -> String {
    format!("{key}/{grant}")
}

/// The id of the entry of somebody who acts for an organisation.
#[must_use]
pub fn affiliation_id(organisation: &Kid, key: &Kid) -> String {
    format!("{organisation}/{key}")
}

/// The id of an order's entry.
#[must_use]
pub fn order_id(kind: OrderKind, subject: &Digest) -> String {
    format!("{kind}/{subject}")
}

/// Somebody who acts for an organisation, or did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AffiliationEntry {
    /// Commitment to what stays off the chain.
    pub commitment: Digest,
    /// Changes so far: the next one's nonce.
    pub count: u64,
    /// Whether they do.
    pub status: AffiliationStatus,
    /// The last change.
    pub txid: Digest,
}

/// What operators ordered last of this kind about this subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrderEntry {
    /// Commitment to the reason.
    pub commitment: Digest,
    /// The transaction that completed it.
    pub txid: Digest,
}

/// A staff profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StaffEntry {
    /// Commitment to what stays off the chain.
    pub commitment: Digest,
    /// The organisation.
    pub organisation: String,
    /// The person's key.
    #[serde(rename = "pub")]
    pub public: PublicKey,
    /// An agency type.
    pub role: String,
    /// How the profile stands.
    pub status: StaffStatus,
    /// The transaction that reached the threshold last.
    pub txid: Digest,
}

/// A consent key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyEntry {
    /// The key's last grant or alteration; null before its first.
    pub prev: Option<Digest>,
    /// The key itself.
    #[serde(rename = "pub")]
    pub public: PublicKey,
    /// Grants and alterations so far.
    pub seq: u64,
    /// In use, or revoked for ever.
    pub status: KeyStatus,
    /// The transaction that registered it or, once revoked, the one that revoked it.
    pub txid: Digest,
    /// Grants that it revoked before they were seen.
    pub unseen: u64,
}

/// A grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantEntry {
    /// Commitment to its body; absent when it was revoked before it was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commitment: Option<Digest>,
    /// Who held the key; absent when it was revoked before it was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custody: Option<Custody>,
    /// The key's `seq` of its last event; 0 when it was revoked before it was seen.
    pub seq: u64,
    /// In force as far as the grant goes, or revoked for ever.
    pub status: KeyStatus,
    /// Its last transaction: the grant, the alteration or the revocation.
    pub txid: Digest,
}

impl KeyEntry {
    fn to_bytes(&self) -> Vec<u8> {
        let fields = match &self.prev {
            Some(prev) => Fields::new().digest("prev", prev),
            None => Fields::new().null("prev"),
        };
        let fields = fields.hex("pub", self.public.as_bytes()).number("seq", self.seq);
        let fields = fields.code("status", self.status.code()).digest("txid", &self.txid);
        fields.number("unseen", self.unseen).end()
    }
}

impl GrantEntry {
    /// What was revoked unseen has neither commitment nor custody nor a place in its key's order; everything else has all.
    const fn is_whole(&self) -> bool {
        let unseen = self.seq == 0;
        self.commitment.is_none() == unseen
            && self.custody.is_none() == unseen
            && (!unseen || matches!(self.status, KeyStatus::Revoked))
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut fields = Fields::new();
        if let Some(commitment) = &self.commitment {
            fields = fields.digest("commitment", commitment);
        }
        if let Some(custody) = self.custody {
            fields = fields.code("custody", custody.code());
        }
        let fields = fields.number("seq", self.seq).code("status", self.status.code());
        fields.digest("txid", &self.txid).end()
    }
}

/// Writes the canonical form of an object whose values are hex, codes and numbers: such objects are hashed by the
/// hundred thousand, and need no escapes and no sorting when their fields are given in order.
struct Fields(Vec<u8>);

impl Fields {
    fn new() -> Self {
        Self(Vec::with_capacity(320))
    }

    fn name(&mut self, name: &'static str) {
        self.0.push(if self.0.is_empty() { b'{' } else { b',' });
        self.0.push(b'"');
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    fn hex(mut self, name: &'static str, bytes: &[u8; 32]) -> Self {
        self.name(name);
        self.0.push(b'"');
        self.0.extend_from_slice(&hex_digits(bytes));
        self.0.push(b'"');
        self
    }

    fn digest(self, name: &'static str, digest: &Digest) -> Self {
        self.hex(name, digest.as_bytes())
    }

    fn code(mut self, name: &'static str, code: &'static str) -> Self {
        self.name(name);
        self.0.push(b'"');
        self.0.extend_from_slice(code.as_bytes());
        self.0.push(b'"');
        self
    }

    fn number(mut self, name: &'static str, number: u64) -> Self {
        self.name(name);
        self.0.extend_from_slice(number.to_string().as_bytes());
        self
    }

    fn null(mut self, name: &'static str) -> Self {
        self.name(name);
        self.0.extend_from_slice(b"null");
        self
    }

    fn end(mut self) -> Vec<u8> {
        self.0.push(b'}');
        self.0
    }
}

/// 64 lowercase digits, straight from a table.
fn hex_digits(bytes: &[u8; 32]) -> [u8; 64] {
    let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
    let mut digits = [0; 64];
    for (pair, byte) in digits.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
        *pair = [digit(byte >> 4), digit(byte & 15)];
    }
    digits
}

/// Something was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeenEntry {
    /// In this transaction.
    pub txid: Digest,
}

/// A batch of receipts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptsEntry {
    /// Receipts in the batch.
    pub count: u64,
    /// Head of access-policy's journal of rights then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rights: Option<Digest>,
    /// The transaction.
    pub txid: Digest,
}

/// Something can never be read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErasedEntry {
    /// Commitment to the certificate.
    pub commitment: Digest,
    /// The first transaction that said so.
    pub txid: Digest,
}

/// A release of statistics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseEntry {
    /// What time it covers.
    pub period: String,
    /// The transaction.
    pub txid: Digest,
}

/// How often a subject changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangesEntry {
    /// How often: the next change's nonce.
    pub count: u64,
    /// The transaction that completed the last change.
    pub txid: Digest,
}

/// A party's vote for a ballot that has not reached its threshold. One per party and subject; the latest counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vote {
    /// What it is for: see [`super::payload::Payload::ballot`].
    pub ballot: Digest,
    /// Whose.
    pub key: Kid,
    /// In which transaction.
    pub txid: Digest,
}

/// The value of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is documented at its kind")]
pub enum Entry {
    Members(Arc<Vec<Named>>),
    Operators(Arc<Vec<Named>>),
    Parameters(Arc<Parameters>),
    Service(Box<ServiceEntry>),
    Staff(Box<StaffEntry>),
    Affiliation(Box<AffiliationEntry>),
    Order(Box<OrderEntry>),
    Key(Box<KeyEntry>),
    Grant(Box<GrantEntry>),
    Seen(SeenEntry),
    Receipts(Box<ReceiptsEntry>),
    Erased(Box<ErasedEntry>),
    Release(Box<ReleaseEntry>),
    Changes(Box<ChangesEntry>),
    Ballots(Box<[Vote]>),
}

impl Entry {
    /// The value's JCS form. A value that has none never gets into a map: every number in one comes from a payload or
    /// counts transactions.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let bytes = match self {
            Self::Members(list) | Self::Operators(list) => json::encode(list.as_ref()),
            Self::Parameters(entry) => json::encode(entry.as_ref()),
            Self::Service(entry) => json::encode(entry),
            Self::Staff(entry) => json::encode(entry),
            Self::Affiliation(entry) => json::encode(entry),
            Self::Order(entry) => json::encode(entry),
            Self::Key(entry) => return entry.to_bytes(),
            Self::Grant(entry) => return entry.to_bytes(),
            Self::Seen(entry) => return Fields::new().digest("txid", &entry.txid).end(),
            Self::Receipts(entry) => {
                let mut fields = Fields::new().number("count", entry.count);
                if let Some(rights) = &entry.rights {
                    fields = fields.digest("rights", rights);
                }
                return fields.digest("txid", &entry.txid).end();
            }
            Self::Erased(entry) => {
                let fields = Fields::new().digest("commitment", &entry.commitment);
                return fields.digest("txid", &entry.txid).end();
            }
            Self::Release(entry) => json::encode(entry),
            Self::Changes(entry) => json::encode(entry),
            Self::Ballots(votes) => json::encode(votes),
        };
        bytes.unwrap_or_default()
    }
}

impl MapValue for Entry {
    fn digest(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_its_hex_as_an_id() {
        let digest = Digest::of(b"kid");
        assert_eq!(Kind::Service.digest_key(&digest), Kind::Service.key(&digest.to_string()));
    }

    #[test]
    fn each_kind_has_ids_of_its_own_form_and_no_others() {
        let kid = Digest::of(b"kid").to_string();
        let grant = format!("{kid}/grt-{:032x}", 7);
        let (service, event) = (format!("service:{kid}"), "event:node-1".to_owned());
        let fitting = [
            (Kind::Members, ""),
            (Kind::Key, &kid),
            (Kind::Event, &kid),
            (Kind::Grant, &grant),
            (Kind::Changes, "member:node-1"),
            (Kind::Changes, "parameter:target"),
            (Kind::Changes, &service),
            (Kind::Ballots, &service),
            (Kind::Ballots, &event),
        ];
        for (kind, id) in fitting {
            assert!(kind.id_fits(id), "{kind} {id}");
            for spoiled in [format!("{id} "), format!(" {id}"), format!("{id}\n"), format!("{id}\x1b[2J")] {
                assert!(!kind.id_fits(&spoiled), "{kind} {spoiled:?}");
            }
        }
        for (kind, id) in [
            (Kind::Operators, kid.clone()),
            (Kind::Key, String::new()),
            (Kind::Staff, kid.to_uppercase()),
            (Kind::Grant, kid.clone()),
            (Kind::Grant, grant.replace("grt", "GRT")),
            (Kind::Grant, format!("{kid}/{kid}")),
            (Kind::Changes, event.clone()),
            (Kind::Ballots, format!("event:{kid}")),
            (Kind::Changes, "parameter:speed".to_owned()),
            (Kind::Changes, "member:".to_owned()),
            (Kind::Ballots, "event:".to_owned()),
        ] {
            assert!(!kind.id_fits(&id), "{kind} {id}");
        }
    }

    #[test]
    fn values_are_read_whole() {
        let key = PublicKey::of(&crate::testing::key(1));
        let (kid, zero) = (key.kid().to_string(), Digest::ZERO);
        let of_key =
            |rest: &str| format!(r#"{{"prev":{rest},"status":"active","txid":"{zero}","unseen":64}}"#);
        let (first, later) = (
            of_key(&format!(r#"null,"pub":"{key}","seq":0"#)),
            of_key(&format!(r#""{zero}","pub":"{key}","seq":2"#)),
        );
        let whole = format!(
            r#"{{"commitment":"{zero}","custody":"client","seq":1,"status":"active","txid":"{zero}"}}"#
        );
        let unseen = format!(r#"{{"seq":0,"status":"revoked","txid":"{zero}"}}"#);
        let vote = |key: &Digest| format!(r#"{{"ballot":"{zero}","key":"{key}","txid":"{zero}"}}"#);
        let (one, two) = (vote(&zero), vote(&Digest::from_bytes([1; 32])));
        let member = |key: &str, name: &str| format!(r#"{{"key":"{key}","name":"{name}"}}"#);
        let (own, seen) = (member(&key.to_string(), "node-1"), format!(r#"{{"txid":"{zero}"}}"#));
        let fitting = [
            (Kind::Members, "", format!("[{own}]")),
            (Kind::Key, &kid, first.clone()),
            (Kind::Key, &kid, later.clone()),
            (Kind::Grant, "", whole.clone()),
            (Kind::Grant, "", unseen.clone()),
            (Kind::Event, "", seen.clone()),
            (Kind::Ballots, "", format!("[{one},{two}]")),
            (Kind::Changes, "", format!(r#"{{"count":1,"txid":"{zero}"}}"#)),
            (Kind::Receipts, "", format!(r#"{{"count":1,"txid":"{zero}"}}"#)),
        ];
        for (kind, id, value) in fitting {
            assert!(kind.value_fits(id, value.as_bytes()), "{kind} {value}");
            let cut = &value.as_bytes()[..value.len() - 1];
            for none in [&b"{}"[..], b"1", b"[]", b"\"x\"", cut] {
                assert!(!kind.value_fits(id, none), "{kind} {}", String::from_utf8_lossy(none));
            }
        }
        let [off, again] = ["02".repeat(32), format!("f0{}7f", "ff".repeat(30))];
        for (kind, id, value) in [
            (Kind::Key, "", first.clone()),
            (Kind::Key, &kid, first.replace(":0", ":1")),
            (Kind::Key, &kid, later.replace(":2", ":0")),
            (Kind::Key, &kid, first.replace(":64", ":65")),
            (Kind::Key, &kid, first.replace("active", "suspended")),
            (Kind::Grant, "", whole.replace(r#""custody":"client","#, "")),
            (Kind::Grant, "", whole.replace(r#""seq":1"#, r#""seq":0"#)),
            (Kind::Grant, "", unseen.replace("revoked", "active")),
            (Kind::Grant, "", unseen.replace(r#""seq":0"#, r#""seq":1"#)),
            (Kind::Event, "", seen.replace('}', r#","x":1}"#)),
            (Kind::Ballots, "", format!("[{two},{one}]")),
            (Kind::Ballots, "", format!("[{one},{one}]")),
            (Kind::Changes, "", format!(r#"{{"count":0,"txid":"{zero}"}}"#)),
            (Kind::Receipts, "", format!(r#"{{"count":0,"txid":"{zero}"}}"#)),
            (Kind::Members, "", format!("[{own},{own}]")),
            (Kind::Members, "", format!("[{}]", member(&off, "node-1"))),
            (Kind::Members, "", format!("[{}]", member(&again, "node-1"))),
            (Kind::Operators, "", format!("[{}]", member(&key.to_string(), "Node"))),
        ] {
            assert!(!kind.value_fits(id, value.as_bytes()), "{kind} {value}");
        }
    }

    #[test]
    fn what_is_written_by_hand_is_the_canonical_form() {
        let (txid, commitment) = (Digest::of(b"tx"), Digest::of(b"commitment"));
        let seen = SeenEntry { txid };
        assert_eq!(Entry::Seen(seen).to_bytes(), json::encode(&seen).unwrap());
        let receipts = ReceiptsEntry { count: 12, rights: Some(txid), txid };
        assert_eq!(Entry::Receipts(Box::new(receipts)).to_bytes(), json::encode(&receipts).unwrap());
        let erased = ErasedEntry { commitment, txid };
        assert_eq!(Entry::Erased(Box::new(erased)).to_bytes(), json::encode(&erased).unwrap());
        for (prev, status) in [(None, KeyStatus::Active), (Some(commitment), KeyStatus::Revoked)] {
            let key =
                KeyEntry { prev, public: PublicKey::from_bytes([7; 32]), seq: 3, status, txid, unseen: 2 };
            assert_eq!(Entry::Key(Box::new(key.clone())).to_bytes(), json::encode(&key).unwrap());
            let grant =
                GrantEntry { commitment: prev, custody: prev.map(|_| Custody::Client), seq: 0, status, txid };
            assert_eq!(Entry::Grant(Box::new(grant.clone())).to_bytes(), json::encode(&grant).unwrap());
        }
    }

    /// Entries are small, because there is one per segment for ever.
    #[test]
    fn an_entry_has_forty_bytes_at_most() {
        assert!(size_of::<Entry>() <= 40, "{}", size_of::<Entry>());
    }
}
