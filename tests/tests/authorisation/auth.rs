//! auth: accounts and sessions are one's own; agencies are approved by operators.

use anyhow::{Context as _, Result};
use ed25519_dalek::{Signer as _, SigningKey};
use hbc_client::operations::auth;
use hbc_testkit::authenticator::SoftPasskey;
use hbc_testkit::http::{FORM, form};
use hbc_tests::Person;
use hbc_tests::people::{decision, signature};
use hbc_tests::wallet::Wallet;
use hbc_types::account::{AgencyType, Custody};
use hbc_types::keys::{PublicKey, possession_text};
use hbc_types::secret::{Bytes, SecretText};
use hbc_types::wire::auth::StaffKeyAsked;
use hbc_types::wire::custody::RootWrap;
use hbc_types::wire::devices::{NewDevice, PairingCode};
use hbc_types::wire::oauth::JWT_BEARER;
use hbc_types::wire::preferences::Preferences;
use serde_json::{Value, json};

use crate::case::Case;
use crate::world::{self, World, new_client};
use hbc_tests::apps::new_app;

const FORBIDDEN: [u16; 1] = [403];
/// The second failure within a second is not even looked at.
const WRONG_PASSWORD: [u16; 2] = [401, 429];
const JWT: (&str, &str) = ("client_assertion_type", JWT_BEARER);
/// Where a fresh deployment's pages are.
const ORIGIN: &str = "http://localhost:7100";
const OWN: &str = "it is about the caller, whoever that is";

fn proof(person: &Person) -> Value {
    json!({"password": person.password})
}

fn public(world: &World) -> Vec<Case> {
    let (app, leaver, (rita, code)) = (&world.app, &world.leaver, &world.rita);
    let pia = world.pia.tokens.refresh_token.expose();
    vec![
        Case::new("auth GET /.well-known/jwks.json", &[]),
        Case::new("auth GET /.well-known/oauth-authorization-server", &[]),
        Case::new("auth GET /.well-known/smart-configuration", &[]),
        Case::new("auth POST /v1/patients", &[]).json(&app.new_patient()),
        Case::new("auth POST /v1/agencies", &[]).json(&app.new_agency(AgencyType::Laboratory)),
        Case::new("auth POST /v1/sessions", &[])
            .json(&json!({"username": leaver.username, "password": leaver.password})),
        // Failures slow down whoever is named: they name nobody here.
        Case::new("auth POST /v1/sessions", &[])
            .json(&json!({"username": app.username("nobody"), "password": rita.password}))
            .anybody_gets(&[401]),
        Case::new("auth POST /v1/sessions/refresh", &[])
            .json(&json!({"refresh_token": world.bob.tokens.refresh_token})),
        Case::new("auth POST /v1/sessions/refresh", &[])
            .json(&json!({"refresh_token": world.bob.password}))
            .anybody_gets(&[401]),
        Case::new("auth POST /oauth/token", &[])
            .body(FORM, form(&[("grant_type", "refresh_token"), ("refresh_token", pia)])),
        Case::new("auth POST /oauth/token", &[])
            .body(FORM, form(&[("grant_type", "password"), ("username", &leaver.username)]))
            .anybody_gets(&[400]),
        Case::new("auth POST /oauth/token", &[]).json(&json!({"refresh_token": pia})).anybody_gets(&[400]),
        Case::new("auth POST /oauth/token", &[]).body(
            FORM,
            form(&[("grant_type", "client_credentials"), JWT, ("client_assertion", &world.assertion())]),
        ),
        Case::new("auth POST /oauth/introspect", &[])
            .body(FORM, form(&[("token", "none"), JWT, ("client_assertion", &world.assertion())])),
        Case::new("auth POST /oauth/introspect", &[])
            .body(FORM, form(&[("token", pia)]))
            .anybody_gets(&[401]),
        // A token that is none, and one that ended by itself.
        Case::new("auth POST /oauth/revoke", &[]).body(FORM, form(&[("token", "hbr_")])),
        Case::new("auth POST /oauth/revoke", &[])
            .body(FORM, form(&[("token_type_hint", "x")]))
            .anybody_gets(&[400]),
        Case::new("auth POST /v1/recoveries", &[])
            .json(&json!({"username": app.username("nobody"), "code": code, "new_password": app.password()}))
            .anybody_gets(&[401]),
        Case::new("auth POST /v1/recoveries", &[])
            .json(&json!({"username": rita.username, "code": code, "new_password": app.password()})),
    ]
}

