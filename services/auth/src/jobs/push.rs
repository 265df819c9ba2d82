//! Telling access-policy: what its jobs say, and waiting for them. What is sent is the present truth about an account or a
//! session, computed from its own authenticated row, so that a forged job can only repeat the truth.

use std::time::Duration;

use hbc_app::jobs::Retry;
use hbc_client::operations::access_policy;
use hbc_client::{Call, ClientError};
use hbc_types::Timestamp;
use hbc_types::account::{Role, ServiceRole, Standing};
use hbc_types::ids::{AccountId, DeviceId, PatientId, SessionId};
use hbc_types::keys::PublicKey;
use hbc_types::secret::Bytes;
use hbc_types::wire::access::{NewDenial, NewRootClaim, NewSession, PinPatient, Subject};
use hbc_types::wire::auth::StaffProfile;
use hbc_types::wire::token::ACCESS_SECONDS;

use crate::app::App;
use crate::domain::roots::Keys;
use crate::error::Error;
use crate::store::accounts::Account;
use crate::store::apps::App as StoredApp;
use crate::store::devices::Device;
use crate::store::root_claims::RootClaim;
use crate::store::sessions::Session;

/// How long one call may take while a caller waits for it.
const DEADLINE: Duration = Duration::from_secs(3);
/// How long a caller waits until access-policy knows.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long an ended session is remembered past its last token's end.
const SLACK: Duration = Duration::from_secs(60);
/// A refusal is an error of configuration, and what is told may be a suspension: it is told for a day.
pub const RETRY: Retry =
    Retry { tries: 2_880, first: Duration::from_millis(250), longest: Duration::from_secs(30) };

/// Waits for what is owed about `subject`. Returns whether access-policy knows all of it now.
pub async fn told(app: &App, subject: &str) -> Result<bool, Error> {
    Ok(app.queue.settled(subject, PATIENCE).await?)
}

/// The same of sessions that ended together.
pub async fn all_told(app: &App, sessions: &[SessionId]) -> Result<bool, Error> {
    let (end, mut effective) = (tokio::time::Instant::now() + PATIENCE, true);
    for session in sessions {
        let left = end.saturating_duration_since(tokio::time::Instant::now());
        effective &= app.queue.settled(session.as_str(), left).await?;
    }
    Ok(effective)
}

/// Tells how an account stands.
pub async fn put_subject(app: &App, account: &Account) -> Result<(), ClientError> {
    let subject =
        Subject {
            role: account.role,
            standing: account.standing,
            agency_type: account.agency_type,
            name: (account.role == Role::Agency).then(|| account.contact.name.clone()).flatten(),
            organisation: account.organisation.clone(),
            staff_key: (account.role == Role::Agency && account.staff_round > 0)
                .then(|| crate::domain::custody::kid(&account.public_key)),
            profile: account.profile.as_ref().filter(|_| account.staff_round > 0).map(|profile| {
                StaffProfile { body: profile.body.clone(), salt: profile.salt.as_slice().into() }
            }),
            revision: u64::try_from(account.revision).unwrap_or(0),
        };
    let call = app.access_policy.to(access_policy::put_subject(&account.id)).json(&subject);
    finish(app, call).await
}

/// Tells how an app stands, with what opens the order that registered it.
pub async fn put_app(app: &App, stored: &StoredApp) -> Result<(), ClientError> {
    let subject = Subject {
        role: Role::App,
        standing: stored.standing,
        agency_type: None,
        name: Some(stored.name.clone()),
        organisation: None,
        staff_key: Some(stored.subject),
        profile: Some(StaffProfile { body: stored.body.clone(), salt: stored.salt.as_slice().into() }),
        revision: u64::try_from(stored.revision).unwrap_or(0),
    };
    let account = AccountId::App(stored.id.clone());
    finish(app, app.access_policy.to(access_policy::put_subject(&account)).json(&subject)).await
}

