//! Keys at an address of the client's own: when they are fetched, which of them count, and what an address cannot make auth do.

use hbc_chain::bodies::{AppRegistration, Body as _, OrderBody};
use hbc_client::outgoing::OutgoingSettings;
use hbc_testkit::clients::{ClientKey, claims};
use hbc_testkit::https::{CERTIFICATE, HttpsServer};
use hbc_testkit::users::ISSUER;
use hbc_types::wire::oauth::{ClientAlgorithm, JWT_BEARER};
use serde_json::{Value, json};

use crate::app::{PASSWORD, Reply, TestApp, decision, each};
use crate::apps::{code, exchange, new_app, register, registered};

/// Lets auth ask this machine, and trust the server there.
async fn open(app: &mut TestApp) -> HttpsServer {
    let ca_file = app.file("ca.pem", CERTIFICATE);
    let settings = OutgoingSettings { allow: vec!["127.0.0.1/32".to_owned()], ca_file: Some(ca_file) };
    app.start_with_outgoing(settings).await.unwrap();
    HttpsServer::start().await
}

fn new_client(keys: (&str, Value)) -> Value {
    let mut new =
        json!({"name": "Ward", "kind": "back-office", "scope": "system/*.rs", "password": PASSWORD});
    new[keys.0] = keys.1;
    new
}

/// What a client sends as its proof, signed with `key`.
fn proof(app: &TestApp, id: &str, key: &ClientKey) -> String {
    let jti = hex::encode(app.random.bytes::<16>());
    let said = claims(id, &format!("{ISSUER}/oauth/token"), app.clock.now().seconds(), &jti);
    key.sign(&key.header(), &said)
}

async fn show(app: &TestApp, proof: &str) -> Reply {
    let form = [
        ("grant_type", "client_credentials"),
        ("client_assertion_type", JWT_BEARER),
        ("client_assertion", proof),
    ];
    app.send_form("/oauth/token", &form).await
}

/// Whether a client gets a token with this key.
async fn ask(app: &TestApp, id: &str, key: &ClientKey) -> u16 {
    let reply = show(app, &proof(app, id, key)).await;
    let error = (reply.status != 200).then_some("invalid_client");
    assert_eq!(reply.body["error"].as_str(), error, "{:?}", reply.body);
    reply.status
}

