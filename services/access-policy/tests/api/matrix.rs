//! Every operation: anonymous, by a stranger, by its rightful caller. The list is the API's own; a new operation without
//! a line here fails.

use std::collections::BTreeSet;

use hbc_testkit::callers::{Operation, names, of, public as public_operations};
use hbc_types::account::{AgencyType, ServiceRole};
use hbc_types::ids::SessionId;
use hbc_types::labels::Category;
use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{User, labels, world};

struct Line {
    operation: &'static str,
    path: String,
    body: Option<Value>,
    /// Who may not, and with which status.
    strangers: Vec<(User, u16)>,
    rightful: Option<User>,
    service: Option<ServiceRole>,
    status: u16,
}

#[tokio::test]
async fn every_operation_is_closed_to_whom_it_is_not_for() {
    let w = world().await;
    let (patient, other) = (w.patient().await, w.patient().await);
    let (doctor, rival) = (w.agency(AgencyType::Doctor).await, w.agency(AgencyType::Doctor).await);
    let operator = w.operator().await;
    let scope = serde_json::to_value(w.scope()).unwrap();
    let ask = json!({"patient": patient.id, "scope": scope});
    let request = async || -> Value { w.post("/v1/access-requests", &doctor.user, &ask).await.ok() };
    let (denied, withdrawn, seen) = (request().await, request().await, request().await);
    let written = w.write(&patient.user, &patient.id, &[labels(Category::Laboratory)]).await;
    let grant = w.grant(&patient, &doctor, w.scope()).await;
    let draft = w.draft(&patient, &w.new_grant(&doctor, w.scope())).await;
    let signature = w.signature(&patient, &draft, &w.consent_key(&patient, &doctor.id));
    let revocation = json!({"jws": w.revocation(&patient, &doctor, &draft.id)});
    let agencies_too = |user: &User, status: u16| vec![(user.clone(), status), (operator.clone(), 403)];
    let patients_only = || vec![(doctor.user.clone(), 403), (operator.clone(), 403)];
    let public = |operation, path: String, body, strangers, rightful: &User, status| Line {
        operation,
        path,
        body,
        strangers,
        rightful: Some(rightful.clone()),
        service: None,
        status,
    };
    let on_grant = |what: &str| format!("/v1/grants/{}/{what}", grant.id);
    let own = |path: &str| path.to_owned();
    let p = &patient.user;
    let receipt = written.keys.receipt.clone().unwrap();
    let mut lines = vec![
        public(
            "POST /v1/access-requests",
            own("/v1/access-requests"),
            Some(ask.clone()),
            agencies_too(p, 403),
            &doctor.user,
            201,
        ),
        public(
            "GET /v1/access-requests",
            own("/v1/access-requests"),
            None,
            vec![(operator.clone(), 404)],
            p,
            200,
        ),
        public(
            "GET /v1/access-requests/{id}",
            format!("/v1/access-requests/{}", seen["id"].as_str().unwrap()),
            None,
            vec![(other.user.clone(), 404), (rival.user.clone(), 404), (operator.clone(), 404)],
            p,
            200,
        ),
        public(
            "POST /v1/access-requests/{id}/denial",
            format!("/v1/access-requests/{}/denial", denied["id"].as_str().unwrap()),
            None,
            vec![(other.user.clone(), 404), (rival.user.clone(), 403), (operator.clone(), 403)],
            p,
            200,
        ),
        public(
            "POST /v1/access-requests/{id}/withdrawal",
            format!("/v1/access-requests/{}/withdrawal", withdrawn["id"].as_str().unwrap()),
            None,
            vec![(rival.user.clone(), 404), (p.clone(), 403), (operator.clone(), 403)],
            &doctor.user,
            200,
        ),
        public(
            "POST /v1/grants",
            own("/v1/grants"),
            Some(json!({"grantee": doctor.id, "scope": scope})),
            patients_only(),
            p,
            201,
        ),
        public("GET /v1/grants", own("/v1/grants"), None, vec![(operator.clone(), 404)], p, 200),
        public(
            "GET /v1/grants/{id}",
            format!("/v1/grants/{}", grant.id),
            None,
            vec![(other.user.clone(), 404), (rival.user.clone(), 404), (operator.clone(), 404)],
            &doctor.user,
            200,
        ),
        // No node answers here.
        public(
            "GET /v1/grants/{id}/proof",
            format!("/v1/grants/{}/proof", grant.id),
            None,
            vec![(other.user.clone(), 404), (rival.user.clone(), 404), (operator.clone(), 404)],
            &doctor.user,
            503,
        ),
        public(
            "PUT /v1/grants/{id}/signature",
            format!("/v1/grants/{}/signature", draft.id),
            Some(serde_json::to_value(&signature).unwrap()),
            vec![(other.user.clone(), 404), (doctor.user.clone(), 403), (operator.clone(), 403)],
            p,
            200,
        ),
        public(
            "POST /v1/grants/{id}/revocation",
            format!("/v1/grants/{}/revocation", draft.id),
            Some(revocation),
            vec![(other.user.clone(), 404), (doctor.user.clone(), 403), (operator.clone(), 403)],
            p,
            200,
        ),
        // Nobody altered it.
        public(
            "PUT /v1/grants/{id}/alteration",
            on_grant("alteration"),
            Some(json!({"jws": "", "body": "", "salt": ""})),
            vec![(other.user.clone(), 404), (doctor.user.clone(), 403), (operator.clone(), 403)],
            p,
            409,
        ),
        public(
            "PUT /v1/grants/{id}/freeze",
            on_grant("freeze"),
            None,
            vec![(other.user.clone(), 404), (doctor.user.clone(), 403), (operator.clone(), 403)],
            p,
            200,
        ),
        public(
            "DELETE /v1/grants/{id}/freeze",
            on_grant("freeze"),
            Some(w.unfreeze(&patient, Some(&grant.id))),
            vec![(other.user.clone(), 404), (doctor.user.clone(), 403), (operator.clone(), 403)],
            p,
            204,
        ),
        public("PUT /v1/me/freeze", own("/v1/me/freeze"), None, patients_only(), p, 200),
        public("GET /v1/me/freeze", own("/v1/me/freeze"), None, patients_only(), p, 200),
        public(
            "DELETE /v1/me/freeze",
            own("/v1/me/freeze"),
            Some(w.unfreeze(&patient, None)),
            patients_only(),
            p,
            204,
        ),
        public(
            "GET /v1/patients/{id}/root",
            format!("/v1/patients/{}/root", patient.id),
            None,
            vec![(other.user.clone(), 404), (rival.user.clone(), 404), (operator.clone(), 404)],
            &doctor.user,
            200,
        ),
        public("GET /v1/me/accesses", own("/v1/me/accesses"), None, patients_only(), p, 200),
        public(
            "GET /v1/me/accesses/{receipt}/proof",
            format!("/v1/me/accesses/{receipt}/proof"),
            None,
            vec![(other.user.clone(), 404), (doctor.user.clone(), 403), (operator.clone(), 403)],
            p,
            409,
        ),
        public(
            "POST /v1/explain",
            own("/v1/explain"),
            Some(json!({
            "patient": patient.id, "agency": doctor.id, "action": "read", "category": "laboratory", "purpose": "TREAT"})),
            vec![(other.user.clone(), 404), (rival.user.clone(), 404), (operator.clone(), 404)],
            p,
            200,
        ),
    ];
    let internal = |operation, path: &str, body, service, user: Option<&User>, status| Line {
        operation,
        path: path.to_owned(),
        body,
        strangers: vec![(patient.user.clone(), 401), (operator.clone(), 401)],
        rightful: user.cloned(),
        service: Some(service),
        status,
    };
    let (auth, storage) = (ServiceRole::Auth, ServiceRole::Storage);
    let agency_subject = serde_json::to_value(w.told(&rival, AgencyType::Doctor, None, 1)).unwrap();
    let anchored = json!({"intent": written.request.intent, "txid": hbc_types::Digest::of(b"a"), "items": [
        {"labels": {"category": "laboratory", "sensitivity": "normal"}, "n": 1, "commitment": hbc_types::Digest::of(b"c")}]});
    let write = w.data_keys_request(p, &patient.id, &[labels(Category::Laboratory)]);
    let void = json!({"intent": write.intent});
    let unwrap =
        serde_json::to_value(written.unwrap_request(hbc_types::purpose::Purpose::PatientRequest)).unwrap();
    let decide = json!({"patient": patient.id, "purpose": "PATRQT", "action": "read",
        "labels": [{"category": "laboratory", "sensitivity": "normal"}]});
    let admit = json!({"patient": patient.id, "purpose": "PATRQT", "nothing_left": false, "meets": [], "reads": [],
        "writes": [{"category": "laboratory", "sensitivity": "normal"}]});
    let pin = json!({"patient": patient.id, "custody": "server",
        "root_public_key": hbc_types::secret::Bytes::from(patient.root.verifying_key().as_bytes().as_slice())});
    let denial = format!("/internal/v1/denials/subject/{}", rival.id);
    let claim_path = format!("/internal/v1/patients/{}/root-claim", patient.id);
    let claim = json!({"nonce": pin["root_public_key"], "root_public_key": pin["root_public_key"]});
    let session_path = format!("/internal/v1/sessions/{}", SessionId::random(&w.random));
    let session = json!({"account": rival.id, "opened_at": w.now(),
        "expires_at": w.now().plus(std::time::Duration::from_secs(60))});
    lines.extend([
        internal(
            "PUT /internal/v1/subjects/{id}",
            &format!("/internal/v1/subjects/{}", rival.id),
            Some(agency_subject),
            auth,
            None,
            204,
        ),
        internal("POST /internal/v1/patients", "/internal/v1/patients", Some(pin), auth, None, 200),
        internal("PUT /internal/v1/patients/{id}/root-claim", &claim_path, Some(claim), auth, None, 204),
        internal("DELETE /internal/v1/patients/{id}/root-claim", &claim_path, None, auth, None, 204),
        internal("PUT /internal/v1/sessions/{id}", &session_path, Some(session), auth, None, 204),
        internal("PUT /internal/v1/denials/{kind}/{id}", &denial, Some(json!({})), auth, None, 204),
        internal("DELETE /internal/v1/denials/{kind}/{id}", &denial, None, auth, None, 204),
        internal(
            "POST /internal/v1/keys/data-keys",
            "/internal/v1/keys/data-keys",
            Some(serde_json::to_value(&write).unwrap()),
            storage,
            Some(p),
            200,
        ),
        internal(
            "POST /internal/v1/keys/unwrap",
            "/internal/v1/keys/unwrap",
            Some(unwrap),
            storage,
            Some(p),
            200,
        ),
        internal("POST /internal/v1/keys/void", "/internal/v1/keys/void", Some(void), storage, None, 204),
        internal(
            "POST /internal/v1/keys/anchored",
            "/internal/v1/keys/anchored",
            Some(anchored),
            storage,
            None,
            204,
        ),
        internal(
            "POST /internal/v1/admissions",
            "/internal/v1/admissions",
            Some(admit),
            storage,
            Some(p),
            200,
        ),
        internal(
            "POST /internal/v1/decisions",
            "/internal/v1/decisions",
            Some(decide),
            storage,
            Some(p),
            200,
        ),
        internal(
            "GET /internal/v1/patients/{id}/consent-version",
            &format!("/internal/v1/patients/{}/consent-version", patient.id),
            None,
            storage,
            None,
            200,
        ),
    ]);
    let listed: BTreeSet<String> = lines.iter().map(|line| line.operation.to_owned()).collect();
    let document = hbc_app::openapi::<hbc_access_policy::AccessPolicy>();
    let known: BTreeSet<String> =
        hbc_service::openapi::operations(&document).into_iter().map(|(name, _)| name).collect();
    assert_eq!(listed, known);
    assert_eq!(
        known.into_iter().collect::<Vec<_>>(),
        names("access-policy"),
        "the list of who may call what"
    );
    assert_eq!(hbc_service::openapi::public_operations(&document), public_operations("access-policy"));
    let rows = of("access-policy");
    for line in &lines {
        against_the_list(line, rows.iter().find(|row| row.name() == line.operation).unwrap());
        check(&w, line).await;
    }
}

