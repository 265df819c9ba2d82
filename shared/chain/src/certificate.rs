//! Signed objects that never stand on the ledger: the root key's certificate of a consent key, a node's promise, and
//! where a member can be reached.
//!
//! Why: decision 0011.

use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};

use super::genesis::Named;
use super::json::{self, JsonError};
use super::jws::{self, Jws, JwsError};
use hbc_types::digest::Digest;
use hbc_types::ids::PatientId;
use hbc_types::keys::{KeyError, Kid, PublicKey};
use hbc_types::labels::{Category, Sensitivity};
use hbc_types::purpose::{Action, Purpose};
use hbc_types::time::Timestamp;
use hbc_types::wire::access::Scope;

/// The `typ` of a consent-key certificate.
const CONSENT_CERTIFICATE_TYP: &str = "hbc-consent-cert+jws";
/// The `typ` of a delegation.
const DELEGATE_CERTIFICATE_TYP: &str = "hbc-delegate-cert+jws";
/// The `typ` of a new root's certificate.
const ROOT_CERTIFICATE_TYP: &str = "hbc-root-cert+jws";
/// The `typ` of a promise.
const PROMISE_TYP: &str = "hbc-promise+jws";
/// The `typ` of a member's announcement of its address.
const ADDRESS_TYP: &str = "hbc-address+jws";
/// Bytes of any of them at most.
pub const MAX_BYTES: usize = 8 * 1024;

/// Why a certificate or promise does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Not a JWS of this kind.
    #[error("{0}")]
    Jws(#[from] JwsError),
    /// The signature is not that key's.
    #[error("{0}")]
    Signature(#[from] KeyError),
    /// It is about something else.
    #[error("it names another {0}")]
    Other(&'static str),
}

impl From<JsonError> for CertificateError {
    fn from(error: JsonError) -> Self {
        Self::Jws(JwsError::Payload(error))
    }
}

/// What a certified key may sign at most. All absent: the patient's own key, without limits.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Only these actions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actions: Option<Vec<Action>>,
    /// Only these categories.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub categories: Option<Vec<Category>>,
    /// Only from this on (Unix milliseconds).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_ms: Option<u64>,
    /// Whether records that come later may be covered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub future_records: Option<bool>,
    /// Only for these purposes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purposes: Option<Vec<Purpose>>,
    /// Only these sensitivities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sensitivities: Option<Vec<Sensitivity>>,
    /// Nothing is signed from this on, and nothing lasts longer (Unix milliseconds).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
}

/// Why a certified key may not sign a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// It may sign nothing any more.
    #[error("its limit in time has passed")]
    Over,
    /// It may not sign as much.
    #[error("the grant is beyond its limits")]
    Beyond,
}

impl Limits {
    /// Whether a key with these limits may give this much at this time: FORMATS §4.
    ///
    /// # Errors
    /// When it may not.
    pub fn allow(&self, scope: &Scope, at: Timestamp) -> Result<(), LimitError> {
        // Without `..`: a field of either that is not compared here does not compile.
        let Self { actions, categories, from_ms, future_records, purposes, sensitivities, until_ms } = self;
        let Scope {
            actions: wanted_actions,
            categories: wanted_categories,
            sensitivities: wanted_sensitivities,
            purposes: wanted_purposes,
            from,
            until,
            future_records: wants_future,
        } = scope;
        if until_ms.is_some_and(|end| end <= at.unsigned_ms()) {
            return Err(LimitError::Over);
        }
        let within = among(wanted_actions, actions.as_deref())
            && among(wanted_categories, categories.as_deref())
            && among(wanted_sensitivities, sensitivities.as_deref())
            && among(wanted_purposes, purposes.as_deref())
            && from_ms.is_none_or(|first| first <= from.unsigned_ms())
            && until_ms.is_none_or(|end| until.unsigned_ms() <= end)
            && (!wants_future || *future_records != Some(false));
        if within { Ok(()) } else { Err(LimitError::Beyond) }
    }
}