fn decided(world: &World, name: &'static str, agency: &str) -> Case {
    let World { alice, dora, pia, operator, .. } = world;
    Case::new(name, &[agency])
        .json(&decision(operator))
        .stranger_with(alice, &decision(alice), &FORBIDDEN)
        .stranger_with(dora, &decision(dora), &FORBIDDEN)
        .stranger_with(pia, &decision(pia), &FORBIDDEN)
        .rightful(operator)
}

fn agencies(world: &World) -> Result<Vec<Case>> {
    let World { alice, bob, dora, pia, otto, operator, .. } = world;
    let waiting = pia.agency()?.as_str();
    let signed = |name, agency| {
        Case::new(name, &[agency])
            .json(&signature(operator))
            .stranger_with(alice, &signature(alice), &FORBIDDEN)
            .stranger_with(dora, &signature(dora), &FORBIDDEN)
            .stranger_with(pia, &signature(pia), &FORBIDDEN)
            .rightful(operator)
    };
    let decided = |name, agency| decided(world, name, agency);
    let otto = otto.agency()?.as_str();
    Ok(vec![
        Case::new("auth GET /v1/agencies", &[])
            .query(&format!("query={}", pia.username))
            .sees_nothing(bob)
            .sees_nothing(dora)
            .rightful(operator),
        Case::new("auth GET /v1/agencies/{id}", &[waiting])
            .stranger(bob, &[404])
            .stranger(dora, &[404])
            .rightful(operator)
            .rightful(pia),
        decided("auth POST /v1/agencies/{id}/rejections", waiting),
        signed("auth POST /v1/agencies/{id}/approvals", waiting),
        decided("auth POST /v1/agencies/{id}/suspensions", otto),
    ])
}

fn word(person: &Person) -> Value {
    json!({"function": "surgeon", "password": person.password})
}

fn members(world: &World) -> Result<Vec<Case>> {
    let World { alice, dora, operator, hope, mia, max, kim, .. } = world;
    let refused = |case: Case, body: fn(&Person) -> Value| {
        let case = case.stranger_with(alice, &body(alice), &FORBIDDEN);
        case.stranger_with(operator, &body(operator), &FORBIDDEN).stranger_with(dora, &body(dora), &[404])
    };
    let ending = |name, arguments: &[&str], person: &Person| {
        refused(Case::new(name, arguments).json(&proof(person)), proof).rightful(person)
    };
    Ok(vec![
        Case::new("auth GET /v1/me/members", &[])
            .stranger(alice, &FORBIDDEN)
            .stranger(operator, &FORBIDDEN)
            .sees_nothing(dora)
            .rightful(hope),
        refused(Case::new("auth PUT /v1/me/members/{id}", &[mia.agency()?.as_str()]).json(&word(hope)), word)
            .rightful(hope),
        ending("auth DELETE /v1/me/members/{id}", &[max.agency()?.as_str()], hope),
        ending("auth DELETE /v1/me/organisation", &[], kim),
    ])
}

/// After the members': with another key nobody is taken in yet.
async fn staff_keys(world: &World) -> Result<Vec<Case>> {
    let World { app, alice, dora, operator, hope, max, .. } = world;
    let call = app.auth.to(auth::ask_staff_key()).json(&proof(max));
    let asked: StaffKeyAsked = max.signs(call).fetch().await.context("no key was made")?;
    let approval = |person: &Person| json!({"key": asked.key, "password": person.password});
    let own = |name| {
        let case = Case::new(name, &[]).json(&proof(hope)).stranger_with(alice, &proof(alice), &FORBIDDEN);
        case.stranger_with(operator, &proof(operator), &FORBIDDEN)
    };
    Ok(vec![
        own("auth POST /v1/me/staff-keys").rightful(hope),
        own("auth DELETE /v1/me/staff-keys").stranger_with(dora, &proof(dora), &[404]).rightful(hope),
        Case::new("auth POST /v1/agencies/{id}/key-approvals", &[max.agency()?.as_str()])
            .json(&approval(operator))
            .stranger_with(alice, &approval(alice), &FORBIDDEN)
            .stranger_with(dora, &approval(dora), &FORBIDDEN)
            .rightful(operator),
    ])
}

/// Options for alice's next passkey.
async fn creation(world: &World) -> Result<Value> {
    let World { app, alice, .. } = world;
    let call = app.auth.to(auth::prepare_passkey()).json(&proof(alice));
    Ok(serde_json::to_value(alice.signs(call).fetch().await.context("no passkey is prepared")?)?)
}

