//! The committed descriptions are valid, agree with the types, and are known to the typed clients.

#![allow(clippy::unwrap_used, missing_docs, reason = "test code")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use hbc_chain::entry::Kind;
use hbc_client::operations;
use hbc_tests::{described, tools};
use hbc_types::account::{AgencyType, Custody, Role, Standing};
use hbc_types::labels::{Category, Sensitivity};
use hbc_types::purpose::{Action, Purpose};
use hbc_types::wire::access::{AccessKind, AccessRequestState, Channel, GrantState};
use hbc_types::wire::auth::{MemberStanding, StaffKeyState};
use hbc_types::wire::devices::PairingState;
use hbc_types::wire::ledger::{NodeRole, NodeState, TransactionState};
use hbc_types::wire::oauth::{ClientAlgorithm, ClientKind};
use hbc_types::wire::preferences::{Language, NoticeKind, Theme, Units};
use hbc_types::wire::storage::AnchorState;
use serde::Serialize;
use serde_json::{Value, json};

fn files() -> Vec<PathBuf> {
    described::services().unwrap().iter().map(|service| described::file(service)).collect()
}

/// Calls `look` with every value inside `value`.
fn walk<'a>(value: &'a Value, look: &mut impl FnMut(&'a Value)) {
    look(value);
    match value {
        Value::Object(members) => members.values().for_each(|member| walk(member, look)),
        Value::Array(items) => items.iter().for_each(|item| walk(item, look)),
        _ => {}
    }
}

/// The values as they are written.
fn written<T: Serialize>(all: &[T]) -> Value {
    serde_json::to_value(all).unwrap()
}

/// Every enumeration that crosses the wire, by its name in the descriptions.
fn enumerations() -> BTreeMap<&'static str, Value> {
    macro_rules! each {
        ($($name:ident),+ $(,)?) => { BTreeMap::from([$((stringify!($name), written($name::ALL))),+]) };
    }
    each![
        AccessKind,
        AccessRequestState,
        Action,
        AgencyType,
        AnchorState,
        Category,
        Channel,
        ClientAlgorithm,
        ClientKind,
        Sensitivity,
        Custody,
        GrantState,
        Kind,
        Language,
        MemberStanding,
        NodeRole,
        NodeState,
        NoticeKind,
        PairingState,
        Purpose,
        Role,
        StaffKeyState,
        Standing,
        Theme,
        TransactionState,
        Units,
    ]
}

#[test]
fn every_enumeration_is_the_codes_on_the_wire() -> Result<()> {
    let known = enumerations();
    let mut seen = BTreeSet::new();
    for service in described::services()? {
        let document = described::document(&service)?;
        for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
            if let Some(codes) = schema.get("enum") {
                let wire = known.get(name.as_str());
                assert_eq!(Some(codes), wire, "{service}: `{name}` is not what is written");
            }
        }
        walk(&document, &mut |value| {
            let Some(codes) = value.get("enum").filter(|codes| codes.is_array()) else { return };
            // Two may have the same codes: how an anchor and how a transaction stands.
            let names = known.iter().filter(|(_, wire)| *wire == codes).map(|(name, _)| *name);
            let names: Vec<&str> = names.collect();
            assert!(
                !names.is_empty() || *codes == json!(["OperationOutcome"]),
                "{service}: whose are {codes}?"
            );
            seen.extend(names);
        });
    }
    let unseen: Vec<_> = known.keys().filter(|name| !seen.contains(*name)).collect();
    assert!(unseen.is_empty(), "{unseen:?} are in no description");
    Ok(())
}

#[test]
fn every_reference_leads_somewhere_and_every_answer_is_described() -> Result<()> {
    for service in described::services()? {
        let document = described::document(&service)?;
        walk(&document, &mut |value| {
            if let Some(place) = value.get("$ref").and_then(Value::as_str) {
                let found = place.strip_prefix('#').and_then(|place| document.pointer(place));
                assert!(found.is_some(), "{service}: `{place}` leads nowhere");
            }
            for (status, answer) in value.get("responses").and_then(Value::as_object).into_iter().flatten() {
                let answer = described::resolved(&document, answer);
                let words = answer["description"].as_str().unwrap_or_default();
                assert!(!words.is_empty(), "{service}: a {status} has no description in {value}");
            }
        });
    }
    Ok(())
}

#[test]
fn the_typed_clients_know_exactly_the_operations_that_are_described() -> Result<()> {
    let tables = [
        ("auth", operations::auth::ALL),
        ("access-policy", operations::access_policy::ALL),
        ("ledger", operations::ledger::ALL),
        ("storage", operations::storage::ALL),
    ];
    for (service, table) in tables {
        let known: BTreeSet<String> =
            table.iter().map(|one| format!("{} {} {}", one.id, one.method, one.path)).collect();
        let mut described_ones = BTreeSet::new();
        for (path, item) in described::document(service)?["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let id = operation["operationId"].as_str().unwrap();
                described_ones.insert(format!("{id} {} {path}", method.to_uppercase()));
            }
        }
        assert_eq!(known, described_ones, "{service}");
    }
    Ok(())
}

#[test]
fn the_first_validator_takes_every_description() -> Result<()> {
    let Some(validator) = tools::python("openapi-spec-validator") else { return Ok(()) };
    tools::run(Command::new(validator).args(["--schema", "3.1"]).args(files()))?;
    Ok(())
}

#[test]
fn the_second_validator_takes_every_description() -> Result<()> {
    let Some(validator) = tools::node("redocly") else { return Ok(()) };
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/redocly.yaml");
    let mut command = Command::new(validator);
    // It would ask the network for news of itself, and tell of its use.
    command.env("REDOCLY_TELEMETRY", "off").env("REDOCLY_SUPPRESS_UPDATE_NOTICE", "true");
    tools::run(command.arg("lint").arg("--config").arg(rules).args(files()))?;
    Ok(())
}
