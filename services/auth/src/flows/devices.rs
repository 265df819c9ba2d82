//! Devices and gateways: they make themselves known with a key of their own, and get tokens to create what they measured once a
//! patient paired them ([`super::pairings`]).
//!
//! Why: decision 0129.

use std::time::Duration;

use hbc_app::jobs::enqueue;
use hbc_client::assertion::ClientKeys;
use hbc_db::Tx;
use hbc_types::account::Role;
use hbc_types::ids::{AccountId, DeviceId, OAuthClientId, SessionId};
use hbc_types::purpose::Purpose;
use hbc_types::scope::Scopes;
use hbc_types::secret::SecretText;
use hbc_types::wire::devices::{DeviceRegistered, NewDevice};
use hbc_types::wire::oauth::{Introspection, JWT_BEARER, TokenResponse};
use hbc_types::wire::token::{AccessClaims, ClientClaims};
use hbc_types::{Digest, Timestamp};

use crate::app::App;
use crate::domain::input::{Faults, shows_itself as shows_itself_whole};
use crate::domain::token::{Amr, Bearer};
use crate::error::Error;
use crate::flows::clients::{ClientProof, LIFE, TOKEN_EVERY, good, once_of, shown, verified};
use crate::flows::registered::unknown;
use crate::jobs::{TellSession, push};
use crate::store::Rows;
use crate::store::devices::Device;
use crate::store::sessions::{Session, Told};

/// What a device may ask for, and all that it may.
const SCOPE: &str = "system/Observation.c";
/// Longest name and model, in characters.
const LONGEST: usize = 80;

/// Makes a device known: its name, and one key that it has. Says whether it is new; the same again changes nothing.
pub async fn register(app: &App, new: NewDevice) -> Result<(DeviceRegistered, bool), Error> {
    let NewDevice { name, model, jwks, assertion } = new;
    let mut faults = Faults::default();
    let (name, model) = (faults.required("name", &name), faults.required("model", &model));
    for (field, text) in [("name", &name), ("model", &model)] {
        if text.chars().count() > LONGEST || !shows_itself_whole(text) {
            faults.add(field, "may have 80 characters, and none that cannot be seen");
        }
    }
    faults.into_result().map_err(Error::Invalid)?;
    let keys = ClientKeys::parse(&jwks).map_err(|error| Error::invalid("jwks", error.to_string()))?;
    let fingerprint = fingerprint(&keys)?;
    let shown = shown(&proof_of(&assertion))?;
    if shown.client() != fingerprint.to_string() {
        return Err(unknown());
    }
    let (assertion, until) = once_of(&verified(app, shown, &keys)?);
    let device = Device {
        id: DeviceId::random(&app.random),
        name,
        model,
        jwks: keys.to_json().to_string(),
        fingerprint,
        created_at: app.clock.now(),
        paired_at: None,
        last_used_at: None,
        clock_offset_ms: None,
    };
    let registered = app.store.write(move |tx, rows| {
        Box::pin(async move {
            take(&rows, tx, assertion, until).await?;
            match rows.device_by_key(tx, fingerprint).await? {
                Some(known) if known.jwks == device.jwks => Ok((known.id, false)),
                Some(_other) => {
                    Err(Error::Conflict("the key is known, in another form or under another `kid`"))
                }
                None => {
                    rows.insert_device(tx, &device).await?;
                    Ok((device.id, true))
                }
            }
        })
    });
    let (id, is_new) = registered.await?;
    Ok((DeviceRegistered { id, fingerprint }, is_new))
}

/// Of the one key: what a patient compares is one fingerprint, and a second key would sign under it unseen.
fn fingerprint(keys: &ClientKeys) -> Result<Digest, Error> {
    let mut keys = keys.iter();
    match (keys.next(), keys.next()) {
        (Some(only), None) => Ok(only.thumbprint()),
        _ => Err(Error::invalid("jwks", "must hold one key: with another key it is another device")),
    }
}

/// A device whose assertion holds; that it comes once is seen in the transaction.
#[derive(Clone, Debug)]
pub struct Authenticated {
    /// The device.
    pub device: Device,
    assertion: Digest,
    until: Timestamp,
    /// How far its clock is ahead, if it says what time it is there.
    clock_offset_ms: Option<i64>,
}

impl Authenticated {
    /// Takes the assertion, for a device that is still known.
    pub async fn once(&self, rows: &Rows, tx: &mut Tx) -> Result<Device, Error> {
        let device = rows.device(&mut *tx, &self.device.id).await?.ok_or_else(unknown)?;
        take(rows, tx, self.assertion, self.until).await?;
        Ok(device)
    }
}

async fn take(rows: &Rows, tx: &mut Tx, assertion: Digest, until: Timestamp) -> Result<(), Error> {
    match rows.take_assertion(tx, assertion, until).await? {
        true => Ok(()),
        false => Err(Error::InvalidClient("the assertion was used before")),
    }
}

