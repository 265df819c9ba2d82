//! A patient who holds their own keys: signs up, grants, is read and revokes, and no server ever sees a private key.

use anyhow::{Context as _, Result};
use ed25519_dalek::{Signer as _, SigningKey};
use hbc_chain::certificate::{ConsentCertificate, Limits};
use hbc_chain::consent::ConsentBody;
use hbc_chain::payload::{Consent, Payload, Revoke};
use hbc_chain::{json, tx};
use hbc_client::operations::{access_policy, auth, ledger};
use hbc_tests::{Person, TestApp, chain, consents, records, wait};
use hbc_types::account::Custody;
use hbc_types::keys::{PublicKey, possession_text, root_possession_text};
use hbc_types::labels::Category;
use hbc_types::secret::Bytes;
use hbc_types::wire::access::{AlterationOpening, GrantRevocation, GrantSignature, GrantState, GrantView};
use hbc_types::wire::auth::{ConsentKeyRegistered, NewConsentKey, NewPatient, PatientCreated};
use hbc_types::wire::ledger::SubmitTransaction;
use hbc_types::{Digest, hash};

/// What the patient's own client holds.
struct Wallet {
    chain: Digest,
    root: SigningKey,
    consent: SigningKey,
}

fn public(key: &SigningKey) -> Bytes {
    Bytes::from(PublicKey::of(key).as_bytes().as_slice())
}

impl Wallet {
    fn new(app: &TestApp, chain: Digest) -> Self {
        let key = || SigningKey::from_bytes(&app.random.bytes());
        Self { chain, root: key(), consent: key() }
    }

    fn sign_up(&self, mut new: NewPatient) -> NewPatient {
        let kid = PublicKey::of(&self.root).kid();
        let text = root_possession_text(&self.chain, &kid, None, &new.username);
        new.custody = Custody::Client;
        new.root_public_key = Some(public(&self.root));
        new.root_pop = Some(Bytes::from(self.root.sign(&text).to_bytes().as_slice()));
        new
    }

    fn registration(&self) -> NewConsentKey {
        let text = possession_text(&self.chain, &PublicKey::of(&self.consent).kid());
        let pop = Bytes::from(self.consent.sign(&text).to_bytes().as_slice());
        NewConsentKey { key: public(&self.consent), pop }
    }

    fn certificate(&self, app: &TestApp, grantee: &Person) -> Result<String> {
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
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patient_with_keys_of_their_own_grants_and_revokes() -> Result<()> {
    let Some(app) = TestApp::start().await? else { return Ok(()) };
    let doctor = app.doctor().await?;
    let (_, node) = app.nodes.first().context("no node")?;
    let wallet = Wallet::new(&app, chain::status(node).await?.chain);
    let (patient, created): (Person, PatientCreated) =
        app.sign_up_patient(&wallet.sign_up(app.new_patient())).await?;
    assert_eq!(created.custody, Custody::Client);
    assert_eq!(created.root_fingerprint, PublicKey::of(&wallet.root).kid());
    assert_eq!(created.recovery_codes.len(), 8, "they bring the password back, and no key");
    let record = app.upload(&patient, b"%PDF of a patient with a wallet").await?.id;

    let register = app.auth.to(auth::register_consent_key()).json(&wallet.registration());
    let registered: ConsentKeyRegistered = patient.signs(register).fetch().await?;
    let mut new = consents::new_grant(&doctor, app.scope(&[Category::Document]))?;
    new.key = Some(registered.kid);
    new.certificate = Some(wallet.certificate(&app, &doctor)?);
    let draft = app.draft(&patient, &new).await?;
    let payload: Payload = serde_json::from_value(draft.payload.clone())?;
    let signature = GrantSignature {
        jws: tx::sign(&wallet.consent, &payload)?,
        certificate: new.certificate.clone().context("just made")?,
        registration: Some(registered.registration),
    };
    let call = app.access.to(access_policy::sign_grant(&draft.id)).json(&signature);
    let pending: GrantView = patient.signs(call).fetch().await?;
    let granted = app.until_grant(&patient, &pending.id, GrantState::Active).await?;
    assert_eq!(granted.custody, Custody::Client);
    assert_eq!(app.received(&doctor, record.as_str(), "TREAT").await?, b"%PDF of a patient with a wallet");

    // The wallet alters the grant at a node, without access-policy; until it shows what it altered to, nothing is open.
    let given = tx::Tx::parse(granted.evidence.as_ref().context("no evidence")?.jws.as_bytes())?;
    let Payload::Grant(consent) = given.payload().clone() else { anyhow::bail!("no grant's event") };
    let scope = app.scope(&[Category::Document, Category::Imaging]);
    let body = ConsentBody::to_agency(
        granted.id.clone(),
        doctor.agency()?.clone(),
        patient.patient()?.clone(),
        scope,
    );
    let (body, salt) = (String::from_utf8(json::encode(&body)?)?, app.random.bytes::<32>());
    let altered = Consent {
        commitment: hash::consent_body(&salt, body.as_bytes()),
        iat: app.clock.now().unsigned_ms(),
        prev: Some(given.txid()),
        seq: consent.seq + 1,
        ..consent
    };
    let jws = tx::sign(&wallet.consent, &Payload::Alter(altered))?;
    node.to(ledger::submit_transaction()).json(&SubmitTransaction { jws: jws.clone() }).done().await?;
    app.until_grant(&patient, &granted.id, GrantState::Altered).await?;
    let read = app.received(&doctor, record.as_str(), "TREAT").await;
    assert!(matches!(records::refusal(read, "a read of an altered grant")?, 403 | 404));
    let opening = AlterationOpening { jws, body, salt: Bytes::from(salt.as_slice()) };
    let call = app.access.to(access_policy::open_alteration(&granted.id)).json(&opening);
    let opened: GrantView = patient.signs(call).fetch().await?;
    assert_eq!((opened.state, opened.scope.categories.len()), (GrantState::Active, 2));
    assert_eq!(app.received(&doctor, record.as_str(), "TREAT").await?, b"%PDF of a patient with a wallet");

    let revoke = Revoke {
        chain: wallet.chain,
        grant: granted.id.clone(),
        iat: app.clock.now().unsigned_ms(),
        key: registered.kid,
    };
    let jws = tx::sign(&wallet.consent, &Payload::Revoke(revoke))?;
    let call = app.access.to(access_policy::revoke_grant(&granted.id));
    let revoked: GrantView = patient.signs(call.json(&GrantRevocation { jws })).fetch().await?;
    assert_eq!(revoked.state, GrantState::Revoked);
    let read = app.received(&doctor, record.as_str(), "TREAT").await;
    assert!(matches!(records::refusal(read, "a read after the revocation")?, 403 | 404));
    wait::until("the revocation is final", || async {
        Ok(app.grant_view(&patient, &granted.id).await?.revoked_by)
    })
    .await?;
    Ok(())
}
