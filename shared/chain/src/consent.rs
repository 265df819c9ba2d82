//! What a grant's commitment covers, and the patient's signed word that a freeze is over. Neither stands on the ledger.

use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};

use super::certificate::{self, CertificateError};
use super::jws;
use hbc_types::digest::Digest;
use hbc_types::ids::{AgencyId, GrantId, GranteeId, PatientId};
use hbc_types::keys::{Kid, PublicKey};
use hbc_types::purpose::Action;
use hbc_types::wire::access::Scope;

/// The `typ` of a signed unfreeze.
const UNFREEZE_TYP: &str = "hbc-unfreeze+jws";

/// How long an app may have access at most, in milliseconds.
const APP_MS: u64 = 90 * 24 * 60 * 60 * 1_000;
/// How often a link may be opened at most.
const MOST_OPENS: u32 = 1_000;

/// What a grant's commitment covers, as JCS: FORMATS §2.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsentBody {
    /// To a device, which is a pairing: its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Kid>,
    /// The grant.
    pub grant: GrantId,
    /// To whom.
    pub grantee: GranteeId,
    /// To an app: whether it may come when the patient is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offline: Option<bool>,
    /// To a link: how often it may be opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opens: Option<u32>,
    /// Whose records.
    pub patient: PatientId,
    /// What.
    pub scope: Scope,
}

impl ConsentBody {
    /// A consent to an agency.
    #[must_use]
    pub const fn to_agency(grant: GrantId, grantee: AgencyId, patient: PatientId, scope: Scope) -> Self {
        let grantee = GranteeId::Agency(grantee);
        Self { device: None, grant, grantee, offline: None, opens: None, patient, scope }
    }

    /// The rule of FORMATS §2 that the body breaks, if it breaks one.
    #[must_use]
    pub fn fault(&self) -> Option<&'static str> {
        // Without `..`, here and below: a field that is added does not compile until it is named.
        let Self { device, grant: _, grantee, offline, opens, patient: _, scope } = self;
        let Scope { actions, categories, sensitivities, purposes, from, until, future_records } = scope;
        let has_all =
            !(actions.is_empty() || categories.is_empty() || sensitivities.is_empty() || purposes.is_empty());
        let lasts = until.unsigned_ms().saturating_sub(from.unsigned_ms());
        let (is_app, is_device, is_link) = match grantee {
            GranteeId::Agency(_) => (false, false, false),
            GranteeId::App(_) => (true, false, false),
            GranteeId::Device(_) => (false, true, false),
            GranteeId::Link(_) => (false, false, true),
        };
        let only = |action| actions.iter().all(|one| *one == action);
        let rules = [
            (has_all, "a list of the consent's scope is empty"),
            (from < until, "the consent ends before it begins"),
            (offline.is_some() == is_app, "to an app, and to nothing else, a consent says `offline`"),
            (!is_app || lasts <= APP_MS, "a consent to an app lasts 90 days at most"),
            (device.is_some() == is_device, "to a device, and to nothing else, a consent names a key"),
            (!is_device || only(Action::Write), "a device only writes"),
            (opens.is_some() == is_link, "to a link, and to nothing else, a consent says `opens`"),
            (opens.is_none_or(|opens| (1..=MOST_OPENS).contains(&opens)), "a link opens 1 to 1,000 times"),
            (!is_link || only(Action::Read), "a link only reads"),
            (!is_link || !future_records, "a link shows no later records"),
        ];
        rules.into_iter().find(|(holds, _)| !holds).map(|(_, rule)| rule)
    }
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
