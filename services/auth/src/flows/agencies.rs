//! Agencies: sign-up, what others see of them, the listing.

use std::sync::Arc;

use hbc_app::jobs::enqueue;
use hbc_chain::payload::StaffStatus;
use hbc_types::Digest;
use hbc_types::account::{Role, Standing};
use hbc_types::ids::{AccountId, AgencyId, OperatorId};
use hbc_types::saved::SavedAnswer;
use hbc_types::secret::Bytes;
use hbc_types::wire::auth::{
    AgencyCreated, AgencyView, Contact, NewAgency, StaffKeyView, StaffProfile, StaffSigned,
};

use crate::app::App;
use crate::domain::custody::{self, CustodyError, KeyOwner, KeyUse, Keys};
use crate::domain::input::{Faults, Username};
use crate::domain::password;
use crate::domain::staff::{Profile, StaffKey, present, profile_body};
use crate::error::Error;
use crate::flows::codes;
use crate::jobs::TellStanding;
use crate::jobs::push;
use crate::store::StoreError;
use crate::store::accounts::Account;
use crate::store::staff::{AUTH, StaffSignature};
use crate::store::wrapped_keys::{CodeWrap, WrappedKey};

/// Who looks at an agency.
#[derive(Clone, Debug)]
pub struct Viewer {
    /// The account.
    pub account: AccountId,
    /// Its role.
    pub role: Role,
}

impl Viewer {
    fn is_operator(&self) -> bool {
        self.role == Role::Operator
    }

    fn is(&self, agency: &AgencyId) -> bool {
        self.account.as_str() == agency.as_str()
    }
}

/// A sign-up that is checked and made but not stored yet.
#[derive(Debug)]
pub struct Prepared {
    account: Account,
    key: WrappedKey,
    codes: Vec<CodeWrap>,
    /// What the agency is answered.
    pub answer: AgencyCreated,
}

/// Checks a sign-up and makes the staff key.
pub async fn prepare(app: &App, new: NewAgency) -> Result<Prepared, Error> {
    let mut faults = Faults::default();
    let username = faults.username(&new.username);
    let username = username.as_ref().map(Username::as_str).unwrap_or_default().to_owned();
    if let Err(error) = password::check_new(&new.password, &username, false) {
        faults.add("password", &error.to_string());
    }
    let name = faults.required("name", &new.name);
    let phone = faults.required("contact_number", &new.contact_number);
    faults.phone("contact_number", &phone);
    let email = faults.required("email", &new.email);
    faults.email("email", &email);
    let address = faults.required("address", &new.address);
    let licence_number = faults.required("licence_number", &new.licence_number);
    if let Some(organisation) = &new.organisation
        && active_organisation(app, organisation).await?.is_none()
    {
        faults.add("organisation", "is not an approved agency");
    }
    faults.into_result().map_err(Error::Invalid)?;
    let id = AgencyId::random(&app.random);
    let body = profile_body(&id, new.agency_type, &licence_number, &name)
        .map_err(|_cannot_be_written| Error::invalid("name", "cannot be written in a profile"))?;
    let now = app.clock.now();
    let (cost, random, key_id, password) =
        (app.passwords.cost(), app.random.clone(), id.clone(), new.password);
    let work = move || {
        let key = Keys::from(custody::new_key(&random));
        let public_key = custody::public_key(&key.key);
        let owner = KeyOwner { key_use: KeyUse::Staff, account: key_id.as_str(), public_key: &public_key };
        let wrapped = custody::wrap_with_password(&key, owner, &password, cost, &random)?;
        let account = key_id.as_str().to_owned();
        let wrapped = WrappedKey { account, key_use: KeyUse::Staff, cost, wrapped, created_at: now };
        let codes = codes::make(&AccountId::Agency(key_id), &public_key, Some(&key), now, &random)?;
        Ok::<_, CustodyError>((password::hash(&password, cost, &random)?, public_key, wrapped, codes))
    };
    let (password_hash, public_key, key, (codes, written)) = app.passwords.run(work).await??;
    let account = Account {
        id: AccountId::Agency(id.clone()),
        role: Role::Agency,
        username,
        password_hash,
        standing: Standing::Pending,
        revision: 1,
        contact: Contact { name: Some(name), email: Some(email), phone: Some(phone), address: Some(address) },
        custody: None,
        public_key,
        agency_type: Some(new.agency_type),
        organisation: new.organisation,
        licence_number: Some(licence_number),
        profile: Some(Profile { salt: app.random.bytes(), body }),
        staff_round: 0,
        created_at: now,
        password_changed_at: now,
        second_factor_at: None,
        version: 0,
        reason: None,
        recovery_public_key: None,
        root_certificate: None,
        ended_at: None,
    };
    let answer = AgencyCreated { id, standing: Standing::Pending, recovery_codes: written };
    Ok(Prepared { account, key, codes, answer })
}