/// Whether all that is wanted is among what may be given; `None` is no limit.
fn among<T: PartialEq>(wanted: &[T], limit: Option<&[T]>) -> bool {
    limit.is_none_or(|limit| wanted.iter().all(|one| limit.contains(one)))
}

/// The root key's word that a consent key speaks for it towards one grantee. Never on the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsentCertificate {
    /// The chain on which the key signs.
    pub chain: Digest,
    /// The agency or organisation (`agy-…`) to which alone the key grants.
    pub grantee: String,
    /// When it was signed, Unix milliseconds.
    pub iat: u64,
    /// Fingerprint of the consent key.
    pub key: Kid,
    /// What the key may sign.
    pub limits: Limits,
    /// Fingerprint of the root key, which signs.
    pub root: Kid,
}

impl ConsentCertificate {
    /// Signs it with the root key, whose fingerprint it must name.
    ///
    /// # Errors
    /// When it names another root.
    pub fn sign(&self, root: &SigningKey) -> Result<String, CertificateError> {
        if self.root != PublicKey::of(root).kid() {
            return Err(CertificateError::Other("root"));
        }
        Ok(jws::sign(root, CONSENT_CERTIFICATE_TYP, self)?)
    }

    /// Reads a certificate and verifies it under the root key that the reader trusts.
    ///
    /// # Errors
    /// When it is not exact, not signed by `root`, or for another chain.
    pub fn verify(text: &str, root: &PublicKey, chain: &Digest) -> Result<Self, CertificateError> {
        let certificate: Self = open(text, CONSENT_CERTIFICATE_TYP, root)?;
        if certificate.root != root.kid() {
            return Err(CertificateError::Other("root"));
        }
        if certificate.chain != *chain {
            return Err(CertificateError::Other("chain"));
        }
        Ok(certificate)
    }
}

/// The patient's root key's word that somebody else's root key may certify consent keys in the patient's place. Never on
/// the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DelegateCertificate {
    /// The chain.
    pub chain: Digest,
    /// Fingerprint of the delegate's own root key.
    pub delegate: Kid,
    /// When it was signed, Unix milliseconds.
    pub iat: u64,
    /// What may be granted.
    pub limits: Limits,
    /// Fingerprint of the patient's root key, which signs.
    pub root: Kid,
    /// Nothing is granted from this on, and nothing lasts longer (Unix milliseconds).
    pub until_ms: u64,
}

impl DelegateCertificate {
    /// Signs it with the patient's root key, whose fingerprint it must name.
    ///
    /// # Errors
    /// When it names another root.
    pub fn sign(&self, root: &SigningKey) -> Result<String, CertificateError> {
        if self.root != PublicKey::of(root).kid() {
            return Err(CertificateError::Other("root"));
        }
        Ok(jws::sign(root, DELEGATE_CERTIFICATE_TYP, self)?)
    }

    /// Reads a delegation and verifies it under the root key that the reader trusts.
    ///
    /// # Errors
    /// When it is not exact, not signed by `root`, for another chain, or of the root key to itself.
    pub fn verify(text: &str, root: &PublicKey, chain: &Digest) -> Result<Self, CertificateError> {
        let certificate: Self = open(text, DELEGATE_CERTIFICATE_TYP, root)?;
        if certificate.root != root.kid() || certificate.delegate == certificate.root {
            return Err(CertificateError::Other("root"));
        }
        if certificate.chain != *chain {
            return Err(CertificateError::Other("chain"));
        }
        Ok(certificate)
    }

    /// Whether the delegate may give this much at this time.
    ///
    /// # Errors
    /// When they may not.
    pub fn allow(&self, scope: &Scope, at: Timestamp) -> Result<(), LimitError> {
        self.limits.allow(scope, at)?;
        Limits { until_ms: Some(self.until_ms), ..Limits::default() }.allow(scope, at)
    }
}

