//! Signing for patients: exactly the draft, with the grantee's key, after the password.

use ed25519_dalek::{Signer, SigningKey};
use hbc_chain::certificate::ConsentCertificate;
use hbc_chain::consent::UnfreezeOrder;
use hbc_chain::json;
use hbc_chain::payload::{ConsentKey, KeyStatus, Payload};
use hbc_chain::tx::{self, Tx};
use hbc_types::keys::{PublicKey, possession_text, root_possession_text};
use hbc_types::secret::Bytes;
use hbc_types::{Digest, hash};
use serde_json::{Value, json};

use crate::app::{PASSWORD, TestApp, each};

const GRANT: &str = "grt-00000000000000000000000000000001";
pub const GRANTEE: &str = "agy-00000000000000000000000000000001";
const SALT: [u8; 32] = [7; 32];

/// A draft as access-policy makes it.
pub fn draft(app: &TestApp, patient: &str, grantee: &str) -> Value {
    let now = app.clock.now();
    let body = json!({"grant": GRANT, "patient": patient, "grantee": grantee, "scope": {
        "actions": ["read"], "categories": ["laboratory"], "sensitivities": ["normal"], "purposes": ["TREAT"],
        "from": now, "until": now.plus(std::time::Duration::from_secs(86_400)), "future_records": true}});
    let body = String::from_utf8(json::encode(&body).unwrap()).unwrap();
    let payload = json!({"chain": app.chain(), "type": "consent.grant", "seq": 1, "prev": null, "grant": GRANT,
        "commitment": hash::consent_body(&SALT, body.as_bytes()), "custody": "server", "iat": now.ms()});
    json!({"password": PASSWORD, "payload": payload, "body": body, "salt": Bytes::from(SALT.as_slice())})
}