/// Stores a sign-up; the agency waits for approval.
pub async fn commit(
    app: &App,
    prepared: Prepared,
    saved: Option<SavedAnswer>,
) -> Result<AgencyCreated, Error> {
    let Prepared { account, key, codes, answer } = prepared;
    let codes = Arc::new(codes);
    let now = account.created_at;
    let outcome = app
        .store
        .write(move |tx, rows| {
            Box::pin(async move {
                if let Some(saved) = &saved {
                    hbc_db::idempotency::save(tx, saved).await?;
                }
                rows.insert_account(tx, &account).await?;
                rows.put_wrapped_key(tx, &key).await?;
                rows.insert_codes(tx, &codes).await?;
                Ok::<_, Error>(enqueue::<TellStanding>(tx, &account.id, now).await?)
            })
        })
        .await;
    match outcome {
        Err(Error::Db(error)) if error.is_unique_violation() => return Err(Error::UsernameTaken),
        outcome => outcome?,
    }
    push::told(app, answer.id.as_str()).await?;
    Ok(answer)
}

/// The agency with this id, if it is one.
pub async fn find(app: &App, id: &AgencyId) -> Result<Option<Account>, Error> {
    let account = app.store.rows.account(app.store.db.reads(), id.as_str()).await?;
    Ok(account.filter(|account| account.role == Role::Agency))
}

/// An approved agency that others can belong to.
pub async fn active_organisation(app: &App, id: &AgencyId) -> Result<Option<Account>, Error> {
    Ok(find(app, id).await?.filter(|agency| agency.standing == Standing::Active))
}

/// An agency as `viewer` may see it: one that is not approved yet, or never was before it closed, is unknown to everybody but
/// operators and itself.
pub async fn view_for(app: &App, id: &AgencyId, viewer: &Viewer) -> Result<AgencyView, Error> {
    let agency = find(app, id).await?.ok_or(Error::NotFound)?;
    let was_never_approved = match agency.standing {
        Standing::Pending => true,
        Standing::Closed => agency.staff_round == 0,
        Standing::Active | Standing::Suspended => false,
    };
    if was_never_approved && !viewer.is_operator() && !viewer.is(id) {
        return Err(Error::NotFound);
    }
    view(app, &agency, viewer).await
}

/// How an account stands as far as access-policy knows: what it was not told yet acts nowhere.
pub async fn told_standing(app: &App, account: &Account) -> Result<Standing, Error> {
    let waits = account.standing == Standing::Active && !app.queue.is_settled(account.id.as_str()).await?;
    Ok(if waits { Standing::Pending } else { account.standing })
}

/// What `viewer` sees of `agency`.
pub async fn view(app: &App, agency: &Account, viewer: &Viewer) -> Result<AgencyView, Error> {
    let (AccountId::Agency(id), Some(agency_type)) = (&agency.id, agency.agency_type) else {
        return Err(Error::NotFound);
    };
    let (keys, signatures) = keys_of(app, id, agency).await?;
    let key = present(&keys, &agency.public_key);
    let round = if agency.standing == Standing::Active { agency.staff_round - 1 } else { agency.staff_round };
    let approvals = signatures
        .iter()
        .filter(|signature| {
            (signature.key, signature.round) == (key, round)
                && signature.signer != AUTH
                && signature.status == "active"
        })
        .count();
    let private = viewer.is_operator() || viewer.is(id);
    let organisation = match &agency.organisation {
        // Asked for only; others see it once the organisation said so.
        Some(its) if !private && !viewer.is(its) => {
            let membership = app.store.rows.membership(app.store.db.reads(), its, id).await?;
            membership.is_some_and(|membership| membership.is_in_force()).then(|| its.clone())
        }
        organisation => organisation.clone(),
    };
    let approved = agency.staff_round > 0;
    Ok(AgencyView {
        id: id.clone(),
        name: agency.contact.name.clone().unwrap_or_default(),
        agency_type,
        standing: told_standing(app, agency).await?,
        organisation,
        licence_number: agency.licence_number.clone().filter(|_| private),
        contact: private.then(|| agency.contact.clone()),
        reason: agency.reason.clone().filter(|_| private),
        created_at: private.then_some(agency.created_at),
        approvals: u32::try_from(approvals).unwrap_or(u32::MAX),
        approvals_needed: app.approvals,
        staff_key: approved.then(|| custody::kid(&agency.public_key)),
        keys: keys
            .iter()
            .filter(|key| key.active_at.is_some() || private)
            .map(|key| key_view(key, &signatures))
            .collect(),
        ended_at: agency.ended_at,
        history: history(signatures, &keys, private)?,
        profile: agency.profile.as_ref().filter(|_| approved || private).map(|profile| StaffProfile {
            salt: Bytes::from(profile.salt.as_slice()),
            body: profile.body.clone(),
        }),
    })
}

