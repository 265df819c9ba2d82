//! Third-party apps on the stack: registered by the operator, let in by a patient as the page for apps will do it.

use std::path::Path;

use anyhow::{Context as _, Result};
use hbc_client::operations::{access_policy, auth};
use hbc_types::account::Standing;
use hbc_types::ids::{AppId, GranteeId};
use hbc_types::secret::SecretText;
use hbc_types::wire::access::{GrantState, GrantView, NewGrant, Scope};
use hbc_types::wire::apps::{AppView, AuthorizationStep, AuthorizationView};
use reqwest::Url;
use serde_json::{Value, json};

use crate::wait::until;
use crate::{Person, TestApp};

/// Where the tests' app is sent back to.
pub const BACK: &str = "http://127.0.0.1/back";
/// RFC 7636, appendix B.
pub const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
/// Of [`VERIFIER`].
pub const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
/// The page where patients answer, of a portal that the tests play.
pub const PAGE: &str = "http://127.0.0.1:7100/oauth/authorize";

/// Gives a stack's folder a page for apps, before the start.
pub fn with_page(dir: &Path) -> Result<()> {
    let (auth, storage) = (dir.join("config/auth.toml"), dir.join("config/storage.toml"));
    let stored = std::fs::read_to_string(&storage)?;
    let bases = stored.lines().find_map(|line| line.strip_prefix("fhir_bases = [\""));
    let fhir = bases.and_then(|rest| rest.split('"').next()).context("storage names no address")?;
    let settings = format!("\n[apps]\npage = \"{PAGE}\"\nfhir_url = \"{fhir}\"\n");
    std::fs::write(&auth, std::fs::read_to_string(&auth)? + &settings)?;
    Ok(std::fs::write(&storage, format!("authorization_page = \"{PAGE}\"\n{stored}"))?)
}

/// A public app, as an operator registers it.
#[must_use]
pub fn new_app(password: &SecretText) -> Value {
    json!({
        "name": "Diary", "publisher": "Example Ltd.", "redirect_uris": [BACK], "password": password,
        "scope": "launch/patient openid fhirUser online_access offline_access patient/*.rs",
    })
}

/// The query with which an app sends a browser.
#[must_use]
pub fn query(app: &TestApp, id: &str, scope: &str) -> String {
    let fhir = format!("{}/fhir", app.stack().storage());
    let pairs = [
        ("response_type", "code"),
        ("client_id", id),
        ("redirect_uri", BACK),
        ("scope", scope),
        ("state", "abc"),
        ("aud", &fhir),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ];
    let mut url = Url::parse(PAGE).ok();
    if let Some(url) = &mut url {
        url.query_pairs_mut().extend_pairs(pairs);
    }
    url.and_then(|url| url.query().map(str::to_owned)).unwrap_or_default()
}

impl TestApp {
    /// An app that may ask patients.
    pub async fn app(&self, operator: &Person) -> Result<AppView> {
        self.app_of(operator, new_app(&operator.password)).await
    }

    /// The same, registered like this.
    pub async fn app_of(&self, operator: &Person, new: Value) -> Result<AppView> {
        let call = self.auth.to(auth::register_app()).json(&new);
        let made: AppView = operator.signs(call).fetch().await.context("the app was not registered")?;
        until("the ledger registered the app", || async {
            let view: AppView = operator.signs(self.auth.to(auth::show_app(&made.id))).fetch().await?;
            Ok((view.standing == Standing::Active).then_some(view))
        })
        .await
    }

    /// What an app asks a patient.
    pub async fn asked(&self, patient: &Person, query: &str) -> Result<AuthorizationView> {
        let call = self.auth.to(auth::ask_authorization()).json(&json!({"query": query}));
        let step: AuthorizationStep = patient.signs(call).fetch().await.context("the app may not ask")?;
        step.authorization.context("the request is at fault")
    }

    /// The patient grants to an app what its question says, or less; waits until it takes effect.
    pub async fn grant_to_app(
        &self,
        patient: &Person,
        asked: &AuthorizationView,
        scope: Scope,
    ) -> Result<GrantView> {
        let grantee = GranteeId::App(asked.app.id.clone());
        let new = NewGrant { offline: Some(asked.offline), ..NewGrant::to(grantee, scope) };
        // access-policy follows the ledger by itself: it may learn of the app a moment after auth.
        let draft = until("access-policy knows the app", || async {
            let call = self.access.to(access_policy::draft_grant()).idempotency_key(&self.key()).json(&new);
            Ok(patient.signs(call).fetch().await.ok())
        });
        let draft = draft.await?;
        let signature = self.sign_draft(patient, &draft).await?;
        let call = self.access.to(access_policy::sign_grant(&draft.id)).json(&signature);
        let pending: GrantView =
            patient.signs(call).fetch().await.context("the signed consent was refused")?;
        self.until_grant(patient, &pending.id, GrantState::Active).await
    }

    /// The patient says yes: where the browser is sent.
    pub async fn allow(&self, patient: &Person, asked: &AuthorizationView) -> Result<Url> {
        let call = self.auth.to(auth::decide_authorization(&asked.id)).json(&json!({"allow": true}));
        let step: AuthorizationStep = patient.signs(call).fetch().await.context("the answer was refused")?;
        let redirect = step.redirect.context("no address to go to")?;
        Url::parse(redirect.expose()).context("no address")
    }

    /// Sends an app away.
    pub async fn send_away(&self, patient: &Person, app: &AppId) -> Result<()> {
        let call = self.auth.to(auth::send_app_away(app));
        patient.signs(call).fetch().await.map(|_denial| ()).context("the app stays")
    }
}
