//! A part is down: what must be refused is refused, what may go on goes on, and nothing acknowledged is lost.

use std::time::Duration;

use anyhow::{Context as _, Result};
use hbc_client::ClientError;
use hbc_client::operations::{access_policy, storage};
use hbc_tests::{TestApp, records, wait};
use hbc_types::labels::Category;
use hbc_types::wire::access::{GrantRevocation, GrantState, GrantView};
use hbc_types::wire::storage::{AnchorState, RecordCreated};

fn retry_after(error: &ClientError) -> Option<Duration> {
    match error {
        ClientError::Problem(problem) => problem.retry_after,
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_access_policy_nothing_is_read_or_written() -> Result<()> {
    let Some(app) = TestApp::start().await? else { return Ok(()) };
    let patient = app.patient().await?;
    let id = patient.patient()?.as_str();
    let record = app.upload(&patient, b"%PDF a letter").await?.id;
    app.stack().stop("access-policy")?;
    let read = app.received(&patient, record.as_str(), "PATRQT").await;
    assert_eq!(records::refusal(read, "a read without decisions")?, 503);
    let listing = app.list(&patient, id, "PATRQT").await;
    assert_eq!(records::refusal(listing, "a listing without decisions")?, 503);
    let search = app.storage.to(storage::fhir_search("Observation").with(format!("patient={id}"))).once();
    let search = patient.signs(search.header("hbc-purpose", "PATRQT")).send().await;
    assert_eq!(records::refusal(search, "a search without decisions")?, 503);
    let write = app.document(&patient, id, b"%PDF another".to_vec()).once().fetch().await;
    assert_eq!(records::refusal(write, "a write without keys")?, 503);
    app.stack().resume("access-policy")?;
    assert_eq!(app.received(&patient, record.as_str(), "PATRQT").await?, b"%PDF a letter");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_kubo_uploads_wait_and_nothing_is_lost() -> Result<()> {
    let Some(app) = TestApp::start().await? else { return Ok(()) };
    let patient = app.patient().await?;
    let id = patient.patient()?.as_str();
    let before = app.upload(&patient, b"%PDF before").await?;
    app.stack().stop("kubo")?;
    let key = app.key();
    let again = || {
        let call = app.storage.to(storage::create_record()).header("idempotency-key", &key);
        let call = call.header("hbc-patient", id).body("application/pdf", b"%PDF meanwhile".to_vec());
        patient.signs(call).once()
    };
    let refused = again().fetch().await.err().context("an upload passed without Kubo")?;
    assert_eq!(refused.status(), Some(503), "{refused}");
    assert!(retry_after(&refused).is_some(), "a 503 says when to come again");
    app.stack().resume("kubo")?;
    let accepted: RecordCreated = wait::until("the upload passes again", || async {
        match again().fetch().await {
            Ok(created) => Ok(Some(created)),
            Err(error) if error.is_transient() => Ok(None),
            Err(error) => Err(error.into()),
        }
    })
    .await?;
    assert_eq!(app.received(&patient, before.id.as_str(), "PATRQT").await?, b"%PDF before");
    assert_eq!(app.received(&patient, accepted.id.as_str(), "PATRQT").await?, b"%PDF meanwhile");
    let all = app.until_anchored(&patient).await?;
    assert_eq!(all.len(), 2, "the refused attempt left no record");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_uploads_and_grants_wait_while_revocations_act() -> Result<()> {
    let Some(app) = TestApp::start().await? else { return Ok(()) };
    let (patient, doctor) = (app.patient().await?, app.doctor().await?);
    let id = patient.patient()?.as_str();
    let first = app.upload(&patient, b"%PDF first").await?;
    let granted = app.grant(&patient, &doctor, app.scope(&[Category::Document])).await?;
    assert_eq!(app.received(&doctor, first.id.as_str(), "TREAT").await?, b"%PDF first");

    app.stack().stop("node-3")?;
    app.stack().stop("node-4")?;
    let uploaded = app.upload(&patient, b"%PDF while two members are away").await?;
    assert_eq!(uploaded.anchor, AnchorState::Pending);
    let new = hbc_tests::consents::new_grant(&doctor, app.scope(&[Category::Laboratory]))?;
    let waiting = app.sign_grant(&patient, &new).await?;
    assert_eq!(waiting.state, GrantState::Pending);
    let jws = app.sign_revocation(&patient, &granted).await?;
    let call = app.access.to(access_policy::revoke_grant(&granted.id));
    let revoked: GrantView = patient.signs(call.json(&GrantRevocation { jws })).fetch().await?;
    assert_eq!(revoked.state, GrantState::Revoked);
    let read = app.received(&doctor, first.id.as_str(), "TREAT").await;
    assert!(matches!(records::refusal(read, "a read after the revocation")?, 403 | 404));
    assert_eq!(app.grant_view(&patient, &waiting.id).await?.state, GrantState::Pending);
    assert_eq!(
        app.received(&patient, uploaded.id.as_str(), "PATRQT").await?,
        b"%PDF while two members are away"
    );

    app.stack().resume("node-3")?;
    app.stack().resume("node-4")?;
    app.until_grant(&patient, &waiting.id, GrantState::Active).await?;
    let all = app.until_anchored(&patient).await?;
    assert_eq!(all.len(), 2);
    wait::until("the revocation is final", || async {
        let view = app.grant_view(&patient, &granted.id).await?;
        Ok(view.revoked_by)
    })
    .await?;
    app.until_equal_tips().await?;
    assert_eq!(app.list(&patient, id, "PATRQT").await?.len(), 2);
    Ok(())
}
