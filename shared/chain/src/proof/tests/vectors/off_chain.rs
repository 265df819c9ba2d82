//! Vectors of what stands off the chain: bodies, certificates, numbers.

use serde_json::Value;

use super::super::content::{consent_body, scope};
use super::super::{documents, *};
use crate::bodies::{Body, ErasureBody, MemberBody, OrderBody, ReleaseBody};
use crate::certificate::{DelegateCertificate, RootCertificate};
use crate::consent::ConsentBody;
use crate::numbers::{HeldNumbers, NumbersClaims};
use hbc_types::ids::PatientId;
use hbc_types::labels::{Category, Sensitivity};
use hbc_types::purpose::{Action, Purpose};
use hbc_types::wire::access::StaffBody;

/// A body with some members in the place of others; null takes one out.
fn with(body: &Value, changes: &[(&str, Value)]) -> Value {
    let mut body = body.clone();
    for (path, value) in changes {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = if parent.is_empty() { String::new() } else { format!("/{parent}") };
        let place = body.pointer_mut(&parent).unwrap();
        match (place, value) {
            (Value::Object(members), Value::Null) => drop(members.remove(name)),
            (Value::Object(members), value) => drop(members.insert(name.to_owned(), value.clone())),
            (Value::Array(items), value) => items[name.parse::<usize>().unwrap()] = value.clone(),
            (other, _) => panic!("{other}"),
        }
    }
    body
}

fn body_fault(kind: &str, body: &Value) -> Option<String> {
    let bytes = json::encode(body).unwrap();
    let read = |outcome: Result<(), &'static str>| outcome.err().map(str::to_owned);
    match kind {
        "staff" => read(StaffBody::read(&bytes).map(drop)),
        "member" => read(MemberBody::read(&bytes).map(drop)),
        "order" => read(OrderBody::read(&bytes).map(drop)),
        "erasure" => read(ErasureBody::read(&bytes).map(drop)),
        "release" => read(ReleaseBody::read(&bytes).map(drop)),
        _ => match json::decode::<ConsentBody>(&bytes) {
            Ok(body) => body.fault().map(str::to_owned),
            Err(error) => Some(error.to_string()),
        },
    }
}

