//! An operator approves a doctor; a patient signs up.

use hbc_client::operations::auth;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use hbc_types::account::{AgencyType, Custody, Standing};
use hbc_types::wire::auth::{
    AgencyCreated, AgencyView, Contact, NewAgency, NewPatient, PatientCreated, SigningPassword,
};
use serde::Deserialize;

use super::world::{Person, World};

#[derive(Deserialize)]
struct DemoLogins {
    operators: Vec<OperatorLogin>,
}

#[derive(Deserialize)]
struct OperatorLogin {
    username: String,
    password: hbc_types::secret::SecretText,
}

/// The operator of the development deployment.
pub async fn operator(world: &World) -> Result<Person> {
    let text = std::fs::read(world.stack.deployment.secret("logins.json")).context("no logins are kept")?;
    let logins: DemoLogins = serde_json::from_slice(&text).context("the logins are not readable")?;
    let first = logins.operators.into_iter().next().context("there is no operator")?;
    world.login(&first.username, &first.password).await
}

/// A doctor signs up, can do nothing, and is approved.
pub async fn doctor(world: &mut World, operator: &Person) -> Result<Person> {
    world.console.step("A doctor signs up, and an operator approves");
    let password = world.password();
    let asked = NewAgency {
        name: "Demonstration Practice".to_owned(),
        username: "demo.practice".to_owned(),
        password: password.clone(),
        contact_number: "+1 617 555 0142".to_owned(),
        email: "desk@practice.example".to_owned(),
        address: "12 Harbour Street, Boston".to_owned(),
        agency_type: AgencyType::Doctor,
        licence_number: "MA-204417".to_owned(),
        organisation: None,
    };
    let created: AgencyCreated =
        world.auth.to(auth::sign_up_agency()).idempotency_key(&world.key()).json(&asked).fetch().await?;
    if created.standing != Standing::Pending {
        bail!("an agency begins {:?}", created.standing);
    }
    world.console.fact("agency", &created.id);
    let approval = SigningPassword { password: operator.password.clone(), totp: None };
    let call = world.auth.to(auth::approve_agency(&created.id)).idempotency_key(&world.key()).json(&approval);
    operator.signs(call).done().await.context("the approval failed")?;
    let view = active_agency(world, operator, created.id.as_str()).await?;
    world
        .console
        .fact("approved by", format!("{} of {} operators needed", view.approvals, view.approvals_needed));
    if let Some(key) = view.staff_key {
        world.console.fact("staff key on the ledger", key);
    }
    world
        .console
        .proves("agencies do nothing before operators signed for them, on the ledger, without a name on it");
    world.login("demo.practice", &password).await
}

/// Waits until the agency's staff profile is final and its standing active.
async fn active_agency(world: &World, operator: &Person, id: &str) -> Result<AgencyView> {
    let wait = async {
        loop {
            let call = world.auth.to(auth::show_agency(id));
            let view: AgencyView = operator.signs(call).fetch().await?;
            if view.standing == Standing::Active {
                return Ok::<_, anyhow::Error>(view);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let limit =
        tokio::time::timeout(Duration::from_secs(60), world.console.wait("waiting for the block", wait));
    limit.await.context("the approval does not become final")?
}

/// A patient signs up with a username and a password.
pub async fn patient(world: &mut World) -> Result<Person> {
    world.console.step("A patient signs up");
    let password = world.password();
    let asked = NewPatient {
        username: "ms.stiedemann".to_owned(),
        password: password.clone(),
        contact: Contact {
            name: Some("Marisol Stiedemann".to_owned()),
            email: Some("marisol@mail.example".to_owned()),
            phone: Some("+1 617 555 0117".to_owned()),
            address: None,
        },
        custody: Custody::Server,
        root_public_key: None,
        root_pop: None,
        recovery_public_key: None,
        recovery_pop: None,
    };
    let created: PatientCreated =
        world.auth.to(auth::sign_up_patient()).idempotency_key(&world.key()).json(&asked).fetch().await?;
    world.console.fact("known elsewhere only as", &created.id);
    world.console.fact("root key's fingerprint", created.root_fingerprint);
    world.console.fact("recovery codes", created.recovery_codes.len());
    world
        .console
        .proves("name and contact stay in auth; the signing key opens only with the password or a code");
    world.login("ms.stiedemann", &password).await
}
