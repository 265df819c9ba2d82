//! Who holds a patient's root key: what changes it, what ends with it, and with what a page gets at its own.

use ed25519_dalek::{Signer as _, SigningKey};
use hbc_chain::certificate::{ConsentCertificate, RootCertificate};
use hbc_chain::payload::{KeyStatus, Payload};
use hbc_testkit::authenticator::SoftPasskey;
use hbc_types::Digest;
use hbc_types::ids::PatientId;
use hbc_types::keys::{PublicKey, root_possession_text};
use hbc_types::secret::Bytes;
use serde_json::{Value, json};

use crate::app::{OPERATOR_PASSWORD, PASSWORD, Reply, TestApp, each};
use crate::consents::{GRANTEE, draft};
use crate::passkeys::{make, remove};

const CUSTODY: &str = "/v1/me/custody";
const WRAPS: &str = "/v1/me/root-wraps";

/// The keys that a patient's own client holds.
struct Wallet {
    root: SigningKey,
    recovery: Option<SigningKey>,
}

fn raw(key: &SigningKey) -> Bytes {
    PublicKey::of(key).as_bytes().as_slice().into()
}

impl Wallet {
    fn new(app: &TestApp) -> Self {
        let key = || SigningKey::from_bytes(&app.random.bytes());
        Self { root: key(), recovery: Some(key()) }
    }

    /// What shows that `username` has them.
    fn shown(&self, app: &TestApp, username: &str) -> Value {
        let kid = self.recovery.as_ref().map(|key| PublicKey::of(key).kid());
        let text =
            root_possession_text(&app.chain(), &PublicKey::of(&self.root).kid(), kid.as_ref(), username);
        let sign = |key: &SigningKey| Bytes::from(key.sign(&text).to_bytes().as_slice());
        let mut shown = json!({"root_public_key": raw(&self.root), "root_pop": sign(&self.root)});
        if let Some(recovery) = &self.recovery {
            shown["recovery_public_key"] = json!(raw(recovery));
            shown["recovery_pop"] = json!(sign(recovery));
        }
        shown
    }

    /// A change to these keys.
    fn change(&self, app: &TestApp, username: &str, custody: &str) -> Value {
        let mut change = self.shown(app, username);
        change["custody"] = json!(custody);
        change["password"] = json!(PASSWORD);
        change
    }

    /// The same, certified by a key of before.
    fn change_by(
        &self,
        app: &TestApp,
        (username, patient): (&str, &str),
        custody: &str,
        by: &SigningKey,
    ) -> Value {
        let root = PublicKey::of(&self.root).kid();
        let certificate = RootCertificate {
            chain: app.chain(),
            iat: app.clock.now().unsigned_ms(),
            patient: PatientId::parse(patient).unwrap(),
            recovery: self.recovery.as_ref().map_or(root, |key| PublicKey::of(key).kid()),
            root,
        };
        let mut change = self.change(app, username, custody);
        change["certificate"] = json!(certificate.sign(by).unwrap());
        change
    }

    /// Signs a patient up; their id.
    async fn sign_up(&self, app: &TestApp, username: &str) -> String {
        let mut form = self.shown(app, username);
        (form["username"], form["password"], form["custody"]) =
            (json!(username), json!(PASSWORD), json!("client"));
        app.post("/v1/patients", "", form).await.expect(201).text("id")
    }
}

fn wrap(passkey: Option<&str>) -> Value {
    let (salt, wrapped) = (Bytes::from([1; 32].as_slice()), Bytes::from([2; 60].as_slice()));
    let mut wrap = json!({"salt": salt, "wrapped": wrapped});
    if let Some(passkey) = passkey {
        wrap["passkey"] = json!(passkey);
    }
    wrap
}

/// The pins that access-policy was told since it last changed its mind.
async fn pins(app: &TestApp) -> Vec<Value> {
    let told = app.told().await;
    let pins = told.iter().filter(|request| request.url.path() == "/internal/v1/patients");
    pins.map(|request| serde_json::from_slice(&request.body).unwrap()).collect()
}

fn key(value: &Value) -> PublicKey {
    let bytes: Bytes = serde_json::from_value(value.clone()).unwrap();
    PublicKey::from_bytes(bytes.to_array().unwrap())
}