/// Bodies of every other kind, and each rule of FORMATS §2 broken.
pub(super) fn other_bodies() -> Value {
    let (staff, member, order) =
        (documents::staff_body(1), documents::member_body(), documents::order_body());
    let (erasure, release) = (documents::erasure_body(), documents::release_body(Digest::of(b"chain")));
    let scope = scope(&[Action::Read], &[Category::Laboratory]);
    let consent = consent_body(scope);
    let (day, from) = (24 * 60 * 60 * 1_000_i64, 1_790_000_000_000_i64);
    let at = |ms: i64| json!(hbc_types::Timestamp::from_ms(ms));
    let app = with(
        &consent,
        &[
            ("grantee", json!(format!("app-{:032x}", 1))),
            ("offline", json!(true)),
            ("scope/until", at(from + 90 * day)),
        ],
    );
    let device = with(
        &consent,
        &[
            ("grantee", json!(format!("dev-{:032x}", 1))),
            ("device", json!(Digest::of(b"device"))),
            ("scope/actions", json!(["write"])),
        ],
    );
    let link = with(
        &consent,
        &[
            ("grantee", json!(format!("lnk-{:032x}", 1))),
            ("opens", json!(10)),
            ("scope/future_records", json!(false)),
        ],
    );
    let long = |bytes: usize| json!("x".repeat(bytes));
    let accepted = [
        ("staff", staff.clone()),
        ("staff", with(&staff, &[("name", long(200)), ("licence_number", long(64))])),
        ("member", member.clone()),
        ("order", order.clone()),
        ("order", with(&order, &[("kind", json!("root-replaced")), ("reason", long(2_000))])),
        ("erasure", erasure.clone()),
        (
            "erasure",
            with(&erasure, &[("by", json!(format!("op-{:032x}", 1))), ("ground", json!("legal-order"))]),
        ),
        ("release", release.clone()),
        ("release", with(&release, &[("cubes", json!([]))])),
        ("consent", consent.clone()),
        ("consent", app.clone()),
        ("consent", with(&app, &[("offline", json!(false))])),
        ("consent", device.clone()),
        ("consent", link.clone()),
        ("consent", with(&link, &[("opens", json!(1_000))])),
    ];
    let refused = [
        (
            "staff",
            with(&staff, &[("organisation", json!(documents::agency(2)))]),
            "a profile with an organisation",
        ),
        ("staff", with(&staff, &[("name", json!(""))]), "no name"),
        ("staff", with(&staff, &[("name", long(201))]), "a name that is too long"),
        ("staff", with(&staff, &[("licence_number", long(65))]), "a licence number that is too long"),
        ("staff", with(&staff, &[("name", json!("a\u{85}b"))]), "a control character in a name"),
        ("staff", with(&staff, &[("agency_type", json!("quack"))]), "an agency type that is not in the list"),
        ("staff", with(&staff, &[("agency", json!(format!("pat-{:032x}", 1)))]), "a patient as agency"),
        ("member", with(&member, &[("function", Value::Null)]), "no function"),
        ("member", with(&member, &[("function", json!(""))]), "an empty function"),
        ("member", with(&member, &[("organisation", json!(documents::agency(1)))]), "a member of themselves"),
        ("order", with(&order, &[("kind", json!("app-forgotten"))]), "an order that is not in the list"),
        ("order", with(&order, &[("reason", long(2_001))]), "a reason that is too long"),
        ("order", with(&order, &[("subject", json!("00"))]), "a subject that is no digest"),
        ("erasure", with(&erasure, &[("records", json!([]))]), "an erasure of nothing"),
        ("erasure", with(&erasure, &[("by", json!(documents::agency(1)))]), "an erasure by an agency"),
        ("erasure", with(&erasure, &[("ground", json!("tidying"))]), "a ground that is not in the list"),
        ("erasure", with(&erasure, &[("records/0/version", json!(0))]), "version 0"),
        ("erasure", with(&erasure, &[("records/1/version", json!(1))]), "a record twice"),
        ("erasure", with(&erasure, &[("records/0/version", json!(3))]), "records that do not ascend"),
        ("release", with(&release, &[("threshold", json!(0))]), "no threshold"),
        ("release", with(&release, &[("threshold", json!(1_001))]), "a threshold that is too large"),
        ("release", with(&release, &[("rounding", json!(0))]), "no rounding"),
        ("release", with(&release, &[("rounding", json!(101))]), "a rounding that is too large"),
        ("release", with(&release, &[("period", json!(""))]), "no period"),
        ("release", with(&release, &[("cubes/0/cells/0/count", json!(41))]), "a count that is not rounded"),
        ("release", with(&release, &[("cubes/0/cells/1/count", json!(5))]), "a small count"),
        (
            "release",
            with(&release, &[("threshold", json!(1)), ("cubes/0/cells/1/count", json!(0))]),
            "a count of nobody",
        ),
        ("release", with(&release, &[("cubes/0/cells/0/values", json!(["a", "b"]))]), "a text too many"),
        ("release", with(&release, &[("cubes/0/cells/0/values", json!([""]))]), "an empty value"),
        ("release", with(&release, &[("cubes/0/cells/0/values", json!(["south"]))]), "a cell twice"),
        (
            "release",
            with(&release, &[("cubes/0/cells/0/values", json!(["west"]))]),
            "cells that do not ascend",
        ),
        (
            "release",
            with(&release, &[("cubes/0/dimensions", json!([])), ("cubes/0/cells", json!([]))]),
            "a cube by nothing",
        ),
        (
            "release",
            with(&release, &[("cubes/0/dimensions", json!(["colour"]))]),
            "a dimension that is not in the list",
        ),
        (
            "release",
            with(&release, &[("cubes/1/dimensions", json!(["code", "age-band"]))]),
            "dimensions that do not ascend",
        ),
        ("release", with(&release, &[("cubes/1/system", json!("-"))]), "codes of no system"),
        ("release", with(&release, &[("cubes/0/system", json!("x"))]), "a system without codes"),
        ("release", with(&release, &[("cubes/1", release["cubes"][0].clone())]), "a cube twice"),
        ("consent", with(&consent, &[("offline", json!(true))]), "an agency that is offline"),
        ("consent", with(&consent, &[("opens", json!(1))]), "an agency that opens"),
        ("consent", with(&consent, &[("device", json!(Digest::of(b"device")))]), "an agency with a key"),
        ("consent", with(&consent, &[("grantee", json!(format!("pat-{:032x}", 1)))]), "a patient as grantee"),
        (
            "consent",
            with(&app, &[("offline", Value::Null)]),
            "an app that does not say whether it is offline",
        ),
        ("consent", with(&app, &[("scope/until", at(from + 90 * day + 1))]), "an app for more than 90 days"),
        ("consent", with(&device, &[("device", Value::Null)]), "a device without a key"),
        ("consent", with(&device, &[("scope/actions", json!(["read"]))]), "a device that reads"),
        ("consent", with(&link, &[("opens", Value::Null)]), "a link without an end"),
        ("consent", with(&link, &[("opens", json!(0))]), "a link that opens nothing"),
        ("consent", with(&link, &[("opens", json!(1_001))]), "a link that opens too often"),
        ("consent", with(&link, &[("scope/actions", json!(["answer"]))]), "a link that answers"),
        ("consent", with(&link, &[("scope/future_records", json!(true))]), "a link to later records"),
    ];
    for (kind, body) in &accepted {
        assert_eq!(body_fault(kind, body), None, "{body}");
    }
    for (kind, body, why) in &refused {
        assert!(body_fault(kind, body).is_some(), "{why}");
    }
    let accepted: Vec<Value> =
        accepted.iter().map(|(kind, body)| json!({"kind": kind, "body": body})).collect();
    let refused: Vec<Value> =
        refused.iter().map(|(kind, body, why)| json!({"kind": kind, "body": body, "why": why})).collect();
    json!({"accepted": accepted, "refused": refused})
}