async fn passkeys(world: &World) -> Result<Vec<Case>> {
    let World { app, alice, bob, carol, dora, hope, nora, .. } = world;
    let made = |options: &Value| {
        let passkey = SoftPasskey::new(options, ORIGIN, &app.random, false);
        let body = json!({"name": "Phone", "credential": passkey.made(options)});
        (passkey, body)
    };
    let (mut passkey, body) = made(&creation(world).await?);
    let call = app.auth.to(auth::register_passkey()).json(&body);
    let known = alice.signs(call).fetch().await.context("the passkey was not registered")?;
    let request = app.auth.to(auth::prepare_passkey_log_in()).fetch().await?;
    let used = passkey.used(&serde_json::to_value(request)?);
    let (_next, next) = made(&creation(world).await?);
    Ok(vec![
        Case::new("auth POST /v1/passkey-challenges", &[]),
        Case::new("auth POST /v1/sessions/passkey", &[]).json(&json!({ "credential": used })),
        // Its challenge was answered.
        Case::new("auth POST /v1/sessions/passkey", &[])
            .json(&json!({ "credential": used }))
            .anybody_gets(&[409]),
        Case::new("auth POST /v1/me/passkey-challenges", &[])
            .json(&proof(alice))
            .stranger(nora, &WRONG_PASSWORD)
            .rightful(alice),
        Case::new("auth POST /v1/me/passkeys", &[]).json(&next).stranger(bob, &[409]).rightful(alice),
        Case::new("auth GET /v1/me/passkeys", &[]).sees_nothing(bob).sees_nothing(dora).rightful(alice),
        Case::new("auth DELETE /v1/me/passkeys/{id}", &[known.id.as_str()])
            .json(&proof(alice))
            .stranger_with(carol, &proof(carol), &[404])
            .stranger_with(hope, &proof(hope), &[404])
            .rightful(alice),
    ])
}

/// vera's root key is opened by two passkeys of three.
async fn custody(world: &World) -> Result<Vec<Case>> {
    let World { app, chain, alice, bob, carol, dora, hope, operator, leaver, .. } = world;
    let wallet = Wallet::new(app, *chain);
    let (vera, _created) = app.sign_up_patient(&wallet.sign_up(app.new_patient())).await?;
    let mut passkeys = Vec::new();
    for _device in 0..3 {
        let call = app.auth.to(auth::prepare_passkey()).json(&proof(&vera));
        let options = serde_json::to_value(vera.signs(call).fetch().await?)?;
        let passkey = SoftPasskey::new(&options, ORIGIN, &app.random, false);
        let body = json!({"name": "Phone", "credential": passkey.made(&options)});
        let known = vera.signs(app.auth.to(auth::register_passkey()).json(&body)).fetch().await?;
        passkeys.push((passkey, known.id));
    }
    let (salt, wrapped) = (Bytes::from([1; 32].as_slice()), Bytes::from([2; 60].as_slice()));
    let wraps = passkeys.iter().take(2).map(|(_, id)| RootWrap {
        passkey: Some(id.clone()),
        salt: salt.clone(),
        wrapped: wrapped.clone(),
    });
    let mut new = wallet.custody(app, &vera, Some(&wallet.root))?;
    (new.custody, new.wraps) = (Custody::Passkey, wraps.collect());
    vera.signs(app.auth.to(auth::set_custody()).json(&new))
        .fetch()
        .await
        .context("no custody by passkeys")?;
    let call = app.auth.to(auth::prepare_passkey_step_up());
    let request = serde_json::to_value(vera.signs(call).fetch().await?)?;
    let third = passkeys.last().context("no passkey")?.1.clone();
    let (passkey, _id) = passkeys.first_mut().context("no passkey")?;
    let shown = json!({"credential": passkey.used(&request)});
    let root = PublicKey::of(&wallet.root).kid();
    let wrap = |person: &Person| {
        json!({"root_fingerprint": root, "root_pop": new.root_pop, "salt": salt, "wrapped": wrapped,
            "password": person.password})
    };
    let another = |person: &Person| json!({"custody": "server", "password": person.password});
    let lost = |person: &Person| Wallet::new(app, *chain).claim(person);
    let claimed = vera.signs(app.auth.to(auth::claim_root()).json(&lost(&vera))).fetch().await?;
    let patients_only = |case: Case| {
        [dora, hope, operator].into_iter().fold(case, |case, other| case.stranger(other, &FORBIDDEN))
    };
    Ok(vec![
        patients_only(Case::new("auth PUT /v1/me/custody", &[]).json(&another(leaver)))
            .stranger(bob, &WRONG_PASSWORD)
            .rightful(leaver),
        patients_only(Case::new("auth GET /v1/me/root-wraps", &[])).sees_nothing(bob).rightful(&vera),
        patients_only(
            Case::new("auth PUT /v1/me/passkeys/{id}/root-wrap", &[third.as_str()]).json(&wrap(&vera)),
        )
        .stranger_with(alice, &wrap(alice), &[401])
        .rightful(&vera),
        patients_only(Case::new("auth PUT /v1/me/root-claim", &[]).json(&lost(carol)))
            .stranger_with(bob, &lost(bob), &[409])
            .rightful(carol),
        patients_only(Case::new("auth GET /v1/me/root-claim", &[])).stranger(bob, &[404]).rightful(&vera),
        Case::new("auth GET /v1/root-claims", &[])
            .stranger(alice, &FORBIDDEN)
            .stranger(dora, &FORBIDDEN)
            .rightful(operator),
        Case::new("auth POST /v1/root-claims/{id}/approvals", &[claimed.patient.as_str()])
            .json(&proof(operator))
            .stranger_with(alice, &proof(alice), &FORBIDDEN)
            .stranger_with(dora, &proof(dora), &FORBIDDEN)
            .rightful(operator),
        patients_only(Case::new("auth DELETE /v1/me/root-claim", &[])).for_everybody(OWN).rightful(&vera),
        Case::new("auth POST /v1/sessions/current/passkey-challenges", &[])
            .stranger(bob, &[409])
            .rightful(&vera),
        Case::new("auth POST /v1/sessions/current/step-up/passkey", &[])
            .json(&shown)
            .stranger(bob, &[409])
            .rightful(&vera),
    ])
}