/// What a device shows where only its assertion is asked for.
#[must_use]
pub const fn proof_of(assertion: &SecretText) -> ClientProof<'_> {
    ClientProof { kind: Some(JWT_BEARER), assertion: Some(assertion), client_id: None }
}

/// Whether it is a device that shows itself, and no program.
#[must_use]
pub fn shows_itself(proof: &ClientProof<'_>) -> bool {
    shown(proof).is_ok_and(|assertion| DeviceId::parse(assertion.client()).is_ok())
}

/// The device that an assertion is of.
pub async fn authenticate(app: &App, proof: ClientProof<'_>) -> Result<Authenticated, Error> {
    let shown = shown(&proof)?;
    let id = DeviceId::parse(shown.client()).map_err(|_other| unknown())?;
    let device = app.store.rows.device(app.store.db.reads(), &id).await?.ok_or_else(unknown)?;
    let claims = verified(app, shown, &device.keys()?)?;
    app.devices.requests.check(&id).map_err(|_too_many| Error::TooManyAttempts(Duration::from_secs(1)))?;
    let (assertion, until) = once_of(&claims);
    let now = app.clock.now().ms();
    let clock_offset_ms = claims.iat.map(|iat| iat.saturating_mul(1_000).saturating_sub(now));
    Ok(Authenticated { device, assertion, until, clock_offset_ms })
}

/// Gives a token to a device that proves itself and that a patient has paired. For which patients it is good, their grants say.
pub async fn grant(app: &App, proof: ClientProof<'_>, scope: Option<&str>) -> Result<TokenResponse, Error> {
    let proven = authenticate(app, proof).await?;
    let only = || Error::InvalidScope(format!("a device has {SCOPE}"));
    let scope = Scopes::parse(scope.unwrap_or(SCOPE)).map_err(|_unknown| only())?;
    if scope.to_string() != SCOPE {
        return Err(only());
    }
    let now = app.clock.now();
    let id = proven.device.id.clone();
    let session = session(app, &id, now);
    let new = session.clone();
    app.devices.tokens.check(&id).map_err(|_too_many| Error::TooManyAttempts(TOKEN_EVERY))?;
    let granted = app.store.write(move |tx, rows| {
        Box::pin(async move {
            let mut device = proven.once(&rows, tx).await?;
            if rows.pairings_of_device(&mut *tx, &device.id).await?.is_empty() {
                return Err(Error::InvalidClient("no patient has paired this device"));
            }
            device.last_used_at = Some(now);
            device.clock_offset_ms = proven.clock_offset_ms;
            rows.update_device(tx, &device).await?;
            rows.insert_session(tx, &new).await?;
            Ok(enqueue::<TellSession>(tx, &new.id, now).await?)
        })
    });
    granted.await?;
    // Without its knowing, access-policy takes the token for forged.
    push::told(app, session.id.as_str()).await?;
    let bearer = Bearer {
        account: session.account,
        role: Role::Device,
        session: session.id,
        auth_time: now,
        amr: session.amr,
        second_factor: false,
        usual_purpose: None,
        client: Some(ClientClaims {
            client_id: OAuthClientId::Device(id),
            patient: None,
            scope: scope.clone(),
            purpose: Some(Purpose::PatientRequest),
        }),
    };
    Ok(TokenResponse {
        access_token: app.issuer.issue(&bearer, now, &app.random)?,
        token_type: "Bearer".to_owned(),
        expires_in: LIFE,
        refresh_token: None,
        scope: Some(scope),
        patient: None,
        id_token: None,
    })
}

fn session(app: &App, device: &DeviceId, now: Timestamp) -> Session {
    Session {
        id: SessionId::random(&app.random),
        account: AccountId::Device(device.clone()),
        amr: Amr::Key,
        auth_time: now,
        expires_at: now.plus(Duration::from_secs(u64::from(LIFE))),
        ended_at: None,
        end_reason: None,
        told: Some(Told {
            created_at: now,
            last_used_at: now,
            client: None,
            oauth_client: Some(OAuthClientId::Device(device.clone())),
            passkey: None,
            let_in: None,
        }),
    }
}

/// Whether a token is good now, for the device that it is of.
pub async fn introspect(
    app: &App,
    proof: ClientProof<'_>,
    claims: Option<AccessClaims>,
) -> Result<Introspection, Error> {
    let proven = authenticate(app, proof).await?;
    let now = app.clock.now();
    let looked = app.store.write(move |tx, rows| {
        Box::pin(async move {
            let account = AccountId::Device(proven.once(&rows, tx).await?.id);
            let Some(claims) = claims.filter(|claims| claims.sub == account) else { return Ok(None) };
            let session = rows.session(tx, claims.sid.as_str()).await?;
            Ok(session.is_some_and(|session| session.is_live_for(&account, now)).then_some(claims))
        })
    });
    Ok(looked.await?.map(good).unwrap_or_default())
}