/// Who is served is on the list, and each role that is not is tried.
fn against_the_list(line: &Line, row: &Operation) {
    assert_eq!(line.service, row.caller(), "{}", line.operation);
    if let (None, Some(user)) = (line.service, &line.rightful) {
        assert!(row.serves(user.account.role()), "{}", line.operation);
    }
    for role in row.strangers() {
        let tried = line.strangers.iter().any(|(user, _)| user.account.role() == role);
        assert!(tried, "no {role} tries {}", line.operation);
    }
}

async fn check(w: &crate::world::World, line: &Line) {
    let method: Method = line.operation.split(' ').next().unwrap().parse().unwrap();
    let body = line.body.as_ref().map(|body| serde_json::to_vec(body).unwrap());
    let call = async |user: Option<&User>, service| {
        w.call(method.clone(), &line.path, user, service, body.clone()).await
    };
    assert_eq!(call(None, None).await.problem(), "401 unauthenticated", "{}", line.operation);
    for (user, status) in &line.strangers {
        let answer = call(Some(user), None).await;
        assert_eq!(answer.status, *status, "{} by {}", line.operation, user.account);
    }
    if let Some(service) = line.service {
        let wrong = if service == ServiceRole::Auth { ServiceRole::Storage } else { ServiceRole::Auth };
        if !line.operation.ends_with("consent-version") {
            assert_eq!(call(line.rightful.as_ref(), Some(wrong)).await.status, 403, "{}", line.operation);
        }
        if line.rightful.is_some() {
            let alone = call(None, Some(service)).await;
            assert_eq!(alone.status, 401, "{}: a service key alone opens nothing", line.operation);
        }
    }
    let answer = call(line.rightful.as_ref(), line.service).await;
    assert_eq!(answer.status, line.status, "{}: {}", line.operation, answer.said());
}
