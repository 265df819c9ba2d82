//! What this server says of itself: FHIR's capability statement and SMART's configuration, made once.

use bytes::Bytes;
use hbc_types::classify;
use hbc_types::wire::oauth::AuthorizationServer;
use serde_json::{Value, json};

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

/// The capability statement: every type alike, with the interactions of the route table.
fn capability_statement(authorization: &AuthorizationServer) -> Value {
    let parameters = json!([
        {"name": "patient", "type": "reference"}, {"name": "category", "type": "token"},
        {"name": "date", "type": "date"},
    ]);
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
            let validate = "http://hl7.org/fhir/OperationDefinition/Resource-validate";
            let mut operations = vec![json!({"name": "validate", "definition": validate})];
            if *name == "Patient" {
                let everything = "http://hl7.org/fhir/OperationDefinition/Patient-everything";
                operations.push(json!({"name": "everything", "definition": everything}));
            }
            json!({"type": name, "interaction": interactions, "operation": operations, "versioning": "versioned",
                "readHistory": true, "updateCreate": false, "conditionalCreate": true, "conditionalRead": "full-support",
                "conditionalUpdate": true, "conditionalDelete": "single", "searchParam": parameters})
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
