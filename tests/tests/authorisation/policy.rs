//! access-policy: what patients and agencies call.

use anyhow::{Context as _, Result};
use hbc_client::operations::access_policy;
use hbc_tests::consents::new_grant;
use hbc_types::labels::Category;
use hbc_types::wire::access::{GrantRevocation, NewAccessRequest, Unfreeze};
use serde_json::json;

use crate::case::Case;
use crate::world::World;

/// Nothing of another's is known to be there.
const UNKNOWN: [u16; 1] = [404];
const FORBIDDEN: [u16; 1] = [403];

fn requests(world: &World) -> Result<Vec<Case>> {
    let World { alice, bob, dora, otto, pia, operator, .. } = world;
    let [denied, withdrawn] = [world.requests[0].id.as_str(), world.requests[1].id.as_str()];
    let asked = NewAccessRequest {
        patient: alice.patient()?.clone(),
        scope: world.app.scope(&[Category::Immunization]),
        message: String::new(),
    };
    Ok(vec![
        Case::new("access-policy POST /v1/access-requests", &[])
            .json(&asked)
            .stranger(bob, &FORBIDDEN)
            .stranger(operator, &FORBIDDEN)
            .stranger(pia, &FORBIDDEN)
            .rightful(dora),
        Case::new("access-policy GET /v1/access-requests", &[])
            .sees_nothing(bob)
            .sees_nothing(otto)
            .stranger(operator, &[403, 404])
            .rightful(alice)
            .rightful(dora),
        Case::new("access-policy GET /v1/access-requests/{id}", &[denied])
            .stranger(bob, &UNKNOWN)
            .stranger(otto, &UNKNOWN)
            .stranger(operator, &[403, 404])
            .rightful(alice)
            .rightful(dora),
        Case::new("access-policy POST /v1/access-requests/{id}/denial", &[denied])
            .stranger(bob, &UNKNOWN)
            .stranger(dora, &FORBIDDEN)
            .stranger(otto, &FORBIDDEN)
            .stranger(operator, &FORBIDDEN)
            .rightful(alice),
        Case::new("access-policy POST /v1/access-requests/{id}/withdrawal", &[withdrawn])
            .stranger(alice, &FORBIDDEN)
            .stranger(bob, &FORBIDDEN)
            .stranger(otto, &UNKNOWN)
            .stranger(operator, &FORBIDDEN)
            .rightful(dora),
    ])
}

pub async fn grants(world: &World) -> Result<Vec<Case>> {
    let World { app, alice, bob, dora, nora, otto, operator, .. } = world;
    let grant = world.grant.id.as_str();
    let new = new_grant(nora, app.scope(&[Category::Allergy]))?;
    let draft = app.draft(alice, &new).await?;
    let signature = app.sign_draft(alice, &draft).await?;
    let revocation = GrantRevocation { jws: app.sign_revocation(alice, &world.grant).await? };
    Ok(vec![
        Case::new("access-policy POST /v1/grants", &[])
            .json(&new)
            .stranger(dora, &FORBIDDEN)
            .stranger(operator, &FORBIDDEN)
            .rightful(alice),
        Case::new("access-policy GET /v1/grants", &[])
            .sees_nothing(bob)
            .sees_nothing(otto)
            .stranger(operator, &[403, 404])
            .rightful(alice)
            .rightful(dora),
        Case::new("access-policy GET /v1/grants/{id}", &[grant])
            .stranger(bob, &UNKNOWN)
            .stranger(otto, &UNKNOWN)
            .stranger(operator, &[403, 404])
            .rightful(alice)
            .rightful(dora),
        Case::new("access-policy GET /v1/grants/{id}/proof", &[grant])
            .stranger(bob, &UNKNOWN)
            .stranger(otto, &UNKNOWN)
            .stranger(operator, &[403, 404])
            .rightful(alice)
            .rightful(dora),
        Case::new("access-policy PUT /v1/grants/{id}/signature", &[draft.id.as_str()])
            .json(&signature)
            .stranger(bob, &UNKNOWN)
            .stranger(nora, &FORBIDDEN)
            .stranger(operator, &FORBIDDEN)
            .rightful(alice),
        Case::new("access-policy GET /v1/patients/{id}/root", &[alice.account.as_str()])
            .stranger(bob, &UNKNOWN)
            .stranger(otto, &UNKNOWN)
            .stranger(operator, &[403, 404])
            .rightful(alice)
            .rightful(dora),
        Case::new("access-policy POST /v1/grants/{id}/revocation", &[grant])
            .json(&revocation)
            .stranger(bob, &UNKNOWN)
            .stranger(dora, &FORBIDDEN)
            .stranger(operator, &FORBIDDEN)
            .rightful(alice),
    ])
}