fn clients(world: &World) -> Vec<Case> {
    let World { alice, dora, operator, hope, client: (client, key), .. } = world;
    let keys = |person: &Person| json!({"jwks": key.jwks(), "password": person.password});
    let refused = |case: Case, body: fn(&Person) -> Value| {
        case.stranger_with(alice, &body(alice), &FORBIDDEN).stranger_with(
            operator,
            &body(operator),
            &FORBIDDEN,
        )
    };
    vec![
        Case::new("auth GET /v1/me/clients", &[])
            .stranger(alice, &FORBIDDEN)
            .stranger(operator, &FORBIDDEN)
            .sees_nothing(dora)
            .rightful(hope),
        refused(Case::new("auth POST /v1/me/clients", &[]).json(&new_client(hope)), new_client)
            .rightful(hope),
        refused(
            Case::new("auth PUT /v1/me/clients/{id}/jwks", &[client.id.as_str()]).json(&keys(hope)),
            new_client,
        )
        .stranger_with(dora, &keys(dora), &[404])
        .rightful(hope),
        Case::new("auth DELETE /v1/me/clients/{id}", &[client.id.as_str()])
            .stranger(alice, &FORBIDDEN)
            .stranger(operator, &FORBIDDEN)
            .stranger(dora, &[404])
            .rightful(hope),
    ]
}

/// Devices prove themselves by their assertions, whoever sends them; what patients do with them is their own.
fn devices(world: &World) -> Vec<Case> {
    let World {
        app,
        alice,
        bob,
        dora,
        operator,
        device: (device, caller),
        claimed: (claimed, said),
        code,
        ..
    } = world;
    let refused = |case: Case| {
        let case = case.stranger(dora, &FORBIDDEN).stranger(operator, &FORBIDDEN);
        case.stranger(caller, &[401])
    };
    let nobody = json!({"assertion": "e30.e30."});
    let wrong = PairingCode { code: Some(SecretText::new("0000-0000".to_owned())), ..code.clone() };
    vec![
        Case::new("auth POST /v1/devices", &[]).json(&world.new_device()),
        Case::new("auth POST /v1/devices", &[])
            .json(&NewDevice { jwks: device.key.jwks(), ..world.new_device() })
            .anybody_gets(&[400]),
        Case::new("auth POST /v1/pairing-claims", &[])
            .json(&app.pairing_claim(device, &wrong))
            .anybody_gets(&[404]),
        Case::new("auth POST /v1/pairing-claims", &[]).json(&app.pairing_claim(device, code)),
        Case::new("auth POST /v1/device-pairings", &[]).json(&app.device_proof(device)),
        Case::new("auth POST /v1/device-pairings", &[]).json(&nobody).anybody_gets(&[400]),
        refused(Case::new("auth GET /v1/me/pairing-codes/{id}", &[claimed.as_str()]))
            .stranger(bob, &[404])
            .rightful(alice),
        refused(
            Case::new("auth POST /v1/me/pairing-codes/{id}/confirmation", &[claimed.as_str()]).json(said),
        )
        .stranger(bob, &[404])
        .rightful(alice),
        refused(Case::new("auth DELETE /v1/me/pairing-codes/{id}", &[code.id.as_str()]))
            .stranger(alice, &[404])
            .rightful(bob),
        refused(Case::new("auth POST /v1/me/pairing-codes", &[])).rightful(alice),
        refused(Case::new("auth GET /v1/me/devices", &[])).sees_nothing(bob).rightful(alice),
        refused(Case::new("auth DELETE /v1/me/devices/{id}", &[device.id().as_str()]))
            .stranger(bob, &[404])
            .rightful(alice),
    ]
}

