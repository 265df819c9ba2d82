//! Signing for patients whose keys are in server custody, and registering the keys of those who hold their own.
//!
//! A consent is signed only with a freshly checked password, only over a text that the patient was shown, and only with
//! the key of its grantee; nothing else of the draft is changed. Nothing here decides who may read.

use std::time::Duration;

use ed25519_dalek::SigningKey;
use hbc_chain::certificate::{ConsentCertificate, Limits};
use hbc_chain::consent::UnfreezeOrder;
use hbc_chain::payload::{ConsentKey as Registration, KeyStatus, Payload};
use hbc_chain::tx as ledger_tx;
use hbc_db::{Lock, Tx};
use hbc_types::account::Custody;
use hbc_types::ids::{GranteeId, PatientId};
use hbc_types::keys::{PublicKey, SignatureBytes, possession_text};
use hbc_types::outbox::NewTransaction;
use hbc_types::wire::auth::{
    ConsentKeyRegistered, ConsentSignature, ConsentSignatureRequest, NewConsentKey, RevocationSignature,
    RevocationSignatureRequest, UnfreezeSignature, UnfreezeSignatureRequest,
};
use hbc_types::{Digest, Timestamp};

use crate::app::App;
use crate::domain::consent::{CheckedDraft, DraftError, check_draft, revocation};
use crate::domain::{custody, staff};
use crate::error::Error;
use crate::flows::account::open_key;
use crate::flows::login::{Origin, Proof, prove};
use crate::flows::sessions::acting;
use crate::store::Rows;
use crate::store::accounts::Account;
use crate::store::consent_keys::{ConsentKey, Derivation};

/// Consent keys that one account may make within [`DAY`]. A patient needs one for each new grantee.
const KEYS_A_DAY: u32 = 50;
const DAY: Duration = Duration::from_secs(24 * 3600);

impl From<DraftError> for Error {
    fn from(error: DraftError) -> Self {
        match error {
            DraftError::OtherChain => Self::OtherChain,
            DraftError::BadTime => Self::BadTime,
            DraftError::Field { field, message } => Self::invalid(field, message),
        }
    }
}

/// A patient whose password was checked just now, with the root key open.
pub struct Opened {
    patient: PatientId,
    /// The root key.
    pub root: SigningKey,
}

/// Checks the password and opens the root key, where it is in server custody.
pub async fn open_root(
    app: &App,
    patient: &PatientId,
    account: &Account,
    proof: Proof,
) -> Result<Opened, Error> {
    if account.custody != Some(Custody::Server) {
        return Err(Error::Conflict("the signing keys are held by the client"));
    }
    let password = proof.password.clone();
    let proven = prove(app, &account.username, proof).await?;
    let root = open_key(app, &proven.account, password).await?;
    let root = root.ok_or(Error::Broken("a root key in server custody is missing"))?;
    Ok(Opened { patient: patient.clone(), root })
}

/// Signs a draft.
pub async fn sign_draft(
    app: &App,
    patient: &PatientId,
    account: &Account,
    request: ConsentSignatureRequest,
    origin: Origin,
) -> Result<ConsentSignature, Error> {
    let salt = request.salt.to_array::<32>().ok_or_else(|| Error::invalid("salt", "needs 32 bytes"))?;
    let draft = check_draft(&request.payload, &request.body, &salt, &app.chain, patient, app.clock.now())?;
    let proof = Proof { password: request.password, totp: request.totp, origin };
    let opened = open_root(app, patient, account, proof).await?;
    let (stored, registration) = consent_key(app, &opened, &draft).await?;
    let key = derive(&opened.root, &stored)?;
    let signed = staff::sign(&key, &draft.payload(&stored.kid)?)?;
    let root = PublicKey::of(&opened.root).kid();
    let certificate = ConsentCertificate {
        chain: app.chain,
        grantee: draft.grantee.as_str().to_owned(),
        iat: app.clock.now().unsigned_ms(),
        key: stored.kid,
        limits: Limits::default(),
        root,
    };
    let certificate = certificate.sign(&opened.root)?;
    Ok(ConsentSignature { jws: signed.jws, certificate, registration })
}