/// An agency's keys and who signed what about them; rows of another hand (alarmed about) tell nothing.
async fn keys_of(
    app: &App,
    id: &AgencyId,
    agency: &Account,
) -> Result<(Vec<StaffKey>, Vec<StaffSignature>), Error> {
    let reads = app.store.db.reads();
    let read = async {
        let keys = app.store.rows.staff_keys(reads, id).await?;
        Ok::<_, StoreError>((keys, app.store.rows.staff_signatures(reads, id).await?))
    };
    let (mut keys, signatures) = match read.await {
        Ok(read) => read,
        Err(StoreError::Tampered(_alarmed)) => Default::default(),
        Err(error) => return Err(error.into()),
    };
    if keys.is_empty() {
        keys.push(first_key(id, agency, &signatures));
    }
    Ok((keys, signatures))
}

/// The key of an agency that never asked for another one, as its signatures tell of it.
#[must_use]
pub fn first_key(agency: &AgencyId, account: &Account, signatures: &[StaffSignature]) -> StaffKey {
    let last_final = |status: StaffStatus, is_its: fn(i64) -> bool| {
        let its = signatures.iter().filter(|signature| {
            signature.key == 0 && signature.status == status.code() && is_its(signature.round)
        });
        its.filter_map(|signature| signature.final_at).max()
    };
    let active_at = last_final(StaffStatus::Active, |round| round == 0).filter(|_at| account.staff_round > 0);
    StaffKey {
        signed_at: active_at,
        active_at,
        ended_at: last_final(StaffStatus::Revoked, |_any| true),
        ..StaffKey::asked(agency.clone(), 0, account.public_key, account.created_at)
    }
}

fn key_view(key: &StaffKey, signatures: &[StaffSignature]) -> StaffKeyView {
    let approvals = signatures.iter().filter(|signature| {
        (signature.key, signature.round) == (key.n, 0)
            && signature.signer != AUTH
            && signature.status == StaffStatus::Active.code()
    });
    StaffKeyView {
        key: custody::kid(&key.public_key),
        state: key.state(),
        asked_at: key.asked_at,
        approvals: u32::try_from(approvals.count()).unwrap_or(u32::MAX),
        began_at: key.active_at,
        ended_at: key.ended_at,
    }
}

/// The signatures about those of the keys that are seen.
fn history(
    signatures: Vec<StaffSignature>,
    keys: &[StaffKey],
    private: bool,
) -> Result<Vec<StaffSigned>, Error> {
    let mut history = Vec::with_capacity(signatures.len());
    for signature in signatures {
        let key = keys.iter().find(|key| key.n == signature.key);
        let key = key.ok_or(Error::Broken("a signature for a key that is not there"))?;
        if key.active_at.is_some() || private {
            history.push(signed(signature, custody::kid(&key.public_key))?);
        }
    }
    Ok(history)
}

/// A signature, as everybody may see it who sees the agency.
fn signed(signature: StaffSignature, key: Digest) -> Result<StaffSigned, Error> {
    let StaffSignature { agency: _, key: _, round, signer, status, txid, signed_at, final_at } = signature;
    let operator = (signer != AUTH).then(|| OperatorId::parse(&signer)).transpose();
    let status = StaffStatus::parse(&status).ok_or(Error::Broken("a standing that nobody signs"))?;
    Ok(StaffSigned {
        key,
        change: u64::try_from(round).map_err(|_negative| Error::Broken("a round below zero"))?,
        standing: match status {
            StaffStatus::Active => Standing::Active,
            StaffStatus::Suspended | StaffStatus::Revoked => Standing::Suspended,
        },
        ends: status == StaffStatus::Revoked,
        operator: operator.map_err(|_other| Error::Broken("a signer who is nobody"))?,
        txid,
        signed_at,
        final_at,
    })
}

/// One page of agencies after `after`, and where the next one begins: for operators of any standing, for others the
/// active ones.
pub async fn list(
    app: &App,
    viewer: &Viewer,
    standing: Option<Standing>,
    (query, new_key): (&str, bool),
    after: &str,
    limit: u32,
) -> Result<(Vec<AgencyView>, Option<String>), Error> {
    let standing = if viewer.is_operator() { standing } else { Some(Standing::Active) };
    let reads = app.store.db.reads();
    let wanted = (query, new_key && viewer.is_operator());
    let (agencies, next) = app.store.rows.agencies(reads, standing, wanted, after, limit).await?;
    let mut views = Vec::with_capacity(agencies.len());
    for agency in &agencies {
        views.push(view(app, agency, viewer).await?);
    }
    Ok((views, next))
}