/// The ledger knows of none: that is told to the patient alone.
fn alteration(world: &World) -> Case {
    let World { alice, bob, dora, operator, .. } = world;
    let opening = json!({"jws": "", "body": "{}", "salt": ""});
    Case::new("access-policy PUT /v1/grants/{id}/alteration", &[world.grant.id.as_str()])
        .json(&opening)
        .stranger(dora, &FORBIDDEN)
        .stranger(operator, &FORBIDDEN)
        .stranger(bob, &UNKNOWN)
        .rightful_gets(alice, &[409])
}

pub async fn freezes(world: &World) -> Result<Vec<Case>> {
    let World { app, alice, bob, dora, operator, .. } = world;
    let grant = world.grant.id.as_str();
    // An order that was signed before a freeze does not end it.
    for (patient, route) in [
        (alice, access_policy::freeze_grant(grant)),
        (alice, access_policy::freeze_all()),
        (bob, access_policy::freeze_all()),
    ] {
        patient.signs(app.access.to(route)).done().await.context("not frozen")?;
    }
    let one = Unfreeze { jws: app.sign_unfreeze(alice, Some(&world.grant.id)).await? };
    let all = Unfreeze { jws: app.sign_unfreeze(alice, None).await? };
    let refused = |case: Case| case.stranger(dora, &FORBIDDEN).stranger(operator, &FORBIDDEN);
    Ok(vec![
        alteration(world),
        refused(Case::new("access-policy PUT /v1/grants/{id}/freeze", &[grant]))
            .stranger(bob, &UNKNOWN)
            .rightful(alice),
        refused(Case::new("access-policy DELETE /v1/grants/{id}/freeze", &[grant]).json(&one))
            .stranger(bob, &UNKNOWN)
            .rightful(alice),
        refused(Case::new("access-policy PUT /v1/me/freeze", &[])).rightful(alice),
        refused(Case::new("access-policy GET /v1/me/freeze", &[])).rightful(alice),
        // Another's word ends no freeze.
        refused(Case::new("access-policy DELETE /v1/me/freeze", &[]).json(&all))
            .stranger(bob, &[401, 403, 404, 422])
            .rightful(alice),
    ])
}

pub async fn cases(world: &World) -> Result<Vec<Case>> {
    let World { app, alice, bob, dora, otto, pia, operator, .. } = world;
    let receipts = app.accesses(alice).await?;
    let receipt = receipts.iter().find(|access| access.height.is_some()).context("nothing is anchored")?;
    let question =
        json!({"patient": alice.account, "action": "read", "category": "vital-signs", "purpose": "TREAT"});
    let mut all = requests(world)?;
    all.extend([
        Case::new("access-policy GET /v1/me/accesses", &[])
            .query("limit=2")
            .stranger(dora, &FORBIDDEN)
            .stranger(operator, &FORBIDDEN)
            .rightful(alice),
        Case::new("access-policy GET /v1/me/accesses/{receipt}/proof", &[receipt.receipt.id.as_str()])
            .stranger(bob, &UNKNOWN)
            .stranger(dora, &FORBIDDEN)
            .stranger(operator, &FORBIDDEN)
            .rightful(alice),
        Case::new("access-policy POST /v1/explain", &[])
            .json(&question)
            .stranger(bob, &[403, 404])
            .stranger(otto, &[403, 404])
            .stranger(pia, &[403, 404])
            .stranger(operator, &[403, 404])
            .rightful(alice)
            .rightful(dora),
    ]);
    Ok(all)
}
