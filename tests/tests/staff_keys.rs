//! An organisation changes its staff key on a real ledger: it and its members go on, and whoever has genesis.json alone checks
//! which key was whose.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "test code")]

use anyhow::{Context as _, Result, bail};
use hbc_chain::genesis::Genesis;
use hbc_chain::payload::StaffStatus;
use hbc_chain::proof::{Content, Trust, Verdict, verify};
use hbc_client::operations::{auth, ledger};
use hbc_tests::wait::until;
use hbc_tests::{Person, TestApp};
use hbc_types::account::{AgencyType, Standing};
use hbc_types::labels::Category;
use hbc_types::wire::Page;
use hbc_types::wire::access::StaffBody;
use hbc_types::wire::auth::{
    AgencyView, FreshProof, KeyApproval, MemberStanding, MemberView, StaffKeyAsked, StaffKeyState,
};
use hbc_types::{Digest, hash};

/// What the state of the ledger says of a staff key, by the document that a node serves, against genesis.json alone.
async fn proved(app: &TestApp, genesis: &Genesis, key: &Digest) -> Result<(StaffStatus, Digest)> {
    let document = app.node("node-2")?.to(ledger::prove_staff(key)).send().await?.body;
    let verified = verify(&document, &Trust::Genesis(Box::new(genesis.clone())))?;
    let Content::State(facts) = verified.content else { bail!("no state") };
    assert!(verified.pinned && facts.id == key.to_string());
    let Verdict::Entry(entry) = facts.verdict else { bail!("no profile: {:?}", facts.verdict) };
    let status = entry["status"].as_str().and_then(StaffStatus::parse).context("no status")?;
    Ok((status, serde_json::from_value(entry["commitment"].clone())?))
}

async fn read(app: &TestApp, person: &Person, patient: &Person) -> Result<usize> {
    Ok(app.list(person, patient.patient()?.as_str(), "TREAT").await?.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organisation_changes_its_key_and_anybody_checks_both_offline() -> Result<()> {
    let Some(app) = TestApp::shared().await? else { return Ok(()) };
    let (operator, patient) = (app.operator().await?, app.patient().await?);
    let hospital = app.active_agency(AgencyType::Hospital).await?;
    let mut new = app.new_agency(AgencyType::Doctor);
    new.organisation = Some(hospital.agency()?.clone());
    let doctor = app.sign_up_agency(&new).await?;
    app.approve(&operator, doctor.agency()?).await?;
    app.take_in(&hospital, &doctor, "surgeon").await?;
    app.upload(&patient, b"%PDF-1.7 a letter").await?;
    app.grant(&patient, &hospital, app.scope(&[Category::Document])).await?;
    until("the doctor reads", || async { Ok((read(&app, &doctor, &patient).await? == 1).then_some(())) })
        .await?;

    let proof = FreshProof { password: hospital.password.clone(), totp: None };
    let call = app.auth.to(auth::ask_staff_key()).json(&proof);
    let asked: StaffKeyAsked = hospital.signs(call).fetch().await?;
    assert_eq!(asked.members, 1);
    let approval = KeyApproval { key: asked.key, password: operator.password.clone(), totp: None };
    let call = app.auth.to(auth::approve_staff_key(hospital.agency()?)).json(&approval);
    operator.signs(call).done().await.context("the key was not approved")?;
    // Whoever looks meanwhile sees it in good standing.
    let view = until("the first key is ended", || async {
        let call = app.auth.to(auth::show_agency(hospital.agency()?));
        let view: AgencyView = patient.signs(call).fetch().await?;
        assert_eq!(read(&app, &hospital, &patient).await?, 1);
        Ok((view.keys[0].state == StaffKeyState::Ended).then_some(view))
    })
    .await?;
    until("the doctor is a member under the new key", || async {
        let page: Page<MemberView> = hospital.signs(app.auth.to(auth::list_members())).fetch().await?;
        let taken = page.items[0].standing == MemberStanding::Active && page.items[0].final_at.is_some();
        Ok((taken && read(&app, &doctor, &patient).await? == 1).then_some(()))
    })
    .await?;

    assert_eq!((view.standing, view.staff_key), (Standing::Active, Some(asked.key)));
    let [first, second] = view.keys.as_slice() else { bail!("{:?}", view.keys) };
    assert!(first.ended_at.is_some() && second.began_at.is_some() && second.ended_at.is_none());
    let genesis = Genesis::parse(&std::fs::read(app.stack().dir().join("genesis.json"))?)?;
    let profile = view.profile.context("no profile")?;
    let opened = hash::staff(&profile.salt.to_array().context("no salt")?, profile.body.as_bytes());
    assert_eq!(proved(&app, &genesis, &first.key).await?, (StaffStatus::Revoked, opened));
    assert_eq!(proved(&app, &genesis, &second.key).await?, (StaffStatus::Active, opened));
    let body: StaffBody = hbc_chain::json::decode(profile.body.as_bytes())?;
    assert_eq!(&body.agency, hospital.agency()?);
    // Each signature of the history is a transaction of the ledger.
    for signed in &view.history {
        app.until_final(app.node("node-3")?, &signed.txid).await?;
    }
    let of = |key| view.history.iter().filter(move |signed| signed.key == key).count();
    assert_eq!((of(first.key), of(second.key)), (3, 2), "auth and the operator, and the end of the first");
    Ok(())
}