/// The key for the draft's grantee; with its registration unless the draft names the key, in which case access-policy
/// knows it.
async fn consent_key(
    app: &App,
    opened: &Opened,
    draft: &CheckedDraft,
) -> Result<(ConsentKey, Option<String>), Error> {
    if let Some(kid) = draft.key {
        let stored = own_key(app, &opened.patient, kid).await?;
        let fits = stored.derivation.as_ref().is_some_and(|derivation| derivation.grantee == draft.grantee);
        if !fits {
            return Err(Error::invalid("payload.key", "is not the key for this grantee"));
        }
        if stored.revoked_at.is_some() {
            return Err(Error::Conflict("the consent key is revoked"));
        }
        return Ok((stored, None));
    }
    for _rival in 0..3 {
        let reads = app.store.db.reads();
        let latest = app.store.rows.latest_consent_key(reads, &opened.patient, &draft.grantee).await?;
        let counter = match latest {
            Some(stored) if stored.revoked_at.is_none() => {
                let registration = stored.registration.clone();
                return Ok((stored, Some(registration)));
            }
            Some(revoked) => revoked.derivation.map_or(0, |derivation| derivation.counter.saturating_add(1)),
            None => 0,
        };
        let made = make_key(app, opened, &draft.grantee, counter)?;
        match insert(app, made.clone(), custody::public_key(&opened.root)).await {
            Ok(()) => {
                let registration = made.registration.clone();
                return Ok((made, Some(registration)));
            }
            Err(Error::Db(error)) if error.is_unique_violation() => {}
            Err(error) => return Err(error),
        }
    }
    Err(Error::Conflict("the consent key is being made by another request"))
}

fn make_key(app: &App, opened: &Opened, grantee: &GranteeId, counter: u32) -> Result<ConsentKey, Error> {
    let key = custody::consent_key(&opened.root, grantee.as_str(), counter)?;
    let public = PublicKey::of(&key);
    let pop = SignatureBytes::sign(&key, &possession_text(&app.chain, &public.kid()));
    let now = app.clock.now();
    Ok(ConsentKey {
        kid: public.kid(),
        account: opened.patient.clone(),
        derivation: Some(Derivation { grantee: grantee.clone(), counter }),
        public_key: *public.as_bytes(),
        registration: registration(app, &public, pop, now)?,
        created_at: now,
        revoked_at: None,
    })
}

fn registration(app: &App, public: &PublicKey, pop: SignatureBytes, now: Timestamp) -> Result<String, Error> {
    let payload = Payload::ConsentKey(Registration {
        chain: app.chain,
        iat: now.unsigned_ms(),
        key: public.kid(),
        pop: Some(pop),
        public: Some(*public),
        status: KeyStatus::Active,
    });
    let signed = staff::sign(&app.service_key, &payload);
    Ok(signed?.jws)
}

/// Revokes every consent key of a patient, here at once and on the ledger: what it gave ends. The registration goes before, in
/// case the ledger never saw it.
pub async fn revoke_keys(
    app: &App,
    rows: &Rows,
    tx: &mut Tx,
    patient: &PatientId,
    now: Timestamp,
) -> Result<(), Error> {
    for mut key in rows.live_consent_keys(tx, patient).await? {
        let payload = Payload::ConsentKey(Registration {
            chain: app.chain,
            iat: now.unsigned_ms(),
            key: key.kid,
            pop: None,
            public: None,
            status: KeyStatus::Revoked,
        });
        let revocation = staff::sign(&app.service_key, &payload)?.jws;
        for jws in [key.registration.clone(), revocation] {
            let transaction = NewTransaction {
                txid: ledger_tx::txid(jws.as_bytes()),
                // Both under the consent key's name, so that they are sent in this order.
                author: key.kid,
                kind: payload.kind().to_owned(),
                reference: patient.as_str().to_owned(),
                jws,
            };
            hbc_db::outbox::enqueue(tx, &transaction, now).await?;
        }
        key.revoked_at = Some(now);
        rows.revoke_consent_key(tx, &key).await?;
    }
    Ok(())
}

/// Stores a key under the root key that certifies it, unless the account made too many in a day: each stands on the ledger for
/// ever.
async fn insert(app: &App, key: ConsentKey, root: [u8; 32]) -> Result<(), Error> {
    let lock = Lock::exclusive(key.account.as_str());
    app.store
        .write_locked(vec![lock], move |tx, rows| {
            Box::pin(async move {
                let account = acting(&rows, tx, key.account.as_str()).await?;
                if account.public_key != root {
                    return Err(Error::Conflict("the root key was replaced meanwhile"));
                }
                rows.insert_consent_key(tx, &key).await?;
                let earlier = rows.key_before_the_last(tx, &key.account, KEYS_A_DAY).await?;
                match earlier.map(|made| made.plus(DAY)).filter(|over| *over > key.created_at) {
                    Some(over) => Err(Error::TooManyKeys(over.since(key.created_at))),
                    None => Ok(()),
                }
            })
        })
        .await
}

