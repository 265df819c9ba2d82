//! Forged, stale, foreign and ended credentials open nothing, at any service.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "test code")]

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer as _, SigningKey};
use hbc_client::operations::{access_policy, auth, ledger};
use hbc_tests::ask::{Ask, Credentials};
use hbc_tests::records::refusal;
use hbc_tests::{Person, TestApp, wait};
use hbc_types::account::ServiceRole;
use hbc_types::keys::PublicKey;
use hbc_types::labels::Category;
use hbc_types::wire::access::GrantState;
use hbc_types::wire::ledger::KeyView;
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::Sha256;

/// An operation of each service that any patient may call.
const DOORS: [(&str, &str); 3] =
    [("auth", "/v1/me"), ("access-policy", "/v1/grants"), ("storage", "/v1/records")];

fn encode(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// A token with any header and any claims, signed with any key.
fn token(header: &Value, claims: &Value, key: &SigningKey) -> String {
    let signed = format!("{}.{}", encode(header), encode(claims));
    let signature = URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes()).to_bytes());
    format!("{signed}.{signature}")
}

fn part(token: &str, index: usize) -> Value {
    let part = token.split('.').nth(index).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

fn with(value: &Value, name: &str, member: Value) -> Value {
    let mut changed = value.clone();
    changed[name] = member;
    changed
}

fn without(value: &Value, name: &str) -> Value {
    let mut changed = value.clone();
    changed.as_object_mut().unwrap().remove(name);
    changed
}

/// What a forger who even has the signing key may try: claims and headers that are not exactly right.
fn badly_made(header: &Value, claims: &Value, real: &SigningKey, now: i64) -> Vec<(&'static str, String)> {
    let own = |header: &Value, claims: &Value| token(header, claims, real);
    let mut all = vec![
        ("expired", own(header, &with(claims, "exp", json!(now - 10)))),
        ("not valid yet", own(header, &with(claims, "nbf", json!(now + 60)))),
        ("for another deployment", own(header, &with(claims, "aud", json!("https://other.example")))),
        ("by another issuer", own(header, &with(claims, "iss", json!("https://other.example")))),
        ("an id token", own(&with(header, "typ", json!("JWT")), claims)),
        ("a service's typ", own(&with(header, "typ", json!("hbc-service+jwt")), claims)),
        ("with an extension", own(&with(&with(header, "crit", json!(["b64"])), "b64", json!(false)), claims)),
        ("with a key inside", own(&with(header, "jwk", json!({"kty": "OKP"})), claims)),
        ("with another algorithm's name", own(&with(header, "alg", json!("HS256")), claims)),
        ("of another account's kind", own(header, &with(claims, "role", json!("operator")))),
    ];
    for claim in ["iss", "aud", "sub", "exp", "nbf", "sid"] {
        all.push(("with a claim left out", own(header, &without(claims, claim))));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_exactly_what_auth_issued_or_nothing() -> Result<()> {
    let Some(app) = TestApp::shared().await? else { return Ok(()) };
    let patient = app.patient().await?;
    let genuine = patient.token();
    let (header, claims) = (part(genuine, 0), part(genuine, 1));
    let seed: [u8; 32] = hex::decode(app.secret("token.key")?)?.as_slice().try_into()?;
    let real = SigningKey::from_bytes(&seed);
    let forger = SigningKey::from_bytes(&app.random.bytes());
    let forged_kid = PublicKey::of(&forger).kid().to_string();
    let now = app.clock.now().seconds();

    let (body, signature) = genuine.rsplit_once('.').context("no JWT")?;
    let mut bits = URL_SAFE_NO_PAD.decode(signature)?;
    bits[10] ^= 1;
    let mut wrong = badly_made(&header, &claims, &real, now);
    wrong.extend([
        ("signed by a stranger", token(&header, &claims, &forger)),
        (
            "signed by a stranger who says so",
            token(&with(&header, "kid", json!(forged_kid)), &claims, &forger),
        ),
        ("unsigned", format!("{}.{}.", encode(&json!({"alg": "none", "typ": "at+jwt"})), encode(&claims))),
        ("with a flipped bit", format!("{body}.{}", URL_SAFE_NO_PAD.encode(bits))),
        ("with padding", format!("{genuine}==")),
        ("a refresh token", patient.tokens.refresh_token.expose().to_owned()),
    ]);
    let bait = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = json!(format!("http://{}/keys", bait.local_addr()?));
    let said = |name: &str, value: Value| token(&with(&header, name, value), &claims, &real);
    let symmetric = format!("{}.{}", encode(&with(&header, "alg", json!("HS256"))), encode(&claims));
    let mut mac = Hmac::<Sha256>::new_from_slice(PublicKey::of(&real).as_bytes())?;
    mac.update(symmetric.as_bytes());
    let symmetric_mac = URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
    let service = app.service(ServiceRole::Storage)?;
    wrong.extend([
        ("keyed with the public key", format!("{symmetric}.{symmetric_mac}")),
        ("unsigned, spelled otherwise", format!("{}.{}.", encode(&json!({"alg": "None"})), encode(&claims))),
        ("with the address of a key set", said("jku", address.clone())),
        ("with the address of a certificate", said("x5u", address)),
        ("with a path for a key", said("kid", json!("../../../secrets/token.key"))),
        ("with SQL for a key", said("kid", json!("' OR '1'='1"))),
        ("with a number for a key", said("kid", json!(1))),
        ("cut short", genuine.split_at(genuine.len() - 4).0.to_owned()),
        ("with something behind it", format!("{genuine}AAAA")),
        ("with a part more", format!("{genuine}.{signature}")),
        ("with a part less", body.to_owned()),
        ("a service's assertion", service.assertion(ServiceRole::Storage, "GET", "/v1/records", b"")?),
        ("that lives for a day", token(&header, &with(&claims, "exp", json!(now + 86_400)), &real)),
        ("of nobody", token(&header, &with(&claims, "sub", json!("")), &real)),
    ]);
    // The same hand makes one that is right: so the others fail for what is wrong with them.
    let right = token(&header, &claims, &real);
    for (process, path) in DOORS {
        let ask = Ask::new(process, Method::GET, path);
        let open = app.send(&ask, Credentials { token: Some(&right), service: None }).await?;
        assert_eq!(open.status, 200, "{process}: {:?}", open.json());
        for (how, token) in &wrong {
            let reply = app.send(&ask, Credentials { token: Some(token), service: None }).await?;
            assert_eq!(reply.status, 401, "{process} took a token {how}: {:?}", reply.json());
            assert_eq!(reply.json()["type"], "urn:hbc:problem:unauthenticated");
        }
    }
    assert!(wrong.len() >= 36, "{}", wrong.len());
    bait.set_nonblocking(true)?;
    assert!(bait.accept().is_err(), "somebody went to the address that a token named");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_services_word_is_good_for_one_request_and_once() -> Result<()> {
    let Some(app) = TestApp::shared().await? else { return Ok(()) };
    let (patient, storage) = (app.patient().await?, app.service(ServiceRole::Storage)?);
    let path = access_policy::get_consent_version(&patient.account).path;
    let (policy, method) = (ServiceRole::AccessPolicy, "GET");
    let ask = Ask::new("access-policy", Method::GET, path.as_str());
    let send = async |assertion: &str| -> Result<u16> {
        Ok(app.send(&ask.clone().header("HBC-Service", assertion), Credentials::default()).await?.status)
    };
    let assertion = storage.assertion(policy, method, &path, b"")?;
    assert_eq!(send(&assertion).await?, 200);
    assert_eq!(send(&assertion).await?, 401, "it was used before");
    for (what, other) in [
        ("for another service", storage.assertion(ServiceRole::Auth, method, &path, b"")?),
        ("for another method", storage.assertion(policy, "PUT", &path, b"")?),
        ("for another path", storage.assertion(policy, method, &format!("{path}?x=1"), b"")?),
        ("for another body", storage.assertion(policy, method, &path, b"{}")?),
    ] {
        assert_eq!(send(&other).await?, 401, "{what}");
    }
    let claims = part(&assertion, 1);
    let forger = SigningKey::from_bytes(&app.random.bytes());
    let header = with(&part(&assertion, 0), "kid", json!(PublicKey::of(&forger).kid().to_string()));
    let fresh = with(&claims, "jti", json!(app.key()));
    assert_eq!(send(&token(&header, &fresh, &forger)).await?, 401, "an unknown key");
    let seed: [u8; 32] = hex::decode(app.secret("storage.key")?)?.as_slice().try_into()?;
    let (real, header) = (SigningKey::from_bytes(&seed), part(&assertion, 0));
    assert_eq!(send(&token(&header, &fresh, &real)).await?, 200, "the forger's tools work");
    let fresh = |name: &str, value: Value| with(&with(&claims, "jti", json!(app.key())), name, value);
    let iat = claims["iat"].as_i64().context("no iat")?;
    for (what, claims) in [
        ("in another's name", fresh("iss", json!("auth"))),
        ("that lives too long", fresh("exp", json!(iat + 3_600))),
        ("that is over", with(&fresh("exp", json!(iat - 10)), "iat", json!(iat - 60))),
    ] {
        assert_eq!(send(&token(&header, &claims, &real)).await?, 401, "{what}");
    }
    Ok(())
}

/// The doctor's read of the patient's record as each service answers it.
async fn reads(app: &TestApp, doctor: &Person, record: &str) -> Result<[u16; 2]> {
    let grants = doctor.signs(app.access.to(access_policy::list_grants()).once()).send().await;
    Ok([
        refusal(app.received(doctor, record, "TREAT").await, "the read")?,
        refusal(grants, "the list of grants")?,
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn logout_and_suspension_close_every_service_at_once() -> Result<()> {
    let Some(app) = TestApp::shared().await? else { return Ok(()) };
    let (patient, doctor) = (app.patient().await?, app.doctor().await?);
    let record = app.upload(&patient, b"%PDF-1.7 a letter").await?.id.to_string();
    app.grant(&patient, &doctor, app.scope(&[Category::Document])).await?;
    app.received(&doctor, &record, "TREAT").await?;

    let second = app.login(&doctor.username, doctor.password.expose()).await?;
    let call = app.auth.to(auth::log_out()).once();
    assert_eq!(second.signs(call).send().await?.status, 200, "access-policy knows before the answer");
    assert!(reads(&app, &second, &record).await?.iter().all(|status| matches!(status, 401 | 403)));
    let refresh = json!({"refresh_token": second.tokens.refresh_token});
    let refreshed = app.auth.to(auth::refresh_session()).json(&refresh).send().await;
    assert_eq!(refusal(refreshed, "a refresh after logout")?, 401);
    app.received(&doctor, &record, "TREAT").await.context("the other session goes on")?;

    app.suspend(&app.operator().await?, doctor.agency()?).await?;
    assert!(reads(&app, &doctor, &record).await?.iter().all(|status| matches!(status, 401 | 403)));
    let again = app.try_login(&doctor.username, doctor.password.expose()).await;
    assert_eq!(refusal(again, "a login while suspended")?, 403);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_account_opens_no_service_and_its_grants_are_over_on_the_ledger_too() -> Result<()> {
    let Some(app) = TestApp::shared().await? else { return Ok(()) };
    let (patient, doctor) = (app.patient().await?, app.doctor().await?);
    let record = app.upload(&patient, b"%PDF-1.7 a letter").await?.id.to_string();
    let grant = app.grant(&patient, &doctor, app.scope(&[Category::Document])).await?;
    app.received(&doctor, &record, "TREAT").await?;

    let wish = json!({"confirm": patient.username, "password": patient.password});
    let call = app.auth.to(auth::close_account()).json(&wish);
    assert_eq!(patient.signs(call).send().await?.status, 200, "access-policy knows before the answer");
    for (process, path) in DOORS {
        let who = Credentials { token: Some(patient.token()), service: None };
        let status = app.send(&Ask::new(process, Method::GET, path), who).await?.status;
        assert!([401, 403].contains(&status), "{process}: {status}");
    }
    let own = app.received(&patient, &record, "PATRQT").await;
    assert!(matches!(refusal(own, "the patient's own read")?, 401 | 403));
    assert_eq!(refusal(app.received(&doctor, &record, "TREAT").await, "the doctor's read")?, 404);
    assert_eq!(app.grant_view(&doctor, &grant.id).await?.state, GrantState::Revoked);
    let again = app.try_login(&patient.username, patient.password.expose()).await;
    assert_eq!(refusal(again, "a login")?, 401);
    let key = grant.key.context("a signed grant has a key")?;
    let node = app.node("node-1")?;
    wait::until("the ledger says that the key is over", || async {
        let key: KeyView = node.to(ledger::read_key(key)).fetch().await?;
        Ok((!key.live).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_cannot_consent_for_anybody() -> Result<()> {
    let Some(app) = TestApp::shared().await? else { return Ok(()) };
    let (patient, doctor, operator) = (app.patient().await?, app.doctor().await?, app.operator().await?);
    let scope = app.scope(&[Category::Laboratory]);
    let grant = app.grant(&patient, &doctor, scope.clone()).await?;
    let new = hbc_tests::consents::new_grant(&doctor, scope)?;
    let draft = app.draft(&patient, &new).await?;
    let signature = app.sign_draft(&patient, &draft).await?;
    let revocation = json!({"jws": app.sign_revocation(&patient, &grant).await?});
    let sign = app.access.to(access_policy::sign_grant(&draft.id)).json(&signature);
    let revoke = app.access.to(access_policy::revoke_grant(&grant.id)).json(&revocation);
    for answer in [
        operator.signs(app.access.to(access_policy::draft_grant()).json(&new)).send().await,
        operator.signs(sign).send().await,
        operator.signs(revoke).send().await,
        operator.signs(app.access.to(access_policy::freeze_all())).send().await,
    ] {
        assert_eq!(refusal(answer, "the operator")?, 403);
    }
    assert_eq!(app.grant_view(&patient, &grant.id).await?.state, grant.state);
    Ok(())
}
