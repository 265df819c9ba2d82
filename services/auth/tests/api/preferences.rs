//! How somebody wants the portal: the defaults, what is kept, what is refused.

use serde_json::{Value, json};

use crate::app::each;

const PATH: &str = "/v1/me/preferences";

fn wanted() -> Value {
    json!({
        "language": "ta", "theme": "dark", "time_zone": "Asia/Colombo", "units": "si", "discreet_titles": true,
        "notices": {"email": true, "kinds": ["emergency", "request"]},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn they_are_ones_own_and_the_defaults_until_one_says_others() {
    each(|mut app| async move {
        app.patient("alice").await;
        app.patient("bob").await;
        let (alice, bob) = (app.login("alice").await, app.login("bob").await);
        let defaults = app.get(PATH, &alice).await.expect(200).body;
        assert_eq!(
            (&defaults["theme"], &defaults["units"], &defaults["discreet_titles"]),
            (&json!("system"), &json!("recorded"), &json!(false))
        );
        assert_eq!(defaults["notices"]["email"], false, "nothing is chosen for anybody");
        assert!(defaults.get("language").is_none() && defaults.get("time_zone").is_none());
        // What was shown can be sent as it is.
        assert_eq!(app.put(PATH, &alice, defaults.clone()).await.expect(200).body, defaults);
        assert_eq!(app.put(PATH, &alice, wanted()).await.expect(200).body, wanted());
        app.restart().await;
        assert_eq!(app.get(PATH, &alice).await.expect(200).body, wanted());
        assert_eq!(app.get(PATH, &bob).await.expect(200).body, defaults);
        let operator = app.login("operator-0").await;
        app.put(PATH, &operator, wanted()).await.expect(200);
        // Of another hand they are none, and no mail is switched off by them.
        app.by_hand("UPDATE preferences SET body = replace(body, '\"email\":true', '\"email\":false')").await;
        app.get(PATH, &alice).await.refused(403, "forbidden");
        app.put(PATH, &alice, wanted()).await.expect(200);
        assert_eq!(app.get(PATH, &alice).await.expect(200).body, wanted());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_preference_is_refused_by_its_name() {
    each(|app| async move {
        app.patient("alice").await;
        let token = app.login("alice").await;
        for (name, value) in [
            ("language", json!("xx")),
            ("theme", json!("pink")),
            ("time_zone", json!("")),
            ("time_zone", json!("Asia/Colombo; DROP")),
            ("time_zone", json!("/etc/passwd")),
            ("time_zone", json!("Asia/../Colombo")),
            ("time_zone", json!("a".repeat(65))),
            ("units", json!("stones")),
            ("discreet_titles", json!("yes")),
            ("notices", json!({"email": true})),
            ("notices", json!({"email": true, "kinds": ["gossip"]})),
            ("notices", json!({"email": true, "kinds": ["request", "request"]})),
            ("notices", json!({"email": true, "kinds": [], "sms": true})),
            ("colour", json!("red")),
        ] {
            let mut form = wanted();
            form[name] = value;
            let reply = app.put(PATH, &token, form).await.refused(422, "invalid_input");
            let field = reply.body["errors"][0]["field"].as_str().unwrap_or_default().to_owned();
            assert!(
                field.contains(name) || reply.body.to_string().contains(name),
                "{name}: {:?}",
                reply.body
            );
        }
        for name in ["theme", "units", "discreet_titles", "notices"] {
            let mut form = wanted();
            form.as_object_mut().unwrap().remove(name);
            app.put(PATH, &token, form).await.refused(422, "invalid_input");
        }
        let mut form = wanted();
        form.as_object_mut().unwrap().remove("language");
        form["time_zone"] = json!("America/Argentina/Buenos_Aires");
        app.put(PATH, &token, form).await.expect(200);
    })
    .await;
}