async fn recover(app: &TestApp, username: &str, code: &Value) -> Reply {
    let form = json!({"username": username, "code": code, "new_password": "seven grey herons stand still"});
    app.post("/v1/recoveries", "", form).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patient_takes_their_keys_from_the_server() {
    each(|app| async move {
        let created = app.patient("alice").await;
        let (id, old_code) = (created.text("id"), created.body["recovery_codes"][0].clone());
        let before = key(&pins(&app).await[0]["root_public_key"]);
        let (token, other) = (app.login("alice").await, app.login("alice").await);
        let signature = draft(&app, &id, GRANTEE);
        let signed = app.post("/v1/me/consent-signatures", &token, signature.clone()).await.expect(200);
        app.access_policy_answers(204).await;
        app.wait(5);

        let wallet = Wallet::new(&app);
        let change = wallet.change(&app, "alice", "client");
        let changed = app.put(CUSTODY, &token, change.clone()).await.expect(200);
        let root = PublicKey::of(&wallet.root);
        assert_eq!(changed.body["root_fingerprint"], json!(root.kid()));
        assert_eq!(changed.body["recovery_codes"].as_array().unwrap().len(), 8);
        let told = pins(&app).await;
        let [pin] = told.as_slice() else { panic!("{told:?}") };
        assert_eq!((key(&pin["root_public_key"]), &pin["custody"]), (root, &json!("client")));
        // auth held the key of before, which names the new ones.
        let word =
            RootCertificate::verify(pin["certificate"].as_str().unwrap(), &[before], &app.chain()).unwrap();
        assert_eq!((word.root, word.recovery), (root.kid(), key(&pin["recovery_public_key"]).kid()));
        assert_eq!((word.patient.as_str(), word.iat), (id.as_str(), app.clock.now().unsigned_ms()));

        let me = app.get("/v1/me", &token).await.expect(200).body;
        assert_eq!((&me["custody"], &me["root_fingerprint"]), (&json!("client"), &json!(root.kid())));
        assert_eq!(me["recovery_fingerprint"], json!(word.recovery));
        app.get("/v1/me", &other).await.refused(401, "unauthenticated");
        // The server signs nothing more, and what it signed with ends on the ledger.
        app.post("/v1/me/consent-signatures", &token, signature).await.refused(409, "conflict");
        let registration = signed.text("registration");
        let ends = app.waiting().await;
        let [again, end] = ends.as_slice() else { panic!("{ends:?}") };
        assert_eq!(again.text(), registration);
        let (Payload::ConsentKey(made), Payload::ConsentKey(end)) = (again.payload(), end.payload()) else {
            panic!()
        };
        assert_eq!((end.key, end.status), (made.key, KeyStatus::Revoked));
        app.ledger_agrees().await;
        // The password's codes are new, and bring no key back.
        recover(&app, "alice", &old_code).await.refused(401, "bad_credentials");
        app.wait(10);
        recover(&app, "alice", &changed.body["recovery_codes"][0]).await.expect(204);
        // The keys are never handed back, nor does the server name others.
        let token =
            app.try_login("alice", "seven grey herons stand still").await.expect(201).text("access_token");
        assert_eq!(
            key(&pins(&app).await.pop().unwrap()["root_public_key"]),
            root,
            "told again with each sign-in"
        );
        let mut back = json!({"custody": "server", "password": "seven grey herons stand still"});
        app.put(CUSTODY, &token, back.clone()).await.refused(409, "conflict");
        back = Wallet::new(&app).change(&app, "alice", "client");
        back["password"] = json!("seven grey herons stand still");
        app.put(CUSTODY, &token, back).await.refused(422, "invalid_input");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_makes_another_root_key_and_signs_with_that() {
    each(|mut app| async move {
        let created = app.patient("alice").await;
        let id = created.text("id");
        let before = key(&pins(&app).await[0]["root_public_key"]);
        let token = app.login("alice").await;
        let signature = draft(&app, &id, GRANTEE);
        let first = app.post("/v1/me/consent-signatures", &token, signature.clone()).await.expect(200);
        app.access_policy_answers(204).await;
        let change = json!({"custody": "server", "password": PASSWORD});
        let mut more = change.clone();
        more["recovery_public_key"] = json!(raw(&Wallet::new(&app).root));
        app.put(CUSTODY, &token, more).await.refused(422, "invalid_input");
        let mut wrong = change.clone();
        wrong["password"] = json!("not the password");
        app.put(CUSTODY, &token, wrong).await.refused(401, "bad_credentials");
        app.wait(2);
        let changed = app.put(CUSTODY, &token, change).await.expect(200);
        app.restart().await;
        let pin = pins(&app).await.pop().unwrap();
        let root = key(&pin["root_public_key"]);
        let word =
            RootCertificate::verify(pin["certificate"].as_str().unwrap(), &[before], &app.chain()).unwrap();
        assert_eq!(
            (word.root, word.recovery),
            (root.kid(), root.kid()),
            "there is no recovery key beside it"
        );
        app.ledger_agrees().await;
        let second = app.post("/v1/me/consent-signatures", &token, signature).await.expect(200);
        assert_ne!(first.text("registration"), second.text("registration"));
        let certificate = second.text("certificate");
        assert!(ConsentCertificate::verify(&certificate, &root, &app.chain()).is_ok());
        assert!(ConsentCertificate::verify(&certificate, &before, &app.chain()).is_err());
        // A code opens the new key.
        recover(&app, "alice", &created.body["recovery_codes"][0]).await.refused(401, "bad_credentials");
        app.wait(10);
        recover(&app, "alice", &changed.body["recovery_codes"][7]).await.expect(204);
        let token =
            app.try_login("alice", "seven grey herons stand still").await.expect(201).text("access_token");
        let mut third = draft(&app, &id, GRANTEE);
        third["password"] = json!("seven grey herons stand still");
        let third = app.post("/v1/me/consent-signatures", &token, third).await.expect(200);
        assert!(ConsentCertificate::verify(&third.text("certificate"), &root, &app.chain()).is_ok());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn passkeys_open_a_root_key_that_the_server_never_sees() {
    each(|app| async move {
        let wallet = Wallet::new(&app);
        let id = wallet.sign_up(&app, "alice").await;
        app.patient("bob").await;
        let (token, bob) = (app.login("alice").await, app.login("bob").await);
        let (_phone, phone) = make(&app, &token, false).await;
        let (_laptop, laptop) = make(&app, &token, true).await;
        let (_foreign, foreign) = make(&app, &bob, false).await;
        app.get(WRAPS, &bob).await.expect(200);
        let change = |wraps: &[Value]| {
            let mut change = wallet.change_by(&app, ("alice", &id), "passkey", &wallet.root);
            change["wraps"] = json!(wraps);
            change
        };
        let (both, coded) = ([wrap(Some(&phone)), wrap(Some(&laptop))], [wrap(Some(&phone)), wrap(None)]);
        let short =
            json!({"passkey": phone, "salt": Bytes::from([1; 31].as_slice()), "wrapped": both[0]["wrapped"]});
        let refused = [
            vec![],
            vec![wrap(Some(&phone))],
            vec![wrap(None)],
            vec![wrap(Some(&phone)), wrap(Some(&phone))],
            vec![wrap(Some(&phone)), wrap(Some(&foreign))],
            vec![short, wrap(None)],
        ];
        for wraps in &refused {
            app.put(CUSTODY, &token, change(wraps)).await.refused(422, "invalid_input");
        }
        let changed = app.put(CUSTODY, &token, change(&coded)).await.expect(200);
        assert!(changed.body["recovery_codes"].as_array().unwrap().is_empty(), "the root key is the same");
        let wraps = app.get(WRAPS, &token).await.expect(200).body;
        let [code, first] = wraps["items"].as_array().unwrap().as_slice() else { panic!("{wraps}") };
        assert_eq!((&first["passkey"], code.get("passkey")), (&json!(phone), None));
        assert_eq!(first["salt"], both[0]["salt"]);
        assert!(first["credential"].is_string());
        // One more passkey, or none of another's, or for another root key.
        let root = json!(PublicKey::of(&wallet.root).kid());
        let mut more = both[1].clone();
        more.as_object_mut().unwrap().remove("passkey");
        (more["password"], more["root_fingerprint"]) = (json!(PASSWORD), root);
        more["root_pop"] = wallet.shown(&app, "alice")["root_pop"].clone();
        let put = |id: &str, body: Value| {
            let path = format!("/v1/me/passkeys/{id}/root-wrap");
            let (app, token) = (&app, &token);
            async move { app.put(&path, token, body).await }
        };
        put(&foreign, more.clone()).await.refused(404, "not_found");
        let mut stale = more.clone();
        stale["root_fingerprint"] = json!(Digest::ZERO);
        put(&laptop, stale).await.refused(409, "conflict");
        let mut junk = more.clone();
        junk["root_pop"] = Wallet::new(&app).shown(&app, "alice")["root_pop"].clone();
        put(&laptop, junk).await.refused(401, "bad_signature");
        put(&laptop, more.clone()).await.expect(204);
        put(&laptop, more).await.refused(409, "conflict");
        app.wait(1);
        app.put(CUSTODY, &token, change(&both)).await.expect(200);
        // The last passkey that opens it stays.
        remove(&app, &token, &laptop).await.expect(200);
        remove(&app, &token, &phone).await.refused(409, "conflict");
        assert_eq!(app.get(WRAPS, &token).await.expect(200).body["items"].as_array().unwrap().len(), 1);
        // A lost password takes the passkeys' logins away, and not what they open.
        let codes =
            app.post("/v1/me/recovery-codes", &token, json!({"password": PASSWORD})).await.expect(201);
        recover(&app, "alice", &codes.body["recovery_codes"][0]).await.expect(204);
        let token =
            app.try_login("alice", "seven grey herons stand still").await.expect(201).text("access_token");
        assert!(app.get("/v1/me/passkeys", &token).await.body["items"].as_array().unwrap().is_empty());
        let left = app.get(WRAPS, &token).await.expect(200).body;
        assert_eq!(left["items"][0]["credential"], first["credential"]);
        app.post("/v1/me/consent-signatures", &token, draft(&app, &id, GRANTEE))
            .await
            .refused(409, "conflict");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_recovery_key_names_the_next_root_and_each_change_is_told_before_the_next() {
    each(|app| async move {
        let wallet = Wallet::new(&app);
        let id = wallet.sign_up(&app, "alice").await;
        let token = app.login("alice").await;
        let next = Wallet { root: Wallet::new(&app).root, recovery: wallet.recovery.clone() };
        let by = |key| next.change_by(&app, ("alice", &id), "client", key);
        let recovery = wallet.recovery.as_ref().unwrap();
        app.put(CUSTODY, &token, by(&next.root)).await.refused(401, "bad_signature");
        let mut foreign =
            next.change_by(&app, ("alice", PatientId::random(&app.random).as_str()), "client", recovery);
        app.put(CUSTODY, &token, foreign.clone()).await.refused(422, "invalid_input");
        foreign = by(recovery);
        foreign["root_pop"] = next.shown(&app, "mallory")["root_pop"].clone();
        app.put(CUSTODY, &token, foreign).await.refused(401, "bad_signature");
        let mut patched = by(recovery);
        patched["patient"] = json!(id);
        app.put(CUSTODY, &token, patched).await.refused(422, "invalid_input");
        // The recovery key is known: it need not show itself again.
        let mut change = by(recovery);
        change.as_object_mut().unwrap().remove("recovery_pop");
        app.access_policy_answers(500).await;
        let changed = app.put(CUSTODY, &token, change).await.expect(202);
        assert_eq!(
            (&changed.body["effective"], changed.body["recovery_codes"].as_array().unwrap().len()),
            (&json!(false), 8)
        );
        let third = Wallet::new(&app);
        let again = |by: &SigningKey| third.change_by(&app, ("alice", &id), "client", by);
        app.wait(1);
        app.put(CUSTODY, &token, again(&next.root)).await.refused(409, "conflict");
        app.outage_ends().await;
        assert_eq!(key(&pins(&app).await[0]["root_public_key"]), PublicKey::of(&next.root));
        app.put(CUSTODY, &token, again(&wallet.root)).await.refused(401, "bad_signature");
        app.wait(1);
        app.put(CUSTODY, &token, again(&next.root)).await.expect(200);
        // Nor one that is no later than the last: access-policy would never take it.
        let mut late = wallet.change_by(&app, ("alice", &id), "client", &third.root);
        late["certificate"] = {
            let early = RootCertificate {
                chain: app.chain(),
                iat: app.clock.now().unsigned_ms() - 1,
                patient: PatientId::parse(&id).unwrap(),
                recovery: PublicKey::of(wallet.recovery.as_ref().unwrap()).kid(),
                root: PublicKey::of(&wallet.root).kid(),
            };
            json!(early.sign(&third.root).unwrap())
        };
        app.put(CUSTODY, &token, late).await.refused(400, "bad_time");
    })
    .await;
}

/// A passkey shows again who somebody is, in their own session and with a challenge that makes no passkey.
#[tokio::test(flavor = "multi_thread")]
async fn a_passkey_is_shown_again() {
    const PREPARE: &str = "/v1/sessions/current/passkey-challenges";
    const SHOW: &str = "/v1/sessions/current/step-up/passkey";
    each(|app| async move {
        app.patient("alice").await;
        app.patient("bob").await;
        let (token, bob) = (app.login("alice").await, app.login("bob").await);
        app.post(PREPARE, &token, json!({})).await.refused(409, "conflict");
        let (mut passkey, id) = make(&app, &token, false).await;
        let (mut foreign, _id) = make(&app, &bob, false).await;
        app.wait(1200);
        let token = app.login("alice").await;
        let request = async |token: &str| app.post(PREPARE, token, json!({})).await.expect(201).body;
        let options = request(&token).await;
        assert_eq!(options["allowCredentials"].as_array().unwrap().len(), 1);
        app.wait(240);
        let used = json!({"credential": passkey.used(&options)});
        app.post(SHOW, &app.login("alice").await, used.clone()).await.refused(409, "conflict");
        let shown = app.post(SHOW, &token, used.clone()).await.expect(200);
        let claims = crate::passkeys::claims(&shown);
        assert_eq!(
            (claims.auth_time, claims.amr),
            (app.clock.now().seconds(), vec!["hwk".to_owned(), "user".to_owned()])
        );
        app.post(SHOW, &token, used).await.refused(409, "conflict");
        // Another's passkey, and challenges of one kind for the other.
        let theirs = json!({"credential": foreign.used(&request(&token).await)});
        app.post(SHOW, &token, theirs).await.refused(401, "bad_credentials");
        let options = app
            .post("/v1/me/passkey-challenges", &token, json!({"password": PASSWORD}))
            .await
            .expect(201)
            .body;
        let mut made = options.clone();
        made["challenge"] = request(&token).await["challenge"].clone();
        let new = SoftPasskey::new(&made, crate::app::ORIGIN, &app.random, false);
        let form = json!({"name": "Sneaked", "credential": new.made(&made)});
        app.post("/v1/me/passkeys", &token, form).await.refused(409, "conflict");
        let other = json!({"credential": passkey.used(&options)});
        app.post(SHOW, &token, other).await.refused(409, "conflict");
        let stale = passkey.used(&request(&token).await);
        remove(&app, &token, &id).await.expect(200);
        app.post(SHOW, &token, json!({"credential": stale})).await.refused(401, "bad_credentials");
    })
    .await;
}

/// Both keys are lost: others are claimed, wait, are ordered, and count. Whoever has a key of before, or a session, is first.
#[tokio::test(flavor = "multi_thread")]
async fn lost_keys_are_claimed_anew_after_three_days_and_an_order() {
    const CLAIM: &str = "/v1/me/root-claim";
    each(|mut app| async move {
        let wallet = Wallet::new(&app);
        let id = wallet.sign_up(&app, "alice").await;
        app.patient("bob").await;
        let (token, bob, operator) =
            (app.login("alice").await, app.login("bob").await, app.login("operator-0").await);
        let next = Wallet::new(&app);
        let mut claim = next.shown(&app, "alice");
        claim["password"] = json!(PASSWORD);
        let approve = format!("/v1/root-claims/{id}/approvals");
        let order = json!({"password": OPERATOR_PASSWORD});
        app.post(&approve, &operator, order.clone()).await.refused(404, "not_found");
        app.put(CLAIM, &bob, claim.clone()).await.refused(409, "conflict");
        let mut wrong = claim.clone();
        wrong["password"] = json!("not the password");
        app.put(CLAIM, &token, wrong).await.refused(401, "bad_credentials");
        app.wait(2);
        app.access_policy_answers(204).await;
        let made = app.put(CLAIM, &token, claim.clone()).await.expect(200);
        assert_eq!(made.body["root_fingerprint"], json!(PublicKey::of(&next.root).kid()));
        app.wait(3_600);
        let token = app.login("alice").await;
        let again = app.put(CLAIM, &token, claim.clone()).await.expect(200);
        assert_eq!(again.body["since"], made.body["since"], "the same claim waits on");
        let path = format!("/internal/v1/patients/{id}/root-claim");
        assert!(app.told().await.iter().any(|told| told.url.path() == path && told.method.as_str() == "PUT"));

        let change = next.change(&app, "alice", "client");
        let refused = app.put(CUSTODY, &token, change.clone()).await.refused(409, "conflict");
        assert!(refused.text("detail").contains("three days"), "{refused:?}");
        app.wait(72 * 3_600);
        let (token, operator) = (app.login("alice").await, app.login("operator-0").await);
        let refused = app.put(CUSTODY, &token, change.clone()).await.refused(409, "conflict");
        assert!(refused.text("detail").contains("operators"), "{refused:?}");
        let listed = app.get("/v1/root-claims", &operator).await.expect(200).body;
        assert_eq!(
            (&listed["items"][0]["patient"], &listed["items"][0]["approvals"]),
            (&json!(id), &json!(0))
        );
        for _again in 0..2 {
            app.post(&approve, &operator, order.clone()).await.expect(200);
        }
        assert_eq!(app.waiting().await.len(), 1, "signing twice is signing once");
        app.put(CUSTODY, &token, change.clone()).await.refused(409, "conflict");
        app.ledger_agrees().await;
        app.restart().await;
        let one = app.get(CLAIM, &token).await.expect(200).body;
        assert_eq!((&one["approvals"], &one["approvals_needed"]), (&json!(1), &json!(2)));
        app.put(CUSTODY, &token, change.clone()).await.refused(409, "conflict");
        app.post(&approve, &app.login("operator-1").await, order).await.expect(200);
        app.ledger_agrees().await;
        // Not others than were claimed.
        app.put(CUSTODY, &token, Wallet::new(&app).change(&app, "alice", "client"))
            .await
            .refused(422, "invalid_input");
        let changed = app.put(CUSTODY, &token, change.clone()).await.expect(200);
        assert_eq!(changed.body["root_fingerprint"], made.body["root_fingerprint"]);
        let pin = pins(&app).await.pop().unwrap();
        assert_eq!((key(&pin["root_public_key"]), pin.get("certificate")), (PublicKey::of(&next.root), None));
        app.get(CLAIM, &token).await.refused(404, "not_found");
        // Another's claim to a key that operators once ordered is a claim that nobody ordered.
        Wallet::new(&app).sign_up(&app, "carol").await;
        let carol = app.login("carol").await;
        let mut again = next.shown(&app, "carol");
        again["password"] = json!(PASSWORD);
        assert_eq!(app.put(CLAIM, &carol, again).await.expect(200).body["approvals"], json!(0));
        // Withdrawn, or made void by the word of a key that counts.
        let third = Wallet::new(&app);
        let mut claim = third.shown(&app, "alice");
        claim["password"] = json!(PASSWORD);
        app.put(CLAIM, &token, claim.clone()).await.expect(200);
        app.call(reqwest::Method::DELETE, CLAIM, Some(&token), None).await.expect(200);
        app.get(CLAIM, &token).await.refused(404, "not_found");
        app.put(CLAIM, &token, claim).await.expect(200);
        let fourth = Wallet::new(&app).change_by(&app, ("alice", &id), "client", &next.root);
        app.put(CUSTODY, &token, fourth).await.expect(200);
        app.get(CLAIM, &token).await.refused(404, "not_found");
        // A recovery takes back what somebody with the lost password claimed.
        let mut claim = Wallet::new(&app).shown(&app, "alice");
        claim["password"] = json!(PASSWORD);
        app.put(CLAIM, &token, claim).await.expect(200);
        let codes =
            app.post("/v1/me/recovery-codes", &token, json!({"password": PASSWORD})).await.expect(201);
        recover(&app, "alice", &codes.body["recovery_codes"][0]).await.expect(204);
        let left = app.get("/v1/root-claims", &operator).await.expect(200).body;
        assert!(left["items"].as_array().unwrap().iter().all(|claim| claim["patient"] != json!(id)));
    })
    .await;
}
