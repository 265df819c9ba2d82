//! Opening an alteration. The ledger says that a grant was altered, and by what commitment; until somebody shows the body that
//! opens it, nobody knows what the grant covers, and it stands still.
//!
//! Why: decision 0124.

use hbc_chain::certificate::ConsentCertificate;
use hbc_chain::consent::ConsentBody;
use hbc_chain::json;
use hbc_chain::payload::{Consent, Payload};
use hbc_chain::tx::Tx as LedgerTx;
use hbc_db::{Lock, Tx};
use hbc_types::ids::{GrantId, PatientId};
use hbc_types::wire::access::{AlterationOpening, GrantView, Scope};
use hbc_types::{Timestamp, hash};
use serde_json::Value;

use crate::app::{App, Who};
use crate::domain::consent::{ConsentError, check_certificate};
use crate::domain::grant::{Grant, NumberLimits};
use crate::domain::rights::Pin;
use crate::domain::scope::{check_reader, normalise};
use crate::error::Error;
use crate::flows::consents::{
    change_grant, grantee_is_of_government, own_grant, protected, rights_of, rights_to_change, root_key,
};
use crate::flows::requests::active_caller;
use crate::flows::views::{self, Names};
use crate::store;
use crate::store::grants::{Altered, StoredGrant};

/// `PUT /v1/grants/{id}/alteration`.
pub async fn open(
    app: &App,
    who: Who,
    patient: PatientId,
    id: GrantId,
    opening: AlterationOpening,
) -> Result<GrantView, Error> {
    let (this, now) = (app.clone(), app.clock.now());
    app.change(vec![Lock::exclusive(patient.as_str())], move |tx, changes| {
        Box::pin(async move {
            active_caller(&this, tx, &who, now).await?;
            let stored = own_grant(tx, &patient, &id).await?;
            let rights = rights_to_change(&this, tx, &patient).await?;
            let mut grant = protected(&this, &rights, &stored)?;
            if grant.txid.is_some()
                && grant.altered_by.is_none()
                && stored.jws.as_deref() == Some(&opening.jws)
            {
                // Shown before.
                return views::grant(&this, tx, &mut Names::default(), stored, &rights.pin, now).await;
            }
            let (consent, event) = event_of(&grant, &opening)?;
            let scope =
                scope_of(&this, tx, (&grant, &rights.pin), (&stored, &opening), &consent, now).await?;
            if scope.future_records {
                // Else those that existed when it became final, and no later ones.
                grant.numbers = NumberLimits::new();
            }
            grant.scope = scope;
            grant.seq = Some(consent.seq);
            grant.txid = Some(event.txid());
            grant.given_at = Timestamp::from_ms(i64::try_from(consent.iat).unwrap_or(i64::MAX));
            grant.custody = consent.custody;
            grant.altered_by = None;
            let mut payload = serde_json::to_value(event.payload())
                .map_err(|_json| ConsentError::Form("payload".to_owned()))?;
            if let Value::Object(fields) = &mut payload {
                fields.insert("type".to_owned(), event.payload().kind().into());
            }
            let altered = Altered {
                body: &opening.body,
                salt: opening.salt.as_slice(),
                payload: &payload.to_string(),
                jws: &opening.jws,
            };
            store::grants::alter(tx, &grant, &altered).await?;
            let to_store = grant.clone();
            change_grant(&this, tx, (rights, grant), true, (&changes, now), |grant| {
                *grant = to_store;
                Ok(true)
            })
            .await?;
            let stored = own_grant(tx, &patient, &id).await?;
            let rights = rights_of(&this, tx, &patient).await?;
            views::grant(&this, tx, &mut Names::default(), stored, &rights.pin, now).await
        })
    })
    .await
}

/// The final event that altered the grant.
fn event_of(grant: &Grant, opening: &AlterationOpening) -> Result<(Consent, LedgerTx), Error> {
    if grant.ended_at.is_some() {
        return Err(crate::domain::grant::TransitionError::Ended.into());
    }
    let altered_by = grant
        .altered_by
        .ok_or(Error::Conflict("the ledger has no alteration of this grant that is not known"))?;
    let event =
        LedgerTx::parse(opening.jws.as_bytes()).map_err(|error| ConsentError::Form(error.to_string()))?;
    if event.txid() != altered_by {
        return Err(Error::Conflict("the ledger has another alteration of this grant"));
    }
    let Payload::Alter(consent) = event.payload().clone() else {
        return Err(ConsentError::Form("not a consent.alter".to_owned()).into());
    };
    Ok((consent, event))
}

/// What the grant covers from now on, if the body opens the commitment, is about this grant, and keeps within what its key's
/// certificate allows.
async fn scope_of(
    app: &App,
    tx: &mut Tx,
    (grant, pin): (&Grant, &Pin),
    (stored, opening): (&StoredGrant, &AlterationOpening),
    consent: &Consent,
    now: Timestamp,
) -> Result<Scope, Error> {
    let salt = opening.salt.to_array().ok_or_else(|| Error::invalid("salt", "needs 32 bytes"))?;
    if hash::consent_body(&salt, opening.body.as_bytes()) != consent.commitment {
        return Err(Error::invalid("body", "does not open the alteration's commitment"));
    }
    let body: ConsentBody =
        json::decode(opening.body.as_bytes()).map_err(|error| Error::invalid("body", error.to_string()))?;
    let ConsentBody { device, grant: id, grantee, offline, opens, patient, scope } = body;
    let same = id == grant.id
        && patient == grant.patient
        && grantee == grant.grantee
        && (device, offline, opens) == (grant.device, grant.offline, None);
    if !same {
        return Err(Error::invalid("body", "is about another grant"));
    }
    // FORMATS says no order of its lists: whoever signed it chose one.
    let scope = normalise(scope, &grant.grantee, now)?;
    let government = grantee_is_of_government(app, tx, &grant.grantee).await?;
    check_reader(&scope, government)?;
    let certificate = stored.certificate.as_deref().ok_or(Error::NotFound)?;
    let certificate =
        ConsentCertificate::verify(certificate, &root_key(pin)?, &app.chain).map_err(ConsentError::from)?;
    let altered = Grant { scope: scope.clone(), ..grant.clone() };
    check_certificate(&certificate, &altered, consent, now)?;
    Ok(scope)
}