fn signatures(world: &World) -> Vec<Case> {
    let World { app, alice, bob, carol, dora, nora, operator, chain, .. } = world;
    let key = SigningKey::from_bytes(&app.random.bytes());
    let public = PublicKey::of(&key);
    let pop = key.sign(&possession_text(chain, &public.kid())).to_bytes();
    let registration =
        json!({"key": Bytes::from(public.as_bytes().as_slice()), "pop": Bytes::from(pop.as_slice())});
    let revoked = |password| json!({"password": password, "key": world.grant.key, "grant": world.grant.id});
    let refused = |case: Case| case.stranger(dora, &FORBIDDEN).stranger(operator, &FORBIDDEN);
    vec![
        refused(Case::new("auth POST /v1/me/consent-keys", &[]).json(&registration))
            .stranger(alice, &[409])
            .rightful(carol),
        // The draft is not the other patient's.
        refused(Case::new("auth POST /v1/me/consent-signatures", &[]).json(&world.draft(&alice.password)))
            .stranger_with(bob, &world.draft(&bob.password), &[403, 404, 422])
            .rightful(alice),
        refused(Case::new("auth POST /v1/me/revocation-signatures", &[]).json(&revoked(&alice.password)))
            .stranger_with(bob, &revoked(&bob.password), &[404])
            .rightful(alice),
        refused(Case::new("auth POST /v1/me/unfreeze-signatures", &[]).json(&proof(alice)))
            .stranger_with(carol, &proof(carol), &[409])
            .rightful(alice),
        Case::new("auth POST /v1/me/recovery-codes", &[])
            .json(&proof(alice))
            .stranger(nora, &WRONG_PASSWORD)
            .stranger_with(operator, &proof(operator), &[409])
            .rightful(alice),
    ]
}

fn own(world: &World) -> Vec<Case> {
    let World { app, bob, nora, operator, leaver, cleo, .. } = world;
    let wish = |person: &Person| json!({"confirm": person.username, "password": person.password});
    let (tess, _) = &world.tess;
    let with_code = |later_seconds| json!({"password": tess.password, "totp": world.code(later_seconds)});
    vec![
        Case::new("auth GET /v1/me", &[]).for_everybody(OWN).rightful(leaver),
        Case::new("auth PUT /v1/me/contact", &[])
            .json(&json!({"name": "Lee Aver"}))
            .for_everybody(OWN)
            .rightful(leaver),
        Case::new("auth GET /v1/me/preferences", &[]).for_everybody(OWN).rightful(leaver),
        Case::new("auth PUT /v1/me/preferences", &[])
            .json(&Preferences { time_zone: Some("Asia/Colombo".to_owned()), ..Preferences::default() })
            .for_everybody(OWN)
            .rightful(leaver),
        Case::new("auth PUT /v1/me/password", &[])
            .json(&json!({"password": leaver.password, "new_password": app.password()}))
            .stranger(bob, &WRONG_PASSWORD)
            .rightful(leaver),
        // Only whoever holds the prepared secret knows the code, and each is good once.
        Case::new("auth PUT /v1/me/totp", &[])
            .json(&json!({"code": world.code(0)}))
            .stranger(bob, &[409])
            .rightful(tess),
        Case::new("auth DELETE /v1/me/totp", &[])
            .json(&with_code(30))
            .stranger(bob, &WRONG_PASSWORD)
            .rightful(tess),
        Case::new("auth POST /v1/me/totp", &[])
            .json(&proof(tess))
            .stranger(bob, &WRONG_PASSWORD)
            .rightful(tess),
        Case::new("auth DELETE /v1/sessions/current", &[]).for_everybody(OWN).rightful(leaver),
        // The session is over.
        Case::new("auth GET /v1/me", &[]).stranger(leaver, &[401, 403]).rightful(bob),
        // Another's name is not one's own.
        Case::new("auth POST /v1/me/closure", &[])
            .json(&wish(cleo))
            .stranger(nora, &[422])
            .stranger_with(operator, &wish(operator), &FORBIDDEN)
            .rightful(cleo),
        Case::new("auth GET /v1/me", &[]).stranger(cleo, &[401]).rightful(bob),
    ]
}

