//! What a grant's commitment covers, and the patient's signed word that a freeze is over. Neither stands on the ledger.

use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};

use super::certificate::{self, CertificateError};
use super::jws;
use hbc_types::digest::Digest;
use hbc_types::ids::{AgencyId, GrantId, PatientId};
use hbc_types::keys::PublicKey;
use hbc_types::wire::access::Scope;

/// The `typ` of a signed unfreeze.
const UNFREEZE_TYP: &str = "hbc-unfreeze+jws";

/// What a grant's commitment covers: `{grant, grantee, patient, scope}` as JCS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsentBody {
    /// The grant.
    pub grant: GrantId,
    /// To whom.
    pub grantee: AgencyId,
    /// Whose records.
    pub patient: PatientId,
    /// What.
    pub scope: Scope,
}

/// The root key's word that a freeze is over: `{chain, grant?, iat, patient}`; without `grant` the freeze of everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnfreezeOrder {
    /// The chain.
    pub chain: Digest,
    /// The frozen grant; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<GrantId>,
    /// When it was signed, Unix milliseconds: not before the freeze, so that it lifts one freeze and not the next.
    pub iat: u64,
    /// Whose.
    pub patient: PatientId,
}

impl UnfreezeOrder {
    /// Signs it with the root key.
    ///
    /// # Errors
    /// When a number has no canonical form.
    pub fn sign(&self, root: &SigningKey) -> Result<String, CertificateError> {
        Ok(jws::sign(root, UNFREEZE_TYP, self)?)
    }

    /// Reads an order and verifies it under the root key that the reader trusts.
    ///
    /// # Errors
    /// When it is not exact, not signed by `root`, or for another chain.
    pub fn verify(text: &str, root: &PublicKey, chain: &Digest) -> Result<Self, CertificateError> {
        let order: Self = certificate::open(text, UNFREEZE_TYP, root)?;
        if order.chain == *chain { Ok(order) } else { Err(CertificateError::Other("chain")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hbc_types::random::Random;

    #[test]
    fn an_order_holds_under_its_root_and_chain_only() {
        let root = SigningKey::from_bytes(&[1; 32]);
        let chain = Digest::of(b"chain");
        let patient = PatientId::random(&Random::seeded(1));
        let order = UnfreezeOrder { chain, grant: None, iat: 5, patient };
        let text = order.sign(&root).unwrap();
        let public = PublicKey::of(&root);
        assert_eq!(UnfreezeOrder::verify(&text, &public, &chain), Ok(order));
        assert!(UnfreezeOrder::verify(&text, &public, &Digest::ZERO).is_err());
        let other = PublicKey::of(&SigningKey::from_bytes(&[2; 32]));
        assert!(UnfreezeOrder::verify(&text, &other, &chain).is_err());
        assert!(certificate::ConsentCertificate::verify(&text, &public, &chain).is_err());
    }
}