/// Tells who a device is: its name, and its key by the fingerprint that patients compare. Neither ever changes.
pub async fn put_device(app: &App, device: &Device) -> Result<(), ClientError> {
    let subject = Subject {
        role: Role::Device,
        standing: Standing::Active,
        agency_type: None,
        name: Some(device.name.clone()),
        organisation: None,
        staff_key: Some(device.fingerprint),
        profile: None,
        revision: 1,
    };
    finish(app, app.access_policy.to(access_policy::put_subject(&device.id)).json(&subject)).await
}

/// Tells that a pairing ended.
pub async fn end_pairing(
    app: &App,
    (device, patient): (&DeviceId, &PatientId),
    ended_at: Timestamp,
) -> Result<(), ClientError> {
    let name = format!("{device}.{patient}");
    let call = app.access_policy.to(access_policy::put_denial("pairing", name));
    finish(app, call.json(&NewDenial { until: None, since: Some(ended_at) })).await
}

/// Tells a patient's keys, and by whose word they took the place of others.
pub async fn pin(app: &App, account: &Account) -> Result<(), ClientError> {
    let (AccountId::Patient(patient), Some(custody)) = (&account.id, account.custody) else { return Ok(()) };
    let pin = PinPatient {
        patient: patient.clone(),
        root_public_key: Bytes::from(account.public_key.as_slice()),
        recovery_public_key: account.recovery_public_key.map(|key| Bytes::from(key.as_slice())),
        custody,
        certificate: account.root_certificate.clone(),
    };
    finish(app, app.access_policy.to(access_policy::pin_patient()).json(&pin)).await
}

/// Tells which keys a patient claims.
pub async fn root_claim(
    app: &App,
    patient: &PatientId,
    claim: Option<&RootClaim>,
) -> Result<(), ClientError> {
    let raw = |key: PublicKey| Bytes::from(key.as_bytes().as_slice());
    match claim {
        Some(RootClaim { keys: Keys { root, recovery }, nonce, .. }) => {
            let claim = NewRootClaim {
                nonce: Bytes::from(nonce.as_slice()),
                root_public_key: raw(*root),
                recovery_public_key: recovery.map(raw),
            };
            finish(app, app.access_policy.to(access_policy::put_root_claim(patient)).json(&claim)).await
        }
        None => finish(app, app.access_policy.to(access_policy::delete_root_claim(patient))).await,
    }
}

/// Tells whether an account is denied.
pub async fn deny_subject(app: &App, account: &AccountId, standing: Standing) -> Result<(), ClientError> {
    if standing.is_stopped() {
        let call = app.access_policy.to(access_policy::put_denial("subject", account));
        return finish(app, call.json(&NewDenial::default())).await;
    }
    match finish(app, app.access_policy.to(access_policy::delete_denial("subject", account))).await {
        Err(error) if error.status() == Some(404) => Ok(()),
        outcome => outcome,
    }
}

/// Tells that somebody signed in.
pub async fn open_session(app: &App, session: &Session) -> Result<(), ClientError> {
    let new = NewSession {
        account: session.account.clone(),
        opened_at: session.auth_time,
        expires_at: session.expires_at,
    };
    finish(app, app.access_policy.to(access_policy::put_session(&session.id)).json(&new)).await
}

/// Tells that a session ended.
pub async fn deny_session(app: &App, session: &SessionId, ended_at: Timestamp) -> Result<(), ClientError> {
    let life = Duration::from_secs(u64::try_from(ACCESS_SECONDS).unwrap_or(600));
    let until = Some(ended_at.plus(life).plus(SLACK));
    let call = app.access_policy.to(access_policy::put_denial("session", session));
    finish(app, call.json(&NewDenial { until, since: None })).await
}

async fn finish(app: &App, call: Call<()>) -> Result<(), ClientError> {
    call.signed(&app.caller, ServiceRole::AccessPolicy).once().deadline(DEADLINE).done().await
}
