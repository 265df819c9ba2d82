//! Receipts: one per (request, patient, grant), numbered and chained per patient, committed with a salt, gathered into
//! batches whose roots stand on the ledger.
//!
//! A receipt is written in the transaction that releases what it speaks of; there is no other way to make one.

use hbc_chain::json::{self, JsonError};
use hbc_chain::merkle::{self, Tree};
use hbc_types::hash::{self, Salt};
use hbc_types::ids::{AccountId, AgencyId, GrantId, PatientId, ReceiptId};
use hbc_types::labels::Category;
use hbc_types::purpose::Purpose;
use hbc_types::wire::access::{AccessKind, Channel, ReceiptBody, ReceiptRecord};
use hbc_types::{Digest, Random, Timestamp};

/// How many receipts one ledger transaction carries at most.
pub const BATCH_LEAVES: u32 = 4096;

/// What is to be receipted, before it has a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occurrence {
    /// Whose records.
    pub patient: PatientId,
    /// What happened.
    pub kind: AccessKind,
    /// Who did it.
    pub actor: AccountId,
    /// For which organisation.
    pub organisation: Option<AgencyId>,
    /// Why.
    pub purpose: Purpose,
    /// Under which grant.
    pub grant: Option<GrantId>,
    /// The rule that decided.
    pub rule: String,
    /// Which records.
    pub records: Vec<ReceiptRecord>,
    /// Categories concerned, sorted, each once.
    pub categories: Vec<Category>,
    /// How many more equal denials it closes.
    pub folded: Option<u64>,
    /// When.
    pub at: Timestamp,
}

impl Occurrence {
    /// Somebody signed in as the patient.
    #[must_use]
    pub fn signed_in(patient: &PatientId, at: Timestamp) -> Self {
        Self::own(patient, AccessKind::Session, at)
    }

    /// The patient closed the account.
    #[must_use]
    pub fn closed(patient: &PatientId, at: Timestamp) -> Self {
        Self::own(patient, AccessKind::Closed, at)
    }

    /// What the patient did with the account itself.
    fn own(patient: &PatientId, kind: AccessKind, at: Timestamp) -> Self {
        Self {
            patient: patient.clone(),
            kind,
            actor: AccountId::Patient(patient.clone()),
            organisation: None,
            purpose: Purpose::PatientRequest,
            grant: None,
            rule: String::new(),
            records: Vec::new(),
            categories: Vec::new(),
            folded: None,
            at,
        }
    }

    /// What equal denials have in common: who, to whose records, by which rule. The receipt of the first stands for all of a
    /// minute, and a closing one says how many more there were.
    #[must_use]
    pub fn fold_fingerprint(&self) -> Digest {
        // A denial is the only kind that folds. Without `..`: whether a field makes another denial of it is to be decided.
        let Self {
            patient,
            actor,
            rule,
            organisation: _,
            purpose: _,
            categories: _,
            kind: _,
            grant: _,
            records: _,
            folded: _,
            at: _,
        } = self;
        let parts = [patient.as_str(), actor.as_str(), rule].map(str::as_bytes);
        hash::domain_hash("hbc/denial-fold/v2", &parts)
    }
}

/// A row of equal denials: what the closing receipt says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fold {
    /// Whose records.
    pub patient: PatientId,
    /// Who.
    pub actor: AccountId,
    /// For which organisation, the first time.
    pub organisation: Option<AgencyId>,
    /// Why, the first time.
    pub purpose: Purpose,
    /// By which rule.
    pub rule: String,
    /// How many there were beside the first.
    pub more: u64,
}

/// The end of a patient's chain of receipts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Number of the last receipt; 0 before the first.
    pub n: u64,
    /// Its leaf hash.
    pub leaf: Option<Digest>,
}

/// A receipt as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The body.
    pub body: ReceiptBody,
    /// Its JCS text.
    pub text: String,
    /// The commitment's salt.
    pub salt: Salt,
    /// The leaf hash.
    pub leaf: Digest,
}

/// Gives an occurrence the next number after `head`.
pub fn issue(occurrence: &Occurrence, head: Head, random: &Random) -> Result<Receipt, JsonError> {
    let Occurrence {
        patient,
        kind,
        actor,
        organisation,
        purpose,
        grant,
        rule,
        records,
        categories,
        folded,
        at,
    } = occurrence.clone();
    let channel = match &actor {
        AccountId::Device(_) => Some(Channel::Device),
        AccountId::Patient(_) | AccountId::Agency(_) | AccountId::Operator(_) | AccountId::App(_) => None,
    };
    let body = ReceiptBody {
        id: ReceiptId::random(random),
        patient,
        n: head.n + 1,
        prev: head.leaf,
        kind,
        actor,
        organisation,
        purpose,
        grant,
        rule,
        records,
        categories,
        folded,
        // Nothing here sends these yet.
        emergency: None,
        on_behalf_of: None,
        count: None,
        channel,
        case: None,
        at,
    };
    let text = json::encode(&body)?;
    let salt = random.bytes();
    let leaf = leaf(&salt, &text);
    // `encode` writes UTF-8 only.
    let text = String::from_utf8(text).map_err(|error| JsonError::Shape(error.to_string()))?;
    Ok(Receipt { body, text, salt, leaf })
}