async fn own(app: &TestApp) -> Value {
    let token = app.login("insurer").await;
    app.get("/v1/me/clients", &token).await.expect(200).body["items"][0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_comes_at_the_address_counts_and_one_that_goes_does_not_for_long() {
    each(|mut app| async move {
        let server = open(&mut app).await;
        app.approved_agency("insurer").await;
        let agency = app.login("insurer").await;
        let [first, second] = [ClientAlgorithm::Es384, ClientAlgorithm::EdDsa].map(ClientKey::of);
        server.answers(&first.jwks());
        let made =
            app.post("/v1/me/clients", &agency, new_client(("jwks_uri", json!(server.url("/a/../jwks")))));
        let made = made.await.expect(201);
        let id = made.text("id");
        let registered_at = app.clock.now().to_string();
        assert_eq!(
            (made.text("jwks_uri"), made.text("jwks_fetched_at")),
            (server.url("/jwks"), registered_at)
        );
        assert_eq!(made.body["keys"], json!([{"kid": first.jwk["kid"], "alg": "ES384"}]));
        assert_eq!((ask(&app, &id, &first).await, server.requests()), (200, 1));

        // Another one stands there now. Whoever names it has it fetched; the old one counts until then.
        server.answers(&second.jwks());
        app.wait(59 * 60);
        assert_eq!((ask(&app, &id, &first).await, server.requests()), (200, 1));
        assert_eq!((ask(&app, &id, &second).await, server.requests()), (200, 2));
        assert_eq!(ask(&app, &id, &first).await, 400);
        assert_eq!(own(&app).await["jwks_fetched_at"], app.clock.now().to_string());

        // Names that nobody has are not worth a connection each.
        let strangers: Vec<_> = (0..12).map(|_| ClientKey::random(&app.random)).collect();
        let asked = futures_util::future::join_all(strangers.iter().map(|key| ask(&app, &id, key))).await;
        assert_eq!((asked, server.requests()), (vec![400; 12], 2), "a minute has not passed");
        app.wait(60);
        let asked = futures_util::future::join_all(strangers.iter().map(|key| ask(&app, &id, key))).await;
        assert_eq!((asked, server.requests()), (vec![400; 12], 3), "one fetch for all of them");

        // One that goes ends with the next fetch, an hour later at the latest; and comes back likewise.
        server.answers(&first.jwks());
        app.wait(3_600);
        assert_eq!((ask(&app, &id, &second).await, server.requests()), (400, 4));
        assert_eq!(ask(&app, &id, &first).await, 200);
        // What is there now shows a private key: none of them counts, also after a restart.
        let mut leaked = first.jwks();
        leaked["keys"][0]["d"] = json!("AAAA");
        server.answers(&leaked);
        app.wait(3_600);
        assert_eq!((ask(&app, &id, &first).await, server.requests()), (400, 5));
        app.restart().await;
        assert_eq!((ask(&app, &id, &first).await, server.requests()), (400, 6), "the minute is forgotten");
        assert_eq!(own(&app).await["keys"], json!([]));
        server.answers(&first.jwks());
        app.wait(60);
        assert_eq!(ask(&app, &id, &first).await, 200);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_keys_count_for_a_day_while_the_address_is_down() {
    each(|mut app| async move {
        let server = open(&mut app).await;
        let agency_id = app.approved_agency("insurer").await;
        let agency = app.login("insurer").await;
        let key = ClientKey::of(ClientAlgorithm::EdDsa);
        server.answers(&key.jwks());
        let new = new_client(("jwks_uri", json!(server.url("/jwks"))));
        let id = app.post("/v1/me/clients", &agency, new).await.expect(201).text("id");
        let fetched_at = own(&app).await["jwks_fetched_at"].clone();
        let down = |server: &HttpsServer, way: usize| match way {
            0 => server.hangs_up(),
            1 => server.answers_with(503, "", b""),
            2 => server.answers(&json!({"message": "back soon"})),
            _ => server.answers_with(302, &format!("location: {}\r\n", server.url("/other")), b""),
        };
        for way in 0..4 {
            down(&server, way);
            app.wait(3_600);
            let before = server.connections();
            assert_eq!((ask(&app, &id, &key).await, server.connections()), (200, before + 1), "{way}");
            assert_eq!(
                (ask(&app, &id, &key).await, server.connections()),
                (200, before + 1),
                "{way}: a minute"
            );
        }
        assert_eq!(own(&app).await["jwks_fetched_at"], fetched_at);
        app.wait(20 * 3_600 - 1);
        assert_eq!(ask(&app, &id, &key).await, 200);
        app.wait(60);
        assert_eq!(ask(&app, &id, &key).await, 400, "a day is over");
        assert_eq!(ask(&app, &id, &key).await, 400, "and stays over while nobody fetches");
        server.answers(&key.jwks());
        app.wait(60);
        assert_eq!(ask(&app, &id, &key).await, 200);
        // The address of a suspended agency is nobody's to have asked.
        let operator = app.login("operator-0").await;
        let body = decision("its licence was withdrawn");
        app.post(&format!("/v1/agencies/{agency_id}/suspensions"), &operator, body).await.expect(200);
        app.wait(3_600);
        let before = server.connections();
        assert_eq!((ask(&app, &id, &key).await, server.connections()), (400, before));
    })
    .await;
}

fn names_the_address(reply: &Reply, what: &str) {
    let named = reply.body["errors"][0]["field"].as_str();
    assert_eq!((reply.status, named), (422, Some("jwks_uri")), "{what}: {:?}", reply.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_gives_no_keys_is_refused_when_it_is_registered() {
    each(|mut app| async move {
        let server = open(&mut app).await;
        app.approved_agency("insurer").await;
        let agency = app.login("insurer").await;
        let key = ClientKey::of(ClientAlgorithm::EdDsa);
        let try_it = async |new: Value| app.post("/v1/me/clients", &agency, new).await;
        // Those whose form alone, or whose host, is enough: nobody is asked. The list of hosts is the client library's.
        for address in [
            "https://127.0.0.2:PORT/",
            "https://[::1]:PORT/",
            "https://[::ffff:127.0.0.1]:PORT/",
            "https://10.0.0.1:PORT/",
            "https://169.254.169.254/latest/meta-data",
            "http://127.0.0.1:PORT/",
            "https://user:word@127.0.0.1:PORT/",
            "ftp://127.0.0.1:PORT/",
            "https://localhost.:PORT/",
            "https://127.0.0.1:PORT/#keys",
            "https://[64:ff9b::7f00:1]:PORT/",
            "https://0.0.0.0:PORT/",
            "jwks",
        ] {
            let address = address.replace("PORT", &server.port.to_string());
            names_the_address(&try_it(new_client(("jwks_uri", json!(address)))).await, &address);
        }
        assert_eq!(server.connections(), 0);
        let address = json!(server.url("/jwks"));
        let mut both = new_client(("jwks", key.jwks()));
        both["jwks_uri"] = address.clone();
        names_the_address(&try_it(both).await, "both");
        let neither = try_it(new_client(("name", json!("Ward")))).await.refused(422, "invalid_input");
        assert_eq!(neither.body["errors"][0]["field"], "jwks");
        // Who does not know the password has nobody asked either.
        let mut guessed = new_client(("jwks_uri", address.clone()));
        guessed["password"] = json!("not the password");
        try_it(guessed).await.refused(401, "bad_credentials");
        app.wait(2);
        assert_eq!(server.connections(), 0);
        let mut private = key.jwks();
        private["keys"][0]["d"] = json!("AAAA");
        let symmetric = json!({"keys": [{"kid": "k", "kty": "oct", "k": "c2VjcmV0"}]});
        for (what, set) in [
            ("private", private),
            ("symmetric", symmetric),
            ("none", json!({"keys": []})),
            ("no set", json!([])),
        ] {
            server.answers(&set);
            names_the_address(&try_it(new_client(("jwks_uri", address.clone()))).await, what);
        }
        server.answers_with(200, "content-type: text/html\r\n", key.jwks().to_string().as_bytes());
        names_the_address(&try_it(new_client(("jwks_uri", address.clone()))).await, "html");
        server.answers_with(302, &format!("location: {}\r\n", server.url("/jwks")), b"");
        names_the_address(&try_it(new_client(("jwks_uri", address.clone()))).await, "a redirect");
        assert_eq!(server.requests(), 6, "one for each, and no redirect is followed");
        server.hangs_up();
        names_the_address(&try_it(new_client(("jwks_uri", address.clone()))).await, "down");
        // Looking around is not what this is for.
        server.answers(&json!({}));
        for _more in 7..30 {
            names_the_address(&try_it(new_client(("jwks_uri", address.clone()))).await, "nothing");
        }
        try_it(new_client(("jwks_uri", address))).await.refused(429, "too_many_requests");
        assert_eq!(own(&app).await, Value::Null);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_replaced_in_either_form_and_what_was_got_before_ends() {
    each(|mut app| async move {
        let server = open(&mut app).await;
        app.approved_agency("insurer").await;
        let agency = app.login("insurer").await;
        let [inline, fetched] = [ClientAlgorithm::Es384, ClientAlgorithm::EdDsa].map(ClientKey::of);
        server.answers(&fetched.jwks());
        let made = app.post("/v1/me/clients", &agency, new_client(("jwks", inline.jwks()))).await.expect(201);
        let (id, path) = (made.text("id"), format!("/v1/me/clients/{}/jwks", made.text("id")));
        assert_eq!((made.body.get("jwks_uri"), ask(&app, &id, &inline).await), (None, 200));
        let at = json!({"jwks_uri": server.url("/jwks"), "password": PASSWORD});
        let changed = app.put(&path, &agency, at).await.expect(200);
        assert_eq!(changed.text("jwks_uri"), server.url("/jwks"));
        assert_eq!((ask(&app, &id, &inline).await, ask(&app, &id, &fetched).await), (400, 200));
        let told = app.told().await;
        assert!(told.iter().any(|request| request.url.path().contains("/denials/session/")));
        names_the_address(
            &app.put(
                &path,
                &agency,
                json!({"jwks": inline.jwks(), "jwks_uri": server.url("/"), "password": PASSWORD}),
            )
            .await,
            "both",
        );
        let before = server.connections();
        // Another's program, or none: nobody is asked.
        app.agency("waiting").await;
        let waiting = app.login("waiting").await;
        let at = json!({"jwks_uri": server.url("/jwks"), "password": PASSWORD});
        app.put(&path, &waiting, at).await.refused(404, "not_found");
        let back = json!({"jwks": inline.jwks(), "password": PASSWORD});
        let changed = app.put(&path, &agency, back).await.expect(200);
        assert_eq!((changed.body.get("jwks_uri"), changed.body.get("jwks_fetched_at")), (None, None));
        assert_eq!((ask(&app, &id, &fetched).await, ask(&app, &id, &inline).await), (400, 200));
        // The old address is asked no more, and what a header says opens no connection.
        let mut header = inline.header();
        for (name, value) in [
            ("jku", json!(server.url("/jwks"))),
            ("x5u", json!(server.url("/cert"))),
            ("jwk", fetched.jwk.clone()),
        ] {
            header[name] = value;
            let said = claims(&id, &format!("{ISSUER}/oauth/token"), app.clock.now().seconds(), name);
            let reply = show(&app, &fetched.sign(&header, &said)).await;
            assert_eq!(reply.body["error"], "invalid_client", "{name}");
        }
        assert_eq!(server.connections(), before);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_row_does_not_bring_a_key_back_that_went() {
    each(|mut app| async move {
        let server = open(&mut app).await;
        app.approved_agency("insurer").await;
        let agency = app.login("insurer").await;
        let [gone, next] = [ClientAlgorithm::Es384, ClientAlgorithm::EdDsa].map(ClientKey::of);
        server.answers(&gone.jwks());
        let new = new_client(("jwks_uri", json!(server.url("/jwks"))));
        let id = app.post("/v1/me/clients", &agency, new).await.expect(201).text("id");
        app.by_hand("CREATE TABLE kept AS SELECT * FROM clients").await;
        server.answers(&next.jwks());
        assert_eq!(ask(&app, &id, &next).await, 200);
        app.by_hand("DELETE FROM clients").await;
        app.by_hand("INSERT INTO clients SELECT * FROM kept").await;
        for restarted in [false, true] {
            assert_eq!(show(&app, &proof(&app, &id, &gone)).await.status, 400, "{restarted}");
            app.restart().await;
        }
        // Nor may another hand say where keys are.
        app.by_hand("UPDATE clients SET jwks_uri = 'https://127.0.0.1/other', version = version + 9").await;
        assert_eq!(show(&app, &proof(&app, &id, &next)).await.status, 400);
    })
    .await;
}

/// The operators sign for the address, and not for the keys that are there.
#[tokio::test(flavor = "multi_thread")]
async fn an_apps_registration_says_where_its_keys_are() {
    each(|mut app| async move {
        let server = open(&mut app).await;
        let [first, second] = [ClientAlgorithm::Es384, ClientAlgorithm::EdDsa].map(ClientKey::of);
        server.answers(&first.jwks());
        let mut new = new_app();
        new["jwks_uri"] = json!(server.url("/jwks"));
        let id = registered(&app, new.clone()).await;
        let told = app.told().await;
        let subject =
            told.iter().find(|request| request.url.path().ends_with(&format!("/subjects/{id}"))).unwrap();
        let subject: Value = serde_json::from_slice(&subject.body).unwrap();
        let order = OrderBody::read(subject["profile"]["body"].as_str().unwrap().as_bytes()).unwrap();
        let registration = AppRegistration::of_order(&order).unwrap();
        assert_eq!((registration.jwks, registration.jwks_uri), (None, Some(server.url("/jwks"))));

        app.patient("alice").await;
        let alice = app.login("alice").await;
        let view = app.get(&format!("/v1/apps/{id}"), &alice).await.expect(200);
        assert_eq!(
            (view.text("jwks_uri"), view.body["confidential"].clone()),
            (server.url("/jwks"), json!(true))
        );
        let exchanged = async |key: &ClientKey| {
            let good = code(&app, &alice, &id, &[]).await;
            let proof = proof(&app, &id, key);
            let fields = [
                ("code", Some(good.as_str())),
                ("client_assertion_type", Some(JWT_BEARER)),
                ("client_assertion", Some(proof.as_str())),
            ];
            exchange(&app, &fields).await.status
        };
        assert_eq!((exchanged(&first).await, exchanged(&second).await, server.requests()), (200, 400, 2));
        // The keys change, and nothing else of the app: no operator is asked.
        server.answers(&second.jwks());
        app.wait(60);
        assert_eq!((exchanged(&second).await, exchanged(&first).await, server.requests()), (200, 400, 3));
        assert_eq!(app.get(&format!("/v1/apps/{id}"), &alice).await.expect(200).text("standing"), "active");
        assert_eq!(app.waiting().await.len(), 0);

        new["jwks"] = first.jwks();
        let operator = app.login("operator-0").await;
        names_the_address(&app.post("/v1/apps", &operator, new.clone()).await, "both");
        new.as_object_mut().unwrap().remove("jwks");
        server.answers(&json!({"keys": []}));
        names_the_address(&app.post("/v1/apps", &operator, new.clone()).await, "no keys");
        // One that was never approved, or was ended, has nobody asked.
        server.answers(&first.jwks());
        let pending = register(&app, new).await;
        let before = server.connections();
        let ended = decision("it does not answer");
        let operator = app.login("operator-0").await;
        app.post(&format!("/v1/apps/{id}/endings"), &operator, ended).await.expect(200);
        app.wait(3_600);
        for app_id in [&pending, &id] {
            let proof = proof(&app, app_id, &ClientKey::random(&app.random));
            let form = [
                ("token", "none"),
                ("client_assertion_type", JWT_BEARER),
                ("client_assertion", proof.as_str()),
            ];
            assert_eq!(app.send_form("/oauth/introspect", &form).await.status, 401);
        }
        assert_eq!(server.connections(), before);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_for_outgoing_requests_are_checked_at_the_start() {
    each(|mut app| async move {
        let wrong = OutgoingSettings { allow: vec!["localhost".to_owned()], ca_file: None };
        let fault = app.start_with_outgoing(wrong).await.unwrap_err();
        assert!(fault.contains("outgoing") && fault.contains("`localhost` is no address"), "{fault}");
        let wrong = OutgoingSettings { allow: Vec::new(), ca_file: Some("/nonexistent/ca.pem".into()) };
        assert!(app.start_with_outgoing(wrong).await.unwrap_err().contains("cannot be read"));
    })
    .await;
}