/// Delegations and new roots; and what limits allow.
pub(super) fn certificates() -> Value {
    const DELEGATE: &str = "hbc-delegate-cert+jws";
    const ROOT: &str = "hbc-root-cert+jws";
    let (chain, iat) = (Digest::of(b"chain"), 1_790_000_000_000);
    let (root, recovery, delegate) =
        (PublicKey::of(&key(50)), PublicKey::of(&key(55)), PublicKey::of(&key(52)));
    let patient = PatientId::parse(&format!("pat-{:032x}", 1)).unwrap();
    let delegation = DelegateCertificate {
        chain,
        delegate: delegate.kid(),
        iat,
        limits: Limits { actions: Some(vec![Action::Read]), ..Limits::default() },
        root: root.kid(),
        until_ms: iat + 1_000,
    };
    let change = RootCertificate {
        chain,
        iat,
        patient,
        recovery: PublicKey::of(&key(57)).kid(),
        root: PublicKey::of(&key(56)).kid(),
    };
    let of_root = delegation.sign(&key(50)).unwrap();
    let cases = [
        (DELEGATE, root, of_root.clone(), ""),
        (ROOT, root, change.sign(&key(50)).unwrap(), ""),
        (ROOT, recovery, change.sign(&key(55)).unwrap(), ""),
        (DELEGATE, delegate, of_root.clone(), "a delegation under the delegate's key"),
        (ROOT, root, of_root, "a delegation in the place of a new root"),
        (ROOT, root, change.sign(&key(56)).unwrap(), "a new root by its own word"),
        (
            DELEGATE,
            root,
            DelegateCertificate { delegate: root.kid(), ..delegation.clone() }.sign(&key(50)).unwrap(),
            "a delegation to the root key itself",
        ),
    ];
    let (mut accepted, mut refused) = (Vec::new(), Vec::new());
    for (typ, signer, text, why) in cases {
        let holds = match typ {
            DELEGATE => DelegateCertificate::verify(&text, &signer, &chain).is_ok(),
            _ => RootCertificate::verify(&text, &[signer], &chain).is_ok(),
        };
        assert_eq!(holds, why.is_empty(), "{why}");
        let mut case = json!({"chain": chain, "key": signer, "text": text, "typ": typ});
        if holds {
            accepted.push(case);
        } else {
            case["why"] = json!(why);
            refused.push(case);
        }
    }
    json!({"accepted": accepted, "refused": refused, "consents": limited_consents()})
}