fn apps(world: &World) -> Result<Vec<Case>> {
    let World { alice, bob, dora, operator, .. } = world;
    let world::Apps { app, waiting, questions } = &world.apps;
    let app = app.id.as_str();
    let register = |person: &Person| new_app(&person.password);
    let ends = |person: &Person| json!({"password": person.password, "reason": "it is over"});
    let by_operator = |case: Case, body: &dyn Fn(&Person) -> Value| {
        case.json(&body(operator))
            .stranger_with(alice, &body(alice), &FORBIDDEN)
            .stranger_with(dora, &body(dora), &FORBIDDEN)
            .rightful(operator)
    };
    let [one, two] = questions;
    let for_patients = |case: Case| case.stranger(dora, &FORBIDDEN).stranger(operator, &FORBIDDEN);
    Ok(vec![
        Case::new("auth GET /v1/apps", &[]).for_everybody("apps are for everybody to see").rightful(alice),
        Case::new("auth GET /v1/apps/{id}", &[app])
            .for_everybody("apps are for everybody to see")
            .rightful(alice),
        by_operator(Case::new("auth POST /v1/apps", &[]), &register),
        by_operator(Case::new("auth POST /v1/apps/{id}/approvals", &[waiting.as_str()]), &proof),
        for_patients(Case::new("auth POST /v1/authorizations", &[]))
            .json(&json!({"query": world.question(app)}))
            .rightful(alice),
        for_patients(Case::new("auth GET /v1/authorizations/{id}", &[one.as_str()]))
            .stranger(bob, &[404])
            .rightful(alice),
        for_patients(Case::new("auth POST /v1/authorizations/{id}/decision", &[two.as_str()]))
            .json(&json!({"allow": true}))
            .stranger(bob, &[404])
            .rightful(alice),
        for_patients(Case::new("auth GET /v1/me/apps", &[])).sees_nothing(bob).rightful(alice),
        for_patients(Case::new("auth DELETE /v1/me/apps/{id}", &[app])).rightful(alice),
        by_operator(Case::new("auth POST /v1/apps/{id}/endings", &[waiting.as_str()]), &ends),
    ])
}

/// Last: what was suspended comes back, and sessions end.
fn sessions(world: &World) -> Result<Vec<Case>> {
    let World { alice, bob, dora, otto, kim, .. } = world;
    Ok(vec![
        decided(world, "auth POST /v1/agencies/{id}/revocations", kim.agency()?.as_str()),
        decided(world, "auth POST /v1/agencies/{id}/reinstatements", otto.agency()?.as_str()),
        Case::new("auth POST /v1/sessions/current/step-up", &[])
            .json(&proof(alice))
            .stranger(dora, &WRONG_PASSWORD)
            .rightful(alice),
        Case::new("auth GET /v1/me/sessions", &[]).for_everybody(OWN).rightful(alice),
        Case::new("auth DELETE /v1/me/sessions/{id}", &[bob.tokens.session.as_str()])
            .stranger(alice, &[404])
            .stranger(dora, &[404])
            .rightful(bob),
        Case::new("auth DELETE /v1/me/sessions", &[]).for_everybody(OWN).rightful(alice),
    ])
}

pub async fn cases(world: &World) -> Result<Vec<Case>> {
    let mut all = public(world);
    all.extend(signatures(world));
    all.extend(custody(world).await?);
    all.extend(own(world));
    all.extend(passkeys(world).await?);
    all.extend(agencies(world)?);
    all.extend(members(world)?);
    all.extend(staff_keys(world).await?);
    all.extend(clients(world));
    all.extend(apps(world)?);
    all.extend(devices(world));
    all.extend(sessions(world)?);
    Ok(all)
}