/// The word of a patient's root key, or of the recovery key beside it, that other keys take their place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootCertificate {
    /// The chain.
    pub chain: Digest,
    /// When it was signed, Unix milliseconds.
    pub iat: u64,
    /// Whose keys.
    pub patient: PatientId,
    /// Fingerprint of the new recovery key.
    pub recovery: Kid,
    /// Fingerprint of the new root key.
    pub root: Kid,
}

impl RootCertificate {
    /// Signs it with the root key or the recovery key of before.
    ///
    /// # Errors
    /// When a number has no canonical form.
    pub fn sign(&self, before: &SigningKey) -> Result<String, CertificateError> {
        Ok(jws::sign(before, ROOT_CERTIFICATE_TYP, self)?)
    }

    /// When a certificate says that it was signed. Nothing is verified: it is for one that was, before it was stored.
    ///
    /// # Errors
    /// When it is no such certificate.
    pub fn signed_ms(text: &str) -> Result<u64, CertificateError> {
        let jws = Jws::parse(text.as_bytes(), ROOT_CERTIFICATE_TYP, MAX_BYTES)?;
        Ok(json::decode::<Self>(&jws.payload)?.iat)
    }

    /// Reads a certificate and verifies it under one of the keys that were pinned before.
    ///
    /// # Errors
    /// When it is not exact, signed by neither, or for another chain.
    pub fn verify(text: &str, pinned: &[PublicKey], chain: &Digest) -> Result<Self, CertificateError> {
        let kid = Jws::parse(text.as_bytes(), ROOT_CERTIFICATE_TYP, MAX_BYTES)?.kid;
        let signer = pinned.iter().find(|key| key.kid() == kid).ok_or(CertificateError::Other("root"))?;
        let certificate: Self = open(text, ROOT_CERTIFICATE_TYP, signer)?;
        if certificate.chain != *chain {
            return Err(CertificateError::Other("chain"));
        }
        Ok(certificate)
    }
}

/// A node's signed word that it stored a transaction durably and will see it into the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromiseClaims {
    /// The chain.
    pub chain: Digest,
    /// When it was signed, Unix milliseconds.
    pub iat: u64,
    /// By when the transaction should be final, Unix milliseconds.
    pub include_by: u64,
    /// The member's name.
    pub node: String,
    /// The transaction.
    pub txid: Digest,
}

impl PromiseClaims {
    /// Signs it with the member's key.
    ///
    /// # Errors
    /// When a number has no canonical form.
    pub fn sign(&self, member: &SigningKey) -> Result<String, CertificateError> {
        Ok(jws::sign(member, PROMISE_TYP, self)?)
    }

    /// Reads a promise and verifies it under the member's key.
    ///
    /// # Errors
    /// When it is not exact, not signed by `member`, or for another chain.
    pub fn verify(text: &str, member: &PublicKey, chain: &Digest) -> Result<Self, CertificateError> {
        let claims: Self = open(text, PROMISE_TYP, member)?;
        if claims.chain != *chain {
            return Err(CertificateError::Other("chain"));
        }
        Ok(claims)
    }
}

/// A member's signed word where it can be reached. The latest of a name counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddressClaims {
    /// The chain.
    pub chain: Digest,
    /// When it was signed, Unix milliseconds.
    pub iat: u64,
    /// The member's name.
    pub node: String,
    /// Its base address, `http://host:port` or `https://host`.
    pub url: String,
}

impl AddressClaims {
    /// Signs it with the member's key.
    ///
    /// # Errors
    /// When a number has no canonical form.
    pub fn sign(&self, member: &SigningKey) -> Result<String, CertificateError> {
        Ok(jws::sign(member, ADDRESS_TYP, self)?)
    }

    /// The fingerprint that an announcement says it is signed by; nothing is verified.
    ///
    /// # Errors
    /// When it is not a JWS of this kind.
    pub fn signer(text: &str) -> Result<Kid, CertificateError> {
        Ok(Jws::parse(text.as_bytes(), ADDRESS_TYP, MAX_BYTES)?.kid)
    }

