//! Keys that a patient's own client holds: no server ever sees one.

use ed25519_dalek::{Signer as _, SigningKey};
use hbc_chain::certificate::{ConsentCertificate, Limits, RootCertificate};
use hbc_chain::payload::Payload;
use hbc_chain::tx;
use hbc_client::operations::{access_policy, auth};
use hbc_types::Digest;
use hbc_types::account::Custody;
use hbc_types::keys::{PublicKey, possession_text, root_possession_text};
use hbc_types::secret::Bytes;
use hbc_types::wire::access::{GrantSignature, GrantState, GrantView, Scope};
use hbc_types::wire::auth::{ConsentKeyRegistered, NewConsentKey, NewPatient};
use hbc_types::wire::custody::{NewCustody, NewRootClaim};

use anyhow::{Context as _, Result};

use crate::consents::new_grant;
use crate::{Person, TestApp};

/// A root key, the recovery key beside it, and a consent key for one grantee.
#[derive(Clone, Debug)]
pub struct Wallet {
    /// The chain.
    pub chain: Digest,
    /// The root key.
    pub root: SigningKey,
    /// The recovery key.
    pub recovery: SigningKey,
    /// The consent key.
    pub consent: SigningKey,
}

fn raw(key: &SigningKey) -> Bytes {
    Bytes::from(PublicKey::of(key).as_bytes().as_slice())
}

impl Wallet {
    /// Fresh keys.
    #[must_use]
    pub fn new(app: &TestApp, chain: Digest) -> Self {
        let key = || SigningKey::from_bytes(&app.random.bytes());
        Self { chain, root: key(), recovery: key(), consent: key() }
    }

    /// The signatures that show root and recovery key.
    fn shown(&self, username: &str) -> (Bytes, Bytes) {
        let (root, recovery) = (PublicKey::of(&self.root).kid(), PublicKey::of(&self.recovery).kid());
        let text = root_possession_text(&self.chain, &root, Some(&recovery), username);
        let sign = |key: &SigningKey| Bytes::from(key.sign(&text).to_bytes().as_slice());
        (sign(&self.root), sign(&self.recovery))
    }

    /// A sign-up with these keys.
    #[must_use]
    pub fn sign_up(&self, new: NewPatient) -> NewPatient {
        let (root_pop, recovery_pop) = self.shown(&new.username);
        NewPatient {
            custody: Custody::Client,
            root_public_key: Some(raw(&self.root)),
            root_pop: Some(root_pop),
            recovery_public_key: Some(raw(&self.recovery)),
            recovery_pop: Some(recovery_pop),
            ..new
        }
    }

    /// A change to these keys, certified by a key of before unless the server holds that.
    pub fn custody(
        &self,
        app: &TestApp,
        patient: &Person,
        before: Option<&SigningKey>,
    ) -> Result<NewCustody> {
        let (root_pop, recovery_pop) = self.shown(&patient.username);
        let certificate = RootCertificate {
            chain: self.chain,
            iat: app.clock.now().unsigned_ms(),
            patient: patient.patient()?.clone(),
            recovery: PublicKey::of(&self.recovery).kid(),
            root: PublicKey::of(&self.root).kid(),
        };
        Ok(NewCustody {
            custody: Custody::Client,
            root_public_key: Some(raw(&self.root)),
            root_pop: Some(root_pop),
            recovery_public_key: Some(raw(&self.recovery)),
            recovery_pop: Some(recovery_pop),
            certificate: before.map(|key| certificate.sign(key)).transpose()?,
            wraps: Vec::new(),
            password: patient.password.clone(),
            totp: None,
        })
    }

    /// A claim to these keys, whose owner has none of those before.
    #[must_use]
    pub fn claim(&self, patient: &Person) -> NewRootClaim {
        let (root_pop, recovery_pop) = self.shown(&patient.username);
        NewRootClaim {
            root_public_key: raw(&self.root),
            root_pop,
            recovery_public_key: Some(raw(&self.recovery)),
            recovery_pop: Some(recovery_pop),
            password: patient.password.clone(),
            totp: None,
        }
    }

    /// The registration of the consent key.
    #[must_use]
    pub fn registration(&self) -> NewConsentKey {
        let text = possession_text(&self.chain, &PublicKey::of(&self.consent).kid());
        let pop = Bytes::from(self.consent.sign(&text).to_bytes().as_slice());
        NewConsentKey { key: raw(&self.consent), pop }
    }

    /// The root key's word for the consent key.
    pub fn certificate(&self, app: &TestApp, grantee: &Person) -> Result<String> {
        let certificate = ConsentCertificate {
            chain: self.chain,
            grantee: grantee.agency()?.to_string(),
            iat: app.clock.now().unsigned_ms(),
            key: PublicKey::of(&self.consent).kid(),
            limits: Limits::default(),
            root: PublicKey::of(&self.root).kid(),
        };
        Ok(certificate.sign(&self.root)?)
    }

    /// Registers the consent key, grants with it, and waits until that is final.
    pub async fn grant(
        &self,
        app: &TestApp,
        (patient, grantee): (&Person, &Person),
        scope: Scope,
    ) -> Result<GrantView> {
        let register = app.auth.to(auth::register_consent_key()).json(&self.registration());
        let registered: ConsentKeyRegistered = patient.signs(register).fetch().await?;
        let mut new = new_grant(grantee, scope)?;
        new.key = Some(registered.kid);
        new.certificate = Some(self.certificate(app, grantee)?);
        let draft = app.draft(patient, &new).await?;
        let payload: Payload = serde_json::from_value(draft.payload.clone())?;
        let signature = GrantSignature {
            jws: tx::sign(&self.consent, &payload)?,
            certificate: new.certificate.clone().context("just made")?,
            registration: Some(registered.registration),
        };
        let call = app.access.to(access_policy::sign_grant(&draft.id)).json(&signature);
        let pending: GrantView = patient.signs(call).fetch().await?;
        app.until_grant(patient, &pending.id, GrantState::Active).await
    }
}
