//! Somebody with write access to a database changes a row by hand while everything runs: it gives nobody a right, and the
//! log says so.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use hbc_client::operations::{access_policy, auth};
use hbc_tests::wait::until;
use hbc_tests::{Person, TestApp, records};
use hbc_types::labels::Category;
use hbc_types::secret::SecretText;
use hbc_types::wire::auth::Refresh;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};

/// Changes exactly `rows` rows of a service's database, from outside the service.
async fn by_hand(app: &TestApp, service: &str, rows: u64, sql: &'static str, binds: &[&str]) -> Result<()> {
    let file = app.dir().join("data").join(service).join(format!("{service}.db"));
    let mut connection = SqliteConnectOptions::new().filename(file).connect().await?;
    let mut query = sqlx::query(sql);
    for bind in binds {
        query = query.bind((*bind).to_owned());
    }
    let changed = query.execute(&mut connection).await?.rows_affected();
    connection.close().await?;
    ensure!(changed == rows, "the edit met {changed} rows");
    Ok(())
}

fn alarmed(app: &TestApp, service: &str) -> bool {
    app.stack().log(service).contains("alarm")
}

async fn refused(app: &TestApp, who: &Person, record: &str, purpose: &str, what: &str) -> Result<()> {
    let status = records::refusal(app.received(who, record, purpose).await, what)?;
    ensure!(status != 200 && status >= 400, "{what} was answered {status}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_added_by_hand_gives_nothing() -> Result<()> {
    let Some(app) = TestApp::start().await? else { return Ok(()) };
    let (patient, doctor, other) = (app.patient().await?, app.doctor().await?, app.doctor().await?);
    let record = app.upload(&patient, b"%PDF for one doctor").await?.id;
    let granted = app.grant(&patient, &doctor, app.scope(&[Category::Document])).await?;
    assert_eq!(app.received(&doctor, record.as_str(), "TREAT").await?, b"%PDF for one doctor");
    assert!(!alarmed(&app, "access-policy"));
    by_hand(
        &app,
        "access-policy",
        1,
        "INSERT INTO grants (id, patient, grantee, request, scope, body, salt, payload, custody, given_at_ms, until_ms,
             draft_expires_at_ms, kid, seq, jws, certificate, txid, signed_at_ms, numbers, final_height)
         SELECT 'grt-00000000000000000000000000000001', patient, $1, request, scope, body, salt, payload, custody,
             given_at_ms, until_ms, draft_expires_at_ms, kid, seq, jws, certificate, 'none', signed_at_ms, numbers,
             final_height
         FROM grants WHERE id = $2",
        &[other.agency()?.as_str(), granted.id.as_str()],
    )
    .await?;
    refused(&app, &other, record.as_str(), "TREAT", "a read under a grant written by hand").await?;
    assert!(alarmed(&app, "access-policy"), "the log raises an alarm");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_key_swapped_by_hand_opens_nothing() -> Result<()> {
    let Some(app) = TestApp::start().await? else { return Ok(()) };
    let (patient, mallory) = (app.patient().await?, app.patient().await?);
    let record = app.upload(&patient, b"%PDF under the old root").await?.id;
    by_hand(
        &app,
        "access-policy",
        1,
        "UPDATE patients SET
             root_public_key = (SELECT root_public_key FROM patients WHERE id = $1),
             root_fingerprint = (SELECT root_fingerprint FROM patients WHERE id = $1)
         WHERE id = $2",
        &[mallory.patient()?.as_str(), patient.patient()?.as_str()],
    )
    .await?;
    refused(&app, &patient, record.as_str(), "PATRQT", "a read under a swapped root").await?;
    assert!(alarmed(&app, "access-policy"), "the log raises an alarm");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_changed_by_hand_does_not_widen_a_grant() -> Result<()> {
    let Some(app) = TestApp::start().await? else { return Ok(()) };
    let (patient, doctor) = (app.patient().await?, app.doctor().await?);
    let record = app.upload(&patient, b"%PDF not for the doctor").await?.id;
    app.grant(&patient, &doctor, app.scope(&[Category::Laboratory])).await?;
    refused(&app, &doctor, record.as_str(), "TREAT", "a document under a laboratory grant").await?;
    by_hand(
        &app,
        "storage",
        1,
        "UPDATE records SET category = 'laboratory' WHERE id = $1 AND category <> $2",
        &[record.as_str(), "laboratory"],
    )
    .await?;
    refused(&app, &doctor, record.as_str(), "TREAT", "a relabelled document").await?;
    assert!(alarmed(&app, "storage") || alarmed(&app, "access-policy"), "a log raises an alarm");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_hash_and_a_session_copied_by_hand_let_nobody_in() -> Result<()> {
    let Some(app) = TestApp::start().await? else { return Ok(()) };
    let (victim, mallory) = (app.patient().await?, app.patient().await?);
    by_hand(
        &app,
        "auth",
        1,
        "UPDATE accounts SET password_hash = (SELECT password_hash FROM accounts WHERE id = $1) WHERE id = $2",
        &[mallory.account.as_str(), victim.account.as_str()],
    )
    .await?;
    let entered = app.try_login(&victim.username, mallory.password.expose()).await;
    assert_eq!(records::refusal(entered, "a login with a copied hash")?, 401);
    assert!(alarmed(&app, "auth"), "the log raises an alarm");

    let (third, tokens) = (app.patient().await?, mallory.tokens.clone());
    by_hand(
        &app,
        "auth",
        1,
        "UPDATE refresh_tokens SET session = (SELECT id FROM sessions WHERE account = $1)
         WHERE session = (SELECT id FROM sessions WHERE account = $2)",
        &[third.account.as_str(), mallory.account.as_str()],
    )
    .await?;
    let refresh = Refresh { refresh_token: SecretText::new(tokens.refresh_token.expose().to_owned()) };
    let renewed = app.auth.to(auth::refresh_session()).json(&refresh).fetch().await;
    let status = records::refusal(renewed, "a refresh token moved to another session")?;
    assert!(matches!(status, 401 | 403), "{status}");
    Ok(())
}

/// Copies the files of a folder.
fn copy_files(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for file in std::fs::read_dir(from)? {
        let file = file?;
        if file.file_type()?.is_file() {
            std::fs::copy(file.path(), to.join(file.file_name()))?;
        }
    }
    Ok(())
}

/// The ledger knows a later journal of rights than an older copy is: with it, a database that was set back is found although
/// they fit each other.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_and_its_journal_set_back_together_stop_the_service() -> Result<()> {
    let Some(app) = TestApp::start_with(|_as_it_is| Ok(())).await? else { return Ok(()) };
    let patient = app.patient().await?;
    app.upload(&patient, b"%PDF one").await?;
    app.until_receipts_anchored(&patient).await?;
    let (data, journals) = (app.dir().join("data/access-policy"), app.dir().join("journals"));
    let copies = tempfile::tempdir()?;
    app.stack().stop("access-policy")?;
    copy_files(&data, &copies.path().join("data"))?;
    copy_files(&journals, &copies.path().join("journals"))?;
    app.stack().resume("access-policy")?;
    patient.signs(app.access.to(access_policy::freeze_all())).done().await?;
    app.upload(&patient, b"%PDF two").await?;
    app.until_receipts_anchored(&patient).await?;
    app.stack().stop("access-policy")?;
    std::fs::remove_dir_all(&data)?;
    copy_files(&copies.path().join("data"), &data)?;
    std::fs::copy(
        copies.path().join("journals/access-policy.rights"),
        journals.join("access-policy.rights"),
    )?;
    app.stack().resume("access-policy")?;
    let status =
        async || app.access.get("/readyz").once().send().await.err().and_then(|error| error.status());
    until("the service stops", || async { Ok((status().await == Some(503)).then_some(())) }).await?;
    let log = patient.signs(app.access.to(access_policy::get_freeze())).once().fetch().await;
    ensure!(log.is_err_and(|error| error.status() == Some(503)), "it answers what it believes");
    // Who runs the service may decide that the copy counts.
    let said = app.stack().log("access-policy");
    let head = said.split("\"journal.head\":\"").nth(1).and_then(|rest| rest.get(..64));
    std::fs::write(journals.join("access-policy.accepted"), head.context("the alarm names the head")?)?;
    app.stack().stop("access-policy")?;
    app.stack().resume("access-policy")?;
    app.until_receipts_anchored(&patient).await?;
    ensure!(status().await.is_none(), "it is ready");
    Ok(())
}