/// The leaf of a receipt: `H("hbc/receipt/v1", salt, JCS body)` as the data of an RFC 6962 leaf.
#[must_use]
pub fn leaf(salt: &Salt, text: &[u8]) -> Digest {
    merkle::leaf_hash(hash::receipt(salt, text).as_bytes())
}

/// Consecutive receipts of one patient within a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Whose.
    pub patient: PatientId,
    /// The first number.
    pub first: u64,
    /// The last number.
    pub last: u64,
    /// Place of the first one in the batch.
    pub place: u64,
}

/// A batch about to be anchored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// RFC 6962 root over the leaves.
    pub root: Digest,
    /// How many.
    pub count: u64,
    /// Who is in it, in order.
    pub spans: Vec<Span>,
}

/// Gathers waiting leaves, given in the order of (patient, n); `None` if there are none.
#[must_use]
pub fn gather(leaves: &[(PatientId, u64, Digest)]) -> Option<Batch> {
    let mut spans: Vec<Span> = Vec::new();
    for (place, (patient, n, _)) in (0_u64..).zip(leaves) {
        match spans.last_mut() {
            Some(span) if span.patient == *patient && span.last + 1 == *n => span.last = *n,
            _ => spans.push(Span { patient: patient.clone(), first: *n, last: *n, place }),
        }
    }
    let hashes: Vec<Digest> = leaves.iter().map(|(_, _, leaf)| *leaf).collect();
    (!hashes.is_empty()).then(|| Batch { root: merkle::root(&hashes), count: hashes.len() as u64, spans })
}

/// The path of the leaf at `place` among all leaves of a batch.
#[must_use]
pub fn path(leaves: &[Digest], place: u64) -> Option<Vec<Digest>> {
    Tree::of(leaves).inclusion(place, leaves.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn occurrence() -> Occurrence {
        let random = Random::seeded(1);
        Occurrence {
            patient: PatientId::random(&random),
            kind: AccessKind::Read,
            actor: AccountId::Agency(AgencyId::random(&random)),
            organisation: None,
            purpose: Purpose::Treatment,
            grant: Some(GrantId::random(&random)),
            rule: "grant".to_owned(),
            records: Vec::new(),
            categories: vec![Category::Laboratory],
            folded: None,
            at: Timestamp::from_ms(1_795_404_630_007),
        }
    }

    #[test]
    fn receipts_are_numbered_chained_and_salted() {
        let random = Random::seeded(2);
        let first = issue(&occurrence(), Head::default(), &random).unwrap();
        assert_eq!((first.body.n, first.body.prev), (1, None));
        let second = issue(&occurrence(), Head { n: 1, leaf: Some(first.leaf) }, &random).unwrap();
        assert_eq!((second.body.n, second.body.prev), (2, Some(first.leaf)));
        assert_eq!(leaf(&second.salt, second.text.as_bytes()), second.leaf);
        assert_ne!(leaf(&first.salt, second.text.as_bytes()), second.leaf);
    }

    #[test]
    fn equal_denials_fold_and_different_ones_do_not() {
        let base = occurrence();
        let mut other = base.clone();
        other.at = Timestamp::from_ms(5);
        assert_eq!(base.fold_fingerprint(), other.fold_fingerprint());
        other.purpose = Purpose::Payment;
        other.categories.clear();
        assert_eq!(base.fold_fingerprint(), other.fold_fingerprint());
        other.rule = "no-grant".to_owned();
        assert_ne!(base.fold_fingerprint(), other.fold_fingerprint());
    }

    proptest! {
        #[test]
        fn spans_place_every_leaf(counts in proptest::collection::vec(1_u64..6, 1..6)) {
            let random = Random::seeded(3);
            let mut leaves = Vec::new();
            for count in counts {
                let patient = PatientId::random(&random);
                leaves.extend((4..4 + count).map(|n| (patient.clone(), n, Digest::of(&random.bytes::<8>()))));
            }
            let batch = gather(&leaves).unwrap();
            let hashes: Vec<Digest> = leaves.iter().map(|leaf| leaf.2).collect();
            for span in &batch.spans {
                for n in span.first..=span.last {
                    let place = span.place + (n - span.first);
                    let (patient, number, leaf) = &leaves[usize::try_from(place).unwrap()];
                    prop_assert_eq!((patient, *number), (&span.patient, n));
                    let path = path(&hashes, place).unwrap();
                    prop_assert!(merkle::verify_inclusion(leaf, place, batch.count, &path, &batch.root).is_ok());
                }
            }
        }
    }
}
