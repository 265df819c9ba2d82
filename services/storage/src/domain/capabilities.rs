//! What this server says of itself: FHIR's capability statement and SMART's configuration, made once.

use bytes::Bytes;
use hbc_types::classify;
use hbc_types::wire::oauth::AuthorizationServer;
use serde_json::{Value, json};

use crate::domain::search::parameters::{Kind, Parameter, Parameters, parameters};

/// What everybody may know.
#[derive(Clone, Debug)]
pub struct About {
    /// The capability statement, in FHIR JSON.
    pub capabilities: Bytes,
    /// Where tokens are given.
    pub authorization: AuthorizationServer,
}

impl About {
    /// Of a server whose tokens this issuer gives, with the page where patients answer apps.
    #[must_use]
    pub fn with_tokens_of(issuer: &str, page: Option<&str>) -> Self {
        let authorization = AuthorizationServer::at(issuer, page);
        Self { capabilities: capability_statement(&authorization).to_string().into(), authorization }
    }
}

/// The search parameters of a type: HL7's own, and HBC's where HL7 has none.
fn search_parameters(all: &Parameters, kind: &str) -> Vec<Value> {
    let mut stated: Vec<Value> = all
        .of(kind)
        .map(|one| json!({"name": one.name, "type": one.kind.code(), "definition": one.definition()}))
        .collect();
    let own = [
        ("patient", "reference", "Whose records: an account, or its Patient"),
        ("category", "token", "HBC's category of the record"),
        ("date", "date", "When what the record tells of happened"),
    ];
    let missing = own.iter().filter(|(name, _, _)| all.find(kind, name).is_none());
    stated
        .extend(missing.map(|(name, kind, text)| json!({"name": name, "type": kind, "documentation": text})));
    stated
}

/// What can be shown of what results of a type refer to.
fn includes(all: &Parameters, kind: &str) -> Vec<String> {
    let refer = all.own(kind).iter().filter(|one| one.kind == Kind::Reference);
    refer.map(|one| format!("{kind}:{}", one.name)).collect()
}

/// What can be shown of what refers to results of a type: what may refer to all types is not listed each time, but for
/// provenances.
fn revincludes(all: &Parameters, kind: &str) -> Vec<String> {
    let of = |name: &'static str| {
        let meant = move |one: &&Parameter| {
            name == "Provenance" && one.name == "target" || one.targets.iter().any(|target| target == kind)
        };
        let named = all.own(name).iter().filter(meant);
        named.map(move |one| format!("{name}:{}", one.name))
    };
    classify::TYPES.iter().flat_map(|(name, _)| of(name)).collect()
}

/// The operations of a type.
fn operations(kind: &str) -> Vec<Value> {
    let own = match kind {
        "Patient" => Some("everything"),
        "Observation" => Some("lastn"),
        _ => None,
    };
    let own = own.map(|name| (name, format!("{kind}-{name}")));
    let all = own.into_iter().chain([("validate", "Resource-validate".to_owned())]);
    let stated = all.map(|(name, defined)| {
        json!({"name": name, "definition": format!("http://hl7.org/fhir/OperationDefinition/{defined}")})
    });
    stated.collect()
}

/// The capability statement: every type alike, with the interactions of the route table.
fn capability_statement(authorization: &AuthorizationServer) -> Value {
    let codes = [
        "create",
        "read",
        "vread",
        "update",
        "patch",
        "delete",
        "history-instance",
        "history-type",
        "search-type",
    ];
    let interactions: Vec<Value> = codes.iter().map(|code| json!({"code": code})).collect();
    let resources: Vec<Value> = classify::TYPES
        .iter()
        .map(|(name, _)| {
            let mut resource = json!({"type": name, "interaction": interactions, "versioning": "versioned",
                "readHistory": true, "updateCreate": false, "conditionalCreate": true, "conditionalRead": "full-support",
                "conditionalUpdate": true, "conditionalDelete": "single", "operation": operations(name)});
            // Without its definitions the server does not start to answer.
            if let (Value::Object(members), Ok(all)) = (&mut resource, parameters()) {
                let stated = [
                    ("searchInclude", json!(includes(all, name))),
                    ("searchRevInclude", json!(revincludes(all, name))),
                    ("searchParam", json!(search_parameters(all, name))),
                ];
                // An array is never empty in FHIR.
                let filled = stated.into_iter().filter(|(_, values)| values != &json!([]));
                members.extend(filled.map(|(name, values)| (name.to_owned(), values)));
            }
            resource
        })
        .collect();
    json!({
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": "2026-11-30",
        "kind": "instance",
        "software": {"name": "HBC storage", "version": env!("CARGO_PKG_VERSION")},
        "implementation": {"description": "HBC: records that the patient decides about"},
        "fhirVersion": "4.0.1",
        "format": ["application/fhir+json"],
        "patchFormat": ["application/json-patch+json"],
        "rest": [{
            "mode": "server",
            "security": security(authorization),
            "resource": resources,
            "interaction": [{"code": "transaction"}, {"code": "batch"}, {"code": "history-system"}],
        }],
    })
}

/// Where tokens come from (SMART App Launch, "Declaring endpoints in the capability statement").
fn security(authorization: &AuthorizationServer) -> Value {
    let uri = |name: &str, value: &str| json!({"url": name, "valueUri": value});
    // HL7's definition of the extension knows no others; SMART's configuration names the rest.
    let mut uris = vec![uri("token", &authorization.token_endpoint)];
    uris.extend(authorization.authorization_endpoint.as_ref().map(|page| uri("authorize", page)));
    json!({
        "extension": [{
            "url": "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris",
            "extension": uris,
        }],
        "service": [{"coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/restful-security-service",
            "code": "SMART-on-FHIR",
        }]}],
        "description": "Bearer tokens of HBC auth; `HBC-Purpose` says why, unless the token does",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_capability_statement_is_valid_fhir() {
        let about =
            About::with_tokens_of("https://auth.example/", Some("https://portal.example/oauth/authorize"));
        let statement: Value = serde_json::from_slice(&about.capabilities).unwrap();
        assert_eq!(crate::domain::validation::check(&statement, "CapabilityStatement").unwrap(), []);
        assert_eq!(about.authorization.token_endpoint, "https://auth.example/oauth/token");
    }
}