/// The root key as access-policy was told it.
async fn pinned_root(app: &TestApp) -> PublicKey {
    let told = app.told().await;
    let pin = told.iter().find(|request| request.url.path() == "/internal/v1/patients").unwrap();
    let pin: Value = serde_json::from_slice(&pin.body).unwrap();
    let key: Bytes = serde_json::from_value(pin["root_public_key"].clone()).unwrap();
    PublicKey::from_bytes(key.to_array().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_is_signed_with_the_grantees_key_and_nothing_else_changes() {
    each(|app| async move {
        let patient = app.patient("alice").await.text("id");
        let root = pinned_root(&app).await;
        let token = app.login("alice").await;
        let request = draft(&app, &patient, GRANTEE);
        let signed = app.post("/v1/me/consent-signatures", &token, request.clone()).await.expect(200);
        let certificate =
            ConsentCertificate::verify(&signed.text("certificate"), &root, &app.chain()).unwrap();
        assert_eq!(certificate.grantee, GRANTEE);
        let registration = Tx::parse(signed.text("registration").as_bytes()).unwrap();
        assert_eq!(registration.verify_signature(&app.genesis.services[1].key), Ok(()));
        let Payload::ConsentKey(key) = registration.payload() else { panic!() };
        assert_eq!(key.key, certificate.key);
        let tx = Tx::parse(signed.text("jws").as_bytes()).unwrap();
        assert_eq!(tx.verify_signature(&key.public.unwrap()), Ok(()));
        let mut expected = request["payload"].clone();
        expected["key"] = json!(certificate.key);
        assert_eq!(serde_json::to_value(tx.payload()).unwrap(), expected);

        // The same grantee has the same key and the same registration; another grantee another key.
        let again = app.post("/v1/me/consent-signatures", &token, request.clone()).await.expect(200);
        assert_eq!(again.text("registration"), signed.text("registration"));
        let other = draft(&app, &patient, "agy-00000000000000000000000000000002");
        let other = app.post("/v1/me/consent-signatures", &token, other).await.expect(200);
        assert_ne!(other.text("registration"), signed.text("registration"));
        let mut named = request;
        named["payload"]["key"] = json!(certificate.key);
        let named = app.post("/v1/me/consent-signatures", &token, named).await.expect(200);
        assert!(named.body.get("registration").is_none());
        assert_eq!(named.text("jws"), signed.text("jws"));

        let revocation = json!({"password": PASSWORD, "key": certificate.key, "grant": GRANT});
        let revocation = app.post("/v1/me/revocation-signatures", &token, revocation).await.expect(200);
        let revocation = Tx::parse(revocation.text("jws").as_bytes()).unwrap();
        assert_eq!(revocation.verify_signature(&key.public.unwrap()), Ok(()));
        let Payload::Revoke(revoke) = revocation.payload() else { panic!() };
        assert_eq!((revoke.key, revoke.grant.as_str()), (certificate.key, GRANT));
        let order =
            app.post("/v1/me/unfreeze-signatures", &token, json!({"password": PASSWORD})).await.expect(200);
        assert!(UnfreezeOrder::verify(&order.text("jws"), &root, &app.chain()).is_ok());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_shown_is_not_signed() {
    each(|app| async move {
        let alice = app.patient("alice").await.text("id");
        let bob = app.patient("bob").await.text("id");
        let token = app.login("alice").await;
        let good = draft(&app, &alice, GRANTEE);
        let path = "/v1/me/consent-signatures";
        let mut other_body = good.clone();
        other_body["body"] = json!(good["body"].as_str().unwrap().replace("laboratory", "condition"));
        app.post(path, &token, other_body).await.refused(422, "invalid_input");
        app.post(path, &token, draft(&app, &bob, GRANTEE)).await.refused(422, "invalid_input");
        let mut other_chain = good.clone();
        other_chain["payload"]["chain"] = json!(Digest::of(b"other"));
        app.post(path, &token, other_chain).await.refused(400, "other_chain");
        let mut old = good.clone();
        old["payload"]["iat"] = json!(app.clock.now().ms() - 3_600_000);
        app.post(path, &token, old).await.refused(400, "bad_time");
        let mut foreign_key = good.clone();
        foreign_key["payload"]["key"] = json!(Digest::of(b"key"));
        app.post(path, &token, foreign_key).await.refused(404, "not_found");
        let mut wrong = good.clone();
        wrong["password"] = json!("wrong wrong wrong wrong");
        app.post(path, &token, wrong).await.refused(401, "bad_credentials");
        app.post(path, &token, good.clone()).await.refused(429, "too_many_requests");
        app.wait(1);
        app.post(path, &token, good).await.expect(200);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_patients_key_revokes_nothing() {
    each(|app| async move {
        let alice = app.patient("alice").await.text("id");
        app.patient("bob").await;
        let token = app.login("alice").await;
        let signed =
            app.post("/v1/me/consent-signatures", &token, draft(&app, &alice, GRANTEE)).await.expect(200);
        let kid = Tx::parse(signed.text("jws").as_bytes()).unwrap().kid();
        let body = json!({"password": PASSWORD, "key": kid, "grant": GRANT});
        let bob = app.login("bob").await;
        app.post("/v1/me/revocation-signatures", &bob, body.clone()).await.refused(404, "not_found");
        app.agency("drbob").await;
        let agency = app.login("drbob").await;
        app.post("/v1/me/revocation-signatures", &agency, body).await.refused(403, "forbidden");
        let mut form = draft(&app, &alice, GRANTEE);
        form["payload"]["key"] = json!(kid);
        app.by_hand("UPDATE consent_keys SET grantee = 'agy-00000000000000000000000000000009'").await;
        app.post("/v1/me/consent-signatures", &token, form).await.refused(403, "forbidden");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_the_chain_shows_revoked_gets_a_successor() {
    each(|app| async move {
        let alice = app.patient("alice").await.text("id");
        let token = app.login("alice").await;
        let path = "/v1/me/consent-signatures";
        let first = app.post(path, &token, draft(&app, &alice, GRANTEE)).await.expect(200);
        let kid = Tx::parse(first.text("jws").as_bytes()).unwrap().kid();
        let revoked = Payload::ConsentKey(ConsentKey {
            chain: app.chain(),
            iat: 1,
            key: kid,
            pop: None,
            public: None,
            status: KeyStatus::Revoked,
        });
        let jws = tx::sign(&SigningKey::from_bytes(&[201; 32]), &revoked).unwrap();
        app.ledger_decides(&[Tx::parse(jws.as_bytes()).unwrap()]).await;
        let mut named = draft(&app, &alice, GRANTEE);
        named["payload"]["key"] = json!(kid);
        app.post(path, &token, named).await.refused(409, "conflict");
        let second = app.post(path, &token, draft(&app, &alice, GRANTEE)).await.expect(200);
        assert_ne!(Tx::parse(second.text("jws").as_bytes()).unwrap().kid(), kid);
        assert_ne!(first.text("registration"), second.text("registration"));
        // What the old key granted can still be revoked.
        let body = json!({"password": PASSWORD, "key": kid, "grant": GRANT});
        app.post("/v1/me/revocation-signatures", &token, body).await.expect(200);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_new_password_the_same_keys_sign() {
    each(|app| async move {
        let alice = app.patient("alice").await.text("id");
        let token = app.login("alice").await;
        let first =
            app.post("/v1/me/consent-signatures", &token, draft(&app, &alice, GRANTEE)).await.expect(200);
        let new = "seven grey herons stand still";
        let change = json!({"password": PASSWORD, "new_password": new});
        app.put("/v1/me/password", &token, change).await.expect(204);
        let mut form = draft(&app, &alice, GRANTEE);
        form["password"] = json!(new);
        let second = app.post("/v1/me/consent-signatures", &token, form).await.expect(200);
        assert_eq!(first.text("jws"), second.text("jws"));
    })
    .await;
}

/// Signs up a patient who keeps this root key; gives the id.
async fn with_own_keys(app: &TestApp, username: &str, root: &SigningKey) -> String {
    let public = PublicKey::of(root);
    let text = root_possession_text(&app.chain(), &public.kid(), None, username);
    let form = json!({"username": username, "password": PASSWORD, "custody": "client",
        "root_public_key": Bytes::from(public.as_bytes().as_slice()),
        "root_pop": Bytes::from(root.sign(&text).to_bytes().as_slice())});
    app.post("/v1/patients", "", form).await.expect(201).text("id")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_registers_its_own_keys_and_auth_signs_nothing_for_it() {
    each(|app| async move {
        let root = SigningKey::from_bytes(&[9; 32]);
        let carol = with_own_keys(&app, "carol", &root).await;
        let token = app.login("carol").await;
        let key = SigningKey::from_bytes(&[10; 32]);
        let registering = |key: &SigningKey, signer: &SigningKey| {
            let public = PublicKey::of(key);
            let pop = signer.sign(&possession_text(&app.chain(), &public.kid())).to_bytes();
            json!({"key": Bytes::from(public.as_bytes().as_slice()), "pop": Bytes::from(pop.as_slice())})
        };
        let path = "/v1/me/consent-keys";
        app.post(path, &token, registering(&key, &root)).await.refused(401, "bad_signature");
        app.post(path, &token, registering(&root, &root)).await.refused(422, "invalid_input");
        let registered = app.post(path, &token, registering(&key, &key)).await.expect(201);
        app.wait(5);
        let again = app.post(path, &token, registering(&key, &key)).await.expect(201);
        assert_eq!(registered.body, again.body);
        let tx = Tx::parse(registered.text("registration").as_bytes()).unwrap();
        assert_eq!(tx.payload().introduces(), Some(PublicKey::of(&key)));
        app.post("/v1/me/consent-signatures", &token, draft(&app, &carol, GRANTEE))
            .await
            .refused(409, "conflict");
        let revoke = json!({"password": PASSWORD, "key": registered.text("kid"), "grant": GRANT});
        app.post("/v1/me/revocation-signatures", &token, revoke).await.refused(409, "conflict");
        app.post("/v1/me/unfreeze-signatures", &token, json!({"password": PASSWORD}))
            .await
            .refused(409, "conflict");
        app.patient("alice").await;
        let alice = app.login("alice").await;
        app.post(
            path,
            &alice,
            registering(&SigningKey::from_bytes(&[11; 32]), &SigningKey::from_bytes(&[11; 32])),
        )
        .await
        .refused(409, "conflict");
    })
    .await;
}

/// Each key stands on the ledger for ever: nobody puts as many there as they like.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_makes_only_so_many_consent_keys_in_a_day() {
    each(|app| async move {
        with_own_keys(&app, "carol", &SigningKey::from_bytes(&[9; 32])).await;
        let token = app.login("carol").await;
        let register = async |n: u8, token: &str| {
            let key = SigningKey::from_bytes(&[100 + n; 32]);
            let public = PublicKey::of(&key);
            let pop = key.sign(&possession_text(&app.chain(), &public.kid())).to_bytes();
            let form =
                json!({"key": Bytes::from(public.as_bytes().as_slice()), "pop": Bytes::from(pop.as_slice())});
            app.post("/v1/me/consent-keys", token, form).await
        };
        for n in 0..25 {
            register(n, &token).await.expect(201);
        }
        app.wait(3_600);
        let token = app.login("carol").await;
        let at_once = futures_util::future::join_all((25..60).map(|n| register(n, &token))).await;
        let made = at_once.iter().filter(|reply| reply.status == 201).count();
        assert_eq!(made, 25, "however many come at once");
        let refused = register(90, &token).await.refused(429, "too_many_requests");
        let wait: u64 = refused.header("retry-after").parse().unwrap();
        assert!((82_000..=82_800).contains(&wait), "{wait}");
        register(3, &token).await.expect(201);
        app.wait(wait);
        let token = app.login("carol").await;
        register(90, &token).await.expect(201);
    })
    .await;
}
