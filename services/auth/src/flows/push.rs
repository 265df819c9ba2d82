//! Telling access-policy: at once where it answers, and again and again until it has stored what it is told.

use std::time::Duration;

use hbc_client::ClientError;
use hbc_client::operations::access_policy;
use hbc_types::Timestamp;
use hbc_types::account::{Role, ServiceRole, Standing};
use hbc_types::ids::AccountId;
use hbc_types::secret::Bytes;
use hbc_types::wire::access::{NewDenial, PinPatient, Subject};
use hbc_types::wire::token::ACCESS_SECONDS;

use crate::app::App;
use crate::error::Error;
use crate::store::accounts::Account;
use crate::store::pushes::{Push, PushKind};

/// How long one call may take while a caller waits for it.
const DEADLINE: Duration = Duration::from_secs(3);
/// How long an ended session is remembered past its last token's end.
const SLACK: Duration = Duration::from_secs(60);
/// The longest pause between two tries.
const LONGEST_PAUSE_S: u64 = 30;

/// Sends what is owed about `subject`, in order. Returns whether access-policy knows all of it now.
pub async fn drive(app: &App, subject: &str) -> Result<bool, Error> {
    // One at a time for a subject: an older message must not overtake a newer one.
    let _alone = app.pushing.lock(subject).await;
    let owed = app.store.rows.open_pushes(app.store.db.reads(), subject).await?;
    for push in owed {
        if !settle(app, push).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether access-policy knows everything about `subject`.
pub async fn is_settled(app: &App, subject: &str) -> Result<bool, Error> {
    Ok(app.store.rows.open_pushes(app.store.db.reads(), subject).await?.is_empty())
}

/// One round of the background loop: everything that is due, subject by subject. Returns how many are still owed.
pub async fn round(app: &App) -> Result<usize, Error> {
    let due = app.store.rows.due_pushes(app.store.db.reads(), app.clock.now(), 200).await?;
    let mut subjects: Vec<String> = due.into_iter().map(|push| push.subject).collect();
    subjects.dedup();
    let mut owed = 0;
    for subject in subjects {
        if !drive(app, &subject).await? {
            owed += 1;
        }
    }
    Ok(owed)
}

/// The background loop.
pub async fn run(app: App) {
    loop {
        if let Err(error) = round(&app).await {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, "What access-policy is owed could not be looked through");
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn settle(app: &App, push: Push) -> Result<bool, Error> {
    let outcome = send(app, &push).await?;
    let (rows, now) = (app.store.rows.clone(), app.clock.now());
    match outcome {
        Ok(()) => {
            let done = app.store.db.write(move |tx| {
                Box::pin(async move { Ok::<_, Error>(rows.push_done(tx, &push, now).await?) })
            });
            done.await
        }
        Err(error) => {
            log_failure(&error, push.kind);
            let again = now.plus(pause(push.attempts));
            let failed = app.store.db.write(move |tx| {
                Box::pin(async move { Ok::<_, Error>(rows.push_failed(tx, &push, again).await?) })
            });
            failed.await?;
            Ok(false)
        }
    }
}

fn log_failure(error: &ClientError, kind: PushKind) {
    let cause: &dyn std::error::Error = error;
    if error.is_transient() {
        tracing::info!(error = cause, push.kind = kind.code(), "access-policy was not told yet");
    } else {
        tracing::error!(error = cause, push.kind = kind.code(), "access-policy refuses what it is told");
    }
}

fn pause(attempts: i64) -> Duration {
    let doubled = 1_u64.checked_shl(u32::try_from(attempts).unwrap_or(u32::MAX)).unwrap_or(LONGEST_PAUSE_S);
    Duration::from_secs(doubled.clamp(1, LONGEST_PAUSE_S))
}

/// Sends the present truth about the push's subject. What is no longer true, or no longer there, needs no telling.
async fn send(app: &App, push: &Push) -> Result<Result<(), ClientError>, Error> {
    let reads = app.store.db.reads();
    match push.kind {
        PushKind::Session => match app.store.rows.session(reads, &push.subject).await? {
            Some(session) => match session.ended_at {
                Some(ended_at) => Ok(deny_session(app, &push.subject, ended_at).await),
                None => Ok(Ok(())),
            },
            None => Ok(Ok(())),
        },
        PushKind::Subject | PushKind::Patient | PushKind::Denial => {
            match app.store.rows.account(reads, &push.subject).await? {
                Some(account) => Ok(tell(app, push.kind, &account).await),
                None => Ok(Ok(())),
            }
        }
    }
}

async fn tell(app: &App, kind: PushKind, account: &Account) -> Result<(), ClientError> {
    match kind {
        PushKind::Patient => pin(app, account).await,
        PushKind::Denial => deny_subject(app, account).await,
        PushKind::Subject | PushKind::Session => put_subject(app, account).await,
    }
}

async fn put_subject(app: &App, account: &Account) -> Result<(), ClientError> {
    let subject = Subject {
        role: account.role,
        standing: account.standing,
        agency_type: account.agency_type,
        name: (account.role == Role::Agency).then(|| account.contact.name.clone()).flatten(),
        organisation: account.organisation.clone(),
        staff_key: (account.role == Role::Agency && account.staff_round > 0)
            .then(|| crate::domain::custody::kid(&account.public_key)),
        revision: u64::try_from(account.revision).unwrap_or(0),
    };
    let call = app.access_policy.endpoint.to(access_policy::put_subject(&account.id)).json(&subject);
    finish(app, call).await
}

async fn pin(app: &App, account: &Account) -> Result<(), ClientError> {
    let (AccountId::Patient(patient), Some(custody)) = (&account.id, account.custody) else { return Ok(()) };
    let pin = PinPatient {
        patient: patient.clone(),
        root_public_key: Bytes::from(account.public_key.as_slice()),
        custody,
    };
    finish(app, app.access_policy.endpoint.to(access_policy::pin_patient()).json(&pin)).await
}

async fn deny_subject(app: &App, account: &Account) -> Result<(), ClientError> {
    let policy = &app.access_policy.endpoint;
    if account.standing == Standing::Suspended {
        let call = policy.to(access_policy::put_denial("subject", &account.id));
        return finish(app, call.json(&NewDenial { until: None })).await;
    }
    match finish(app, policy.to(access_policy::delete_denial("subject", &account.id))).await {
        Err(error) if error.status() == Some(404) => Ok(()),
        outcome => outcome,
    }
}

async fn deny_session(app: &App, session: &str, ended_at: Timestamp) -> Result<(), ClientError> {
    let life = Duration::from_secs(u64::try_from(ACCESS_SECONDS).unwrap_or(600));
    let until = Some(ended_at.plus(life).plus(SLACK));
    let call = app.access_policy.endpoint.to(access_policy::put_denial("session", session));
    finish(app, call.json(&NewDenial { until })).await
}

async fn finish(app: &App, call: hbc_client::Call<()>) -> Result<(), ClientError> {
    call.signed(&app.access_policy.caller, ServiceRole::AccessPolicy).once().deadline(DEADLINE).done().await
}