    /// What an announcement says; nothing is verified.
    ///
    /// # Errors
    /// When it is not a JWS of this kind.
    pub fn stated(text: &str) -> Result<Self, CertificateError> {
        Ok(json::decode(&Jws::parse(text.as_bytes(), ADDRESS_TYP, MAX_BYTES)?.payload)?)
    }

    /// Reads an announcement and verifies it under the key of the member that it names.
    ///
    /// # Errors
    /// When it is not exact, not signed by `member`'s key, for another chain or of another name.
    pub fn verify(text: &str, member: &Named, chain: &Digest) -> Result<Self, CertificateError> {
        let claims: Self = open(text, ADDRESS_TYP, &member.key)?;
        if claims.chain != *chain {
            return Err(CertificateError::Other("chain"));
        }
        if claims.node != member.name {
            return Err(CertificateError::Other("member"));
        }
        Ok(claims)
    }
}

/// Opens a JWS of any `typ` over a canonical payload, verified under `key`.
///
/// # Errors
/// When it is not exact or not signed by `key`.
pub fn open<T>(text: &str, typ: &'static str, key: &PublicKey) -> Result<T, CertificateError>
where
    T: Serialize + serde::de::DeserializeOwned,
{
    let jws = Jws::parse(text.as_bytes(), typ, MAX_BYTES)?;
    jws.verify(text.as_bytes(), key)?;
    Ok(json::decode(&jws.payload)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::key;

    fn certificate() -> ConsentCertificate {
        ConsentCertificate {
            chain: Digest::of(b"chain"),
            grantee: "agy-00000000000000000000000000000001".into(),
            iat: 5,
            key: PublicKey::of(&key(2)).kid(),
            limits: Limits::default(),
            root: PublicKey::of(&key(1)).kid(),
        }
    }

    #[test]
    fn a_certificate_holds_under_its_root_and_chain_only() {
        let text = certificate().sign(&key(1)).unwrap();
        let (root, chain) = (PublicKey::of(&key(1)), Digest::of(b"chain"));
        assert_eq!(ConsentCertificate::verify(&text, &root, &chain), Ok(certificate()));
        let other_chain = ConsentCertificate::verify(&text, &root, &Digest::ZERO);
        assert_eq!(other_chain, Err(CertificateError::Other("chain")));
        assert!(ConsentCertificate::verify(&text, &PublicKey::of(&key(3)), &chain).is_err());
        assert_eq!(certificate().sign(&key(3)), Err(CertificateError::Other("root")));
    }

    #[test]
    fn a_delegation_ends_and_is_of_another_key() {
        let (root, chain) = (PublicKey::of(&key(1)), Digest::of(b"chain"));
        let (delegate, limits) = (PublicKey::of(&key(2)).kid(), Limits::default());
        let delegation =
            DelegateCertificate { chain, delegate, iat: 5, limits, root: root.kid(), until_ms: 1_000 };
        let text = delegation.sign(&key(1)).unwrap();
        assert_eq!(DelegateCertificate::verify(&text, &root, &chain), Ok(delegation.clone()));
        assert!(DelegateCertificate::verify(&text, &root, &Digest::ZERO).is_err());
        assert!(ConsentCertificate::verify(&text, &root, &chain).is_err());
        let own = DelegateCertificate { delegate: root.kid(), ..delegation.clone() }.sign(&key(1)).unwrap();
        assert_eq!(DelegateCertificate::verify(&own, &root, &chain), Err(CertificateError::Other("root")));
        let scope = |until| Scope {
            actions: vec![Action::Read],
            categories: vec![Category::Laboratory],
            sensitivities: vec![Sensitivity::Normal],
            purposes: vec![Purpose::Treatment],
            from: Timestamp::from_ms(1),
            until: Timestamp::from_ms(until),
            future_records: true,
        };
        let at = Timestamp::from_ms;
        assert_eq!(delegation.allow(&scope(1_000), at(999)), Ok(()));
        assert_eq!(delegation.allow(&scope(1_001), at(999)), Err(LimitError::Beyond));
        assert_eq!(delegation.allow(&scope(1_000), at(1_000)), Err(LimitError::Over));
        let narrow = Limits { actions: Some(vec![Action::Write]), ..Limits::default() };
        let narrow = DelegateCertificate { limits: narrow, ..delegation };
        assert_eq!(narrow.allow(&scope(1_000), at(999)), Err(LimitError::Beyond));
    }

    #[test]
    fn new_roots_are_certified_by_one_of_the_keys_before() {
        let (chain, kid) = (Digest::of(b"chain"), |n| PublicKey::of(&key(n)).kid());
        let patient = PatientId::parse(&format!("pat-{:032x}", 1)).unwrap();
        let change = RootCertificate { chain, iat: 5, patient, recovery: kid(4), root: kid(3) };
        let pinned = [PublicKey::of(&key(1)), PublicKey::of(&key(2))];
        for signer in [1, 2] {
            let text = change.sign(&key(signer)).unwrap();
            assert_eq!(RootCertificate::verify(&text, &pinned, &chain), Ok(change.clone()));
            assert!(RootCertificate::verify(&text, &pinned, &Digest::ZERO).is_err());
        }
        let by_itself = change.sign(&key(3)).unwrap();
        let refused = RootCertificate::verify(&by_itself, &pinned, &chain);
        assert_eq!(refused, Err(CertificateError::Other("root")));
    }

    #[test]
    fn a_promise_is_no_certificate_and_the_other_way_round() {
        let claims = PromiseClaims {
            chain: Digest::of(b"chain"),
            iat: 5,
            include_by: 9,
            node: "node-1".into(),
            txid: Digest::of(b"tx"),
        };
        let text = claims.sign(&key(1)).unwrap();
        let (root, chain) = (PublicKey::of(&key(1)), Digest::of(b"chain"));
        assert_eq!(PromiseClaims::verify(&text, &root, &chain), Ok(claims));
        assert!(ConsentCertificate::verify(&text, &root, &chain).is_err());
        let certificate = certificate().sign(&key(1)).unwrap();
        assert!(PromiseClaims::verify(&certificate, &root, &chain).is_err());
    }

    #[test]
    fn an_address_is_its_members_word_on_its_chain_and_under_its_name() {
        let chain = Digest::of(b"chain");
        let claims =
            AddressClaims { chain, iat: 5, node: "node-1".into(), url: "http://127.0.0.1:7103".into() };
        let text = claims.sign(&key(1)).unwrap();
        let member = |n, name: &str| Named { key: PublicKey::of(&key(n)), name: name.into() };
        assert_eq!(AddressClaims::signer(&text), Ok(PublicKey::of(&key(1)).kid()));
        assert_eq!(AddressClaims::verify(&text, &member(1, "node-1"), &chain), Ok(claims));
        assert!(AddressClaims::verify(&text, &member(2, "node-1"), &chain).is_err());
        let renamed = AddressClaims::verify(&text, &member(1, "node-2"), &chain);
        assert_eq!(renamed, Err(CertificateError::Other("member")));
        let elsewhere = AddressClaims::verify(&text, &member(1, "node-1"), &Digest::ZERO);
        assert_eq!(elsewhere, Err(CertificateError::Other("chain")));
    }

    #[test]
    fn limits_are_part_of_what_is_signed() {
        let limits = Limits { actions: Some(vec![Action::Read]), until_ms: Some(7), ..Limits::default() };
        let limited = ConsentCertificate { limits, ..certificate() };
        let text = limited.sign(&key(1)).unwrap();
        let back = ConsentCertificate::verify(&text, &PublicKey::of(&key(1)), &Digest::of(b"chain"));
        assert_eq!(back, Ok(limited));
    }
}
