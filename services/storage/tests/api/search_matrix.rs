//! Every search parameter, include and reverse include that the capability statement states is taken.

use reqwest::Method;
use serde_json::Value;

use crate::app::each;

/// A value that a parameter of a kind takes.
fn sample(kind: &str) -> &'static str {
    match kind {
        "token" => "urn:s|x",
        "date" => "ge2020",
        "reference" => "Basic/x",
        "string" => "x",
        "quantity" => "gt5||mg",
        "uri" => "http://a.example/x",
        "number" => "lt5",
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_stated_parameter_is_taken() {
    each(|app| async move {
        let patient = app.patient();
        let statement = app.anybody_gets("/fhir/metadata").await.expect(200).body;
        let resources = statement["rest"][0]["resource"].as_array().unwrap().clone();
        assert!(resources.len() > 140);
        let mut tried = 0;
        for resource in resources {
            let kind = resource["type"].as_str().unwrap();
            let texts = |name: &str| {
                let all = resource[name].as_array().into_iter().flatten();
                all.map(|value| value.as_str().unwrap().to_owned()).collect::<Vec<_>>()
            };
            let mut parts: Vec<String> = Vec::new();
            for parameter in resource["searchParam"].as_array().unwrap() {
                let (name, of) = (parameter["name"].as_str().unwrap(), parameter["type"].as_str().unwrap());
                let value = match name {
                    "patient" => patient.to_string(),
                    "category" => "other".to_owned(),
                    _ => sample(of).to_owned(),
                };
                parts.push(format!("{name}={value}"));
                if parameter.get("definition").is_some() {
                    parts.push(format!("{name}:missing=true"));
                }
                assert!(
                    parameter.get("definition").or(parameter.get("documentation")).is_some(),
                    "{kind}.{name}"
                );
            }
            parts.extend(texts("searchInclude").iter().map(|value| format!("_include={value}")));
            parts.extend(texts("searchRevInclude").iter().map(|value| format!("_revinclude={value}")));
            tried += parts.len();
            for some in parts.chunks(40) {
                let path = format!("/fhir/{kind}?{}", some.join("&"));
                let strict = [("Prefer", "handling=strict")];
                let reply = app.call(Method::GET, &path, Some(&patient), &strict, Vec::new()).await;
                assert_eq!(reply.status, 200, "{path}: {}", reply.body);
                assert_eq!(reply.body["total"], Value::from(0), "{path}");
            }
        }
        assert!(tried > 3_000, "{tried}");
    })
    .await;
}
