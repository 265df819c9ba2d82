//! Asking for access, granting, revoking, and the patient's access log.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use hbc_client::ClientError;
use hbc_client::operations::{access_policy, auth};
use hbc_types::ids::{GrantId, GranteeId};
use hbc_types::labels::{Category, Sensitivity};
use hbc_types::purpose::{Action, Purpose};
use hbc_types::wire::access::{
    AccessRequestView, AccessView, GrantDraft, GrantRevocation, GrantSignature, GrantState, GrantView,
    NewAccessRequest, NewGrant, Scope,
};
use hbc_types::wire::auth::{
    ConsentSignature, ConsentSignatureRequest, RevocationSignature, RevocationSignatureRequest,
    UnfreezeSignature, UnfreezeSignatureRequest,
};

use crate::wait::until;
use crate::{Person, TestApp};

impl TestApp {
    /// Reading `categories` of the normal sensitivity for treatment, for 30 days, future records included.
    #[must_use]
    pub fn scope(&self, categories: &[Category]) -> Scope {
        let now = self.clock.now();
        Scope {
            actions: vec![Action::Read],
            categories: categories.to_vec(),
            sensitivities: vec![Sensitivity::Normal],
            purposes: vec![Purpose::Treatment],
            from: now,
            until: now.plus(Duration::from_secs(30 * 86_400)),
            future_records: true,
        }
    }

    /// The agency asks the patient.
    pub async fn ask(&self, agency: &Person, patient: &Person, scope: Scope) -> Result<AccessRequestView> {
        let message = "For the visit next week.".to_owned();
        let asked = NewAccessRequest { patient: patient.patient()?.clone(), scope, message };
        let call = self.access.to(access_policy::ask_for_access()).idempotency_key(&self.key()).json(&asked);
        agency.signs(call).fetch().await.context("the request failed")
    }

    /// The patient answers a request with a grant of exactly what was asked; waits until it takes effect.
    pub async fn approve_request(&self, patient: &Person, asked: &AccessRequestView) -> Result<GrantView> {
        let new = NewGrant {
            request: Some(asked.id.clone()),
            ..NewGrant::to(GranteeId::Agency(asked.agency.clone()), asked.scope.clone())
        };
        let pending = self.sign_grant(patient, &new).await?;
        self.until_grant(patient, &pending.id, GrantState::Active).await
    }

    /// The patient grants unasked; waits until it takes effect.
    pub async fn grant(&self, patient: &Person, agency: &Person, scope: Scope) -> Result<GrantView> {
        let new = new_grant(agency, scope)?;
        let pending = self.sign_grant(patient, &new).await?;
        self.until_grant(patient, &pending.id, GrantState::Active).await
    }

    /// Draft, auth's signature after the password, and its acceptance: the grant is pending then.
    pub async fn sign_grant(&self, patient: &Person, new: &NewGrant) -> Result<GrantView> {
        let draft = self.draft(patient, new).await?;
        let signature = self.sign_draft(patient, &draft).await?;
        let call = self.access.to(access_policy::sign_grant(&draft.id)).json(&signature);
        patient.signs(call).fetch().await.context("the signed consent was refused")
    }

    /// A draft of a grant.
    pub async fn draft(&self, patient: &Person, new: &NewGrant) -> Result<GrantDraft> {
        let call = self.access.to(access_policy::draft_grant()).idempotency_key(&self.key()).json(new);
        patient.signs(call).fetch().await.context("no draft")
    }

    /// auth signs a draft (server custody).
    pub async fn sign_draft(&self, patient: &Person, draft: &GrantDraft) -> Result<GrantSignature> {
        let asked = ConsentSignatureRequest {
            password: patient.password.clone(),
            totp: None,
            payload: draft.payload.clone(),
            body: draft.body.clone(),
            salt: draft.salt.clone(),
        };
        let call = self.auth.to(auth::sign_consent()).json(&asked);
        let signed: ConsentSignature = patient.signs(call).fetch().await.context("auth did not sign")?;
        Ok(GrantSignature {
            jws: signed.jws,
            certificate: signed.certificate,
            registration: signed.registration,
        })
    }

    /// A grant as this person sees it.
    pub async fn grant_view(&self, person: &Person, grant: &GrantId) -> Result<GrantView, ClientError> {
        person.signs(self.access.to(access_policy::get_grant(grant))).fetch().await
    }

    /// Waits until a grant stands like this.
    pub async fn until_grant(&self, who: &Person, grant: &GrantId, wanted: GrantState) -> Result<GrantView> {
        until(format!("{grant} is {wanted}"), || async {
            let view = self.grant_view(who, grant).await?;
            if view.state == GrantState::Refused && wanted != GrantState::Refused {
                bail!("the ledger refused {grant}");
            }
            Ok((view.state == wanted).then_some(view))
        })
        .await
    }

    /// auth signs a revocation with the patient's key (server custody).
    pub async fn sign_revocation(&self, patient: &Person, grant: &GrantView) -> Result<String> {
        let asked = RevocationSignatureRequest {
            password: patient.password.clone(),
            totp: None,
            key: grant.key.context("the grant has no key")?,
            grant: grant.id.clone(),
        };
        let call = self.auth.to(auth::sign_revocation()).json(&asked);
        let signed: RevocationSignature = patient.signs(call).fetch().await.context("auth did not sign")?;
        Ok(signed.jws)
    }

    /// The patient revokes. It takes effect when this returns; on the ledger it is final later.
    pub async fn revoke(&self, patient: &Person, grant: &GrantView) -> Result<GrantView> {
        let jws = self.sign_revocation(patient, grant).await?;
        let call = self.access.to(access_policy::revoke_grant(&grant.id));
        patient.signs(call.json(&GrantRevocation { jws })).fetch().await.context("not revoked")
    }

    /// auth signs that a freeze is over (server custody).
    pub async fn sign_unfreeze(&self, patient: &Person, grant: Option<&GrantId>) -> Result<String> {
        let asked = UnfreezeSignatureRequest {
            password: patient.password.clone(),
            totp: None,
            grant: grant.cloned(),
        };
        let call = self.auth.to(auth::sign_unfreeze()).json(&asked);
        let signed: UnfreezeSignature = patient.signs(call).fetch().await.context("auth did not sign")?;
        Ok(signed.jws)
    }

    /// The patient's whole access log, newest first.
    pub async fn accesses(&self, patient: &Person) -> Result<Vec<AccessView>> {
        let mut all = Vec::new();
        let mut query = "limit=100".to_owned();
        loop {
            let call = self.access.to(access_policy::list_accesses().with(&query));
            let page = patient.signs(call).fetch().await?;
            all.extend(page.items);
            match page.next {
                Some(cursor) => query = format!("limit=100&cursor={cursor}"),
                None => return Ok(all),
            }
        }
    }

    /// Waits until every receipt of the patient so far is in a final block; answers them.
    pub async fn until_receipts_anchored(&self, patient: &Person) -> Result<Vec<AccessView>> {
        until("every receipt is anchored", || async {
            let all = self.accesses(patient).await?;
            Ok(all.iter().all(|access| access.height.is_some()).then_some(all))
        })
        .await
    }
}

/// What a patient sends to grant unasked.
pub fn new_grant(agency: &Person, scope: Scope) -> Result<NewGrant> {
    Ok(NewGrant::to(GranteeId::Agency(agency.agency()?.clone()), scope))
}
