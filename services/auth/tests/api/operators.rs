//! The first operators come from a file: once, whole, and from a file that nobody else can read.

use hbc_auth::OperatorsFile;
use hbc_types::Random;
use hbc_types::ids::OperatorId;
use serde_json::json;

use crate::app::{OPERATOR_PASSWORD, each};

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_new_password_outlives_a_start_with_the_first_file() {
    each(|mut app| async move {
        let new = "seven grey herons stand still";
        let token = app.login("operator-0").await;
        let change = json!({"password": OPERATOR_PASSWORD, "new_password": new});
        app.put("/v1/me/password", &token, change).await.expect(204);
        app.restart().await;
        app.try_login("operator-0", OPERATOR_PASSWORD).await.refused(401, "bad_credentials");
        app.wait(1);
        let token = app.try_login("operator-0", new).await.expect(201).text("access_token");
        // The signing key came along: it opens under the new password and under no other.
        let id = app.agency("drbob").await;
        let path = format!("/v1/agencies/{id}/approvals");
        app.post(&path, &token, json!({"password": OPERATOR_PASSWORD})).await.refused(401, "bad_credentials");
        app.wait(1);
        app.post(&path, &token, json!({"password": new})).await.expect(200);
        // One transaction is signed by the operator, one by auth itself.
        assert_eq!(app.waiting().await.len(), 2);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_are_made_once_and_told_once() {
    each(|mut app| async move {
        app.restart().await;
        app.wait(31);
        app.pushes_settle().await;
        assert!(app.told().await.is_empty(), "nothing is new about them");
        let token = app.login("operator-0").await;
        let me = app.get("/v1/me", &token).await.expect(200);
        assert_eq!((me.text("role"), me.text("standing")), ("operator".to_owned(), "active".to_owned()));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_not_whole_or_not_private_stops_the_start() {
    each(|mut app| async move {
        let random = Random::seeded(7);
        let text = app.operators_file();
        let spoiled = |spoil: &dyn Fn(&mut OperatorsFile)| {
            let mut file: OperatorsFile = serde_json::from_str(&text).unwrap();
            let mut entry = file.operators[0].clone();
            entry.id = OperatorId::random(&random);
            entry.username = "operator-9".to_owned();
            file.operators.push(entry);
            spoil(&mut file);
            serde_json::to_string(&file).unwrap()
        };
        let last = |file: &mut OperatorsFile| file.operators.pop().unwrap();
        let cases: [(&str, String); 5] = [
            ("operators.json cannot be read", "{\"operators\": [}".to_owned()),
            ("operators.json cannot be read", "{\"operators\": [], \"more\": 1}".to_owned()),
            (
                "is not known",
                spoiled(&|file| {
                    let mut entry = last(file);
                    entry.signing_key.kdf = "scrypt".to_owned();
                    file.operators.push(entry);
                }),
            ),
            (
                "`ciphertext` is not 48 bytes",
                spoiled(&|file| {
                    let mut entry = last(file);
                    entry.signing_key.ciphertext.truncate(94);
                    file.operators.push(entry);
                }),
            ),
            (
                "the username is not one",
                spoiled(&|file| {
                    let mut entry = last(file);
                    entry.username = "a b".to_owned();
                    file.operators.push(entry);
                }),
            ),
        ];
        for (reason, text) in cases {
            let said = app.start_with_operators(&text, 0o600).await.unwrap_err();
            assert!(said.contains(reason), "{reason}: {said}");
        }
        assert!(app.start_with_operators(&text, 0o644).await.is_err(), "everybody could read it");
        app.start_with_operators(&text, 0o600).await.unwrap();
        app.login("operator-0").await;
        app.try_login("operator-9", OPERATOR_PASSWORD).await.refused(401, "bad_credentials");
    })
    .await;
}
