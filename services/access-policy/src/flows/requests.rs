//! Access requests: an agency asks, the patient answers by a grant or a denial, either side may end it.

use std::time::Duration;

use hbc_db::Tx;
use hbc_types::Timestamp;
use hbc_types::ids::{AccessRequestId, AccountId, AgencyId, GranteeId, PatientId};
use hbc_types::saved::SavedAnswer;
use hbc_types::wire::access::{AccessRequestState, AccessRequestView, NewAccessRequest};

use crate::app::{App, Who};
use crate::domain::scope::{check_reader, normalise};
use crate::error::Error;
use crate::flows::decide::refusal;
use crate::flows::views::{self, Names};
use crate::store;
use crate::store::listings::{PageKey, Side};
use crate::store::requests::AccessRequest;

/// A request that nobody answers expires after this.
const LIFE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Open requests of one agency with one patient at most.
const MOST_OPEN: u64 = 5;
/// Characters of a message at most.
const MESSAGE_CHARS: usize = 500;

/// Checks that the caller may act at all; the first step of every operation of the public API.
pub async fn active_caller(
    app: &App,
    tx: &mut Tx,
    who: &Who,
    now: Timestamp,
) -> Result<crate::domain::policy::Principal, Error> {
    let principal = store::accounts::principal(
        tx,
        &app.protection,
        (&who.account, &who.session),
        who.bound.as_ref(),
        now,
    )
    .await?;
    refusal(&principal).map_or(Ok(principal), Err)
}

/// A saved answer is stored with the work, once its text is known.
pub type Save<T> = std::sync::Arc<dyn Fn(&T) -> Result<Option<SavedAnswer>, Error> + Send + Sync>;

/// `POST /v1/access-requests`.
pub async fn ask(
    app: &App,
    who: Who,
    agency: AgencyId,
    new: NewAccessRequest,
    save: Save<AccessRequestView>,
) -> Result<AccessRequestView, Error> {
    let now = app.clock.now();
    if new.message.chars().count() > MESSAGE_CHARS {
        return Err(Error::invalid("message", "at most 500 characters"));
    }
    if new.patient.is_directory() {
        return Err(Error::invalid("patient", "is nobody's account"));
    }
    let request = AccessRequest {
        id: AccessRequestId::random(&app.random),
        patient: new.patient,
        scope: normalise(new.scope, &GranteeId::Agency(agency.clone()), now)?,
        agency,
        message: new.message,
        state: AccessRequestState::Open,
        grant: None,
        created_at: now,
        expires_at: now.plus(LIFE),
    };
    let this = app.clone();
    app.write(Vec::new(), move |tx| {
        Box::pin(async move {
            let caller = active_caller(&this, tx, &who, now).await?;
            check_reader(&request.scope, caller.is_of_government())?;
            store::rights::rights(tx, &this.protection, &request.patient).await?.ok_or(Error::NotFound)?;
            if store::accounts::is_closed(tx, &this.protection, request.patient.as_str()).await? {
                return Err(Error::NotFound);
            }
            if store::requests::open_between(tx, &request.agency, &request.patient).await? >= MOST_OPEN {
                return Err(Error::Conflict("too many open requests to this patient"));
            }
            store::requests::insert(tx, &this.protection, &request).await?;
            let view = views::request(&this, tx, &mut Names::default(), request).await?;
            if let Some(saved) = save(&view)? {
                hbc_db::idempotency::save(tx, &saved).await?;
            }
            Ok(view)
        })
    })
    .await
}

/// The side that an account sees, if it has one.
pub fn side(principal: &crate::domain::policy::Principal) -> Result<Side, Error> {
    match &principal.account {
        AccountId::Patient(id) => Ok(Side::Patient(id.as_str().to_owned())),
        AccountId::Agency(id) => {
            let organisation = principal.organisation.as_ref().map(|id| id.as_str().to_owned());
            Ok(Side::Agency(id.as_str().to_owned(), organisation))
        }
        AccountId::Operator(_) | AccountId::App(_) | AccountId::Device(_) => Err(Error::NotFound),
    }
}

/// One page of the caller's requests.
pub async fn list(
    app: &App,
    who: &Who,
    state: Option<AccessRequestState>,
    after: Option<PageKey>,
    limit: u32,
) -> Result<Vec<AccessRequestView>, Error> {
    let listed = app.read(async |tx| {
        let principal = active_caller(app, tx, who, app.clock.now()).await?;
        let (side, code) = (side(&principal)?, state.map(AccessRequestState::code));
        let found = store::listings::requests(tx, &app.protection, &side, code, after.clone(), limit).await?;
        let mut names = Names::default();
        let mut items = Vec::with_capacity(found.len());
        for request in found {
            items.push(views::request(app, tx, &mut names, request).await?);
        }
        Ok(items)
    });
    listed.await
}

/// One request, for its two sides only.
pub async fn get(app: &App, who: &Who, id: &AccessRequestId) -> Result<AccessRequestView, Error> {
    app.read(async |tx| get_in(app, tx, who, id).await).await
}

async fn get_in(app: &App, tx: &mut Tx, who: &Who, id: &AccessRequestId) -> Result<AccessRequestView, Error> {
    active_caller(app, tx, who, app.clock.now()).await?;
    let request = store::requests::find(tx, &app.protection, id).await?.ok_or(Error::NotFound)?;
    let theirs = match &who.account {
        AccountId::Patient(id) => *id == request.patient,
        AccountId::Agency(id) => *id == request.agency,
        AccountId::Operator(_) | AccountId::App(_) | AccountId::Device(_) => false,
    };
    if !theirs {
        return Err(Error::NotFound);
    }
    views::request(app, tx, &mut Names::default(), request).await
}

/// The patient says no.
pub async fn deny(
    app: &App,
    who: Who,
    patient: PatientId,
    id: AccessRequestId,
) -> Result<AccessRequestView, Error> {
    close(app, who, id, AccessRequestState::Denied, move |request| request.patient == patient).await
}

/// The agency takes it back.
pub async fn withdraw(
    app: &App,
    who: Who,
    agency: AgencyId,
    id: AccessRequestId,
) -> Result<AccessRequestView, Error> {
    close(app, who, id, AccessRequestState::Withdrawn, move |request| request.agency == agency).await
}

async fn close(
    app: &App,
    who: Who,
    id: AccessRequestId,
    state: AccessRequestState,
    is_theirs: impl Fn(&AccessRequest) -> bool + Clone + Send + Sync + 'static,
) -> Result<AccessRequestView, Error> {
    let (this, now) = (app.clone(), app.clock.now());
    app.write(Vec::new(), move |tx| {
        Box::pin(async move {
            active_caller(&this, tx, &who, now).await?;
            let request = store::requests::find(tx, &this.protection, &id).await?.ok_or(Error::NotFound)?;
            if !is_theirs(&request) {
                return Err(Error::NotFound);
            }
            // Doing the same again is harmless; any other end stays.
            if request.state != state && !store::requests::close(tx, &id, state, None, now).await? {
                return Err(Error::Conflict("the request is closed"));
            }
            let request = store::requests::find(tx, &this.protection, &id).await?.ok_or(Error::NotFound)?;
            views::request(&this, tx, &mut Names::default(), request).await
        })
    })
    .await
}
