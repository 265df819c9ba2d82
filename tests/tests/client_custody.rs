//! A patient who holds their own keys: signs up, grants, is read and revokes, and no server ever sees a private key.

use anyhow::{Context as _, Result};
use hbc_chain::certificate::RootCertificate;
use hbc_chain::consent::ConsentBody;
use hbc_chain::payload::{Consent, KeyStatus, Payload, Revoke};
use hbc_chain::{json, tx};
use hbc_client::operations::{access_policy, auth, ledger};
use hbc_tests::wallet::Wallet;
use hbc_tests::{Person, TestApp, chain, records, wait};
use hbc_types::account::Custody;
use hbc_types::hash;
use hbc_types::keys::PublicKey;
use hbc_types::labels::Category;
use hbc_types::secret::Bytes;
use hbc_types::wire::access::{AlterationOpening, GrantRevocation, GrantState, GrantView, RootView};
use hbc_types::wire::auth::PatientCreated;
use hbc_types::wire::custody::{CustodyChanged, NewCustody};
use hbc_types::wire::ledger::SubmitTransaction;

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

    let granted = wallet.grant(&app, (&patient, &doctor), app.scope(&[Category::Document])).await?;
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
        key: PublicKey::of(&wallet.consent).kid(),
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

/// Keys move from the server to the patient's client, and on to others when the root key is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_patient_takes_their_keys_home_and_replaces_them_with_the_recovery_key() -> Result<()> {
    let Some(app) = TestApp::start().await? else { return Ok(()) };
    let (patient, doctor) = (app.patient().await?, app.doctor().await?);
    let (_, node) = app.nodes.first().context("no node")?;
    let chain = chain::status(node).await?.chain;
    let record = app.upload(&patient, b"%PDF of a patient who moves").await?.id;
    let scope = || app.scope(&[Category::Document]);
    let first = app.grant(&patient, &doctor, scope()).await?;
    let read = async || app.received(&doctor, record.as_str(), "TREAT").await;
    assert_eq!(read().await?, b"%PDF of a patient who moves");

    let home = Wallet::new(&app, chain);
    let change = async |new: &NewCustody| -> Result<CustodyChanged> {
        Ok(patient.signs(app.auth.to(auth::set_custody()).json(new)).fetch().await?)
    };
    let changed = change(&home.custody(&app, &patient, None)?).await?;
    assert!(changed.effective);
    assert_eq!(changed.root_fingerprint, PublicKey::of(&home.root).kid());
    assert!(matches!(records::refusal(read().await, "a read under the keys of before")?, 403 | 404));
    assert_eq!(app.grant_view(&patient, &first.id).await?.state, GrantState::Revoked);
    // The consent key of before ends on the ledger as well.
    let kid = first.key.context("a grant has a key")?;
    wait::until("the consent key is revoked on the chain", || async {
        let ended = chain::transactions(node).await?.into_iter().any(|last| {
            matches!(&last.payload, Payload::ConsentKey(end) if end.key == kid && end.status == KeyStatus::Revoked)
        });
        Ok(ended.then_some(()))
    })
    .await?;
    let own = app.received(&patient, record.as_str(), "PATRQT").await?;
    assert_eq!(own, b"%PDF of a patient who moves", "the patient's own records stay theirs");
    let second = home.grant(&app, (&patient, &doctor), scope()).await?;
    assert_eq!((second.custody, read().await?), (Custody::Client, own));

    // The root key is lost: the recovery key names another one.
    let next = Wallet { recovery: home.recovery.clone(), ..Wallet::new(&app, chain) };
    change(&next.custody(&app, &patient, Some(&home.recovery))?).await?;
    assert!(matches!(records::refusal(read().await, "a read under lost keys")?, 403 | 404));
    next.grant(&app, (&patient, &doctor), scope()).await?;
    assert_eq!(read().await?, b"%PDF of a patient who moves");

    // Whoever trusts the first root key finds the present one, without the server's word.
    let call = app.access.to(access_policy::get_root(patient.patient()?));
    let root: RootView = patient.signs(call).fetch().await?;
    let key = |bytes: &Bytes| bytes.to_array().map(PublicKey::from_bytes).context("no key");
    let mut trusted = vec![key(&root.former.first().context("no former root")?.root_public_key)?];
    for former in &root.former {
        assert!(trusted.contains(&key(&former.root_public_key)?));
        let pinned: Vec<_> = [&former.root_public_key]
            .into_iter()
            .chain(&former.recovery_public_key)
            .map(key)
            .collect::<Result<_>>()?;
        let text = former.certificate.as_ref().context("nobody vouched for it")?;
        let word = RootCertificate::verify(text, &pinned, &chain)?;
        trusted = [&home, &next]
            .map(|wallet| PublicKey::of(&wallet.root))
            .into_iter()
            .filter(|key| key.kid() == word.root)
            .collect();
    }
    assert_eq!(trusted.first().map(PublicKey::kid), Some(root.root_fingerprint));
    // What the root keys of before certified can still be proven.
    for grant in [&first, &second] {
        let call = app.access.to(access_policy::get_grant_proof(&grant.id));
        patient.signs(call).done().await.context("no proof of an earlier consent")?;
    }
    Ok(())
}
