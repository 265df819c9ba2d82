//! Grants and access requests as their two sides see them.

use std::collections::HashMap;

use hbc_db::Tx;
use hbc_types::Timestamp;
use hbc_types::account::AgencyType;
use hbc_types::ids::{AccountId, AgencyId, GranteeId};
use hbc_types::wire::access::{AccessRequestView, GrantState, GrantView};

use crate::app::App;
use crate::domain::rights::Pin;
use crate::error::Error;
use crate::store;
use crate::store::grants::StoredGrant;
use crate::store::requests::AccessRequest;

/// Names of agencies, apps and devices, and since when they are closed, asked once each.
#[derive(Debug, Default)]
pub struct Names {
    agencies: HashMap<AgencyId, (String, AgencyType)>,
    others: HashMap<String, String>,
    closed: HashMap<String, Timestamp>,
}

impl Names {
    /// Name and kind of an agency; an unknown one has an empty name.
    pub async fn of(&mut self, app: &App, tx: &mut Tx, id: &AgencyId) -> Result<(String, AgencyType), Error> {
        if let Some(known) = self.agencies.get(id) {
            return Ok(known.clone());
        }
        let account = store::accounts::account(tx, &app.protection, id.as_str()).await?;
        if let Some(at) = account.as_ref().and_then(|account| account.closed_at) {
            self.closed.insert(id.to_string(), at);
        }
        let found = account.map_or((String::new(), AgencyType::Auditor), |account| {
            let name = account.subject.name.unwrap_or_default();
            (name, account.subject.agency_type.unwrap_or(AgencyType::Auditor))
        });
        self.agencies.insert(id.clone(), found.clone());
        Ok(found)
    }

    /// Name of an app or a device; an unknown one has an empty name.
    async fn of_other(&mut self, app: &App, tx: &mut Tx, id: &str) -> Result<String, Error> {
        if let Some(known) = self.others.get(id) {
            return Ok(known.clone());
        }
        let account = store::accounts::account(tx, &app.protection, id).await?;
        let name = account.and_then(|account| account.subject.name).unwrap_or_default();
        self.others.insert(id.to_owned(), name.clone());
        Ok(name)
    }

    /// Name of whom a grant is to.
    pub async fn of_grantee(&mut self, app: &App, tx: &mut Tx, id: &GranteeId) -> Result<String, Error> {
        match id {
            GranteeId::Agency(id) => Ok(self.of(app, tx, id).await?.0),
            GranteeId::App(_) | GranteeId::Device(_) | GranteeId::Link(_) => {
                self.of_other(app, tx, id.as_str()).await
            }
        }
    }

    /// Since when an agency is closed whose name was asked.
    fn closed_at(&self, id: &GranteeId) -> Option<Timestamp> {
        self.closed.get(id.as_str()).copied()
    }

    /// Name of who did something, where others than they may know it.
    pub async fn of_actor(
        &mut self,
        app: &App,
        tx: &mut Tx,
        id: &AccountId,
    ) -> Result<Option<String>, Error> {
        match id {
            AccountId::Agency(id) => Ok(Some(self.of(app, tx, id).await?.0)),
            AccountId::App(_) | AccountId::Device(_) => Ok(Some(self.of_other(app, tx, id.as_str()).await?)),
            AccountId::Patient(_) | AccountId::Operator(_) => Ok(None),
        }
    }
}

/// A grant for either side; `pin` is its patient's.
pub async fn grant(
    app: &App,
    tx: &mut Tx,
    names: &mut Names,
    stored: StoredGrant,
    pin: &Pin,
    now: Timestamp,
) -> Result<GrantView, Error> {
    let grantee_name = names.of_grantee(app, tx, &stored.grant.grantee).await?;
    let grantee_closed_at = names.closed_at(&stored.grant.grantee);
    let evidence = stored.evidence();
    let grant = stored.grant;
    let state = match grant.state(now) {
        GrantState::Active | GrantState::Pending if pin.frozen_at.is_some() => GrantState::Frozen,
        state => state,
    };
    Ok(GrantView {
        id: grant.id,
        patient: grant.patient,
        grantee: grant.grantee,
        grantee_name,
        grantee_closed_at,
        offline: grant.offline,
        device: grant.device,
        scope: grant.scope,
        state,
        custody: grant.custody,
        key: grant.kid,
        txid: grant.txid,
        revoked_by: grant.revoked_by,
        height: grant.final_height,
        root_fingerprint: pin.root_fingerprint,
        evidence,
        created_at: grant.given_at,
    })
}

/// An access request for either side.
pub async fn request(
    app: &App,
    tx: &mut Tx,
    names: &mut Names,
    request: AccessRequest,
) -> Result<AccessRequestView, Error> {
    let (agency_name, agency_type) = names.of(app, tx, &request.agency).await?;
    Ok(AccessRequestView {
        id: request.id,
        agency: request.agency,
        agency_name,
        agency_type,
        patient: request.patient,
        scope: request.scope,
        message: request.message,
        state: request.state,
        grant: request.grant,
        created_at: request.created_at,
    })
}