fn limited_consents() -> Vec<Value> {
    let scope = scope(&[Action::Read], &[Category::Laboratory]);
    let (from, until) = (scope.from.unsigned_ms(), scope.until.unsigned_ms());
    let none = Limits::default;
    let cases: [(Limits, Option<u64>, u64, bool); 16] = [
        (none(), None, from, true),
        (Limits { actions: Some(vec![Action::Read, Action::Write]), ..none() }, None, from, true),
        (Limits { actions: Some(vec![Action::Write]), ..none() }, None, from, false),
        (Limits { actions: Some(Vec::new()), ..none() }, None, from, false),
        (Limits { categories: Some(vec![Category::Imaging]), ..none() }, None, from, false),
        (Limits { purposes: Some(vec![Purpose::Research]), ..none() }, None, from, false),
        (Limits { sensitivities: Some(vec![Sensitivity::Hiv]), ..none() }, None, from, false),
        (Limits { future_records: Some(false), ..none() }, None, from, false),
        (Limits { future_records: Some(true), ..none() }, None, from, true),
        (Limits { from_ms: Some(from), until_ms: Some(until), ..none() }, None, until - 1, true),
        (Limits { from_ms: Some(from + 1), ..none() }, None, from, false),
        (Limits { until_ms: Some(until - 1), ..none() }, None, from, false),
        (Limits { until_ms: Some(until), ..none() }, None, until, false),
        (none(), Some(until), until - 1, true),
        (none(), Some(until), until, false),
        (none(), Some(until - 1), from, false),
    ];
    let consents = cases.into_iter().map(|(limits, until_ms, at, allowed)| {
        let time = hbc_types::Timestamp::from_ms(i64::try_from(at).unwrap());
        let outcome = match until_ms {
            None => limits.allow(&scope, time),
            Some(until_ms) => {
                let (chain, kid) = (Digest::ZERO, Digest::ZERO);
                let limits = limits.clone();
                DelegateCertificate { chain, delegate: kid, iat: 1, limits, root: kid, until_ms }
                    .allow(&scope, time)
            }
        };
        assert_eq!(outcome.is_ok(), allowed, "{limits:?} {until_ms:?} {at}");
        let mut case = json!({"limits": limits, "at": at, "scope": scope, "allowed": allowed});
        if let Some(until_ms) = until_ms {
            case["until_ms"] = json!(until_ms);
        }
        case
    });
    consents.collect()
}

/// Statements of numbers, what is missing in them, and such that say nothing.
pub(super) fn numbers() -> Value {
    use documents::{held_numbers as held, number_set as set, numbers_claims};
    let (lab, imaging) = (Category::Laboratory, Category::Imaging);
    let chain = Digest::of(b"chain");
    let whole = vec![set(lab, 9, &[[9, 9]], &[[3, 4]]), set(imaging, 2, &[], &[])];
    let accepted = [
        (whole.clone(), vec![held(lab, &[[1, 2], [5, 8]]), held(imaging, &[[1, 2]])]),
        (whole.clone(), vec![held(lab, &[[1, 1], [5, 6]])]),
        (whole.clone(), vec![held(lab, &[[1, 9]]), held(imaging, &[])]),
        (vec![set(lab, 0, &[], &[])], Vec::new()),
        (Vec::new(), Vec::new()),
    ];
    let accepted: Vec<Value> = accepted
        .into_iter()
        .map(|(sets, held)| {
            let claims = numbers_claims(chain, sets);
            let missing = claims.missing(&held).unwrap();
            json!({"statement": claims, "held": held, "missing": missing})
        })
        .collect();
    let statement = json!(numbers_claims(chain, whole));
    let with = |changes: &[(&str, Value)]| with(&statement, changes);
    let refused = [
        (with(&[("sets/0/open", json!([[4, 4]]))]), json!([]), "a number that is open and void"),
        (with(&[("sets/0/n_max", json!(8))]), json!([]), "a number above the highest"),
        (with(&[("sets/1/labels", json!(documents::labels(lab)))]), json!([]), "labels twice"),
        (with(&[("sets/0/voided", json!([[4, 3]]))]), json!([]), "a range that ends before it begins"),
        (with(&[("sets/0/voided", json!([[0, 1]]))]), json!([]), "number 0"),
        (with(&[("sets/0/voided", json!([[3, 3], [4, 4]]))]), json!([]), "ranges that touch"),
        (with(&[("sets/0/voided", json!([[5, 5], [1, 2]]))]), json!([]), "ranges that do not ascend"),
        (
            with(&[("sets/0/labels/category", json!("gossip"))]),
            json!([]),
            "a category that is not in the list",
        ),
        (with(&[("sets/0/more", json!(1))]), json!([]), "a field that there is not"),
        (statement.clone(), json!([held(imaging, &[[3, 3]])]), "held above the highest"),
        (statement.clone(), json!([held(Category::Device, &[[1, 1]])]), "held of other labels"),
        (statement.clone(), json!([held(lab, &[[1, 1]]), held(lab, &[[2, 2]])]), "held of labels twice"),
    ];
    for (statement, held, why) in &refused {
        let claims = json::decode::<NumbersClaims>(&json::encode(statement).unwrap());
        let held: Vec<HeldNumbers> = serde_json::from_value(held.clone()).unwrap();
        assert!(claims.is_err() || claims.unwrap().missing(&held).is_err(), "{why}");
    }
    let refused: Vec<Value> = refused
        .iter()
        .map(|(statement, held, why)| json!({"statement": statement, "held": held, "why": why}))
        .collect();
    json!({"accepted": accepted, "refused": refused})
}
