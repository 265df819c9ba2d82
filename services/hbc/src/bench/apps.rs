//! A third-party app, and the codes that patients gave it.

use anyhow::{Context as _, Result};
use hbc_client::Endpoint;
use hbc_client::operations::auth;
use hbc_types::account::Standing;
use hbc_types::ids::AppId;
use hbc_types::secret::SecretText;
use hbc_types::wire::apps::{AppView, AuthorizationDecision, AuthorizationStep, NewApp, NewAuthorization};

use super::programs::operator;
use crate::deployment::Deployment;
use crate::settings::Settings;
use crate::stack::Stack;

/// Questions that one patient may have open: so many codes has an app of them at once.
pub const CODES: usize = 20;
/// Where the app is sent back to.
const BACK: &str = "https://bench.example/back";
/// RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
/// Of [`VERIFIER`].
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// Says in a deployment's configuration, before its start, where patients answer apps.
pub fn give_page(deployment: &Deployment, settings: &Settings) -> Result<()> {
    let (file, fhir) = (deployment.config("auth"), fhir(settings)?);
    let known = std::fs::read_to_string(&file).context("auth has no configuration")?;
    let apps = format!("\n[apps]\npage = \"https://bench.example/authorize\"\nfhir_url = \"{fhir}\"\n");
    std::fs::write(&file, known + &apps).context("the configuration cannot be written")
}

fn fhir(settings: &Settings) -> Result<String> {
    Ok(format!("{}/fhir", settings.url("storage").context("there is no storage")?))
}

/// An app that may ask.
#[derive(Clone, Debug)]
pub struct App {
    id: AppId,
    query: String,
}

impl App {
    /// Registers it, and waits until the ledger has.
    pub async fn registered(auth: &Endpoint, stack: &Stack) -> Result<Self> {
        let (password, tokens) = operator(auth, stack).await?;
        let new = NewApp {
            name: "Bench".to_owned(),
            publisher: "Bench".to_owned(),
            redirect_uris: vec![BACK.to_owned()],
            jwks: None,
            jwks_uri: None,
            scope: "launch/patient patient/*.rs".parse().context("the scope")?,
            password,
            totp: None,
        };
        let token = tokens.access_token.expose();
        let call = auth.to(auth::register_app()).json(&new).bearer(token);
        let AppView { id, .. } = call.fetch().await.context("the app was not registered")?;
        let began = std::time::Instant::now();
        while auth.to(auth::show_app(&id)).bearer(token).fetch().await?.standing != Standing::Active {
            anyhow::ensure!(began.elapsed().as_secs() < 60, "the app is not active after a minute");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        let query = format!(
            "response_type=code&client_id={id}&redirect_uri={BACK}&scope=launch/patient+patient/*.rs&state=bench&aud={}\
             &code_challenge={CHALLENGE}&code_challenge_method=S256",
            fhir(&stack.settings)?
        );
        Ok(Self { id, query })
    }

    /// Has a patient let it in [`CODES`] times; the codes are good for a minute.
    pub async fn codes(&self, auth: &Endpoint, patient: &SecretText) -> Result<Vec<SecretText>> {
        let mut codes = Vec::with_capacity(CODES);
        for _code in 0..CODES {
            let new = NewAuthorization { query: self.query.clone() };
            let call = auth.to(auth::ask_authorization()).json(&new).bearer(patient.expose());
            let asked: AuthorizationStep = call.fetch().await.context("the app may not ask")?;
            let asked = asked.authorization.context("the question is at fault")?;
            let yes = AuthorizationDecision { allow: true, scope: None, until: None };
            let call = auth.to(auth::decide_authorization(&asked.id)).json(&yes).bearer(patient.expose());
            let step: AuthorizationStep = call.fetch().await.context("the answer was refused")?;
            let back = step.redirect.context("the answer leads nowhere")?;
            let parameters = back.expose().split(['?', '&']);
            let code = parameters.filter_map(|parameter| parameter.strip_prefix("code=")).next();
            codes.push(SecretText::new(code.context("there is no code")?.to_owned()));
        }
        Ok(codes)
    }

    /// Gives a code for tokens.
    pub async fn exchange(&self, auth: &Endpoint, code: &SecretText) -> Result<()> {
        let form = format!(
            "grant_type=authorization_code&code={}&redirect_uri={BACK}&client_id={}&code_verifier={VERIFIER}",
            code.expose(),
            self.id
        );
        let call = auth.to(auth::grant_token()).once();
        call.body("application/x-www-form-urlencoded", form).fetch().await?;
        Ok(())
    }
}