/// The patient's own key with this kid; another's is as unknown as none.
async fn own_key(app: &App, patient: &PatientId, kid: Digest) -> Result<ConsentKey, Error> {
    let stored = app.store.rows.consent_key(app.store.db.reads(), kid).await?;
    stored.filter(|stored| stored.account == *patient).ok_or(Error::NotFound)
}

/// Derives a stored key again; it must come out as the one that was registered.
fn derive(root: &SigningKey, stored: &ConsentKey) -> Result<SigningKey, Error> {
    let Some(derivation) = &stored.derivation else {
        return Err(Error::Conflict("the signing keys are held by the client"));
    };
    let key = custody::consent_key(root, derivation.grantee.as_str(), derivation.counter)?;
    if custody::public_key(&key) == stored.public_key { Ok(key) } else { Err(Error::Tampered) }
}

/// Signs a revocation: no other service is asked, so that none can prevent it.
pub async fn sign_revocation(
    app: &App,
    patient: &PatientId,
    account: &Account,
    request: RevocationSignatureRequest,
    origin: Origin,
) -> Result<RevocationSignature, Error> {
    let proof = Proof { password: request.password, totp: request.totp, origin };
    let opened = open_root(app, patient, account, proof).await?;
    let stored = own_key(app, &opened.patient, request.key).await?;
    let key = derive(&opened.root, &stored)?;
    let payload = revocation(app.chain, stored.kid, request.grant, app.clock.now());
    let signed = staff::sign(&key, &payload)?;
    Ok(RevocationSignature { jws: signed.jws })
}

/// Signs that a freeze is over.
pub async fn sign_unfreeze(
    app: &App,
    patient: &PatientId,
    account: &Account,
    request: UnfreezeSignatureRequest,
    origin: Origin,
) -> Result<UnfreezeSignature, Error> {
    let proof = Proof { password: request.password, totp: request.totp, origin };
    let opened = open_root(app, patient, account, proof).await?;
    let order = UnfreezeOrder {
        chain: app.chain,
        grant: request.grant,
        iat: app.clock.now().unsigned_ms(),
        patient: opened.patient,
    };
    let jws = order.sign(&opened.root)?;
    Ok(UnfreezeSignature { jws })
}

/// Registers a key that a client holds: auth signs its `identity.key` transaction. The same key again gets the same
/// bytes.
pub async fn register_key(
    app: &App,
    patient: &PatientId,
    account: &Account,
    request: NewConsentKey,
) -> Result<ConsentKeyRegistered, Error> {
    if !account.custody.is_some_and(Custody::is_at_client) {
        return Err(Error::Conflict("the signing keys are in server custody"));
    }
    let key = request.key.to_array::<32>().ok_or_else(|| Error::invalid("key", "needs 32 bytes"))?;
    let pop = request.pop.to_array::<64>().ok_or_else(|| Error::invalid("pop", "needs 64 bytes"))?;
    let (public, pop) = (PublicKey::from_bytes(key), SignatureBytes::from_bytes(pop));
    let kid = public.kid();
    public
        .verify(&possession_text(&app.chain, &kid), &pop)
        .map_err(|_does_not_fit| Error::BadSignature("pop"))?;
    if public.as_bytes() == &account.public_key {
        return Err(Error::invalid("key", "is the root key, which never appears on the ledger"));
    }
    let now = app.clock.now();
    let made = ConsentKey {
        kid,
        account: patient.clone(),
        derivation: None,
        public_key: key,
        registration: registration(app, &public, pop, now)?,
        created_at: now,
        revoked_at: None,
    };
    let registration = match insert(app, made.clone(), account.public_key).await {
        Ok(()) => made.registration,
        Err(Error::Db(error)) if error.is_unique_violation() => {
            let stored = own_key(app, patient, kid).await;
            stored.map_err(|_another| Error::Conflict("the key is registered already"))?.registration
        }
        Err(error) => return Err(error),
    };
    Ok(ConsentKeyRegistered { kid, registration })
}
